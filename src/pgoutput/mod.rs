//! pgoutput: the bytes of a logical replication stream → messages. Pure.
//!
//! Implements protocol version 1 of PostgreSQL's "Logical Replication Message Formats" and the stream envelope of the
//! "Streaming Replication Protocol". Values stay slices of the frame they came in. Transactions are put together by
//! `change::assemble`.

pub mod envelope;
pub mod message;
mod reader;
pub mod tuple;

pub use message::{Message, decode};
pub use reader::DecodeError;
