//! A checked cursor over a frame: the only place of this module that indexes a buffer.

use crate::lsn::Lsn;
use bytes::Bytes;

/// A frame that is not what the protocol says. The stream cannot go on behind it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The frame ended inside a field.
    #[error("frame ends inside {field}: {needed} more bytes needed, {left} left")]
    Short {
        /// The field that was being read.
        field: &'static str,
        /// Bytes the field needs.
        needed: usize,
        /// Bytes that are left.
        left: usize,
    },
    /// A tag the protocol does not have in this place.
    #[error("unknown {what} tag 0x{tag:02x}")]
    Tag {
        /// What was being read.
        what: &'static str,
        /// The byte found.
        tag: u8,
    },
    /// A name that is not UTF-8.
    #[error("{field} is not UTF-8")]
    Text {
        /// The field that was being read.
        field: &'static str,
    },
    /// A length or count below zero.
    #[error("{field} is negative")]
    Negative {
        /// The field that was being read.
        field: &'static str,
    },
    /// A message that goes on behind its end.
    #[error("{left} bytes left over behind {what}")]
    Leftover {
        /// The message that was read.
        what: &'static str,
        /// Bytes that are left.
        left: usize,
    },
}

/// Reads a frame from front to back.
pub(super) struct Reader {
    rest: Bytes,
}

impl Reader {
    pub(super) fn new(frame: Bytes) -> Reader {
        Reader { rest: frame }
    }

    pub(super) fn bytes(&mut self, length: usize, field: &'static str) -> Result<Bytes, DecodeError> {
        if length > self.rest.len() {
            return Err(DecodeError::Short { field, needed: length - self.rest.len(), left: self.rest.len() });
        }
        Ok(self.rest.split_to(length))
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(&self.bytes(N, field)?);
        Ok(array)
    }

    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        Ok(self.array::<1>(field)?[0])
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array(field)?))
    }

    pub(super) fn i32(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.array(field)?))
    }

    pub(super) fn i64(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.array(field)?))
    }

    pub(super) fn lsn(&mut self, field: &'static str) -> Result<Lsn, DecodeError> {
        Ok(Lsn(u64::from_be_bytes(self.array(field)?)))
    }

    /// A count of 16 bits.
    pub(super) fn count16(&mut self, field: &'static str) -> Result<usize, DecodeError> {
        usize::try_from(i16::from_be_bytes(self.array(field)?)).map_err(|_| DecodeError::Negative { field })
    }

    /// A count or length of 32 bits.
    pub(super) fn count32(&mut self, field: &'static str) -> Result<usize, DecodeError> {
        usize::try_from(self.i32(field)?).map_err(|_| DecodeError::Negative { field })
    }

    /// A text that ends with a zero byte.
    pub(super) fn text(&mut self, field: &'static str) -> Result<String, DecodeError> {
        let length =
            memchr::memchr(0, &self.rest).ok_or(DecodeError::Short { field, needed: 1, left: self.rest.len() })?;
        let bytes = self.bytes(length, field)?;
        self.bytes(1, field)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| DecodeError::Text { field })
    }

    pub(super) fn rest(self) -> Bytes {
        self.rest
    }

    pub(super) fn end(self, what: &'static str) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(DecodeError::Leftover { what, left }),
        }
    }
}
