//! `walcast serve` in an environment of its own, and what the tests of its life ask it.

use super::{Running, SOON, walcast};
use crate::support::{socket::Socket, wait};
use serde_json::Value;
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A server that listens.
pub(super) struct Serving {
    pub(super) running: Running,
    pub(super) address: String,
}

impl Serving {
    /// Starts one with nothing but these variables, and waits until it listens.
    pub(super) async fn start(environment: &[(&str, &str)]) -> Serving {
        let mut running = begin(environment);
        let start = Instant::now();
        loop {
            if let Some(fields) = record(&running, "listening") {
                return Serving { running, address: text(&fields, "address") };
            }
            let has_ended = running.child.try_wait().unwrap().is_some();
            assert!(!has_ended && start.elapsed() < SOON * 2, "it does not listen: {:?}", running.stderr.lines());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The fields of the last record of the log with this message.
    pub(super) fn record(&self, message: &str) -> Option<Value> {
        record(&self.running, message)
    }

    /// Waits for such a record.
    pub(super) async fn wait_for(&self, message: &str) -> Value {
        wait::until(SOON, async || self.record(message).is_some()).await;
        self.record(message).unwrap()
    }

    pub(super) fn websocket_url(&self, token: &str) -> String {
        format!("ws://{}/realtime/v1/websocket?apikey={token}&vsn=2.0.0", self.address)
    }

    pub(super) async fn socket(&self, token: &str) -> Socket {
        Socket::open(&self.websocket_url(token)).await
    }

    /// The status of a request, and its whole answer; 0 when there is none.
    pub(super) async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).await.expect("the server listens");
        let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let host = if headers.iter().any(|(name, _)| *name == "Host") { "" } else { "Host: localhost\r\n" };
        let request = format!("{method} {path} HTTP/1.1\r\n{host}{lines}Connection: close\r\n\r\n");
        // A server that refuses early closes before it has read all.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        (status, answer)
    }

    /// Ends it, and expects that it ends well.
    pub(super) async fn stop(mut self) {
        self.running.signal("TERM");
        let status = self.running.ended().await;
        assert!(status.success(), "{status}: {:?}", self.running.stderr.lines());
    }
}

/// Starts one that may not come to listen.
pub(super) fn begin(environment: &[(&str, &str)]) -> Running {
    let always = [("HOST", "127.0.0.1"), ("PORT", "0"), ("WALCAST_LOG_FORMAT", "json")];
    Running::start(walcast(&["serve"], &[&always, environment].concat()))
}

/// The fields of the last record of a log with this message.
pub(super) fn record(running: &Running, message: &str) -> Option<Value> {
    running.stderr.lines().iter().rev().find_map(|line| {
        let record: Value = serde_json::from_str(line).ok()?;
        let fields = record.get("fields").unwrap_or(&record);
        (fields.get("message")? == message).then(|| fields.clone())
    })
}

/// A field of a record.
pub(super) fn text(fields: &Value, name: &str) -> String {
    match &fields[name] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
