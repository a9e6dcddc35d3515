//! Some thousand users with a phone each, which a simulated JPush reaches. Some phones answer: what
//! JPush showed there brings them to the server for a moment, to say how far it got.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use domain::{
    Decide,
    account::RegisterUser,
    device::{Bind, BindDevice},
    facts::{Fact, Key},
    label::{ChangeMembers, CreateLabel},
    message::MessageId,
    task::{ChunkDelivered, chunk::Outcome},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use projections::registry::audience::targets_after;
use sim::{Device, DeviceOptions, Incoming, fakes::JpushFake};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::{APP, settings::NOTIFIER};
use crate::{
    app::Server,
    cli::Failure,
    easemob::tokens::Holder,
    ledger::{Context, Lane},
};

/// Users, each with one phone.
pub(super) const USERS: i64 = 4_000;
/// Each label with every how many of the users are in it.
const LABELS: [(&str, i64); 2] = [("news", 2), ("sport", 5)];
/// Of every so many phones one has no token: its user said no to notifications.
const MUTE: i64 = 125;
/// Of every so many phones one answers. Of those that do, each fifth opens what came, two of five
/// leave it, and the others only have it.
const ANSWERS: i64 = 7;
/// Users registered at once, few enough that each finds a connection to read by in time on a slow
/// machine; and those put into a label by one command.
const AT_ONCE: usize = 256;
const MEMBERS: usize = 500;
/// Phones that answer at once.
const PHONES: usize = 16;
/// Longest wait for the views, and for a receipt.
const WAIT: Duration = Duration::from_secs(10);
/// A phone's own id.
const DEVICE: &str = "phone";

/// A phone that answers.
struct Phone {
    account: Uuid,
    user: String,
    /// How far it reports: 2 received, 3 displayed, 4 answered.
    reports: u8,
}

/// The users, their phones and their push vendor.
pub(super) struct Crowd {
    server: Arc<Server>,
    url: String,
    jpush: JpushFake,
    /// Those that answer, by device number.
    phones: HashMap<i64, Arc<Phone>>,
    /// Phones that are about to answer.
    busy: AtomicUsize,
    room: Semaphore,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Crowd {
    /// The crowd, registered and bound if it was not before.
    pub(super) async fn gather(
        server: &Arc<Server>,
        url: &str,
        jpush: JpushFake,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Arc<Crowd>, Failure> {
        let last = Key::user(APP, &user(USERS));
        if matches!(server.ledger.fact(last).await?, Fact::User(None)) {
            register(server).await?;
        }
        Ok(Arc::new(Crowd {
            server: Arc::clone(server),
            url: url.to_owned(),
            jpush,
            phones: phones(server).await?,
            busy: AtomicUsize::new(0),
            room: Semaphore::new(PHONES),
            tasks: tasks.clone(),
            stop: stop.clone(),
        }))
    }

    /// JPush will not take the next call: its quota is used up, it says.
    pub(super) fn refuse_one(&self) {
        self.jpush.plan([sim::fakes::Fault::Quota]);
    }

    /// Phones that have something to say still.
    pub(super) fn busy(&self) -> usize {
        self.busy.load(Ordering::Acquire)
    }

    /// JPush took a chunk, as is known since that position: its phones get it.
    pub(super) fn notified(self: &Arc<Self>, task: MessageId, e: &ChunkDelivered, position: i64) {
        let sent = e.outcomes().filter(|(_, kind)| kind.outcome == Outcome::Sent);
        for phone in sent.filter_map(|(number, _)| self.phones.get(&number)) {
            self.busy.fetch_add(1, Ordering::AcqRel);
            let (crowd, phone) = (Arc::clone(self), Arc::clone(phone));
            self.tasks.spawn(async move {
                tokio::select! {
                    () = crowd.stop.cancelled() => {}
                    // A phone that fails is one that never answered.
                    _ = crowd.answer(&phone, task, position) => {}
                }
                crowd.busy.fetch_sub(1, Ordering::AcqRel);
            });
        }
    }

    async fn answer(&self, phone: &Phone, task: MessageId, position: i64) -> Result<(), Failure> {
        self.server.views.reached(position, WAIT).await?;
        let _room = self.room.acquire().await?;
        let holder = Holder::User(phone.account, phone.user.clone());
        let token = self.server.easemob.tokens.issue(APP, holder, Some(3_600)).await?;
        let options = DeviceOptions::of_easemob(&self.url, token, DEVICE);
        let mut device = Device::connect(options).await?;
        let id = task.to_string();
        for status in 2..=phone.reports {
            device.report(&id, status).await?;
        }
        let mut left = phone.reports - 1;
        while left > 0 {
            match device.next_within(WAIT).await {
                Some(Incoming::Receipt { .. } | Incoming::Refused { .. }) => left -= 1,
                Some(Incoming::Closed { .. }) | None => return Ok(()),
                Some(_) => {}
            }
        }
        Ok(device.close().await?)
    }
}

fn user(number: i64) -> String {
    format!("user-{number:04}")
}

fn token(user: &str) -> String {
    format!("jpush-of-{user}")
}

async fn execute(
    server: &Server,
    command: impl Decide + Send + Sync + 'static,
) -> Result<(), Failure> {
    let context = Context { app: APP.to_owned(), ..Context::default() };
    server.ledger.execute(Lane::Interactive, context, command).await?;
    Ok(())
}

/// Registers users and phones, in few commits, and fills the labels.
async fn register(server: &Arc<Server>) -> Result<(), Failure> {
    let one = |number: i64| async move {
        let (app, username) = (APP.to_owned(), user(number));
        let (nickname, new_account) = (None, Uuid::now_v7());
        let known = server.ledger.fact(Key::user(APP, &username)).await?;
        if matches!(known, Fact::User(None)) {
            let command = RegisterUser {
                app: app.clone(),
                username: username.clone(),
                nickname,
                new_account,
            };
            execute(server, command).await?;
        }
        let change = match number % MUTE {
            0 => Bind::Seen,
            _ => Bind::Token(NOTIFIER.to_owned(), token(&username)),
        };
        let (device_id, new_device) = (DEVICE.to_owned(), Uuid::now_v7());
        execute(server, BindDevice { app, username, device_id, change, new_device }).await
    };
    let all = stream::iter(1..=USERS).map(one).buffer_unordered(AT_ONCE);
    all.try_collect::<()>().await?;
    for (name, every) in LABELS {
        let (app, name, new_label) = (APP.to_owned(), name.to_owned(), Uuid::now_v7());
        let (description, most) = ("of the demo".to_owned(), i64::MAX);
        let known = server.ledger.fact(Key::label(APP, &name)).await?;
        if matches!(known, Fact::Label(None)) {
            let name = name.clone();
            let command = CreateLabel { app: app.clone(), name, description, most, new_label };
            execute(server, command).await?;
        }
        let members: Vec<String> = (1..=USERS).filter(|n| n % every == 0).map(user).collect();
        for usernames in members.chunks(MEMBERS) {
            let (app, name, usernames) = (app.clone(), name.clone(), usernames.to_vec());
            execute(server, ChangeMembers { app, name, usernames, join: true, most }).await?;
        }
    }
    Ok(())
}

/// The phones that answer, by device number.
async fn phones(server: &Arc<Server>) -> Result<HashMap<i64, Arc<Phone>>, Failure> {
    let mut checkout = server.ledger.database().ledger_read.checkout().await?;
    let all = targets_after(&mut checkout.conn(), APP, i64::MAX, 0, i64::MAX).await?;
    drop(checkout);
    let users: HashMap<String, i64> = (1..=USERS).map(|n| (token(&user(n)), n)).collect();
    let phone = |target: projections::registry::audience::TargetRow| {
        let token = &target.bindings.first()?.token;
        let number = *users.get(token).filter(|number| **number % ANSWERS == 0)?;
        let reports = match number / ANSWERS % 5 {
            0 => 4,
            1 | 2 => 3,
            _ => 2,
        };
        let phone = Phone { account: target.account?, user: user(number), reports };
        Some((target.number, Arc::new(phone)))
    };
    Ok(all.into_iter().filter_map(phone).collect())
}
