//! What one reader is to get, in its order: a row by itself, the rows of a large transaction, a row behind it. Pure, so
//! that the suite can ask whether it would see a row that comes twice, too early or not at all.

/// The ids in their order, and how far the reader is.
pub(crate) struct Sequence {
    /// The row before the large transaction.
    pub(crate) before: u64,
    /// The first of the transaction's rows, how far they are apart, and the last.
    pub(crate) rows: (u64, u64, u64),
    /// The row behind it.
    pub(crate) behind: u64,
    /// The place that is due.
    pub(crate) due: u64,
}

/// What a row means that has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    InOrder,
    /// So many before it were left out.
    Skipping(u64),
    /// It came before, or what came before it was to come later, or it is none of these rows.
    OutOfOrder,
}

impl Sequence {
    fn count(&self) -> u64 {
        let (first, step, last) = self.rows;
        last.checked_sub(first).map_or(0, |span| span / step + 1)
    }

    fn place(&self, id: u64) -> Option<u64> {
        let (first, step, last) = self.rows;
        match id {
            _ if id == self.before => Some(0),
            _ if id == self.behind => Some(self.count() + 1),
            _ if id < first || id > last || !(id - first).is_multiple_of(step) => None,
            _ => Some((id - first) / step + 1),
        }
    }

    /// Takes in a row that has come.
    pub(crate) fn arrive(&mut self, id: u64) -> Arrival {
        let Some(place) = self.place(id).filter(|place| *place >= self.due) else { return Arrival::OutOfOrder };
        let skipped = place - self.due;
        self.due = place + 1;
        if skipped == 0 { Arrival::InOrder } else { Arrival::Skipping(skipped) }
    }

    /// Rows that have not come.
    pub(crate) fn left(&self) -> u64 {
        (self.count() + 2).saturating_sub(self.due)
    }
}
