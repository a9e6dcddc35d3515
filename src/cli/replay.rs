//! `pushledger replay`: events as JSON lines, of one stream or of a range of positions.

use domain::Recorded;
use serde_json::{Value, json};

use super::{Failure, Offline, print_json};
use crate::{config::Config, ledger::Page};

/// Events read at once.
const PAGE_EVENTS: i64 = 1_000;

/// Print events as JSON lines.
#[derive(clap::Args)]
pub(crate) struct Replay {
    /// Only this stream, such as `message/1700000000000000000`.
    #[arg(long, conflicts_with_all = ["from", "to"])]
    stream: Option<String>,
    /// First position.
    #[arg(long, default_value_t = 1)]
    from: i64,
    /// Last position [default: the head]
    #[arg(long)]
    to: Option<i64>,
    /// Leave out names, tokens and payloads.
    #[arg(long)]
    without_private: bool,
}

impl Replay {
    pub(crate) async fn run(self, config: Config) -> Result<(), Failure> {
        let offline = Offline::open(&config).await?;
        let done = self.print(&offline).await;
        offline.close().await;
        done
    }

    async fn print(self, offline: &Offline) -> Result<(), Failure> {
        let ledger = &offline.ledger;
        let mut after = if self.stream.is_some() { 0 } else { self.from - 1 };
        loop {
            let page = match &self.stream {
                Some(stream) => ledger.read_stream(stream, after, PAGE_EVENTS).await?,
                None => ledger.read(after, PAGE_EVENTS).await?,
            };
            let Some(last) = page.last else { return Ok(()) };
            let full = page.events.len() + page.unreadable.len() == PAGE_EVENTS as usize;
            let last = match &self.stream {
                Some(_) => page.events.last().map_or(i64::MAX, |event| event.version),
                None => last,
            };
            if self.print_page(page)? || !full {
                return Ok(());
            }
            after = last;
        }
    }

    /// Prints a page; true once the last position was printed.
    fn print_page(&self, page: Page) -> Result<bool, Failure> {
        if let Some((position, error)) = page.unreadable.first() {
            return Err(format!("the event at {position} cannot be read: {error}").into());
        }
        let last = self.to.unwrap_or(i64::MAX);
        for event in page.events {
            if event.position > last {
                return Ok(true);
            }
            print_json(&line(&event, !self.without_private)?)?;
        }
        Ok(false)
    }
}

fn line(recorded: &Recorded, with_private: bool) -> serde_json::Result<Value> {
    let (body, private) = recorded.event.encode()?;
    let mut line = json!({
        "position": recorded.position,
        "app": recorded.app,
        "stream": recorded.stream.to_string(),
        "version": recorded.version,
        "type": recorded.event.name(),
        "schema": recorded.event.schema(),
        "recordedAt": recorded.recorded_at,
        "eventId": recorded.event_id,
        "metadata": recorded.metadata,
        "body": serde_json::from_str::<Value>(&body)?,
    });
    if let Some(private) = private.filter(|_| with_private) {
        line["private"] = serde_json::from_str(&private)?;
    }
    Ok(line)
}
