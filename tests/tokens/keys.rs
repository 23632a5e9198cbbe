//! Signing keys of every kind, made anew for each test, with the public half as it stands in a key set.

use crate::support::token::SECRET;
use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
        RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
        RsaPublicKeyComponents,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

/// A key that signs tokens.
pub struct Key {
    pair: Pair,
    /// The public half, with its name and nothing beyond what must be there.
    pub public: Value,
    /// The algorithm it is meant for.
    pub algorithm: &'static str,
    kid: String,
}

fn base64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Key {
    pub fn rsa(kid: &str) -> Key {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let parts = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
        let public = json!({"kty": "RSA", "kid": kid, "n": base64(&parts.n), "e": base64(&parts.e)});
        Key { pair: Pair::Rsa(pair), public, algorithm: "RS256", kid: kid.to_owned() }
    }

    pub fn p256(kid: &str) -> Key {
        Key::ec(kid, "P-256", "ES256", EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    pub fn p384(kid: &str) -> Key {
        Key::ec(kid, "P-384", "ES384", EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap())
    }

    fn ec(kid: &str, curve: &str, algorithm: &'static str, pair: EcdsaKeyPair) -> Key {
        let point = &pair.public_key().as_ref()[1..];
        let (x, y) = point.split_at(point.len() / 2);
        let public = json!({"kty": "EC", "crv": curve, "kid": kid, "x": base64(x), "y": base64(y)});
        Key { pair: Pair::Ec(pair), public, algorithm, kid: kid.to_owned() }
    }

    pub fn ed25519(kid: &str) -> Key {
        let pair = Ed25519KeyPair::generate().unwrap();
        let public = json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": base64(pair.public_key().as_ref())});
        Key { pair: Pair::Ed(pair), public, algorithm: "EdDSA", kid: kid.to_owned() }
    }

    /// A token with these claims, as this key's owner signs it.
    pub fn token(&self, claims: &Value) -> String {
        self.sign(&json!({"typ": "JWT", "alg": self.algorithm, "kid": self.kid}), claims)
    }

    /// A token with this header, signed by the algorithm the header names, or by the key's own if it cannot do that.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = message(header, claims);
        let (bytes, random) = (message.as_bytes(), SystemRandom::new());
        let signature = match &self.pair {
            Pair::Rsa(pair) => {
                let encoding: &'static dyn RsaEncoding = match header["alg"].as_str() {
                    Some("RS384") => &RSA_PKCS1_SHA384,
                    Some("RS512") => &RSA_PKCS1_SHA512,
                    Some("PS256") => &RSA_PSS_SHA256,
                    _ => &RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &random, bytes, &mut signature).unwrap();
                signature
            }
            Pair::Ec(pair) => pair.sign(&random, bytes).unwrap().as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(bytes).as_ref().to_vec(),
        };
        format!("{message}.{}", base64(&signature))
    }
}

/// A key set of these keys, as it is published.
pub fn set(keys: &[&Key]) -> String {
    json!({"keys": keys.iter().map(|key| &key.public).collect::<Vec<_>>()}).to_string()
}

/// The part of a token that is signed.
pub fn message(header: &Value, claims: &Value) -> String {
    format!("{}.{}", base64(header.to_string().as_bytes()), base64(claims.to_string().as_bytes()))
}

/// A token with this header, and an HMAC of this secret as its signature, whatever the header says.
pub fn hmac(header: &Value, claims: &Value, secret: &[u8]) -> String {
    with_hmac(&message(header, claims), secret)
}

/// A token of exactly these texts, which no serializer may write, signed with the servers' secret.
pub fn hmac_of_texts(header: &str, claims: &str) -> String {
    with_hmac(&format!("{}.{}", base64(header.as_bytes()), base64(claims.as_bytes())), SECRET.as_bytes())
}

fn with_hmac(message: &str, secret: &[u8]) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(secret);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, jsonwebtoken::Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}
