//! `dst` of `msgPush` and `msgPushtry`: four types, of terminals and of clouds, strict and not.

use serde_json::{Value, json};
use sim::Caller;

use super::{CLOUD_PUSH, CLOUD_TRY, PUSH, TRY, call, each, refusal};
use crate::harness::{PACKAGE, World, ok};

/// Ann has a phone and a fridge, Bob has a phone, and nobody else ever logged in.
struct Homes {
    world: World,
    ann: Caller,
    cloud: Caller,
}

impl Homes {
    async fn new() -> Homes {
        let world = World::new().await;
        let phone = json!({ "deviceType": "01", "deviceId": "mac-1" });
        let ann = world.register_of("ann", "ann-phone", phone).await;
        let fridge = json!({ "deviceType": "04", "deviceId": "mac-2", "appPackage": FRIDGE });
        world.register_of("ann", "ann-fridge", fridge).await;
        let phone = json!({ "deviceType": "01", "deviceId": "mac-3" });
        world.register_of("bob", "bob-phone", phone).await;
        let cloud = world.cloud();
        Homes { world, ann, cloud }
    }

    /// Pushes; gives the clients that the message goes to, or the code of the refusal.
    async fn push(&self, caller: &Caller, path: &str, dst: Value) -> String {
        let body = json!({ "dst": dst, "message": { "msgName": "m" } });
        let reply = call(caller, path, &body.to_string()).await;
        if reply.ret_code != "00000" {
            return refusal(&self.world, caller, path, &body).await;
        }
        let info = self.world.status(reply.data["msgId"].as_str().unwrap()).await;
        each(info["devices"].as_array().unwrap(), "clientId")
    }

    /// Ann pushes, strictly and not.
    async fn by_ann(&self, dst: Value) -> [String; 2] {
        [self.push(&self.ann, PUSH, dst.clone()).await, self.push(&self.ann, TRY, dst).await]
    }

    /// A cloud pushes, strictly and not.
    async fn by_cloud(&self, dst: Value) -> [String; 2] {
        let strict = self.push(&self.cloud, CLOUD_PUSH, dst.clone()).await;
        [strict, self.push(&self.cloud, CLOUD_TRY, dst).await]
    }
}

const FRIDGE: &str = "com.acme.fridge";

fn ids(kind: i64, ids: Value) -> Value {
    json!({ "type": kind, "Id": ids })
}

#[tokio::test(flavor = "multi_thread")]
async fn type_0_reaches_clients_of_any_account() {
    let homes = Homes::new().await;
    let all = "ann-phone ann-fridge bob-phone";
    let dst = ids(0, json!(["bob-phone", "ann-fridge", "ann-phone"]));
    assert_eq!(homes.by_ann(dst.clone()).await, [all, all]);
    assert_eq!(homes.by_cloud(dst).await, [all, all]);
    homes.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn type_0_reaches_every_package_of_a_client() {
    let homes = Homes::new().await;
    homes.world.register_of("bob", "bob-phone", json!({ "appPackage": "com.acme.tv" })).await;
    let dst = ids(0, json!(["bob-phone"]));
    let both = "bob-phone bob-phone";
    assert_eq!(homes.by_cloud(dst).await, [both, both]);
    homes.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn type_1_of_a_terminal_reaches_hardware_of_its_own_account_alone() {
    let homes = Homes::new().await;
    let both = "ann-phone ann-fridge";
    assert_eq!(homes.by_ann(ids(1, json!(["mac-1", "mac-2"]))).await, [both, both]);
    assert_eq!(homes.by_ann(ids(1, json!(["mac-1", "mac-3"]))).await, ["H32006", "ann-phone"]);
    assert_eq!(homes.by_ann(ids(1, json!(["mac-3"]))).await, ["H32006", "H32011"]);
    homes.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn type_1_of_a_cloud_reaches_hardware_of_any_account() {
    let homes = Homes::new().await;
    let both = "ann-fridge bob-phone";
    assert_eq!(homes.by_cloud(ids(1, json!(["mac-3", "mac-2"]))).await, [both, both]);
    homes.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn type_2_of_a_terminal_reaches_device_types_of_its_own_user() {
    let homes = Homes::new().await;
    let types = |types: Value| json!({ "type": 2, "devType": types });
    assert_eq!(homes.by_ann(types(json!(["01"]))).await, ["ann-phone", "ann-phone"]);
    let both = "ann-phone ann-fridge";
    assert_eq!(homes.by_ann(types(json!(["04", "01"]))).await, [both, both]);
    assert_eq!(homes.by_ann(types(json!(["01", "03"]))).await, ["H32006", "ann-phone"]);
    // Users are for clouds to name; a terminal speaks for its own.
    let dst = json!({ "type": 2, "Id": ["bob"], "devType": ["01"] });
    assert_eq!(homes.by_ann(dst).await, ["ann-phone", "ann-phone"]);
    homes.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn type_2_of_a_cloud_reaches_device_types_of_the_users_it_names() {
    let homes = Homes::new().await;
    let dst = |users: Value, types: Value| json!({ "type": 2, "Id": users, "devType": types });
    let one = homes.by_cloud(dst(json!(["ann"]), json!(["01"]))).await;
    assert_eq!(one, ["ann-phone", "ann-phone"]);
    let both = "ann-phone bob-phone";
    let several = homes.by_cloud(dst(json!(["bob", "ann"]), json!(["01"]))).await;
    assert_eq!(several, [both, both]);
    // Every user must have one of the types, and every type must be one of the users'.
    let bob_has_none = homes.by_cloud(dst(json!(["ann", "bob"]), json!(["04"]))).await;
    assert_eq!(bob_has_none, ["H32006", "ann-fridge"]);
    let nobody_has_one = homes.by_cloud(dst(json!(["bob"]), json!(["01", "05"]))).await;
    assert_eq!(nobody_has_one, ["H32006", "bob-phone"]);
    homes.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn type_3_of_a_terminal_reaches_packages_of_its_own_user() {
    let homes = Homes::new().await;
    let packages = |packages: Value| json!({ "type": 3, "appType": packages });
    assert_eq!(homes.by_ann(packages(json!([PACKAGE]))).await, ["ann-phone", "ann-phone"]);
    let both = "ann-phone ann-fridge";
    assert_eq!(homes.by_ann(packages(json!([PACKAGE, FRIDGE]))).await, [both, both]);
    let unknown = homes.by_ann(packages(json!([FRIDGE, "com.acme.unknown"]))).await;
    assert_eq!(unknown, ["H32006", "ann-fridge"]);
    homes.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn type_3_of_a_cloud_reaches_packages_of_the_users_it_names() {
    let homes = Homes::new().await;
    let dst = |users: Value, types: Value| json!({ "type": 3, "Id": users, "appType": types });
    let one = homes.by_cloud(dst(json!(["bob"]), json!([PACKAGE]))).await;
    assert_eq!(one, ["bob-phone", "bob-phone"]);
    let both = "ann-phone bob-phone";
    let several = homes.by_cloud(dst(json!(["ann", "bob"]), json!([PACKAGE]))).await;
    assert_eq!(several, [both, both]);
    let bob_has_none = homes.by_cloud(dst(json!(["ann", "bob"]), json!([FRIDGE]))).await;
    assert_eq!(bob_has_none, ["H32006", "ann-fridge"]);
    homes.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strict_push_with_one_unregistered_destination_is_refused_and_a_try_leaves_it_out() {
    let homes = Homes::new().await;
    let dst = ids(0, json!(["ann-phone", "nobody", "bob-phone"]));
    let rest = "ann-phone bob-phone";
    assert_eq!(homes.by_ann(dst.clone()).await, ["H32006", rest]);
    assert_eq!(homes.by_cloud(dst).await, ["H32006", rest]);
    homes.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_try_that_leaves_nobody_is_refused_to_terminals_and_a_message_to_nobody_of_clouds() {
    let homes = Homes::new().await;
    assert_eq!(homes.by_ann(ids(0, json!(["nobody"]))).await, ["H32006", "H32011"]);
    for dst in [
        ids(0, json!(["nobody"])),
        ids(1, json!(["mac-9"])),
        json!({ "type": 2, "Id": ["nobody"], "devType": ["01"] }),
        json!({ "type": 3, "Id": ["ann"], "appType": ["com.acme.unknown"] }),
    ] {
        assert_eq!(homes.push(&homes.cloud, CLOUD_TRY, dst).await, "");
    }
    let body = json!({ "dst": ids(0, json!(["nobody"])) });
    let data = ok(&homes.cloud, CLOUD_TRY, &body).await;
    let info = homes.world.status(data["msgId"].as_str().unwrap()).await;
    assert_eq!((&info["status"], &info["devices"]), (&json!(0), &json!([])));
    homes.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cloud_that_names_an_unknown_user_is_refused_or_that_user_is_left_out() {
    let homes = Homes::new().await;
    let dst = json!({ "type": 2, "Id": ["ann", "carol"], "devType": ["01"] });
    assert_eq!(homes.by_cloud(dst).await, ["D00008", "ann-phone"]);
    let dst = json!({ "type": 3, "Id": ["ann", "carol"], "appType": [PACKAGE] });
    assert_eq!(homes.by_cloud(dst).await, ["D00008", "ann-phone"]);
    homes.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_without_login_may_not_push() {
    let homes = Homes::new().await;
    let anybody = homes.world.terminal("ann-phone");
    for path in [PUSH, TRY] {
        let code = homes.push(&anybody, path, ids(0, json!(["bob-phone"]))).await;
        assert_eq!(code, "D00008");
    }
    homes.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_outside_their_lists_are_out_of_range() {
    let homes = Homes::new().await;
    for dst in [
        json!({ "type": 4, "Id": ["ann-phone"] }),
        json!({ "type": -1, "Id": ["ann-phone"] }),
        json!({ "type": 2, "Id": ["ann"], "devType": ["01", "09"] }),
        json!({ "type": 2, "Id": ["ann"], "devType": ["1"] }),
    ] {
        assert_eq!(homes.by_ann(dst.clone()).await, ["B00003", "B00003"], "{dst}");
        assert_eq!(homes.by_cloud(dst.clone()).await, ["B00003", "B00003"], "{dst}");
    }
    homes.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_type_needs_its_own_lists() {
    let homes = Homes::new().await;
    for dst in [
        json!({ "type": 0, "id": ["ann-phone"] }),
        json!({ "type": 1, "devType": ["01"] }),
        json!({ "type": 2, "Id": ["ann"], "dstType": ["01"] }),
        json!({ "type": 3, "Id": ["ann"], "devType": ["01"] }),
        json!({ "type": 0, "Id": [] }),
        json!({ "type": 0, "Id": ["ann-phone", ""] }),
        json!({ "Id": ["ann-phone"] }),
    ] {
        assert_eq!(homes.by_ann(dst.clone()).await, ["B00001", "B00001"], "{dst}");
        assert_eq!(homes.by_cloud(dst.clone()).await, ["B00001", "B00001"], "{dst}");
    }
    // A cloud has no user of its own, so it has to name some.
    for dst in [json!({ "type": 2, "devType": ["01"] }), json!({ "type": 3, "appType": [FRIDGE] })]
    {
        assert_eq!(homes.by_cloud(dst).await, ["B00001", "B00001"]);
    }
    homes.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_list_takes_200_items_counted_before_duplicates_go() {
    let homes = Homes::new().await;
    let many = |text: &str, count: usize| Value::from(vec![text; count]);
    for (count, refused) in [(200, false), (201, true)] {
        let by_both = [
            (ids(0, many("ann-phone", count)), "ann-phone"),
            (ids(1, many("mac-2", count)), "ann-fridge"),
            (json!({ "type": 2, "Id": ["ann"], "devType": many("01", count) }), "ann-phone"),
            (json!({ "type": 3, "Id": ["ann"], "appType": many(FRIDGE, count) }), "ann-fridge"),
        ];
        for (dst, reached) in by_both {
            let expected = if refused { ["B00006"; 2] } else { [reached; 2] };
            assert_eq!(homes.by_ann(dst.clone()).await, expected);
            assert_eq!(homes.by_cloud(dst).await, expected);
        }
        let users = json!({ "type": 2, "Id": many("ann", count), "devType": ["01"] });
        let expected = if refused { ["B00006"; 2] } else { ["ann-phone"; 2] };
        assert_eq!(homes.by_cloud(users).await, expected);
    }
    homes.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_named_twice_gets_one_delivery() {
    let homes = Homes::new().await;
    let dst = ids(0, json!(["bob-phone", "ann-phone", "bob-phone"]));
    let both = "ann-phone bob-phone";
    assert_eq!(homes.by_cloud(dst).await, [both, both]);
    let dst = json!({ "type": 2, "Id": ["bob", "bob"], "devType": ["01", "01"] });
    assert_eq!(homes.by_cloud(dst).await, ["bob-phone", "bob-phone"]);
    homes.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_are_compared_to_the_letter() {
    let homes = Homes::new().await;
    assert_eq!(homes.by_cloud(ids(0, json!(["Ann-Phone"]))).await, ["H32006", ""]);
    assert_eq!(homes.by_cloud(ids(1, json!(["MAC-1"]))).await, ["H32006", ""]);
    let dst = json!({ "type": 2, "Id": ["Ann"], "devType": ["01"] });
    assert_eq!(homes.by_cloud(dst).await, ["D00008", ""]);
    homes.world.stop().await;
}
