//! Requests as they stand on the wire, and members of rooms to hear what comes of them.

use crate::{
    line::setup,
    support::{
        json::Json,
        postgres::{Database, Postgres},
        server::Server,
        socket::{Heard, PATIENCE, Socket},
        token::anon,
    },
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

/// What signs tokens for `/metrics` on the servers under test.
pub const METRICS_SECRET: &str = "another-secret-for-metrics-of-32-characters";

/// A server and what belongs to it. The database has no tables of its own.
pub struct Stage {
    pub server: Server,
    pub database: Database,
}

impl Stage {
    pub async fn new() -> Stage {
        Stage::with(&[]).await
    }

    /// The same with more in its environment.
    pub async fn with(extra: &[(&str, &str)]) -> Stage {
        Stage::on(setup::database(Postgres::default(), "").await, extra).await
    }

    /// The same with a database of its own.
    pub async fn on(database: Database, extra: &[(&str, &str)]) -> Stage {
        let mut environment = vec![("METRICS_JWT_SECRET", METRICS_SECRET)];
        environment.extend(extra);
        let server = Server::start(&database, &environment).await;
        Stage { server, database }
    }

    /// A member of a public room.
    pub async fn member(&self, vsn: &str, topic: &str) -> Socket {
        let mut socket = Socket::open(&self.server.websocket_url(vsn, &anon())).await;
        socket.join(&format!("realtime:{topic}"), &json!({"config": {"private": false}})).await;
        socket
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body of text")
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(self.text()).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Status and text of the body.
    pub fn outcome(&self) -> (u16, &str) {
        (self.status, self.text())
    }
}

/// A request, which ends its connection.
pub struct Request<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub headers: Vec<(&'a str, String)>,
    pub body: Vec<u8>,
}

impl<'a> Request<'a> {
    pub fn new(method: &'a str, path: &'a str) -> Request<'a> {
        Request { method, path, headers: Vec::new(), body: Vec::new() }
    }

    pub fn header(mut self, name: &'a str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    pub fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json").body(body.to_string())
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub async fn send(self, server: &Server) -> Answer {
        let mut stream = TcpStream::connect(server.address()).await.expect("the server listens");
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head += &format!("Host: {}\r\n", server.address());
        }
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("Content-Length: {}\r\nConnection: close\r\n\r\n", self.body.len());
        stream.write_all(head.as_bytes()).await.expect("the head is read");
        // A server that refuses what it has not read yet may close before all is sent.
        let _ = stream.write_all(&self.body).await;
        let mut bytes = Vec::new();
        let read = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("an answer in time");
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no head ({read:?}): {:?}", String::from_utf8_lossy(&bytes)));
        let head = std::str::from_utf8(&bytes[..end]).expect("a head of text");
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status line");
        let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
        Answer { status, headers: lines.filter_map(header).collect(), body: bytes[end + 4..].to_vec() }
    }
}

/// The payload of the next broadcast, of a text frame.
pub async fn next_text(socket: &mut Socket) -> Json {
    let message = socket.expect("a broadcast", |message| message.event == "broadcast").await;
    assert!(message.binary.is_none(), "a binary frame: {}", message.text);
    message.payload
}

/// The next broadcast, which has to be of a binary frame: topic, event, encoding and payload.
pub async fn next_binary(socket: &mut Socket) -> (String, String, u8, Vec<u8>) {
    let message = socket.expect("a broadcast", |message| message.event == "broadcast").await;
    let frame = message.binary.unwrap_or_else(|| panic!("a text frame: {}", message.text));
    assert_eq!(frame.metadata, "");
    (frame.topic, frame.event, frame.encoding, frame.payload)
}

/// Nothing has come, though whatever was sent before would have.
pub async fn assert_silent(socket: &mut Socket) {
    socket.heartbeat().await;
    let heard = socket.drain();
    assert!(heard.is_empty(), "{heard:?}");
    assert!(matches!(socket.read(Instant::now() + Duration::from_millis(20)).await, Heard::Silence));
}
