//! What the recorded conversations and the checks stand on: roles, `auth` functions, the tables of the recordings, and
//! the tokens they name.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::support::postgres::Database;
use crate::support::token;

pub use crate::support::token::{ALICE, BOB};

/// What `tables.sql` expects to be there, beside the roles, which belong to the cluster; and the rights of the server's
/// own role, on what is there and on what a test makes later.
const PRELUDE: &str = r"
alter default privileges in schema public grant select on tables to walcast;
create schema if not exists auth;
grant usage on schema auth to anon, authenticated, service_role;
create or replace function auth.jwt() returns jsonb language sql stable as
  $$ select coalesce(nullif(current_setting('request.jwt.claims', true), '')::jsonb, '{}'::jsonb) $$;
create or replace function auth.uid() returns uuid language sql stable as $$ select (auth.jwt() ->> 'sub')::uuid $$;
create or replace function auth.role() returns text language sql stable as $$ select auth.jwt() ->> 'role' $$;
";

/// What private channels are decided by (protocol reference, sections 6.5 and 8).
const MESSAGES: &str = r"
create schema if not exists realtime;
grant usage on schema realtime to anon, authenticated, service_role, walcast;
create or replace function realtime.topic() returns text language sql stable as
  $$ select nullif(current_setting('realtime.topic', true), '') $$;
create table if not exists realtime.messages (
  topic text not null, extension text not null, payload jsonb, event text, private boolean default false,
  updated_at timestamp not null default now(), inserted_at timestamp not null default now(),
  id uuid not null default gen_random_uuid(), binary_payload bytea, primary key (id, inserted_at)
) partition by range (inserted_at);
create table if not exists realtime.messages_default partition of realtime.messages default;
alter table realtime.messages enable row level security;
grant select, insert, update on realtime.messages to anon, authenticated, service_role;
";

const TABLES: &str = include_str!("recordings/tables.sql");

/// Gives an empty database the tables of the recordings.
pub async fn prepare(database: &Database) {
    database.execute(PRELUDE).await;
    database.execute(MESSAGES).await;
    database.execute(TABLES).await;
}

/// The token a recording calls by this name.
pub fn token(name: &str) -> String {
    let now = now();
    match name {
        "anon" => token::anon(),
        "alice" => token::alice(),
        "bob" => token::bob(),
        "service" => token::service(),
        "expired" => token::sign(json!({"role": "authenticated", "sub": ALICE, "exp": now - 60})),
        "noexp" => token::sign(json!({"role": "authenticated", "sub": ALICE})),
        "norole" => token::sign(json!({"sub": ALICE, "exp": now + 3600})),
        "badsig" => foreign(&json!({"role": "authenticated", "sub": ALICE, "exp": now + 3600})),
        "algnone" => unsigned(&json!({"role": "authenticated", "sub": ALICE, "exp": now + 3600})),
        _ => panic!("no token is called {name}"),
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs()
}

/// Signed with another secret.
fn foreign(claims: &Value) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(b"another-secret-of-at-least-32-characters");
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &key).expect("claims can be signed")
}

fn unsigned(claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.", part(&json!({"alg": "none", "typ": "JWT"})), part(claims))
}
