//! What rows of the table come to, with a real server: checks 113 to 117 of the reference as far as public rooms go,
//! and what may be in the way of streaming them.

use super::setup::{Ear, Kind, SUPABASE, Said, database, migrated_by_superuser, server, unmigrated, wait_for_messages};
use crate::{
    line::setup::wait_for_health,
    support::{
        postgres::{Postgres, majors},
        server::Server,
    },
};
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::time::timeout;

#[tokio::test]
async fn what_the_database_sends_reaches_the_members_of_the_room_in_both_encodings() {
    for major in majors() {
        for kind in [Kind::Bare, Kind::Supabase] {
            let database = database(Postgres::shared(major), kind).await;
            let server = server(&database, &[]).await;
            let client = database.connect().await;
            for vsn in ["1.0.0", "2.0.0"] {
                let mut ear = Ear::open(&server, vsn, "room-1").await;
                client
                    .batch_execute(
                        "begin; select realtime.send('{\"a\": 1}', 'gone', 'room-1', false); rollback;
                         select realtime.send('{\"a\": 1}', 'hidden', 'room-1', true);
                         select realtime.send('{\"a\": 1}', 'elsewhere', 'room-2', false);
                         select realtime.send('{\"a\": 1}', 'hi', 'room-1', false)",
                    )
                    .await
                    .unwrap();
                let said = ear.broadcast().await;
                assert_eq!((&*said.topic, &*said.event), ("realtime:room-1", "hi"), "{vsn}");
                let payload = said.payload.unwrap();
                let id: String = client
                    .query_one(
                        "select id::text from realtime.messages where event = 'hi' order by inserted_at desc limit 1",
                        &[],
                    )
                    .await
                    .unwrap()
                    .get(0);
                assert_eq!(payload.at("a").as_i64(), Some(1));
                assert_eq!(said.meta, json!({"id": id}), "{vsn}");
                if kind == Kind::Bare {
                    assert_eq!(*payload.at("id"), *id);
                }
            }
        }
    }
}

#[tokio::test]
async fn what_was_sent_while_no_server_ran_is_nothing_new_to_who_joins_afterwards() {
    let database = database(Postgres::default(), Kind::Bare).await;
    server(&database, &[]).await.stop().await;
    let client = database.connect().await;
    let old = "select realtime.send('{}', 'old', 'r', false) from generate_series(1, 500)";
    client.batch_execute(old).await.unwrap();
    let server = server(&database, &[]).await;
    let mut ear = Ear::open(&server, "2.0.0", "r").await;
    client.batch_execute("select realtime.send('{}', 'new', 'r', false)").await.unwrap();
    assert_eq!(ear.broadcast().await.event, "new");
    let health = wait_for_health(&server, |status, _| status == 200).await;
    assert_eq!(health.at("counters").at("messages_before_start_total").as_i64(), Some(500));
}

#[tokio::test]
async fn rows_inserted_by_hand_bytes_and_any_json_are_sent_as_they_are() {
    let database = database(Postgres::default(), Kind::Bare).await;
    let server = server(&database, &[]).await;
    let client = database.connect().await;
    let (mut new, mut old) = (Ear::open(&server, "2.0.0", "r").await, Ear::open(&server, "1.0.0", "r").await);
    client
        .batch_execute(
            "insert into realtime.messages (topic, extension, event, private, payload) values
               ('r', 'anything', 'list', false, '[1, \"two\", null]'), ('r', 'broadcast', 'text', false, '\"x\"');
             insert into realtime.messages (topic, extension, private, payload) values ('r', 'broadcast', false, '{}');
             insert into realtime.messages (topic, extension, event, private) values ('r', 'broadcast', 'none', false);
             insert into realtime.messages (topic, extension, event, private, payload) values
               ('r', 'broadcast', 'of nobody', null, '{}');
             update realtime.messages set event = 'changed'; delete from realtime.messages;
             select realtime.send_binary('\\x00ff', 'bytes', 'r', false);
             select realtime.send('{}', 'end', 'r', false)",
        )
        .await
        .unwrap();
    for (ear, hears_bytes) in [(&mut new, true), (&mut old, false)] {
        let list = ear.broadcast().await;
        assert_eq!(list.event, "list");
        assert_eq!(list.payload.unwrap(), json!([1, "two", null]));
        let text = ear.broadcast().await;
        assert_eq!(
            (&*text.event, text.payload.unwrap()),
            ("text", crate::support::json::Json::parse("\"x\"").unwrap())
        );
        if hears_bytes {
            let bytes = ear.broadcast().await;
            assert!(bytes.payload.is_err(), "{bytes:?}");
            assert_eq!((&*bytes.event, bytes.payload.unwrap_err()), ("bytes", vec![0, 255]));
            assert!(bytes.meta.at("id").as_str().is_some());
        }
        assert_eq!(ear.broadcast().await.event, "end");
    }
}

#[tokio::test]
async fn a_trigger_broadcasts_what_happens_to_rows() {
    let database = database(Postgres::default(), Kind::Bare).await;
    let server = server(&database, &[]).await;
    let client = database.connect().await;
    // The function sends to private rooms; who may join them is another matter, so these rows are made public.
    client
        .batch_execute(
            "create function tell() returns trigger language plpgsql as $$ begin
               perform realtime.broadcast_changes(
                 'items', tg_op, tg_op, tg_table_name, tg_table_schema, new, old, tg_level);
               return null;
             end $$;
             create trigger tell after insert or update or delete on items for each row execute function tell();
             create function reveal() returns trigger language plpgsql as $$ begin new.private := false; return new; end $$;
             create trigger reveal before insert on realtime.messages for each row execute function reveal();",
        )
        .await
        .unwrap();
    let mut ear = Ear::open(&server, "1.0.0", "items").await;
    client
        .batch_execute("insert into items values (1, 'a'); update items set body = 'b'; delete from items")
        .await
        .unwrap();
    for (operation, record, old) in [
        ("INSERT", json!({"id": 1, "body": "a"}), json!(null)),
        ("UPDATE", json!({"id": 1, "body": "b"}), json!({"id": 1, "body": "a"})),
        ("DELETE", json!(null), json!({"id": 1, "body": "b"})),
    ] {
        let said = ear.broadcast().await;
        assert_eq!(said.event, operation);
        let payload = said.payload.unwrap();
        let expected = json!({"schema": "public", "table": "items", "operation": operation, "record": record,
            "old_record": old, "id": said.meta.at("id").as_str().unwrap()});
        assert_eq!(payload, expected);
    }
}

#[tokio::test]
async fn what_is_too_large_is_skipped_and_counted() {
    let database = database(Postgres::default(), Kind::Bare).await;
    let server =
        server(&database, &[("TENANT_MAX_PAYLOAD_SIZE_IN_KB", "10"), ("WALCAST_MAX_PAYLOAD_SIZE_IN_KB", "10")]).await;
    let client = database.connect().await;
    let mut ear = Ear::open(&server, "2.0.0", "r").await;
    client
        .batch_execute(
            "select realtime.send(jsonb_build_object('x', repeat('secret', 2000)), 'large', 'r', false);
             select realtime.send('{}', 'small', 'r', false)",
        )
        .await
        .unwrap();
    assert_eq!(ear.broadcast().await.event, "small");
    assert!(!server.log().iter().any(|line| line.contains("secretsecret")));
    let health = wait_for_health(&server, |status, _| status == 200).await;
    assert_eq!(health.at("counters").at("broadcasts_dropped_total").as_i64(), Some(1));
}

#[tokio::test]
async fn a_publication_that_comes_while_the_server_runs_is_streamed_behind_what_was_under_way() {
    for major in majors() {
        let database = unmigrated(Postgres::shared(major), Kind::Bare).await;
        let server = Server::start(&database, &[]).await;
        wait_for_health(&server, |status, _| status == 200).await;
        let mut ear = Ear::open(&server, "2.0.0", "r").await;
        let client = database.connect().await;
        client.batch_execute("create table other (id int); begin; insert into other values (1)").await.unwrap();
        migrated_by_superuser(&database).await;
        let held = "the stream begins anew";
        assert!(!server.log().iter().any(|line| line.contains(held)));
        client.batch_execute("commit").await.unwrap();
        wait_for_messages(&server).await;
        client.batch_execute("select realtime.send('{}', 'hi', 'r', false)").await.unwrap();
        assert_eq!(ear.broadcast().await.event, "hi");
        // Dropped and made again, as by hand.
        client.batch_execute("drop publication supabase_realtime_messages_publication").await.unwrap();
        migrated_by_superuser(&database).await;
        wait_for_messages(&server).await;
        // The slot cannot decode what was written between the two, nor tell where that ends: what comes later is streamed.
        let start = Instant::now();
        let heard = async |ear: &mut Ear| timeout(Duration::from_millis(500), ear.broadcast()).await.is_ok();
        while !heard(&mut ear).await {
            client.batch_execute("select realtime.send('{}', 'again', 'r', false)").await.unwrap();
            assert!(start.elapsed() < Duration::from_secs(90), "{}", server.log().join("\n"));
        }
    }
}

#[tokio::test]
async fn a_client_publication_of_all_tables_changes_nothing_of_it() {
    let database = database(Postgres::default(), Kind::Bare).await;
    database.execute("drop publication supabase_realtime; create publication supabase_realtime for all tables").await;
    let server = server(&database, &[]).await;
    let client = database.connect().await;
    let mut ear = Ear::of_changes(&server, "2.0.0", "r").await;
    client
        .batch_execute("select realtime.send('{}', 'one', 'r', false); select realtime.send('{}', 'end', 'r', false)")
        .await
        .unwrap();
    assert_eq!(ear.until("end").await, [Said::Broadcast("one".to_owned())], "once");
}

#[tokio::test]
async fn a_publication_that_would_change_what_clients_get_is_left_out_with_the_reason() {
    let major = Postgres::default().major;
    if major < 15 {
        return crate::support::skip("a publication with a filter", "14 has no row filters");
    }
    let database = unmigrated(Postgres::default(), Kind::Bare).await;
    database.execute(SUPABASE).await;
    migrated_by_superuser(&database).await;
    database
        .execute(
            "alter publication supabase_realtime set (publish_via_partition_root = true);
             alter publication supabase_realtime add table realtime.messages where (not private)",
        )
        .await;
    let server = Server::start(&database, &[]).await;
    let health = wait_for_health(&server, |status, _| status == 200).await;
    assert_eq!(*health.at("messages").at("streamed"), json!(false));
    let reason = health.at("messages").at("reason").as_str().unwrap().to_owned();
    assert!(reason.contains("publication supabase_realtime has realtime.messages in another way"), "{reason}");
    database.execute("alter publication supabase_realtime drop table realtime.messages").await;
    wait_for_messages(&server).await;
}

#[tokio::test]
async fn private_members_hear_private_messages_and_get_what_they_missed() {
    for kind in [Kind::Bare, Kind::Supabase] {
        let database = database(Postgres::default(), kind).await;
        database
            .execute("create policy p on realtime.messages for select to authenticated using (realtime.topic() = 'r')")
            .await;
        let server = server(&database, &[]).await;
        let client = database.connect().await;
        let send = async |event: &str, private: bool| {
            let sql = "select realtime.send('{}', $1::text, 'r', $2::bool)";
            client.execute(sql, &[&event, &private]).await.unwrap();
        };
        for event in ["m1", "m2", "m3"] {
            send(event, true).await;
        }
        // They are no news to who joins now: the stream has passed them.
        let mut passed = Ear::open(&server, "2.0.0", "r").await;
        send("passed", false).await;
        passed.until("passed").await;
        for vsn in ["1.0.0", "2.0.0"] {
            let replay = json!({"since": 1, "limit": 2});
            let config = json!({"config": {"private": true, "broadcast": {"replay": replay}}});
            let mut member = Ear::of_user(&server, vsn, "r", &config).await;
            let mut public = Ear::open(&server, vsn, "r").await;
            for event in ["m2", "m3"] {
                let said = member.broadcast().await;
                assert_eq!(said.event, event, "{vsn}");
                assert_eq!(*said.meta.at("replayed"), json!(true));
                assert!(said.meta.at("id").as_str().is_some());
            }
            send("open", false).await;
            send("closed", true).await;
            send("end", false).await;
            let closed = member.broadcast().await;
            assert_eq!((&*closed.event, closed.meta.has("replayed")), ("closed", false), "{vsn}");
            assert_eq!(public.until("end").await, [Said::Broadcast("open".to_owned())], "{vsn}");
            client.execute("delete from realtime.messages where event = 'closed'", &[]).await.unwrap();
        }
    }
}
