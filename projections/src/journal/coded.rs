//! Rows of the journal as bytes: each key once, in order, as what differs from the key before; then
//! for each move what its position differs by, the place of its key, and how many deliveries. Numbers
//! are LEB128, zigzag where they may be negative. The same moves are the same bytes, however they came.

use std::collections::BTreeSet;

use domain::{
    message::{MessageId, Protocol, Stage},
    task::state::State,
};

use crate::{
    Fault,
    delivery_stats::{BUCKET_MICROS, Cell, Key, Moved, What},
    device_kinds::Kind,
    latency::Step,
};

/// Protocols by their place; a new one comes last.
const PROTOCOLS: [Protocol; 4] =
    [Protocol::Ums, Protocol::Easemob, Protocol::Antelope, Protocol::Tencent];

/// Bytes of some moves in order, of positions from `start` on.
pub(super) fn encode(start: i64, moved: &[Moved]) -> Vec<u8> {
    let keys: BTreeSet<Key> = moved.iter().map(|own| own.key).collect();
    let keys: Vec<Key> = keys.into_iter().collect();
    let mut bytes = Bytes(Vec::with_capacity(moved.len() * 4 + keys.len() * 12));
    bytes.length(keys.len());
    let (mut bucket, mut task) = (0, 0);
    for key in &keys {
        let next = key.bucket_at / BUCKET_MICROS;
        bytes.signed(next - bucket);
        bucket = next;
        let place = PROTOCOLS.iter().position(|own| *own == key.protocol);
        bytes.length(place.unwrap_or_default());
        // Tasks have ids greater than 0.
        let next = key.task.map_or(0, |task| task.0);
        bytes.signed(next.wrapping_sub(task));
        task = next;
        bytes.unsigned(key.kind.into());
        match key.what {
            What::In(Cell { way, stage, ended }) => {
                bytes.unsigned(u64::from(State::of(stage, ended, way).0) << 1);
            }
            What::Took(way, step, millis) => {
                let way = State::of(Stage::Accepted, None, way);
                bytes.unsigned(u64::from(way.0) << 1 | 1);
                bytes.length(step as usize);
                bytes.signed(millis);
            }
        }
    }
    bytes.length(moved.len());
    let mut position = start;
    for own in moved {
        bytes.signed(own.position - position);
        position = own.position;
        bytes.length(keys.binary_search(&own.key).unwrap_or_default());
        bytes.signed(own.deliveries);
    }
    bytes.0
}

/// The moves of some bytes.
pub(super) fn decode(start: i64, bytes: &[u8]) -> Result<Vec<Moved>, Fault> {
    read(start, bytes).ok_or_else(|| Fault::stored("journal", format!("near {start}")))
}

fn read(start: i64, bytes: &[u8]) -> Option<Vec<Moved>> {
    let mut rest = Rest(bytes);
    let (mut bucket, mut task) = (0_i64, 0_i64);
    let count = rest.length()?;
    // What is broken may promise anything; what is right takes a byte each at least.
    let mut keys = Vec::with_capacity(count.min(bytes.len()));
    for _ in 0..count {
        bucket = bucket.checked_add(rest.signed()?)?;
        let protocol = *PROTOCOLS.get(rest.length()?)?;
        task = task.wrapping_add(rest.signed()?);
        let kind = Kind::try_from(rest.unsigned()?).ok()?;
        let tagged = rest.unsigned()?;
        let state = State(u16::try_from(tagged >> 1).ok()?);
        let what = match tagged & 1 {
            0 => What::In(Cell::of_state(state)),
            _ => What::Took(state.way(), *Step::ALL.get(rest.length()?)?, rest.signed()?),
        };
        let task = (task != 0).then_some(MessageId(task));
        let bucket_at = bucket.checked_mul(BUCKET_MICROS)?;
        keys.push(Key { bucket_at, protocol, task, kind, what });
    }
    let count = rest.length()?;
    let mut moved = Vec::with_capacity(count.min(bytes.len()));
    let mut position = start;
    for _ in 0..count {
        position = position.checked_add(rest.signed()?)?;
        let key = *keys.get(rest.length()?)?;
        moved.push(Moved { position, key, deliveries: rest.signed()? });
    }
    rest.0.is_empty().then_some(moved)
}

struct Bytes(Vec<u8>);

impl Bytes {
    fn unsigned(&mut self, mut number: u64) {
        loop {
            let low = (number & 0x7f) as u8;
            number >>= 7;
            if number == 0 {
                self.0.push(low);
                return;
            }
            self.0.push(low | 0x80);
        }
    }

    fn signed(&mut self, number: i64) {
        self.unsigned(((number << 1) ^ (number >> 63)).cast_unsigned());
    }

    fn length(&mut self, length: usize) {
        self.unsigned(u64::try_from(length).unwrap_or(u64::MAX));
    }
}

struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn unsigned(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let (first, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn signed(&mut self) -> Option<i64> {
        let number = self.unsigned()?;
        Some((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(self.unsigned()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use domain::{message::Ending, task::state::Way, vendor::Vendor};

    use super::*;

    fn moves() -> Vec<Moved> {
        let cells = [
            Cell { way: Way::Undecided, stage: Stage::Accepted, ended: None },
            Cell { way: Way::Online, stage: Stage::Acknowledged, ended: None },
            Cell {
                way: Way::Vendor(Vendor::Huawei),
                stage: Stage::Sent,
                ended: Some(Ending::Unacknowledged),
            },
        ];
        let mut moved = Vec::new();
        for (at, position) in (0_i64..).zip([1_024, 1_024, 1_025, 1_900, 2_047]) {
            for (place, protocol) in (0_i64..).zip(PROTOCOLS) {
                let task = (place % 2 == 0).then_some(MessageId(1_795_563_465_562_000_000 + at));
                let kind = if place == 3 { Kind::MAX } else { 0 };
                let bucket_at = BUCKET_MICROS * (1_900_000 - at);
                let key = |what| Key { bucket_at, protocol, task, kind, what };
                for cell in cells {
                    let deliveries = if place == 0 { -1 } else { 4_096 * at + 1 };
                    moved.push(Moved { position, key: key(What::In(cell)), deliveries });
                }
                for step in Step::ALL {
                    let what = What::Took(cells[2].way, step, at * 50);
                    moved.push(Moved { position, key: key(what), deliveries: 1 });
                }
            }
        }
        moved
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let moved = moves();
        assert_eq!(decode(1_024, &encode(1_024, &moved)).ok(), Some(moved.clone()));
        assert_eq!(decode(0, &encode(0, &[])).ok(), Some(Vec::new()));
        let far = [i64::MAX, i64::MIN + 1, -1, 0, 1];
        for deliveries in far {
            let one = [Moved { deliveries, ..moved[0] }];
            assert_eq!(decode(7, &encode(7, &one)).ok(), Some(one.to_vec()));
        }
    }

    #[test]
    fn broken_bytes_are_refused() {
        let bytes = encode(0, &moves());
        for length in 0..bytes.len() {
            assert!(decode(0, &bytes[..length]).is_err(), "{length}");
        }
        assert!(decode(0, &[bytes, vec![0]].concat()).is_err());
        assert!(decode(0, &[0xff; 20]).is_err());
    }
}
