//! Private channels with real clients: who may hear, who may speak, and what comes from the database.

use serde_json::{Value, json};
use walcast::pg::migrate::migrate;

use super::Stage;
use super::channels::{hears, node, python, send, sent, subscribed};
use super::script::Script;
use crate::support::postgres::Postgres;
use crate::wire::fixture::{self, ALICE, BOB};

/// Alice speaks to the team, Bob may listen, and nobody else is there.
fn policies() -> String {
    format!(
        "create policy hear on realtime.messages for select to authenticated
           using (realtime.topic() = 'team' and (select auth.uid()) in ('{ALICE}', '{BOB}'));
         create policy speak on realtime.messages for insert to authenticated
           with check (realtime.topic() = 'team' and (select auth.uid()) = '{ALICE}');"
    )
}

/// A database that was migrated, with these policies, and a server on it.
pub(super) async fn stage() -> Stage {
    let database = Postgres::default().database().await;
    fixture::prepare(&database).await;
    let report = migrate(&mut database.connect().await, false).await.expect("a database can be migrated");
    assert!(report.is_complete(), "{report}");
    database.execute(&policies()).await;
    let server = crate::messages::setup::server(&database, &[]).await;
    Stage { database, server }
}

fn private(broadcast: &Value) -> Value {
    json!({"broadcast": broadcast, "presence": {"key": "", "enabled": false}, "private": true})
}

async fn enter(script: &mut Script, channel: &str, broadcast: &Value) {
    script.tell(&json!({"do": "subscribe", "channel": channel, "config": private(broadcast)})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_enter_private_channels_by_policy_and_speak_by_policy() {
    let stage = stage().await;
    for vsn in ["2.0.0", "1.0.0"] {
        let (mut alice, mut bob) = (node(&stage, "alice", vsn), node(&stage, "bob", vsn));
        let mut carol = python(&stage, "bob");
        for script in [&mut alice, &mut bob, &mut carol] {
            enter(script, "team", &json!({"ack": true, "self": false})).await;
            subscribed(script, "team").await;
        }
        // What Bob says is heard by nobody, and answered by nothing.
        send(&mut bob, "team", &json!({"by": "bob"})).await;
        bob.tell(&json!({"do": "track", "channel": "team", "payload": {"mood": "sly"}})).await;
        let tracked = bob.expect("the answer", |event| event.has("tracked")).await;
        assert_eq!(*tracked.at("tracked"), "error");
        send(&mut alice, "team", &json!({"by": "alice"})).await;
        sent(&mut alice, "team").await;
        for script in [&mut bob, &mut carol] {
            hears(script, "team", "word", &json!({"by": "alice"})).await;
        }
        assert!(!alice.rest().iter().any(|event| event.has("broadcast")));

        enter(&mut bob, "board", &json!({"ack": true, "self": false})).await;
        let refused = bob.expect("the refusal", |event| *event.at("status") == "CHANNEL_ERROR").await;
        let why = refused.at("error").as_str().expect("a reason");
        assert!(why.contains("You do not have permissions to read from this Channel topic: board"), "{why}");
        for script in [alice, bob, carol] {
            script.end().await;
        }
    }
    stage.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_hear_from_the_database_and_what_they_missed() {
    let stage = stage().await;
    for (round, vsn) in ["2.0.0", "1.0.0"].into_iter().enumerate() {
        let (mut alice, mut carol) = (node(&stage, "alice", vsn), python(&stage, "bob"));
        for script in [&mut alice, &mut carol] {
            enter(script, "team", &json!({"ack": false, "self": false})).await;
            subscribed(script, "team").await;
        }
        for number in 1..=3 {
            let payload = json!({"round": round, "number": number});
            stage.sql(&format!("select realtime.send('{payload}', 'news', 'team')")).await;
            for (name, script) in [("supabase-js", &mut alice), ("Python", &mut carol)] {
                let what = format!("news {number} for {name} in {vsn}");
                let news = script.expect(&what, |event| event.has("broadcast")).await;
                let message = news.at("broadcast");
                assert_eq!(*message.at("event"), "news");
                assert_eq!(*message.at("payload").at("number"), json!(number));
                assert_eq!(message.at("payload").at("id"), message.at("meta").at("id"), "{message}");
            }
        }
        let mut bob = node(&stage, "bob", vsn);
        enter(&mut bob, "team", &json!({"ack": false, "self": false, "replay": {"since": 1, "limit": 2}})).await;
        subscribed(&mut bob, "team").await;
        for number in [2, 3] {
            let missed = bob.expect("what was missed", |event| event.has("broadcast")).await;
            let message = missed.at("broadcast");
            assert_eq!(*message.at("payload").at("number"), json!(number));
            assert_eq!(*message.at("meta").at("replayed"), json!(true));
        }
        for script in [alice, bob, carol] {
            script.end().await;
        }
    }
    stage.server.stop().await;
}
