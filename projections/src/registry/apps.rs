//! Apps in the registry.

use std::sync::{Arc, LazyLock};

use domain::{
    Recorded, Stream,
    app::{App, AppConfig},
    facts::{Fact, Key},
};

use crate::{
    Fault,
    db::{Conn, Insert, Value},
    on,
};

static INSERT_APPS: LazyLock<Insert> = LazyLock::new(|| {
    let columns = ["app", "version", "config", "deleted", "from_position", "to_position"];
    Insert::new("apps", &columns, "")
});

/// There are few apps and they change seldom, so their fold is the domain's own, one by one.
pub(super) async fn apply(conn: &mut Conn<'_>, page: &[&Recorded]) -> Result<(), Fault> {
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
