//! Uplinks of connected devices: a frame becomes an event, and is answered once that is durable.

use std::sync::Arc;

use domain::{
    Metadata,
    device::Device,
    message::RawJson,
    uplink::{AcceptUplink, Source, UplinkPrivate, UplinkReceived},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::frames::Outgoing;
use crate::{
    app::Server,
    http::uplink::{MAX_CONTENT_BYTES, repeatable},
    ledger::{Context, Lane, Refused},
};

/// Longest id, phone, extension and user id, in bytes.
const MAX_NAME_BYTES: usize = 200;

/// What a device says to its app.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Uplink {
    id: Option<String>,
    content: Box<RawValue>,
    phone: Option<String>,
    extend_code: Option<String>,
    user_id: Option<String>,
}

impl Uplink {
    /// Makes it durable; gives the frame that says so.
    pub(super) async fn accept(self, server: Arc<Server>, app: String, device: Device) -> String {
        let id = self.id.clone();
        let refuse = |reason| Outgoing::Refused { id: id.clone(), reason }.text();
        let names = [&self.id, &self.phone, &self.extend_code, &self.user_id];
        if names.into_iter().flatten().any(|name| name.len() > MAX_NAME_BYTES) {
            return refuse("a name has at most 200 bytes");
        }
        if self.content.get().len() > MAX_CONTENT_BYTES {
            return refuse("content has at most 16 KiB");
        }
        let own = device.identity.client_id.clone();
        let private = UplinkPrivate {
            id: self.id,
            // An Antelope device is called by its number whatever it says.
            from: self.phone.filter(|_| device.cid().is_none()).unwrap_or(own),
            content: RawJson(self.content),
            extend_code: self.extend_code,
            user_id: self.user_id,
        };
        let source = format!("device/{}", device.number);
        let idempotency =
            private.id.as_ref().map(|_| repeatable(&server, &app, &source, &private, None));
        let metadata = Metadata {
            actor: "terminal".to_owned(),
            via: "socket".to_owned(),
            idempotency,
            ..Metadata::default()
        };
        let uplink = UplinkReceived {
            source: Source::Device { device: device.number, protocol: device.protocol },
            written_at: server.clock.now() / 1_000_000,
            private: Some(private),
        };
        let command = AcceptUplink { uplink, new_uplink: Uuid::now_v7() };
        let done = server.ledger.execute(Lane::Interactive, Context { app, metadata }, command);
        match done.await {
            Ok(_) => Outgoing::Uplinked { id }.text(),
            Err(Refused::Rejected(_)) => refuse("that id was another uplink"),
            Err(_) => refuse("try again later"),
        }
    }
}
