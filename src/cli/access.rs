//! `pushledger access`: the access log, straight from the database; and the log of what the command
//! line itself reads there, by the name of the user of the operating system.

use std::os::unix::fs::MetadataExt;

use super::{Failure, print_json, replay::time};
use crate::{
    access::{
        self, Outcome,
        store::{self, Asked},
    },
    clock::Clock,
    config::Config,
    ledger::Database,
};

/// Rows read at once.
const PAGE_ROWS: i64 = 1_000;

/// Print who read what belongs to people, and which calls were refused, the newest first.
#[derive(clap::Args)]
pub(crate) struct Access {
    /// Only of this app.
    #[arg(long)]
    app: Option<String>,
    /// Only of this caller, such as `operator:3`, `app:demo` or `os:root`.
    #[arg(long)]
    caller: Option<String>,
    /// Only `answered` or `refused`.
    #[arg(long, value_parser = outcome)]
    outcome: Option<Outcome>,
    /// Only of that time or later, such as `2026-01-31T12:00:00Z`.
    #[arg(long, value_parser = time)]
    from: Option<i64>,
    /// Only of before that time.
    #[arg(long, value_parser = time)]
    to: Option<i64>,
    /// At most so many rows.
    #[arg(long, default_value_t = 1_000)]
    limit: u32,
}

fn outcome(text: &str) -> Result<Outcome, String> {
    let all = [Outcome::Answered, Outcome::Refused];
    let found = all.into_iter().find(|outcome| outcome.name() == text);
    found.ok_or_else(|| "answered or refused".to_owned())
}

impl Access {
    pub(crate) async fn run(self, config: Config) -> Result<(), Failure> {
        let database = Database::open(&config.database).await?;
        let done = self.print(&database).await;
        database.close().await;
        done
    }

    async fn print(self, database: &Database) -> Result<(), Failure> {
        log_read(database, "access", self.app.as_deref(), &[]).await?;
        let mut left = i64::from(self.limit);
        let mut asked = Asked {
            app: self.app,
            caller: self.caller,
            outcome: self.outcome,
            from: self.from,
            to: self.to,
            before: None,
            limit: left.min(PAGE_ROWS),
        };
        loop {
            let rows = store::page(&database.access, &asked).await?;
            rows.iter().try_for_each(print_json)?;
            left -= asked.limit;
            let Some(last) = rows.last().filter(|_| left > 0) else { return Ok(()) };
            (asked.before, asked.limit) = (Some(last.number), left.min(PAGE_ROWS));
        }
    }
}

/// Logs that a command is about to read what belongs to people. It must not, where this fails.
pub(super) async fn log_read(
    database: &Database,
    command: &str,
    app: Option<&str>,
    fields: &[&str],
) -> Result<(), Failure> {
    let access = access::Access::answered(os_user(), "cli", command.to_owned());
    let access = access.of(app.map(str::to_owned));
    let mut access = access.reading(fields.iter().map(|field| (*field).to_owned()));
    access.at = Clock::System.now();
    access.last_at = access.at;
    let written = store::write(&database.access, &[access]).await;
    written.map_err(|fault| format!("{}: {fault}", access::Unlogged).into())
}

/// Who runs this process, as the system knows it: the name, or the number where that has none.
fn os_user() -> String {
    let Ok(id) = std::fs::metadata("/proc/self").map(|own| own.uid().to_string()) else {
        return "os:unknown".to_owned();
    };
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut columns = line.split(':');
        let (name, _, own) = (columns.next()?, columns.next()?, columns.next()?);
        (own == id).then(|| name.to_owned())
    });
    format!("os:{}", name.unwrap_or(id))
}
