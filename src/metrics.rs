//! What an operator watches. Counters and histograms are updated where things happen; gauges that
//! can be read are read when `/metrics` is asked for.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::feed::rebuild::State;
use domain::{
    callback::{Kind, Outcome, Reason},
    message::Progress,
};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

/// Every metric of a server.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    events: Counter,
    group_size: Histogram,
    commit_time: Histogram,
    /// Device connections that are open.
    pub connections: Gauge,
    /// Position of the ledger's head.
    pub head: Gauge,
    queue: Family<LaneLabel, Gauge>,
    lag: Family<SubscriberLabel, Gauge>,
    /// How far the subscribers that run on this node have read. What they are behind is worked out
    /// when somebody asks: one that is stuck would not say so itself.
    read: Mutex<BTreeMap<&'static str, i64>>,
    set_aside: Counter,
    deliveries: Family<DeliveryLabel, Counter>,
    vendors: Family<VendorLabel, Counter>,
    requests: Family<RequestLabel, Counter>,
    callbacks: Family<CallbackLabel, Counter>,
    callback_calls: Family<CallLabel, Counter>,
    callback_call_time: Family<KindLabel, Histogram, fn() -> Histogram>,
    callbacks_waiting: Gauge,
    circuits_open: Gauge,
    seals_refused: Gauge,
    effects_paused: Gauge,
    views_generation: Gauge,
    rebuilds: Family<RebuildLabel, Counter>,
    accesses: Family<AccessLabel, Counter>,
    access_failing: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RebuildLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AccessLabel {
    what: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallbackLabel {
    kind: &'static str,
    outcome: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabel {
    kind: &'static str,
    answered: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LaneLabel {
    lane: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SubscriberLabel {
    subscriber: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeliveryLabel {
    stage: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VendorLabel {
    vendor: &'static str,
    class: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabel {
    route: String,
    code: String,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("pushledger");
        let events = Counter::default();
        registry.register("events_appended", "Events made durable by this node", events.clone());
        let group_size = Histogram::new(exponential_buckets(1.0, 2.0, 13));
        registry.register("group_events", "Events of one commit", group_size.clone());
        let commit_time = Histogram::new(exponential_buckets(0.000_25, 2.0, 14));
        registry.register_with_unit(
            "commit",
            "Time of one commit, from the lock to durable",
            Unit::Seconds,
            commit_time.clone(),
        );
        let connections = Gauge::default();
        registry.register("connections", "Device connections that are open", connections.clone());
        let head = Gauge::default();
        registry.register("head_position", "Last position of the ledger", head.clone());
        let queue = Family::default();
        registry.register("queue_commands", "Commands that wait, by lane", queue.clone());
        let lag = Family::default();
        registry.register("lag_events", "Events that a subscriber has still to read", lag.clone());
        let set_aside = Counter::default();
        registry.register(
            "events_set_aside",
            "Events that the views could not read or fold",
            set_aside.clone(),
        );
        let deliveries = Family::default();
        registry.register(
            "deliveries",
            "Deliveries that reached a stage or ended, by reason",
            deliveries.clone(),
        );
        let vendors = Family::default();
        registry.register(
            "vendor_verdicts",
            "Tokens that a push vendor answered for, by vendor and class of the answer",
            vendors.clone(),
        );
        let requests = Family::default();
        registry.register("requests", "Answered requests by route and code", requests.clone());
        let callbacks = Family::default();
        registry.register(
            "callbacks",
            "Callbacks that were answered, postponed or given up, by kind and reason",
            callbacks.clone(),
        );
        let callback_calls = Family::default();
        registry.register(
            "callback_calls",
            "Calls to apps' servers, by kind and whether any answer came",
            callback_calls.clone(),
        );
        let call_time = || Histogram::new(exponential_buckets(0.001, 2.0, 15));
        let callback_call_time = Family::new_with_constructor(call_time as fn() -> Histogram);
        registry.register_with_unit(
            "callback_call",
            "Time of one call to an app's server, answered or not, by kind",
            Unit::Seconds,
            callback_call_time.clone(),
        );
        let callbacks_waiting = Gauge::default();
        registry.register(
            "callbacks_waiting",
            "Callbacks that wait in memory for a call",
            callbacks_waiting.clone(),
        );
        let circuits_open = Gauge::default();
        registry.register(
            "circuits_open",
            "Receivers of callbacks that are left alone for a while",
            circuits_open.clone(),
        );
        let seals_refused = Gauge::default();
        registry.register(
            "seals_refused",
            "1 while nothing is signed, as the witness, the tree or the key forbids it",
            seals_refused.clone(),
        );
        let effects_paused = Gauge::default();
        registry.register(
            "effects_paused",
            "1 while effects wait for an operator to resume them",
            effects_paused.clone(),
        );
        let views_generation = Gauge::default();
        registry.register(
            "views_generation",
            "Generation of the views that this node reads",
            views_generation.clone(),
        );
        let rebuilds = Family::default();
        registry.register(
            "views_rebuilds",
            "Rebuilds of the views that ended on this node, by outcome",
            rebuilds.clone(),
        );
        let accesses = Family::default();
        registry.register(
            "accesses",
            "Rows of the access log that were written, and calls that were refused and found no room",
            accesses.clone(),
        );
        let access_failing = Gauge::default();
        registry.register(
            "access_log_failing",
            "1 while the access log cannot be written, and personal data is not told",
            access_failing.clone(),
        );
        Metrics {
            registry,
            views_generation,
            rebuilds,
            accesses,
            access_failing,
            effects_paused,
            seals_refused,
            callbacks,
            callback_calls,
            callback_call_time,
            callbacks_waiting,
            circuits_open,
            events,
            group_size,
            commit_time,
            connections,
            head,
            queue,
            lag,
            read: Mutex::default(),
            set_aside,
            deliveries,
            vendors,
            requests,
        }
    }
}

impl Metrics {
    /// A group became durable.
    pub fn committed(&self, events: usize, took: Duration) {
        self.events.inc_by(events as u64);
        #[expect(clippy::cast_precision_loss, reason = "a group has a few thousand events")]
        self.group_size.observe(events as f64);
        self.commit_time.observe(took.as_secs_f64());
    }

    /// Commands that wait now.
    pub fn waiting(&self, (interactive, bulk): (usize, usize)) {
        for (lane, waiting) in [("interactive", interactive), ("bulk", bulk)] {
            let waiting = i64::try_from(waiting).unwrap_or(i64::MAX);
            self.queue.get_or_create(&LaneLabel { lane }).set(waiting);
        }
    }

    /// How far a subscriber is behind the head.
    pub fn lag(&self, subscriber: &'static str, events: i64) {
        self.lag.get_or_create(&SubscriberLabel { subscriber }).set(events.max(0));
    }

    /// A subscriber begins to read on this node, after a position.
    #[must_use]
    pub fn reading(&self, subscriber: &'static str, after: i64) -> Reading<'_> {
        self.read().insert(subscriber, after);
        Reading { metrics: self, subscriber }
    }

    /// How far the subscribers of this node are behind the head now.
    pub fn lags(&self, head: i64) {
        let read = self.read();
        read.iter().for_each(|(subscriber, position)| self.lag(subscriber, head - position));
    }

    fn read(&self) -> MutexGuard<'_, BTreeMap<&'static str, i64>> {
        // Nothing that holds the lock can panic half-way, so a poisoned one is still whole.
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many events were set aside by the views.
    pub fn set_aside(&self, events: usize) {
        self.set_aside.inc_by(events as u64);
    }

    /// Pushes were accepted, with so many deliveries.
    pub fn accepted(&self, deliveries: usize) {
        let label = DeliveryLabel { stage: "accepted", reason: "" };
        self.deliveries.get_or_create(&label).inc_by(deliveries as u64);
    }

    /// A delivery went on.
    pub fn advanced(&self, what: Progress) {
        self.advanced_many(what, 1);
    }

    /// So many deliveries went on in the same way.
    pub fn advanced_many(&self, what: Progress, deliveries: u64) {
        let (stage, reason) = match what {
            Progress::Sent => ("sent", ""),
            Progress::Received => ("received", ""),
            Progress::Displayed => ("displayed", ""),
            Progress::Acknowledged => ("acknowledged", ""),
            Progress::Recalled(_) => ("recalled", ""),
            Progress::Failed(reason) => ("failed", reason.name()),
            Progress::Ended(reason) => ("ended", reason.name()),
        };
        self.deliveries.get_or_create(&DeliveryLabel { stage, reason }).inc_by(deliveries);
    }

    /// A push vendor answered for so many tokens.
    pub fn vendor(&self, vendor: &'static str, class: &'static str, tokens: usize) {
        let label = VendorLabel { vendor, class };
        self.vendors.get_or_create(&label).inc_by(tokens as u64);
    }

    /// A callback of a kind, or of none, was answered, postponed or given up.
    pub fn callback(&self, kind: Option<Kind>, outcome: Outcome, reason: Option<Reason>) {
        let kind = kind.map_or("unknown", Kind::name);
        let (outcome, reason) = (outcome.name(), reason.map_or("", Reason::name));
        self.callbacks.get_or_create(&CallbackLabel { kind, outcome, reason }).inc();
    }

    /// An app's server was called, and answered or did not after so long.
    pub fn callback_called(&self, kind: Kind, answered: bool, took: Duration) {
        let (kind, answered) = (kind.name(), if answered { "yes" } else { "no" });
        self.callback_calls.get_or_create(&CallLabel { kind, answered }).inc();
        self.callback_call_time.get_or_create(&KindLabel { kind }).observe(took.as_secs_f64());
    }

    /// Callbacks that wait in memory, and receivers that are left alone.
    pub fn callbacks_waiting(&self, waiting: usize, open: usize) {
        self.callbacks_waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        self.circuits_open.set(i64::try_from(open).unwrap_or(i64::MAX));
    }

    /// This node makes no callbacks any more.
    pub fn callbacks_stopped(&self) {
        self.callbacks_waiting(0, 0);
    }

    /// Whether effects wait for an operator.
    pub fn effects_paused(&self, paused: bool) {
        self.effects_paused.set(paused.into());
    }

    /// The generation of the views that this node reads.
    pub fn views_generation(&self, generation: i64) {
        self.views_generation.set(generation);
    }

    /// A rebuild of the views ended here.
    pub fn rebuilt(&self, state: State) {
        let outcome = match state {
            State::Wanted | State::Running => return,
            State::Done => "done",
            State::Cancelled => "cancelled",
            State::Failed => "failed",
            State::Interrupted => "interrupted",
        };
        self.rebuilds.get_or_create(&RebuildLabel { outcome }).inc();
    }

    /// Whether this node has to refuse to seal.
    pub fn seals_refused(&self, refused: bool) {
        self.seals_refused.set(refused.into());
    }

    /// So many rows of the access log were written.
    pub fn accesses_written(&self, rows: usize) {
        self.accesses.get_or_create(&AccessLabel { what: "written" }).inc_by(rows as u64);
    }

    /// A call was refused that the access log has no room for.
    pub fn access_dropped(&self) {
        self.accesses.get_or_create(&AccessLabel { what: "dropped" }).inc();
    }

    /// Whether the access log cannot be written.
    pub fn access_failing(&self, failing: bool) {
        self.access_failing.set(failing.into());
    }

    /// A request was answered with a protocol's code, or an HTTP status.
    pub fn answered(&self, route: &str, code: &str) {
        let label = RequestLabel { route: route.to_owned(), code: code.to_owned() };
        self.requests.get_or_create(&label).inc();
    }

    /// All metrics as OpenMetrics text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a String can't fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// A subscriber that reads on this node. Once it is dropped the node says nothing of it any more:
/// another node may have taken over.
#[derive(Debug)]
pub struct Reading<'a> {
    metrics: &'a Metrics,
    subscriber: &'static str,
}

impl Reading<'_> {
    /// It has read up to a position.
    pub fn reached(&self, position: i64) {
        self.metrics.read().insert(self.subscriber, position);
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let subscriber = self.subscriber;
        let mut read = self.metrics.read();
        read.remove(subscriber);
        self.metrics.lag.remove(&SubscriberLabel { subscriber });
    }
}

#[cfg(test)]
mod tests {
    use super::Metrics;

    #[test]
    fn a_subscriber_that_is_stuck_falls_behind_and_one_that_ended_is_not_told_of() {
        let metrics = Metrics::default();
        let lag = |head| {
            metrics.lags(head);
            let text = metrics.render();
            let line = text.lines().find(|line| line.contains("subscriber=\"vendors\""));
            line.and_then(|line| line.rsplit(' ').next()?.parse::<i64>().ok())
        };
        assert_eq!(lag(9), None);
        let reading = metrics.reading("vendors", 5);
        assert_eq!((lag(9), lag(12)), (Some(4), Some(7)));
        reading.reached(12);
        assert_eq!((lag(12), lag(11)), (Some(0), Some(0)));
        drop(reading);
        assert_eq!(lag(12), None);
    }
}
