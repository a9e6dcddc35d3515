//! The calls, as one table: method, path, and who makes them. Routing, the refusal of other methods
//! and the description follow from it.

use axum::http::Method;

/// A call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Interface {
    /// A device pushes to devices, to its app's server, or to both.
    ClientPush,
    /// The app's server pushes to devices, in its own name or in that of devices.
    ServerPush,
    /// Where the app is called back.
    Webhook,
    /// Changes where the app is called back.
    SetWebhook,
    /// Which devices are online.
    State,
    /// The numbers that the app's devices may have.
    Ids,
    /// Mints tokens of devices.
    Tokens,
}

/// What a path and a method lead to.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// A call.
    Call(Interface),
    /// A path that has other methods.
    OtherMethods(Vec<Method>),
    /// Nothing.
    Nothing,
}

/// The call behind a path and a method.
#[must_use]
pub fn find(method: &Method, path: &str) -> Found {
    let there: Vec<Interface> = Interface::ALL.into_iter().filter(|i| i.path() == path).collect();
    match there.iter().find(|interface| interface.method() == *method) {
        Some(interface) => Found::Call(*interface),
        None if there.is_empty() => Found::Nothing,
        None => Found::OtherMethods(there.into_iter().map(Interface::method).collect()),
    }
}

impl Interface {
    /// All calls.
    pub const ALL: [Interface; 7] = [
        Interface::ClientPush,
        Interface::ServerPush,
        Interface::Webhook,
        Interface::SetWebhook,
        Interface::State,
        Interface::Ids,
        Interface::Tokens,
    ];

    /// Its method.
    #[must_use]
    pub fn method(self) -> Method {
        match self {
            Interface::Webhook | Interface::Ids => Method::GET,
            Interface::ClientPush
            | Interface::ServerPush
            | Interface::SetWebhook
            | Interface::State
            | Interface::Tokens => Method::POST,
        }
    }

    /// Its path.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Interface::ClientPush => "/v2/message/client/push",
            Interface::ServerPush => "/v2/message/server/push",
            Interface::Webhook | Interface::SetWebhook => "/v2/apps/webhook",
            Interface::State => "/v2/devices/state",
            Interface::Ids => "/v2/devices/ids",
            Interface::Tokens => "/v2/devices/tokens",
        }
    }

    /// Whether a device makes it, with its token, and not the app's server.
    #[must_use]
    pub fn of_device(self) -> bool {
        self == Interface::ClientPush
    }
}
