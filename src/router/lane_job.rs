//! What the router hands to the database lane: changes and who may get them, if Postgres says yes, and messages that have
//! their place among these. Plain values.

use super::{matching::Wanted, sight::Sights, subscription::TableSubscription};
use crate::{
    change::{Change, Fragment, cursor::Cursor, position::Position},
    claims::Claims,
    hub::{Generation, OnItsWay},
    messages::Postponed,
    policy::catalog::{Catalog, Table},
};
use std::sync::Arc;

/// The work of one fragment.
pub(super) struct LaneJob {
    /// The changes.
    pub(super) fragment: Arc<Fragment>,
    /// The catalogue they were matched against.
    pub(super) catalog: Arc<Catalog>,
    /// What to do, in the order of the changes.
    pub(super) work: Vec<LaneWork>,
    /// Messages that some members get only behind changes, in the same order.
    pub(super) messages: Vec<LaneMessage>,
    /// Cursors for members that have changes here, or on their way before: behind all of it.
    pub(super) cursors: Vec<LaneCursor>,
}

/// A cursor for a member.
pub(super) struct LaneCursor {
    pub(super) member: OnItsWay,
    pub(super) generation: Generation,
    pub(super) position: Position,
    pub(super) cursor: Cursor,
}

/// A message of the database, in its place among the changes.
pub(super) struct LaneMessage {
    /// The place in the fragment of the change it is.
    pub(super) change: usize,
    /// The message and who waits for it.
    pub(super) postponed: Postponed,
}

/// One change and those who asked for it.
pub(super) struct LaneWork {
    /// The change's place in the fragment.
    pub(super) change: usize,
    /// Its table.
    pub(super) table: Arc<Table>,
    /// Where the relation has the table's columns.
    pub(super) map: Arc<[Option<usize>]>,
    /// Who asked for it.
    pub(super) candidates: Vec<Candidate>,
}

/// A subscriber who gets the change if he may see the row and the rest of his filter holds.
pub(super) struct Candidate {
    pub(super) member: OnItsWay,
    /// Since when he has been served without a lag.
    pub(super) generation: Generation,
    pub(super) claims: Claims,
    pub(super) subscription: Arc<TableSubscription>,
    /// Those of his bindings that may hear of it, as far as the process can tell.
    pub(super) bindings: Vec<Wanted>,
    /// His rights to the row, where the process knows them.
    pub(super) sights: Option<Sights>,
}

impl LaneJob {
    /// About how many bytes are asked about.
    pub(super) fn asked_bytes(&self) -> usize {
        self.work.iter().filter_map(|work| self.fragment.changes.get(work.change)).map(Change::bytes).sum()
    }

    /// About how many bytes the job keeps alive.
    pub(super) fn bytes(&self) -> usize {
        let candidates = self.work.iter().map(|work| work.candidates.len()).sum::<usize>();
        let waiting = self.messages.iter().map(|message| message.postponed.members()).sum::<usize>();
        self.fragment.bytes() + 256 * candidates + 16 * waiting + 256 * self.messages.len()
    }
}
