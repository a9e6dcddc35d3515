//! The HTTP server of a fake vendor: it listens, reads requests, lets planned faults happen, asks
//! the vendor for the answer and writes all of it down.

use std::{
    convert::Infallible,
    future, io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serde::Deserialize;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::sleep,
};

use super::{Books, Call, Connection, Fault, Options, Purpose, Reply, Taken, Vendor, fault::Plan};

/// Bytes of a request's body, at most.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Connections that wait to be accepted, at most.
const BACKLOG: u32 = 1_024;
/// Streams at one time on an HTTP/2 connection, as APNs allows.
const STREAMS_MAX: u32 = 1_000;
/// Pause before the port is tried again, in milliseconds.
const PORT_RETRY_MS: u64 = 5;

/// Whether a vendor is there at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outage {
    /// It is.
    #[default]
    None,
    /// Open connections are cut, and new ones refused.
    Refused,
    /// Everything is answered with 503.
    Unavailable,
}

/// What all connections of a fake share.
pub(super) struct House<V> {
    pub(super) vendor: V,
    pub(super) books: Books,
    pub(super) pushes: Plan,
    pub(super) token_calls: Plan,
    unavailable: AtomicBool,
    latency: Duration,
    #[cfg(feature = "tls")]
    acceptor: Option<tokio_rustls::TlsAcceptor>,
}

impl<V: Vendor> House<V> {
    pub(super) fn new(vendor: V, options: &Options) -> Self {
        Self {
            vendor,
            books: Books::new(options),
            pushes: Plan::default(),
            token_calls: Plan::default(),
            unavailable: AtomicBool::new(false),
            latency: Duration::from_millis(options.latency_ms),
            #[cfg(feature = "tls")]
            acceptor: super::tls::acceptor(V::HTTP2),
        }
    }
}

/// Listens on an address.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    bound(address)?.listen(BACKLOG)
}

fn bound(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Serves until it is dropped.
pub(super) async fn run<V: Vendor>(
    house: Arc<House<V>>,
    mut listener: TcpListener,
    address: SocketAddr,
    mut orders: mpsc::Receiver<(Outage, oneshot::Sender<()>)>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            order = orders.recv() => {
                let Some((outage, done)) = order else { return };
                house.unavailable.store(outage == Outage::Unavailable, Ordering::Release);
                if outage != Outage::Refused {
                    let _ = done.send(());
                    continue;
                }
                drop(listener);
                connections.shutdown().await;
                listener = closed(&house, address, &mut orders, done).await;
            }
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(connection(Arc::clone(&house), stream));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Holds the port without listening, so that connections are refused, until that is over.
async fn closed<V: Vendor>(
    house: &House<V>,
    address: SocketAddr,
    orders: &mut mpsc::Receiver<(Outage, oneshot::Sender<()>)>,
    done: oneshot::Sender<()>,
) -> TcpListener {
    let mut waiting = Some(done);
    loop {
        let Ok(socket) = bound(address) else {
            sleep(Duration::from_millis(PORT_RETRY_MS)).await;
            continue;
        };
        if let Some(done) = waiting.take() {
            let _ = done.send(());
        }
        let Some((outage, done)) = orders.recv().await else { return future::pending().await };
        if outage == Outage::Refused {
            waiting = Some(done);
            continue;
        }
        if let Ok(listener) = socket.listen(BACKLOG) {
            house.unavailable.store(outage == Outage::Unavailable, Ordering::Release);
            let _ = done.send(());
            return listener;
        }
        waiting = Some(done);
    }
}

async fn connection<V: Vendor>(house: Arc<House<V>>, stream: TcpStream) {
    house.books.opened();
    // Answers are small: none waits for more to send. A stream that refuses is closed anyway.
    let _ = stream.set_nodelay(true);
    let state = Arc::new(Connection::default());
    #[cfg(feature = "tls")]
    if let Some(acceptor) = house.acceptor.clone()
        && super::tls::begins(&stream).await
    {
        let wire = Wire { stream, state: Arc::clone(&state) };
        if let Ok(wire) = acceptor.accept(wire).await {
            serve(house, wire, state).await;
        }
        return;
    }
    let wire = Wire { stream, state: Arc::clone(&state) };
    serve(house, wire, state).await;
}

async fn serve<V: Vendor, I>(house: Arc<House<V>>, wire: I, state: Arc<Connection>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let of_request = Arc::clone(&state);
    let service = service_fn(move |request| {
        let (house, state) = (Arc::clone(&house), Arc::clone(&of_request));
        async move { Ok::<_, Infallible>(answer(&house, &state, request).await) }
    });
    // The two kinds of connection have the same methods and no trait for them.
    macro_rules! drive {
        ($connection:expr) => {{
            let mut connection = pin!($connection);
            loop {
                tokio::select! {
                    _ = connection.as_mut() => break,
                    () = state.end.notified() => break,
                    () = state.goodbye.notified() => {
                        connection.as_mut().graceful_shutdown();
                        state.leaving.notify_one();
                    }
                }
            }
        }};
    }
    let io = TokioIo::new(wire);
    if V::HTTP2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).max_concurrent_streams(STREAMS_MAX);
        drive!(builder.serve_connection(io, service));
    } else {
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new());
        drive!(builder.serve_connection(io, service));
    }
}

/// Counts a request as under way until it is dropped, answered or not.
struct UnderWay<'a>(&'a Books);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.ended();
    }
}

async fn answer<V: Vendor>(
    house: &House<V>,
    connection: &Connection,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    house.books.begun();
    let _under_way = UnderWay(&house.books);
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
        return written(Reply::empty(413));
    };
    let body = body.to_bytes();
    let purpose = house.vendor.purpose(head.uri.path());
    let unavailable = house.unavailable.load(Ordering::Acquire);
    let cleared = house.pushes.cleared();
    let planned = match purpose {
        _ if unavailable => Some(Fault::Status { status: 503, retry_after_seconds: None }),
        Purpose::Push => house.pushes.take(),
        Purpose::Token => house.token_calls.take(),
        Purpose::Other => None,
    };
    let call = Call {
        method: &head.method,
        path: head.uri.path(),
        query: head.uri.query(),
        version: head.version,
        headers: &head.headers,
        body: &body,
        fault: planned.as_ref(),
        connection,
    };
    let Some(reply) = decide(house, &call) else {
        connection.cut();
        return future::pending().await;
    };
    // What was taken stays taken, also if the caller does not wait for the answer.
    let slow = match planned {
        Some(Fault::Slow { ms }) => Duration::from_millis(ms),
        _ => Duration::ZERO,
    };
    if !(slow + house.latency).is_zero() {
        tokio::select! {
            () = sleep(slow + house.latency) => {}
            () = cleared, if !slow.is_zero() => {}
        }
    }
    if planned == Some(Fault::GoAway) {
        connection.say_goodbye().await;
    }
    written(reply)
}

/// The answer, written down; none if the connection is to be reset.
fn decide<V: Vendor>(house: &House<V>, call: &Call<'_>) -> Option<Reply> {
    let books = &house.books;
    let taken = match call.fault {
        Some(Fault::Lost) => {
            books.record(call, None, 0);
            return None;
        }
        Some(Fault::Reset) => {
            let taken = house.vendor.take(call, books);
            books.record(call, None, taken.tokens);
            return None;
        }
        Some(Fault::Raw { status, content_type, body }) => {
            let (content_type, body) = (Some(content_type.clone()), body.clone().into());
            Taken::from(Reply { status: *status, headers: Vec::new(), content_type, body })
        }
        Some(
            fault @ (Fault::TooMany { .. }
            | Fault::Status { .. }
            | Fault::Quota
            | Fault::AuthExpired),
        ) => Taken::from(house.vendor.refuse(fault, call, books)),
        Some(Fault::Slow { .. } | Fault::Failing { .. } | Fault::GoAway) | None => {
            house.vendor.take(call, books)
        }
    };
    books.record(call, Some(taken.reply.status), taken.tokens);
    Some(taken.reply)
}

fn written(reply: Reply) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(reply.body));
    *response.status_mut() =
        StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Some(Ok(content_type)) = reply.content_type.map(HeaderValue::try_from) {
        response.headers_mut().insert(CONTENT_TYPE, content_type);
    }
    for (name, value) in reply.headers {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// A stream that is reset rather than closed if its connection was cut.
struct Wire {
    stream: TcpStream,
    state: Arc<Connection>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.state.reset.load(Ordering::Acquire) {
            // Without it the peer sees an orderly end, which is a fault too, only a milder one.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
