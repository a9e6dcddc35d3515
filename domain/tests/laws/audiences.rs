//! What holds over every history of Easemob users, labels, devices that are bound to vendors, and
//! of what vendors do with deliveries.

use std::collections::{BTreeMap, BTreeSet};

use domain::{
    Event, Stream,
    device::{Bind, Device, MAX_BINDINGS},
    facts::{Fact, Key},
    message::{Delivery, Progress, Protocol, Stage},
};
use proptest::prelude::*;
use uuid::Uuid;

use crate::{
    answers::{devices_of, is_gone, is_member},
    cast::APP,
    histories::{Command, Turn, turns},
    ledger::Ledger,
    properties::deliveries,
    wishes::{MOST_LABELS, MOST_MEMBERS, audience_history, history},
};

/// Accounts of Easemob users that were opened, and those that were closed.
fn accounts(ledger: &Ledger) -> (BTreeSet<Uuid>, BTreeSet<Uuid>) {
    let (mut opened, mut closed) = (BTreeSet::new(), BTreeSet::new());
    for recorded in ledger.events() {
        match (&recorded.stream, &recorded.event) {
            (Stream::Account(id), Event::AccountOpened(e)) => {
                let easemob = e.private.as_ref().is_some_and(|p| p.username.is_some());
                opened.extend(easemob.then_some(*id));
            }
            (Stream::Account(id), Event::AccountClosed(_)) => {
                closed.insert(*id);
            }
            _ => {}
        }
    }
    (opened, closed)
}

/// The devices of all Easemob users that there ever were.
fn handsets(ledger: &Ledger) -> Vec<Device> {
    let of = |account| devices_of(ledger, account).iter().map(|d| Device::clone(d)).collect();
    let devices = accounts(ledger).0.into_iter().flat_map(|account| -> Vec<Device> { of(account) });
    devices.filter(|device| device.protocol == Protocol::Easemob).collect()
}

/// Each step on a delivery that a turn stored, with the delivery before and after it.
fn steps(turn: &Turn) -> Vec<(Progress, Delivery, Delivery)> {
    let mut steps = Vec::new();
    for append in turn.appends() {
        let (Stream::Message(id), Event::DeliveriesAdvanced(e)) = (&append.stream, &append.event)
        else {
            continue;
        };
        let mut deliveries = turn.before.message(*id).deliveries.clone();
        for step in &e.steps {
            let Some(delivery) = deliveries.get_mut(&step.device) else { continue };
            let before = delivery.clone();
            delivery.advance(step);
            steps.push((step.what, before, delivery.clone()));
        }
    }
    steps
}

proptest! {
    #[test]
    fn a_username_has_at_most_one_open_account(wishes in audience_history()) {
        let turns = turns(wishes);
        let Some(last) = turns.last() else { return Ok(()) };
        let mut open: BTreeMap<&str, Uuid> = BTreeMap::new();
        for recorded in last.after.events() {
            let Stream::Account(id) = recorded.stream else { continue };
            match &recorded.event {
                Event::AccountOpened(e) => {
                    let Some(name) = e.private.as_ref().and_then(|p| p.username.as_deref()) else {
                        continue;
                    };
                    prop_assert_eq!(open.insert(name, id), None);
                }
                Event::AccountClosed(e) => {
                    let name = e.private.as_ref().and_then(|p| p.username.as_deref()).unwrap();
                    prop_assert_eq!(open.remove(name), Some(id));
                }
                _ => {}
            }
        }
    }

    #[test]
    fn a_label_counts_its_members_and_has_no_more_than_it_may(wishes in audience_history()) {
        let turns = turns(wishes);
        let Some(last) = turns.last() else { return Ok(()) };
        let (opened, _) = accounts(&last.after);
        let mut labels = 0;
        for key in last.after.keys() {
            let Fact::Label(Some(label)) = last.after.fact(key) else { continue };
            labels += 1;
            let is_in = |account: &&Uuid| is_member(&last.after, label.stream, **account);
            let members = opened.iter().filter(is_in).count();
            prop_assert_eq!(i64::try_from(members).unwrap(), label.members);
            prop_assert!((0..=MOST_MEMBERS).contains(&label.members));
        }
        prop_assert_eq!(last.after.fact(&Key::LabelCount(APP.to_owned())), Fact::Count(labels));
        prop_assert!(labels <= MOST_LABELS);
    }

    #[test]
    fn a_user_that_was_removed_is_in_no_label_and_has_no_registered_device(wishes in audience_history()) {
        let turns = turns(wishes);
        let Some(last) = turns.last() else { return Ok(()) };
        for account in accounts(&last.after).1 {
            prop_assert!(is_gone(&last.after, account));
        }
    }

    #[test]
    fn a_device_id_of_a_user_is_one_device(wishes in audience_history()) {
        let turns = turns(wishes);
        let Some(last) = turns.last() else { return Ok(()) };
        let mut seen = BTreeSet::new();
        for device in handsets(&last.after) {
            prop_assert!(seen.insert((device.account, device.identity.client_id)));
        }
    }

    #[test]
    fn bindings_are_in_order_of_name_and_each_name_is_there_once(wishes in audience_history()) {
        let turns = turns(wishes);
        let Some(last) = turns.last() else { return Ok(()) };
        for recorded in last.after.events() {
            let Event::DeviceBound(e) = &recorded.event else { continue };
            prop_assert!(e.notifiers.is_sorted_by(|one, next| one < next));
            let tokens = e.private.as_ref().map(|endpoint| endpoint.tokens.len());
            prop_assert_eq!(tokens, Some(e.notifiers.len()));
        }
        for device in handsets(&last.after) {
            prop_assert!(device.bound.is_sorted_by(|(one, _), (next, _)| one < next));
            prop_assert!(device.bound.len() <= MAX_BINDINGS);
        }
    }

    #[test]
    fn a_change_of_bindings_leaves_those_under_other_names_alone(wishes in audience_history()) {
        for turn in turns(wishes) {
            let (Command::Bind(c), [append]) = (&turn.command, turn.appends()) else { continue };
            let Stream::Device(stream) = append.stream else { continue };
            let bound = |ledger: &Ledger| {
                let device = handsets(ledger).into_iter().find(|device| device.stream == stream);
                let mut bound = device.map_or_else(Vec::new, |device| device.bound);
                match &c.change {
                    Bind::Token(name, _) | Bind::Without(name) => bound.retain(|b| b.0 != *name),
                    Bind::Nothing => bound.clear(),
                    Bind::Seen => {}
                }
                bound
            };
            prop_assert_eq!(bound(&turn.before), bound(&turn.after));
        }
    }

    #[test]
    fn a_push_goes_to_devices_that_are_registered_and_counts_every_name(wishes in history()) {
        for turn in turns(wishes) {
            for append in turn.appends() {
                let Event::MessageAccepted(e) = &append.event else { continue };
                for target in &e.targets {
                    let fact = turn.before.fact(&Key::Device(target.device));
                    let Fact::Devices(devices) = fact else { panic!("{fact:?} are no devices") };
                    prop_assert!(devices.iter().any(|device| device.registered()));
                }
                let Command::Push(c) = &turn.command else { continue };
                if let domain::push::Destinations::Users(names) = &c.destinations {
                    let names: BTreeSet<&String> = names.iter().collect();
                    let counted = usize::try_from(e.users + e.unresolved).unwrap();
                    prop_assert_eq!(counted, names.len());
                    prop_assert!(e.unbound <= e.users);
                }
            }
        }
    }

    #[test]
    fn no_other_vendor_is_asked_once_one_took_a_delivery(wishes in history()) {
        for turn in turns(wishes) {
            for (what, before, after) in steps(&turn) {
                if before.vendor.is_some() {
                    prop_assert!(!before.wants_vendor());
                    prop_assert_eq!(after.vendor, before.vendor);
                    prop_assert!(!matches!(what, Progress::Sent | Progress::Failed(_)));
                }
            }
        }
    }

    #[test]
    fn a_delivery_that_failed_at_vendors_stays_open_until_it_is_received_or_ends(
        wishes in history(),
    ) {
        for turn in turns(wishes) {
            for (what, before, after) in steps(&turn) {
                if let Progress::Failed(reason) = what {
                    prop_assert!(before.open() && after.open());
                    prop_assert_eq!(after.failed, Some(reason));
                }
                if before.failed.is_some() {
                    prop_assert_eq!(after.failed, before.failed);
                    let received = after.stage >= Stage::Received;
                    let over = received || matches!(what, Progress::Ended(_));
                    prop_assert!(over || after.open() == before.open());
                }
            }
        }
    }

    #[test]
    fn time_ends_nothing_that_a_vendor_took(wishes in history()) {
        for turn in turns(wishes) {
            let Command::Expire(_) = &turn.command else { continue };
            for (before, after) in deliveries(&turn) {
                for (before, after) in before.deliveries.values().zip(after.deliveries.values()) {
                    prop_assert!(before.vendor.is_none() || after.ended == before.ended);
                }
            }
        }
    }
}
