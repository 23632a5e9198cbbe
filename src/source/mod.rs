//! Where changes come from: the live slot.
//!
//! `slot` makes the slot and knows which failures are definite; `slot_task` is the walreceiver: it owns the replication
//! connection and the assembler, hands fragments to one bounded queue, and confirms what has been handed on. Who gets a
//! change is the router's business.

pub mod outbox;
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
    /// The running stream, or the last one.
    pub stream: Option<StreamState>,
}

/// One connection's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamState {
    /// Tells it from those before it.
    pub number: u64,
    /// Where it began: it has every transaction that committed from here on.
    pub from: Lsn,
    /// The slot's `catalog_xmin` when it began: every transaction before that had ended.
    pub catalog_xmin: Option<u32>,
    /// Since when the stream, through all reconnects, has had the publication of lookup tables; none while it has not.
    pub lookups_since: Option<Lsn>,
    /// Why it has not.
    pub lookups_problem: Option<String>,
    /// Since when the stream, through all reconnects, has had the messages of the database; none while it has not.
    pub messages_since: Option<Lsn>,
    /// Why it has not.
    pub messages_problem: Option<String>,
}

impl SourceState {
    /// Whether messages of the database come now.
    pub fn streams_messages(&self) -> bool {
        self.streaming && self.stream.as_ref().is_some_and(|stream| stream.messages_since.is_some())
    }
}

/// What whoever reads the stream wishes of it: that it begins anew at this position, or behind it, once everything
/// before that is handed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// The position.
    pub from: Lsn,
    /// Whether there was a publication of lookup tables before it.
    pub lookups: bool,
    /// The same for the publication of messages: the position behind which whatever commits was begun when there was
    /// that publication, and nothing in the way of streaming it.
    pub messages: Option<Lsn>,
}

impl Wish {
    /// Where the next stream may begin at the earliest.
    pub fn reach(&self) -> Lsn {
        self.from.max(self.messages.unwrap_or(Lsn::ZERO))
    }
}
