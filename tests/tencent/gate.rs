//! What stands before every call: path and method, the query, the signature.

use serde_json::{Value, json};

use super::{ADMIN, APP, IMPORT, KEY, OLD_KEY, ROAM, SENDMSG, Tencent, message, target, usersig};
use crate::harness::World;
use pushledger::tencent::sign;

async fn code(tencent: &Tencent, target: &str) -> Value {
    let body = message(1).to_string();
    tencent.raw("POST", target, body.as_bytes()).await["ErrorCode"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_query_proves_who_calls_and_each_way_to_fail_has_its_code() {
    let tencent = Tencent::with_clock().await;
    let head = tencent.world.head().await;
    let now = tencent.world.clock.now() / 1_000_000;
    let query = |app: &str, user: &str, sig: &str| {
        format!(
            "{SENDMSG}?sdkappid={app}&identifier={user}&usersig={sig}&random=1&contenttype=json"
        )
    };
    let (app, good) = (APP.to_string(), usersig(ADMIN));
    let made = |key: &str, app, user, time, expire| sign(key, app, user, time, expire);
    for (target, wanted) in [
        (SENDMSG.to_owned(), 60_012),
        (query("", ADMIN, &good), 60_012),
        (query("x", ADMIN, &good), 60_006),
        (query("4294967296", ADMIN, &good), 60_006),
        (query("1400000000", ADMIN, &good), 70_020),
        (query(&app, "", &good), 60_004),
        (query(&app, ADMIN, ""), 70_002),
        (query(&app, ADMIN, "eJw_"), 70_003),
        (query(&app, ADMIN, &"A".repeat(5_000)), 70_003),
        (query(&app, ADMIN, &made("other", APP, ADMIN, now, 60)), 70_009),
        (query(&app, ADMIN, &made(KEY, APP, "bob", now, 60)), 70_013),
        (query(&app, ADMIN, &made(KEY, APP + 1, ADMIN, now, 60)), 70_014),
        (query(&app, ADMIN, &made(KEY, APP, ADMIN, now - 61, 60)), 70_001),
        // A good signature, of somebody else.
        (query(&app, "bob", &usersig("bob")), 90_009),
    ] {
        assert_eq!(code(&tencent, &target).await, wanted, "{target}");
    }
    let not_admin = query(&app, "bob", &usersig("bob")).replace(SENDMSG, IMPORT);
    assert_eq!(code(&tencent, &not_admin).await, 70_403);
    assert_eq!(tencent.world.head().await, head);
    for key in [KEY, OLD_KEY] {
        let own = query(&app, ADMIN, &made(key, APP, ADMIN, now - 60, 60));
        let body = json!({ "From_Account": "Ann", "To_Account": "bob", "MaxCnt": 1,
                           "MinTime": 0, "MaxTime": 9 });
        let own = own.replace(SENDMSG, ROAM);
        let answer = tencent.raw("POST", &own, body.to_string().as_bytes()).await;
        assert_eq!(answer["ErrorCode"], 0, "{answer}");
    }
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_call_and_what_is_no_post_is_refused_under_200() {
    let tencent = Tencent::new().await;
    for path in ["/v4/openim/nothing", "/v4/openim/sendmsg/", "/v4/x"] {
        assert_eq!(tencent.raw("POST", &target(path), b"{}").await["ErrorCode"], 60_009, "{path}");
    }
    for method in ["GET", "PUT", "DELETE"] {
        let answer = tencent.raw(method, &target(SENDMSG), b"{}").await;
        assert_eq!(answer["ErrorCode"], 60_002, "{method}");
    }
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_no_json_object_of_text_or_too_long_are_refused() {
    let tencent = Tencent::new().await;
    let head = tencent.world.head().await;
    let target = target(SENDMSG);
    for body in [&b""[..], b"{", b"[]", b"1", b"\xff", b"{\"MsgRandom\":\"\xff\"}", b"null"] {
        let answer = tencent.raw("POST", &target, body).await;
        assert_eq!(answer["ErrorCode"], 90_001, "{body:?}");
        let told = "Fail to Parse json data of body, Please check it";
        assert_eq!(answer["ErrorInfo"], told);
    }
    let padded = |bytes: usize| {
        let body = message(5).to_string();
        body.clone() + &" ".repeat(bytes - body.len())
    };
    let long = tencent.raw("POST", &target, padded(65_537).as_bytes()).await;
    assert_eq!(long["ErrorCode"], 80_002);
    assert_eq!(tencent.world.head().await, head);
    let fits = tencent.raw("POST", &target, padded(65_536).as_bytes()).await;
    assert_eq!(fits["ErrorCode"], 0);
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_app_is_70020() {
    let tencent = Tencent::of(World::new().await, json!({})).await;
    let (status, ..) = tencent.world.admin.delete("/admin/v1/apps/demo", None).await.unwrap();
    assert_eq!(status, 204);
    assert_eq!(code(&tencent, &target(SENDMSG)).await, 70_020);
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_answers_91000() {
    let tencent = Tencent::new().await;
    tencent.world.running.server.ledger.close();
    assert_eq!(code(&tencent, &target(SENDMSG)).await, 91_000);
    tencent.world.stop().await;
}
