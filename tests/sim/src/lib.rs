//! The outside of the server, simulated: callers that sign requests, an operator with the admin
//! API, devices on the socket, push vendors ([`fakes`]), and app servers that are called back
//! ([`receiver`]). Tests, load runs and the demo use it;
//! it knows the server only by its wire formats, so it shares no code with it.
//!
//! ```no_run
//! # async fn demo() -> Result<(), sim::Error> {
//! let base = "http://127.0.0.1:8600";
//! let caller = sim::Caller::new(base, "MB-DEMO-0001", "key").with_client_id("c-1");
//! let options = sim::DeviceOptions::new(&caller, "com.acme.app");
//! let mut device = sim::Device::connect(options).await?;
//! let push = r#"{"dst":{"type":0,"Id":["c-1"]},"message":{"msgName":"bell"}}"#;
//! let cloud = sim::Caller::new(base, "SV-DEMO-0001", "key of the cloud");
//! let reply = cloud.call("/umse/v2/msgPush", push).await?;
//! assert_eq!(reply.ret_code, "00000");
//! assert!(matches!(device.next().await, Some(sim::Incoming::Message { .. })));
//! # Ok(())
//! # }
//! ```

mod admin;
mod device;
mod error;
pub mod fakes;
mod frame;
mod http;
mod memory;
pub mod receiver;
pub mod ums;

pub use admin::{Admin, Answer};
pub use device::{Device, DeviceOptions};
pub use error::Error;
pub use frame::Incoming;
pub use ums::{Caller, Reply};
