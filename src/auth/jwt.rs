//! A JSON Web Token → claims (RFC 7519), HS256 by the shared secret. Pure: the time is an argument.
//!
//! Implements sections 1.6, 3.6 and 9 of the protocol reference: `role` and a numeric `exp` are required, there is no
//! leeway, and every text a client may be told stands in [`TokenError`].

use super::{
    Config,
    compact::{Compact, NoToken, seconds},
};
use crate::claims::Claims;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};

/// Why a token was not accepted. `Display` is the text clients know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a JWT.
    #[error("The token provided is not a valid JWT")]
    Malformed,
    /// An algorithm or key that is not configured; also `alg: none`.
    #[error("{}", signer_text(kid.as_deref()))]
    Signer {
        /// The key id the header names.
        kid: Option<String>,
    },
    /// The signature does not belong to the secret.
    #[error("Failed to validate JWT signature")]
    Signature,
    /// `role` or `exp` is missing or of the wrong type.
    #[error("Fields `role` and `exp` are required in JWT")]
    MissingClaims,
    /// It has expired.
    #[error("Token has expired {seconds_ago} seconds ago")]
    Expired {
        /// How long ago.
        seconds_ago: i64,
    },
    /// It expires in this very second.
    #[error("Token expiration time is invalid")]
    ExpiresNow,
    /// `nbf` lies in the future, or `aud` or `iss` is not the configured one.
    #[error("Token claim `{claim}` is not valid")]
    Claim {
        /// Which.
        claim: &'static str,
    },
}

fn signer_text(kid: Option<&str>) -> String {
    let key = kid.map(|kid| format!(" for key ID (kid) \"{kid}\"")).unwrap_or_default();
    format!("Failed to generate JWT signer{key}, check your JWT secret or JWKS configuration")
}

impl TokenError {
    /// The operational code that prefixes the text in a join error (reference, section 3.6).
    pub fn code(&self) -> &'static str {
        match self {
            TokenError::Malformed => "MalformedJWT",
            TokenError::Signer { .. } => "JwtSignerError",
            TokenError::Signature => "JwtSignatureError",
            TokenError::MissingClaims
            | TokenError::Expired { .. }
            | TokenError::ExpiresNow
            | TokenError::Claim { .. } => "InvalidJWTToken",
        }
    }
}

pub(super) struct Checker {
    key: DecodingKey,
    audience: Option<String>,
    issuer: Option<String>,
}

impl Checker {
    pub(super) fn new(config: &Config) -> Checker {
        Checker {
            key: DecodingKey::from_secret(config.jwt_secret.reveal().as_bytes()),
            audience: config.audience.clone(),
            issuer: config.issuer.clone(),
        }
    }

    pub(super) fn check(&self, token: &str, now: i64) -> Result<Claims, TokenError> {
        let compact = Compact::read(token).map_err(|NoToken| TokenError::Malformed)?;
        // The header chooses nothing: one algorithm is configured, and a header that names another is refused before
        // its signature is looked at. So neither `none` nor an asymmetric name can borrow the secret.
        if compact.algorithm != "HS256" {
            return Err(TokenError::Signer { kid: compact.key_id });
        }
        if !compact.is_signed(&self.key, Algorithm::HS256) {
            return Err(TokenError::Signature);
        }
        self.check_claims(compact.claims, now)
    }

    fn check_claims(&self, claims: Map<String, Value>, now: i64) -> Result<Claims, TokenError> {
        let role = claims.get("role").and_then(Value::as_str).ok_or(TokenError::MissingClaims)?;
        let expires_at = claims.get("exp").and_then(seconds).ok_or(TokenError::MissingClaims)?;
        match now.saturating_sub(expires_at) {
            0 => return Err(TokenError::ExpiresNow),
            late if late > 0 => return Err(TokenError::Expired { seconds_ago: late }),
            _ => {}
        }
        if claims.get("nbf").and_then(seconds).is_some_and(|not_before| not_before > now) {
            return Err(TokenError::Claim { claim: "nbf" });
        }
        let names = |claim: &str, wanted: &str| match claims.get(claim) {
            Some(Value::String(one)) => one == wanted,
            Some(Value::Array(several)) => several.iter().any(|one| one == wanted),
            _ => false,
        };
        if self.audience.as_deref().is_some_and(|wanted| !names("aud", wanted)) {
            return Err(TokenError::Claim { claim: "aud" });
        }
        if self.issuer.as_deref().is_some_and(|wanted| !names("iss", wanted)) {
            return Err(TokenError::Claim { claim: "iss" });
        }
        let role = role.into();
        Ok(Claims { role, expires_at: Some(expires_at), json: Value::Object(claims).to_string().into() })
    }
}

/// Signs claims with the secret: for development and tests.
pub fn sign(secret: &str, claims: &Map<String, Value>) -> Result<String, jsonwebtoken::errors::Error> {
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::new(Algorithm::HS256), claims, &key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Verifier;
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use serde_json::json;

    const SECRET: &str = "a-secret-of-at-least-thirty-two-characters";

    fn token(claims: Value) -> String {
        sign(SECRET, claims.as_object().unwrap()).unwrap()
    }

    fn verifier() -> Verifier {
        Verifier::new(&Config { jwt_secret: SECRET.into(), ..Config::default() })
    }

    fn unsigned(header: Value, claims: Value) -> String {
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.", part(header), part(claims))
    }

    #[test]
    fn a_good_token_yields_its_role_expiry_and_all_claims() {
        let claims =
            verifier().verify(&token(json!({"role": "anon", "exp": 100, "sub": "s", "aud": "x"})), 99).unwrap();
        assert_eq!((&*claims.role, claims.expires_at), ("anon", Some(100)));
        let all: Value = serde_json::from_str(&claims.json).unwrap();
        assert_eq!(all["sub"], "s");
    }

    #[test]
    fn expiry_has_no_leeway() {
        let ancient = token(json!({"role": "anon", "exp": i64::MIN}));
        let token = token(json!({"role": "anon", "exp": 100}));
        assert!(verifier().verify(&token, 99).is_ok());
        assert_eq!(verifier().verify(&token, 100).unwrap_err(), TokenError::ExpiresNow);
        let expired = verifier().verify(&token, 107).unwrap_err();
        assert_eq!(expired.to_string(), "Token has expired 7 seconds ago");
        assert!(matches!(verifier().verify(&ancient, 1).unwrap_err(), TokenError::Expired { .. }));
    }

    #[test]
    fn role_and_a_numeric_expiry_are_required() {
        for claims in [
            json!({"role": "anon"}),
            json!({"exp": 100}),
            json!({"role": "anon", "exp": "100"}),
            json!({"role": 5, "exp": 100}),
            json!({"role": "anon", "exp": null}),
        ] {
            assert_eq!(verifier().verify(&token(claims), 1).unwrap_err(), TokenError::MissingClaims);
        }
        assert!(verifier().verify(&token(json!({"role": "anon", "exp": 99.6})), 99).is_ok());
    }

    #[test]
    fn no_other_algorithm_than_the_configured_one_is_looked_at() {
        let claims = json!({"role": "service_role", "exp": 100});
        for algorithm in ["none", "None", "RS256", "ES256", "HS512", "EdDSA"] {
            let forged = unsigned(json!({"alg": algorithm}), claims.clone());
            assert_eq!(verifier().verify(&forged, 1).unwrap_err(), TokenError::Signer { kid: None }, "{algorithm}");
        }
        let with_kid = verifier().verify(&unsigned(json!({"alg": "RS256", "kid": "k"}), claims), 1).unwrap_err();
        assert!(with_kid.to_string().contains("for key ID (kid) \"k\","));
    }

    #[test]
    fn a_signature_of_another_secret_or_of_other_claims_is_refused() {
        let good = token(json!({"role": "anon", "exp": 100}));
        let other = sign("another secret", json!({"role": "anon", "exp": 100}).as_object().unwrap()).unwrap();
        assert_eq!(verifier().verify(&other, 1).unwrap_err(), TokenError::Signature);
        let signature = good.rsplit_once('.').unwrap().1;
        let body = unsigned(json!({"alg": "HS256"}), json!({"role": "service_role", "exp": 100}));
        assert_eq!(verifier().verify(&format!("{body}{signature}"), 1).unwrap_err(), TokenError::Signature);
        assert_eq!(verifier().verify(&body, 1).unwrap_err(), TokenError::Signature);
    }

    #[test]
    fn what_is_no_token_is_malformed() {
        for text in ["", "abc", "a.b", "a.b.c", "...", "e30.e30", &"x".repeat(20_000)] {
            assert_eq!(verifier().verify(text, 1).unwrap_err(), TokenError::Malformed, "{text:.20}");
        }
    }

    #[test]
    fn white_space_and_percent_signs_around_a_token_do_no_harm() {
        let good = token(json!({"role": "anon", "exp": 100}));
        assert!(verifier().verify(&format!(" {good}\n"), 1).is_ok());
        assert!(verifier().verify(&good.replace('.', "%2E"), 1).is_ok());
    }

    #[test]
    fn audience_and_issuer_count_only_when_configured() {
        let strict = Verifier::new(&Config {
            jwt_secret: SECRET.into(),
            audience: Some("a".to_owned()),
            issuer: Some("i".to_owned()),
            ..Config::default()
        });
        let base = |extra: Value| {
            let mut claims = json!({"role": "anon", "exp": 100});
            claims.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            token(claims)
        };
        assert!(strict.verify(&base(json!({"aud": ["b", "a"], "iss": "i"})), 1).is_ok());
        for extra in [json!({}), json!({"aud": "b", "iss": "i"}), json!({"aud": "a"}), json!({"aud": "a", "iss": "j"})]
        {
            assert!(matches!(strict.verify(&base(extra), 1).unwrap_err(), TokenError::Claim { .. }));
        }
        assert!(verifier().verify(&base(json!({"aud": "whoever"})), 1).is_ok());
        let early = base(json!({"nbf": 50}));
        assert_eq!(verifier().verify(&early, 49).unwrap_err(), TokenError::Claim { claim: "nbf" });
    }

    #[test]
    fn an_opaque_key_stands_for_its_role_and_only_when_configured() {
        let keys = vec![("sb_secret_x".to_owned(), "service_role".to_owned())];
        let verifier = Verifier::new(&Config { jwt_secret: SECRET.into(), api_keys: keys, ..Config::default() });
        let claims = verifier.verify("sb_secret_x", 1).unwrap();
        assert_eq!(
            (&*claims.role, claims.expires_at, &*claims.json),
            ("service_role", None, r#"{"role":"service_role"}"#)
        );
        assert_eq!(verifier.verify("sb_secret_y", 1).unwrap_err(), TokenError::Malformed);
    }
}
