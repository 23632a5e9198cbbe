//! Broadcasts from the database: the rows of `realtime.messages` (protocol reference, sections 6.4 to 6.6).

use crate::{policy::topic::ChannelUser, protocol::StoredBroadcast};

/// What is to be replayed cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("messages cannot be replayed")]
pub struct ReplayError;

/// Whom doors ask for what was broadcast before. Cheap to clone.
#[derive(Clone)]
pub struct Replay {}

impl Replay {
    /// The newest `limit` private broadcasts of a topic from after `since_ms`, in milliseconds since the epoch, the oldest
    /// one first.
    pub async fn stored(
        &self,
        user: &ChannelUser,
        since_ms: i64,
        limit: u32,
    ) -> Result<Vec<StoredBroadcast>, ReplayError> {
        let _ = (user, since_ms, limit);
        std::future::ready(Err(ReplayError)).await
    }
}
