//! `pg::migrate` against real clusters: what it makes, what it leaves alone, what it leaves to an administrator.

use crate::support::postgres::{PASSWORD, binaries, connect, default_major, majors, new_directory};
use tokio_postgres::Client;
use walcast::{
    devdb::{self, ClusterOptions},
    pg::migrate::{MigrateError, Outcome, Report, migrate},
};

/// A cluster of one test's own: roles belong to the cluster, so a test about roles cannot share.
struct Cluster {
    server: devdb::Cluster,
}

impl Cluster {
    async fn start() -> Cluster {
        Cluster::of(default_major()).await
    }

    async fn of(major: u32) -> Cluster {
        let mut options = ClusterOptions::new(binaries(major).await, new_directory());
        options.settings = vec![("fsync".into(), "off".into()), ("shared_buffers".into(), "32MB".into())];
        options.password = Some(PASSWORD.into());
        options.ephemeral = true;
        Cluster { server: devdb::Cluster::start(options).await.unwrap() }
    }

    /// The superuser in database `postgres`.
    async fn superuser(&self) -> Client {
        self.connect("postgres", "postgres").await
    }

    async fn connect(&self, user: &str, database: &str) -> Client {
        if user != "postgres" {
            let superuser = connect(&self.server.url("postgres")).await;
            superuser.batch_execute(&format!("alter role {user} password '{PASSWORD}'")).await.unwrap();
        }
        let port = self.server.port();
        connect(&format!("postgres://{user}:{PASSWORD}@127.0.0.1:{port}/{database}")).await
    }
}

/// Everything in the database that a migration could change, as text.
const EVERYTHING: &str = "
    select coalesce(string_agg(line, E'\\n' order by line), '') from (
        select format('role %s %s %s %s', rolname, rolcanlogin, rolbypassrls, rolreplication) as line from pg_roles
        union all
        select format('schema %s %s %s', nspname, nspowner::regrole, nspacl) from pg_namespace
        where nspname not like 'pg\\_temp%' and nspname not like 'pg\\_toast\\_temp%'
        union all
        select format('relation %s %s %s %s %s %s %s', oid, relname, relowner::regrole, relacl, relrowsecurity,
            relreplident, obj_description(oid, 'pg_class'))
        from pg_class where relnamespace <> 'pg_catalog'::regnamespace and relnamespace <> 'pg_toast'::regnamespace
        union all
        select format('function %s %s %s %s', oid, proowner::regrole, proacl, pg_get_functiondef(oid))
        from pg_proc where prokind = 'f' and pronamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
        union all
        select format('policy %s', p) from pg_policies p
        union all
        select format('publication %s', p) from pg_publication p
        union all
        select format('published %s %s %s', pubname, schemaname, tablename) from pg_publication_tables
        union all
        select format('trigger %s %s', tgrelid, tgname) from pg_trigger
    ) as lines";

async fn everything(client: &Client) -> String {
    client.query_one(EVERYTHING, &[]).await.unwrap().get(0)
}

async fn truth(client: &Client, query: &str) -> bool {
    client.query_one(query, &[]).await.unwrap().get(0)
}

fn outcome<'a>(report: &'a Report, name: &str) -> &'a Outcome {
    &report.steps.iter().find(|step| step.name == name).unwrap_or_else(|| panic!("no step {name}")).outcome
}

fn nothing_done(report: &Report) -> bool {
    report.steps.iter().all(|step| matches!(step.outcome, Outcome::AlreadyThere | Outcome::Offered))
}

#[tokio::test]
async fn a_superuser_prepares_a_bare_database_and_a_second_run_changes_nothing() {
    for major in majors() {
        let cluster = Cluster::of(major).await;
        let mut client = cluster.superuser().await;
        let first = migrate(&mut client, true).await.unwrap();
        assert!(first.is_complete(), "{first}");
        assert_eq!(first.administrator_sql(), None);
        assert_eq!(*outcome(&first, "role service_role"), Outcome::Done);
        assert_eq!(*outcome(&first, "examples of the demo"), Outcome::Done);
        assert_eq!(*outcome(&first, "role walcast"), Outcome::Offered);
        assert!(truth(&client, "select rolbypassrls from pg_roles where rolname = 'service_role'").await);
        assert!(
            truth(&client, "select count(*) = 8 from pg_publication_tables where pubname = 'supabase_realtime'").await
        );
        assert!(truth(&client, "select not exists (select from pg_roles where rolname = 'walcast')").await);

        let before = everything(&client).await;
        let second = migrate(&mut client, true).await.unwrap();
        assert!(nothing_done(&second), "{second}");
        assert_eq!(everything(&client).await, before);
        // The session is the caller's again.
        assert!(
            truth(&client, "select current_setting('search_path') <> '' and current_setting('lock_timeout') = '0'")
                .await
        );
        assert!(truth(&client, "select not exists (select from pg_locks where locktype = 'advisory')").await);
    }
}

#[tokio::test]
async fn what_the_owner_of_a_database_may_not_do_runs_as_printed() {
    for major in majors() {
        let cluster = Cluster::of(major).await;
        let superuser = cluster.superuser().await;
        superuser.batch_execute("create role app login; ").await.unwrap();
        superuser.batch_execute("create database app owner app").await.unwrap();
        let mut owner = cluster.connect("app", "app").await;
        let administrator = cluster.connect("postgres", "app").await;

        let report = migrate(&mut owner, true).await.unwrap();
        assert!(!report.is_complete());
        assert!(matches!(outcome(&report, "role service_role"), Outcome::NeedsAdministrator(_)));
        assert_eq!(*outcome(&report, "publication supabase_realtime"), Outcome::Done);
        assert_eq!(*outcome(&report, "schema walcast"), Outcome::Done);
        let script = report.administrator_sql().unwrap();
        let (offered, text) = (report.least_privilege_sql().unwrap(), report.to_string());
        assert!(text.contains(&script) && text.ends_with(&offered), "{text}");
        assert!(!script.contains("create role walcast"), "{script}");

        administrator.batch_execute(&script).await.unwrap();
        let report = migrate(&mut owner, true).await.unwrap();
        assert!(report.is_complete() && nothing_done(&report), "{report}");

        // The role to serve with is offered, and what is offered runs too.
        administrator.batch_execute(&offered).await.unwrap();
        let report = migrate(&mut owner, true).await.unwrap();
        assert_eq!(report.least_privilege_sql(), None, "{report}");
        assert!(nothing_done(&report));
        let reader = cluster.connect("walcast", "app").await;
        assert_eq!(
            reader
                .query("select from pg_catalog.pg_publication_tables where pubname = 'supabase_realtime'", &[])
                .await
                .unwrap()
                .len(),
            8
        );
        reader
            .batch_execute("select from public.messages; begin; set local role service_role; rollback")
            .await
            .unwrap();
        let denied = reader.batch_execute("insert into public.tags (name) values ('no')").await.unwrap_err();
        assert_eq!(denied.code().unwrap().code(), "42501");
        assert!(
            truth(
                &reader,
                "select rolreplication and not rolsuper and not rolbypassrls and not rolinherit \
                            from pg_roles where rolname = 'walcast'"
            )
            .await
        );
    }
}

#[tokio::test]
async fn an_owner_who_may_create_roles_is_left_with_what_the_server_reserves() {
    for major in majors() {
        let cluster = Cluster::of(major).await;
        let superuser = cluster.superuser().await;
        superuser.batch_execute("create role app login createrole").await.unwrap();
        superuser.batch_execute("create database app owner app").await.unwrap();
        let mut owner = cluster.connect("app", "app").await;
        let report = migrate(&mut owner, false).await.unwrap();
        assert_eq!(*outcome(&report, "role anon"), Outcome::Done);
        assert!(matches!(outcome(&report, "role service_role"), Outcome::NeedsAdministrator(_)));
        let administrator = cluster.connect("postgres", "app").await;
        administrator.batch_execute("create role service_role nologin bypassrls").await.unwrap();
        let report = migrate(&mut owner, true).await.unwrap();
        assert!(report.is_complete(), "{report}");
        assert_eq!(*outcome(&report, "tables of the demo"), Outcome::Done);
    }
}

#[tokio::test]
async fn without_the_demo_no_table_of_the_user_is_touched() {
    let cluster = Cluster::start().await;
    let mut client = cluster.superuser().await;
    client
        .batch_execute("create table notes (id int primary key); create table messages (id int primary key)")
        .await
        .unwrap();
    let tables = "select string_agg(format('%s %s %s %s %s', c.oid, c.relacl, c.relrowsecurity, c.relreplident, \
                  obj_description(c.oid)), ',' order by c.oid) from pg_class c where relnamespace = 'public'::regnamespace";
    let before: String = client.query_one(tables, &[]).await.unwrap().get(0);
    let report = migrate(&mut client, false).await.unwrap();
    assert!(report.is_complete(), "{report}");
    assert_eq!(client.query_one(tables, &[]).await.unwrap().get::<_, String>(0), before);
    assert!(
        truth(
            &client,
            "select not exists (select from pg_publication_tables where schemaname <> 'realtime') \
                and not exists (select from pg_policies)"
        )
        .await
    );
    assert!(truth(&client, "select to_regnamespace('walcast_demo') is null").await);
}

/// What Supabase's own stack leaves behind, as far as we could trip over it.
const SUPABASE: &str = "
    create role anon nologin noinherit;
    create role authenticated nologin noinherit;
    create role service_role nologin noinherit bypassrls;
    create role supabase_auth_admin login noinherit createrole;
    create role supabase_admin login superuser;
    create role app login;
    create schema auth authorization supabase_auth_admin;
    grant usage on schema auth to anon, authenticated, service_role, app;
    set role supabase_auth_admin;
    create function auth.uid() returns uuid language sql stable as $$ select coalesce(
      nullif(current_setting('request.jwt.claim.sub', true), ''),
      (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'))::uuid $$;
    create function auth.role() returns text language sql stable as $$ select coalesce(
      nullif(current_setting('request.jwt.claim.role', true), ''),
      (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role'))::text $$;
    create function auth.jwt() returns jsonb language sql stable as $$ select coalesce(
      nullif(current_setting('request.jwt.claim', true), ''),
      nullif(current_setting('request.jwt.claims', true), ''))::jsonb $$;
    create function auth.email() returns text language sql stable as $$ select 'theirs'::text $$;
    reset role;
    create table public.orders (id int primary key);
    alter table public.orders enable row level security;
    create policy own on public.orders using (true);
    create publication supabase_realtime for table public.orders;
    alter publication supabase_realtime owner to app;
    alter default privileges in schema public grant all on tables to anon, authenticated, service_role;
    grant create on database postgres to app;
    grant create, usage on schema public to app;
    alter default privileges for role app in schema public grant all on tables to anon, authenticated, service_role;
    alter default privileges for role app in schema public grant all on functions to anon, authenticated, service_role;";

/// The same of its realtime server.
const REALTIME: &str = include_str!("messages/supabase.sql");

#[tokio::test]
async fn what_supabases_own_stack_made_is_left_as_it_is() {
    for (user, demo) in [("postgres", false), ("app", true), ("postgres", true)] {
        let cluster = Cluster::start().await;
        let superuser = cluster.superuser().await;
        superuser.batch_execute(SUPABASE).await.unwrap();
        superuser.batch_execute(REALTIME).await.unwrap();
        let before = everything(&superuser).await;
        let mut client = cluster.connect(user, "postgres").await;
        let report = migrate(&mut client, demo).await.unwrap();
        let left = report.steps.iter().filter(|step| matches!(step.outcome, Outcome::NeedsAdministrator(_)));
        let left: Vec<&str> = left.map(|step| &*step.name).collect();
        // Partitions belong to the owner of their table, whom this role cannot become.
        let expected = "function walcast.maintain_messages() runs as who may alter realtime.messages";
        assert_eq!(left, if user == "app" { vec![expected] } else { vec![] }, "{report}");
        let after = everything(&superuser).await;
        for line in before.lines() {
            assert!(after.lines().any(|other| other == line), "{user}, {demo}: gone or changed: {line}");
        }
        if demo {
            // Their default privileges open every new table and function; ours stay shut.
            assert!(
                truth(
                    &superuser,
                    "select not has_table_privilege('anon', 'public.messages', 'insert, truncate') \
                and not has_table_privilege('authenticated', 'public.messages', 'truncate') \
                and not has_function_privilege('anon', 'public.insert_message(text,uuid,uuid,text,jsonb)', 'execute')"
                )
                .await
            );
        } else {
            let added: Vec<_> = after.lines().filter(|line| !before.lines().any(|other| other == *line)).collect();
            let functions = added.iter().filter(|line| line.contains("FUNCTION walcast.maintain_messages(")).count();
            let schemas = added.iter().filter(|line| line.starts_with("schema walcast ")).count();
            let publications = added.iter().filter(|line| line.contains(",walcast_lookups,")).count();
            // The text of a function is many lines.
            let others = added.iter().filter(|line| {
                ["relation ", "policy ", "published ", "trigger ", "role "].iter().any(|kind| line.starts_with(kind))
            });
            assert_eq!((functions, schemas, publications, others.count()), (1, 1, 1, 0), "{added:?}");
        }
    }
}

#[tokio::test]
async fn a_name_that_is_taken_is_one_refusal_and_changes_nothing() {
    for (made, named) in [
        ("create table notes (id int)", "table public.notes"),
        ("create view tags as select 1 as id", "relation public.tags"),
        ("create type messages as enum ('a')", "type public.messages"),
        ("create table mine (id int); create index notes_owner_id_idx on mine (id)", "index public.notes_owner_id_idx"),
        (
            "create function insert_message(body text) returns int language sql as 'select 1'",
            "function public.insert_message(body text)",
        ),
        ("create schema walcast_demo", "schema walcast_demo"),
    ] {
        let cluster = Cluster::start().await;
        let mut client = cluster.superuser().await;
        client.batch_execute(made).await.unwrap();
        let before = everything(&client).await;
        let refusal = migrate(&mut client, true).await.unwrap_err();
        assert!(matches!(refusal, MigrateError::Taken { demo: true, .. }), "{refusal:?}");
        assert!(refusal.to_string().contains(named), "{refusal}");
        assert_eq!(everything(&client).await, before, "{made}");
        assert!(migrate(&mut client, false).await.unwrap().is_complete(), "{made}");
    }
    let cluster = Cluster::start().await;
    let mut client = cluster.superuser().await;
    client.batch_execute("create schema walcast").await.unwrap();
    let refusal = migrate(&mut client, false).await.unwrap_err();
    assert!(matches!(refusal, MigrateError::Taken { demo: false, .. }), "{refusal:?}");
    assert!(truth(&client, "select not exists (select from pg_roles where rolname = 'anon')").await);
}

#[tokio::test]
async fn two_migrations_at_once_take_turns() {
    let cluster = Cluster::start().await;
    let (mut one, mut other) = (cluster.superuser().await, cluster.superuser().await);
    let (one, other) = tokio::join!(migrate(&mut one, true), migrate(&mut other, true));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert!(one.is_complete() && other.is_complete());
    assert!(nothing_done(&one) != nothing_done(&other), "one of them did everything");
}

#[tokio::test]
async fn examples_that_were_deleted_stay_deleted_and_what_was_dropped_comes_back() {
    for major in majors() {
        let cluster = Cluster::of(major).await;
        let mut client = cluster.superuser().await;
        migrate(&mut client, true).await.unwrap();
        client
            .batch_execute("delete from projects; drop table tags cascade; drop policy notes_delete on notes")
            .await
            .unwrap();
        let report = migrate(&mut client, true).await.unwrap();
        assert!(report.is_complete(), "{report}");
        assert!(
            truth(&client, "select not exists (select from projects) and to_regclass('public.tags') is not null").await
        );
        assert!(truth(&client, "select count(*) = 30 from pg_policies").await);
        assert!(
            truth(&client, "select count(*) = 8 from pg_publication_tables where pubname = 'supabase_realtime'").await
        );
    }
}

#[tokio::test]
async fn a_publication_for_all_tables_needs_nothing_added() {
    let cluster = Cluster::start().await;
    let mut client = cluster.superuser().await;
    client.batch_execute("create publication supabase_realtime for all tables").await.unwrap();
    let report = migrate(&mut client, true).await.unwrap();
    assert!(report.is_complete(), "{report}");
    assert_eq!(*outcome(&report, "tables of the demo in the publication"), Outcome::AlreadyThere);
}

#[tokio::test]
async fn a_read_only_database_is_named_as_such() {
    let cluster = Cluster::start().await;
    let mut client = cluster.superuser().await;
    client.batch_execute("set default_transaction_read_only = on").await.unwrap();
    let error = migrate(&mut client, false).await.unwrap_err();
    assert!(matches!(error, MigrateError::ReadOnly), "{error:?}");
}
