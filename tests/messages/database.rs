//! What migrations make, on databases of every kind, and what the functions they make say.

use super::setup::{KINDS, Kind, OLDER, migrated_by_superuser, unmigrated};
use crate::{
    line::setup::PRELUDE,
    support::postgres::{Database, PASSWORD, Postgres, binaries, connect, drive, majors, new_directory},
};
use std::sync::{Arc, Mutex};
use tokio_postgres::{AsyncMessage, Client, NoTls};
use walcast::{
    devdb::{Cluster, ClusterOptions},
    pg::migrate::{Outcome, migrate},
};

/// Everything of the schema that a migration could change.
const EVERYTHING: &str = "
    select coalesce(string_agg(line, E'\\n' order by line), '') from (
        select format('schema %s %s %s', nspname, nspowner::regrole, nspacl) as line from pg_namespace
        where nspname in ('realtime', 'walcast')
        union all
        select format('relation %s %s %s %s %s', oid, oid::regclass, relowner::regrole, relacl, relrowsecurity)
        from pg_class where relnamespace = 'realtime'::regnamespace
        union all
        select format('column %s %s %s %s', attrelid::regclass, attname, atttypid::regtype, attnotnull)
        from pg_attribute where attrelid in (select oid from pg_class where relnamespace = 'realtime'::regnamespace)
          and not attisdropped
        union all
        select format('constraint %s %s', conrelid::regclass, pg_get_constraintdef(oid)) from pg_constraint
        where connamespace = 'realtime'::regnamespace
        union all
        select format('function %s %s %s %s', oid, proowner::regrole, proacl, pg_get_functiondef(oid)) from pg_proc
        where pronamespace in ('realtime'::regnamespace, to_regnamespace('walcast'))
        union all
        select format('publication %s', p) from pg_publication p
        union all
        select format('published %s %s %s', pubname, schemaname, tablename) from pg_publication_tables
    ) as lines";

async fn everything(client: &Client) -> String {
    client.query_one(EVERYTHING, &[]).await.unwrap().get(0)
}

async fn truth(client: &Client, query: &str) -> bool {
    client.query_one(query, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_database_of_any_kind_is_given_what_it_lacks_and_nothing_else() {
    for major in majors() {
        for kind in KINDS {
            let database = unmigrated(Postgres::shared(major), kind).await;
            let client = database.connect().await;
            let before = if kind == Kind::Bare { String::new() } else { everything(&client).await };
            migrated_by_superuser(&database).await;
            let first = everything(&client).await;
            // A function's text is many lines: what was there is there still, as a whole.
            for line in before.lines() {
                assert!(first.lines().any(|other| other == line), "{kind:?}: gone or changed: {line}");
            }
            let has_all = "select count(*) = 5 from pg_proc where pronamespace in ('realtime'::regnamespace, \
                           'walcast'::regnamespace) and (proname in ('send', 'send_binary', 'broadcast_changes', \
                           'topic', 'maintain_messages'))";
            assert!(truth(&client, has_all).await, "{kind:?}");
            let is_whole = "select relrowsecurity and relkind = 'p' \
                and (select count(*) = 5 from pg_inherits where inhparent = c.oid) \
                and exists (select from pg_constraint where conrelid = c.oid and contype = 'c') \
                and (select string_agg(attname || ' ' || format_type(atttypid, atttypmod) || ' ' || attnotnull, ', ' \
                     order by attname) from pg_attribute where attrelid = c.oid and attnum > 0 and not attisdropped) \
                = 'binary_payload bytea false, event text false, extension text true, id uuid true, \
                   inserted_at timestamp without time zone true, payload jsonb false, private boolean false, \
                   topic text true, updated_at timestamp without time zone true' \
                from pg_class c where oid = 'realtime.messages'::regclass";
            assert!(truth(&client, is_whole).await, "{kind:?}\n{first}");
            let second = migrated_by_superuser(&database).await;
            let is_idle = |outcome: &Outcome| matches!(outcome, Outcome::AlreadyThere | Outcome::Offered);
            assert!(second.steps.iter().all(|step| is_idle(&step.outcome)), "{second}");
            assert_eq!(everything(&client).await, first, "{kind:?}");
        }
    }
}

/// A superuser's connection, with what it is warned of.
async fn warned(database: &Database) -> (Client, Arc<Mutex<Vec<String>>>) {
    let (client, mut connection) = tokio_postgres::connect(&database.url, NoTls).await.unwrap();
    let warnings = Arc::new(Mutex::new(Vec::new()));
    let heard = warnings.clone();
    drive(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notice(notice) = message {
                heard.lock().unwrap().push(notice.message().to_owned());
            }
        }
    });
    (client, warnings)
}

#[tokio::test]
async fn a_message_that_cannot_be_sent_is_a_warning_and_one_that_can_has_its_id() {
    let database = unmigrated(Postgres::default(), Kind::Bare).await;
    migrated_by_superuser(&database).await;
    let (client, warnings) = warned(&database).await;
    client
        .batch_execute(
            "begin; select realtime.send('{\"a\": 1}', 'hi', 'room-1');
             create table seen as select realtime.topic() as topic; commit",
        )
        .await
        .unwrap();
    let is_right = "select extension = 'broadcast' and private and payload = jsonb_build_object('a', 1, 'id', id) \
                    and event = 'hi' and topic = 'room-1' and (select s.topic = 'room-1' from seen s) \
                    from realtime.messages";
    assert!(truth(&client, is_right).await);
    assert!(truth(&client, "select realtime.topic() is null").await, "the topic is the transaction's");
    client.batch_execute("delete from realtime.messages").await.unwrap();
    client
        .batch_execute(
            "select realtime.send('{\"id\": 7}', 'own', 'r', false); select realtime.send_binary('\\x00ff', 'b', 'r')",
        )
        .await
        .unwrap();
    let is_right = "select count(*) filter (where event = 'own' and payload = '{\"id\": 7}' and not private) = 1 \
                    and count(*) filter (where event = 'b' and binary_payload = '\\x00ff' and payload is null \
                    and private and extension = 'broadcast') = 1 from realtime.messages";
    assert!(truth(&client, is_right).await);
    assert_eq!(*warnings.lock().unwrap(), [""; 0]);

    client
        .batch_execute(
            "create table written (id int); begin; insert into written values (1); select realtime.send('7', 'e', 'r');
             select realtime.send('{}', 'e', null); select realtime.send_binary('\\x00', 'e', null); commit",
        )
        .await
        .unwrap();
    assert!(truth(&client, "select count(*) = 2 from realtime.messages").await);
    assert!(truth(&client, "select count(*) = 1 from written").await, "the transaction is not undone");
    let warnings = warnings.lock().unwrap().clone();
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert_eq!(warnings[0], "WarnSendingBroadcastMessage: cannot set path in scalar");
    assert!(warnings.iter().all(|warning| warning.starts_with("WarnSendingBroadcastMessage: ")), "{warnings:?}");
}

#[tokio::test]
async fn a_trigger_that_cannot_work_fails_the_write_with_the_reason() {
    let database = unmigrated(Postgres::default(), Kind::Bare).await;
    migrated_by_superuser(&database).await;
    let client = database.connect().await;
    client
        .batch_execute(
            "create table notes (id int);
             create function tell() returns trigger language plpgsql as $$ begin
               perform realtime.broadcast_changes('notes', tg_op, tg_argv[0], tg_table_name, tg_table_schema, new, old,
                 tg_level);
               return null;
             end $$",
        )
        .await
        .unwrap();
    for (level, operation, expected) in [
        (
            "statement",
            "INSERT",
            "Failed to process the row: function can only be triggered for each row, not for each statement",
        ),
        ("row", "UPSERT", "Failed to process the row: Unexpected operation type: UPSERT"),
    ] {
        let trigger = format!(
            "create or replace trigger t after insert on notes for each {level} execute function tell('{operation}')"
        );
        client.batch_execute(&trigger).await.unwrap();
        let error = client.batch_execute("insert into notes values (1)").await.unwrap_err();
        assert_eq!(error.as_db_error().unwrap().message(), expected);
        client.batch_execute("drop trigger t on notes").await.unwrap();
    }
    assert!(truth(&client, "select not exists (select from notes)").await);
}

/// A cluster of one test's own, for roles that others must not have.
async fn cluster(major: u32) -> Cluster {
    let mut options = ClusterOptions::new(binaries(major).await, new_directory());
    options.settings = vec![("fsync".into(), "off".into()), ("shared_buffers".into(), "32MB".into())];
    options.password = Some(PASSWORD.into());
    options.ephemeral = true;
    Cluster::start(options).await.unwrap()
}

#[tokio::test]
async fn an_owner_of_a_database_with_lesser_rights_is_left_with_sql_that_runs() {
    for major in majors() {
        for kind in KINDS {
            let cluster = cluster(major).await;
            let superuser = connect(&cluster.url("postgres")).await;
            superuser
                .batch_execute(&format!(
                    "create role app login password '{PASSWORD}';
                     create role walcast login replication password '{PASSWORD}'"
                ))
                .await
                .unwrap();
            superuser.batch_execute("create database app owner app").await.unwrap();
            let administrator = connect(&cluster.url("app")).await;
            let roles = "create role anon; create role authenticated; create role service_role bypassrls";
            administrator.batch_execute(roles).await.unwrap();
            administrator.batch_execute(&PRELUDE.replace("to walcast", "to app")).await.unwrap();
            if kind != Kind::Bare {
                administrator.batch_execute(super::setup::SUPABASE).await.unwrap();
            }
            if kind == Kind::Older {
                administrator.batch_execute(OLDER).await.unwrap();
            }
            let url = |user| format!("postgres://{user}:{PASSWORD}@127.0.0.1:{}/app", cluster.port());
            let mut owner = connect(&url("app")).await;
            let report = migrate(&mut owner, false).await.unwrap();
            assert_eq!(report.is_complete(), kind == Kind::Bare, "{kind:?}: {report}");
            if let Some(script) = report.administrator_sql() {
                administrator.batch_execute(&script).await.unwrap_or_else(|error| panic!("{error:?}\n{script}"));
                let report = migrate(&mut owner, false).await.unwrap();
                assert!(report.is_complete(), "{kind:?}: {report}");
            }
            let login = connect(&url("walcast")).await;
            let kept = "select walcast.maintain_messages(interval '72 hours', now() + interval '9 days')";
            let problems: Vec<String> = login.query_one(kept, &[]).await.unwrap().get(0);
            assert_eq!(problems, [""; 0], "{kind:?}");
            let is_kept = "select string_agg(inhrelid::regclass::text, ',' order by inhrelid::regclass::text) = \
                (select string_agg('realtime.messages_' || to_char((now() at time zone 'UTC')::date + 9 + n, \
                'YYYY_MM_DD'), ',' order by n) from generate_series(-1, 3) n) \
                from pg_inherits where inhparent = 'realtime.messages'::regclass";
            assert!(truth(&administrator, is_kept).await, "{kind:?}");
            // The function is the only right it has.
            for forbidden in [
                "select * from realtime.messages",
                "create table realtime.other ()",
                "create table walcast.other ()",
                "drop function walcast.maintain_messages(interval, timestamptz)",
            ] {
                let error = login.batch_execute(forbidden).await.expect_err(forbidden);
                assert_eq!(error.code().unwrap().code(), "42501", "{forbidden}");
            }
            let error = administrator
                .batch_execute(
                    "begin; grant usage on schema walcast to anon; set role anon; select walcast.maintain_messages()",
                )
                .await
                .unwrap_err();
            assert_eq!(error.code().unwrap().code(), "42501");
        }
    }
}
