//! `Position`: what orders changes within this process; `Era`: which history they are of.

use super::cursor::{Beside, Cursor, Epoch};
use crate::lsn::Lsn;

/// One uninterrupted history of changes within this process: what one slot sends, or the outbox holds, until the source
/// says that it begins anew. Positions of one era compare with each other, and those of a later era are behind them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Era {
    /// Its number in this process, from 1.
    pub number: u32,
    /// What it is called beyond this process.
    pub epoch: Epoch,
}

/// Where a change stands: eras in their order, transactions by their commit, changes by their number in the transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The era's number.
    pub era: u32,
    /// Where the transaction's commit record is.
    pub commit_lsn: Lsn,
    /// The change's number in the transaction, from 0.
    pub ordinal: u64,
}

impl Position {
    /// Before everything that commits from here on.
    pub fn before(era: u32, lsn: Lsn) -> Position {
        Position { era, commit_lsn: lsn, ordinal: 0 }
    }

    /// What a client may hold for it; `epoch` must be that of its era, and `beside` how its transaction was streamed. `part`
    /// counts the messages about the change at this position that were given already.
    pub fn cursor(self, epoch: Epoch, part: u32, beside: Beside) -> Cursor {
        let Position { commit_lsn, ordinal, .. } = self;
        let beside = if (ordinal, part) == (0, 0) { Beside::default() } else { beside };
        Cursor { epoch, commit_lsn, ordinal, part, beside }
    }
}
