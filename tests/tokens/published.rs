//! Published keys: fetched, changed, and kept while they cannot be fetched, whatever strangers ask for.

use super::{
    keys::{Key, set},
    publisher::Publisher,
};
use crate::support::token::SECRET;
use serde_json::json;
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use walcast::{
    auth::{Config, JwksUrl, MAX_KEY_SET_BYTES, Refresh, TokenError, Verifier},
    metrics::Metrics,
};

const LONG: Duration = Duration::from_secs(3600);

/// A verifier whose keys somebody keeps fresh.
struct Followed {
    verifier: Verifier,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn follow(publisher: &Publisher, refresh: Refresh) -> Followed {
    let verifier = Verifier::new(&config(publisher, refresh));
    let (metrics, stop) = (Arc::new(Metrics::default()), CancellationToken::new());
    verifier.fetch(&metrics).await;
    #[expect(clippy::disallowed_methods, reason = "a test has no set of tasks; this one ends with it")]
    tokio::spawn(verifier.clone().follow(Arc::clone(&metrics), stop.clone()));
    Followed { verifier, metrics, stop }
}

fn config(publisher: &Publisher, refresh: Refresh) -> Config {
    let jwks_url = Some(JwksUrl::read(&publisher.url(), false).unwrap());
    Config { jwt_secret: SECRET.into(), jwks_url, refresh, ..Config::default() }
}

fn token(key: &Key) -> String {
    key.token(&json!({"role": "anon", "exp": 100}))
}

const EAGER: Refresh = Refresh { interval: LONG, pause: Duration::ZERO };

#[tokio::test]
async fn a_token_of_a_key_that_was_published_a_moment_ago_holds_at_once() {
    let (old, new) = (Key::rsa("old"), Key::ed25519("new"));
    let publisher = Publisher::start(&set(&[&old]));
    let followed = follow(&publisher, EAGER).await;
    let verifier = &followed.verifier;
    assert!(verifier.verify(&token(&old), 1).is_ok());
    let before = verifier.generation();
    publisher.publish(&set(&[&old, &new]));
    verifier.prepare(&token(&old)).await;
    assert_eq!(publisher.asked(), 1, "nothing is fetched for a key that is known");
    verifier.prepare(&token(&new)).await;
    assert!(verifier.verify(&token(&new), 1).is_ok());
    assert!(verifier.verify(&token(&old), 1).is_ok());
    assert!(verifier.generation() > before);

    publisher.publish(&set(&[&new]));
    let unknown = token(&Key::rsa("unknown"));
    verifier.prepare(&unknown).await;
    assert_eq!(verifier.verify(&token(&old), 1).unwrap_err(), TokenError::Signer { kid: Some("old".to_owned()) });
    assert!(verifier.verify(&token(&new), 1).is_ok());
    assert!(verifier.verify(&unknown, 1).is_err());
}

#[tokio::test]
async fn nobody_makes_the_server_fetch_but_now_and_then() {
    let known = Key::p256("known");
    let publisher = Publisher::start(&set(&[&known]));
    let followed = follow(&publisher, Refresh { interval: LONG, pause: Duration::from_secs(60) }).await;
    let stranger = Key::p256("stranger");
    for number in 0..200 {
        let header = json!({"alg": "ES256", "kid": format!("unknown {number}")});
        let token = stranger.sign(&header, &json!({"role": "anon", "exp": 100}));
        followed.verifier.prepare(&token).await;
        assert!(followed.verifier.verify(&token, 1).is_err());
    }
    assert_eq!(publisher.asked(), 1);

    // Nothing that could be in the set is missing: no fetch, and no waiting for one.
    let publisher = Publisher::start(&set(&[&known]));
    let followed = follow(&publisher, EAGER).await;
    let claims = json!({"role": "anon", "exp": 100});
    for header in [
        json!({"alg": "ES256"}),
        json!({"alg": "ES512", "kid": "x"}),
        json!({"alg": "HS256", "kid": "x"}),
        json!({"alg": "none", "kid": "x"}),
        json!({"alg": "ES256", "kid": "x".repeat(300)}),
        json!({"kid": "x"}),
    ] {
        let token = stranger.sign(&header, &claims);
        followed.verifier.prepare(&token).await;
        assert!(followed.verifier.verify(&token, 1).is_err(), "{header}");
    }
    followed.verifier.prepare("").await;
    assert_eq!(publisher.asked(), 1);
}

#[tokio::test]
async fn keys_stay_while_they_cannot_be_fetched() {
    let key = Key::ed25519("k");
    let publisher = Publisher::start(&set(&[&key]));
    let followed = follow(&publisher, EAGER).await;
    let failures = || followed.metrics.key_fetch_failures.get();
    let unknown = token(&Key::ed25519("unknown"));
    let large = format!("{}{}", set(&[&key]), " ".repeat(MAX_KEY_SET_BYTES));
    let full = set(&[&key]);
    let cut = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{full}", full.len() + 1);
    let endless = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}", "1\r\n \r\n".repeat(10));
    for (number, spoil) in [
        &(|| publisher.answer("500 Internal Server Error", r#"{"keys":[]}"#)) as &dyn Fn(),
        &|| publisher.answer("302 Found", r#"{"keys":[]}"#),
        &|| publisher.publish("no keys"),
        &|| publisher.publish("{}"),
        &|| publisher.publish(&large),
        &|| publisher.answer_raw(&cut),
        &|| publisher.answer_raw(&endless),
        &|| publisher.answer_raw("no HTTP at all\r\n\r\n"),
        &|| publisher.answer_raw(""),
    ]
    .into_iter()
    .enumerate()
    {
        spoil();
        followed.verifier.prepare(&unknown).await;
        assert!(failures() > number as u64, "attempt {number} did not fail");
        assert!(followed.verifier.verify(&token(&key), 1).is_ok(), "after attempt {number}");
    }
    publisher.publish(r#"{"keys":[]}"#);
    followed.verifier.prepare(&unknown).await;
    assert!(followed.verifier.verify(&token(&key), 1).is_err(), "an empty set is a set");
}

#[tokio::test]
async fn a_published_secret_is_none() {
    let key = Key::p384("k");
    let secret = json!({"kty": "oct", "kid": "s", "k": "c2VzYW1lLW9wZW4tc2VzYW1lLW9wZW4tc2VzYW1l"});
    let publisher = Publisher::start(&json!({"keys": [key.public, secret]}).to_string());
    let followed = follow(&publisher, EAGER).await;
    let header = json!({"alg": "HS256", "kid": "s"});
    let forged =
        super::keys::hmac(&header, &json!({"role": "service_role", "exp": 100}), b"sesame-open-sesame-open-sesame");
    assert_eq!(followed.verifier.verify(&forged, 1).unwrap_err(), TokenError::Signature);
    assert!(followed.verifier.verify(&token(&key), 1).is_ok());
}

#[tokio::test]
async fn a_new_configuration_keeps_what_is_still_published_and_fetches_what_is_new() {
    let (first, second) = (Key::p256("first"), Key::p256("second"));
    let (here, there) = (Publisher::start(&set(&[&first])), Publisher::start(&set(&[&second])));
    let followed = follow(&here, Refresh { interval: LONG, pause: LONG }).await;
    let verifier = &followed.verifier;
    verifier.replace(&config(&here, EAGER));
    assert!(verifier.verify(&token(&first), 1).is_ok(), "without a moment in which there are no keys");
    let mut generations = verifier.generations();
    verifier.replace(&config(&there, EAGER));
    assert!(verifier.verify(&token(&first), 1).is_err());
    let start = tokio::time::Instant::now();
    while verifier.verify(&token(&second), 1).is_err() {
        assert!(start.elapsed() < Duration::from_secs(10), "it is not fetched");
        let _ = tokio::time::timeout(Duration::from_secs(1), generations.changed()).await;
    }
}
