//! What makes deliveries go on without anybody asking: [`machine`] chooses their ways and hands to
//! push vendors what goes there, [`channel`] is how those are spoken to. [`recorder`] notes what
//! came of it, and what connections say. [`expiry`] ends what is out of time, [`endings`] ends what
//! a device may no longer get. Machine, expiry and endings run on one node at a time.

pub mod channel;
pub mod endings;
pub mod expiry;
mod machine;
pub mod recorder;

pub use machine::run;
