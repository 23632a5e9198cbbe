//! What the recorded conversations and the checks stand on: roles, `auth` functions, the tables of the recordings, and
//! the tokens they name.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::support::postgres::Database;
use crate::support::token;
use walcast::pg::migrate::migrate;

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

const TABLES: &str = include_str!("recordings/tables.sql");

/// Gives an empty database what the server needs, and the tables of the recordings with their policies.
pub async fn prepare(database: &Database) {
    database.execute(PRELUDE).await;
    let report = migrate(&mut database.connect().await, false).await.expect("what the server needs can be made");
    assert!(report.is_complete(), "{report}");
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
