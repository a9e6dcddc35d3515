//! What holds over every history.

use std::{collections::HashMap, rc::Rc};

use domain::{
    Event, Stream,
    facts::{Key, touched},
    message::{Delivery, Message, RecallResult, Stage},
    ums::message_status,
};
use proptest::prelude::*;

use crate::{
    answers::{nothing_is_lost, second_answer},
    golden::Stored,
    histories::{Turn, disjoint, renewed, turns},
    ledger::Ledger,
    registry,
    wishes::{history, quiet_history},
};

/// The keys that the events of a turn touched.
fn touched_by(turn: &Turn) -> Vec<Key> {
    let new = turn.after.events().skip(turn.before.events().count());
    new.flat_map(|recorded| touched(recorded.place(), &recorded.event)).collect()
}

/// What is new of a message's deliveries after a turn, beside what was.
pub(crate) fn deliveries(turn: &Turn) -> Vec<(Rc<Message>, Rc<Message>)> {
    let message = |ledger: &Ledger, id| Rc::new(Message::clone(&ledger.message(id)));
    let ids = turn.before.messages().into_iter();
    ids.map(|id| (message(&turn.before, id), message(&turn.after, id))).collect()
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
