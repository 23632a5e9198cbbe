//! What a reload changes: limits and keys at once, everything else with the next start.

use super::{ConfigError, ServeConfig, Settings};
use crate::pg::Target;

/// Settings that count at once.
const AT_ONCE: &[&str] = &[
    DATABASE,
    "max_concurrent_users",
    "max_events_per_second",
    "max_joins_per_second",
    "max_channels_per_client",
    "max_presence_events_per_second",
    "max_payload_size_in_kb",
    "max_client_presence_events_per_window",
    "client_presence_window_ms",
    "private_only",
    "presence_enabled",
    "suspend",
    "jwt_secret",
    "jwt_audience",
    "jwt_issuer",
    "jwks",
    "jwks_file",
    "jwks_url",
    "jwks_plain_http",
    "jwks_refresh_seconds",
    "issuers",
    "jwt_claim_validators",
    "jwt_required_claims",
    "api_keys",
    "api_jwt_secret_next",
    "metrics_jwt_secret",
];

/// The database: how it is reached may change, but not which one it is.
const DATABASE: &str = "database_url";

/// Of these, the ones whose change sends every connection away: who was let in by the old value may not be by the new.
const RECALLING: &[&str] = &["private_only", "suspend", "jwt_secret", "jwt_audience", "jwt_issuer", "api_keys"];

/// Settings read again.
pub struct Reload {
    /// What they are now.
    pub config: ServeConfig,
    /// The names of those that have changed and count at once.
    pub changed: Vec<&'static str>,
    /// The names of those that have changed and count after a restart.
    pub postponed: Vec<&'static str>,
    /// Whether every connection is to be sent away.
    pub recalls: bool,
}

impl Settings {
    /// Reads the file again, below `flags`: flags and environment as they were at the start. Those in force change by
    /// what counts at once, and not at all after an error.
    pub fn reload(&mut self, flags: &Settings) -> Result<Reload, ConfigError> {
        let read = flags.clone().with_file()?;
        let config = read.serve()?;
        let is_same_database = self.target()?.is_same_place(&config.target);
        let counts = |name: &&str| AT_ONCE.contains(name) && (*name != DATABASE || is_same_database);
        let (changed, postponed): (Vec<_>, Vec<_>) = self.differences(&read).into_iter().partition(counts);
        self.adopt(&changed, &read);
        let recalls = changed.iter().any(|name| RECALLING.contains(name));
        Ok(Reload { config, changed, postponed, recalls })
    }

    /// Reads only how the database is reached: its server refuses the login, and the file may have another one. None when
    /// that is as it was.
    pub fn reload_login(&mut self, flags: &Settings) -> Result<Option<Target>, ConfigError> {
        let read = flags.clone().with_file()?;
        let target = read.target()?;
        if read.database_url == self.database_url || !self.target()?.is_same_place(&target) {
            return Ok(None);
        }
        self.adopt(&[DATABASE], &read);
        Ok(Some(target))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_login_counts_at_once_and_another_database_after_a_restart() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let write =
            |url: &str| std::fs::write(file.path(), format!("jwt_secret = 's'\ndatabase_url = '{url}'\n")).unwrap();
        let flags = Settings { config: Some(file.path().to_owned()), ..Settings::default() };
        write("postgres://u:first@h/d");
        let mut settings = flags.clone().with_file().unwrap();
        assert!(settings.reload_login(&flags).unwrap().is_none());
        write("postgres://u:second@h/d");
        assert_eq!(settings.reload(&flags).unwrap().changed, [DATABASE]);
        write("postgres://u:third@h/d");
        let login = settings.reload_login(&flags).unwrap();
        assert_eq!(login.and_then(|target| target.password()), Some(b"third".to_vec()));
        write("postgres://u:third@h/other");
        assert!(settings.reload_login(&flags).unwrap().is_none());
        let reload = settings.reload(&flags).unwrap();
        assert_eq!((reload.changed, reload.postponed), (vec![], vec![DATABASE]));
    }

    #[test]
    fn every_name_is_a_setting() {
        let text = AT_ONCE.iter().chain(RECALLING).map(|name| format!("{name} = []\n"));
        for line in text {
            let error = toml::from_str::<Settings>(&line).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(!error.contains("unknown field"), "{line}{error}");
        }
    }
}
