//! Every code that the document lists for a call can be had from that call, and what the gateway
//! says when the database fails or the queue is full.

use domain::device::{Channel, Identity, Profile, RegisterDevice};
use futures_util::{StreamExt, stream::FuturesUnordered};
use pushledger::{
    http::ums::codes::{Code, Interface},
    ledger::{Context, Lane, Refused},
};
use serde_json::{Value, json};
use sim::Caller;
use uuid::Uuid;

use super::{CLOUD_PUSH, REGISTER, Ready, call, refusal, set_owner};
use crate::harness::{PACKAGE, World, code, merge, ok, registration};

/// A call that is refused, and how.
type Refusal = (Code, Caller, Value);

/// A call for each code of an interface's list but [`Code::Internal`].
async fn refusals(ready: &Ready, interface: Interface) -> Vec<Refusal> {
    let caller = || ready.caller(interface).clone();
    let stranger = ready.world.terminal("c-1");
    let body = ready.body(interface).await;
    let with = |more: Value| {
        let mut body = body.clone();
        merge(&mut body, more);
        body
    };
    let unknown_package = || with(json!({ "appPackage": "com.unknown" }));
    let clients = |ids: Value| with(json!({ "dst": { "type": 0, "Id": ids } }));
    let mut list = vec![(Code::Missing, caller(), json!({})), (Code::Rule, caller(), json!([]))];
    match interface {
        Interface::Register => list.extend([
            (Code::Rule, caller(), with(json!({ "clientId": "c-2" }))),
            (Code::IllegalUser, stranger, body.clone()),
            (Code::UnsupportedChannel, caller(), with(json!({ "collab3th": 2 }))),
            (Code::UnsupportedPackage, caller(), unknown_package()),
            (Code::UnknownDeviceType, caller(), with(json!({ "deviceType": "09" }))),
        ]),
        Interface::Unregister => list.extend([
            (Code::UnsupportedPackage, caller(), unknown_package()),
            (Code::IllegalUser, stranger, body.clone()),
            (Code::NotRegistered, caller(), with(json!({ "appPackage": "com.acme.other" }))),
        ]),
        // It takes no parameters, so none is missing.
        Interface::Devices => drop(list.remove(0)),
        Interface::Push | Interface::PushTry | Interface::CloudPush | Interface::CloudPushTry => {
            list.extend([
                (Code::WrongLength, caller(), clients(json!(vec!["c-1"; 201]))),
                (Code::WrongType, caller(), with(json!({ "dst": ["c-1"] }))),
                (Code::OutOfRange, caller(), with(json!({ "dst": { "type": 4 } }))),
            ]);
            let nobody = clients(json!(["nobody"]));
            let unknown = json!({ "dst": { "type": 2, "Id": ["carol"], "devType": ["01"] } });
            match interface {
                Interface::Push => list.extend([
                    (Code::IllegalUser, stranger, body.clone()),
                    (Code::NotRegistered, caller(), nobody),
                ]),
                Interface::PushTry => list.extend([
                    (Code::IllegalUser, stranger, body.clone()),
                    (Code::NobodyRegistered, caller(), nobody),
                ]),
                Interface::CloudPush => list.extend([
                    (Code::IllegalUser, caller(), unknown),
                    (Code::NotRegistered, caller(), nobody),
                ]),
                _ => {}
            }
        }
        Interface::Status | Interface::CloudStatus => {
            list.push((Code::NoSuchMessage, caller(), json!({ "msgId": "1" })));
        }
        Interface::Report => {
            ok(&caller(), interface.path(), &body).await;
            list.extend([
                (Code::UnsupportedPackage, caller(), unknown_package()),
                (Code::IllegalUser, stranger, with(json!({ "status": 3 }))),
                (Code::NoSuchMessage, caller(), with(json!({ "msgId": "1" }))),
                (Code::IllegalTransition, caller(), body.clone()),
            ]);
        }
        Interface::PushToHost => {
            set_owner(&ready.world, "phoneless", "bob", "bind key").await;
            list.extend([
                (Code::WrongLength, caller(), with(json!({ "deviceId": "m".repeat(101) }))),
                (Code::WrongBindKey, caller(), with(json!({ "encryptedData": "wrong" }))),
                (Code::NoOwner, caller(), with(json!({ "deviceId": "ownerless" }))),
                (Code::NobodyRegistered, caller(), with(json!({ "deviceId": "phoneless" }))),
            ]);
        }
        Interface::CloudDevices => {}
    }
    list
}

#[tokio::test(flavor = "multi_thread")]
async fn every_listed_code_of_every_call_can_be_provoked() {
    let ready = Ready::new().await;
    for interface in Interface::ALL {
        let mut provoked = vec![Code::Internal];
        for (expected, caller, body) in refusals(&ready, interface).await {
            let code = refusal(&ready.world, &caller, interface.path(), &body).await;
            assert_eq!(code, expected.code(), "{interface:?} {body}");
            provoked.push(expected);
        }
        // A00004 has a test of its own, of every call.
        for listed in interface.listed() {
            assert!(provoked.contains(listed), "{interface:?} was never seen to say {listed:?}");
        }
    }
    ready.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_says_a00004_while_the_database_fails_and_works_again_after_that() {
    let ready = Ready::new().await;
    let mut backdoor = ready.world.place.backdoor().await;
    for interface in Interface::ALL {
        // What the call cannot do without, however much it remembers.
        let table = match interface {
            Interface::Devices | Interface::CloudDevices => "accounts",
            Interface::Status | Interface::CloudStatus => "events",
            _ => "head",
        };
        let (caller, body) = (ready.caller(interface), ready.body(interface).await);
        let head = ready.world.head().await;
        backdoor.run(&format!("ALTER TABLE {table} RENAME TO away")).await;
        let reply = call(caller, interface.path(), &body.to_string()).await;
        backdoor.run(&format!("ALTER TABLE away RENAME TO {table}")).await;
        assert_eq!(reply.ret_code, "A00004", "{interface:?}");
        assert_eq!((reply.ret_info.as_str(), &reply.data), ("internal error", &Value::Null));
        assert_eq!(ready.world.head().await, head, "{interface:?} stored something");
        assert_eq!(code(caller, interface.path(), &body).await, "00000", "{interface:?}");
    }
    ready.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_turned_away_with_a00001_while_the_queue_is_full_and_taken_again_after_that() {
    let world = World::new().await;
    world.register("c-1").await;
    let mut backdoor = world.place.backdoor().await;
    backdoor.run(if world.place.on_postgres() { "BEGIN" } else { "BEGIN IMMEDIATE" }).await;
    backdoor.run("UPDATE head SET position = position").await;
    let command = RegisterDevice {
        app: "demo".to_owned(),
        allowed_packages: Vec::new(),
        user: None,
        profile: Profile {
            app_package: PACKAGE.to_owned(),
            device_type: "01".to_owned(),
            type_id: None,
            channel: Channel::Jpush,
        },
        identity: Identity { client_id: "c-1".to_owned(), ..Identity::default() },
        new_device: Uuid::nil(),
        new_account: Uuid::nil(),
    };
    // Nothing is committed now, so whatever is sent waits, until one is turned away.
    let ledger = &world.running.server.ledger;
    let send = || {
        let context = Context { app: "demo".to_owned(), ..Context::default() };
        ledger.execute(Lane::Interactive, context, command.clone())
    };
    let mut waiting = FuturesUnordered::new();
    loop {
        waiting.push(send());
        match futures_util::poll!(waiting.next()) {
            std::task::Poll::Pending => {}
            std::task::Poll::Ready(answer) => {
                assert!(matches!(answer, Some(Err(Refused::Overloaded))), "{answer:?}");
                break;
            }
        }
    }
    let push = json!({ "dst": { "type": 0, "Id": ["c-1"] } });
    assert_eq!(code(&world.cloud(), CLOUD_PUSH, &push).await, "A00001");
    let terminal = world.terminal("c-1");
    assert_eq!(code(&terminal, REGISTER, &registration("c-1")).await, "A00001");
    backdoor.run("COMMIT").await;
    while let Some(answer) = waiting.next().await {
        answer.unwrap();
    }
    drop(waiting);
    ok(&world.cloud(), CLOUD_PUSH, &push).await;
    ok(&terminal, REGISTER, &registration("c-1")).await;
    world.stop().await;
}
