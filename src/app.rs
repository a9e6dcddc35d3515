//! The wiring: what a running server is made of, and the order in which it starts and drains.
//! Every task is born here.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use graphql::Schema;
use projections::Fault;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    access::{AccessLog, Proxies},
    audit::{
        Audit, eraser, sealer,
        witness::{FileWitness, Witness, lies_in},
    },
    callback,
    clock::Clock,
    config::Config,
    delivery::{self, calls, closing, endings, expiry, reach::Reaches, receipts::Books, recorder},
    directory::Directory,
    easemob::Gate,
    feed::{
        effects::{self, LEASE, Lease, RENEW},
        rebuild::Rebuilds,
        views::{self, Views},
    },
    http,
    http::admin::events::Feeds,
    ids::MessageIds,
    jwt::jwks::Fetcher,
    ledger::{Database, Ledger},
    metrics::Metrics,
    node::{self, Number},
    outbound::Outbound,
    query,
    secrets::{MasterKey, SecretError},
    socket::{departed, hub::Hub, presence::Presence},
    tokens::{Role, Tokens},
};

/// How long open requests and connections may take to end in a shutdown.
const DRAIN: Duration = Duration::from_secs(20);
/// Pause before a duty that failed is taken up again.
const PAUSE: Duration = Duration::from_secs(1);
/// Time between two removals of old tokens and keys.
const CHORES: Duration = Duration::from_secs(300);

/// What handlers and tasks share.
pub struct Server {
    /// The ledger.
    pub ledger: Ledger,
    /// How far the views are.
    pub views: Views,
    /// Rebuilds of the views.
    pub rebuilds: Arc<Rebuilds>,
    /// The apps.
    pub directory: Arc<Directory>,
    /// Bearer tokens.
    pub tokens: Tokens,
    /// What stands before calls over Easemob's interface.
    pub easemob: Gate,
    /// Fetches the keys of tokens that apps sign.
    pub jwks: Fetcher,
    /// Seals secrets and makes fingerprints.
    pub master: MasterKey,
    /// What an operator watches.
    pub metrics: Arc<Metrics>,
    /// Who read what belongs to people.
    pub access: Arc<AccessLog>,
    /// Days for which that is kept.
    pub access_days: u32,
    /// Whose word on where a request comes from is taken.
    pub proxies: Proxies,
    /// The time.
    pub clock: Clock,
    /// Numbers of new messages.
    pub ids: MessageIds,
    /// Devices that are connected here.
    pub hub: Arc<Hub>,
    /// Devices that are connected anywhere.
    pub presence: Arc<Presence>,
    /// Records what connections say.
    pub recorder: recorder::Recorder,
    /// The one way out to URLs that apps name.
    pub outbound: Arc<Outbound>,
    /// Readers of events as they happen.
    pub feeds: Feeds,
    /// The query API.
    pub schema: Schema,
    /// Longest run of a query.
    pub query_run: Duration,
    /// Time between two pings to who follows something over it.
    pub follow_beat: Duration,
    /// Room for connections that follow something over it.
    pub followers: Arc<Semaphore>,
    /// What is sealed, and proofs of it.
    pub audit: Audit,
    /// Who else keeps checkpoints, if anybody does.
    pub witness: Option<Arc<dyn Witness>>,
    /// Devices of one chunk of a new task.
    pub chunk_devices: u32,
    /// How long a call to a push vendor may take.
    pub vendor_call: Duration,
    /// Audiences of tasks that were counted.
    pub reaches: Reaches,
    /// Devices of tasks by the tokens that receipts name.
    pub books: Books,
    stop: CancellationToken,
}

impl Server {
    /// Whether the server drains.
    #[must_use]
    pub fn stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Cancelled when the server begins to drain.
    #[must_use]
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }
}

/// The server could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The master key or a secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The witness would be lost, or rolled back, with what it is to witness.
    #[error("the witness {0} lies in the data directory {1}: it has to be outside")]
    Witness(PathBuf, PathBuf),
    /// The address.
    #[error("cannot listen on {0}: {1}")]
    Listen(String, std::io::Error),
}

/// A server that runs.
pub struct Running {
    /// What it is made of.
    pub server: Arc<Server>,
    /// Where it listens.
    pub address: SocketAddr,
    /// The admin's token, if it was made just now.
    pub new_admin_token: Option<String>,
    /// Front: requests and connections. Back: what they need.
    front: TaskTracker,
    duties: TaskTracker,
    back: TaskTracker,
    stop_duties: CancellationToken,
    stop_back: CancellationToken,
}

impl Running {
    /// Starts a server.
    ///
    /// # Errors
    /// [`StartError`] says what is missing.
    pub async fn start(config: &Config, clock: Clock) -> Result<Running, StartError> {
        if let Some(witness) = &config.witness {
            let embedded = config.database.strip_prefix("sqlite:").map(Path::new);
            for inside in [Some(config.data.as_path()), embedded].into_iter().flatten() {
                if lies_in(witness, inside) {
                    return Err(StartError::Witness(witness.clone(), inside.to_owned()));
                }
            }
        }
        let database = Database::open(&config.database).await?;
        let master = MasterKey::load(config.master_key.as_deref(), &config.data, &database).await?;
        let (front, duties, back) = (TaskTracker::new(), TaskTracker::new(), TaskTracker::new());
        let (stop, stop_duties, stop_back) =
            (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        let metrics = Arc::new(Metrics::default());
        let read = database.ledger_read.clone();
        let easemob = Gate::new(&read, &database.ledger_write, &clock);
        let tokens = Tokens::new(read, database.ledger_write.clone(), clock.clone());
        let new_admin_token = admin_token(&tokens, config).await?;
        let (access, writer) =
            AccessLog::new(database.access.clone(), clock.clone(), Arc::clone(&metrics));
        back.spawn(writer.run(stop_back.clone()));
        let ledger =
            Ledger::start(database, clock.clone(), Arc::clone(&metrics), &back, &stop_back).await?;
        let node = Uuid::now_v7();
        let number = Number::claim(&ledger, &clock, node).await?;
        let from = number.since.max(last_time(&ledger).await? + 1_000);
        let ids = MessageIds::new(number.number, from, number.until);
        let (views, runner) = views::start(&ledger, clock.now()).await?;
        if let Some(reason) = effects::paused(&ledger.database().ledger_read).await? {
            tracing::warn!(reason, "effects are paused until `pushledger resume`");
        }
        back.spawn(runner.run(Arc::clone(&metrics), stop_back.clone()));
        let rebuilds = Arc::new(Rebuilds::new(&ledger, &views, &clock, &metrics, node));
        duties.spawn(Arc::clone(&rebuilds).run(stop_duties.clone()));
        let head = ledger.head();
        let directory = Directory::load(ledger.clone(), master.clone()).await?;
        back.spawn(Arc::clone(&directory).follow(head, stop_back.clone()));
        let hub = Hub::new(head, Arc::clone(&metrics), clock.clone());
        back.spawn(Arc::clone(&hub).follow(ledger.clone(), stop_back.clone()));
        let pool = ledger.database().presence.clone();
        let presence = Presence::new(Arc::clone(&hub), pool, clock.clone(), node);
        duties.spawn(Arc::clone(&presence).run(stop_duties.clone()));
        let (recorder, outcomes) = mpsc::channel(recorder::QUEUE_STEPS);
        duties.spawn(recorder::run(ledger.clone(), outcomes));
        let sources = query::sources(&ledger, &views, &presence, front.clone());
        let schema = graphql::schema(sources);
        let outbound = Arc::new(Outbound::new(config.callback_allow.clone()));
        let jwks = Fetcher::new(Arc::clone(&outbound), clock.clone(), front.clone());
        let audit = Audit::new(&ledger.database().ledger_read);
        let witness = config.witness.as_deref().map(FileWitness::new);
        let server = Arc::new(Server {
            ledger,
            audit,
            witness: witness.map(|witness| Arc::new(witness) as Arc<dyn Witness>),
            views,
            rebuilds,
            directory,
            tokens,
            easemob,
            jwks,
            feeds: Feeds::default(),
            master,
            metrics,
            access,
            access_days: config.access_days,
            proxies: Proxies::new(config.trusted_proxies.clone()),
            clock,
            ids,
            hub,
            presence,
            recorder,
            outbound,
            schema,
            query_run: config.query_run,
            follow_beat: config.follow_beat,
            followers: Arc::new(Semaphore::new(http::MAX_FOLLOWERS)),
            chunk_devices: config.chunk_devices,
            vendor_call: config.vendor_call,
            reaches: Reaches::default(),
            books: Books::default(),
            stop,
        });
        duties.spawn(duty(Arc::clone(&server), node, stop_duties.clone()));
        let calling =
            |server: Arc<Server>, ending| async move { callback::run(&server, ending).await };
        duties.spawn(leased(
            Arc::clone(&server),
            node,
            callback::NAME,
            stop_duties.clone(),
            calling,
        ));
        let sealing =
            |server: Arc<Server>, ending| async move { sealer::run(&server, ending).await };
        duties.spawn(leased(Arc::clone(&server), node, sealer::NAME, stop_duties.clone(), sealing));
        let erasing =
            |server: Arc<Server>, ending| async move { eraser::run(&server, ending).await };
        duties.spawn(leased(Arc::clone(&server), node, eraser::NAME, stop_duties.clone(), erasing));
        duties.spawn(eraser::forget(Arc::clone(&server), head, stop_duties.clone()));
        duties.spawn(node::keep(Arc::clone(&server), node, number, stop_duties.clone()));
        duties.spawn(chores(Arc::clone(&server), stop_duties.clone()));
        let address = serve(&server, &config.listen, &front).await?;
        Ok(Running {
            server,
            address,
            new_admin_token,
            front,
            duties,
            back,
            stop_duties,
            stop_back,
        })
    }

    /// Drains: takes nothing new, finishes what was begun, and loses nothing that was accepted.
    pub async fn shutdown(self) {
        let Running { server, front, duties, back, stop_duties, stop_back, .. } = self;
        server.stop.cancel();
        front.close();
        if tokio::time::timeout(DRAIN, front.wait()).await.is_err() {
            tracing::warn!("some requests did not end in time");
        }
        stop_duties.cancel();
        let (ledger, database) = (server.ledger.clone(), server.ledger.database().clone());
        // The recorder ends when the last sender of outcomes is gone.
        drop(server);
        duties.close();
        if tokio::time::timeout(DRAIN, duties.wait()).await.is_err() {
            tracing::warn!("some outcomes may be recorded only after the next start");
        }
        ledger.close();
        stop_back.cancel();
        back.close();
        back.wait().await;
        database.close().await;
    }
}

async fn serve(
    server: &Arc<Server>,
    listen: &str,
    front: &TaskTracker,
) -> Result<SocketAddr, StartError> {
    let failed = |error| StartError::Listen(listen.to_owned(), error);
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let router = http::router(Arc::clone(server));
    let stop = server.stop.clone();
    front.spawn(async move {
        let listener = axum::serve::ListenerExt::tap_io(listener, |stream| {
            // Small answers should leave at once; a socket that refuses still works.
            let _ = stream.set_nodelay(true);
        });
        let router = router.into_make_service_with_connect_info::<SocketAddr>();
        let serving = axum::serve(listener, router);
        if let Err(error) = serving.with_graceful_shutdown(stop.cancelled_owned()).await {
            tracing::error!(%error, "the server stopped listening");
        }
    });
    Ok(address)
}

/// The first admin's token: given, or made at the first start.
async fn admin_token(tokens: &Tokens, config: &Config) -> Result<Option<String>, Fault> {
    if let Some(given) = &config.admin_token {
        tokens.create_operator("admin", Role::Admin, None, Some(given)).await?;
        return Ok(None);
    }
    if tokens.any_operator().await? {
        return Ok(None);
    }
    tokens.create_operator("admin", Role::Admin, None, None).await.map(Some)
}

/// When the last event was recorded; numbers of messages go on after it.
async fn last_time(ledger: &Ledger) -> Result<i64, Fault> {
    let page = ledger.read(ledger.head() - 1, 1).await?;
    Ok(page.events.last().map_or(0, |event| event.recorded_at))
}

/// Expiry, endings and who is gone, on whichever node holds the lease.
async fn duty(server: Arc<Server>, node: Uuid, stop: CancellationToken) {
    let lease = Lease::new(&server.ledger, &server.clock, "deliveries", node);
    let mut holding = false;
    loop {
        if !holding {
            holding = may_act(&server).await && lease.hold(LEASE).await.unwrap_or(false);
        }
        if !holding {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RENEW) => continue,
            }
        }
        tokio::select! {
            () = stop.cancelled() => break,
            lost = keep(&lease) => holding = !lost,
            failed = expiry::run(&server) => report("expiry", failed),
            failed = endings::run(&server) => report("endings", failed),
            failed = closing::run(&server) => report("closing", failed),
            failed = departed::run(&server) => report("presence", failed),
            failed = delivery::run(&server) => report("vendors", failed),
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
    // What can't be given back runs out by itself.
    let _ = lease.release().await;
}

/// A duty with a lease of its own, on whichever node holds it; it is told to end, and ends in its
/// own time.
async fn leased<F: Future<Output = Result<(), Fault>> + Send>(
    server: Arc<Server>,
    node: Uuid,
    name: &'static str,
    stop: CancellationToken,
    run: impl Fn(Arc<Server>, CancellationToken) -> F + Send,
) {
    let lease = Lease::new(&server.ledger, &server.clock, name, node);
    while !stop.is_cancelled() {
        if !may_act(&server).await || !lease.hold(LEASE).await.unwrap_or(false) {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RENEW) => continue,
            }
        }
        let ending = stop.child_token();
        let mut running = std::pin::pin!(run(Arc::clone(&server), ending.clone()));
        tokio::select! {
            ended = &mut running => report(name, ended),
            _ = keep(&lease) => {
                ending.cancel();
                report(name, running.await);
            }
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
    // What can't be given back runs out by itself.
    let _ = lease.release().await;
}

/// Whether effects may go on; not in a restored ledger before an operator says so.
async fn may_act(server: &Server) -> bool {
    match effects::paused(&server.ledger.database().ledger_read).await {
        Ok(paused) => {
            server.metrics.effects_paused(paused.is_some());
            paused.is_none()
        }
        Err(_) => false,
    }
}

/// Renews a lease until it is lost.
async fn keep(lease: &Lease) -> bool {
    loop {
        tokio::time::sleep(RENEW).await;
        match lease.hold(LEASE).await {
            Ok(true) => {}
            Ok(false) => return true,
            Err(fault) => tracing::warn!(%fault, "a lease could not be renewed"),
        }
    }
}

fn report(duty: &str, failed: Result<(), Fault>) {
    if let Err(fault) = failed {
        tracing::error!(%fault, duty, "a duty failed; it is taken up again");
    }
}

/// Removes old tokens, and keys of calls to vendors that are not made again.
async fn chores(server: Arc<Server>, stop: CancellationToken) {
    loop {
        let hints = &server.ledger.database().presence;
        for removed in [
            server.tokens.remove_old().await,
            server.easemob.tokens.remove_old().await,
            calls::forget_old(hints, server.clock.now()).await,
            server.access.remove_old(server.access_days).await,
        ] {
            if let Err(fault) = removed {
                tracing::warn!(%fault, "old tokens or keys could not be removed");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(CHORES) => {}
        }
    }
}
