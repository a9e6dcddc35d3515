//! Any event at all, with any text in it: what is written is what is read.

use std::collections::BTreeSet;

use domain::{
    Event,
    account::{AccountClosed, AccountLinked, AccountOpened, AccountPrivate},
    app::{
        AntelopeConfig, AppChanged, AppConfig, AppCreated, AppDeleted, CallUrl, DeliveryConfig,
        EasemobConfig, EasemobLimits, JwtConfig, JwtKeys, SecretRef, TencentCallback,
        TencentConfig, UmsConfig, UplinkConfig, VendorRef, WebhookConfig,
    },
    callback::{self, Attempt, CallbacksCalled, CallbacksReplayed, Group},
    chat::{Chat, MessageFiltered},
    cid::{Cid, DeviceAdmitted, DeviceLinked, Linked},
    device::{
        Channel, DeviceBound, DeviceRegistered, DeviceReturned, DeviceUnregistered, DeviceUpdated,
        Endpoint, Identity, Profile, TokenDied,
    },
    erasure::{ErasedDevice, ErasurePrivate, Grounds, SubjectErased},
    label::{LabelCreated, LabelDeleted, LabelMembersChanged},
    message::{
        DeliveriesAdvanced, MessageAccepted, MessagePrivate, Progress, Protocol, RawJson, RecallOp,
        RecallRequested, RecallResult, Recalled, Reporter, Sender, Step, Target,
    },
    owner::{OwnerPrivate, OwnerRemoved, OwnerSet},
    presence::{Manner, PresenceChanged},
    resend::Resend,
    route::Strategy as Way,
    task::{
        Audience, ChunkDelivered, How, TaskCreated, TaskEnded, TaskStarted, Totals,
        chunk::{Count, Kind, Outcome, Word},
        packed::Packed,
    },
    uplink::{Source, UplinkPrivate, UplinkReceived},
    vendor::Vendor,
};
use proptest::{
    collection::vec,
    option::of,
    prelude::*,
    strategy::{Union, ValueTree},
    test_runner::TestRunner,
};
use uuid::Uuid;

use crate::{cast::raw, golden::Stored};

fn text() -> impl Strategy<Value = String> {
    any::<String>()
}

fn id() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

fn secrets() -> impl Strategy<Value = Vec<SecretRef>> {
    vec(secret(), 0..3)
}

fn secret() -> impl Strategy<Value = SecretRef> {
    (text(), text()).prop_map(|(reference, fingerprint)| SecretRef { reference, fingerprint })
}

fn jwt() -> impl Strategy<Value = JwtConfig> {
    let keys = prop_oneof![secrets().prop_map(JwtKeys::Hs256), url().prop_map(JwtKeys::JwksUrl)];
    (keys, of(text()), of(text())).prop_map(|(keys, issuer, audience)| JwtConfig {
        keys,
        issuer,
        audience,
    })
}

fn config() -> impl Strategy<Value = AppConfig> {
    let ums = (text(), secrets(), text(), secrets(), vec(text(), 0..3), of(jwt())).prop_map(
        |(app_id, app_keys, system_id, system_keys, app_packages, jwt)| UmsConfig {
            app_id,
            app_keys,
            system_id,
            system_keys,
            app_packages,
            jwt,
        },
    );
    let (tencent, webhooks) = (of(tencent()), vec(webhook(), 0..3));
    let sides = (of(ums), of(easemob()), of(antelope()), uplink_config(), webhooks, tencent);
    let parts = (text(), text(), text(), sides, vec(vendor_ref(), 0..3), delivery());
    parts.prop_map(|(app_id, name, timezone, sides, vendors, delivery)| AppConfig {
        app_id,
        name,
        timezone,
        ums: sides.0,
        easemob: sides.1,
        antelope: sides.2,
        tencent: sides.5,
        uplink: sides.3,
        webhooks: sides.4,
        vendors,
        delivery,
    })
}

fn url() -> impl Strategy<Value = CallUrl> {
    (text(), of(secret())).prop_map(|(url, secret)| match secret {
        Some(secret) => CallUrl::Sealed { origin: url, secret },
        None => CallUrl::Open(url),
    })
}

fn uplink_config() -> impl Strategy<Value = UplinkConfig> {
    (of(url()), of(url()))
        .prop_map(|(callback_url, report_url)| UplinkConfig { callback_url, report_url })
}

fn webhook() -> impl Strategy<Value = WebhookConfig> {
    (id(), url(), vec(text(), 0..3), secrets(), any::<bool>()).prop_map(
        |(id, url, events, secrets, disabled)| WebhookConfig { id, url, events, secrets, disabled },
    )
}

fn uplink_private() -> impl Strategy<Value = Option<UplinkPrivate>> {
    of((of(text()), text(), text(), of(text()), of(text())).prop_map(
        |(id, from, content, extend_code, user_id)| {
            let content = raw(&serde_json::to_string(&content).unwrap());
            UplinkPrivate { id, from, content, extend_code, user_id }
        },
    ))
}

fn group() -> impl Strategy<Value = Group> {
    let outcome = proptest::sample::select(&callback::Outcome::ALL[..]);
    let reason = of(proptest::sample::select(&callback::Reason::ALL[..]));
    let numbers = (any::<u32>(), of(any::<u16>()), of(any::<i64>()), any::<bool>());
    let attempt = (any::<i64>(), any::<u32>(), of(any::<u16>()), reason.clone())
        .prop_map(|(at, took, status, reason)| Attempt { at, took, status, reason });
    let attempts = vec(attempt, 0..3);
    (outcome, reason, numbers, vec(1..1_000_000_i64, 1..5), attempts).prop_map(
        |(outcome, reason, (calls, status, due_at, again), positions, attempts)| {
            let state = callback::State { outcome, calls, reason, status, due_at };
            Group::of(state, again, positions).after(attempts)
        },
    )
}

fn easemob() -> impl Strategy<Value = EasemobConfig> {
    let names = (text(), text(), id(), text());
    (names, secrets(), any::<bool>(), any::<u32>()).prop_map(
        |((org_name, app_name, application, client_id), client_secrets, push_open, targets)| {
            EasemobConfig {
                org_name,
                app_name,
                application,
                client_id,
                client_secrets,
                push_open,
                limits: EasemobLimits {
                    targets,
                    broadcast_per_second: targets,
                    ..EasemobLimits::default()
                },
            }
        },
    )
}

fn antelope() -> impl Strategy<Value = AntelopeConfig> {
    let ranges = vec(any::<(u32, u32)>(), 0..3);
    (text(), secrets(), ranges, of(url()), of(url())).prop_map(
        |(app_id, app_keys, cid_ranges, webhook, state_webhook)| AntelopeConfig {
            app_id,
            app_keys,
            cid_ranges,
            webhook,
            state_webhook,
        },
    )
}

fn tencent() -> impl Strategy<Value = TencentConfig> {
    let callbacks = proptest::sample::subsequence(TencentCallback::ALL.to_vec(), 0..5);
    let lists = (secrets(), vec(text(), 0..3), callbacks);
    (any::<u32>(), text(), lists, of(url()), any::<(u8, bool)>()).prop_map(
        |(sdk_app_id, admin, (secret_keys, words, callbacks), callback_url, numbers)| {
            TencentConfig {
                sdk_app_id,
                callback_token: secret_keys.first().cloned(),
                secret_keys,
                admin,
                words,
                callback_url,
                callbacks,
                retries: numbers.0,
                refuse_unanswered: numbers.1,
            }
        },
    )
}

fn chat() -> impl Strategy<Value = Chat> {
    (id(), any::<[u32; 2]>(), any::<i64>(), any::<[bool; 2]>()).prop_map(
        |(to, [seq, random], time, [uncounted, unsynced])| Chat {
            to,
            seq,
            random,
            time,
            uncounted,
            unsynced,
        },
    )
}

fn message_private() -> impl Strategy<Value = Option<MessagePrivate>> {
    of((json(), of(json()), of(text())).prop_map(|(destinations, payload, caller)| {
        MessagePrivate { destinations, payload, caller }
    }))
}

fn vendor() -> impl Strategy<Value = Vendor> {
    proptest::sample::select(Vendor::ALL.to_vec())
}

fn vendor_ref() -> impl Strategy<Value = VendorRef> {
    (text(), vendor(), vec(text(), 0..2), text(), text()).prop_map(
        |(name, vendor, app_packages, reference, fingerprint)| VendorRef {
            name,
            vendor,
            app_packages,
            credentials: SecretRef { reference, fingerprint },
        },
    )
}

fn delivery() -> impl Strategy<Value = DeliveryConfig> {
    let other = any::<[u32; 2]>();
    prop_oneof![
        Just(DeliveryConfig::default()),
        other.prop_map(|[ack_wait_ms, keep_seconds]| DeliveryConfig { ack_wait_ms, keep_seconds }),
    ]
}

fn account_private() -> impl Strategy<Value = Option<AccountPrivate>> {
    of((of(text()), of(text()), of(text()), of(text())).prop_map(
        |(ums_user, username, tencent, nickname)| AccountPrivate {
            ums_user,
            username,
            tencent,
            nickname,
        },
    ))
}

fn endpoint() -> impl Strategy<Value = Option<Endpoint>> {
    of((text(), vec(text(), 0..3), of(any::<u32>()))
        .prop_map(|(device_id, tokens, cid)| Endpoint { device_id, tokens, cid }))
}

fn profile() -> impl Strategy<Value = Profile> {
    let channel = prop_oneof![Just(Channel::Jpush), Just(Channel::M2m)];
    (text(), text(), of(text()), channel).prop_map(
        |(app_package, device_type, type_id, channel)| Profile {
            app_package,
            device_type,
            type_id,
            channel,
        },
    )
}

fn identity() -> impl Strategy<Value = Option<Identity>> {
    let cid = of(any::<u32>());
    of((text(), of(text()), of(text()), text(), of(text()), of(text()), cid).prop_map(
        |(client_id, device_id, former_device_id, push_id, device_name, user_name, cid)| Identity {
            client_id,
            device_id,
            former_device_id,
            push_id,
            device_name,
            user_name,
            cid,
        },
    ))
}

fn json() -> impl Strategy<Value = RawJson> {
    let odd = prop_oneof![
        Just("null"),
        Just("{ \"a\" : 1,\t\"a\":2 ,\n\"\":[ ] }"),
        Just(r#"{"big":123456789012345678901234567890,"exact":1.10,"huge":1e999}"#),
        Just(r#""\u4f60\u597d\/ \ud83d\ude00 \ud800""#),
    ];
    prop_oneof![
        odd.prop_map(raw),
        text().prop_map(|text| raw(&serde_json::to_string(&text).unwrap())),
        vec((text(), any::<i64>()), 0..4)
            .prop_map(|entries| raw(&serde_json::to_string(&entries).unwrap())),
    ]
}

fn recall_op() -> impl Strategy<Value = RecallOp> {
    prop_oneof![Just(RecallOp::Recall), Just(RecallOp::Replace)]
}

fn recalled() -> impl Strategy<Value = Recalled> {
    (any::<i64>(), recall_result()).prop_map(|(device, result)| Recalled { device, result })
}

/// Anything that can become of a recall.
pub(crate) fn recall_result() -> impl Strategy<Value = RecallResult> {
    prop_oneof![
        Just(RecallResult::Requested),
        Just(RecallResult::StoppedBeforeSending),
        Just(RecallResult::ReplacedUnseen),
        Just(RecallResult::TooLate),
        Just(RecallResult::Unknown),
    ]
}

/// Anything that can happen to a delivery.
pub(crate) fn progress() -> impl Strategy<Value = Progress> {
    let ending = || proptest::sample::select(crate::golden::ENDINGS.to_vec());
    prop_oneof![
        4 => Just(Progress::Sent),
        2 => Just(Progress::Received),
        2 => Just(Progress::Displayed),
        1 => Just(Progress::Acknowledged),
        1 => ending().prop_map(Progress::Ended),
        1 => ending().prop_map(Progress::Failed),
        2 => recall_result().prop_map(Progress::Recalled),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let by = prop_oneof![Just(Reporter::Server), Just(Reporter::Socket), Just(Reporter::Rest)];
    (any::<i64>(), progress(), by, of(text()), of(vendor()), of(text())).prop_map(
        |(device, what, by, request, vendor, word)| Step {
            device,
            what,
            by,
            request,
            vendor,
            word,
        },
    )
}

/// Any outcome of an attempt.
pub(crate) fn kind() -> impl Strategy<Value = Kind> {
    let ending = || proptest::sample::select(crate::golden::ENDINGS.to_vec());
    prop_oneof![
        2 => vendor().prop_map(|vendor| {
            Kind { outcome: Outcome::Sent, reason: None, vendor: Some(vendor) }
        }),
        2 => of(ending())
            .prop_map(|reason| Kind { outcome: Outcome::Online, reason, vendor: None }),
        1 => (ending(), of(vendor())).prop_map(|(reason, vendor)| Kind::ended(reason, vendor)),
        3 => (vendor(), any::<bool>()).prop_map(|(vendor, kept)| {
            let outcome = if kept { Outcome::Either } else { Outcome::Retrying };
            Kind { outcome, reason: None, vendor: Some(vendor) }
        }),
    ]
}

fn packed() -> impl Strategy<Value = Packed> {
    vec(any::<u8>(), 0..9).prop_map(Packed)
}

fn task_created() -> impl Strategy<Value = Event> {
    let audience = prop_oneof![
        Just(Audience::Everyone),
        (id(), text()).prop_map(|(label, name)| Audience::Label { label, name }),
        vec(id(), 0..3).prop_map(Audience::Users),
    ];
    let protocol =
        prop_oneof![Just(Protocol::Ums), Just(Protocol::Easemob), Just(Protocol::Antelope)];
    let strategy = proptest::sample::select(Way::ALL.to_vec());
    let private = (json(), of(json())).prop_map(|(destinations, payload)| MessagePrivate {
        destinations,
        payload,
        caller: None,
    });
    let numbers = (any::<[u32; 2]>(), of(any::<i64>()));
    (audience, (protocol, strategy), numbers, of(private)).prop_map(
        |(audience, (protocol, strategy), ([keep_seconds, unresolved], start_at), private)| {
            TaskCreated {
                audience,
                protocol,
                strategy,
                keep_seconds,
                start_at,
                unresolved,
                private,
            }
            .into()
        },
    )
}

fn chunk_delivered() -> impl Strategy<Value = Event> {
    let count = (kind(), any::<u32>()).prop_map(|(kind, devices)| Count { kind, devices });
    let word = (text(), packed()).prop_map(|(word, at)| Word { word, at });
    let numbers = (any::<[i64; 3]>(), any::<u32>());
    (numbers, vec(count, 0..4), packed(), packed(), vec(word, 0..3)).prop_map(
        |(([started, first, last], attempt), counts, devices, outcomes, words)| {
            ChunkDelivered { started, attempt, first, last, counts, devices, outcomes, words }
                .into()
        },
    )
}

fn accepted() -> impl Strategy<Value = MessageAccepted> {
    let sender =
        prop_oneof![id().prop_map(Sender::User), Just(Sender::Terminal), Just(Sender::Cloud)];
    let target = (any::<i64>(), of(id())).prop_map(|(device, account)| Target { device, account });
    let resend = of(proptest::sample::select(Resend::ALL.to_vec()));
    let numbers =
        (any::<i64>(), any::<bool>(), any::<[u32; 3]>(), (resend, any::<bool>(), of(chat())));
    let protocol = prop_oneof![
        Just(Protocol::Ums),
        Just(Protocol::Easemob),
        Just(Protocol::Antelope),
        Just(Protocol::Tencent),
    ];
    let strategy = proptest::sample::select(Way::ALL.to_vec());
    (sender, (protocol, strategy), numbers, vec(target, 0..4), message_private()).prop_map(
        |(
            sender,
            (protocol, strategy),
            (expires_at, burn, counts, (resend, callback, chat)),
            targets,
            private,
        )| {
            let [unresolved, users, unbound] = counts;
            MessageAccepted {
                protocol,
                sender,
                strategy,
                expires_at,
                burn,
                resend,
                callback,
                targets,
                unresolved,
                chat,
                users,
                unbound,
                private,
            }
        },
    )
}

/// One strategy for each kind of event.
fn kinds() -> Vec<BoxedStrategy<Event>> {
    let which = || of(text().prop_map(|device_id| OwnerPrivate { device_id }));
    let again = || (any::<[i64; 2]>(), of(id()), of(id()), profile(), identity());
    vec![
        config().prop_map(|config| AppCreated { config }.into()).boxed(),
        config().prop_map(|config| AppChanged { config }.into()).boxed(),
        Just(AppDeleted {}.into()).boxed(),
        account_private().prop_map(|private| AccountOpened { private }.into()).boxed(),
        account_private().prop_map(|private| AccountClosed { private }.into()).boxed(),
        (any::<i64>(), account_private())
            .prop_map(|(opened_at, private)| AccountLinked { opened_at, private }.into())
            .boxed(),
        (again(), any::<bool>(), vec(text(), 0..3))
            .prop_map(|(again, updated, notifiers)| {
                let ([device, registered_at], account, _, profile, identity) = again;
                let tokens = notifiers.clone();
                DeviceLinked {
                    device,
                    registered_at,
                    updated,
                    account,
                    protocol: Protocol::Ums,
                    profile,
                    notifiers,
                    private: identity.map(|identity| Linked { identity, tokens }),
                }
                .into()
            })
            .boxed(),
        (
            id(),
            chat(),
            proptest::sample::select(Way::ALL.to_vec()),
            any::<bool>(),
            message_private(),
        )
            .prop_map(|(sender, chat, strategy, callback, private)| {
                MessageFiltered { sender, chat, strategy, callback, private }.into()
            })
            .boxed(),
        (text(), text())
            .prop_map(|(name, description)| LabelCreated { name, description }.into())
            .boxed(),
        text().prop_map(|name| LabelDeleted { name }.into()).boxed(),
        (text(), vec(id(), 0..3), vec(id(), 0..3))
            .prop_map(|(name, joined, left)| LabelMembersChanged { name, joined, left }.into())
            .boxed(),
        (of(any::<i64>()), id(), vec(text(), 0..3), endpoint(), any::<bool>())
            .prop_map(|(device, account, notifiers, private, tencent)| {
                let protocol = if tencent { Protocol::Tencent } else { Protocol::Easemob };
                DeviceBound { device, account, protocol, notifiers, private }.into()
            })
            .boxed(),
        of(any::<u32>())
            .prop_map(|cid| DeviceAdmitted { private: cid.map(|cid| Cid { cid }) }.into())
            .boxed(),
        (any::<i64>(), of(id()), of(text()), text(), identity())
            .prop_map(|(device, account, notifier, code, private)| {
                TokenDied { device, account, notifier, code, private }.into()
            })
            .boxed(),
        (of(id()), profile(), identity())
            .prop_map(|(account, profile, private)| {
                DeviceRegistered { account, profile, private }.into()
            })
            .boxed(),
        again()
            .prop_map(|([device, registered_at], account, former_account, profile, private)| {
                DeviceUpdated { device, registered_at, account, former_account, profile, private }
                    .into()
            })
            .boxed(),
        (any::<i64>(), of(id()), identity())
            .prop_map(|(device, account, private)| {
                DeviceUnregistered { device, account, private }.into()
            })
            .boxed(),
        again()
            .prop_map(|([device, registered_at], account, former_account, profile, private)| {
                DeviceReturned { device, registered_at, account, former_account, profile, private }
                    .into()
            })
            .boxed(),
        (id(), text(), which())
            .prop_map(|(account, bind_key, private)| OwnerSet { account, bind_key, private }.into())
            .boxed(),
        which().prop_map(|private| OwnerRemoved { private }.into()).boxed(),
        accepted().prop_map(Event::from).boxed(),
        (any::<i64>(), vec(step(), 0..6))
            .prop_map(|(accepted, steps)| DeliveriesAdvanced { accepted, steps }.into())
            .boxed(),
        (any::<[i64; 2]>(), recall_op(), vec(recalled(), 0..6))
            .prop_map(|([accepted, expires_at], op, results)| {
                RecallRequested { accepted, expires_at, op, results }.into()
            })
            .boxed(),
        task_created().boxed(),
        (any::<i64>(), any::<u32>())
            .prop_map(|(expires_at, chunk_devices)| {
                TaskStarted { expires_at, chunk_devices }.into()
            })
            .boxed(),
        chunk_delivered().boxed(),
        (any::<bool>(), any::<[u64; 4]>())
            .prop_map(|(finished, [users, unbound, devices, chunks])| {
                let how = if finished { How::Finished } else { How::Cancelled };
                TaskEnded { how, totals: Totals { users, unbound, devices, chunks } }.into()
            })
            .boxed(),
        (any::<i64>(), any::<bool>(), of(any::<bool>()), of(any::<u32>()), of(id()))
            .prop_map(|(device, online, how, cid, account)| {
                let how = how.map(|over| if over { Manner::TookOver } else { Manner::TimedOut });
                let private = cid.map(|cid| Cid { cid });
                PresenceChanged { device, online, account, how, private }.into()
            })
            .boxed(),
        (of(any::<i64>()), any::<i64>(), uplink_private())
            .prop_map(|(device, written_at, private)| {
                let of_device = |device| Source::Device { device, protocol: Protocol::Ums };
                let source = device.map_or(Source::Sms, of_device);
                UplinkReceived { source, written_at, private }.into()
            })
            .boxed(),
        (proptest::sample::select(&callback::Kind::ALL[..]), id(), vec(group(), 0..4))
            .prop_map(|(kind, receiver, groups)| CallbacksCalled { kind, receiver, groups }.into())
            .boxed(),
        (id(), of(vec(1..1_000_i64, 1..5)))
            .prop_map(|(receiver, positions)| {
                let growing = |mut positions: Vec<i64>| {
                    positions.sort_unstable();
                    positions.dedup();
                    Packed::growing(positions)
                };
                let (kind, callbacks) = (callback::Kind::Webhook, positions.map(growing));
                CallbacksReplayed { kind, receiver, callbacks }.into()
            })
            .boxed(),
        (vec(id(), 0..3), vec((1..1_000_i64, id()), 0..3), of(any::<String>()))
            .prop_map(|(accounts, devices, phone)| {
                let erased = |(device, stream)| ErasedDevice { device, stream };
                SubjectErased {
                    grounds: Grounds::Objection,
                    accounts,
                    devices: devices.into_iter().map(erased).collect(),
                    phone: phone.is_some(),
                    private: phone.map(|phone| ErasurePrivate { phone }),
                }
                .into()
            })
            .boxed(),
    ]
}

#[test]
fn every_kind_of_event_is_among_any_events() {
    let mut runner = TestRunner::deterministic();
    let sample = |kind: BoxedStrategy<Event>| kind.new_tree(&mut runner).unwrap().current();
    let made: Vec<Event> = kinds().into_iter().map(sample).collect();
    let names: BTreeSet<_> = made.iter().map(|event| (event.name(), event.schema())).collect();
    assert_eq!(names, Event::ALL.iter().copied().collect());
}

proptest! {
    #[test]
    fn any_event_is_read_as_it_was_written(event in Union::new(kinds())) {
        let stored = Stored::of(&event);
        prop_assert_eq!(&stored.event(), &event);
        prop_assert_eq!(Stored::of(&stored.event()), stored);
    }

    #[test]
    fn an_erased_event_keeps_the_text_of_its_body(event in Union::new(kinds())) {
        let erased = Stored::of(&event).erased();
        prop_assert_eq!(Stored::of(&erased.event()), erased);
    }
}
