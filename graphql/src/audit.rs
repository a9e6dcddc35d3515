//! What is sealed, and proofs of it. The shell gives each query a port to the tree.

use std::sync::Arc;

use async_graphql::{Context, Object, Result, SimpleObject};

use crate::{Hidden, Later, access};

/// The tree as auditors read it; refusals are in words for people.
pub trait Proofs: Send + Sync {
    /// The last signed checkpoint.
    fn checkpoint(&self) -> Later<'_, Option<String>>;
    /// Proof that a position is in a tree.
    fn inclusion(&self, position: i64, size: Option<i64>) -> Later<'_, Proven<InclusionProof>>;
    /// Proof that one tree goes on from another.
    fn consistency(&self, from: i64, to: Option<i64>) -> Later<'_, Proven<ConsistencyProof>>;
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

/// What is sealed.
pub(crate) struct Audit;

/// The port, for those who may see the history.
fn proofs<'a>(ctx: &Context<'a>) -> Result<&'a Arc<dyn Proofs>> {
    ctx.data::<Arc<dyn Proofs>>().map_err(|_| {
        access::deny(ctx, "audit");
        "this needs the role auditor".into()
    })
}

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
        position: i64,
        size: Option<i64>,
    ) -> Result<InclusionProof> {
        Ok(proofs(ctx)?.inclusion(position, size).await.hidden()??)
    }

    /// Proof that the tree of `to` events, by default the last one signed, goes on from that of
    /// `from`.
    async fn consistency(
        &self,
        ctx: &Context<'_>,
        from: i64,
        to: Option<i64>,
    ) -> Result<ConsistencyProof> {
        Ok(proofs(ctx)?.consistency(from, to).await.hidden()??)
    }
}
