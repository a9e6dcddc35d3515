//! Messages from devices and phones to the app.

use async_graphql::{ComplexObject, Context, Enum, Json, Result, SimpleObject};
use chrono::{DateTime, Utc};
use domain::{Event, uplink::UplinkPrivate};
use projections::uplinks::UplinkRow;
use serde_json::value::RawValue;

use crate::{
    access::note,
    device::{Device, sees_private},
    event::readable,
    loaders::{At, Numbered, load},
    time,
};

/// How an uplink came.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
enum UplinkSource {
    /// Over an SMS gateway, from a phone.
    Sms,
    /// Over the socket, from a device.
    Device,
}

/// A message from a device or a phone to the app.
#[derive(SimpleObject)]
#[graphql(complex)]
pub(crate) struct Uplink {
    /// Position of its event in the ledger.
    position: i64,
    /// How it came.
    source: UplinkSource,
    /// Number of the device that wrote it; null of a phone.
    device: Option<i64>,
    /// When it came in.
    received_at: DateTime<Utc>,
    /// When it was written, as its sender says.
    written_at: DateTime<Utc>,
}

impl From<UplinkRow> for Uplink {
    fn from(row: UplinkRow) -> Uplink {
        Uplink {
            position: row.position,
            source: if row.device.is_some() { UplinkSource::Device } else { UplinkSource::Sms },
            device: row.device,
            received_at: time(row.received_at),
            written_at: time(row.written_at.saturating_mul(1_000_000)),
        }
    }
}

impl Uplink {
    /// What is private of it, for those who may see it.
    async fn private(&self, ctx: &Context<'_>) -> Result<Option<UplinkPrivate>> {
        if !sees_private(ctx) {
            return Ok(None);
        }
        let event = load(ctx, At(self.position)).await?;
        let private = event.and_then(|recorded| match &recorded.event {
            Event::UplinkReceived(e) => e.private.clone(),
            _ => None,
        });
        Ok(private.inspect(|_| note(ctx, "uplink", self.position)))
    }
}

#[ComplexObject]
impl Uplink {
    /// The device that wrote it.
    async fn registration(&self, ctx: &Context<'_>) -> Result<Option<Device>> {
        let Some(number) = self.device else { return Ok(None) };
        Ok(load(ctx, Numbered(number)).await?.map(Device))
    }

    /// The phone or the device's address; null for viewers who may not see it.
    async fn from(&self, ctx: &Context<'_>) -> Result<Option<String>> {
        Ok(self.private(ctx).await?.map(|private| private.from))
    }

    /// What was written; null for viewers who may not see it.
    async fn content(&self, ctx: &Context<'_>) -> Result<Option<Json<Box<RawValue>>>> {
        let private = self.private(ctx).await?;
        Ok(private.map(|private| readable(private.content.0.get().to_owned())).transpose()?)
    }

    /// The extension that it was sent to; null for viewers who may not see it.
    async fn extend_code(&self, ctx: &Context<'_>) -> Result<Option<String>> {
        Ok(self.private(ctx).await?.and_then(|private| private.extend_code))
    }
}
