//! Health checks as existing deployments make them: check 138, and `/health` with the rooms.

use super::client::{Request, Stage};
use crate::{
    line::setup::wait_for_stream,
    support::token::{anon, in_seconds, sign},
};
use serde_json::json;

#[tokio::test]
async fn check_138_health_checks_are_answered_by_get_and_by_head() {
    let stage = Stage::new().await;
    let server = &stage.server;
    wait_for_stream(server).await;
    let health = "/api/tenants/realtime-dev/health";
    for (path, text) in [("/healthcheck", "ok"), ("/api/ping", r#"{"message":"Success"}"#)] {
        assert_eq!(Request::new("GET", path).send(server).await.outcome(), (200, text));
    }
    for path in ["/healthcheck", "/api/ping", "/", "/status", "/health", health] {
        let head = Request::new("HEAD", path).bearer(&anon()).header("host", "realtime-dev").send(server).await;
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
    }
    for path in ["/", "/status"] {
        assert!(Request::new("GET", path).send(server).await.text().contains("Walcast"));
    }

    let answer = Request::new("GET", health).bearer(&anon()).send(server).await.json();
    let data = &answer["data"];
    assert_eq!(
        (&data["healthy"], &data["db_connected"], &data["replication_connected"]),
        (&json!(true), &json!(true), &json!(true))
    );
    assert_eq!(data["connected_cluster"], 0);
    let expired = sign(json!({"role": "anon", "exp": in_seconds(-5)}));
    for request in [Request::new("HEAD", health), Request::new("GET", health).bearer(&expired)] {
        assert_eq!(request.send(server).await.outcome(), (403, ""));
    }
    let other = Request::new("GET", "/api/tenants/other/health").bearer(&anon()).send(server).await;
    assert_eq!(other.outcome(), (404, r#"{"message":"not found"}"#));
}

#[tokio::test]
async fn health_counts_rooms_and_their_members() {
    let stage = Stage::new().await;
    wait_for_stream(&stage.server).await;
    let _members =
        [stage.member("2.0.0", "one").await, stage.member("1.0.0", "one").await, stage.member("2.0.0", "two").await];
    let health = Request::new("GET", "/health").send(&stage.server).await.json();
    assert_eq!((&health["rooms"], &health["members"], &health["presences"]), (&json!(2), &json!(3), &json!(0)));
    assert_eq!(health["connections"], 3);
    assert_eq!(health["refused"], json!({}));
}
