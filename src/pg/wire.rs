//! Messages over one socket to Postgres: read whole, bounded, safe to cancel. What they mean is `handshake`'s and
//! `replication`'s. Owns the errors of both.
//! Implements the framing of PostgreSQL's "Message Formats".

use crate::pgoutput::DecodeError;
use bytes::{Buf, BytesMut};
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::{ErrorResponseBody, Header, Message};
use std::{fmt, io};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The longest message Postgres can build (`MaxAllocSize`). A longer one is not Postgres speaking.
const MAX_MESSAGE_BYTES: usize = 0x3FFF_FFFF;

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// So much of a long message proves that the rest will come.
const PROOF_BYTES: usize = 1024 * 1024;

/// An error the server reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerError {
    /// The SQLSTATE.
    pub code: String,
    /// What it says.
    pub message: String,
    /// What it suggests.
    pub hint: Option<String>,
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLSTATE {})", self.message, self.code)
    }
}

impl std::error::Error for ServerError {}

/// Why the session failed.
#[derive(Debug, thiserror::Error)]
pub enum ReplicationError {
    /// The socket failed.
    #[error("connection to the database at {address} failed")]
    Io {
        /// Host and port.
        address: String,
        /// What the socket said.
        #[source]
        source: io::Error,
    },
    /// `sslmode` wants TLS and the server has none.
    #[error("the database at {address} offers no TLS, and sslmode requires it")]
    NoTls {
        /// Host and port.
        address: String,
    },
    /// The server asks for a way of authentication we do not have, or one the settings forbid.
    #[error("cannot authenticate to the database: {0}")]
    Authentication(&'static str),
    /// The server refused.
    #[error("the database refused")]
    Server(#[from] ServerError),
    /// The server said something the protocol does not allow here.
    #[error("the database broke the protocol: {0}")]
    Protocol(String),
    /// A frame of the stream cannot be read.
    #[error("cannot read the replication stream")]
    Decode(#[from] DecodeError),
    /// The server ended the stream.
    #[error("the database ended the replication stream")]
    Ended,
}

impl ReplicationError {
    /// The SQLSTATE, when the server gave one.
    pub fn code(&self) -> Option<&str> {
        match self {
            ReplicationError::Server(error) => Some(&error.code),
            _ => None,
        }
    }
}

pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A socket and what has been read from it.
pub(super) struct Wire {
    stream: Box<dyn Io>,
    pub(super) input: BytesMut,
    address: String,
}

impl Wire {
    pub(super) fn new(stream: Box<dyn Io>, address: String) -> Wire {
        Wire { stream, input: BytesMut::with_capacity(CHUNK_BYTES), address }
    }

    /// Reads until a whole message stands in the buffer; its length with the tag. Safe to cancel.
    pub(super) async fn fill_message(&mut self) -> Result<usize, ReplicationError> {
        loop {
            if let Some(header) = Header::parse(&self.input).map_err(|source| self.io(source))? {
                let length = usize::try_from(header.len()).unwrap_or(usize::MAX).saturating_add(1);
                if length > MAX_MESSAGE_BYTES {
                    return Err(ReplicationError::Protocol(format!("a message of {length} bytes")));
                }
                if self.input.len() >= length {
                    return Ok(length);
                }
                if self.input.capacity() < length && self.input.capacity() == self.input.len() {
                    // As much again as has come, at first: that a message is so long, only the rest of it proves. What
                    // has come so far need not be copied again and again, so then all of it.
                    let is_proved = self.input.len() >= PROOF_BYTES;
                    let room = if is_proved { length } else { length.min(2 * self.input.len()) };
                    self.renew(room.max(CHUNK_BYTES));
                }
            }
            if self.input.capacity() == self.input.len() {
                self.renew(CHUNK_BYTES);
            }
            let read = self.stream.read_buf(&mut self.input).await.map_err(|source| self.io(source))?;
            if read == 0 {
                return Err(self.io(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection")));
            }
        }
    }

    /// Goes on in a new buffer. Parts of messages keep alive the buffer they were read into, so a small one must not stand
    /// in a large one: a message that is larger than a chunk gets one of its own, and its room is not used again.
    fn renew(&mut self, capacity: usize) {
        let mut input = BytesMut::with_capacity(self.input.len().max(capacity));
        input.extend_from_slice(&self.input);
        self.input = input;
    }

    pub(super) async fn message(&mut self) -> Result<Message, ReplicationError> {
        let length = self.fill_message().await?;
        if self.input.first() == Some(&b'v') {
            // NegotiateProtocolVersion, unknown to postgres-protocol: the server lacks an option we never sent.
            self.input.advance(length);
            return Err(ReplicationError::Protocol("the server does not speak protocol 3.0".to_owned()));
        }
        Message::parse(&mut self.input)
            .map_err(|source| self.io(source))?
            .ok_or_else(|| ReplicationError::Protocol("a message shorter than its header says".to_owned()))
    }

    pub(super) async fn send(&mut self, output: &[u8]) -> Result<(), ReplicationError> {
        let written = async {
            self.stream.write_all(output).await?;
            self.stream.flush().await
        };
        written.await.map_err(|source| self.io(source))
    }

    pub(super) fn io(&self, source: io::Error) -> ReplicationError {
        ReplicationError::Io { address: self.address.clone(), source }
    }
}

pub(super) fn server_error(body: &ErrorResponseBody) -> ServerError {
    let mut error = ServerError { code: String::new(), message: String::new(), hint: None };
    let mut fields = body.fields();
    while let Ok(Some(field)) = fields.next() {
        let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'C' => error.code = value,
            b'M' => error.message = value,
            b'H' => error.hint = Some(value),
            _ => {}
        }
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection on which this is said, and then no more.
    async fn wire(said: &[u8]) -> Wire {
        let (mut server, client) = tokio::io::duplex(said.len());
        server.write_all(said).await.unwrap();
        Wire::new(Box::new(client), "h:1".to_owned())
    }

    #[tokio::test]
    async fn a_length_that_nothing_proves_takes_no_memory() {
        let mut wire = wire(&[&b"d\x3f\xff\xff\xfe"[..], &[0; 100]].concat()).await;
        assert!(wire.message().await.is_err(), "the connection is closed before");
        assert!(wire.input.capacity() < 4 * CHUNK_BYTES, "{}", wire.input.capacity());
    }

    #[tokio::test]
    async fn a_message_longer_than_a_piece_is_read_whole() {
        let body = vec![7; 5 * CHUNK_BYTES + 3];
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        let mut wire = wire(&[b"d", &length[..], &body].concat()).await;
        let Message::CopyData(read) = wire.message().await.unwrap() else { panic!("data") };
        assert!(read.into_bytes() == body);
    }
}
