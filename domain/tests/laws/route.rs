//! The routing policy as a table: strategy, whether the device is here, whether it is bound.

use domain::{
    message::Ending,
    route::{Route, Strategy, Ways, after_silence, after_vendor, after_waiting, route},
};

use Strategy::{OnlineElseKept, OnlineElseVendor, PresentOnly, VendorElseOnline, VendorOnly};

#[test]
fn the_first_way_follows_from_strategy_presence_and_binding() {
    let (online, vendor) = (Route::Online, Route::Vendor);
    let (no_binding, not_present) = (Route::End(Ending::NoBinding), Route::End(Ending::NotPresent));
    // In this order: here and bound, here, away and bound, away.
    let table = [
        (VendorElseOnline, [vendor, online, vendor, online]),
        (OnlineElseKept, [online, online, online, online]),
        (VendorOnly, [vendor, no_binding, vendor, no_binding]),
        (OnlineElseVendor, [online, online, vendor, online]),
        (PresentOnly, [online, online, not_present, not_present]),
    ];
    assert_eq!(table.map(|(strategy, _)| strategy), Strategy::ALL);
    for (strategy, expected) in table {
        let ways = [(true, true), (true, false), (false, true), (false, false)];
        let routes = ways.map(|(present, bound)| route(strategy, Ways { present, bound }));
        assert_eq!(routes, expected, "{strategy:?}");
    }
}

#[test]
fn what_a_vendor_refuses_goes_online_where_the_strategy_says_so_and_else_ends() {
    for ending in crate::golden::ENDINGS {
        let ways = Strategy::ALL.map(|strategy| after_vendor(strategy, ending));
        let end = Route::End(ending);
        assert_eq!(ways, [Route::Online, end, end, Route::Online, end]);
    }
}

#[test]
fn what_waits_for_a_vendor_for_too_long_is_kept_if_there_is_time_or_it_was_kept_already() {
    let (online, over) = (Route::Online, Route::End(Ending::ExpiredUnsent));
    for (expired, expected) in
        [(false, [online, over, over, online, over]), (true, [over, over, over, online, over])]
    {
        let ways = Strategy::ALL.map(|strategy| after_waiting(strategy, expired));
        assert_eq!(ways, expected, "expired: {expired}");
    }
}

#[test]
fn silence_of_a_connected_device_leads_to_the_vendor_under_one_strategy_alone() {
    for strategy in Strategy::ALL {
        assert_eq!(after_silence(strategy, true), strategy == OnlineElseVendor);
        assert!(!after_silence(strategy, false));
    }
}

#[test]
fn a_strategy_has_its_number_and_says_what_needs_no_decision() {
    for (number, strategy) in (0..).zip(Strategy::ALL) {
        assert_eq!(strategy as i64, number);
        assert_eq!(Strategy::from_number(number), Some(strategy));
    }
    assert_eq!([-1, 5].map(Strategy::from_number), [None, None]);
    let all = Strategy::ALL;
    assert_eq!(all.map(Strategy::online_first), [false, true, false, true, true]);
    assert_eq!(all.map(Strategy::kept_at_once), [false, true, false, true, false]);
    assert_eq!(all.map(Strategy::uses_vendor), [true, false, true, true, false]);
}
