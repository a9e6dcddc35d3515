//! A ledger in memory. It answers deciders as the real one does: a fact is folded from the events
//! when it is first asked for, kept, and evolved by what is appended later.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    rc::Rc,
    sync::Arc,
};

use domain::{
    Append, Decide, Event, Metadata, Recorded, Rejection, Stream,
    facts::{Fact, Facts, Key, Stop, forgets, touched},
    message::{Message, MessageId},
};
use uuid::Uuid;

/// Events in order, and the facts that were asked for so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    events: Vec<Rc<Recorded>>,
    versions: HashMap<Stream, i64>,
    touching: HashMap<Key, Vec<Rc<Recorded>>>,
    kept: RefCell<HashMap<Key, Fact>>,
}

/// What a command came to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Decision {
    /// Its events, or why not.
    pub(crate) outcome: Result<Vec<Append>, Rejection>,
    /// The facts that it rests on.
    pub(crate) used: Vec<Key>,
}

/// When the event at a position was recorded, in µs since the epoch.
pub(crate) fn at(position: i64) -> i64 {
    1_700_000_000_000_000 + position * 1_000_000
}

impl Ledger {
    /// Everything that happened, in order.
    pub(crate) fn events(&self) -> impl Iterator<Item = &Recorded> {
        self.events.iter().map(Rc::as_ref)
    }

    /// The version of a stream; 0 before its first event.
    pub(crate) fn version(&self, stream: &Stream) -> i64 {
        self.versions.get(stream).copied().unwrap_or(0)
    }

    /// Appends one event.
    pub(crate) fn append(&mut self, app: &str, append: Append) {
        let Append { stream, version, event } = append;
        let position = i64::try_from(self.events.len()).unwrap() + 1;
        self.versions.insert(stream.clone(), version);
        let recorded = Rc::new(Recorded {
            position,
            app: app.to_owned(),
            stream,
            version,
            recorded_at: at(position),
            event_id: Uuid::from_u128(position.unsigned_abs().into()),
            metadata: Metadata::default(),
            event,
        });
        let mut keys = touched(recorded.place(), &recorded.event);
        if forgets(&recorded.event) {
            // The real one reads these anew; here they are evolved, which has to come to the same.
            let unnamed = |key: &&Key| matches!(key, Key::AccountLabels(_) | Key::Member { .. });
            keys.extend(self.touching.keys().filter(unnamed).cloned());
        }
        for key in keys {
            let mut kept = self.kept.borrow_mut();
            if let Some(fact) = kept.remove(&key) {
                let fact = fact.evolve(&key, recorded.place(), &recorded.event);
                kept.insert(key.clone(), fact);
            }
            self.touching.entry(key).or_default().push(Rc::clone(&recorded));
        }
        self.events.push(recorded);
    }

    /// What is known under a key.
    pub(crate) fn fact(&self, key: &Key) -> Fact {
        if let Some(fact) = self.kept.borrow().get(key) {
            return fact.clone();
        }
        let fact = self.folded(key);
        self.kept.borrow_mut().insert(key.clone(), fact.clone());
        fact
    }

    /// What is known under a key, folded from the first event on.
    pub(crate) fn folded(&self, key: &Key) -> Fact {
        self.touching.get(key).into_iter().flatten().fold(nothing(key), |fact, recorded| {
            fact.evolve(key, recorded.place(), &recorded.event)
        })
    }

    /// Every key that any event touched.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.touching.keys()
    }

    /// A message that is there.
    pub(crate) fn message(&self, id: MessageId) -> Arc<Message> {
        match self.fact(&Key::Message(id)) {
            Fact::Message(Some(message)) => message,
            other => panic!("no message {id}: {other:?}"),
        }
    }

    /// The ids of all messages, in order of acceptance.
    pub(crate) fn messages(&self) -> Vec<MessageId> {
        let id = |recorded: &Recorded| match (&recorded.stream, &recorded.event) {
            (Stream::Message(id), Event::MessageAccepted(_)) => Some(*id),
            _ => None,
        };
        self.events().filter_map(id).collect()
    }

    /// The ids of all tasks, in order of creation.
    pub(crate) fn tasks(&self) -> Vec<MessageId> {
        let id = |recorded: &Recorded| match (&recorded.stream, &recorded.event) {
            (Stream::Task(id), Event::TaskCreated(_)) => Some(*id),
            _ => None,
        };
        self.events().filter_map(id).collect()
    }

    /// Decides a command, answering what it asks for.
    pub(crate) fn decide(&self, command: &dyn Decide) -> Decision {
        let mut facts = Facts::default();
        let mut asked = HashSet::new();
        let outcome = loop {
            match command.decide(&facts) {
                Ok(appends) => break Ok(appends),
                Err(Stop::Rejected(rejection)) => break Err(rejection),
                Err(Stop::Need(keys)) => {
                    assert!(!keys.is_empty(), "a decision stopped and needs nothing");
                    for key in keys {
                        assert!(asked.insert(key.clone()), "{key:?} was asked for twice");
                        let fact = self.fact(&key);
                        facts.insert(key, fact);
                    }
                }
            }
        };
        Decision { outcome, used: facts.into_used() }
    }
}

/// What is known under a key before anything happened.
fn nothing(key: &Key) -> Fact {
    match key {
        Key::Apps => Fact::Apps(Arc::default()),
        Key::Account { .. } | Key::Tencent { .. } => Fact::Account(None),
        Key::Addresses(_) => Fact::Addresses(None),
        Key::User { .. } => Fact::User(None),
        Key::Label { .. } => Fact::Label(None),
        Key::LabelCount(_) => Fact::Count(0),
        Key::AccountLabels(_) => Fact::Labels(Arc::default()),
        Key::Client { .. }
        | Key::Cid { .. }
        | Key::Hardware { .. }
        | Key::AccountDevices(_)
        | Key::Device(_) => Fact::Devices(Arc::default()),
        Key::Package { .. } | Key::Member { .. } => Fact::Known(false),
        Key::Owner { .. } => Fact::Owner(None),
        Key::Message(_) => Fact::Message(None),
        Key::Task(_) => Fact::Task(None),
        Key::AppTasks(_) => Fact::Tasks(Arc::default()),
        Key::Chunk(..) => Fact::Chunk(None),
    }
}
