//! `Cursor`: what a client holds to say up to where it was given changes; `Epoch`: the history it is of. Pure.
//!
//! A cursor outlives connections, this process and restarts of Postgres. To clients it is opaque: base64url of a version,
//! the epoch, the position, how the transaction was streamed, and a sum against mutilation. It is no secret and grants nothing: whatever it leads to is
//! judged by the rights of whoever presents it.

use crate::lsn::Lsn;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use std::{fmt, str::FromStr};

/// The first byte of a cursor.
const VERSION: u8 = 2;
/// That of those that did not say yet how their transaction was streamed.
const WITHOUT_BESIDE: u8 = 1;
/// More bytes than any cursor has.
const LONGEST_TEXT: usize = 80;

/// Which history positions are of, beyond this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Epoch {
    /// Stands for the kind of source and whatever else makes positions comparable: the server's system identifier, the
    /// database, the publication.
    pub origin: u64,
    /// The server's timeline: another one shares positions only up to where it branched off.
    pub timeline: u32,
}

impl Epoch {
    /// The epoch of a source with these properties.
    pub fn of(properties: &[&str], timeline: u32) -> Epoch {
        // FNV-1a: stable whatever the build, which a hasher of the standard library is not.
        let bytes = properties.iter().flat_map(|property| property.bytes().chain([0]));
        let origin = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Epoch { origin, timeline }
    }
}

/// Which publications were streamed beside the one clients subscribe to: they decide which changes of a transaction come,
/// and so which number each has. What is in a publication does not: Postgres looks that up as it was when the change was
/// made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Beside(pub u64);

impl Beside {
    /// It is not known, so it is that of no transaction: two oids are never all ones.
    pub const UNKNOWN: Beside = Beside(u64::MAX);

    /// That of these publications, by their oids.
    pub fn of(lookups: Option<u32>, messages: Option<u32>) -> Beside {
        Beside(u64::from(lookups.unwrap_or(0)) << 32 | u64::from(messages.unwrap_or(0)))
    }
}

/// Everything before this was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// Of which history.
    pub epoch: Epoch,
    /// Where the transaction's commit record is.
    pub commit_lsn: Lsn,
    /// The next change's number in the transaction.
    pub ordinal: u64,
    /// How many messages about that change were given already: one change may take several.
    pub part: u32,
    /// How the transaction was streamed when its changes were counted. Of a cursor before a transaction it says nothing.
    pub beside: Beside,
}

impl Cursor {
    /// Whether something of the transaction was given, so that it matters how its changes were counted.
    pub fn is_amid(&self) -> bool {
        (self.ordinal, self.part) != (0, 0)
    }
}

/// What a client says of where it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resume {
    /// It begins, and wants to be able to come back.
    Start,
    /// It comes back with this, which ought to be a cursor.
    From(String),
}

/// A text that is no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor")]
pub struct BadCursor;

impl fmt::Display for Cursor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::with_capacity(40);
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.epoch.origin.to_be_bytes());
        let Cursor { commit_lsn, ordinal, part, beside, .. } = self;
        for number in [u64::from(self.epoch.timeline), commit_lsn.0, *ordinal, u64::from(*part), beside.0] {
            put_number(&mut bytes, number);
        }
        bytes.push(sum(&bytes));
        formatter.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for Cursor {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Cursor, BadCursor> {
        if text.len() > LONGEST_TEXT {
            return Err(BadCursor);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| BadCursor)?;
        let (&last, bytes) = bytes.split_last().ok_or(BadCursor)?;
        let (&version, rest) = bytes.split_first().ok_or(BadCursor)?;
        let (origin, mut rest) = rest.split_first_chunk::<8>().ok_or(BadCursor)?;
        if ![VERSION, WITHOUT_BESIDE].contains(&version) || last != sum(bytes) {
            return Err(BadCursor);
        }
        let timeline = u32::try_from(take_number(&mut rest)?).map_err(|_| BadCursor)?;
        let (commit_lsn, ordinal) = (Lsn(take_number(&mut rest)?), take_number(&mut rest)?);
        let part = u32::try_from(take_number(&mut rest)?).map_err(|_| BadCursor)?;
        let epoch = Epoch { origin: u64::from_be_bytes(*origin), timeline };
        let beside = match version {
            VERSION => Beside(take_number(&mut rest)?),
            _ if (ordinal, part) == (0, 0) => Beside::default(),
            _ => Beside::UNKNOWN,
        };
        let cursor = Cursor { epoch, commit_lsn, ordinal, part, beside };
        if rest.is_empty() { Ok(cursor) } else { Err(BadCursor) }
    }
}

/// A number in groups of seven bits, the lowest first (LEB128).
fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            return bytes.push(low & 0x7f);
        }
        bytes.push(low | 0x80);
    }
}

fn take_number(bytes: &mut &[u8]) -> Result<u64, BadCursor> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(BadCursor)?;
        *bytes = rest;
        let group = u64::from(byte & 0x7f);
        if (group << shift) >> shift != group {
            return Err(BadCursor);
        }
        number |= group << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(BadCursor)
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0x5a, |sum: u8, &byte| sum.rotate_left(3) ^ byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor() -> Cursor {
        let epoch = Epoch::of(&["wal", "7300000000000000001", "5", "16400"], 3);
        let beside = Beside::of(Some(16_402), None);
        Cursor { epoch, commit_lsn: Lsn(0x16_B374_D848), ordinal: 1_000_001, part: 2, beside }
    }

    #[test]
    fn a_cursor_is_read_back_as_it_was_written() {
        let most = Cursor {
            epoch: Epoch { origin: u64::MAX, timeline: u32::MAX },
            commit_lsn: Lsn(u64::MAX),
            ordinal: u64::MAX,
            part: u32::MAX,
            beside: Beside::UNKNOWN,
        };
        for cursor in [cursor(), most, Cursor { ordinal: 0, part: 0, beside: Beside::default(), ..cursor() }] {
            let text = cursor.to_string();
            assert!(
                text.len() <= LONGEST_TEXT
                    && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            );
            assert_eq!(text.parse(), Ok(cursor), "{text}");
        }
    }

    #[test]
    fn a_cursor_from_before_it_said_how_its_transaction_was_streamed_holds_only_between_transactions() {
        let old = |ordinal: u8, part: u8| {
            let mut bytes = [&[WITHOUT_BESIDE][..], &7u64.to_be_bytes(), &[1, 9, ordinal, part]].concat();
            bytes.push(sum(&bytes));
            URL_SAFE_NO_PAD.encode(bytes).parse::<Cursor>()
        };
        let epoch = Epoch { origin: 7, timeline: 1 };
        let of = |ordinal, part, beside| Ok(Cursor { epoch, commit_lsn: Lsn(9), ordinal, part, beside });
        assert_eq!(old(0, 0), of(0, 0, Beside::default()));
        assert_eq!(old(2, 0), of(2, 0, Beside::UNKNOWN));
        assert_eq!(old(0, 1), of(0, 1, Beside::UNKNOWN));
        let all = [
            Beside::of(Some(5), None),
            Beside::of(None, Some(5)),
            Beside::of(Some(5), Some(5)),
            Beside::of(None, None),
        ];
        let distinct: std::collections::HashSet<_> = all.into_iter().chain([Beside::UNKNOWN]).collect();
        assert_eq!(distinct.len(), 5);
    }

    #[test]
    fn a_mutilated_cursor_is_no_cursor() {
        let text = cursor().to_string();
        for cut in 0..text.len() {
            assert_eq!(text[..cut].parse::<Cursor>(), Err(BadCursor), "{cut}");
        }
        for other in ["", "true", "0/16B374D8", &format!("{text}A"), &text.to_lowercase(), &"A".repeat(10_000)] {
            assert_eq!(other.parse::<Cursor>(), Err(BadCursor), "{other}");
        }
    }

    #[test]
    fn epochs_differ_in_each_property() {
        let of = |properties: &[&str]| Epoch::of(properties, 1);
        assert_eq!(of(&["a", "b"]), of(&["a", "b"]));
        assert_ne!(of(&["a", "b"]), of(&["ab", ""]));
        assert_ne!(of(&["a", "b"]), of(&["b", "a"]));
        assert_ne!(Epoch::of(&["a"], 1), Epoch::of(&["a"], 2));
    }
}
