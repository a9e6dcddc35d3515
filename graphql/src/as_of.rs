//! Everything as it was: what had been recorded up to a moment, whatever came later. What is told of
//! it is what can be told without a fold of the whole history.

use async_graphql::{Context, ID, Object, Result};
use domain::message::MessageId;
use projections::{registry, task_statistics};

use crate::{
    Hidden as _, Sources,
    app::{App, OnlyOf},
    device::{Device, DeviceStatus},
    list::{Asked, Page, TimeRange},
    message::Message,
    statistics::{
        self, DeliveryStats, Funnel, FunnelOf, StatsBucket, StatsFilter, StatsKey, WhyNotSent,
    },
    task::Task,
    wait_for,
};

/// All apps at a position.
pub(crate) struct AsOf {
    pub(crate) position: i64,
}

/// What had been recorded up to a moment, and nothing of what came later.
#[Object]
impl AsOf {
    /// The ledger position of that moment.
    async fn position(&self) -> i64 {
        self.position
    }

    /// One app, if the caller may see it.
    async fn app(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The id that the operator chose.")] app_id: String,
    ) -> Result<Option<AppAsOf>> {
        let found = crate::seen(ctx, &app_id, None).await?;
        Ok(found.map(|app| AppAsOf { app, position: self.position }))
    }
}

/// A tenant at a position.
pub(crate) struct AppAsOf {
    app: App,
    position: i64,
}

/// A tenant as it was. Whatever is below it is its own.
#[Object]
impl AppAsOf {
    /// The id that the operator chose.
    async fn app_id(&self) -> &str {
        self.app.id()
    }

    /// The device list of then, in order of number.
    #[graphql(complexity = "first.clamp(1, 200) as usize * child_complexity")]
    async fn devices(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 50, desc = "Devices of the page, at most 200.")] first: i64,
        #[graphql(desc = "Cursor after which the page begins.")] after: Option<String>,
        #[graphql(desc = "Devices of that package.")] app_package: Option<String>,
        #[graphql(desc = "Devices whose registration stood there.")] status: Option<DeviceStatus>,
    ) -> Result<Page<Device>> {
        let asked = Asked::new(first, after.as_deref())?;
        let only = OnlyOf { package: app_package, status };
        let Some(wanted) = only.wanted(Some(self.position)) else {
            return Ok(Page::new(false, false));
        };
        let mut checkout = ctx.data::<Sources>()?.registry.checkout().await.hidden()?;
        let (conn, number) = (&mut checkout.conn(), asked.position(0));
        let rows = registry::page_of_devices(conn, self.app.id(), wanted, number, asked.rows());
        let rows = rows.await.hidden()?.into_iter();
        Ok(asked.page(rows.map(|device| (device.number, Device(device)))))
    }

    /// One message with its deliveries; null if it had not been accepted.
    async fn message(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The id that the caller got.")] id: ID,
    ) -> Result<Option<Message>> {
        let Ok(id) = id.parse::<MessageId>() else { return Ok(None) };
        Message::at(ctx.data::<Sources>()?, self.app.id(), id, self.position).await
    }

    /// One task with its statistics; null if it had not been created.
    async fn task(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The id that the caller got.")] id: ID,
    ) -> Result<Option<Task>> {
        let sources = self.views(ctx).await?;
        let Ok(id) = id.parse::<MessageId>() else { return Ok(None) };
        let found = {
            let mut checkout = sources.views.checkout().await.hidden()?;
            task_statistics::find(&mut checkout.conn(), self.app.id(), id).await.hidden()?
        };
        match found {
            Some(found) => Task::at(sources, found.task, self.position).await,
            None => Ok(None),
        }
    }

    /// Statistics of deliveries by when they were accepted.
    #[graphql(complexity = "50 + 20 * child_complexity")]
    async fn delivery_stats(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "When they were accepted; at most 1,100 days.")] range: TimeRange,
        #[graphql(desc = "Length of a bucket of time.", default_with = "StatsBucket::Total")]
        bucket: StatsBucket,
        #[graphql(desc = "What deliveries are told apart by.", default)] group_by: Vec<StatsKey>,
        #[graphql(desc = "What is counted.")] filter: Option<StatsFilter>,
        #[graphql(desc = "IANA name of the zone of days and weeks; UTC if absent.")]
        time_zone: Option<String>,
    ) -> Result<DeliveryStats> {
        let sources = self.views(ctx).await?;
        let (now, zone) = (sources.history.now(), time_zone.as_deref());
        let mut asked = statistics::asked(now, range, bucket, group_by, filter, zone)?;
        asked.as_of = Some(self.position);
        asked.times = statistics::times_are_looked_at(ctx);
        statistics::stats(sources, self.app.id(), &asked).await
    }

    /// How far the deliveries of something had got; null if there was no such thing.
    #[graphql(complexity = "20 + child_complexity")]
    async fn funnel(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "A task, a message, a label or a span of time.")] of: FunnelOf,
    ) -> Result<Option<Funnel>> {
        let sources = self.views(ctx).await?;
        statistics::funnel(sources, self.app.id(), of, Some(self.position)).await
    }

    /// Why deliveries had not been sent, by reason.
    #[graphql(complexity = "20 + child_complexity")]
    async fn why_not_sent(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "When they were accepted; at most 1,100 days.")] range: TimeRange,
        #[graphql(desc = "What is counted.")] filter: Option<StatsFilter>,
    ) -> Result<WhyNotSent> {
        let sources = self.views(ctx).await?;
        let as_of = Some(self.position);
        statistics::why_not_sent(sources, self.app.id(), (range, filter), as_of).await
    }
}

impl AppAsOf {
    /// The sources, once the views include the position.
    async fn views<'a>(&self, ctx: &Context<'a>) -> Result<&'a Sources> {
        let sources = ctx.data::<Sources>()?;
        wait_for(sources, Some(self.position)).await?;
        Ok(sources)
    }
}
