//! The policies of callbacks as tables: when each kind calls again, and when it gives up.

use domain::callback::{Kind, MAX_CALLBACKS, MAX_RETRY_AFTER_MICROS, Next, Reason, Verdict};

const SECOND: i64 = 1_000_000;

fn failed(wait_micros: Option<i64>) -> Verdict {
    Verdict::Failed { reason: Reason::Status, wait_micros }
}

/// Pauses until it is given up, in seconds.
fn pauses(kind: Kind) -> Vec<i64> {
    let mut pauses = Vec::new();
    for calls in 1.. {
        match kind.policy().next(calls, failed(None)) {
            Next::Again(pause, Reason::Status) => pauses.push(pause / SECOND),
            Next::GivenUp(Reason::Status) => return pauses,
            other => panic!("{other:?}"),
        }
    }
    unreachable!("it is given up at some time")
}

#[test]
fn each_kind_calls_again_as_its_protocol_says_and_then_gives_up() {
    let hour = 3_600;
    for (kind, wanted) in [
        // The first push, and three more a second apart.
        (Kind::UcloudUplink, vec![1, 1, 1]),
        (Kind::UcloudReport, vec![1, 1, 1]),
        (Kind::AntelopeMessage, vec![1, 5]),
        (Kind::AntelopeState, vec![1, 5]),
        // As often as an app wants, and not at all unless it does.
        (Kind::Tencent, vec![1, 2, 5]),
        (
            Kind::Webhook,
            vec![5, 300, 1_800, 2 * hour, 5 * hour, 10 * hour, 14 * hour, 20 * hour, 24 * hour],
        ),
    ] {
        assert_eq!(pauses(kind), wanted, "{kind:?}");
    }
}

#[test]
fn each_kind_waits_for_an_answer_as_long_as_is_documented() {
    for kind in Kind::ALL {
        let wanted = match kind {
            Kind::UcloudUplink | Kind::UcloudReport => 5,
            Kind::AntelopeMessage | Kind::AntelopeState => 5,
            Kind::Tencent => 2,
            Kind::Webhook => 15,
        };
        assert_eq!(kind.policy().answer_micros, wanted * SECOND, "{kind:?}");
    }
}

#[test]
fn what_goes_in_batches_waits_20_ms_for_others_and_nothing_else_waits() {
    for kind in Kind::ALL {
        let policy = kind.policy();
        let wanted = if policy.batch > 1 { 20_000 } else { 0 };
        assert_eq!(policy.gather_micros, wanted, "{kind:?}");
    }
    assert_eq!(Kind::UcloudUplink.policy().batch, 200);
}

#[test]
fn a_policy_may_be_cut_to_fewer_calls() {
    for (most, wanted) in [(0, 0), (1, 1), (3, 3), (9, 3)] {
        let policy = Kind::Tencent.policy().again(most);
        assert_eq!(policy.pauses_micros.len(), wanted, "{most}");
    }
    let next = Kind::Tencent.policy().again(0).next(1, failed(None));
    assert_eq!(next, Next::GivenUp(Reason::Status));
}

#[test]
fn an_answer_ends_it_and_so_does_a_refusal_for_good() {
    for kind in Kind::ALL {
        let next = |verdict| kind.policy().next(1, verdict);
        assert_eq!(next(Verdict::Accepted), Next::Answered);
        assert_eq!(next(Verdict::Declined), Next::GivenUp(Reason::Status));
        assert_eq!(next(Verdict::Gone), Next::GivenUp(Reason::Gone));
    }
}

#[test]
fn a_receiver_may_ask_for_a_longer_pause_but_not_for_a_shorter_or_an_endless_one() {
    let next = |wait| Kind::Webhook.policy().next(1, failed(Some(wait)));
    assert_eq!(next(60 * SECOND), Next::Again(60 * SECOND, Reason::Status));
    assert_eq!(next(SECOND), Next::Again(5 * SECOND, Reason::Status));
    assert_eq!(next(i64::MAX), Next::Again(MAX_RETRY_AFTER_MICROS, Reason::Status));
}

#[test]
fn names_and_bounds_are_those_that_are_stored() {
    for kind in Kind::ALL {
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        let policy = kind.policy();
        assert!((1..=MAX_CALLBACKS).contains(&policy.batch) && policy.lanes > 0, "{kind:?}");
    }
    for reason in Reason::ALL {
        assert_eq!(serde_json::to_value(reason).unwrap(), reason.name());
    }
}
