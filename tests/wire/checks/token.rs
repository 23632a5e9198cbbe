//! Checks 53 to 66: which token counts at a join, refreshing it, its end. Protocol reference, sections 3.4, 3.11, 3.12
//! and 9. Private channels (64) have a suite of their own.

use std::sync::LazyLock;

use serde_json::{Value, json};

use super::{Check, Door, In, all_of, fence};
use crate::support::json::Json;
use crate::support::socket::{Channel, Socket};
use crate::support::token::{SECRET, sign};
use crate::tokens::keys::{self, Key};
use crate::wire::fixture::{self, ALICE, BOB};

pub(super) const CHECKS: &[Check] = &[
    Check {
        number: 53,
        says: "an expired access_token refuses the join",
        encodings: In::Both,
        run: |d| Box::pin(refused(d, "expired", "InvalidJWTToken: Token has expired ")),
    },
    Check {
        number: 54,
        says: "a garbage access_token refuses the join",
        encodings: In::Both,
        run: |d| Box::pin(refused(d, "garbage", "MalformedJWT: The token provided is not a valid JWT")),
    },
    Check {
        number: 55,
        says: "a foreign signature refuses the join",
        encodings: In::Both,
        run: |d| Box::pin(refused(d, "badsig", "JwtSignatureError: Failed to validate JWT signature")),
    },
    Check { number: 56, says: "without access_token the key counts", encodings: In::Both, run: |d| Box::pin(key(d)) },
    Check { number: 57, says: "an sb_ access_token means the key", encodings: In::Both, run: |d| Box::pin(opaque(d)) },
    Check { number: 58, says: "user_token decides over access_token", encodings: In::Both, run: |d| Box::pin(user(d)) },
    Check {
        number: 59,
        says: "a new token is taken without a reply",
        encodings: In::Both,
        run: |d| Box::pin(refresh(d)),
    },
    Check {
        number: 60,
        says: "null, numbers, sb_ and the same do nothing",
        encodings: In::Both,
        run: |d| Box::pin(nothing(d)),
    },
    Check {
        number: 61,
        says: "an expired token closes its channel only",
        encodings: In::Both,
        run: |d| Box::pin(closes(d, Some("expired"))),
    },
    Check {
        number: 62,
        says: "an empty token closes the channel",
        encodings: In::Both,
        run: |d| Box::pin(closes(d, None)),
    },
    Check {
        number: 63,
        says: "a token that expires ends its channel",
        encodings: In::Both,
        run: |d| Box::pin(expires(d)),
    },
    Check {
        number: 66,
        says: "an exp that is a string is refused",
        encodings: In::Both,
        run: |d| Box::pin(exp_string(d)),
    },
    Check {
        number: 214,
        says: "a token without signature is refused",
        encodings: In::Both,
        run: |d| Box::pin(none(d)),
    },
    Check {
        number: 215,
        says: "a role that is not granted gets nothing",
        encodings: In::Both,
        run: |d| Box::pin(role(d)),
    },
    Check {
        number: 240,
        says: "a token that is not valid yet is refused",
        encodings: In::Both,
        run: |d| Box::pin(not_yet(d)),
    },
    Check {
        number: 241,
        says: "a token that can be read in two ways is refused",
        encodings: In::Both,
        run: |d| Box::pin(ambiguous(d)),
    },
];

pub(super) const KEY_SET: &[Check] = &[
    Check {
        number: 65,
        says: "tokens of the key set are accepted by kid, HS256 falls back to the secret",
        encodings: In::Both,
        run: |d| Box::pin(key_set_tokens(d)),
    },
    Check {
        number: 242,
        says: "ES512 and Ed448 are no algorithms",
        encodings: In::V2,
        run: |d| Box::pin(unsupported(d)),
    },
];

/// An RSA key and one of P-256, made once.
static KEYS: LazyLock<(Key, Key)> = LazyLock::new(|| (Key::rsa("rsa"), Key::p256("p256")));

/// What the server of [`KEY_SET`] is given.
pub(super) fn key_set() -> String {
    keys::set(&[&KEYS.0, &KEYS.1])
}

pub(super) const AUDIENCE: &[Check] = &[
    Check {
        number: 210,
        says: "a configured audience must be in the token",
        encodings: In::V2,
        run: |d| Box::pin(audience(d)),
    },
    Check {
        number: 211,
        says: "a configured issuer must be in the token",
        encodings: In::V2,
        run: |d| Box::pin(issuer(d)),
    },
];

async fn join_with(socket: &mut Socket, topic: &str, token: &str) -> (Channel, Json) {
    socket.join_raw(topic, &json!({"config": {}, "access_token": token})).await
}

async fn refused(door: Door, name: &str, reason: &str) {
    let mut socket = door.anon().await;
    let token = if name == "garbage" { "garbage".to_owned() } else { fixture::token(name) };
    let (_, reply) = join_with(&mut socket, "realtime:refused", &token).await;
    assert_eq!(*reply.at("status"), "error");
    let said = reply.at("response").at("reason").as_str().unwrap_or_default();
    assert!(said.starts_with(reason), "{said}");
    // The same topic may be joined afterwards.
    socket.join("realtime:refused", &json!({"config": {}})).await;
}

async fn key(door: Door) {
    let mut socket = door.alice().await;
    socket.subscribe("realtime:key", &both_notes()).await;
    sees_alices_rows(&door, &mut socket, "realtime:key").await;
}

async fn opaque(door: Door) {
    let mut socket = door.alice().await;
    let token = Some("sb_publishable_x");
    socket.subscribe_as("realtime:sb", &both_notes(), token).await;
    sees_alices_rows(&door, &mut socket, "realtime:sb").await;
}

async fn user(door: Door) {
    let mut socket = door.anon().await;
    let config = json!({"postgres_changes": both_notes()});
    let (alice, bob) = (fixture::token("alice"), fixture::token("bob"));
    socket.join("realtime:user", &json!({"config": config, "user_token": alice, "access_token": bob})).await;
    socket.expect("the system message", |m| m.event == "system").await;
    sees_alices_rows(&door, &mut socket, "realtime:user").await;
    let bad = json!({"config": {}, "user_token": "garbage", "access_token": fixture::token("alice")});
    let (_, reply) = socket.join_raw("realtime:bad", &bad).await;
    assert_eq!(*reply.at("status"), "error");
}

fn both_notes() -> Value {
    json!([
        {"event": "*", "schema": "public", "table": "notes"},
        {"event": "*", "schema": "public", "table": "open_notes"},
    ])
}

/// Alice's row comes, Bob's does not.
async fn sees_alices_rows(door: &Door, socket: &mut Socket, topic: &str) {
    for owner in [BOB, ALICE] {
        door.sql(&format!("insert into public.notes(owner, body) values ('{owner}', 'whose')")).await;
    }
    let change = socket.change(topic).await;
    assert_eq!(*change.at("data").at("record").at("owner"), ALICE, "{change}");
    let others = fence(door, socket, topic).await;
    assert!(others.is_empty(), "{others:?}");
}

async fn refresh(door: Door) {
    let mut socket = door.anon().await;
    let bob = fixture::token("bob");
    let (channel, _) = socket.subscribe_as("realtime:refresh", &both_notes(), Some(&bob)).await;
    socket.push_on(&channel, "access_token", &json!({"access_token": fixture::token("alice")})).await;
    let within = std::time::Duration::from_secs(5);
    let system = socket.expect_within(within, "a new system message", |m| m.event == "system").await;
    assert_eq!(*system.payload.at("message"), "Subscribed to PostgreSQL");
    sees_alices_rows(&door, &mut socket, "realtime:refresh").await;
    // Without bindings nothing at all is said.
    let (channel, _) = socket.join("realtime:plain", &json!({"config": {}, "access_token": bob})).await;
    socket.push_on(&channel, "access_token", &json!({"access_token": fixture::token("alice")})).await;
    let others = fence(&door, &mut socket, "realtime:refresh").await;
    assert!(others.is_empty(), "{others:?}");
}

async fn nothing(door: Door) {
    let mut socket = door.anon().await;
    let alice = fixture::token("alice");
    let (channel, _) = socket.subscribe_as("realtime:nothing", &both_notes(), Some(&alice)).await;
    let pushes = [
        json!({"access_token": null}),
        json!({"access_token": 5}),
        json!({"access_token": "sb_x"}),
        json!({}),
        json!({"access_token": alice}),
    ];
    for payload in &pushes {
        socket.push_on(&channel, "access_token", payload).await;
    }
    sees_alices_rows(&door, &mut socket, "realtime:nothing").await;
}

/// The token of this name, or an empty one, ends its channel and leaves the other alone.
async fn closes(door: Door, name: Option<&str>) {
    let mut socket = door.alice().await;
    let (channel, _) = socket.join("realtime:ends", &json!({"config": {}})).await;
    socket.subscribe("realtime:stays", &all_of("open_notes")).await;
    let token = name.map(fixture::token).unwrap_or_default();
    socket.push_on(&channel, "access_token", &json!({"access_token": token})).await;
    let prefix = if name.is_some() { "Token has expired " } else { "The token provided is not a valid JWT" };
    ended(&mut socket, &channel, prefix).await;
    let others = fence(&door, &mut socket, "realtime:stays").await;
    assert!(others.is_empty(), "{others:?}");
}

/// `system` with status error, then `phx_close` of this join.
async fn ended(socket: &mut Socket, channel: &Channel, message: &str) {
    let system = socket.expect("the system error", |m| m.is(&channel.topic, "system")).await.payload;
    assert_eq!((system.at("status"), system.at("extension")), (&json!("error").into(), &json!("system").into()));
    assert_eq!(*system.at("channel"), *channel.topic.trim_start_matches("realtime:"));
    let said = system.at("message").as_str().unwrap_or_default();
    assert!(said.starts_with(message), "{said}");
    let close = socket.expect("the close", |m| m.topic == *channel.topic).await;
    assert_eq!((&close.event, &close.reference), (&json!("phx_close").into(), &json!(channel.join_ref).into()));
}

async fn expires(door: Door) {
    let mut socket = door.alice().await;
    let end = fixture::now() + 2;
    let token = sign(json!({"role": "authenticated", "sub": ALICE, "exp": end}));
    let (channel, _) = socket.subscribe_as("realtime:short", &all_of("notes"), Some(&token)).await;
    socket.subscribe("realtime:stays", &all_of("open_notes")).await;
    ended(&mut socket, &channel, "Token has expired ").await;
    let at = fixture::now();
    assert!((end..=end + 5).contains(&at), "closed at {at}, expired at {end}");
    door.sql(&format!("insert into public.notes(owner, body) values ('{ALICE}', 'too late')")).await;
    let others = fence(&door, &mut socket, "realtime:stays").await;
    assert!(others.is_empty(), "{others:?}");
}

async fn exp_string(door: Door) {
    let token = sign(json!({"role": "authenticated", "sub": ALICE, "exp": (fixture::now() + 3600).to_string()}));
    let mut socket = door.anon().await;
    let (_, reply) = join_with(&mut socket, "realtime:exp", &token).await;
    assert_eq!(*reply.at("status"), "error");
    let url = door.server.websocket_url(door.vsn.parameter(), &token);
    assert_eq!(Socket::connect(&url, &[]).await.map(|_| ()).map_err(|refused| refused.status), Err(401));
}

async fn none(door: Door) {
    let mut socket = door.anon().await;
    let (_, reply) = join_with(&mut socket, "realtime:none", &fixture::token("algnone")).await;
    assert_eq!(*reply.at("status"), "error");
}

/// Roles that nobody granted to the server: an unknown one, a superuser, the word that means none.
async fn role(door: Door) {
    for role in ["no_such_role", "postgres", "none", "pg_read_all_data", ""] {
        let token = sign(json!({"role": role, "sub": ALICE, "exp": fixture::now() + 3600}));
        let mut socket = door.alice().await;
        let payload = json!({"config": {"postgres_changes": all_of("notes")}, "access_token": token});
        socket.join_raw("realtime:role", &payload).await;
        socket.subscribe("realtime:fence", &all_of("open_notes")).await;
        door.sql(&format!("insert into public.notes(owner, body) values ('{ALICE}', 'by role')")).await;
        let others = fence(&door, &mut socket, "realtime:fence").await;
        assert!(!others.iter().any(|m| m.is("realtime:role", "postgres_changes")), "role {role:?} sees {others:?}");
        assert!(
            !others.iter().any(|m| m.is("realtime:role", "system") && *m.payload.at("status") == "ok"),
            "role {role:?} is told that it is subscribed: {others:?}"
        );
    }
}

fn claims(extra: &Value) -> String {
    let mut claims = json!({"role": "anon", "exp": fixture::now() + 3600});
    for (key, value) in extra.as_object().expect("claims") {
        claims[key] = value.clone();
    }
    sign(claims)
}

async fn status_of(door: &Door, extra: Value) -> u16 {
    let url = door.server.websocket_url(door.vsn.parameter(), &claims(&extra));
    Socket::connect(&url, &[]).await.map_or_else(|refused| refused.status, |_| 101)
}

async fn not_yet(door: Door) {
    let now = fixture::now();
    let token = sign(json!({"role": "authenticated", "sub": ALICE, "exp": now + 3600, "nbf": now + 1800}));
    let (_, reply) = join_with(&mut door.anon().await, "realtime:not-yet", &token).await;
    assert_eq!(reply.at("response").at("reason").as_str(), Some("InvalidJWTToken: Token claim `nbf` is not valid"));
}

async fn ambiguous(door: Door) {
    let mut socket = door.anon().await;
    let exp = fixture::now() + 3600;
    let twice = format!(r#"{{"role":"anon","role":"service_role","exp":{exp}}}"#);
    let once = format!(r#"{{"role":"anon","exp":{exp}}}"#);
    for (header, claims, is_token) in [
        (r#"{"alg":"HS256"}"#, &once, true),
        (r#"{"alg":"HS256"}"#, &twice, false),
        (r#"{"alg":"none","alg":"HS256"}"#, &once, false),
        (r#"{"alg":"HS256","crit":["exp"]}"#, &once, false),
    ] {
        let (_, reply) = join_with(&mut socket, "realtime:ambiguous", &keys::hmac_of_texts(header, claims)).await;
        assert_eq!(*reply.at("status") == "ok", is_token, "{header} {claims}: {reply}");
        let reason = reply.at("response").at("reason").as_str();
        assert_eq!(reason == Some("MalformedJWT: The token provided is not a valid JWT"), !is_token, "{reply}");
    }
}

async fn key_set_tokens(door: Door) {
    let claims = json!({"role": "authenticated", "sub": ALICE, "exp": fixture::now() + 3600});
    let unknown = json!({"alg": "HS256", "kid": "unknown"});
    let (rsa, p256) = (&KEYS.0, &KEYS.1);
    for token in [rsa.token(&claims), p256.token(&claims), keys::hmac(&unknown, &claims, SECRET.as_bytes())] {
        let mut socket = door.anon().await;
        socket.subscribe_as("realtime:keys", &both_notes(), Some(&token)).await;
        sees_alices_rows(&door, &mut socket, "realtime:keys").await;
    }
    let mut socket = door.anon().await;
    for key in [rsa, p256] {
        let (_, reply) =
            join_with(&mut socket, "realtime:keys", &key.sign(&json!({"alg": key.algorithm}), &claims)).await;
        let text = "JwtSignerError: Failed to generate JWT signer, check your JWT secret or JWKS configuration";
        assert_eq!(reply.at("response").at("reason").as_str(), Some(text), "{reply}");
        let unknown = key.sign(&json!({"alg": key.algorithm, "kid": "unknown"}), &claims);
        let (_, reply) = join_with(&mut socket, "realtime:keys", &unknown).await;
        let text = "JwtSignerError: Failed to generate JWT signer for key ID (kid) \"unknown\", check your JWT secret or \
                    JWKS configuration";
        assert_eq!(reply.at("response").at("reason").as_str(), Some(text), "{reply}");
    }
}

async fn unsupported(door: Door) {
    let claims = json!({"role": "authenticated", "sub": ALICE, "exp": fixture::now() + 3600});
    for algorithm in ["ES512", "Ed448"] {
        let token = KEYS.1.sign(&json!({"alg": algorithm, "kid": "p256"}), &claims);
        let (_, reply) = join_with(&mut door.anon().await, "realtime:unsupported", &token).await;
        let reason = reply.at("response").at("reason").as_str().unwrap_or_default();
        assert!(reason.starts_with("JwtSignerError: "), "{algorithm}: {reply}");
    }
}

async fn audience(door: Door) {
    let iss = "https://walcast.test/auth/v1";
    assert_eq!(status_of(&door, json!({"aud": "authenticated", "iss": iss})).await, 101);
    assert_eq!(status_of(&door, json!({"aud": ["x", "authenticated"], "iss": iss})).await, 101);
    assert_eq!(status_of(&door, json!({"aud": "other", "iss": iss})).await, 401);
    assert_eq!(status_of(&door, json!({"iss": iss})).await, 401);
}

async fn issuer(door: Door) {
    assert_eq!(status_of(&door, json!({"aud": "authenticated", "iss": "https://evil.test"})).await, 401);
    assert_eq!(status_of(&door, json!({"aud": "authenticated"})).await, 401);
}
