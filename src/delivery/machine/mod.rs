//! The delivery machine: chooses a way for each delivery, hands to push vendors what goes that way,
//! and records what came of it. Our own channel needs it only where a vendor comes first or after:
//! connections follow the ledger by themselves.
//!
//! It runs on one node, under a lease. It follows the ledger from its checkpoint; what was under
//! way when it began is in the views. Everything it does may be done twice: the folds drop what
//! they know.

mod burial;
mod call;
mod chunk;
mod chunk_turn;
mod lane;
mod left;
mod message;
mod room;
mod task;
mod wording;

pub(super) use burial::lives;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use domain::{
    Event, Recorded, Stream,
    app::VendorRef,
    message::{MessageAccepted, MessageId, MessagePrivate, Protocol},
    notification::Notification,
    route::Strategy,
};
use projections::{Fault, message_status, pending};
use tokio::{
    sync::{OnceCell, Semaphore},
    task::JoinSet,
};

use crate::{
    app::Server,
    delivery::channel::{Channel, Sender},
    feed::{effects, follow::Follower},
};
use lane::VendorLane;
use room::Room;

/// Name of the checkpoint.
pub const NAME: &str = "vendors";
/// Messages that are worked on at once, half of them of one app; others wait in the views.
const MESSAGES: usize = 32_768;
/// Messages that wait at once until no more answers are to be hoped for, beside those worked on.
const UNANSWERED: usize = 16_384;
/// Chunks of all tasks that wait for the answer of a slow vendor without a turn, half of them of one
/// app. Each has what the vendor is asked for in memory.
const SLOW_CHUNKS: usize = 128;
/// Messages whose way is chosen at once.
const CHOOSING: usize = 64;
/// Time between two looks for messages that found no room.
const LOOK: Duration = Duration::from_secs(5);
/// Longest wait for the views.
const VIEWS: Duration = Duration::from_secs(30);
/// Time between two looks at what was committed.
const PACE: Duration = Duration::from_millis(5);
/// Events between two notes of the checkpoint.
const CHECKPOINT_EVENTS: i64 = 2_000;

/// Works until its lease is lost. Safe to cancel: what is under way then is found in the views.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn run(server: &Arc<Server>) -> Result<(), Fault> {
    let machine = Arc::new(Machine::default());
    // They share the vendors' lanes.
    tokio::select! {
        failed = messages(&machine, server) => failed,
        failed = task::run(&machine, server) => failed,
    }
}

/// Delivers messages.
async fn messages(machine: &Arc<Machine>, server: &Arc<Server>) -> Result<(), Fault> {
    let mut tasks: JoinSet<()> = JoinSet::new();
    let mut noted = effects::checkpoint(&server.ledger, NAME).await?;
    let mut follower = Follower::new(&server.ledger, noted).paced(PACE);
    let reading = server.metrics.reading(NAME, noted);
    machine.find_due(server, noted, &mut tasks).await?;
    let mut look = tokio::time::interval(LOOK);
    loop {
        let batch = tokio::select! {
            batch = follower.next() => batch?,
            // Takes what ended out of memory.
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                if let Err(error) = ended
                    && error.is_panic()
                {
                    tracing::error!(%error, "a delivery failed");
                }
                continue;
            }
            _ = look.tick() => {
                if machine.spilled.swap(false, Ordering::AcqRel) {
                    machine.find_due(server, follower.position(), &mut tasks).await?;
                }
                if follower.position() > noted {
                    noted = follower.position();
                    effects::advance(&server.ledger, NAME, noted).await?;
                }
                continue;
            }
        };
        for recorded in batch.events() {
            machine.concern(server, recorded, &mut tasks);
        }
        reading.reached(batch.last());
        // A note waits in line with the appends, so there are few: what is taken up again after a
        // restart does no harm.
        if batch.last() - noted >= CHECKPOINT_EVENTS {
            noted = batch.last();
            effects::advance(&server.ledger, NAME, noted).await?;
        }
    }
}

/// What the tasks of one run share.
struct Machine {
    lanes: Mutex<HashMap<(String, String), Arc<VendorLane>>>,
    room: Arc<Room>,
    /// Places of what was sent now or never and waits for its answers.
    unanswered: Semaphore,
    /// Places of chunks whose vendor is slow.
    slow: Arc<Room>,
    choosing: Semaphore,
    sender: OnceCell<Sender>,
    /// Messages under way here.
    busy: Mutex<HashSet<MessageId>>,
    /// Whether a message found no room.
    spilled: AtomicBool,
}

/// A message that is worked on, until this is dropped, however the work ends.
struct UnderWay(Arc<Machine>, MessageId);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.busy().remove(&self.1);
    }
}

impl Default for Machine {
    fn default() -> Machine {
        Machine {
            lanes: Mutex::default(),
            room: Room::of(MESSAGES),
            unanswered: Semaphore::new(UNANSWERED),
            slow: Room::of(SLOW_CHUNKS),
            choosing: Semaphore::new(CHOOSING),
            sender: OnceCell::new(),
            busy: Mutex::default(),
            spilled: AtomicBool::new(false),
        }
    }
}

impl Machine {
    /// Takes up a push that needs a decision.
    fn concern(
        self: &Arc<Self>,
        server: &Arc<Server>,
        recorded: &Recorded,
        tasks: &mut JoinSet<()>,
    ) {
        let (Event::MessageAccepted(push), Stream::Message(id)) =
            (&recorded.event, &recorded.stream)
        else {
            return;
        };
        if needs_decision(server, &recorded.app, push) {
            self.take_up(server, recorded.app.clone(), *id, tasks);
        }
    }

    fn take_up(
        self: &Arc<Self>,
        server: &Arc<Server>,
        app: String,
        id: MessageId,
        tasks: &mut JoinSet<()>,
    ) {
        let Some(place) = self.room.enter(&app) else {
            self.spilled.store(true, Ordering::Release);
            return;
        };
        if !self.busy().insert(id) {
            return;
        }
        let (under_way, server) = (UnderWay(Arc::clone(self), id), Arc::clone(server));
        tasks.spawn(async move {
            let machine = &under_way.0;
            if let Err(fault) = message::deliver(machine, &server, (&app, id), place).await {
                tracing::error!(%fault, message = %id, "a message could not be delivered; it is tried again");
                machine.spilled.store(true, Ordering::Release);
            }
        });
    }

    /// Takes up what the views say is not done yet: what a vendor is to be asked for first, and
    /// what is kept of apps that have vendors.
    async fn find_due(
        self: &Arc<Self>,
        server: &Arc<Server>,
        position: i64,
        tasks: &mut JoinSet<()>,
    ) -> Result<(), Fault> {
        let reached = server.views.reached(position, VIEWS).await;
        reached.map_err(|behind| Fault::stored("views", behind))?;
        let apps = server.directory.all();
        let apps = apps.iter().filter(|app| !app.vendors.is_empty());
        let apps: Vec<&str> = apps.map(|app| app.id()).collect();
        let mut checkout = server.ledger.database().views.checkout().await?;
        let mut due = message_status::due(&mut checkout.conn()).await?;
        due.extend(pending::messages_of_apps(&mut checkout.conn(), &apps).await?);
        drop(checkout);
        for (app, id) in due {
            self.take_up(server, app, id, tasks);
        }
        Ok(())
    }

    /// The lane of a vendor as the app is configured now.
    fn lane(
        &self,
        sender: &Sender,
        app: &str,
        (config, channel): (&VendorRef, &Arc<Channel>),
    ) -> Arc<VendorLane> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let name = (app.to_owned(), config.name.clone());
        match lanes.get(&name).filter(|lane| lane.is_of(config, channel)) {
            Some(lane) => Arc::clone(lane),
            None => {
                let (config, channel) = (config.clone(), Arc::clone(channel));
                let lane = Arc::new(VendorLane::new(config, channel, sender.clone()));
                lanes.insert(name, Arc::clone(&lane));
                lane
            }
        }
    }

    /// Made when it is first needed: it reads the system's certificates, and many servers have no
    /// vendors.
    async fn sender(&self, server: &Server) -> Result<&Sender, Fault> {
        let make = async || {
            let clients = server.outbound.clients();
            let clients = clients.map_err(|error| Fault::stored("HTTP client", error))?;
            Ok(Sender::new(clients, server.clock.clone(), server.vendor_call))
        };
        self.sender.get_or_try_init(make).await
    }

    fn busy(&self) -> MutexGuard<'_, HashSet<MessageId>> {
        // Nothing that holds the lock can panic half-way, so a poisoned one is still whole.
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a vendor shows: an Easemob `pushMessage`, a Tencent message, or the payload of another protocol as data.
fn shown(protocol: Protocol, private: Option<MessagePrivate>) -> Result<Notification, Fault> {
    let payload = private.and_then(|private| private.payload);
    let text = payload.as_ref().map_or("null", |payload| payload.0.get());
    match protocol {
        Protocol::Ums | Protocol::Antelope => Ok(Notification::opaque(text)),
        Protocol::Tencent => {
            Notification::of_chat(text).map_err(|error| Fault::stored("payload", error))
        }
        Protocol::Easemob => {
            Notification::parse(text).map_err(|error| Fault::stored("pushMessage", error))
        }
    }
}

/// Whether a push can't go its way by itself.
fn needs_decision(server: &Server, app: &str, push: &MessageAccepted) -> bool {
    if push.targets.is_empty() {
        return false;
    }
    match push.strategy {
        Strategy::OnlineElseKept => false,
        Strategy::OnlineElseVendor => server.directory.has_vendors(app),
        Strategy::VendorElseOnline | Strategy::VendorOnly | Strategy::PresentOnly => true,
    }
}
