//! Tokens and keys → claims. Every token is verified before anything in it is used.
//!
//! Owns the secret, the configured opaque keys, and the order of the checks; `jwt` does the checking. Which roles a
//! claim may name is the catalogue's business, not the verifier's.

pub mod bearer;
mod compact;
pub mod jwt;
mod key;
mod secret;

use crate::claims::Claims;
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

pub use jwt::TokenError;
pub use secret::Secret;

/// What the prefix of Supabase's opaque keys is: such a key is no JWT.
pub const OPAQUE_PREFIX: &str = "sb_";

/// What tokens are checked against.
#[derive(Clone, Default)]
pub struct Config {
    /// The secret of HMAC tokens; none when empty.
    pub jwt_secret: Secret,
    /// The audience a token must name; any when none.
    pub audience: Option<String>,
    /// The issuer a token must name; any when none.
    pub issuer: Option<String>,
    /// Opaque keys and the role each stands for.
    pub api_keys: Vec<(String, String)>,
}

/// Turns tokens into claims. Cheap to clone.
#[derive(Clone)]
pub struct Verifier {
    keys: Arc<RwLock<Arc<Keys>>>,
}

struct Keys {
    jwt: jwt::Checker,
    opaque: HashMap<String, Claims>,
}

impl Keys {
    fn new(config: &Config) -> Keys {
        let opaque = config.api_keys.iter().map(|(key, role)| (key.clone(), Claims::of_role(role))).collect();
        Keys { jwt: jwt::Checker::new(config), opaque }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}

impl Verifier {
    /// A verifier of this configuration.
    pub fn new(config: &Config) -> Verifier {
        Verifier { keys: Arc::new(RwLock::new(Arc::new(Keys::new(config)))) }
    }

    /// Goes by another configuration from now on, and so do all clones.
    pub fn replace(&self, config: &Config) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Keys::new(config));
    }

    /// The claims of a token or of a configured opaque key, at `now` in seconds since the epoch.
    pub fn verify(&self, token: &str, now: i64) -> Result<Claims, TokenError> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner).clone();
        match keys.opaque.get(token) {
            Some(claims) => Ok(claims.clone()),
            None => keys.jwt.check(token, now),
        }
    }
}
