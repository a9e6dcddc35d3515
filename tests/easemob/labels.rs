//! `/{org}/{app}/push/label`: labels.

use domain::facts::{Fact, Key};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Easemob, ok, refused};
use crate::harness::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_label_is_created_read_and_deleted() {
    let easemob = Easemob::with_clock().await;
    let body = json!({ "name": "post-90s", "description": "born in the nineties" });
    let made = ok(easemob.cloud.post("/push/label", Some(&body)).await.unwrap());
    let at = 1_700_000_000_000_i64;
    assert_eq!(
        made["data"],
        json!({ "name": "post-90s", "description": "born in the nineties",
                                     "createdAt": at })
    );
    let read = ok(easemob.cloud.get("/push/label/post-90s", None).await.unwrap());
    assert_eq!(
        read["data"],
        json!({ "name": "post-90s", "count": 0, "createdAt": at,
                                     "description": "born in the nineties" })
    );
    let gone = ok(easemob.cloud.delete("/push/label/post-90s", None).await.unwrap());
    assert_eq!(gone["data"], "success");
    let unknown = "push label not exists of post-90s";
    for answer in [
        easemob.cloud.get("/push/label/post-90s", None).await.unwrap(),
        easemob.cloud.delete("/push/label/post-90s", None).await.unwrap(),
    ] {
        refused(&answer, 400, "ResourceNotFoundException", unknown);
    }
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_in_a_label_leaves_it_when_it_is_deleted() {
    let easemob = Easemob::new().await;
    let mut accounts = Vec::new();
    for name in ["ann", "bob"] {
        accounts.push(easemob.user(name).await["uuid"].as_str().unwrap().parse().unwrap());
    }
    let ledger = &easemob.world.running.server.ledger;
    let labels = async |account: Uuid| {
        let key = Key::AccountLabels(account);
        let (known, read) = (ledger.remembered(key.clone()).await, ledger.fact(key).await);
        assert_eq!(known.as_ref().unwrap(), &read.unwrap(), "what is remembered is out of date");
        let Ok(Fact::Labels(labels)) = known else { panic!("{known:?}") };
        labels.len()
    };
    let both = json!({ "usernames": ["ann", "bob"] });
    for _ in 0..3 {
        for name in ["vip", "kept"] {
            let _ =
                easemob.cloud.post("/push/label", Some(&json!({ "name": name }))).await.unwrap();
            let path = format!("/push/label/{name}/user");
            ok(easemob.cloud.post(&path, Some(&both)).await.unwrap());
        }
        for account in &accounts {
            assert_eq!(labels(*account).await, 2);
        }
        ok(easemob.cloud.delete("/push/label/vip", None).await.unwrap());
        for account in &accounts {
            assert_eq!(labels(*account).await, 1, "it is in a label that is gone");
        }
    }
    assert_eq!(memberships(&easemob.world).await, (8, 2));
    // A name's next label has its own users.
    easemob.label("vip").await;
    let users = ok(easemob.cloud.get("/push/label/vip/user", None).await.unwrap());
    assert_eq!(users["data"], json!([]));
    ok(easemob.cloud.delete("/users/ann", None).await.unwrap());
    easemob.world.stop().await;
}

/// Rows of who is in a label, and those that are open.
async fn memberships(world: &World) -> (usize, usize) {
    let pool = &world.running.server.ledger.database().ledger_read;
    let rows = crate::harness::dump(pool, "label_members").await;
    let open = |row: &&String| row.ends_with(",NULL") || row.ends_with(",)");
    (rows.len(), rows.iter().filter(open).count())
}

#[tokio::test(flavor = "multi_thread")]
async fn memberships_that_a_former_version_left_open_end_with_their_label_at_the_next_start() {
    let easemob = Easemob::new().await;
    easemob.user("ann").await;
    let ann = json!({ "usernames": ["ann"] });
    for name in ["gone", "kept"] {
        easemob.label(name).await;
        let path = format!("/push/label/{name}/user");
        ok(easemob.cloud.post(&path, Some(&ann)).await.unwrap());
    }
    ok(easemob.cloud.delete("/push/label/gone", None).await.unwrap());
    let Easemob { world, .. } = easemob;
    let pool = &world.running.server.ledger.database().ledger_read;
    let before = crate::harness::dump(pool, "label_members").await;
    let mut backdoor = world.place.backdoor().await;
    backdoor.run("UPDATE label_members SET to_position = NULL").await;
    backdoor.run("DELETE FROM _sqlx_migrations WHERE version = 13").await;
    assert_eq!(memberships(&world).await, (2, 2));
    let world = world.restart().await;
    assert_eq!(memberships(&world).await, (2, 1));
    let pool = &world.running.server.ledger.database().ledger_read;
    assert_eq!(crate::harness::dump(pool, "label_members").await, before);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_labels_are_compared_to_the_letter_and_unique() {
    let easemob = Easemob::new().await;
    easemob.label("Vip").await;
    easemob.label("vip").await;
    let body = json!({ "name": "vip" });
    let answer = easemob.cloud.post("/push/label", Some(&body)).await.unwrap();
    refused(&answer, 400, "IllegalArgumentException", "a label is named vip already");
    let answer = easemob.cloud.get("/push/label/VIP", None).await.unwrap();
    refused(&answer, 400, "ResourceNotFoundException", "push label not exists of VIP");
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_that_breaks_a_rule_is_400() {
    let easemob = Easemob::new().await;
    let name = "name must have 1 to 64 letters, digits and _ . -";
    for (body, description) in [
        (json!({}), "name must be provided"),
        (json!({ "name": null }), "name must be provided"),
        (json!({ "name": 1 }), "name must be a string"),
        (json!({ "name": "" }), name),
        (json!({ "name": "a b" }), name),
        (json!({ "name": "标签" }), name),
        (json!({ "name": "x".repeat(65) }), name),
        (
            json!({ "name": "x", "description": "x".repeat(256) }),
            "description must not be longer than 255 characters",
        ),
        (json!({ "name": "x", "description": [] }), "description must be a string"),
    ] {
        let answer = easemob.cloud.post("/push/label", Some(&body)).await.unwrap();
        refused(&answer, 400, "IllegalArgumentException", description);
    }
    let longest = json!({ "name": "x".repeat(64), "description": "安".repeat(255) });
    ok(easemob.cloud.post("/push/label", Some(&longest)).await.unwrap());
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_has_100_labels_at_most_and_a_deleted_one_makes_room() {
    let easemob = Easemob::new().await;
    for n in 0..100 {
        easemob.label(&format!("l{n}")).await;
    }
    let body = json!({ "name": "more" });
    let answer = easemob.cloud.post("/push/label", Some(&body)).await.unwrap();
    refused(&answer, 403, "LimitException", "limit request");
    assert_eq!(answer.1["detail"], "an app has at most 100 labels");
    ok(easemob.cloud.delete("/push/label/l7", None).await.unwrap());
    ok(easemob.cloud.post("/push/label", Some(&body)).await.unwrap());
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_are_listed_in_pages_until_there_is_no_cursor() {
    let easemob = Easemob::new().await;
    for n in 0..5 {
        easemob.label(&format!("l{n}")).await;
    }
    let names = |page: &Value| -> Vec<String> {
        let each = page["data"].as_array().unwrap().iter();
        each.map(|label| label["name"].as_str().unwrap().to_owned()).collect()
    };
    let all = ok(easemob.cloud.get("/push/label", None).await.unwrap());
    assert_eq!(names(&all), ["l0", "l1", "l2", "l3", "l4"]);
    assert!(all.get("cursor").is_none());
    let first = ok(easemob.cloud.get("/push/label?limit=3", None).await.unwrap());
    assert_eq!(names(&first), ["l0", "l1", "l2"]);
    let path = format!("/push/label?limit=3&cursor={}", first["cursor"].as_str().unwrap());
    let second = ok(easemob.cloud.get(&path, None).await.unwrap());
    assert_eq!(names(&second), ["l3", "l4"]);
    assert!(second.get("cursor").is_none());
    for (query, description) in
        [("limit=0", "limit must be 1 to 100"), ("limit=101", "limit must be 1 to 100")]
    {
        let answer = easemob.cloud.get(&format!("/push/label?{query}"), None).await.unwrap();
        refused(&answer, 400, "IllegalArgumentException", description);
    }
    easemob.world.stop().await;
}
