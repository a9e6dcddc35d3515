//! What makes deliveries go on without anybody asking: [`recorder`] notes what connections say,
//! [`expiry`] ends what is out of time, [`endings`] ends what a device may no longer get. The last
//! two run on one node at a time. [`channel`] is how push vendors are spoken to.

pub mod channel;
pub mod endings;
pub mod expiry;
pub mod recorder;
