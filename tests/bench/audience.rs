//! The members of the fan-out: each a socket of its own that costs next to nothing, so that what is measured is the
//! server. Frames are read by hand; nothing is parsed but the number of a message.

use crate::{
    board::number_after,
    ledger::Ledger,
    support::{postgres::drive, token},
};
use std::{
    cell::RefCell,
    io,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Semaphore, mpsc},
};
use tokio_util::sync::CancellationToken;

/// Sockets that join at the same time.
const JOINING: usize = 64;
const JOIN_LIMIT: Duration = Duration::from_secs(60);
const TOPIC: &str = "realtime:fanout";
const EVENT: &str = "message";
/// The size of a payload.
const PAYLOAD_BYTES: usize = 256;
/// What stands before the number in a payload.
const MARK: &[u8] = b"\"n\":\"";
const TEXT: u8 = 1;
const BINARY: u8 = 2;

/// How a message is pushed.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Form {
    /// Kind 3, as supabase-js does.
    Binary,
    Text,
}

/// Joined members that listen. They leave when this is dropped.
pub(crate) struct Audience(CancellationToken);

impl Drop for Audience {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Audience {
    /// Connects and joins so many members of one version; returns once all have joined.
    pub(crate) async fn join(
        address: &str,
        version: &'static str,
        count: usize,
        ledger: &Arc<Ledger>,
    ) -> Result<Audience, String> {
        let stop = CancellationToken::new();
        let audience = Audience(stop.clone());
        let joining = Arc::new(Semaphore::new(JOINING));
        let (tell, mut joined) = mpsc::channel(JOINING);
        for _ in 0..count {
            let (address, ledger, stop) = (address.to_owned(), ledger.clone(), stop.clone());
            let (joining, tell) = (joining.clone(), tell.clone());
            drive(async move {
                let permit = joining.acquire_owned().await;
                let joined = tokio::time::timeout(JOIN_LIMIT, open(&address, version)).await;
                drop(permit);
                match joined.unwrap_or_else(|_| Err(io::Error::other("a join takes too long"))) {
                    Ok((stream, rest)) => {
                        let _ = tell.send(Ok(())).await;
                        drop(tell);
                        if stop.run_until_cancelled(listen(stream, rest, &ledger)).await.is_some() {
                            ledger.lost.fetch_add(1, Relaxed);
                        }
                    }
                    Err(error) => {
                        let _ = tell.send(Err(format!("cannot join: {error}"))).await;
                    }
                }
            });
        }
        for _ in 0..count {
            joined.recv().await.ok_or("a member is gone")??;
        }
        Ok(audience)
    }
}

/// The one who speaks.
pub(crate) struct Sender {
    stream: TcpStream,
    /// A whole frame but for the number.
    frame: Vec<u8>,
    number_at: usize,
}

impl Sender {
    pub(crate) async fn join(address: &str, form: Form) -> io::Result<Sender> {
        let (stream, _) = open(address, "2.0.0").await?;
        let payload = payload();
        let content = match form {
            Form::Text => format!(
                r#"["1",null,"{TOPIC}","broadcast",{{"type":"broadcast","event":"{EVENT}","payload":{payload}}}]"#
            )
            .into_bytes(),
            Form::Binary => {
                let lengths = ["1", "", TOPIC, EVENT, ""].map(|field| u8::try_from(field.len()).unwrap_or_default());
                let mut bytes = vec![3];
                bytes.extend(lengths);
                bytes.push(1);
                bytes.extend(["1", "", TOPIC, EVENT, ""].concat().bytes());
                bytes.extend(payload.bytes());
                bytes
            }
        };
        let frame = masked(if form == Form::Text { TEXT } else { BINARY }, &content);
        let number_at = memchr::memmem::find(&frame, MARK).map_or(0, |at| at + MARK.len());
        Ok(Sender { stream, frame, number_at })
    }

    /// Sends the message of this number.
    pub(crate) async fn send(&mut self, number: u64) -> io::Result<()> {
        let digits = format!("{number:010}");
        self.frame[self.number_at..self.number_at + digits.len()].copy_from_slice(digits.as_bytes());
        self.stream.write_all(&self.frame).await
    }
}

/// JSON of exactly the size, with room for a number.
fn payload() -> String {
    let frame = format!(r#"{{"n":"{:010}","x":""}}"#, 0).len();
    format!(r#"{{"n":"{:010}","x":"{}"}}"#, 0, "x".repeat(PAYLOAD_BYTES - frame))
}

/// A frame of a client. Its mask is zero, which changes nothing.
fn masked(opcode: u8, content: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match u8::try_from(content.len()) {
        Ok(length) if length < 126 => frame.push(0x80 | length),
        _ => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(content.len()).expect("the frames here are short").to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(content);
    frame
}

/// A joined socket, and what has been read of it behind the reply to the join.
async fn open(address: &str, version: &str) -> io::Result<(TcpStream, Vec<u8>)> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let upgrade = format!(
        "GET /realtime/v1/websocket?apikey={}&vsn={version} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        token::anon()
    );
    stream.write_all(upgrade.as_bytes()).await?;
    let mut read = Vec::new();
    let head = loop {
        if let Some(end) = memchr::memmem::find(&read, b"\r\n\r\n") {
            break end + 4;
        }
        more(&mut stream, &mut read).await?;
    };
    if !read.starts_with(b"HTTP/1.1 101") {
        return Err(io::Error::other(String::from_utf8_lossy(&read).into_owned()));
    }
    read.drain(..head);
    let config =
        r#"{"config":{"broadcast":{"self":false,"ack":false},"presence":{"enabled":false},"postgres_changes":[]}}"#;
    let join = match version {
        "1.0.0" => {
            format!(r#"{{"topic":"{TOPIC}","event":"phx_join","payload":{config},"ref":"1","join_ref":"1"}}"#)
        }
        _ => format!(r#"["1","1","{TOPIC}","phx_join",{config}]"#),
    };
    stream.write_all(&masked(TEXT, join.as_bytes())).await?;
    let reply = loop {
        if let Some(reply) = first(&read) {
            break reply.end;
        }
        more(&mut stream, &mut read).await?;
    };
    if memchr::memmem::find(&read[..reply], br#""status":"ok""#).is_none() {
        return Err(io::Error::other(String::from_utf8_lossy(&read[..reply]).into_owned()));
    }
    read.drain(..reply);
    Ok((stream, read))
}

async fn more(stream: &mut TcpStream, read: &mut Vec<u8>) -> io::Result<()> {
    match stream.read_buf(read).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// Where the first frame has its content.
fn first(bytes: &[u8]) -> Option<std::ops::Range<usize>> {
    let (start, length) = match *bytes.get(1)? & 0x7f {
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        length => (2, usize::from(length)),
    };
    (bytes.len() >= start + length).then(|| start..start + length)
}

/// Reads until the connection ends.
async fn listen(stream: TcpStream, mut kept: Vec<u8>, ledger: &Ledger) {
    while stream.readable().await.is_ok() && drain(&stream, &mut kept, ledger).is_ok() {}
}

thread_local! {
    /// One for all sockets of a thread: a buffer each would be the memory of the caches.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; 64 * 1024]);
}

/// Takes what can be read without waiting.
fn drain(stream: &TcpStream, kept: &mut Vec<u8>, ledger: &Ledger) -> io::Result<()> {
    BUFFER.with_borrow_mut(|buffer| {
        loop {
            let count = match stream.try_read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            if kept.is_empty() {
                let used = take(&buffer[..count], ledger);
                kept.extend_from_slice(&buffer[used..count]);
            } else {
                kept.extend_from_slice(&buffer[..count]);
                let used = take(kept, ledger);
                kept.drain(..used);
            }
            if count < buffer.len() {
                return Ok(());
            }
        }
    })
}

/// Counts the messages in the whole frames of some bytes; how many bytes these are.
fn take(bytes: &[u8], ledger: &Ledger) -> usize {
    let mut used = 0;
    while let Some(content) = first(&bytes[used..]) {
        let end = used + content.end;
        if let Some((number, _)) = number_after(&bytes[used + content.start..end], MARK) {
            ledger.arrive(number);
        }
        used = end;
    }
    used
}
