//! The view `device_kinds`: what devices are, for statistics to tell deliveries apart by. Events of
//! pushes name devices by number alone; so each number has its kind (app, device type, app package)
//! in two bytes, a thousand numbers a row, fixed by the device's first event: a delivery then moves
//! among cells of one kind, however often its device changes meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use domain::{Event, Recorded, device::Profile};

use crate::{
    Fault,
    db::{self, Conn, Insert, Sql, Value},
    on, scalars,
};

/// A kind of one app, by the order in which they came; 0 is of devices that no event told of.
pub type Kind = u16;

/// Kinds that one app's devices are told apart by, at most. Whatever comes later is [`OTHER`].
pub const MAX_KINDS: usize = 1_000;
/// The kind of what came when there were [`MAX_KINDS`].
pub const OTHER: Kind = Kind::MAX;
/// What [`OTHER`] is called, as type and as package.
pub const OTHER_NAME: &str = "(other)";

/// Device numbers of one row.
const ROW_NUMBERS: i64 = 1_024;
/// Bytes of one row: two for each number.
const ROW_BYTES: usize = 2_048;
/// Rows that are read with one statement.
const READ_ROWS: usize = 512;

static INSERT_KINDS: LazyLock<Insert> = LazyLock::new(|| {
    Insert::new("device_kinds", &["app", "kind", "device_type", "app_package"], "")
});
static UPSERT_NUMBERS: LazyLock<Insert> = LazyLock::new(|| {
    let tail = "ON CONFLICT (part) DO UPDATE SET kinds = excluded.kinds";
    Insert::new("device_numbers", &["part", "kinds"], tail)
});

/// What a kind is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KindRow {
    /// As its protocol says it; nothing if that says none.
    pub device_type: String,
    /// Package name, bundle id or service name; nothing if its protocol says none.
    pub app_package: String,
}

/// Folds the first events of devices.
pub(crate) async fn apply(conn: &mut Conn<'_>, page: &[Recorded]) -> Result<(), Fault> {
    let first = |recorded: &Recorded| match &recorded.event {
        Event::DeviceRegistered(e) => Some(kind_of(&e.profile)),
        Event::DeviceBound(e) if e.device.is_none() => Some(untold()),
        Event::DeviceAdmitted(_) => Some(untold()),
        _ => None,
    };
    let new: Vec<_> = page.iter().filter_map(|own| Some((own, first(own)?))).collect();
    if new.is_empty() {
        return Ok(());
    }
    let apps: BTreeSet<&str> = new.iter().map(|(recorded, _)| recorded.app.as_str()).collect();
    let mut known: BTreeMap<(String, KindRow), Kind> = BTreeMap::new();
    let mut sizes: BTreeMap<String, usize> = BTreeMap::new();
    for (app, kind, row) in load(conn, &apps.into_iter().collect::<Vec<_>>()).await? {
        *sizes.entry(app.clone()).or_default() += 1;
        known.insert((app, row), kind);
    }
    let numbers: Vec<i64> = new.iter().map(|(recorded, _)| recorded.position).collect();
    let mut parts = read(conn, &numbers).await?;
    let mut values = Vec::new();
    for (recorded, row) in new {
        let size = sizes.entry(recorded.app.clone()).or_default();
        let kind = match known.get(&(recorded.app.clone(), row.clone())) {
            Some(kind) => *kind,
            None if *size >= MAX_KINDS => OTHER,
            None => {
                *size += 1;
                let kind = Kind::try_from(*size).unwrap_or(OTHER);
                values.extend([recorded.app.as_str().into(), i64::from(kind).into()]);
                values.extend([row.device_type.as_str().into(), row.app_package.as_str().into()]);
                known.insert((recorded.app.clone(), row), kind);
                kind
            }
        };
        let (part, at) = place_of(recorded.position);
        let kinds = parts.entry(part).or_default();
        kinds.resize(ROW_BYTES, 0);
        kinds[at..at + 2].copy_from_slice(&kind.to_le_bytes());
    }
    INSERT_KINDS.run(conn, values).await?;
    let values = parts.into_iter().flat_map(|(part, kinds)| [part.into(), Value::from(kinds)]);
    UPSERT_NUMBERS.run(conn, values.collect()).await
}

fn kind_of(profile: &Profile) -> KindRow {
    let (device_type, app_package) = (profile.device_type.clone(), profile.app_package.clone());
    KindRow { device_type, app_package }
}

/// The kind of devices whose protocol does not say what they are.
fn untold() -> KindRow {
    KindRow { device_type: String::new(), app_package: String::new() }
}

/// The row that a number is in, and the place of its bytes there.
fn place_of(number: i64) -> (i64, usize) {
    let at = usize::try_from(number.rem_euclid(ROW_NUMBERS)).unwrap_or(0);
    (number.div_euclid(ROW_NUMBERS), at * 2)
}

/// The rows of some numbers, those that are there.
async fn read(conn: &mut Conn<'_>, numbers: &[i64]) -> Result<BTreeMap<i64, Vec<u8>>, Fault> {
    const SQL: Sql = scalars!(
        "SELECT part, kinds FROM device_numbers \
         WHERE part IN (SELECT CAST(value AS BIGINT) FROM ",
        ")"
    );
    let parts: BTreeSet<i64> = numbers.iter().map(|number| place_of(*number).0).collect();
    let (sql, parts) = (conn.text(SQL), db::list(&parts.into_iter().collect::<Vec<_>>())?);
    let rows: Vec<(i64, Vec<u8>)> = on!(conn.again(), c => {
        sqlx::query_as(sql).bind(parts).fetch_all(&mut *c).await?
    });
    Ok(rows.into_iter().collect())
}

/// The kinds of some devices.
#[derive(Debug, Default)]
pub(crate) struct Kinds {
    /// In order of number.
    known: Vec<(i64, Kind)>,
}

impl Kinds {
    /// Those of some numbers, in any order.
    pub(crate) async fn of(conn: &mut Conn<'_>, mut numbers: Vec<i64>) -> Result<Kinds, Fault> {
        numbers.sort_unstable();
        numbers.dedup();
        let mut known = Vec::with_capacity(numbers.len());
        let mut rest = numbers.as_slice();
        while !rest.is_empty() {
            // As many as lie in so many rows.
            let mut parts = rest.chunk_by(|one, next| place_of(*one).0 == place_of(*next).0);
            let taken = parts.by_ref().take(READ_ROWS).map(<[i64]>::len).sum();
            let (some, left) = rest.split_at(taken);
            let rows = read(conn, some).await?;
            for own in some.chunk_by(|one, next| place_of(*one).0 == place_of(*next).0) {
                let row = own.first().and_then(|number| rows.get(&place_of(*number).0));
                known.extend(own.iter().map(|number| {
                    let at = place_of(*number).1;
                    let bytes = row.and_then(|row| row.get(at..at + 2));
                    let kind = bytes.and_then(|bytes| bytes.try_into().ok());
                    (*number, kind.map_or(0, Kind::from_le_bytes))
                }));
            }
            rest = left;
        }
        Ok(Kinds { known })
    }

    /// The kind of a device.
    pub(crate) fn get(&self, number: i64) -> Kind {
        let at = self.known.binary_search_by_key(&number, |known| known.0);
        at.map_or(0, |at| self.known[at].1)
    }
}

/// What an app's kinds are.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn kinds(conn: &mut Conn<'_>, app: &str) -> Result<BTreeMap<Kind, KindRow>, Fault> {
    let rows = load(conn, &[app]).await?;
    let mut kinds: BTreeMap<_, _> = rows.into_iter().map(|(_, kind, row)| (kind, row)).collect();
    let other = || OTHER_NAME.to_owned();
    kinds.insert(OTHER, KindRow { device_type: other(), app_package: other() });
    Ok(kinds)
}

async fn load(conn: &mut Conn<'_>, apps: &[&str]) -> Result<Vec<(String, Kind, KindRow)>, Fault> {
    const SQL: Sql = scalars!(
        "SELECT app, kind, device_type, app_package FROM device_kinds \
         WHERE app IN (SELECT value FROM ",
        ")"
    );
    let (sql, apps) = (conn.text(SQL), db::list(apps)?);
    let rows: Vec<(String, i64, String, String)> = on!(conn.again(), c => {
        sqlx::query_as(sql).bind(apps).fetch_all(&mut *c).await?
    });
    let row = |(app, kind, device_type, app_package)| {
        let kind = Kind::try_from(kind).map_err(|cause| Fault::stored("kind", cause))?;
        Ok((app, kind, KindRow { device_type, app_package }))
    };
    rows.into_iter().map(row).collect()
}
