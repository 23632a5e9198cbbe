//! The bearer tokens of machines: whoever holds one of a few secrets may scrape metrics or use the admin API.
//!
//! They name no role and need no expiry, as those of the server we replace; what they may do is the door's business.

use super::{
    Secret,
    compact::{Compact, seconds},
    key,
};
use jsonwebtoken::{AlgorithmFamily, DecodingKey};

/// Whether a token is signed with one of the secrets by an HMAC algorithm, and valid at `now` (seconds since the
/// epoch) as far as it says. An empty secret signs nothing. Signatures are compared in constant time.
pub fn is_signed_by(token: &str, secrets: &[Secret], now: i64) -> bool {
    let Ok(compact) = Compact::read(token) else { return false };
    let Some(algorithm) = key::algorithm(&compact.algorithm) else { return false };
    if algorithm.family() != AlgorithmFamily::Hmac {
        return false;
    }
    let is_of = |secret: &Secret| compact.is_signed(&DecodingKey::from_secret(secret.reveal().as_bytes()), algorithm);
    if !secrets.iter().any(|secret| !secret.is_empty() && is_of(secret)) {
        return false;
    }
    let holds = |claim: &str, fits: &dyn Fn(i64) -> bool| {
        compact.claims.get(claim).is_none_or(|value| seconds(value).is_some_and(fits))
    };
    holds("exp", &|expiry| expiry > now) && holds("nbf", &|start| start <= now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::jwt::sign;
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use serde_json::{Value, json};

    fn token(secret: &str, claims: Value) -> String {
        sign(secret, claims.as_object().unwrap()).unwrap()
    }

    #[test]
    fn any_of_the_secrets_opens_and_no_other_does() {
        let secrets = [Secret::from("one"), Secret::from("two")];
        for claims in [json!({}), json!({"role": "anon", "exp": 100}), json!({"nbf": 50, "exp": 51})] {
            assert!(is_signed_by(&token("one", claims.clone()), &secrets, 50));
            assert!(is_signed_by(&token("two", claims.clone()), &secrets, 50));
            assert!(!is_signed_by(&token("three", claims.clone()), &secrets, 50));
            assert!(!is_signed_by(&token("one", claims), &[], 50));
        }
    }

    #[test]
    fn a_token_that_says_when_it_is_valid_is_held_to_it() {
        let secrets = [Secret::from("one")];
        for claims in [json!({"exp": 50}), json!({"exp": "100"}), json!({"exp": null}), json!({"nbf": 51})] {
            assert!(!is_signed_by(&token("one", claims.clone()), &secrets, 50), "{claims}");
        }
    }

    #[test]
    fn an_empty_secret_an_unsigned_token_and_nonsense_open_nothing() {
        assert!(!is_signed_by(&token("", json!({})), &[Secret::default()], 1));
        let secrets = [Secret::from("one")];
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        for header in [r#"{"alg":"none"}"#, r#"{"alg":"RS256"}"#, r#"{"alg":"HS256"}"#] {
            assert!(!is_signed_by(&format!("{}.{}.", part(header), part("{}")), &secrets, 1), "{header}");
        }
        for text in ["", ".", "..", "one", "a.b.c"] {
            assert!(!is_signed_by(text, &secrets, 1));
        }
    }

    #[test]
    fn a_secret_does_not_show() {
        assert_eq!(format!("{:?}", [Secret::from("sesame")]), "[Secret]");
    }
}
