//! What stands before every call over Easemob's interface: bearer tokens of apps and of users,
//! passwords of users, and how often an app may call. `http/easemob` and the device socket ask here.

pub mod limits;
pub mod passwords;
pub mod tokens;

use projections::db::Pool;

use crate::clock::Clock;
use limits::Limiter;
use passwords::Passwords;
use tokens::Tokens;

/// All of it.
pub struct Gate {
    /// Bearer tokens.
    pub tokens: Tokens,
    /// Passwords of users.
    pub passwords: Passwords,
    /// How often this node was called.
    pub limiter: Limiter,
}

impl Gate {
    /// The gate of a node on a database.
    #[must_use]
    pub fn new(read: &Pool, write: &Pool, clock: &Clock) -> Gate {
        Gate {
            tokens: Tokens::new(read.clone(), write.clone(), clock.clone()),
            passwords: Passwords::new(read.clone(), write.clone()),
            limiter: Limiter::default(),
        }
    }
}
