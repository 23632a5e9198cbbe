//! Where changes are read: in the log, or in the outbox where the log cannot be had; and from one to the other.
//!
//! ```text
//!            the log cannot be read, and there is an outbox
//!      log ───────────────────────────────────────────────> outbox
//!       ^                                                      │
//!       └──────────────────────────────────────────────────────┘
//!            a slot can be made (`outbox::moving`)
//! ```
//!
//! While the log is read the triggers go on filling the outbox, if it is installed. What the log has given is taken out of
//! it again, and a ledger knows what has been given of the rest. So that when the log cannot be read any more, exactly what
//! it has not given is told by the outbox; when that is not known, clients hear of a gap.

use super::{
    Kind,
    ledger::Ledger,
    outbox::{
        OutboxError, SHAPES_INTERVAL,
        lead::Lead,
        probing::Probing,
        task::{End, Entry, OutboxTask, answer, find},
    },
    slot_task::{Progress, Walreceiver},
};
use crate::{
    change::position::Era,
    lsn::Lsn,
    pg::{
        connect::describe,
        messages,
        outbox::{self, Given, Horizon},
    },
};
use rand::Rng;
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::time::{Instant, timeout};

/// How often what the log has given is taken out of the outbox.
const KEEP_INTERVAL: Duration = Duration::from_secs(3);
/// How often it is looked whether there is one.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// How long the log may take to come to its present end.
const REACH_LIMIT: Duration = Duration::from_secs(60);
/// How long it is waited before the log is tried again, when there is no outbox either.
const AGAIN: Duration = Duration::from_secs(5);

/// What the operator wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The log where it can be read, else the outbox if it is installed.
    #[default]
    Auto,
    /// The log.
    Log,
    /// The outbox.
    Outbox,
}

/// The source of a server.
pub struct Source {
    /// What the operator wants.
    pub choice: Choice,
    /// Who reads the log. The outbox is read with the same ends.
    pub walreceiver: Walreceiver,
}

impl Source {
    /// Reads until it is told to stop.
    pub async fn run(self) {
        match self.choice {
            Choice::Log => self.walreceiver.run().await,
            Choice::Outbox => {
                let probing = Probing::new(Instant::now());
                let entry = Entry { era: Era::default(), given: None, reached: Lsn::ZERO, why: None, probing };
                let task = OutboxTask { ends: &self.walreceiver, may_move: false };
                task.run(entry, &mut None).await;
            }
            Choice::Auto => Box::pin(self.alternate()).await,
        }
    }

    async fn alternate(&self) {
        let ends = &self.walreceiver;
        let ledger = Arc::new(Ledger::default());
        let mut progress = Progress::behind(Era::default(), Default::default(), ledger.clone());
        let (mut first, mut lead) = (None, None);
        let mut probing = Probing::new(Instant::now());
        loop {
            let error = tokio::select! {
                error = ends.run_until_impossible(first.take(), &mut progress) => error,
                never = self.keep(&ledger, &mut lead) => match never {},
            };
            let Some(error) = error else { return };
            let problem = error.with_hint(&ends.config, &ends.target.user());
            if let Err(why) = self.has_outbox().await {
                let problem = match why {
                    OutboxError::NotInstalled => {
                        let problem = problem.trim_end_matches(';');
                        format!("{problem}; or, to serve without logical replication, run: walcast migrate --notify")
                    }
                    why => format!("{problem}; {}", why.with_hint()),
                };
                tracing::warn!(problem, "there is no logical replication");
                ends.state.send_modify(|state| {
                    state.streaming = false;
                    state.problem = Some(problem);
                });
                let wait = AGAIN.mul_f64(rand::rng().random_range(0.5..1.5));
                if ends.stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                    return;
                }
                continue;
            }
            tracing::warn!(problem, "there is no logical replication: changes are read from the outbox");
            ends.state.send_modify(|state| (state.streaming, state.kind) = (false, Kind::Between));
            let given = ledger.take().filter(|_| !progress.is_amid);
            let entry = Entry { era: progress.era, given, reached: progress.reached, why: Some(problem), probing };
            let task = OutboxTask { ends, may_move: true };
            match task.run(entry, &mut lead).await {
                End::Stopped => return,
                // It is tried again where that one has left off, and not at once when it cannot be read from here.
                End::LogIsRead => {
                    ends.state.send_modify(|state| state.kind = Kind::Between);
                    probing.tried(Instant::now());
                }
                End::Moved(moved) => {
                    if let Some(given) = moved.given {
                        ledger.begin(given);
                    }
                    probing = Probing::new(Instant::now());
                    progress = Progress::behind(moved.era, (moved.told, moved.until), ledger.clone());
                    first = Some(moved.started);
                }
            }
        }
    }

    async fn has_outbox(&self) -> Result<(), OutboxError> {
        let ends = &self.walreceiver;
        let client = ends.target.connect("walcast outbox").await?;
        answer(find(&client, &ends.target.user())).await.map(drop)
    }

    /// Keeps the ledger while the log is read.
    async fn keep(&self, ledger: &Ledger, lead: &mut Option<Lead>) -> Infallible {
        loop {
            let Err(error) = self.keep_once(ledger, lead).await;
            ledger.give_up();
            let is_there = !matches!(error, OutboxError::NotInstalled | OutboxError::NoRight(_));
            if is_there {
                tracing::debug!(error = %describe(&error), "the outbox is not kept");
            }
            tokio::time::sleep(if is_there { KEEP_INTERVAL } else { LOOK_INTERVAL }).await;
        }
    }

    /// One connection's keeping, until something fails.
    async fn keep_once(&self, ledger: &Ledger, lead: &mut Option<Lead>) -> Result<Infallible, OutboxError> {
        let ends = &self.walreceiver;
        let mut state = ends.state.subscribe();
        // Before there is a stream nothing is given, and nothing may be taken out.
        let streams = state.wait_for(|state| state.streaming && state.kind == Kind::Log).await.map(drop);
        if streams.is_err() {
            std::future::pending().await
        }
        let mut client = ends.target.connect("walcast outbox").await?;
        let installed = answer(find(&client, &ends.target.user())).await?;
        let is_ours = match lead {
            Some(lead) => lead.is_held(installed.table).await,
            None => false,
        };
        if !is_ours {
            *lead = answer(Lead::take(&ends.target, installed.table)).await?;
        }
        let Some(lead) = lead else { return Err(OutboxError::LeadLost) };
        answer(outbox::leave(&mut client, &installed.history())).await?;
        let mut pruned_at = None;
        loop {
            if answer(outbox::is_full(&client)).await? {
                ledger.give_up();
                if !answer(outbox::empty(&mut client, true)).await? {
                    return Err(OutboxError::LeadLost);
                }
            }
            ledger.keep();
            let listed = answer(outbox::tables(&client, &ends.config.publication, messages::PUBLICATION)).await?;
            // Whoever wrote to a table before its trigger was there had ended by then.
            let is_whole = listed.iter().all(|table| table.is_messages || (table.is_captured && !table.is_filtered));
            let Horizon { before, next, end } = answer(outbox::horizon(&client)).await?;
            let reached =
                async { state.wait_for(|state| state.kind == Kind::Log && state.reached >= end).await.map(drop) };
            match timeout(REACH_LIMIT, reached).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => std::future::pending().await,
                Err(_) => continue,
            }
            match is_whole {
                true => ledger.settle(before, next),
                false => ledger.give_up(),
            }
            let given = Given { before, ..Given::default() };
            if !answer(outbox::forget_told(&mut client, &given)).await? {
                return Err(OutboxError::LeadLost);
            }
            if installed.is_current && pruned_at.is_none_or(|at: Instant| at.elapsed() > SHAPES_INTERVAL) {
                answer(outbox::prune_shapes(&mut client)).await?;
                pruned_at = Some(Instant::now());
            }
            tokio::time::sleep(KEEP_INTERVAL).await;
            if !lead.is_held(installed.table).await {
                return Err(OutboxError::LeadLost);
            }
        }
    }
}
