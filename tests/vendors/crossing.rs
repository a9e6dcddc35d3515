//! When a device is reached another way, or is not to be reached any more, while its vendor is away:
//! the vendor is not asked again for it, and still is for the others of the same call.

use domain::{
    message::{Ending, Stage},
    route::Strategy,
};
use serde_json::json;
use sim::fakes::Outage;

use super::{DAY, Post, token, ways::living};
use crate::harness::{PACKAGE, ok};

#[tokio::test(flavor = "multi_thread")]
async fn who_was_reached_left_or_is_not_to_get_it_any_more_is_not_asked_for_again() {
    let post = Post::new().await;
    let world = &post.world;
    let clients = ["reached", "left", "recalled", "waits"];
    for client in clients {
        world.register(client).await;
    }
    post.jpush.set_outage(Outage::Unavailable).await;
    let together = post.push(&["reached", "left", "waits"], Strategy::OnlineElseVendor, DAY).await;
    let recalled = post.push(&["recalled"], Strategy::OnlineElseVendor, DAY).await;
    let asked = post.jpush.until(|stats| stats.requests > 0);
    tokio::time::timeout(crate::harness::PATIENCE, asked).await.unwrap();

    let device = living(post.connected("reached").await);
    post.until(together, "reached", |delivery| delivery.stage >= Stage::Received).await;
    ok(&world.terminal("left"), "/ums/v2/unreg", &json!({ "appPackage": PACKAGE })).await;
    post.until(together, "left", |delivery| delivery.ended == Some(Ending::Unregistered)).await;
    let path = format!("/admin/v1/apps/demo/messages/{recalled}/recall");
    let (status, body, _) = world.admin.post(&path, None).await.unwrap();
    assert_eq!((status, &body["devices"][0]["result"]), (200, &json!("stopped_before_sending")));

    let later = post.push(&["waits"], Strategy::VendorOnly, DAY).await;
    post.jpush.set_outage(Outage::None).await;
    post.while_time_passes(later, "waits", |delivery| delivery.vendor.is_some()).await;
    post.while_time_passes(together, "waits", |delivery| delivery.vendor.is_some()).await;
    // Whatever was put off has had its turn once as much time has passed again.
    for _ in 0..600 {
        world.clock.advance(std::time::Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    let accepted = clients.map(|client| post.jpush.accepted(&token(client)));
    assert_eq!(accepted, [0, 0, 0, 2]);
    assert_eq!(post.delivery(together, "reached").await.vendor, None);
    device.abort();
    post.world.stop().await;
}
