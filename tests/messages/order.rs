//! A message has its place among the row changes of its transaction, whoever decides about these.

use super::setup::{Ear, Kind, Said, database, server};
use crate::support::postgres::{Postgres, majors};

/// Policies of `items`: decided in the process, and by the database alone.
const COMPILED: &str = "
    alter table items enable row level security;
    create policy p on items for select using (body <> 'hidden');";
const LANE: &str = "
    alter table items enable row level security;
    create policy p on items for select using (md5(body || id::text) <> '' and body <> 'hidden' and pg_sleep(0.001) is not null);";

fn change(id: i64) -> Said {
    Said::Change(id)
}

fn message(event: &str) -> Said {
    Said::Broadcast(event.to_owned())
}

const TRANSACTION: &str = "begin;
    insert into items values (1, 'a');
    select realtime.send('{}', 'one', 'r', false);
    insert into items values (2, 'hidden');
    select realtime.send('{}', 'two', 'r', false);
    insert into items values (3, 'b');
    commit;
    select realtime.send('{}', 'three', 'r', false);
    insert into items values (4, 'c');
    select realtime.send('{}', 'end', 'r', false);
    delete from items";

#[tokio::test]
async fn a_message_keeps_its_place_among_the_changes_of_its_transaction() {
    for major in majors() {
        for (name, policies) in [("none", ""), ("compiled", COMPILED), ("lane", LANE)] {
            let database = database(Postgres::shared(major), Kind::Bare).await;
            database.execute(policies).await;
            let server = server(&database, &[]).await;
            let client = database.connect().await;
            let mut ear = Ear::of_changes(&server, "2.0.0", "r").await;
            let mut only_messages = Ear::open(&server, "1.0.0", "r").await;
            for round in 0..3 {
                client.batch_execute(TRANSACTION).await.unwrap();
                let mut expected =
                    vec![change(1), message("one"), message("two"), change(3), message("three"), change(4)];
                if policies.is_empty() {
                    expected.insert(2, change(2));
                }
                assert_eq!(ear.until("end").await, expected, "{name}, round {round}");
                let messages = ["one", "two", "three"].map(message);
                assert_eq!(only_messages.until("end").await, messages, "{name}");
            }
        }
    }
}

#[tokio::test]
async fn two_channels_of_one_socket_hear_in_the_order_of_the_log() {
    let database = database(Postgres::default(), Kind::Bare).await;
    database.execute(COMPILED).await;
    let server = server(&database, &[]).await;
    let client = database.connect().await;
    let mut ear = Ear::of_changes(&server, "2.0.0", "changes").await;
    ear.socket.join("realtime:r", &serde_json::json!({"config": {}})).await;
    client.batch_execute(TRANSACTION).await.unwrap();
    let expected = [change(1), message("one"), message("two"), change(3), message("three"), change(4)];
    assert_eq!(ear.until("end").await, expected);
}

#[tokio::test]
async fn ten_thousand_messages_around_a_row_change_arrive_in_order_and_once() {
    for (name, policies) in [("compiled", COMPILED), ("lane", LANE)] {
        let database = database(Postgres::default(), Kind::Bare).await;
        database.execute(policies).await;
        // Room for all of it: messages are in no log that a slow client could be served from.
        let server =
            server(&database, &[("WALCAST_OUTBOX_FRAMES", "20000"), ("WALCAST_OUTBOX_BYTES", "16777216")]).await;
        let client = database.connect().await;
        let mut ear = Ear::of_changes(&server, "2.0.0", "r").await;
        let writing = client.batch_execute(
            "begin;
             select realtime.send('{}', 'm' || n, 'r', false) from generate_series(1, 5000) n;
             insert into items values (1, 'a');
             select realtime.send('{}', 'm' || n, 'r', false) from generate_series(5001, 10000) n;
             commit;
             select realtime.send('{}', 'end', 'r', false)",
        );
        let (written, heard) = tokio::join!(writing, ear.until("end"));
        written.unwrap();
        let mut expected: Vec<Said> = (1..=10_000).map(|n| message(&format!("m{n}"))).collect();
        expected.insert(5000, change(1));
        assert!(heard == expected, "{name}: {} heard", heard.len());
    }
}
