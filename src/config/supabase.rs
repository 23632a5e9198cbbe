//! The environment of the container we replace (protocol reference, sections 10.1 and 12): its variables → our settings.
//!
//! What has no meaning here is accepted, so that nobody has to clean up a compose file first. An empty value is an unset
//! one: compose files write `${NAME:-}`.

use super::{ConfigError, Settings};
use crate::pg::Target;

/// Variables that are read here, into settings.
pub const READ: &[&str] = &[
    "API_JWT_JWKS",
    "API_JWT_SECRET",
    "CLIENT_PRESENCE_MAX_CALLS",
    "CLIENT_PRESENCE_WINDOW_MS",
    "DB_HOST",
    "DB_NAME",
    "DB_PASSWORD",
    "DB_PORT",
    "DB_SSL",
    "DB_SSL_CA_CERT",
    "DB_USER",
    "JWT_CLAIM_VALIDATORS",
    "LOG_LEVEL",
    "MAX_CONNECTIONS",
    "MAX_HEADER_LENGTH",
    "PORT",
    "SLOT_NAME_SUFFIX",
    "TENANT_MAX_BYTES_PER_SECOND",
    "TENANT_MAX_CHANNELS_PER_CLIENT",
    "TENANT_MAX_CONCURRENT_USERS",
    "TENANT_MAX_EVENTS_PER_SECOND",
    "TENANT_MAX_JOINS_PER_SECOND",
];

/// Variables whose meaning is elsewhere: tokens, metrics and the tenant's name.
pub const READ_ELSEWHERE: &[&str] = &["API_JWT_SECRET_NEXT", "METRICS_JWT_SECRET", "SELF_HOST_TENANT_NAME"];

/// Variables without a meaning here, and why.
pub const IGNORED: &[(&str, &str)] = &[
    ("APP_NAME", "there is no cluster to name"),
    ("CONNECT_ERROR_BACKOFF_MS", "WALCAST_CONNECT_ERROR_DELAY_MS sets it"),
    ("DB_AFTER_CONNECT_QUERY", "every statement names its schema"),
    ("DB_ENC_KEY", "no credentials are stored in the database"),
    ("DB_IP_VERSION", "both versions are tried"),
    ("DB_POOL_SIZE", "WALCAST_LANE_CONNECTIONS sets how many connections ask about rows"),
    ("DB_QUEUE_INTERVAL", "statements have time limits of their own"),
    ("DB_QUEUE_TARGET", "statements have time limits of their own"),
    ("DISABLE_HEALTHCHECK_LOGGING", "health checks are not logged"),
    ("DNS_NODES", "there is no cluster to find"),
    ("ERL_AFLAGS", "there is no Erlang"),
    ("FLY_ALLOC_ID", "there is no cluster to name"),
    ("FLY_APP_NAME", "there is no cluster to name"),
    ("JANITOR_SCHEDULE_TIMER_IN_MS", "partitions are kept in order at all times"),
    ("NUM_ACCEPTORS", "one task accepts"),
    ("REALTIME_IP_VERSION", "HOST sets the address"),
    ("REGION", "there is one region"),
    ("REQUEST_ID_BAGGAGE_KEY", "requests are not traced"),
    ("RLIMIT_NOFILE", "the container's own limit holds; set `ulimits` there"),
    ("RUN_JANITOR", "partitions are kept in order at all times"),
    ("SECRET_KEY_BASE", "there are no cookies"),
    ("SEED_SELF_HOST", "there is one tenant, which needs no seed"),
];

/// What the environment of the server we replace said beside settings.
#[derive(Clone, Debug, Default)]
pub struct Replaced {
    /// Whether the database is the one of `DB_HOST`.
    pub names_database: bool,
    /// What contradicts something else, and which of them counts.
    pub contradictions: Vec<String>,
    /// Variables that were set and mean nothing here, and why.
    pub ignored: Vec<(&'static str, &'static str)>,
}

/// Reads settings from the environment; `own` are those that go over them.
pub(super) fn read(
    variable: impl Fn(&str) -> Option<String>,
    own: &Settings,
) -> Result<(Settings, Replaced), ConfigError> {
    let variable = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
    let settings = Settings {
        database_url: database(&variable)?,
        jwt_secret: variable("API_JWT_SECRET"),
        jwks: variable("API_JWT_JWKS"),
        jwt_claim_validators: variable("JWT_CLAIM_VALIDATORS"),
        slot: variable("SLOT_NAME_SUFFIX").map(|suffix| slot(&suffix)).transpose()?,
        log_level: variable("LOG_LEVEL").map(|level| log_level(&level)),
        max_connections: number(&variable, "MAX_CONNECTIONS")?,
        max_header_bytes: number(&variable, "MAX_HEADER_LENGTH")?,
        max_concurrent_users: number(&variable, "TENANT_MAX_CONCURRENT_USERS")?,
        max_events_per_second: number(&variable, "TENANT_MAX_EVENTS_PER_SECOND")?,
        max_joins_per_second: number(&variable, "TENANT_MAX_JOINS_PER_SECOND")?,
        max_channels_per_client: number(&variable, "TENANT_MAX_CHANNELS_PER_CLIENT")?,
        max_bytes_per_second: number(&variable, "TENANT_MAX_BYTES_PER_SECOND")?,
        max_client_presence_events_per_window: number(&variable, "CLIENT_PRESENCE_MAX_CALLS")?,
        client_presence_window_ms: number(&variable, "CLIENT_PRESENCE_WINDOW_MS")?,
        ..Settings::default()
    };
    let mut replaced = Replaced {
        names_database: settings.database_url.is_some() && own.database_url.is_none(),
        contradictions: Vec::new(),
        ignored: IGNORED.iter().copied().filter(|(name, _)| variable(name).is_some()).collect(),
    };
    if let (Some(own), Some(theirs)) = (&own.database_url, &settings.database_url)
        && let (Ok(own), Ok(theirs)) = (Target::parse(own), Target::parse(theirs))
        && place(&own) != place(&theirs)
    {
        let (own, theirs) = (place(&own), place(&theirs));
        replaced.contradictions.push(format!("DATABASE_URL ({own}) is used, and DB_HOST ({theirs}) is not"));
    }
    if let (Some(own), Some(theirs)) = (&own.jwt_secret, &settings.jwt_secret)
        && own != theirs
    {
        replaced.contradictions.push("JWT_SECRET is used, and API_JWT_SECRET, which differs, is not".to_owned());
    }
    Ok((settings, replaced))
}

/// A database, for people: no password.
fn place(target: &Target) -> String {
    format!("{} at {}, as {}", target.database(), target.address(), target.user())
}

/// The connection string of `DB_HOST` and what belongs to it, with the defaults of the server we replace. In the
/// `key=value` form no character of a password means anything else.
fn database(variable: &impl Fn(&str) -> Option<String>) -> Result<Option<String>, ConfigError> {
    let Some(host) = variable("DB_HOST") else { return Ok(None) };
    let host = host.trim();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port: u16 = number(variable, "DB_PORT")?.unwrap_or(5432);
    let user = variable("DB_USER").unwrap_or_else(|| "postgres".to_owned());
    let name = variable("DB_NAME").unwrap_or_else(|| "postgres".to_owned());
    let mut text = format!("host={} port={port} user={} dbname={}", quoted(bare), quoted(&user), quoted(&name));
    if let Some(password) = variable("DB_PASSWORD") {
        text.push_str(&format!(" password={}", quoted(&password)));
    }
    let certificates = variable("DB_SSL_CA_CERT");
    match (boolean(variable, "DB_SSL")?, certificates) {
        (Some(true), None) => text.push_str(" sslmode=require"),
        (Some(true), Some(file)) => text.push_str(&format!(" sslmode=verify-full sslrootcert={}", quoted(&file))),
        (None | Some(false), _) => {}
    }
    Ok(Some(text))
}

fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A slot of its own for each suffix, as there: blue and green deployments read the same database side by side.
fn slot(suffix: &str) -> Result<String, ConfigError> {
    let name = format!("walcast_{}", suffix.trim().to_ascii_lowercase());
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.len() > 63 || !name.chars().all(fits) {
        let why = "the name of a slot takes letters, digits and underscores, 55 at most here".to_owned();
        return Err(ConfigError::Value { setting: "SLOT_NAME_SUFFIX", why });
    }
    Ok(name)
}

/// The levels of Elixir, which has some that we have not.
fn log_level(level: &str) -> String {
    let level = level.trim().to_ascii_lowercase();
    match level.as_str() {
        "emergency" | "alert" | "critical" => "error",
        "warning" => "warn",
        "notice" => "info",
        "all" => "trace",
        "none" => "off",
        _ => return level,
    }
    .to_owned()
}

fn number<T: std::str::FromStr>(
    variable: &impl Fn(&str) -> Option<String>,
    name: &'static str,
) -> Result<Option<T>, ConfigError> {
    let Some(text) = variable(name) else { return Ok(None) };
    let bad = |_| ConfigError::Value { setting: name, why: format!("`{}` is not a number that fits", text.trim()) };
    text.trim().parse().map(Some).map_err(bad)
}

fn boolean(variable: &impl Fn(&str) -> Option<String>, name: &'static str) -> Result<Option<bool>, ConfigError> {
    let Some(text) = variable(name) else { return Ok(None) };
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(Some(true)),
        "false" | "0" => Ok(Some(false)),
        _ => Err(ConfigError::Value { setting: name, why: "it is neither true nor false".to_owned() }),
    }
}

#[cfg(test)]
mod tests;
