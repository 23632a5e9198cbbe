//! The network between the server and its database: it forwards, falls silent without a word, or is cut.

use crate::support::postgres::drive;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

#[derive(Clone, Copy, Default)]
struct State {
    /// Where it leads.
    upstream: u16,
    /// Connections with lower numbers forward nothing.
    silent_below: u64,
    /// Connections with lower numbers are closed.
    cut_below: u64,
    /// New ones are closed at once.
    refuses: bool,
}

/// A listener that forwards to a port.
pub struct Proxy {
    pub port: u16,
    state: watch::Sender<State>,
    next: Arc<AtomicU64>,
}

impl Proxy {
    pub async fn start(upstream: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (state, reader) = watch::channel(State { upstream, ..State::default() });
        let next = Arc::new(AtomicU64::new(1));
        let numbers = next.clone();
        drive(async move {
            while let Ok((client, _)) = listener.accept().await {
                let number = numbers.fetch_add(1, Ordering::Relaxed);
                drive(forward(client, number, reader.clone()));
            }
        });
        Proxy { port, state, next }
    }

    /// What is open now stays open and carries nothing any more.
    pub fn fall_silent(&self) {
        let number = self.next.load(Ordering::Relaxed);
        self.state.send_modify(|state| state.silent_below = number);
    }

    /// Closes what is open, and whatever comes until it is mended.
    pub fn cut(&self) {
        let number = self.next.load(Ordering::Relaxed);
        self.state.send_modify(|state| (state.cut_below, state.refuses) = (number, true));
    }

    pub fn mend(&self) {
        self.state.send_modify(|state| state.refuses = false);
    }

    /// Leads somewhere else.
    pub fn lead_to(&self, upstream: u16) {
        self.state.send_modify(|state| state.upstream = upstream);
    }
}

async fn forward(client: TcpStream, number: u64, state: watch::Receiver<State>) {
    let State { upstream, refuses, .. } = *state.borrow();
    if refuses {
        return;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", upstream)).await else { return };
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    tokio::select! {
        () = pump(client_reads, server_writes, number, state.clone()) => {}
        () = pump(server_reads, client_writes, number, state) => {}
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    number: u64,
    mut state: watch::Receiver<State>,
) {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let State { silent_below, cut_below, .. } = *state.borrow_and_update();
        if number < cut_below {
            return;
        }
        if number < silent_below {
            if state.changed().await.is_err() {
                return;
            }
            continue;
        }
        tokio::select! {
            read = from.read(&mut bytes) => match read {
                Ok(count) if count > 0 => {
                    if to.write_all(&bytes[..count]).await.is_err() {
                        return;
                    }
                }
                _ => return,
            },
            changed = state.changed() => if changed.is_err() { return },
        }
    }
}
