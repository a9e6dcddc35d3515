//! What makes deliveries go on without anybody asking: [`machine`] chooses their ways and hands to
//! push vendors what goes there, [`channel`] is how those are spoken to, [`calls`] makes a call that
//! is made again known as the same. [`recorder`] notes what came of it, and what connections say.
//! [`expiry`] ends what is out of time, [`closing`] the same by the thousand, [`endings`] what a
//! device may no longer get. These four run on one node at a time. [`tasks`] is what callers do with
//! pushes to large audiences, which the machine delivers too, and [`reach`] how large these are.
//! [`receipts`] is what vendors tell later.

pub mod calls;
pub mod channel;
pub mod closing;
pub mod endings;
pub mod expiry;
pub(crate) mod machine;
pub mod reach;
pub mod receipts;
pub mod recorder;
pub mod tasks;

pub use machine::run;
