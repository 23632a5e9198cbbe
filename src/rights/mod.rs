//! Rights to private channels: the policies of `realtime.messages`, decided in the process where that is proved to be
//! the same, else by Postgres, without a trace in either case (protocol reference, section 8).

use crate::policy::topic::{ChannelAccess, ChannelUser, Granted, RightsError};

/// Whom doors ask. Cheap to clone.
#[derive(Clone)]
pub struct ChannelRights {}

impl ChannelRights {
    /// What somebody may do in a private channel, now.
    pub async fn ask(&self, user: &ChannelUser, access: ChannelAccess) -> Result<Granted, RightsError> {
        let _ = (user, access);
        std::future::ready(Err(RightsError::Unavailable)).await
    }
}
