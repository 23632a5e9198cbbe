//! The real client libraries, unmodified, against a real server and a real Postgres: supabase-js and PyPI `realtime`
//! behind small drivers (`driver.mjs`, `browser.mjs`, `driver.py`) that obey lines on stdin, and a raw Python client
//! (`legacy.py`).
//! `tests/setup` installs Node and the packages.

mod channels;
mod javascript;
mod private;
mod python;
mod resume;
mod script;

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::support::json::Json;
use crate::support::postgres::{Database, Postgres};
use crate::support::server::Server;
use crate::wire::fixture;
use script::Script;

/// Chat as applications build it: who is in a conversation may read it and its messages.
const CHAT: &str = r"
create table public.conversations(id uuid primary key default gen_random_uuid(), status text not null default 'open',
  assignee uuid, metadata jsonb not null default '{}');
create table public.conversation_members(conversation_id uuid references public.conversations, user_id uuid,
  primary key (conversation_id, user_id));
create table public.messages(id uuid primary key default gen_random_uuid(), created_at timestamptz not null default now(),
  conversation_id uuid not null references public.conversations, sender_id uuid, content text not null,
  metadata jsonb not null default '{}');
create index on public.conversation_members(user_id);
alter table public.conversations enable row level security;
alter table public.conversation_members enable row level security;
alter table public.messages enable row level security;
create policy mine on public.conversation_members for select to authenticated using (user_id = (select auth.uid()));
create policy members on public.conversations for select to authenticated using (assignee = (select auth.uid()) or
  exists (select 1 from public.conversation_members m where m.conversation_id = id and m.user_id = (select auth.uid())));
create policy members on public.messages for select to authenticated using (exists (
  select 1 from public.conversation_members m
  where m.conversation_id = messages.conversation_id and m.user_id = (select auth.uid())));
grant select on public.conversations, public.conversation_members, public.messages to authenticated, service_role;
alter publication supabase_realtime add table public.conversations, public.conversation_members, public.messages;
";

const MINE: &str = "aaaaaaaa-0000-0000-0000-000000000001";
const OTHERS: &str = "aaaaaaaa-0000-0000-0000-000000000002";

/// A database with the tables of the recordings, and a server on it.
struct Stage {
    database: Database,
    server: Server,
}

impl Stage {
    async fn set(schema: &str) -> Self {
        let database = Postgres::default().database().await;
        fixture::prepare(&database).await;
        if !schema.is_empty() {
            database.execute(schema).await;
        }
        let server = Server::start(&database, &[]).await;
        Self { database, server }
    }

    async fn sql(&self, statement: &str) {
        self.database.execute(statement).await;
    }

    /// What a script needs to find the server; `vsn` only where the library may choose.
    fn environment(&self, key: &str, vsn: Option<&str>) -> Vec<(&'static str, String)> {
        let mut environment = vec![("WALCAST_URL", self.server.url()), ("WALCAST_KEY", key.to_owned())];
        environment.extend(vsn.map(|vsn| ("WALCAST_VSN", vsn.to_owned())));
        environment
    }
}

/// Subscribes and waits for the library to say SUBSCRIBED and for the server to say that changes flow.
async fn subscribe(script: &mut Script, channel: &str, bindings: Value) {
    script.tell(&json!({"do": "subscribe", "channel": channel, "bindings": bindings})).await;
    script.expect("SUBSCRIBED", |e| *e.at("channel") == *channel && *e.at("status") == "SUBSCRIBED").await;
    flowing(script, channel).await;
}

/// Waits for `Subscribed to PostgreSQL` on a channel.
async fn flowing(script: &mut Script, channel: &str) {
    let is_ok = |e: &Json| *e.at("channel") == *channel && *e.at("system").at("message") == "Subscribed to PostgreSQL";
    script.expect("Subscribed to PostgreSQL", is_ok).await;
}

/// The next change that a binding of a channel was called with.
async fn change(script: &mut Script, channel: &str) -> Json {
    script.expect(&format!("a change on {channel}"), |e| *e.at("channel") == *channel && e.has("payload")).await
}

/// A conversation of Alice and Bob, and one of Bob alone.
fn two_conversations() -> String {
    let mut sql = format!("insert into public.conversations(id) values ('{MINE}'), ('{OTHERS}');");
    for (conversation, user) in [(MINE, fixture::ALICE), (MINE, fixture::BOB), (OTHERS, fixture::BOB)] {
        write!(sql, "insert into public.conversation_members values ('{conversation}', '{user}');").expect("a String");
    }
    sql
}

fn message(conversation: &str, content: &str) -> String {
    format!("insert into public.messages(conversation_id, content) values ('{conversation}', '{content}')")
}

/// Stops the server and starts another at the same address.
async fn restart(stage: Stage) -> Stage {
    let Stage { database, server } = stage;
    let port = server.address().rsplit(':').next().expect("a port").to_owned();
    server.stop().await;
    let server = Server::start(&database, &[("PORT", &port)]).await;
    Stage { database, server }
}
