//! `Backlog`: the last fragments in memory, so that those who lag can be served again. Pure.

use crate::change::{Fragment, cursor::Beside, position::Position};
use std::{collections::VecDeque, sync::Arc};

struct Entry {
    fragment: Arc<Fragment>,
    bytes: usize,
}

/// The newest fragments, up to a bound of bytes.
pub(super) struct Backlog {
    entries: VecDeque<Entry>,
    bytes: usize,
    limit_bytes: usize,
    /// Everything before this position is gone, or never came.
    start: Position,
    /// How the transaction that had to make room last was streamed.
    gone: Option<Beside>,
    /// Bytes that came since somebody asked.
    pushed: usize,
}

impl Backlog {
    pub(super) fn new(limit_bytes: usize) -> Backlog {
        Backlog { entries: VecDeque::new(), bytes: 0, limit_bytes, start: Position::default(), gone: None, pushed: 0 }
    }

    /// Empties it: what comes next is complete from here on.
    pub(super) fn begin(&mut self, start: Position) {
        *self = Backlog { start, ..Backlog::new(self.limit_bytes) };
    }

    /// Whether everything from `position` on is still there, or yet to come.
    pub(super) fn reaches(&self, position: Position) -> bool {
        position >= self.start
    }

    /// Adds the newest fragment; the oldest ones make room. The newest is always kept.
    pub(super) fn push(&mut self, fragment: Arc<Fragment>) {
        if fragment.changes.is_empty() {
            return;
        }
        let bytes = fragment.bytes();
        self.bytes += bytes;
        self.pushed = self.pushed.saturating_add(bytes);
        self.entries.push_back(Entry { fragment, bytes });
        while self.bytes > self.limit_bytes && self.entries.len() > 1 {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= oldest.bytes;
            self.start = self.start.max(end(&oldest.fragment));
            self.gone = Some(oldest.fragment.beside);
        }
    }

    /// The position before which everything is gone soon; none while there is room for a good deal more.
    pub(super) fn edge(&self) -> Option<Position> {
        let is_nearly_full = self.bytes > self.limit_bytes / 4 * 3;
        let quarter = self.entries.get(self.entries.len() / 4)?;
        is_nearly_full.then(|| end(&quarter.fragment))
    }

    /// Bytes it holds.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that came since `take_pushed`.
    pub(super) fn pushed(&self) -> usize {
        self.pushed
    }

    /// Begins to count anew.
    pub(super) fn take_pushed(&mut self) {
        self.pushed = 0;
    }

    /// The fragment that came last.
    pub(super) fn newest(&self) -> Option<&Arc<Fragment>> {
        self.entries.back().map(|entry| &entry.fragment)
    }

    /// The position behind which at most so many bytes are; none while all of it is less.
    pub(super) fn before_last(&self, bytes: usize) -> Option<Position> {
        let mut behind = 0;
        let mut entries = self.entries.iter().rev();
        entries.find_map(|entry| {
            behind += entry.bytes;
            (behind > bytes).then(|| end(&entry.fragment))
        })
    }

    /// How the transaction of a position was streamed, while there is something of it or of what is directly behind it.
    pub(super) fn beside(&self, position: Position) -> Option<Beside> {
        let of = |fragment: &Fragment| (fragment.era.number, fragment.commit_lsn);
        let transaction = (position.era, position.commit_lsn);
        let first = self.entries.partition_point(|entry| of(&entry.fragment) < transaction);
        let found = self.entries.get(first).filter(|entry| of(&entry.fragment) == transaction);
        let was_last = (self.start.era, self.start.commit_lsn) == transaction;
        found.map(|entry| entry.fragment.beside).or(self.gone.filter(|_| was_last))
    }

    /// The fragments that hold changes from `position` on, or none when some of these are gone.
    pub(super) fn from(&self, position: Position) -> Option<impl Iterator<Item = &Arc<Fragment>>> {
        // They stand in their order, and whoever is behind is so by few of many.
        let first = self.entries.partition_point(|entry| end(&entry.fragment) <= position);
        self.reaches(position).then(|| self.entries.range(first..).map(|entry| &entry.fragment))
    }
}

/// The position behind the last change of a fragment.
fn end(fragment: &Fragment) -> Position {
    let ordinal = fragment.changes.last().map_or(0, |change| change.ordinal + 1);
    Position { era: fragment.era.number, commit_lsn: fragment.commit_lsn, ordinal }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        change::{
            Change, Operation,
            position::Era,
            relation::{Relation, ReplicaIdentity},
        },
        lsn::Lsn,
    };

    fn fragment(lsn: u64, ordinals: std::ops::Range<u64>) -> Arc<Fragment> {
        let relation = Arc::new(Relation {
            oid: 1,
            schema: "s".to_owned(),
            name: "t".to_owned(),
            replica_identity: ReplicaIdentity::Default,
            columns: Vec::new(),
        });
        let change = |ordinal| Change {
            operation: Operation::Insert,
            relation: relation.clone(),
            old: None,
            new: None,
            ordinal,
        };
        let changes = ordinals.map(change).collect();
        let (era, beside) = (Era::default(), Beside(lsn));
        Arc::new(Fragment { era, beside, xid: 1, commit_lsn: Lsn(lsn), commit_time: 0, changes, end_lsn: None })
    }

    fn position(lsn: u64, ordinal: u64) -> Position {
        Position { era: 0, commit_lsn: Lsn(lsn), ordinal }
    }

    fn found(backlog: &Backlog, from: Position) -> Option<Vec<u64>> {
        Some(backlog.from(from)?.map(|fragment| fragment.commit_lsn.0).collect())
    }

    #[test]
    fn a_lagging_reader_finds_what_it_missed_and_nothing_before_it() {
        let mut backlog = Backlog::new(1 << 20);
        for (lsn, ordinals) in [(1, 0..2), (2, 0..2), (2, 2..4), (3, 0..1)] {
            backlog.push(fragment(lsn, ordinals));
        }
        assert_eq!(found(&backlog, position(1, 1)), Some(vec![1, 2, 2, 3]));
        assert_eq!(found(&backlog, position(2, 2)), Some(vec![2, 3]));
        assert_eq!(found(&backlog, position(3, 1)), Some(vec![]));
    }

    #[test]
    fn how_a_transaction_was_streamed_is_known_while_there_is_something_of_it() {
        let mut backlog = Backlog::new(fragment(1, 0..1).bytes() * 3);
        for (lsn, ordinals) in [(1, 0..1), (2, 0..1), (2, 1..2), (4, 0..1)] {
            backlog.push(fragment(lsn, ordinals));
        }
        let found =
            [(1, 0), (2, 0), (2, 9), (3, 0), (4, 1)].map(|(lsn, ordinal)| backlog.beside(position(lsn, ordinal)));
        assert_eq!(found, [Some(Beside(1)), Some(Beside(2)), Some(Beside(2)), None, Some(Beside(4))]);
        assert_eq!(backlog.beside(Position { era: 1, ..position(2, 0) }), None);
        backlog.push(fragment(5, 0..1));
        assert_eq!(backlog.beside(position(1, 0)), None);
    }

    #[test]
    fn what_was_dropped_for_room_cannot_be_read_from_any_more() {
        let mut backlog = Backlog::new(fragment(1, 0..1).bytes() * 3);
        for lsn in 1..=3 {
            backlog.push(fragment(lsn, 0..1));
        }
        assert_eq!(found(&backlog, position(1, 0)), Some(vec![1, 2, 3]));
        backlog.push(fragment(4, 0..1));
        assert_eq!(found(&backlog, position(1, 0)), None, "a part is never served");
        assert_eq!(found(&backlog, position(2, 0)), Some(vec![2, 3, 4]));
    }

    #[test]
    fn what_is_gone_soon_is_the_oldest_quarter_once_it_is_nearly_full() {
        let mut backlog = Backlog::new(fragment(1, 0..1).bytes() * 8);
        for lsn in 1..=6 {
            backlog.push(fragment(lsn, 0..1));
            assert_eq!(backlog.edge(), None);
        }
        backlog.push(fragment(7, 0..1));
        assert_eq!(backlog.edge(), Some(position(2, 1)));
    }

    #[test]
    fn the_newest_fragment_stays_however_large_it_is() {
        let mut backlog = Backlog::new(1);
        backlog.push(fragment(1, 0..9));
        assert_eq!(found(&backlog, position(1, 3)), Some(vec![1]));
    }
}
