//! What is sent of one message, or task, over each vendor: rendered once for all calls of the same
//! second, as only the time that is left differs, and not for each call.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use domain::{message::MessageId, notification::Notification, vendor::Unfit};

use super::lane::{Said, VendorLane};
use crate::delivery::channel::{Options, Template, template};

/// A message as vendors are sent it.
pub(super) struct Wording {
    message: MessageId,
    expires_at: i64,
    notification: Notification,
    /// By the lane's name: the seconds that were left, and what came of it.
    rendered: Mutex<HashMap<String, (u32, Rendered)>>,
}

type Rendered = Result<Arc<Template>, Unfit>;

impl Wording {
    /// `expires_at` is in µs.
    pub(super) fn new(message: MessageId, expires_at: i64, notification: Notification) -> Wording {
        Wording { message, expires_at, notification, rendered: Mutex::default() }
    }

    /// The template for a lane at a time, in µs; or why the vendor is not asked at all.
    pub(super) fn of(&self, lane: &VendorLane, now: i64) -> Result<Arc<Template>, Said> {
        let left = self.expires_at - now;
        let seconds = u32::try_from(left / 1_000_000).ok().filter(|_| left > 0);
        let ttl_seconds = seconds.ok_or_else(Said::expired)?;
        // Nothing that holds the lock can panic half-way, so a poisoned one is still whole.
        let mut rendered = self.rendered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, found)) = rendered.get(&lane.config.name)
            && *at == ttl_seconds
        {
            return found.clone().map_err(Said::unfit);
        }
        let options = Options { message: self.message, ttl_seconds, now };
        let made = template(lane.channel().config(), &self.notification, &options).map(Arc::new);
        rendered.insert(lane.config.name.clone(), (ttl_seconds, made.clone()));
        made.map_err(Said::unfit)
    }
}
