//! `Farewell`: how a server that shuts down in order is told from one that goes on. It keeps the sessions that stream its log
//! until they have confirmed all of it, and we confirm a window less. Nothing says so but that it asks again and again, as
//! fast as it is answered, how far we are, while it has nothing more to send. Pure.

use crate::lsn::Lsn;
use std::time::{Duration, Instant};

/// So many questions in a row; otherwise there is one in half of `wal_sender_timeout`, for want of any answer.
const QUESTIONS: u32 = 5;
/// As long apart at most: an answer and the next question go around the world in less.
const APART: Duration = Duration::from_secs(2);

/// The questions so far.
#[derive(Default)]
pub(super) struct Farewell {
    last: Option<(Lsn, Instant)>,
    asked: u32,
}

impl Farewell {
    /// Whether this question, about a log that ends at `end`, is one of a server that waits for us alone.
    pub(super) fn is_meant(&mut self, end: Lsn, now: Instant) -> bool {
        let is_again = self.last.is_some_and(|(before, at)| before == end && now.duration_since(at) <= APART);
        self.asked = if is_again { self.asked + 1 } else { 1 };
        self.last = Some((end, now));
        self.asked >= QUESTIONS
    }

    /// Something came: there is no farewell.
    pub(super) fn forget(&mut self) {
        *self = Farewell::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_asks_again_and_again_at_the_same_end_says_farewell() {
        let (mut farewell, start) = (Farewell::default(), Instant::now());
        let at = |millis: u64| start + Duration::from_millis(millis);
        let mut ask = |end: u64, millis: u64| farewell.is_meant(Lsn(end), at(millis));
        // As of a server that hears nothing of us for half a minute at a time, and of one that has more to send.
        assert!((0..10).all(|n| !ask(7, n * 30_000)));
        assert!((0..10).all(|n| !ask(8 + n, 600_000 + n)));
        assert!((0..4).all(|n| !ask(20, 700_000 + n * 200)));
        assert!(ask(20, 700_900));
        farewell.forget();
        assert!(!farewell.is_meant(Lsn(20), at(701_000)));
    }
}
