//! Checks 113 to 118: what the database broadcasts, and what it has kept. Protocol reference, sections 6.4 to 6.6.

use serde_json::{Value, json};

use super::room::{config, hear, hears_nothing, listening, member, private_as, rest};
use super::{Check, Door};
use crate::support::json::Json;
use crate::support::socket::{Message, Vsn};

/// A table whose trigger broadcasts its changes.
pub(super) const SCHEMA: &str = "
create table public.told (id int primary key, body text);
create function public.tell() returns trigger language plpgsql security definer as $$
begin
  perform realtime.broadcast_changes('stored', tg_op, tg_op, tg_table_name, tg_table_schema, new, old);
  return null;
end $$;
create trigger tell after insert or update or delete on public.told for each row execute function public.tell();
";

pub(super) const CHECKS: &[Check] = &[
    Check::both(113, "realtime.send reaches public members, private ones not", |d| Box::pin(send_public(d))),
    Check::both(114, "realtime.send is private by default", |d| Box::pin(send_private(d))),
    Check::both(115, "a row trigger broadcasts changes", |d| Box::pin(trigger(d))),
    Check::both(116, "a transaction that rolls back says nothing", |d| Box::pin(rolled_back(d))),
    Check::both(117, "a join is told the newest messages it missed, oldest first", |d| Box::pin(replay(d))),
    Check::both(118, "public rooms have no replay", |d| Box::pin(public_replay(d))),
    Check::both(300, "broadcasts keep their place among the row changes of their transaction", |d| Box::pin(order(d))),
    Check::both(301, "bytes of the database reach V2 members only", |d| Box::pin(bytes(d))),
    Check::both(302, "parameters of a replay that make no sense refuse the join", |d| Box::pin(bad_replay(d))),
];

/// The id the server gives with a message of the database.
fn id(message: &Message) -> String {
    message.payload.at("meta").at("id").as_str().unwrap_or_else(|| panic!("an id: {}", message.text)).to_owned()
}

async fn send_public(door: Door) {
    let (mut a, _) = member(&door, "realtime:both", &listening()).await;
    let (mut inside, _) = member(&door, "realtime:both", &private_as("alice")).await;
    door.sql(r#"select realtime.send('{"a":1}', 'hi', 'both', false)"#).await;
    let message = hear(&mut a, "realtime:both").await;
    let id = id(&message);
    let expected = json!({
        "type": "broadcast", "event": "hi", "payload": {"a": 1, "id": id}, "meta": {"id": id},
    });
    assert_eq!(message.payload, expected, "{}", message.text);
    assert_eq!((message.join_ref, message.reference), (Json::Null, Json::Null));
    hears_nothing(&mut inside, "it was public").await;
}

async fn send_private(door: Door) {
    let (mut inside, _) = member(&door, "realtime:stored", &private_as("alice")).await;
    let (mut outside, _) = member(&door, "realtime:stored", &listening()).await;
    door.sql(r#"select realtime.send('{"id":"mine"}', 'hi', 'stored')"#).await;
    let message = hear(&mut inside, "realtime:stored").await;
    assert_eq!(*message.payload.at("payload"), json!({"id": "mine"}), "an id of its own is kept");
    assert_ne!(id(&message), "mine");
    hears_nothing(&mut outside, "it was private").await;
}

async fn trigger(door: Door) {
    let (mut a, _) = member(&door, "realtime:stored", &private_as("alice")).await;
    door.sql("delete from public.told").await;
    rest(&mut a).await;
    door.sql("insert into public.told values (1, 'a'); update public.told set body = 'b'; delete from public.told")
        .await;
    let (first, second) = (json!({"id": 1, "body": "a"}), json!({"id": 1, "body": "b"}));
    for (operation, record, old_record) in [
        ("INSERT", first.clone(), Value::Null),
        ("UPDATE", second.clone(), first.clone()),
        ("DELETE", Value::Null, second.clone()),
    ] {
        let message = hear(&mut a, "realtime:stored").await;
        let expected = json!({
            "operation": operation, "record": record, "old_record": old_record, "table": "told", "schema": "public",
            "id": id(&message),
        });
        assert_eq!(*message.payload.at("payload"), expected, "{}", message.text);
        assert_eq!(*message.payload.at("event"), operation);
    }
}

async fn rolled_back(door: Door) {
    let (mut a, _) = member(&door, "realtime:both", &listening()).await;
    door.sql("begin; select realtime.send('{}', 'never', 'both', false); rollback").await;
    door.sql("select realtime.send('{}', 'after', 'both', false)").await;
    assert_eq!(*hear(&mut a, "realtime:both").await.payload.at("event"), "after");
}

async fn order(door: Door) {
    let topic = "realtime:both";
    let mut payload = config(false, false, false);
    payload["config"]["postgres_changes"] = super::all_of("open_full");
    let mut a = door.alice().await;
    a.join(topic, &payload).await;
    a.expect("system", |m| m.is(topic, "system")).await;
    door.sql(
        "insert into public.open_full(body) values ('1'); select realtime.send('{}', '2', 'both', false);
         insert into public.open_full(body) values ('3'); select realtime.send('{}', '4', 'both', false)",
    )
    .await;
    for expected in ["1", "2", "3", "4"] {
        let message = a.expect("the next of the transaction", |m| m.topic == topic).await;
        let mark = if message.event == "broadcast" {
            message.payload.at("event")
        } else {
            message.payload.at("data").at("record").at("body")
        };
        assert_eq!(*mark, expected, "{}", message.text);
    }
}

async fn bytes(door: Door) {
    let (mut a, _) = member(&door.of(Vsn::V2), "realtime:both", &listening()).await;
    let (mut old, _) = member(&door.of(Vsn::V1), "realtime:both", &listening()).await;
    door.sql(r"select realtime.send_binary('\x00ff', 'raw', 'both', false)").await;
    let message = hear(&mut a, "realtime:both").await;
    let binary = message.binary.as_ref().expect("bytes come in a binary frame");
    assert_eq!((binary.encoding, binary.payload.as_slice()), (0, &[0, 0xff][..]));
    assert!(!id(&message).is_empty());
    hears_nothing(&mut old, "V1 has no form for bytes").await;
}

/// A private join of `stored` that asks for what it missed.
fn asking(replay: &Value) -> Value {
    let mut payload = private_as("alice");
    payload["config"]["broadcast"]["replay"] = replay.clone();
    payload
}

async fn replay(door: Door) {
    let topic = "realtime:stored";
    let (mut witness, _) = member(&door, topic, &private_as("alice")).await;
    let since: i64 = {
        let client = door.database.connect().await;
        let sql = "select (extract(epoch from clock_timestamp()) * 1000)::bigint";
        client.query_one(sql, &[]).await.expect("a time").get(0)
    };
    // `since` counts milliseconds: let this one pass.
    door.sql("select pg_sleep(0.01)").await;
    let mut ids = Vec::new();
    for n in 1..=3 {
        door.sql(&format!(r#"select realtime.send('{{"n":{n}}}', 'kept', 'stored')"#)).await;
        ids.push(id(&hear(&mut witness, topic).await));
    }
    let (mut a, channel) = member(&door, topic, &asking(&json!({"since": since, "limit": 2}))).await;
    for n in [2, 3] {
        let message = hear(&mut a, topic).await;
        let expected = json!({
            "type": "broadcast", "event": "kept", "payload": {"n": n, "id": ids[n - 1]},
            "meta": {"replayed": true, "id": ids[n - 1]},
        });
        assert_eq!(message.payload, expected, "{}", message.text);
        assert_eq!(message.reference, Json::Null);
        let is_own = message.join_ref == Json::Null || message.join_ref == *channel.join_ref;
        assert!(is_own, "{}", message.text);
    }
    hears_nothing(&mut a, "two were asked for").await;
    door.sql("select realtime.send('{}', 'live', 'stored')").await;
    let live = hear(&mut a, topic).await;
    assert!(*live.payload.at("event") == "live" && !live.payload.at("meta").has("replayed"), "{}", live.text);
}

fn not_replayed(why: &str) -> Json {
    json!({"status": "error", "response": {"reason": format!("UnableToReplayMessages: {why}")}}).into()
}

async fn public_replay(door: Door) {
    for replay in [json!({"since": 0}), Value::Null] {
        let mut payload = asking(&replay);
        payload["config"]["private"] = false.into();
        let mut socket = door.anon().await;
        let (_, reply) = socket.join_raw("realtime:stored", &payload).await;
        assert_eq!(reply, not_replayed("Replay is not allowed for public channels"), "{replay}");
    }
}

async fn bad_replay(door: Door) {
    for replay in [json!({}), json!({"since": "x"}), json!({"since": 0, "limit": 0}), json!({"since": 0, "limit": 26})]
    {
        let mut socket = door.anon().await;
        let (_, reply) = socket.join_raw("realtime:stored", &asking(&replay)).await;
        assert_eq!(reply, not_replayed("Replay params are not valid"), "{replay}");
    }
}
