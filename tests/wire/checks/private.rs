//! Checks 64, 105 and 129 to 135: rooms that policies guard. Protocol reference, section 8.

use serde_json::json;

use super::room::{
    closes_with, config, diff, hear, hears, hears_nothing, listening, member, presence, present, private_as, say, track,
};
use super::{Check, Door};
use crate::support::json::Json;
use crate::support::socket::{Channel, Socket};
use crate::support::token;
use crate::wire::fixture::{self, ALICE};

/// Rooms by name: what each lets whom do.
pub(super) const SCHEMA: &str = "
create policy wire_read on realtime.messages for select to authenticated using (
  realtime.topic() in ('both', 'read-only', 'stored', 'write raises')
  or realtime.topic() = 'team-' || (auth.jwt() ->> 'team')
  or realtime.topic() = 'user-' || auth.uid()::text
  or (realtime.topic() = 'presence only' and extension = 'presence')
  or (realtime.topic() = 'broadcast only' and extension = 'broadcast'));
create policy wire_read_raises on realtime.messages for select to authenticated using (
  case when realtime.topic() = 'raises' then 1 / (length(realtime.topic()) - 6) = 1 else false end);
create policy wire_write on realtime.messages for insert to authenticated with check (
  realtime.topic() in ('both', 'presence only', 'broadcast only') or realtime.topic() = 'user-' || auth.uid()::text);
create policy wire_write_raises on realtime.messages for insert to authenticated with check (
  case when realtime.topic() = 'write raises' then 1 / (length(realtime.topic()) - 12) = 1 else false end);
";

pub(super) const CHECKS: &[Check] = &[
    Check::both(64, "a new token without the right to read closes the channel", |d| Box::pin(loses(d))),
    Check::both(105, "private and public rooms of one name are two", |d| Box::pin(two_rooms(d))),
    Check::both(129, "a private join needs a policy", |d| Box::pin(no_policy(d))),
    Check::both(130, "a policy decides by topic and extension", |d| Box::pin(by_topic(d))),
    Check::both(131, "policies see the access token's claims", |d| Box::pin(claims(d))),
    Check::both(132, "who may only read says nothing", |d| Box::pin(read_only(d))),
    Check::both(133, "who may only see presence hears no broadcasts", |d| Box::pin(presence_only(d))),
    Check::both(135, "asking the policies leaves no trace", |d| Box::pin(no_trace(d))),
    Check::both(238, "who may only hear broadcasts learns of no presence", |d| Box::pin(broadcast_only(d))),
    Check::both(239, "a policy that raises grants nothing and tells nothing", |d| Box::pin(raises(d))),
];

/// A server where public channels are refused.
pub(super) const ONLY: &[Check] =
    &[Check::both(134, "a private-only server refuses public joins", |d| Box::pin(private_only(d)))];

fn refused_read(name: &str) -> Json {
    let reason = format!("Unauthorized: You do not have permissions to read from this Channel topic: {name}");
    json!({"status": "error", "response": {"reason": reason}}).into()
}

/// Private, present, in somebody's name.
fn present_as(token: &str) -> serde_json::Value {
    let mut payload = private_as(token);
    payload["config"]["presence"] = json!({"key": token, "enabled": true});
    payload
}

async fn join_as(door: &Door, token: &str, topic: &str) -> Json {
    let mut socket = door.anon().await;
    socket.join_raw(topic, &present_as(token)).await.1
}

async fn loses(door: Door) {
    let topic = format!("realtime:user-{ALICE}");
    let (mut a, channel) = member(&door, &topic, &private_as("alice")).await;
    let (mut other, speaker) = member(&door, &topic, &private_as("alice")).await;
    let (unaffected, _) = a.join("realtime:both", &private_as("alice")).await;
    a.push_on(&channel, "access_token", &json!({"access_token": fixture::token("bob")})).await;
    let name = topic.trim_start_matches("realtime:");
    closes_with(&mut a, &channel, &format!("You do not have permissions to read from this Channel topic: {name}"))
        .await;
    let reference = say(&mut other, &speaker, "e", &json!({})).await;
    other.reply(&topic, &reference).await;
    hears_nothing(&mut a, "it may not read any more").await;
    let reference = say(&mut a, &unaffected, "e", &json!({})).await;
    assert_eq!(*a.reply("realtime:both", &reference).await.at("status"), "ok");
}

async fn two_rooms(door: Door) {
    let topic = "realtime:both";
    let (mut inside, private) = member(&door, topic, &private_as("alice")).await;
    let (mut outside, public) = member(&door, topic, &config(false, false, true)).await;
    let (mut bob, _) = member(&door.other(), topic, &private_as("bob")).await;
    let reference = say(&mut outside, &public, "public", &json!({})).await;
    outside.reply(topic, &reference).await;
    say(&mut inside, &private, "private", &json!({})).await;
    hears(&mut bob, topic, "private", &json!({})).await;
    track(&mut outside, &public, &json!({"where": "outside"})).await;
    track(&mut inside, &private, &json!({"where": "inside"})).await;
    for (socket, place) in [(&mut bob, "inside"), (&mut inside, "inside"), (&mut outside, "outside")] {
        let joined = diff(socket, topic).await;
        let key = joined.at("joins").keys()[0].to_owned();
        assert_eq!(*joined.at("joins").at(&key).at("metas").nth(0).at("where"), place, "{joined}");
    }
    for (socket, who) in [(&mut outside, "public"), (&mut inside, "private"), (&mut bob, "private")] {
        // The acknowledgement of the private push is no delivery.
        let heard = super::room::rest(socket).await;
        let crossed: Vec<_> = heard.iter().filter(|m| m.event != "phx_reply").collect();
        assert!(crossed.is_empty(), "{who}: {crossed:?}");
    }
}

async fn no_policy(door: Door) {
    for (token, name) in
        [("alice", "nobody's"), ("anon", "both"), ("bob", &format!("user-{ALICE}")), ("alice", "team-")]
    {
        assert_eq!(join_as(&door, token, &format!("realtime:{name}")).await, refused_read(name), "{token}");
    }
}

async fn by_topic(door: Door) {
    let claims = json!({"role": "authenticated", "sub": ALICE, "team": "red", "exp": token::in_seconds(600)});
    let mut payload = config(true, false, false);
    payload["access_token"] = token::sign(claims).into();
    let mut socket = door.anon().await;
    socket.join("realtime:team-red", &payload).await;
    for name in ["team-blue", "team-redx", "team-red ", "team-%"] {
        let (_, reply) = socket.join_raw(&format!("realtime:{name}"), &payload).await;
        assert_eq!(reply, refused_read(name));
    }
}

async fn claims(door: Door) {
    let topic = format!("realtime:user-{ALICE}");
    assert_eq!(*join_as(&door, "alice", &topic).await.at("status"), "ok");
    let mut socket = door.alice().await;
    let (_, reply) = socket.join_raw(&topic, &private_as("bob")).await;
    assert_eq!(reply, refused_read(topic.trim_start_matches("realtime:")), "alice's key does not count");
    let (_, reply) = socket.join_raw(&topic, &config(true, false, false)).await;
    assert_eq!(*reply.at("status"), "ok", "without an access token it does");
}

/// Says something that nobody may hear, and proves that the server has dealt with it: presence is answered behind it.
async fn say_in_vain(socket: &mut Socket, channel: &Channel, listener: &mut Socket) {
    let pushed = say(socket, channel, "secret", &json!({})).await;
    let reply = presence(socket, channel, &json!({"event": "track", "payload": {"n": 1}})).await;
    assert_eq!(reply, json!({"status": "error", "response": {}}), "presence is refused in words");
    let answered = socket.take(|m| m.event == "phx_reply" && m.reference == *pushed);
    assert!(answered.is_none(), "a refused broadcast is not acknowledged: {answered:?}");
    hears_nothing(listener, "it may not be said").await;
    hears_nothing(socket, "nor heard by who said it").await;
}

async fn read_only(door: Door) {
    let topic = "realtime:read-only";
    let mut payload = config(true, true, true);
    payload["access_token"] = fixture::token("alice").into();
    let (mut a, channel) = member(&door, topic, &payload).await;
    let (mut b, _) = member(&door.other(), topic, &private_as("bob")).await;
    say_in_vain(&mut a, &channel, &mut b).await;
}

async fn presence_only(door: Door) {
    let topic = "realtime:presence only";
    let (mut a, channel) = member(&door, topic, &present_as("alice")).await;
    let (mut b, _) = member(&door, topic, &present_as("bob")).await;
    for socket in [&mut a, &mut b] {
        socket.expect("the state", |m| m.is(topic, "presence_state")).await;
    }
    let reference = say(&mut a, &channel, "e", &json!({})).await;
    assert_eq!(*a.reply(topic, &reference).await.at("status"), "ok", "it may write");
    track(&mut a, &channel, &json!({"n": 1})).await;
    assert_eq!(diff(&mut b, topic).await.at("joins").keys(), ["alice"]);
    hears_nothing(&mut b, "broadcasts are not for it").await;
}

async fn broadcast_only(door: Door) {
    let topic = "realtime:broadcast only";
    let (mut a, channel) = member(&door, topic, &present_as("alice")).await;
    let (mut b, _) = member(&door, topic, &present_as("bob")).await;
    track(&mut a, &channel, &json!({"n": 1})).await;
    let reference = say(&mut a, &channel, "e", &json!({})).await;
    a.reply(topic, &reference).await;
    hear(&mut b, topic).await;
    hears_nothing(&mut b, "neither state nor diff").await;
    hears_nothing(&mut a, "neither state nor diff").await;
}

async fn raises(door: Door) {
    assert_eq!(join_as(&door, "alice", "realtime:raises").await, refused_read("raises"));
    let topic = "realtime:write raises";
    let (mut a, channel) = member(&door, topic, &private_as("alice")).await;
    let (mut b, _) = member(&door, topic, &private_as("bob")).await;
    say_in_vain(&mut a, &channel, &mut b).await;
    let log = door.server.log().join("\n");
    assert!(!log.contains(&fixture::token("alice")), "no token in the log");
}

async fn no_trace(door: Door) {
    let (mut a, channel) = member(&door, "realtime:both", &present_as("alice")).await;
    let reference = say(&mut a, &channel, "e", &json!({})).await;
    a.reply("realtime:both", &reference).await;
    track(&mut a, &channel, &json!({"n": 1})).await;
    join_as(&door, "alice", "realtime:nobody's").await;
    let client = door.database.connect().await;
    let rows: i64 = client.query_one("select count(*) from realtime.messages", &[]).await.expect("a count").get(0);
    assert_eq!(rows, 0, "nothing is written to find out who may write");
}

async fn private_only(door: Door) {
    for payload in [listening(), present(&json!("k")), json!({}), json!({"config": {"private": "false"}})] {
        let mut socket = door.anon().await;
        let (_, reply) = socket.join_raw("realtime:both", &payload).await;
        let reason = "PrivateOnly: This project only allows private channels";
        assert_eq!(reply, json!({"status": "error", "response": {"reason": reason}}), "{payload}");
    }
    member(&door, "realtime:both", &private_as("alice")).await;
}
