//! A plain fold of the ledger's events, one delivery at a time: what statistics have to say, however
//! they are kept.

use std::collections::BTreeMap;

use domain::{
    Event, Recorded, Stream,
    message::{Delivery, MessageId, Progress, Protocol, Stage},
    task::{
        Audience,
        state::{State, Way},
    },
};
use projections::{delivery_stats::Cell, latency::Step};

/// A delivery as a plain fold sees it.
pub(super) struct Naive {
    pub(super) protocol: Protocol,
    pub(super) accepted_at: i64,
    pub(super) task: Option<i64>,
    pub(super) label: Option<String>,
    /// What its device is and its app package, as the device's first event says.
    pub(super) kind: (String, String),
    pub(super) cell: Cell,
    /// Steps whose both ends were recorded: the way over which they came, and their times in ms.
    pub(super) took: Vec<(Way, Step, i64)>,
}

enum Fold {
    Message(Delivery),
    Chunk(State),
}

impl Fold {
    fn cell(&self) -> Cell {
        match self {
            Fold::Message(delivery) => Cell::of(delivery),
            Fold::Chunk(state) => Cell::of_state(*state),
        }
    }
}

/// Every delivery of an app, one at a time, event by event.
pub(super) fn naive(events: &[Recorded]) -> Vec<Naive> {
    struct Open {
        naive: Naive,
        fold: Fold,
        /// When it got to each stage by its own word.
        at: BTreeMap<Stage, i64>,
    }
    let mut open: BTreeMap<(MessageId, i64), Open> = BTreeMap::new();
    let mut kinds: BTreeMap<i64, (String, String)> = BTreeMap::new();
    let mut started: BTreeMap<MessageId, (Protocol, Option<String>, i64)> = BTreeMap::new();
    fn moved(own: &mut Open, before: Stage, said: Option<Stage>, now: i64) {
        let cell = own.fold.cell();
        let accepted = own.naive.accepted_at;
        let mut took = |step, begin: i64| {
            own.naive.took.push((cell.way, step, (now - begin).max(0) / 1_000));
        };
        if before < Stage::Sent && cell.stage >= Stage::Sent {
            took(Step::HandedOver, accepted);
        }
        if cell.stage > before && said == Some(cell.stage) {
            match cell.stage {
                Stage::Received => took(Step::Received, accepted),
                Stage::Displayed => {
                    if let Some(begin) = own.at.get(&Stage::Received) {
                        took(Step::Displayed, *begin);
                    }
                }
                Stage::Acknowledged => {
                    if let Some(begin) = own.at.get(&Stage::Displayed) {
                        took(Step::Acknowledged, *begin);
                    }
                }
                Stage::Accepted | Stage::Routed | Stage::Sent => {}
            }
            own.at.insert(cell.stage, now);
        }
        own.naive.cell = cell;
    }
    for recorded in events {
        let now = recorded.recorded_at;
        match (&recorded.stream, &recorded.event) {
            (Stream::Device(_), Event::DeviceRegistered(e)) => {
                let kind = (e.profile.device_type.clone(), e.profile.app_package.clone());
                kinds.insert(recorded.position, kind);
            }
            (Stream::Message(id), Event::MessageAccepted(e)) => {
                for target in &e.targets {
                    let fold = Fold::Message(target.delivery());
                    let naive = Naive {
                        protocol: e.protocol,
                        accepted_at: now,
                        task: None,
                        label: None,
                        kind: kinds.get(&target.device).cloned().unwrap_or_default(),
                        cell: fold.cell(),
                        took: Vec::new(),
                    };
                    let own = Open { naive, fold, at: BTreeMap::new() };
                    open.insert((*id, target.device), own);
                }
            }
            (Stream::Task(id), Event::TaskCreated(e)) => {
                let label = match &e.audience {
                    Audience::Label { name, .. } => Some(name.clone()),
                    Audience::Everyone | Audience::Users(_) => None,
                };
                started.insert(*id, (e.protocol, label, now));
            }
            (Stream::Task(id), Event::TaskStarted(_)) => started.get_mut(id).unwrap().2 = now,
            (Stream::Chunk(id, _), Event::ChunkDelivered(e)) => {
                let (protocol, label, accepted_at) = started[id].clone();
                for (device, kind) in e.outcomes() {
                    let own = open.entry((*id, device)).or_insert_with(|| {
                        let (fold, label) = (Fold::Chunk(State::default()), label.clone());
                        let (task, cell, took) = (Some(id.0), fold.cell(), Vec::new());
                        let kind = kinds.get(&device).cloned().unwrap_or_default();
                        let naive = Naive { protocol, accepted_at, task, label, kind, cell, took };
                        Open { naive, fold, at: BTreeMap::new() }
                    });
                    let before = own.fold.cell().stage;
                    if let Fold::Chunk(state) = &mut own.fold {
                        *state = state.after(kind);
                    }
                    moved(own, before, None, now);
                }
            }
            (Stream::Message(id) | Stream::Chunk(id, _), Event::DeliveriesAdvanced(e)) => {
                for step in &e.steps {
                    let Some(own) = open.get_mut(&(*id, step.device)) else { continue };
                    let before = own.fold.cell().stage;
                    match &mut own.fold {
                        Fold::Message(delivery) => delivery.advance(step),
                        Fold::Chunk(state) => *state = state.advance(step),
                    }
                    let said = match step.what {
                        Progress::Received => Some(Stage::Received),
                        Progress::Displayed => Some(Stage::Displayed),
                        Progress::Acknowledged => Some(Stage::Acknowledged),
                        _ => None,
                    };
                    moved(own, before, said, now);
                }
            }
            (Stream::Message(id), Event::RecallRequested(e)) => {
                for recalled in &e.results {
                    let own = open.get_mut(&(*id, recalled.device)).unwrap();
                    if let Fold::Message(delivery) = &mut own.fold {
                        delivery.recall(e.op, recalled.result);
                    }
                    own.naive.cell = own.fold.cell();
                }
            }
            _ => {}
        }
    }
    open.into_values().map(|own| own.naive).collect()
}
