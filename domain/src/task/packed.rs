//! Many small numbers as short texts: what makes a chunk of some thousand deliveries one event of a
//! few hundred bytes. Numbers are written seven bits to a byte, runs once with their length, and the
//! bytes as base64.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Numbers that one text may unfold to.
pub const MAX_NUMBERS: usize = 4096;

/// Packed numbers; what they mean is up to who reads them.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Packed(pub Vec<u8>);

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Packed({})", STANDARD_NO_PAD.encode(&self.0))
    }
}

impl Serialize for Packed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD_NO_PAD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Packed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD_NO_PAD.decode(text).map(Packed).map_err(de::Error::custom)
    }
}

impl Packed {
    /// Growing numbers from 1 on: the distance of each to the one before; 0 and a count stand for
    /// the same distance so many times more.
    #[must_use]
    pub fn growing(numbers: impl IntoIterator<Item = i64>) -> Packed {
        let mut bytes = Vec::new();
        let (mut before, mut distance, mut more) = (0, 0, 0);
        for number in numbers {
            let next = number - before;
            debug_assert!(next > 0, "{number} does not grow after {before}");
            before = number;
            if next == distance {
                more += 1;
                continue;
            }
            write_more(&mut bytes, distance, more);
            (distance, more) = (next, 0);
            write(&mut bytes, next.unsigned_abs());
        }
        write_more(&mut bytes, distance, more);
        Packed(bytes)
    }

    /// What [`growing`](Packed::growing) packed; of other bytes whatever is a number.
    #[must_use]
    pub fn numbers(&self) -> Vec<i64> {
        let (mut numbers, mut left) = (Vec::new(), self.0.as_slice());
        let (mut last, mut distance) = (0_i64, 0_i64);
        while let Some(next) = read(&mut left) {
            let times = if next == 0 { read(&mut left).unwrap_or(0) } else { 1 };
            if next > 0 {
                distance = i64::try_from(next).unwrap_or(0);
            }
            for _ in 0..times {
                if numbers.len() == MAX_NUMBERS || distance == 0 {
                    return numbers;
                }
                last = last.saturating_add(distance);
                numbers.push(last);
            }
        }
        numbers
    }

    /// Small numbers of which many that follow each other are the same: each with its count.
    #[must_use]
    pub fn runs(numbers: impl IntoIterator<Item = usize>) -> Packed {
        let mut bytes = Vec::new();
        let mut run: Option<(usize, u64)> = None;
        let mut end = |run: Option<(usize, u64)>| {
            if let Some((number, count)) = run {
                write(&mut bytes, number as u64);
                write(&mut bytes, count);
            }
        };
        for number in numbers {
            match &mut run {
                Some((same, count)) if *same == number => *count += 1,
                _ => end(run.replace((number, 1))),
            }
        }
        end(run);
        Packed(bytes)
    }

    /// What [`runs`](Packed::runs) packed; of other bytes whatever is a run.
    #[must_use]
    pub fn unfolded(&self) -> Vec<usize> {
        let (mut numbers, mut left) = (Vec::new(), self.0.as_slice());
        while let (Some(number), Some(count)) = (read(&mut left), read(&mut left)) {
            let room = MAX_NUMBERS - numbers.len();
            let count = usize::try_from(count).unwrap_or(usize::MAX).min(room);
            let number = usize::try_from(number).unwrap_or(usize::MAX);
            numbers.resize(numbers.len() + count, number);
        }
        numbers
    }
}

/// The same distance so many times more, in the shorter of two ways.
fn write_more(bytes: &mut Vec<u8>, distance: i64, more: u64) {
    if more == 0 {
        return;
    }
    if more == 1 && distance < 128 {
        write(bytes, distance.unsigned_abs());
        return;
    }
    write(bytes, 0);
    write(bytes, more);
}

fn write(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 128 {
        bytes.push(u8::try_from(number % 128).unwrap_or(0) | 128);
        number /= 128;
    }
    bytes.push(u8::try_from(number).unwrap_or(0));
}

fn read(left: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = left.split_first()?;
        *left = rest;
        number |= u64::from(byte & 127) << shift;
        if byte & 128 == 0 {
            return Some(number);
        }
    }
    None
}
