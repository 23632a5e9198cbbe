//! `walcast check`: every finding, by making the state it is about, and by running the SQL it offers.

use super::{Running, SOON, output, stderr, stdout, walcast};
use crate::support::{
    postgres::{Database, Postgres, binaries, connect, default_major, majors, new_directory},
    wait::until,
};
use serde_json::Value;
use walcast::{
    devdb::{Cluster, ClusterOptions},
    pg::migrate::migrate,
};

/// The findings as a role, and whether the command failed.
struct Findings {
    all: Vec<Value>,
    failed: bool,
}

impl Findings {
    fn of(url: &str, more: &[(&str, &str)]) -> Findings {
        let output = output(&["check", "--json"], &[&[("DATABASE_URL", url)], more].concat());
        let all: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", stderr(&output)));
        let failed = output.status.code() == Some(1);
        assert!(failed || output.status.success());
        assert_eq!(failed, all.iter().any(|finding| finding["status"] == "error"), "{all:?}");
        for finding in &all {
            assert!(["ok", "warning", "error"].contains(&finding["status"].as_str().unwrap()));
            assert!(!finding["meaning"].as_str().unwrap().is_empty() && finding.get("fix").is_some());
        }
        Findings { all, failed }
    }

    /// Status and fix of a finding about a subject; none when there is none.
    #[track_caller]
    fn find(&self, id: &str, subject: &str) -> Option<(&str, &str)> {
        let finding = self.all.iter().find(|finding| finding["id"] == id && finding["subject"] == subject)?;
        Some((finding["status"].as_str().unwrap(), finding["fix"].as_str().unwrap_or("")))
    }

    /// The first finding of a kind.
    #[track_caller]
    fn status(&self, id: &str) -> &str {
        let finding = self.all.iter().find(|finding| finding["id"] == id);
        finding.unwrap_or_else(|| panic!("no {id} in {:?}", self.all))["status"].as_str().unwrap()
    }
}

/// Finds a warning or an error, runs the SQL it offers, and sees that it is gone.
#[track_caller]
fn mended<'a>(
    database: &'a Database,
    url: &'a str,
    status: &'a str,
    id: &'a str,
    subject: &'a str,
) -> impl Future<Output = ()> + 'a {
    let caller = std::panic::Location::caller();
    async move {
        let findings = Findings::of(url, &[]);
        let Some((found, fix)) = findings.find(id, subject) else {
            panic!("no {id} of {subject} at {caller}: {:?}", findings.all)
        };
        assert_eq!(found, status, "{id} at {caller}");
        assert!(!fix.is_empty(), "{id} at {caller} offers no SQL");
        database.execute(fix).await;
        let after = Findings::of(url, &[]);
        assert!(after.find(id, subject).is_none_or(|(status, _)| status == "ok"), "{id} at {caller} is still there");
    }
}

/// A database that was migrated, read by the least-privileged role.
async fn migrated(major: u32) -> (Database, String) {
    let database = Postgres::shared(major).database().await;
    migrate(&mut database.connect().await, false).await.unwrap();
    let url = database.walcast_url();
    (database, url)
}

#[tokio::test]
async fn a_good_database_has_no_error_and_the_least_privileged_role_can_tell() {
    for major in majors() {
        let (database, url) = migrated(major).await;
        database
            .execute(
                "create table notes (id int primary key, owner uuid); alter table notes replica identity full;
                 alter table notes enable row level security; grant select on notes to authenticated, walcast;
                 create policy mine on notes using (owner = (select auth.uid()));
                 alter publication supabase_realtime add table notes",
            )
            .await;
        private_channels(&database).await;
        let findings = Findings::of(&url, &[]);
        assert!(!findings.failed, "{:?}", findings.all);
        let others = findings.all.iter().filter(|finding| finding["status"] != "ok");
        let others: Vec<_> = others.map(|finding| finding["id"].as_str().unwrap()).collect();
        assert_eq!(others, ["max_slot_wal_keep_size"], "{:?}", findings.all);
        for id in ["server_version", "wal_level", "replication_right", "slot", "publication", "table"] {
            assert_eq!(findings.status(id), "ok");
        }
        let text = output(&["check"], &[("DATABASE_URL", &url)]);
        assert!(text.status.success());
        let text = stdout(&text);
        assert!(text.contains("ok       wal_level  wal_level: logical"), "{text}");
        assert!(text.contains("warning  max_slot_wal_keep_size"), "{text}");
        assert!(text.contains("\n         alter system set max_slot_wal_keep_size = '10GB';\n"), "{text}");
        assert!(text.ends_with("1 warning, 0 errors\n") && !text.contains('\x1b'), "{text}");
    }
}

/// Makes what private channels need, where no migration has.
async fn private_channels(database: &Database) {
    database
        .execute(
            "create schema if not exists realtime; grant usage on schema realtime to anon, authenticated;
             create table if not exists realtime.messages (topic text, extension text);
             alter table realtime.messages enable row level security;
             grant select, insert on realtime.messages to anon, authenticated",
        )
        .await;
}

#[tokio::test]
async fn private_channels_that_nobody_could_use_are_warned_of() {
    let (database, url) = migrated(default_major()).await;
    database.execute("drop schema if exists realtime cascade").await;
    assert_eq!(Findings::of(&url, &[]).find("private_channels", "realtime.messages"), Some(("warning", "")));
    private_channels(&database).await;
    assert_eq!(Findings::of(&url, &[]).status("private_channels"), "ok");
    for harm in [
        "revoke select on realtime.messages from anon, authenticated",
        "revoke usage on schema realtime from anon, authenticated",
    ] {
        database.execute(harm).await;
        mended(&database, &url, "warning", "private_channels", "realtime.messages").await;
    }
    // One of the two is a choice.
    database.execute("revoke select on realtime.messages from anon").await;
    assert_eq!(Findings::of(&url, &[]).status("private_channels"), "ok");
}

#[tokio::test]
async fn a_login_without_rights_is_an_error_until_the_offered_sql_was_run() {
    for major in majors() {
        let (database, _) = migrated(major).await;
        let role = format!("{}_Bare", database.name);
        database.execute(&format!("create role \"{role}\" login noinherit password 'x'")).await;
        let (url, quoted) = (database.url_as(&role, "x"), format!("\"{role}\""));
        assert!(Findings::of(&url, &[]).failed);
        for name in ["anon", "authenticated"] {
            assert_eq!(Findings::of(&url, &[]).find("role", name).unwrap().0, "warning");
        }
        mended(&database, &url, "error", "replication_right", &quoted).await;
        mended(&database, &url, "error", "claimable_roles", &quoted).await;
        assert_eq!(Findings::of(&url, &[]).status("role"), "ok");

        // NOINHERIT: the login may not look into schema auth, but the roles may, and one of both is enough.
        database
            .execute(
                "create table notes (id uuid primary key); alter table notes enable row level security;
                 create policy mine on notes using (id = (select auth.uid()));
                 alter publication supabase_realtime add table notes; revoke select on notes from public",
            )
            .await;
        assert!(Findings::of(&url, &[]).find("schema_usage", "public.notes").is_none());
        database
            .execute(
                "create schema private; create function private.me() returns uuid return auth.uid();
                 create policy ours on notes to anon using (id = private.me())",
            )
            .await;
        mended(&database, &url, "warning", "schema_usage", "public.notes").await;
        mended(&database, &url, "warning", "select_right", "public.notes").await;
        database.execute(&format!("drop owned by {quoted}; drop role {quoted}")).await;
    }
}

#[tokio::test]
async fn a_superuser_is_advised_to_be_less() {
    let (database, _) = migrated(default_major()).await;
    let findings = Findings::of(&database.url, &[]);
    let (status, fix) = findings.find("least_privilege", "postgres").unwrap();
    assert!(status == "warning" && fix.contains("create role walcast login replication"), "{fix}");
    assert_eq!(Findings::of(&database.walcast_url(), &[]).status("least_privilege"), "ok");
}

#[tokio::test]
async fn publication_and_functions_that_are_missing_can_be_made_with_the_offered_sql() {
    let database = Postgres::default().database().await;
    let url = database.walcast_url();
    mended(&database, &url, "error", "publication", "supabase_realtime").await;
    let findings = Findings::of(&url, &[]);
    assert_eq!(findings.status("publication_tables"), "warning");
    let subject = "auth.jwt(), auth.uid(), auth.role(), auth.email()";
    mended(&database, &url, "warning", "auth_functions", subject).await;
    assert_eq!(Findings::of(&url, &[]).find("auth_functions", "auth").unwrap().0, "ok");
    database.execute("drop function auth.role()").await;
    mended(&database, &url, "warning", "auth_functions", "auth.role()").await;
    database.execute("alter publication supabase_realtime set (publish = 'insert')").await;
    mended(&database, &url, "warning", "publication_operations", "supabase_realtime").await;
}

#[tokio::test]
async fn a_table_whose_rows_cannot_be_told_apart_is_an_error_because_its_own_updates_fail() {
    for major in majors() {
        let (database, url) = migrated(major).await;
        database
            .execute(
                "create table \"No key\" (id int); create table nothing (id int primary key);
                 alter table nothing replica identity nothing;
                 create table parted (id int) partition by list (id); create table part partition of parted default;
                 insert into \"No key\" values (1); insert into nothing values (1); insert into parted values (1);
                 alter publication supabase_realtime set (publish_via_partition_root = true);
                 alter publication supabase_realtime add table \"No key\", nothing, parted",
            )
            .await;
        let client = database.connect().await;
        for (table, subject) in
            [("\"No key\"", "public.No key"), ("nothing", "public.nothing"), ("parted", "public.parted")]
        {
            let update = format!("update {table} set id = 2");
            assert!(client.batch_execute(&update).await.is_err(), "the state is what it is said to be");
            mended(&database, &url, "error", "replica_identity", subject).await;
            client.batch_execute(&update).await.unwrap();
        }
        let findings = Findings::of(&url, &[]);
        assert_eq!(findings.find("primary_key", "public.No key").unwrap().0, "warning");
        assert!(findings.find("primary_key", "public.nothing").is_none());
        // Only inserts are published: nothing fails.
        database.execute("alter publication supabase_realtime set (publish = 'insert')").await;
        database.execute("alter table nothing replica identity nothing").await;
        assert!(Findings::of(&url, &[]).find("replica_identity", "public.nothing").is_none());
        if major >= 15 {
            database
                .execute(
                    "alter publication supabase_realtime set (publish = 'insert, update');
                     create table listed (id int primary key, body text); insert into listed values (1);
                     alter publication supabase_realtime add table listed (body)",
                )
                .await;
            assert!(client.batch_execute("update listed set body = 'x'").await.is_err());
            mended(&database, &url, "error", "replica_identity", "public.listed").await;
            client.batch_execute("update listed set body = 'x'").await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_row_level_security_does_not_cover_is_warned_of() {
    for major in majors() {
        let (database, url) = migrated(major).await;
        database
            .execute(
                "create table open (id int primary key); grant select on open to anon;
                 create table closed (id int primary key); revoke all on closed from public;
                 create table idle (id int primary key); create policy p on idle using (true); create policy q on idle for insert with check (true);
                 create table silent (id int primary key); alter table silent enable row level security;
                 create table keyed (id int primary key, owner uuid); alter table keyed enable row level security;
                 create policy p on keyed using (owner = (select auth.uid()));
                 create table by_key (id int primary key, owner uuid); alter table by_key enable row level security;
                 create policy p on by_key using (id > 5);
                 alter publication supabase_realtime add table open, closed, idle, silent, keyed, by_key",
            )
            .await;
        let findings = Findings::of(&url, &[]);
        assert!(!findings.failed, "{:?}", findings.all);
        assert!(findings.find("row_security", "public.closed").is_none());
        assert_eq!(findings.find("no_policy", "public.silent").unwrap().0, "warning");
        assert!(findings.find("delete_visibility", "public.by_key").is_none(), "the key is enough");
        assert!(findings.find("delete_visibility", "public.open").is_none());
        mended(&database, &url, "warning", "row_security", "public.open").await;
        mended(&database, &url, "warning", "unused_policies", "public.idle").await;
        mended(&database, &url, "warning", "delete_visibility", "public.keyed").await;
        mended(&database, &url, "warning", "select_right", "public.closed").await;
    }
}

#[tokio::test]
async fn generated_columns_that_clients_do_not_get_are_named() {
    for major in majors() {
        let (database, url) = migrated(major).await;
        database
            .execute(
                "create table notes (id int primary key, twice int generated always as (id * 2) stored);
                 alter publication supabase_realtime add table notes",
            )
            .await;
        let findings = Findings::of(&url, &[]);
        let (status, fix) = findings.find("generated_columns", "public.notes").unwrap();
        assert_eq!((status, fix.is_empty()), ("warning", major < 18));
        if major >= 18 {
            mended(&database, &url, "warning", "generated_columns", "public.notes").await;
        }
    }
}

#[tokio::test]
async fn slots_and_senders_are_counted_and_a_slot_of_ours_is_looked_at() {
    let mut options = ClusterOptions::new(binaries(default_major()).await, new_directory());
    let settings = [
        ("max_replication_slots", "1"),
        ("max_wal_senders", "1"),
        ("max_slot_wal_keep_size", "16MB"),
        ("fsync", "off"),
        ("min_wal_size", "32MB"),
    ];
    options.settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    options.ephemeral = true;
    let cluster = Cluster::start(options).await.unwrap();
    let url = cluster.url("postgres");
    let client = connect(&url).await;
    let run = async |sql: &str| client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    run("create publication supabase_realtime; create table t (id int primary key)").await;
    let findings = Findings::of(&url, &[]);
    assert_eq!(findings.find("max_slot_wal_keep_size", "max_slot_wal_keep_size").unwrap().0, "ok");
    // Nobody can be claimed here, and none of the three roles is there.
    assert_eq!(findings.status("role"), "warning");
    assert!(findings.find("role", "service_role").unwrap().1.contains("create role service_role"));

    let mut tap = Running::start(walcast(&["tap"], &[("DATABASE_URL", &url)]));
    until(SOON, || async { tap.stderr.lines().iter().any(|line| line.contains("listening")) }).await;
    let findings = Findings::of(&url, &[]);
    assert_eq!((findings.status("wal_senders"), findings.status("replication_slots")), ("error", "error"));
    let second = output(&["tap"], &[("DATABASE_URL", &url)]);
    assert_eq!(second.status.code(), Some(1), "a second finds no room, and does not try for ever");
    tap.signal("INT");
    tap.ended().await;
    until(SOON, || async { Findings::of(&url, &[]).status("replication_slots") == "ok" }).await;

    run("select pg_create_physical_replication_slot('walcast')").await;
    let findings = Findings::of(&url, &[]);
    assert_eq!((findings.status("slot"), findings.status("replication_slots")), ("error", "warning"));
    run("select pg_drop_replication_slot('walcast')").await;
    run("create database elsewhere").await;
    let elsewhere = connect(&cluster.url("elsewhere")).await;
    let make = "select pg_create_logical_replication_slot('walcast', 'pgoutput')";
    elsewhere.batch_execute(make).await.unwrap();
    let findings = Findings::of(&url, &[]);
    assert_eq!(findings.status("slot"), "error");
    assert!(findings.find("slot", "slot 'walcast'").unwrap().1.is_empty(), "it is not ours to drop");

    run("select pg_drop_replication_slot('walcast')").await;
    run(make).await;
    assert_eq!(Findings::of(&url, &[]).status("slot"), "ok");
    for id in 0..4 {
        run(&format!("insert into t values ({id})")).await;
        run("select pg_switch_wal()").await;
    }
    let findings = Findings::of(&url, &[]);
    let (status, fix) = findings.find("slot", "slot 'walcast'").unwrap();
    assert!(status == "warning" && fix.contains("max_slot_wal_keep_size"), "{:?}", findings.all);
    run("checkpoint").await;
    let findings = Findings::of(&url, &[]);
    let (status, fix) = findings.find("slot", "slot 'walcast'").unwrap();
    assert_eq!(status, "error");
    assert!(
        findings.all.iter().all(|finding| finding["id"] != "notify_fallback"),
        "serve makes another: {:?}",
        findings.all
    );
    run(fix).await;
    assert_eq!(Findings::of(&url, &[]).status("slot"), "ok");
    cluster.stop().await.unwrap();
}
