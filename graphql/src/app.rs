//! An app, and the way to everything that is its own. Whatever is found below an app was asked for
//! with its id, so that no argument leads to another's.

use async_graphql::{Context, ID, Object, Result, SimpleObject, connection::Connection};
use domain::{
    Stream,
    message::{MessageId, Protocol},
};
use projections::{
    callbacks, message_status,
    registry::{self, Wanted},
    task_statistics, uplinks,
};

use crate::{
    Hidden as _, Sources,
    callback::{Callback, CallbackCount, CallbackOutcome},
    device::{Device, DeviceStatus},
    event::Event,
    list::{Asked, Cursor, Page, TimeRange, positions},
    message::Message,
    statistics::{
        self, DeliveryStats, Funnel, FunnelOf, StatsBucket, StatsFilter, StatsKey, WhyNotSent,
    },
    task::Task,
    uplink::Uplink,
    user::{Label, User},
    wait_for,
    words::{ProtocolName, TaskStanding},
};

/// Events that are read for a page, at most: a page may be short, and there may be more.
const MAX_SCAN: i64 = 5_000;

/// A tenant.
pub(crate) struct App(pub(crate) domain::app::App);

/// How far a page of events looked.
#[derive(SimpleObject)]
struct Looked {
    /// Cursor after which the next page begins, also where this one found nothing: a page looks
    /// through 5,000 positions at most.
    next: String,
}

impl App {
    pub(crate) fn id(&self) -> &str {
        &self.0.config.app_id
    }
}

/// Which devices of an app somebody wants.
pub(crate) struct OnlyOf {
    pub(crate) package: Option<String>,
    pub(crate) status: Option<DeviceStatus>,
}

impl OnlyOf {
    /// What to look for, as of a position if one is given; nothing where no device can be it.
    pub(crate) fn wanted(&self, as_of: Option<i64>) -> Option<Wanted<'_>> {
        let package = self.package.as_deref();
        // A database takes no NUL, and no package ever held one.
        let can_be = package.is_none_or(|package| !package.contains('\0'));
        can_be.then(|| Wanted { as_of, package, status: self.status.map(Into::into) })
    }
}

/// A tenant. Whatever is below it is its own.
#[Object]
impl App {
    /// The id that the operator chose.
    async fn app_id(&self) -> &str {
        self.id()
    }

    /// A name for people.
    async fn name(&self) -> &str {
        &self.0.config.name
    }

    /// IANA zone in which the app's protocols write times.
    async fn timezone(&self) -> &str {
        &self.0.config.timezone
    }

    /// Its users of every protocol, in the order in which they got the addresses that they have.
    #[graphql(complexity = "first.clamp(1, 200) as usize * child_complexity")]
    async fn users(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 50, desc = "Users of the page, at most 200.")] first: i64,
        #[graphql(desc = "Cursor after which the page begins.")] after: Option<String>,
    ) -> Result<Page<User>> {
        let asked = Asked::new(first, after.as_deref())?;
        let mut checkout = ctx.data::<Sources>()?.registry.checkout().await.hidden()?;
        let (conn, after) = (&mut checkout.conn(), asked.position(0));
        let rows = registry::account_page(conn, self.id(), after, asked.rows()).await.hidden()?;
        Ok(asked.page(rows.into_iter().map(|row| (row.position, User(row)))))
    }

    /// One user by its name in its protocol.
    async fn user(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "UMS `userId`, Easemob username or Tencent `UserID`.")] name: String,
    ) -> Result<Option<User>> {
        if name.contains('\0') {
            return Ok(None);
        }
        let mut checkout = ctx.data::<Sources>()?.registry.checkout().await.hidden()?;
        let found = registry::named(&mut checkout.conn(), self.id(), &name).await.hidden()?;
        Ok(found.map(User))
    }

    /// The device list, in order of number.
    #[graphql(complexity = "first.clamp(1, 200) as usize * child_complexity")]
    async fn devices(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 50, desc = "Devices of the page, at most 200.")] first: i64,
        #[graphql(desc = "Cursor after which the page begins.")] after: Option<String>,
        #[graphql(desc = "Devices of the user with that name.")] user: Option<String>,
        #[graphql(desc = "Devices of that package.")] app_package: Option<String>,
        #[graphql(desc = "Devices whose registration stands there.")] status: Option<DeviceStatus>,
    ) -> Result<Page<Device>> {
        let asked = Asked::new(first, after.as_deref())?;
        let only = OnlyOf { package: app_package, status };
        let Some(wanted) = only.wanted(None) else { return Ok(Page::new(false, false)) };
        let mut checkout = ctx.data::<Sources>()?.registry.checkout().await.hidden()?;
        let (conn, number) = (&mut checkout.conn(), asked.position(0));
        let found = match user {
            None => {
                let limit = asked.rows();
                registry::page_of_devices(conn, self.id(), wanted, number, limit).await.hidden()?
            }
            Some(user) if user.contains('\0') => Vec::new(),
            Some(user) => {
                let account = registry::named(conn, self.id(), &user).await.hidden()?;
                let mut found = match account {
                    Some(row) => registry::by_account(conn, row.account).await.hidden()?,
                    None => Vec::new(),
                };
                found.retain(|device| {
                    device.number > number
                        && wanted.package.is_none_or(|own| own == device.profile.app_package)
                        && wanted.status.is_none_or(|own| own == device.status)
                });
                found
            }
        };
        Ok(asked.page(found.into_iter().map(|device| (device.number, Device(device)))))
    }

    /// One device by its number.
    async fn device(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Position of its first event.")] number: i64,
    ) -> Result<Option<Device>> {
        let mut checkout = ctx.data::<Sources>()?.registry.checkout().await.hidden()?;
        let found = registry::by_numbers(&mut checkout.conn(), &[number]).await.hidden()?;
        let own = found.into_iter().find(|(app, _)| app == self.id());
        Ok(own.map(|(_, device)| Device(device)))
    }

    /// Its labels, in order of creation.
    #[graphql(complexity = "first.clamp(1, 200) as usize * child_complexity")]
    async fn labels(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 50, desc = "Labels of the page, at most 200.")] first: i64,
        #[graphql(desc = "Cursor after which the page begins.")] after: Option<String>,
    ) -> Result<Page<Label>> {
        let asked = Asked::new(first, after.as_deref())?;
        let mut checkout = ctx.data::<Sources>()?.registry.checkout().await.hidden()?;
        let (conn, after) = (&mut checkout.conn(), asked.position(0));
        let rows = registry::label_page(conn, self.id(), after, asked.rows()).await.hidden()?;
        Ok(asked.page(rows.into_iter().map(|(position, label)| (position, Label(label)))))
    }

    /// One label by its name.
    async fn label(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Its name.")] name: String,
    ) -> Result<Option<Label>> {
        if name.contains('\0') {
            return Ok(None);
        }
        let mut checkout = ctx.data::<Sources>()?.registry.checkout().await.hidden()?;
        let found = registry::label(&mut checkout.conn(), self.id(), &name).await.hidden()?;
        Ok(found.map(Label))
    }

    /// Messages, newest first.
    #[graphql(complexity = "first.clamp(1, 200) as usize * child_complexity")]
    async fn messages(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 50, desc = "Messages of the page, at most 200.")] first: i64,
        #[graphql(desc = "Cursor after which the page begins.")] after: Option<String>,
        #[graphql(desc = "Messages that were accepted then.")] range: Option<TimeRange>,
        #[graphql(desc = "Messages that came by that protocol.")] protocol: Option<ProtocolName>,
    ) -> Result<Page<Message>> {
        let asked = Asked::new(first, after.as_deref())?;
        let sources = ctx.data::<Sources>()?;
        let (from, to) = positions(sources, range).await?;
        let mut checkout = sources.views.checkout().await.hidden()?;
        let (conn, protocol) = (&mut checkout.conn(), protocol.map(Protocol::from));
        let between = (from, to.min(asked.position(i64::MAX)));
        let rows = message_status::messages(conn, self.id(), between, protocol, asked.rows());
        let rows = rows.await.hidden()?;
        Ok(asked.page(rows.into_iter().map(|row| (row.position, Message::now(row)))))
    }

    /// One message.
    async fn message(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The id that the caller got.")] id: ID,
    ) -> Result<Option<Message>> {
        let Ok(id) = id.parse::<MessageId>() else { return Ok(None) };
        let mut checkout = ctx.data::<Sources>()?.views.checkout().await.hidden()?;
        let row = message_status::find(&mut checkout.conn(), self.id(), id).await.hidden()?;
        Ok(row.map(Message::now))
    }

    /// Pushes to a label, to a list or to everyone, newest first.
    #[graphql(complexity = "first.clamp(1, 200) as usize * child_complexity")]
    async fn tasks(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 50, desc = "Tasks of the page, at most 200.")] first: i64,
        #[graphql(desc = "Cursor after which the page begins.")] after: Option<String>,
        #[graphql(desc = "Tasks that were created then.")] range: Option<TimeRange>,
        #[graphql(desc = "Tasks that stand there.")] state: Option<TaskStanding>,
    ) -> Result<Page<Task>> {
        let asked = Asked::new(first, after.as_deref())?;
        let sources = ctx.data::<Sources>()?;
        let (from, to) = positions(sources, range).await?;
        let mut checkout = sources.views.checkout().await.hidden()?;
        let between = (from, to.min(asked.position(i64::MAX)));
        let (conn, state) = (&mut checkout.conn(), state.map(Into::into));
        let rows = task_statistics::tasks(conn, self.id(), between, state, asked.rows());
        let rows = rows.await.hidden()?;
        Ok(asked.page(rows.into_iter().map(|row| (row.position, Task::now(row)))))
    }

    /// One task.
    async fn task(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The id that the caller got.")] id: ID,
    ) -> Result<Option<Task>> {
        let Ok(id) = id.parse::<MessageId>() else { return Ok(None) };
        let mut checkout = ctx.data::<Sources>()?.views.checkout().await.hidden()?;
        let found = task_statistics::find(&mut checkout.conn(), self.id(), id).await.hidden()?;
        Ok(found.map(|found| Task::now(found.task)))
    }

    /// Messages from devices and phones to the app, newest first.
    #[graphql(complexity = "first.clamp(1, 200) as usize * child_complexity")]
    async fn uplinks(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 50, desc = "Uplinks of the page, at most 200.")] first: i64,
        #[graphql(desc = "Cursor after which the page begins.")] after: Option<String>,
        #[graphql(desc = "Uplinks that came in then.")] range: Option<TimeRange>,
    ) -> Result<Page<Uplink>> {
        let asked = Asked::new(first, after.as_deref())?;
        let sources = ctx.data::<Sources>()?;
        let (from, to) = positions(sources, range).await?;
        let mut checkout = sources.views.checkout().await.hidden()?;
        let between = (from, to.min(asked.position(i64::MAX)));
        let conn = &mut checkout.conn();
        let rows = uplinks::page(conn, self.id(), between, asked.rows()).await.hidden()?;
        Ok(asked.page(rows.into_iter().map(|row| (row.position, Uplink::from(row)))))
    }

    /// Callbacks that were not answered at their first call, newest event first.
    #[graphql(complexity = "first.clamp(1, 200) as usize * child_complexity")]
    async fn callbacks(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Where they stand.")] outcome: CallbackOutcome,
        #[graphql(default = 50, desc = "Callbacks of the page, at most 200.")] first: i64,
        #[graphql(desc = "Cursor after which the page begins.")] after: Option<String>,
    ) -> Result<Page<Callback>> {
        let asked = Asked::new(first, after.as_deref())?;
        let mut checkout = ctx.data::<Sources>()?.views.checkout().await.hidden()?;
        let from = asked.after.clone().map_or((i64::MAX, String::new()), |c| (c.0, c.1));
        let (conn, outcome) = (&mut checkout.conn(), outcome.into());
        let rows = callbacks::list(conn, self.id(), outcome, &from, asked.rows()).await.hidden()?;
        let place = |row: &callbacks::CallbackRow| Cursor(row.position, row.receiver.to_string());
        Ok(asked.page(rows.into_iter().map(|row| (place(&row), Callback::from(row)))))
    }

    /// How many callbacks of each receiver stand where.
    async fn callback_counts(&self, ctx: &Context<'_>) -> Result<Vec<CallbackCount>> {
        let mut checkout = ctx.data::<Sources>()?.views.checkout().await.hidden()?;
        let rows = callbacks::counts(&mut checkout.conn(), self.id()).await.hidden()?;
        Ok(rows.into_iter().map(CallbackCount::from).collect())
    }

    /// Its events, in order.
    #[graphql(complexity = "first.clamp(1, 200) as usize * child_complexity")]
    async fn events(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 50, desc = "Events of the page, at most 200.")] first: i64,
        #[graphql(desc = "Cursor after which the page begins.")] after: Option<String>,
        #[graphql(desc = "Events that were recorded then.")] range: Option<TimeRange>,
        #[graphql(desc = "Events of that stream, such as `message/ID`.")] stream: Option<String>,
        #[graphql(desc = "Events of these types; `device.*` is a family.")] types: Option<
            Vec<String>,
        >,
    ) -> Result<Page<Event, Looked>> {
        let asked = Asked::new(first, after.as_deref())?;
        let sources = ctx.data::<Sources>()?;
        let (from, to) = positions(sources, range).await?;
        let from = from.max(asked.position(0));
        let (read, mut looked) = match stream {
            Some(stream) => {
                let Ok(stream) = stream.parse::<Stream>() else {
                    return Err("stream: that is no name of a stream".into());
                };
                let stream = stream.to_string();
                if stream.contains('\0') {
                    return Err("stream: that is no name of a stream".into());
                }
                // A stream is one aggregate's, and read from its begin: it is short.
                let read = sources.history.stream(&stream, 0, MAX_SCAN).await.hidden()?;
                let last = read.last().map_or(from, |event| event.position.max(from));
                (read, last)
            }
            None => {
                let (read, last) = sources.history.after(from, MAX_SCAN).await.hidden()?;
                (read, last.unwrap_or(from))
            }
        };
        let full = i64::try_from(read.len())? == MAX_SCAN;
        let filter = EventFilter { app: self.id().to_owned(), types: types.unwrap_or_default() };
        let own = read.iter().filter(|event| event.position > from && event.position < to);
        let mut own: Vec<_> = own.filter(|event| filter.wants(event)).collect();
        let more = own.len() > usize::try_from(asked.limit)?;
        own.truncate(usize::try_from(asked.limit)?);
        if more {
            looked = own.last().map_or(looked, |event| event.position);
        }
        let next = async_graphql::connection::CursorType::encode_cursor(&Cursor::from(looked));
        let before = asked.after.is_some();
        let more = more || (full && looked < to);
        let mut page = Connection::with_additional_fields(before, more, Looked { next });
        for event in own {
            let edge = async_graphql::connection::Edge::new(
                Cursor::from(event.position),
                Event::new(event)?,
            );
            page.edges.push(edge);
        }
        Ok(page)
    }

    /// Statistics of deliveries by when they were accepted.
    #[graphql(complexity = "50 + 20 * child_complexity")]
    #[expect(clippy::too_many_arguments, reason = "each is an argument of the field")]
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
        #[graphql(desc = "Position to wait for, for 5 seconds at most.")] at_least: Option<i64>,
    ) -> Result<DeliveryStats> {
        let sources = ctx.data::<Sources>()?;
        wait_for(sources, at_least).await?;
        let (now, zone) = (sources.history.now(), time_zone.as_deref());
        let mut asked = statistics::asked(now, range, bucket, group_by, filter, zone)?;
        asked.times = statistics::times_are_looked_at(ctx);
        statistics::stats(sources, self.id(), &asked).await
    }

    /// How far the deliveries of something got; null if there is no such thing.
    #[graphql(complexity = "20 + child_complexity")]
    async fn funnel(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "A task, a message, a label or a span of time.")] of: FunnelOf,
        #[graphql(desc = "Position to wait for, for 5 seconds at most.")] at_least: Option<i64>,
    ) -> Result<Option<Funnel>> {
        let sources = ctx.data::<Sources>()?;
        wait_for(sources, at_least).await?;
        statistics::funnel(sources, self.id(), of, None).await
    }

    /// Why deliveries were not sent, by reason.
    #[graphql(complexity = "20 + child_complexity")]
    async fn why_not_sent(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "When they were accepted; at most 1,100 days.")] range: TimeRange,
        #[graphql(desc = "What is counted.")] filter: Option<StatsFilter>,
        #[graphql(desc = "Position to wait for, for 5 seconds at most.")] at_least: Option<i64>,
    ) -> Result<WhyNotSent> {
        let sources = ctx.data::<Sources>()?;
        wait_for(sources, at_least).await?;
        statistics::why_not_sent(sources, self.id(), (range, filter), None).await
    }
}

/// Which events of the ledger somebody wants.
pub(crate) struct EventFilter {
    /// The app.
    pub(crate) app: String,
    /// Types, or families of them with a star at the end; none: all.
    pub(crate) types: Vec<String>,
}

impl EventFilter {
    /// Whether an event is among them.
    pub(crate) fn wants(&self, event: &domain::Recorded) -> bool {
        let name = event.event.name();
        let fits = |wanted: &String| match wanted.strip_suffix('*') {
            Some(family) => name.starts_with(family),
            None => name == wanted,
        };
        event.app == self.app && (self.types.is_empty() || self.types.iter().any(fits))
    }
}
