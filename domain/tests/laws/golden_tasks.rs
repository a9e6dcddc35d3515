//! Examples of what became of the devices of a task.

use domain::{
    Event,
    message::Ending,
    task::{
        ChunkDelivered,
        chunk::{Count, Kind, Outcome, Word},
        packed::Packed,
    },
    vendor::Vendor,
};

/// Nine devices: six that follow each other and are taken, one that is kept as no vendor is a way,
/// a dead token, and one that is tried again.
pub(crate) fn chunks() -> Vec<(&'static str, Event)> {
    let kind = |outcome, reason, vendor| Kind { outcome, reason, vendor };
    let count = |kind, devices| Count { kind, devices };
    let jpush = Some(Vendor::Jpush);
    let chunk = ChunkDelivered {
        started: 1_000,
        attempt: 1,
        first: 500,
        last: 900,
        counts: vec![
            count(kind(Outcome::Sent, None, jpush), 6),
            count(kind(Outcome::Online, Some(Ending::NoBinding), None), 1),
            count(kind(Outcome::Ended, Some(Ending::DeadToken), jpush), 1),
            count(kind(Outcome::Retrying, None, Some(Vendor::Fcm)), 1),
        ],
        devices: Packed::growing([500, 501, 502, 503, 504, 505, 600, 700, 900]),
        outcomes: Packed::runs([0, 0, 0, 0, 0, 0, 1, 2, 3]),
        words: vec![
            Word { word: "29560231134892035".to_owned(), at: Packed::growing(1..=6) },
            Word { word: "1003".to_owned(), at: Packed::growing([8]) },
        ],
    };
    let again = ChunkDelivered {
        attempt: 2,
        first: 900,
        counts: vec![count(kind(Outcome::Ended, Some(Ending::ExpiredUnsent), None), 1)],
        devices: Packed::growing([900]),
        outcomes: Packed::runs([0]),
        words: Vec::new(),
        ..chunk.clone()
    };
    let either = ChunkDelivered {
        last: 502,
        counts: vec![count(kind(Outcome::Either, None, jpush), 3)],
        devices: Packed::growing([500, 501, 502]),
        outcomes: Packed::runs([0, 0, 0]),
        words: Vec::new(),
        ..chunk.clone()
    };
    vec![("", chunk.into()), ("minimal", again.into()), ("either", either.into())]
}
