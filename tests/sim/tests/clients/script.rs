//! The server's side of the socket, one step at a time.

use std::{collections::HashMap, time::Duration};

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use sim::ums::sign;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{ErrorResponse, Request, Response},
        protocol::CloseFrame,
    },
};

/// The key that devices sign with here.
pub(crate) const APP_KEY: &str = "00112233445566778899aabbccddeeff";

/// How long a client may take for its next step.
const STEP_SECONDS_MAX: u64 = 20;

/// A listening server.
pub(crate) struct Server {
    listener: TcpListener,
}

/// A connection to one device.
pub(crate) struct Peer {
    socket: WebSocketStream<TcpStream>,
    /// Its credentials, from headers (names in lower case) and query.
    pub(crate) credentials: HashMap<String, String>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.listener.local_addr().unwrap())
    }

    /// Takes the next device.
    #[expect(clippy::result_large_err, reason = "the library's callback")]
    pub(crate) async fn accept(&self) -> Peer {
        let (stream, _) = within(self.listener.accept()).await.unwrap();
        let mut credentials = HashMap::new();
        let look = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
            assert_eq!(request.uri().path(), "/connect");
            for (name, value) in request.headers() {
                credentials.insert(name.to_string(), value.to_str().unwrap().to_owned());
            }
            for pair in request.uri().query().unwrap_or_default().split('&') {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                credentials.insert(name.to_owned(), value.to_owned());
            }
            Ok(response)
        };
        let socket = within(accept_hdr_async(stream, look)).await.unwrap();
        Peer { socket, credentials }
    }

    /// Answers the next request, whatever it is, with this status and JSON; gives its head and
    /// body.
    pub(crate) async fn answer(&self, status: &str, json: &str) -> (String, String) {
        let (stream, _) = within(self.listener.accept()).await.unwrap();
        let (mut stream, mut head) = (BufReader::new(stream), String::new());
        while !head.ends_with("\r\n\r\n") {
            within(stream.read_line(&mut head)).await.unwrap();
        }
        let length = head.split_once("content-length: ").map_or("0", |(_, rest)| rest);
        let length = length.lines().next().unwrap().parse().unwrap();
        let mut body = vec![0; length];
        within(stream.read_exact(&mut body)).await.unwrap();
        let length = json.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\nX-Request-Id: r-1\r\nContent-Length: {length}\r\n\r\n{json}"
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        (head, String::from_utf8(body).unwrap())
    }
}

impl Peer {
    pub(crate) async fn send(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// A message with that id.
    pub(crate) async fn message(&mut self, id: &str) {
        let payload = r#"{"msgName":"门铃",  "n":1.0}"#;
        self.send(&format!(
            r#"{{"t":"message","id":"{id}","protocol":"ums","payload":{payload},"expiresAt":9}}"#
        ))
        .await;
    }

    pub(crate) async fn ping(&mut self) {
        self.socket.send(Message::Ping("are you there".into())).await.unwrap();
    }

    /// The next frame from the device.
    pub(crate) async fn frame(&mut self) -> Message {
        within(self.socket.next()).await.unwrap().unwrap()
    }

    /// Checks that the device says these things next, in this order.
    pub(crate) async fn hears(&mut self, expected: &[Value]) {
        for expected in expected {
            let frame = self.frame().await;
            let said: Value = serde_json::from_str(frame.to_text().unwrap()).unwrap();
            assert_eq!(said, *expected);
        }
    }

    /// Says goodbye with that code and waits for the device's goodbye.
    pub(crate) async fn close(mut self, code: u16, reason: &str) {
        let frame = CloseFrame { code: code.into(), reason: reason.into() };
        self.socket.close(Some(frame)).await.unwrap();
        assert!(matches!(self.frame().await, Message::Close(_)));
    }

    /// Waits for the device's goodbye and answers it.
    pub(crate) async fn closed(mut self) {
        assert!(matches!(self.frame().await, Message::Close(_)));
        assert!(within(self.socket.next()).await.is_none());
    }

    /// Checks the UMS credentials of `c-1` in package `com.acme.app` of app `MB-DEMOX-0001`.
    /// `name` makes the wire's name of a credential.
    pub(crate) fn check(&self, name: impl Fn(&str) -> String) {
        let get = |credential| self.credentials.get(&name(credential)).map(String::as_str);
        assert_eq!(get("appId"), Some("MB-DEMOX-0001"));
        assert_eq!(get("clientId"), Some("c-1"));
        assert_eq!(get("appPackage"), Some("com.acme.app"));
        let signed = sign("/connect", b"", "MB-DEMOX-0001", APP_KEY, get("timestamp").unwrap());
        assert_eq!(get("sign"), Some(signed.as_str()));
    }
}

async fn within<F: Future>(step: F) -> F::Output {
    timeout(Duration::from_secs(STEP_SECONDS_MAX), step).await.unwrap()
}
