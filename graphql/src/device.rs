//! A device of the device list.

use async_graphql::{Context, Enum, Object, Result};
use chrono::{DateTime, Utc};
use domain::device::{Channel, Status};

use crate::{Viewer, time};

/// One endpoint that can receive.
pub(crate) struct Device {
    pub(crate) device: domain::device::Device,
    pub(crate) user_id: Option<String>,
    pub(crate) online: bool,
}

/// Where a registration stands.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
enum DeviceStatus {
    /// Registered (UMS 1).
    Registered,
    /// Unregistered (UMS 2).
    Unregistered,
    /// Registered again while registered (UMS 3).
    Updated,
}

/// The third-party channel named at registration.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
enum ThirdPartyChannel {
    /// JPush (UMS `collab3th` 0).
    Jpush,
    /// Haier M2M (UMS `collab3th` 1).
    M2m,
    /// None: an Easemob device has the tokens that it was bound to.
    None,
}

#[Object]
impl Device {
    /// Position of its first event: unique, and an auditor can look it up.
    async fn number(&self) -> i64 {
        self.device.number
    }

    /// Name of its stream in the ledger.
    async fn stream(&self) -> String {
        domain::Stream::Device(self.device.stream).to_string()
    }

    /// The terminal's id; null for viewers who may not see it.
    async fn client_id(&self, ctx: &Context<'_>) -> Result<Option<&str>> {
        private(ctx, Some(&self.device.identity.client_id))
    }

    /// The hardware's id; null for viewers who may not see it.
    async fn device_id(&self, ctx: &Context<'_>) -> Result<Option<&str>> {
        private(ctx, self.device.identity.device_id.as_deref())
    }

    /// Nickname of the device; null for viewers who may not see it.
    async fn device_name(&self, ctx: &Context<'_>) -> Result<Option<&str>> {
        private(ctx, self.device.identity.device_name.as_deref())
    }

    /// UMS `userId` of its user; null for viewers who may not see it.
    async fn user_id(&self, ctx: &Context<'_>) -> Result<Option<&str>> {
        private(ctx, self.user_id.as_deref())
    }

    /// Package name, bundle id or service name.
    async fn app_package(&self) -> &str {
        &self.device.profile.app_package
    }

    /// `01` to `08`.
    async fn device_type(&self) -> &str {
        &self.device.profile.device_type
    }

    /// The third-party channel named at registration.
    async fn channel(&self) -> ThirdPartyChannel {
        match self.device.profile.channel {
            Channel::Jpush => ThirdPartyChannel::Jpush,
            Channel::M2m => ThirdPartyChannel::M2m,
            Channel::None => ThirdPartyChannel::None,
        }
    }

    /// Where its registration stands.
    async fn status(&self) -> DeviceStatus {
        match self.device.status {
            Status::Registered => DeviceStatus::Registered,
            Status::Unregistered => DeviceStatus::Unregistered,
            Status::Updated => DeviceStatus::Updated,
        }
    }

    /// Whether it is connected now, to any node, as far as the answering node knows.
    async fn online(&self) -> bool {
        self.online
    }

    /// When it first registered.
    async fn registered_at(&self) -> DateTime<Utc> {
        time(self.device.registered_at)
    }
}

fn private<'a>(ctx: &Context<'_>, value: Option<&'a str>) -> Result<Option<&'a str>> {
    Ok(value.filter(|_| ctx.data::<Viewer>().is_ok_and(|viewer| viewer.private)))
}
