//! What a client missed, asked for under its own rights.

use super::setup::{KINDS, Kind, migrated_by_superuser, unmigrated};
use crate::support::postgres::{Database, Postgres, majors};
use serde_json::json;
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;
use tokio_postgres::Client;
use walcast::{
    claims::Claims,
    messages::{Replay, ReplayError},
    pg::Target,
    policy::{catalog::Catalog, topic::ChannelUser},
    protocol::{Content, StoredBroadcast},
};

fn replay(database: &Database, limit: Duration) -> Replay {
    let pool = Target::parse(&database.walcast_url()).unwrap().pool("replay", 1, "").unwrap();
    let roles = ["anon", "authenticated", "service_role"].map(Arc::from).to_vec();
    let (_, catalog) = watch::channel(Arc::new(Catalog { roles, ..Catalog::default() }));
    Replay::new(pool, catalog, limit)
}

fn user(role: &str, sub: &str, topic: &str) -> ChannelUser {
    let claims = json!({"role": role, "sub": sub}).to_string().into();
    ChannelUser {
        topic: topic.into(),
        claims: Claims { role: role.into(), expires_at: None, json: claims },
        headers: "{\"x-team\": \"red\"}".into(),
    }
}

async fn events(replay: &Replay, user: &ChannelUser, since: i64, limit: u32) -> Vec<String> {
    let stored = replay.stored(user, since, limit).await.unwrap();
    stored.into_iter().map(|stored| stored.message.event).collect()
}

async fn prepared(postgres: &'static Postgres, kind: Kind) -> (Database, Client) {
    let database = unmigrated(postgres, kind).await;
    migrated_by_superuser(&database).await;
    let client = database.connect().await;
    (database, client)
}

#[tokio::test]
async fn the_newest_messages_of_the_topic_come_oldest_first() {
    for major in majors() {
        for kind in KINDS {
            let (database, client) = prepared(Postgres::shared(major), kind).await;
            let sql =
                "create policy p on realtime.messages for select to authenticated using (realtime.topic() = topic);
                begin; select realtime.send('{}', 'm' || n, 'r') from generate_series(1, 30) n; commit;
                select realtime.send_binary('\\x00ff', 'bytes', 'r');
                select realtime.send('{}', 'public', 'r', false); select realtime.send('{}', 'elsewhere', 'other');
                insert into realtime.messages (topic, extension, event, private, payload) values
                  ('r', 'presence', 'presence', true, '{}'), ('r', 'broadcast', null, true, '{}');
                insert into realtime.messages (topic, extension, event, private, payload, inserted_at) values
                  ('r', 'broadcast', 'early', true, '{}', now() - interval '1 hour');";
            client.batch_execute(sql).await.unwrap();
            let replay = replay(&database, Duration::from_secs(5));
            let alice = user("authenticated", "alice", "r");
            assert_eq!(events(&replay, &alice, 0, 4).await, ["m29", "m30", "bytes"], "one of four has no event");
            let all = events(&replay, &alice, 0, 100).await;
            assert_eq!((all.len(), &*all[0], &*all[1]), (32, "early", "m1"), "{kind:?}");
            let recent: f64 = client
                .query_one("select extract(epoch from now() - interval '30 min')::float8", &[])
                .await
                .unwrap()
                .get(0);
            #[expect(clippy::cast_possible_truncation, reason = "milliseconds of this century")]
            let since = (recent * 1000.0) as i64;
            assert_eq!(events(&replay, &alice, since, 100).await[0], "m1");
            assert_eq!(events(&replay, &alice, i64::MAX, 100).await, [""; 0]);
            assert_eq!(events(&replay, &alice, i64::MIN, 1).await, [""; 0], "the newest has no event");
            let stored = replay.stored(&alice, 0, 2).await.unwrap();
            let [StoredBroadcast { message, .. }] = &stored[..] else { panic!("{stored:?}") };
            assert_eq!(message.content, Content::Binary(vec![0, 255].into()));
            assert_eq!(message.meta, None);
        }
    }
}

#[tokio::test]
async fn of_very_large_messages_the_newest_come_as_far_as_an_outbox_has_room() {
    let (database, client) = prepared(Postgres::default(), Kind::Bare).await;
    let sql = "create policy p on realtime.messages for select to authenticated using (true);
        select realtime.send(jsonb_build_object('x', repeat('x', 900000)), 'json' || n, 'r') from generate_series(1, 4) n;
        select realtime.send_binary(convert_to(repeat('x', 900000), 'UTF8'), 'bytes' || n, 'r') from generate_series(1, 2) n;
        select realtime.send_binary('', 'none', 'r')";
    client.batch_execute(sql).await.unwrap();
    let replay = replay(&database, Duration::from_secs(5));
    let alice = user("authenticated", "alice", "r");
    assert_eq!(events(&replay, &alice, 0, 25).await, ["json3", "json4", "bytes1", "bytes2", "none"]);
    assert_eq!(events(&replay, &alice, 0, 2).await, ["bytes2", "none"]);
}

#[tokio::test]
async fn every_row_is_judged_by_the_policies_and_nothing_of_it_stays() {
    let (database, client) = prepared(Postgres::default(), Kind::Bare).await;
    client
        .batch_execute(
            "create policy p on realtime.messages for select to authenticated using (
               payload ->> 'for' = auth.jwt() ->> 'sub' and realtime.topic() = 'r'
               and current_setting('request.headers')::json ->> 'x-team' = 'red'
               and current_setting('request.jwt.claim.sub') = auth.jwt() ->> 'sub');
             select realtime.send('{\"for\": \"alice\"}', 'hers', 'r'); select realtime.send('{\"for\": \"bob\"}', 'his', 'r')",
        )
        .await
        .unwrap();
    let replay = replay(&database, Duration::from_secs(5));
    assert_eq!(events(&replay, &user("authenticated", "alice", "r"), 0, 25).await, ["hers"]);
    assert_eq!(events(&replay, &user("authenticated", "bob", "r"), 0, 25).await, ["his"]);
    assert_eq!(events(&replay, &user("anon", "alice", "r"), 0, 25).await, [""; 0], "no policy is for this role");
    assert_eq!(events(&replay, &user("service_role", "x", "r"), 0, 25).await.len(), 2, "bypasses them");
    for role in ["none", "walcast", "postgres", "nobody"] {
        let refused = replay.stored(&user(role, "alice", "r"), 0, 25).await;
        assert_eq!(refused, Err(ReplayError::Refused), "{role}");
    }
    assert_eq!(events(&replay, &user("authenticated", "alice", "r' or true --"), 0, 25).await, [""; 0]);
}

#[tokio::test]
async fn a_policy_that_fails_writes_or_dallies_replays_nothing() {
    for (policy, expected) in [
        ("1 / (length(topic) - 1) > 0", ReplayError::Refused),
        ("write() is not null", ReplayError::Refused),
        ("pg_sleep(60) is not null", ReplayError::Canceled),
    ] {
        let (database, client) = prepared(Postgres::default(), Kind::Bare).await;
        client
            .batch_execute(&format!(
                "create table written (id int); grant all on written to public;
                 create function write() returns int language sql security definer as 'insert into written values (1) returning id';
                 create policy p on realtime.messages for select using ({policy});
                 select realtime.send('{{}}', 'm', 'r')"
            ))
            .await
            .unwrap();
        let replay = replay(&database, Duration::from_millis(300));
        let refused = replay.stored(&user("authenticated", "alice", "r"), 0, 25).await;
        assert_eq!(refused, Err(expected), "{policy}");
        assert!(client.query("table written", &[]).await.unwrap().is_empty());
        // The connection is as it was before.
        client.batch_execute("drop policy p on realtime.messages").await.unwrap();
        assert_eq!(events(&replay, &user("authenticated", "alice", "r"), 0, 25).await, [""; 0]);
        assert_eq!(events(&replay, &user("service_role", "", "r"), 0, 25).await, ["m"]);
    }
}
