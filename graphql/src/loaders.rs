//! What many fields of one answer ask for is read together: a page of a hundred items costs as many
//! statements as a page of one.

use std::{collections::HashMap, sync::Arc};

use async_graphql::{Context, Result, dataloader::DataLoader, dataloader::Loader};
use domain::{Recorded, device::Device, label::Label};
use projections::{
    Fault,
    message_status::{self, DeliveryRow},
    registry::{self, AccountRow},
    task_statistics::{self, Counts},
};
use uuid::Uuid;

use crate::{Hidden as _, Sources};

/// Events of one stream that are shown, at most.
pub(crate) const MAX_EVENTS: i64 = 1_000;

/// Loads what is asked for by key.
pub(crate) struct Batches(pub(crate) Sources);

/// The loader of a query.
pub(crate) fn batches<'a>(ctx: &Context<'a>) -> Result<&'a DataLoader<Batches>> {
    ctx.data::<DataLoader<Batches>>()
}

/// Loads one value.
pub(crate) async fn load<K>(
    ctx: &Context<'_>,
    key: K,
) -> Result<Option<<Batches as Loader<K>>::Value>>
where
    K: Send + Sync + std::hash::Hash + Eq + Clone + 'static,
    Batches: Loader<K, Error = Arc<Fault>>,
{
    batches(ctx)?.load_one(key).await.hidden()
}

type Loaded<K, V> = Result<HashMap<K, V>, Arc<Fault>>;

/// A device by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Numbered(pub(crate) i64);

impl Loader<Numbered> for Batches {
    type Value = Device;
    type Error = Arc<Fault>;

    async fn load(&self, keys: &[Numbered]) -> Loaded<Numbered, Device> {
        let numbers: Vec<i64> = keys.iter().map(|key| key.0).collect();
        let mut checkout = self.0.registry.checkout().await?;
        let found = registry::by_numbers(&mut checkout.conn(), &numbers).await?;
        Ok(found.into_iter().map(|(_, device)| (Numbered(device.number), device)).collect())
    }
}

/// Whether a device is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Online(pub(crate) i64);

impl Loader<Online> for Batches {
    type Value = ();
    type Error = Arc<Fault>;

    async fn load(&self, keys: &[Online]) -> Loaded<Online, ()> {
        let numbers: Vec<i64> = keys.iter().map(|key| key.0).collect();
        let present = self.0.presence.present(&numbers).await?;
        Ok(present.into_iter().map(|number| (Online(number), ())).collect())
    }
}

/// A user by its account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Account(pub(crate) Uuid);

impl Loader<Account> for Batches {
    type Value = AccountRow;
    type Error = Arc<Fault>;

    async fn load(&self, keys: &[Account]) -> Loaded<Account, AccountRow> {
        let accounts: Vec<Uuid> = keys.iter().map(|key| key.0).collect();
        let mut checkout = self.0.registry.checkout().await?;
        let found = registry::by_ids(&mut checkout.conn(), &accounts).await?;
        Ok(found.into_iter().map(|row| (Account(row.account), row)).collect())
    }
}

/// The devices of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct DevicesOf(pub(crate) Uuid);

impl Loader<DevicesOf> for Batches {
    type Value = Vec<Device>;
    type Error = Arc<Fault>;

    async fn load(&self, keys: &[DevicesOf]) -> Loaded<DevicesOf, Vec<Device>> {
        let accounts: Vec<Uuid> = keys.iter().map(|key| key.0).collect();
        let mut checkout = self.0.registry.checkout().await?;
        let found = registry::by_accounts(&mut checkout.conn(), &accounts).await?;
        let mut by_account: HashMap<DevicesOf, Vec<Device>> = HashMap::new();
        for device in found {
            if let Some(account) = device.account {
                by_account.entry(DevicesOf(account)).or_default().push(device);
            }
        }
        Ok(by_account)
    }
}

/// The labels that a user is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct LabelsOf(pub(crate) Uuid);

impl Loader<LabelsOf> for Batches {
    type Value = Vec<Label>;
    type Error = Arc<Fault>;

    async fn load(&self, keys: &[LabelsOf]) -> Loaded<LabelsOf, Vec<Label>> {
        let accounts: Vec<Uuid> = keys.iter().map(|key| key.0).collect();
        let mut checkout = self.0.registry.checkout().await?;
        let found = registry::labels_of(&mut checkout.conn(), &accounts).await?;
        let mut by_account: HashMap<LabelsOf, Vec<Label>> = HashMap::new();
        for (account, label) in found {
            by_account.entry(LabelsOf(account)).or_default().push(label);
        }
        Ok(by_account)
    }
}

/// The deliveries of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct DeliveriesOf(pub(crate) i64);

impl Loader<DeliveriesOf> for Batches {
    type Value = Arc<Vec<DeliveryRow>>;
    type Error = Arc<Fault>;

    async fn load(&self, keys: &[DeliveriesOf]) -> Loaded<DeliveriesOf, Self::Value> {
        let messages: Vec<i64> = keys.iter().map(|key| key.0).collect();
        let mut checkout = self.0.views.checkout().await?;
        let found = message_status::deliveries(&mut checkout.conn(), &messages).await?;
        let mut by_message: HashMap<i64, Vec<DeliveryRow>> = HashMap::new();
        for row in found {
            by_message.entry(row.message.0).or_default().push(row);
        }
        let all = by_message.into_iter();
        Ok(all.map(|(message, rows)| (DeliveriesOf(message), Arc::new(rows))).collect())
    }
}

/// The counts of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct CountsOf(pub(crate) i64);

impl Loader<CountsOf> for Batches {
    type Value = Counts;
    type Error = Arc<Fault>;

    async fn load(&self, keys: &[CountsOf]) -> Loaded<CountsOf, Counts> {
        let tasks: Vec<i64> = keys.iter().map(|key| key.0).collect();
        let mut checkout = self.0.views.checkout().await?;
        let found = task_statistics::counts(&mut checkout.conn(), &tasks).await?;
        Ok(found.into_iter().map(|(task, counts)| (CountsOf(task), counts)).collect())
    }
}

/// The history of a stream by its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct StreamNamed(pub(crate) String);

impl Loader<StreamNamed> for Batches {
    type Value = Arc<Vec<Recorded>>;
    type Error = Arc<Fault>;

    async fn load(&self, keys: &[StreamNamed]) -> Loaded<StreamNamed, Self::Value> {
        let streams: Vec<String> = keys.iter().map(|key| key.0.clone()).collect();
        let found = self.0.history.streams(&streams, MAX_EVENTS).await?;
        let mut by_stream: HashMap<String, Vec<Recorded>> = HashMap::new();
        for event in found {
            by_stream.entry(event.stream.to_string()).or_default().push(event);
        }
        let all = by_stream.into_iter();
        Ok(all.map(|(stream, events)| (StreamNamed(stream), Arc::new(events))).collect())
    }
}

/// An event by its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct At(pub(crate) i64);

impl Loader<At> for Batches {
    type Value = Arc<Recorded>;
    type Error = Arc<Fault>;

    async fn load(&self, keys: &[At]) -> Loaded<At, Self::Value> {
        let positions: Vec<i64> = keys.iter().map(|key| key.0).collect();
        let found = self.0.history.at(&positions).await?;
        Ok(found.into_iter().map(|event| (At(event.position), Arc::new(event))).collect())
    }
}
