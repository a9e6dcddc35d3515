//! An app, and the way to its devices and messages.

use std::collections::HashSet;

use async_graphql::{Context, ID, Object, Result, SimpleObject};
use domain::message::MessageId;
use projections::{callbacks, message_status, registry};

use crate::{
    Hidden as _, Sources,
    callback::{Callback, CallbackCount, CallbackOutcome, CallbackPage},
    device::Device,
    message::Message,
};

/// Items of a page, at most.
const MAX_PAGE: i64 = 200;

/// A tenant.
pub(crate) struct App(pub(crate) domain::app::App);

/// A page of devices.
#[derive(SimpleObject)]
struct DevicePage {
    /// The devices, in order of number.
    nodes: Vec<Device>,
    /// Number after which the next page begins; null on the last page.
    next: Option<i64>,
}

/// A page of messages.
#[derive(SimpleObject)]
struct MessagePage {
    /// The messages, newest first.
    nodes: Vec<Message>,
    /// Position before which the next page begins; null on the last page.
    next: Option<i64>,
}

#[Object]
impl App {
    /// The id that the operator chose.
    async fn app_id(&self) -> &str {
        &self.0.config.app_id
    }

    /// A name for people.
    async fn name(&self) -> &str {
        &self.0.config.name
    }

    /// IANA zone in which the app's protocols write times.
    async fn timezone(&self) -> &str {
        &self.0.config.timezone
    }

    /// The device list, as of a ledger position if one is given.
    #[graphql(complexity = "first.clamp(1, 200) as usize * child_complexity")]
    async fn devices(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 50, desc = "Devices of the page, at most 200.")] first: i64,
        #[graphql(default, desc = "Number after which the page begins.")] after: i64,
        #[graphql(desc = "Ledger position; now if absent.")] as_of: Option<i64>,
    ) -> Result<DevicePage> {
        let limit = page(first)?;
        let sources = ctx.data::<Sources>()?;
        let mut checkout = sources.registry.checkout().await.hidden()?;
        let (app, as_of) = (&self.0.config.app_id, as_of.unwrap_or(i64::MAX));
        let devices = registry::page_of_devices(&mut checkout.conn(), app, as_of, after, limit)
            .await
            .hidden()?;
        let accounts: Vec<_> = devices.iter().filter_map(|device| device.account).collect();
        let users = registry::users(&mut checkout.conn(), &accounts).await.hidden()?;
        let full = i64::try_from(devices.len())? == limit;
        let next = devices.last().filter(|_| full).map(|device| device.number);
        drop(checkout);
        let asked = ctx.look_ahead().field("nodes").field("online").exists();
        let present = if asked { present(sources, &devices).await? } else { HashSet::new() };
        let user = |device: &domain::device::Device| users.get(&device.account?).cloned();
        let node = |device: domain::device::Device| Device {
            user_id: user(&device),
            online: present.contains(&device.number),
            device,
        };
        Ok(DevicePage { nodes: devices.into_iter().map(node).collect(), next })
    }

    /// Messages, newest first.
    #[graphql(complexity = "first.clamp(1, 200) as usize * child_complexity")]
    async fn messages(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 50, desc = "Messages of the page, at most 200.")] first: i64,
        #[graphql(desc = "Position before which the page begins.")] before: Option<i64>,
    ) -> Result<MessagePage> {
        let limit = page(first)?;
        let sources = ctx.data::<Sources>()?;
        let mut checkout = sources.views.checkout().await.hidden()?;
        let (app, before) = (&self.0.config.app_id, before.unwrap_or(i64::MAX));
        let rows =
            message_status::messages(&mut checkout.conn(), app, before, limit).await.hidden()?;
        let ids: Vec<i64> = rows.iter().map(|row| row.message.0).collect();
        let deliveries = message_status::deliveries(&mut checkout.conn(), &ids).await.hidden()?;
        let full = i64::try_from(rows.len())? == limit;
        let next = rows.last().filter(|_| full).map(|row| row.position);
        Ok(MessagePage { nodes: Message::all(rows, deliveries), next })
    }

    /// Callbacks that were not answered at their first call, newest event first.
    #[graphql(complexity = "first.clamp(1, 200) as usize * child_complexity")]
    async fn callbacks(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Where they stand.")] outcome: CallbackOutcome,
        #[graphql(default = 50, desc = "Callbacks of the page, at most 200.")] first: i64,
        #[graphql(desc = "Position before which the page begins.")] before: Option<i64>,
    ) -> Result<CallbackPage> {
        let limit = page(first)?;
        let sources = ctx.data::<Sources>()?;
        let mut checkout = sources.views.checkout().await.hidden()?;
        let (app, before) = (&self.0.config.app_id, before.unwrap_or(i64::MAX));
        let outcome = outcome.into();
        let rows =
            callbacks::page(&mut checkout.conn(), app, outcome, before, limit).await.hidden()?;
        let next = callbacks::next_page(&rows, limit);
        Ok(CallbackPage { nodes: rows.into_iter().map(Callback::from).collect(), next })
    }

    /// How many callbacks of each receiver stand where.
    async fn callback_counts(&self, ctx: &Context<'_>) -> Result<Vec<CallbackCount>> {
        let sources = ctx.data::<Sources>()?;
        let mut checkout = sources.views.checkout().await.hidden()?;
        let app = &self.0.config.app_id;
        let rows = callbacks::counts(&mut checkout.conn(), app).await.hidden()?;
        Ok(rows.into_iter().map(CallbackCount::from).collect())
    }

    /// One message.
    async fn message(&self, ctx: &Context<'_>, id: ID) -> Result<Option<Message>> {
        let Ok(id) = id.parse::<MessageId>() else { return Ok(None) };
        let sources = ctx.data::<Sources>()?;
        let mut checkout = sources.views.checkout().await.hidden()?;
        let app = &self.0.config.app_id;
        let row = message_status::find(&mut checkout.conn(), app, id).await.hidden()?;
        let Some(row) = row else { return Ok(None) };
        let deliveries =
            message_status::deliveries(&mut checkout.conn(), &[id.0]).await.hidden()?;
        Ok(Message::all(vec![row], deliveries).pop())
    }
}

/// Those of some devices that are connected.
async fn present(sources: &Sources, devices: &[domain::device::Device]) -> Result<HashSet<i64>> {
    let numbers: Vec<i64> = devices.iter().map(|device| device.number).collect();
    sources.presence.present(&numbers).await.hidden()
}

fn page(first: i64) -> Result<i64> {
    if (1..=MAX_PAGE).contains(&first) {
        Ok(first)
    } else {
        Err(format!("first must be 1 to {MAX_PAGE}").into())
    }
}
