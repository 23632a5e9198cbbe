//! Whose keys count for a token: an issuer's own, or those of everybody else.
//!
//! A token that names a configured issuer is verified with that issuer's keys and with no others, so no issuer can sign
//! in another's name. Within them the header's `kid` names the key, and the key says which algorithms it verifies.

use super::{compact::Compact, jwt::TokenError, key, key_set::KeySet, remote::Remote, rules::Rules, secret::Secret};
use crate::claims::Claims;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use std::sync::Arc;

pub(super) struct Authority {
    secret: Option<DecodingKey>,
    given: KeySet,
    published: Option<Arc<Remote>>,
    rules: Rules,
}

/// What became of the search for a token's key.
enum Found {
    Genuine,
    Forged,
    NoKey,
}

impl Authority {
    pub(super) fn new(secret: &Secret, given: KeySet, published: Option<Arc<Remote>>, rules: Rules) -> Authority {
        // Without a secret nothing is verified with one: an empty one could be anybody's.
        let secret = (!secret.is_empty()).then(|| DecodingKey::from_secret(secret.reveal().as_bytes()));
        Authority { secret, given, published, rules }
    }

    pub(super) fn check(&self, compact: Compact, now: i64) -> Result<Claims, TokenError> {
        let found = key::algorithm(&compact.algorithm).map(|algorithm| self.search(&compact, algorithm));
        match found {
            Some(Found::Genuine) => self.rules.check(compact.claims, now),
            Some(Found::Forged) => Err(TokenError::Signature),
            Some(Found::NoKey) => {
                if let Some(remote) = self.lacks(&compact) {
                    remote.want();
                }
                Err(TokenError::Signer { kid: compact.key_id })
            }
            None => Err(TokenError::Signer { kid: compact.key_id }),
        }
    }

    /// The published set that may have the token's key by now; none when fetching could not help.
    pub(super) fn lacks(&self, compact: &Compact) -> Option<&Arc<Remote>> {
        let algorithm = key::algorithm(&compact.algorithm)?;
        let id = compact.key_id.as_deref()?;
        let published = self.published.as_ref()?;
        // Secrets are not published.
        let is_public = algorithm.family() != AlgorithmFamily::Hmac;
        let is_known =
            || self.given.find(id, algorithm).next().is_some() || published.set().find(id, algorithm).next().is_some();
        (is_public && !is_known()).then_some(published)
    }

    fn search(&self, compact: &Compact, algorithm: Algorithm) -> Found {
        let published = self.published.as_ref().map(|remote| remote.set());
        let mut found = Found::NoKey;
        for set in published.as_deref().into_iter().chain([&self.given]) {
            for key in compact.key_id.iter().flat_map(|id| set.find(id, algorithm)) {
                if compact.is_signed(key, algorithm) {
                    return Found::Genuine;
                }
                found = Found::Forged;
            }
        }
        match (&found, &self.secret) {
            // An HMAC whose key is not known by its name is of the shared secret.
            (Found::NoKey, Some(secret)) if algorithm.family() == AlgorithmFamily::Hmac => {
                if compact.is_signed(secret, algorithm) { Found::Genuine } else { Found::Forged }
            }
            _ => found,
        }
    }
}
