//! The deliveries of one message as the view keeps them: one row, which is read and written whole.
//! A message goes to few devices, and to some thousand at most; whoever asks for one delivery shows
//! all of them.

use std::{collections::BTreeMap, sync::LazyLock};

use domain::{
    Recorded,
    message::{
        Delivery, Ending, MessageAccepted, MessageId, Protocol, RecallOp, RecallResult, Stage,
    },
    task::state::Way,
    vendor::Vendor,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{DeliveryRow, Due};
use crate::{
    Fault,
    db::{self, Conn, Insert, Sql, Value},
    delivery_stats::{Cell, Moves, Noted, way_of},
    device_kinds::Kinds,
    latency::{self, Step},
    on, scalars,
};

static UPSERT: LazyLock<Insert> = LazyLock::new(|| {
    let tail = "ON CONFLICT (message) DO UPDATE SET due = excluded.due, packed = excluded.packed";
    Insert::new("deliveries", &["message", "due", "packed"], tail)
});

/// The deliveries of a message while a page is folded.
pub(super) struct Deliveries {
    app: String,
    accepted_at: i64,
    protocol: Protocol,
    /// In order of device.
    rows: Vec<DeliveryRow>,
    /// What each event changed.
    changes: Vec<Change>,
}

/// What an event changed of one delivery.
struct Change {
    position: i64,
    device: i64,
    what: Changed,
}

enum Changed {
    /// It is counted in another cell; before it was in none, or in that one.
    Cell(Option<Cell>, Cell),
    /// A step ended that came over a way, and took so many ms.
    Step(Way, Step, i64),
}

impl Deliveries {
    /// Those of a message that was just accepted.
    pub(super) fn accepted(id: MessageId, recorded: &Recorded, e: &MessageAccepted) -> Deliveries {
        let due = Due::first(e);
        let row = |target: &domain::message::Target| DeliveryRow {
            message: id,
            device: target.device,
            delivery: target.delivery(),
            times: [None; 5],
            due,
        };
        let mut rows: Vec<_> = e.targets.iter().map(row).collect();
        rows.sort_by_key(|row| row.device);
        let changes = rows.iter().map(|row| Change {
            position: recorded.position,
            device: row.device,
            what: Changed::Cell(None, Cell::of(&row.delivery)),
        });
        Deliveries {
            app: recorded.app.clone(),
            accepted_at: recorded.recorded_at,
            protocol: e.protocol,
            changes: changes.collect(),
            rows,
        }
    }

    /// Changes the delivery to a device, if there is one, and notes where it is counted now and how
    /// long its steps took.
    pub(super) fn change(
        &mut self,
        position: i64,
        device: i64,
        change: impl FnOnce(&mut DeliveryRow),
    ) {
        let Ok(at) = self.rows.binary_search_by_key(&device, |row| row.device) else { return };
        let Some(row) = self.rows.get_mut(at) else { return };
        let (before, times) = (Cell::of(&row.delivery), row.times);
        change(row);
        let after = Cell::of(&row.delivery);
        let mut note = |what| self.changes.push(Change { position, device, what });
        if before != after {
            note(Changed::Cell(Some(before), after));
        }
        // A report may come after a later one was made: when it came says nothing of the step.
        if after.stage > before.stage {
            let way = way_of(&row.delivery);
            for (step, millis) in latency::ended(self.accepted_at, &times, &row.times) {
                note(Changed::Step(way, step, millis));
            }
        }
    }

    /// All of them, in order of device.
    pub(super) fn into_rows(self) -> Vec<DeliveryRow> {
        self.rows
    }
}

/// A delivery in the row of its message: device, user, stage, ending, recall, report, vendor, why
/// no vendor, the five times, and what it waits for.
#[derive(Serialize, Deserialize)]
struct Packed(
    i64,
    Option<Uuid>,
    Stage,
    Option<Ending>,
    Option<(RecallOp, RecallResult)>,
    Option<Stage>,
    Option<Vendor>,
    Option<Ending>,
    [Option<i64>; 5],
    Due,
);

fn pack(row: &DeliveryRow) -> Packed {
    let Delivery { account, stage, ended, recall, reported, vendor, failed } = row.delivery;
    let DeliveryRow { device, times, due, .. } = *row;
    Packed(device, account, stage, ended, recall, reported, vendor, failed, times, due)
}

fn unpack(message: MessageId, packed: &str) -> Result<Vec<DeliveryRow>, Fault> {
    let rows: Vec<Packed> =
        serde_json::from_str(packed).map_err(|cause| Fault::stored("deliveries", cause))?;
    let row = |row| {
        let Packed(device, account, stage, ended, recall, reported, vendor, failed, times, due) =
            row;
        let delivery = Delivery { account, stage, ended, recall, reported, vendor, failed };
        DeliveryRow { message, device, delivery, times, due }
    };
    Ok(rows.into_iter().map(row).collect())
}

/// What is kept of some messages.
pub(super) async fn load(
    conn: &mut Conn<'_>,
    messages: &[i64],
) -> Result<BTreeMap<i64, Deliveries>, Fault> {
    if messages.is_empty() {
        return Ok(BTreeMap::new());
    }
    const SQL: Sql = scalars!(
        "SELECT m.message, m.app, m.accepted_at, m.protocol, d.packed \
         FROM messages m JOIN deliveries d ON d.message = m.message \
         WHERE m.message IN (SELECT CAST(value AS BIGINT) FROM ",
        ")"
    );
    let (sql, messages) = (conn.text(SQL), db::list(messages)?);
    let stored: Vec<(i64, String, i64, String, String)> = on!(conn.again(), c => {
        sqlx::query_as(sql).bind(messages).fetch_all(&mut *c).await?
    });
    let deliveries = |(message, app, accepted_at, protocol, packed): (i64, _, _, _, String)| {
        let rows = unpack(MessageId(message), &packed)?;
        let protocol = db::from_name(protocol)?;
        Ok((message, Deliveries { app, accepted_at, protocol, rows, changes: Vec::new() }))
    };
    stored.into_iter().map(deliveries).collect()
}

/// Messages that are packed before the database is looked after again.
const PACKED: usize = 64;

/// The kinds of the devices whose deliveries changed.
pub(super) async fn kinds(
    conn: &mut Conn<'_>,
    messages: &BTreeMap<i64, Deliveries>,
) -> Result<Kinds, Fault> {
    let changed = messages.values().flat_map(|own| own.changes.iter().map(|change| change.device));
    Kinds::of(conn, changed.collect()).await
}

/// Makes the rows of what a page made of some messages, and notes which of their deliveries are
/// counted elsewhere after it. It takes turns with whatever it is joined with.
pub(super) async fn pack_all(
    messages: BTreeMap<i64, Deliveries>,
    kinds: &Kinds,
    moves: &mut Moves,
) -> Result<Vec<Value>, Fault> {
    let mut values: Vec<Value> = Vec::with_capacity(messages.len() * 3);
    for (place, (message, deliveries)) in messages.into_iter().enumerate() {
        if place % PACKED == PACKED - 1 {
            tokio::task::yield_now().await;
        }
        let Deliveries { app, accepted_at, protocol, rows, changes } = deliveries;
        let mut noted = Noted::of(accepted_at, protocol, None);
        for Change { position, device, what } in changes {
            let at = (position, kinds.get(device));
            match what {
                Changed::Cell(before, after) => noted.moved(at, before, after, 1),
                Changed::Step(way, step, millis) => noted.took(at, way, step, millis),
            }
        }
        moves.add(&app, noted);
        let due = rows.iter().filter(|row| row.due != Due::Nothing).count();
        let packed = db::list(&rows.iter().map(pack).collect::<Vec<_>>())?;
        let due = i64::try_from(due).unwrap_or(i64::MAX);
        values.extend([message.into(), due.into(), packed.into()]);
    }
    Ok(values)
}

/// Keeps the rows.
pub(super) async fn store(conn: &mut Conn<'_>, rows: Vec<Value>) -> Result<(), Fault> {
    UPSERT.run(conn, rows).await
}

/// All deliveries of some messages, in order of message and device.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn deliveries(conn: &mut Conn<'_>, messages: &[i64]) -> Result<Vec<DeliveryRow>, Fault> {
    const SQL: Sql = scalars!(
        "SELECT message, packed FROM deliveries \
         WHERE message IN (SELECT CAST(value AS BIGINT) FROM ",
        ") ORDER BY message"
    );
    let (sql, messages) = (conn.text(SQL), db::list(messages)?);
    let stored: Vec<(i64, String)> = on!(conn.again(), c => {
        sqlx::query_as(sql).bind(messages).fetch_all(&mut *c).await?
    });
    let mut rows = Vec::new();
    for (message, packed) in stored {
        rows.extend(unpack(MessageId(message), &packed)?);
    }
    Ok(rows)
}
