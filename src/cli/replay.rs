//! `pushledger replay`: events as JSON lines, of one stream or of a range of positions or times, of
//! some apps or types; or, with `--as-of`, a view as it was.

use std::{str::FromStr, time::Duration};

use domain::Recorded;
use serde_json::{Value, json};

use super::{
    Failure, Offline,
    access::log_read,
    as_of::{self, View},
    print_json,
};
use crate::{config::Config, ledger::Page};

/// Events read at once.
const PAGE_EVENTS: i64 = 1_000;
/// Time between two looks for more, when following.
const LOOK: Duration = Duration::from_millis(200);

/// Print events as JSON lines, or a view as it was.
#[derive(clap::Args)]
pub(crate) struct Replay {
    /// Only this stream, such as `message/1700000000000000000`.
    #[arg(long, conflicts_with_all = ["from", "to", "since", "until", "follow"])]
    stream: Option<String>,
    /// First position.
    #[arg(long, default_value_t = 1)]
    from: i64,
    /// Last position [default: the head]
    #[arg(long)]
    to: Option<i64>,
    /// Only events recorded then or later, such as `2026-01-31T12:00:00Z`.
    #[arg(long, value_parser = time)]
    since: Option<i64>,
    /// Only events recorded then or before.
    #[arg(long, value_parser = time)]
    until: Option<i64>,
    /// Only events of this app; repeat it for more.
    #[arg(long = "app")]
    apps: Vec<String>,
    /// Only events of this name, `device.*` for a family; repeat it for more.
    #[arg(long = "type")]
    types: Vec<String>,
    /// Wait for more at the end, until it is interrupted.
    #[arg(long, conflicts_with_all = ["to", "until"])]
    follow: bool,
    /// Leave out names, tokens and payloads.
    #[arg(long, conflicts_with = "as_of")]
    without_private: bool,
    /// Instead of events print a view as it was at a position or time.
    #[arg(long, value_name = "POSITION|TIME", requires = "view",
        conflicts_with_all = ["stream", "from", "to", "since", "until", "apps", "types", "follow"])]
    as_of: Option<Moment>,
    /// Which view.
    #[arg(long, value_enum, requires = "as_of")]
    view: Option<View>,
}

/// A place in the history.
#[derive(Debug, Clone, Copy)]
pub(super) enum Moment {
    /// After the event at a position.
    Position(i64),
    /// At a time in µs since the epoch.
    Time(i64),
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Moment, String> {
        match text.parse() {
            Ok(position) if position >= 0 => Ok(Moment::Position(position)),
            Ok(_) | Err(_) => time(text).map(Moment::Time),
        }
    }
}

/// A time as RFC 3339 words it, in µs since the epoch.
pub(super) fn time(text: &str) -> Result<i64, String> {
    let time = chrono::DateTime::parse_from_rfc3339(text);
    time.map(|time| time.timestamp_micros()).map_err(|error| error.to_string())
}

impl Replay {
    pub(crate) async fn run(self, config: Config) -> Result<(), Failure> {
        let offline = Offline::open(&config).await?;
        let done = self.logged(&offline).await;
        offline.close().await;
        done
    }

    /// What was asked for, once it is logged where it tells what belongs to people.
    async fn logged(self, offline: &Offline) -> Result<(), Failure> {
        let fields: &[&str] = match self.view {
            Some(View::Devices) => &["devices"],
            // The others know devices by number.
            Some(_) => &[],
            None if self.without_private => &[],
            None => &["private"],
        };
        if !fields.is_empty() {
            let app = self.apps.first().filter(|_| self.apps.len() == 1).map(String::as_str);
            log_read(offline.ledger.database(), "replay", app, fields).await?;
        }
        match (self.as_of, self.view) {
            (Some(moment), Some(view)) => match as_of::position(&offline.ledger, moment).await {
                Ok(position) => as_of::print(&offline.ledger, view, position).await,
                Err(failure) => Err(failure),
            },
            _ => self.print(offline).await,
        }
    }

    async fn print(self, offline: &Offline) -> Result<(), Failure> {
        let ledger = &offline.ledger;
        let mut after = match (&self.stream, self.since) {
            (Some(_), _) => 0,
            (None, None) => self.from - 1,
            // The last position before that time.
            (None, Some(since)) => {
                let before = as_of::position(ledger, Moment::Time(since - 1)).await?;
                before.max(self.from - 1)
            }
        };
        loop {
            let page = match &self.stream {
                Some(stream) => ledger.read_stream(stream, after, PAGE_EVENTS).await?,
                None => ledger.read(after, PAGE_EVENTS).await?,
            };
            let full = page.events.len() + page.unreadable.len() == PAGE_EVENTS as usize;
            let last = match (&self.stream, page.last) {
                (Some(_), _) => page.events.last().map_or(i64::MAX, |event| event.version),
                (None, last) => last.unwrap_or(after),
            };
            if self.print_page(page)? {
                return Ok(());
            }
            if !full {
                if !self.follow {
                    return Ok(());
                }
                tokio::select! {
                    interrupted = tokio::signal::ctrl_c() => return Ok(interrupted?),
                    () = tokio::time::sleep(LOOK) => {}
                }
            }
            after = last;
        }
    }

    /// Prints a page; true once the last event was printed.
    fn print_page(&self, page: Page) -> Result<bool, Failure> {
        if let Some((position, error)) = page.unreadable.first() {
            return Err(format!("the event at {position} cannot be read: {error}").into());
        }
        let last = self.to.unwrap_or(i64::MAX);
        let until = self.until.unwrap_or(i64::MAX);
        for event in page.events {
            if event.position > last || event.recorded_at > until {
                return Ok(true);
            }
            if self.wants(&event) {
                print_json(&line(&event, !self.without_private)?)?;
            }
        }
        Ok(false)
    }

    fn wants(&self, event: &Recorded) -> bool {
        let name = event.event.name();
        let fits = |wanted: &String| match wanted.strip_suffix('*') {
            Some(family) => name.starts_with(family),
            None => name == wanted,
        };
        (self.apps.is_empty() || self.apps.contains(&event.app))
            && (self.types.is_empty() || self.types.iter().any(fits))
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
