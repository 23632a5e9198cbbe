//! Private messages: the INSERT policies of `realtime.messages` decide, under the claims and headers of the request, and
//! nobody waits for an answer but who asked. Checks 105 and 111 as far as HTTP goes.

use super::client::{Answer, Request, Stage, assert_silent, next_binary, next_text};
use crate::{
    rights::stage::database,
    support::{
        server::Server,
        socket::Socket,
        token::{alice, anon, bob},
        wait::until,
    },
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// Everybody who is signed in hears everything; who speaks where is as it says. What is written in PL/pgSQL only
/// Postgres can decide.
const POLICIES: &str = r"
create function public.slowly() returns boolean language plpgsql volatile as
  $$ begin perform pg_advisory_lock(1); return true; end $$;
create function public.asked() returns boolean language plpgsql stable as $$ begin return true; end $$;
create policy hear on realtime.messages for select to authenticated using (true);
create policy speak on realtime.messages for insert to authenticated with check (
  extension = 'broadcast' and case realtime.topic()
    when 'open' then true
    when 'alice' then auth.uid() = '11111111-1111-1111-1111-111111111111'
    when 'vip' then current_setting('request.headers', true)::jsonb ->> 'x-room' = 'vip'
    when 'asked' then asked()
    when 'slow' then slowly()
    else false end);
";

async fn stage(extra: &[(&str, &str)]) -> Stage {
    Stage::on(database(POLICIES).await, extra).await
}

/// A member of the private room of a topic.
async fn member(server: &Server, vsn: &str, topic: &str) -> Socket {
    let mut socket = Socket::open(&server.websocket_url(vsn, &anon())).await;
    let payload = json!({"config": {"private": true}, "access_token": alice()});
    socket.join(&format!("realtime:{topic}"), &payload).await;
    socket
}

fn private(topic: &str, number: i64) -> Value {
    json!({"topic": topic, "event": "e", "payload": {"n": number}, "private": true})
}

async fn batch(server: &Server, token: &str, messages: Value) -> Answer {
    Request::new("POST", "/api/broadcast").bearer(token).json(&json!({ "messages": messages })).send(server).await
}

async fn single(server: &Server, token: &str, topic: &str) -> Answer {
    let path = format!("/api/broadcast/{topic}/events/e?private=true");
    Request::new("POST", &path).bearer(token).json(&json!({"n": 0})).send(server).await
}

/// Questions about rights so far.
async fn questions(server: &Server) -> u64 {
    let counters = &Request::new("GET", "/health").send(server).await.json()["counters"];
    let count = |name: &str| counters[name].as_u64().unwrap_or_else(|| panic!("{name} of {counters}"));
    count("rights_in_process_total") + count("rights_asked_total")
}

#[tokio::test]
async fn check_111_who_may_speak_is_heard_in_the_private_room_and_nobody_else_anywhere() {
    let stage = stage(&[]).await;
    let server = &stage.server;
    let (mut v1, mut v2) = (member(server, "1.0.0", "alice").await, member(server, "2.0.0", "alice").await);
    let mut public = stage.member("2.0.0", "alice").await;

    assert_eq!(batch(server, &alice(), json!([private("alice", 1), private("alice", 2)])).await.outcome(), (202, ""));
    for number in [1, 2] {
        assert_eq!(*next_text(&mut v1).await.at("payload"), json!({"n": number}));
        assert_eq!(*next_text(&mut v2).await.at("payload"), json!({"n": number}));
    }
    assert_eq!(single(server, &alice(), "alice").await.outcome(), (202, ""));
    assert_eq!(*next_text(&mut v1).await.at("payload"), json!({"n": 0}));
    assert_eq!(next_binary(&mut v2).await.3, b"{\"n\":0}");

    for token in [bob(), anon()] {
        assert_eq!(batch(server, &token, json!([private("alice", 3)])).await.outcome(), (202, ""));
        assert_eq!(single(server, &token, "alice").await.outcome(), (403, r#"{"message":"Unauthorized"}"#));
    }
    // A public message of the same name is heard in the public room alone.
    let plain = json!({"topic": "alice", "event": "e", "payload": {"n": 4}});
    assert_eq!(batch(server, &bob(), json!([plain])).await.status, 202);
    assert_eq!(*next_text(&mut public).await.at("payload"), json!({"n": 4}));
    for socket in [&mut v1, &mut v2, &mut public] {
        assert_silent(socket).await;
    }
    let left = stage.database.connect().await.query_one("select count(*) from realtime.messages", &[]).await.unwrap();
    assert_eq!(left.get::<_, i64>(0), 0, "asking leaves no trace (check 135)");
}

#[tokio::test]
async fn a_batch_asks_once_a_topic_and_drops_only_what_is_refused() {
    let stage = stage(&[]).await;
    let server = &stage.server;
    let mut open = member(server, "2.0.0", "open").await;
    let mut asked = member(server, "2.0.0", "asked").await;
    let before = questions(server).await;
    let mut messages: Vec<Value> = Vec::new();
    for number in 0..50 {
        messages.extend([private("open", number), private("closed", number), private("asked", number)]);
    }
    assert_eq!(batch(server, &alice(), messages.into()).await.outcome(), (202, ""));
    for socket in [&mut open, &mut asked] {
        for number in 0..50 {
            assert_eq!(*next_text(socket).await.at("payload"), json!({"n": number}));
        }
        assert_silent(socket).await;
    }
    assert_eq!(questions(server).await - before, 3);
}

#[tokio::test]
async fn policies_read_all_headers_of_the_request() {
    let stage = stage(&[]).await;
    let path = "/api/broadcast/vip/events/e?private=true";
    for (header, value, status) in [("x-room", "vip", 202), ("X-Room", "vip", 202), ("x-room", "other", 403)] {
        let request = Request::new("POST", path).bearer(&alice()).header(header, value).json(&json!({}));
        assert_eq!(request.send(&stage.server).await.status, status, "{header}: {value}");
    }
    assert_eq!(single(&stage.server, &alice(), "vip").await.status, 403);
}

#[tokio::test]
async fn a_policy_that_takes_long_holds_up_nobody_else() {
    let stage = stage(&[("WALCAST_LANE_STATEMENT_TIMEOUT_MS", "60000")]).await;
    let server = &stage.server;
    let token = alice();
    let client = stage.database.connect().await;
    client.batch_execute("select pg_advisory_lock(1)").await.unwrap();
    let is_waiting = async || {
        let asking = "select count(*) >= 1 from pg_stat_activity where application_name = 'walcast rights' \
                      and datname = current_database() and wait_event = 'advisory'";
        client.query_one(asking, &[]).await.unwrap().get::<_, bool>(0)
    };
    // More than there are connections to ask on.
    let slow = join_all((0..8).map(|_| single(server, &token, "slow")));
    let others = async {
        until(SOON, is_waiting).await;
        let mut heard = stage.member("2.0.0", "room").await;
        let plain = |number| json!({"topic": "room", "event": "e", "payload": {"n": number}});
        assert_eq!(batch(server, &token, json!([plain(1)])).await.status, 202);
        assert_eq!(*next_text(&mut heard).await.at("payload"), json!({"n": 1}));
        // What is public in a batch does not wait for what is private in it.
        let mut mixed = Box::pin(batch(server, &token, json!([private("slow", 2), plain(2)])));
        tokio::select! {
            biased;
            payload = next_text(&mut heard) => assert_eq!(*payload.at("payload"), json!({"n": 2})),
            answer = &mut mixed => panic!("answered without an answer about rights, or before it was heard: {answer:?}"),
        }
        assert!(is_waiting().await, "nobody has answered the slow ones");
        client.batch_execute("select pg_advisory_unlock(1)").await.unwrap();
        assert_eq!(mixed.await.outcome(), (202, ""));
    };
    let (answers, ()) = tokio::join!(slow, others);
    for answer in answers {
        // Whoever found no connection in time, or waited too long, was told so.
        assert!([202, 422].contains(&answer.status), "{answer:?}");
    }
}

#[tokio::test]
async fn a_policy_that_takes_longer_than_it_may_is_canceled() {
    let stage = stage(&[("WALCAST_LANE_STATEMENT_TIMEOUT_MS", "300")]).await;
    let client = stage.database.connect().await;
    client.batch_execute("select pg_advisory_lock(1)").await.unwrap();
    let canceled = (422, r#"{"message":"Query canceled"}"#);
    assert_eq!(single(&stage.server, &alice(), "slow").await.outcome(), canceled);
    client.batch_execute("select pg_advisory_unlock(1)").await.unwrap();
    assert_eq!(single(&stage.server, &alice(), "slow").await.status, 202);
}

#[tokio::test]
async fn without_a_database_only_what_the_process_knows_is_decided() {
    let stage = stage(&[]).await;
    let server = &stage.server;
    assert_eq!(single(server, &alice(), "asked").await.status, 202);
    let cut = "do $$ begin execute format('alter database %I connection limit 0', current_database()); end $$;
               select pg_terminate_backend(pid) from pg_stat_activity
                 where datname = current_database() and application_name = 'walcast rights'";
    stage.database.execute(cut).await;
    until(SOON, async || single(server, &alice(), "asked").await.status == 422).await;
    let unavailable = (422, r#"{"message":"Tenant database unavailable"}"#);
    assert_eq!(single(server, &alice(), "asked").await.outcome(), unavailable);
    let mut heard = stage.member("2.0.0", "asked").await;
    assert_eq!(batch(server, &alice(), json!([private("asked", 1)])).await.outcome(), (202, ""));
    assert_silent(&mut heard).await;
}

#[tokio::test]
async fn who_asks_about_many_topics_does_not_keep_others_from_joining() {
    // Half a second a question about speaking, which is about two extensions.
    let slow = "create policy hear on realtime.messages for select to authenticated using (pg_sleep(0.05) is not null);
        create policy speak on realtime.messages for insert to anon with check (pg_sleep(0.25) is not null)";
    let stage = Stage::on(database(slow).await, &[]).await;
    let asked: Vec<Value> = (0..100).map(|number| private(&format!("t{number}"), number)).collect();
    let token = anon();
    let requests = join_all((0..8).map(|_| batch(&stage.server, &token, json!(asked.clone()))));
    let joins = async {
        let count = async || {
            let health = Request::new("GET", "/health").send(&stage.server).await.json();
            health["counters"]["rights_asked_total"].as_u64()
        };
        until(SOON, async || count().await >= Some(2)).await;
        for topic in ["a", "b"] {
            member(&stage.server, "2.0.0", topic).await;
        }
        count().await
    };
    tokio::select! {
        asked = joins => assert!(asked < Some(100), "{asked:?}"),
        _ = requests => panic!("all was answered before anybody joined"),
    }
}
