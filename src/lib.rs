//! The shell: everything that touches the world. See ARCHITECTURE.md for the map.

pub mod access;
pub mod antelope;
pub mod app;
pub mod apps;
pub mod audit;
pub mod callback;
pub mod cli;
pub mod clock;
pub mod config;
pub mod delivery;
mod demo;
pub mod directory;
pub mod easemob;
pub mod feed;
pub mod http;
pub mod ids;
pub mod jwt;
pub mod ledger;
pub mod metrics;
pub mod node;
pub mod outbound;
pub mod query;
pub mod secrets;
pub mod socket;
pub mod tencent;
pub mod tokens;

/// Commands, events and rows are born on one thread and die on another; this allocator minds less.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
