//! `StreamKeeper`: has the stream begin anew, once, when the publication of messages has come, or gone, or must not be
//! streamed beside the clients' any more.
//!
//! A slot cannot decode what is older than a publication it streams. So the stream begins anew only behind a position by
//! which every transaction had ended that was under way when the publication was seen: whatever commits later began
//! when it was there.

use crate::{
    lsn::Lsn,
    pg::{
        connect::describe,
        messages::{Horizon, horizon, streamable},
    },
    source::{Kind, SourceState, Wish},
};
use deadpool_postgres::Pool;
use std::time::Duration;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

/// How often it is looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long one look may take.
const LIMIT: Duration = Duration::from_secs(10);
/// How long after a wish the next one may follow: the stream may break off with it again.
const PAUSE: Duration = Duration::from_secs(30);

/// The task.
pub struct StreamKeeper {
    /// The publication clients subscribe to.
    pub publication: String,
    /// Where the database is asked.
    pub pool: Pool,
    /// How the stream is doing.
    pub source: watch::Receiver<SourceState>,
    /// Where it is told to begin anew.
    pub wish: watch::Sender<Wish>,
    /// When to end.
    pub stop: CancellationToken,
}

/// What is waited for.
#[derive(Default)]
struct Waiting {
    /// The publication that was seen, and the first transaction that began behind that.
    seen: Option<(u32, i64)>,
    /// When the last wish was made.
    wished: Option<Instant>,
}

impl StreamKeeper {
    /// Looks until told to stop.
    pub async fn run(self) {
        let mut timer = interval(INTERVAL);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut waiting = Waiting::default();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = timer.tick() => {}
            }
            // Nothing begins anew where there is no slot.
            let is_of_log = self.source.borrow().kind == Kind::Log;
            if !is_of_log || !self.source.borrow().streaming {
                continue;
            }
            match timeout(LIMIT, self.look()).await {
                Ok(Ok((publication, horizon))) => {
                    let is_streamed = self.source.borrow().streams_messages();
                    if let Some(from) = waiting.next(publication, horizon, is_streamed, Instant::now()) {
                        tracing::info!(%from, is_streamed, "the stream begins anew for the messages of the database");
                        self.wish.send_modify(|wish| wish.messages = Some(from));
                    }
                }
                Ok(Err(problem)) => tracing::debug!(problem, "cannot look for the publication of messages"),
                Err(_) => tracing::debug!("no answer about the publication of messages"),
            }
        }
    }

    /// The publication first, the transactions second.
    async fn look(&self) -> Result<(Option<u32>, Horizon), String> {
        let client = self.pool.get().await.map_err(|error| describe(&error))?;
        let publication = streamable(&client, &self.publication).await.map_err(|error| describe(&error))?;
        let horizon = horizon(&client).await.map_err(|error| describe(&error))?;
        Ok((publication, horizon))
    }
}

impl Waiting {
    /// Where the stream is to begin anew, when it is time to.
    fn next(&mut self, publication: Option<u32>, now: Horizon, is_streamed: bool, clock: Instant) -> Option<Lsn> {
        let may_wish = self.wished.is_none_or(|wished| clock.duration_since(wished) >= PAUSE);
        let is_due = match publication {
            Some(oid) if !is_streamed => match self.seen {
                Some((same, next)) if same == oid => now.oldest >= next,
                _ => {
                    self.seen = Some((oid, now.next));
                    now.oldest >= now.next
                }
            },
            _ => {
                self.seen = None;
                publication.is_none() && is_streamed
            }
        };
        if !is_due || !may_wish {
            return None;
        }
        self.wished = Some(clock);
        Some(now.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn horizon(oldest: i64, next: i64, end: u64) -> Horizon {
        Horizon { next, oldest, end: Lsn(end) }
    }

    #[test]
    fn a_publication_is_streamed_behind_the_end_of_what_was_under_way_when_it_came() {
        let (mut waiting, clock) = (Waiting::default(), Instant::now());
        assert_eq!(waiting.next(None, horizon(5, 5, 1), false, clock), None);
        assert_eq!(waiting.next(Some(1), horizon(5, 9, 2), false, clock), None, "5 to 8 may have begun before it");
        assert_eq!(waiting.next(Some(1), horizon(8, 20, 3), false, clock), None);
        assert_eq!(waiting.next(Some(1), horizon(9, 20, 4), false, clock), Some(Lsn(4)));
        assert_eq!(waiting.next(Some(1), horizon(20, 20, 5), false, clock), None, "the wish is on its way");
        assert_eq!(waiting.next(Some(1), horizon(20, 20, 6), true, clock + PAUSE), None, "it has come true");
    }

    #[test]
    fn one_that_breaks_the_stream_is_tried_again_later_and_one_that_must_not_be_streamed_leaves_it() {
        let (mut waiting, clock) = (Waiting::default(), Instant::now());
        assert_eq!(waiting.next(Some(1), horizon(9, 9, 1), false, clock), Some(Lsn(1)));
        assert_eq!(waiting.next(Some(1), horizon(9, 9, 2), false, clock + PAUSE / 2), None);
        assert_eq!(waiting.next(Some(1), horizon(9, 9, 3), false, clock + PAUSE), Some(Lsn(3)));
        assert_eq!(waiting.next(None, horizon(9, 9, 4), true, clock + PAUSE * 2), Some(Lsn(4)));
        assert_eq!(waiting.next(Some(2), horizon(9, 30, 5), false, clock + PAUSE * 3), None, "another one");
    }
}
