//! A message, its deliveries, and its history.

use std::sync::Arc;

use async_graphql::{ComplexObject, Context, Enum, ID, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use domain::{Stream, message::MessageId, ums};
use projections::{
    Fault,
    db::from_name,
    message_status::{self, DeliveryRow, MessageRow},
};

use crate::{
    Hidden as _, Sources,
    device::Device,
    event::Event,
    loaders::{Account, DeliveriesOf, Numbered, StreamNamed, load},
    moment,
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
pub(crate) struct Message {
    row: MessageRow,
    as_of: Option<AsOf>,
}

/// A message as it was.
struct AsOf {
    position: i64,
    deliveries: Arc<Vec<DeliveryRow>>,
}

impl Message {
    /// A message as it is now.
    pub(crate) fn now(row: MessageRow) -> Message {
        Message { row, as_of: None }
    }

    /// A message of an app as it was at a position; nothing if it was not accepted yet.
    pub(crate) async fn at(
        sources: &Sources,
        app: &str,
        id: MessageId,
        position: i64,
    ) -> Result<Option<Message>> {
        let stream = Stream::Message(id).to_string();
        let events = moment::stream(sources, &stream, position).await?;
        let found = message_status::after(&events).hidden()?;
        let own = found.filter(|(row, _)| row.app == app);
        Ok(own.map(|(row, deliveries)| {
            let deliveries = Arc::new(deliveries);
            Message { row, as_of: Some(AsOf { position, deliveries }) }
        }))
    }

    /// How far its deliveries got as of its position.
    pub(crate) fn tally(&self) -> Option<Tally> {
        let as_of = self.as_of.as_ref()?;
        Some(Tally::of_message(self.row.accepted_at, &as_of.deliveries))
    }

    /// Position up to which it is told.
    fn until(&self) -> i64 {
        self.as_of.as_ref().map_or(i64::MAX, |as_of| as_of.position)
    }
}

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

/// The events of a stream up to a position, in order.
pub(crate) async fn history(ctx: &Context<'_>, stream: Stream, until: i64) -> Result<Vec<Event>> {
    let events = load(ctx, StreamNamed(stream.to_string())).await?.unwrap_or_default();
    let events = events.iter().take_while(|event| event.position <= until);
    events.map(|event| Ok(Event::new(event)?)).collect()
}

/// One message to one device.
#[derive(SimpleObject)]
#[graphql(complex)]
pub(crate) struct Delivery {
    #[graphql(skip)]
    message: MessageId,
    #[graphql(skip)]
    until: i64,
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
        story(ctx, self.message, self.device, self.until).await
    }
}

/// The story of a message on one device, up to a position.
async fn story(
    ctx: &Context<'_>,
    message: MessageId,
    device: i64,
    until: i64,
) -> Result<Vec<TimelineEntry>> {
    let stream = Stream::Message(message).to_string();
    let events = load(ctx, StreamNamed(stream)).await?.unwrap_or_default();
    let known = events.partition_point(|event| event.position <= until);
    Ok(timeline(&events[..known], device))
}

/// A push to devices that it names, with its deliveries.
#[Object]
impl Message {
    /// The id that the caller got.
    async fn id(&self) -> ID {
        self.row.message.to_string().into()
    }

    /// Ledger position as of which it is told; null: now.
    async fn as_of(&self) -> Option<i64> {
        self.as_of.as_ref().map(|as_of| as_of.position)
    }

    /// Position of the push in the ledger.
    async fn position(&self) -> i64 {
        self.row.position
    }

    /// Protocol that it came by.
    async fn protocol(&self) -> Result<ProtocolName> {
        named(&self.row.protocol).map(|protocol: domain::message::Protocol| protocol.into())
    }

    /// Who pushed.
    async fn sender(&self) -> MessageSender {
        match self.row.sender.as_str() {
            "user" => MessageSender::User,
            "terminal" => MessageSender::Terminal,
            _ => MessageSender::Cloud,
        }
    }

    /// The user who pushed, if one did.
    async fn user(&self, ctx: &Context<'_>) -> Result<Option<User>> {
        let account = self.row.account.as_deref().and_then(|account| account.parse().ok());
        let Some(account) = account else { return Ok(None) };
        Ok(load(ctx, Account(account)).await?.map(User))
    }

    /// When it was accepted.
    async fn accepted_at(&self) -> DateTime<Utc> {
        time(self.row.accepted_at)
    }

    /// When it stops being worth delivering.
    async fn expires_at(&self) -> DateTime<Utc> {
        time(self.row.expires_at)
    }

    /// Deliveries that it makes.
    async fn targets(&self) -> i64 {
        self.row.targets
    }

    /// Destinations that led to no registered device.
    async fn unresolved(&self) -> i64 {
        self.row.unresolved
    }

    /// How it travels.
    async fn strategy(&self) -> Result<StrategyName> {
        named(&self.row.strategy).map(|strategy: domain::route::Strategy| strategy.into())
    }

    /// The same as Easemob numbers it: 0 to 4.
    async fn strategy_number(&self) -> Result<i64> {
        named(&self.row.strategy).map(|strategy: domain::route::Strategy| strategy as i64)
    }

    /// Users that it was addressed to by name.
    async fn users(&self) -> i64 {
        self.row.users[0]
    }

    /// Those among them that have no device.
    async fn users_without_device(&self) -> i64 {
        self.row.users[1]
    }

    /// Its deliveries, in order of device number.
    #[graphql(complexity = "3 * child_complexity")]
    async fn deliveries(&self, ctx: &Context<'_>) -> Result<Vec<Delivery>> {
        let until = self.until();
        Ok(self.rows(ctx).await?.iter().map(|row| delivery(row, until)).collect())
    }

    /// How far its deliveries got.
    async fn counts(&self, ctx: &Context<'_>) -> Result<Counts> {
        let rows = self.rows(ctx).await?;
        Ok(Counts(Tally::of_message(self.row.accepted_at, &rows)))
    }

    /// Its story on one device, in order, with what each event means.
    #[graphql(complexity = "10 * child_complexity")]
    async fn timeline(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Number of the device.")] device: i64,
    ) -> Result<Vec<TimelineEntry>> {
        story(ctx, self.row.message, device, self.until()).await
    }

    /// Its history, in order.
    #[graphql(complexity = "20 * child_complexity")]
    async fn events(&self, ctx: &Context<'_>) -> Result<Vec<Event>> {
        history(ctx, Stream::Message(self.row.message), self.until()).await
    }
}

impl Message {
    async fn rows(&self, ctx: &Context<'_>) -> Result<Arc<Vec<DeliveryRow>>> {
        if let Some(as_of) = &self.as_of {
            return Ok(Arc::clone(&as_of.deliveries));
        }
        Ok(load(ctx, DeliveriesOf(self.row.message.0)).await?.unwrap_or_default())
    }
}

/// The value of a stored name.
pub(crate) fn named<T: serde::de::DeserializeOwned>(name: &str) -> Result<T> {
    let found: std::result::Result<T, Fault> = from_name(name.to_owned());
    found.hidden()
}

fn delivery(row: &DeliveryRow, until: i64) -> Delivery {
    let times = row.times.map(|at| at.map(time));
    let [sent_at, received_at, displayed_at, acknowledged_at, ended_at] = times;
    Delivery {
        message: row.message,
        until,
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
