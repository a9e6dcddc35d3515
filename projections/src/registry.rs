//! The registry: apps, accounts, devices, owners. The only view that is folded inside the append,
//! so it is never behind: strict checks, uniqueness and the device list read it without waiting.
//!
//! Rows are intervals of positions, so that "as of position P" is a WHERE:
//! `from_position <= P AND (to_position IS NULL OR to_position > P)`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock},
};

use domain::{
    Event, Recorded, Stream,
    app::{App, AppConfig},
    device::{Channel, Device, Identity, Profile, Status},
    facts::{Fact, Key},
    owner::Owner,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Fault,
    db::{self, Conn, Insert, Sql, Value},
    on, rows, scalars,
};

/// Names of the registry's tables.
pub const TABLES: &[&str] = &["apps", "accounts", "devices", "owners"];

/// Whether an event changes the registry.
#[must_use]
pub fn concerns(recorded: &Recorded) -> bool {
    !matches!(recorded.stream, Stream::Message(_))
}

/// Folds events into the registry, in the transaction that appends them.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn apply(conn: &mut Conn<'_>, page: &[Recorded]) -> Result<(), Fault> {
    let page: Vec<&Recorded> = page.iter().filter(|recorded| concerns(recorded)).collect();
    if page.is_empty() {
        return Ok(());
    }
    apply_accounts(conn, &page).await?;
    apply_devices(conn, &page).await?;
    apply_owners(conn, &page).await?;
    apply_apps(conn, &page).await
}

/// Loads the fact of a registry key; `None` for keys that are not the registry's.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn load(conn: &mut Conn<'_>, key: &Key) -> Result<Option<Fact>, Fault> {
    Ok(Some(match key {
        Key::Apps => Fact::Apps(Arc::new(apps(conn).await?)),
        Key::Account { app, user } => Fact::Account(account(conn, app, user).await?),
        Key::Client { app, client } => devices_fact(by_client(conn, app, client).await?),
        Key::Hardware { app, id } => devices_fact(by_hardware(conn, app, id).await?),
        Key::AccountDevices(account) => devices_fact(by_account(conn, *account).await?),
        Key::Package { app, package } => Fact::Package(package_known(conn, app, package).await?),
        Key::Owner { app, device_id } => {
            Fact::Owner(owner(conn, app, device_id).await?.map(Arc::new))
        }
        Key::Message(_) => return Ok(None),
    }))
}

fn devices_fact(devices: Vec<Device>) -> Fact {
    Fact::Devices(Arc::new(devices.into_iter().map(Arc::new).collect()))
}

// Accounts

static INSERT_ACCOUNTS: LazyLock<Insert> =
    LazyLock::new(|| Insert::new("accounts", &["account", "app", "ums_user", "from_position"], ""));

async fn apply_accounts(conn: &mut Conn<'_>, page: &[&Recorded]) -> Result<(), Fault> {
    let mut values: Vec<Value> = Vec::new();
    for recorded in page {
        if let (Event::AccountOpened(e), Stream::Account(id)) = (&recorded.event, &recorded.stream)
        {
            let user = e.private.as_ref().map_or("", |private| &private.ums_user);
            values.push(id.to_string().into());
            values.push(recorded.app.as_str().into());
            values.push(user.into());
            values.push(recorded.position.into());
        }
    }
    INSERT_ACCOUNTS.run(conn, values).await
}

/// The account of a UMS user.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn account(conn: &mut Conn<'_>, app: &str, user: &str) -> Result<Option<Uuid>, Fault> {
    const SQL: &str = "SELECT account FROM accounts WHERE app = $1 AND ums_user = $2";
    let found: Option<(String,)> = on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(app).bind(user).fetch_optional(&mut *c).await?
    });
    found.map(|(account,)| uuid(&account)).transpose()
}

/// UMS user names of accounts.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn users(
    conn: &mut Conn<'_>,
    accounts: &[Uuid],
) -> Result<BTreeMap<Uuid, String>, Fault> {
    const SQL: Sql = scalars!(
        "SELECT account, ums_user FROM accounts WHERE account IN (SELECT value FROM ",
        ")"
    );
    let (sql, accounts) = (conn.text(SQL), db::list(accounts)?);
    let found: Vec<(String, String)> = on!(conn.again(), c => {
        sqlx::query_as(sql).bind(accounts).fetch_all(&mut *c).await?
    });
    found.into_iter().map(|(account, user)| Ok((uuid(&account)?, user))).collect()
}

// Devices

static INSERT_DEVICES: LazyLock<Insert> = LazyLock::new(|| {
    let columns = [
        "number",
        "app",
        "stream",
        "version",
        "status",
        "account",
        "registered_at",
        "app_package",
        "device_type",
        "channel",
        "client_id",
        "hardware_id",
        "details",
        "from_position",
        "to_position",
    ];
    Insert::new("devices", &columns, "")
});

/// The columns of [`DeviceRow`], in its order.
macro_rules! select_devices {
    ($where:literal) => {
        concat!(
            "SELECT number, stream, version, status, account, registered_at, app_package, ",
            "device_type, channel, client_id, hardware_id, details, app FROM devices WHERE ",
            $where
        )
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
);

/// The attributes of a device that nothing searches by.
#[derive(Serialize, Deserialize)]
struct Details {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    type_id: Option<String>,
    push_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user_name: Option<String>,
}

async fn apply_devices(conn: &mut Conn<'_>, page: &[&Recorded]) -> Result<(), Fault> {
    let touched: Vec<(&Recorded, Uuid, i64)> = page
        .iter()
        .filter_map(|recorded| {
            let Stream::Device(stream) = recorded.stream else { return None };
            let number = match &recorded.event {
                Event::DeviceUpdated(e) => e.device,
                Event::DeviceReturned(e) => e.device,
                Event::DeviceUnregistered(e) => e.device,
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
    let mut values: Vec<Value> = Vec::with_capacity(rows.len() * 15);
    for (from, to, app, device) in rows {
        push_device(&mut values, from, to, app, device)?;
    }
    INSERT_DEVICES.run(conn, values).await
}

fn push_device(
    values: &mut Vec<Value>,
    from: i64,
    to: Option<i64>,
    app: &str,
    device: Device,
) -> Result<(), Fault> {
    let Device { profile, identity, .. } = device;
    let details = Details {
        type_id: profile.type_id,
        push_id: identity.push_id,
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
        device.registered_at.into(),
        profile.app_package.into(),
        profile.device_type.into(),
        (profile.channel as i64).into(),
        identity.client_id.into(),
        identity.device_id.into(),
        details.into(),
        from.into(),
        Value::Int(to),
    ]);
    Ok(())
}

fn device(row: DeviceRow) -> Result<(String, Device), Fault> {
    let (number, stream, version, status, account, registered_at, ..) = &row;
    let details: Details =
        serde_json::from_str(&row.11).map_err(|cause| Fault::stored("details", cause))?;
    let device = Device {
        number: *number,
        stream: uuid(stream)?,
        version: *version,
        status: Status::from_number(*status).ok_or_else(|| Fault::stored("status", status))?,
        account: account.as_deref().map(uuid).transpose()?,
        registered_at: *registered_at,
        profile: Profile {
            app_package: row.6,
            device_type: row.7,
            type_id: details.type_id,
            channel: if row.8 == Channel::M2m as i64 { Channel::M2m } else { Channel::Jpush },
        },
        identity: Identity {
            client_id: row.9,
            device_id: row.10,
            former_device_id: None,
            push_id: details.push_id,
            device_name: details.device_name,
            user_name: details.user_name,
        },
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
    const SQL: &str =
        select_devices!("app = $1 AND client_id = $2 AND to_position IS NULL ORDER BY number");
    devices(on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(app).bind(client).fetch_all(&mut *c).await?
    }))
}

async fn by_hardware(conn: &mut Conn<'_>, app: &str, id: &str) -> Result<Vec<Device>, Fault> {
    const SQL: &str =
        select_devices!("app = $1 AND hardware_id = $2 AND to_position IS NULL ORDER BY number");
    devices(on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(app).bind(id).fetch_all(&mut *c).await?
    }))
}

/// Devices of an account, unregistered ones too, in order of number.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn by_account(conn: &mut Conn<'_>, account: Uuid) -> Result<Vec<Device>, Fault> {
    const SQL: &str = select_devices!("account = $1 AND to_position IS NULL ORDER BY number");
    devices(on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(account.to_string()).fetch_all(&mut *c).await?
    }))
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
            "number IN (SELECT value::bigint FROM json_array_elements_text($1::json)) \
             AND to_position IS NULL ORDER BY number"
        ),
    };
    let (sql, numbers) = (conn.text(SQL), db::list(numbers)?);
    let rows: Vec<DeviceRow> = on!(conn.again(), c => {
        sqlx::query_as(sql).bind(numbers).fetch_all(&mut *c).await?
    });
    rows.into_iter().map(device).collect()
}

/// A page of an app's devices after a number, as of a position (now: `i64::MAX`).
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn page_of_devices(
    conn: &mut Conn<'_>,
    app: &str,
    as_of: i64,
    after: i64,
    limit: i64,
) -> Result<Vec<Device>, Fault> {
    const SQL: &str = select_devices!(
        "app = $1 AND number > $2 AND from_position <= $3 \
         AND (to_position IS NULL OR to_position > $3) ORDER BY number LIMIT $4"
    );
    devices(on!(conn.again(), c => {
        sqlx::query_as(SQL)
            .bind(app)
            .bind(after)
            .bind(as_of)
            .bind(limit)
            .fetch_all(&mut *c)
            .await?
    }))
}

async fn package_known(conn: &mut Conn<'_>, app: &str, package: &str) -> Result<bool, Fault> {
    const SQL: &str = "SELECT number FROM devices WHERE app = $1 AND app_package = $2 LIMIT 1";
    let found: Option<(i64,)> = on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(app).bind(package).fetch_optional(&mut *c).await?
    });
    Ok(found.is_some())
}

// Owners

static INSERT_OWNERS: LazyLock<Insert> = LazyLock::new(|| {
    let columns = [
        "stream",
        "app",
        "hardware_id",
        "version",
        "account",
        "bind_key",
        "from_position",
        "to_position",
    ];
    Insert::new("owners", &columns, "")
});

async fn apply_owners(conn: &mut Conn<'_>, page: &[&Recorded]) -> Result<(), Fault> {
    let changes: Vec<(&Recorded, Uuid)> = page
        .iter()
        .filter_map(|recorded| match recorded.stream {
            Stream::Owner(stream) => Some((*recorded, stream)),
            _ => None,
        })
        .collect();
    let Some(first) = changes.first() else { return Ok(()) };
    let mut next: BTreeMap<Uuid, i64> = BTreeMap::new();
    let mut values: Vec<Value> = Vec::new();
    let mut closed: Vec<(String, i64)> = Vec::new();
    for (recorded, stream) in changes.iter().rev() {
        let (held, private) = match &recorded.event {
            Event::OwnerSet(e) => (Some((e.account, e.bind_key.clone())), e.private.as_ref()),
            Event::OwnerRemoved(e) => (None, e.private.as_ref()),
            _ => continue,
        };
        let (account, bind_key) = held.unzip();
        values.extend([
            stream.to_string().into(),
            recorded.app.as_str().into(),
            private.map_or("", |private| &private.device_id).into(),
            recorded.version.into(),
            account.map(|account: Uuid| account.to_string()).into(),
            bind_key.into(),
            recorded.position.into(),
            next.insert(*stream, recorded.position).into(),
        ]);
    }
    for (stream, position) in next {
        closed.push((stream.to_string(), position));
    }
    const SQL: Sql = rows!(
        "UPDATE owners SET to_position = CAST(list.value->>1 AS BIGINT) FROM ",
        " WHERE stream = list.value->>0 AND to_position IS NULL"
    );
    debug_assert!(closed.iter().all(|(_, position)| *position >= first.0.position));
    let (sql, closed) = (conn.text(SQL), db::list(&closed)?);
    on!(conn.again(), c => sqlx::query(sql).bind(closed).execute(&mut *c).await?.rows_affected());
    INSERT_OWNERS.run(conn, values).await
}

async fn owner(conn: &mut Conn<'_>, app: &str, device_id: &str) -> Result<Option<Owner>, Fault> {
    const SQL: &str = "SELECT stream, version, account, bind_key FROM owners \
         WHERE app = $1 AND hardware_id = $2 AND to_position IS NULL";
    let row: Option<(String, i64, Option<String>, Option<String>)> = on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(app).bind(device_id).fetch_optional(&mut *c).await?
    });
    let Some((stream, version, account, bind_key)) = row else { return Ok(None) };
    let account = account.as_deref().map(uuid).transpose()?;
    Ok(Some(Owner { stream: uuid(&stream)?, version, held: account.zip(bind_key) }))
}

// Apps

static INSERT_APPS: LazyLock<Insert> = LazyLock::new(|| {
    let columns = ["app", "version", "config", "deleted", "from_position", "to_position"];
    Insert::new("apps", &columns, "")
});

/// There are few apps and they change seldom, so their fold is the domain's own, one by one.
async fn apply_apps(conn: &mut Conn<'_>, page: &[&Recorded]) -> Result<(), Fault> {
    for recorded in page.iter().filter(|r| matches!(r.stream, Stream::App(_))) {
        let before = Fact::Apps(Arc::new(apps(conn).await?));
        let after = before.evolve(&Key::Apps, recorded.place(), &recorded.event);
        let Fact::Apps(after) = after else { continue };
        let Some(app) = after.iter().find(|app| app.config.app_id == recorded.app) else {
            continue;
        };
        const CLOSE: &str =
            "UPDATE apps SET to_position = $2 WHERE app = $1 AND to_position IS NULL";
        on!(conn.again(), c => {
            sqlx::query(CLOSE)
                .bind(&recorded.app)
                .bind(recorded.position)
                .execute(&mut *c)
                .await?;
        });
        let config = serde_json::to_string(&app.config)
            .map_err(|cause| Fault::stored("app configuration", cause))?;
        let values = vec![
            recorded.app.as_str().into(),
            app.version.into(),
            config.into(),
            i64::from(app.deleted).into(),
            recorded.position.into(),
            Value::Int(None),
        ];
        INSERT_APPS.run(conn, values).await?;
    }
    Ok(())
}

/// All apps, deleted ones too, in order of id.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn apps(conn: &mut Conn<'_>) -> Result<Vec<App>, Fault> {
    const SQL: &str =
        "SELECT version, config, deleted FROM apps WHERE to_position IS NULL ORDER BY app";
    let rows: Vec<(i64, String, i64)> =
        on!(conn.again(), c => sqlx::query_as(SQL).fetch_all(&mut *c).await?);
    rows.into_iter()
        .map(|(version, config, deleted)| {
            let config: AppConfig = serde_json::from_str(&config)
                .map_err(|cause| Fault::stored("app configuration", cause))?;
            Ok(App { version, config, deleted: deleted != 0 })
        })
        .collect()
}

fn uuid(text: &str) -> Result<Uuid, Fault> {
    text.parse().map_err(|cause| Fault::stored("uuid", cause))
}
