//! Values of every built-in type: the trigger prints them as the stream does.

use super::setup::{Log, assert_same, database, outbox_transactions};
use crate::{
    changes::values::{DEVIATIONS, VALUES},
    support::postgres::{Postgres, majors},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_value_of_every_type_is_written_as_the_stream_has_it() {
    for major in majors() {
        let database = database(Postgres::shared(major), "create type mood as enum ('sad', 'it''s \"fine\"')").await;
        let mut client = database.connect().await;
        let deviations = DEVIATIONS.iter().map(|(name, value, _)| (*name, *value));
        let values: Vec<(&str, &str)> = VALUES
            .iter()
            .flat_map(|(name, values)| values.iter().map(move |value| (*name, *value)))
            .chain(deviations)
            .collect();
        let mut tables: Vec<&str> = values.iter().map(|(name, _)| *name).collect();
        tables.sort_unstable();
        tables.dedup();
        let mut sql = String::new();
        for name in &tables {
            sql += &format!("create table \"v {name}\" (id int primary key, v pg_catalog.\"{name}\", after text);\n");
            sql += &format!("alter table \"v {name}\" replica identity full;\n");
            sql += &format!("alter publication supabase_realtime add table \"v {name}\";\n");
        }
        sql += "create table composed (id int primary key, r \"v int4\", rs \"v text\"[], m mood, t text);
            alter table composed replica identity full; alter publication supabase_realtime add table composed";
        client.batch_execute(&sql).await.unwrap();
        super::setup::install(&database).await;
        let log = Log::begin(&database).await;
        // A writer's own settings must not show.
        client
            .batch_execute(
                "set datestyle to 'German'; set intervalstyle to 'iso_8601'; set bytea_output to 'escape'; \
                 set timezone to 'Asia/Kathmandu'; set extra_float_digits to 0; set quote_all_identifiers to on",
            )
            .await
            .unwrap();
        let mut written = 0;
        for (number, (name, value)) in values.iter().enumerate() {
            let value = value.replace('\'', "''");
            let insert = format!("insert into \"v {name}\" values ({number}, '{value}', ',')");
            match client.batch_execute(&insert).await {
                Ok(()) => written += 1,
                Err(error) => panic!("{insert}: {error:?}"),
            }
        }
        let texts =
            ["", " ", "\"", "\\", "\\\"", "a,b", "(x)", "()", "NULL", "null", "\n", "\t", "é", "{\"a\": \"b\\\\c\"}"];
        for (number, text) in texts.iter().enumerate() {
            let sql = "insert into composed values ($1, row(1, 2, $2), array[row(1, $2, null), null]::\"v text\"[], \
                       'it''s \"fine\"', $2)";
            client.execute(sql, &[&i32::try_from(number).unwrap(), text]).await.unwrap();
            written += 1;
        }
        client
            .batch_execute("insert into composed values (100, null, null, null, null); update composed set t = 'x'")
            .await
            .unwrap();
        let (log, outbox) = (log.transactions().await, outbox_transactions(&mut client, 1).await);
        assert_same(&log, &outbox);
        assert_eq!(log.len(), written + 1, "all of them");
    }
}
