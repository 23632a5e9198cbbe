//! `walcast token`: a signed token for development. `auth::jwt` signs it; what may stand in it is decided here.

use crate::{
    auth::jwt,
    config::{ConfigError, Settings},
};
use clap::Args;
use serde_json::{Map, Value};
use std::{
    io::Write,
    path::PathBuf,
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

/// Claims that a flag of their own sets.
const FLAGS: [(&str, &str); 4] = [("role", "--role"), ("sub", "--sub"), ("exp", "--ttl"), ("iat", "--ttl")];

/// A token cannot be made as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenRequestError {
    /// Not a time.
    #[error("--ttl `{0}` is not a time such as 30s, 15m, 1h or 7d")]
    Ttl(String),
    /// No time.
    #[error("--ttl is 0, so the token would have expired already; give a time such as 1h")]
    NoTime,
    /// Not of the form `name=value`. The text is not repeated: it may be a secret.
    #[error("--claim number {0} is not of the form name=value")]
    Claim(usize),
    /// The claim has its own flag.
    #[error("--claim {claim} would set the claim twice; use {flag}")]
    OwnFlag {
        /// The claim.
        claim: String,
        /// The flag that sets it.
        flag: &'static str,
    },
    /// The claim was set before, or lies inside of one that is no object.
    #[error("--claim {0} would set the claim twice")]
    Twice(String),
}

/// The flags of `walcast token`.
#[derive(Args)]
pub struct Arguments {
    /// Role the token claims: anon, authenticated or service_role, or one of your own
    #[arg(long, value_name = "ROLE")]
    role: String,
    /// User id the token claims
    #[arg(long, value_name = "UUID")]
    sub: Option<String>,
    /// Further claim; JSON where the value is JSON, otherwise text; dots nest: app_metadata.role=agent
    #[arg(long = "claim", value_name = "NAME=VALUE")]
    claims: Vec<String>,
    /// Time until it expires: 30s, 15m, 1h, 7d
    #[arg(long, default_value = "1h", value_name = "TIME")]
    ttl: String,
    /// TOML file with settings, by the names of the flags with underscores
    #[arg(long, env = "WALCAST_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Secret to sign with (also API_JWT_SECRET)
    #[arg(long, env = "JWT_SECRET", hide_env_values = true, value_name = "SECRET")]
    jwt_secret: Option<String>,
}

/// Runs the command: the token, and nothing else, on stdout.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let settings =
        Settings { config: arguments.config.clone(), jwt_secret: arguments.jwt_secret.clone(), ..Settings::default() };
    let secret = settings.with_file()?.jwt_secret.filter(|secret| !secret.is_empty()).ok_or(ConfigError::Missing {
        setting: "jwt_secret",
        fix: "set JWT_SECRET to the secret your server verifies with",
    })?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let token = jwt::sign(&secret, &claims(arguments, now)?)?;
    if let Some(sub) = arguments.sub.as_deref().filter(|sub| uuid::Uuid::try_parse(sub).is_err()) {
        let _ = writeln!(
            std::io::stderr(),
            "walcast: warning: sub {} is not a UUID, so policies with auth.uid() fail for this token",
            sub.escape_debug()
        );
    }
    writeln!(std::io::stdout(), "{token}")?;
    Ok(ExitCode::SUCCESS)
}

fn claims(arguments: &Arguments, now: u64) -> Result<Map<String, Value>, TokenRequestError> {
    let expires_at = now.checked_add(seconds(&arguments.ttl)?).filter(|&time| i64::try_from(time).is_ok());
    let expires_at = expires_at.ok_or_else(|| TokenRequestError::Ttl(arguments.ttl.clone()))?;
    let mut claims = Map::new();
    claims.insert("role".to_owned(), Value::from(arguments.role.as_str()));
    if let Some(sub) = &arguments.sub {
        claims.insert("sub".to_owned(), Value::from(sub.as_str()));
    }
    claims.insert("iat".to_owned(), Value::from(now));
    claims.insert("exp".to_owned(), Value::from(expires_at));
    for (number, text) in arguments.claims.iter().enumerate() {
        let pair = text.split_once('=').filter(|(name, _)| !name.split('.').any(str::is_empty));
        let (name, value) = pair.ok_or(TokenRequestError::Claim(number + 1))?;
        let first = name.split('.').next().unwrap_or(name);
        if let Some((_, flag)) = FLAGS.iter().find(|(claim, _)| *claim == first) {
            return Err(TokenRequestError::OwnFlag { claim: name.to_owned(), flag });
        }
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        set(&mut claims, name, name, value)?;
    }
    Ok(claims)
}

/// Sets a claim at the place its dotted name says.
fn set(claims: &mut Map<String, Value>, whole: &str, name: &str, value: Value) -> Result<(), TokenRequestError> {
    let twice = || TokenRequestError::Twice(whole.to_owned());
    match name.split_once('.') {
        None if claims.contains_key(name) => Err(twice()),
        None => {
            claims.insert(name.to_owned(), value);
            Ok(())
        }
        Some((first, rest)) => {
            let inner = claims.entry(first).or_insert_with(|| Value::Object(Map::new()));
            set(inner.as_object_mut().ok_or_else(twice)?, whole, rest, value)
        }
    }
}

fn seconds(text: &str) -> Result<u64, TokenRequestError> {
    let wrong = || TokenRequestError::Ttl(text.to_owned());
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let unit: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    match number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).ok_or_else(wrong)? {
        0 => Err(TokenRequestError::NoTime),
        seconds => Ok(seconds),
    }
}
