//! Tasks: limits, the one start, what chunks keep, and how little of the ledger they take.

use domain::{
    Decide, Event, Rejection, Stream,
    facts::Facts,
    label::LabelCreated,
    message::{DeliveriesAdvanced, Ending, MessageId, Progress, Protocol, Stage, Step},
    route::Strategy,
    task::{
        AdvanceChunk, Audience, CancelTask, ChunkDelivered, CreateTask, EndChunk, FinishTask, How,
        RecordChunk, StartTask, TaskAudience, TaskCreated, TaskEnded, TaskLimits, TaskStarted,
        Totals,
        chunk::{Count, Delivered, Kind, Outcome},
        packed::Packed,
        state::{State, Way},
    },
    vendor::Vendor,
};
use proptest::{collection::btree_set, prelude::*};

use crate::{
    cast::{ANN, APP, by_socket, words},
    golden::ENDINGS,
    ledger::at,
    scenario::{Entry, Scenario, given},
};

const TASK: MessageId = MessageId(1_700_000_000_000_002_000);
const SENT: Kind = Kind { outcome: Outcome::Sent, reason: None, vendor: Some(Vendor::Jpush) };
const ONLINE: Kind = Kind { outcome: Outcome::Online, reason: None, vendor: None };
const RETRYING: Kind =
    Kind { outcome: Outcome::Retrying, reason: None, vendor: Some(Vendor::Jpush) };
const EITHER: Kind = Kind { outcome: Outcome::Either, reason: None, vendor: Some(Vendor::Jpush) };

fn create(id: MessageId, audience: TaskAudience, now: i64) -> CreateTask {
    CreateTask {
        app: APP.to_owned(),
        id,
        protocol: Protocol::Easemob,
        audience,
        strategy: Strategy::OnlineElseVendor,
        keep_seconds: 3_600,
        start_at: None,
        now,
        limits: TaskLimits { running: 3, created: 3 },
        private: words(),
    }
}

fn created(id: MessageId, audience: Audience) -> Entry {
    Entry::new(
        Stream::Task(id),
        TaskCreated {
            audience,
            protocol: Protocol::Easemob,
            strategy: Strategy::OnlineElseVendor,
            keep_seconds: 3_600,
            start_at: None,
            unresolved: 0,
            private: Some(words()),
        },
    )
}

fn started(id: MessageId) -> Entry {
    Entry::new(Stream::Task(id), TaskStarted { expires_at: at(3_600), chunk_devices: 2_000 })
}

fn ended(id: MessageId, how: How) -> Entry {
    Entry::new(Stream::Task(id), TaskEnded { how, totals: Totals::default() })
}

fn record(attempt: u32, outcomes: &[(i64, Kind)]) -> RecordChunk {
    let delivered =
        |(device, kind): &(i64, Kind)| Delivered { device: *device, kind: *kind, word: None };
    let deliveries = outcomes.iter().map(delivered).collect();
    RecordChunk { task: TASK, chunk: 1, attempt, deliveries }
}

fn delivered(attempt: u32, outcomes: &[(i64, usize)], counts: &[(Kind, u32)]) -> Entry {
    let numbers = || outcomes.iter().map(|(device, _)| *device);
    Entry::new(
        Stream::Chunk(TASK, 1),
        ChunkDelivered {
            started: 2,
            attempt,
            first: numbers().min().unwrap(),
            last: numbers().max().unwrap(),
            counts: counts
                .iter()
                .map(|(kind, devices)| Count { kind: *kind, devices: *devices })
                .collect(),
            devices: Packed::growing(numbers()),
            outcomes: Packed::runs(outcomes.iter().map(|(_, place)| *place)),
            words: Vec::new(),
        },
    )
}

fn running() -> Scenario {
    given([created(TASK, Audience::Everyone), started(TASK)])
}

fn id(number: i64) -> MessageId {
    MessageId(TASK.0 + number)
}

#[test]
fn a_full_push_counts_for_five_minutes_even_if_it_ended() {
    let three = (1..=3).flat_map(|n| {
        [created(id(n), Audience::Everyone), started(id(n)), ended(id(n), How::Finished)]
    });
    let full = given(three);
    let limit = Rejection::TooManyTasks { limit: 3, recent: true };
    let full = full.when(create(TASK, TaskAudience::Everyone, at(10))).then_rejected(limit);
    let later = create(TASK, TaskAudience::Everyone, at(1 + 300));
    full.when(later).then([created(TASK, Audience::Everyone)]);
}

#[test]
fn a_push_to_a_label_gives_its_place_back_when_it_ends() {
    let label = || Audience::Label { label: ANN, name: "vip".to_owned() };
    let to_label = |now| create(TASK, TaskAudience::Label("vip".to_owned()), now);
    let name = LabelCreated { name: "vip".to_owned(), description: String::new() };
    let three = (1..=3).map(|n| created(id(n), label()));
    let full = given([Entry::new(Stream::Label(ANN), name)]).and(three);
    let limit = Rejection::TooManyTasks { limit: 3, recent: true };
    let full = full.when(to_label(at(10))).then_rejected(limit);
    let free = full.and([started(id(1)), ended(id(1), How::Finished)]);
    free.when(to_label(at(10))).then([created(TASK, label())]);
}

#[test]
fn only_so_many_tasks_are_under_way_however_long_ago_they_were_created() {
    let three = (1..=3).flat_map(|n| [created(id(n), Audience::Everyone), started(id(n))]);
    let limit = Rejection::TooManyTasks { limit: 3, recent: false };
    let late = create(TASK, TaskAudience::Everyone, at(4_000));
    given(three).when(late).then_rejected(limit);
}

#[test]
fn a_label_that_is_not_there_is_refused() {
    let command = create(TASK, TaskAudience::Label("vip".to_owned()), at(1));
    given([]).when(command).then_rejected(Rejection::UnknownLabel("vip".to_owned()));
}

#[test]
fn a_task_starts_once_and_not_before_its_time() {
    let start = |now| StartTask { task: TASK, now, chunk_devices: 2_000 };
    let later = TaskCreated {
        start_at: Some(at(100)),
        ..match created(TASK, Audience::Everyone).event() {
            Event::TaskCreated(e) => e,
            other => panic!("{other:?}"),
        }
    };
    let waiting = given([Entry::new(Stream::Task(TASK), later)]);
    let waiting = waiting.when(start(at(99))).then_nothing();
    let begun = TaskStarted { expires_at: at(100 + 3_600), chunk_devices: 2_000 };
    let begun = waiting.when(start(at(100))).then([Entry::new(Stream::Task(TASK), begun)]);
    begun.when(start(at(101))).then_nothing();
}

#[test]
fn a_task_that_was_cancelled_before_its_time_never_starts() {
    let cancel =
        CancelTask { app: APP.to_owned(), task: TASK, totals: Totals::default(), kept: false };
    let over = given([created(TASK, Audience::Everyone)])
        .when(cancel.clone())
        .then([ended(TASK, How::Cancelled)]);
    let over = over.when(StartTask { task: TASK, now: at(9), chunk_devices: 1 }).then_nothing();
    over.when(cancel).then_rejected(Rejection::TaskOver);
}

#[test]
fn another_app_cannot_cancel_a_task() {
    let totals = Totals::default();
    let cancel = CancelTask { app: "other".to_owned(), task: TASK, totals, kept: true };
    running().when(cancel).then_rejected(Rejection::UnknownTask);
}

#[test]
fn a_task_that_finished_is_cancelled_once_and_only_while_something_is_kept() {
    let cancel =
        |kept| CancelTask { app: APP.to_owned(), task: TASK, totals: Totals::default(), kept };
    let finished = running().and([ended(TASK, How::Finished)]);
    let finished = finished.when(cancel(false)).then_rejected(Rejection::TaskOver);
    let over = finished.when(cancel(true)).then([ended(TASK, How::Cancelled)]);
    over.when(cancel(true)).then_rejected(Rejection::TaskOver);
}

#[test]
fn an_attempt_is_recorded_once_and_the_next_is_about_what_was_open() {
    let first = record(1, &[(5, SENT), (6, RETRYING), (9, ONLINE)]);
    let recorded =
        delivered(1, &[(5, 0), (6, 2), (9, 1)], &[(SENT, 1), (ONLINE, 1), (RETRYING, 1)]);
    let now = running().when(first.clone()).then([recorded]);
    let now = now.when(first).then_nothing();
    let dead = Kind::ended(Ending::DeadToken, Some(Vendor::Jpush));
    let second = record(2, &[(5, dead), (6, dead), (77, dead)]);
    let now = now.when(second).then([delivered(2, &[(6, 0)], &[(dead, 1)])]);
    now.when(FinishTask { task: TASK, totals: Totals::default() })
        .then([ended(TASK, How::Finished)]);
}

#[test]
fn what_was_under_way_at_a_cancellation_is_recorded_but_keeps_nothing() {
    let cancelled = running().and([ended(TASK, How::Cancelled)]);
    let recalled = Kind::ended(Ending::Recalled, Some(Vendor::Jpush));
    let unsent = Kind::ended(Ending::Recalled, None);
    let late = record(1, &[(5, SENT), (6, RETRYING), (7, EITHER), (9, ONLINE)]);
    cancelled.when(late).then([delivered(
        1,
        &[(5, 0), (6, 2), (7, 2), (9, 1)],
        &[(SENT, 1), (unsent, 1), (recalled, 2)],
    )]);
}

#[test]
fn what_is_open_when_its_time_is_over_ends_for_its_own_reason() {
    let kept = [(5, SENT), (6, RETRYING), (7, ONLINE), (8, ONLINE)];
    let chunk = [(5, 0), (6, 2), (7, 1), (8, 1)];
    let counts = [(SENT, 1), (ONLINE, 2), (RETRYING, 1)];
    let now = running().when(record(1, &kept)).then([delivered(1, &chunk, &counts)]);
    let steps = vec![by_socket(8, Progress::Sent)];
    let advanced = DeliveriesAdvanced { accepted: 2, steps: steps.clone() };
    let now = now
        .when(AdvanceChunk { task: TASK, chunk: 1, steps: steps.clone() })
        .then([Entry::new(Stream::Chunk(TASK, 1), advanced)]);
    let now = now.when(AdvanceChunk { task: TASK, chunk: 1, steps }).then_nothing();
    let end = |now| EndChunk { task: TASK, chunk: 1, now };
    let now = now.when(end(at(10))).then_nothing();
    let [offline, silent, unsent] =
        [Ending::ExpiredOffline, Ending::ExpiredUnacknowledged, Ending::ExpiredUnsent]
            .map(|reason| Kind::ended(reason, None));
    let ends = delivered(2, &[(6, 2), (7, 0), (8, 1)], &[(offline, 1), (silent, 1), (unsent, 1)]);
    let now = now.when(end(at(3_600))).then([ends]);
    now.when(end(at(3_601))).then_nothing();
}

#[test]
fn what_waits_for_its_vendor_and_is_kept_ends_as_what_is_kept_does() {
    let kept = [(5, EITHER), (6, EITHER), (7, EITHER)];
    let chunk = delivered(1, &[(5, 0), (6, 0), (7, 0)], &[(EITHER, 3)]);
    let now = running().when(record(1, &kept)).then([chunk]);
    let steps = vec![by_socket(6, Progress::Sent), by_socket(7, Progress::Received)];
    let advanced = DeliveriesAdvanced { accepted: 2, steps: steps.clone() };
    let now = now
        .when(AdvanceChunk { task: TASK, chunk: 1, steps })
        .then([Entry::new(Stream::Chunk(TASK, 1), advanced)]);
    // Whom the vendor took it for meanwhile has it by then: that is no news of the third.
    let again = delivered(2, &[(5, 0), (6, 0)], &[(EITHER, 2)]);
    let now = now.when(record(2, &[(5, EITHER), (6, EITHER), (7, SENT)])).then([again]);
    let [offline, silent] = [Ending::ExpiredOffline, Ending::ExpiredUnacknowledged]
        .map(|reason| Kind::ended(reason, None));
    let end = EndChunk { task: TASK, chunk: 1, now: at(3_600) };
    now.when(end).then([delivered(3, &[(5, 0), (6, 1)], &[(offline, 1), (silent, 1)])]);
}

#[test]
fn what_a_vendor_took_while_it_was_ended_is_sent_and_nothing_else_of_that_attempt_counts() {
    let first = [(5, EITHER), (6, EITHER), (7, EITHER), (8, ONLINE)];
    let steps = vec![by_socket(7, Progress::Sent)];
    let asked = || {
        let chunk = delivered(1, &[(5, 1), (6, 1), (7, 1), (8, 0)], &[(ONLINE, 1), (EITHER, 3)]);
        let advanced = DeliveriesAdvanced { accepted: 2, steps: steps.clone() };
        let advanced = Entry::new(Stream::Chunk(TASK, 1), advanced);
        let step = AdvanceChunk { task: TASK, chunk: 1, steps: steps.clone() };
        running().when(record(1, &first)).then([chunk]).when(step).then([advanced])
    };
    let end = |now| EndChunk { task: TASK, chunk: 1, now };
    let late = record(2, &[(5, SENT), (6, RETRYING), (7, SENT), (8, RETRYING)]);
    let taken = || delivered(3, &[(5, 0), (7, 0)], &[(SENT, 2)]);

    let recalled = Kind::ended(Ending::Recalled, None);
    let cancelled = asked().and([ended(TASK, How::Cancelled)]);
    let ends = delivered(2, &[(5, 0), (6, 0), (8, 0)], &[(recalled, 3)]);
    let over = cancelled.when(end(at(10))).then([ends]).when(late.clone()).then([taken()]);
    over.when(late.clone()).then_nothing();

    let [offline, silent] = [Ending::ExpiredOffline, Ending::ExpiredUnacknowledged]
        .map(|reason| Kind::ended(reason, None));
    let ends = delivered(2, &[(5, 0), (6, 0), (7, 1), (8, 0)], &[(offline, 3), (silent, 1)]);
    let over = asked().when(end(at(3_600))).then([ends]).when(late.clone()).then([taken()]);
    over.when(late).then_nothing();
}

#[test]
fn an_acknowledgement_on_one_way_cancels_the_other() {
    let step = |what| by_socket(1, what);
    let received = [Progress::Received, Progress::Displayed, Progress::Acknowledged];
    for (kind, way) in [(RETRYING, Way::Vendor(Vendor::Jpush)), (EITHER, Way::Online)] {
        let waits = State::default().after(kind);
        assert!(waits.retrying() && waits.open() && waits.unsent());
        assert_eq!((waits.kept(), waits.way()), (kind == EITHER, Way::Vendor(Vendor::Jpush)));
        let sent = waits.advance(&step(Progress::Sent));
        assert!(sent.retrying() && sent.open() && !sent.unsent(), "the device has not said so");
        assert_eq!((sent.kept(), sent.way()), (kind == EITHER, way));
        for what in received {
            for before in [waits, sent] {
                let has = before.advance(&step(what));
                assert!(!has.retrying() && !has.kept() && !has.open(), "{what:?}");
                assert_eq!(has.way(), way);
                // What was recorded by a version that asked the vendor all the same.
                assert!(!has.after(kind).open(), "{what:?}");
            }
        }
        // The vendor itself may say that it came.
        let told = Step { vendor: Some(Vendor::Huawei), ..step(Progress::Received) };
        let told = State::default().after(Kind { vendor: told.vendor, ..kind }).advance(&told);
        assert_eq!((told.way(), told.open()), (Way::Vendor(Vendor::Huawei), false));
    }
}

#[test]
fn a_decision_about_an_unknown_task_says_so() {
    let facts = Facts::default();
    assert!(record(1, &[(1, SENT)]).decide(&facts).is_err());
    given([]).when(record(1, &[(1, SENT)])).then_rejected(Rejection::UnknownTask);
}

#[test]
fn two_bytes_hold_every_stage_ending_and_way() {
    for ending in ENDINGS {
        for vendor in Vendor::ALL {
            let retrying = State::default().after(Kind { vendor: Some(vendor), ..RETRYING });
            assert!(retrying.retrying() && retrying.open());
            let ended = retrying.after(Kind::ended(ending, Some(vendor)));
            let late = ended.advance(&by_socket(1, Progress::Acknowledged));
            assert_eq!(late.ended(), Some(ending));
            assert_eq!((late.way(), late.stage()), (Way::Vendor(vendor), Stage::Acknowledged));
            assert!(!late.open());
        }
    }
}

#[test]
fn a_chunk_takes_few_bytes_of_the_ledger() {
    // Every second position is a device, one in twenty has a dead token, and there are two calls.
    let delivered = |n: i64| {
        let dead = n % 20 == 7;
        let word =
            if dead { "1003" } else { ["59392", "59393"][usize::try_from(n / 1_000).unwrap()] };
        let kind = if dead { Kind::ended(Ending::DeadToken, SENT.vendor) } else { SENT };
        Delivered { device: 1_000_000 + 2 * n, kind, word: Some(word.to_owned()) }
    };
    let deliveries = (0..2_000).map(delivered).collect();
    let command = RecordChunk { task: TASK, chunk: 1, attempt: 1, deliveries };
    let decided = running().decided(command);
    let (body, private) = decided[0].event.encode().unwrap();
    assert_eq!(private, None);
    assert!(body.len() < 2_000, "{} bytes for 2,000 deliveries", body.len());
}

proptest! {
    #[test]
    fn packed_numbers_are_read_as_they_were_written(
        numbers in btree_set(1..5_000_000_i64, 0..300),
        run in 1..5_000_000_i64,
    ) {
        let numbers: Vec<i64> = numbers.into_iter().collect();
        prop_assert_eq!(Packed::growing(numbers.clone()).numbers(), numbers);
        let run: Vec<i64> = (run..run + 500).collect();
        let packed = Packed::growing(run.clone());
        prop_assert!(packed.0.len() <= 8);
        prop_assert_eq!(packed.numbers(), run);
    }

    #[test]
    fn packed_runs_are_read_as_they_were_written(numbers in proptest::collection::vec(0..4_usize, 0..300)) {
        prop_assert_eq!(Packed::runs(numbers.clone()).unfolded(), numbers);
    }

    #[test]
    fn no_bytes_unfold_to_more_than_a_chunk(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let packed = Packed(bytes);
        prop_assert!(packed.numbers().len() <= domain::task::chunk::MAX_DEVICES);
        prop_assert!(packed.unfolded().len() <= domain::task::chunk::MAX_DEVICES);
    }
}
