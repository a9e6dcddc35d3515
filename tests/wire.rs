//! Black box over the wire: every test starts its own server on its own database and talks to it
//! as a caller, a device or an operator would. Each file is a protocol or a promise.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod admin;
mod analysts;
mod antelope;
mod apps;
mod audit;
mod bad_input;
mod callbacks;
mod channels;
mod cli;
mod conformance;
mod contracts;
mod crash;
mod demo;
mod easemob;
mod full_disk;
mod harness;
mod health;
mod jwt;
mod ledger;
mod logs;
mod metrics;
mod nodes;
mod online;
mod secrets;
mod start;
mod tasks;
mod tencent;
mod thread;
mod tidy;
mod ums_v2;
mod vendors;
mod views;
