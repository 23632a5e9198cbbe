//! supabase-js: in its own choice of encoding (V2) and, where told, in both.

use serde_json::{Value, json};

use super::script::Script;
use super::{CHAT, MINE, OTHERS, Stage, change, flowing, message, subscribe, two_conversations};
use crate::support::json::Json;
use crate::wire::fixture::{self, ALICE, BOB};

fn client(stage: &Stage, user: &str, vsn: Option<&str>) -> Script {
    Script::start("driver.mjs", &stage.environment(&fixture::token(user), vsn))
}

fn kind(change: &Json) -> &str {
    change.at("payload").at("eventType").as_str().expect("an event type")
}

#[tokio::test(flavor = "multi_thread")]
async fn supabase_js_sees_inserts_updates_and_deletes_with_and_without_a_filter() {
    for vsn in [None, Some("1.0.0")] {
        let stage = Stage::set("").await;
        let mut script = client(&stage, "alice", vsn);
        let open = json!({"event": "*", "schema": "public", "table": "open_notes"});
        let filtered = json!({"event": "UPDATE", "schema": "public", "table": "open_notes", "filter": "n=gt.5"});
        subscribe(&mut script, "room", json!([open, filtered])).await;

        stage.sql("insert into public.open_notes(id, body, n, tags) overriding system value values (1, 'one', 1, '{a,b}')").await;
        stage.sql("update public.open_notes set n = 2").await;
        stage.sql("update public.open_notes set n = 9").await;
        stage.sql("delete from public.open_notes").await;

        let insert = change(&mut script, "room").await;
        assert_eq!((kind(&insert), insert.at("binding")), ("INSERT", &json!(0).into()));
        let new = insert.at("payload").at("new");
        assert_eq!((new.at("id"), new.at("tags")), (&json!(1).into(), &json!(["a", "b"]).into()));
        assert_eq!(*insert.at("payload").at("errors"), Json::Null);
        let update = change(&mut script, "room").await;
        assert_eq!((kind(&update), update.at("binding")), ("UPDATE", &json!(0).into()));
        let mut bindings = Vec::new();
        for _ in 0..2 {
            let update = change(&mut script, "room").await;
            assert_eq!((kind(&update), update.at("payload").at("new").at("n")), ("UPDATE", &json!(9).into()));
            bindings.push(update.at("binding").as_i64());
        }
        bindings.sort_unstable();
        assert_eq!(bindings, [Some(0), Some(1)], "the filter's binding is called beside the other");
        let delete = change(&mut script, "room").await;
        assert_eq!((kind(&delete), delete.at("payload").at("old")), ("DELETE", &json!({"id": 1}).into()));

        script.tell(&json!({"do": "remove", "channel": "room"})).await;
        let removed = script.expect("the removal", |event| event.has("removed")).await;
        assert_eq!(*removed.at("removed"), "ok");
        script.end().await;
        stage.server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_users_of_supabase_js_see_what_their_rights_allow() {
    let stage = Stage::set("").await;
    let (mut alice, mut bob) = (client(&stage, "alice", None), client(&stage, "bob", None));
    for script in [&mut alice, &mut bob] {
        let on = |table| json!({"event": "*", "schema": "public", "table": table});
        subscribe(script, "mine", json!([on("notes_full"), on("open_notes")])).await;
    }
    stage.sql(&format!("insert into public.notes_full(owner, body) values ('{ALICE}', 'a'), ('{BOB}', 'b')")).await;
    stage.sql("update public.notes_full set body = body || '2'").await;
    stage.sql("delete from public.notes_full").await;
    stage.sql("insert into public.open_notes(body) values ('last')").await;
    for (script, own) in [(&mut alice, ALICE), (&mut bob, BOB)] {
        for expected in ["INSERT", "UPDATE", "DELETE"] {
            let change = change(script, "mine").await;
            let row = change.at("payload").at(if expected == "DELETE" { "old" } else { "new" });
            assert_eq!((kind(&change), row.at("owner")), (expected, &json!(own).into()), "{change}");
        }
        assert_eq!(*change(script, "mine").await.at("payload").at("new").at("body"), "last");
        assert!(!script.rest().iter().any(|event| event.has("payload")));
    }
    alice.end().await;
    bob.end().await;
    stage.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn supabase_js_sees_another_users_rows_after_set_auth() {
    let stage = Stage::set("").await;
    let mut script = client(&stage, "anon", None);
    let on = |table| json!({"event": "*", "schema": "public", "table": table});
    subscribe(&mut script, "who", json!([on("notes"), on("open_notes")])).await;
    let write = format!("insert into public.notes(owner, body) values ('{ALICE}', 'a'), ('{BOB}', 'b')");
    let fence = "insert into public.open_notes(body) values ('fence')";

    stage.sql(&write).await;
    stage.sql(fence).await;
    assert_eq!(*change(&mut script, "who").await.at("payload").at("table"), "open_notes", "anon sees no notes");
    for (user, own) in [("alice", ALICE), ("bob", BOB)] {
        script.tell(&json!({"do": "setAuth", "token": fixture::token(user)})).await;
        script.expect("setAuth", |event| *event.at("done") == "setAuth").await;
        flowing(&mut script, "who").await;
        stage.sql(&write).await;
        stage.sql(fence).await;
        assert_eq!(*change(&mut script, "who").await.at("payload").at("new").at("owner"), own);
        assert_eq!(*change(&mut script, "who").await.at("payload").at("table"), "open_notes");
    }
    script.end().await;
    stage.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn supabase_js_rejoins_after_the_server_was_restarted() {
    let stage = Stage::set("").await;
    let mut script = client(&stage, "alice", None);
    subscribe(&mut script, "room", json!([{"event": "*", "schema": "public", "table": "open_notes"}])).await;
    let stage = super::restart(stage).await;
    script.expect("SUBSCRIBED again", |event| *event.at("status") == "SUBSCRIBED").await;
    flowing(&mut script, "room").await;
    stage.sql("insert into public.open_notes(body) values ('after')").await;
    assert_eq!(*change(&mut script, "room").await.at("payload").at("new").at("body"), "after");
    script.end().await;
    stage.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chat_set_up_works_in_v2() {
    chat("2.0.0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chat_set_up_works_in_v1() {
    chat("1.0.0").await;
}

/// Everything a chat page opens: all messages, its conversations, the conversation on screen, and a login by setAuth.
async fn chat(vsn: &str) {
    let stage = Stage::set(CHAT).await;
    stage.sql(&two_conversations()).await;
    let mut script = client(&stage, "anon", Some(vsn));
    script.tell(&json!({"do": "setAuth", "token": fixture::token("alice")})).await;
    script.expect("setAuth", |event| *event.at("done") == "setAuth").await;

    let messages = |event: &str| json!({"event": event, "schema": "public", "table": "messages"});
    let conversations = json!({"event": "*", "schema": "public", "table": "conversations"});
    let on_screen = |event: &str| -> Value {
        json!({"event": event, "schema": "public", "table": "messages", "filter": format!("conversation_id=eq.{MINE}")})
    };
    subscribe(&mut script, "messages", json!([messages("INSERT"), messages("UPDATE")])).await;
    subscribe(&mut script, "conversations", json!([conversations])).await;
    subscribe(&mut script, "screen", json!([on_screen("INSERT"), on_screen("UPDATE")])).await;

    stage.sql(&message(OTHERS, "not for Alice")).await;
    stage.sql(&message(MINE, "hello")).await;
    stage.sql("update public.messages set metadata = '{\"read\": true}'").await;
    stage.sql("update public.conversations set status = 'closed'").await;
    for channel in ["messages", "screen"] {
        let insert = change(&mut script, channel).await;
        assert_eq!((kind(&insert), insert.at("payload").at("new").at("content")), ("INSERT", &json!("hello").into()));
        let update = change(&mut script, channel).await;
        assert_eq!(
            (kind(&update), update.at("payload").at("new").at("metadata")),
            ("UPDATE", &json!({"read": true}).into())
        );
    }
    let closed = change(&mut script, "conversations").await;
    assert_eq!(*closed.at("payload").at("new").at("id"), MINE);

    // One transaction makes a conversation, its members and its first message: all of it is visible at its commit.
    let fresh = "aaaaaaaa-0000-0000-0000-000000000003";
    stage
        .sql(&format!(
            "begin; insert into public.conversations(id) values ('{fresh}');
             insert into public.conversation_members values ('{fresh}', '{ALICE}'); {}; commit;",
            message(fresh, "first")
        ))
        .await;
    assert_eq!(*change(&mut script, "conversations").await.at("payload").at("new").at("id"), fresh);
    assert_eq!(*change(&mut script, "messages").await.at("payload").at("new").at("content"), "first");

    // A refreshed token of the same user changes nothing but the token.
    let refreshed = crate::support::token::sign(
        json!({"role": "authenticated", "sub": ALICE, "exp": fixture::now() + 7200, "session": "refreshed"}),
    );
    script.tell(&json!({"do": "setAuth", "token": refreshed})).await;
    for channel in ["messages", "conversations", "screen"] {
        flowing(&mut script, channel).await;
    }
    stage.sql(&message(MINE, "after the refresh")).await;
    for channel in ["messages", "screen"] {
        assert_eq!(*change(&mut script, channel).await.at("payload").at("new").at("content"), "after the refresh");
    }
    let unasked: Vec<_> = script.rest().into_iter().filter(|event| event.has("payload")).collect();
    assert!(unasked.is_empty(), "{unasked:?}");
    script.end().await;
    stage.server.stop().await;
}
