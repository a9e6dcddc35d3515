//! Devices in the registry. A row is an interval of positions in which a device was as it says.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use domain::{
    Event, Recorded, Stream,
    device::{Channel, Device, Identity, Profile, Status},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::uuid;
use crate::{
    Fault,
    db::{self, Conn, Insert, Sql, Value},
    on, rows,
};

static INSERT_DEVICES: LazyLock<Insert> = LazyLock::new(|| {
    let columns = [
        "number",
        "app",
        "stream",
        "version",
        "status",
        "account",
        "protocol",
        "registered_at",
        "app_package",
        "device_type",
        "channel",
        "client_id",
        "hardware_id",
        "linked_cid",
        "details",
        "from_position",
        "to_position",
    ];
    Insert::new("devices", &columns, "")
});

/// The columns of [`DeviceRow`], in its order.
macro_rules! columns {
    () => {
        "number, stream, version, status, account, registered_at, app_package, device_type, \
         channel, client_id, hardware_id, details, app, protocol, linked_cid"
    };
}

/// Devices, one a row.
///
/// Where a few are found by a name they are sorted by `+number`: by `number` alone SQLite would
/// rather walk all devices of the app, which an index has in that order, than sort a few.
macro_rules! select_devices {
    ($where:literal) => {
        concat!("SELECT ", columns!(), " FROM devices WHERE ", $where)
    };
}

type DeviceRow = (
    i64,
    String,
    i64,
    i64,
    Option<String>,
    i64,
    String,
    String,
    i64,
    String,
    Option<String>,
    String,
    String,
    String,
    Option<String>,
);

/// The attributes of a device that nothing searches by.
#[derive(Serialize, Deserialize)]
struct Details {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    type_id: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    push_id: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    bound: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user_name: Option<String>,
}

pub(super) async fn apply(conn: &mut Conn<'_>, page: &[&Recorded]) -> Result<(), Fault> {
    let touched: Vec<(&Recorded, Uuid, i64)> = page
        .iter()
        .filter_map(|recorded| {
            let Stream::Device(stream) = recorded.stream else { return None };
            let number = match &recorded.event {
                Event::DeviceUpdated(e) => e.device,
                Event::DeviceReturned(e) => e.device,
                Event::DeviceUnregistered(e) => e.device,
                Event::DeviceBound(e) => e.device.unwrap_or(recorded.position),
                Event::DeviceLinked(e) => e.device,
                Event::TokenDied(e) => e.device,
                _ => recorded.position,
            };
            Some((*recorded, stream, number))
        })
        .collect();
    let earlier = touched.iter().filter(|(recorded, _, number)| *number != recorded.position);
    let earlier: BTreeSet<i64> = earlier.map(|(_, _, number)| *number).collect();
    let mut now: BTreeMap<i64, Device> = BTreeMap::new();
    if !earlier.is_empty() {
        let earlier: Vec<i64> = earlier.into_iter().collect();
        now.extend(by_numbers(conn, &earlier).await?.into_iter().map(|(_, d)| (d.number, d)));
    }
    let mut rows: Vec<(i64, Option<i64>, &str, Device)> = Vec::new();
    let mut last_row: BTreeMap<i64, usize> = BTreeMap::new();
    let mut closed: Vec<(i64, i64)> = Vec::new();
    for (recorded, stream, number) in touched {
        let before = now.remove(&number);
        let existed = before.is_some();
        let Some(after) = Device::evolve(before, stream, recorded.place(), &recorded.event) else {
            continue;
        };
        match last_row.insert(number, rows.len()) {
            Some(index) => rows[index].1 = Some(recorded.position),
            None if existed => closed.push((number, recorded.position)),
            None => {}
        }
        rows.push((recorded.position, None, &recorded.app, after.clone()));
        now.insert(number, after);
    }
    if !closed.is_empty() {
        const SQL: Sql = rows!(
            "UPDATE devices SET to_position = CAST(list.value->>1 AS BIGINT) FROM ",
            " WHERE number = CAST(list.value->>0 AS BIGINT) AND to_position IS NULL"
        );
        let (sql, closed) = (conn.text(SQL), db::list(&closed)?);
        on!(conn.again(), c => sqlx::query(sql).bind(closed).execute(&mut *c).await?.rows_affected());
    }
    let mut values: Vec<Value> = Vec::with_capacity(rows.len() * 17);
    for (from, to, app, device) in rows {
        push_device(&mut values, from, to, app, device)?;
    }
    INSERT_DEVICES.run(conn, values).await
}

/// What is put in place of a name that was erased: the stream's own id, so that no two meet.
pub(super) fn blank_or(name: String, stream: Uuid) -> String {
    if name.is_empty() { stream.to_string() } else { name }
}

fn push_device(
    values: &mut Vec<Value>,
    from: i64,
    to: Option<i64>,
    app: &str,
    device: Device,
) -> Result<(), Fault> {
    let Device { profile, identity, bound, .. } = device;
    let details = Details {
        type_id: profile.type_id,
        push_id: identity.push_id,
        bound,
        device_name: identity.device_name,
        user_name: identity.user_name,
    };
    let details =
        serde_json::to_string(&details).map_err(|cause| Fault::stored("details", cause))?;
    values.extend([
        device.number.into(),
        app.into(),
        device.stream.to_string().into(),
        device.version.into(),
        (device.status as i64).into(),
        device.account.map(|account| account.to_string()).into(),
        db::name_of(device.protocol)?.into(),
        device.registered_at.into(),
        profile.app_package.into(),
        profile.device_type.into(),
        (profile.channel as i64).into(),
        blank_or(identity.client_id, device.stream).into(),
        identity.device_id.into(),
        identity.cid.map(|cid| cid.to_string()).into(),
        details.into(),
        from.into(),
        Value::Int(to),
    ]);
    Ok(())
}

fn device(row: DeviceRow) -> Result<(String, Device), Fault> {
    let (number, stream, version, status, account, registered_at, ..) = &row;
    let blank = row.9 == *stream;
    let details: Details =
        serde_json::from_str(&row.11).map_err(|cause| Fault::stored("details", cause))?;
    let device = Device {
        number: *number,
        stream: uuid(stream)?,
        version: *version,
        protocol: db::from_name(row.13.clone())?,
        status: Status::from_number(*status).ok_or_else(|| Fault::stored("status", status))?,
        account: account.as_deref().map(uuid).transpose()?,
        registered_at: *registered_at,
        profile: Profile {
            app_package: row.6,
            device_type: row.7,
            type_id: details.type_id,
            channel: Channel::from_number(row.8).ok_or_else(|| Fault::stored("channel", row.8))?,
        },
        identity: Identity {
            client_id: if blank { String::new() } else { row.9 },
            device_id: row.10,
            former_device_id: None,
            push_id: details.push_id,
            device_name: details.device_name,
            user_name: details.user_name,
            cid: row.14.map(|cid| cid.parse()).transpose().map_err(|e| Fault::stored("cid", e))?,
        },
        bound: details.bound,
    };
    Ok((row.12, device))
}

fn devices(rows: Vec<DeviceRow>) -> Result<Vec<Device>, Fault> {
    rows.into_iter().map(|row| device(row).map(|(_, device)| device)).collect()
}

/// Devices with that client id, one for each package, in order of number.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn by_client(conn: &mut Conn<'_>, app: &str, client: &str) -> Result<Vec<Device>, Fault> {
    const SQL: &str = select_devices!(
        "app = $1 AND client_id = $2 AND protocol = 'ums' AND to_position IS NULL ORDER BY +number"
    );
    devices(on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(app).bind(client).fetch_all(&mut *c).await?
    }))
}

/// The devices with these Antelope numbers, in order of number in the ledger.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn by_cids(conn: &mut Conn<'_>, app: &str, cids: &[u32]) -> Result<Vec<Device>, Fault> {
    const SQL: Sql = Sql {
        sqlite: select_devices!(
            "app = $1 AND cid IN (SELECT value FROM json_each($2)) \
             AND to_position IS NULL ORDER BY +number"
        ),
        postgres: select_devices!(
            "app = $1 AND cid = ANY (ARRAY(SELECT json_array_elements_text($2::json))) \
             AND to_position IS NULL ORDER BY +number"
        ),
    };
    let cids: Vec<String> = cids.iter().map(u32::to_string).collect();
    let (sql, cids) = (conn.text(SQL), db::list(&cids)?);
    devices(on!(conn.again(), c => {
        sqlx::query_as(sql).bind(app).bind(cids).fetch_all(&mut *c).await?
    }))
}

/// Statement of [`page_of_cids`]: app, limit and offset. A test looks at its plan.
pub const PAGE_OF_CIDS: &str = select_devices!(
    "app = $1 AND cid IS NOT NULL AND to_position IS NULL ORDER BY number LIMIT $2 OFFSET $3"
);
/// Statement of [`count_of_cids`]: app. A test looks at its plan.
pub const COUNT_OF_CIDS: &str = "SELECT COUNT(*) FROM devices \
     WHERE app = $1 AND cid IS NOT NULL AND to_position IS NULL";

/// A page of an app's devices with Antelope numbers, from an offset on, in order of number in the ledger.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn page_of_cids(
    conn: &mut Conn<'_>,
    app: &str,
    offset: i64,
    limit: i64,
) -> Result<Vec<Device>, Fault> {
    devices(on!(conn.again(), c => {
        sqlx::query_as(PAGE_OF_CIDS).bind(app).bind(limit).bind(offset).fetch_all(&mut *c).await?
    }))
}

/// How many devices with Antelope numbers an app has.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn count_of_cids(conn: &mut Conn<'_>, app: &str) -> Result<i64, Fault> {
    let (count,): (i64,) =
        on!(conn.again(), c => sqlx::query_as(COUNT_OF_CIDS).bind(app).fetch_one(&mut *c).await?);
    Ok(count)
}

pub(super) async fn by_hardware(
    conn: &mut Conn<'_>,
    app: &str,
    id: &str,
) -> Result<Vec<Device>, Fault> {
    const SQL: &str =
        select_devices!("app = $1 AND hardware_id = $2 AND to_position IS NULL ORDER BY +number");
    devices(on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(app).bind(id).fetch_all(&mut *c).await?
    }))
}

/// Devices of an account, unregistered ones too, in order of number.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn by_account(conn: &mut Conn<'_>, account: Uuid) -> Result<Vec<Device>, Fault> {
    by_accounts(conn, &[account]).await
}

/// Devices as a list of JSON arrays in one text.
macro_rules! list_devices {
    ($list:literal, $array:literal, $end:literal) => {
        concat!("SELECT ", $list, "(", $array, "(", columns!(), "))", $end)
    };
}

/// Devices of some accounts, unregistered ones too, in order of number. A push may name a hundred
/// users: all of it comes as one text, as SQLite's driver hands each column of each row over by
/// itself.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn by_accounts(conn: &mut Conn<'_>, accounts: &[Uuid]) -> Result<Vec<Device>, Fault> {
    const SQL: Sql = Sql {
        sqlite: list_devices!(
            "json_group_array",
            "json_array",
            " FROM devices WHERE account IN (SELECT value FROM json_each($1)) \
             AND to_position IS NULL"
        ),
        postgres: list_devices!(
            "COALESCE(json_agg",
            "json_build_array",
            ", '[]')::text FROM devices WHERE account = ANY \
             (ARRAY(SELECT json_array_elements_text($1::json))) AND to_position IS NULL"
        ),
    };
    let (sql, accounts) = (conn.text(SQL), db::list(accounts)?);
    let (found,): (String,) = on!(conn.again(), c => {
        sqlx::query_as(sql).bind(accounts).fetch_one(&mut *c).await?
    });
    let rows: Vec<DeviceRow> =
        serde_json::from_str(&found).map_err(|cause| Fault::stored("devices", cause))?;
    let mut found = devices(rows)?;
    found.sort_unstable_by_key(|device| device.number);
    Ok(found)
}

/// Devices by number, each with its app.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn by_numbers(
    conn: &mut Conn<'_>,
    numbers: &[i64],
) -> Result<Vec<(String, Device)>, Fault> {
    const SQL: Sql = Sql {
        sqlite: select_devices!(
            "number IN (SELECT value FROM json_each($1)) AND to_position IS NULL ORDER BY number"
        ),
        postgres: select_devices!(
            "number = ANY (ARRAY(SELECT value::bigint FROM json_array_elements_text($1::json))) \
             AND to_position IS NULL ORDER BY number"
        ),
    };
    let (sql, numbers) = (conn.text(SQL), db::list(numbers)?);
    let rows: Vec<DeviceRow> = on!(conn.again(), c => {
        sqlx::query_as(sql).bind(numbers).fetch_all(&mut *c).await?
    });
    rows.into_iter().map(device).collect()
}

/// Which of an app's devices a page shows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// As of a position; none: now.
    pub as_of: Option<i64>,
    /// Those of a package.
    pub package: Option<&'a str>,
    /// Those in one status.
    pub status: Option<Status>,
}

/// A page of an app's devices after a number.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn page_of_devices(
    conn: &mut Conn<'_>,
    app: &str,
    wanted: Wanted<'_>,
    after: i64,
    limit: i64,
) -> Result<Vec<Device>, Fault> {
    const ALL: &str = select_devices!(
        "app = $1 AND number > $2 AND from_position <= $3 \
         AND (to_position IS NULL OR to_position > $3) AND ($4 = 0 OR status = $4) \
         ORDER BY number LIMIT $5"
    );
    const OF_PACKAGE: &str = select_devices!(
        "app = $1 AND number > $2 AND from_position <= $3 \
         AND (to_position IS NULL OR to_position > $3) AND ($4 = 0 OR status = $4) \
         AND app_package = $6 ORDER BY number LIMIT $5"
    );
    let as_of = wanted.as_of.unwrap_or(i64::MAX);
    let status = wanted.status.map_or(0, |status| status as i64);
    let sql = if wanted.package.is_some() { OF_PACKAGE } else { ALL };
    devices(on!(conn.again(), c => {
        let query = sqlx::query_as(sql).bind(app).bind(after).bind(as_of).bind(status).bind(limit);
        let query = match wanted.package {
            Some(package) => query.bind(package),
            None => query,
        };
        query.fetch_all(&mut *c).await?
    }))
}

pub(super) async fn package_known(
    conn: &mut Conn<'_>,
    app: &str,
    package: &str,
) -> Result<bool, Fault> {
    const SQL: &str = "SELECT number FROM devices \
         WHERE app = $1 AND app_package = $2 AND protocol = 'ums' LIMIT 1";
    let found: Option<(i64,)> = on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(app).bind(package).fetch_optional(&mut *c).await?
    });
    Ok(found.is_some())
}
