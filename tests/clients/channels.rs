//! Broadcast and presence between real clients: supabase-js in both encodings, in Node and on a page in a browser, and
//! PyPI `realtime`; and what happens when their connection is closed.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::script::Script;
use super::{Stage, change, flowing};
use crate::support::json::Json;
use crate::support::skip;
use crate::wire::fixture;

pub(super) fn node(stage: &Stage, user: &str, vsn: &str) -> Script {
    Script::start("driver.mjs", &stage.environment(&fixture::token(user), Some(vsn)))
}

pub(super) fn python(stage: &Stage, user: &str) -> Script {
    Script::start("driver.py", &stage.environment(&fixture::token(user), None))
}

/// A page in a browser, if there is one.
fn page(stage: &Stage, user: &str) -> Option<Script> {
    let mut environment = stage.environment(&fixture::token(user), None);
    environment.push(("WALCAST_BROWSER", browser()?.to_str()?.to_owned()));
    Some(Script::start("browser.mjs", &environment))
}

/// The first Chromium on the path, whatever it is called.
fn browser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let programs = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"];
    let mut places = std::env::split_paths(&path).flat_map(|folder| programs.map(|program| folder.join(program)));
    places.find(|program| program.is_file())
}

fn config(key: &str, hears_itself: bool) -> Value {
    json!({
        "broadcast": {"ack": true, "self": hears_itself},
        "presence": {"key": key, "enabled": true},
        "private": false,
    })
}

async fn join(script: &mut Script, channel: &str, config: Value, presence: bool) {
    script.tell(&json!({"do": "subscribe", "channel": channel, "config": config, "presence": presence})).await;
    subscribed(script, channel).await;
}

pub(super) async fn subscribed(script: &mut Script, channel: &str) {
    script.expect("SUBSCRIBED", |e| *e.at("channel") == *channel && *e.at("status") == "SUBSCRIBED").await;
}

pub(super) async fn send(script: &mut Script, channel: &str, payload: &Value) {
    script.tell(&json!({"do": "send", "channel": channel, "event": "word", "payload": payload})).await;
}

/// Waits for the next broadcast on a channel, and that it is this one.
pub(super) async fn hears(script: &mut Script, channel: &str, event: &str, payload: &Value) {
    let heard = script.expect("a broadcast", |heard| *heard.at("channel") == *channel && heard.has("broadcast")).await;
    let message = heard.at("broadcast");
    assert_eq!((message.at("event"), message.at("payload")), (&Json::from(json!(event)), &payload.clone().into()));
}

pub(super) async fn sent(script: &mut Script, channel: &str) {
    let sent = script.expect("the send", |event| *event.at("channel") == *channel && event.has("sent")).await;
    assert_eq!(*sent.at("sent"), "ok");
}

/// Waits until a client knows exactly these keys, each with one object of this mood.
async fn sees(script: &mut Script, channel: &str, present: &[(&str, &str)]) {
    let is_so = |event: &Json| {
        let state = event.at("present");
        *event.at("channel") == *channel
            && event.has("present")
            && state.keys().len() == present.len()
            && present.iter().all(|(key, mood)| {
                state.has(key) && state.at(key).elements().len() == 1 && *state.at(key).nth(0).at("mood") == **mood
            })
    };
    script.expect(&format!("the presence of {present:?}"), is_so).await;
}

/// What two clients in one room do: speak, come and go, and watch a table. `waits` when the library says what came of
/// a send.
async fn meet(stage: &Stage, alice: &mut Script, bob: &mut Script, waits: bool) {
    for (script, key) in [(&mut *alice, "alice"), (&mut *bob, "bob")] {
        script
            .tell(&json!({
                "do": "subscribe", "channel": "lobby", "presence": true, "config": config(key, false),
                "bindings": [{"event": "*", "schema": "public", "table": "open_notes"}],
            }))
            .await;
        subscribed(script, "lobby").await;
        flowing(script, "lobby").await;
        sees(script, "lobby", &[]).await;
    }
    let word = json!({"text": "hëllo", "list": [1, {"deep": null}]});
    send(alice, "lobby", &word).await;
    if waits {
        sent(alice, "lobby").await;
    }
    hears(bob, "lobby", "word", &word).await;

    alice.tell(&json!({"do": "track", "channel": "lobby", "payload": {"mood": "calm"}})).await;
    for script in [&mut *alice, &mut *bob] {
        sees(script, "lobby", &[("alice", "calm")]).await;
    }
    bob.tell(&json!({"do": "track", "channel": "lobby", "payload": {"mood": "glad"}})).await;
    alice.expect("that bob came", |event| *event.at("came") == "bob").await;
    sees(alice, "lobby", &[("alice", "calm"), ("bob", "glad")]).await;
    alice.tell(&json!({"do": "track", "channel": "lobby", "payload": {"mood": "wild"}})).await;
    sees(bob, "lobby", &[("alice", "wild"), ("bob", "glad")]).await;
    bob.tell(&json!({"do": "untrack", "channel": "lobby"})).await;
    alice.expect("that bob went", |event| *event.at("went") == "bob").await;
    sees(alice, "lobby", &[("alice", "wild")]).await;

    stage.sql("insert into public.open_notes(body) values ('seen')").await;
    for script in [&mut *alice, &mut *bob] {
        let change = change(script, "lobby").await.to_string();
        assert!(change.contains("seen"), "{change}");
    }
    alice.tell(&json!({"do": "remove", "channel": "lobby"})).await;
    alice.expect("the removal", |event| *event.at("removed") == "ok").await;
    bob.expect("that alice went", |event| *event.at("went") == "alice").await;
    sees(bob, "lobby", &[]).await;
    let own: Vec<_> = alice.rest().into_iter().filter(|event| event.has("broadcast")).collect();
    assert!(own.is_empty(), "{own:?}");

    join(bob, "echo", config("", true), false).await;
    send(bob, "echo", &json!({"back": true})).await;
    hears(bob, "echo", "word", &json!({"back": true})).await;
}

/// What is said by HTTP, with and without a channel.
async fn post(alice: &mut Script, bob: &mut Script, binary: bool) {
    join(alice, "post", config("", false), false).await;
    let first = json!({"by": "the batch"});
    send(bob, "post", &first).await;
    sent(bob, "post").await;
    hears(alice, "post", "word", &first).await;
    let second = json!({"by": "the single"});
    bob.tell(&json!({"do": "httpSend", "channel": "post", "event": "a word", "payload": second})).await;
    let answer = bob.expect("the answer", |event| event.has("httpSent")).await;
    assert_eq!(*answer.at("httpSent"), json!({"success": true}));
    hears(alice, "post", "a word", &second).await;
    if binary {
        bob.tell(&json!({"do": "httpSend", "channel": "post", "event": "b", "bytes": [0, 255, 10]})).await;
        hears(alice, "post", "b", &json!({"bytes": [0, 255, 10]})).await;
    }
}

/// An ArrayBuffer arrives as one.
async fn raw(alice: &mut Script, bob: &mut Script) {
    for script in [&mut *alice, &mut *bob] {
        join(script, "raw", config("", false), false).await;
    }
    alice.tell(&json!({"do": "send", "channel": "raw", "event": "b", "bytes": [0, 1, 254, 255]})).await;
    sent(alice, "raw").await;
    hears(bob, "raw", "b", &json!({"bytes": [0, 1, 254, 255]})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_supabase_js_clients_meet_in_v2() {
    let stage = Stage::set("").await;
    let (mut alice, mut bob) = (node(&stage, "alice", "2.0.0"), node(&stage, "bob", "2.0.0"));
    meet(&stage, &mut alice, &mut bob, true).await;
    raw(&mut alice, &mut bob).await;
    alice.end().await;
    bob.end().await;
    stage.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn supabase_js_and_python_speak_by_http() {
    let stage = Stage::set("").await;
    let (mut alice, mut bob) = (node(&stage, "alice", "2.0.0"), node(&stage, "bob", "2.0.0"));
    post(&mut alice, &mut bob, true).await;
    bob.end().await;
    let mut bob = node(&stage, "bob", "1.0.0");
    alice.tell(&json!({"do": "remove", "channel": "post"})).await;
    alice.expect("the removal", |event| *event.at("removed") == "ok").await;
    post(&mut alice, &mut bob, true).await;
    let mut carol = python(&stage, "alice");
    join(&mut carol, "post", config("", false), false).await;
    carol.tell(&json!({"do": "httpSend", "channel": "post", "event": "word", "payload": {"by": "py"}})).await;
    carol.expect("the answer", |event| *event.at("httpSent") == "ok").await;
    for script in [&mut carol, &mut alice] {
        hears(script, "post", "word", &json!({"by": "py"})).await;
    }
    for script in [alice, bob, carol] {
        script.end().await;
    }
    stage.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_in_a_browser_speaks_by_http() {
    let stage = Stage::set("").await;
    let Some(mut alice) = page(&stage, "alice") else {
        return skip("a page in a browser, by HTTP", "there is no Chromium on the path; tests/setup installs one");
    };
    let mut bob = node(&stage, "bob", "2.0.0");
    // The page is of another origin, so with preflights.
    post(&mut bob, &mut alice, true).await;
    alice.end().await;
    bob.end().await;
    stage.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_supabase_js_clients_meet_in_v1_and_across_versions() {
    let stage = Stage::set("").await;
    let (mut alice, mut bob) = (node(&stage, "alice", "1.0.0"), node(&stage, "bob", "1.0.0"));
    meet(&stage, &mut alice, &mut bob, true).await;
    bob.end().await;
    let mut carol = node(&stage, "bob", "2.0.0");
    meet(&stage, &mut carol, &mut alice, true).await;
    carol.end().await;
    alice.end().await;
    stage.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_in_a_browser_meets_a_client_in_node() {
    let stage = Stage::set("").await;
    let Some(mut alice) = page(&stage, "alice") else {
        return skip("a page in a browser", "there is no Chromium on the path; tests/setup installs one");
    };
    let mut bob = node(&stage, "bob", "1.0.0");
    meet(&stage, &mut alice, &mut bob, true).await;
    bob.end().await;
    let mut bob = page(&stage, "bob").expect("there was a browser");
    meet(&stage, &mut bob, &mut alice, true).await;
    raw(&mut alice, &mut bob).await;
    alice.end().await;
    bob.end().await;
    stage.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_realtime_meets_itself_and_supabase_js() {
    let stage = Stage::set("").await;
    let (mut alice, mut bob) = (python(&stage, "alice"), python(&stage, "bob"));
    meet(&stage, &mut alice, &mut bob, false).await;
    let mut carol = node(&stage, "alice", "2.0.0");
    for script in [&mut carol, &mut bob] {
        join(script, "both", config("", false), false).await;
    }
    send(&mut carol, "both", &json!({"from": "js"})).await;
    hears(&mut bob, "both", "word", &json!({"from": "js"})).await;
    send(&mut bob, "both", &json!({"from": "py"})).await;
    hears(&mut carol, "both", "word", &json!({"from": "py"})).await;
    // Ending checks that Python's library understood every frame.
    for script in [alice, bob, carol] {
        script.end().await;
    }
    stage.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn supabase_js_comes_back_however_its_connection_was_closed() {
    let stage = Stage::set("").await;
    let mut environment = stage.environment(&fixture::token("alice"), None);
    environment.push(("WALCAST_PROXY", "yes".to_owned()));
    let mut alice = Script::start("driver.mjs", &environment);
    let mut bob = node(&stage, "bob", "2.0.0");
    join(&mut bob, "room", config("bob", false), true).await;
    alice
        .tell(&json!({
            "do": "subscribe", "channel": "room", "config": config("alice", false),
            "bindings": [{"event": "INSERT", "schema": "public", "table": "open_notes"}],
        }))
        .await;
    for code in [0, 1000, 1001, 1006, 1012] {
        if code > 0 {
            alice.tell(&json!({"do": "close", "code": code})).await;
        }
        subscribed(&mut alice, "room").await;
        flowing(&mut alice, "room").await;
        send(&mut bob, "room", &json!({"code": code})).await;
        hears(&mut alice, "room", "word", &json!({"code": code})).await;
        stage.sql(&format!("insert into public.open_notes(body) values ('after {code}')")).await;
        let body = change(&mut alice, "room").await.at("payload").at("new").at("body").clone();
        assert_eq!(body, *format!("after {code}"));
        alice.tell(&json!({"do": "track", "channel": "room", "payload": {"mood": code.to_string()}})).await;
        sees(&mut bob, "room", &[("alice", &code.to_string())]).await;
    }
    alice.end().await;
    bob.end().await;
    stage.server.stop().await;
}
