//! A running server and tokens that do not hold: no upgrade, no join, no row, and nothing of them in the log.

use super::keys::{Key, hmac, hmac_of_texts, message, set};
use crate::{
    line::setup::{all_of, database, token_of},
    support::{
        postgres::{Database, Postgres},
        server::Server,
        socket::{Channel, Socket},
        token::{ALICE, BOB, anon, in_seconds, service, sign, user},
    },
};
use serde_json::{Value, json};

/// Notes that only their owner and the service role may see, and a table for everybody that says when to stop waiting.
const TABLES: &str = "
create table notes (id int primary key, owner uuid, body text);
alter table notes enable row level security;
create policy own on notes for select to authenticated using (owner = auth.uid());
create policy everything on notes for select to service_role using (true);
create table fence (id int primary key);
alter publication supabase_realtime add table notes, fence;";

const NOTE: &str = "sesame-of-alice";

struct Stage {
    database: Database,
    server: Server,
    rsa: Key,
    p256: Key,
    ed25519: Key,
    fences: u32,
}

impl Stage {
    async fn new() -> Stage {
        let (rsa, p256, ed25519) = (Key::rsa("rsa"), Key::p256("p256"), Key::ed25519("ed"));
        let database = database(Postgres::default(), TABLES).await;
        let keys = set(&[&rsa, &p256, &ed25519]);
        let extra = [("API_JWT_JWKS", keys.as_str()), ("WALCAST_LOG_LEVEL", "debug,walcast=trace")];
        let server = Server::start(&database, &extra).await;
        Stage { database, server, rsa, p256, ed25519, fences: 0 }
    }

    async fn socket(&self, key: &str) -> Socket {
        Socket::open(&self.server.websocket_url("2.0.0", key)).await
    }

    /// A stranger's socket, with a channel that hears the fence and all notes he may see: none.
    async fn stranger(&self) -> (Socket, Channel) {
        let mut socket = self.socket(&anon()).await;
        let mut bindings = all_of("notes");
        bindings.as_array_mut().unwrap().extend(all_of("fence").as_array().unwrap().clone());
        let (channel, _) = socket.subscribe("realtime:stranger", &bindings).await;
        (socket, channel)
    }

    /// Writes a note of Alice's; what a socket heard until everything behind it was delivered.
    async fn heard_by(&mut self, socket: &mut Socket) -> String {
        self.fences += 1;
        let sql =
            format!("insert into notes values ({0}, '{ALICE}', '{NOTE}'); insert into fence values ({0})", self.fences);
        self.database.execute(&sql).await;
        socket.expect("the fence", |m| m.text.contains(r#""table":"fence""#)).await;
        socket.heartbeat().await;
        socket.drain().iter().map(|message| message.text.as_str()).collect()
    }

    /// The log holds no part of a token, and no row.
    fn check_log(&self, tokens: &[String]) {
        let log = self.server.log().join("\n");
        for part in tokens.iter().flat_map(|token| token.split('.')).filter(|part| part.len() > 8) {
            assert!(!log.contains(part), "a part of a token is in the log");
        }
        assert!(!log.contains(NOTE), "a row is in the log");
    }
}

fn service_claims() -> Value {
    json!({"role": "service_role", "exp": in_seconds(3600)})
}

/// Tokens that claim everything and do not hold, by what is wrong with them.
fn forgeries(stage: &Stage) -> Vec<(&'static str, String)> {
    let claims = service_claims();
    let rsa_text = stage.rsa.public.to_string();
    let modulus = stage.rsa.public["n"].as_str().unwrap();
    let stranger = Key::rsa("rsa");
    let good = sign(service_claims());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let with = |name: &str, value: Value| {
        let mut claims = service_claims();
        claims[name] = value;
        sign(claims)
    };
    vec![
        ("an RSA key as a secret", hmac(&json!({"alg": "HS256", "kid": "rsa"}), &claims, rsa_text.as_bytes())),
        ("a modulus as a secret", hmac(&json!({"alg": "HS256"}), &claims, modulus.as_bytes())),
        ("an HMAC that is called RSA", hmac(&json!({"alg": "RS256", "kid": "rsa"}), &claims, modulus.as_bytes())),
        ("no signature", format!("{}.", message(&json!({"alg": "none"}), &claims))),
        ("no signature in capitals", format!("{}.", message(&json!({"alg": "NONE"}), &claims))),
        ("no signature under a real key", format!("{}.", message(&json!({"alg": "ES256", "kid": "p256"}), &claims))),
        ("a stranger's key", stranger.token(&claims)),
        (
            "a key of its own",
            stranger.sign(
                &json!({"alg": "RS256", "kid": "own", "jwk": stranger.public, "jku": "http://127.0.0.1:9"}),
                &claims,
            ),
        ),
        ("an asymmetric token without kid", stage.rsa.sign(&json!({"alg": "RS256"}), &claims)),
        ("a key of another kind", stage.p256.sign(&json!({"alg": "ES256", "kid": "ed"}), &claims)),
        ("the empty secret", hmac(&json!({"alg": "HS256"}), &claims, b"")),
        ("a signature of other claims", format!("{}.{signature}", message(&json!({"alg": "HS256"}), &claims))),
        ("a signature cut short", good[..good.len() - 4].to_owned()),
        ("a signature of nothing", format!("{signed}.")),
        ("expired", with("exp", json!(in_seconds(-60)))),
        ("an expiry that is a text", with("exp", json!(in_seconds(3600).to_string()))),
        ("not yet valid", with("nbf", json!(in_seconds(3600)))),
        ("issued at a text", with("iat", json!("now"))),
        ("no role", sign(json!({"exp": in_seconds(3600)}))),
        ("a role twice", {
            let claims = format!(r#"{{"role":"anon","role":"service_role","exp":{}}}"#, in_seconds(3600));
            hmac_of_texts(r#"{"alg":"HS256"}"#, &claims)
        }),
        ("oversize", with("x", json!("x".repeat(16 * 1024)))),
        ("a name of a key without end", hmac(&json!({"alg": "HS256", "kid": "k".repeat(1000)}), &claims, SECRET)),
        ("extensions it demands", hmac(&json!({"alg": "HS256", "crit": ["exp"]}), &claims, SECRET)),
        ("an opaque key nobody configured", "sb_secret_sesame".to_owned()),
    ]
}

const SECRET: &[u8] = crate::support::token::SECRET.as_bytes();

#[tokio::test]
async fn tokens_of_the_key_set_open_a_socket_and_show_their_bearers_rows() {
    // Check 65 of the reference.
    let mut stage = Stage::new().await;
    let alice = json!({"role": "authenticated", "sub": ALICE, "exp": in_seconds(3600)});
    let unknown = hmac(&json!({"alg": "HS256", "kid": "unknown"}), &alice, SECRET);
    let tokens = [stage.rsa.token(&alice), stage.p256.token(&alice), stage.ed25519.token(&alice), unknown];
    for token in &tokens {
        let mut socket = stage.socket(token).await;
        let mut bindings = all_of("notes");
        bindings.as_array_mut().unwrap().extend(all_of("fence").as_array().unwrap().clone());
        socket.subscribe("realtime:alice", &bindings).await;
        let heard = stage.heard_by(&mut socket).await;
        assert!(heard.contains(NOTE), "{heard}");
    }
    let without = stage.rsa.sign(&json!({"alg": "RS256"}), &alice);
    let refused = Socket::connect(&stage.server.websocket_url("2.0.0", &without), &[]).await.err().unwrap();
    assert_eq!(refused.status, 401);
    assert!(refused.body.contains("Failed to generate JWT signer, check your JWT secret or JWKS configuration"));
    stage.check_log(&tokens);
}

#[tokio::test]
async fn a_forged_token_opens_no_socket_and_joins_nothing() {
    let mut stage = Stage::new().await;
    let forgeries = forgeries(&stage);
    let (mut socket, channel) = stage.stranger().await;
    for (what, token) in &forgeries {
        // Longer than a request line may be: refused before it is a token.
        if *what != "oversize" {
            let url = stage.server.websocket_url("2.0.0", token);
            let refused = Socket::connect(&url, &[]).await.err().unwrap_or_else(|| panic!("{what}: a socket"));
            assert_eq!(refused.status, 401, "{what}: {refused:?}");
            assert!(token.split('.').all(|part| part.len() < 9 || !refused.body.contains(part)), "{what}");
        }
        // An opaque key in a join stands for the socket's own key, which is nobody's.
        if !token.starts_with("sb_") {
            for field in ["access_token", "user_token"] {
                let payload = json!({field: token, "config": {"postgres_changes": all_of("notes")}});
                let (_, reply) = socket.join_raw("realtime:forged", &payload).await;
                assert_eq!(*reply.at("status"), "error", "{what} as {field}: {reply}");
                let reason = reply.at("response").at("reason").to_string();
                assert!(token.split('.').all(|part| part.len() < 9 || !reason.contains(part)), "{what}: {reason}");
            }
        }
    }
    let heard = stage.heard_by(&mut socket).await;
    assert!(!heard.contains(NOTE), "{heard}");

    // As a refresh, each ends the channel it came to, and that one only.
    for (what, token) in forgeries.iter().filter(|(_, token)| !token.starts_with("sb_")) {
        let (other, _) =
            socket.join("realtime:refreshed", &json!({"config": {"postgres_changes": all_of("notes")}})).await;
        socket.push_on(&other, "access_token", &json!({ "access_token": token })).await;
        let closed = socket.expect(what, |m| m.is(&other.topic, "phx_close")).await;
        assert_eq!(closed.join_ref, *other.join_ref, "{what}");
    }
    let heard = stage.heard_by(&mut socket).await;
    assert!(!heard.contains(NOTE) && !heard.contains(&format!(r#""{}","phx_close""#, channel.topic)), "{heard}");
    let tokens: Vec<String> = forgeries.into_iter().map(|(_, token)| token).collect();
    stage.check_log(&tokens);
}

#[tokio::test]
async fn nobody_becomes_another_by_a_second_token() {
    let mut stage = Stage::new().await;
    let (mut socket, _) = stage.stranger().await;
    let notes = all_of("notes");
    let forged = hmac(&json!({"alg": "HS256"}), &service_claims(), b"another secret");
    // Reference, section 3.4: user_token counts before access_token; no good token makes up for a bad one that counts.
    for payload in [
        json!({"user_token": forged, "access_token": service()}),
        json!({"user_token": "", "access_token": service()}),
        json!({"user_token": forged}),
    ] {
        let mut payload = payload;
        payload["config"] = json!({ "postgres_changes": notes });
        let (_, reply) = socket.join_raw("realtime:escalated", &payload).await;
        assert_eq!(*reply.at("status"), "error", "{reply}");
    }
    // The token that counts is the one whose rows are shown: Bob's, though Alice's is there, and anon for an opaque key.
    let pairs = [
        json!({"user_token": user(BOB), "access_token": user(ALICE)}),
        json!({"access_token": "sb_secret_sesame", "user_token": service()}),
        json!({"access_token": "sb_secret_sesame"}),
        json!({"user_token": 5, "access_token": null}),
    ];
    for (number, mut payload) in pairs.into_iter().enumerate() {
        payload["config"] = json!({ "postgres_changes": notes });
        socket.join(&format!("realtime:second {number}"), &payload).await;
    }
    // Roles nobody granted to the server: joined, perhaps, but told nothing.
    for role in [
        "postgres",
        "walcast",
        "none",
        "",
        "public",
        "SERVICE_ROLE",
        "service_role ",
        "anon\"; reset role; --",
        "pg_read_all_data",
    ] {
        let token = token_of(json!({"role": role, "sub": ALICE}));
        let payload = json!({"access_token": token, "config": {"postgres_changes": notes}});
        socket.join_raw(&format!("realtime:role {role}"), &payload).await;
    }
    // Claims that only look like rights.
    let claims = json!({"role": "anon", "sub": ALICE, "roles": ["service_role"], "user_role": "service_role",
        "app_metadata": {"role": "service_role"}, "Role": "service_role"});
    let payload = json!({"access_token": token_of(claims), "config": {"postgres_changes": notes}});
    socket.join("realtime:claims", &payload).await;
    let heard = stage.heard_by(&mut socket).await;
    assert!(!heard.contains(NOTE), "{heard}");
}

#[tokio::test]
async fn no_topic_shows_what_its_bearer_may_not_see() {
    let mut stage = Stage::new().await;
    let (mut socket, _) = stage.stranger().await;
    let long = format!("realtime:{}", "t".repeat(20_000));
    let topics = [
        "realtime:*",
        "realtime:public",
        "realtime:public:*",
        "realtime:public:notes",
        "realtime:*:notes",
        "realtime:%:%",
        "realtime:public:notes:owner=eq.11111111-1111-1111-1111-111111111111",
        "realtime:public:notes:body=like.*",
        "realtime:public:notes:id=gt.0) or (true",
        "realtime:public.notes",
        "realtime:realtime:stranger",
        "realtime: ",
        "realtime:'; drop table notes; --",
        "realtime:\"notes\"",
        "realtime:a\u{0}b",
        "realtime:a\nb",
        "realtime:\u{202e}x",
        "realtime:🦀",
        "realtime:..",
        "realtime:{}",
        "realtime:null",
        "REALTIME:x",
        "phoenix",
        "",
        &long,
    ];
    for topic in topics {
        for payload in [json!({}), json!({"config": {"postgres_changes": all_of("notes")}})] {
            let reference = socket.fresh_ref();
            let reference = Value::from(reference);
            socket.push(&reference, &reference, topic, "phx_join", &payload).await;
        }
        socket.heartbeat().await;
    }
    let heard = stage.heard_by(&mut socket).await;
    assert!(!heard.contains(NOTE), "{heard}");
    let log = stage.server.log().join("\n");
    assert!(!log.contains(NOTE) && !log.contains("panicked"), "{log}");
}
