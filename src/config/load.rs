//! Where settings come from: flags over environment over an optional TOML file. What nobody knows is refused by name,
//! so that a mistyped setting is not a silent default.

use super::{
    supabase::{self, Replaced},
    tokens,
};
use crate::pg::ConnectError;
use clap::Args;
use serde::Deserialize;
use std::{ffi::OsString, path::PathBuf};

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A setting without a default is missing.
    #[error("{setting} is not set; {fix}")]
    Missing {
        /// Which.
        setting: &'static str,
        /// What to do.
        fix: &'static str,
    },
    /// A value does not fit.
    #[error("{setting}: {why}")]
    Value {
        /// Which.
        setting: &'static str,
        /// Why not.
        why: String,
    },
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What reading it said.
        #[source]
        source: std::io::Error,
    },
    /// The file cannot be understood. The parser's own words would quote the line, which may hold a secret.
    #[error("cannot use the configuration file {path}: {why}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, without the line.
        why: String,
    },
    /// A `WALCAST_*` variable nobody knows.
    #[error("the environment variable {0} is not known; see `walcast serve --help` for those that are")]
    Variable(String),
    /// The database URL.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

/// Every setting, none of them with its default yet. One field is one flag, one variable and one key of the file.
#[derive(Args, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// TOML file with settings, by the names of the flags with underscores
    #[arg(long, env = "WALCAST_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Database to stream from: postgresql://user:password@host:5432/database
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Option<String>,
    /// Secret of the HS256 tokens (also API_JWT_SECRET)
    #[arg(long, env = "JWT_SECRET", hide_env_values = true, value_name = "SECRET")]
    pub jwt_secret: Option<String>,
    /// Address to listen on [default: 0.0.0.0]
    #[arg(long, env = "HOST", value_name = "ADDRESS")]
    pub host: Option<String>,
    /// Port to listen on; 0 takes a free one [default: 4000]
    #[arg(long, env = "PORT")]
    pub port: Option<u16>,
    /// Publication whose tables are streamed [default: supabase_realtime]
    #[arg(long, env = "WALCAST_PUBLICATION", value_name = "NAME")]
    pub publication: Option<String>,
    /// Replication slot to use or create [default: walcast]
    #[arg(long, env = "WALCAST_SLOT", value_name = "NAME")]
    pub slot: Option<String>,
    /// WAL that may be kept for the slot: at half of it a warning, then the slot is dropped and made again, and clients
    /// are told of the gap [default: any]
    #[arg(long, env = "WALCAST_WAL_BUDGET_BYTES", value_name = "BYTES")]
    pub wal_budget_bytes: Option<u64>,
    /// How often it is looked at how much that is [default: 2000]
    #[arg(long, env = "WALCAST_WAL_WATCH_MS", value_name = "MS")]
    pub wal_watch_ms: Option<u64>,
    /// Where changes are read: `wal`, the outbox of `walcast migrate --notify`, or the first that can be had [default: auto]
    #[arg(long, env = "WALCAST_SOURCE", value_name = "auto|wal|notify")]
    pub source: Option<String>,
    /// Opaque keys and the role each stands for: key=role,key=role
    #[arg(long, env = "WALCAST_API_KEYS", hide_env_values = true, value_name = "LIST")]
    pub api_keys: Option<String>,
    /// Audience every token must name [default: any]
    #[arg(long, env = "WALCAST_JWT_AUDIENCE", value_name = "AUDIENCE")]
    pub jwt_audience: Option<String>,
    /// Issuer every token must name [default: any]
    #[arg(long, env = "WALCAST_JWT_ISSUER", value_name = "ISSUER")]
    pub jwt_issuer: Option<String>,
    /// Keys tokens are verified with, as a JSON Web Key Set (also API_JWT_JWKS)
    #[arg(long, env = "WALCAST_JWKS", hide_env_values = true, value_name = "JSON")]
    #[serde(default, deserialize_with = "tokens::text_or_json")]
    pub jwks: Option<String>,
    /// File with such keys
    #[arg(long, env = "WALCAST_JWKS_FILE", value_name = "FILE")]
    pub jwks_file: Option<PathBuf>,
    /// Where such keys are published; https, or http to this machine
    #[arg(long, env = "WALCAST_JWKS_URL", hide_env_values = true, value_name = "URL")]
    pub jwks_url: Option<String>,
    /// Whether published keys may be fetched over plain http from other machines [default: false]
    #[arg(long, env = "WALCAST_JWKS_PLAIN_HTTP", value_name = "BOOL")]
    pub jwks_plain_http: Option<bool>,
    /// Time after which published keys are fetched again [default: 300]
    #[arg(long, env = "WALCAST_JWKS_REFRESH_SECONDS", value_name = "SECONDS")]
    pub jwks_refresh_seconds: Option<u64>,
    /// Issuers with keys of their own, a JSON array: issuer; jwks, jwks_file, jwks_url or secret; audience, roles
    #[arg(long, env = "WALCAST_ISSUERS", hide_env_values = true, value_name = "JSON")]
    #[serde(default, deserialize_with = "tokens::text_or_json")]
    pub issuers: Option<String>,
    /// Claims every token must have with this value, a JSON object (also JWT_CLAIM_VALIDATORS)
    #[arg(long, env = "WALCAST_JWT_CLAIM_VALIDATORS", value_name = "JSON")]
    #[serde(default, deserialize_with = "tokens::text_or_json")]
    pub jwt_claim_validators: Option<String>,
    /// Claims every token must have, beside role and exp: sub,session_id
    #[arg(long, env = "WALCAST_JWT_REQUIRED_CLAIMS", value_name = "LIST")]
    pub jwt_required_claims: Option<String>,
    /// Role whose tokens may ask the server to explain what others see [default: service_role]
    #[arg(long, env = "WALCAST_ADMIN_ROLE", value_name = "ROLE")]
    pub admin_role: Option<String>,
    /// Another secret of the admin API's tokens, beside that of all tokens, while secrets are changed
    #[arg(long, env = "API_JWT_SECRET_NEXT", hide_env_values = true, value_name = "SECRET")]
    pub api_jwt_secret_next: Option<String>,
    /// Secret of the tokens that may read /metrics; without it nobody may
    #[arg(long, env = "METRICS_JWT_SECRET", hide_env_values = true, value_name = "SECRET")]
    pub metrics_jwt_secret: Option<String>,
    /// The tenant's id in the admin API [default: realtime-dev]
    #[arg(long, env = "SELF_HOST_TENANT_NAME", value_name = "NAME")]
    pub tenant: Option<String>,
    /// DELETEs of which only the key was logged: `keys` tells all subscribers the key, `strict` nobody [default: keys]
    #[arg(long, env = "WALCAST_DELETES", value_name = "RULE")]
    pub deletes: Option<String>,
    /// Changes over this size are sent as an error with their small values only [default: 1048576]
    #[arg(long, env = "WALCAST_MAX_RECORD_BYTES", value_name = "BYTES")]
    pub max_record_bytes: Option<usize>,
    /// Connections that ask Postgres about rows at the same time [default: 4]
    #[arg(long, env = "WALCAST_LANE_CONNECTIONS", value_name = "COUNT")]
    pub lane_connections: Option<u16>,
    /// Time one such statement may take [default: 2000]
    #[arg(long, env = "WALCAST_LANE_STATEMENT_TIMEOUT_MS", value_name = "MS")]
    pub lane_statement_timeout_ms: Option<u64>,
    /// Bytes of the tables policies look into that are kept in memory [default: 268435456]
    #[arg(long, env = "WALCAST_LOOKUP_BYTES", value_name = "BYTES")]
    pub lookup_bytes: Option<usize>,
    /// Time reading such a table may hold the stream [default: 30000]
    #[arg(long, env = "WALCAST_LOOKUP_LOAD_LIMIT_MS", value_name = "MS")]
    pub lookup_load_limit_ms: Option<u64>,
    /// Hours that messages of the database are kept for replay [default: 72]
    #[arg(long, env = "WALCAST_MESSAGES_RETENTION_HOURS", value_name = "HOURS")]
    pub messages_retention_hours: Option<u32>,
    /// Silence after which a client is closed [default: 60000]
    #[arg(long, env = "WALCAST_IDLE_TIMEOUT_MS", value_name = "MS")]
    pub idle_timeout_ms: Option<u64>,
    /// Time a client may take nothing in before it is dropped [default: 20000]
    #[arg(long, env = "WALCAST_WRITE_TIMEOUT_MS", value_name = "MS")]
    pub write_timeout_ms: Option<u64>,
    /// Delay of a refused upgrade [default: 2000]
    #[arg(long, env = "WALCAST_CONNECT_ERROR_DELAY_MS", value_name = "MS")]
    pub connect_error_delay_ms: Option<u64>,
    /// Delay of a refused join [default: 5000]
    #[arg(long, env = "WALCAST_JOIN_ERROR_DELAY_MS", value_name = "MS")]
    pub join_error_delay_ms: Option<u64>,
    /// Largest frame a client may send [default: 5000000]
    #[arg(long, env = "WALCAST_MAX_FRAME_BYTES", value_name = "BYTES")]
    pub max_frame_bytes: Option<usize>,
    /// Sockets at the same time [default: 16384]
    #[arg(long, env = "WALCAST_MAX_CONNECTIONS", value_name = "COUNT")]
    pub max_connections: Option<usize>,
    /// Channels of one socket [default: 100]
    #[arg(long, env = "WALCAST_MAX_CHANNELS_PER_CLIENT", value_name = "COUNT")]
    pub max_channels_per_client: Option<usize>,
    /// Bytes of the last changes kept for clients that lag [default: 67108864]
    #[arg(long, env = "WALCAST_BACKLOG_BYTES", value_name = "BYTES")]
    pub backlog_bytes: Option<usize>,
    /// Bytes of the log the slot keeps behind what was delivered, so that clients can come back to it after a restart; 0
    /// keeps none [default: 67108864]
    #[arg(long, env = "WALCAST_RESUME_WINDOW_BYTES", value_name = "BYTES")]
    pub resume_window_bytes: Option<u64>,
    /// For how long it does, at most; 0 keeps none [default: 300000]
    #[arg(long, env = "WALCAST_RESUME_WINDOW_MS", value_name = "MS")]
    pub resume_window_ms: Option<u64>,
    /// Silence of the database after which its connection counts as dead [default: 40000]
    #[arg(long, env = "WALCAST_SILENCE_LIMIT_MS", value_name = "MS")]
    pub silence_limit_ms: Option<u64>,
    /// Time after which clients that resume are told that replication is interrupted [default: 10000]
    #[arg(long, env = "WALCAST_INTERRUPTION_NOTICE_MS", value_name = "MS")]
    pub interruption_notice_ms: Option<u64>,
    /// Bytes of one transaction kept in memory until all of it has come; the rest goes to a file [default: 33554432]
    #[arg(long, env = "WALCAST_TRANSACTION_BYTES", value_name = "BYTES")]
    pub transaction_bytes: Option<usize>,
    /// Where that file is made [default: the directory for temporary files, TMPDIR]
    #[arg(long, env = "WALCAST_SPILL_DIRECTORY", value_name = "DIRECTORY")]
    pub spill_directory: Option<PathBuf>,
    /// Bytes of that file; what is larger cannot be judged by policies that look into other tables, and their subscribers
    /// are told that changes are lost [default: 8589934592]
    #[arg(long, env = "WALCAST_SPILL_BYTES", value_name = "BYTES")]
    pub spill_bytes: Option<u64>,
    /// Frames that may wait for one client [default: 4096]
    #[arg(long, env = "WALCAST_OUTBOX_FRAMES", value_name = "COUNT")]
    pub outbox_frames: Option<usize>,
    /// Bytes that may wait for one client [default: 1048576]
    #[arg(long, env = "WALCAST_OUTBOX_BYTES", value_name = "BYTES")]
    pub outbox_bytes: Option<usize>,
    /// Sockets with at least one channel [default: any number]
    #[arg(long, env = "WALCAST_MAX_CONCURRENT_USERS", value_name = "COUNT")]
    pub max_concurrent_users: Option<usize>,
    /// Messages in and out a second, on average of a minute [default: any number]
    #[arg(long, env = "WALCAST_MAX_EVENTS_PER_SECOND", value_name = "COUNT")]
    pub max_events_per_second: Option<u32>,
    /// Joins a second, on average of a minute [default: any number]
    #[arg(long, env = "WALCAST_MAX_JOINS_PER_SECOND", value_name = "COUNT")]
    pub max_joins_per_second: Option<u32>,
    /// Presence pushes a second, on average of a minute [default: any number]
    #[arg(long, env = "WALCAST_MAX_PRESENCE_EVENTS_PER_SECOND", value_name = "COUNT")]
    pub max_presence_events_per_second: Option<u32>,
    /// Accepted for compatibility and not enforced
    #[arg(long, env = "WALCAST_MAX_BYTES_PER_SECOND", value_name = "BYTES")]
    pub max_bytes_per_second: Option<u64>,
    /// Largest broadcast or tracked object, in units of 1000 bytes [default: 3000]
    #[arg(long, env = "WALCAST_MAX_PAYLOAD_SIZE_IN_KB", value_name = "KB")]
    pub max_payload_size_in_kb: Option<usize>,
    /// Presence pushes of one channel in a window [default: any number]
    #[arg(long, env = "WALCAST_MAX_CLIENT_PRESENCE_EVENTS_PER_WINDOW", value_name = "COUNT")]
    pub max_client_presence_events_per_window: Option<u32>,
    /// That window [default: 30000, when one of the two is set]
    #[arg(long, env = "WALCAST_CLIENT_PRESENCE_WINDOW_MS", value_name = "MS")]
    pub client_presence_window_ms: Option<u64>,
    /// Refuse public channels [default: false]
    #[arg(long, env = "WALCAST_PRIVATE_ONLY", value_name = "BOOLEAN")]
    pub private_only: Option<bool>,
    /// Send the presence of its channel to every join, whether it asks for it or not [default: false]
    #[arg(long, env = "WALCAST_PRESENCE_ENABLED", value_name = "BOOLEAN")]
    pub presence_enabled: Option<bool>,
    /// Serve nobody [default: false]
    #[arg(long, env = "WALCAST_SUSPEND", value_name = "BOOLEAN")]
    pub suspend: Option<bool>,
    /// Largest head of a request [default: 417792, and never less]
    #[arg(long, env = "WALCAST_MAX_HEADER_BYTES", value_name = "BYTES")]
    pub max_header_bytes: Option<usize>,
    /// Make what the database lacks at the start: true, false, or auto: when the database is named by DB_HOST
    /// [default: auto]
    #[arg(long, env = "WALCAST_MIGRATE", value_name = "WHEN")]
    pub migrate: Option<String>,
    /// Time to wait at the start for a database that does not answer yet [default: 0; with DB_HOST 120000]
    #[arg(long, env = "WALCAST_START_WAIT_MS", value_name = "MS")]
    pub start_wait_ms: Option<u64>,
    /// Time the end may take, from the signal on [default: 8000]
    #[arg(long, env = "WALCAST_STOP_LIMIT_MS", value_name = "MS")]
    pub stop_limit_ms: Option<u64>,
    /// Log format: text or json [default: text]
    #[arg(long, env = "WALCAST_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// Log level, or a filter such as info,walcast=debug [default: info]
    #[arg(long, env = "WALCAST_LOG_LEVEL", value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// What was read from the environment of the server we replace.
    #[arg(skip)]
    #[serde(skip)]
    pub replaced: Replaced,
}

/// Everything that is done field by field, from one list of the fields.
macro_rules! settings {
    ($($field:ident)*) => {
        impl Settings {
            /// Takes the other's in the place of those that are missing.
            fn fill_from(&mut self, under: Settings) {
                $( if self.$field.is_none() { self.$field = under.$field; } )*
            }

            /// Takes these from the other.
            pub fn adopt(&mut self, names: &[&str], other: &Settings) {
                $( if names.contains(&stringify!($field)) { self.$field = other.$field.clone(); } )*
            }

            /// The names of the settings that differ.
            pub fn differences(&self, other: &Settings) -> Vec<&'static str> {
                let mut names = Vec::new();
                $( if self.$field != other.$field { names.push(stringify!($field)); } )*
                names
            }
        }
    };
}

settings! {
    database_url jwt_secret host port publication slot source wal_budget_bytes wal_watch_ms api_keys jwt_audience jwt_issuer deletes
    jwks jwks_file jwks_url jwks_plain_http jwks_refresh_seconds issuers jwt_claim_validators jwt_required_claims
    admin_role api_jwt_secret_next metrics_jwt_secret tenant
    max_record_bytes backlog_bytes transaction_bytes lane_connections lane_statement_timeout_ms
    resume_window_bytes resume_window_ms spill_directory spill_bytes silence_limit_ms interruption_notice_ms
    lookup_bytes lookup_load_limit_ms messages_retention_hours idle_timeout_ms write_timeout_ms connect_error_delay_ms join_error_delay_ms
    max_frame_bytes max_connections max_channels_per_client
    outbox_frames outbox_bytes log_format log_level
    max_concurrent_users max_events_per_second max_joins_per_second max_presence_events_per_second
    max_bytes_per_second max_payload_size_in_kb max_client_presence_events_per_window client_presence_window_ms
    private_only presence_enabled suspend max_header_bytes migrate start_wait_ms stop_limit_ms
}

impl Settings {
    /// These settings, then those of the environment of the server we replace, then the file's, in the place of those
    /// that are missing.
    pub fn with_file(mut self) -> Result<Settings, ConfigError> {
        self.fill_from_supabase(|name| std::env::var(name).ok())?;
        let Some(path) = self.config.clone() else { return Ok(self) };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(source) => return Err(ConfigError::Read { path, source }),
        };
        let file = Settings::of_toml(&text).map_err(|why| ConfigError::Parse { path, why })?;
        self.fill_from(file);
        Ok(self)
    }

    /// The settings of a file's text, or what is wrong with it, which no value of it is repeated in.
    pub fn of_toml(text: &str) -> Result<Settings, String> {
        toml::from_str(text).map_err(|error| without_lines(text, &error))
    }

    /// The same with the environment of the server we replace as `variable` has it.
    pub fn fill_from_supabase(&mut self, variable: impl Fn(&str) -> Option<String>) -> Result<(), ConfigError> {
        let (settings, replaced) = supabase::read(variable, self)?;
        self.fill_from(settings);
        self.replaced = replaced;
        Ok(())
    }
}

/// The parser's message and the number of the line, but neither the line nor the value itself.
fn without_lines(text: &str, error: &toml::de::Error) -> String {
    // "invalid type: integer `12345`, expected a string": the value may be a secret.
    let message = match error.message().split_once(", expected ") {
        Some((what, expected)) if what.starts_with("invalid type") || what.starts_with("invalid value") => {
            format!("the value does not fit, expected {expected}")
        }
        _ => error.message().to_owned(),
    };
    match error.span() {
        Some(span) => {
            let line = text.get(..span.start).unwrap_or_default().matches('\n').count() + 1;
            format!("line {line}: {message}")
        }
        None => message,
    }
}

/// Refuses `WALCAST_*` variables that are not among `known`. Other variables are none of our business.
pub fn check_environment(variables: impl IntoIterator<Item = OsString>, known: &[String]) -> Result<(), ConfigError> {
    for name in variables {
        let name = name.to_string_lossy();
        if name.starts_with("WALCAST_") && !known.iter().any(|other| *other == name) {
            return Err(ConfigError::Variable(name.into_owned()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Settings, without_lines};

    #[test]
    fn a_value_of_the_wrong_type_is_not_repeated() {
        for text in
            ["slot = 'a'\njwt_secret = 4711", "port = 'x'\nport = '4711'", "\nport = '4711'", "\nport = 4711000"]
        {
            let error = toml::from_str::<Settings>(text).err().unwrap();
            let said = without_lines(text, &error);
            assert!(said.starts_with("line 2: ") && !said.contains("4711"), "{said}");
        }
    }
}
