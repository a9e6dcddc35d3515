//! What a line decides, as tables: when a circuit opens and closes, what goes to a lane, is held or
//! leaves, what is taken up from the view, and in which order. Time is a number.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::sync::Arc;

use domain::callback::{Kind, Outcome, Reason, State, Verdict};

use super::{
    budget::{Budget, MAX_BYTES, MAX_CALLBACKS, Share},
    kind::{Endpoint, Entry},
    line::{Item, LATE_MICROS, Line, PAGE, Placed, QUEUE, QUEUE_BYTES, What},
};

const SECOND: i64 = 1_000_000;
const FAILED: Verdict = Verdict::Failed { reason: Reason::Status, wait_micros: None };
/// An hour, the longest that a receiver may ask for.
const HOUR: i64 = 3_600 * SECOND;

fn line(kind: Kind) -> Line {
    let mut line = Line::new(kind.policy());
    line.configured(Some(&Endpoint::at("http://a/")), 0);
    line
}

fn item(position: i64, since: i64) -> Item {
    let (order, id) = (position.unsigned_abs() % 2, position.to_string());
    let entry = Entry { id, order, body: "x".into(), query: String::new() };
    let share = Share::new(&Arc::new(Budget::default()), 1);
    let what = What::Said(vec![entry]);
    Item {
        position,
        what,
        bytes: 1,
        calls: 0,
        again: false,
        hold: true,
        probe: false,
        since,
        share,
    }
}

fn again(position: i64) -> Item {
    Item { again: true, ..item(position, 0) }
}

fn sized(position: i64, bytes: usize) -> Item {
    Item { bytes, ..item(position, 0) }
}

/// Why callbacks leave, and which.
fn leaves(placed: Placed) -> (Reason, Vec<i64>) {
    match placed {
        Placed::Leaves(items, reason) => (reason, positions(&items)),
        other => panic!("{other:?}"),
    }
}

fn stays(placed: Placed) {
    assert!(!matches!(placed, Placed::Leaves(..)), "{placed:?}");
}

fn positions(items: &[Item]) -> Vec<i64> {
    items.iter().map(|item| item.position).collect()
}

fn postponed(due_at: i64) -> State {
    let (outcome, reason) = (Outcome::Postponed, Some(Reason::CircuitOpen));
    State { outcome, calls: 0, reason, status: None, due_at: Some(due_at) }
}

fn judge(line: &mut Line, verdict: Verdict, now: i64) -> Vec<i64> {
    positions(&line.judge(verdict, &mut false, false, now))
}

/// A line whose circuit opened at a time.
fn open(kind: Kind, now: i64) -> Line {
    let mut line = line(kind);
    for _ in 0..10 {
        judge(&mut line, FAILED, now);
    }
    line
}

/// What is left to look for at a time, once the view knows of everything.
fn room(line: &mut Line, now: i64) -> usize {
    line.look(now, i64::MAX).map_or(0, |look| look.room)
}

#[test]
fn the_tenth_failure_in_a_row_opens_the_circuit_and_one_success_closes_it() {
    let mut line = line(Kind::Webhook);
    for _ in 0..9 {
        judge(&mut line, FAILED, 0);
    }
    judge(&mut line, Verdict::Declined, 0);
    for _ in 0..9 {
        judge(&mut line, FAILED, 0);
    }
    assert!(!line.load().1, "it opened early");
    stays(line.place(item(1, 0), false));
    stays(line.place(item(2, 0), false));
    assert_eq!(judge(&mut line, FAILED, 0), [2, 1], "what waits in lanes leaves");
    assert_eq!(leaves(line.place(item(3, 0), false)), (Reason::CircuitOpen, vec![3]));
    judge(&mut line, Verdict::Accepted, 0);
    stays(line.place(item(4, 0), false));
}

#[test]
fn an_open_circuit_is_probed_after_5_10_20_40_and_then_every_60_seconds() {
    let mut line = open(Kind::Webhook, 0);
    line.kept(1, 0);
    let mut now = 0;
    for pause in [5, 10, 20, 40, 60, 60] {
        assert_eq!(room(&mut line, now + pause * SECOND - 1), 0, "earlier than after {pause} s");
        now += pause * SECOND;
        assert_eq!(room(&mut line, now), 1);
        stays(line.take_up(again(1), now).unwrap());
        assert_eq!(room(&mut line, now), 0, "a second one probes");
        assert!(line.take_up(again(2), now).is_none(), "a second one probes");
        let batch = line.batch(1);
        assert!(batch[0].probe);
        assert!(line.batch(1).is_empty());
        line.judge(FAILED, &mut true, false, now);
        line.settling(1, true, &postponed(now));
        line.recorded(1, 1);
    }
}

#[test]
fn a_receiver_that_asks_to_wait_is_left_alone_for_that_long_but_not_for_days() {
    for (asked, waits) in [(60 * SECOND, 60 * SECOND), (48 * HOUR, HOUR)] {
        let mut line = line(Kind::Webhook);
        line.kept(1, 0);
        let verdict = Verdict::Failed { reason: Reason::Status, wait_micros: Some(asked) };
        judge(&mut line, verdict, 0);
        assert_eq!(room(&mut line, waits - 1), 0);
        assert_eq!(room(&mut line, waits), 1);
    }
}

#[test]
fn an_operator_or_another_configuration_has_an_open_circuit_probed_at_once() {
    let another = Endpoint::at("http://b/");
    let same = Endpoint::at("http://a/");
    type Act<'a> = &'a dyn Fn(&mut Line);
    let acts: [(Act<'_>, usize); 4] = [
        (&|line| line.try_soon(SECOND), 1),
        (&|line| line.configured(Some(&another), SECOND), 1),
        (&|line| line.configured(Some(&same), SECOND), 0),
        // What waits for nobody is given up, a page at a time.
        (&|line| line.configured(None, SECOND), PAGE),
    ];
    for (act, wanted) in acts {
        let mut line = open(Kind::Webhook, 0);
        line.kept(1, 0);
        act(&mut line);
        assert_eq!(room(&mut line, SECOND), wanted);
    }
}

#[test]
fn the_batch_that_opens_the_circuit_is_called_again_as_its_protocol_says_and_no_other() {
    let mut line = line(Kind::AntelopeMessage);
    let (mut first, mut second) = (false, false);
    for _ in 0..9 {
        line.judge(FAILED, &mut first, true, 0);
    }
    line.judge(FAILED, &mut first, true, 0);
    line.judge(FAILED, &mut second, true, 0);
    assert!(line.may_go_on(first) && !line.may_go_on(second));
    // It was the last time: only now the pause begins.
    line.judge(FAILED, &mut first, false, 3 * SECOND);
    assert!(!line.may_go_on(first));
    line.kept(1, 0);
    assert_eq!((room(&mut line, 8 * SECOND - 1), room(&mut line, 8 * SECOND)), (0, 1));
}

#[test]
fn a_look_that_is_overtaken_by_an_open_circuit_takes_nothing_up() {
    let mut line = line(Kind::UcloudUplink);
    line.kept(1, 0);
    assert!(room(&mut line, 0) > 1);
    for _ in 0..10 {
        judge(&mut line, FAILED, 0);
    }
    assert!(line.take_up(again(1), 0).is_none());
}

#[test]
fn a_receiver_that_is_too_far_behind_takes_no_more_into_memory() {
    let mut line = line(Kind::Webhook);
    for position in 0..i64::try_from(QUEUE).unwrap() {
        stays(line.place(item(position, 0), false));
    }
    assert_eq!(leaves(line.place(item(9_999, 0), false)).0, Reason::QueueFull);
    let mut line = self::line(Kind::Webhook);
    stays(line.place(sized(1, QUEUE_BYTES + 1), false));
    assert_eq!(leaves(line.place(sized(2, 1), false)).0, Reason::QueueFull);
    assert_eq!(line.batch(1).len(), 1);
    stays(line.place(sized(3, QUEUE_BYTES), false));
    let mut line = self::line(Kind::Webhook);
    assert_eq!(leaves(line.place(item(1, 0), true)).0, Reason::QueueFull);
}

#[test]
fn what_waits_two_seconds_leaves_and_in_an_ordered_lane_all_that_comes_after_it() {
    for (kind, wanted) in [
        (Kind::Webhook, vec![(2, Reason::QueueFull)]),
        // 3 is in another lane.
        (Kind::AntelopeMessage, vec![(2, Reason::QueueFull), (4, Reason::QueueFull)]),
    ] {
        let mut line = line(kind);
        stays(line.place(item(2, 0), false));
        stays(line.place(item(4, SECOND), false));
        stays(line.place(item(3, SECOND), false));
        assert!(line.late(LATE_MICROS - 1).is_empty());
        let late = line.late(LATE_MICROS);
        let late: Vec<_> = late.iter().map(|(item, reason)| (item.position, *reason)).collect();
        assert_eq!(late, wanted, "{kind:?}");
    }
}

#[test]
fn what_comes_while_others_wait_in_the_view_is_held_goes_on_after_them_and_leaves_if_it_is_late() {
    let held = || {
        let mut line = line(Kind::UcloudUplink);
        line.kept(10, 0);
        stays(line.place(item(20, 0), false));
        stays(line.place(item(21, SECOND), false));
        assert!(line.batch(0).is_empty(), "it overtakes");
        line
    };
    // The view is not as far as what was recorded: who knows what waits there.
    let mut line = held();
    assert!(line.looked(9, false, None).is_empty());
    assert_eq!(line.looked(10, false, None).len(), 2);
    assert_eq!(positions(&line.batch(0)), [20, 21]);
    // All of it leaves together.
    let mut line = held();
    assert_eq!(line.late(LATE_MICROS).len(), 2);
    // Nothing is held while the first events after a start are read.
    let mut line = held();
    let read_again = Item { hold: false, ..item(22, 0) };
    assert_eq!(leaves(line.place(read_again, false)), (Reason::Behind, vec![20, 21, 22]));
    // Where order does not matter nobody waits.
    let mut line = self::line(Kind::Webhook);
    line.kept(10, 0);
    assert!(matches!(line.place(item(20, 0), false), Placed::Lane(_)));
}

#[test]
fn nothing_is_taken_up_before_what_is_on_its_way_to_the_view_if_order_matters() {
    for (kind, before) in [(Kind::AntelopeMessage, 5), (Kind::Webhook, i64::MAX)] {
        let mut line = line(kind);
        line.settling(5, false, &postponed(0));
        line.settling(9, false, &postponed(0));
        line.recorded(9, 30);
        let look = line.look(0, 30).unwrap();
        assert_eq!((look.before, look.known), (before, vec![5]), "{kind:?}");
        line.recorded(5, 31);
        assert_eq!(line.look(0, 31).unwrap().before, i64::MAX);
    }
}

#[test]
fn a_probe_waits_for_what_is_under_way_if_order_matters() {
    for (kind, wanted) in [(Kind::AntelopeMessage, 0), (Kind::Webhook, 1)] {
        let mut line = line(kind);
        stays(line.place(item(2, 0), false));
        assert_eq!(line.batch(0).len(), 1);
        for _ in 0..10 {
            judge(&mut line, FAILED, 0);
        }
        line.kept(1, 0);
        assert_eq!(room(&mut line, 5 * SECOND), wanted, "{kind:?}");
        assert!(line.batch(0).is_empty());
        assert_eq!(room(&mut line, 5 * SECOND), 1);
    }
}

#[test]
fn what_was_taken_up_and_not_called_stays_in_the_view_as_it_was() {
    let mut line = line(Kind::Webhook);
    line.kept(1, 0);
    stays(line.take_up(again(1), 0).unwrap());
    stays(line.place(item(2, 0), false));
    assert_eq!(line.look(0, 1).unwrap().known, [1]);
    assert_eq!(positions(&line.close()), [2]);
    assert_eq!(leaves(line.place(item(3, 0), false)), (Reason::Stopped, vec![3]));
    assert!(line.look(0, 1).is_none(), "it is closed");
}

#[test]
fn a_call_takes_entries_up_to_its_bound_and_only_such_as_were_called_as_often() {
    let mut line = line(Kind::UcloudReport);
    let many = |position: i64, entries: usize, calls: u32| {
        let Item { what: What::Said(said), .. } = item(position, 0) else { panic!() };
        let what = What::Said(said.into_iter().cycle().take(entries).collect());
        Item { what, calls, ..item(position, 0) }
    };
    for (position, entries, calls) in [(1, 150, 0), (2, 50, 0), (3, 1, 0), (4, 500, 0), (5, 1, 2)] {
        stays(line.place(many(position, entries, calls), false));
    }
    for wanted in [vec![1, 2], vec![3], vec![4], vec![5], vec![]] {
        assert_eq!(positions(&line.batch(0)), wanted);
    }
}

#[test]
fn a_receiver_is_over_once_nothing_is_left_of_it() {
    let mut line = line(Kind::Webhook);
    assert!(line.is_over());
    stays(line.place(item(2, 0), false));
    assert!(!line.is_over());
    assert_eq!(line.batch(0).len(), 1);
    assert!(!line.is_over(), "a call is under way");
    line.settling(2, false, &postponed(0));
    assert!(line.batch(0).is_empty() && !line.is_over(), "it waits in the view");
    line.recorded(2, 9);
    assert!(line.look(0, 9).is_some());
    assert!(line.looked(9, false, None).is_empty());
    assert!(line.is_over());
}

#[test]
fn a_receiver_that_takes_nothing_leaves_most_of_the_memory_to_others() {
    for kind in Kind::ALL {
        for bytes in [1, QUEUE_BYTES / 16] {
            let mut line = line(kind);
            // What is held behind others that wait in the view counts too.
            line.kept(1, i64::MAX);
            let takes = |position: &i64| {
                !matches!(line.place(sized(*position, bytes), false), Placed::Leaves(..))
            };
            let taken = (2..).take_while(takes).count();
            assert!(taken >= 16, "{kind:?}: {taken}");
            assert!(taken <= MAX_CALLBACKS / 8, "{kind:?}: {taken}");
            assert!(taken * bytes <= MAX_BYTES / 32, "{kind:?}: {taken} of {bytes} bytes");
        }
    }
}
