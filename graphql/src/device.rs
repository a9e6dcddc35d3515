//! A device of the device list.

use std::fmt::Display;

use async_graphql::{ComplexObject, Context, Enum, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use domain::device::{Channel, Status};

use crate::{
    Viewer,
    access::note,
    loaders::{Account, Online, load},
    time,
    user::User,
    words::ProtocolName,
};

/// One endpoint that can receive.
pub(crate) struct Device(pub(crate) domain::device::Device);

/// Where a registration stands.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "Status")]
pub(crate) enum DeviceStatus {
    /// Registered (UMS 1).
    Registered,
    /// Unregistered (UMS 2).
    Unregistered,
    /// Registered again while registered (UMS 3).
    Updated,
}

/// The third-party channel named at registration.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "Channel")]
enum ThirdPartyChannel {
    /// JPush (UMS `collab3th` 0).
    Jpush,
    /// Haier M2M (UMS `collab3th` 1).
    M2m,
    /// None: an Easemob device has the tokens that it was bound to.
    None,
}

/// What a device is.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
enum DeviceKind {
    /// A phone (UMS 01).
    Phone,
    /// A tablet (UMS 02).
    Tablet,
    /// A television (UMS 03).
    Television,
    /// A refrigerator with a screen (UMS 04).
    Refrigerator,
    /// A cooker hood with a screen (UMS 05).
    CookerHood,
    /// A SmartCenter (UMS 06).
    SmartCenter,
    /// A magic mirror (UMS 07).
    Mirror,
    /// A smart speaker (UMS 08).
    Speaker,
    /// Its protocol does not say.
    Unknown,
}

/// A way to a device over a push vendor.
#[derive(SimpleObject)]
#[graphql(complex)]
struct Binding {
    /// Name of the certificate that it was bound to; null: the app's own JPush.
    notifier: Option<String>,
    #[graphql(skip)]
    device: i64,
    #[graphql(skip)]
    token: String,
}

#[ComplexObject]
impl Binding {
    /// The vendor's token; null for viewers who may not see it.
    async fn token(&self, ctx: &Context<'_>) -> Result<Option<&str>> {
        private(ctx, ("device", self.device), Some(&self.token))
    }
}

/// A device as one app registered it.
#[Object]
impl Device {
    /// Position of its first event: unique, and an auditor can look it up.
    async fn number(&self) -> i64 {
        self.0.number
    }

    /// Name of its stream in the ledger.
    async fn stream(&self) -> String {
        domain::Stream::Device(self.0.stream).to_string()
    }

    /// The terminal's id; null for viewers who may not see it.
    async fn client_id(&self, ctx: &Context<'_>) -> Result<Option<&str>> {
        private(ctx, ("device", self.0.number), Some(&self.0.identity.client_id))
    }

    /// The hardware's id; null for viewers who may not see it.
    async fn device_id(&self, ctx: &Context<'_>) -> Result<Option<&str>> {
        private(ctx, ("device", self.0.number), self.0.identity.device_id.as_deref())
    }

    /// Nickname of the device; null for viewers who may not see it.
    async fn device_name(&self, ctx: &Context<'_>) -> Result<Option<&str>> {
        private(ctx, ("device", self.0.number), self.0.identity.device_name.as_deref())
    }

    /// Its user.
    async fn user(&self, ctx: &Context<'_>) -> Result<Option<User>> {
        let Some(account) = self.0.account else { return Ok(None) };
        Ok(load(ctx, Account(account)).await?.map(User))
    }

    /// Name of its user in its protocol; null for viewers who may not see it.
    async fn user_id(&self, ctx: &Context<'_>) -> Result<Option<String>> {
        let user = self.user(ctx).await?;
        let name = user.and_then(|user| user.0.ums_user.or(user.0.username));
        let of = ("device", self.0.number);
        Ok(private(ctx, of, name.as_deref())?.map(str::to_owned))
    }

    /// Package name, bundle id or service name.
    async fn app_package(&self) -> &str {
        &self.0.profile.app_package
    }

    /// What it is, as UMS numbers it: `01` to `08`.
    async fn device_type(&self) -> &str {
        &self.0.profile.device_type
    }

    /// What it is.
    async fn kind(&self) -> DeviceKind {
        match self.0.profile.device_type.as_str() {
            "01" => DeviceKind::Phone,
            "02" => DeviceKind::Tablet,
            "03" => DeviceKind::Television,
            "04" => DeviceKind::Refrigerator,
            "05" => DeviceKind::CookerHood,
            "06" => DeviceKind::SmartCenter,
            "07" => DeviceKind::Mirror,
            "08" => DeviceKind::Speaker,
            _ => DeviceKind::Unknown,
        }
    }

    /// The protocol of its address.
    async fn protocol(&self) -> ProtocolName {
        self.0.protocol.into()
    }

    /// The ways to it over push vendors, in order of name.
    async fn bindings(&self) -> Vec<Binding> {
        let bindings = self.0.bindings().into_iter();
        let bindings = bindings.map(|b| Binding {
            notifier: b.notifier,
            device: self.0.number,
            token: b.token,
        });
        bindings.collect()
    }

    /// The third-party channel named at registration.
    async fn channel(&self) -> ThirdPartyChannel {
        self.0.profile.channel.into()
    }

    /// The same as UMS numbers it (`collab3th`), with 2 for none.
    async fn channel_number(&self) -> i64 {
        self.0.profile.channel as i64
    }

    /// Where its registration stands.
    async fn status(&self) -> DeviceStatus {
        self.0.status.into()
    }

    /// The same as UMS numbers it: 1 to 3.
    async fn status_number(&self) -> i64 {
        self.0.status as i64
    }

    /// Whether it is connected now, to any node, as far as the answering node knows.
    async fn online(&self, ctx: &Context<'_>) -> Result<bool> {
        Ok(load(ctx, Online(self.0.number)).await?.is_some())
    }

    /// When it first registered.
    async fn registered_at(&self) -> DateTime<Utc> {
        time(self.0.registered_at)
    }
}

/// What belongs to a person, for those who may see it; noted as read of its subject, by kind and
/// number.
pub(crate) fn private<'a>(
    ctx: &Context<'_>,
    (kind, which): (&str, impl Display),
    value: Option<&'a str>,
) -> Result<Option<&'a str>> {
    let value = value.filter(|_| sees_private(ctx));
    if value.is_some() {
        note(ctx, kind, which);
    }
    Ok(value)
}

/// Whether the viewer may see what belongs to a person.
pub(crate) fn sees_private(ctx: &Context<'_>) -> bool {
    ctx.data::<Viewer>().is_ok_and(|viewer| viewer.private)
}
