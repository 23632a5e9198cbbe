//! Checks 49 and 50: what a server says of itself. Protocol reference, sections 1.7 and 3.10.

use std::process::Command;

use serde_json::json;

use super::room::{diff, listening, member, present, track};
use super::{Check, Door};
use crate::support::socket::Vsn;

pub(super) const CHECKS: &[Check] =
    &[Check::both(49, "who asks for it is told that broadcasts of the database come", |d| Box::pin(ready(d)))];

/// Ends the server, so it is the last of its group.
pub(super) const DRAIN: &[Check] =
    &[Check::v2(50, "a server that ends says so on every channel, and closes with 1012", |d| Box::pin(drain(d)))];

async fn ready(door: Door) {
    let mut socket = door.anon().await;
    let payload = json!({"config": {"broadcast": {"replication_ready": true}}});
    let (channel, _) = socket.join("realtime:ready", &payload).await;
    let system = socket.expect("the system message", |m| m.is(&channel.topic, "system")).await;
    let said = json!({
        "extension": "system", "status": "ok", "message": "Replication connection established", "channel": "ready",
    });
    assert_eq!(system.payload, said, "{}", system.text);
    let (_, _) = socket.join("realtime:not asked", &listening()).await;
    super::room::hears_nothing(&mut socket, "it did not ask").await;
}

async fn drain(door: Door) {
    let (mut old, present_there) = member(&door.of(Vsn::V1), "realtime:one", &present(&json!("k"))).await;
    let (mut new, _) = member(&door.of(Vsn::V2), "realtime:one", &listening()).await;
    new.join("realtime:two", &listening()).await;
    track(&mut old, &present_there, &json!({})).await;
    diff(&mut new, "realtime:one").await;
    let sent = Command::new("kill").args(["-TERM", &door.server.pid().to_string()]).status();
    assert!(sent.expect("kill is a program").success());
    for (socket, topics) in [(&mut old, &["realtime:one"][..]), (&mut new, &["realtime:one", "realtime:two"])] {
        assert_eq!(socket.closed().await, 1012);
        for topic in topics {
            let told = socket.take(|m| m.is(topic, "system")).unwrap_or_else(|| panic!("{topic} was not told"));
            let said = json!({
                "extension": "system", "status": "ok", "message": "Server requested disconnect",
                "channel": topic.trim_start_matches("realtime:"),
            });
            assert_eq!(told.payload, said, "{}", told.text);
        }
        assert!(socket.take(|m| m.event == "phx_close").is_none(), "clients do not come back from phx_close");
    }
}
