//! `walcast explain`: why a user sees a row, or why not. Exit code 0 when he does, 1 when he does not, 2 when nobody can
//! say. What is found out is `crate::explain`'s.

use crate::{
    auth::{TokenError, Verifier},
    check,
    claims::Claims,
    config::Settings,
    explain::{Key, Question, World, explain, text},
    metrics::Metrics,
};
use anyhow::{Context, bail};
use clap::Args;
use serde_json::Value;
use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The exit code of an error.
pub(super) const ERROR: u8 = 2;
/// How long all questions may take.
const LIMIT: Duration = Duration::from_secs(60);

/// The flags of `walcast explain`.
#[derive(Args)]
pub(super) struct Arguments {
    /// Table of the row: a name in schema public, or schema.table
    #[arg(long, value_name = "TABLE")]
    table: String,
    /// Primary key of the row; of several columns: a,b, or once for each, or JSON
    #[arg(long, value_name = "KEY", required = true, allow_hyphen_values = true)]
    row: Vec<String>,
    /// Token of the user
    #[arg(long, value_name = "JWT", required_unless_present = "claims")]
    token: Option<String>,
    /// Claims of the user, in place of a token: {"role": "authenticated", "sub": "..."}
    #[arg(long, value_name = "JSON", conflicts_with = "token")]
    claims: Option<String>,
    /// Filter of the subscription: column=eq.value
    #[arg(long, value_name = "FILTER")]
    filter: Option<String>,
    /// Print the explanation as JSON
    #[arg(long)]
    json: bool,
    /// TOML file with settings, by the names of the flags with underscores
    #[arg(long, env = "WALCAST_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Database to ask: postgresql://user:password@host:5432/database
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: Option<String>,
    /// Publication whose tables are streamed [default: supabase_realtime]
    #[arg(long, env = "WALCAST_PUBLICATION", value_name = "NAME")]
    publication: Option<String>,
    /// Secret of the HS256 tokens (also API_JWT_SECRET)
    #[arg(long, env = "JWT_SECRET", hide_env_values = true, value_name = "SECRET")]
    jwt_secret: Option<String>,
    /// Opaque keys and the role each stands for: key=role,key=role
    #[arg(long, env = "WALCAST_API_KEYS", hide_env_values = true, value_name = "LIST")]
    api_keys: Option<String>,
    /// Audience every token must name [default: any]
    #[arg(long, env = "WALCAST_JWT_AUDIENCE", value_name = "AUDIENCE")]
    jwt_audience: Option<String>,
    /// Issuer every token must name [default: any]
    #[arg(long, env = "WALCAST_JWT_ISSUER", value_name = "ISSUER")]
    jwt_issuer: Option<String>,
    /// Keys tokens are verified with, as a JSON Web Key Set (also API_JWT_JWKS)
    #[arg(long, env = "WALCAST_JWKS", hide_env_values = true, value_name = "JSON")]
    jwks: Option<String>,
    /// File with such keys
    #[arg(long, env = "WALCAST_JWKS_FILE", value_name = "FILE")]
    jwks_file: Option<PathBuf>,
    /// Where such keys are published; https, or http to this machine
    #[arg(long, env = "WALCAST_JWKS_URL", hide_env_values = true, value_name = "URL")]
    jwks_url: Option<String>,
    /// Whether published keys may be fetched over plain http from other machines [default: false]
    #[arg(long, env = "WALCAST_JWKS_PLAIN_HTTP", value_name = "BOOL")]
    jwks_plain_http: Option<bool>,
    /// Issuers with keys of their own, a JSON array
    #[arg(long, env = "WALCAST_ISSUERS", hide_env_values = true, value_name = "JSON")]
    issuers: Option<String>,
    /// Claims every token must have with this value, a JSON object (also JWT_CLAIM_VALIDATORS)
    #[arg(long, env = "WALCAST_JWT_CLAIM_VALIDATORS", value_name = "JSON")]
    jwt_claim_validators: Option<String>,
    /// Claims every token must have, beside role and exp: sub,session_id
    #[arg(long, env = "WALCAST_JWT_REQUIRED_CLAIMS", value_name = "LIST")]
    jwt_required_claims: Option<String>,
}

/// Runs the command: the explanation on stdout.
pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let settings = Settings {
        config: arguments.config.clone(),
        database_url: arguments.database_url.clone(),
        publication: arguments.publication.clone(),
        jwt_secret: arguments.jwt_secret.clone(),
        api_keys: arguments.api_keys.clone(),
        jwt_audience: arguments.jwt_audience.clone(),
        jwt_issuer: arguments.jwt_issuer.clone(),
        jwks: arguments.jwks.clone(),
        jwks_file: arguments.jwks_file.clone(),
        jwks_url: arguments.jwks_url.clone(),
        jwks_plain_http: arguments.jwks_plain_http,
        issuers: arguments.issuers.clone(),
        jwt_claim_validators: arguments.jwt_claim_validators.clone(),
        jwt_required_claims: arguments.jwt_required_claims.clone(),
        ..Settings::default()
    };
    let settings = settings.with_file()?;
    let claims = match (&arguments.claims, &arguments.token) {
        (Some(text), _) => stated(text)?,
        (None, Some(token)) => verified(&settings, token).await?,
        (None, None) => bail!("say for whom: --token or --claims"),
    };
    let publication = settings.publication();
    let mut client = check::connect(&settings.target()?, "walcast explain").await?;
    let catalog = check::catalog(&mut client, &publication).await?;
    let key = Key::Values(arguments.row);
    let world = World { catalog: &catalog, publication: &publication, running: None };
    let filter = arguments.filter.as_deref();
    let question = Question { table: &arguments.table, key: &key, filter, claims: &claims };
    let explaining = tokio::time::timeout(LIMIT, explain(&mut client, &world, &question));
    let report = explaining.await.context("the database does not answer")??;
    let written = if arguments.json { serde_json::to_string_pretty(&report)? + "\n" } else { text(&report) };
    check::print(&written)?;
    Ok(if report.visible { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The claims of a token, checked as the server does.
async fn verified(settings: &Settings, token: &str) -> anyhow::Result<Claims> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let verifier = Verifier::new(&settings.auth()?);
    verifier.fetch(&Metrics::default()).await;
    let verified = verifier.verify(token, i64::try_from(now)?);
    verified.map_err(|error| {
        let why = match &error {
            TokenError::Expired { .. } | TokenError::ExpiresNow => "; the client needs a fresh one (setAuth)",
            TokenError::Signature => "; the server's JWT_SECRET is another than the one that signed it",
            TokenError::Signer { .. } => "; the server's keys are others than the one that signed it",
            TokenError::Malformed => "; check that it was copied whole",
            _ => "",
        };
        anyhow::anyhow!(
            "the server refuses this token: {error}{why}; to explain what its claims would let see: --claims '{{...}}'"
        )
    })
}

/// Claims as somebody wrote them, who can read the database anyway.
fn stated(text: &str) -> anyhow::Result<Claims> {
    // The parser's own words would quote them.
    let Ok(Value::Object(object)) = serde_json::from_str(text) else {
        bail!("--claims is not a JSON object such as {{\"role\": \"authenticated\", \"sub\": \"...\"}}")
    };
    Claims::of_object(object).context("--claims has no role: add \"role\": \"authenticated\"")
}
