use super::{jwt::sign, *};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

const SECRET: &str = "a-secret-of-at-least-thirty-two-characters";

fn token(claims: Value) -> String {
    sign(SECRET, claims.as_object().unwrap()).unwrap()
}

fn verifier() -> Verifier {
    Verifier::new(&Config { jwt_secret: SECRET.into(), ..Config::default() })
}

/// A part of a token that says exactly this.
fn part(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

fn unsigned(header: Value, claims: Value) -> String {
    format!("{}.{}.", part(&header.to_string()), part(&claims.to_string()))
}

/// A token with exactly these parts, signed with HS256.
fn signed(header: &str, claims: &str, secret: &str) -> String {
    let message = format!("{}.{}", part(header), part(claims));
    let key = EncodingKey::from_secret(secret.as_bytes());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

fn hmac(algorithm: Algorithm, kid: Option<&str>, secret: &str) -> String {
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
    let claims = json!({"role": "anon", "exp": 100});
    jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

fn oct(kid: &str, secret: &str, more: Value) -> Value {
    let mut key = json!({"kty": "oct", "kid": kid, "k": URL_SAFE_NO_PAD.encode(secret)});
    key.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    key
}

fn set(keys: &[Value]) -> KeySet {
    KeySet::read(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

fn claim(name: &str) -> TokenError {
    TokenError::Claim { claim: name.to_owned() }
}

fn no_key(kid: Option<&str>) -> TokenError {
    TokenError::Signer { kid: kid.map(str::to_owned) }
}

#[test]
fn a_good_token_yields_its_role_expiry_and_all_claims() {
    let claims = verifier().verify(&token(json!({"role": "anon", "exp": 100, "sub": "s", "aud": "x"})), 99).unwrap();
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
    for extra in [json!({}), json!({"aud": "b", "iss": "i"}), json!({"aud": "a"}), json!({"aud": "a", "iss": "j"})] {
        assert!(matches!(strict.verify(&base(extra), 1).unwrap_err(), TokenError::Claim { .. }));
    }
    assert!(verifier().verify(&base(json!({"aud": "whoever"})), 1).is_ok());
    let early = base(json!({"nbf": 50}));
    assert_eq!(verifier().verify(&early, 49).unwrap_err(), TokenError::Claim { claim: "nbf".to_owned() });
}

#[test]
fn an_opaque_key_stands_for_its_role_and_only_when_configured() {
    let keys = vec![("sb_secret_x".to_owned(), "service_role".to_owned())];
    let verifier = Verifier::new(&Config { jwt_secret: SECRET.into(), api_keys: keys, ..Config::default() });
    let claims = verifier.verify("sb_secret_x", 1).unwrap();
    assert_eq!((&*claims.role, claims.expires_at, &*claims.json), ("service_role", None, r#"{"role":"service_role"}"#));
    assert_eq!(verifier.verify("sb_secret_y", 1).unwrap_err(), TokenError::Malformed);
}

#[test]
fn every_hmac_is_of_the_shared_secret_and_no_other_algorithm_borrows_it() {
    for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        assert!(verifier().verify(&hmac(algorithm, None, SECRET), 1).is_ok());
        assert!(verifier().verify(&hmac(algorithm, Some("unknown"), SECRET), 1).is_ok(), "as the replaced server does");
        assert_eq!(verifier().verify(&hmac(algorithm, None, "other"), 1).unwrap_err(), TokenError::Signature);
    }
    let claims = json!({"role": "service_role", "exp": 100});
    let signature = hmac(Algorithm::HS256, None, SECRET);
    let signature = signature.rsplit_once('.').unwrap().1;
    for name in
        ["none", "None", "NONE", "nOnE", "", "hs256", "HS1", "RS256", "PS256", "ES256", "ES512", "EdDSA", "Ed448"]
    {
        let bare = unsigned(json!({"alg": name}), claims.clone());
        for forged in [bare.clone(), format!("{bare}{signature}")] {
            assert_eq!(verifier().verify(&forged, 1).unwrap_err(), no_key(None), "{name}");
        }
    }
    let with_kid = verifier().verify(&unsigned(json!({"alg": "RS256", "kid": "k"}), claims), 1).unwrap_err();
    let text = "Failed to generate JWT signer for key ID (kid) \"k\", check your JWT secret or JWKS configuration";
    assert_eq!((with_kid.to_string().as_str(), with_kid.code()), (text, "JwtSignerError"));
    let text = "Failed to generate JWT signer, check your JWT secret or JWKS configuration";
    assert_eq!(no_key(None).to_string(), text);
}

#[test]
fn a_verifier_without_a_secret_takes_no_hmac_not_even_of_the_empty_secret() {
    let none = Verifier::new(&Config::default());
    assert_eq!(none.verify(&hmac(Algorithm::HS256, None, ""), 1).unwrap_err(), no_key(None));
    assert_eq!(none.verify(&hmac(Algorithm::HS256, Some("k"), ""), 1).unwrap_err(), no_key(Some("k")));
}

#[test]
fn a_secret_of_the_key_set_is_found_by_its_name_and_holds_for_its_algorithm() {
    let keys = set(&[oct("a", "of a", json!({})), oct("b", "of b", json!({"alg": "HS512"}))]);
    let both = Verifier::new(&Config { jwt_secret: SECRET.into(), keys: keys.clone(), ..Config::default() });
    assert!(both.verify(&hmac(Algorithm::HS256, Some("a"), "of a"), 1).is_ok());
    assert!(both.verify(&hmac(Algorithm::HS512, Some("b"), "of b"), 1).is_ok());
    assert!(both.verify(&hmac(Algorithm::HS256, Some("c"), SECRET), 1).is_ok());
    for (kid, secret) in
        [(Some("a"), SECRET), (Some("a"), "of b"), (Some("b"), "of b"), (None, "of a"), (Some("c"), "of a")]
    {
        let refused = both.verify(&hmac(Algorithm::HS256, kid, secret), 1).unwrap_err();
        assert_eq!(refused, TokenError::Signature, "{kid:?} {secret}");
    }
    let alone = Verifier::new(&Config { keys, ..Config::default() });
    assert!(alone.verify(&hmac(Algorithm::HS256, Some("a"), "of a"), 1).is_ok());
    assert_eq!(alone.verify(&hmac(Algorithm::HS256, None, "of a"), 1).unwrap_err(), no_key(None));
}

#[test]
fn entries_that_cannot_verify_tokens_are_left_out_and_counted() {
    let long = URL_SAFE_NO_PAD.encode([1u8; 32]);
    let entries = [
        oct("k", "s", json!({"use": "enc"})),
        oct("k", "s", json!({"key_ops": ["encrypt"]})),
        oct("k", "s", json!({"alg": "RS256"})),
        oct("k", "s", json!({"alg": "none"})),
        oct("k", "", json!({})),
        json!({"kty": "oct", "k": "c2VzYW1l"}),
        json!({"kty": "RSA", "kid": "k", "n": long, "e": "AQAB"}),
        json!({"kty": "EC", "crv": "P-521", "kid": "k", "x": long, "y": long}),
        json!({"kty": "EC", "crv": "P-384", "kid": "k", "x": long, "y": long}),
        json!({"kty": "OKP", "crv": "Ed448", "kid": "k", "x": long}),
        json!({"kty": "OKP", "crv": "X25519", "kid": "k", "x": long}),
        json!("k"),
        Value::Null,
    ];
    let read = set(&entries);
    assert_eq!((read.len(), read.unusable()), (0, entries.len()));
    let text = json!({"keys": [oct("k", "s", json!({})), {"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": long}]})
        .to_string();
    assert_eq!(KeySet::read(text.as_bytes()).unwrap().len(), 2);
    assert_eq!(KeySet::read_public(text.as_bytes()).unwrap().len(), 1, "a published secret is none");
    assert_eq!(KeySet::read(&vec![b' '; MAX_KEY_SET_BYTES + 1]).err(), Some(KeySetError::TooLarge));
    let many = json!({"keys": vec![Value::Null; 101]}).to_string();
    assert_eq!(KeySet::read(many.as_bytes()).err(), Some(KeySetError::TooLarge));
    assert!(matches!(KeySet::read(br#"{"keys": 1}"#).err(), Some(KeySetError::Form { .. })));
}

#[test]
fn what_two_readers_could_read_in_two_ways_is_no_token() {
    let (header, claims) = (r#"{"alg":"HS256"}"#, r#"{"role":"anon","exp":100}"#);
    assert!(verifier().verify(&signed(header, claims, SECRET), 1).is_ok());
    for (header, claims) in [
        (r#"{"alg":"none","alg":"HS256"}"#, claims),
        (r#"{"alg":"HS256","kid":"a","kid":"b"}"#, claims),
        (header, r#"{"role":"anon","role":"service_role","exp":100}"#),
        (header, r#"{"role":"anon","exp":1,"exp":100}"#),
        (header, r#"{"role":"anon","exp":100,"app_metadata":{"a":[{"b":1,"b":2}]}}"#),
        (r#"{"alg":"HS256","crit":["b64"],"b64":false}"#, claims),
        (r#"{"alg":"HS256","crit":[]}"#, claims),
        (r#"{"alg":["HS256"]}"#, claims),
        (r#"{"alg":null}"#, claims),
        (r"{}", claims),
        (r#"{"alg":"HS256","kid":1}"#, claims),
        (r#"["HS256"]"#, claims),
        (header, r#"["anon"]"#),
        (header, r#"{"role":"anon","exp":1e999}"#),
        (header, r#"{"role":"anon","exp":100} x"#),
    ] {
        let refused = verifier().verify(&signed(header, claims, SECRET), 1).unwrap_err();
        assert_eq!(refused, TokenError::Malformed, "{header} {claims}");
    }
    let deep = format!(r#"{{"role":"anon","exp":100,"x":{}{}}}"#, "[".repeat(5000), "]".repeat(5000));
    assert_eq!(verifier().verify(&signed(header, &deep, SECRET), 1).unwrap_err(), TokenError::Malformed);
    let kid = format!(r#"{{"alg":"HS256","kid":"{}"}}"#, "k".repeat(257));
    assert_eq!(verifier().verify(&signed(&kid, claims, SECRET), 1).unwrap_err(), TokenError::Malformed);
    let large = format!(r#"{{"role":"anon","exp":100,"x":"{}"}}"#, "x".repeat(16 * 1024));
    assert_eq!(verifier().verify(&signed(header, &large, SECRET), 1).unwrap_err(), TokenError::Malformed);
}

#[test]
fn a_key_that_a_token_brings_along_is_not_looked_at() {
    let own = oct("own", "theirs", json!({}));
    let header = json!({"alg": "HS256", "kid": "own", "jwk": own, "jku": "http://127.0.0.1:1/", "x5u": "http://127.0.0.1:1/",
        "x5c": ["MIIB"]});
    let claims = r#"{"role":"service_role","exp":100}"#;
    let forged = signed(&header.to_string(), claims, "theirs");
    assert_eq!(verifier().verify(&forged, 1).unwrap_err(), TokenError::Signature);
    assert!(verifier().verify(&signed(&header.to_string(), claims, SECRET), 1).is_ok(), "nor is it an error");
}

#[test]
fn times_that_are_no_numbers_are_refused() {
    for (name, value) in
        [("iat", json!("1")), ("iat", Value::Null), ("nbf", json!("1")), ("nbf", Value::Null), ("nbf", json!(50))]
    {
        let mut claims = json!({"role": "anon", "exp": 100});
        claims[name] = value;
        assert_eq!(verifier().verify(&token(claims), 49).unwrap_err(), claim(name));
    }
    assert!(verifier().verify(&token(json!({"role": "anon", "exp": 100, "iat": 5000.5, "nbf": 49})), 49).is_ok());
}

#[test]
fn configured_claims_must_be_there_with_exactly_their_value() {
    let values = json!({"aud": "a", "tenant": {"id": 7}});
    let strict = Verifier::new(&Config {
        jwt_secret: SECRET.into(),
        required_claims: vec!["sub".to_owned()],
        claim_values: values.as_object().unwrap().clone(),
        ..Config::default()
    });
    let of = |more: Value| {
        let mut claims = json!({"role": "anon", "exp": 100, "sub": "s", "aud": "a", "tenant": {"id": 7}});
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        strict.verify(&token(claims), 1)
    };
    assert!(of(json!({"more": 1})).is_ok());
    for (name, more) in [
        ("sub", json!({"sub": null})),
        ("aud", json!({"aud": ["a"]})),
        ("aud", json!({"aud": null})),
        ("tenant", json!({"tenant": {"id": 7, "x": 1}})),
        ("tenant", json!({"tenant": {"id": "7"}})),
    ] {
        assert_eq!(of(more.clone()).unwrap_err(), claim(name), "{more}");
    }
    let without = token(json!({"role": "anon", "exp": 100, "sub": "s", "aud": "a"}));
    assert_eq!(strict.verify(&without, 1).unwrap_err(), claim("tenant"));
}

#[test]
fn an_issuers_keys_verify_its_own_tokens_and_no_others() {
    let issuer =
        |name: &str, secret: &str| Issuer { name: name.to_owned(), secret: secret.into(), ..Issuer::default() };
    let narrow = Issuer {
        audience: Some("a".to_owned()),
        roles: Some(vec!["authenticated".to_owned()]),
        keys: set(&[oct("k", "of a's set", json!({}))]),
        ..issuer("a", "of a")
    };
    let verifier = Verifier::new(&Config {
        jwt_secret: SECRET.into(),
        issuers: vec![narrow, issuer("b", "of b")],
        ..Config::default()
    });
    let verify = |header: &str, iss: Value, more: Value, secret: &str| {
        let mut claims = json!({"role": "authenticated", "exp": 100, "iss": iss, "aud": "a"});
        claims.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        verifier.verify(&signed(header, &claims.to_string(), secret), 1)
    };
    let plain = r#"{"alg":"HS256"}"#;
    let named = r#"{"alg":"HS256","kid":"k"}"#;
    for (header, iss, secret) in [
        (plain, json!("a"), "of a"),
        (named, json!("a"), "of a's set"),
        (plain, json!("b"), "of b"),
        (named, json!("b"), "of b"),
        (plain, json!("c"), SECRET),
        (plain, Value::Null, SECRET),
        (plain, json!(["a"]), SECRET),
    ] {
        assert!(verify(header, iss.clone(), Value::Null, secret).is_ok(), "{iss} {secret}");
    }
    for (header, iss, secret) in [
        (plain, json!("a"), "of b"),
        (plain, json!("b"), "of a"),
        (named, json!("b"), "of a's set"),
        (plain, json!("a"), SECRET),
        (plain, json!("b"), SECRET),
        (plain, json!("c"), "of a"),
        (named, json!("c"), "of a's set"),
        (plain, Value::Null, "of a"),
        (plain, json!(["a"]), "of a"),
        (plain, json!("A"), "of a"),
    ] {
        assert_eq!(
            verify(header, iss.clone(), Value::Null, secret).unwrap_err(),
            TokenError::Signature,
            "{iss} {secret}"
        );
    }
    let service = json!({"role": "service_role"});
    assert_eq!(verify(plain, json!("a"), service.clone(), "of a").unwrap_err(), claim("role"));
    assert!(verify(plain, json!("b"), service, "of b").is_ok());
    assert_eq!(verify(plain, json!("a"), json!({"aud": "b"}), "of a").unwrap_err(), claim("aud"));
}

#[test]
fn replaced_keys_count_at_once_for_every_clone() {
    let verifier = verifier();
    let clone = verifier.clone();
    let before = clone.generation();
    assert!(clone.verify(&hmac(Algorithm::HS256, None, SECRET), 1).is_ok());
    verifier.replace(&Config { jwt_secret: "another".into(), ..Config::default() });
    assert_eq!(clone.verify(&hmac(Algorithm::HS256, None, SECRET), 1).unwrap_err(), TokenError::Signature);
    assert!(clone.verify(&hmac(Algorithm::HS256, None, "another"), 1).is_ok());
    assert!(clone.generation() > before);
}

#[test]
fn no_refusal_repeats_a_token() {
    let claims = r#"{"role":"sesame-role","exp":100,"sub":"sesame-sub","nbf":60}"#;
    for (header, secret, now) in [
        (r#"{"alg":"HS256"}"#, SECRET, 1),
        (r#"{"alg":"HS256"}"#, SECRET, 1000),
        (r#"{"alg":"HS256"}"#, "other", 1),
        (r#"{"alg":"RS256"}"#, SECRET, 1),
        (r#"{"alg":"HS256","crit":1}"#, SECRET, 1),
    ] {
        let token = signed(header, claims, secret);
        let error = verifier().verify(&token, now).unwrap_err();
        let said = format!("{error} {error:?} {} {:?}", error.code(), verifier());
        assert!(!said.contains("sesame") && token.split('.').all(|part| !said.contains(part)), "{said}");
    }
}
