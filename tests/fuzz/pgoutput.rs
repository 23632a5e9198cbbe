//! What a walsender sends inside of CopyData: envelopes, messages, and whole streams of messages, whose values are rendered.

use super::{
    harness::{MEMORY, Seen, Target, fuzz, seen, shape},
    mutate::{joined, records},
};
use bytes::Bytes;
use std::{fs, mem::discriminant, path::Path};
use walcast::{
    change::{
        Datum, Fragment,
        assemble::Assembler,
        value::{TypeRegistry, render},
    },
    lsn::Lsn,
    pgoutput::{
        DecodeError, Message, decode,
        envelope::{Envelope, StatusUpdate},
    },
};

/// The frames real servers sent, one recording a major version. Long runs of one letter are of no use here.
pub fn recordings() -> Vec<Vec<Vec<u8>>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/line/golden");
    let files = fs::read_dir(directory).expect("the recordings are in the repository");
    let texts = files.map(|file| fs::read_to_string(file.expect("a file").path()).expect("a text"));
    texts.map(|text| text.lines().map(super::corpus::unhex).collect()).collect()
}

fn frames() -> Vec<Vec<u8>> {
    let mut frames: Vec<Vec<u8>> = recordings().into_iter().flatten().collect();
    frames.sort();
    frames.dedup_by(|one, other| one.first() == other.first() && one.len() == other.len());
    frames
}

fn xlog_data(frame: &[u8]) -> Vec<u8> {
    let head = [&[b'w'][..], &[0, 0, 0, 0, 1, 0, 0, 7], &[0, 0, 0, 0, 1, 0, 0, 9], &[0; 8]].concat();
    [head, frame.to_vec()].concat()
}

#[test]
fn any_bytes_are_an_envelope_or_an_error() {
    let mut seeds: Vec<Vec<u8>> = frames().iter().map(|frame| xlog_data(frame)).collect();
    seeds.push([&[b'k'][..], &[0; 16], &[1]].concat());
    fuzz(Target { name: "envelope", seeds, words: &[], memory: MEMORY, run: envelope });
}

fn envelope(input: &[u8]) -> Seen {
    let read = Envelope::decode(Bytes::copy_from_slice(input));
    match &read {
        Ok(Envelope::XLogData { start, end, data }) => {
            let tag = [b"w", &start.0.to_be_bytes()[..], &end.0.to_be_bytes()].concat();
            assert!(input.starts_with(&tag) && input.ends_with(data) && input.len() == 25 + data.len());
        }
        Ok(Envelope::Keepalive { end, .. }) => {
            assert_eq!((input.len(), &input[1..9]), (18, &end.0.to_be_bytes()[..]));
            let update = StatusUpdate { written: *end, flushed: Lsn(end.0 / 2), clock: 1, reply: true }.encode();
            assert_eq!(update.len(), 34);
        }
        Err(error) => return error_of(error),
    }
    seen(read.is_ok())
}

fn error_of(error: &DecodeError) -> Seen {
    // The place counts, not how much was missing there.
    match error {
        DecodeError::Short { field, .. } => seen(("short", field)),
        DecodeError::Leftover { what, .. } => seen(("leftover", what)),
        other => shape(&other.to_string()),
    }
}

#[test]
fn any_bytes_are_a_message_or_an_error() {
    fuzz(Target { name: "message", seeds: frames(), words: &[], memory: MEMORY, run: message });
}

fn message(input: &[u8]) -> Seen {
    match decode(Bytes::copy_from_slice(input)) {
        Ok(message) => {
            assert_eq!(encode(&message).as_deref().unwrap_or(input), masked(input), "what was read is all there was");
            // A message behind its end, and one cut anywhere, is none.
            for length in (0..input.len()).step_by(input.len() / 64 + 1) {
                assert!(decode(Bytes::copy_from_slice(&input[..length])).is_err(), "cut at {length}");
            }
            assert!(decode([input, b"\0"].concat().into()).is_err());
            kind(&message)
        }
        Err(error) => error_of(&error),
    }
}

fn kind(message: &Message) -> Seen {
    let size = match message {
        Message::Relation(relation) => relation.columns.len().min(6),
        Message::Insert(insert) => insert.new.len().min(6),
        Message::Update(update) => update.new.len().min(6) + 10 * usize::from(update.old.is_some()),
        Message::Truncate(truncate) => truncate.relations.len().min(6),
        _ => 0,
    };
    seen((discriminant(message), size))
}

/// The frame with bits that are read away as they are written back.
fn masked(input: &[u8]) -> Vec<u8> {
    let mut input = input.to_vec();
    match input.first() {
        // Flags of a commit mean nothing yet.
        Some(b'C') => input[1] = 0,
        Some(b'T') => input[5] &= 3,
        _ => {}
    }
    input
}

/// The bytes of messages whose every field is kept; the others are looked at by what is left over of them.
fn encode(message: &Message) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match message {
        Message::Begin(begin) => {
            out.push(b'B');
            out.extend(begin.commit_lsn.0.to_be_bytes());
            out.extend(begin.commit_time.to_be_bytes());
            out.extend(begin.xid.to_be_bytes());
        }
        Message::Commit(commit) => {
            out.extend(b"C\0");
            out.extend(commit.commit_lsn.0.to_be_bytes());
            out.extend(commit.end_lsn.0.to_be_bytes());
            out.extend(commit.commit_time.to_be_bytes());
        }
        Message::Truncate(truncate) => {
            out.push(b'T');
            out.extend(u32::try_from(truncate.relations.len()).expect("fits").to_be_bytes());
            out.push(u8::from(truncate.cascade) | (u8::from(truncate.restart_identity) << 1));
            truncate.relations.iter().for_each(|oid| out.extend(oid.to_be_bytes()));
        }
        Message::Type(kind) => {
            out.push(b'Y');
            out.extend(kind.oid.to_be_bytes());
            out.extend([kind.schema.as_bytes(), b"\0", kind.name.as_bytes(), b"\0"].concat());
        }
        Message::Origin(origin) => {
            out.push(b'O');
            out.extend(origin.commit_lsn.0.to_be_bytes());
            out.extend([origin.name.as_bytes(), b"\0"].concat());
        }
        _ => return None,
    }
    Some(out)
}

#[test]
fn any_stream_of_messages_is_fragments_or_an_error_and_its_values_are_json() {
    let seeds = recordings().iter().map(joined).collect();
    fuzz(Target { name: "stream", seeds, words: &[], memory: MEMORY, run: stream });
}

fn stream(input: &[u8]) -> Seen {
    let mut assembler = Assembler::default();
    let types = TypeRegistry::default();
    let mut shape = Vec::new();
    let mut next = 0;
    for record in records(input) {
        let Ok(message) = decode(Bytes::copy_from_slice(record)) else { continue };
        let begins = matches!(message, Message::Begin(_));
        match assembler.push(message) {
            Ok(Some(fragment)) => {
                next = check(&fragment, &types, next);
                shape.push(fragment.changes.len().min(5));
            }
            Ok(None) if begins => next = 0,
            Ok(None) => {}
            // The stream cannot be read on.
            Err(error) => return seen((discriminant(&error), shape, assembler.is_idle())),
        }
    }
    seen((shape, assembler.is_idle()))
}

/// The number the next change of the transaction has.
fn check(fragment: &Fragment, types: &TypeRegistry, mut next: u64) -> u64 {
    let mut out = Vec::new();
    for change in &fragment.changes {
        assert_eq!(change.ordinal, next);
        next += 1;
        let columns = &change.relation.columns;
        for row in change.new.iter().chain(change.old.iter().map(|old| &old.row)) {
            assert_eq!(row.0.len(), columns.len());
            for (datum, column) in row.0.iter().zip(columns) {
                let Datum::Text(text) = datum else { continue };
                out.clear();
                render(types, column.type_oid, text, &mut out);
                serde_json::from_slice::<serde::de::IgnoredAny>(&out).expect("JSON");
            }
        }
    }
    next
}
