//! Rates, which are off until somebody sets them: check 136, as far as HTTP goes.

use super::client::{Answer, Request, Stage, assert_silent};
use crate::support::{
    server::Server,
    token::{anon, in_seconds, sign},
};
use futures_util::future::join_all;
use serde_json::json;

async fn batch(server: &Server, count: usize) -> Answer {
    let message = json!({"topic": "room", "event": "e", "payload": {}});
    let body = json!({"messages": vec![message; count]});
    Request::new("POST", "/api/broadcast").bearer(&anon()).json(&body).send(server).await
}

async fn single(server: &Server) -> Answer {
    Request::new("POST", "/api/broadcast/room/events/e").bearer(&anon()).json(&json!({})).send(server).await
}

async fn set(server: &Server, limit: Option<u32>) {
    let admin = sign(json!({"exp": in_seconds(60)}));
    let body = json!({"tenant": {"max_events_per_second": limit}});
    let answer = Request::new("PUT", "/api/tenants/realtime-dev").bearer(&admin).json(&body).send(server).await;
    assert_eq!((answer.status, &answer.json()["data"]["max_events_per_second"]), (200, &json!(limit)));
}

#[tokio::test]
async fn check_136_a_rate_that_is_reached_is_answered_with_429_until_it_is_lifted() {
    let stage = Stage::with(&[("TENANT_MAX_EVENTS_PER_SECOND", "1")]).await;
    let server = &stage.server;
    let large = batch(server, 2).await;
    let text = r#"{"message":"Too many messages to broadcast, please reduce the batch size"}"#;
    assert_eq!(large.outcome(), (429, text));

    let first = batch(server, 1).await;
    assert_eq!(first.outcome(), (202, ""));
    let rates = |answer: &Answer| {
        ["x-rate-rolling", "x-rate-limit", "x-rate-limit-remaining"]
            .map(|name| answer.header(name).map(|value| value.parse::<u32>().expect("a number")))
    };
    assert_eq!(rates(&first), [Some(0), Some(1), Some(1)]);
    for answer in join_all((0..59).map(|_| single(server))).await {
        assert_eq!(answer.status, 202);
    }

    let mut member = stage.member("2.0.0", "room").await;
    let exceeded = (429, r#"{"message":"You have exceeded your rate limit"}"#);
    for answer in [single(server).await, batch(server, 1).await] {
        assert_eq!(answer.outcome(), exceeded);
        assert_eq!(rates(&answer), [Some(1), Some(1), Some(0)]);
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    }
    let logged = server.log().into_iter().filter(|line| line.contains("max_events_per_second")).count();
    assert!(logged > 0, "the log names the setting");
    assert_silent(&mut member).await;

    set(server, None).await;
    let lifted = batch(server, 1000).await;
    assert_eq!((lifted.status, rates(&lifted)), (202, [None; 3]));
}

#[tokio::test]
async fn nobody_loses_a_message_by_a_rate_he_did_not_set() {
    let stage = Stage::new().await;
    for answer in join_all((0..50).map(|_| batch(&stage.server, 1000))).await {
        assert_eq!(answer.outcome(), (202, ""));
    }
    set(&stage.server, Some(1_000_000)).await;
    assert_eq!(batch(&stage.server, 1000).await.status, 202);
}
