//! The admin API: who may use it, what it shows, and what it changes at once.

use super::client::{Answer, Request, Stage};
use crate::support::{
    server::Server,
    socket::Socket,
    token::{SECRET, alice, anon, in_seconds, service, sign},
};
use serde_json::{Value, json};

const TENANT: &str = "/api/tenants/realtime-dev";

/// A token as tools of the stack make it: signed, and of no role.
fn admin() -> String {
    sign(json!({"iat": in_seconds(0), "exp": in_seconds(60)}))
}

async fn ask(server: &Server, method: &str, path: &str, tenant: Option<Value>) -> Answer {
    let request = Request::new(method, path).bearer(&admin());
    match tenant {
        Some(tenant) => request.json(&json!({ "tenant": tenant })).send(server).await,
        None => request.send(server).await,
    }
}

#[tokio::test]
async fn a_client_of_the_same_secret_may_not_use_it_and_pages_cannot() {
    let stage = Stage::new().await;
    let routes = [
        ("GET", "/api/tenants"),
        ("POST", "/api/tenants"),
        ("GET", TENANT),
        ("PUT", TENANT),
        ("PATCH", TENANT),
        ("DELETE", TENANT),
        ("POST", "/api/tenants/realtime-dev/reload"),
        ("POST", "/api/tenants/realtime-dev/shutdown"),
    ];
    let without_expiry = sign(json!({"role": "anon"}));
    let odd = sign(json!({"role": ["service_role"]}));
    let expired = sign(json!({"exp": in_seconds(-5)}));
    let mut tokens = vec![anon(), alice(), without_expiry, odd, expired, "nonsense".to_owned()];
    // What others sign with the same secret and hand to anybody, without a role.
    tokens.extend(
        [
            json!({"url": "avatars/a.png", "iat": in_seconds(0), "exp": in_seconds(60)}),
            json!({"exp": in_seconds(60), "site_url": "https://a.example", "id": "", "provider": "github"}),
            json!({"exp": in_seconds(60), "sub": "11111111-1111-1111-1111-111111111111"}),
            json!({"exp": in_seconds(60), "role": null}),
        ]
        .map(sign),
    );
    for (method, path) in routes {
        for token in &tokens {
            let body = json!({"tenant": {"suspend": true}});
            let answer = Request::new(method, path).bearer(token).json(&body).send(&stage.server).await;
            assert_eq!(answer.outcome(), (403, ""), "{method} {path} {token}");
            assert_eq!(answer.header("access-control-allow-origin"), None);
        }
        assert_eq!(Request::new(method, path).send(&stage.server).await.outcome(), (403, ""), "{method} {path}");
        let behind = format!("/realtime/v1{path}");
        let answer = Request::new(method, &behind).bearer(&admin()).send(&stage.server).await;
        assert_eq!(answer.outcome(), (403, "Access is forbidden."), "{method} {behind}");
    }
    let mine = Request::new("GET", TENANT).bearer(&service()).send(&stage.server).await;
    assert_eq!(mine.status, 200, "the admin role's");
    let empty = sign(json!({"iat": in_seconds(0), "exp": in_seconds(60), "aud": "", "sub": ""}));
    assert_eq!(Request::new("GET", TENANT).bearer(&empty).send(&stage.server).await.status, 200, "a tool's");
}

#[tokio::test]
async fn the_tenant_is_shown_with_its_limits_and_no_secret() {
    let stage = Stage::with(&[("API_JWT_SECRET_NEXT", "the-next-secret-of-at-least-32-characters")]).await;
    let answer = ask(&stage.server, "GET", TENANT, None).await;
    assert_eq!(answer.status, 200);
    assert!(!answer.text().contains(SECRET) && !answer.text().contains("password"), "{answer:?}");
    let tenant = &answer.json()["data"];
    for key in [
        "id",
        "external_id",
        "name",
        "max_concurrent_users",
        "max_channels_per_client",
        "max_events_per_second",
        "max_joins_per_second",
        "inserted_at",
        "extensions",
        "private_only",
        "max_client_presence_events_per_window",
        "client_presence_window_ms",
        "presence_enabled",
    ] {
        assert!(tenant.get(key).is_some(), "{key}");
    }
    assert_eq!((&tenant["external_id"], &tenant["max_channels_per_client"]), (&json!("realtime-dev"), &json!(100)));
    let list = ask(&stage.server, "GET", "/api/tenants", None).await.json();
    assert_eq!(list, json!({ "data": [tenant] }));
    for (method, path) in [("GET", "/api/tenants/x"), ("PUT", "/api/tenants/x"), ("POST", "/api/tenants/x/reload")] {
        let answer = ask(&stage.server, method, path, Some(json!({}))).await;
        assert_eq!(answer.outcome(), (404, r#"{"message":"not found"}"#), "{method} {path}");
    }
    let key = jsonwebtoken::EncodingKey::from_secret(b"the-next-secret-of-at-least-32-characters");
    let next = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &json!({}), &key).unwrap();
    assert_eq!(Request::new("GET", TENANT).bearer(&next).send(&stage.server).await.status, 200);

    let openapi = Request::new("GET", "/api/openapi").send(&stage.server).await.json();
    assert!(openapi["paths"]["/api/broadcast"]["post"].is_object());
}

#[tokio::test]
async fn limits_are_changed_at_once_and_what_only_the_environment_sets_is_not() {
    let stage = Stage::with(&[("SELF_HOST_TENANT_NAME", "mine")]).await;
    let server = &stage.server;
    let tool = json!({
        "external_id": "mine", "name": "mine", "jwt_secret": SECRET, "max_payload_size_in_kb": 1,
        "extensions": [{"type": "postgres_cdc_rls", "settings": {"db_host": "db", "db_password": "sesame"}}],
    });
    let answer = ask(server, "POST", "/api/tenants", Some(tool)).await;
    assert_eq!((answer.status, &answer.json()["data"]["max_payload_size_in_kb"]), (200, &json!(1)));
    let large = json!({"messages": [{"topic": "t", "event": "e", "payload": {"x": "a".repeat(1500)}}]});
    let send = || Request::new("POST", "/api/broadcast").bearer(&anon()).json(&large).send(server);
    assert_eq!(send().await.status, 422);
    let lifted = ask(server, "PATCH", "/api/tenants/mine", Some(json!({"max_payload_size_in_kb": 2}))).await;
    assert_eq!((lifted.status, send().await.status), (200, 202));

    let both = json!({"jwt_secret": "other", "max_payload_size_in_kb": 1});
    let refused = ask(server, "PUT", "/api/tenants/mine", Some(both)).await;
    assert_eq!(refused.status, 422);
    assert!(refused.json()["errors"]["jwt_secret"][0].as_str().unwrap().contains("API_JWT_SECRET"));
    assert_eq!(send().await.status, 202, "nothing of a refused change counts");
    for (body, status) in [("{nope", 400), ("{}", 422), (r#"{"tenant":[]}"#, 422)] {
        let request = Request::new("PUT", "/api/tenants/mine").bearer(&admin()).body(body);
        assert_eq!(request.send(server).await.status, status, "{body}");
    }
    assert_eq!(ask(server, "DELETE", "/api/tenants/mine", None).await.status, 422);
    assert!(!server.log().iter().any(|line| line.contains("sesame") || line.contains(SECRET)));
}

#[tokio::test]
async fn a_suspended_tenant_takes_no_broadcasts() {
    let stage = Stage::new().await;
    let server = &stage.server;
    let body = json!({"messages": [{"topic": "t", "event": "e", "payload": {}}]});
    let batch = || Request::new("POST", "/api/broadcast").bearer(&anon()).json(&body).send(server);
    let single = || Request::new("POST", "/api/broadcast/t/events/e").bearer(&anon()).json(&body).send(server);
    assert_eq!(ask(server, "PUT", TENANT, Some(json!({"suspend": true}))).await.status, 200);
    let suspended = (403, r#"{"message":"Tenant is suspended"}"#);
    assert_eq!(batch().await.outcome(), suspended);
    assert_eq!(single().await.outcome(), suspended);
    assert_eq!(ask(server, "PUT", TENANT, Some(json!({"suspend": false}))).await.status, 200);
    assert_eq!((batch().await.status, single().await.status), (202, 202));
}

#[tokio::test]
async fn reloads_and_changes_of_who_is_let_in_close_sockets_so_that_clients_come_again() {
    let stage = Stage::new().await;
    let server = &stage.server;
    for (method, path, tenant, status) in [
        ("POST", "/api/tenants/realtime-dev/reload", None, 204),
        ("POST", "/api/tenants/realtime-dev/shutdown", None, 204),
        ("PATCH", TENANT, Some(json!({"private_only": true})), 200),
        ("PATCH", TENANT, Some(json!({"private_only": false, "suspend": false})), 200),
        ("PATCH", TENANT, Some(json!({"suspend": true})), 200),
    ] {
        // A private-only server lets in, and refuses the join.
        let mut socket = Socket::open(&server.websocket_url("2.0.0", &anon())).await;
        socket.join_raw("realtime:room", &json!({"config": {}})).await;
        socket.heartbeat().await;
        assert_eq!(ask(server, method, path, tenant.clone()).await.status, status, "{method} {path}");
        assert_eq!(socket.closed().await, 1012, "{method} {path} {tenant:?}");
        let told = socket.take(|message| message.event == "system");
        let is_joined = tenant.is_none_or(|tenant| tenant["private_only"] != false);
        let texts = told.map(|message| message.payload.at("message").as_str().unwrap().to_owned());
        assert_eq!(texts.as_deref(), is_joined.then_some("Server requested disconnect"), "{method} {path}");
    }
    let refused = Socket::connect(&server.websocket_url("2.0.0", &anon()), &[]).await.err().expect("suspended");
    assert_eq!(refused.status, 403);

    ask(server, "PATCH", TENANT, Some(json!({"suspend": false}))).await;
    let mut socket = stage.member("2.0.0", "room").await;
    ask(server, "PATCH", TENANT, Some(json!({"suspend": false, "max_joins_per_second": 1000}))).await;
    socket.heartbeat().await;
    assert!(socket.take(|message| message.event == "system").is_none(), "a limit is no reason to go");
}
