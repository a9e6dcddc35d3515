//! What GraphQL reads for auditors: the tree and its proofs, what the views could not fold and how they are
//! rebuilt, and the access log.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::DateTime;
use graphql::{
    Later,
    access::{AccessOutcome, AccessRow, Accesses, Wanted},
    audit::{
        ConsistencyProof, InclusionProof, Proofs, Proven, Rebuild, RebuildState, SetAside,
        ViewsStatus,
    },
};
use projections::Fault;

use crate::{
    access::{self, AccessLog, Outcome},
    app::Server,
    audit::{Audit, NoProof},
    feed::{
        rebuild::{RebuildShown, RebuildStatus, Rebuilds, State},
        set_aside,
    },
    ledger::Ledger,
};

/// The ports of a server for those who may read all that.
#[must_use]
pub fn for_auditors(server: &Server) -> (Arc<dyn Proofs>, Arc<dyn Accesses>) {
    let (audit, ledger) = (server.audit.clone(), server.ledger.clone());
    let checked = Checked { audit, ledger, rebuilds: Arc::clone(&server.rebuilds) };
    (Arc::new(checked), Arc::new(Logged(Arc::clone(&server.access))))
}

/// The access log as the query API reads it.
struct Logged(Arc<AccessLog>);

impl Accesses for Logged {
    fn page(&self, wanted: Wanted) -> Later<'_, Vec<AccessRow>> {
        let asked = access::store::Asked {
            app: wanted.app,
            caller: wanted.caller,
            outcome: wanted.outcome.map(|outcome| match outcome {
                AccessOutcome::Answered => Outcome::Answered,
                AccessOutcome::Refused => Outcome::Refused,
            }),
            from: wanted.from,
            to: wanted.to,
            before: wanted.before,
            limit: wanted.limit,
        };
        Box::pin(async move {
            let rows = self.0.page(&asked).await?.into_iter();
            Ok(rows.map(access_row).collect())
        })
    }
}

fn access_row(row: access::Row) -> AccessRow {
    AccessRow {
        number: row.number,
        at: row.at,
        last_at: row.last_at,
        outcome: match row.outcome {
            Outcome::Answered => AccessOutcome::Answered,
            Outcome::Refused => AccessOutcome::Refused,
        },
        caller: row.caller,
        role: row.role,
        address: row.address,
        request: row.request,
        via: row.via,
        operation: row.operation,
        app: row.app,
        fields: row.fields,
        subjects: row.subjects,
        records: row.records,
        calls: row.calls,
        code: row.code,
    }
}

/// The history as the query API checks it.
struct Checked {
    audit: Audit,
    ledger: Ledger,
    rebuilds: Arc<Rebuilds>,
}

impl Proofs for Checked {
    fn checkpoint(&self) -> Later<'_, Option<String>> {
        Box::pin(async move {
            Ok(proven(self.audit.checkpoint().await)?.ok().map(|sealed| sealed.note))
        })
    }

    fn inclusion(&self, position: i64, size: Option<i64>) -> Later<'_, Proven<InclusionProof>> {
        Box::pin(async move {
            let proof = proven(self.audit.inclusion(position, size).await)?;
            Ok(proof.map(|proof| InclusionProof {
                position,
                size: i64::try_from(proof.size).unwrap_or(i64::MAX),
                leaf: STANDARD.encode(proof.leaf.unwrap_or_default()),
                proof: proof.hashes.iter().map(|hash| STANDARD.encode(hash)).collect(),
            }))
        })
    }

    fn consistency(&self, from: i64, to: Option<i64>) -> Later<'_, Proven<ConsistencyProof>> {
        Box::pin(async move {
            let proof = proven(self.audit.consistency(from, to).await)?;
            Ok(proof.map(|proof| ConsistencyProof {
                from,
                to: i64::try_from(proof.size).unwrap_or(i64::MAX),
                proof: proof.hashes.iter().map(|hash| STANDARD.encode(hash)).collect(),
            }))
        })
    }

    fn set_aside(&self, after: i64, limit: i64) -> Later<'_, Vec<SetAside>> {
        Box::pin(async move {
            let page = set_aside::page(&self.ledger, after, limit).await?;
            let shown = page.into_iter().map(|aside| SetAside {
                position: aside.position,
                app: aside.app,
                r#type: aside.name,
                schema: aside.schema,
                error: aside.error,
                readable: aside.readable,
            });
            Ok(shown.collect())
        })
    }

    fn rebuild(&self) -> Later<'_, ViewsStatus> {
        Box::pin(async move {
            let RebuildStatus { live, rebuild } = self.rebuilds.status().await?.into();
            Ok(ViewsStatus { live, rebuild: rebuild.map(shown) })
        })
    }
}

/// A rebuild in the words of the query API.
fn shown(own: RebuildShown) -> Rebuild {
    let at = |millis: i64| DateTime::from_timestamp_millis(millis).unwrap_or_default();
    Rebuild {
        state: match own.state {
            State::Wanted => RebuildState::Wanted,
            State::Running => RebuildState::Running,
            State::Done => RebuildState::Done,
            State::Cancelled => RebuildState::Cancelled,
            State::Failed => RebuildState::Failed,
            State::Interrupted => RebuildState::Interrupted,
        },
        generation: own.generation,
        keep_aside: own.keep_aside,
        position: own.position,
        target: own.target,
        percent: own.percent,
        events_per_second: own.events_per_second,
        seconds_left: own.seconds_left,
        asked_at: at(own.asked_at),
        started_at: own.started_at.map(at),
        ended_at: own.ended_at.map(at),
        stopped_at: own.stopped_at,
        reason: own.reason,
    }
}

/// A proof or why there is none; a fault is no reason.
fn proven<T>(found: Result<T, NoProof>) -> Result<Proven<T>, Fault> {
    match found {
        Ok(proof) => Ok(Ok(proof)),
        Err(NoProof::Fault(fault)) => Err(fault),
        Err(none) => Ok(Err(none.to_string())),
    }
}
