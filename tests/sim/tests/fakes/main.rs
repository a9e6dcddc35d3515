//! The fake push vendors: what each refuses and how, what it writes down, how it fails on demand,
//! and that it takes what the vendors' own clients send.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod apns;
mod caller;
mod control;
mod faults;
mod fcm;
mod huawei;
mod jpush;
mod load;
mod recordings;
#[cfg(feature = "tls")]
mod tls;
