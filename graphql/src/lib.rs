//! The query API: GraphQL over the registry, the views and the ledger. It only reads; the shell
//! gives it connections, a [`Viewer`] and a port to the history.

mod app;
pub mod audit;
mod callback;
mod device;
mod event;
mod message;

use std::{collections::HashSet, pin::Pin, sync::Arc};

use async_graphql::{EmptyMutation, EmptySubscription, Object, Result, Schema as GenericSchema};
use domain::Recorded;
use projections::{Fault, db::Pool};

use app::App;

/// The schema.
pub type Schema = GenericSchema<Query, EmptyMutation, EmptySubscription>;

/// Deepest nesting of a query.
const MAX_DEPTH: usize = 12;
/// Most fields of a query, lists counted by their page size.
const MAX_COMPLEXITY: usize = 20_000;

/// What queries read from.
#[derive(Clone)]
pub struct Sources {
    /// The registry.
    pub registry: Pool,
    /// The views.
    pub views: Pool,
    /// The history.
    pub history: Arc<dyn History>,
    /// Presence.
    pub presence: Arc<dyn Presence>,
}

/// An answer that comes later.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = std::result::Result<T, Fault>> + Send + 'a>>;

/// The history of a stream, as the ledger keeps it.
pub trait History: Send + Sync {
    /// Events of a stream after a version, in order.
    fn stream<'a>(&'a self, stream: &'a str, after: i64, limit: i64) -> Later<'a, Vec<Recorded>>;
}

/// Who is connected.
pub trait Presence: Send + Sync {
    /// Those of some devices that are connected to any node.
    fn present<'a>(&'a self, devices: &'a [i64]) -> Later<'a, HashSet<i64>>;
}

/// On whose behalf a query runs.
#[derive(Debug, Clone)]
pub struct Viewer {
    /// The one app that may be seen; `None`: all.
    pub app: Option<String>,
    /// Whether names, tokens and payloads may be seen.
    pub private: bool,
}

impl Viewer {
    fn sees(&self, app: &str) -> bool {
        self.app.as_deref().is_none_or(|own| own == app)
    }
}

/// The schema over some sources.
#[must_use]
pub fn schema(sources: Sources) -> Schema {
    builder().data(sources).finish()
}

/// The schema as text, as it is committed.
#[must_use]
pub fn sdl() -> String {
    builder().finish().sdl()
}

fn builder() -> async_graphql::SchemaBuilder<Query, EmptyMutation, EmptySubscription> {
    GenericSchema::build(Query, EmptyMutation, EmptySubscription)
        .limit_depth(MAX_DEPTH)
        .limit_complexity(MAX_COMPLEXITY)
}

/// Where every query begins.
pub struct Query;

#[Object]
impl Query {
    /// Apps that the caller may see, in order of id.
    async fn apps(&self, ctx: &async_graphql::Context<'_>) -> Result<Vec<App>> {
        let (sources, viewer) = (ctx.data::<Sources>()?, ctx.data::<Viewer>()?);
        let mut checkout = sources.registry.checkout().await.hidden()?;
        let apps = projections::registry::apps(&mut checkout.conn()).await.hidden()?;
        let visible =
            apps.into_iter().filter(|app| !app.deleted && viewer.sees(&app.config.app_id));
        Ok(visible.map(App).collect())
    }

    /// What is sealed, and proofs of it, for auditors.
    async fn audit(&self) -> audit::Audit {
        audit::Audit
    }

    /// One app, if the caller may see it.
    async fn app(&self, ctx: &async_graphql::Context<'_>, app_id: String) -> Result<Option<App>> {
        let apps = self.apps(ctx).await?;
        Ok(apps.into_iter().find(|app| app.0.config.app_id == app_id))
    }
}

/// A fault that the caller is not told the inside of; the shell logs its source.
trait Hidden<T> {
    /// The value, or an error that says no more than that something broke.
    fn hidden(self) -> Result<T>;
}

impl<T> Hidden<T> for std::result::Result<T, Fault> {
    fn hidden(self) -> Result<T> {
        self.map_err(|fault| async_graphql::Error {
            message: "internal error".to_owned(),
            source: Some(Arc::new(fault)),
            extensions: None,
        })
    }
}

/// A time in µs since the epoch.
fn time(micros: i64) -> chrono::DateTime<chrono::Utc> {
    chrono::DateTime::from_timestamp_micros(micros).unwrap_or_default()
}
