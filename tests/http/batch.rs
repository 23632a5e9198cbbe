//! `POST /api/broadcast`: section 6.2 row by row, and checks 107 to 111.

use super::client::{Answer, Request, Stage, assert_silent, next_text};
use crate::support::{
    server::Server,
    token::{anon, in_seconds, sign},
};
use serde_json::{Value, json};

const PATH: &str = "/api/broadcast";

fn message(topic: &str, number: i64) -> Value {
    json!({"topic": topic, "event": "rest", "payload": {"n": number}})
}

async fn post(server: &Server, messages: Value) -> Answer {
    Request::new("POST", PATH).bearer(&anon()).json(&json!({ "messages": messages })).send(server).await
}

#[tokio::test]
async fn check_107_members_of_both_versions_get_the_message_as_text_and_in_order() {
    let stage = Stage::new().await;
    let (mut first, mut second) = (stage.member("1.0.0", "room").await, stage.member("2.0.0", "room").await);
    let mut other = stage.member("2.0.0", "other").await;
    let body = r#"{"messages":[{"topic":"room","event":"rest","payload":{ "a":1.50,"b":"\u00e9" }},
        {"topic":"room","event":"rest2","payload":{"a":2},"private":false,"id":"00000000-0000-4000-8000-000000000001"}]}"#;
    let answer = Request::new("POST", PATH).bearer(&anon()).header("content-type", "application/json").body(body);
    let answer = answer.send(&stage.server).await;
    assert_eq!(answer.outcome(), (202, ""));
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert_eq!(answer.header("x-rate-limit"), None, "no rate is set");

    let expected = |event: &str, payload: &str, meta: &str| {
        format!(r#"{{"event":"{event}","payload":{payload},"type":"broadcast"{meta}}}"#)
    };
    let meta = r#","meta":{"id":"00000000-0000-4000-8000-000000000001"}"#;
    for (event, payload, meta) in [("rest", r#"{ "a":1.50,"b":"\u00e9" }"#, ""), ("rest2", r#"{"a":2}"#, meta)] {
        let payload = expected(event, payload, meta);
        let v1 = first.expect("a broadcast", |message| message.event == "broadcast").await.text;
        let v2 = second.expect("a broadcast", |message| message.event == "broadcast").await.text;
        assert!(v1.contains(&payload), "{v1}");
        assert_eq!(v2, format!(r#"[null,null,"realtime:room","broadcast",{payload}]"#));
    }
    assert_silent(&mut other).await;
}

#[tokio::test]
async fn check_108_the_other_path_with_any_query_and_preflights_of_browsers_are_answered() {
    let stage = Stage::new().await;
    let mut member = stage.member("2.0.0", "room").await;
    let path = format!("/realtime/v1{PATH}?apikey={}&vsn=2.0.0&private=maybe&persist=true", anon());
    let body = json!({"messages": [message("room", 1)]});
    let answer = Request::new("POST", &path).bearer(&anon()).json(&body).send(&stage.server).await;
    assert_eq!(answer.outcome(), (202, ""));
    assert_eq!(*next_text(&mut member).await.at("payload"), json!({"n": 1}));

    for path in [PATH, "/realtime/v1/api/broadcast", "/realtime/v1/api/broadcast/room/events/e?private=true"] {
        let wanted = "apikey,authorization,content-type,x-client-info";
        let preflight = Request::new("OPTIONS", path)
            .header("origin", "https://app.example")
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", wanted);
        let answer = preflight.send(&stage.server).await;
        assert!((200..300).contains(&answer.status), "{answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        assert_eq!(answer.header("access-control-allow-headers"), Some(wanted));
        assert!(answer.header("access-control-allow-methods").is_some_and(|methods| methods.contains("POST")));
    }
    assert_eq!(Request::new("GET", PATH).bearer(&anon()).send(&stage.server).await.status, 405);
}

#[tokio::test]
async fn check_109_the_token_is_the_bearer_else_the_key_and_has_to_be_good() {
    let stage = Stage::with(&[("WALCAST_API_KEYS", "sb_publishable_1=anon")]).await;
    let body = json!({"messages": [message("room", 1)]});
    let send = |headers: Vec<(&'static str, String)>| {
        let mut request = Request::new("POST", PATH).json(&body);
        request.headers.extend(headers);
        request.send(&stage.server)
    };
    for headers in [
        vec![("apikey", anon())],
        vec![("apikey", "sb_publishable_1".to_owned())],
        vec![("authorization", "Bearer sb_publishable_1".to_owned())],
        vec![("authorization", format!("bearer {}", anon())), ("apikey", "nonsense".to_owned())],
        vec![("authorization", "Basic eDp5".to_owned()), ("apikey", anon())],
    ] {
        assert_eq!(send(headers.clone()).await.outcome(), (202, ""), "{headers:?}");
    }
    let expired = sign(json!({"role": "anon", "exp": in_seconds(-5)}));
    for headers in [
        vec![],
        vec![("apikey", String::new())],
        vec![("apikey", "sb_publishable_2".to_owned())],
        vec![("apikey", expired.clone())],
        vec![("authorization", format!("Bearer {expired}")), ("apikey", anon())],
        vec![("authorization", "Bearer".to_owned()), ("apikey", anon())],
        vec![("apikey", format!("{}x", anon()))],
        vec![("x-api-key", anon())],
    ] {
        let answer = send(headers.clone()).await;
        assert_eq!(answer.outcome(), (401, r#"{"message":"Unauthorized"}"#), "{headers:?}");
        assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "pages can read why");
    }
}

#[tokio::test]
async fn check_110_one_bad_message_rejects_the_whole_batch() {
    let stage = Stage::new().await;
    let mut member = stage.member("2.0.0", "room").await;
    let server = &stage.server;
    let mut without_payload = message("room", 1);
    without_payload.as_object_mut().unwrap().remove("payload");
    let answer = post(server, json!([without_payload.clone()])).await;
    assert_eq!(answer.outcome(), (422, r#"{"errors":{"messages":[{"payload":["can't be blank"]}]}}"#));
    assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
    let answer = post(server, json!([{"event": "e"}, message("room", 2)])).await;
    let expected = r#"{"errors":{"messages":[{"payload":["can't be blank"],"topic":["can't be blank"]},{}]}}"#;
    assert_eq!(answer.outcome(), (422, expected));

    let blank = (422, r#"{"errors":{"messages":["can't be blank"]}}"#);
    assert_eq!(post(server, json!([])).await.outcome(), blank);
    assert_eq!(Request::new("POST", PATH).bearer(&anon()).json(&json!({})).send(server).await.outcome(), blank);
    assert_eq!(Request::new("POST", PATH).bearer(&anon()).send(server).await.outcome(), blank);

    let large = json!({"topic": "room", "event": "e", "payload": {"x": "a".repeat(3_000_500)}});
    let answer = post(server, json!([large])).await;
    let expected = r#"{"errors":{"messages":[{"payload":["Payload size exceeds tenant limit"]}]}}"#;
    assert_eq!(answer.outcome(), (422, expected));
    let refused = stage.server.log().into_iter().find(|line| line.contains("max_payload_size_in_kb"));
    assert!(refused.is_some(), "the log names the setting");

    let nope = Request::new("POST", PATH).bearer(&anon()).header("content-type", "application/json").body("{nope");
    let answer = nope.send(server).await;
    assert_eq!(answer.outcome(), (400, "Bad Request"));
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));

    let endless = Request::new("POST", PATH).bearer(&anon()).body(vec![b' '; 8_000_001]).send(server).await;
    assert_eq!(endless.status, 413);
    assert_silent(&mut member).await;
    assert_eq!(post(server, json!([message("room", 3)])).await.status, 202);
    assert_eq!(*next_text(&mut member).await.at("payload"), json!({"n": 3}), "a large one did no harm");
}

#[tokio::test]
async fn a_payload_at_the_limit_is_delivered_whole() {
    let stage = Stage::new().await;
    let mut member = stage.member("2.0.0", "room").await;
    let text = "a".repeat(3_000_500 - r#"{"x":""}"#.len());
    let large = json!({"topic": "room", "event": "e", "payload": {"x": text}});
    assert_eq!(post(&stage.server, json!([large])).await.status, 202);
    assert_eq!(next_text(&mut member).await.at("payload").at("x").as_str().map(str::len), Some(text.len()));
}

#[tokio::test]
async fn check_111_a_private_message_without_a_policy_is_accepted_and_reaches_nobody() {
    let stage = Stage::new().await;
    let mut member = stage.member("2.0.0", "room").await;
    let mut private = message("room", 1);
    private["private"] = true.into();
    let answer = post(&stage.server, json!([private, message("room", 2)])).await;
    assert_eq!(answer.outcome(), (202, ""));
    // The public one of the same batch, and not the private one.
    assert_eq!(*next_text(&mut member).await.at("payload"), json!({"n": 2}));
    assert_silent(&mut member).await;
}

#[tokio::test]
async fn batches_at_the_same_time_all_arrive_each_in_its_order() {
    let stage = Stage::new().await;
    let mut member = stage.member("2.0.0", "room").await;
    let batches = (0..20).map(|batch| {
        let messages: Vec<Value> = (0..10).map(|number| message("room", batch * 100 + number)).collect();
        post(&stage.server, Value::from(messages))
    });
    for answer in futures_util::future::join_all(batches).await {
        assert_eq!(answer.status, 202);
    }
    let mut heard = Vec::new();
    for _ in 0..200 {
        heard.push(next_text(&mut member).await.at("payload").at("n").as_i64().unwrap());
    }
    for batch in 0..20 {
        let of_batch: Vec<i64> = heard.iter().copied().filter(|number| number / 100 == batch).collect();
        let sent: Vec<i64> = (0..10).map(|number| batch * 100 + number).collect();
        assert_eq!(of_batch, sent);
    }
}
