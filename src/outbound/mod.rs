//! The one way out: every call to a URL that an app's configuration names goes through
//! [`Outbound`]. A name is resolved once, addresses that are not public are left out unless the
//! operator allows them, and the connection goes to exactly what was judged. No redirect is
//! followed and no proxy is asked, so that nothing leads elsewhere afterwards. Time and size of an
//! answer are bounded by the caller.

mod addresses;
mod names;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
    time::Duration,
};

use crate::delivery::channel::Clients;
use ipnet::IpNet;
use reqwest::{
    Client, ClientBuilder, Request, StatusCode, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::HeaderMap,
    redirect,
};

use addresses::Allowed;
use names::Names;

/// How long making a connection may take.
const CONNECT: Duration = Duration::from_secs(3);
/// How long a connection without a call is kept.
const IDLE: Duration = Duration::from_secs(60);
/// Connections without a call that are kept for each host and port: several receivers of callbacks
/// may share one, each with 32 calls at once.
const MAX_IDLE: usize = 256;

/// What a call may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// From the name to the last byte of the answer.
    pub time: Duration,
    /// The answer's body.
    pub bytes: usize,
    /// Whether what is longer is cut off there, and is no error.
    pub cut: bool,
}

/// What came back, whatever its status.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Vec<u8>,
}

/// A call has no answer. The texts name no URL, as it may hold a secret.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The URL is neither `http` nor `https`.
    #[error("the URL is neither http nor https")]
    Scheme,
    /// Its host is, or leads to, addresses that may not be reached.
    #[error("the host is not public, and not in a network of --callback-allow")]
    NotAllowed,
    /// It took too long.
    #[error("no answer in time")]
    Time,
    /// The answer is too long.
    #[error("the answer is longer than {0} bytes")]
    Size(usize),
    /// No connection, or one that broke.
    #[error("the call failed: {0}")]
    Failed(String),
}

/// The guarded client. Clones of what is inside are shared; there is one a server.
pub struct Outbound {
    allowed: Arc<Allowed>,
    names: Names,
    client: OnceLock<Result<Client, String>>,
}

impl Outbound {
    /// A client that may reach the public Internet and these networks.
    #[must_use]
    pub fn new(allowed: Vec<IpNet>) -> Outbound {
        let (allowed, names) = (Arc::new(Allowed::new(allowed)), Names::default());
        Outbound { allowed, names, client: OnceLock::new() }
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// [`CallError`] says why there is none; a request may have arrived nevertheless.
    pub async fn send(&self, mut request: Request, limits: Limits) -> Result<Answer, CallError> {
        self.judge(request.url())?;
        *request.timeout_mut() = Some(limits.time);
        let mut response = self.client()?.execute(request).await.map_err(failure)?;
        let too_long = CallError::Size(limits.bytes);
        let most = u64::try_from(limits.bytes).unwrap_or(u64::MAX);
        if !limits.cut && response.content_length().is_some_and(|length| length > most) {
            return Err(too_long);
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failure)? {
            let room = limits.bytes - body.len();
            if chunk.len() > room && !limits.cut {
                return Err(too_long);
            }
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() > room {
                break;
            }
        }
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        Ok(Answer { status, headers, body })
    }

    /// Clients for the push vendors, with the same guard. Whoever sends with them asks
    /// [`permits`](Outbound::permits) first.
    ///
    /// # Errors
    /// [`CallError::Failed`] when no client can be made.
    pub fn clients(&self) -> Result<Clients, CallError> {
        let build = |builder: ClientBuilder| {
            builder.build().map_err(|error| CallError::Failed(why(&error)))
        };
        let http2 = build(self.builder().http2_prior_knowledge().tls_certs_only([]))?;
        Ok(Clients { standard: self.client()?.clone(), http2 })
    }

    /// Whether a URL may be called, as far as it says so itself: names are judged when they are
    /// resolved.
    ///
    /// # Errors
    /// [`CallError`] says why not.
    pub fn permits(&self, url: &str) -> Result<(), CallError> {
        self.judge(&url.parse().map_err(|_| CallError::Scheme)?)
    }

    /// An address in the URL itself is never resolved, so it is judged here.
    fn judge(&self, url: &Url) -> Result<(), CallError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(CallError::Scheme);
        }
        let host = url.host_str().unwrap_or_default();
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        match address {
            Ok(address) if !self.allowed.permits(address) => Err(CallError::NotAllowed),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Made at the first call: it reads the system's certificates, and most servers call nobody.
    fn client(&self) -> Result<&Client, CallError> {
        let client = self.client.get_or_init(|| {
            let client = self.builder().build().or_else(|error| {
                tracing::warn!(error = why(&error), "https cannot be called");
                self.builder().tls_certs_only([]).build()
            });
            client.map_err(|error| why(&error))
        });
        client.as_ref().map_err(|why| CallError::Failed(why.clone()))
    }

    fn builder(&self) -> ClientBuilder {
        Client::builder()
            .user_agent(concat!("pushledger/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Guard(Arc::clone(&self.allowed), self.names.clone()))
            .redirect(redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .connect_timeout(CONNECT)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(MAX_IDLE)
    }
}

/// Resolves names to those of their addresses that may be reached.
struct Guard(Arc<Allowed>, Names);

/// All addresses of a name were left out.
#[derive(Debug, thiserror::Error)]
#[error("no address may be reached")]
struct AllLeftOut;

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let (allowed, names) = (Arc::clone(&self.0), self.1.clone());
        Box::pin(async move {
            let found = names.addresses(name.as_str()).await?;
            let permitted = found.iter().filter(|address| allowed.permits(address.ip()));
            let permitted: Vec<SocketAddr> = permitted.copied().collect();
            if permitted.is_empty() {
                return Err(AllLeftOut.into());
            }
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}

fn failure(error: reqwest::Error) -> CallError {
    if causes(&error).any(|cause| cause.is::<AllLeftOut>()) {
        CallError::NotAllowed
    } else if error.is_timeout() {
        CallError::Time
    } else {
        CallError::Failed(why(&error.without_url()))
    }
}

/// An error and what caused it, outermost first.
fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

fn why(error: &(dyn std::error::Error + 'static)) -> String {
    causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]
mod tests {
    use reqwest::Method;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    const LIMITS: Limits = Limits { time: Duration::from_secs(20), bytes: 100, cut: false };

    async fn call(allowed: &[&str], url: &str) -> Result<Answer, CallError> {
        let allowed = allowed.iter().map(|network| network.parse().unwrap()).collect();
        let request = Request::new(Method::GET, url.parse().unwrap());
        Outbound::new(allowed).send(request, LIMITS).await
    }

    /// A server on loopback that answers one request with these bytes; gives its port.
    async fn answering(answer: &'static str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = connection.read(&mut request).await;
            let _ = connection.write_all(answer.as_bytes()).await;
        });
        port
    }

    #[tokio::test]
    async fn an_address_in_the_url_is_judged_however_it_is_written() {
        for host in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f.1",
            "0177.0.0.1",
            "127.0.0.1.",
            "user:pass@127.0.0.1",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[64:ff9b::127.0.0.1]",
            "169.254.169.254",
            "0",
            "１２７.0.0.1",
        ] {
            let answer = call(&[], &format!("http://{host}:9/")).await;
            assert!(matches!(answer, Err(CallError::NotAllowed)), "{host}: {answer:?}");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_to_loopback_is_refused_unless_loopback_is_allowed() {
        let port = answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        let url = format!("http://localhost:{port}/");
        let refused = call(&[], &url).await;
        assert!(matches!(refused, Err(CallError::NotAllowed)), "{refused:?}");
        let answer = call(&["127.0.0.1/32"], &url).await.unwrap();
        assert_eq!((answer.status, answer.body), (StatusCode::OK, b"ok".to_vec()));
    }

    #[tokio::test]
    async fn only_http_and_https_are_called() {
        for url in ["ftp://1.1.1.1/", "file:///etc/passwd", "unix:/tmp/socket"] {
            let answer = call(&["0.0.0.0/0"], url).await;
            assert!(matches!(answer, Err(CallError::Scheme)), "{url}: {answer:?}");
        }
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_and_is_not_followed() {
        let redirect = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:9/\r\n\
                        content-length: 0\r\n\r\n";
        let port = answering(redirect).await;
        let answer = call(&["127.0.0.1/32"], &format!("http://127.0.0.1:{port}/")).await.unwrap();
        assert_eq!(answer.status, StatusCode::FOUND);
        assert_eq!(answer.headers["location"], "http://127.0.0.1:9/");
    }

    #[tokio::test]
    async fn an_answer_is_read_up_to_its_limit_announced_or_not() {
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 101\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
             40\r\n0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\r\n\
             40\r\n0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\r\n",
        ] {
            let port = answering(answer).await;
            let answer = call(&["127.0.0.1/32"], &format!("http://127.0.0.1:{port}/")).await;
            assert!(matches!(answer, Err(CallError::Size(100))), "{answer:?}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_matters_by_its_status_alone_is_cut_at_the_limit() {
        let port = answering("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n0123456789").await;
        let allowed = vec!["127.0.0.1/32".parse().unwrap()];
        let url = format!("http://127.0.0.1:{port}/").parse().unwrap();
        let limits = Limits { bytes: 4, cut: true, ..LIMITS };
        let answer = Outbound::new(allowed).send(Request::new(Method::GET, url), limits).await;
        let answer = answer.unwrap();
        assert_eq!((answer.status, answer.body), (StatusCode::OK, b"0123".to_vec()));
    }

    #[tokio::test]
    async fn a_host_that_does_not_answer_ends_the_call_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/?key=secret", listener.local_addr().unwrap());
        let outbound = Outbound::new(vec!["127.0.0.1/32".parse().unwrap()]);
        let request = Request::new(Method::GET, url.parse().unwrap());
        let limits = Limits { time: Duration::from_millis(50), ..LIMITS };
        let answer = outbound.send(request, limits).await;
        assert!(matches!(answer, Err(CallError::Time)), "{answer:?}");
    }

    #[tokio::test]
    async fn no_error_names_the_url() {
        // Nobody listens on the port of a listener that is gone.
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let answer = call(&["127.0.0.1/32"], &format!("http://{gone}/path?key=secret")).await;
        let Err(error) = answer else { panic!("somebody answered") };
        assert!(matches!(error, CallError::Failed(_)), "{error:?}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
