//! What the registry knows under a key is what a fold of the events that touched it makes, whatever
//! the pages in which they came; and what a node remembers is what the registry knows.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    mem::discriminant,
    sync::Arc,
};

use domain::{
    Recorded,
    facts::{Fact, Key, forgets, touched},
};
use projections::registry;
use pushledger::ledger::{Database, Ledger};

use super::{
    Bare,
    commands::{LABELS, USERNAMES},
    history::live,
};
use crate::harness::{Place, World, until};

/// Events of each page of a fold.
const PAGES: [usize; 3] = [1, 7, 10_000];
/// Kinds of [`Key`].
const KINDS: usize = 20;

/// Facts by key, folded in memory. What is known before anything happened is what a ledger says
/// that is empty.
struct Folded<'a> {
    empty: &'a Ledger,
    facts: HashMap<Key, Fact>,
}

impl<'a> Folded<'a> {
    fn new(empty: &'a Ledger) -> Folded<'a> {
        Folded { empty, facts: HashMap::new() }
    }

    async fn apply(&mut self, recorded: &Recorded) {
        let place = recorded.place();
        let mut keys = touched(place, &recorded.event);
        if forgets(&recorded.event) {
            // A label that is deleted does not name who was in it.
            let unnamed = |key: &&Key| matches!(key, Key::AccountLabels(_) | Key::Member { .. });
            keys.extend(self.facts.keys().filter(unnamed).cloned());
        }
        for key in keys {
            let before = match self.facts.remove(&key) {
                Some(fact) => fact,
                None => self.empty.fact(key.clone()).await.unwrap(),
            };
            let after = before.evolve(&key, place, &recorded.event);
            self.facts.insert(key, after);
        }
    }
}

/// A fact whose order says nothing, in one that does not depend on where it comes from.
fn in_order(fact: Fact) -> Fact {
    let Fact::Apps(apps) = fact else { return fact };
    let mut apps = Vec::clone(&apps);
    apps.sort_by(|one, next| one.config.app_id.cmp(&next.config.app_id));
    Fact::Apps(Arc::new(apps))
}

/// Names of one kind, asked for as if they were of another.
fn mistaken() -> Vec<Key> {
    let app = || "demo".to_owned();
    let client = |client: &str| Key::Client { app: app(), client: client.to_owned() };
    vec![
        Key::Package { app: app(), package: String::new() },
        client("phone"),
        client("ann"),
        client("7"),
        Key::cid("demo", 8),
        Key::cid("another", 7),
        Key::Hardware { app: app(), id: "phone".to_owned() },
        Key::account("demo", "ann"),
        Key::tencent("demo", "user-1"),
        Key::tencent("another", "Ann"),
        Key::user("demo", "user-1"),
        Key::label("another", "news"),
        Key::LabelCount("another".to_owned()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fact_of_a_ledger_is_the_fold_of_the_events_that_touched_its_key() {
    let nowhere = Place::new().await;
    let empty = Bare::open(&nowhere).await;
    for seed in [3, u64::MAX / 5] {
        let world = World::with_clock().await;
        live(&world, seed, 300).await;
        let place = world.stop().await;
        let bare = Bare::open(&place).await;
        let mut folded = Folded::new(&empty.ledger);
        for recorded in bare.events().await {
            folded.apply(&recorded).await;
        }
        let kinds: HashSet<_> = folded.facts.keys().map(discriminant).collect();
        assert_eq!(kinds.len(), KINDS, "seed {seed} has no rich history");
        for (key, fact) in folded.facts {
            let known = bare.ledger.fact(key.clone()).await.unwrap();
            assert_eq!(in_order(known), in_order(fact), "{key:?}");
        }
        for key in mistaken() {
            let nothing = empty.ledger.fact(key.clone()).await.unwrap();
            assert_eq!(bare.ledger.fact(key.clone()).await.unwrap(), nothing, "{key:?}");
        }
        bare.close().await;
    }
    empty.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registry_knows_after_each_page_what_a_fold_knows_then_whatever_the_pages() {
    let world = World::with_clock().await;
    live(&world, 5, 300).await;
    let place = world.stop().await;
    let bare = Bare::open(&place).await;
    let events = bare.events().await;
    bare.close().await;
    let nowhere = Place::new().await;
    let empty = Bare::open(&nowhere).await;
    for size in PAGES {
        let place = Place::new().await;
        let database = Database::open(&place.database()).await.unwrap();
        let mut folded = Folded::new(&empty.ledger);
        for page in events.chunks(size) {
            let mut tx = database.ledger_write.begin().await.unwrap();
            registry::apply(&mut tx.conn(), page).await.unwrap();
            let mut keys = HashSet::new();
            for recorded in page {
                folded.apply(recorded).await;
                keys.extend(touched(recorded.place(), &recorded.event));
            }
            for key in keys {
                // Messages and chunks are no part of the registry.
                let Some(known) = registry::load(&mut tx.conn(), &key).await.unwrap() else {
                    continue;
                };
                let fact = folded.facts[&key].clone();
                let last = page.last().map(|recorded| recorded.position);
                assert_eq!(in_order(known), in_order(fact), "{key:?} at {last:?}");
            }
            tx.commit().await.unwrap();
        }
        database.close().await;
    }
    empty.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_remembers_is_what_the_database_says() {
    let world = World::with_clock().await;
    live(&world, 9, 300).await;
    let ledger = &world.running.server.ledger;
    let mut keys = HashSet::new();
    for recorded in ledger.read(0, i64::MAX).await.unwrap().events {
        keys.extend(touched(recorded.place(), &recorded.event));
    }
    for key in keys {
        // Devices that left may still be talked about.
        until("it never came to rest", async || {
            let head = world.head().await;
            let remembered = ledger.remembered(key.clone()).await.unwrap();
            let known = ledger.fact(key.clone()).await.unwrap();
            let equal = in_order(remembered) == in_order(known);
            let rested = world.head().await == head && ledger.head() == head;
            assert!(equal || !rested, "{key:?}");
            equal
        })
        .await;
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_labels_and_members_are_listed_page_by_page_as_each_is_known_by_its_name() {
    let world = World::with_clock().await;
    live(&world, 13, 300).await;
    let place = world.stop().await;
    let bare = Bare::open(&place).await;
    let fact = async |key: Key| bare.ledger.fact(key).await.unwrap();
    let mut checkout = bare.ledger.database().ledger_read.checkout().await.unwrap();
    let (mut after, mut users) = (0, BTreeMap::new());
    loop {
        let page = registry::user_page(&mut checkout.conn(), "demo", after, 1).await.unwrap();
        let Some((position, user)) = page.into_iter().next() else { break };
        assert!(position > after);
        after = position;
        users.insert(user.username.clone(), user);
    }
    for name in USERNAMES {
        let known = users.get(name).cloned().map(Arc::new);
        assert_eq!(fact(Key::user("demo", name)).await, Fact::User(known));
    }
    let (mut after, mut labels) = (0, BTreeMap::new());
    loop {
        let page = registry::label_page(&mut checkout.conn(), "demo", after, 1).await.unwrap();
        let Some((position, label)) = page.into_iter().next() else { break };
        assert!(position > after);
        after = position;
        labels.insert(label.name.clone(), label);
    }
    for name in LABELS {
        let known = labels.get(name).cloned().map(Arc::new);
        assert_eq!(fact(Key::label("demo", name)).await, Fact::Label(known));
    }
    for label in labels.values() {
        let (mut after, mut members) = ((0, String::new()), BTreeSet::new());
        loop {
            let conn = &mut checkout.conn();
            let page = registry::member_page(conn, label.stream, &after, 1).await.unwrap();
            let Some(member) = page.into_iter().next() else { break };
            assert!(members.insert(member.username));
            after = member.after;
        }
        for (name, user) in &users {
            let key = Key::Member { label: label.stream, account: user.account };
            assert_eq!(fact(key).await, Fact::Known(members.contains(name)));
        }
        assert_eq!(i64::try_from(members.len()).unwrap(), label.members);
    }
    drop(checkout);
    bare.close().await;
}
