//! The command line. One file a command; each opens what it needs and nothing more.

mod serve;

use std::{io::IsTerminal, process::ExitCode};

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::config::Options;

/// An event-sourced push-messaging server: five wire protocols, one ledger.
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
    }
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
