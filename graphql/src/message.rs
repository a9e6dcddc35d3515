//! A message, its deliveries, and its history.

use std::collections::HashMap;

use async_graphql::{Context, Enum, ID, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use domain::{
    Stream,
    message::{Ending, RecallOp, RecallResult, Stage},
    ums,
};
use projections::message_status::{DeliveryRow, MessageRow};

use crate::{Hidden as _, Sources, Viewer, event::Event, time};

/// Events of one message that are shown at most.
const MAX_EVENTS: i64 = 1_000;

/// One accepted push.
pub(crate) struct Message {
    row: MessageRow,
    deliveries: Vec<DeliveryRow>,
}

impl Message {
    /// Messages with their deliveries, in the order of the messages.
    pub(crate) fn all(rows: Vec<MessageRow>, deliveries: Vec<DeliveryRow>) -> Vec<Message> {
        let mut by_message: HashMap<i64, Vec<DeliveryRow>> = HashMap::new();
        for delivery in deliveries {
            by_message.entry(delivery.message.0).or_default().push(delivery);
        }
        let with = |row: MessageRow| Message {
            deliveries: by_message.remove(&row.message.0).unwrap_or_default(),
            row,
        };
        rows.into_iter().map(with).collect()
    }
}

/// The furthest that a delivery got.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "Stage")]
enum DeliveryStage {
    /// It is durable.
    Accepted,
    /// A way was chosen.
    Routed,
    /// It was handed over.
    Sent,
    /// The device has it.
    Received,
    /// The device showed it.
    Displayed,
    /// The user answered it.
    Acknowledged,
}

/// Why a delivery stopped trying.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "Ending")]
enum DeliveryEnding {
    /// It expired while the device was not connected.
    ExpiredOffline,
    /// It expired after it was sent, and the device never said that it has it.
    ExpiredUnacknowledged,
    /// The device now belongs to another user than the one addressed.
    OwnerChanged,
    /// The device unregistered.
    Unregistered,
    /// It was recalled or replaced before it was sent.
    Recalled,
    /// The device has no token of a vendor that the app is configured for.
    NoBinding,
    /// The device was not connected, and the sender wanted it now or never.
    NotPresent,
    /// The vendor says that the device's token is dead.
    DeadToken,
    /// The user, the device or the vendor does not want it shown now.
    Muted,
    /// It does not fit what the vendor takes, in size or form.
    Unfit,
    /// The vendor's quota is used up.
    QuotaExhausted,
    /// The vendor does not accept the app's credentials or settings.
    Misconfigured,
    /// The vendor could not be reached, or failed, as long as it was tried.
    VendorUnavailable,
    /// It expired before the vendor took it.
    ExpiredUnsent,
    /// It was sent as often as its sender wanted, and the device never said that it has it.
    Unacknowledged,
}

/// What is done to a message that was sent.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "RecallOp")]
enum RecallKind {
    /// It is taken back (UMS 5).
    Recall,
    /// It is replaced by an empty one (UMS 6).
    Replace,
}

/// What became of a recall on one device.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "RecallResult")]
enum RecallOutcome {
    /// The device was told; it has not answered.
    Requested,
    /// The device never got the message.
    StoppedBeforeSending,
    /// The device took it away before it was displayed.
    ReplacedUnseen,
    /// It was displayed before.
    TooLate,
    /// The message expired before the device answered.
    Unknown,
}

/// One message to one device.
#[derive(SimpleObject)]
struct Delivery {
    /// Number of the device.
    device: i64,
    /// The furthest it got.
    stage: DeliveryStage,
    /// Why it stopped trying, if it did.
    ended: Option<DeliveryEnding>,
    /// Stable name of the push vendor that took it, if one did.
    vendor: Option<String>,
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

#[Object]
impl Message {
    /// The id that the caller got.
    async fn id(&self) -> ID {
        self.row.message.to_string().into()
    }

    /// Position of the push in the ledger.
    async fn position(&self) -> i64 {
        self.row.position
    }

    /// Protocol that it came by.
    async fn protocol(&self) -> &str {
        &self.row.protocol
    }

    /// `user`, `terminal` or `cloud`.
    async fn sender(&self) -> &str {
        &self.row.sender
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
    async fn strategy(&self) -> &str {
        &self.row.strategy
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
    async fn deliveries(&self) -> Vec<Delivery> {
        self.deliveries.iter().map(delivery).collect()
    }

    /// Its history, in order.
    #[graphql(complexity = "20 * child_complexity")]
    async fn events(&self, ctx: &Context<'_>) -> Result<Vec<Event>> {
        let (sources, viewer) = (ctx.data::<Sources>()?, ctx.data::<Viewer>()?);
        let stream = Stream::Message(self.row.message).to_string();
        let events = sources.history.stream(&stream, 0, MAX_EVENTS).await.hidden()?;
        events.into_iter().map(|event| Ok(Event::new(event, viewer)?)).collect()
    }
}

fn delivery(row: &DeliveryRow) -> Delivery {
    let times = row.times.map(|at| at.map(time));
    let [sent_at, received_at, displayed_at, acknowledged_at, ended_at] = times;
    Delivery {
        device: row.device,
        stage: row.delivery.stage.into(),
        ended: row.delivery.ended.map(Into::into),
        vendor: row.delivery.vendor.map(|vendor| vendor.name().to_owned()),
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
