//! What is sealed, and proofs of it; and what is in no view, and how the views are rebuilt. The shell gives
//! each query a port to all that.

use std::sync::Arc;

use async_graphql::{Context, Enum, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};

use crate::{
    Hidden, Later, Viewer, access,
    list::{Asked, Page},
};

/// The history as auditors check it; refusals are in words for people.
pub trait Proofs: Send + Sync {
    /// The last signed checkpoint.
    fn checkpoint(&self) -> Later<'_, Option<String>>;
    /// Proof that a position is in a tree.
    fn inclusion(&self, position: i64, size: Option<i64>) -> Later<'_, Proven<InclusionProof>>;
    /// Proof that one tree goes on from another.
    fn consistency(&self, from: i64, to: Option<i64>) -> Later<'_, Proven<ConsistencyProof>>;
    /// Events after a position that the views could not read or fold, in order.
    fn set_aside(&self, after: i64, limit: i64) -> Later<'_, Vec<SetAside>>;
    /// The live generation of the views, and the last rebuild.
    fn rebuild(&self) -> Later<'_, ViewsStatus>;
}

/// A proof, or why there is none.
pub type Proven<T> = std::result::Result<T, String>;

/// Proof that an event is under a checkpoint. Hashes are in base64.
#[derive(Debug, SimpleObject)]
pub struct InclusionProof {
    /// Position of the event; its index in the tree is one less.
    pub position: i64,
    /// Events of the tree.
    pub size: i64,
    /// The event's leaf.
    pub leaf: String,
    /// The hashes next to the way from the leaf up to the root.
    pub proof: Vec<String>,
}

/// Proof that a larger tree begins with all that is in a smaller one. Hashes are in base64.
#[derive(Debug, SimpleObject)]
pub struct ConsistencyProof {
    /// Events of the smaller tree.
    pub from: i64,
    /// Events of the larger tree.
    pub to: i64,
    /// The hashes, as RFC 6962 orders them.
    pub proof: Vec<String>,
}

/// An event that is in no view.
#[derive(Debug, SimpleObject)]
pub struct SetAside {
    /// Its position.
    pub position: i64,
    /// Its app; empty for what belongs to no app.
    pub app: String,
    /// Its stable name.
    pub r#type: String,
    /// Its schema number.
    pub schema: i64,
    /// Why it could not be read or folded.
    pub error: String,
    /// Whether this version can read it. A rebuild then tries to fold it, in its place.
    pub readable: bool,
}

/// The generation of the views that is read, and the last rebuild, if there ever was one.
#[derive(Debug, SimpleObject)]
pub struct ViewsStatus {
    /// Number of the generation that is read.
    pub live: i64,
    /// The last rebuild.
    pub rebuild: Option<Rebuild>,
}

/// Where a rebuild of the views stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub enum RebuildState {
    /// A node will begin with it.
    Wanted,
    /// A node makes the next generation.
    Running,
    /// The next generation is read.
    Done,
    /// An operator cancelled it.
    Cancelled,
    /// It could not be made.
    Failed,
    /// Its node ended; nobody goes on with it.
    Interrupted,
}

/// A rebuild of the views.
#[derive(Debug, SimpleObject)]
pub struct Rebuild {
    /// Where it stands.
    pub state: RebuildState,
    /// Number of the generation that it makes, or made.
    pub generation: Option<i64>,
    /// Whether it sets aside again what is set aside in the live generation.
    pub keep_aside: bool,
    /// Ledger position that is folded.
    pub position: i64,
    /// Ledger position that the live generation had when it was last looked at.
    pub target: i64,
    /// How much of it is made, in percent.
    pub percent: f64,
    /// Events folded in a second, so far.
    pub events_per_second: i64,
    /// How long it will take at that pace, while it runs.
    pub seconds_left: Option<i64>,
    /// When it was asked for.
    pub asked_at: DateTime<Utc>,
    /// When it began.
    pub started_at: Option<DateTime<Utc>>,
    /// When it was over.
    pub ended_at: Option<DateTime<Utc>>,
    /// Position of the event that it stopped at.
    pub stopped_at: Option<i64>,
    /// Why it failed.
    pub reason: Option<String>,
}

/// What is sealed, and what is in no view.
pub(crate) struct Audit;

/// The port, for those who may see the history.
fn proofs<'a>(ctx: &Context<'a>) -> Result<&'a Arc<dyn Proofs>> {
    ctx.data::<Arc<dyn Proofs>>().map_err(|_| {
        access::deny(ctx, "audit");
        "this needs the role auditor".into()
    })
}

/// The port, for those who may see every app.
fn everywhere<'a>(ctx: &Context<'a>) -> Result<&'a Arc<dyn Proofs>> {
    match ctx.data::<Viewer>()?.app {
        Some(_) => Err("this token is bound to one app".into()),
        None => proofs(ctx),
    }
}

/// What is sealed, and proofs of it.
#[Object]
impl Audit {
    /// The last signed checkpoint, a C2SP tlog-checkpoint; null while nothing is sealed.
    async fn checkpoint(&self, ctx: &Context<'_>) -> Result<Option<String>> {
        proofs(ctx)?.checkpoint().await.hidden()
    }

    /// Proof that the event at a position is in the tree of a size, by default the last one signed.
    async fn inclusion(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Position of the event, from 1.")] position: i64,
        #[graphql(desc = "Events of the tree; those of the last one signed if absent.")]
        size: Option<i64>,
    ) -> Result<InclusionProof> {
        Ok(proofs(ctx)?.inclusion(position, size).await.hidden()??)
    }

    /// Proof that the tree of `to` events, by default the last one signed, goes on from that of
    /// `from`.
    async fn consistency(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Events of the earlier tree.")] from: i64,
        #[graphql(desc = "Events of the later tree; those of the last one signed if absent.")]
        to: Option<i64>,
    ) -> Result<ConsistencyProof> {
        Ok(proofs(ctx)?.consistency(from, to).await.hidden()??)
    }

    /// Events that the views could not read or fold, in order of position, for those who may see
    /// every app.
    #[graphql(complexity = "first.clamp(1, 200) as usize * child_complexity")]
    async fn set_aside(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 50, desc = "Events of the page, at most 200.")] first: i64,
        #[graphql(desc = "Cursor after which the page begins.")] after: Option<String>,
    ) -> Result<Page<SetAside>> {
        let asked = Asked::new(first, after.as_deref())?;
        let rows = everywhere(ctx)?.set_aside(asked.position(0), asked.rows()).await.hidden()?;
        Ok(asked.page(rows.into_iter().map(|row| (row.position, row))))
    }

    /// Which generation of the views is read, and how far the last rebuild is, for those who may see
    /// every app.
    async fn views(&self, ctx: &Context<'_>) -> Result<ViewsStatus> {
        everywhere(ctx)?.rebuild().await.hidden()
    }
}
