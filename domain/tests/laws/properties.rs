//! What holds over every history.

use std::{collections::HashMap, rc::Rc};

use domain::{
    Append, Event, Rejection, Stream,
    device::Status,
    facts::{Fact, Key, touched},
    message::{Delivery, Message, MessageId, Progress, RecallResult, Stage},
    task::{
        How, Task,
        chunk::{Chunk, Kind, Outcome},
        state::State,
    },
    ums::message_status,
};
use proptest::{prelude::*, test_runner::TestCaseError};

use crate::{
    cast::APP,
    golden::Stored,
    histories::{Command, Turn, disjoint, history, quiet_history, refusal, renewed, turns},
    ledger::{Decision, Ledger},
    registry,
};

type Verdict = Result<(), TestCaseError>;

/// The keys that the events of a turn touched.
fn touched_by(turn: &Turn) -> Vec<Key> {
    let new = turn.after.events().skip(turn.before.events().count());
    new.flat_map(|recorded| touched(recorded.place(), &recorded.event)).collect()
}

/// What is new of a message's deliveries after a turn, beside what was.
fn deliveries(turn: &Turn) -> Vec<(Rc<Message>, Rc<Message>)> {
    let message = |ledger: &Ledger, id| Rc::new(Message::clone(&ledger.message(id)));
    let ids = turn.before.messages().into_iter();
    ids.map(|id| (message(&turn.before, id), message(&turn.after, id))).collect()
}

/// After a command was accepted, the facts say what it asked for.
fn nothing_is_lost(turn: &Turn) -> Verdict {
    let after = &turn.after;
    if turn.decision.outcome.is_err() {
        return Ok(());
    }
    match &turn.command {
        Command::CreateApp(c) => prop_assert!(has_app(after, |app| app.config == c.config)),
        Command::ChangeApp(c) => prop_assert!(has_app(after, |app| app.config == c.config)),
        Command::DeleteApp(c) => {
            prop_assert!(has_app(after, |app| app.deleted && app.config.app_id == c.app_id));
        }
        Command::SetOwner(c) => {
            let account = account(after, &c.user);
            let held = account.map(|account| (account, c.bind_key.clone()));
            prop_assert!(held.is_some());
            prop_assert_eq!(owner(after, &c.device_id), held);
        }
        Command::RemoveOwner(c) => prop_assert_eq!(owner(after, &c.device_id), None),
        Command::Register(c) => {
            let device = device(after, &c.identity.client_id, &c.profile.app_package);
            prop_assert!(device.registered());
            prop_assert_eq!((&device.profile, &device.identity), (&c.profile, &c.identity));
            if let Some(user) = &c.user {
                prop_assert_eq!(device.account, account(after, user));
            }
        }
        Command::Unregister(c) => {
            let device = device(after, &c.client_id, &c.app_package);
            prop_assert_eq!(device.status, Status::Unregistered);
        }
        Command::Push(c) => {
            let message = after.message(c.id);
            prop_assert_eq!((message.expires_at, message.burn), (c.expires_at, c.burn));
            let fresh =
                |d: &Delivery| (d.stage, d.ended, d.recall) == (Stage::Accepted, None, None);
            prop_assert!(message.deliveries.values().all(fresh));
        }
        Command::Advance(c) => {
            let message = after.message(c.message);
            for step in &c.steps {
                let Some(delivery) = message.deliveries.get(&step.device) else { continue };
                let told = stage_of(step.what);
                prop_assert!(told.is_none_or(|stage| delivery.stage >= stage));
            }
        }
        Command::Expire(c) => {
            let message = after.message(c.message);
            let of = c.devices.iter().filter_map(|device| message.deliveries.get(device));
            for delivery in of {
                prop_assert!(!delivery.open() && !delivery.recalling());
            }
        }
        Command::Report(c) => {
            let device = device(after, &c.client_id, &c.app_package);
            let message = after.message(c.message);
            let delivery = &message.deliveries[&device.number];
            prop_assert_eq!(delivery.reported, stage_of(c.stage));
            prop_assert!(Some(delivery.stage) >= delivery.reported);
        }
        Command::Recall(c) => {
            let message = after.message(c.message);
            prop_assert!(message.deliveries.values().all(|d| d.recall.is_some() && !d.open()));
        }
        Command::CreateTask(c) => prop_assert_eq!(task(after, c.id).strategy, c.strategy),
        Command::StartTask(c) => {
            let task = task(after, c.task);
            let due = task.start_at.is_none_or(|start| start <= c.now);
            prop_assert!(task.started.is_some() || task.ended.is_some() || !due);
        }
        Command::CancelTask(c) => prop_assert_eq!(task(after, c.task).ended, Some(How::Cancelled)),
        Command::FinishTask(c) => prop_assert!(task(after, c.task).ended.is_some()),
        Command::RecordChunk(c) => {
            let made = chunk(after, c.task, c.chunk).map_or(0, |chunk| chunk.attempt);
            let skipped = c.attempt > made && turn.appends().is_empty();
            prop_assert!(c.deliveries.is_empty() || made >= c.attempt || skipped);
        }
        Command::AdvanceChunk(c) => {
            let chunk = chunk(after, c.task, c.chunk);
            let deliveries = chunk.map(|chunk| chunk.deliveries()).unwrap_or_default();
            for step in &c.steps {
                let Some(state) = deliveries.get(&step.device) else { continue };
                prop_assert!(stage_of(step.what).is_none_or(|stage| state.stage() >= stage));
            }
        }
        Command::EndChunk(c) => {
            let expired = c.now == i64::MAX;
            if let Some(chunk) = chunk(after, c.task, c.chunk).filter(|_| expired) {
                prop_assert!(chunk.states.iter().all(|state| !state.open()));
            }
        }
    }
    Ok(())
}

/// The stage that a step tells of.
fn stage_of(what: Progress) -> Option<Stage> {
    match what {
        Progress::Sent => Some(Stage::Sent),
        Progress::Received => Some(Stage::Received),
        Progress::Displayed => Some(Stage::Displayed),
        Progress::Acknowledged => Some(Stage::Acknowledged),
        Progress::Failed(_) | Progress::Ended(_) | Progress::Recalled(_) => None,
    }
}

fn task(ledger: &Ledger, id: MessageId) -> Rc<Task> {
    let Fact::Task(Some(task)) = ledger.fact(&Key::Task(id)) else { panic!("no task {id}") };
    Rc::new(Task::clone(&task))
}

fn chunk(ledger: &Ledger, task: MessageId, chunk: i64) -> Option<Rc<Chunk>> {
    let Fact::Chunk(found) = ledger.fact(&Key::Chunk(task, chunk)) else { return None };
    found.map(|chunk| Rc::new(Chunk::clone(&chunk)))
}

/// What is new of a chunk's deliveries after a turn, beside what was.
fn chunks(turn: &Turn) -> Vec<(State, State)> {
    let mut pairs = Vec::new();
    for key in turn.before.keys() {
        let Key::Chunk(task, number) = key else { continue };
        let (before, after) =
            (chunk(&turn.before, *task, *number), chunk(&turn.after, *task, *number));
        if let (Some(before), Some(after)) = (before, after) {
            assert_eq!(before.states.len(), after.states.len());
            pairs.extend(before.states.iter().copied().zip(after.states.iter().copied()));
        }
    }
    pairs
}

fn has_app(ledger: &Ledger, wanted: impl Fn(&domain::app::App) -> bool) -> bool {
    let Fact::Apps(apps) = ledger.fact(&Key::Apps) else { return false };
    apps.iter().any(wanted)
}

fn account(ledger: &Ledger, user: &str) -> Option<uuid::Uuid> {
    let Fact::Account(account) = ledger.fact(&Key::account(APP, user)) else { return None };
    account
}

fn owner(ledger: &Ledger, device_id: &str) -> Option<(uuid::Uuid, String)> {
    let key = Key::Owner { app: APP.to_owned(), device_id: device_id.to_owned() };
    let Fact::Owner(owner) = ledger.fact(&key) else { return None };
    owner.and_then(|owner| owner.held.clone())
}

fn device(ledger: &Ledger, client: &str, package: &str) -> Rc<domain::device::Device> {
    let key = Key::Client { app: APP.to_owned(), client: client.to_owned() };
    let Fact::Devices(devices) = ledger.fact(&key) else { panic!("{key:?} are no devices") };
    let device = devices.iter().find(|device| device.profile.app_package == package);
    Rc::new(domain::device::Device::clone(device.expect("a device of that client and package")))
}

/// The answer to the same command right after it was accepted, without a key.
fn second_answer(turn: &Turn, second: &Decision) -> Verdict {
    let refused = refusal(second);
    match &turn.command {
        Command::CreateApp(c) => {
            prop_assert_eq!(refused, Some(&Rejection::AppTaken(c.config.app_id.clone())));
        }
        Command::ChangeApp(c) => match c.expected.filter(|_| !turn.appends().is_empty()) {
            Some(version) => {
                let moved = Rejection::VersionMoved { current: version + 1 };
                prop_assert_eq!(refused, Some(&moved));
            }
            None => prop_assert_eq!(&second.outcome, &Ok(Vec::new())),
        },
        Command::DeleteApp(_) => prop_assert_eq!(refused, Some(&Rejection::UnknownApp)),
        Command::RemoveOwner(_) => prop_assert_eq!(refused, Some(&Rejection::NoOwner)),
        Command::Unregister(_) => prop_assert_eq!(refused, Some(&Rejection::NotRegistered)),
        Command::Report(_) => prop_assert_eq!(refused, Some(&Rejection::ReportedBefore)),
        Command::Recall(_) => prop_assert_eq!(refused, Some(&Rejection::NothingToRecall)),
        Command::CancelTask(_) => prop_assert_eq!(refused, Some(&Rejection::TaskOver)),
        Command::CreateTask(_) => {
            let many = matches!(refused, Some(Rejection::TooManyTasks { .. }));
            prop_assert!(many || second.outcome.is_ok());
        }
        Command::SetOwner(_)
        | Command::Expire(_)
        | Command::StartTask(_)
        | Command::FinishTask(_)
        | Command::RecordChunk(_)
        | Command::AdvanceChunk(_)
        | Command::EndChunk(_) => {
            prop_assert_eq!(&second.outcome, &Ok(Vec::new()));
        }
        Command::Advance(c) => {
            // An answer that came before its recall was asked for is one when it comes again.
            let answers = c.steps.iter().any(|step| matches!(step.what, Progress::Recalled(_)));
            prop_assert!(answers || second.outcome == Ok(Vec::new()));
        }
        Command::Register(_) => {
            let appends = second.outcome.as_deref().unwrap_or_default();
            let updated = matches!(appends, [Append { event: Event::DeviceUpdated(e), .. }]
                if e.former_account.is_none());
            prop_assert!(updated, "{second:?}");
        }
        Command::Push(_) => {
            let first = turn.appends().last().map(|append| &append.event);
            let appends = second.outcome.as_deref().unwrap_or_default();
            prop_assert_eq!(appends.len(), 1);
            prop_assert_eq!(appends.last().map(|append| &append.event), first);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn stages_never_fall(wishes in history()) {
        for turn in turns(wishes) {
            for (before, after) in deliveries(&turn) {
                for (device, delivery) in &before.deliveries {
                    prop_assert!(after.deliveries[device].stage >= delivery.stage);
                    prop_assert!(after.deliveries[device].reported >= delivery.reported);
                }
            }
        }
    }

    #[test]
    fn an_ending_and_a_recall_stay_save_that_a_recall_is_settled(wishes in history()) {
        for turn in turns(wishes) {
            for (before, after) in deliveries(&turn) {
                prop_assert_eq!(before.deliveries.len(), after.deliveries.len());
                for (before, after) in before.deliveries.values().zip(after.deliveries.values()) {
                    let escaped = after.stage >= Stage::Sent && before.stage < Stage::Sent;
                    prop_assert!(before.ended.is_none() || after.ended == before.ended || escaped);
                    let (op, result) = before.recall.unzip();
                    let (op_after, result_after) = after.recall.unzip();
                    prop_assert!(op.is_none() || op_after == op);
                    let may_change = matches!(result, None | Some(RecallResult::Requested));
                    prop_assert!(may_change || escaped || result_after == result);
                }
            }
        }
    }

    #[test]
    fn no_recall_stays_content_with_having_stopped_what_was_sent(wishes in history()) {
        for turn in turns(wishes) {
            for (_, after) in deliveries(&turn) {
                for delivery in after.deliveries.values().filter(|d| d.stage >= Stage::Sent) {
                    let stopped = RecallResult::StoppedBeforeSending;
                    prop_assert!(delivery.recall.is_none_or(|(_, result)| result != stopped));
                }
            }
        }
    }

    #[test]
    fn a_message_that_burns_is_open_nowhere_once_it_was_displayed(wishes in history()) {
        for turn in turns(wishes) {
            for (_, after) in deliveries(&turn).iter().filter(|(_, after)| after.burn) {
                let seen = |delivery: &Delivery| delivery.stage >= Stage::Displayed;
                if after.deliveries.values().any(seen) {
                    let burnt = |d: &Delivery| seen(d) || d.recall.is_some();
                    prop_assert!(after.deliveries.values().all(burnt));
                }
            }
        }
    }

    #[test]
    fn a_message_has_a_time_of_push_once_a_device_was_handed_it(wishes in history()) {
        for turn in turns(wishes) {
            for (before, after) in deliveries(&turn) {
                let handed = after.deliveries.values().any(|d| d.stage >= Stage::Sent);
                prop_assert_eq!(after.pushed_at.is_some(), handed);
                prop_assert!(before.pushed_at.is_none() || after.pushed_at == before.pushed_at);
            }
        }
    }

    #[test]
    fn what_a_command_asked_for_is_what_the_facts_say_after_it(wishes in history()) {
        for turn in turns(wishes) {
            nothing_is_lost(&turn)?;
        }
    }

    #[test]
    fn every_step_that_is_stored_changes_its_delivery(wishes in history()) {
        for turn in turns(wishes) {
            for append in turn.appends() {
                let Stream::Message(id) = append.stream else { continue };
                let Event::DeliveriesAdvanced(e) = &append.event else { continue };
                let mut deliveries = turn.before.message(id).deliveries.clone();
                for step in &e.steps {
                    let before = deliveries[&step.device].clone();
                    let delivery = deliveries.entry(step.device).or_default();
                    delivery.advance(step);
                    prop_assert_ne!(&*delivery, &before, "{:?}", step);
                }
            }
        }
    }

    #[test]
    fn deliveries_of_a_chunk_never_fall_back_and_an_ending_stays(wishes in history()) {
        for turn in turns(wishes) {
            for (before, after) in chunks(&turn) {
                prop_assert!(after.stage() >= before.stage());
                prop_assert!(before.ended().is_none() || after.ended() == before.ended());
                prop_assert!(before.open() || !after.open());
            }
        }
    }

    #[test]
    fn a_cancelled_task_keeps_nothing_that_comes_in_late(wishes in history()) {
        for turn in turns(wishes) {
            let Command::RecordChunk(c) = &turn.command else { continue };
            if turn.appends().is_empty() || task(&turn.before, c.task).ended != Some(How::Cancelled) {
                continue;
            }
            let Event::ChunkDelivered(e) = &turn.appends()[0].event else { continue };
            let ends = |kind: Kind| matches!(kind.outcome, Outcome::Sent | Outcome::Ended);
            prop_assert!(e.outcomes().all(|(_, kind)| ends(kind)));
        }
    }

    #[test]
    fn counts_of_a_chunk_are_those_of_its_outcomes(wishes in history()) {
        for append in turns(wishes).iter().flat_map(Turn::appends) {
            let Event::ChunkDelivered(e) = &append.event else { continue };
            for count in &e.counts {
                let same = e.outcomes().filter(|(_, kind)| *kind == count.kind).count();
                prop_assert_eq!(same, usize::try_from(count.devices).unwrap());
            }
            let all: u32 = e.counts.iter().map(|count| count.devices).sum();
            prop_assert_eq!(e.devices.numbers().len(), usize::try_from(all).unwrap());
        }
    }

    #[test]
    fn versions_are_consecutive_from_1(wishes in history()) {
        let turns = turns(wishes);
        let Some(last) = turns.last() else { return Ok(()) };
        let mut versions: HashMap<&Stream, i64> = HashMap::new();
        for recorded in last.after.events() {
            let version = versions.entry(&recorded.stream).or_default();
            *version += 1;
            prop_assert_eq!(recorded.version, *version);
        }
    }

    #[test]
    fn a_decision_is_the_same_whenever_it_is_taken_on_the_same_facts(wishes in history()) {
        for turn in turns(wishes) {
            prop_assert_eq!(&turn.before.decide(&turn.command), &turn.decision);
        }
    }

    #[test]
    fn the_same_command_again_gets_the_protocols_second_answer(wishes in history()) {
        for (number, turn) in turns(wishes).into_iter().enumerate() {
            if turn.decision.outcome.is_ok() {
                let again = renewed(turn.command.clone(), 1000 + number);
                second_answer(&turn, &turn.after.decide(&again))?;
            }
        }
    }

    #[test]
    fn a_decision_changes_only_when_facts_that_it_used_moved(wishes in history()) {
        for pair in turns(wishes).windows(2) {
            let [first, second] = pair else { continue };
            let early = first.before.decide(&second.command);
            if disjoint(&early.used, &touched_by(first)) {
                prop_assert_eq!(&early.outcome, &second.decision.outcome);
            }
        }
    }

    #[test]
    fn facts_that_were_kept_up_are_those_that_are_folded_from_the_first_event(wishes in history()) {
        let turns = turns(wishes);
        let Some(last) = turns.last() else { return Ok(()) };
        for key in last.after.keys() {
            prop_assert_eq!(last.after.fact(key), last.after.folded(key), "{:?}", key);
        }
    }

    #[test]
    fn every_key_names_what_a_search_of_all_streams_finds(wishes in history()) {
        let turns = turns(wishes);
        let Some(last) = turns.last() else { return Ok(()) };
        for key in last.after.keys() {
            let found = registry::named(&last.after, key);
            prop_assert_eq!(last.after.fact(key), found, "{:?}", key);
        }
    }

    #[test]
    fn every_event_of_a_history_is_read_as_it_was_written(wishes in history()) {
        for append in turns(wishes).iter().flat_map(Turn::appends) {
            prop_assert_eq!(&Stored::of(&append.event).event(), &append.event);
        }
    }

    #[test]
    fn the_state_of_a_message_is_one_of_the_protocols(wishes in history()) {
        for turn in turns(wishes) {
            for id in turn.after.messages() {
                prop_assert!((0..=6).contains(&message_status(&turn.after.message(id))));
            }
        }
    }

    #[test]
    fn the_state_of_a_message_without_a_recall_never_falls(wishes in quiet_history()) {
        for turn in turns(wishes) {
            for (before, after) in deliveries(&turn) {
                prop_assert!(after.deliveries.values().all(|d| d.recall.is_none()));
                prop_assert!(message_status(&after) >= message_status(&before));
            }
        }
    }
}
