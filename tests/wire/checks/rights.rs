//! Checks 93, 94, 96 and 97: what the role's rights and the table's policies let through. Protocol reference, section
//! 4.5, with the departures on DELETE, `old_record` and error rows.

use serde_json::{Value, json};

use super::{Check, Door, In, all_of, changes, fence};
use crate::support::json::Json;
use crate::support::socket::Socket;
use crate::wire::fixture::{ALICE, BOB};

/// The key of `key_hidden` may not be read by those who may read the rest of it.
pub(super) const SCHEMA: &str = r"
create table public.key_hidden(id bigint generated always as identity primary key, body text);
alter publication supabase_realtime add table public.key_hidden;
grant select (body) on public.key_hidden to authenticated;
create table public.granted_later(id bigint generated always as identity primary key, body text);
alter publication supabase_realtime add table public.granted_later;
";

pub(super) const CHECKS: &[Check] = &[
    Check {
        number: 93,
        says: "row level security holds for every event",
        encodings: In::Both,
        run: |d| Box::pin(rls(d)),
    },
    Check { number: 94, says: "columns without SELECT are absent", encodings: In::Both, run: |d| Box::pin(columns(d)) },
    Check {
        number: 96,
        says: "a table without key is an error 400",
        encodings: In::Both,
        run: |d| Box::pin(no_key(d)),
    },
    Check {
        number: 97,
        says: "a hidden key is an error 401, no SELECT is silence",
        encodings: In::Both,
        run: |d| Box::pin(hidden(d)),
    },
    Check {
        number: 201,
        says: "a key-only DELETE goes to all by default",
        encodings: In::Both,
        run: |d| Box::pin(key_only(d)),
    },
    Check {
        number: 202,
        says: "old values need the right to the old row",
        encodings: In::Both,
        run: |d| Box::pin(old_values(d)),
    },
    Check {
        number: 217,
        says: "a grant and a revoke take effect within 2 s",
        encodings: In::V2,
        run: |d| Box::pin(granted(d)),
    },
    Check {
        number: 218,
        says: "a policy changed later takes effect within 2 s",
        encodings: In::V2,
        run: |d| Box::pin(policy(d)),
    },
];

/// `table` and the fence's `open_notes` on one channel.
fn with_fence(table: &str) -> Value {
    json!([all_of(table)[0], all_of("open_notes")[0]])
}

async fn rls(door: Door) {
    let mut sockets = Vec::new();
    for mut socket in [door.alice().await, door.bob().await, door.anon().await] {
        socket.subscribe("realtime:rls", &with_fence("notes_full")).await;
        sockets.push(socket);
    }
    door.sql(&format!("insert into public.notes_full(owner, body) values ('{ALICE}', 'hers')")).await;
    door.sql("update public.notes_full set body = 'still hers' where body = 'hers'").await;
    door.sql("delete from public.notes_full where body = 'still hers'").await;
    for kind in ["INSERT", "UPDATE", "DELETE"] {
        let change = sockets[0].change("realtime:rls").await;
        assert_eq!(*change.at("data").at("type"), kind);
        if kind == "DELETE" {
            let old = change.at("data").at("old_record");
            assert_eq!((old.at("owner"), old.at("body")), (&json!(ALICE).into(), &json!("still hers").into()));
        }
    }
    for mut socket in sockets {
        let others = fence(&door, &mut socket, "realtime:rls").await;
        let others: Vec<_> =
            changes(&others).into_iter().filter(|m| *m.payload.at("data").at("table") == "notes_full").collect();
        assert!(others.is_empty(), "learned of a row that is hidden: {others:?}");
    }
}

async fn columns(door: Door) {
    let mut socket = door.alice().await;
    socket.subscribe("realtime:columns", &all_of("col_priv")).await;
    door.sql("insert into public.col_priv(visible, hidden) values ('seen', 'unseen')").await;
    door.sql("update public.col_priv set hidden = 'unseen too' where visible = 'seen'").await;
    for _ in ["INSERT", "UPDATE"] {
        let change = socket.change("realtime:columns").await;
        let data = change.at("data");
        assert_eq!(data.at("record").keys(), ["id", "visible"], "{data}");
        assert_eq!(data.at("columns").elements().len(), 2, "{data}");
        assert!(!change.to_string().contains("unseen") && !change.to_string().contains("hidden"), "{change}");
    }
    // A filter may not ask what may not be read.
    let filter = json!([{"event": "*", "schema": "public", "table": "col_priv", "filter": "hidden=eq.x"}]);
    socket.join("realtime:ask", &json!({"config": {"postgres_changes": filter}})).await;
    let system = socket.expect("the system message", |m| m.is("realtime:ask", "system")).await.payload;
    assert_eq!(*system.at("status"), "error");
    assert!(
        system.at("message").as_str().is_some_and(|text| text.contains("invalid column for filter hidden")),
        "{system}"
    );
    door.sql("delete from public.col_priv").await;
}

async fn no_key(door: Door) {
    let mut socket = door.alice().await;
    socket.subscribe("realtime:nopk", &all_of("nopk")).await;
    door.sql("insert into public.nopk values (1, 'x')").await;
    is_error(&mut socket, "realtime:nopk", "nopk", "Error 400: Bad Request, no primary key").await;
}

async fn is_error(socket: &mut Socket, topic: &str, table: &str, text: &str) {
    let change = socket.change(topic).await;
    let expected = json!({
        "schema": "public", "table": table, "type": "INSERT", "commit_timestamp": null, "columns": [], "record": {},
        "errors": [text],
    });
    assert_eq!(*change.at("data"), expected);
}

async fn hidden(door: Door) {
    let mut socket = door.alice().await;
    socket.subscribe("realtime:hidden", &all_of("key_hidden")).await;
    socket.subscribe("realtime:none", &with_fence("no_grant")).await;
    door.sql("insert into public.key_hidden(body) values ('x')").await;
    is_error(&mut socket, "realtime:hidden", "key_hidden", "Error 401: Unauthorized").await;
    door.sql("insert into public.no_grant(body) values ('x')").await;
    door.sql("delete from public.no_grant").await;
    let others = fence(&door, &mut socket, "realtime:none").await;
    assert!(changes(&others).is_empty(), "a role without SELECT learned of a row: {others:?}");
}

async fn key_only(door: Door) {
    let mut alice = door.alice().await;
    let mut bob = door.bob().await;
    alice.subscribe("realtime:key", &with_fence("notes")).await;
    bob.subscribe("realtime:key", &with_fence("notes")).await;
    door.sql(&format!("insert into public.notes(owner, body) values ('{ALICE}', 'key')")).await;
    door.sql("delete from public.notes where body = 'key'").await;
    assert_eq!(*alice.change("realtime:key").await.at("data").at("type"), "INSERT");
    for socket in [&mut alice, &mut bob] {
        let change = socket.change("realtime:key").await;
        assert_eq!(*change.at("data").at("type"), "DELETE");
        assert_eq!(change.at("data").at("old_record").keys(), ["id"]);
    }
}

async fn old_values(door: Door) {
    let mut alice = door.alice().await;
    let mut bob = door.bob().await;
    alice.subscribe("realtime:old", &with_fence("notes_full")).await;
    bob.subscribe("realtime:old", &with_fence("notes_full")).await;
    door.sql(&format!("insert into public.notes_full(owner, body) values ('{ALICE}', 'secret of Alice')")).await;
    door.sql(&format!("update public.notes_full set owner = '{BOB}', body = 'for Bob' where owner = '{ALICE}'")).await;
    let change = bob.change("realtime:old").await;
    assert_eq!(*change.at("data").at("record").at("body"), "for Bob");
    assert_eq!(change.at("data").at("old_record").keys(), ["id"], "{change}");
    assert_eq!(*alice.change("realtime:old").await.at("data").at("type"), "INSERT");
    let others = fence(&door, &mut alice, "realtime:old").await;
    assert!(changes(&others).is_empty(), "the row has left her sight: {others:?}");
    door.sql("delete from public.notes_full").await;
}

/// Writes rows until the sight of them is as wanted; fails after three seconds.
async fn until_seen(door: &Door, socket: &mut Socket, statement: &str, table: &str, wanted: bool) {
    let limit = tokio::time::Instant::now() + std::time::Duration::from_secs(3);
    loop {
        door.sql(statement).await;
        let heard = fence(door, socket, "realtime:later").await;
        let seen = heard
            .iter()
            .any(|m| *m.payload.at("data").at("table") == *table && *m.payload.at("data").at("errors") == Json::Null);
        if seen == wanted {
            return;
        }
        assert!(tokio::time::Instant::now() < limit, "{table}: seen is {seen} after 3 s");
    }
}

async fn granted(door: Door) {
    let mut socket = door.alice().await;
    socket.subscribe("realtime:later", &with_fence("granted_later")).await;
    let insert = "insert into public.granted_later(body) values ('x')";
    until_seen(&door, &mut socket, insert, "granted_later", false).await;
    door.sql("grant select on public.granted_later to authenticated").await;
    until_seen(&door, &mut socket, insert, "granted_later", true).await;
    door.sql("revoke select on public.granted_later from authenticated").await;
    until_seen(&door, &mut socket, insert, "granted_later", false).await;
}

async fn policy(door: Door) {
    let mut socket = door.anon().await;
    socket.subscribe("realtime:later", &with_fence("notes")).await;
    let insert = format!("insert into public.notes(owner, body) values ('{ALICE}', 'later')");
    until_seen(&door, &mut socket, &insert, "notes", false).await;
    door.sql("create policy for_all on public.notes for select to anon using (body = 'later')").await;
    until_seen(&door, &mut socket, &insert, "notes", true).await;
    door.sql("drop policy for_all on public.notes").await;
    until_seen(&door, &mut socket, &insert, "notes", false).await;
}
