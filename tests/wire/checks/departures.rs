//! Checks from 303 on: what differs on purpose in HTTP, in limits, and in private channels. Each proves a row of
//! `differences.md`.

use serde_json::{Value, json};

use super::room::{config, hear, hears_nothing, listening, member, presence, present, private_as, say, state};
use super::{Check, Door};
use crate::support::frames::UserPush;
use crate::support::token;
use crate::wire::fixture::{self, ALICE};
use crate::wire::http::{Request, Response};

pub(super) const CHECKS: &[Check] = &[
    Check::v2(303, "a client's token asks the admin API for health and nothing else", |d| Box::pin(admin(d))),
    Check::v2(304, "the admin API is not behind the gateway's path", |d| Box::pin(gateway(d))),
    Check::v2(305, "the tenant can be changed, not made or deleted", |d| Box::pin(one_tenant(d))),
    Check::v2(306, "a mistyped private refuses a REST batch", |d| Box::pin(mistyped(d))),
    Check::v2(307, "what is to be stored is refused, in words, where an answer is wanted", |d| Box::pin(stored(d))),
    Check::v2(308, "what was not set limits no rates", |d| Box::pin(no_rates(d))),
    Check::both(309, "a policy that raises refuses a REST message like one that denies", |d| Box::pin(raises(d))),
    Check::v2(310, "pages for people are not there", |d| Box::pin(pages(d))),
    Check::v2(313, "a room takes as much presence as who joins can be told", |d| Box::pin(full_presence(d))),
    Check::both(314, "names and references have a length", |d| Box::pin(long_names(d))),
];

/// On a database of its own, whose messages have no place.
pub(super) const NO_PARTITION: &[Check] =
    &[Check::both(311, "private channels need no partition of today", |d| Box::pin(no_partition(d)))];

/// Which claim the server wants, and of which value.
pub(super) const CLAIMS: (&str, &str) = ("JWT_CLAIM_VALIDATORS", r#"{"iss": "https://walcast.test/auth/v1"}"#);

/// A server that wants it.
pub(super) const VALIDATED: &[Check] =
    &[Check::both(312, "a token without a claim that is validated is refused", |d| Box::pin(lacking_claim(d)))];

async fn ask(door: &Door, method: &str, target: &str, token: &str, body: Option<Value>) -> Response {
    let bearer = format!("Bearer {token}");
    let headers = vec![("authorization", bearer.as_str()), ("content-type", "application/json")];
    let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
    door.ask(&Request { method, target, headers, body: &body }).await
}

const TENANT: &str = "/api/tenants/realtime-dev";

async fn admin(door: Door) {
    for token in [fixture::token("anon"), fixture::token("alice")] {
        for method in ["GET", "PATCH", "DELETE"] {
            let change = json!({"tenant": {"suspend": true}});
            let refused = ask(&door, method, TENANT, &token, Some(change)).await;
            assert_eq!((refused.status, refused.body.as_str()), (403, ""), "{method}");
        }
        let health = ask(&door, "GET", &format!("{TENANT}/health"), &token, None).await;
        assert_eq!((health.status, health.json().at("data").at("healthy").clone()), (200, json!(true).into()));
    }
    let shown = ask(&door, "GET", TENANT, &fixture::token("service"), None).await;
    assert_eq!((shown.status, shown.json().at("data").at("suspend").clone()), (200, json!(false).into()));
}

async fn gateway(door: Door) {
    for path in ["/api/tenants", TENANT, "/api/openapi"] {
        let refused = ask(&door, "GET", &format!("/realtime/v1{path}"), &fixture::token("service"), None).await;
        assert_eq!((refused.status, refused.body.as_str()), (403, "Access is forbidden."), "{path}");
        assert_eq!(ask(&door, "GET", path, &fixture::token("service"), None).await.status, 200, "{path}");
    }
}

async fn one_tenant(door: Door) {
    let service = fixture::token("service");
    let tenant = json!({"tenant": {"external_id": "realtime-dev", "name": "realtime-dev", "presence_enabled": false}});
    let made = ask(&door, "POST", "/api/tenants", &service, Some(tenant)).await;
    assert_eq!((made.status, made.header("location")), (200, None), "it is there already: {made:?}");
    let deleted = ask(&door, "DELETE", TENANT, &service, None).await;
    assert_eq!(deleted.status, 422, "{deleted:?}");
    assert_eq!(ask(&door, "GET", TENANT, &service, None).await.status, 200);
}

async fn mistyped(door: Door) {
    let (mut public, _) = member(&door, "realtime:both", &listening()).await;
    let good = json!({"topic": "both", "event": "e", "payload": {}});
    for private in [json!("yes"), json!(1), json!([])] {
        let bad = json!({"topic": "both", "event": "e", "payload": {}, "private": private});
        let batch = json!({"messages": [good, bad]});
        let answer = ask(&door, "POST", "/api/broadcast", &fixture::token("anon"), Some(batch)).await;
        let errors = json!({"errors": {"messages": [{}, {"private": ["is invalid"]}]}});
        assert_eq!((answer.status, answer.json()), (422, errors.into()), "{private}");
    }
    hears_nothing(&mut public, "who meant it to be private did not mean everybody").await;
}

async fn stored(door: Door) {
    let topic = "realtime:both";
    let (mut listener, _) = member(&door, topic, &private_as("alice")).await;
    let (mut speaker, channel) = member(&door, topic, &private_as("bob")).await;
    for metadata in [r#"{"persist":true}"#, r#"{"persist":{"ttl":60}}"#] {
        let reference = speaker.fresh_ref();
        let join_ref = channel.join_ref.as_str();
        let push =
            UserPush { join_ref, reference: &reference, topic, event: "e", metadata, encoding: 1, payload: b"{}" };
        speaker.send_binary(&push.bytes()).await;
        let reply = speaker.reply(topic, &reference).await;
        assert_eq!(*reply.at("status"), "error", "{reply}");
        assert!(reply.at("response").at("error").as_str().is_some_and(|text| text.contains("persist")), "{reply}");
    }
    for query in ["private=true&persist=true", "private=true&persist[ttl]=60", "persist=true"] {
        let target = format!("/api/broadcast/both/events/e?{query}");
        let answer = ask(&door, "POST", &target, &fixture::token("bob"), Some(json!({}))).await;
        assert_eq!(answer.status, 422, "{query}: {answer:?}");
    }
    hears_nothing(&mut listener, "what was to be stored was not said either").await;
}

async fn no_rates(door: Door) {
    let shown = ask(&door, "GET", TENANT, &fixture::token("service"), None).await.json();
    for name in ["max_concurrent_users", "max_events_per_second", "max_joins_per_second"] {
        assert_eq!(*shown.at("data").at(name), json!(null), "{name}");
    }
    let (mut socket, channel) = member(&door, "realtime:often", &present(&json!("k"))).await;
    for n in 0..10 {
        let reply = presence(&mut socket, &channel, &json!({"event": "track", "payload": {"n": n}})).await;
        assert_eq!(reply, json!({"status": "ok", "response": {}}), "the sixth in 30 s would end the channel there");
    }
}

async fn raises(door: Door) {
    let target = "/api/broadcast/write%20raises/events/e?private=true";
    let answer = ask(&door, "POST", target, &fixture::token("alice"), Some(json!({}))).await;
    assert_eq!((answer.status, answer.json()), (403, json!({"message": "Unauthorized"}).into()));
}

async fn pages(door: Door) {
    for path in ["/inspector", "/admin/dashboard", "/swaggerui", "/socket/longpoll", "/realtime/v1/longpoll"] {
        assert_eq!(ask(&door, "GET", path, &fixture::token("service"), None).await.status, 404, "{path}");
    }
    for path in ["/", "/status"] {
        assert_eq!(ask(&door, "GET", path, "", None).await.status, 200, "{path}");
    }
}

async fn no_partition(door: Door) {
    door.sql(
        "do $$ declare place regclass; begin
           for place in select inhrelid::regclass from pg_inherits where inhparent = 'realtime.messages'::regclass loop
             execute format('drop table %s', place);
           end loop;
         end $$",
    )
    .await;
    let (mut a, channel) = member(&door, "realtime:both", &private_as("alice")).await;
    let (mut b, _) = member(&door, "realtime:both", &private_as("bob")).await;
    let reference = say(&mut a, &channel, "e", &json!({})).await;
    assert_eq!(*a.reply("realtime:both", &reference).await.at("status"), "ok");
    hear(&mut b, "realtime:both").await;
}

async fn lacking_claim(door: Door) {
    let of = |issuer: Option<&str>| {
        let mut claims = json!({"role": "authenticated", "sub": ALICE, "exp": token::in_seconds(600)});
        if let Some(issuer) = issuer {
            claims["iss"] = issuer.into();
        }
        token::sign(claims)
    };
    let mut socket = door.socket(&of(Some("https://walcast.test/auth/v1"))).await;
    socket.join("realtime:good", &config(false, false, false)).await;
    for issuer in [None, Some("https://other.test")] {
        let mut payload = config(false, false, false);
        payload["access_token"] = of(issuer).into();
        let (_, reply) = socket.join_raw("realtime:lacking", &payload).await;
        assert_eq!(*reply.at("status"), "error", "{issuer:?}: {reply}");
    }
}

async fn full_presence(door: Door) {
    let topic = "realtime:full";
    let object = json!({"type": "presence", "event": "track", "payload": {"about": "x".repeat(2_500_000)}});
    let (mut first, own) = member(&door, topic, &present(&json!("first"))).await;
    let (mut second, other) = member(&door, topic, &present(&json!("second"))).await;
    for (socket, channel) in [(&mut first, &own), (&mut second, &other)] {
        assert_eq!(presence(socket, channel, &object).await.at("status").as_str(), Some("ok"));
    }
    let (mut third, channel) = member(&door, topic, &present(&json!("third"))).await;
    let refused = presence(&mut third, &channel, &object).await;
    let reason = json!({"status": "error", "response": {"reason": "The presence of this channel is full"}});
    assert_eq!(refused, reason);
    // Whoever comes is told all of it, and stays.
    let told = state(&mut third, &channel).await;
    assert_eq!(told.keys(), ["first", "second"]);
    third.heartbeat().await;
}

async fn long_names(door: Door) {
    let mut socket = door.anon().await;
    let topic = format!("realtime:{}", "t".repeat(20_000));
    socket.push(&json!("1"), &json!("1"), &topic, "phx_join", &listening()).await;
    let reference = json!("r".repeat(2000));
    socket.push(&reference, &reference, "realtime:short", "phx_join", &listening()).await;
    hears_nothing(&mut socket, "both are dropped as malformed").await;
    socket.join("realtime:short", &listening()).await;
}
