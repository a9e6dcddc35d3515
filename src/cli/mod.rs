//! The command line. One file a command; each opens what it needs and nothing more.

mod access;
mod app;
mod archive;
mod as_of;
mod audit;
mod rebuild;
mod replay;
mod serve;
mod sign;
mod token;
mod verify;
mod views;

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
    sync::Arc,
};

use clap::{Parser, Subcommand};
use domain::{Decide, Metadata};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing_subscriber::EnvFilter;

use crate::{
    clock::Clock,
    config::{Config, Options},
    ledger::{Context, Database, Lane, Ledger},
    metrics::Metrics,
    secrets::MasterKey,
};

/// An event-sourced push-messaging server.
#[derive(Parser)]
#[command(name = "pushledger", version)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server.
    Serve(serve::Serve),
    /// Create, list and delete apps.
    App(app::App),
    /// Make bearer tokens.
    Token(token::Token),
    /// Print the headers of a UMS call.
    Sign(sign::Sign),
    /// Print events as JSON lines, or a view as it was.
    Replay(replay::Replay),
    /// Print who read what belongs to people, and which calls were refused.
    Access(access::Access),
    /// See and rotate the keys that sign checkpoints.
    Audit(audit::Command),
    /// Check the ledger, or an export of it, from the first event to the last.
    Verify(verify::Verify),
    /// Write the sealed part of the ledger into a folder.
    Export(archive::Export),
    /// Restore an empty store from an export; effects stay paused.
    Import(archive::Import),
    /// Remove events that lie in an export from the ledger; they can be attached again.
    Detach(archive::Detach),
    /// Put events back that were detached.
    Attach(archive::Attach),
    /// Have effects go on in a store that was restored.
    Resume(archive::Resume),
    /// Rebuild the views while they are read, and see what they could not fold.
    Views(views::Views),
    /// Throw the views away; the next start makes them again.
    Rebuild(rebuild::Rebuild),
}

/// Why a command failed, for people.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs the command that the arguments name.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    match runtime.block_on(run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(error.as_ref()),
    }
}

async fn run(cli: Cli) -> Result<(), Failure> {
    let config = cli.options.resolve()?;
    match cli.command {
        Command::Serve(serve) => {
            log(serve.quiet());
            serve.run(config).await
        }
        Command::App(app) => app.run(config).await,
        Command::Token(token) => token.run(config).await,
        Command::Sign(sign) => sign.run(),
        Command::Replay(replay) => replay.run(config).await,
        Command::Access(access) => access.run(config).await,
        Command::Audit(audit) => audit.run(config).await,
        Command::Verify(verify) => verify.run(config).await,
        Command::Export(export) => export.run(config).await,
        Command::Import(import) => import.run(config).await,
        Command::Detach(detach) => detach.run(config).await,
        Command::Attach(attach) => attach.run(config).await,
        Command::Resume(resume) => resume.run(config).await,
        Command::Views(views) => views.run(config).await,
        Command::Rebuild(rebuild) => rebuild.run(config).await,
    }
}

/// The ledger without a server, for commands that work on the database.
struct Offline {
    ledger: Ledger,
    master: MasterKey,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Offline {
    async fn open(config: &Config) -> Result<Offline, Failure> {
        let database = Database::open(&config.database).await?;
        let master = MasterKey::load(config.master_key.as_deref(), &config.data, &database).await?;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let metrics = Arc::new(Metrics::default());
        let ledger = Ledger::start(database, Clock::System, metrics, &tasks, &stop).await?;
        Ok(Offline { ledger, master, tasks, stop })
    }

    async fn execute(
        &self,
        app: &str,
        command: impl Decide + Send + Sync + 'static,
    ) -> Result<(), Failure> {
        let metadata =
            Metadata { actor: "operator".to_owned(), via: "cli".to_owned(), ..Metadata::default() };
        let context = Context { app: app.to_owned(), metadata };
        self.ledger.execute(Lane::Interactive, context, command).await?;
        Ok(())
    }

    async fn close(self) {
        self.ledger.close();
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.ledger.database().close().await;
    }
}

/// A line of JSON on standard output.
fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, value)?;
    writeln!(out)?;
    Ok(())
}

/// A line for people on standard output.
#[expect(clippy::print_stdout, reason = "what the operator asked for")]
pub(crate) fn say(text: &str) {
    println!("{text}");
}

/// Logs to standard error: text on a terminal, JSON elsewhere.
fn log(quiet: bool) {
    let level = if quiet { "warn" } else { "info" };
    let filter =
        EnvFilter::try_from_env("PUSHLEDGER_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        logs.init();
    } else {
        logs.json().flatten_event(true).init();
    }
}

#[expect(clippy::print_stderr, reason = "the last word of a command that failed")]
fn failed(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    eprintln!("pushledger: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  because: {error}");
        cause = error.source();
    }
    ExitCode::FAILURE
}
