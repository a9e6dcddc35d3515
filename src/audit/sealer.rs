//! Seals the ledger, on whichever node holds the lease `seals`: reads the leaves that are new, grows
//! the tree over them, and signs its root, once a second or for every 4,096 events. It never holds
//! up an append: it reads what is durable and writes a few tiles.
//!
//! Before it signs anything it looks whether the tree goes on from what the witness saw last. If it
//! does not, somebody rolled the ledger back or altered it, and nothing is signed.

use std::{sync::Arc, time::Duration};

use projections::{
    Fault,
    db::{Conn, Pool},
    on,
};
use tokio_util::sync::CancellationToken;

use super::{
    Checkpoints, Sealed, keys,
    merkle::{Hash, Tile, Tree},
    note::{Checkpoint, NoteError, Signer, Verifier},
    tiles::{self, signed, unsigned},
    witness::Witness,
};
use crate::{
    app::Server,
    metrics::Reading,
    secrets::{MasterKey, SecretError},
};

/// Name of the duty, of its lease and in the metrics.
pub const NAME: &str = "seals";
/// Events for which a checkpoint is signed at once.
const SOON_EVENTS: i64 = 4_096;
/// Events of one checkpoint, while it catches up.
const MAX_EVENTS: u64 = 65_536;
/// Leaves read at once.
const PAGE: i64 = 4_096;
/// Time between two checkpoints while few events come.
const PACE: Duration = Duration::from_secs(1);
/// Pause before what was refused is tried again.
const REFUSED: Duration = Duration::from_secs(10);

/// Why nothing is signed.
#[derive(Debug, thiserror::Error)]
pub enum NotSealed {
    /// The witness saw what is not so here.
    #[error(
        "the witness has a checkpoint of {seen} events that this ledger does not go on from: {why}"
    )]
    Witness {
        /// Events of the witness's checkpoint.
        seen: u64,
        /// What does not fit.
        why: &'static str,
    },
    /// What the witness has is no checkpoint that any key of this ledger signed.
    #[error("the witness's last checkpoint: {0}")]
    Note(#[from] NoteError),
    /// The witness cannot be asked, or told.
    #[error("the witness: {0}")]
    Io(#[from] std::io::Error),
    /// The tree is not what was signed.
    #[error("the tree has another root than the checkpoint of {0} events")]
    Tree(u64),
    /// The key.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The database.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Seals for as long as it runs.
///
/// # Errors
/// [`Fault`] when the database fails; it is taken up again. What is refused is logged here.
pub async fn run(server: &Arc<Server>, stop: CancellationToken) -> Result<(), Fault> {
    let reading = server.metrics.reading(NAME, signed(last_size(server).await?));
    let pause = match seal(server, &reading, &stop).await {
        Ok(()) => return Ok(()),
        Err(NotSealed::Fault(fault)) => return Err(fault),
        Err(refused) => {
            tracing::error!(%refused, "nothing is sealed");
            server.metrics.seals_refused(true);
            REFUSED
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = tokio::time::sleep(pause) => {}
    }
    Ok(())
}

/// Events under the last checkpoint.
async fn last_size(server: &Server) -> Result<u64, Fault> {
    let mut checkout = server.ledger.database().ledger_read.checkout().await?;
    Ok(Checkpoints::last(&mut checkout.conn()).await?.map_or(0, |last| last.size))
}

async fn seal(
    server: &Server,
    reading: &Reading<'_>,
    stop: &CancellationToken,
) -> Result<(), NotSealed> {
    let database = server.ledger.database();
    let (mut head, mut sealer) = (server.ledger.watch(), None);
    let mut size = 0;
    loop {
        let next = signed(size) + 1;
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            more = head.wait_for(|head| *head >= next) => if more.is_err() { return Ok(()) },
        }
        let own = match &mut sealer {
            Some(own) => own,
            none => {
                let (read, write) = (&database.ledger_read, &database.ledger_write);
                let witness = server.witness.clone();
                none.insert(Sealer::open(read, write, &server.master, witness).await?)
            }
        };
        own.seal(server.clock.now()).await?;
        size = own.tree.size();
        server.metrics.seals_refused(false);
        reading.reached(signed(size));
        let many = signed(size) + SOON_EVENTS;
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = head.wait_for(|head| *head >= many) => {}
            () = tokio::time::sleep(PACE) => {}
        }
    }
}

/// The tree on its way.
pub struct Sealer {
    read: Pool,
    write: Pool,
    master: MasterKey,
    origin: String,
    witness: Option<Arc<dyn Witness>>,
    /// What the witness saw of events that are not sealed here yet.
    ahead: Option<Checkpoint>,
    last: u64,
    tree: Tree,
}

impl Sealer {
    /// Takes the tree up where it was left, and asks the witness. The ledger must have an event.
    ///
    /// # Errors
    /// [`NotSealed`] says why nothing can be signed.
    pub async fn open(
        read: &Pool,
        write: &Pool,
        master: &MasterKey,
        witness: Option<Arc<dyn Witness>>,
    ) -> Result<Sealer, NotSealed> {
        let mut checkout = read.checkout().await?;
        let mut conn = checkout.conn();
        let origin = keys::origin(&mut conn).await?;
        let origin = origin.ok_or_else(|| Fault::stored("ledger", "it has no event"))?;
        let last = Checkpoints::last(&mut conn).await?;
        let size = last.as_ref().map_or(0, |last| last.size);
        let tree = tiles::tree(&mut conn, size).await?;
        if last.as_ref().is_some_and(|last| last.root != tree.root()) {
            return Err(NotSealed::Tree(size));
        }
        let verifiers: Vec<Verifier> =
            keys::all(&mut conn).await?.iter().map(|key| key.verifier(&origin)).collect();
        let mut ahead = None;
        if let Some(witness) = &witness {
            let seen = witness.last().await?;
            let seen = seen.map(|note| Checkpoint::verified(&note, &verifiers)).transpose()?;
            if let Some(seen) = &seen {
                goes_on(&mut conn, seen, &origin, size).await?;
            }
            let seen_size = seen.as_ref().map_or(0, |seen| seen.size);
            // A crash came between signing and telling.
            if let Some(Sealed { note, .. }) = last.filter(|last| last.size > seen_size) {
                witness.append(&note).await?;
            }
            ahead = seen.filter(|seen| seen.size > size);
        }
        let (read, write, master) = (read.clone(), write.clone(), master.clone());
        Ok(Sealer { read, write, master, origin, witness, ahead, last: size, tree })
    }

    /// Seals what there is by now.
    ///
    /// # Errors
    /// [`NotSealed`]; the sealer is of no use then.
    pub async fn seal(&mut self, now: i64) -> Result<(), NotSealed> {
        let target = self.ahead.as_ref().map_or(self.last + MAX_EVENTS, |ahead| ahead.size);
        let mut changed = Vec::new();
        while self.tree.size() < target {
            let page = self.leaves(target).await?;
            if page.is_empty() {
                break;
            }
            for leaf in page {
                self.tree.push(leaf, |tile| changed.push(tile));
            }
        }
        if let Some(ahead) = self.ahead.take() {
            let why = match (self.tree.size() == ahead.size, self.tree.root() == ahead.root) {
                (false, _) => "it has fewer events",
                (true, false) => "its events are others",
                (true, true) => "",
            };
            if !why.is_empty() {
                return Err(NotSealed::Witness { seen: ahead.size, why });
            }
        }
        if self.tree.size() == self.last {
            return Ok(());
        }
        changed.extend(self.tree.edge());
        let note = self.sign(changed, now).await?;
        self.last = self.tree.size();
        if let Some(witness) = &self.witness {
            witness.append(&note).await?;
        }
        Ok(())
    }

    /// Events under the last checkpoint.
    #[must_use]
    pub fn sealed(&self) -> u64 {
        self.last
    }

    /// The next leaves, up to a size of the tree.
    async fn leaves(&self, target: u64) -> Result<Vec<Hash>, Fault> {
        const SQL: &str = "SELECT position, leaf FROM events WHERE position > $1 AND position <= $2 \
             ORDER BY position";
        let after = signed(self.tree.size());
        let to = signed(target).min(after + PAGE);
        let mut checkout = self.read.checkout().await?;
        let rows: Vec<(i64, Vec<u8>)> = on!(checkout.conn(), c => {
            sqlx::query_as(SQL).bind(after).bind(to).fetch_all(&mut *c).await?
        });
        let leaf = |(expected, (position, leaf)): (i64, (i64, Vec<u8>))| match leaf.try_into() {
            Ok(leaf) if position == expected => Ok(leaf),
            _ => Err(Fault::stored("event", format!("none at {expected}, or no leaf"))),
        };
        (after + 1..).zip(rows).map(leaf).collect()
    }

    /// Signs the tree and keeps what changed of it.
    async fn sign(&self, changed: Vec<Tile>, now: i64) -> Result<String, NotSealed> {
        let (size, root) = (self.tree.size(), self.tree.root());
        let signers = self.signers(size, now).await?;
        let checkpoint = Checkpoint { origin: self.origin.clone(), size, root };
        let all: Vec<&Signer> = signers.iter().map(|(_, signer)| signer).collect();
        let note = checkpoint.sign(&all);
        let mut tx = self.write.begin().await?;
        tiles::write(&mut tx.conn(), changed).await?;
        const SQL: &str =
            "INSERT INTO checkpoints (size, root, note, signed_at) VALUES ($1, $2, $3, $4)";
        on!(tx.conn(), c => {
            let query = sqlx::query(SQL).bind(signed(size)).bind(root.as_slice()).bind(&note);
            query.bind(now).execute(&mut *c).await.map_err(Fault::from)?.rows_affected()
        });
        if let [.., (newest, _)] = signers.as_slice()
            && signers.len() > 1
        {
            keys::retire_before(&mut tx.conn(), *newest).await?;
        }
        tx.commit().await?;
        Ok(note)
    }

    /// The keys that can sign a tree of a size: one, or at a rotation those before it too.
    async fn signers(&self, size: u64, now: i64) -> Result<Vec<(i64, Signer)>, NotSealed> {
        let known = keys::all(&mut self.read.checkout().await?.conn()).await?;
        let mut signers = Vec::new();
        for key in known.iter().filter(|key| key.from_size <= size) {
            if let Some(signer) = key.signer(&self.origin, &self.master)? {
                signers.push((key.number, signer));
            }
        }
        if !signers.is_empty() {
            return Ok(signers);
        }
        // The first key of this installation.
        keys::rotate(&self.write, &self.master, now).await?;
        Box::pin(self.signers(size, now)).await
    }
}

/// Whether what is sealed here goes on from what the witness saw, as far as it reaches.
async fn goes_on(
    conn: &mut Conn<'_>,
    seen: &Checkpoint,
    origin: &str,
    size: u64,
) -> Result<(), NotSealed> {
    let refused = |why| Err(NotSealed::Witness { seen: seen.size, why });
    if seen.origin != origin {
        return refused("it is of another ledger");
    }
    const SQL: &str = "SELECT position FROM head";
    let (head,): (i64,) = on!(conn.again(), c => {
        sqlx::query_as(SQL).fetch_one(&mut *c).await.map_err(Fault::from)?
    });
    if seen.size > unsigned(head) {
        return refused("it has fewer events");
    }
    if seen.size > size {
        return Ok(());
    }
    let root = match seen.size {
        0 => super::merkle::empty(),
        seen => tiles::over(conn, &[(0, seen)]).await?[0],
    };
    match root == seen.root {
        true => Ok(()),
        false => refused("its events are others"),
    }
}
