//! One key of a JSON Web Key Set and what it may verify (RFC 7517, RFC 7518, RFC 8037).
//!
//! What a key verifies follows from the key: its type, its curve, and the algorithm it names. So a public RSA key can
//! never be the secret of an HMAC, whatever a token's header says.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;

/// The smallest RSA modulus that is verified with, 2048 bits, and the largest, 8192.
const RSA_MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// The algorithm of this exact name. ES512, Ed448 and `none` are none of those.
pub(super) fn algorithm(name: &str) -> Option<Algorithm> {
    Some(match name {
        "HS256" => Algorithm::HS256,
        "HS384" => Algorithm::HS384,
        "HS512" => Algorithm::HS512,
        "RS256" => Algorithm::RS256,
        "RS384" => Algorithm::RS384,
        "RS512" => Algorithm::RS512,
        "PS256" => Algorithm::PS256,
        "PS384" => Algorithm::PS384,
        "PS512" => Algorithm::PS512,
        "ES256" => Algorithm::ES256,
        "ES384" => Algorithm::ES384,
        "EdDSA" => Algorithm::EdDSA,
        _ => return None,
    })
}

/// What kind of key it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Secret,
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl Kind {
    fn verifies(self, algorithm: Algorithm) -> bool {
        use Algorithm::{ES256, ES384, EdDSA, HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512};
        match self {
            Kind::Secret => matches!(algorithm, HS256 | HS384 | HS512),
            Kind::Rsa => matches!(algorithm, RS256 | RS384 | RS512 | PS256 | PS384 | PS512),
            Kind::P256 => algorithm == ES256,
            Kind::P384 => algorithm == ES384,
            Kind::Ed25519 => algorithm == EdDSA,
        }
    }
}

/// A key that verifies signatures.
#[derive(Clone)]
pub(super) struct Key {
    /// Its name: tokens say it, and a key without one is never found.
    pub(super) id: String,
    kind: Kind,
    /// The only algorithm it is for, when it says so.
    only: Option<Algorithm>,
    pub(super) decoding: DecodingKey,
}

impl Key {
    /// Reads one entry of a set; none when it cannot verify tokens here.
    pub(super) fn read(entry: &Value) -> Option<Key> {
        let text = |name: &str| entry.get(name).and_then(Value::as_str);
        let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?.trim_end_matches('=')).ok();
        if text("use").is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let operations = entry.get("key_ops").and_then(Value::as_array);
        if operations.is_some_and(|operations| !operations.iter().any(|one| one == "verify" || one == "sign")) {
            return None;
        }
        let (kind, decoding) = match (text("kty")?, text("crv")) {
            ("oct", _) => {
                let secret = bytes("k").filter(|secret| !secret.is_empty())?;
                (Kind::Secret, DecodingKey::from_secret(&secret))
            }
            ("RSA", _) => {
                let modulus = bytes("n").filter(|modulus| RSA_MODULUS_BYTES.contains(&modulus.len()))?;
                (Kind::Rsa, DecodingKey::from_rsa_raw_components(&modulus, &bytes("e")?))
            }
            ("EC", Some("P-256")) => (Kind::P256, point(&bytes("x")?, &bytes("y")?, 32)?),
            ("EC", Some("P-384")) => (Kind::P384, point(&bytes("x")?, &bytes("y")?, 48)?),
            ("OKP", Some("Ed25519")) => {
                let public = bytes("x").filter(|public| public.len() == 32)?;
                (Kind::Ed25519, DecodingKey::from_ed_der(&public))
            }
            _ => return None,
        };
        let only = match entry.get("alg") {
            None => None,
            Some(name) => Some(algorithm(name.as_str()?).filter(|&only| kind.verifies(only))?),
        };
        Some(Key { id: text("kid")?.to_owned(), kind, only, decoding })
    }

    /// Whether a signature by this algorithm may be checked with this key.
    pub(super) fn verifies(&self, algorithm: Algorithm) -> bool {
        self.kind.verifies(algorithm) && self.only.is_none_or(|only| only == algorithm)
    }

    /// Whether who knows the key can sign with it.
    pub(super) fn is_secret(&self) -> bool {
        self.kind == Kind::Secret
    }
}

/// A public key of a curve: its point, uncompressed (SEC 1, section 2.3.3).
fn point(x: &[u8], y: &[u8], length: usize) -> Option<DecodingKey> {
    (x.len() == length && y.len() == length).then(|| DecodingKey::from_ec_der(&[&[4], x, y].concat()))
}
