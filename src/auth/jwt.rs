//! What may be wrong with a JSON Web Token (RFC 7519), in the words clients know; and signing one for development.
//!
//! The texts are those of sections 1.6, 3.6 and 9 of the protocol reference. Every text a client may be told about a
//! token stands in [`TokenError`]; of the token itself none holds more than the name of its key.

use jsonwebtoken::Algorithm;
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
    /// The signature is not the key's.
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
    /// `nbf` lies in the future, `aud` or `iss` is not the configured one, or another configured rule does not hold.
    #[error("Token claim `{claim}` is not valid")]
    Claim {
        /// Which.
        claim: String,
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

/// Signs claims with the secret: for development and tests.
pub fn sign(secret: &str, claims: &Map<String, Value>) -> Result<String, jsonwebtoken::errors::Error> {
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::new(Algorithm::HS256), claims, &key)
}
