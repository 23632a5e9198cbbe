//! Cursors, which clients keep for us and may give back in any form.

use super::harness::{MEMORY, Seen, Target, fuzz, seen};
use walcast::{
    change::cursor::{Beside, Cursor, Epoch},
    lsn::Lsn,
};

#[test]
fn any_text_is_a_cursor_or_none() {
    let of = |origin, timeline, lsn, ordinal, part| Cursor {
        epoch: Epoch { origin, timeline },
        commit_lsn: Lsn(lsn),
        ordinal,
        part,
        beside: Beside(lsn ^ ordinal),
    };
    let cursors = [
        of(0, 0, 0, 0, 0),
        of(Epoch::of(&["wal", "1"], 1).origin, 1, 0x16_B374_D848, 1_000_001, 2),
        of(u64::MAX, u32::MAX, u64::MAX, u64::MAX, u32::MAX),
    ];
    let seeds = cursors.iter().map(|cursor| cursor.to_string().into_bytes()).collect();
    fuzz(Target {
        name: "cursor",
        seeds,
        words: &["A", "_", "-", "=", "AA", "gA", "____"],
        memory: MEMORY,
        run: cursor,
    });
}

/// Text, and the bytes of text with the sum put right, so that what is behind the sum is read, too.
fn cursor(input: &[u8]) -> Seen {
    let read = |text: &str| match text.parse::<Cursor>() {
        Ok(cursor) => {
            assert_eq!(cursor.to_string().parse::<Cursor>().expect("a cursor"), cursor);
            seen((
                true,
                cursor.epoch.timeline.leading_zeros() / 8,
                cursor.commit_lsn.0.leading_zeros() / 8,
                cursor.part.leading_zeros() / 8,
            ))
        }
        Err(_) => 0,
    };
    let as_it_is = std::str::from_utf8(input).map_or(1, read);
    let sum = input.iter().fold(0x5a, |sum: u8, &byte| sum.rotate_left(3) ^ byte);
    let summed = [input, &[sum]].concat();
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, summed);
    seen((as_it_is, read(&encoded)))
}
