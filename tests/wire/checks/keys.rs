//! Check 65: tokens of a key set. Protocol reference, section 9.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, PublicKeyData as _};
use serde_json::{Value, json};

use super::{Check, Door};
use crate::support::token;

pub(super) const CHECKS: &[Check] =
    &[Check::both(65, "tokens of the key set are taken by their kid, HS256 by the secret", |d| Box::pin(key_set(d)))];

/// The keys of the server, by the names `rsa` and `ec`, and who signs with them.
pub(super) struct Keys {
    rsa: EncodingKey,
    ec: EncodingKey,
    pub(super) set: String,
}

/// Made once: what signs and what verifies must be the same pair.
pub(super) static KEYS: std::sync::LazyLock<Keys> = std::sync::LazyLock::new(|| {
    let rsa = KeyPair::generate_for(&PKCS_RSA_SHA256).expect("a key of RSA");
    let ec = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key of P-256");
    let (modulus, exponent) = integers(rsa.der_bytes());
    // An uncompressed point: a mark, then both coordinates.
    let (x, y) = ec.der_bytes()[1..].split_at(32);
    let base64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let set = json!({"keys": [
        {"kty": "RSA", "kid": "rsa", "alg": "RS256", "use": "sig", "n": base64(modulus), "e": base64(exponent)},
        {"kty": "EC", "kid": "ec", "alg": "ES256", "crv": "P-256", "use": "sig", "x": base64(x), "y": base64(y)},
    ]});
    Keys {
        rsa: EncodingKey::from_rsa_der(inner(&rsa.serialize_der())),
        ec: EncodingKey::from_ec_der(&ec.serialize_der()),
        set: set.to_string(),
    }
});

/// The key of its own kind within a PKCS #8 one: behind the version and the name of the kind.
fn inner(pkcs8: &[u8]) -> &[u8] {
    let (sequence, _) = content(pkcs8);
    let (_, rest) = content(sequence);
    let (_, rest) = content(rest);
    content(rest).0
}

/// The two integers of an RSA public key in DER, without the zero that only says that they are positive.
fn integers(der: &[u8]) -> (&[u8], &[u8]) {
    let (sequence, _) = content(der);
    let (modulus, rest) = content(sequence);
    let (exponent, _) = content(rest);
    (modulus.strip_prefix(&[0]).unwrap_or(modulus), exponent)
}

/// The content of the first element of some DER, and what follows it.
fn content(der: &[u8]) -> (&[u8], &[u8]) {
    let (length, at) = match der[1] {
        short @ 0..0x80 => (usize::from(short), 2),
        long => {
            let bytes = usize::from(long & 0x7f);
            (der[2..2 + bytes].iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), 2 + bytes)
        }
    };
    der[at..].split_at(length)
}

fn signed(algorithm: Algorithm, kid: Option<&str>, key: &EncodingKey) -> String {
    let claims = json!({"role": "authenticated", "sub": token::ALICE, "exp": token::in_seconds(600)});
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
    encode(&header, &claims, key).expect("claims can be signed")
}

async fn key_set(door: Door) {
    let secret = EncodingKey::from_secret(token::SECRET.as_bytes());
    // The classic confusion: the public key, which everybody has, as the secret of an HMAC.
    let public = EncodingKey::from_secret(KEYS.set.as_bytes());
    let mut socket = door.anon().await;
    for (what, taken, token) in [
        ("RS256 of the set", true, signed(Algorithm::RS256, Some("rsa"), &KEYS.rsa)),
        ("ES256 of the set", true, signed(Algorithm::ES256, Some("ec"), &KEYS.ec)),
        ("HS256 with an unknown kid", true, signed(Algorithm::HS256, Some("unknown"), &secret)),
        ("HS256 without kid", true, signed(Algorithm::HS256, None, &secret)),
        ("RS256 without kid", false, signed(Algorithm::RS256, None, &KEYS.rsa)),
        ("ES256 without kid", false, signed(Algorithm::ES256, None, &KEYS.ec)),
        ("RS256 with an unknown kid", false, signed(Algorithm::RS256, Some("unknown"), &KEYS.rsa)),
        ("RS256 by the name of another kind of key", false, signed(Algorithm::RS256, Some("ec"), &KEYS.rsa)),
        ("HS256 by the name of a public key", false, signed(Algorithm::HS256, Some("rsa"), &public)),
        ("HS256 of the public key", false, signed(Algorithm::HS256, None, &public)),
    ] {
        let payload: Value = json!({"config": {}, "access_token": token});
        let (_, reply) = socket.join_raw("realtime:keys", &payload).await;
        assert_eq!(*reply.at("status") == "ok", taken, "{what}: {reply}");
    }
}
