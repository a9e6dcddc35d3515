//! Connections to the database that break while it is asked to commit.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use domain::{Event, Stream};
use futures_util::future::join_all;
use pushledger::{app::Running, clock::Clock, config::Config};
use serde_json::{Value, json};
use sim::{Admin, Caller, Reply};
use sqlx::{Connection, PgConnection};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

use super::{PUSH, accepted, history, to};
use crate::harness::{ADMIN_TOKEN, PATIENCE, World, until};

/// A push with an idempotency key, tried until it is answered with success.
async fn insist(cloud: &Caller, body: &Value, key: &str) -> String {
    let body = body.to_string();
    let again = async {
        loop {
            let mut headers = cloud.headers(PUSH, &body, Clock::System.now() / 1_000);
            headers.push(("Idempotency-Key".to_owned(), key.to_owned()));
            match cloud.call_with(PUSH, &body, &headers).await {
                Ok(Reply { ret_code, data, .. }) if ret_code == "00000" => {
                    return data["msgId"].as_str().unwrap().to_owned();
                }
                Ok(reply) => assert!(reply.ret_code.starts_with('A'), "{reply:?}"),
                Err(error) => panic!("the server did not answer: {error}"),
            }
        }
    };
    tokio::time::timeout(3 * PATIENCE, again).await.expect("it never succeeded")
}

/// Some pushes by many writers at once, every other one insisting with an idempotency key.
struct Writers {
    answers: AtomicUsize,
}

impl Writers {
    const WRITERS: usize = 8;
    const ROUNDS: usize = 15;

    fn new() -> Writers {
        Writers { answers: AtomicUsize::new(0) }
    }

    fn done(&self) -> bool {
        self.answers.load(Ordering::Relaxed) == Self::WRITERS * Self::ROUNDS
    }

    /// The name that each push carries, and the id that it was answered with, if it was.
    async fn write(&self, cloud: &Caller) -> Vec<(String, Option<String>)> {
        let each = (0..Self::WRITERS).map(|writer| async move {
            let mut ids = Vec::new();
            for n in 0..Self::ROUNDS {
                let name = format!("{writer}-{n}");
                let body = to("c-1", json!({ "name": name }));
                let id = if writer % 2 == 0 {
                    Some(insist(cloud, &body, &name).await)
                } else {
                    let reply = cloud.call(PUSH, &body.to_string()).await.unwrap();
                    assert!(reply.ret_code == "00000" || reply.ret_code.starts_with('A'));
                    reply.data["msgId"].as_str().map(str::to_owned)
                };
                ids.push((name, id));
                self.answers.fetch_add(1, Ordering::Relaxed);
            }
            ids
        });
        join_all(each).await.into_iter().flatten().collect()
    }
}

/// Checks that what was answered is there once, and what was not at most once; and that the views
/// came through it too.
async fn each_is_there_once(world: &World, written: Vec<(String, Option<String>)>) {
    let events = history(world).await;
    let mut by_name: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for recorded in &events {
        if let (Event::MessageAccepted(push), Stream::Message(id)) =
            (&recorded.event, &recorded.stream)
        {
            let payload = push.private.as_ref().unwrap().payload.as_ref().unwrap();
            let payload: Value = serde_json::from_str(payload.0.get()).unwrap();
            let name = payload["name"].as_str().unwrap().to_owned();
            by_name.entry(name).or_default().push(id.to_string());
        }
    }
    for (name, id) in written {
        match (id, by_name.get(&name)) {
            (Some(id), Some(found)) => assert_eq!(*found, [id], "{name}"),
            (Some(_), None) => panic!("{name} was answered and is not there"),
            (None, Some(found)) => assert_eq!(found.len(), 1, "{name}"),
            (None, None) => {}
        }
    }
    let head = i64::try_from(events.len()).unwrap();
    let server = &world.running.server;
    server.views.reached(head, PATIENCE).await.unwrap();
    let mut own = PgConnection::connect(&world.place.database()).await.unwrap();
    const COUNT: &str = "SELECT count(*) FROM views_1.messages";
    let (messages,): (i64,) = sqlx::query_as(COUNT).fetch_one(&mut own).await.unwrap();
    assert_eq!(usize::try_from(messages).unwrap(), accepted(&events).len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_while_connections_to_the_database_are_cut_is_appended_once() {
    let world = World::new().await;
    on_postgres!(world);
    world.register("c-1").await;
    let (cloud, writers) = (world.cloud(), Writers::new());
    let cut = async {
        const CUT: &str = "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity \
             WHERE datname = current_database() AND application_name = 'pushledger' \
             ORDER BY state = 'active' DESC, random() LIMIT 2) AS victims";
        let mut own = PgConnection::connect(&world.place.database()).await.unwrap();
        let mut seen = 0;
        while !writers.done() {
            sqlx::query(CUT).execute(&mut own).await.unwrap();
            until("nothing was answered any more", async || {
                let before = std::mem::replace(&mut seen, writers.answers.load(Ordering::Relaxed));
                seen > before || writers.done()
            })
            .await;
        }
    };
    let (written, ()) = tokio::join!(writers.write(&cloud), cut);
    each_is_there_once(&world, written).await;
    world.stop().await;
}

/// A way to the database that loses every third commit, once it is told to: the request on its
/// way there, or the answer on its way back (of a commit in a single statement, always that).
struct Lossy {
    database: String,
    losing: Arc<AtomicBool>,
    lost: Arc<AtomicUsize>,
    forwarding: JoinHandle<()>,
}

/// What becomes of a commit.
enum Commit {
    Passes,
    LosesItsRequest,
    LosesItsAnswer,
}

impl Lossy {
    async fn new(database: &str) -> Lossy {
        let (scheme, rest) = database.split_once('@').unwrap();
        let (address, name) = rest.split_once('/').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let database = format!("{scheme}@{}/{name}", listener.local_addr().unwrap());
        let address = address.to_owned();
        let (losing, lost) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (is_losing, counted) = (Arc::clone(&losing), Arc::clone(&lost));
        let commits = Arc::<AtomicUsize>::default();
        let forwarding = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (outside, _) = listener.accept().await.unwrap();
                let inside = TcpStream::connect(&address).await.unwrap();
                let (losing, lost) = (Arc::clone(&is_losing), Arc::clone(&counted));
                let commits = Arc::clone(&commits);
                let next = move || {
                    if !losing.load(Ordering::Relaxed) {
                        return Commit::Passes;
                    }
                    let fate = match commits.fetch_add(1, Ordering::Relaxed) % 6 {
                        2 => Commit::LosesItsRequest,
                        5 => Commit::LosesItsAnswer,
                        _ => return Commit::Passes,
                    };
                    lost.fetch_add(1, Ordering::Relaxed);
                    fate
                };
                // Either end may break off at any time.
                connections.spawn(async move { drop(forward(outside, inside, next).await) });
            }
        });
        Lossy { database, losing, lost, forwarding }
    }
}

/// Forwards until an end closes, or a commit is lost: then both are closed.
async fn forward(
    mut outside: TcpStream,
    mut inside: TcpStream,
    next: impl Fn() -> Commit,
) -> std::io::Result<()> {
    let (mut up, mut down) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        tokio::select! {
            read = outside.read(&mut up) => {
                let sent = &up[..read?];
                if sent.is_empty() {
                    return Ok(());
                }
                match if is_commit(sent) { next() } else { Commit::Passes } {
                    Commit::Passes => inside.write_all(sent).await?,
                    Commit::LosesItsRequest => return Ok(()),
                    Commit::LosesItsAnswer => {
                        inside.write_all(sent).await?;
                        loop {
                            let read = inside.read(&mut down).await?;
                            if read == 0 || is_commit(&down[..read]) {
                                return Ok(());
                            }
                        }
                    }
                }
            }
            read = inside.read(&mut down) => {
                let sent = &down[..read?];
                if sent.is_empty() || is_appended(sent) && !matches!(next(), Commit::Passes) {
                    return Ok(());
                }
                outside.write_all(sent).await?;
            }
        }
    }
}

/// Whether the answer to a commit of a single statement is in some bytes of PostgreSQL's protocol:
/// rows were inserted, and the connection is in no transaction (any more).
fn is_appended(bytes: &[u8]) -> bool {
    let inserted = bytes.windows(9).any(|window| window == b"INSERT 0 ");
    inserted && bytes.ends_with(b"Z\0\0\0\x05I")
}

/// Whether a commit, or the answer to one, is in some bytes of PostgreSQL's protocol.
fn is_commit(bytes: &[u8]) -> bool {
    bytes.windows(7).any(|window| window == b"COMMIT\0")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_appended_once() {
    let world = World::new().await;
    on_postgres!(world);
    world.register("c-1").await;
    let place = world.stop().await;
    let lossy = Lossy::new(&place.database()).await;
    let config = Config { database: lossy.database.clone(), ..place.config() };
    let running = Running::start(&config, Clock::System).await.unwrap();
    let url = format!("http://{}", running.address);
    let admin = Admin::new(&url, ADMIN_TOKEN);
    let world = World { place, running, clock: Clock::System, url, admin };
    lossy.losing.store(true, Ordering::Relaxed);
    let written = Writers::new().write(&world.cloud()).await;
    lossy.losing.store(false, Ordering::Relaxed);
    // Every push was answered: the server settles by itself what became of each commit.
    assert!(written.iter().all(|(_, id)| id.is_some()));
    assert!(lossy.lost.load(Ordering::Relaxed) >= 10);
    each_is_there_once(&world, written).await;
    world.stop().await;
    lossy.forwarding.abort();
}
