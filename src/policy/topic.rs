//! The words for rights to private channels (protocol reference, section 8): who asks for which topic, and what he may.
//!
//! A private channel is read under the SELECT policies of `realtime.messages` and written under its INSERT policies, as
//! they would hold for a row of its topic; `rights` asks them.

use crate::claims::Claims;
use std::sync::Arc;

/// Who wants to use a private channel.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelUser {
    /// The topic without `realtime:`, as `realtime.topic()` has it.
    pub topic: Arc<str>,
    /// In whose name.
    pub claims: Claims,
    /// What `request.headers` is, as the text of a JSON object.
    pub headers: Arc<str>,
}

/// What is wanted of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelAccess {
    /// To hear: SELECT.
    Read,
    /// To speak: INSERT.
    Write,
}

/// For which of the two extensions it is granted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// Broadcasts.
    pub broadcast: bool,
    /// Presence.
    pub presence: bool,
}

/// Why nobody can say what is granted. A policy that fails grants nothing, and is no such reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RightsError {
    /// The database cannot be asked.
    #[error("the database cannot be asked")]
    Unavailable,
    /// The policies took longer than they may.
    #[error("the policies of realtime.messages took too long")]
    Canceled,
}
