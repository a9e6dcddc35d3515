//! The server of an app that is called back: it writes down each call with its time, and answers
//! well or badly, as the test or the load run wants.

use std::{
    collections::{HashMap, VecDeque},
    future, io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use md5::{Digest, Md5};
use serde_json::Value;
use sha2::Sha256;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::{JoinHandle, JoinSet},
};

/// Bytes of a call's body, at most.
const BODY_BYTES_MAX: usize = 8 << 20;
/// The body that every kind of callback takes for success.
const WELL: &str = r#"{"code":0,"message":"ok"}"#;

/// A call as it came.
#[derive(Debug, Clone)]
pub struct Called {
    /// When it came, as the receiver's clock says.
    pub at: i64,
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Headers with lower-case names.
    pub headers: HashMap<String, String>,
    /// The body.
    pub body: Bytes,
}

impl Called {
    /// The body as JSON; `null` if it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Whether one of its signatures is that of a secret of Standard Webhooks.
    #[must_use]
    pub fn is_signed_with(&self, secret: &str) -> bool {
        let header = |name: &str| self.headers.get(name).map(String::as_str).unwrap_or_default();
        let key = secret.strip_prefix("whsec_").map(|text| STANDARD.decode(text));
        let Some(Ok(key)) = key else { return false };
        let Ok(mut mac) = <Hmac<Sha256> as KeyInit>::new_from_slice(&key) else { return false };
        mac.update(header("webhook-id").as_bytes());
        mac.update(b".");
        mac.update(header("webhook-timestamp").as_bytes());
        mac.update(b".");
        mac.update(&self.body);
        let wanted = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        header("webhook-signature").split(' ').any(|given| given == wanted)
    }

    /// Whether its sign is the MD5 of an Antelope app, the body and the app's key, as that app's
    /// server computes it.
    #[must_use]
    pub fn is_signed_by_antelope(&self, app: &str, key: &str) -> bool {
        let digest = Md5::new().chain_update(app).chain_update(&self.body).chain_update(key);
        let given = self.headers.get("x-event-sign").map(String::as_str);
        given == Some(hex(&digest.finalize()).as_str())
    }

    /// Whether the `Sign` in its query is the SHA-256 of a Tencent app's token and the
    /// `RequestTime` there.
    #[must_use]
    pub fn is_signed_by_tencent(&self, token: &str) -> bool {
        let query = self.target.split_once('?').map(|(_, query)| query).unwrap_or_default();
        let field = |name: &str| {
            let mut fields = query.split('&').filter_map(|field| field.split_once('='));
            fields.find(|(own, _)| *own == name).map(|(_, value)| value)
        };
        let (Some(sign), Some(time)) = (field("Sign"), field("RequestTime")) else { return false };
        let digest = Sha256::new().chain_update(token).chain_update(time).finalize();
        sign == hex(&digest)
    }
}

/// How a call is answered.
#[derive(Debug, Clone)]
pub enum Answer {
    /// With a status and a body.
    Status(u16, String),
    /// The same, with one more header.
    With(u16, &'static str, String),
    /// With a status, after a while.
    Late(Duration, u16),
    /// With a status and what every kind takes for success, once the test says so.
    Held(Arc<Notify>, u16),
    /// Never.
    Silence,
    /// With so many bytes.
    Flood(usize),
    /// The connection is cut.
    Cut,
}

impl Answer {
    /// What every kind of callback takes for success.
    #[must_use]
    pub fn ok() -> Answer {
        Answer::Status(200, WELL.to_owned())
    }

    /// One with a status that waits until it is told to go.
    #[must_use]
    pub fn held(status: u16) -> (Answer, Arc<Notify>) {
        let go = Arc::new(Notify::new());
        (Answer::Held(Arc::clone(&go), status), go)
    }
}

struct Inner {
    calls: Mutex<Vec<Called>>,
    count: std::sync::atomic::AtomicUsize,
    keep: bool,
    planned: Mutex<VecDeque<Answer>>,
    usual: Mutex<Answer>,
    came: Notify,
    now: Box<dyn Fn() -> i64 + Send + Sync>,
}

/// A receiver of callbacks, on a port of its own; it is gone when dropped.
pub struct Receiver {
    /// Where it is.
    pub address: SocketAddr,
    inner: Arc<Inner>,
    serving: JoinHandle<()>,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Receiver {
    /// Starts one that answers well and keeps every call, by that clock.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start(now: impl Fn() -> i64 + Send + Sync + 'static) -> io::Result<Receiver> {
        Receiver::listen("127.0.0.1:0", true, now).await
    }

    /// Starts one that only counts calls, for load.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn counting() -> io::Result<Receiver> {
        Receiver::listen("127.0.0.1:0", false, || 0).await
    }

    /// Starts one on an address.
    ///
    /// # Errors
    /// When it is taken.
    pub async fn listen(
        address: &str,
        keep: bool,
        now: impl Fn() -> i64 + Send + Sync + 'static,
    ) -> io::Result<Receiver> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let inner = Arc::new(Inner {
            calls: Mutex::default(),
            count: std::sync::atomic::AtomicUsize::new(0),
            keep,
            planned: Mutex::default(),
            usual: Mutex::new(Answer::ok()),
            came: Notify::new(),
            now: Box::new(now),
        });
        let serving = tokio::spawn(serve(listener, Arc::clone(&inner)));
        Ok(Receiver { address, inner, serving })
    }

    /// A URL of it.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// How calls are answered from now on.
    pub fn answer(&self, answer: Answer) {
        *locked(&self.inner.usual) = answer;
    }

    /// How the next calls are answered, one after the other.
    pub fn plan(&self, answers: impl IntoIterator<Item = Answer>) {
        locked(&self.inner.planned).extend(answers);
    }

    /// The calls so far.
    #[must_use]
    pub fn calls(&self) -> Vec<Called> {
        locked(&self.inner.calls).clone()
    }

    /// How many calls came.
    #[must_use]
    pub fn count(&self) -> usize {
        self.inner.count.load(std::sync::atomic::Ordering::Acquire)
    }

    /// Waits until so many calls came, for at most so long; gives all.
    pub async fn after(&self, calls: usize, within: Duration) -> Option<Vec<Called>> {
        let enough = async {
            loop {
                let came = self.inner.came.notified();
                if self.count() >= calls {
                    return self.calls();
                }
                came.await;
            }
        };
        tokio::time::timeout(within, enough).await.ok()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, inner: Arc<Inner>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                connections.spawn(converse(stream, Arc::clone(&inner)));
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn converse(stream: TcpStream, inner: Arc<Inner>) {
    // Small answers should leave at once; a socket that refuses still works.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let inner = Arc::clone(&inner);
        async move { answer(request, &inner).await }
    });
    // A caller may go at any time.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// The answer to a call; an error cuts the connection.
async fn answer(request: Request<Incoming>, inner: &Inner) -> io::Result<Response<Full<Bytes>>> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
    let body = body.map(|body| body.to_bytes()).unwrap_or_default();
    if inner.keep {
        let text = |value: &hyper::header::HeaderValue| {
            String::from_utf8_lossy(value.as_bytes()).into_owned()
        };
        let headers = parts.headers.iter();
        let headers = headers.map(|(name, value)| (name.to_string(), text(value))).collect();
        let (at, target) = ((inner.now)(), parts.uri.to_string());
        let method = parts.method.to_string();
        locked(&inner.calls).push(Called { at, method, target, headers, body });
    }
    inner.count.fetch_add(1, std::sync::atomic::Ordering::AcqRel);
    inner.came.notify_waiters();
    let planned = locked(&inner.planned).pop_front();
    let answer = planned.unwrap_or_else(|| locked(&inner.usual).clone());
    let made = |status: u16, body: Bytes| {
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
        response
    };
    Ok(match answer {
        Answer::Status(status, body) => made(status, body.into()),
        Answer::With(status, name, value) => {
            let mut response = made(status, Bytes::new());
            if let Ok(value) = value.parse() {
                response.headers_mut().insert(name, value);
            }
            response
        }
        Answer::Held(go, status) => {
            go.notified().await;
            made(status, Bytes::from_static(WELL.as_bytes()))
        }
        Answer::Late(time, status) => {
            tokio::time::sleep(time).await;
            made(status, Bytes::new())
        }
        Answer::Flood(bytes) => made(200, vec![b' '; bytes].into()),
        Answer::Silence => future::pending().await,
        Answer::Cut => return Err(io::ErrorKind::ConnectionAborted.into()),
    })
}
