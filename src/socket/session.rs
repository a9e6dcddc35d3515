//! One connection of one device. It first sends what is kept, in order of acceptance, then what
//! the hub hands it. What the device has not acknowledged is bounded; a connection that falls
//! behind its queue goes back to reading what is kept, from where it is.

use std::{collections::HashMap, pin::pin, sync::Arc, time::Duration};

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use domain::{
    Metadata, Recorded,
    app::TencentCallback,
    cid::Cid,
    device::Device,
    facts::{Fact, Key},
    message::{Ending, MessageId, Progress, RecallOp, RecallResult, Reporter, Step},
    presence::{Manner, NotePresence, PresenceChanged},
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use projections::{
    Fault, pending, registry,
    task_chunks::{self, KeptRow},
};
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite;
use uuid::Uuid;

use super::{
    MAX_FRAME_BYTES,
    frames::{Incoming, MessageFrame, Outgoing, TaskFrame},
    hub::{CLOSE_CHANGED, CLOSE_REPLACED, Item, NowOrNever, Subscription},
    unanswered::{Turn, Waiting},
    uplink::Uplink,
};
use crate::{
    app::Server,
    delivery::recorder::Outcome,
    directory::AppEntry,
    ledger::{Context, Lane, Refused},
};

/// Frames and bytes that a device may leave unacknowledged.
const WINDOW_FRAMES: usize = 256;
const WINDOW_BYTES: usize = 1024 * 1024;
/// How long a full window may stay without any acknowledgement.
const STALL_MICROS: i64 = 10_000_000;
/// Time between pings; two that stay unanswered end the connection.
const PING_MICROS: i64 = 30_000_000;
/// Longest time that one frame may take to leave.
const SEND: Duration = Duration::from_secs(10);
/// Longest wait for a device's half of a goodbye.
const GOODBYE: Duration = Duration::from_secs(1);
/// Kept messages read at once.
const PAGE: i64 = 64;
/// Longest wait for the views before what is kept can be read.
const VIEWS: Duration = Duration::from_secs(10);
/// Reports of one connection that may wait for the ledger.
const MAX_REPORTS: usize = 64;

const GOING_AWAY: (u16, &str) = (1001, "the server is going away");
const TOO_SLOW: (u16, &str) = (1013, "too much is unacknowledged");
const BUSY: (u16, &str) = (1013, "try again later");
const TOO_BIG: (u16, &str) = (1009, "a frame has at most 64 KiB");
const DEAD: (u16, &str) = (1011, "no pong");
const FAULT: (u16, &str) = (1011, "internal error");

/// Why a session ends.
enum End {
    /// The device went, or its connection broke.
    Gone,
    /// We close it.
    Close(u16, &'static str),
    /// We close it, and what still comes cannot be read: a frame of which only the length is known.
    Cut((u16, &'static str)),
}

impl From<(u16, &'static str)> for End {
    fn from((code, reason): (u16, &'static str)) -> Self {
        End::Close(code, reason)
    }
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        tracing::error!(%fault, "a device connection failed");
        FAULT.into()
    }
}

/// Serves a connection until it ends.
pub(super) async fn run(
    server: Arc<Server>,
    app: Arc<AppEntry>,
    device: Device,
    socket: WebSocket,
) {
    let former = takes_over(&server, &app, &device).await;
    let mut subscription = server.hub.subscribe(app.id(), &device, server.presence.now());
    let (number, left) = (subscription.number, std::mem::take(&mut subscription.left));
    let mut session = Session {
        cursor: 0,
        read_to: subscription.from,
        backlog: true,
        kept_is_next: false,
        in_flight: HashMap::new(),
        in_flight_bytes: 0,
        tasks: HashMap::new(),
        full_since: server.clock.now(),
        unanswered_pings: 0,
        waiting: Waiting::default(),
        server,
        app,
        device,
        socket,
    };
    session.waiting.take_over(left, session.server.clock.now());
    session.note_presence(true, former.then_some(Manner::TookOver)).await;
    let end = session.serve(subscription).await;
    let how = matches!(end, End::Close(code, why) if (code, why) == DEAD);
    // One that took over is there.
    if !matches!(end, End::Close(code, _) if code == CLOSE_REPLACED.0) {
        session.note_presence(false, how.then_some(Manner::TimedOut)).await;
    }
    let (hub, now) = (Arc::clone(&session.server.hub), session.server.clock.now());
    hub.leave(session.device.number, number, session.waiting.leave(), now);
    match end {
        End::Gone => {}
        End::Close(code, reason) => {
            if session.goodbye(code, reason).await {
                // A device that says nothing more has nothing to lose.
                let _ = tokio::time::timeout(GOODBYE, session.part()).await;
            }
        }
        End::Cut((code, reason)) => {
            if session.goodbye(code, reason).await {
                // With something unread the connection breaks; the device reads why before.
                tokio::time::sleep(GOODBYE).await;
            }
        }
    }
}

/// Whether the app is called back about its users' devices that come and go.
fn is_told_of_users(app: &AppEntry) -> bool {
    let tencent = app.config.tencent.as_ref();
    tencent.is_some_and(|own| own.calls(TencentCallback::StateChange))
}

/// Whether a device still has a connection, as far as is known; asked only where the app is told.
async fn takes_over(server: &Server, app: &AppEntry, device: &Device) -> bool {
    if device.account.is_none() || !is_told_of_users(app) {
        return false;
    }
    let present = server.presence.present(&[device.number]).await;
    present.is_ok_and(|present| !present.is_empty())
}

/// Whether a connection failed because a frame is longer than is read at all.
fn is_too_long(error: &axum::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref());
    matches!(cause, Some(tungstenite::Error::Capacity(_)))
}

struct Session {
    server: Arc<Server>,
    app: Arc<AppEntry>,
    device: Device,
    socket: WebSocket,
    /// Position since which the device could have the last message sent.
    cursor: i64,
    /// What is kept has to be read up to this position.
    read_to: i64,
    /// Whether there may be kept messages to read.
    backlog: bool,
    /// Whether what is kept has its turn before what is now or never.
    kept_is_next: bool,
    in_flight: HashMap<(MessageId, Option<RecallOp>), usize>,
    in_flight_bytes: usize,
    /// Tasks that were sent on this connection, each with the device's chunk.
    tasks: HashMap<MessageId, i64>,
    /// When the window filled, or last moved while full, in µs.
    full_since: i64,
    unanswered_pings: u32,
    /// What was sent now or never and waits for its answer.
    waiting: Waiting,
}

type Reports = FuturesUnordered<std::pin::Pin<Box<dyn Future<Output = String> + Send>>>;

impl Session {
    async fn serve(&mut self, mut from_hub: Subscription) -> End {
        let (stop, clock) = (self.server.stop_token(), self.server.clock.clone());
        let mut ping = pin!(clock.sleep_until(clock.now() + PING_MICROS));
        let mut reports: Reports = FuturesUnordered::new();
        if let Err(end) = self.begin().await {
            return end;
        }
        loop {
            let open = self.window_open();
            let stalled = self.full_since + STALL_MICROS;
            let answer_by = self.waiting.next_at();
            let kept_waits = self.backlog || !from_hub.items.is_empty();
            let step = tokio::select! {
                biased;
                () = stop.cancelled() => Err(GOING_AWAY.into()),
                () = from_hub.closed.cancelled() => Err(from_hub.reason().into()),
                frame = self.socket.recv(), if reports.len() < MAX_REPORTS => {
                    self.received(frame, &mut reports).await
                }
                Some(receipt) = reports.next() => self.send(receipt).await,
                () = &mut ping => {
                    ping.set(clock.sleep_until(clock.now() + PING_MICROS));
                    self.ping().await
                }
                () = clock.sleep_until(stalled), if !open => Err(TOO_SLOW.into()),
                () = clock.sleep_until(answer_by.unwrap_or(i64::MAX)), if answer_by.is_some() => {
                    self.unanswered().await
                }
                Some(now) = from_hub.now_or_never.recv(),
                    if open && !(self.kept_is_next && kept_waits) => self.send_now(now).await,
                () = std::future::ready(()), if open && self.backlog => self.send_kept().await,
                Some(item) = from_hub.items.recv(), if open && !self.backlog => {
                    self.handed(item).await
                }
                () = from_hub.missed.told() => Ok(()),
            };
            if let Err(end) = step {
                return end;
            }
            if !self.backlog
                && from_hub.items.is_empty()
                && let Some(missed) = from_hub.missed.take()
            {
                self.backlog = true;
                self.read_to = missed;
                if let Err(end) = self.send_recalls().await {
                    return end;
                }
            }
        }
    }

    /// What comes before the first frame. The registration may have changed between the handshake
    /// and the subscription; of later changes the hub tells.
    async fn begin(&mut self) -> Result<(), End> {
        let mut registry = self.server.ledger.database().ledger_read.checkout().await?;
        let found = registry::by_numbers(&mut registry.conn(), &[self.device.number]).await?;
        drop(registry);
        let same = |device: &Device| device.registered() && device.account == self.device.account;
        if !found.iter().any(|(_, device)| same(device)) {
            return Err(CLOSE_CHANGED.into());
        }
        self.send_recalls().await
    }

    /// After our goodbye: takes the acknowledgements that were on their way, until the device's
    /// goodbye. Left unread, they would also cut the connection before the device has read why.
    async fn part(&mut self) {
        while let Some(Ok(message)) = self.socket.recv().await {
            let Message::Text(text) = message else { continue };
            if let Ok(Incoming::Ack { id, op }) = serde_json::from_str(&text)
                && let Ok(id) = id.parse()
                && self.acknowledged(id, op).await.is_err()
            {
                return;
            }
        }
    }

    /// Says goodbye; false if that could not be sent.
    async fn goodbye(&mut self, code: u16, reason: &'static str) -> bool {
        let frame = CloseFrame { code, reason: reason.into() };
        let close = self.socket.send(Message::Close(Some(frame)));
        matches!(tokio::time::timeout(SEND, close).await, Ok(Ok(())))
    }

    /// Makes it an event that the device came or went, if its app is called back about that.
    async fn note_presence(&mut self, online: bool, how: Option<Manner>) {
        let Some(app) = self.server.directory.known(self.app.id()) else { return };
        let antelope = app.config.antelope.as_ref();
        let wanted = antelope.is_some_and(|own| own.state_webhook.is_some());
        let cid = self.device.cid().filter(|_| wanted);
        let account = self.device.account.filter(|_| is_told_of_users(&app));
        if cid.is_none() && account.is_none() {
            return;
        }
        let (device, private) = (self.device.number, cid.map(|cid| Cid { cid }));
        let changed = PresenceChanged { device, online, account, how, private };
        let command = NotePresence { changed, new_note: Uuid::now_v7() };
        let (actor, via) = ("server".to_owned(), "socket".to_owned());
        let metadata = Metadata { actor, via, ..Metadata::default() };
        let context = Context { app: app.id().to_owned(), metadata };
        if let Err(refused) = self.server.ledger.execute(Lane::Bulk, context, command).await {
            tracing::warn!(%refused, "that a device came or went was not recorded");
        }
    }

    fn window_open(&self) -> bool {
        self.in_flight.len() < WINDOW_FRAMES && self.in_flight_bytes < WINDOW_BYTES
    }

    async fn send(&mut self, text: String) -> Result<(), End> {
        match tokio::time::timeout(SEND, self.socket.send(Message::Text(text.into()))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => Err(TOO_SLOW.into()),
        }
    }

    async fn ping(&mut self) -> Result<(), End> {
        if self.unanswered_pings >= 2 {
            return Err(DEAD.into());
        }
        self.unanswered_pings += 1;
        match tokio::time::timeout(SEND, self.socket.send(Message::Ping(Vec::new().into()))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(End::Gone),
        }
    }

    /// Sends the next page of what is kept, as far as the window allows.
    async fn send_kept(&mut self) -> Result<(), End> {
        self.kept_is_next = false;
        self.wait_for_views().await?;
        let mut views = self.server.ledger.database().views.checkout().await?;
        let device = self.device.number;
        let rows = pending::messages_of(&mut views.conn(), device, self.cursor, PAGE).await?;
        let (app, now) = (self.app.id(), self.server.clock.now());
        let tasks = task_chunks::kept_for(&mut views.conn(), app, device, self.cursor, now).await?;
        drop(views);
        let whole = i64::try_from(rows.len()).unwrap_or(i64::MAX) < PAGE;
        // Beyond a page that is not the last, a message may come before a task.
        let last = rows.last().filter(|_| !whole).map_or(i64::MAX, |row| row.since);
        let mut tasks = tasks.into_iter().filter(|kept| kept.since <= last).peekable();
        let positions: Vec<i64> = rows.iter().map(|row| row.position).collect();
        let events = self.server.ledger.read_at(&positions).await?.events;
        let events: HashMap<i64, &Recorded> = events.iter().map(|e| (e.position, e)).collect();
        for row in &rows {
            while let Some(kept) = tasks.next_if(|kept| kept.since < row.since) {
                if !self.window_open() {
                    return Ok(());
                }
                self.send_task(kept).await?;
            }
            if !self.window_open() {
                return Ok(());
            }
            let frame = events.get(&row.position).and_then(|event| MessageFrame::of(event));
            // What was addressed to another user is about to end; it is not for this one.
            let foreign = row.account.is_some() && row.account != self.device.account;
            match frame.filter(|_| !foreign) {
                Some(frame) => self.send_message(&frame, row.since).await?,
                None => self.cursor = row.since,
            }
        }
        for kept in tasks {
            if !self.window_open() {
                return Ok(());
            }
            self.send_task(kept).await?;
        }
        if whole {
            self.backlog = false;
        }
        Ok(())
    }

    /// Sends what is kept of a task.
    async fn send_task(&mut self, kept: KeptRow) -> Result<(), End> {
        match TaskFrame::of(&self.server.ledger, kept.task).await? {
            Some(frame) => {
                self.send_message(&frame.for_chunk(kept.chunk, kept.since), kept.since).await
            }
            None => {
                self.cursor = kept.since;
                Ok(())
            }
        }
    }

    /// Sends the recalls that the device has not answered.
    async fn send_recalls(&mut self) -> Result<(), End> {
        self.wait_for_views().await?;
        let mut views = self.server.ledger.database().views.checkout().await?;
        let rows = pending::recalls_of(&mut views.conn(), self.device.number).await?;
        drop(views);
        for row in rows {
            if let Some(op) = row.op {
                self.send_control(row.message, op).await?;
            }
        }
        Ok(())
    }

    /// The views have to know what is to be read.
    async fn wait_for_views(&mut self) -> Result<(), End> {
        let reached = self.server.views.reached(self.read_to, VIEWS).await;
        reached.map_err(|_| End::from(BUSY))
    }

    async fn handed(&mut self, item: Item) -> Result<(), End> {
        self.kept_is_next = false;
        match item {
            Item::Message(frame) => self.send_message(&frame, frame.position).await,
            Item::Control(id, op) => self.send_control(id, op).await,
            Item::Unanswered(left) => {
                self.waiting.take_over(left, self.server.clock.now());
                Ok(())
            }
        }
    }

    /// Sends what is now or never, unless it waited for as long as a device may take to answer: then it
    /// may be recorded that the device was not there.
    async fn send_now(&mut self, now: NowOrNever) -> Result<(), End> {
        self.kept_is_next = true;
        let wait = i64::from(self.app.config.delivery.ack_wait_ms) * 1_000;
        if self.server.clock.now() - now.handed_at >= wait {
            return Ok(());
        }
        self.send_message(&now.frame, now.frame.position).await
    }

    /// Sends a message that the device could have since a position, unless it had its turn.
    async fn send_message(&mut self, frame: &Arc<MessageFrame>, since: i64) -> Result<(), End> {
        // What is now or never comes once, maybe ahead of what is kept and was missed.
        if !frame.now_or_never {
            if since <= self.cursor {
                return Ok(());
            }
            self.cursor = since;
        }
        // A chunk comes by once more when others in it had no other way.
        if let Some(chunk) = frame.chunk
            && self.tasks.insert(frame.id, chunk).is_some()
        {
            return Ok(());
        }
        if frame.expires_at <= self.server.clock.now() {
            return Ok(());
        }
        self.fly((frame.id, None), frame.text.len());
        self.waiting.sent(frame, self.server.clock.now());
        self.send(frame.text.clone()).await?;
        self.record(frame.id, Progress::Sent, Reporter::Server).await
    }

    /// Sends again, or gives up, what was sent now or never and not answered in time.
    async fn unanswered(&mut self) -> Result<(), End> {
        while let Some(turn) = self.waiting.due(self.server.clock.now()) {
            match turn {
                Turn::SendAgain(frame) => {
                    self.fly((frame.id, None), frame.text.len());
                    self.send(frame.text.clone()).await?;
                }
                Turn::GiveUp(id) => {
                    self.land((id, None));
                    let what = Progress::Ended(Ending::Unacknowledged);
                    self.record(id, what, Reporter::Server).await?;
                }
            }
        }
        Ok(())
    }

    async fn send_control(&mut self, id: MessageId, op: RecallOp) -> Result<(), End> {
        self.waiting.forget(id);
        let text = Outgoing::Control { op, id: id.to_string() }.text();
        self.fly((id, Some(op)), text.len());
        self.send(text).await
    }

    fn fly(&mut self, key: (MessageId, Option<RecallOp>), bytes: usize) {
        if self.in_flight.insert(key, bytes).is_none() {
            self.in_flight_bytes += bytes;
        }
        if !self.window_open() {
            self.full_since = self.server.clock.now();
        }
    }

    fn land(&mut self, key: (MessageId, Option<RecallOp>)) {
        if let Some(bytes) = self.in_flight.remove(&key) {
            self.in_flight_bytes -= bytes;
            self.full_since = self.server.clock.now();
        }
    }

    async fn received(
        &mut self,
        frame: Option<Result<Message, axum::Error>>,
        reports: &mut Reports,
    ) -> Result<(), End> {
        match frame {
            Some(Ok(Message::Text(text))) if text.len() > MAX_FRAME_BYTES => Err(TOO_BIG.into()),
            Some(Ok(Message::Text(text))) => self.understood(&text, reports).await,
            Some(Ok(Message::Binary(bytes))) if bytes.len() > MAX_FRAME_BYTES => {
                Err(TOO_BIG.into())
            }
            Some(Ok(Message::Binary(_))) => self.refuse(None, "frames are JSON texts").await,
            Some(Ok(Message::Ping(_))) => Ok(()),
            Some(Ok(Message::Pong(_))) => {
                self.unanswered_pings = 0;
                Ok(())
            }
            Some(Ok(Message::Close(_))) => {
                // One more look lets the answer to its goodbye leave.
                let _ = tokio::time::timeout(SEND, self.socket.recv()).await;
                Err(End::Gone)
            }
            Some(Err(error)) if is_too_long(&error) => Err(End::Cut(TOO_BIG)),
            Some(Err(_)) | None => Err(End::Gone),
        }
    }

    async fn understood(&mut self, text: &str, reports: &mut Reports) -> Result<(), End> {
        match serde_json::from_str::<Incoming>(text) {
            Ok(Incoming::Ack { id, op }) => {
                let Ok(id) = id.parse::<MessageId>() else {
                    return self.refuse(Some(id), "no such message").await;
                };
                self.acknowledged(id, op).await
            }
            Ok(Incoming::Report { id, status }) => {
                let what = match status {
                    2 => Progress::Received,
                    3 => Progress::Displayed,
                    4 => Progress::Acknowledged,
                    _ => return self.refuse(Some(id), "status must be 2, 3 or 4").await,
                };
                let Ok(message) = id.parse::<MessageId>() else {
                    return self.refuse(Some(id), "no such message").await;
                };
                self.land((message, None));
                self.waiting.forget(message);
                // A control of what was displayed is answered by saying so.
                if what != Progress::Received {
                    self.land((message, Some(RecallOp::Recall)));
                    self.land((message, Some(RecallOp::Replace)));
                }
                let receipt = self.report(message, what, status).await?;
                reports.push(Box::pin(receipt));
                Ok(())
            }
            Ok(Incoming::Uplink) => {
                let Ok(uplink) = serde_json::from_str::<Uplink>(text) else {
                    return self.refuse(None, "frame not understood").await;
                };
                let (server, app) = (Arc::clone(&self.server), self.app.id().to_owned());
                reports.push(Box::pin(uplink.accept(server, app, self.device.clone())));
                Ok(())
            }
            Err(_) => self.refuse(None, "frame not understood").await,
        }
    }

    async fn acknowledged(&mut self, id: MessageId, op: Option<RecallOp>) -> Result<(), End> {
        self.land((id, op));
        self.waiting.forget(id);
        let what = match op {
            None => Progress::Received,
            Some(_) => Progress::Recalled(RecallResult::ReplacedUnseen),
        };
        self.record(id, what, Reporter::Socket).await
    }

    async fn refuse(&mut self, id: Option<String>, reason: &str) -> Result<(), End> {
        self.send(Outgoing::Refused { id, reason }.text()).await
    }

    /// Notes a step; it is durable soon.
    async fn record(
        &mut self,
        message: MessageId,
        what: Progress,
        by: Reporter,
    ) -> Result<(), End> {
        let step = Step { by, ..Step::of_server(self.device.number, what) };
        let app = self.app.id().to_owned();
        let chunk = self.tasks.get(&message).copied();
        let outcome = Outcome { app, message, chunk, step, answer: None };
        let noted = self.server.recorder.send(outcome).await;
        noted.map_err(|_| GOING_AWAY.into())
    }

    /// Makes a report durable, after what this connection recorded before; gives the frame that
    /// says so.
    async fn report(
        &mut self,
        message: MessageId,
        what: Progress,
        status: u8,
    ) -> Result<impl Future<Output = String> + Send + use<>, End> {
        let (device, by) = (self.device.number, Reporter::Socket);
        let step = Step { by, ..Step::of_server(device, what) };
        let (answer, recorded) = oneshot::channel();
        let app = self.app.id().to_owned();
        let chunk = self.tasks.get(&message).copied();
        let outcome = Outcome { app, message, chunk, step, answer: Some(answer) };
        self.server.recorder.send(outcome).await.map_err(|_| End::from(GOING_AWAY))?;
        let (id, ledger) = (message.to_string(), self.server.ledger.clone());
        Ok(async move {
            let own = match recorded.await {
                // What a device says of another's message is dropped without a word.
                Ok(Ok(())) => match ledger.remembered(Key::Message(message)).await {
                    Ok(Fact::Message(Some(found))) => Some(found.deliveries.contains_key(&device)),
                    // Recorded, and no message: a task, in which it is.
                    Ok(_) => Some(true),
                    Err(_) => None,
                },
                Ok(Err(Refused::Rejected(_))) => Some(false),
                Ok(Err(_)) | Err(_) => None,
            };
            match own {
                Some(true) => Outgoing::Receipt { id, status }.text(),
                Some(false) => Outgoing::Refused { id: Some(id), reason: "no such message" }.text(),
                None => Outgoing::Refused { id: Some(id), reason: "try again later" }.text(),
            }
        })
    }
}
