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
    /// Received up to here.
    pub received: Lsn,
    /// Told the server up to here.
    pub confirmed: Lsn,
    /// How often the stream began without continuing the one before it; 0 until there is a slot. What commits before
    /// that reaches nobody.
    pub beginnings: u64,
    /// Why the stream does not run, and what to do about it.
    pub problem: Option<String>,
}
