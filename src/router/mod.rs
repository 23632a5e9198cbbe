//! Which subscription gets which change. This file is the handle; `task` is the loop, `core` decides.
//!
//! ```text
//! fragments ──> task ──> core ──────────────────────> members' outboxes
//!                 ^        └──LaneJob──> database lane ──^
//! subscribe ──────┘
//! catalogue (watch, from `refresh`)
//! ```
//!
//! Bodies are rendered in `render`, filters and rights compiled in `subscription`, candidates found in `index`. What
//! the process cannot decide is gathered in `questions` and asked in `statements`.

mod backlog;
mod bound;
mod core;
mod database_lane;
mod deadlines;
#[cfg(test)]
pub(crate) mod driven;
#[cfg(test)]
pub(crate) mod fixture;
mod follow;
mod image;
mod index;
mod intake;
mod interruption;
mod judge;
mod judgement;
mod lane_job;
mod matching;
mod notices;
mod pace;
mod prepare;
mod published;
mod questions;
mod rate;
mod reading;
mod refill;
mod refresh;
mod render;
mod shared;
mod sight;
mod state;
mod statements;
mod subscription;
mod task;
mod transaction;
mod visible;

pub use self::core::Config;
pub use database_lane::Config as LaneConfig;
pub use follow::{Config as FollowConfig, Follow, Parts as FollowParts};
pub use judge::{Judge, Routed};
pub use prepare::{PrepareError, Preparer};
pub use refresh::{Refresh, Refresher};
pub(crate) use render::commit_timestamp;
pub use state::{LookupPhase, LookupState, RouterState};
pub use subscription::{CastKey, CastValues, Subscription};
pub use task::Parts;
pub use transaction::SpillConfig;

use crate::claims::Claims;
use tokio::sync::{mpsc, oneshot};

/// Commands that wait at most; whoever subscribes waits for room.
const QUEUE_COMMANDS: usize = 1024;

pub(crate) enum Command {
    Subscribe(Box<Subscription>, oneshot::Sender<Result<SubscriptionKey, String>>),
    ReplaceClaims(SubscriptionKey, Claims),
    Unsubscribe(SubscriptionKey),
}

/// The router's name for a subscription. Places are used again; the number is not, so that the key of one that is gone
/// never reaches another client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubscriptionKey {
    place: usize,
    number: u64,
}

/// The router has ended.
#[derive(Debug, thiserror::Error)]
#[error("the router has ended")]
pub struct RouterGone;

/// The way to the router. Cheap to clone.
#[derive(Clone)]
pub struct Router {
    commands: mpsc::Sender<Command>,
}

impl Router {
    /// A handle and the loop that serves it.
    pub fn new(parts: Parts) -> (Router, impl Future<Output = ()> + Send + 'static) {
        let (commands, receiver) = mpsc::channel(QUEUE_COMMANDS);
        (Router { commands }, task::run(parts, receiver))
    }

    /// Enters a subscription: it gets whole transactions only, from the next one on, and its client is told before any
    /// change comes. The inner error is the reason why a join that wanted to wait cannot have what it asks for.
    pub async fn subscribe(&self, subscription: Subscription) -> Result<Result<SubscriptionKey, String>, RouterGone> {
        let (answer, key) = oneshot::channel();
        self.commands.send(Command::Subscribe(Box::new(subscription), answer)).await.map_err(|_| RouterGone)?;
        key.await.map_err(|_| RouterGone)
    }

    /// Judges a subscription by other claims from the next change on, and says so to its client.
    pub async fn replace_claims(&self, key: SubscriptionKey, claims: Claims) -> Result<(), RouterGone> {
        self.commands.send(Command::ReplaceClaims(key, claims)).await.map_err(|_| RouterGone)
    }

    /// Takes a subscription out. End its member first: then nothing more is delivered, whatever is on its way.
    pub async fn unsubscribe(&self, key: SubscriptionKey) -> Result<(), RouterGone> {
        self.commands.send(Command::Unsubscribe(key)).await.map_err(|_| RouterGone)
    }
}
