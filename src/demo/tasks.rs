//! Pushes to many, shown as they go: one line that is drawn again while a task runs, and a funnel
//! of what it came to. All numbers are the view's (`task_statistics`).

use std::{collections::HashMap, sync::Arc, time::Duration};

use domain::{Event, Recorded, Stream, message::MessageId, task::Audience};
use projections::{
    Fault,
    registry::audience::{named_targets, targets_after},
    task_statistics::TaskStatistics,
};
use tokio_util::sync::CancellationToken;

use super::{
    APP,
    crowd::Crowd,
    screen::{bold, draw, draws, say, styled},
};
use crate::{app::Server, delivery::tasks, feed::follow::Follower};

/// Time between two drawings.
const FRAME: Duration = Duration::from_millis(100);
/// Longest wait for the views.
const VIEWS: Duration = Duration::from_secs(10);
/// Characters of a bar.
const WIDTH: i64 = 32;
/// Where there is nothing to draw on, a line is told for each such part of the targets, in percent.
const STEP: i64 = 25;

/// A call that is printed with what a task came to: its address and its token.
pub(super) struct Call {
    /// The app's own address.
    pub(super) base: String,
    /// A token of its server.
    pub(super) token: String,
}

/// Shows what becomes of tasks after a position, until told to stop.
pub(super) async fn show(
    server: Arc<Server>,
    crowd: Arc<Crowd>,
    call: Call,
    after: i64,
    stop: CancellationToken,
) {
    let mut follower = Follower::new(&server.ledger, after);
    let mut frames = tokio::time::interval(FRAME);
    frames.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut board = Board { server, crowd, call, created: HashMap::new(), running: Vec::new() };
    loop {
        let batch = tokio::select! {
            () = stop.cancelled() => return,
            batch = follower.next() => batch,
            _ = frames.tick(), if !board.running.is_empty() => {
                board.frame().await;
                continue;
            }
        };
        let Ok(batch) = batch else { continue };
        for recorded in batch.events() {
            board.concern(recorded).await;
        }
    }
}

struct Board {
    server: Arc<Server>,
    crowd: Arc<Crowd>,
    call: Call,
    created: HashMap<MessageId, Audience>,
    /// Those under way, oldest first.
    running: Vec<Shown>,
}

/// A task that is shown.
struct Shown {
    id: MessageId,
    /// Devices of its audience.
    size: i64,
    /// When it started and, once it did, ended, in µs.
    started_at: i64,
    ended_at: Option<i64>,
    /// How much of it was told, in percent.
    told: i64,
}

impl Board {
    async fn concern(&mut self, recorded: &Recorded) {
        match (&recorded.stream, &recorded.event) {
            (Stream::Task(id), Event::TaskCreated(e)) if recorded.app == APP => {
                self.created.insert(*id, e.audience.clone());
            }
            (Stream::Task(id), Event::TaskStarted(_)) => {
                let Some(audience) = self.created.remove(id) else { return };
                let Ok(size) = size(&self.server, &audience, recorded.position).await else {
                    return;
                };
                let whom = match &audience {
                    Audience::Everyone => "everyone".to_owned(),
                    Audience::Label { name, .. } => format!("label {name}"),
                    Audience::Users(users) => format!("a list of {} users", users.len()),
                };
                say(&bold(&format!("\n  Task {id} to {whom}, {} devices", grouped(size))));
                if matches!(audience, Audience::Everyone) {
                    self.crowd.refuse_one();
                }
                let started_at = recorded.recorded_at;
                let shown = Shown { id: *id, size, started_at, ended_at: None, told: 0 };
                self.running.push(shown);
            }
            (Stream::Chunk(id, _), Event::ChunkDelivered(e)) => {
                self.crowd.notified(*id, e, recorded.position);
            }
            (Stream::Task(id), Event::TaskEnded(_)) => {
                if let Some(shown) = self.running.iter_mut().find(|shown| shown.id == *id) {
                    shown.ended_at = Some(recorded.recorded_at);
                }
            }
            _ => {}
        }
    }

    /// Draws how the oldest task is doing, or tells what it came to.
    async fn frame(&mut self) {
        let Some(shown) = self.running.first_mut() else { return };
        let over = shown.ended_at.is_some() && self.crowd.busy() == 0;
        if over {
            // All that phones said is in the ledger.
            let _ = self.server.views.reached(self.server.ledger.head(), VIEWS).await;
        }
        let Ok(Some(now)) = tasks::statistics(&self.server, APP, shown.id).await else { return };
        if over {
            let shown = self.running.remove(0);
            self.tell(&shown, &now);
            return;
        }
        let percent = now.targets() * 100 / shown.size.max(1);
        let (targets, size) = (grouped(now.targets()), grouped(shown.size));
        if draws() {
            let rate = match shown.ended_at {
                Some(_) => format!("received {}", grouped(now.reached("received"))),
                None => {
                    let micros = self.server.clock.now() - shown.started_at;
                    format!("{}/s", grouped(now.targets() * 1_000_000 / micros.max(1)))
                }
            };
            let bar = bar(now.targets(), shown.size);
            let left = "░".repeat(usize::try_from(WIDTH).unwrap_or(0) - bar.chars().count());
            let bar = styled("32", &bar);
            draw(&format!("    {bar}{left} {percent:>3} %  {targets} of {size}  {rate}"));
        } else if percent / STEP > shown.told / STEP {
            shown.told = percent;
            say(&format!("    {percent:>3} %  {targets} of {size}"));
        }
    }

    /// What a task came to. Targets are the sum of what was sent, failed and waits.
    fn tell(&self, shown: &Shown, now: &TaskStatistics) {
        let targets = now.targets();
        let micros = shown.ended_at.unwrap_or(shown.started_at) - shown.started_at;
        let line = |what: &str, count: i64, more: &str| {
            let (count, bar) =
                (format!("{:>7}", grouped(count)), styled("32", &bar(count, targets)));
            let more = if more.is_empty() { bar } else { styled("2", more) };
            say(format!("    {what:<13}{count}  {more}").trim_end());
        };
        line("targets", targets, "");
        for what in projections::task_statistics::HANDED_OVER {
            line(what, now.reached(what), "");
        }
        let (mut waiting, mut failed, mut reasons) = (0, 0, Vec::new());
        let unsent = now.cells.iter().filter(|cell| !cell.got_to("sent"));
        for cell in unsent {
            if cell.ended.is_empty() {
                waiting += cell.deliveries;
            } else {
                failed += cell.deliveries;
                reasons.push(format!("{} {}", cell.ended, grouped(cell.deliveries)));
            }
        }
        line("failed", failed, &reasons.join(", "));
        if waiting > 0 {
            line("waiting", waiting, "for the device to come");
        }
        line("unobservable", now.unobservable(), "JPush took them, and no device has said a word");
        let rate = grouped(targets * 1_000_000 / micros.max(1));
        let seconds = format!("{}.{} s", micros / 1_000_000, micros / 100_000 % 10);
        say(&styled("2", &format!("    handed over in {seconds}, {rate}/s. The same over HTTP:")));
        let Call { base, token } = &self.call;
        let url = format!("{base}/push/task/{}/statistics", shown.id);
        say(&format!("\ncurl -sS '{url}' \\\n  -H 'Authorization: Bearer {token}'"));
    }
}

/// Devices of an audience as of its cut.
async fn size(server: &Server, audience: &Audience, as_of: i64) -> Result<i64, Fault> {
    let mut checkout = server.ledger.database().ledger_read.checkout().await?;
    let mut conn = checkout.conn();
    let devices = match named_targets(&mut conn, audience, as_of).await? {
        Some((devices, _)) => devices.len(),
        None => targets_after(&mut conn, APP, as_of, 0, i64::MAX).await?.len(),
    };
    Ok(i64::try_from(devices).unwrap_or(i64::MAX))
}

/// A bar as long as its part of the whole; what is more than nothing is seen.
fn bar(part: i64, whole: i64) -> String {
    let length = (part * WIDTH + whole - 1) / whole.max(1);
    "█".repeat(usize::try_from(length.clamp(0, WIDTH)).unwrap_or(0))
}

/// A number with its thousands apart.
pub(super) fn grouped(number: i64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
