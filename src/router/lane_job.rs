//! What the router hands to the database lane: changes and who may get them, if Postgres says yes. Plain values.

use super::{backlog::size, matching::Wanted, sight::Sights, subscription::TableSubscription};
use crate::{
    change::Fragment,
    claims::Claims,
    hub::{Generation, OnItsWay},
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
    /// About how many bytes the job keeps alive.
    pub(super) fn bytes(&self) -> usize {
        size(&self.fragment) + 256 * self.work.iter().map(|work| work.candidates.len()).sum::<usize>()
    }
}
