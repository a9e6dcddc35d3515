//! A simulated terminal on the device socket. It answers as a well-behaved device does, or leaves
//! that to the test, and shows each message once however often the wire repeats it.

use std::{collections::VecDeque, fmt, io, time::Duration};

use futures_util::{SinkExt, StreamExt};
use reqwest::Url;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{
        self, Message,
        client::IntoClientRequest,
        handshake::client::Request,
        http::{HeaderName, HeaderValue},
        protocol::{CloseFrame, WebSocketConfig},
    },
};

use crate::{
    Caller, Error, Incoming, frame,
    http::REQUEST_SECONDS_MAX,
    memory::Memory,
    ums::{now_ms, sign},
};

/// Bytes of each device's read buffer: small, as one process holds thousands of devices.
const READ_BUFFER_BYTES: usize = 4 * 1024;

/// How long a device waits for the server's half of a goodbye, in seconds.
const GOODBYE_SECONDS_MAX: u64 = 5;

/// The close codes that stand for "none given" and "no goodbye" (RFC 6455, 7.4.1).
const NO_CODE: u16 = 1005;
const NO_GOODBYE: u16 = 1006;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Who a device is and how it behaves. It has no `Debug`, so that its key and token do not get
/// into logs.
#[derive(Clone)]
pub struct DeviceOptions {
    /// Where the server is, such as `http://127.0.0.1:8600`.
    pub base_url: String,
    /// The app's id.
    pub app_id: String,
    /// The key that signs.
    pub app_key: String,
    /// The terminal's id.
    pub client_id: String,
    /// The package that it registered with.
    pub app_package: String,
    /// The token of its user, if it is registered under one.
    pub access_token: Option<String>,
    /// The id of an Easemob device, which shows only that and its user's token.
    pub easemob_device: Option<String>,
    /// The token of an Antelope device, which shows only that.
    pub antelope_token: Option<String>,
    /// App, account, signature and device id of a device of a Tencent account, which shows only that.
    pub tencent: Option<[String; 4]>,
    /// Whether it answers messages and controls by itself.
    pub auto_ack: bool,
    /// After it acknowledged a message by itself it also reports 2, 3 and 4 up to this one.
    pub auto_report: Option<u8>,
}

impl DeviceOptions {
    /// The device of that caller, with its user, which acknowledges by itself and does not report.
    /// A caller without client id makes a device with an empty one, which the server refuses.
    #[must_use]
    pub fn new(caller: &Caller, app_package: impl Into<String>) -> Self {
        let Caller { base_url, app_id, app_key, client_id, access_token } = caller.clone();
        Self {
            base_url,
            app_id,
            app_key,
            client_id: client_id.unwrap_or_default(),
            app_package: app_package.into(),
            access_token,
            easemob_device: None,
            antelope_token: None,
            tencent: None,
            auto_ack: true,
            auto_report: None,
        }
    }

    /// The device of an Easemob user with that token.
    #[must_use]
    pub fn of_easemob(
        base_url: impl Into<String>,
        token: impl Into<String>,
        device_id: impl Into<String>,
    ) -> Self {
        let caller = Caller::new(base_url, "", "").with_access_token(token);
        Self { easemob_device: Some(device_id.into()), ..Self::new(&caller, "") }
    }

    /// The Antelope device with that token.
    #[must_use]
    pub fn of_antelope(base_url: impl Into<String>, token: impl Into<String>) -> Self {
        let caller = Caller::new(base_url, "", "");
        Self { antelope_token: Some(token.into()), ..Self::new(&caller, "") }
    }

    /// The device of a Tencent account with that signature.
    #[must_use]
    pub fn of_tencent(
        base_url: impl Into<String>,
        app: u32,
        user: impl Into<String>,
        usersig: impl Into<String>,
        device_id: impl Into<String>,
    ) -> Self {
        let caller = Caller::new(base_url, "", "");
        let shown = [app.to_string(), user.into(), usersig.into(), device_id.into()];
        Self { tencent: Some(shown), ..Self::new(&caller, "") }
    }

    fn credentials(&self, in_query: bool) -> Vec<(&'static str, String)> {
        if let Some(shown) = self.tencent.clone() {
            return ["sdkappid", "userId", "usersig", "deviceId"].into_iter().zip(shown).collect();
        }
        if let Some(token) = self.antelope_token.clone() {
            return vec![(if in_query { "client_token" } else { "x-client-token" }, token)];
        }
        if let Some(device) = &self.easemob_device {
            let token = self.access_token.clone().unwrap_or_default();
            let token = match in_query {
                true => ("token", token),
                false => ("authorization", format!("Bearer {token}")),
            };
            return vec![token, ("deviceId", device.clone())];
        }
        let timestamp = now_ms().to_string();
        let sign = sign("/connect", b"", &self.app_id, &self.app_key, &timestamp);
        let mut credentials = vec![
            ("appId", self.app_id.clone()),
            ("clientId", self.client_id.clone()),
            ("appPackage", self.app_package.clone()),
            ("timestamp", timestamp),
            ("sign", sign),
        ];
        credentials.extend(self.access_token.clone().map(|token| ("accessToken", token)));
        credentials
    }

    fn request(&self, in_query: bool) -> Result<Request, Error> {
        let unusable = |what: &str| Error::Option(what.to_owned());
        let base = self.base_url.trim_end_matches('/');
        let mut url = Url::parse(&format!("{base}/connect")).map_err(|_| unusable("base_url"))?;
        let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
        url.set_scheme(scheme).map_err(|()| unusable("base_url"))?;
        let credentials = self.credentials(in_query);
        if in_query || self.tencent.is_some() {
            url.query_pairs_mut().extend_pairs(credentials);
            return Ok(url.as_str().into_client_request()?);
        }
        let mut request = url.as_str().into_client_request()?;
        for (name, value) in credentials {
            let key = HeaderName::try_from(name).map_err(|_| unusable(name))?;
            let value = HeaderValue::try_from(value).map_err(|_| unusable(name))?;
            request.headers_mut().insert(key, value);
        }
        Ok(request)
    }
}

/// A connected device. The network moves only while one of its methods runs: a device that nobody
/// asks for its next frame answers no pings. Dropping it cuts the connection without goodbye.
pub struct Device {
    options: DeviceOptions,
    in_query: bool,
    socket: Socket,
    closed: bool,
    memory: Memory,
    duplicates: u64,
    /// Answers that are not sent yet, and whether some that were are not flushed.
    answers: VecDeque<String>,
    unflushed: bool,
    /// What was read and not yet passed up.
    ready: VecDeque<Incoming>,
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut device = f.debug_struct("Device");
        device.field("client_id", &self.options.client_id).field("closed", &self.closed);
        device.finish_non_exhaustive()
    }
}

impl Device {
    /// Connects with the credentials in headers.
    ///
    /// # Errors
    /// [`Error::Refused`] with the server's answer if it is not 101; else the network's failure.
    pub async fn connect(options: DeviceOptions) -> Result<Self, Error> {
        Self::open(options, false).await
    }

    /// Connects with the credentials in the query.
    ///
    /// # Errors
    /// As for [`Device::connect`].
    pub async fn connect_by_query(options: DeviceOptions) -> Result<Self, Error> {
        Self::open(options, true).await
    }

    /// Cuts the connection without goodbye, if it still stands, and connects again. What the device
    /// remembers stays, and what it had not passed up yet still comes.
    ///
    /// # Errors
    /// As for [`Device::connect`]; the device then has no connection.
    pub async fn reconnect(&mut self) -> Result<(), Error> {
        // A connection that is gone already cannot be cut, and need not be.
        self.socket.get_mut().shutdown().await.ok();
        self.closed = true;
        self.answers.clear();
        self.unflushed = false;
        self.socket = handshake(self.options.request(self.in_query)?).await?;
        self.closed = false;
        Ok(())
    }

    /// The next thing that the app sees; `None` after [`Incoming::Closed`]. May be cancelled at any
    /// point without losing anything.
    pub async fn next(&mut self) -> Option<Incoming> {
        loop {
            if let Err(error) = self.answer().await {
                self.end(NO_GOODBYE, &error.to_string());
            }
            if let Some(incoming) = self.ready.pop_front() {
                return Some(incoming);
            }
            if self.closed {
                return None;
            }
            match self.socket.next().await {
                Some(Ok(message)) => self.take(message),
                Some(Err(error)) => self.end(NO_GOODBYE, &error.to_string()),
                None => self.end(NO_GOODBYE, "end of stream"),
            }
        }
    }

    /// The next thing that the app sees, if it comes within that time.
    pub async fn next_within(&mut self, time: Duration) -> Option<Incoming> {
        timeout(time, self.next()).await.ok().flatten()
    }

    /// How many messages came again.
    #[must_use]
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Says that it has a message.
    ///
    /// # Errors
    /// The connection failed or is closed.
    pub async fn ack(&mut self, id: &str) -> Result<(), Error> {
        self.send_raw(frame::ack(id)).await
    }

    /// Says that it did what a control said (`recall` or `replace`).
    ///
    /// # Errors
    /// As for [`Device::ack`].
    pub async fn ack_control(&mut self, id: &str, op: &str) -> Result<(), Error> {
        self.send_raw(frame::ack_control(id, op)).await
    }

    /// Reports a status of a message; [`Incoming::Receipt`] says that it is durable.
    ///
    /// # Errors
    /// As for [`Device::ack`].
    pub async fn report(&mut self, id: &str, status: u8) -> Result<(), Error> {
        self.memory.note(id, status);
        self.send_raw(frame::report(id, status)).await
    }

    /// Sends a text frame as it is, well formed or not.
    ///
    /// # Errors
    /// As for [`Device::ack`].
    pub async fn send_raw(&mut self, text: impl Into<String>) -> Result<(), Error> {
        self.answer().await?;
        Ok(self.socket.send(Message::text(text.into())).await?)
    }

    /// Says goodbye and waits for the server's; what it had not passed up yet still comes.
    ///
    /// # Errors
    /// The connection failed first, or the server did not say goodbye in time.
    pub async fn close(&mut self) -> Result<(), Error> {
        if self.closed {
            return Ok(());
        }
        self.answer().await?;
        self.closed = true;
        let socket = &mut self.socket;
        let goodbye = async {
            socket.close(None).await?;
            while socket.next().await.transpose()?.is_some() {}
            Ok(())
        };
        match timeout(Duration::from_secs(GOODBYE_SECONDS_MAX), goodbye).await {
            Ok(Ok(()) | Err(tungstenite::Error::ConnectionClosed)) => Ok(()),
            Ok(Err(error)) => Err(error.into()),
            Err(late) => Err(io::Error::from(late).into()),
        }
    }

    async fn open(options: DeviceOptions, in_query: bool) -> Result<Self, Error> {
        let socket = handshake(options.request(in_query)?).await?;
        Ok(Self {
            options,
            in_query,
            socket,
            closed: false,
            memory: Memory::default(),
            duplicates: 0,
            answers: VecDeque::new(),
            unflushed: false,
            ready: VecDeque::new(),
        })
    }

    /// Sends what waits. An answer leaves the queue only once the socket has it, so that a caller
    /// that gives up waiting loses none.
    async fn answer(&mut self) -> Result<(), tungstenite::Error> {
        while let Some(text) = self.answers.front() {
            self.socket.feed(Message::text(text.clone())).await?;
            self.answers.pop_front();
            self.unflushed = true;
        }
        if self.unflushed {
            self.socket.flush().await?;
            self.unflushed = false;
        }
        Ok(())
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Text(text) => self.pass(Incoming::read(&text)),
            Message::Binary(bytes) => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                self.pass(Incoming::Unknown { text });
            }
            Message::Close(None) => self.end(NO_CODE, ""),
            Message::Close(Some(CloseFrame { code, reason })) => self.end(code.into(), &reason),
            // The library answers pings.
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }

    fn pass(&mut self, incoming: Incoming) {
        match &incoming {
            Incoming::Message { id, .. } => {
                let new = self.memory.add(id);
                if self.options.auto_ack {
                    self.answer_message(&id.clone());
                }
                if !new {
                    self.duplicates += 1;
                    return;
                }
            }
            Incoming::Control { op, id } if self.options.auto_ack => {
                // What was displayed cannot be taken away; saying so again ends the control.
                let answer = match self.memory.displayed(id) {
                    Some(status) => frame::report(id, status),
                    None => frame::ack_control(id, op),
                };
                self.answers.push_back(answer);
            }
            Incoming::Control { .. }
            | Incoming::Receipt { .. }
            | Incoming::Refused { .. }
            | Incoming::Unknown { .. }
            | Incoming::Closed { .. } => {}
        }
        self.ready.push_back(incoming);
    }

    /// The answers to a message that came again are those to the first: they may have been lost
    /// with a connection.
    fn answer_message(&mut self, id: &str) {
        self.answers.push_back(frame::ack(id));
        for status in 2..=self.options.auto_report.unwrap_or(0) {
            self.memory.note(id, status);
            self.answers.push_back(frame::report(id, status));
        }
    }

    fn end(&mut self, code: u16, reason: &str) {
        self.answers.clear();
        // The library has the server's goodbye to answer; whether that arrives matters to nobody.
        self.unflushed = !self.closed && code != NO_GOODBYE;
        if !self.closed {
            self.closed = true;
            self.ready.push_back(Incoming::Closed { code, reason: reason.to_owned() });
        }
    }
}

async fn handshake(request: Request) -> Result<Socket, Error> {
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES);
    let connecting = connect_async_with_config(request, Some(config), true);
    match timeout(Duration::from_secs(REQUEST_SECONDS_MAX), connecting).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(tungstenite::Error::Http(response))) => {
            let body = response.body().as_deref().unwrap_or_default();
            let body = String::from_utf8_lossy(body).into_owned();
            Err(Error::Refused { status: response.status().as_u16(), body })
        }
        Ok(Err(error)) => Err(error.into()),
        Err(late) => Err(io::Error::from(late).into()),
    }
}
