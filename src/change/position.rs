//! `Position`: what orders changes.

use crate::lsn::Lsn;

/// Where a change stands in the stream: transactions by their commit, changes by their number in the transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Where the transaction's commit record is.
    pub commit_lsn: Lsn,
    /// The change's number in the transaction, from 0.
    pub ordinal: u64,
}
