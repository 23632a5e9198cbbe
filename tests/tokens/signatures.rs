//! Which signatures hold: every algorithm with its own key, and none with another's.

use super::keys::{Key, hmac, message, set};
use crate::support::token::SECRET;
use serde_json::{Value, json};
use walcast::auth::{Config, Issuer, KeySet, TokenError, Verifier};

fn verifier(set: &str) -> Verifier {
    let keys = KeySet::read(set.as_bytes()).unwrap();
    Verifier::new(&Config { jwt_secret: SECRET.into(), keys, ..Config::default() })
}

fn claims() -> Value {
    json!({"role": "authenticated", "sub": "s", "exp": 100})
}

fn all() -> [Key; 4] {
    [Key::rsa("rsa"), Key::p256("p256"), Key::p384("p384"), Key::ed25519("ed")]
}

fn no_key(kid: Option<&str>) -> TokenError {
    TokenError::Signer { kid: kid.map(str::to_owned) }
}

#[test]
fn every_algorithm_holds_with_its_key_and_claims_what_it_says() {
    let keys = all();
    let verifier = verifier(&set(&keys.each_ref()));
    for key in &keys {
        let verified =
            verifier.verify(&key.token(&claims()), 1).unwrap_or_else(|error| panic!("{}: {error}", key.algorithm));
        assert_eq!((&*verified.role, verified.expires_at), ("authenticated", Some(100)));
        assert!(matches!(verifier.verify(&key.token(&claims()), 101).unwrap_err(), TokenError::Expired { .. }));
    }
    for algorithm in ["RS384", "RS512", "PS256"] {
        let token = keys[0].sign(&json!({"alg": algorithm, "kid": "rsa"}), &claims());
        assert!(verifier.verify(&token, 1).is_ok(), "{algorithm}");
    }
}

#[test]
fn a_key_is_found_by_its_name_only() {
    let keys = all();
    let verifier = verifier(&set(&keys.each_ref()));
    for key in &keys {
        let without = key.sign(&json!({"alg": key.algorithm}), &claims());
        assert_eq!(verifier.verify(&without, 1).unwrap_err(), no_key(None), "{}", key.algorithm);
        let unknown = key.sign(&json!({"alg": key.algorithm, "kid": "unknown"}), &claims());
        assert_eq!(verifier.verify(&unknown, 1).unwrap_err(), no_key(Some("unknown")), "{}", key.algorithm);
    }
    let alone = Key::rsa("rsa");
    let without = alone.sign(&json!({"alg": "RS256"}), &claims());
    assert_eq!(
        self::verifier(&set(&[&alone])).verify(&without, 1).unwrap_err(),
        no_key(None),
        "though there is one key"
    );
}

#[test]
fn a_key_verifies_nothing_of_another_kind_or_of_another_key() {
    let (keys, others) = (all(), all());
    let verifier = verifier(&set(&keys.each_ref()));
    for (key, other) in keys.iter().zip(&others) {
        let forged = other.token(&claims());
        assert_eq!(verifier.verify(&forged, 1).unwrap_err(), TokenError::Signature, "{}", key.algorithm);
        for named in &keys {
            let kid = named.public["kid"].as_str();
            let crossed = key.sign(&json!({"alg": key.algorithm, "kid": kid}), &claims());
            if named.algorithm == key.algorithm {
                assert!(verifier.verify(&crossed, 1).is_ok());
            } else {
                assert_eq!(verifier.verify(&crossed, 1).unwrap_err(), no_key(kid), "{} by {kid:?}", key.algorithm);
            }
        }
        let genuine = key.token(&claims());
        let (_, signature) = genuine.rsplit_once('.').unwrap();
        let header = json!({"typ": "JWT", "alg": key.algorithm, "kid": key.public["kid"]});
        let more = message(&header, &json!({"role": "service_role", "exp": 100}));
        assert_eq!(verifier.verify(&format!("{more}.{signature}"), 1).unwrap_err(), TokenError::Signature);
        assert_eq!(verifier.verify(&format!("{more}."), 1).unwrap_err(), TokenError::Signature);
    }
}

#[test]
fn a_key_that_names_its_algorithm_verifies_no_other() {
    let mut key = Key::rsa("rsa");
    key.public["alg"] = json!("RS512");
    let verifier = verifier(&set(&[&key]));
    let of = |algorithm: &str| verifier.verify(&key.sign(&json!({"alg": algorithm, "kid": "rsa"}), &claims()), 1);
    assert!(of("RS512").is_ok());
    for algorithm in ["RS256", "RS384", "PS256"] {
        assert_eq!(of(algorithm).unwrap_err(), no_key(Some("rsa")), "{algorithm}");
    }
}

#[test]
fn no_public_key_is_a_secret_in_any_spelling() {
    let keys = all();
    let set = set(&keys.each_ref());
    let verifiers = [verifier(&set), {
        let keys = KeySet::read(set.as_bytes()).unwrap();
        Verifier::new(&Config { keys, ..Config::default() })
    }];
    for key in &keys {
        let mut spellings = vec![set.clone().into_bytes(), key.public.to_string().into_bytes()];
        for part in ["n", "e", "x", "y", "kid"] {
            if let Some(text) = key.public[part].as_str() {
                use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
                spellings.push(text.as_bytes().to_vec());
                spellings.extend(URL_SAFE_NO_PAD.decode(text));
            }
        }
        spellings.push(Vec::new());
        for secret in spellings {
            for header in [
                json!({"alg": "HS256", "kid": key.public["kid"]}),
                json!({"alg": "HS256"}),
                json!({"alg": key.algorithm, "kid": key.public["kid"]}),
                json!({"alg": "none", "kid": key.public["kid"]}),
                json!({"alg": "HS256", "kid": key.public["kid"], "jwk": key.public}),
            ] {
                let forged = hmac(&header, &claims(), &secret);
                assert!(verifiers.iter().all(|verifier| verifier.verify(&forged, 1).is_err()), "{header}");
            }
        }
    }
}

#[test]
fn a_key_the_token_brings_along_is_no_key() {
    let (trusted, own) = (Key::rsa("k"), Key::rsa("k"));
    let verifier = verifier(&set(&[&trusted]));
    for kid in [json!("k"), json!("own")] {
        let header = json!({"alg": "RS256", "kid": kid, "jwk": own.public, "jku": "http://127.0.0.1:9/", "x5u":
            "http://127.0.0.1:9/", "x5c": ["AAAA"]});
        assert!(verifier.verify(&own.sign(&header, &claims()), 1).is_err());
    }
}

#[test]
fn an_issuers_keys_hold_for_it_alone_though_names_of_keys_are_shared() {
    let (ours, a, b) = (Key::p256("k"), Key::p256("k"), Key::p256("k"));
    let issuer = |name: &str, key: &Key| Issuer {
        name: name.to_owned(),
        keys: KeySet::read(set(&[key]).as_bytes()).unwrap(),
        ..Issuer::default()
    };
    let verifier = Verifier::new(&Config {
        keys: KeySet::read(set(&[&ours]).as_bytes()).unwrap(),
        issuers: vec![issuer("a", &a), issuer("b", &b)],
        ..Config::default()
    });
    for (signer, own) in [(&ours, None), (&a, Some("a")), (&b, Some("b"))] {
        for iss in [None, Some("a"), Some("b"), Some("c")] {
            let token = signer.token(&json!({"role": "anon", "exp": 100, "iss": iss}));
            let holds = own == iss || (own.is_none() && iss == Some("c"));
            assert_eq!(verifier.verify(&token, 1).is_ok(), holds, "{own:?} signs for {iss:?}");
        }
    }
}
