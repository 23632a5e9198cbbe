//! A fragment as bytes and back. Tables are left out: whoever writes keeps them, and fragments name them by number. Pure.
//!
//! The bytes are a list of pieces, so that a large value need not be copied to be written.

use crate::{
    change::{
        Change, Datum, Fragment, OldRow, Operation, Row,
        cursor::{Beside, Epoch},
        position::Era,
        relation::Relation,
    },
    lsn::Lsn,
};
use bytes::{Buf, BufMut, Bytes};
use std::{collections::HashMap, sync::Arc};

/// The bytes are not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a fragment that was put aside cannot be read again")]
pub(super) struct Damaged;

/// The tables that fragments name.
#[derive(Default)]
pub(super) struct Relations {
    by_number: Vec<Arc<Relation>>,
    /// By address, which stays a table's own while it is kept.
    numbers: HashMap<usize, usize>,
}

impl Relations {
    fn number(&mut self, relation: &Arc<Relation>) -> u64 {
        let number = *self.numbers.entry(Arc::as_ptr(relation).addr()).or_insert_with(|| {
            self.by_number.push(relation.clone());
            self.by_number.len() - 1
        });
        number as u64
    }

    fn get(&self, number: u64) -> Result<Arc<Relation>, Damaged> {
        usize::try_from(number).ok().and_then(|number| self.by_number.get(number)).cloned().ok_or(Damaged)
    }
}

/// No table has more columns, so no damaged count asks for more room.
const MOST_COLUMNS: usize = 1600;

const NULL: u64 = 0;
const ABSENT: u64 = 1;
/// Lengths of texts count from here.
const TEXT: u64 = 2;

const OPERATIONS: [Operation; 4] = [Operation::Insert, Operation::Update, Operation::Delete, Operation::Truncate];
const HAS_NEW: u8 = 4;
const HAS_OLD: u8 = 8;
const OLD_IS_WHOLE: u8 = 16;

/// A value of this size is a piece of its own.
const PIECE_BYTES: usize = 16 * 1024;

/// Encoded bytes, in pieces.
#[derive(Default)]
pub(super) struct Pieces {
    done: Vec<Bytes>,
    last: Vec<u8>,
    length: u64,
}

impl Pieces {
    fn put(&mut self, bytes: &Bytes) {
        if bytes.len() < PIECE_BYTES {
            return self.last.put_slice(bytes);
        }
        self.close();
        self.length += bytes.len() as u64;
        self.done.push(bytes.clone());
    }

    fn close(&mut self) {
        if !self.last.is_empty() {
            self.length += self.last.len() as u64;
            self.done.push(std::mem::take(&mut self.last).into());
        }
    }

    /// How many bytes there are, and the pieces they are in.
    pub(super) fn into_parts(mut self) -> (u64, Vec<Bytes>) {
        self.close();
        (self.length, self.done)
    }
}

pub(super) fn encode(fragment: &Fragment, relations: &mut Relations) -> Pieces {
    let mut pieces = Pieces::default();
    let out = &mut pieces.last;
    out.put_u32(fragment.era.number);
    out.put_u64(fragment.era.epoch.origin);
    out.put_u32(fragment.era.epoch.timeline);
    out.put_u64(fragment.beside.0);
    out.put_u32(fragment.xid);
    out.put_u64(fragment.commit_lsn.0);
    out.put_i64(fragment.commit_time);
    out.put_u8(u8::from(fragment.end_lsn.is_some()));
    out.put_u64(fragment.end_lsn.unwrap_or(Lsn::ZERO).0);
    put_number(out, fragment.changes.len() as u64);
    for change in &fragment.changes {
        let operation = match change.operation {
            Operation::Insert => 0,
            Operation::Update => 1,
            Operation::Delete => 2,
            Operation::Truncate => 3,
        };
        let has_new = if change.new.is_some() { HAS_NEW } else { 0 };
        let has_old = match &change.old {
            Some(OldRow { whole: true, .. }) => HAS_OLD | OLD_IS_WHOLE,
            Some(OldRow { whole: false, .. }) => HAS_OLD,
            None => 0,
        };
        let out = &mut pieces.last;
        out.put_u8(operation | has_new | has_old);
        put_number(out, relations.number(&change.relation));
        put_number(out, change.ordinal);
        for row in change.new.iter().chain(change.old.as_ref().map(|old| &old.row)) {
            put_row(&mut pieces, row);
        }
    }
    pieces
}

pub(super) fn decode(bytes: Bytes, relations: &Relations) -> Result<Fragment, Damaged> {
    let mut from = bytes;
    let number_of_era = from.try_get_u32().map_err(|_| Damaged)?;
    let origin = from.try_get_u64().map_err(|_| Damaged)?;
    let timeline = from.try_get_u32().map_err(|_| Damaged)?;
    let era = Era { number: number_of_era, epoch: Epoch { origin, timeline } };
    let beside = Beside(from.try_get_u64().map_err(|_| Damaged)?);
    let xid = from.try_get_u32().map_err(|_| Damaged)?;
    let commit_lsn = Lsn(from.try_get_u64().map_err(|_| Damaged)?);
    let commit_time = from.try_get_i64().map_err(|_| Damaged)?;
    let has_end = from.try_get_u8().map_err(|_| Damaged)? == 1;
    let end_lsn = Lsn(from.try_get_u64().map_err(|_| Damaged)?);
    let count = number(&mut from)?;
    let mut changes = Vec::new();
    for _ in 0..count {
        let flags = from.try_get_u8().map_err(|_| Damaged)?;
        let operation = *OPERATIONS.get(usize::from(flags & 3)).ok_or(Damaged)?;
        let relation = relations.get(number(&mut from)?)?;
        let ordinal = number(&mut from)?;
        let new = if flags & HAS_NEW != 0 { Some(row(&mut from)?) } else { None };
        let old = if flags & HAS_OLD != 0 {
            Some(OldRow { whole: flags & OLD_IS_WHOLE != 0, row: row(&mut from)? })
        } else {
            None
        };
        changes.push(Change { operation, relation, old, new, ordinal });
    }
    if from.has_remaining() {
        return Err(Damaged);
    }
    Ok(Fragment { era, beside, xid, commit_lsn, commit_time, changes, end_lsn: has_end.then_some(end_lsn) })
}

fn put_row(out: &mut Pieces, row: &Row) {
    put_number(&mut out.last, row.0.len() as u64);
    for datum in &row.0 {
        match datum {
            Datum::Null => put_number(&mut out.last, NULL),
            Datum::Absent => put_number(&mut out.last, ABSENT),
            Datum::Text(text) => {
                put_number(&mut out.last, text.len() as u64 + TEXT);
                out.put(text);
            }
        }
    }
}

fn row(from: &mut Bytes) -> Result<Row, Damaged> {
    let count = number(from)?;
    let mut datums = Vec::with_capacity(usize::try_from(count).unwrap_or(usize::MAX).min(MOST_COLUMNS));
    for _ in 0..count {
        datums.push(match number(from)? {
            NULL => Datum::Null,
            ABSENT => Datum::Absent,
            length => {
                let length = usize::try_from(length - TEXT).map_err(|_| Damaged)?;
                if length > from.remaining() {
                    return Err(Damaged);
                }
                Datum::Text(from.split_to(length))
            }
        });
    }
    Ok(Row(datums))
}

/// Seven bits a byte, the lowest first; the highest bit says that more follow.
fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.put_u8(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.put_u8(number.to_le_bytes()[0]);
}

fn number(from: &mut Bytes) -> Result<u64, Damaged> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let byte = from.try_get_u8().map_err(|_| Damaged)?;
        number |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Damaged)
}
