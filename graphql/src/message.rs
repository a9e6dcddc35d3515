//! A message, its deliveries, and its history.

use std::sync::Arc;

use async_graphql::{ComplexObject, Context, Enum, ID, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use domain::{Stream, message::MessageId, ums};
use projections::{
    Fault,
    db::from_name,
    message_status::{DeliveryRow, MessageRow},
};

use crate::{
    Hidden as _,
    device::Device,
    event::Event,
    loaders::{Account, DeliveriesOf, Numbered, StreamNamed, load},
    statistics::{Counts, tally::Tally},
    time,
    timeline::{TimelineEntry, timeline},
    user::User,
    words::{
        DeliveryEnding, DeliveryStage, ProtocolName, RecallKind, RecallOutcome, StrategyName,
        VendorName,
    },
};

/// One accepted push.
pub(crate) struct Message(pub(crate) MessageRow);

/// Who pushed.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
enum MessageSender {
    /// A terminal on which a user is logged in.
    User,
    /// A terminal without a user.
    Terminal,
    /// The app's own server.
    Cloud,
}

/// The events of a stream, in order.
pub(crate) async fn history(ctx: &Context<'_>, stream: Stream) -> Result<Vec<Event>> {
    let events = load(ctx, StreamNamed(stream.to_string())).await?.unwrap_or_default();
    events.iter().map(|event| Ok(Event::new(event)?)).collect()
}

/// One message to one device.
#[derive(SimpleObject)]
#[graphql(complex)]
pub(crate) struct Delivery {
    #[graphql(skip)]
    message: MessageId,
    /// Number of the device.
    device: i64,
    /// The furthest it got.
    stage: DeliveryStage,
    /// Why it stopped trying, if it did.
    ended: Option<DeliveryEnding>,
    /// The push vendor that took it, if one did.
    vendor: Option<VendorName>,
    /// Why no vendor was a way, if it went on over our own channel for that.
    failed: Option<DeliveryEnding>,
    /// What was done to take it back.
    recall: Option<RecallKind>,
    /// What became of that.
    recall_result: Option<RecallOutcome>,
    /// The UMS status number, 0 to 6.
    ums_status: i64,
    /// When it was handed over.
    sent_at: Option<DateTime<Utc>>,
    /// When the device said that it has it.
    received_at: Option<DateTime<Utc>>,
    /// When the device said that it showed it.
    displayed_at: Option<DateTime<Utc>>,
    /// When the device said that the user answered it.
    acknowledged_at: Option<DateTime<Utc>>,
    /// When it ended.
    ended_at: Option<DateTime<Utc>>,
}

#[ComplexObject]
impl Delivery {
    /// The device as it is now.
    async fn registration(&self, ctx: &Context<'_>) -> Result<Option<Device>> {
        Ok(load(ctx, Numbered(self.device)).await?.map(Device))
    }

    /// Its story, in order, with what each event means.
    #[graphql(complexity = "10 * child_complexity")]
    async fn timeline(&self, ctx: &Context<'_>) -> Result<Vec<TimelineEntry>> {
        story(ctx, self.message, self.device).await
    }
}

/// The story of a message on one device.
async fn story(ctx: &Context<'_>, message: MessageId, device: i64) -> Result<Vec<TimelineEntry>> {
    let stream = Stream::Message(message).to_string();
    let events = load(ctx, StreamNamed(stream)).await?.unwrap_or_default();
    Ok(timeline(&events, device))
}

#[Object]
impl Message {
    /// The id that the caller got.
    async fn id(&self) -> ID {
        self.0.message.to_string().into()
    }

    /// Position of the push in the ledger.
    async fn position(&self) -> i64 {
        self.0.position
    }

    /// Protocol that it came by.
    async fn protocol(&self) -> Result<ProtocolName> {
        named(&self.0.protocol).map(|protocol: domain::message::Protocol| protocol.into())
    }

    /// Who pushed.
    async fn sender(&self) -> MessageSender {
        match self.0.sender.as_str() {
            "user" => MessageSender::User,
            "terminal" => MessageSender::Terminal,
            _ => MessageSender::Cloud,
        }
    }

    /// The user who pushed, if one did.
    async fn user(&self, ctx: &Context<'_>) -> Result<Option<User>> {
        let account = self.0.account.as_deref().and_then(|account| account.parse().ok());
        let Some(account) = account else { return Ok(None) };
        Ok(load(ctx, Account(account)).await?.map(User))
    }

    /// When it was accepted.
    async fn accepted_at(&self) -> DateTime<Utc> {
        time(self.0.accepted_at)
    }

    /// When it stops being worth delivering.
    async fn expires_at(&self) -> DateTime<Utc> {
        time(self.0.expires_at)
    }

    /// Deliveries that it makes.
    async fn targets(&self) -> i64 {
        self.0.targets
    }

    /// Destinations that led to no registered device.
    async fn unresolved(&self) -> i64 {
        self.0.unresolved
    }

    /// How it travels.
    async fn strategy(&self) -> Result<StrategyName> {
        named(&self.0.strategy).map(|strategy: domain::route::Strategy| strategy.into())
    }

    /// The same as Easemob numbers it: 0 to 4.
    async fn strategy_number(&self) -> Result<i64> {
        named(&self.0.strategy).map(|strategy: domain::route::Strategy| strategy as i64)
    }

    /// Users that it was addressed to by name.
    async fn users(&self) -> i64 {
        self.0.users[0]
    }

    /// Those among them that have no device.
    async fn users_without_device(&self) -> i64 {
        self.0.users[1]
    }

    /// Its deliveries, in order of device number.
    #[graphql(complexity = "3 * child_complexity")]
    async fn deliveries(&self, ctx: &Context<'_>) -> Result<Vec<Delivery>> {
        Ok(self.rows(ctx).await?.iter().map(delivery).collect())
    }

    /// How far its deliveries got.
    async fn counts(&self, ctx: &Context<'_>) -> Result<Counts> {
        let rows = self.rows(ctx).await?;
        Ok(Counts(Tally::of_message(self.0.accepted_at, &rows)))
    }

    /// Its story on one device, in order, with what each event means.
    #[graphql(complexity = "10 * child_complexity")]
    async fn timeline(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Number of the device.")] device: i64,
    ) -> Result<Vec<TimelineEntry>> {
        story(ctx, self.0.message, device).await
    }

    /// Its history, in order.
    #[graphql(complexity = "20 * child_complexity")]
    async fn events(&self, ctx: &Context<'_>) -> Result<Vec<Event>> {
        history(ctx, Stream::Message(self.0.message)).await
    }
}

impl Message {
    async fn rows(&self, ctx: &Context<'_>) -> Result<Arc<Vec<DeliveryRow>>> {
        Ok(load(ctx, DeliveriesOf(self.0.message.0)).await?.unwrap_or_default())
    }
}

/// The value of a stored name.
pub(crate) fn named<T: serde::de::DeserializeOwned>(name: &str) -> Result<T> {
    let found: std::result::Result<T, Fault> = from_name(name.to_owned());
    found.hidden()
}

fn delivery(row: &DeliveryRow) -> Delivery {
    let times = row.times.map(|at| at.map(time));
    let [sent_at, received_at, displayed_at, acknowledged_at, ended_at] = times;
    Delivery {
        message: row.message,
        device: row.device,
        stage: row.delivery.stage.into(),
        ended: row.delivery.ended.map(Into::into),
        vendor: row.delivery.vendor.map(Into::into),
        failed: row.delivery.failed.map(Into::into),
        recall: row.delivery.recall.map(|(op, _)| op.into()),
        recall_result: row.delivery.recall.map(|(_, result)| result.into()),
        ums_status: ums::delivery_status(&row.delivery),
        sent_at,
        received_at,
        displayed_at,
        acknowledged_at,
        ended_at,
    }
}
