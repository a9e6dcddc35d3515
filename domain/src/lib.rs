//! The pure core: what may happen, and what it means that it happened.
//!
//! A command is a value with a `decide` that turns [`facts`](facts::Facts) into events or a
//! [`Rejection`]. Nothing here reads a clock, rolls a die, waits or does I/O: times, ids and
//! fingerprints come in as arguments. What a decision needs to know it asks for by
//! [`Key`](facts::Key); the shell loads the answer and asks again.

pub mod account;
pub mod app;
pub mod callback;
pub mod chat;
pub mod cid;
pub mod device;
pub mod erasure;
pub mod event;
pub mod facts;
pub mod label;
pub mod message;
pub mod notification;
pub mod object;
pub mod owner;
pub mod presence;
pub mod push;
mod recorded;
mod rejection;
pub mod resend;
pub mod route;
pub mod stream;
pub mod task;
pub mod terminal;
pub mod ums;
pub mod upcast;
pub mod uplink;
pub mod vendor;

pub use event::Event;
pub use recorded::{IdempotencyRef, Metadata, Recorded};
pub use rejection::Rejection;
pub use stream::Stream;

use facts::{Facts, Stop};

/// Bytes of the events of a command that says nothing else.
pub const USUAL_BYTES: usize = 1_000;

/// An event that a decision wants appended, and where in its stream it belongs.
#[derive(Debug, Clone, PartialEq)]
pub struct Append {
    /// The stream that gets it.
    pub stream: Stream,
    /// Its place in that stream, from 1.
    pub version: i64,
    /// What happened.
    pub event: Event,
}

/// A command: pure, synchronous, and decided again whenever its facts have moved.
pub trait Decide {
    /// The events that this command causes, in order; none when there is nothing to do.
    ///
    /// # Errors
    /// [`Stop::Need`] names facts that are not loaded yet; [`Stop::Rejected`] is the business
    /// saying no.
    fn decide(&self, facts: &Facts) -> Result<Vec<Append>, Stop>;

    /// About how many bytes its events take, so that no commit grows without bound.
    fn bytes(&self) -> usize {
        USUAL_BYTES
    }

    /// Whether its events may change facts that none of their keys name, so that it is committed
    /// in a group of its own and every cached fact is read again after it.
    fn alone(&self) -> bool {
        false
    }
}
