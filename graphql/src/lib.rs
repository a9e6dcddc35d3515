//! The query API: GraphQL over the registry, the views and the ledger. It only reads; the shell
//! gives it connections, a [`Viewer`] and ports to the history, to presence and to how far the views
//! are.

pub mod access;
mod app;
mod as_of;
pub mod audit;
mod callback;
mod device;
mod event;
mod list;
mod live;
mod loaders;
mod message;
mod moment;
pub mod statistics;
mod task;
mod timeline;
mod uplink;
mod user;
mod words;

use std::{collections::HashSet, pin::Pin, sync::Arc, time::Duration};

use async_graphql::{
    Context, EmptyMutation, Error, ErrorExtensions, Object, Result, Schema as GenericSchema,
    dataloader::DataLoader,
};
use domain::Recorded;
use futures_util::{future::BoxFuture, stream::BoxStream};
use projections::{Fault, db::Pool, live::LiveViews};

use app::App;
use as_of::AsOf;
pub use live::{Seats, Subscription};
use loaders::Batches;
use moment::Moment;

/// The schema.
pub type Schema = GenericSchema<Query, EmptyMutation, Subscription>;

/// Deepest nesting of a query; the usual introspection has 15 levels.
const MAX_DEPTH: usize = 16;
/// Most fields of a query, lists counted by their page size.
const MAX_COMPLEXITY: usize = 20_000;

/// What queries read from.
#[derive(Clone)]
pub struct Sources {
    /// The registry.
    pub registry: Pool,
    /// The views.
    pub views: LiveViews,
    /// The history.
    pub history: Arc<dyn History>,
    /// Presence.
    pub presence: Arc<dyn Presence>,
    /// How far the views are.
    pub progress: Arc<dyn Progress>,
    /// Runs what loads for many fields at once.
    pub spawn: Spawn,
}

/// Runs a task.
pub type Spawn = Arc<dyn Fn(BoxFuture<'static, ()>) + Send + Sync>;

/// An answer that comes later.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = std::result::Result<T, Fault>> + Send + 'a>>;

/// The history, as the ledger keeps it.
pub trait History: Send + Sync {
    /// Events of a stream after a version, in order.
    fn stream<'a>(&'a self, stream: &'a str, after: i64, limit: i64) -> Later<'a, Vec<Recorded>>;
    /// The first events of some streams, at most `limit` of each, in order of stream and version.
    fn streams<'a>(&'a self, streams: &'a [String], limit: i64) -> Later<'a, Vec<Recorded>>;
    /// The events at some positions, in order.
    fn at<'a>(&'a self, positions: &'a [i64]) -> Later<'a, Vec<Recorded>>;
    /// Events of all apps after a position, in order, and the last position that was looked at.
    fn after(&self, position: i64, limit: i64) -> Later<'_, (Vec<Recorded>, Option<i64>)>;
    /// The position of the last event that was recorded before a time in µs.
    fn before(&self, time: i64) -> Later<'_, i64>;
    /// The last position, on whichever node it was recorded.
    fn head(&self) -> Later<'_, i64>;
    /// The time by which events are recorded, in µs.
    fn now(&self) -> i64;
    /// The last position: now, and whenever there is another.
    fn heads(&self) -> BoxStream<'static, i64>;
}

/// Who is connected.
pub trait Presence: Send + Sync {
    /// Those of some devices that are connected to any node.
    fn present<'a>(&'a self, devices: &'a [i64]) -> Later<'a, HashSet<i64>>;
}

/// How far the views are.
pub trait Progress: Send + Sync {
    /// The position that they include.
    fn position(&self) -> i64;
    /// Waits for a position, for a bounded time; false if it was not reached.
    fn reached(&self, position: i64) -> Later<'_, bool>;
    /// The position that they include: now, and whenever they move on, at that pace at most.
    fn positions(&self, pace: Duration) -> BoxStream<'static, i64>;
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
    let spawn = Arc::clone(&sources.spawn);
    let batches = DataLoader::new(Batches(sources.clone()), move |task| spawn(task));
    builder().data(batches).data(sources).finish()
}

/// The schema as text, as it is committed.
#[must_use]
pub fn sdl() -> String {
    builder().finish().sdl()
}

fn builder() -> async_graphql::SchemaBuilder<Query, EmptyMutation, Subscription> {
    GenericSchema::build(Query, EmptyMutation, Subscription)
        .limit_depth(MAX_DEPTH)
        .limit_complexity(MAX_COMPLEXITY)
}

/// Where every query begins.
pub struct Query;

/// Where every query begins.
#[Object]
impl Query {
    /// Ledger position that the views include: whatever was recorded up to it is in every answer.
    async fn position(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Position to wait for, for 5 seconds at most.")] at_least: Option<i64>,
    ) -> Result<i64> {
        let sources = ctx.data::<Sources>()?;
        wait_for(sources, at_least).await?;
        Ok(sources.progress.position())
    }

    /// Apps that the caller may see, in order of id.
    async fn apps(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Position to wait for, for 5 seconds at most.")] at_least: Option<i64>,
    ) -> Result<Vec<App>> {
        let (sources, viewer) = (ctx.data::<Sources>()?, ctx.data::<Viewer>()?);
        let apps = visible(sources, viewer, at_least).await?.into_iter();
        Ok(apps.inspect(|app| access::into_app(ctx, &app.config.app_id)).map(App).collect())
    }

    /// Who read what belongs to people, and which calls were refused, the newest first; for
    /// auditors. Reading it is logged too.
    #[graphql(complexity = "first.clamp(1, 200) as usize * child_complexity")]
    async fn access_log(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which rows; all if absent.")] filter: Option<access::AccessFilter>,
        #[graphql(default = 50, desc = "Rows of the page, at most 200.")] first: i64,
        #[graphql(desc = "Cursor after which the page begins.")] after: Option<String>,
    ) -> Result<list::Page<access::Access>> {
        access::page(ctx, filter, first, after.as_deref()).await
    }

    /// What is sealed, and proofs of it, for auditors.
    async fn audit(&self) -> audit::Audit {
        audit::Audit
    }

    /// One app, if the caller may see it.
    async fn app(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The id that the operator chose.")] app_id: String,
        #[graphql(desc = "Position to wait for, for 5 seconds at most.")] at_least: Option<i64>,
    ) -> Result<Option<App>> {
        seen(ctx, &app_id, at_least).await
    }

    /// Everything as it was at a moment.
    async fn as_of(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "A ledger position, or a time: that of the last event by then.")]
        moment: Moment,
    ) -> Result<AsOf> {
        let position = moment::position(ctx.data::<Sources>()?, moment).await?;
        Ok(AsOf { position })
    }
}

/// One app, if the caller may see it.
async fn seen(ctx: &Context<'_>, app_id: &str, at_least: Option<i64>) -> Result<Option<App>> {
    let (sources, viewer) = (ctx.data::<Sources>()?, ctx.data::<Viewer>()?);
    if !viewer.sees(app_id) {
        access::deny(ctx, "app");
    }
    let apps = visible(sources, viewer, at_least).await?;
    let found = apps.into_iter().find(|app| app.config.app_id == app_id);
    Ok(found.inspect(|_| access::into_app(ctx, app_id)).map(App))
}

/// Apps that a viewer may see, in order of id, once the views include a position.
async fn visible(
    sources: &Sources,
    viewer: &Viewer,
    at_least: Option<i64>,
) -> Result<Vec<domain::app::App>> {
    wait_for(sources, at_least).await?;
    let mut checkout = sources.registry.checkout().await.hidden()?;
    let mut apps = projections::registry::apps(&mut checkout.conn()).await.hidden()?;
    apps.retain(|app| !app.deleted && viewer.sees(&app.config.app_id));
    Ok(apps)
}

/// Waits until the views include a position, if one is demanded.
async fn wait_for(sources: &Sources, position: Option<i64>) -> Result<()> {
    let Some(position) = position else { return Ok(()) };
    if sources.progress.reached(position).await.hidden()? {
        return Ok(());
    }
    Err(format!("the views have not reached position {position} yet").into())
}

/// A fault that the caller is not told the inside of; the shell logs its source.
trait Hidden<T> {
    /// The value, or an error that says no more than that something broke.
    fn hidden(self) -> Result<T>;
}

impl<T, F: Into<Arc<Fault>>> Hidden<T> for std::result::Result<T, F> {
    fn hidden(self) -> Result<T> {
        self.map_err(|fault| {
            let fault: Arc<Fault> = fault.into();
            if let Fault::Detached { .. } = *fault {
                return coded(&fault.to_string(), "DETACHED");
            }
            let error = match fault.is_given_up() {
                true => too_long(),
                false => Error::new("internal error"),
            };
            Error { source: Some(fault), ..error }
        })
    }
}

/// What a query is refused with that takes longer than it may: as any that asks for too much, as the
/// same would come of it again.
#[must_use]
pub fn too_long() -> Error {
    coded("the query takes too long: ask for less", "TOO_LONG")
}

/// An error that programs know by a code.
fn coded(text: &str, code: &str) -> Error {
    Error::new(text).extend_with(|_, more| more.set("code", code))
}

/// A time in µs since the epoch.
fn time(micros: i64) -> chrono::DateTime<chrono::Utc> {
    chrono::DateTime::from_timestamp_micros(micros).unwrap_or_default()
}
