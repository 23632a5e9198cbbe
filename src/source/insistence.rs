//! How a server that shuts down is told from one that only asks: it asks again as soon as it was answered, until all it has
//! sent is confirmed. What is kept behind on purpose would have it wait as long as the window, so the stream ends instead,
//! and goes on when the server is back. Pure.

use crate::lsn::Lsn;
use std::time::Duration;
use tokio::time::Instant;

/// So many questions, at one position and with nothing between them ...
const TIMES: u32 = 10;
/// ... each within so long of the one before. A server that is well asks twice within `wal_sender_timeout`, and only when it
/// has heard nothing.
const SOON: Duration = Duration::from_secs(1);

/// What was asked lately.
#[derive(Debug, Default)]
pub(super) struct Insistence {
    times: u32,
    last: Option<(Lsn, Instant)>,
}

impl Insistence {
    /// Takes a keepalive in that asks for an answer; whether the server shuts down.
    pub(super) fn asked(&mut self, end: Lsn, now: Instant) -> bool {
        let goes_on = self.last.is_some_and(|(at, before)| at == end && now.duration_since(before) < SOON);
        self.times = if goes_on { self.times + 1 } else { 1 };
        self.last = Some((end, now));
        self.times >= TIMES
    }

    /// Something else came.
    pub(super) fn relents(&mut self) {
        *self = Insistence::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_asks_on_and_on_at_one_position_shuts_down() {
        let start = Instant::now();
        let asks = |step: Duration, moves: u64, relents: bool| {
            let mut insistence = Insistence::default();
            (0..30u32).any(|time| {
                if relents && time % 5 == 0 {
                    insistence.relents();
                }
                insistence.asked(Lsn(100 + moves * u64::from(time)), start + step * time)
            })
        };
        assert!(asks(Duration::from_millis(1), 0, false));
        assert!(asks(Duration::from_millis(300), 0, false), "over a long way, too");
        assert!(!asks(SOON, 0, false), "whoever waits has a question");
        assert!(!asks(Duration::from_millis(1), 1, false), "it has more to send");
        assert!(!asks(Duration::from_millis(1), 0, true), "changes come between");
    }
}
