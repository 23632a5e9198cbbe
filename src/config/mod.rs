//! What the operator chose: one table of settings, from flags, environment and file, in this order; and the parts' own
//! configurations made of it. No part reads a setting it was not given.

mod admin;
mod limits;
mod load;
mod reload;
pub mod supabase;
mod tokens;

pub use load::{ConfigError, Settings, check_environment};
pub use reload::Reload;

use crate::{
    auth,
    check::Keeping,
    doors::phoenix,
    http::tenants,
    limits::{Limits, Meters},
    messages,
    pg::Target,
    router::{self, FollowConfig, LaneConfig, SpillConfig},
    session,
    source::{WindowConfig, choice::Choice, guard, slot},
    telemetry::LogFormat,
};
use std::{env, path::PathBuf, sync::Arc, time::Duration};

/// Everything `serve` needs.
#[derive(Clone)]
pub struct ServeConfig {
    /// Where the database is.
    pub target: Target,
    /// Where to listen.
    pub address: (String, u16),
    /// Tokens.
    pub auth: auth::Config,
    /// The role whose tokens may ask about others.
    pub admin_role: String,
    /// Where changes are read.
    pub source: Choice,
    /// The stream.
    pub slot: slot::Config,
    /// How long the stream may be interrupted before clients are told.
    pub interruption_notice: Duration,
    /// Watching the slot.
    pub guard: guard::Config,
    /// Deliveries.
    pub router: router::Config,
    /// Files of transactions that do not fit into memory.
    pub spill: SpillConfig,
    /// The database lane.
    pub lane: LaneConfig,
    /// Lookup tables.
    pub follow: FollowConfig,
    /// Messages of the database.
    pub messages: messages::Config,
    /// Sockets.
    pub door: phoenix::Config,
    /// The admin API.
    pub tenants: tenants::Config,
    /// What signs the tokens of whoever may read metrics.
    pub metrics_secrets: Arc<[auth::Secret]>,
    /// What there may be of anything.
    pub limits: Limits,
    /// The largest head of a request.
    pub max_header_bytes: usize,
    /// What is done before serving.
    pub start: StartConfig,
    /// How long the end may take.
    pub stop_limit: Duration,
}

/// What is done before serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartConfig {
    /// Whether what the database lacks is made.
    pub migrates: bool,
    /// How long a database that does not answer yet is waited for.
    pub wait: Duration,
}

/// What hyper reads of a head by default; what a longer key takes is ours to allow, and nobody needs less.
const DEFAULT_HEADER_BYTES: usize = 8192 + 4096 * 100;
/// How long a stack that is started all at once may take until its database answers.
const DROP_IN_WAIT_MS: u64 = 120_000;
/// Below the ten seconds after which a container that was told to end is killed.
const STOP_LIMIT_MS: u64 = 8000;

/// How logs are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Their format.
    pub format: LogFormat,
    /// Their level.
    pub level: String,
}

impl Settings {
    /// How logs are written.
    pub fn log(&self) -> Result<LogConfig, ConfigError> {
        let text = self.log_format.as_deref().unwrap_or("text");
        let format = text.parse().map_err(|why| ConfigError::Value { setting: "log_format", why })?;
        Ok(LogConfig { format, level: self.log_level.clone().unwrap_or_else(|| "info".to_owned()) })
    }

    /// The database.
    pub fn target(&self) -> Result<Target, ConfigError> {
        let url = self.database_url.as_deref().ok_or(ConfigError::Missing {
            setting: "database_url",
            fix: "set DATABASE_URL, for example postgresql://walcast:password@127.0.0.1:5432/postgres, or DB_HOST",
        })?;
        Ok(Target::parse(url)?)
    }

    /// The publication's name.
    pub fn publication(&self) -> String {
        self.publication.clone().unwrap_or_else(|| "supabase_realtime".to_owned())
    }

    /// Where files are made. That one is missing is better found out now than amid a large transaction.
    fn spill_directory(&self) -> Result<PathBuf, ConfigError> {
        let Some(directory) = &self.spill_directory else { return Ok(env::temp_dir()) };
        match directory.is_dir() {
            true => Ok(directory.clone()),
            false => {
                let why = format!("there is no directory {}", directory.display());
                Err(ConfigError::Value { setting: "spill_directory", why })
            }
        }
    }

    /// The role whose tokens may do what operators do.
    fn admin_role(&self) -> String {
        self.admin_role.clone().unwrap_or_else(|| "service_role".to_owned())
    }

    /// The slot's name, checked: Postgres takes lower-case letters, digits and underscores.
    pub fn slot(&self) -> Result<String, ConfigError> {
        let name = self.slot.clone().unwrap_or_else(|| "walcast".to_owned());
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if name.is_empty() || name.len() > 63 || !name.chars().all(fits) {
            let why = "a slot's name has 1 to 63 lower-case letters, digits and underscores".to_owned();
            return Err(ConfigError::Value { setting: "slot", why });
        }
        Ok(name)
    }

    /// How far the slot is confirmed behind what was handed on.
    fn window(&self) -> WindowConfig {
        WindowConfig {
            bytes: self.resume_window_bytes.unwrap_or(64 * 1024 * 1024),
            time: Duration::from_millis(self.resume_window_ms.unwrap_or(300_000)),
        }
    }

    /// How much WAL is meant to be kept for the slot.
    pub(crate) fn keeping(&self) -> Keeping {
        let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let window = self.window();
        let window = if window.time.is_zero() { 0 } else { window.bytes };
        Keeping { window: bytes(window), budget: self.wal_budget_bytes.map(bytes) }
    }

    /// How much WAL may be kept for the slot. What is kept anyway must fit.
    fn wal_budget(&self) -> Result<Option<u64>, ConfigError> {
        let Some(budget) = self.wal_budget_bytes else { return Ok(None) };
        let window = self.window();
        if budget == 0 || (!window.time.is_zero() && budget <= window.bytes) {
            let why = format!(
                "the slot would be dropped all the time: it must be more than resume_window_bytes ({}), best several times \
                 as much",
                window.bytes
            );
            return Err(ConfigError::Value { setting: "wal_budget_bytes", why });
        }
        Ok(Some(budget))
    }

    /// Where changes are read.
    pub(crate) fn source(&self) -> Result<Choice, ConfigError> {
        match self.source.as_deref() {
            None | Some("auto") => Ok(Choice::Auto),
            Some("wal") => Ok(Choice::Log),
            Some("notify") => Ok(Choice::Outbox),
            Some(other) => {
                let why = format!("`{other}` is none of auto, wal and notify");
                Err(ConfigError::Value { setting: "source", why })
            }
        }
    }

    /// What is done before serving: by default what the replaced server does, when we are started as it is.
    fn start(&self) -> Result<StartConfig, ConfigError> {
        let is_drop_in = self.replaced.names_database;
        let migrates = match self.migrate.as_deref().map(str::trim) {
            None | Some("auto") => is_drop_in,
            Some("true") => true,
            Some("false") => false,
            Some(other) => {
                let why = format!("`{other}` is none of auto, true and false");
                return Err(ConfigError::Value { setting: "migrate", why });
            }
        };
        let wait = self.start_wait_ms.unwrap_or(if is_drop_in { DROP_IN_WAIT_MS } else { 0 });
        Ok(StartConfig { migrates, wait: Duration::from_millis(wait) })
    }

    /// Everything `serve` needs, checked.
    pub fn serve(&self) -> Result<ServeConfig, ConfigError> {
        let milliseconds = |setting: Option<u64>, default: u64| Duration::from_millis(setting.unwrap_or(default));
        let strict_deletes = match self.deletes.as_deref() {
            None | Some("keys") => false,
            Some("strict") => true,
            Some(other) => {
                return Err(ConfigError::Value {
                    setting: "deletes",
                    why: format!("`{other}` is neither keys nor strict"),
                });
            }
        };
        let slot = self.slot()?;
        let limits = self.limits()?;
        let window = self.window();
        Ok(ServeConfig {
            target: self.target()?,
            address: (self.host.clone().unwrap_or_else(|| "0.0.0.0".to_owned()), self.port.unwrap_or(4000)),
            auth: self.auth()?,
            admin_role: self.admin_role(),
            tenants: self.tenants(&slot),
            metrics_secrets: self.metrics_secrets(),
            source: self.source()?,
            slot: slot::Config {
                publication: self.publication(),
                slot: slot.clone(),
                temporary: false,
                application: "walcast".to_owned(),
                lookups: true,
                messages: true,
                window,
                silence_limit: Duration::from_millis(at_least_one(
                    "silence_limit_ms",
                    self.silence_limit_ms.unwrap_or(40_000),
                )?),
            },
            interruption_notice: milliseconds(self.interruption_notice_ms, 10_000),
            guard: guard::Config {
                slot: slot.clone(),
                publication: self.publication(),
                budget: self.wal_budget()?,
                interval: Duration::from_millis(at_least_one("wal_watch_ms", self.wal_watch_ms.unwrap_or(2000))?),
            },
            router: router::Config {
                strict_deletes,
                max_record_bytes: self.max_record_bytes.unwrap_or(1024 * 1024),
                backlog_bytes: self.backlog_bytes.unwrap_or(64 * 1024 * 1024),
                resume_window: window,
                transaction_bytes: self.transaction_bytes.unwrap_or(32 * 1024 * 1024),
                meters: Arc::new(Meters::new(limits.clone())),
            },
            spill: SpillConfig {
                directory: self.spill_directory()?,
                limit_bytes: self.spill_bytes.unwrap_or(8 * 1024 * 1024 * 1024),
            },
            lane: LaneConfig {
                connections: usize::from(at_least_one("lane_connections", self.lane_connections.unwrap_or(4))?),
                statement_timeout: milliseconds(self.lane_statement_timeout_ms, 2000),
            },
            follow: FollowConfig {
                publication: self.publication(),
                limit_bytes: self.lookup_bytes.unwrap_or(256 * 1024 * 1024),
                load_limit: Duration::from_millis(at_least_one(
                    "lookup_load_limit_ms",
                    self.lookup_load_limit_ms.unwrap_or(30_000),
                )?),
            },
            messages: messages::Config {
                retention: Duration::from_secs(
                    3600 * u64::from(at_least_one(
                        "messages_retention_hours",
                        self.messages_retention_hours.unwrap_or(72),
                    )?),
                ),
            },
            door: phoenix::Config {
                connect_error_delay: milliseconds(self.connect_error_delay_ms, 2000),
                idle_timeout: milliseconds(self.idle_timeout_ms, 60_000),
                write_timeout: milliseconds(self.write_timeout_ms, 20_000),
                max_frame_bytes: at_least_one("max_frame_bytes", self.max_frame_bytes.unwrap_or(5_000_000))?,
                max_connections: at_least_one("max_connections", self.max_connections.unwrap_or(16_384))?,
                outbox_frames: at_least_one("outbox_frames", self.outbox_frames.unwrap_or(4096))?,
                outbox_bytes: at_least_one("outbox_bytes", self.outbox_bytes.unwrap_or(1024 * 1024))?,
                session: Arc::new(session::Config {
                    max_bindings: 1000,
                    max_patterns: 20,
                    join_error_delay: milliseconds(self.join_error_delay_ms, 5000),
                }),
            },
            limits,
            max_header_bytes: self.max_header_bytes.unwrap_or_default().max(DEFAULT_HEADER_BYTES),
            start: self.start()?,
            stop_limit: Duration::from_millis(at_least_one(
                "stop_limit_ms",
                self.stop_limit_ms.unwrap_or(STOP_LIMIT_MS),
            )?),
        })
    }
}

fn at_least_one<T: Default + PartialEq>(setting: &'static str, value: T) -> Result<T, ConfigError> {
    if value == T::default() {
        Err(ConfigError::Value { setting, why: "it must be at least 1".to_owned() })
    } else {
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            database_url: Some("postgresql://u@127.0.0.1/d".to_owned()),
            jwt_secret: Some("a secret".to_owned()),
            ..Settings::default()
        }
    }

    fn refusal(settings: &Settings) -> String {
        settings.serve().err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn the_two_settings_without_a_default_are_asked_for_with_the_fix() {
        assert!(settings().serve().is_ok());
        assert!(refusal(&Settings { database_url: None, ..settings() }).contains("set DATABASE_URL"));
        assert!(refusal(&Settings { jwt_secret: Some(String::new()), ..settings() }).contains("set JWT_SECRET"));
    }

    #[test]
    fn a_limit_of_zero_would_serve_nobody_and_is_refused_by_name() {
        for (name, settings) in [
            ("max_connections", Settings { max_connections: Some(0), ..settings() }),
            ("max_channels_per_client", Settings { max_channels_per_client: Some(0), ..settings() }),
            ("max_frame_bytes", Settings { max_frame_bytes: Some(0), ..settings() }),
            ("outbox_frames", Settings { outbox_frames: Some(0), ..settings() }),
            ("outbox_bytes", Settings { outbox_bytes: Some(0), ..settings() }),
            ("lookup_load_limit_ms", Settings { lookup_load_limit_ms: Some(0), ..settings() }),
            ("silence_limit_ms", Settings { silence_limit_ms: Some(0), ..settings() }),
            ("wal_budget_bytes", Settings { wal_budget_bytes: Some(0), ..settings() }),
            ("wal_watch_ms", Settings { wal_watch_ms: Some(0), ..settings() }),
            ("lane_connections", Settings { lane_connections: Some(0), ..settings() }),
            ("spill_directory", Settings { spill_directory: Some("/nowhere/at/all".into()), ..settings() }),
        ] {
            assert!(refusal(&settings).starts_with(name), "{name}: {}", refusal(&settings));
        }
    }

    #[test]
    fn names_that_cannot_be_used_are_refused() {
        assert!(refusal(&Settings { slot: Some("with-dash".to_owned()), ..settings() }).starts_with("slot"));
        assert!(refusal(&Settings { source: Some("log".to_owned()), ..settings() }).starts_with("source"));
        assert!(refusal(&Settings { deletes: Some("maybe".to_owned()), ..settings() }).starts_with("deletes"));
    }
}
