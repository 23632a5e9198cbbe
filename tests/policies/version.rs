//! The version of the catalogue: it changes with whatever a policy's meaning depends on, and with nothing else.

use crate::{
    line::setup::PRELUDE,
    support::postgres::{binaries, connect, majors, new_directory},
};
use std::collections::BTreeSet;
use tokio_postgres::Client;
use walcast::{
    devdb::{Cluster, ClusterOptions},
    pg::catalog::{CatalogReader, LOOKUP_PUBLICATION},
};

const PUBLICATION: &str = "supabase_realtime";

/// A cluster of its own: roles belong to the cluster, and those of other tests would show.
async fn cluster(major: u32) -> Cluster {
    let mut options = ClusterOptions::new(binaries(major).await, new_directory());
    options.settings = vec![("fsync".into(), "off".into()), ("shared_buffers".into(), "32MB".into())];
    options.ephemeral = true;
    Cluster::start(options).await.unwrap()
}

const SCHEMA: &str = "
    create schema app; create schema side; grant usage on schema app to anon;
    create table docs (id int primary key, owner uuid, n int);
    alter table docs enable row level security;
    create table app.members (doc int, person uuid, primary key (doc, person));
    alter table app.members enable row level security;
    create function app.is_member(doc int) returns boolean language sql stable as
      $$ select exists (select from app.members m where m.doc = $1 and m.person = auth.uid()) $$;
    create policy seen on docs for select using (app.is_member(id));
    create policy own on app.members for select using (person = auth.uid());
    alter publication supabase_realtime add table docs;
    create publication walcast_lookups; create table elsewhere (id int primary key);
    create table parent (doc int not null, person uuid not null);
";

/// Each changes what a policy means, or who may what, or how tables come along.
const CHANGES: &[&str] = &[
    "create policy another on docs using (true)",
    "alter policy another on docs using (false)",
    "alter policy another on docs to anon",
    "drop policy another on docs",
    "alter table docs disable row level security",
    "alter table docs force row level security",
    "create policy another on app.members using (true)",
    "alter policy another on app.members rename to third",
    "drop policy third on app.members",
    "alter table app.members disable row level security",
    "alter table app.members enable row level security",
    "alter table app.members force row level security",
    "grant select on app.members to anon",
    "revoke select on app.members from anon",
    "grant select (doc) on app.members to anon",
    "grant usage on schema app to authenticated",
    "alter table app.members owner to service_role",
    "alter table app.members replica identity full",
    "alter table app.members add column extra text default ''",
    "create unique index members_extra on app.members (doc, person, extra)",
    "drop index app.members_extra",
    "alter table app.members alter column extra set not null",
    "alter table app.members alter column extra type varchar",
    "alter table app.members drop column extra",
    "alter table app.members inherit parent",
    "alter table app.members no inherit parent",
    "create or replace function app.is_member(doc int) returns boolean language sql stable as 'select true'",
    "alter function app.is_member(int) security definer",
    "alter function app.is_member(int) set search_path = ''",
    "alter function app.is_member(int) owner to service_role",
    "revoke execute on function app.is_member(int) from public",
    "create function app.is_member(doc bigint) returns boolean language sql stable as 'select true'",
    "create function public.is_member(doc int) returns boolean language sql stable as 'select true'",
    "drop function public.is_member(int)",
    "create function side.uid() returns uuid language sql as 'select null::uuid'",
    "alter schema side rename to beside",
    "create table beside.members (id int)",
    "drop table beside.members",
    "create view beside.members as select 1",
    "alter role postgres set search_path = app, public",
    "alter database postgres set timezone = 'Europe/Oslo'",
    "alter role all set \"app.setting\" = '1'",
    "create role newcomer",
    "grant anon to newcomer",
    "alter role newcomer bypassrls",
    "alter publication walcast_lookups add table app.members",
    "alter publication walcast_lookups set (publish = 'insert')",
    "alter publication supabase_realtime add table elsewhere",
    "drop publication walcast_lookups",
    "create publication walcast_lookups for all tables",
    "create type pair as (a int, b int)",
    "create function as_text(pair) returns text language sql as 'select $1::text'; \
     create cast (pair as text) with function as_text(pair)",
    "drop cast (pair as text)",
    "create operator public.~~~ (leftarg = uuid, rightarg = uuid, function = pg_catalog.uuid_eq)",
    "revoke execute on function pg_catalog.lower(text) from public",
];

/// None of these does.
const OTHERS: &[&str] = &[
    "insert into docs select n, null, n from generate_series(1, 2000) n; update docs set n = n + 1; delete from docs where n > 100",
    "insert into app.members select n, gen_random_uuid() from generate_series(1, 2000) n",
    "analyze docs; analyze app.members; analyze",
    "vacuum docs",
    "vacuum (freeze) app.members",
    "vacuum (freeze) pg_class",
    "create temporary table passing (id int, name text); drop table passing",
    "create temporary table docs (id int); create temporary table members (id int); insert into docs values (1); drop table docs, members",
    "create function unnamed() returns int language sql as 'select 1'; drop function unnamed()",
    "create index on elsewhere (id)",
    "select pg_catalog.pg_switch_wal(); checkpoint",
];

struct Watched {
    client: Client,
    reader: CatalogReader,
    names: BTreeSet<String>,
}

impl Watched {
    async fn new(cluster: &Cluster) -> Watched {
        let client = connect(&cluster.url("postgres")).await;
        let roles = "create role anon; create role authenticated; create role service_role bypassrls;
                     create role walcast login replication; grant anon, authenticated, service_role to walcast;";
        client.batch_execute(&format!("{roles} {PRELUDE} {SCHEMA}")).await.unwrap();
        let reader = CatalogReader::new(connect(&cluster.url("postgres")).await, PUBLICATION).await.unwrap();
        let names = ["is_member", "members", "uid", "jwt", "coalesce", "nullif", "current_setting", "lower"];
        Watched { client, reader, names: names.map(str::to_owned).into() }
    }

    async fn version(&self) -> String {
        self.reader.version(&self.names).await.unwrap()
    }

    /// Runs statements one by one: some will not run inside of a transaction, which several at once make.
    async fn run(&self, statements: &str) {
        for statement in statements.split("; ") {
            self.client.batch_execute(statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
        }
    }
}

#[tokio::test]
async fn the_version_changes_with_every_kind_of_ddl_that_counts_and_with_no_other() {
    for major in majors() {
        let cluster = cluster(major).await;
        let watched = Watched::new(&cluster).await;
        let mut version = watched.version().await;
        for statements in OTHERS {
            watched.run(statements).await;
            assert_eq!(watched.version().await, version, "after {statements} on {major}");
        }
        for statements in CHANGES {
            watched.run(statements).await;
            let now = watched.version().await;
            assert_ne!(now, version, "after {statements} on {major}");
            version = now;
        }
        cluster.stop().await.unwrap();
    }
}

#[tokio::test]
async fn what_was_read_has_the_version_that_is_asked_for_next() {
    for major in majors() {
        let cluster = cluster(major).await;
        let mut watched = Watched::new(&cluster).await;
        if major >= 15 {
            // What the publications' listing prints depends on the search path, which is another while reading.
            watched
                .run(
                    "create function public.length(text) returns int language sql as 'select 1'; \
                     create table moods (id int primary key, mood text); alter table moods replica identity full; \
                     alter publication supabase_realtime add table moods where (pg_catalog.length(mood) > 1); \
                     alter role postgres set search_path = public, pg_catalog",
                )
                .await;
            let client = connect(&cluster.url("postgres")).await;
            watched.reader = CatalogReader::new(client, PUBLICATION).await.unwrap();
        }
        for _ in 0..2 {
            let catalog = watched.reader.read().await.unwrap();
            assert_eq!(watched.reader.version(&catalog.facts.names).await.unwrap(), catalog.version);
            watched.run(&format!("create table later (id int); drop publication {LOOKUP_PUBLICATION}")).await;
            assert_ne!(watched.reader.version(&catalog.facts.names).await.unwrap(), catalog.version);
            watched.run(&format!("drop table later; create publication {LOOKUP_PUBLICATION}")).await;
        }
        cluster.stop().await.unwrap();
    }
}

/// What is read in one snapshot may come from functions that look at the catalogue as it is by now. Then the version that
/// goes with it must not be the one that is asked for next, or nobody ever looks again.
#[tokio::test]
async fn what_changes_while_the_catalogue_is_read_has_it_read_again() {
    const VERSION: &str = include_str!("../../sql/catalog_version.sql");
    for major in majors() {
        let cluster = cluster(major).await;
        let watched = Watched::new(&cluster).await;
        let names: Vec<String> = watched.names.iter().cloned().collect();
        let reading = connect(&cluster.url("postgres")).await;
        let mut lost = Vec::new();
        // Whole schemas can be published from 15 on.
        let schema: &[&str] = &["alter publication supabase_realtime add tables in schema app"];
        for statements in schema.iter().filter(|_| major >= 15).chain(CHANGES) {
            // A statement of the transaction has been run, so that its snapshot is taken.
            reading.batch_execute("begin isolation level repeatable read read only; select 1").await.unwrap();
            watched.run(statements).await;
            let read = reading.query_one(VERSION, &[&PUBLICATION, &LOOKUP_PUBLICATION, &names]).await;
            reading.batch_execute("rollback").await.unwrap();
            // What fails is tried again.
            let version = watched.version().await;
            if read.is_ok_and(|row| *version == *row.get::<_, &str>(0)) {
                lost.push(statements);
            }
        }
        assert!(lost.is_empty(), "nobody looks again behind {lost:?}");
        cluster.stop().await.unwrap();
    }
}
