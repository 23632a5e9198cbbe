//! Checks 107 to 112 and 139: broadcasting over HTTP. Protocol reference, sections 6.2, 6.3 and 12.

use serde_json::{Value, json};

use super::room::{hear, hears, hears_nothing, listening, member, private_as};
use super::{Check, Door};
use crate::support::socket::Vsn;
use crate::wire::fixture;
use crate::wire::http::{Request, Response};

pub(super) const CHECKS: &[Check] = &[
    Check::both(107, "a REST batch reaches the members of the room", |d| Box::pin(batch(d))),
    Check::v2(108, "the path of the gateway and its query are taken, preflights answered", |d| Box::pin(gateway(d))),
    Check::v2(109, "an apikey header is enough, nothing is not", |d| Box::pin(credentials(d))),
    Check::both(110, "one bad message rejects the whole batch", |d| Box::pin(bad_message(d))),
    Check::both(111, "a private message without the right to write is dropped, or refused", |d| Box::pin(no_write(d))),
    Check::both(112, "the single endpoint takes JSON and bytes", |d| Box::pin(single(d))),
    Check::v2(139, "metrics need a bearer", |d| Box::pin(metrics(d))),
    Check::v2(237, "a private REST message reaches private members only", |d| Box::pin(private_message(d))),
];

const JSON: (&str, &str) = ("content-type", "application/json");

/// A POST in anon's name.
async fn post(door: &Door, target: &str, content_type: &str, body: &[u8]) -> Response {
    post_as(door, "anon", target, content_type, body).await
}

async fn post_as(door: &Door, who: &str, target: &str, content_type: &str, body: &[u8]) -> Response {
    let bearer = format!("Bearer {}", fixture::token(who));
    let headers = vec![("authorization", bearer.as_str()), ("content-type", content_type)];
    door.ask(&Request { method: "POST", target, headers, body }).await
}

fn accepted(response: &Response) {
    assert_eq!((response.status, response.body.as_str()), (202, ""), "{response:?}");
}

fn messages(messages: &Value) -> Vec<u8> {
    json!({"messages": messages}).to_string().into_bytes()
}

async fn batch(door: Door) {
    let (mut a, _) = member(&door, "realtime:rest", &listening()).await;
    let body = messages(&json!([
        {"topic": "rest", "event": "one", "payload": {"x": 1}},
        {"topic": "rest", "event": "two", "payload": {"x": 2}, "private": false},
    ]));
    accepted(&post(&door, "/api/broadcast", "application/json", &body).await);
    hears(&mut a, "realtime:rest", "one", &json!({"x": 1})).await;
    hears(&mut a, "realtime:rest", "two", &json!({"x": 2})).await;
}

async fn gateway(door: Door) {
    let (mut a, _) = member(&door, "realtime:gateway", &listening()).await;
    let target = "/realtime/v1/api/broadcast?apikey=anything&vsn=2.0.0";
    let body = messages(&json!([{"topic": "gateway", "event": "e", "payload": {}}]));
    let response = post(&door, target, "application/json", &body).await;
    accepted(&response);
    hears(&mut a, "realtime:gateway", "e", &json!({})).await;
    for target in ["/realtime/v1/api/broadcast", "/api/broadcast", "/api/broadcast/room-1/events/hi"] {
        let headers = vec![
            ("origin", "https://example.com"),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "apikey,authorization,content-type,x-client-info"),
        ];
        let response = door.ask(&Request { method: "OPTIONS", target, headers, body: b"" }).await;
        assert!((200..300).contains(&response.status), "{target}: {response:?}");
        assert_eq!(response.header("access-control-allow-origin"), Some("*"), "{target}: {response:?}");
        let allowed = response.header("access-control-allow-headers").unwrap_or_default().to_lowercase();
        for name in ["apikey", "authorization", "content-type", "x-client-info"] {
            assert!(allowed.contains(name) || allowed == "*", "{target}: {name} in {allowed:?}");
        }
    }
}

async fn credentials(door: Door) {
    let body = messages(&json!([{"topic": "c", "event": "e", "payload": {}}]));
    let anon = fixture::token("anon");
    let headers = vec![("apikey", anon.as_str()), JSON];
    accepted(&door.ask(&Request { method: "POST", target: "/api/broadcast", headers, body: &body }).await);
    let (mut a, _) = member(&door, "realtime:c", &listening()).await;
    for name in ["", "badsig", "expired", "norole", "noexp", "algnone"] {
        let bearer = if name.is_empty() { String::new() } else { format!("Bearer {}", fixture::token(name)) };
        let mut headers = vec![JSON];
        if !name.is_empty() {
            headers.push(("authorization", bearer.as_str()));
        }
        for target in ["/api/broadcast", "/api/broadcast/c/events/e"] {
            let request = Request { method: "POST", target, headers: headers.clone(), body: &body };
            let response = door.ask(&request).await;
            assert_eq!((response.status, response.json()), (401, json!({"message": "Unauthorized"}).into()), "{name}");
        }
    }
    hears_nothing(&mut a, "nobody with a right to said so").await;
}

async fn bad_message(door: Door) {
    let (mut a, _) = member(&door, "realtime:bad", &listening()).await;
    let good = json!({"topic": "bad", "event": "e", "payload": {}});
    let blank = json!(["can't be blank"]);
    for (body, errors) in [
        (json!([{"topic": "bad", "event": "e"}]), json!([{"payload": blank}])),
        (json!([good, {"event": "e", "payload": {}}]), json!([{}, {"topic": blank}])),
        (json!([{"topic": "bad", "event": "e", "payload": null}, good]), json!([{"payload": blank}, {}])),
        (json!([]), blank.clone()),
    ] {
        let response = post(&door, "/api/broadcast", "application/json", &messages(&body)).await;
        assert_eq!((response.status, response.json()), (422, json!({"errors": {"messages": errors}}).into()), "{body}");
    }
    hears_nothing(&mut a, "a batch is sent whole or not at all").await;
}

async fn no_write(door: Door) {
    let topic = "realtime:read-only";
    let (mut a, _) = member(&door, topic, &private_as("alice")).await;
    let (mut public, _) = member(&door, topic, &listening()).await;
    let body = messages(&json!([{"topic": "read-only", "event": "e", "payload": {}, "private": true}]));
    accepted(&post_as(&door, "alice", "/api/broadcast", "application/json", &body).await);
    let target = "/api/broadcast/read-only/events/e?private=true";
    let response = post_as(&door, "alice", target, "application/json", b"{}").await;
    assert_eq!((response.status, response.json()), (403, json!({"message": "Unauthorized"}).into()));
    hears_nothing(&mut a, "alice may read, not write").await;
    hears_nothing(&mut public, "and it was private").await;
}

async fn private_message(door: Door) {
    let topic = "realtime:both";
    let (mut a, _) = member(&door, topic, &private_as("alice")).await;
    let (mut public, _) = member(&door, topic, &listening()).await;
    let body = messages(&json!([{"topic": "both", "event": "batch", "payload": {}, "private": true}]));
    accepted(&post_as(&door, "bob", "/api/broadcast", "application/json", &body).await);
    hears(&mut a, topic, "batch", &json!({})).await;
    let target = "/api/broadcast/both/events/single?private=true";
    accepted(&post_as(&door, "bob", target, "application/json", b"{}").await);
    hears(&mut a, topic, "single", &json!({})).await;
    hears_nothing(&mut public, "the public room of that name is another one").await;
}

async fn single(door: Door) {
    let topic = "realtime:room/1 é";
    let (mut a, _) = member(&door, topic, &listening()).await;
    let (mut b, _) = member(&door.of(Vsn::V2), topic, &listening()).await;
    let target = "/api/broadcast/room%2F1%20%C3%A9/events/h%2Fi";
    accepted(&post(&door, target, "application/json", br#"{"a":1}"#).await);
    for socket in [&mut a, &mut b] {
        hears(socket, topic, "h/i", &json!({"a": 1})).await;
    }
    accepted(&post(&door, target, "application/octet-stream", &[0, 0xff]).await);
    let binary = hear(&mut b, topic).await.binary.expect("bytes come in a binary frame");
    assert_eq!((binary.event.as_str(), binary.encoding, binary.payload.as_slice()), ("h/i", 0, &[0, 0xff][..]));
    if door.vsn == Vsn::V2 {
        assert_eq!(hear(&mut a, topic).await.binary.expect("bytes").payload, [0, 0xff]);
    }
    accepted(&post(&door, target, "application/json", b"[1]").await);
    for socket in [&mut a, &mut b] {
        let heard = hear(socket, topic).await;
        assert_eq!(heard.binary.is_some(), socket.vsn() == Vsn::V2, "{}", heard.text);
        assert_eq!(*heard.payload.at("payload"), json!({"_json": [1]}), "{}", heard.text);
    }
    let response = post(&door, target, "text/plain", b"hello").await;
    assert_eq!(response.status, 415, "{response:?}");
    let text = "Unsupported Media Type. Use application/json or application/octet-stream";
    assert_eq!(response.json(), json!({"error": text}));
    hears_nothing(&mut a, "text is not taken").await;
}

async fn metrics(door: Door) {
    let nobody = door.ask(&Request { method: "GET", target: "/metrics", ..Request::default() }).await;
    assert_eq!(nobody.status, 403, "{nobody:?}");
    let bearer = format!("Bearer {}", fixture::token("badsig"));
    let headers = vec![("authorization", bearer.as_str())];
    let foreign = door.ask(&Request { method: "GET", target: "/metrics", headers, body: b"" }).await;
    assert_eq!((foreign.status, foreign.body.as_str()), (403, ""), "{foreign:?}");
}
