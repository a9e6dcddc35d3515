//! The fake push vendors as a program of their own, for load runs and for clients in other
//! languages: `cargo run -p sim --bin fake-vendors`. It prints where they are and the credentials
//! they take as one line of JSON, and serves until it is told to stop.

use std::{
    io::{self, Write},
    net::SocketAddr,
    sync::Arc,
};

use clap::{Parser, ValueEnum};
use serde_json::json;
use sim::fakes::{Fakes, Fault, Mode, Options, TokenFault, TokenRule};
use tokio::{net::TcpListener, runtime::Builder, signal};

/// Fake push vendors: JPush, FCM, APNs (HTTP/2 without TLS, or with it if built so) and Huawei.
#[derive(Parser)]
struct Arguments {
    /// Where to be controlled; the vendors listen on the four ports that follow (0: free ones).
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDR")]
    listen: SocketAddr,
    /// How closely requests are looked at.
    #[arg(long, value_enum, default_value = "strict")]
    mode: Looks,
    /// How long every answer takes.
    #[arg(long, default_value_t = 0, value_name = "MS")]
    latency_ms: u64,
    /// Dead tokens in a thousand, chosen by their hash.
    #[arg(long, default_value_t = 0, value_name = "N")]
    dead_per_mille: u16,
    /// A fault that pushes have all the time: `{"fault":"reset"}` and its share in a thousand, as
    /// `5:{"fault":"reset"}`. May be repeated.
    #[arg(long, value_name = "N:JSON", value_parser = share)]
    fault: Vec<(u16, Fault)>,
    /// Requests that are kept (default: 10,000 if strict, none for load).
    #[arg(long, value_name = "N")]
    keep: Option<usize>,
    /// Threads that serve.
    #[arg(long, default_value_t = 1, value_name = "N")]
    threads: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum Looks {
    Strict,
    Load,
}

fn share(text: &str) -> Result<(u16, Fault), String> {
    let (share, fault) = text.split_once(':').ok_or("no share")?;
    let share = share.parse().map_err(|error| format!("share: {error}"))?;
    Ok((share, serde_json::from_str(fault).map_err(|error| format!("fault: {error}"))?))
}

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let runtime = Builder::new_multi_thread()
        .worker_threads(arguments.threads.max(1))
        .enable_all()
        .build()?;
    runtime.block_on(run(arguments))
}

async fn run(arguments: Arguments) -> io::Result<()> {
    let mut options = match arguments.mode {
        Looks::Strict => Options::default(),
        Looks::Load => Options { mode: Mode::Load, ..Options::load() },
    };
    options.listen = arguments.listen;
    options.latency_ms = arguments.latency_ms;
    options.requests_kept = arguments.keep.unwrap_or(options.requests_kept);
    options.token_rules.push(TokenRule::share(arguments.dead_per_mille, TokenFault::Dead));
    let control = TcpListener::bind(arguments.listen).await?;
    let address = control.local_addr()?;
    let fakes = Arc::new(Fakes::start(options).await?);
    for (per_mille, fault) in arguments.fault {
        fakes.jpush.plan_share(fault.clone(), per_mille);
        fakes.fcm.plan_share(fault.clone(), per_mille);
        fakes.apns.plan_share(fault.clone(), per_mille);
        fakes.huawei.plan_share(fault, per_mille);
    }
    let mut description = fakes.description();
    description["control"] = json!(format!("http://{address}"));
    let mut out = io::stdout().lock();
    writeln!(out, "{description}")?;
    out.flush()?;
    drop(out);
    let mut terminated = signal::unix::signal(signal::unix::SignalKind::terminate())?;
    tokio::select! {
        served = fakes.serve_control(control) => served,
        stopped = signal::ctrl_c() => stopped,
        _ = terminated.recv() => Ok(()),
    }
}
