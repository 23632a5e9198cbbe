//! A change → the JSON body clients see, and the frames that carry it. Pure.
//!
//! A body is made once for each column set and extent of the old image, a frame once for each topic, encoding and list
//! of ids; every further receiver costs a reference count.

use super::{
    image::Image,
    subscription::{ColumnSet, Fault},
};
use crate::{
    change::{
        Change, Datum, Operation,
        cursor::Cursor,
        value::{TypeRegistry, push_string, render},
    },
    hub::{Member, MessageForm},
    policy::catalog::{ColumnIndex, Table},
    protocol::{Event, Frame},
};
use jiff::{Timestamp, fmt::temporal::DateTimePrinter};
use serde_json::Value;
use std::{collections::HashMap, fmt::Write, sync::Arc};

/// Values whose JSON is longer than this are left out of a change that is too large (protocol reference, 4.5).
const KEPT_OF_TOO_LARGE_BYTES: usize = 64;
/// Of a value with so much text nobody has to find out how long its JSON is.
const SURELY_LEFT_OUT_BYTES: usize = 4096;
/// Microseconds between the epochs of Unix and of Postgres.
const POSTGRES_EPOCH_MICROSECONDS: i64 = 946_684_800_000_000;

/// Milliseconds, cut off.
static COMMIT_TIME: DateTimePrinter = DateTimePrinter::new().precision(Some(3));

/// What of the change a subscriber gets to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Extent {
    /// The change with the old image's granted columns.
    WholeOld,
    /// The change with the key as the old image.
    KeyOnly,
    /// The change with the key of the *new* image in the place of an old one he may not see.
    NewKey,
    /// The row is no longer his: the key of the old image, as a DELETE.
    Left,
    /// The row has become his: the new image, as an INSERT.
    Entered,
    /// Only that there was one.
    Fault(Fault),
}

impl Extent {
    /// The operation the client is told of a change.
    pub(super) fn told(self, operation: Operation) -> Operation {
        match self {
            Extent::Left => Operation::Delete,
            Extent::Entered => Operation::Insert,
            Extent::WholeOld | Extent::KeyOnly | Extent::NewKey | Extent::Fault(_) => operation,
        }
    }

    /// Why the client is told another operation than the change's.
    fn reason(self) -> Option<&'static str> {
        match self {
            Extent::Left => Some("left"),
            Extent::Entered => Some("entered"),
            Extent::WholeOld | Extent::KeyOnly | Extent::NewKey | Extent::Fault(_) => None,
        }
    }
}

type FrameKey = (Arc<str>, &'static str, MessageForm, Vec<u32>, Option<Cursor>);

/// Renders one change.
pub(super) struct Rendering<'a> {
    change: &'a Change,
    table: &'a Table,
    types: &'a TypeRegistry,
    old: Option<Image<'a>>,
    new: Option<Image<'a>>,
    commit_time: i64,
    max_record_bytes: usize,
    bodies: Vec<(Arc<ColumnSet>, Extent, Body)>,
}

struct Body {
    json: String,
    frames: HashMap<FrameKey, Frame>,
}

impl<'a> Rendering<'a> {
    /// A rendering of `change`, whose columns stand in the table's at `map`.
    pub(super) fn new(
        change: &'a Change,
        table: &'a Table,
        map: &'a [Option<usize>],
        types: &'a TypeRegistry,
        commit_time: i64,
        max_record_bytes: usize,
    ) -> Rendering<'a> {
        let old = change.old.as_ref().map(|old| Image::new(&old.row, map));
        let new = change.new.as_ref().map(|row| Image::new(row, map));
        Rendering { change, table, types, old, new, commit_time, max_record_bytes, bodies: Vec::new() }
    }

    /// The new and the old image as far as they are told.
    fn images(&self, extent: Extent) -> (Option<&Image<'a>>, Option<&Image<'a>>) {
        match extent {
            Extent::Left => (None, self.old.as_ref()),
            Extent::Entered => (self.new.as_ref(), None),
            _ => (self.new.as_ref(), self.old.as_ref()),
        }
    }

    /// Whether what is told of the change takes too much room.
    fn is_too_large(&self, extent: Extent) -> bool {
        let (new, old) = self.images(extent);
        let bytes = old.into_iter().chain(new).map(|image| size(image, self.table)).sum::<usize>();
        extent != Extent::Left && bytes > self.max_record_bytes
    }

    /// The message about the change for a member, for these of its bindings. Whoever may come back is told the cursor
    /// behind it.
    pub(super) fn message(
        &mut self,
        member: &Member,
        columns: &Arc<ColumnSet>,
        extent: Extent,
        (ids, cursor): (Vec<u32>, Cursor),
    ) -> Frame {
        let at = self.bodies.iter().position(|(set, known, _)| {
            *known == extent && (Arc::ptr_eq(set, columns) || (matches!(extent, Extent::Fault(_)) || set == columns))
        });
        let at = at.unwrap_or_else(|| {
            let body = Body { json: self.body(columns, extent), frames: HashMap::new() };
            self.bodies.push((columns.clone(), extent, body));
            self.bodies.len() - 1
        });
        let operation = extent.told(self.change.operation);
        let Body { json, frames } = &mut self.bodies[at].2;
        let cursor = (member.form() == MessageForm::Resumable).then_some(cursor);
        let key = (member.topic().clone(), member.codec().name(), member.form(), ids, cursor);
        frames.entry(key).or_insert_with_key(|key| frame(member, key, operation, json)).clone()
    }

    fn body(&self, columns: &ColumnSet, extent: Extent) -> String {
        let mut body = Vec::with_capacity(self.capacity(columns, extent));
        self.write_body(&mut body, columns, extent);
        // All of it was made of texts.
        String::from_utf8(body).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }

    /// About how long a body gets.
    fn capacity(&self, columns: &ColumnSet, extent: Extent) -> usize {
        if self.is_too_large(extent) {
            return columns.listing.len() + 1024;
        }
        let bytes = |image: &Image<'_>| size(image, self.table) + 8 * columns.columns.len();
        let images = self.old.iter().chain(&self.new).map(bytes).sum::<usize>();
        columns.listing.len() + images.min(2 * self.max_record_bytes) + 256
    }

    fn write_body(&self, body: &mut Vec<u8>, columns: &ColumnSet, extent: Extent) {
        let operation = extent.told(self.change.operation);
        body.extend_from_slice(br#"{"schema":"#);
        push_string(self.table.schema.as_bytes(), body);
        body.extend_from_slice(br#","table":"#);
        push_string(self.table.name.as_bytes(), body);
        body.extend_from_slice(br#","type":""#);
        body.extend_from_slice(operation.name().as_bytes());
        if let Extent::Fault(fault) = extent {
            let old = if operation == Operation::Update { r#","old_record":{}"# } else { "" };
            let rest =
                format!(r#"","commit_timestamp":null,"columns":[],"record":{{}}{old},"errors":["{}"]}}"#, fault.text());
            return body.extend_from_slice(rest.as_bytes());
        }
        body.extend_from_slice(br#"","commit_timestamp":""#);
        body.extend_from_slice(commit_timestamp(self.commit_time).as_bytes());
        body.extend_from_slice(br#"","columns":"#);
        body.extend_from_slice(columns.listing.as_bytes());
        let is_too_large = self.is_too_large(extent);
        if let (Some(new), _) = self.images(extent) {
            body.extend_from_slice(br#","record":"#);
            self.record(body, new, &columns.columns, is_too_large);
        }
        if operation != Operation::Insert {
            body.extend_from_slice(br#","old_record":"#);
            self.old_record(body, columns, extent, is_too_large);
        }
        body.extend_from_slice(br#","errors":"#);
        body.extend_from_slice(if is_too_large { br#"["Error 413: Payload Too Large"]"# } else { b"null" });
        if let Some(reason) = extent.reason() {
            body.extend_from_slice(format!(r#","reason":"{reason}""#).as_bytes());
        }
        body.push(b'}');
    }

    /// The old image, or its key; when Postgres logged none, the key did not change and stands in the new image.
    fn old_record(&self, body: &mut Vec<u8>, columns: &ColumnSet, extent: Extent, is_too_large: bool) {
        let key = || -> Vec<ColumnIndex> {
            columns.columns.iter().copied().filter(|index| self.table.primary_key.contains(index)).collect()
        };
        let (image, columns) = match (&self.old, &self.new) {
            (Some(old), _) if extent == Extent::WholeOld => (old, columns.columns.clone()),
            (None, Some(new)) if extent == Extent::WholeOld => {
                let identity = columns.columns.iter().copied().filter(|&index| {
                    new.is_key(index, &self.change.relation) || self.table.primary_key.contains(&index)
                });
                (new, identity.collect())
            }
            (Some(old), _) if matches!(extent, Extent::KeyOnly | Extent::Left) => (old, key()),
            (_, Some(new)) => (new, key()),
            (Some(old), None) => (old, key()),
            (None, None) => return body.extend_from_slice(b"{}"),
        };
        self.record(body, image, &columns, is_too_large);
    }

    fn record(&self, body: &mut Vec<u8>, image: &Image<'_>, columns: &[ColumnIndex], is_too_large: bool) {
        body.push(b'{');
        let mut is_first = true;
        for &index in columns {
            let column = &self.table.columns[index];
            let datum = image.get(index);
            let is_left_out = match datum {
                Datum::Absent => true,
                Datum::Null => is_too_large,
                Datum::Text(text) => is_too_large && text.len() > SURELY_LEFT_OUT_BYTES,
            };
            if is_left_out {
                continue;
            }
            let before = body.len();
            if !is_first {
                body.push(b',');
            }
            push_string(column.name.as_bytes(), body);
            body.push(b':');
            let start = body.len();
            match datum {
                Datum::Text(text) => render(self.types, column.type_oid, text, body),
                Datum::Null | Datum::Absent => body.extend_from_slice(b"null"),
            }
            if is_too_large && body.len() - start > KEPT_OF_TOO_LARGE_BYTES {
                body.truncate(before);
            } else {
                is_first = false;
            }
        }
        body.push(b'}');
    }
}

fn frame(member: &Member, key: &FrameKey, operation: Operation, body: &str) -> Frame {
    let (topic, _, form, ids, cursor) = key;
    let modern;
    let (event, payload) = match form {
        MessageForm::Modern | MessageForm::Resumable => {
            modern = with_ids(ids, body, cursor.as_ref());
            ("postgres_changes", modern.as_str())
        }
        MessageForm::Legacy => (operation.name(), body),
    };
    member.codec().event(&Event { join_ref: &Value::Null, reference: &Value::Null, topic, event, payload })
}

fn with_ids(ids: &[u32], body: &str, cursor: Option<&Cursor>) -> String {
    let mut payload = String::with_capacity(body.len() + 96 + 11 * ids.len());
    payload.push_str(r#"{"ids":["#);
    for (at, id) in ids.iter().enumerate() {
        if at > 0 {
            payload.push(',');
        }
        // Writing to a string cannot fail.
        let _ = write!(payload, "{id}");
    }
    payload.push_str(r#"],"data":"#);
    match (cursor, body.strip_suffix('}')) {
        (Some(cursor), Some(open)) => {
            payload.push_str(open);
            // Writing to a string cannot fail.
            let _ = write!(payload, r#","cursor":"{cursor}"}}"#);
        }
        _ => payload.push_str(body),
    }
    payload.push('}');
    payload
}

/// About what the change would take as text: names and values of an image.
fn size(image: &Image<'_>, table: &Table) -> usize {
    let columns = table.columns.iter().enumerate();
    columns
        .map(|(index, column)| match image.get(index) {
            Datum::Text(text) => column.name.len() + text.len(),
            Datum::Null | Datum::Absent => column.name.len(),
        })
        .sum()
}

/// The time of a commit as clients see it: UTC with milliseconds and `Z`.
pub(crate) fn commit_timestamp(microseconds: i64) -> String {
    let unix = microseconds.saturating_add(POSTGRES_EPOCH_MICROSECONDS);
    let time = Timestamp::from_microsecond(unix).unwrap_or(Timestamp::UNIX_EPOCH);
    COMMIT_TIME.timestamp_to_string(&time)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_commit_time_has_milliseconds_and_z() {
        assert_eq!(super::commit_timestamp(0), "2000-01-01T00:00:00.000Z");
        assert_eq!(super::commit_timestamp(999_999), "2000-01-01T00:00:00.999Z");
        assert_eq!(super::commit_timestamp(26 * 31_557_600_000_000 + 1_234_567), "2025-12-31T12:00:01.234Z");
    }
}
