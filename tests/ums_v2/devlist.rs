//! `devlist`, of terminals and of clouds.

use serde_json::{Value, json};

use super::{CLOUD_DEVLIST, DEVLIST, REGISTER, UNREG, call, devices_of, each, other_app, refusal};
use crate::harness::{PACKAGE, World, merge, ok, registration};

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_lists_the_devices_of_its_user_with_no_body_an_empty_text_or_an_object() {
    let world = World::new().await;
    let caller = world.register_of("ann", "c-1", json!({})).await;
    world.register_of("bob", "c-2", json!({})).await;
    for body in ["", " \r\n", r#""""#, "null", "{}", r#"{ "any": 1 }"#] {
        let reply = call(&caller, DEVLIST, body).await;
        assert_eq!(reply.ret_code, "00000", "{body}");
        assert_eq!(each(reply.data.as_array().unwrap(), "clientId"), "c-1", "{body}");
    }
    for body in ["[]", "1", r#""all""#, "{"] {
        assert_eq!(call(&caller, DEVLIST, body).await.ret_code, "B00004", "{body}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_without_login_has_no_list() {
    let world = World::new().await;
    let caller = world.register("c-1").await;
    assert_eq!(refusal(&world, &caller, DEVLIST, &json!({})).await, "D00003");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cloud_lists_the_devices_of_the_user_it_names() {
    let world = World::new().await;
    world.register_of("ann", "c-1", json!({})).await;
    world.register_of("bob", "c-2", json!({})).await;
    assert_eq!(each(&devices_of(&world, "ann").await, "clientId"), "c-1");
    assert_eq!(each(&devices_of(&world, "bob").await, "clientId"), "c-2");
    // The document spells the field without its capital; the usual spelling works too.
    let data = ok(&world.cloud(), CLOUD_DEVLIST, &json!({ "userId": "bob" })).await;
    assert_eq!(each(data.as_array().unwrap(), "clientId"), "c-2");
    let missing = refusal(&world, &world.cloud(), CLOUD_DEVLIST, &json!({ "userid": "" })).await;
    assert_eq!(missing, "B00001");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_that_nobody_knows_has_an_empty_list() {
    let world = World::new().await;
    assert_eq!(devices_of(&world, "nobody").await, Vec::<Value>::new());
    let caller = world.user("nobody", "c-1").await;
    assert_eq!(ok(&caller, DEVLIST, &json!({})).await, json!([]));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn registered_and_updated_devices_are_listed_in_order_and_unregistered_ones_are_not() {
    let world = World::new().await;
    world.register_of("ann", "c-3", json!({})).await;
    let gone = world.register_of("ann", "c-2", json!({})).await;
    world.register_of("ann", "c-1", json!({})).await;
    world.register_of("ann", "c-3", json!({})).await;
    ok(&gone, UNREG, &json!({ "appPackage": PACKAGE })).await;
    let devices = devices_of(&world, "ann").await;
    assert_eq!(each(&devices, "clientId"), "c-3 c-1");
    assert_eq!((&devices[0]["status"], &devices[1]["status"]), (&json!(3), &json!(1)));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_of_the_same_name_in_two_apps_have_two_lists() {
    let world = World::new().await;
    world.register_of("ann", "c-1", json!({})).await;
    let (terminal, cloud) = other_app(&world).await;
    let token = json!({ "userId": "ann", "clientId": "c-2" });
    let path = "/admin/v1/apps/other/access-tokens";
    let (_, token, _) = world.admin.post(path, Some(&token)).await.unwrap();
    let token = token["accessToken"].as_str().unwrap();
    let terminal = terminal.with_client_id("c-2").with_access_token(token);
    let mut body = registration("c-2");
    merge(&mut body, json!({ "userId": "ann" }));
    ok(&terminal, REGISTER, &body).await;
    assert_eq!(each(&devices_of(&world, "ann").await, "clientId"), "c-1");
    let theirs = ok(&cloud, CLOUD_DEVLIST, &json!({ "userid": "ann" })).await;
    assert_eq!(each(theirs.as_array().unwrap(), "clientId"), "c-2");
    world.stop().await;
}
