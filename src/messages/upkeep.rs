//! The upkeep of `realtime.messages`: partitions are made days ahead and dropped behind the retention, by a function of
//! the database that belongs to whoever migrated it.
//!
//! It is called at the start, every hour, and when a day begins. Partitions reach three days ahead, so a failure is
//! no gap yet; it is told and tried again. Two servers of one database do no harm: the function takes a lock.

use super::MessagesState;
use crate::{
    metrics::Metrics,
    pg::{connect::describe, messages::maintain},
};
use deadpool_postgres::Pool;
use rand::Rng;
use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{sync::watch, time::timeout};
use tokio_postgres::error::SqlState;
use tokio_util::sync::CancellationToken;

/// How often it is seen to.
const INTERVAL: Duration = Duration::from_secs(3600);
/// A day, of UTC.
const DAY: Duration = Duration::from_secs(86_400);
/// How soon after the beginning of a day.
const INTO_THE_DAY: Duration = Duration::from_secs(5);
/// How soon after a failure.
const AGAIN_AFTER: Duration = Duration::from_secs(60);
/// How long one attempt may take.
const LIMIT: Duration = Duration::from_secs(60);

/// What the operator may choose about messages.
#[derive(Clone, Debug)]
pub struct Config {
    /// How long they are kept.
    pub retention: Duration,
}

/// The task.
pub struct Upkeep {
    /// Its choices.
    pub config: Config,
    /// Where the function is called.
    pub pool: Pool,
    /// Where it says how it is doing.
    pub state: watch::Sender<MessagesState>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// When to end.
    pub stop: CancellationToken,
}

impl Upkeep {
    /// Sees to the partitions until told to stop.
    pub async fn run(self) {
        loop {
            let attempt = timeout(LIMIT, self.attempt());
            let problem = tokio::select! {
                () = self.stop.cancelled() => return,
                attempt = attempt => attempt.unwrap_or_else(|_| Err("the database does not answer".to_owned())).err(),
            };
            let wait = wait(SystemTime::now(), problem.is_some());
            self.tell(problem);
            // Servers that were started together need not all come at once.
            let jitter = rand::rng().random_range(Duration::ZERO..INTO_THE_DAY);
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(wait + jitter) => {}
            }
        }
    }

    async fn attempt(&self) -> Result<(), String> {
        let client = self.pool.get().await.map_err(|error| describe(&error))?;
        let problems = match maintain(&client, self.config.retention, SystemTime::now()).await {
            Ok(problems) => problems,
            Err(error) => {
                let login = client.query_one("select pg_catalog.quote_ident(current_user)", &[]).await;
                let login = login.and_then(|row| row.try_get(0)).unwrap_or_else(|_| "this server's role".to_owned());
                return Err(explain(&error, &login));
            }
        };
        if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
    }

    fn tell(&self, problem: Option<String>) {
        if let Some(problem) = &problem {
            self.metrics.message_upkeep_failures.add(1);
            if self.state.borrow().problem.as_ref() != Some(problem) {
                tracing::warn!(problem, again_in = ?AGAIN_AFTER, "PartitionCreationFailed: realtime.messages is not kept");
            }
        }
        self.state.send_modify(|state| {
            state.is_kept |= problem.is_none();
            state.problem = problem;
        });
    }
}

/// The database's error, with what to do about it. `login` is ours, as SQL has it.
fn explain(error: &tokio_postgres::Error, login: &str) -> String {
    let fix = match error.code() {
        Some(&SqlState::UNDEFINED_FUNCTION | &SqlState::INVALID_SCHEMA_NAME) => {
            "; nobody makes partitions of realtime.messages: run `walcast migrate`".to_owned()
        }
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => format!(
            "; as the owner of schema walcast, run: grant usage on schema walcast to {login}; grant execute on function \
             walcast.maintain_messages(interval, timestamptz) to {login};"
        ),
        Some(&SqlState::LOCK_NOT_AVAILABLE) => "; a session holds a lock on realtime.messages: end it".to_owned(),
        _ => String::new(),
    };
    format!("{}{fix}", describe(error))
}

/// How long until it is seen to again: an hour, or less when a day begins before that.
fn wait(now: SystemTime, has_failed: bool) -> Duration {
    if has_failed {
        return AGAIN_AFTER;
    }
    let into_day = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() % DAY.as_secs();
    (DAY - Duration::from_secs(into_day) + INTO_THE_DAY).min(INTERVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(day: u64, hours: u64, minutes: u64, seconds: u64) -> SystemTime {
        UNIX_EPOCH + DAY * u32::try_from(day).unwrap() + Duration::from_secs(hours * 3600 + minutes * 60 + seconds)
    }

    #[test]
    fn it_is_seen_to_every_hour_soon_when_a_day_begins_and_sooner_after_a_failure() {
        assert_eq!(wait(at(20_000, 12, 0, 0), false), INTERVAL);
        assert_eq!(wait(at(20_000, 23, 30, 0), false), Duration::from_secs(30 * 60 + 5));
        assert_eq!(wait(at(20_000, 23, 59, 59), false), Duration::from_secs(6));
        assert_eq!(wait(at(20_001, 0, 0, 0), false), INTERVAL);
        assert_eq!(wait(at(20_001, 0, 0, 0), true), AGAIN_AFTER);
    }
}
