//! Whether users are online.

use serde_json::{Value, json};

use super::{Easemob, ok, refused};
use crate::harness::until;

async fn status(easemob: &Easemob, name: &str) -> Value {
    ok(easemob.cloud.get(&format!("/users/{name}/status"), None).await.unwrap())["data"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_online_while_a_device_of_it_is_connected() {
    let easemob = Easemob::new().await;
    easemob.user("ann").await;
    assert_eq!(status(&easemob, "Ann").await, json!({ "ann": "offline" }));
    let device = easemob.connect("ann", "phone").await;
    assert_eq!(status(&easemob, "ann").await, json!({ "ann": "online" }));
    drop(device);
    let offline = json!({ "ann": "offline" });
    until("ann stayed online", async || status(&easemob, "ann").await == offline).await;
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_asked_for_at_once_and_who_does_not_exist_is_offline() {
    let easemob = Easemob::new().await;
    easemob.user("ann").await;
    easemob.user("bob").await;
    let _device = easemob.connect("ann", "phone").await;
    let body = json!({ "usernames": ["Ann", "bob", "nobody", "ann"] });
    let answer = ok(easemob.cloud.post("/users/batch/status", Some(&body)).await.unwrap());
    assert_eq!(
        answer["data"],
        json!([{ "Ann": "online" }, { "bob": "offline" },
                                      { "nobody": "offline" }, { "ann": "online" }])
    );
    let many: Vec<String> = (0..101).map(|n| format!("u{n}")).collect();
    for usernames in [json!([]), json!(many)] {
        let body = json!({ "usernames": usernames });
        let answer = easemob.cloud.post("/users/batch/status", Some(&body)).await.unwrap();
        refused(&answer, 400, "illegal_argument", "usernames must have 1 to 100 items");
    }
    let body = json!({ "usernames": &many[..100] });
    ok(easemob.cloud.post("/users/batch/status", Some(&body)).await.unwrap());
    easemob.world.stop().await;
}
