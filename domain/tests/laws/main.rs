//! Tests of the pure core, without a database or a clock: what each command does given a history,
//! laws that hold over any history, and the stored text of every event.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

// What the tests are written with.
mod cast;
mod ledger;
mod route;
mod scenario;

// Given a history, when a command comes, then these events or that refusal.
mod account;
mod antelope;
mod app;
mod audience;
mod binding;
mod chat;
mod device;
mod label;
mod link;
mod message;
mod owner;
mod push;
mod recall;
mod report;
mod task;

// Laws over generated histories.
mod answers;
mod audiences;
mod chunks;
mod histories;
mod properties;
mod registry;
mod wishes;

// What is fixed by a protocol or stored for ever.
mod any_event;
mod callback;
mod elements;
mod golden;
mod golden_callbacks;
mod golden_manifest;
mod golden_tasks;
mod golden_tencent;
mod names;
mod notification;
mod ums;
mod upcast;
mod vendor;
