//! Tokens, the claims in them, and key sets.

use super::{
    harness::{MEMORY, Seen, Target, fuzz, seen, shape},
    mutate::{joined, records},
};
use crate::support::token::{SECRET, sign};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use std::sync::LazyLock;
use walcast::auth::{Config, Issuer, JwksUrl, KeySet, Secret, TokenError, Verifier, bearer::is_signed_by, jwt};

const WORDS: &[&str] = &[
    "\"alg\"",
    "\"kid\"",
    "\"crit\"",
    "\"typ\"",
    "\"HS256\"",
    "\"HS512\"",
    "\"RS256\"",
    "\"PS512\"",
    "\"ES256\"",
    "\"ES384\"",
    "\"EdDSA\"",
    "\"none\"",
    "\"role\"",
    "\"exp\"",
    "\"nbf\"",
    "\"iat\"",
    "\"aud\"",
    "\"iss\"",
    "\"sub\"",
    "\"kty\"",
    "\"oct\"",
    "\"RSA\"",
    "\"EC\"",
    "\"OKP\"",
    "\"P-256\"",
    "\"P-384\"",
    "\"Ed25519\"",
    "\"k\"",
    "\"n\"",
    "\"e\"",
    "\"x\"",
    "\"y\"",
    "\"use\"",
    "\"sig\"",
    "\"key_ops\"",
    "\"verify\"",
    "\"keys\"",
    "\"AQAB\"",
    ".",
    "=",
    "%2e",
    "%",
    "e30",
    "\"issuer\"",
    "\"a\"",
];

/// RFC 7517, appendix A.1, and RFC 8037, appendix A.2: keys that everybody knows.
const KEYS: &str = r#"{"keys": [
 {"kty": "EC", "crv": "P-256", "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM", "use": "sig", "kid": "ec"},
 {"kty": "RSA", "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw", "e": "AQAB", "alg": "RS256", "kid": "rsa"},
 {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "kid": "ed"},
 {"kty": "oct", "k": "c2VzYW1lLXNlc2FtZQ", "kid": "oct"}]}"#;

fn config(keys: KeySet) -> Config {
    let issuer = Issuer {
        name: "a".to_owned(),
        secret: Secret::from("another"),
        roles: Some(vec!["anon".to_owned()]),
        ..Issuer::default()
    };
    Config {
        jwt_secret: SECRET.into(),
        keys,
        required_claims: vec!["sub".to_owned()],
        issuers: vec![issuer],
        api_keys: vec![("sb_x".to_owned(), "anon".to_owned())],
        ..Config::default()
    }
}

static VERIFIER: LazyLock<Verifier> =
    LazyLock::new(|| Verifier::new(&config(KeySet::read(KEYS.as_bytes()).expect("keys"))));

fn part(text: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

#[test]
fn any_text_is_a_token_or_none() {
    let claims = json!({"role": "anon", "exp": 2_000, "sub": "x", "aud": ["a"], "iss": "b"});
    let mut seeds = vec![sign(claims), "sb_x".to_owned(), "a.b.c".to_owned()];
    for header in [
        r#"{"alg":"RS256","kid":"rsa"}"#,
        r#"{"alg":"ES256","kid":"ec"}"#,
        r#"{"alg":"EdDSA","kid":"ed"}"#,
        r#"{"alg":"HS512","kid":"oct"}"#,
        r#"{"alg":"none"}"#,
    ] {
        for length in [0, 32, 64, 256] {
            seeds.push(format!("{}.{}.{}", part(header), part(r#"{"role":"anon","exp":2000}"#), part(vec![7; length])));
        }
    }
    let seeds = seeds.into_iter().map(String::into_bytes).collect();
    fuzz(Target { name: "token", seeds, words: WORDS, memory: MEMORY, run: token });
}

fn token(input: &[u8]) -> Seen {
    let Ok(text) = std::str::from_utf8(input) else { return 0 };
    is_signed_by(text, &[SECRET.into(), Secret::default()], 1000);
    verdict(&VERIFIER, text)
}

fn verdict(verifier: &Verifier, text: &str) -> Seen {
    match verifier.verify(text, 1000) {
        Ok(claims) => {
            let json: Value = serde_json::from_str(&claims.json).expect("claims are JSON");
            assert_eq!(json["role"].as_str(), Some(&*claims.role));
            assert!(claims.expires_at.is_none_or(|expiry| expiry > 1000));
            seen(("ok", json.as_object().map(|object| object.len().min(8))))
        }
        Err(error) => {
            let said = error.to_string();
            assert!(said.len() < 500, "{said}");
            let reason = match &error {
                TokenError::Expired { .. } => "expired",
                TokenError::Signer { .. } => "signer",
                _ => return shape(&said),
            };
            seen(reason)
        }
    }
}

#[test]
fn any_header_and_claims_that_are_signed_are_judged() {
    let headers = [r#"{"alg":"HS256","typ":"JWT"}"#, r#"{"alg":"HS512"}"#, r#"{"alg":"HS256","kid":"unknown"}"#];
    let claims = [
        r#"{"role":"anon","exp":2000,"sub":"x"}"#,
        r#"{"role":"anon","exp":1e3,"nbf":999.5,"iat":-1,"aud":["a"],"sub":null}"#,
        r#"{"role":"anon","exp":2000,"iss":"a","sub":"x","app_metadata":{"a":[1,{"b":null}]}}"#,
    ];
    let seeds = headers.iter().flat_map(|header| claims.iter().map(move |claims| joined([header, claims]))).collect();
    fuzz(Target { name: "claims", seeds, words: WORDS, memory: MEMORY, run: claims_of });
}

/// Header and claims, which are then signed with the secret, whatever they are.
fn claims_of(input: &[u8]) -> Seen {
    let [header, claims, ..] = records(input)[..] else { return 0 };
    let signed = format!("{}.{}", part(header), part(claims));
    let algorithm = if header.windows(5).any(|word| word == b"HS512") {
        jsonwebtoken::Algorithm::HS512
    } else {
        jsonwebtoken::Algorithm::HS256
    };
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, algorithm).expect("a signature");
    let text = format!("{signed}.{signature}");
    is_signed_by(&text, &[SECRET.into()], 1000);
    if let Ok(Value::Object(object)) = serde_json::from_slice(claims) {
        jwt::sign(SECRET, &object).expect("claims can be signed");
    }
    verdict(&VERIFIER, &text)
}

#[test]
fn any_key_set_is_read_or_refused_and_no_key_of_it_verifies_what_it_did_not_sign() {
    let claims = part(r#"{"role":"anon","exp":2000,"sub":"x"}"#);
    let token = |alg: &str, kid: &str| {
        format!("{}.{claims}.{}", part(format!(r#"{{"alg":"{alg}","kid":"{kid}"}}"#)), part([7; 64]))
    };
    let tokens = [
        token("RS256", "rsa"),
        token("PS256", "rsa"),
        token("ES256", "ec"),
        token("EdDSA", "ed"),
        token("HS256", "oct"),
        token("ES384", "ec"),
    ];
    let seeds = tokens.iter().map(|token| joined([KEYS, token])).collect();
    fuzz(Target { name: "key_set", seeds, words: WORDS, memory: (512 * 1024, 400), run: key_set });
}

/// A set and a token.
fn key_set(input: &[u8]) -> Seen {
    let [text, token, ..] = records(input)[..] else { return 0 };
    match KeySet::read(text) {
        Ok(set) => {
            let (keys, unusable) = (set.len().min(8), set.unusable().min(8));
            let verifier = Verifier::new(&config(set));
            let verdict = std::str::from_utf8(token).map_or(0, |token| verdict(&verifier, token));
            seen((keys, unusable, verdict))
        }
        Err(error) => {
            let said = error.to_string();
            assert!(!said.contains("sesame") && !said.contains("c2Vz"), "{said}");
            shape(&said)
        }
    }
}

#[test]
fn any_address_of_a_key_set_is_read_or_refused_and_shown_without_secrets() {
    let seeds = [
        "https://a.example:8443/k?apikey=sesame-sesame",
        "http://[::1]:80/k",
        "http://localhost/",
        "https://u:sesame-sesame@a.example/",
    ];
    let seeds = seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect();
    fuzz(Target {
        name: "jwks_url",
        seeds,
        words: &["@", ":", "//", "https://", "http://", "[", "]", "?", "#", "%40", "localhost", "127.0.0.1"],
        memory: MEMORY,
        run: jwks_url,
    });
}

fn jwks_url(input: &[u8]) -> Seen {
    let Ok(text) = std::str::from_utf8(input) else { return 0 };
    match JwksUrl::read(text, input.len().is_multiple_of(2)) {
        Ok(url) => {
            let shown = url.to_string();
            assert!(!shown.contains('?') && !shown.contains('@'), "{shown}");
            shape(&shown.chars().take(9).collect::<String>())
        }
        Err(error) => {
            assert!(!error.to_string().contains("sesame"));
            shape(&error.to_string())
        }
    }
}
