//! What holds over every history of tasks and their chunks.

use domain::{
    Event,
    facts::Key,
    message::{Ending, Stage},
    task::{
        How,
        chunk::{Kind, Outcome},
        state::{State, Way},
    },
};
use proptest::prelude::*;

use crate::{
    answers::{chunk, task},
    histories::{Command, Turn, turns},
    wishes::history,
};

/// Whether it ends what is under way, whoever is asked by then.
fn overtakes(ending: Ending) -> bool {
    [Ending::Recalled, Ending::ExpiredOffline, Ending::ExpiredUnsent, Ending::ExpiredUnacknowledged]
        .contains(&ending)
}

/// What is new of a chunk's deliveries after a turn, beside what was.
fn chunks(turn: &Turn) -> Vec<(State, State)> {
    let mut pairs = Vec::new();
    for key in turn.before.keys() {
        let Key::Chunk(task, number) = key else { continue };
        let now = |ledger| chunk(ledger, *task, *number);
        if let (Some(before), Some(after)) = (now(&turn.before), now(&turn.after)) {
            assert_eq!(before.states.len(), after.states.len());
            pairs.extend(before.states.iter().copied().zip(after.states.iter().copied()));
        }
    }
    pairs
}

proptest! {
    #[test]
    fn deliveries_of_a_chunk_never_fall_back_and_an_ending_stays(wishes in history()) {
        for turn in turns(wishes) {
            let recorded = matches!(turn.command, Command::RecordChunk(_));
            for (before, after) in chunks(&turn) {
                prop_assert!(after.stage() >= before.stage());
                // Save that a vendor took what ended only while it was asked.
                let taken = recorded
                    && before.ended().is_some_and(overtakes)
                    && matches!(after.way(), Way::Vendor(_))
                    && after.ended().is_none()
                    && after.stage() == Stage::Sent;
                let stays = before.ended().is_none() || after.ended() == before.ended();
                prop_assert!(stays || taken);
                prop_assert!(before.open() || !after.open());
            }
        }
    }

    #[test]
    fn a_cancelled_task_keeps_nothing_that_comes_in_late(wishes in history()) {
        for turn in turns(wishes) {
            let Command::RecordChunk(c) = &turn.command else { continue };
            let Some(first) = turn.appends().first() else { continue };
            let Event::ChunkDelivered(e) = &first.event else { continue };
            if task(&turn.before, c.task).ended != Some(How::Cancelled) {
                continue;
            }
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
}
