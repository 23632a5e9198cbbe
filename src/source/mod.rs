//! Where changes come from: the live slot, or the outbox where there can be none.
//!
//! `choice` says which, and goes from one to the other; `outbox` is the one without a slot.
//! `slot` makes the slot (`making`: which may wait long) and knows which failures are definite; `slot_task` is the walreceiver: it owns the replication
//! connection and the assembler, hands fragments to one bounded queue (`feed`), and confirms what has been handed on, a window
//! behind (`window`). `guard` watches how much WAL that keeps. Who gets a change is the router's business.

pub mod choice;
mod farewell;
mod feed;
pub mod guard;
mod holder;
mod ledger;
pub mod making;
pub mod outbox;
pub mod slot;
pub mod slot_task;
mod window;

pub use feed::{FeedReceiver, FeedSender, Place, ReaderGone, feed};
pub use window::Config as WindowConfig;

use crate::{
    change::{Fragment, cursor::Epoch, position::Era},
    lsn::Lsn,
};
use making::Making;
use std::{collections::BTreeSet, fmt, sync::Arc};

/// What flows from a source to whoever reads it, in this order.
#[derive(Clone, Debug)]
pub enum Feed {
    /// What comes from here on is of a new era. It is in the queue, so that no change can overtake it.
    Begin(Arc<Beginning>),
    /// Changes.
    Fragment(Arc<Fragment>),
}

/// How an era begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// The era.
    pub era: Era,
    /// It has every transaction that committed from here on.
    pub from: Lsn,
    /// Older epochs whose positions below these are positions of this era, too.
    pub accepts: Vec<(Epoch, Lsn)>,
    /// How it goes with the era before.
    pub follows: Follows,
    /// What commits before this position is nothing new, when that is not what the log said when the server began.
    pub new_from: Option<Lsn>,
    /// Where its changes are read.
    pub kind: Kind,
}

/// Where changes are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// In the log.
    #[default]
    Log,
    /// In the outbox; positions are its numbers.
    Outbox,
    /// Neither is certain: it goes from one to the other.
    Between,
}

/// How an era goes with the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Follows {
    /// There was none in this process.
    First,
    /// Everything between was or will be handed on, and nothing twice.
    Seamless,
    /// Changes between are lost.
    Gap(Gap),
}

/// What is lost between two eras.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Why.
    pub reason: GapReason,
    /// Up to where changes were handed on.
    pub old: Lsn,
    /// From where on they are again.
    pub new: Lsn,
}

/// Why changes are lost between two eras.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// The slot was gone, and was made again.
    SlotNew,
    /// The slot had lost its WAL, and was made again.
    SlotLost,
    /// The slot was dropped so that its WAL would not fill the disk.
    Shed,
    /// The publication was dropped and made again, or is younger than the slot.
    PublicationNew,
    /// The server is another one, or its log was reset or branched off before what had been received.
    OtherHistory,
    /// Somebody else read the slot meanwhile, and confirmed more than was received here.
    ReadByOthers,
    /// The stream broke off amid a transaction, and does not continue it as it began.
    Torn,
    /// The log cannot be read any more, and what the outbox has does not go on exactly where it ended.
    LogToOutbox,
    /// The outbox is not whole, or cannot be read.
    OutboxBroken,
    /// The outbox had reached its limit, and was emptied.
    OutboxFull,
}

impl GapReason {
    /// What clients and the log are told.
    pub fn text(self) -> &'static str {
        match self {
            GapReason::SlotNew => "the replication slot was made anew",
            GapReason::SlotLost => "the replication slot had lost its WAL and was made anew",
            GapReason::Shed => "the replication slot was dropped to keep its WAL within its budget",
            GapReason::PublicationNew => "the publication was made anew",
            GapReason::OtherHistory => "the database's log is another one",
            GapReason::ReadByOthers => "another server read the replication slot meanwhile",
            GapReason::Torn => "the stream broke off within a transaction",
            GapReason::LogToOutbox => "the log cannot be read any more",
            GapReason::OutboxBroken => "the outbox had lost changes",
            GapReason::OutboxFull => "the outbox had reached its limit and was emptied",
        }
    }
}

impl fmt::Display for GapReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.text())
    }
}

/// Up to where whoever reads has handed on what came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandedOn {
    /// The number of the era the position is of; 0 before there was any.
    pub era: u32,
    /// The position.
    pub lsn: Lsn,
}

/// How the source is doing: published on a `watch`, newest wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceState {
    /// Whether the stream runs.
    pub streaming: bool,
    /// Where changes are read.
    pub kind: Kind,
    /// Why they are read in the outbox, when the log was tried.
    pub why_not_log: Option<String>,
    /// While they are read in the outbox: the tables of the publication whose changes nobody captures.
    pub uncaptured: Arc<BTreeSet<u32>>,
    /// Received up to here.
    pub received: Lsn,
    /// Every transaction that committed before this has been handed on.
    pub reached: Lsn,
    /// Told the server up to here: a window behind.
    pub confirmed: Lsn,
    /// The number of the era that began last; 0 until there is a slot. What commits before that reaches nobody.
    pub era: u32,
    /// Whether another server reads the slot, and this one waits for its end.
    pub standby: bool,
    /// The slot that is being made, or that was when the connection broke.
    pub making: Option<Making>,
    /// Why the stream does not run, and what to do about it.
    pub problem: Option<String>,
    /// What tells the log from one the database has left, if it ever went back.
    pub fork: slot::Fork,
    /// The running stream, or the last one.
    pub stream: Option<StreamState>,
}

/// One connection's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamState {
    /// Tells it from those before it.
    pub number: u64,
    /// The oid of the publication clients subscribe to.
    pub publication: u32,
    /// Where its positions are of: only those of the log compare with what the database says of itself.
    pub kind: Kind,
    /// Where it began: it has every transaction that committed from here on.
    pub from: Lsn,
    /// Where the log ended when it began; none when that is not known.
    pub log_end: Option<Lsn>,
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

/// What the slot guard orders: that the slot of a stream is given up and made anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// The number of the stream that is meant: the one that runs, or ran last. No other is.
    pub stream: u64,
    /// Why; none while nothing is ordered.
    pub reason: Option<GapReason>,
}

impl Order {
    /// Why the slot of this stream is to be given up, if it is.
    pub fn of(self, stream: u64) -> Option<GapReason> {
        self.reason.filter(|_| self.stream == stream)
    }
}
