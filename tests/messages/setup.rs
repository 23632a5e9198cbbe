//! A database that was migrated, a server, and sockets that hear of both row changes and broadcasts.

use crate::{
    line::setup::{PRELUDE, wait_for_health},
    support::{
        json::Json,
        postgres::{Database, Postgres},
        server::Server,
        socket::{Channel, Heard, PATIENCE, Socket},
        token::{alice, anon},
    },
};
use serde_json::{Value, json};
use tokio::time::Instant;
use walcast::pg::migrate::{Report, migrate};

/// What Supabase's own server would have made.
pub const SUPABASE: &str = include_str!("supabase.sql");

/// A table beside the messages, published.
pub const ITEMS: &str = "
    create table items (id int primary key, body text);
    alter publication supabase_realtime add table items;
    grant select on items to anon, authenticated, service_role, walcast;";

/// What a database was before it is migrated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Empty.
    Bare,
    /// Supabase's server has been there.
    Supabase,
    /// An older one has.
    Older,
}

pub const KINDS: [Kind; 3] = [Kind::Bare, Kind::Supabase, Kind::Older];

/// What an older server of Supabase had not yet.
pub const OLDER: &str = "
    drop function realtime.send_binary(bytea, text, text, boolean);
    alter table realtime.messages drop column binary_payload;";

/// A database of this kind before it is migrated.
pub async fn unmigrated(postgres: &'static Postgres, kind: Kind) -> Database {
    let database = postgres.database().await;
    database.execute(PRELUDE).await;
    if kind != Kind::Bare {
        database.execute(SUPABASE).await;
    }
    if kind == Kind::Older {
        database.execute(OLDER).await;
    }
    database
}

/// Migrates as superuser.
pub async fn migrated_by_superuser(database: &Database) -> Report {
    let report = migrate(&mut database.connect().await, false).await.unwrap();
    assert!(report.is_complete(), "{report}");
    report
}

/// A database of this kind that was migrated, with a published table.
pub async fn database(postgres: &'static Postgres, kind: Kind) -> Database {
    let database = unmigrated(postgres, kind).await;
    migrated_by_superuser(&database).await;
    database.execute(ITEMS).await;
    database
}

/// A server for it that streams messages.
pub async fn server(database: &Database, extra: &[(&str, &str)]) -> Server {
    let server = Server::start(database, extra).await;
    wait_for_messages(&server).await;
    server
}

pub async fn wait_for_messages(server: &Server) {
    wait_for_health(server, |_, health| *health.at("messages").at("streamed") == json!(true)).await;
}

/// A socket, with one channel that was joined.
pub struct Ear {
    pub socket: Socket,
    pub channel: Channel,
}

/// Something heard: short enough to compare.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// A row change, by its key.
    Change(i64),
    /// A broadcast, by its event.
    Broadcast(String),
}

/// A broadcast as it came.
#[derive(Debug)]
pub struct Broadcast {
    pub topic: String,
    pub event: String,
    /// JSON, or else bytes.
    pub payload: Result<Json, Vec<u8>>,
    pub meta: Json,
}

impl Ear {
    /// A public member of a room, in this version of the protocol.
    pub async fn open(server: &Server, vsn: &str, room: &str) -> Ear {
        Ear::join(server, vsn, room, &json!({"config": {}})).await
    }

    /// One that has the changes of `items`, too.
    pub async fn of_changes(server: &Server, vsn: &str, room: &str) -> Ear {
        let bindings = json!([{"event": "*", "schema": "public", "table": "items"}]);
        let mut ear = Ear::join(server, vsn, room, &json!({"config": {"postgres_changes": bindings}})).await;
        let topic = ear.channel.topic.clone();
        ear.socket.expect("the word that it is subscribed", |message| message.is(&topic, "system")).await;
        ear
    }

    /// A user's member, joined with this payload.
    pub async fn of_user(server: &Server, vsn: &str, room: &str, payload: &Value) -> Ear {
        Ear::join_as(&alice(), server, (vsn, room), payload).await
    }

    async fn join(server: &Server, vsn: &str, room: &str, payload: &Value) -> Ear {
        Ear::join_as(&anon(), server, (vsn, room), payload).await
    }

    async fn join_as(token: &str, server: &Server, (vsn, room): (&str, &str), payload: &Value) -> Ear {
        let mut socket = Socket::open(&server.websocket_url(vsn, token)).await;
        let (channel, _) = socket.join(&format!("realtime:{room}"), payload).await;
        Ear { socket, channel }
    }

    /// The next broadcast or change.
    pub async fn next(&mut self) -> Result<Broadcast, i64> {
        loop {
            match self.socket.read(Instant::now() + PATIENCE).await {
                Heard::Message(message) if message.event == "broadcast" => {
                    let payload = message.payload;
                    let bytes = message.binary.filter(|binary| binary.encoding == 0).map(|binary| binary.payload);
                    return Ok(Broadcast {
                        topic: message.topic.as_str().unwrap().to_owned(),
                        event: payload.at("event").as_str().unwrap().to_owned(),
                        payload: bytes.map_or_else(|| Ok(payload.at("payload").clone()), Err),
                        meta: payload.at("meta").clone(),
                    });
                }
                // Tests delete rows to insert them again.
                Heard::Message(message) if *message.payload.at("data").at("type") == "DELETE" => {}
                Heard::Message(message) if message.event == "postgres_changes" => {
                    return Err(message.payload.at("data").at("record").at("id").as_i64().expect("a key"));
                }
                Heard::Message(_) => {}
                other => panic!("nothing more was said: {other:?}"),
            }
        }
    }

    /// The next broadcast.
    pub async fn broadcast(&mut self) -> Broadcast {
        self.next().await.expect("a broadcast")
    }

    /// What comes until this event, in order.
    pub async fn until(&mut self, event: &str) -> Vec<Said> {
        let mut said = Vec::new();
        loop {
            match self.next().await {
                Ok(broadcast) if broadcast.event == event => return said,
                Ok(broadcast) => said.push(Said::Broadcast(broadcast.event)),
                Err(id) => said.push(Said::Change(id)),
            }
        }
    }
}
