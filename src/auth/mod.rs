//! Tokens and keys → claims. Every token is verified before anything in it is used.
//!
//! Owns whose keys count and when they change: the shared secret, key sets given and published, several issuers, the
//! configured opaque keys. `compact` takes a token apart, `authority` finds its key, `rules` says what it must claim,
//! `remote` keeps published keys fresh. Which roles a claim may name is the catalogue's business, not the verifier's.

mod authority;
pub mod bearer;
mod compact;
mod fetch;
mod jwks_url;
pub mod jwt;
mod key;
mod key_set;
mod remote;
mod rules;
mod secret;
#[cfg(test)]
mod tests;

use crate::{claims::Claims, metrics::Metrics};
use authority::Authority;
use compact::{Compact, NoToken};
use futures_util::future::join_all;
use remote::Remote;
use rules::Rules;
use serde_json::{Map, Value};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use jwks_url::{JwksUrl, JwksUrlError};
pub use jwt::TokenError;
pub use key_set::{KeySet, KeySetError, MAX_KEY_SET_BYTES};
pub use remote::Refresh;
pub use secret::Secret;

/// What the prefix of Supabase's opaque keys is: such a key is no JWT.
pub const OPAQUE_PREFIX: &str = "sb_";

/// What tokens are checked against.
#[derive(Clone, Default)]
pub struct Config {
    /// The secret of HMAC tokens; none when empty.
    pub jwt_secret: Secret,
    /// Keys that were given to this server.
    pub keys: KeySet,
    /// Where further keys are published.
    pub jwks_url: Option<JwksUrl>,
    /// When published keys are fetched again.
    pub refresh: Refresh,
    /// The audience a token must name; any when none.
    pub audience: Option<String>,
    /// The issuer a token must name, unless it names one of `issuers`; any when none.
    pub issuer: Option<String>,
    /// Claims every token must have, beyond `role` and `exp`.
    pub required_claims: Vec<String>,
    /// Claims every token must have with exactly this value.
    pub claim_values: Map<String, Value>,
    /// Issuers with keys of their own.
    pub issuers: Vec<Issuer>,
    /// Opaque keys and the role each stands for.
    pub api_keys: Vec<(String, String)>,
}

/// An issuer with keys of its own, which verify its tokens and no others.
#[derive(Clone, Default)]
pub struct Issuer {
    /// What its tokens claim as `iss`.
    pub name: String,
    /// The secret of its HMAC tokens; none when empty.
    pub secret: Secret,
    /// Its keys, as they were given to this server.
    pub keys: KeySet,
    /// Where it publishes keys.
    pub jwks_url: Option<JwksUrl>,
    /// The audience its tokens must name; that of all tokens when none.
    pub audience: Option<String>,
    /// The roles its tokens may claim; any when none.
    pub roles: Option<Vec<String>>,
}

/// Turns tokens into claims. Cheap to clone; all clones have the same keys, also after these were replaced.
#[derive(Clone)]
pub struct Verifier {
    shared: Arc<Shared>,
}

struct Shared {
    keys: RwLock<Arc<Keys>>,
    /// How often the keys have changed.
    generation: watch::Sender<u64>,
    /// How often the configuration was replaced.
    replaced: watch::Sender<u64>,
}

struct Keys {
    /// For tokens of no configured issuer.
    others: Authority,
    issuers: HashMap<String, Authority>,
    opaque: HashMap<String, Claims>,
    /// The published sets, each once.
    remotes: Vec<Arc<Remote>>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}

impl Verifier {
    /// A verifier of this configuration. Published keys are not there before [`Verifier::fetch`].
    pub fn new(config: &Config) -> Verifier {
        let keys = RwLock::new(Arc::new(Keys::new(config, &[])));
        let shared = Shared { keys, generation: watch::Sender::new(0), replaced: watch::Sender::new(0) };
        Verifier { shared: Arc::new(shared) }
    }

    /// The claims of a token or of a configured opaque key, at `now` in seconds since the epoch.
    pub fn verify(&self, token: &str, now: i64) -> Result<Claims, TokenError> {
        let keys = self.keys();
        if let Some(claims) = keys.opaque.get(token) {
            return Ok(claims.clone());
        }
        let compact = Compact::read(token).map_err(|NoToken| TokenError::Malformed)?;
        keys.authority(&compact).check(compact, now)
    }

    /// Before a token is verified: when it names a key that is not there and may have been published since, fetches
    /// and waits a few seconds. Nobody can make the server fetch more often than the configured pause allows.
    pub async fn prepare(&self, token: &str) {
        let remote = {
            let keys = self.keys();
            if keys.remotes.is_empty() || keys.opaque.contains_key(token) {
                return;
            }
            let Ok(compact) = Compact::read(token) else { return };
            keys.authority(&compact).lacks(&compact).cloned()
        };
        if let Some(remote) = remote {
            remote.wait().await;
        }
    }

    /// Takes other keys and rules from now on. A published set that is still wanted keeps its keys meanwhile.
    pub fn replace(&self, config: &Config) {
        let keys = Arc::new(Keys::new(config, &self.keys().remotes));
        *self.shared.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        self.count_change();
        self.shared.replaced.send_modify(|count| *count += 1);
    }

    /// A number that grows whenever a token that was verified might not be any more, beyond expiring.
    pub fn generation(&self) -> u64 {
        *self.shared.generation.borrow()
    }

    /// Tells of every new generation.
    pub fn generations(&self) -> watch::Receiver<u64> {
        self.shared.generation.subscribe()
    }

    /// Fetches all published keys once. What fails is logged.
    pub async fn fetch(&self, metrics: &Metrics) {
        let keys = self.keys();
        join_all(keys.remotes.iter().map(|remote| remote.fetch(metrics, || self.count_change()))).await;
    }

    /// Keeps published keys fresh until told to stop.
    pub async fn follow(self, metrics: Arc<Metrics>, stop: CancellationToken) {
        let mut replaced = self.shared.replaced.subscribe();
        loop {
            let keys = self.keys();
            let following = async {
                join_all(keys.remotes.iter().map(|remote| self.follow_one(remote, &metrics))).await;
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = stop.cancelled() => return,
                Ok(()) = replaced.changed() => {}
                () = following => {}
            }
        }
    }

    async fn follow_one(&self, remote: &Remote, metrics: &Metrics) {
        loop {
            remote.due().await;
            remote.fetch(metrics, || self.count_change()).await;
        }
    }

    fn keys(&self) -> Arc<Keys> {
        self.shared.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count_change(&self) {
        self.shared.generation.send_modify(|generation| *generation += 1);
    }
}

impl Keys {
    fn new(config: &Config, kept: &[Arc<Remote>]) -> Keys {
        let remotes = published(config, kept);
        let remote = |url: &Option<JwksUrl>| {
            let url = url.as_ref()?;
            remotes.iter().find(|remote| remote.url() == url).cloned()
        };
        let rules = Rules {
            audience: config.audience.clone(),
            issuer: config.issuer.clone(),
            roles: None,
            required: config.required_claims.clone(),
            values: config.claim_values.clone(),
        };
        let of_issuer = |issuer: &Issuer| {
            let rules = Rules {
                audience: issuer.audience.clone().or_else(|| config.audience.clone()),
                issuer: Some(issuer.name.clone()),
                roles: issuer.roles.clone(),
                ..rules.clone()
            };
            let authority = Authority::new(&issuer.secret, issuer.keys.clone(), remote(&issuer.jwks_url), rules);
            (issuer.name.clone(), authority)
        };
        let issuers = config.issuers.iter().map(of_issuer).collect();
        let opaque = config.api_keys.iter().map(|(key, role)| (key.clone(), Claims::of_role(role))).collect();
        let remote = remote(&config.jwks_url);
        let others = Authority::new(&config.jwt_secret, config.keys.clone(), remote, rules);
        Keys { others, issuers, opaque, remotes }
    }

    /// Whose keys count for this token.
    fn authority(&self, compact: &Compact) -> &Authority {
        let issuer = compact.claims.get("iss").and_then(Value::as_str);
        issuer.and_then(|issuer| self.issuers.get(issuer)).unwrap_or(&self.others)
    }
}

/// The published sets of a configuration, each URL once; those kept from before with their keys.
fn published(config: &Config, kept: &[Arc<Remote>]) -> Vec<Arc<Remote>> {
    let mut remotes: Vec<Arc<Remote>> = Vec::new();
    for url in config.issuers.iter().map(|issuer| &issuer.jwks_url).chain([&config.jwks_url]).flatten() {
        if remotes.iter().any(|remote| remote.url() == url) {
            continue;
        }
        let remote = kept.iter().find(|remote| remote.url() == url).cloned();
        let remote = remote.unwrap_or_else(|| Arc::new(Remote::new(url.clone(), config.refresh)));
        remote.reschedule(config.refresh);
        remotes.push(remote);
    }
    remotes
}
