//! A WebSocket client that says and hears single frames, in both encodings of the Phoenix door (`vsn` 1.0.0 and 2.0.0).
//! The handshake is written by hand: a refused upgrade then shows its whole body, and any header can be sent.
//! It keeps what it has heard until somebody asks for it, so the order of the questions does not matter.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Message as WsMessage, Role};

use super::frames::UserBroadcast;
use super::json::Json;

/// How long an answer may take before a test gives up on it. Generous: a machine may have much else to do, and a timeout
/// is a failure anyway. Less than the silence after which a server closes.
pub const PATIENCE: Duration = Duration::from_secs(50);

/// The encoding of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vsn {
    V1,
    V2,
}

impl Vsn {
    /// The value of the query parameter `vsn`.
    pub fn parameter(self) -> &'static str {
        match self {
            Self::V1 => "1.0.0",
            Self::V2 => "2.0.0",
        }
    }
}

/// An upgrade that the server did not grant.
#[derive(Debug)]
pub struct Refused {
    pub status: u16,
    pub content_type: Option<String>,
    pub body: String,
}

/// One message of the server, whatever its encoding. V1 has no `join_ref`: it is `Null` there.
#[derive(Clone, Debug)]
pub struct Message {
    pub join_ref: Json,
    pub reference: Json,
    pub topic: Json,
    pub event: Json,
    pub payload: Json,
    /// The frame as it came; of a binary one, what is in it.
    pub text: String,
    /// The parts of a binary broadcast. `payload` is then what its text form would have.
    pub binary: Option<UserBroadcast>,
}

impl Message {
    /// Reads a text frame; panics with the frame when it is not a message of this encoding.
    pub fn parse(text: &str, vsn: Vsn) -> Self {
        let json = Json::parse(text).unwrap_or_else(|error| panic!("frame is not JSON ({error}): {text}"));
        let text = text.to_owned();
        match vsn {
            Vsn::V1 => {
                assert_eq!(json.keys(), ["event", "payload", "ref", "topic"], "keys of a V1 frame (check 17): {text}");
                let at = |key| json.at(key).clone();
                let (reference, topic, event, payload) = (at("ref"), at("topic"), at("event"), at("payload"));
                Self { join_ref: Json::Null, reference, topic, event, payload, text, binary: None }
            }
            Vsn::V2 => {
                assert_eq!(json.elements().len(), 5, "a V2 frame has five elements: {text}");
                let at = |index| json.nth(index).clone();
                let (join_ref, reference, topic, event, payload) = (at(0), at(1), at(2), at(3), at(4));
                Self { join_ref, reference, topic, event, payload, text, binary: None }
            }
        }
    }

    /// Reads a binary frame; none when no client could.
    pub fn read_binary(frame: &[u8]) -> Option<Self> {
        let binary = UserBroadcast::read(frame)?;
        Some(Self {
            join_ref: Json::Null,
            reference: Json::Null,
            topic: Json::String(binary.topic.clone()),
            event: Json::String("broadcast".to_owned()),
            payload: binary.as_text_form(),
            text: format!("{binary:?} = {:?}", String::from_utf8_lossy(&binary.payload)),
            binary: Some(binary),
        })
    }

    /// Whether it is this event on this topic.
    pub fn is(&self, topic: &str, event: &str) -> bool {
        self.topic == topic && self.event == event
    }
}

/// What a socket has heard next.
#[derive(Debug)]
pub enum Heard {
    Message(Box<Message>),
    /// A binary frame that no client of this version reads (check 29).
    Binary(Vec<u8>),
    /// The close code, or 1006 when the connection just ended.
    Closed(u16),
    /// Nothing within the limit.
    Silence,
}

/// A connected client.
pub struct Socket {
    stream: WebSocketStream<TcpStream>,
    vsn: Vsn,
    unread: VecDeque<Message>,
    closed: Option<u16>,
    last_ref: u64,
}

impl Socket {
    /// Connects; panics when the server refuses.
    pub async fn open(url: &str) -> Self {
        Self::connect(url, &[]).await.unwrap_or_else(|refused| panic!("upgrade of {url} refused: {refused:?}"))
    }

    /// Connects with extra headers (a `Host` replaces the usual one).
    pub async fn connect(url: &str, headers: &[(&str, &str)]) -> Result<Self, Refused> {
        Self::try_connect(url, headers).await.unwrap_or_else(|error| panic!("no answer from {url}: {error}"))
    }

    /// The same, when there may be no server, or one that ends.
    pub async fn try_connect(url: &str, headers: &[(&str, &str)]) -> io::Result<Result<Self, Refused>> {
        let stream = TcpStream::connect(authority(url).0).await?;
        Self::over(stream, url, headers).await
    }

    /// Connects with as small a receive buffer as the system grants: what is not read soon waits in the server.
    pub async fn open_narrow(url: &str) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a socket whose buffer can be small");
        let address = authority(url).0.parse().expect("the server listens on an address");
        let stream = socket.connect(address).await.expect("the server listens");
        let upgraded =
            Self::over(stream, url, &[]).await.unwrap_or_else(|error| panic!("no answer from {url}: {error}"));
        upgraded.unwrap_or_else(|refused| panic!("upgrade of {url} refused: {refused:?}"))
    }

    async fn over(mut stream: TcpStream, url: &str, headers: &[(&str, &str)]) -> io::Result<Result<Self, Refused>> {
        let (authority, target) = authority(url);
        let mut request = format!("GET /{target} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            request += &format!("Host: {authority}\r\n");
        }
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        request += "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
        request += "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream.write_all(request.as_bytes()).await?;

        let answer = tokio::time::timeout(PATIENCE, read_answer(&mut stream)).await.expect("the server answers")?;
        if answer.refused.status != 101 {
            return Ok(Err(answer.refused));
        }
        let stream = WebSocketStream::from_partially_read(stream, answer.rest, Role::Client, None).await;
        let vsn = if url.contains("vsn=2.") { Vsn::V2 } else { Vsn::V1 };
        Ok(Ok(Self { stream, vsn, unread: VecDeque::new(), closed: None, last_ref: 0 }))
    }

    pub fn vsn(&self) -> Vsn {
        self.vsn
    }

    /// A ref that this socket has not used yet.
    pub fn fresh_ref(&mut self) -> String {
        self.last_ref += 1;
        self.last_ref.to_string()
    }

    pub async fn send_text(&mut self, text: &str) {
        self.send(WsMessage::text(text)).await;
    }

    pub async fn send_binary(&mut self, bytes: &[u8]) {
        self.send(WsMessage::binary(bytes.to_vec())).await;
    }

    async fn send(&mut self, message: WsMessage) {
        // A server that has closed is found out by the next read, which knows the code; the send would not.
        let _ = self.stream.send(message).await;
    }

    /// Sends one message in the socket's encoding.
    pub async fn push(&mut self, join_ref: &Value, reference: &Value, topic: &str, event: &str, payload: &Value) {
        let text = match self.vsn {
            Vsn::V1 => {
                json!({"topic": topic, "event": event, "payload": payload, "ref": reference, "join_ref": join_ref})
            }
            Vsn::V2 => json!([join_ref, reference, topic, event, payload]),
        };
        self.send_text(&text.to_string()).await;
    }

    /// Joins and returns the channel, with the reply as it came. The reply may be an error.
    pub async fn join_raw(&mut self, topic: &str, payload: &Value) -> (Channel, Json) {
        let reference = self.fresh_ref();
        let reference_json = Value::from(reference.as_str());
        self.push(&reference_json, &reference_json, topic, "phx_join", payload).await;
        let reply = self.reply(topic, &reference).await;
        (Channel { topic: topic.to_owned(), join_ref: reference }, reply)
    }

    /// Joins, expects ok, returns the channel and the response.
    pub async fn join(&mut self, topic: &str, payload: &Value) -> (Channel, Json) {
        let (channel, reply) = self.join_raw(topic, payload).await;
        assert_eq!(*reply.at("status"), "ok", "join of {topic} with {payload} was refused: {reply}");
        (channel, reply.at("response").clone())
    }

    /// Joins with these bindings and waits until they are active; returns the ids in order.
    pub async fn subscribe(&mut self, topic: &str, bindings: &Value) -> (Channel, Vec<i64>) {
        self.subscribe_as(topic, bindings, None).await
    }

    /// The same with an access token of its own.
    pub async fn subscribe_as(&mut self, topic: &str, bindings: &Value, token: Option<&str>) -> (Channel, Vec<i64>) {
        let mut payload = json!({"config": {"postgres_changes": bindings}});
        if let Some(token) = token {
            payload["access_token"] = token.into();
        }
        let (channel, response) = self.join(topic, &payload).await;
        let system = self.expect("the system message", |m| m.is(topic, "system")).await;
        assert_eq!(*system.payload.at("message"), "Subscribed to PostgreSQL", "{}", system.text);
        let ids = response.at("postgres_changes").elements().iter();
        (channel, ids.map(|entry| entry.at("id").as_i64().expect("an integer id")).collect())
    }

    /// The payload of the reply to a push.
    pub async fn reply(&mut self, topic: &str, reference: &str) -> Json {
        let what = format!("the reply to ref {reference} on {topic}");
        self.expect(&what, |m| m.is(topic, "phx_reply") && m.reference == *reference).await.payload
    }

    /// Pushes on a channel and returns the ref it used.
    pub async fn push_on(&mut self, channel: &Channel, event: &str, payload: &Value) -> String {
        let reference = self.fresh_ref();
        let join_ref = Value::from(channel.join_ref.as_str());
        self.push(&join_ref, &Value::from(reference.as_str()), &channel.topic, event, payload).await;
        reference
    }

    /// The next change on a topic, as its payload (`ids` and `data`).
    pub async fn change(&mut self, topic: &str) -> Json {
        self.expect(&format!("a change on {topic}"), |m| m.is(topic, "postgres_changes")).await.payload
    }

    /// Takes the first message that fits, heard already or still to come; panics after [`PATIENCE`].
    pub async fn expect(&mut self, what: &str, fits: impl Fn(&Message) -> bool) -> Message {
        self.expect_within(PATIENCE, what, fits).await
    }

    /// The same with a limit of its own.
    pub async fn expect_within(&mut self, limit: Duration, what: &str, fits: impl Fn(&Message) -> bool) -> Message {
        let deadline = Instant::now() + limit;
        let mut checked = 0;
        loop {
            if let Some(index) = self.unread.iter().skip(checked).position(&fits) {
                return self.unread.remove(checked + index).expect("the position was just found");
            }
            checked = self.unread.len();
            match self.read(deadline).await {
                Heard::Message(message) => self.unread.push_back(*message),
                Heard::Binary(bytes) => panic!("{what} did not come, but a binary frame no client reads: {bytes:?}"),
                Heard::Closed(code) => panic!("{what} did not come, the server closed with {code}; {}", self.heard()),
                Heard::Silence => panic!("{what} did not come within {limit:?}; {}", self.heard()),
            }
        }
    }

    /// A heartbeat and its answer: whatever the server answers at once to earlier frames has been heard then.
    pub async fn heartbeat(&mut self) {
        let reference = format!("hb{}", self.fresh_ref());
        self.push(&Value::Null, &Value::from(reference.as_str()), "phoenix", "heartbeat", &json!({})).await;
        let reply = self.reply("phoenix", &reference).await;
        assert_eq!(reply, json!({"status": "ok", "response": {}}), "the answer to a heartbeat");
    }

    /// Takes everything heard and not asked for.
    pub fn drain(&mut self) -> Vec<Message> {
        self.unread.drain(..).collect()
    }

    /// Takes the first message heard already that fits.
    pub fn take(&mut self, fits: impl Fn(&Message) -> bool) -> Option<Message> {
        let index = self.unread.iter().position(fits)?;
        self.unread.remove(index)
    }

    /// Puts a message that `read` gave behind those heard before it.
    pub fn keep(&mut self, message: Message) {
        self.unread.push_back(message);
    }

    /// Listens until the server has been silent this long, and keeps what it says.
    pub async fn listen(&mut self, silence: Duration) {
        loop {
            match self.read(Instant::now() + silence).await {
                Heard::Message(message) => self.keep(*message),
                Heard::Binary(bytes) => panic!("a binary frame no client reads: {bytes:?}"),
                Heard::Closed(_) | Heard::Silence => return,
            }
        }
    }

    /// Everything not asked for that comes before the server has been silent this long.
    pub async fn drain_until_quiet(&mut self, silence: Duration) -> Vec<Message> {
        self.listen(silence).await;
        self.drain()
    }

    /// What has been heard and not asked for yet, in order.
    pub fn unread(&self) -> impl Iterator<Item = &Message> {
        self.unread.iter()
    }

    /// Takes the message at this place of those not asked for yet.
    pub fn take_at(&mut self, place: usize) -> Option<Message> {
        self.unread.remove(place)
    }

    /// Waits for the close and returns its code; messages before it stay to be drained.
    pub async fn closed(&mut self) -> u16 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.read(deadline).await {
                Heard::Message(message) => self.unread.push_back(*message),
                Heard::Binary(bytes) => panic!("a binary frame no client reads: {bytes:?}"),
                Heard::Closed(code) => return code,
                Heard::Silence => panic!("the server did not close within {PATIENCE:?}"),
            }
        }
    }

    /// Closes without a code, as browsers do.
    pub async fn close(&mut self) {
        if self.closed.is_none() {
            let _ = self.stream.close(None).await;
        }
    }

    /// Reads one frame from the connection, past what is kept unread.
    pub async fn read(&mut self, deadline: Instant) -> Heard {
        if let Some(code) = self.closed {
            return Heard::Closed(code);
        }
        loop {
            let Ok(next) = timeout_at(deadline, self.stream.next()).await else { return Heard::Silence };
            let code = match next {
                Some(Ok(WsMessage::Text(text))) => return Heard::Message(Box::new(Message::parse(&text, self.vsn))),
                Some(Ok(WsMessage::Binary(bytes))) => {
                    let message = if self.vsn == Vsn::V2 { Message::read_binary(&bytes) } else { None };
                    return message.map_or_else(|| Heard::Binary(bytes.to_vec()), |m| Heard::Message(Box::new(m)));
                }
                Some(Ok(WsMessage::Close(frame))) => frame.map_or(1005, |frame| u16::from(frame.code)),
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => 1006,
            };
            self.closed = Some(code);
            return Heard::Closed(code);
        }
    }

    fn heard(&self) -> String {
        if self.unread.is_empty() {
            return "nothing else was heard".to_owned();
        }
        self.unread.iter().fold("heard instead:".to_owned(), |text, message| text + "\n    " + &message.text)
    }
}

/// A joined topic: what a push needs to name it.
#[derive(Clone, Debug)]
pub struct Channel {
    pub topic: String,
    pub join_ref: String,
}

/// Host and port of a ws:// URL, and the rest behind them.
fn authority(url: &str) -> (&str, &str) {
    url.strip_prefix("ws://").and_then(|rest| rest.split_once('/')).expect("a ws:// URL")
}

struct Answer {
    refused: Refused,
    /// What came after the head of a 101.
    rest: Vec<u8>,
}

async fn read_answer(stream: &mut TcpStream) -> io::Result<Answer> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            let head = format!("closed within the head: {:?}", String::from_utf8_lossy(&bytes));
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, head));
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).expect("a head of text");
    let mut rest = bytes.split_off(head_end + 4);
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line");
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
    };
    if status != 101 {
        let length = header("content-length").map_or(0, |length| length.parse().expect("a length"));
        while rest.len() < length && stream.read_buf(&mut rest).await? > 0 {}
    }
    let body = if status == 101 { String::new() } else { String::from_utf8_lossy(&rest).into_owned() };
    Ok(Answer { refused: Refused { status, content_type: header("content-type"), body }, rest })
}
