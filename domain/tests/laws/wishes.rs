//! Wishes that nobody thought of, over few names, so that they meet.

use domain::{
    account::{RegisterUser, RemoveUser},
    app::{
        AntelopeConfig, AppConfig, ChangeApp, CreateApp, DeleteApp, EasemobConfig, EasemobLimits,
        UmsConfig,
    },
    cid::AdmitDevice,
    device::{Bind, BindDevice, Channel, Identity, Profile, RegisterDevice, UnregisterDevice},
    label::{ChangeMembers, CreateLabel, DeleteLabel},
    message::{MessageId, Progress, Protocol, RecallOp, ReportDelivery},
    owner::{RemoveOwner, SetOwner},
    push::{Destinations, Mode, PushMessage, PushSender},
    resend::Resend,
    route::Strategy as Way,
    task::{CreateTask, TaskAudience, TaskLimits},
    vendor::Vendor,
};
use proptest::{
    collection::vec,
    option::{of, weighted},
    prelude::*,
    sample::{Index, select},
};
use uuid::Uuid;

use crate::{
    any_event::progress,
    cast::{APP, words},
    histories::{Command, TaskWish, Teller, Wish},
    ledger::at,
};

/// Labels that the app may have, and users that each may have: one less than there are names.
pub(crate) const MOST_LABELS: i64 = 1;
/// See [`MOST_LABELS`].
pub(crate) const MOST_MEMBERS: i64 = 1;

fn word(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    select(words).prop_map(str::to_owned)
}

fn user() -> impl Strategy<Value = String> {
    word(&["ann", "bob"])
}

/// An Easemob username; one of them is a UMS user's too.
fn username() -> impl Strategy<Value = String> {
    word(&["ann", "carl"])
}

fn label() -> impl Strategy<Value = String> {
    word(&["news", "news", "sports"])
}

fn client() -> impl Strategy<Value = String> {
    word(&["client-1", "client-2", "client-3", "7"])
}

fn hardware() -> impl Strategy<Value = String> {
    word(&["mac-1", "mac-2", "mac-3"])
}

/// A number of an Antelope device; one of them is a client id too.
fn cid() -> impl Strategy<Value = u32> {
    select(&[7_u32, 8, u32::MAX])
}

fn admit() -> impl Strategy<Value = Command> {
    cid().prop_map(|cid| {
        let (app, new_device) = (APP.to_owned(), Uuid::nil());
        Command::Admit(AdmitDevice { app, cid, new_device })
    })
}

fn device_type() -> impl Strategy<Value = String> {
    word(&["01", "01", "08"])
}

fn package() -> impl Strategy<Value = String> {
    word(&["com.shop.a", "com.shop.a", "com.shop.b"])
}

fn app_command() -> impl Strategy<Value = Command> {
    let names = (word(&["a", "b"]), word(&["one", "two"]), word(&["id-1", "id-2", "id-3"]));
    let config = (names, of(word(&["shop", "Shop", "mall"])));
    let config = config.prop_map(|((app_id, name, system_id), path)| {
        let antelope = antelope_config(&app_id, &system_id);
        let ums = UmsConfig {
            app_id: format!("MB-{app_id}"),
            app_keys: Vec::new(),
            system_id,
            system_keys: Vec::new(),
            app_packages: Vec::new(),
            jwt: None,
        };
        let easemob = path.map(|app_name| EasemobConfig {
            org_name: "acme".to_owned(),
            app_name,
            application: Uuid::nil(),
            client_id: "client".to_owned(),
            client_secrets: Vec::new(),
            push_open: true,
            limits: EasemobLimits::default(),
        });
        AppConfig { ums: Some(ums), easemob, antelope, ..AppConfig::new(&app_id, &name, "UTC") }
    });
    (config, of(1i64..4), 0..5).prop_map(|(config, expected, verb)| match verb {
        0 => Command::DeleteApp(DeleteApp { app_id: config.app_id }),
        1 | 2 => Command::CreateApp(CreateApp { config }),
        _ => Command::ChangeApp(ChangeApp { config, expected }),
    })
}

/// The Antelope side of some apps: the second's meets that of either other.
fn antelope_config(app_id: &str, id: &str) -> Option<AntelopeConfig> {
    let ranges = match id {
        "id-1" => vec![(1, 9)],
        "id-2" => vec![(20, 20), (9, 10)],
        _ => return None,
    };
    Some(AntelopeConfig {
        app_id: format!("AN-{app_id}"),
        app_keys: Vec::new(),
        cid_ranges: ranges,
        webhook: None,
        state_webhook: None,
    })
}

fn owner_command() -> impl Strategy<Value = Command> {
    (hardware(), user(), word(&["key-1", "key-2"]), any::<bool>()).prop_map(
        |(device_id, user, bind_key, set)| {
            let (app, new) = (APP.to_owned(), Uuid::nil());
            let (new_owner, new_account) = (new, new);
            if set {
                let set = SetOwner { app, device_id, user, bind_key, new_owner, new_account };
                Command::SetOwner(set)
            } else {
                Command::RemoveOwner(RemoveOwner { app, device_id })
            }
        },
    )
}

fn user_command() -> impl Strategy<Value = Command> {
    (username(), of(word(&["A", "B"])), 0..3).prop_map(|(username, nickname, verb)| {
        let (app, new_account) = (APP.to_owned(), Uuid::nil());
        if verb == 0 {
            Command::RemoveUser(RemoveUser { app, username })
        } else {
            Command::RegisterUser(RegisterUser { app, username, nickname, new_account })
        }
    })
}

fn label_command() -> impl Strategy<Value = Command> {
    let users = vec(username(), 0..4);
    (label(), users, any::<bool>(), 0..6).prop_map(|(name, usernames, join, verb)| {
        let app = APP.to_owned();
        match verb {
            0 => Command::DeleteLabel(DeleteLabel { app, name }),
            1 | 2 => {
                let (description, new_label) = (String::new(), Uuid::nil());
                let most = MOST_LABELS;
                Command::CreateLabel(CreateLabel { app, name, description, most, new_label })
            }
            _ => {
                let most = MOST_MEMBERS;
                Command::ChangeMembers(ChangeMembers { app, name, usernames, join, most })
            }
        }
    })
}

fn create_task() -> impl Strategy<Value = Command> {
    let audience = prop_oneof![
        3 => Just(TaskAudience::Everyone),
        1 => vec(username(), 0..3).prop_map(TaskAudience::Users),
        1 => label().prop_map(TaskAudience::Label),
    ];
    (audience, select(&Way::ALL), of(select(vec![at(30), at(90)]))).prop_map(
        |(audience, strategy, start_at)| {
            Command::CreateTask(CreateTask {
                app: APP.to_owned(),
                id: MessageId(0),
                protocol: Protocol::Easemob,
                audience,
                strategy,
                keep_seconds: 3_600,
                start_at,
                now: 0,
                limits: TaskLimits { running: 3, created: 4 },
                private: words(),
            })
        },
    )
}

fn task_wish() -> impl Strategy<Value = TaskWish> {
    let chunk = || 1..3_i64;
    let devices = proptest::collection::btree_map(1..8_i64, crate::any_event::kind(), 1..6);
    prop_oneof![
        3 => Just(TaskWish::Start),
        1 => Just(TaskWish::Cancel),
        1 => Just(TaskWish::Finish),
        6 => (chunk(), 1..4_u32, devices).prop_map(|(chunk, attempt, devices)| {
            TaskWish::Record(chunk, attempt, devices.into_iter().collect())
        }),
        4 => (chunk(), vec((1..8_i64, progress()), 1..5))
            .prop_map(|(chunk, steps)| TaskWish::Advance(chunk, steps)),
        1 => (chunk(), any::<bool>()).prop_map(|(chunk, late)| TaskWish::End(chunk, late)),
    ]
}

fn bind() -> impl Strategy<Value = Command> {
    let notifier = || word(&["apns", "fcm", "huawei"]);
    let token = || word(&["t-1", "t-2"]);
    let change = prop_oneof![
        1 => Just(Bind::Seen),
        4 => (notifier(), token()).prop_map(|(notifier, token)| Bind::Token(notifier, token)),
        1 => notifier().prop_map(Bind::Without),
        1 => Just(Bind::Nothing),
    ];
    // One of the device ids is a client id too.
    (username(), word(&["client-1", "phone"]), change).prop_map(|(username, device_id, change)| {
        let (app, new_device) = (APP.to_owned(), Uuid::nil());
        Command::Bind(BindDevice { app, username, device_id, change, new_device })
    })
}

fn register() -> impl Strategy<Value = Command> {
    let who = (client(), of(hardware()), of(user()));
    let push_id = word(&["", "t-1", "t-2"]);
    (who, package(), device_type(), any::<bool>(), push_id).prop_map(
        |((client_id, device_id, user), app_package, device_type, m2m, push_id)| {
            let channel = if m2m { Channel::M2m } else { Channel::Jpush };
            Command::Register(RegisterDevice {
                app: APP.to_owned(),
                allowed_packages: Vec::new(),
                user,
                profile: Profile { app_package, device_type, type_id: None, channel },
                identity: Identity { client_id, device_id, push_id, ..Identity::default() },
                new_device: Uuid::nil(),
                new_account: Uuid::nil(),
            })
        },
    )
}

fn unregister() -> impl Strategy<Value = Command> {
    (client(), package(), weighted(0.8, user())).prop_map(|(client_id, app_package, user)| {
        let (app, allowed_packages) = (APP.to_owned(), Vec::new());
        Command::Unregister(UnregisterDevice {
            app,
            allowed_packages,
            client_id,
            app_package,
            user,
        })
    })
}

fn destinations() -> impl Strategy<Value = Destinations> {
    let users = || vec(word(&["ann", "bob", "eve"]), 0..3);
    prop_oneof![
        4 => vec(client(), 1..5).prop_map(Destinations::Clients),
        2 => vec(hardware(), 0..4).prop_map(Destinations::Hardware),
        1 => (user(), vec(hardware(), 0..4))
            .prop_map(|(user, ids)| Destinations::HardwareOf(user, ids)),
        1 => (users(), vec(device_type(), 0..3))
            .prop_map(|(users, types)| Destinations::Types(users, types)),
        1 => (users(), vec(package(), 0..3))
            .prop_map(|(users, packages)| Destinations::Packages(users, packages)),
        2 => vec(username(), 0..4).prop_map(Destinations::Users),
        2 => vec(cid(), 0..4).prop_map(Destinations::Cids),
        1 => (hardware(), word(&["key-1", "key-2"]))
            .prop_map(|(device_id, bind_key)| Destinations::OwnerOf { device_id, bind_key }),
    ]
}

fn push() -> impl Strategy<Value = Command> {
    let mode = select(&[Mode::Strict, Mode::Try, Mode::Try, Mode::TryOrNobody]);
    let sender = prop_oneof![
        user().prop_map(PushSender::User),
        Just(PushSender::Terminal),
        Just(PushSender::Cloud),
    ];
    let strategy = select(&Way::ALL);
    let how = (mode, strategy, any::<bool>(), of(select(&Resend::ALL)));
    (destinations(), how, sender).prop_map(
        |(destinations, (mode, strategy, burn, resend), sender)| {
            Command::Push(PushMessage {
                app: APP.to_owned(),
                id: MessageId(0),
                protocol: Protocol::Ums,
                sender,
                destinations,
                mode,
                strategy,
                expires_at: at(86_400),
                burn,
                resend,
                callback: burn,
                private: words(),
                new_account: Uuid::nil(),
            })
        },
    )
}

fn report() -> impl Strategy<Value = Wish> {
    let stage = select(&[Progress::Received, Progress::Displayed, Progress::Acknowledged]);
    (any::<Index>(), client(), package(), of(user()), stage).prop_map(
        |(message, client_id, app_package, user, stage)| {
            let report = ReportDelivery {
                app: APP.to_owned(),
                allowed_packages: Vec::new(),
                client_id,
                app_package,
                user,
                message: MessageId(0),
                stage,
                request: String::new(),
            };
            Wish::Report(message, report)
        },
    )
}

/// A history without recalls, as far as callers and senders can see to it.
pub(crate) fn quiet_history() -> impl Strategy<Value = Vec<Wish>> {
    let quiet = |wish: &Wish| match wish {
        Wish::Recall(..) => false,
        Wish::Plain(command) => !matches!(&**command, Command::Push(push) if push.burn),
        Wish::Advance(..)
        | Wish::Expire(..)
        | Wish::Report(..)
        | Wish::Bury(..)
        | Wish::Task(..) => true,
    };
    history().prop_map(move |wishes| wishes.into_iter().filter(quiet).collect())
}

/// A history of Easemob users, labels and bindings, and no more.
pub(crate) fn audience_history() -> impl Strategy<Value = Vec<Wish>> {
    vec(audience_wish(), 1..60)
}

/// Any history.
pub(crate) fn history() -> impl Strategy<Value = Vec<Wish>> {
    prop_oneof![3 => vec(any_wish(), 1..70), 1 => audience_history()]
}

fn audience_wish() -> impl Strategy<Value = Wish> {
    prop_oneof![
        3 => user_command().prop_map(Wish::plain),
        6 => label_command().prop_map(Wish::plain),
        3 => bind().prop_map(Wish::plain),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(device, token)| Wish::Bury(device, token)),
    ]
}

fn any_wish() -> impl Strategy<Value = Wish> {
    let teller = prop_oneof![
        Just(Teller::Server),
        Just(Teller::Socket),
        select(&Vendor::ALL).prop_map(Teller::Vendor),
    ];
    let steps = vec((any::<Index>(), progress(), teller), 1..6);
    let op = select(&[RecallOp::Recall, RecallOp::Replace]);
    prop_oneof![
        1 => app_command().prop_map(Wish::plain),
        1 => owner_command().prop_map(Wish::plain),
        9 => audience_wish(),
        5 => register().prop_map(Wish::plain),
        1 => unregister().prop_map(Wish::plain),
        2 => admit().prop_map(Wish::plain),
        3 => push().prop_map(Wish::plain),
        6 => (any::<Index>(), steps).prop_map(|(message, steps)| Wish::Advance(message, steps)),
        1 => (any::<Index>(), vec(any::<Index>(), 0..4))
            .prop_map(|(message, devices)| Wish::Expire(message, devices)),
        3 => report(),
        2 => (any::<Index>(), op).prop_map(|(message, op)| Wish::Recall(message, op)),
        2 => create_task().prop_map(Wish::plain),
        6 => (any::<Index>(), task_wish()).prop_map(|(task, wish)| Wish::Task(task, wish)),
    ]
}
