//! Bodies of calls: read up to a limit. What is beyond is read too and thrown away, so that the
//! caller, which sends before it listens, gets to read why it is refused.

use axum::body::{Body, Bytes};
use futures_util::StreamExt;

/// Bytes beyond a limit that are taken and thrown away.
const MAX_EXCESS_BYTES: usize = 16 * 1024 * 1024;

/// Why there is no body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoBody {
    /// It is longer than the limit.
    TooLong,
    /// It broke off; there is no caller left to tell.
    Broken,
}

/// A body of at most so many bytes.
pub(super) async fn read(body: Body, most: usize) -> Result<Bytes, NoBody> {
    let mut chunks = body.into_data_stream();
    let (mut taken, mut excess) = (Vec::new(), 0);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| NoBody::Broken)?;
        if excess == 0 && taken.len() + chunk.len() <= most {
            taken.extend_from_slice(&chunk);
        } else {
            excess += chunk.len();
        }
        if excess > MAX_EXCESS_BYTES {
            break;
        }
    }
    if excess == 0 { Ok(taken.into()) } else { Err(NoBody::TooLong) }
}
