//! Signed tokens.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// The secret the servers under test verify with.
pub const SECRET: &str = "super-secret-jwt-token-with-at-least-32-characters-long";

/// The two users of most tests.
pub const ALICE: &str = "11111111-1111-1111-1111-111111111111";
pub const BOB: &str = "22222222-2222-2222-2222-222222222222";

/// A token with these claims, signed with HS256 and the servers' secret.
pub fn sign(claims: Value) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    encode(&Header::new(Algorithm::HS256), &claims, &key).expect("claims are JSON already")
}

/// Seconds since the epoch, from now.
pub fn in_seconds(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_secs();
    i64::try_from(now).expect("the clock is before the year 292277026596") + seconds
}

/// The key of a visitor who is nobody.
pub fn anon() -> String {
    sign(json!({ "role": "anon", "exp": in_seconds(3600) }))
}

/// The token of a user.
pub fn user(sub: &str) -> String {
    sign(json!({ "role": "authenticated", "sub": sub, "aud": "authenticated", "exp": in_seconds(3600) }))
}

/// Alice's token.
pub fn alice() -> String {
    user(ALICE)
}

/// Bob's token.
pub fn bob() -> String {
    user(BOB)
}

/// The key of a server that may do everything.
pub fn service() -> String {
    sign(json!({ "role": "service_role", "exp": in_seconds(3600) }))
}
