//! The upkeep of partitions, on made-up days.

use super::setup::{Kind, database, migrated_by_superuser, unmigrated};
use crate::{
    line::setup::wait_for_health,
    support::{
        postgres::{Database, Postgres, majors},
        server::Server,
    },
};
use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio_postgres::Client;
use walcast::pg::messages::maintain;

const HOUR: Duration = Duration::from_secs(3600);
const RETENTION: Duration = Duration::from_secs(72 * 3600);

async fn partitions(client: &Client) -> BTreeSet<String> {
    let sql = "select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid \
               where i.inhparent = 'realtime.messages'::regclass";
    client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// The moment of a text such as `2027-02-28 23:59:59`, in UTC.
async fn moment(client: &Client, text: &str) -> SystemTime {
    let sql = "select extract(epoch from ($1::text || '+00')::timestamptz)::float8";
    let seconds: f64 = client.query_one(sql, &[&text]).await.unwrap().get(0);
    UNIX_EPOCH + Duration::from_secs_f64(seconds)
}

async fn bare() -> (Database, Client) {
    let database = unmigrated(Postgres::default(), Kind::Bare).await;
    migrated_by_superuser(&database).await;
    let client = database.connect().await;
    (database, client)
}

fn days(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| format!("messages_{name}")).collect()
}

#[tokio::test]
async fn days_are_there_before_they_begin_and_go_when_they_are_past_the_retention() {
    for major in majors() {
        let database = unmigrated(Postgres::shared(major), Kind::Bare).await;
        migrated_by_superuser(&database).await;
        let client = database.connect().await;
        let now = async |text| {
            let problems = maintain(&client, RETENTION, moment(&client, text).await).await.unwrap();
            assert_eq!(problems, [""; 0], "{text}");
            partitions(&client).await
        };
        let month_end = ["2028_02_27", "2028_02_28", "2028_02_29", "2028_03_01", "2028_03_02"];
        assert_eq!(now("2028-02-28 23:59:59").await, days(&month_end), "what was there before is long past");
        let mut expected = days(&month_end);
        expected.extend(days(&["2028_03_03"]));
        assert_eq!(now("2028-02-29 00:00:00").await, expected);
        assert_eq!(now("2028-03-01 00:00:00").await.first().unwrap(), "messages_2028_02_27");
        assert_eq!(now("2028-03-01 23:59:59").await.first().unwrap(), "messages_2028_02_27", "less than 72 hours ago");
        assert_eq!(now("2028-03-02 00:00:00").await.first().unwrap(), "messages_2028_02_28");
        let new_year = ["2030_12_30", "2030_12_31", "2031_01_01", "2031_01_02", "2031_01_03"];
        assert_eq!(now("2030-12-31 12:00:00").await, days(&new_year), "after a long sleep");
    }
}

#[tokio::test]
async fn whatever_the_retention_and_the_time_zone_there_is_a_place_for_a_message() {
    let (_database, client) = bare().await;
    maintain(&client, HOUR, SystemTime::now()).await.unwrap();
    assert_eq!(partitions(&client).await.len(), 5, "yesterday's is kept: it still is yesterday in the west");
    for zone in ["Etc/GMT+12", "UTC", "Pacific/Kiritimati"] {
        client
            .batch_execute(&format!(
                "set time zone '{zone}'; insert into realtime.messages (topic, extension) values ('t', 'broadcast')"
            ))
            .await
            .unwrap_or_else(|error| panic!("{zone}: {error:?}"));
    }
}

#[tokio::test]
async fn what_is_no_partition_of_one_day_under_its_name_is_never_dropped() {
    let (_database, client) = bare().await;
    client
        .batch_execute(
            "create table realtime.messages_2001_01_01 (id int);
             create table realtime.messages_old partition of realtime.messages
               for values from ('2001-01-02') to ('2001-01-03');
             create table realtime.messages_2001_01_04 partition of realtime.messages
               for values from ('2001-01-04') to ('2001-02-01');
             create table realtime.messages_2001_03_01 partition of realtime.messages
               for values from ('2001-03-02') to ('2001-03-03');
             create table realtime.\"messages_2001_03_04; drop table x\" partition of realtime.messages
               for values from ('2001-03-04') to ('2001-03-05');
             create table public.messages_2001_04_01 partition of realtime.messages
               for values from ('2001-04-01') to ('2001-04-02');
             create table realtime.messages_2001_05_01 partition of realtime.messages
               for values from ('2001-05-01') to ('2001-05-02')",
        )
        .await
        .unwrap();
    assert_eq!(maintain(&client, RETENTION, SystemTime::now()).await.unwrap(), [""; 0]);
    let left = partitions(&client).await;
    assert!(!left.contains("messages_2001_05_01"), "this one was ours to drop");
    for name in ["old", "2001_01_04", "2001_03_01", "2001_03_04; drop table x", "2001_04_01"]
        .map(|name| format!("messages_{name}"))
    {
        assert!(left.contains(&name), "{name}");
    }
    client.batch_execute("table realtime.messages_2001_01_01").await.unwrap();
}

#[tokio::test]
async fn what_is_in_the_way_of_one_day_is_named_and_keeps_no_other_from_being_made() {
    let (_database, client) = bare().await;
    client.batch_execute("create table realtime.messages_2040_06_15 (id int)").await.unwrap();
    let problems = maintain(&client, RETENTION, moment(&client, "2040-06-14 10:00:00").await).await.unwrap();
    let [problem] = &problems[..] else { panic!("{problems:?}") };
    assert!(problem.starts_with("cannot make partition realtime.messages_2040_06_15: "), "{problem}");
    assert_eq!(partitions(&client).await, days(&["2040_06_13", "2040_06_14", "2040_06_16", "2040_06_17"]));
}

#[tokio::test]
async fn two_servers_at_once_do_no_harm() {
    let (database, client) = bare().await;
    let mut others = Vec::new();
    for _ in 0..8 {
        others.push(database.connect().await);
    }
    for day in 1..6 {
        let now = moment(&client, &format!("2050-01-0{day} 00:00:05")).await;
        let all = futures_util::future::join_all(others.iter().map(|other| maintain(other, RETENTION, now))).await;
        assert!(all.into_iter().all(|problems| problems.unwrap().is_empty()), "day {day}");
    }
    assert_eq!(partitions(&client).await.last().unwrap(), "messages_2050_01_08");
}

#[tokio::test]
async fn a_partition_of_messages_is_closed_to_who_has_rights_to_every_table() {
    let (_database, client) = bare().await;
    client.batch_execute("alter default privileges in schema realtime grant select on tables to anon").await.unwrap();
    maintain(&client, RETENTION, moment(&client, "2050-01-01 00:00:00").await).await.unwrap();
    client
        .batch_execute(
            "insert into realtime.messages (topic, extension, inserted_at) values ('t', 'broadcast', '2050-01-01');
             set role anon",
        )
        .await
        .unwrap();
    assert!(client.query("table realtime.messages_2050_01_01", &[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_server_keeps_the_partitions_and_says_so_or_why_not() {
    let database = database(Postgres::default(), Kind::Bare).await;
    let client = database.connect().await;
    client
        .batch_execute(
            "do $$ declare day record; begin
               for day in select inhrelid::regclass as name from pg_inherits
                 where inhparent = 'realtime.messages'::regclass loop
                 execute format('drop table %s', day.name);
               end loop;
             end $$",
        )
        .await
        .unwrap();
    let server = Server::start(&database, &[]).await;
    wait_for_health(&server, |_, health| *health.at("messages").at("partitions") == "kept").await;
    assert_eq!(partitions(&client).await.len(), 5);
    drop(server);

    let sql = "revoke all on function walcast.maintain_messages(interval, timestamptz) from walcast";
    client.batch_execute(sql).await.unwrap();
    let server = Server::start(&database, &[]).await;
    let failed = |status, health: &crate::support::json::Json| {
        status == 200 && *health.at("messages").at("partitions") == "failed"
    };
    let health = wait_for_health(&server, failed).await;
    let problem = health.at("messages").at("problem").as_str().unwrap().to_owned();
    assert!(problem.contains("permission denied") && problem.contains("grant execute on function"), "{problem}");
    assert!(problem.ends_with("(interval, timestamptz) to walcast;"), "{problem}");
    assert!(server.log().iter().any(|line| line.contains("PartitionCreationFailed")));
    let count = health.at("counters").at("message_upkeep_failures_total").as_i64();
    assert_eq!(count, Some(1));
    drop(server);

    client.batch_execute("drop schema walcast cascade").await.unwrap();
    let server = Server::start(&database, &[]).await;
    let is_said = |status, health: &crate::support::json::Json| {
        failed(status, health) && *health.at("messages").at("streamed") == serde_json::json!(true)
    };
    let health = wait_for_health(&server, is_said).await;
    let problem = health.at("messages").at("problem").as_str().unwrap().to_owned();
    assert!(problem.ends_with("nobody makes partitions of realtime.messages: run `walcast migrate`"), "{problem}");
}
