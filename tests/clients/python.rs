//! PyPI `realtime`, which validates every frame strictly and speaks V1 only, and a raw client on `websockets`.

use serde_json::json;

use super::script::Script;
use super::{Stage, change, flowing, subscribe};
use crate::support::json::Json;
use crate::wire::fixture::{self, ALICE, BOB};

fn client(stage: &Stage, user: &str) -> Script {
    Script::start("driver.py", &stage.environment(&fixture::token(user), None))
}

fn data(change: &Json) -> &Json {
    change.at("payload").at("data")
}

#[tokio::test(flavor = "multi_thread")]
async fn python_realtime_sees_inserts_updates_and_deletes_with_and_without_a_filter() {
    let stage = Stage::set("").await;
    let mut script = client(&stage, "alice");
    subscribe(&mut script, "all", json!([{"event": "*", "schema": "public", "table": "open_notes"}])).await;
    let filtered = json!([{"event": "UPDATE", "schema": "public", "table": "open_notes", "filter": "n=gt.5"}]);
    subscribe(&mut script, "filtered", filtered).await;

    stage.sql("insert into public.open_notes(body, n) values ('one', 1)").await;
    stage.sql("update public.open_notes set n = 2").await;
    stage.sql("update public.open_notes set n = 9").await;
    stage.sql("delete from public.open_notes").await;
    for kind in ["INSERT", "UPDATE", "UPDATE", "DELETE"] {
        let change = change(&mut script, "all").await;
        assert_eq!(*data(&change).at("type"), kind, "{change}");
    }
    assert_eq!(*data(&change(&mut script, "filtered").await).at("record").at("n"), json!(9));

    script.tell(&json!({"do": "remove", "channel": "all"})).await;
    script.expect("the removal", |event| event.has("removed")).await;
    script.end().await;
    stage.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_users_of_python_realtime_see_what_their_rights_allow_and_set_auth_changes_it() {
    let stage = Stage::set("").await;
    let (mut alice, mut bob) = (client(&stage, "alice"), client(&stage, "bob"));
    for script in [&mut alice, &mut bob] {
        subscribe(script, "notes", json!([{"event": "*", "schema": "public", "table": "notes"}])).await;
    }
    let write = format!("insert into public.notes(owner, body) values ('{ALICE}', 'a'), ('{BOB}', 'b')");
    stage.sql(&write).await;
    for (script, own) in [(&mut alice, ALICE), (&mut bob, BOB)] {
        assert_eq!(*data(&change(script, "notes").await).at("record").at("owner"), own);
    }
    bob.tell(&json!({"do": "setAuth", "token": fixture::token("alice")})).await;
    flowing(&mut bob, "notes").await;
    stage.sql(&write).await;
    for script in [&mut alice, &mut bob] {
        assert_eq!(*data(&change(script, "notes").await).at("record").at("owner"), ALICE);
        assert!(!script.rest().iter().any(|event| event.has("payload")));
    }
    alice.end().await;
    bob.end().await;
    stage.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_realtime_rejoins_after_the_server_was_restarted() {
    let stage = Stage::set("").await;
    let mut script = client(&stage, "alice");
    subscribe(&mut script, "room", json!([{"event": "*", "schema": "public", "table": "open_notes"}])).await;
    let stage = super::restart(stage).await;
    flowing(&mut script, "room").await;
    stage.sql("insert into public.open_notes(body) values ('after')").await;
    assert_eq!(*data(&change(&mut script, "room").await).at("record").at("body"), "after");
    script.end().await;
    stage.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_python_client_gets_bare_events_by_a_legacy_join() {
    let stage = Stage::set("").await;
    let mut script = Script::start("legacy.py", &stage.environment(&fixture::token("alice"), None));
    let ok = script
        .expect("the join's reply", |event| {
            *event.at("frame").at("event") == "phx_reply" && *event.at("frame").at("ref") == "1"
        })
        .await;
    assert_eq!(*ok.at("frame").at("payload").at("status"), "ok");
    script.expect("the system message", |event| *event.at("frame").at("event") == "system").await;
    stage.sql(&format!("insert into public.notes(owner, body) values ('{BOB}', 'b'), ('{ALICE}', 'a')")).await;
    let insert = script.expect("the insert", |event| *event.at("frame").at("event") == "INSERT").await;
    let record = insert.at("frame").at("payload").at("record");
    assert_eq!((record.at("owner"), record.at("body")), (&json!(ALICE).into(), &json!("a").into()));
    stage.server.stop().await;
}
