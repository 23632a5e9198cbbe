//! `Snapshot`: which transactions the loaded rows of a table already show.
//!
//! A table is read under a snapshot while the stream stands somewhere before or behind it. What the snapshot shows is
//! in the rows; what it does not show comes in the stream. The stream names transactions by the lower half of their
//! id, and orders them by the positions of their commits.

use crate::lsn::Lsn;

/// Which transactions a snapshot shows, and where the log stood after it was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Every transaction before this one has ended.
    xmin: u64,
    /// No transaction from this one on had ended.
    xmax: u64,
    /// Those between that had not, ascending.
    running: Vec<u64>,
    /// The end of the log, asked for after the snapshot was taken.
    settled: Lsn,
}

/// A text that is no snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a snapshot such as 10:20:10,14")]
pub struct ParseSnapshotError(String);

impl Snapshot {
    /// Reads `pg_current_snapshot()::text`. `settled` is the end of the log as it was asked for after that.
    pub fn parse(text: &str, settled: Lsn) -> Result<Snapshot, ParseSnapshotError> {
        let parsed = || {
            let mut parts = text.splitn(3, ':');
            let (xmin, xmax) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            let list = parts.next()?;
            let running: Result<Vec<u64>, _> = list.split(',').filter(|id| !id.is_empty()).map(str::parse).collect();
            let mut running = running.ok()?;
            running.sort_unstable();
            (xmin <= xmax).then_some(Snapshot { xmin, xmax, running, settled })
        };
        parsed().ok_or_else(|| ParseSnapshotError(text.to_owned()))
    }

    /// Whether the snapshot shows what a transaction of the stream did. What committed behind the end of the log as it
    /// was after the snapshot cannot be in it: so ids are compared only while they are near to each other, and that
    /// their lower halves come again does not matter.
    pub fn shows(&self, xid: u32, commit_lsn: Lsn) -> bool {
        commit_lsn < self.settled && self.contains(xid)
    }

    /// The end of the log after the snapshot: whatever commits from there on is not in it.
    pub fn settled(&self) -> Lsn {
        self.settled
    }

    /// Whether a transaction near to the snapshot had ended in it.
    fn contains(&self, xid: u32) -> bool {
        let id = self.widen(xid);
        id < self.xmin || (id < self.xmax && self.running.binary_search(&id).is_err())
    }

    /// The whole id nearest to the snapshot's end that has this lower half.
    fn widen(&self, xid: u32) -> u64 {
        const HALF: u64 = 1 << 31;
        let guess = (self.xmax & !u64::from(u32::MAX)) | u64::from(xid);
        if guess > self.xmax.saturating_add(HALF) {
            guess.checked_sub(1 << 32).unwrap_or(guess)
        } else if guess.saturating_add(HALF) < self.xmax {
            guess.saturating_add(1 << 32)
        } else {
            guess
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(text: &str) -> Snapshot {
        Snapshot::parse(text, Lsn(100)).unwrap()
    }

    #[test]
    fn what_had_ended_is_shown_and_what_ran_or_came_later_is_not() {
        let snapshot = snapshot("10:20:14,10");
        let shown: Vec<u32> = (8..23).filter(|&xid| snapshot.shows(xid, Lsn(50))).collect();
        assert_eq!(shown, [8, 9, 11, 12, 13, 15, 16, 17, 18, 19]);
    }

    #[test]
    fn what_commits_behind_the_log_end_of_the_snapshot_is_never_shown() {
        let snapshot = snapshot("10:20:");
        assert!(snapshot.shows(5, Lsn(99)));
        assert!(!snapshot.shows(5, Lsn(100)), "the same lower half, four thousand million transactions later");
    }

    #[test]
    fn ids_are_compared_across_the_wrap_of_their_lower_half() {
        let epoch = 1u64 << 32;
        let just_after = snapshot(&format!("{}:{}:{}", epoch - 3, epoch + 2, epoch - 3));
        for (xid, shown) in [(u32::MAX - 3, true), (u32::MAX - 2, false), (u32::MAX, true), (1, true), (2, false)] {
            assert_eq!(just_after.shows(xid, Lsn(1)), shown, "{xid}");
        }
        let just_before = snapshot(&format!("{0}:{0}:", 2 * epoch - 2));
        for (xid, shown) in [(u32::MAX - 2, true), (u32::MAX - 1, false), (3, false)] {
            assert_eq!(just_before.shows(xid, Lsn(1)), shown, "{xid}");
        }
        assert!(!snapshot("3:3:").shows(u32::MAX - 5, Lsn(1)), "there is nothing before the first epoch");
    }

    #[test]
    fn a_text_that_is_no_snapshot_is_refused() {
        for text in ["", "1", "1:2", "a:2:", "1:2:x", "3:2:", "1:2:3:4"] {
            assert!(Snapshot::parse(text, Lsn(1)).is_err(), "{text}");
        }
    }
}
