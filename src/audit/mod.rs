//! Proof that the ledger was not altered. A [`sealer`], off the write path, grows a [`merkle`] tree
//! over the leaves of all events and signs its root in [`note`]s; a [`witness`] outside keeps what
//! was signed. From the [`tiles`] of the tree anyone is given short proofs that an event is in it,
//! and that a later tree goes on from an earlier one. `docs/audit.md` says what that proves.

pub mod archive;
pub mod eraser;
mod history;
mod judge;
pub mod keys;
pub mod merkle;
pub mod note;
mod reading;
pub mod sealer;
mod tiles;
pub mod verify;
pub mod witness;

use projections::{
    Fault,
    db::{Conn, Pool},
    on,
};

use merkle::Hash;
use tiles::{signed, unsigned};

/// A signed checkpoint, as it is kept.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// Events under it.
    pub size: u64,
    /// Root over them.
    pub root: Hash,
    /// The signed note.
    pub note: String,
}

/// The checkpoints that were signed.
pub struct Checkpoints;

type Row = (i64, Vec<u8>, String);

impl Checkpoints {
    /// The last one.
    ///
    /// # Errors
    /// [`Fault`] when the database fails.
    pub async fn last(conn: &mut Conn<'_>) -> Result<Option<Sealed>, Fault> {
        const SQL: &str = "SELECT size, root, note FROM checkpoints ORDER BY size DESC LIMIT 1";
        let found: Option<Row> =
            on!(conn.again(), c => sqlx::query_as(SQL).fetch_optional(&mut *c).await?);
        found.map(sealed).transpose()
    }

    /// Those of more events than `after`, in order, at most `limit`.
    ///
    /// # Errors
    /// [`Fault`] when the database fails.
    pub async fn after(conn: &mut Conn<'_>, after: u64, limit: i64) -> Result<Vec<Sealed>, Fault> {
        const SQL: &str =
            "SELECT size, root, note FROM checkpoints WHERE size > $1 ORDER BY size LIMIT $2";
        let found: Vec<Row> = on!(conn.again(), c => {
            sqlx::query_as(SQL).bind(signed(after)).bind(limit).fetch_all(&mut *c).await?
        });
        found.into_iter().map(sealed).collect()
    }
}

fn sealed((size, root, note): Row) -> Result<Sealed, Fault> {
    let root = root.try_into().map_err(|_| Fault::stored("root", "not 32 bytes"))?;
    Ok(Sealed { size: unsigned(size), root, note })
}

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum NoProof {
    /// Nothing is sealed yet.
    #[error("nothing was sealed yet")]
    NothingSealed,
    /// It is asked for what is not sealed, or cannot be.
    #[error("{0}; {1} events are sealed")]
    OutOfRange(&'static str, u64),
    /// The database failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Hashes that prove something of the tree of a size.
#[derive(Debug, Clone)]
pub struct Proof {
    /// Events of the tree.
    pub size: u64,
    /// The leaf that it is about; none for a proof of consistency.
    pub leaf: Option<Hash>,
    /// The hashes, in the order of RFC 6962.
    pub hashes: Vec<Hash>,
}

/// The audited ledger, for whoever may read.
#[derive(Debug, Clone)]
pub struct Audit {
    read: Pool,
}

impl Audit {
    /// The audit of the ledger in a database.
    #[must_use]
    pub fn new(read: &Pool) -> Audit {
        Audit { read: read.clone() }
    }

    /// The last checkpoint.
    ///
    /// # Errors
    /// [`NoProof::NothingSealed`], or a fault.
    pub async fn checkpoint(&self) -> Result<Sealed, NoProof> {
        let mut checkout = self.read.checkout().await?;
        Checkpoints::last(&mut checkout.conn()).await?.ok_or(NoProof::NothingSealed)
    }

    /// The keys that signed or sign, each with the text that checks it.
    ///
    /// # Errors
    /// [`NoProof::Fault`].
    pub async fn keys(&self) -> Result<Vec<(keys::Key, String)>, NoProof> {
        let mut checkout = self.read.checkout().await?;
        let Some(origin) = keys::origin(&mut checkout.conn()).await? else { return Ok(Vec::new()) };
        let keys = keys::all(&mut checkout.conn()).await?.into_iter();
        Ok(keys.map(|key| (key.clone(), key.verifier(&origin).to_string())).collect())
    }

    /// Proof that the event at a position is in the tree of a size, by default the last one sealed.
    ///
    /// # Errors
    /// [`NoProof`] says why there is none.
    pub async fn inclusion(&self, position: i64, size: Option<i64>) -> Result<Proof, NoProof> {
        let sealed = self.checkpoint().await?.size;
        let size = size.map_or(sealed, unsigned);
        if size == 0 || size > sealed {
            return Err(NoProof::OutOfRange("the size is not sealed", sealed));
        }
        let index = match u64::try_from(position) {
            Ok(position @ 1..) if position <= size => position - 1,
            _ => return Err(NoProof::OutOfRange("the position is not in that tree", sealed)),
        };
        let runs = [vec![(index, index + 1)], merkle::inclusion(index, size)].concat();
        let mut checkout = self.read.checkout().await?;
        let mut hashes = tiles::over(&mut checkout.conn(), &runs).await?;
        let leaf = hashes.remove(0);
        Ok(Proof { size, leaf: Some(leaf), hashes })
    }

    /// Proof that the tree of `to` events, by default the last one sealed, goes on from that of
    /// `from` events.
    ///
    /// # Errors
    /// [`NoProof`] says why there is none.
    pub async fn consistency(&self, from: i64, to: Option<i64>) -> Result<Proof, NoProof> {
        let sealed = self.checkpoint().await?.size;
        let (from, to) = (unsigned(from), to.map_or(sealed, unsigned));
        if from == 0 || from > to || to > sealed {
            return Err(NoProof::OutOfRange("from must be 1 to the other size", sealed));
        }
        let mut checkout = self.read.checkout().await?;
        let hashes = tiles::over(&mut checkout.conn(), &merkle::consistency(from, to)).await?;
        Ok(Proof { size: to, leaf: None, hashes })
    }
}
