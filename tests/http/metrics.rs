//! `/metrics`: who may read it (check 139), and that every line is what the format says.

use super::client::{METRICS_SECRET, Request, Stage};
use crate::{
    line::setup::wait_for_stream,
    support::token::{anon, in_seconds, service},
};
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;
use std::collections::HashMap;

fn scraper(secret: &str) -> String {
    encode(&Header::default(), &json!({"exp": in_seconds(60)}), &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

#[tokio::test]
async fn check_139_only_a_bearer_signed_for_metrics_reads_them() {
    let stage = Stage::new().await;
    for path in ["/metrics", "/metrics/us-east-1"] {
        for token in [anon(), service(), scraper("another"), scraper(""), String::new()] {
            let answer = Request::new("GET", path).bearer(&token).send(&stage.server).await;
            assert_eq!(answer.outcome(), (403, ""), "{token}");
        }
        assert_eq!(Request::new("GET", path).send(&stage.server).await.outcome(), (403, ""));
        let answer = Request::new("GET", path).bearer(&scraper(METRICS_SECRET)).send(&stage.server).await;
        assert_eq!(answer.status, 200);
    }
    let closed = Stage::with(&[("METRICS_JWT_SECRET", "")]).await;
    for secret in ["", METRICS_SECRET] {
        let answer = Request::new("GET", "/metrics").bearer(&scraper(secret)).send(&closed.server).await;
        assert_eq!(answer.outcome(), (403, ""), "without a secret nobody may");
    }
}

#[tokio::test]
async fn every_line_is_a_comment_of_the_format_or_a_sample_of_its_type() {
    let stage = Stage::new().await;
    wait_for_stream(&stage.server).await;
    let _member = stage.member("2.0.0", "room").await;
    let large = json!({"messages": [{"topic": "room", "event": "e", "payload": {"x": "a".repeat(3_000_500)}}]});
    assert_eq!(
        Request::new("POST", "/api/broadcast").bearer(&anon()).json(&large).send(&stage.server).await.status,
        422
    );
    for number in 0..3 {
        let body = json!({"messages": [{"topic": "room", "event": "e", "payload": {"n": number}}]});
        assert_eq!(
            Request::new("POST", "/api/broadcast").bearer(&anon()).json(&body).send(&stage.server).await.status,
            202
        );
    }

    let answer = Request::new("GET", "/metrics").bearer(&scraper(METRICS_SECRET)).send(&stage.server).await;
    assert!(answer.header("content-type").is_some_and(|kind| kind.starts_with("application/openmetrics-text")));
    let samples = samples(answer.text());
    for (name, value) in [
        ("walcast_broadcasts_total", 3),
        ("walcast_broadcast_deliveries_total", 3),
        ("walcast_refused_total{limit=\"max_payload_size_in_kb\"}", 1),
        ("walcast_connections", 1),
        ("walcast_channels", 1),
        ("walcast_rooms", 1),
        ("walcast_presences", 0),
        ("walcast_subscriptions", 0),
        ("walcast_streaming", 1),
        ("walcast_rights_asked_total", 0),
        ("walcast_lane_questions_total", 0),
    ] {
        assert_eq!(samples.get(name), Some(&value), "{name} of {samples:#?}");
    }
    for name in [
        "walcast_slot_lag_bytes",
        "walcast_lag_bytes",
        "walcast_standby",
        "walcast_catalogue_age_seconds",
        "walcast_changes_total",
    ] {
        assert!(samples.contains_key(name), "{name}");
    }
}

/// The samples, each under a family that was described before it, and named as its type demands.
fn samples(text: &str) -> HashMap<String, i64> {
    let (body, end) = text.rsplit_once("# EOF\n").expect("an end");
    assert_eq!(end, "");
    let (mut described, mut types, mut samples) = (None, HashMap::new(), HashMap::new());
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a meaning");
            assert!(name.starts_with("walcast_") && help.ends_with('.') && !help.ends_with(".."), "{line}");
            described = Some(name.to_owned());
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert_eq!(described.as_deref(), Some(name), "{line}");
            assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "described twice: {line}");
        } else {
            let (name, value) = line.rsplit_once(' ').expect("a value");
            let bare = name.split('{').next().unwrap();
            let family = described.as_deref().expect("a family");
            match types[family].as_str() {
                "counter" => assert_eq!(bare, format!("{family}_total")),
                "gauge" => assert_eq!(bare, family),
                other => panic!("{other}: {line}"),
            }
            let value: i64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
            assert!(value >= 0 && samples.insert(name.to_owned(), value).is_none(), "{line}");
        }
    }
    samples
}
