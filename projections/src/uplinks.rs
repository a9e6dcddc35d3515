//! The view `uplinks`: where each message from a device or a phone is in the ledger, so that an app's
//! can be listed. What was written is private and stays in its event.

use std::sync::LazyLock;

use domain::{Event, Recorded, uplink::Source};

use crate::{
    Fault,
    db::{Conn, Insert, Value},
    on,
};

static INSERT: LazyLock<Insert> = LazyLock::new(|| {
    Insert::new("uplinks", &["position", "app", "device", "received_at", "written_at"], "")
});

/// One uplink as the view keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UplinkRow {
    /// Position of its event.
    pub position: i64,
    /// Number of the device that wrote it; none of a phone.
    pub device: Option<i64>,
    /// When it came in, in µs.
    pub received_at: i64,
    /// When it was written, in seconds, as its sender says.
    pub written_at: i64,
}

/// Folds one page.
///
/// # Errors
/// [`Fault`] when the database fails.
pub(crate) async fn apply(conn: &mut Conn<'_>, page: &[Recorded]) -> Result<(), Fault> {
    let mut values: Vec<Value> = Vec::new();
    for recorded in page {
        let Event::UplinkReceived(e) = &recorded.event else { continue };
        let device = match e.source {
            Source::Device { device, .. } => Some(device),
            Source::Sms => None,
        };
        values.extend([recorded.position.into(), recorded.app.as_str().into(), device.into()]);
        values.extend([recorded.recorded_at.into(), e.written_at.into()]);
    }
    INSERT.run(conn, values).await
}

/// Uplinks of an app between two positions, newest first.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn page(
    conn: &mut Conn<'_>,
    app: &str,
    (after, before): (i64, i64),
    limit: i64,
) -> Result<Vec<UplinkRow>, Fault> {
    const SQL: &str = "SELECT position, device, received_at, written_at FROM uplinks \
         WHERE app = $1 AND position < $2 AND position > $3 ORDER BY position DESC LIMIT $4";
    let rows: Vec<(i64, Option<i64>, i64, i64)> = on!(conn.again(), c => {
        let query = sqlx::query_as(SQL).bind(app).bind(before).bind(after).bind(limit);
        query.fetch_all(&mut *c).await?
    });
    let row = |(position, device, received_at, written_at)| UplinkRow {
        position,
        device,
        received_at,
        written_at,
    };
    Ok(rows.into_iter().map(row).collect())
}
