//! The words for rights to private channels (protocol reference, section 8): who asks for which topic, and what he may.
//!
//! A private channel is read under the SELECT policies of `realtime.messages` and written under its INSERT policies, as
//! they would hold for a row of its topic; `rights` asks them.

use crate::claims::Claims;
use serde_json::Value;
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

/// A setting that policies of private channels may ask for beside the claims (`request.jwt.claims`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Setting {
    /// What `realtime.topic()` returns.
    Topic,
    /// The headers of the request.
    Headers,
    /// Claim `sub` by itself.
    Subject,
    /// Claim `role` by itself.
    Role,
}

impl Setting {
    /// All of them.
    pub const ALL: [Setting; 4] = [Setting::Topic, Setting::Headers, Setting::Subject, Setting::Role];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Setting::Topic => "realtime.topic",
            Setting::Headers => "request.headers",
            Setting::Subject => "request.jwt.claim.sub",
            Setting::Role => "request.jwt.claim.role",
        }
    }

    /// The one with this name, in lower case.
    pub fn named(name: &str) -> Option<Setting> {
        Setting::ALL.into_iter().find(|setting| setting.name() == name)
    }
}

impl ChannelUser {
    /// The text of a setting. A claim `sub` that is missing, or no text, is the empty text: whether a setting without
    /// a value is that or NULL depends on what the connection was used for before.
    pub fn setting(&self, setting: Setting) -> Arc<str> {
        match setting {
            Setting::Topic => self.topic.clone(),
            Setting::Headers => self.headers.clone(),
            Setting::Role => self.claims.role.clone(),
            Setting::Subject => {
                let claims = serde_json::from_str::<Value>(&self.claims.json).unwrap_or_default();
                claims.get("sub").and_then(Value::as_str).unwrap_or_default().into()
            }
        }
    }
}

/// What is wanted of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelAccess {
    /// To hear: SELECT.
    Read,
    /// To speak: INSERT.
    Write,
}

/// What is asked about: `extension` in `realtime.messages`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// Broadcasts.
    Broadcast,
    /// Presence.
    Presence,
}

impl Extension {
    /// Both.
    pub const ALL: [Extension; 2] = [Extension::Broadcast, Extension::Presence];

    /// Its name in the column.
    pub fn name(self) -> &'static str {
        match self {
            Extension::Broadcast => "broadcast",
            Extension::Presence => "presence",
        }
    }
}

/// For which of the two extensions it is granted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// Broadcasts.
    pub broadcast: bool,
    /// Presence.
    pub presence: bool,
}

impl Granted {
    /// Both.
    pub const ALL: Granted = Granted { broadcast: true, presence: true };

    /// These are granted, the others are not.
    pub fn of(is_granted: impl Fn(Extension) -> bool) -> Granted {
        Granted { broadcast: is_granted(Extension::Broadcast), presence: is_granted(Extension::Presence) }
    }
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
