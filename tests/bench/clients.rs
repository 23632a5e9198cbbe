//! Many subscribers in one process: each a socket with one channel, on a runtime of two threads.

use crate::{
    board::{Board, number_after},
    support::{postgres::drive, token},
};
use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::{
    net::TcpStream,
    sync::{Semaphore, mpsc},
};
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

/// Sockets that join at the same time.
const JOINING: usize = 64;
const JOIN_LIMIT: Duration = Duration::from_secs(30);

/// What one subscriber asks for.
#[derive(Clone)]
pub(crate) struct Subscriber {
    pub(crate) token: String,
    pub(crate) table: &'static str,
    pub(crate) filter: Option<String>,
    /// Whether it wants to be able to come back.
    pub(crate) resumes: bool,
}

/// The id of user number `user`; the database has the same in `bench.person`.
pub(crate) fn person(user: usize) -> String {
    format!("00000000-0000-4000-8000-{user:012}")
}

/// Joined subscribers. They leave when this is dropped.
pub(crate) struct Crowd(CancellationToken);

impl Drop for Crowd {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Crowd {
    /// Connects and joins all of them; returns once every subscription is active.
    pub(crate) async fn join(address: &str, subscribers: Vec<Subscriber>, board: &Arc<Board>) -> Result<Crowd, String> {
        let stop = CancellationToken::new();
        let crowd = Crowd(stop.clone());
        let joining = Arc::new(Semaphore::new(JOINING));
        let (tell, mut joined) = mpsc::channel(64);
        let count = subscribers.len();
        for subscriber in subscribers {
            let (address, board, stop) = (address.to_owned(), board.clone(), stop.clone());
            let (joining, tell) = (joining.clone(), tell.clone());
            drive(async move {
                let permit = joining.acquire_owned().await;
                let socket = tokio::time::timeout(JOIN_LIMIT, open(&address, &subscriber)).await;
                drop(permit);
                match socket.unwrap_or_else(|_| Err("a join takes too long".to_owned())) {
                    Ok(socket) => {
                        let _ = tell.send(Ok(())).await;
                        drop(tell);
                        tokio::select! {
                            () = stop.cancelled() => {}
                            () = listen(socket, &board) => { board.broken.fetch_add(1, Relaxed); }
                        }
                    }
                    Err(why) => {
                        let _ = tell.send(Err(why)).await;
                    }
                }
            });
        }
        for _ in 0..count {
            joined.recv().await.ok_or("a subscriber is gone")??;
        }
        Ok(crowd)
    }
}

pub(crate) type Socket = tokio_tungstenite::WebSocketStream<TcpStream>;

/// A socket whose subscription is active.
pub(crate) async fn open(address: &str, subscriber: &Subscriber) -> Result<Socket, String> {
    let describe = |error: &dyn std::fmt::Display| format!("cannot join: {error}");
    let stream = TcpStream::connect(address).await.map_err(|error| describe(&error))?;
    stream.set_nodelay(true).map_err(|error| describe(&error))?;
    let url = format!("ws://{address}/realtime/v1/websocket?apikey={}&vsn=1.0.0", token::anon());
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.map_err(|error| describe(&error))?;
    let mut binding = json!({"event": "*", "schema": "bench", "table": subscriber.table});
    if let Some(filter) = &subscriber.filter {
        binding["filter"] = json!(filter);
    }
    let mut config = json!({"postgres_changes": [binding]});
    if subscriber.resumes {
        config["postgres_changes_options"] = json!({"resume": true});
    }
    let join = json!({
        "topic": "realtime:line", "event": "phx_join", "ref": "1", "join_ref": "1",
        "payload": {"config": config, "access_token": subscriber.token},
    });
    socket.send(Message::text(join.to_string())).await.map_err(|error| describe(&error))?;
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) if text.contains("Subscribed to PostgreSQL") => return Ok(socket),
            Some(Ok(Message::Text(text))) if text.contains("\"status\":\"error\"") => return Err(describe(&text)),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(describe(&error)),
            None => return Err("cannot join: closed".to_owned()),
        }
    }
}

/// Reads until the subscription has failed in any way.
async fn listen(mut socket: Socket, board: &Board) {
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else { continue };
        match number_after(text.as_bytes(), b"\"record\":{\"id\":") {
            Some((id, _)) => board.arrive(id),
            None if text.contains("\"phx_error\"") || text.contains("\"status\":\"error\"") => return,
            None => {}
        }
    }
}
