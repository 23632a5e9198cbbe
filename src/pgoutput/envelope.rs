//! What a walsender puts around its data, and the status updates it gets back (PostgreSQL documentation,
//! "Streaming Replication Protocol", START_REPLICATION).

use super::reader::{DecodeError, Reader};
use crate::lsn::Lsn;
use bytes::{BufMut, Bytes, BytesMut};

/// What arrives in one CopyData message of a replication stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Envelope {
    /// A piece of the stream.
    XLogData {
        /// Where the piece starts.
        start: Lsn,
        /// The end of the log on the server.
        end: Lsn,
        /// For pgoutput: exactly one message.
        data: Bytes,
    },
    /// A sign of life.
    Keepalive {
        /// The end of the log on the server: everything before it was sent or is of no interest to us.
        end: Lsn,
        /// Whether the server wants an answer at once.
        reply: bool,
    },
}

impl Envelope {
    /// Reads the body of a CopyData message.
    pub fn decode(frame: Bytes) -> Result<Envelope, DecodeError> {
        let mut reader = Reader::new(frame);
        match reader.u8("envelope tag")? {
            b'w' => {
                let start = reader.lsn("XLogData start")?;
                let end = reader.lsn("XLogData end")?;
                reader.i64("XLogData clock")?;
                Ok(Envelope::XLogData { start, end, data: reader.rest() })
            }
            b'k' => {
                let end = reader.lsn("keepalive end")?;
                reader.i64("keepalive clock")?;
                let reply = reader.u8("keepalive reply flag")? != 0;
                reader.end("keepalive")?;
                Ok(Envelope::Keepalive { end, reply })
            }
            tag => Err(DecodeError::Tag { what: "envelope", tag }),
        }
    }
}

/// What we tell the server about how far we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusUpdate {
    /// Received up to here.
    pub written: Lsn,
    /// Handed on up to here: what lies before may be forgotten by the server.
    pub flushed: Lsn,
    /// Microseconds since 2000-01-01 UTC.
    pub clock: i64,
    /// Whether the server is to answer at once, to prove that it is still there.
    pub reply: bool,
}

impl StatusUpdate {
    /// The body of the CopyData message.
    pub fn encode(&self) -> Bytes {
        let mut body = BytesMut::with_capacity(34);
        body.put_u8(b'r');
        body.put_u64(self.written.0);
        body.put_u64(self.flushed.0);
        body.put_u64(self.flushed.0);
        body.put_i64(self.clock);
        body.put_u8(u8::from(self.reply));
        body.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keepalive(reply: u8) -> Vec<u8> {
        let mut frame = vec![b'k'];
        frame.extend(7u64.to_be_bytes());
        frame.extend(0u64.to_be_bytes());
        frame.push(reply);
        frame
    }

    #[test]
    fn a_keepalive_says_whether_it_wants_an_answer() {
        for (flag, reply) in [(0, false), (1, true)] {
            let envelope = Envelope::decode(keepalive(flag).into()).unwrap();
            assert_eq!(envelope, Envelope::Keepalive { end: Lsn(7), reply });
        }
    }

    #[test]
    fn a_keepalive_cut_anywhere_or_too_long_is_an_error() {
        let whole = keepalive(1);
        for length in 0..whole.len() {
            assert!(Envelope::decode(whole[..length].to_vec().into()).is_err());
        }
        let mut long = whole;
        long.push(0);
        assert_eq!(Envelope::decode(long.into()).unwrap_err(), DecodeError::Leftover { what: "keepalive", left: 1 });
    }

    #[test]
    fn a_piece_of_the_stream_keeps_its_data_as_it_came() {
        let mut frame = vec![b'w'];
        frame.extend(1u64.to_be_bytes());
        frame.extend(2u64.to_be_bytes());
        frame.extend(3u64.to_be_bytes());
        frame.extend(b"data");
        let envelope = Envelope::decode(frame.into()).unwrap();
        assert_eq!(envelope, Envelope::XLogData { start: Lsn(1), end: Lsn(2), data: Bytes::from_static(b"data") });
    }

    #[test]
    fn a_status_update_has_the_layout_of_the_protocol() {
        let body = StatusUpdate { written: Lsn(3), flushed: Lsn(2), clock: 9, reply: true }.encode();
        assert_eq!(body.len(), 34);
        assert_eq!(&body[..9], [b'r', 0, 0, 0, 0, 0, 0, 0, 3]);
        assert_eq!(body[16], 2);
        assert_eq!(body[24], 2);
        assert_eq!(body[32..], [9, 1]);
    }
}
