//! Checks 1 to 14 and 138: who gets a socket, how he is refused, and the two plain HTTP answers. Protocol reference,
//! sections 1 and 12.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Check, Door, In};
use crate::support::json::Json;
use crate::support::socket::{Refused, Socket, Vsn};
use crate::wire::fixture;

pub(super) const CHECKS: &[Check] = &[
    Check {
        number: 1,
        says: "a valid key is upgraded at /socket/websocket",
        encodings: In::Both,
        run: |door| Box::pin(upgraded_at(door, "/socket/websocket")),
    },
    Check {
        number: 2,
        says: "the same at /realtime/v1/websocket",
        encodings: In::Both,
        run: |door| Box::pin(upgraded_at(door, "/realtime/v1/websocket")),
    },
    Check {
        number: 3,
        says: "without vsn the socket speaks V1",
        encodings: In::V1,
        run: |door| Box::pin(no_vsn(door)),
    },
    Check { number: 4, says: "an unknown vsn is refused", encodings: In::V1, run: |door| Box::pin(bad_vsn(door)) },
    Check {
        number: 5,
        says: "no key at all is refused",
        encodings: In::Both,
        run: |door| Box::pin(refused_without_key(door)),
    },
    Check {
        number: 6,
        says: "an expired key is refused",
        encodings: In::Both,
        run: |door| Box::pin(refused_with(door, "expired", "Token has expired")),
    },
    Check {
        number: 7,
        says: "a key without role or exp is refused",
        encodings: In::Both,
        run: |door| {
            Box::pin(async move {
                refused_with(door.clone(), "norole", "Fields `role` and `exp` are required in JWT").await;
                refused_with(door, "noexp", "Fields `role` and `exp` are required in JWT").await;
            })
        },
    },
    Check {
        number: 8,
        says: "garbage and foreign keys are refused",
        encodings: In::Both,
        run: |d| Box::pin(garbage(d)),
    },
    Check { number: 9, says: "the header wins over the query", encodings: In::Both, run: |d| Box::pin(header_wins(d)) },
    Check { number: 10, says: "any Host is served", encodings: In::Both, run: |door| Box::pin(any_host(door)) },
    Check { number: 11, says: "unknown parameters are ignored", encodings: In::Both, run: |d| Box::pin(unknown(d)) },
    Check { number: 14, says: "a frame of 6 MB closes with 1009", encodings: In::Both, run: |d| Box::pin(too_big(d)) },
    Check {
        number: 138,
        says: "healthcheck and ping answer GET and HEAD",
        encodings: In::V1,
        run: |d| Box::pin(health(d)),
    },
    Check { number: 209, says: "a configured opaque key is a key", encodings: In::Both, run: |d| Box::pin(opaque(d)) },
    Check { number: 220, says: "/health tells the state as JSON", encodings: In::V1, run: |d| Box::pin(state(d)) },
];

pub(super) const IDLE: &[Check] = &[Check {
    number: 13,
    says: "a silent client is closed with 1000, one that heartbeats stays",
    encodings: In::Both,
    run: |door| Box::pin(idle(door)),
}];

async fn upgraded_at(door: Door, path: &str) {
    let url = door.url(&format!("{path}?apikey={}&vsn={}", fixture::token("anon"), door.vsn.parameter()));
    Socket::open(&url).await.heartbeat().await;
}

async fn no_vsn(door: Door) {
    let url = door.url(&format!("/socket/websocket?apikey={}", fixture::token("anon")));
    let mut socket = Socket::open(&url).await;
    assert_eq!(socket.vsn(), Vsn::V1);
    socket.heartbeat().await;
}

async fn bad_vsn(door: Door) {
    for vsn in ["3.0.0", "abc", "1.5.0", "", "2"] {
        let url = door.url(&format!("/socket/websocket?apikey={}&vsn={vsn}", fixture::token("anon")));
        let refused = refused(&url, &[]).await;
        assert_eq!((refused.status, refused.body.as_str()), (403, ""), "vsn={vsn}");
    }
}

async fn refused_without_key(door: Door) {
    let url = door.url(&format!("/socket/websocket?vsn={}", door.vsn.parameter()));
    said(&refused(&url, &[]).await, "API key is missing");
}

async fn refused_with(door: Door, token: &str, text: &str) {
    let url = door.server.websocket_url(door.vsn.parameter(), &fixture::token(token));
    said(&refused(&url, &[]).await, text);
}

async fn garbage(door: Door) {
    let url = door.server.websocket_url(door.vsn.parameter(), "garbage");
    said(&refused(&url, &[]).await, "The token provided is not a valid JWT");
    refused_with(door, "badsig", "Failed to validate JWT signature").await;
}

async fn header_wins(door: Door) {
    let url = door.server.websocket_url(door.vsn.parameter(), "garbage");
    let anon = fixture::token("anon");
    let mut socket = Socket::connect(&url, &[("x-api-key", &anon)]).await.expect("the header is valid");
    socket.heartbeat().await;
    let url = door.server.websocket_url(door.vsn.parameter(), &anon);
    said(&refused(&url, &[("x-api-key", "garbage")]).await, "The token provided is not a valid JWT");
}

async fn any_host(door: Door) {
    let url = door.server.websocket_url(door.vsn.parameter(), &fixture::token("anon"));
    for host in ["no-such-tenant.example.com", "localhost", "127.0.0.1:1"] {
        let mut socket = Socket::connect(&url, &[("Host", host)]).await.expect("the Host plays no part");
        socket.heartbeat().await;
    }
}

async fn unknown(door: Door) {
    let url = door.server.websocket_url(door.vsn.parameter(), &fixture::token("anon"));
    Socket::open(&format!("{url}&log_level=debug&eventsPerSecond=10&token=x&a=%20b")).await.heartbeat().await;
}

async fn too_big(door: Door) {
    let mut socket = door.anon().await;
    let frame = format!(r#"["1","1","realtime:big","phx_join",{{"x":"{}"}}]"#, "x".repeat(6_000_000));
    socket.send_text(&frame).await;
    assert_eq!(socket.closed().await, 1009);
}

async fn opaque(door: Door) {
    door.socket("sb_publishable_x").await.heartbeat().await;
    let url = door.server.websocket_url(door.vsn.parameter(), "sb_publishable_unknown");
    assert_eq!(refused(&url, &[]).await.status, 401);
}

async fn idle(door: Door) {
    let mut silent = door.anon().await;
    let mut lively = door.anon().await;
    let beat = async {
        let mut timer = tokio::time::interval(std::time::Duration::from_millis(400));
        loop {
            timer.tick().await;
            lively.heartbeat().await;
        }
    };
    let code = tokio::select! { code = silent.closed() => code, () = beat => unreachable!("heartbeats do not end") };
    assert_eq!(code, 1000);
    // As long again, and the other is still there.
    let mut silent = door.anon().await;
    let beat = async {
        let mut timer = tokio::time::interval(std::time::Duration::from_millis(400));
        loop {
            timer.tick().await;
            lively.heartbeat().await;
        }
    };
    tokio::select! { _ = silent.closed() => {}, () = beat => unreachable!("heartbeats do not end") }
    lively.heartbeat().await;
}

async fn health(door: Door) {
    let (status, body) = http(&door, "GET", "/healthcheck").await;
    assert_eq!((status, body.as_str()), (200, "ok"));
    let (status, body) = http(&door, "GET", "/api/ping").await;
    assert_eq!(status, 200);
    assert_eq!(Json::parse(&body).expect("ping answers JSON"), json!({"message": "Success"}));
    for path in ["/healthcheck", "/api/ping"] {
        assert_eq!(http(&door, "HEAD", path).await, (200, String::new()), "HEAD {path}");
    }
}

async fn state(door: Door) {
    // The server listens before the stream has begun, and says so until it has.
    let limit = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    let body = loop {
        let (status, body) = http(&door, "GET", "/health").await;
        if status == 200 {
            break body;
        }
        assert_eq!(status, 503, "{body}");
        assert!(tokio::time::Instant::now() < limit, "the stream does not begin: {body}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    let state = Json::parse(&body).expect("the state is JSON");
    assert!(!state.keys().is_empty(), "{body}");
    assert!(!body.contains("postgres://") && !body.contains("walcast:"), "no connection string is told: {body}");
    assert_eq!(http(&door, "HEAD", "/health").await, (200, String::new()));
}

/// One plain request on its own connection.
async fn http(door: &Door, method: &str, path: &str) -> (u16, String) {
    let url = door.url(path);
    let (authority, _) = url.strip_prefix("ws://").and_then(|rest| rest.split_once('/')).expect("a path");
    let mut stream = TcpStream::connect(authority).await.expect("the server listens");
    let request = format!("{method} {path} HTTP/1.1\r\nHost: realtime-dev\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("the request is taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer of text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status"), body.to_owned())
}

async fn refused(url: &str, headers: &[(&str, &str)]) -> Refused {
    match Socket::connect(url, headers).await {
        Ok(_) => panic!("the upgrade of {url} was granted"),
        Err(refused) => refused,
    }
}

fn said(refused: &Refused, text: &str) {
    assert_eq!(refused.status, 401, "{refused:?}");
    let body = Json::parse(&refused.body).unwrap_or_else(|_| panic!("the body is JSON: {refused:?}"));
    assert_eq!(body, json!({"error": text}));
}
