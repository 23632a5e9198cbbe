//! TupleData: the values of one row image ("Logical Replication Message Formats", TupleData).

use super::reader::{DecodeError, Reader};
use bytes::Bytes;

/// One column of a tuple.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TupleValue {
    /// NULL; in a key-only tuple also every column outside the key.
    Null,
    /// A TOAST value that the change did not touch and the log does not hold.
    Unchanged,
    /// The value in text form.
    Text(Bytes),
    /// The value in binary form; sent only when asked for with `binary`.
    Binary(Bytes),
}

/// The values of one row image, in the order of the relation's columns.
pub type Tuple = Vec<TupleValue>;

pub(super) fn read(reader: &mut Reader) -> Result<Tuple, DecodeError> {
    let count = reader.count16("tuple column count")?;
    // 1,600 columns are the most Postgres has; a longer count runs into the end of the frame.
    let mut tuple = Vec::with_capacity(count.min(1600));
    for _ in 0..count {
        tuple.push(match reader.u8("tuple value tag")? {
            b'n' => TupleValue::Null,
            b'u' => TupleValue::Unchanged,
            b't' => TupleValue::Text(value(reader)?),
            b'b' => TupleValue::Binary(value(reader)?),
            tag => return Err(DecodeError::Tag { what: "tuple value", tag }),
        });
    }
    Ok(tuple)
}

fn value(reader: &mut Reader) -> Result<Bytes, DecodeError> {
    let length = reader.count32("tuple value length")?;
    reader.bytes(length, "tuple value")
}
