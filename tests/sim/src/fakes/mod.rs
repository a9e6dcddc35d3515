//! Fake push vendors, strict and faulty: JPush v3, FCM HTTP v1, APNs and Huawei Push Kit. Tests,
//! load runs and the demo start them instead of the real ones.
//!
//! Each refuses what its vendor refuses, in the vendor's own words; writes down what it got;
//! and does wrong on demand: by script ([`Fake::plan`]), by share ([`Fake::plan_share`]), by token
//! ([`TokenRule`]) or altogether ([`Outage`]). Tokens that begin with `dead` are dead.
//!
//! ```no_run
//! # async fn demo() -> std::io::Result<()> {
//! use sim::fakes::{Fault, Jpush, JpushFake, Options};
//! let jpush = JpushFake::start(Jpush::default(), Options::default()).await?;
//! println!("{} {}", jpush.url(), jpush.credentials().app_key);
//! jpush.plan([Fault::Reset]);
//! // A push to "180a0f76070" is accepted now, but its sender sees a broken connection.
//! jpush.until(|stats| stats.requests == 1).await;
//! assert_eq!(jpush.accepted("180a0f76070"), 1);
//! # Ok(())
//! # }
//! ```

mod apns;
mod books;
mod clock;
mod control;
mod exchange;
mod fake;
mod fault;
mod fcm;
mod huawei;
mod issued;
mod jpush;
mod receipt;
mod server;
mod shape;
#[cfg(feature = "tls")]
mod tls;

pub use apns::{Apns, ApnsCredentials};
pub use books::{Books, Recorded, Stats};
pub use clock::VendorClock;
pub use exchange::{Call, Connection, Purpose, Reply, Taken, Vendor};
pub use fake::{Fake, Fakes, Mode, Options};
pub use fault::{Fault, TokenFault, TokenRule, token_hash};
pub use fcm::{Fcm, FcmCredentials};
pub use huawei::{Huawei, HuaweiCredentials};
pub use jpush::{Jpush, JpushCredentials};
pub use receipt::{HuaweiReceipt, ReceiptKey};
pub use server::Outage;

/// A running JPush.
pub type JpushFake = Fake<Jpush>;
/// A running FCM with its token endpoint.
pub type FcmFake = Fake<Fcm>;
/// A running APNs.
pub type ApnsFake = Fake<Apns>;
/// A running Huawei Push Kit with its token endpoint.
pub type HuaweiFake = Fake<Huawei>;
