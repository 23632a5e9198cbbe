//! What a database that is none, or somebody between us and it, may send on a replication connection.

use super::{
    harness::{Seen, Target, fuzz, seen, shape},
    mutate::{joined, records},
    pgoutput,
};
use std::{
    io,
    pin::Pin,
    sync::LazyLock,
    task::{Context, Poll, Waker},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use walcast::{
    lsn::Lsn,
    pg::{
        Target as Database,
        replication::{ReplicationError, Session},
    },
    pgoutput::envelope::StatusUpdate,
};

const WORDS: &[&str] = &[
    "SCRAM-SHA-256\0",
    "SCRAM-SHA-256-PLUS\0",
    "r=",
    ",s=",
    ",i=4096",
    "v=",
    "e=",
    "C42704\0",
    "Mno\0",
    "\0\0",
    "Sx\0",
];

/// A server that says what it says, in pieces, whatever it hears.
struct Script {
    said: Vec<u8>,
    at: usize,
    piece: usize,
}

impl AsyncRead for Script {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let length = self.piece.min(self.said.len() - self.at).min(buffer.remaining());
        buffer.put_slice(&self.said[self.at..self.at + length]);
        self.at += length;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("short").to_be_bytes();
    [&[tag][..], &length, body].concat()
}

fn authentication(kind: u32, body: &[u8]) -> Vec<u8> {
    message(b'R', &[&kind.to_be_bytes(), body].concat())
}

fn error() -> Vec<u8> {
    message(b'E', b"SERROR\0C42704\0Mthere is no such slot\0Hmake one\0\0")
}

/// What a server says, message by message.
fn seeds() -> Vec<Vec<u8>> {
    let (ready, ok) = (message(b'Z', b"I"), authentication(0, b""));
    let notes = [
        message(b'S', b"server_version\x0015.2\0"),
        message(b'K', &[0, 0, 0, 1, 0, 0, 0, 2]),
        message(b'N', b"SNOTICE\0Mhello\0\0"),
    ]
    .concat();
    let row = message(
        b'D',
        &[&[0, 4][..], &[0, 0, 0, 4], b"slot", &[0, 0, 0, 3], b"1/2", &[255, 255, 255, 255, 0, 0, 0, 0]].concat(),
    );
    let described = message(b'T', b"\0\x01name\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0");
    let created = [described, row, message(b'C', b"CREATE_REPLICATION_SLOT\0"), ready.clone()].concat();
    let envelope = |frame: &[u8]| message(b'd', &[&[b'w'][..], &[0; 24], frame].concat());
    let stream: Vec<Vec<u8>> = pgoutput::recordings()
        .swap_remove(0)
        .iter()
        .take(4)
        .map(|frame| envelope(&frame[..frame.len().min(200)]))
        .collect();
    let keepalive = message(b'd', &[&[b'k'][..], &[0; 16], &[1]].concat());
    let end =
        [message(b'c', b""), message(b'C', b"COPY 0\0"), message(b'C', b"START_STREAMING\0"), ready.clone()].concat();
    let mut whole = vec![b"\x40".to_vec(), ok.clone(), notes, ready.clone(), created, message(b'W', &[0, 0, 0])];
    whole.extend(stream);
    whole.extend([keepalive, end]);
    vec![
        joined(whole),
        joined([b"\x01".to_vec(), authentication(3, b""), ok.clone(), ready.clone(), error(), ready.clone()]),
        joined([b"\x03".to_vec(), authentication(5, b"salt"), ok.clone(), ready.clone(), error()]),
        joined([
            b"\x20".to_vec(),
            authentication(10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"),
            authentication(11, b"r=nonce,s=c2FsdA==,i=4096"),
            authentication(12, b"v=c2FsdA=="),
        ]),
        joined([b"\x20".to_vec(), authentication(10, b"SCRAM-SHA-256\0\0"), authentication(11, b"e=other-error")]),
        joined([b"\x20".to_vec(), message(b'v', &[0, 3, 0, 0, 0, 0, 0, 1])]),
        joined([b"\x20".to_vec(), error()]),
        joined([b"\x20".to_vec(), ok, ready, message(b'd', b"")]),
    ]
}

#[test]
fn any_bytes_of_a_database_are_a_session_or_an_error() {
    // A row says in two bytes how many columns it has, and room for them is made before they are read.
    fuzz(Target { name: "walsender", seeds: seeds(), words: WORDS, memory: (3 << 20, 40), run: session });
}

static DATABASE: LazyLock<Database> =
    LazyLock::new(|| Database::parse("postgresql://u:sesame@h/d?sslmode=disable").expect("an address"));

/// The first record says in what pieces the others, which are messages, come.
fn session(input: &[u8]) -> Seen {
    let records = records(input);
    let (pieces, messages) = records.split_first().expect("at least one");
    let piece = usize::from(pieces.first().copied().unwrap_or(64)).max(1);
    let server = Script { said: messages.concat(), at: 0, piece };
    let mut conversation = Box::pin(converse(server));
    // The server is always ready, so nothing is ever waited for.
    let Poll::Ready((reached, outcome)) = conversation.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("it waits for what has come")
    };
    let error = match outcome {
        Ok(()) => 0,
        Err(ReplicationError::Server(error)) => seen(("server", error.hint.is_some(), error.code.len().min(6))),
        Err(error) => {
            let said = walcast::pg::connect::describe(&error);
            assert!(!said.contains("sesame"), "{said}");
            shape(&said)
        }
    };
    seen((reached, error))
}

async fn converse(server: Script) -> (usize, Result<(), ReplicationError>) {
    let mut reached = 0;
    let outcome = steps(server, &mut reached).await;
    (reached, outcome)
}

async fn steps(server: Script, reached: &mut usize) -> Result<(), ReplicationError> {
    let mut session = Session::over(server, &DATABASE, "walcast").await?;
    *reached = 1;
    session.create_slot("s", true).await?;
    *reached = 2;
    let mut stream = session.start("s", &["p"], Lsn(1)).await?;
    *reached = 3;
    let update = StatusUpdate { written: Lsn(1), flushed: Lsn(1), clock: 0, reply: false };
    while let Ok(envelope) = stream.next().await.inspect_err(|_| *reached += 100) {
        *reached = (*reached + 1).min(8);
        if matches!(envelope, walcast::pgoutput::envelope::Envelope::Keepalive { reply: true, .. }) {
            stream.send(update).await?;
        }
    }
    stream.finish(update).await
}
