//! The end of a token that a vendor calls dead: its binding goes, unless the device got it only
//! after the time at which the vendor says that it died. Messages and chunks end here alike.

use domain::{
    Metadata, Stream,
    device::{Binding, BuryToken, Device},
};
use projections::{Fault, registry};

use super::lane::Said;
use crate::{
    app::Server,
    ledger::{Context, Lane, Refused},
};

/// Events of a device read at once.
const EVENTS: i64 = 1_000;

/// Buries a device's token. `causation` is the position of the push that found it dead. What fails
/// is logged: the next push finds it dead again.
pub(super) async fn bury(
    server: &Server,
    (app, causation): (&str, Option<i64>),
    device: i64,
    binding: Binding,
    said: &Said,
) {
    match lives(server, device, &binding, said.since).await {
        Ok(false) => {}
        Ok(true) => return,
        Err(fault) => return tracing::error!(device, %fault, "a dead token stays bound"),
    }
    let command = BuryToken {
        device,
        notifier: binding.notifier,
        token: binding.token,
        code: said.word.clone().unwrap_or_default(),
    };
    let metadata = Metadata {
        actor: "server".to_owned(),
        via: super::NAME.to_owned(),
        causation,
        ..Metadata::default()
    };
    let context = Context { app: app.to_owned(), metadata };
    match server.ledger.execute(Lane::Bulk, context, command).await {
        Ok(_) | Err(Refused::Rejected(_)) => {}
        Err(refused) => tracing::error!(device, %refused, "a dead token stays bound"),
    }
}

/// Whether a device got a token after the time at which it died (µs), if the vendor says when.
pub(in crate::delivery) async fn lives(
    server: &Server,
    device: i64,
    binding: &Binding,
    died: Option<i64>,
) -> Result<bool, Fault> {
    let Some(died) = died else { return Ok(false) };
    let mut checkout = server.ledger.database().ledger_read.checkout().await?;
    let found = registry::by_numbers(&mut checkout.conn(), &[device]).await?;
    drop(checkout);
    let Some((_, device)) = found.into_iter().next() else { return Ok(false) };
    let stream = Stream::Device(device.stream).to_string();
    let (mut folded, mut got, mut after): (Option<Device>, Option<i64>, i64) = (None, None, 0);
    loop {
        let page = match server.ledger.read_stream(&stream, after, EVENTS).await {
            Err(Fault::Detached { .. }) => return changed_since(server, &stream, died).await,
            page => page?,
        };
        let full = i64::try_from(page.events.len()).is_ok_and(|count| count >= EVENTS);
        for recorded in page.events {
            after = recorded.version;
            folded = Device::evolve(folded, device.stream, recorded.place(), &recorded.event);
            let holds = folded.as_ref().is_some_and(|now| now.bindings().contains(binding));
            got = if holds { got.or(Some(recorded.recorded_at)) } else { None };
        }
        if !full {
            return Ok(got.is_some_and(|got| got > died));
        }
    }
}

/// Whether a device, of whose beginning events are away, changed at all after a time, as far as is
/// known. If it did not, the token that it has is from before.
async fn changed_since(server: &Server, stream: &str, died: i64) -> Result<bool, Fault> {
    let away = server.ledger.away().await?;
    let later = server.ledger.read_stream_here(stream, EVENTS).await?;
    let more = i64::try_from(later.events.len()).is_ok_and(|count| count >= EVENTS);
    let changed = later.events.iter().any(|recorded| recorded.recorded_at > died);
    Ok(more || changed || away.is_none_or(|away| away.recorded_at > died))
}
