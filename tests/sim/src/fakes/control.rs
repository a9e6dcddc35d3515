//! The fakes from another process: what they are, what they got, and faults to be planned. The
//! program `fake-vendors` serves it on loopback, without credentials.

use std::{convert::Infallible, future::Future, io, pin::Pin, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};

use super::{Fake, Fakes, Fault, Outage, Vendor, issued::form};

/// Bytes of a request's body, at most.
const BODY_BYTES_MAX: usize = 1 << 16;

/// What can be done with any vendor.
trait Handle: Send + Sync {
    fn stats(&self) -> Value;
    fn requests(&self) -> Value;
    fn accepted(&self, token: &str) -> u32;
    fn plan(&self, plan: Plan);
    fn outage(&self, outage: Outage) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// Faults as they are asked for: the next ones, or a share for good.
#[derive(Deserialize)]
#[serde(untagged)]
enum Plan {
    Next(Vec<Fault>),
    Share {
        per_mille: u16,
        #[serde(flatten)]
        fault: Fault,
    },
    Nothing(()),
}

impl<V: Vendor> Handle for Fake<V> {
    fn stats(&self) -> Value {
        json!(Fake::stats(self))
    }

    fn requests(&self) -> Value {
        json!(Fake::requests(self))
    }

    fn accepted(&self, token: &str) -> u32 {
        Fake::accepted(self, token)
    }

    fn plan(&self, plan: Plan) {
        match plan {
            Plan::Next(faults) => Fake::plan(self, faults),
            Plan::Share { fault, per_mille } => self.plan_share(fault, per_mille),
            Plan::Nothing(()) => self.clear_plans(),
        }
    }

    fn outage(&self, outage: Outage) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.set_outage(outage))
    }
}

impl Fakes {
    /// Where they are and which credentials they take, as JSON.
    #[must_use]
    pub fn description(&self) -> Value {
        let fcm = self.fcm.credentials().service_account();
        json!({
            "jpush": {"url": self.jpush.url(), "credentials": self.jpush.credentials()},
            "fcm": {"url": self.fcm.url(), "credentials": fcm},
            "apns": {"url": self.apns.url(), "credentials": self.apns.credentials()},
            "huawei": {"url": self.huawei.url(), "credentials": self.huawei.credentials()},
        })
    }

    fn handle(&self, name: &str) -> Option<&dyn Handle> {
        match name {
            "jpush" => Some(&self.jpush),
            "fcm" => Some(&self.fcm),
            "apns" => Some(&self.apns),
            "huawei" => Some(&self.huawei),
            _ => None,
        }
    }

    /// Serves until it is dropped: `GET /` describes; of each vendor, `GET /{vendor}/stats`,
    /// `/requests`, `/accepted?token=` tell, and `POST /{vendor}/plan` (a list of faults, one with
    /// `per_mille`, or `null` for none), `/outage` (`"none"`, `"refused"`, `"unavailable"`) act.
    ///
    /// # Errors
    /// Connections cannot be accepted any more.
    pub async fn serve_control(self: Arc<Self>, listener: TcpListener) -> io::Result<()> {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await?;
            let fakes = Arc::clone(&self);
            let service = service_fn(move |request| {
                let fakes = Arc::clone(&fakes);
                async move { Ok::<_, Infallible>(fakes.control(request).await) }
            });
            let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            connections.spawn(async move {
                // A caller that goes away is no fault of the fakes.
                let _ = served.await;
            });
            while connections.try_join_next().is_some() {}
        }
    }

    async fn control(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let answer = |value: &Value| Response::new(Full::new(value.to_string().into()));
        let refused = |status: u16| {
            let mut response = Response::new(Full::default());
            *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
            response
        };
        let (head, body) = request.into_parts();
        let path = head.uri.path();
        if path == "/" {
            return answer(&self.description());
        }
        let mut steps = path.trim_start_matches('/').split('/');
        let Some(fake) = steps.next().and_then(|name| self.handle(name)) else {
            return refused(404);
        };
        let query = form(head.uri.query().unwrap_or_default().as_bytes());
        let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
            return refused(413);
        };
        let body = body.to_bytes();
        match (head.method, steps.next()) {
            (Method::GET, Some("stats")) => answer(&fake.stats()),
            (Method::GET, Some("requests")) => answer(&fake.requests()),
            (Method::GET, Some("accepted")) => {
                let token = query.get("token").map_or("", String::as_str);
                answer(&json!(fake.accepted(token)))
            }
            (Method::POST, Some("plan")) => match serde_json::from_slice(&body) {
                Ok(plan) => {
                    fake.plan(plan);
                    refused(204)
                }
                Err(_) => refused(400),
            },
            (Method::POST, Some("outage")) => match serde_json::from_slice(&body) {
                Ok(outage) => {
                    fake.outage(outage).await;
                    refused(204)
                }
                Err(_) => refused(400),
            },
            _ => refused(404),
        }
    }
}
