//! Where changes come from: the live slot.
//!
//! `slot` makes the slot and knows which failures are definite; `slot_task` is the walreceiver: it owns the replication
//! connection and the assembler, hands fragments to one bounded queue, and confirms what has been handed on. Who gets a
//! change is the router's business.

pub mod slot;
pub mod slot_task;

use crate::lsn::Lsn;

/// How the source is doing: published on a `watch`, newest wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceState {
    /// Whether the stream runs.
    pub streaming: bool,
    /// Whether it has run: from then on the slot keeps what commits, whatever happens to the connection.
    pub has_slot: bool,
    /// Received up to here.
    pub received: Lsn,
    /// Told the server up to here.
    pub confirmed: Lsn,
    /// Why the stream does not run, and what to do about it.
    pub problem: Option<String>,
}
