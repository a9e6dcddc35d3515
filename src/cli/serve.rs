//! `pushledger serve`: runs until it is told to stop, then drains.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Failure, say};
use crate::{app::Running, clock::Clock, config::Config, demo};

/// Run the server.
#[derive(clap::Args)]
pub(crate) struct Serve {
    /// Create a demo app with simulated devices, and show each push as it happens.
    #[arg(long)]
    demo: bool,
}

impl Serve {
    /// The demo tells its own story; logs would only disturb it.
    pub(crate) fn quiet(&self) -> bool {
        self.demo
    }

    pub(crate) async fn run(self, mut config: Config) -> Result<(), Failure> {
        if self.demo {
            config.callback_allow.extend(demo::LOOPBACK);
            config.chunk_devices = demo::CHUNK_DEVICES;
        }
        let running = Running::start(&config, Clock::System).await?;
        tracing::info!(address = %running.address, "listening");
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        if self.demo {
            demo::start(&running, &tasks, &stop).await?;
        } else if let Some(token) = &running.new_admin_token {
            say(&format!("admin token, shown once: {token}"));
        }
        stopped().await?;
        tracing::info!("draining");
        stop.cancel();
        tasks.close();
        tasks.wait().await;
        running.shutdown().await;
        Ok(())
    }
}

/// Returns on SIGINT or SIGTERM.
async fn stopped() -> std::io::Result<()> {
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
