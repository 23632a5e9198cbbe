//! `SlotGuard`: looks every few seconds how much WAL is kept for the slot and whether the publication is still the one
//! the stream began with, over a connection of its own, and publishes it.
//!
//! When there is more WAL than the budget allows, it orders the walreceiver to give the slot up and make a new one,
//! and drops the slot itself when that cannot. It orders the same when the publication was made anew, which
//! from PostgreSQL 18 on the stream does not notice. The walreceiver marks the gap; see `slot_task`.

mod pressure;
mod unread;

pub use pressure::{Pressure, shed_limit};

use super::{GapReason, Kind, Order, SourceState};
use crate::{
    metrics::Metrics,
    pg::{
        connect::{advice, describe},
        slot::{self, Dropped, Slots, size},
    },
};
use deadpool_postgres::{Pool, PoolError};
use pressure::{Act, Gauge, Reading};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use unread::Unread;

/// How long one look may take, and dropping the slot.
const LIMIT: Duration = Duration::from_secs(10);

/// What the guard goes by.
#[derive(Clone, Debug)]
pub struct Config {
    /// The slot.
    pub slot: String,
    /// The publication.
    pub publication: String,
    /// How much WAL may be kept for the slot; none when that is only watched.
    pub budget: Option<u64>,
    /// How often it is looked at.
    pub interval: Duration,
}

/// How the slot is doing: published on a `watch`, newest wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotState {
    /// What was seen last; none before the first look.
    pub slot: Option<Seen>,
    /// At how much WAL the slot is dropped: the budget, or less where Postgres would give the slot up before that.
    pub limit: Option<u64>,
    /// How it stands with that.
    pub pressure: Pressure,
    /// What is to be said when nobody reads it, because changes are read from the outbox.
    pub unread: Option<String>,
    /// Whether the publication is missing.
    pub is_unpublished: bool,
    /// Why the last look failed.
    pub problem: Option<String>,
}

/// The slot as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// It, if there is one.
    pub slot: Option<slot::Slot>,
    /// `max_slot_wal_keep_size`; none when there is no limit.
    pub max_keep: Option<i64>,
}

impl SlotState {
    /// The slot, if there is one.
    pub fn existing(&self) -> Option<&slot::Slot> {
        self.slot.as_ref()?.slot.as_ref()
    }
}

/// The task.
pub struct SlotGuard {
    /// What it goes by.
    pub config: Config,
    /// Where the database is asked.
    pub pool: Pool,
    /// How the stream is doing.
    pub source: watch::Receiver<SourceState>,
    /// Where the walreceiver is told to make a new slot.
    pub order: watch::Sender<Order>,
    /// Where it says what it saw.
    pub state: watch::Sender<SlotState>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// When to end.
    pub stop: CancellationToken,
}

impl SlotGuard {
    /// Looks until told to stop.
    pub async fn run(self) {
        let mut timer = interval(self.config.interval);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut gauge, mut unread) = (Gauge::default(), Unread::default());
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = timer.tick() => {}
            }
            let source = self.source.borrow().clone();
            let seen = timeout(LIMIT, self.look()).await.unwrap_or_else(|_| Err("no answer about the slot".to_owned()));
            match seen {
                Ok((slots, publication)) => {
                    self.follow_publication(&source, publication);
                    self.weigh(&source, &slots, &mut gauge).await;
                    unread.take(&source, slots.slots.first());
                    let state = SlotState { is_unpublished: publication.is_none(), ..SlotState::default() };
                    self.publish(slots, SlotState { pressure: gauge.pressure(), unread: unread.sentence(), ..state });
                }
                Err(problem) => {
                    tracing::debug!(problem, "cannot look at the slot");
                    self.state.send_modify(|state| state.problem = Some(problem));
                }
            }
        }
    }

    async fn look(&self) -> Result<(Slots, Option<u32>), String> {
        let client = self.pool.get().await.map_err(|error| unreachable(&error))?;
        let slots = slot::slots(&client, &self.config.slot, false).await.map_err(|error| describe(&error))?;
        let publication = slot::publication(&client, &self.config.publication).await;
        Ok((slots, publication.map_err(|error| describe(&error))?))
    }

    /// A publication that was made anew is not the one the slot decodes.
    fn follow_publication(&self, source: &SourceState, publication: Option<u32>) {
        let is_log = source.streaming && source.kind == Kind::Log;
        let streamed = source.stream.as_ref().filter(|_| is_log).map(|stream| stream.publication);
        let (Some(found), Some(streamed)) = (publication, streamed) else { return };
        // 0 is no oid: it is not known.
        if streamed != 0 && found != streamed {
            self.order(source, GapReason::PublicationNew);
        }
    }

    /// Orders a new slot in the place of that of the stream that runs, or ran last.
    fn order(&self, source: &SourceState, reason: GapReason) {
        let stream = source.stream.as_ref().map_or(0, |stream| stream.number);
        let next = Order { stream, reason: Some(reason) };
        self.order.send_if_modified(|order| std::mem::replace(order, next) != next);
    }

    async fn weigh(&self, source: &SourceState, slots: &Slots, gauge: &mut Gauge) {
        let is_log = source.kind == Kind::Log;
        let Some(slot) = slots.slots.first().filter(|slot| slot.foreign().is_none()) else {
            if !is_log {
                // Nobody makes it anew, and nothing is lost by that.
                *gauge = Gauge::default();
                self.withdraw();
            }
            return;
        };
        // One that is lost keeps no WAL; the walreceiver replaces it.
        let retained = slot.retained_bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0);
        let reading = Reading {
            retained,
            limit: self.limit(slots),
            is_endangered: slot.wal_status.as_deref() == Some("unreserved"),
            is_active: slot.active,
            is_ours: is_ours(source, slot),
        };
        let name = self.config.slot.as_str();
        let bytes = |bytes: u64| size(i64::try_from(bytes).unwrap_or(i64::MAX));
        let (kept, limit) = (bytes(retained), bytes(reading.limit.unwrap_or_default()));
        let before = gauge.pressure();
        let act = gauge.take(reading, Instant::now());
        let now = gauge.pressure();
        // What a slot is good for that nobody reads is said by itself.
        if let Some(warning) = now.warning().filter(|_| now > before && is_log) {
            tracing::warn!(slot = name, kept, limit, "{warning}");
        }
        self.metrics.slot_warnings.add(usize::from(act == Some(Act::Warn)));
        self.metrics.slot_sheds.add(usize::from(now == Pressure::Shedding && before != now));
        match act {
            Some(Act::Order) => self.order(source, GapReason::Shed),
            Some(Act::Drop) => self.drop_slot(name).await,
            None | Some(Act::Warn) => {}
        }
        if now != Pressure::Shedding {
            self.withdraw();
        }
    }

    /// What was to be set free is: whatever has not been done is not to be done any more.
    fn withdraw(&self) {
        self.order.send_if_modified(|order| order.reason.take_if(|reason| *reason == GapReason::Shed).is_some());
    }

    /// What is left when the walreceiver cannot come to it.
    async fn drop_slot(&self, name: &str) {
        let dropping = async {
            let client = self.pool.get().await.map_err(|error| describe(&error))?;
            slot::drop_slot(&client, name).await.map_err(|error| describe(&error))
        };
        match timeout(LIMIT, dropping).await {
            Ok(Ok(Dropped::Done)) => {
                tracing::error!(slot = name, "replication slot dropped, to keep its WAL within its budget");
            }
            Ok(Ok(Dropped::Absent | Dropped::Active)) => {}
            Ok(Ok(Dropped::Forbidden)) => tracing::error!(slot = name, "this role may not drop the slot"),
            Ok(Err(problem)) => tracing::warn!(slot = name, problem, "cannot drop the slot"),
            Err(_) => tracing::warn!(slot = name, "cannot drop the slot: no answer"),
        }
    }

    fn limit(&self, slots: &Slots) -> Option<u64> {
        let bytes = |bytes: i64| u64::try_from(bytes).ok();
        let segment = bytes(slots.segment_bytes).unwrap_or(0);
        Some(shed_limit(self.config.budget?, slots.max_slot_wal_keep_bytes.and_then(bytes), segment))
    }

    fn publish(&self, mut slots: Slots, state: SlotState) {
        let limit = self.limit(&slots);
        let slot = (!slots.slots.is_empty()).then(|| slots.slots.swap_remove(0));
        let seen = Seen { slot, max_keep: slots.max_slot_wal_keep_bytes };
        self.state.send_replace(SlotState { slot: Some(seen), limit, ..state });
    }
}

/// Why the slot cannot be looked at, and what to do about it.
fn unreachable(error: &PoolError) -> String {
    let (cause, code) = match error {
        PoolError::Backend(error) => (describe(error), error.code().map(|code| code.code())),
        other => (describe(other), None),
    };
    let fix = code.and_then(|code| advice(code, "<role>")).map(|fix| fix.replace("\"<role>\"", "<role>"));
    let fix = fix.unwrap_or_else(|| "check that Postgres runs there and can be reached; it is tried again".to_owned());
    format!("the slot cannot be looked at: {cause}; {fix}")
}

/// Whether we read the slot, or make it, for which it has a reader, too.
fn is_ours(source: &SourceState, slot: &slot::Slot) -> bool {
    let reader = slot.reader.as_ref().map(|reader| reader.pid);
    let is_made = source.making.as_ref().zip(reader).is_some_and(|(making, pid)| making.is_by(pid));
    is_made || source.streaming && source.kind == Kind::Log
}
