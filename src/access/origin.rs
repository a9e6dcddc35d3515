//! Where a request comes from and what it asks for, noted as it comes in; and why it was refused, as
//! an interface notes it on its answer.

use std::net::{IpAddr, SocketAddr};

use axum::{
    extract::{ConnectInfo, MatchedPath, Request},
    http::{Extensions, Method, StatusCode},
};

use super::{Access, Outcome, Proxies, operator};
use crate::{http::RequestId, tokens::Operator};

/// Where a request comes from, and what it asks for.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    address: Option<IpAddr>,
    request: RequestId,
    method: Method,
    path: Option<MatchedPath>,
}

/// Notes on an answer that it is a refusal of who calls, and what the interface knows of that.
#[derive(Debug, Clone, Default)]
pub struct Denied {
    /// Whose token it is, if it is anybody's.
    pub operator: Option<Operator>,
    /// The app that the call is to.
    pub app: Option<String>,
    /// The protocol's code; the HTTP status if absent.
    pub code: Option<String>,
    /// The operation, where the route does not say it.
    pub operation: Option<String>,
}

impl Origin {
    /// The origin of a request that has its id and came by way of these proxies, or none.
    #[must_use]
    pub fn of(request: &Request, id: RequestId, proxies: &Proxies) -> Origin {
        let found = request.extensions();
        let peer = found.get::<ConnectInfo<SocketAddr>>();
        Origin {
            address: peer.map(|ConnectInfo(peer)| proxies.caller(peer.ip(), request.headers())),
            request: id,
            method: request.method().clone(),
            path: found.get::<MatchedPath>().cloned(),
        }
    }

    /// The one that was noted among a request's extensions.
    #[must_use]
    pub fn noted(extensions: &Extensions) -> Origin {
        extensions.get::<Origin>().cloned().unwrap_or_default()
    }

    /// The address of who calls, if it is known.
    #[must_use]
    pub fn address(&self) -> Option<String> {
        self.address.map(|address| address.to_string())
    }

    /// The route.
    fn route(&self) -> &str {
        self.path.as_ref().map_or("", MatchedPath::as_str)
    }

    fn operation(&self) -> String {
        format!("{} {}", self.method, self.route())
    }

    /// The interface.
    fn via(&self) -> &'static str {
        match self.route().split('/').nth(1).unwrap_or_default() {
            "admin" => "admin",
            "graphql" => "graphql",
            "ums" | "umse" => "ums",
            "connect" => "socket",
            "v2" => "antelope",
            "v4" => "tencent",
            "uplink" => "uplink",
            "{org}" => "easemob",
            _ => "http",
        }
    }

    /// What is about to be told to a caller.
    #[must_use]
    pub fn answered(&self, caller: String) -> Access {
        let access = Access::answered(caller, self.via(), self.operation());
        Access {
            address: self.address(),
            request: Some(self.request.0.to_string()).filter(|id| !id.is_empty()),
            ..access
        }
    }

    /// The same to an operator.
    #[must_use]
    pub fn read_by(&self, who: &Operator) -> Access {
        let (caller, role) = operator(who);
        Access { role, ..self.answered(caller) }
    }

    /// A refusal.
    #[must_use]
    pub fn refused(&self, denied: Denied) -> Access {
        let access = match &denied.operator {
            Some(operator) => self.read_by(operator),
            None => self.answered("nobody".to_owned()),
        };
        Access {
            outcome: Outcome::Refused,
            app: denied.app,
            code: denied.code,
            operation: denied.operation.unwrap_or(access.operation.clone()),
            ..access
        }
    }

    /// Whether an answer without a note is such a refusal. Easemob's 403 says other things too.
    #[must_use]
    pub fn is_refusal(&self, status: StatusCode) -> bool {
        status == StatusCode::UNAUTHORIZED
            || status == StatusCode::FORBIDDEN && self.via() != "easemob"
    }
}
