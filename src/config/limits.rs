//! Settings → the limits of the server (protocol reference, section 10.1).

use super::{ConfigError, Settings, at_least_one};
use crate::limits::{ClientPresence, Limits};

/// What the server we replace allows a channel when only one half of that limit is set.
const PRESENCE_CALLS: u32 = 5;
const PRESENCE_WINDOW_MS: u64 = 30_000;

impl Settings {
    /// The limits, checked. What nobody set limits nothing, but for channels and payloads, where the default is that of
    /// the server we replace.
    pub fn limits(&self) -> Result<Limits, ConfigError> {
        let defaults = Limits::default();
        let rate = |setting, rate: Option<u32>| rate.map(|rate| at_least_one(setting, rate)).transpose();
        let users = self.max_concurrent_users.map(|users| at_least_one("max_concurrent_users", users)).transpose()?;
        let channels = self.max_channels_per_client.unwrap_or(defaults.max_channels_per_client);
        let kilobytes = self.max_payload_size_in_kb.unwrap_or(defaults.max_payload_size_in_kb);
        Ok(Limits {
            max_concurrent_users: users,
            max_events_per_second: rate("max_events_per_second", self.max_events_per_second)?,
            max_joins_per_second: rate("max_joins_per_second", self.max_joins_per_second)?,
            max_channels_per_client: at_least_one("max_channels_per_client", channels)?,
            max_presence_events_per_second: rate(
                "max_presence_events_per_second",
                self.max_presence_events_per_second,
            )?,
            max_payload_size_in_kb: at_least_one("max_payload_size_in_kb", kilobytes)?,
            client_presence: self.client_presence()?,
            private_only: self.private_only.unwrap_or(defaults.private_only),
            presence_enabled: self.presence_enabled.unwrap_or(defaults.presence_enabled),
            suspend: self.suspend.unwrap_or(defaults.suspend),
        })
    }

    fn client_presence(&self) -> Result<Option<ClientPresence>, ConfigError> {
        let (calls, window) = (self.max_client_presence_events_per_window, self.client_presence_window_ms);
        if calls.is_none() && window.is_none() {
            return Ok(None);
        }
        Ok(Some(ClientPresence {
            max_calls: at_least_one("max_client_presence_events_per_window", calls.unwrap_or(PRESENCE_CALLS))?,
            window_ms: at_least_one("client_presence_window_ms", window.unwrap_or(PRESENCE_WINDOW_MS))?,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_limited_that_nobody_limited() {
        assert_eq!(Settings::default().limits().unwrap(), Limits::default());
    }

    #[test]
    fn a_limit_of_zero_is_refused_by_its_name() {
        for (name, settings) in [
            ("max_concurrent_users", Settings { max_concurrent_users: Some(0), ..Settings::default() }),
            ("max_events_per_second", Settings { max_events_per_second: Some(0), ..Settings::default() }),
            ("max_joins_per_second", Settings { max_joins_per_second: Some(0), ..Settings::default() }),
            ("max_channels_per_client", Settings { max_channels_per_client: Some(0), ..Settings::default() }),
            (
                "max_presence_events_per_second",
                Settings { max_presence_events_per_second: Some(0), ..Settings::default() },
            ),
            ("max_payload_size_in_kb", Settings { max_payload_size_in_kb: Some(0), ..Settings::default() }),
            ("client_presence_window_ms", Settings { client_presence_window_ms: Some(0), ..Settings::default() }),
        ] {
            let error = settings.limits().unwrap_err().to_string();
            assert!(error.starts_with(name), "{name}: {error}");
        }
    }

    #[test]
    fn one_half_of_the_presence_limit_takes_the_other_from_the_replaced_server() {
        let settings = Settings { client_presence_window_ms: Some(1000), ..Settings::default() };
        let limits = settings.limits().unwrap();
        assert_eq!(limits.client_presence, Some(ClientPresence { max_calls: 5, window_ms: 1000 }));
    }
}
