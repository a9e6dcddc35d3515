//! Fills a ledger with devices and with pushes that were delivered and reported, for the measurements
//! that need a long one.

use domain::{
    Metadata,
    device::{Channel, Identity, Profile, RegisterDevice},
    message::{AdvanceDeliveries, MessagePrivate, Progress, Protocol, RawJson, Reporter, Step},
    push::{Destinations, Mode, PushMessage, PushSender},
    route::Strategy,
};
use futures_util::{StreamExt, stream};
use pushledger::{
    clock::Clock,
    ids::MessageIds,
    ledger::{Context, Lane, Ledger},
};
use serde_json::value::RawValue;
use uuid::Uuid;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Devices that the pushes go to.
pub const DEVICES: i64 = 1_000;
/// Commands under way while the ledger is filled.
const CONCURRENT: usize = 1_000;

fn context() -> Context {
    Context { app: "load".to_owned(), metadata: Metadata::default() }
}

/// Registers the devices; gives the client and number of each.
pub async fn devices(ledger: &Ledger) -> Result<Vec<(i64, i64)>, Failure> {
    let numbers = stream::iter(0..DEVICES)
        .map(|n| async move {
            let command = RegisterDevice {
                app: "load".to_owned(),
                allowed_packages: Vec::new(),
                user: None,
                profile: Profile {
                    app_package: "com.example.load".to_owned(),
                    device_type: "01".to_owned(),
                    type_id: None,
                    channel: Channel::Jpush,
                },
                identity: Identity {
                    client_id: format!("c-{n}"),
                    push_id: format!("p-{n}"),
                    ..Identity::default()
                },
                new_device: Uuid::now_v7(),
                new_account: Uuid::now_v7(),
            };
            let done = ledger.execute(Lane::Interactive, context(), command).await?;
            Ok::<_, Failure>((n, done.first))
        })
        .buffered(CONCURRENT)
        .collect::<Vec<_>>()
        .await;
    numbers.into_iter().collect()
}

/// Pushes so many messages, delivers and reports each: three events a message.
pub async fn pushes(ledger: &Ledger, numbers: &[(i64, i64)], messages: i64) -> Result<(), Failure> {
    let ids = MessageIds::new(0, ledger.now(), i64::MAX);
    let payload: Box<RawValue> = serde_json::from_str(PAYLOAD)?;
    let delivered = stream::iter(0..messages)
        .map(|n| {
            let (client, device) = numbers[usize::try_from(n % DEVICES).unwrap_or(0)];
            message(ledger, &ids, client, device, payload.clone())
        })
        .buffer_unordered(CONCURRENT)
        .collect::<Vec<Result<(), Failure>>>()
        .await;
    delivered.into_iter().collect()
}

const PAYLOAD: &str =
    r#"{"msgName":"load","msgType":3,"body":{"view":{},"extData":{"text":"a usual message"}}}"#;

async fn message(
    ledger: &Ledger,
    ids: &MessageIds,
    client: i64,
    device: i64,
    payload: Box<RawValue>,
) -> Result<(), Failure> {
    let now = Clock::System.now();
    let id = ids.at(now).ok_or("the node has no number")?;
    let destinations = RawValue::from_string(format!(r#"{{"type":0,"Id":["c-{client}"]}}"#))?;
    let push = PushMessage {
        app: "load".to_owned(),
        id,
        protocol: Protocol::Ums,
        sender: PushSender::Cloud,
        destinations: Destinations::Clients(vec![format!("c-{client}")]),
        strategy: Strategy::OnlineElseVendor,
        mode: Mode::Strict,
        expires_at: now + 86_400_000_000,
        burn: false,
        resend: None,
        callback: false,
        private: MessagePrivate {
            destinations: RawJson(destinations),
            payload: Some(RawJson(payload)),
            caller: None,
        },
        new_account: Uuid::now_v7(),
    };
    ledger.execute(Lane::Bulk, context(), push).await?;
    let step = |what, by| Step { by, ..Step::of_server(device, what) };
    let sent =
        vec![step(Progress::Sent, Reporter::Server), step(Progress::Received, Reporter::Socket)];
    let displayed = vec![step(Progress::Displayed, Reporter::Socket)];
    for steps in [sent, displayed] {
        let command = AdvanceDeliveries { message: id, steps };
        ledger.execute(Lane::Bulk, context(), command).await?;
    }
    Ok(())
}
