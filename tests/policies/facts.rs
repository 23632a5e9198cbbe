//! `Facts`: what `pg::catalog` reads of everything that policies mention.

use crate::{
    line,
    support::postgres::{Database, Postgres, connect, majors},
};
use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};
use walcast::{
    change::relation::ReplicaIdentity,
    pg::catalog::{self, LOOKUP_PUBLICATION, Scope},
    policy::{
        catalog::{Catalog, Collation},
        facts::{Carried, FunctionFacts, Language, TableFacts},
    },
};

/// Every word: more names than a text mentions, and so whatever it mentions.
fn words(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

async fn read(url: &str) -> Catalog {
    let scope = Scope { mentioned: words, ..Scope::of("supabase_realtime") };
    catalog::read(&mut connect(url).await, scope).await.unwrap()
}

/// A published table `docs` with row level security and a policy whose text mentions these words.
async fn mentioning(major: u32, sql: &str, mentions: &str) -> Database {
    let docs = format!(
        "create table docs (id int primary key); alter table docs enable row level security;
         create policy mentioning on docs for select using ('{mentions}' <> '');
         alter publication supabase_realtime add table docs;"
    );
    line::setup::database(Postgres::shared(major), &format!("{docs} {sql}")).await
}

fn table<'a>(catalog: &'a Catalog, name: &str) -> &'a TableFacts {
    let all: Vec<_> = catalog.facts.tables.values().map(|table| format!("{}.{}", table.schema, table.name)).collect();
    let mut found = catalog.facts.tables.values().filter(|table| table.name == name);
    let table = found.next().unwrap_or_else(|| panic!("no table {name} in {all:?}"));
    assert!(found.next().is_none(), "several tables {name}");
    table
}

fn function<'a>(catalog: &'a Catalog, name: &str) -> &'a FunctionFacts {
    let found = catalog.facts.functions.iter().find(|function| function.name == name);
    found.unwrap_or_else(|| panic!("no function {name}"))
}

#[tokio::test]
async fn names_are_followed_through_policies_and_bodies_and_nothing_else_is_read() {
    for major in majors() {
        let database = mentioning(
            major,
            "create table members (doc int, person uuid); create table people (id uuid); create table unrelated (id int);
             create schema other; create table other.members (id int); create view people_view as select * from people;
             create function known(uuid) returns boolean language sql stable
               begin atomic; select exists (select from people where id = $1); end;
             create function is_member(doc int) returns boolean language sql stable security definer set search_path = ''
               as $$ select exists (select from public.members m where m.doc = $1 and public.known(m.person)) $$;
             create function unrelated() returns int language sql as 'select 1';
             alter table people enable row level security;
             create policy written on people for insert with check (unrelated() = 1);",
            "is_member",
        );
        let database = database.await;
        database
            .execute(
                "create function hidden_in_a_policy() returns boolean language plpgsql as
                   $$ begin return exists (select from people_view); end $$;
                 create policy seen on people for all using (hidden_in_a_policy() and current_setting('app.on') = '1')",
            )
            .await;
        let catalog = read(&database.walcast_url()).await;
        let mut tables: Vec<String> =
            catalog.facts.tables.values().map(|table| format!("{}.{}", table.schema, table.name)).collect();
        tables.sort();
        assert_eq!(tables, ["other.members", "public.docs", "public.members", "public.people", "public.people_view"]);
        let functions: BTreeSet<&str> = catalog.facts.functions.iter().map(|function| &*function.name).collect();
        assert_eq!(functions, BTreeSet::from(["hidden_in_a_policy", "is_member", "known"]));
        for name in ["is_member", "members", "people", "known", "people_view", "current_setting"] {
            assert!(catalog.facts.names.contains(name), "{name}");
        }
        let people = table(&catalog, "people");
        assert_eq!(people.policies.len(), 1, "the other does not concern SELECT");
        assert_eq!(people.policies[0].name, "seen");
        assert!(people.policies[0].using.as_ref().unwrap().contains("public.hidden_in_a_policy()"));

        let member = function(&catalog, "is_member");
        assert!(member.is_plain && member.security_definer && !member.is_strict && !member.returns_set);
        assert_eq!((&*member.schema, member.language, &*member.owner), ("public", Language::Sql, "postgres"));
        assert_eq!((&member.arguments[..], &member.argument_names[..]), (&[23][..], &["doc".to_owned()][..]));
        assert_eq!((member.returns, &member.settings[..]), (16, &["search_path=\"\"".to_owned()][..]));
        assert!(member.source.contains("public.members m") && member.sql_body.is_none());
        let known = function(&catalog, "known");
        assert!(known.source.is_empty() && known.sql_body.as_ref().unwrap().contains("public.people"));
        assert_eq!(known.argument_names, [""]);
        assert_eq!(function(&catalog, "hidden_in_a_policy").language, Language::Plpgsql);
        // The owner of a function that runs with his rights is a role like those that are claimed.
        // Other tests of the cluster may have roles, too, but none of theirs owns anything here.
        let roles: BTreeSet<&str> = catalog.facts.roles.iter().map(|role| &**role).collect();
        let claimable: BTreeSet<&str> = catalog.roles.iter().map(|role| &**role).collect();
        assert!(["anon", "authenticated", "service_role"].iter().all(|role| claimable.contains(role)));
        assert_eq!(roles.difference(&claimable).copied().collect::<Vec<_>>(), ["postgres"]);
        assert!(table(&catalog, "people").rights["postgres"].sees_all);
    }
}

#[tokio::test]
async fn a_function_is_plain_only_with_arguments_in_and_one_answer() {
    let database = mentioning(
        Postgres::default().major,
        "create function f_out(out x int) language sql as 'select 1';
         create function f_variadic(variadic x int[]) returns int language sql as 'select 1';
         create function f_table() returns table (x int) language sql as 'select 1';
         create function f_set() returns setof int language sql as 'select 1';
         create function f_default(a int, b int default 2) returns int language sql strict as 'select 1';
         create procedure f_procedure() language sql as 'select 1';
         create aggregate f_aggregate(int) (sfunc = int4pl, stype = int);
         revoke execute on function f_default from public; grant execute on function f_default to anon",
        "f_out f_variadic f_table f_set f_default f_procedure f_aggregate",
    )
    .await;
    let catalog = read(&database.walcast_url()).await;
    let plain: Vec<&str> = {
        let mut plain: Vec<&str> = catalog.facts.functions.iter().filter(|f| f.is_plain).map(|f| &*f.name).collect();
        plain.sort_unstable();
        plain
    };
    assert_eq!(catalog.facts.functions.len(), 7);
    assert_eq!(plain, ["f_default", "f_set"]);
    assert!(function(&catalog, "f_set").returns_set);
    let default = function(&catalog, "f_default");
    assert!(default.is_strict);
    assert_eq!((default.defaults, default.arguments.len()), (1, 2));
    assert_eq!(default.execute.iter().map(|role| &**role).collect::<Vec<_>>(), ["anon"]);
    assert_eq!(function(&catalog, "f_set").execute.len(), catalog.facts.roles.len());
}

#[tokio::test]
async fn rights_are_those_postgres_would_check() {
    let postgres = Postgres::default();
    let database = mentioning(postgres.major, "", "secrets forced owned helper").await;
    let owner = format!("{}_owner", database.name);
    let heir = format!("{}_heir", database.name);
    database
        .execute(&format!(
            "create role {owner}; create role {heir} in role {owner}; grant usage, create on schema public to {owner};
             create schema closed; grant usage on schema closed to anon; create table closed.secrets (id int, secret text);
             alter table closed.secrets enable row level security;
             revoke all on closed.secrets from public, anon, authenticated, service_role;
             grant select (id) on closed.secrets to authenticated; grant select on closed.secrets to service_role;
             create policy first on closed.secrets to public using (id > 0);
             create policy second on closed.secrets to authenticated using (id > 1);
             create policy third on closed.secrets to {owner} using (id > 2);
             set role {owner};
             create table owned (id int); alter table owned enable row level security;
             create table forced (id int); alter table forced enable row level security;
             alter table forced force row level security;
             reset role;
             create function helper() returns int language sql security definer as 'select 1';
             alter function helper owner to {heir}; grant usage on schema closed to {heir}"
        ))
        .await;
    let catalog = read(&database.walcast_url()).await;
    let secrets = table(&catalog, "secrets");
    let rights = |role: &str| &secrets.rights[role];
    // USAGE on the schema is another matter.
    assert_eq!(rights("authenticated").select, [true, false]);
    assert_eq!(rights("anon").select, [false, false]);
    assert_eq!(rights("service_role").select, [true, true]);
    assert_eq!([rights("anon").sees_all, rights("service_role").sees_all], [false, true]);
    assert_eq!(rights("anon").policies, [0]);
    assert_eq!(rights("authenticated").policies, [0, 1]);
    assert_eq!(rights(&heir).policies, [0, 2], "what his role is meant by");
    assert!(table(&catalog, "owned").rights[&*heir].sees_all, "an heir of the owner's rights");
    assert!(!table(&catalog, "forced").rights[&*heir].sees_all);
    assert!(table(&catalog, "owned").rights["service_role"].sees_all);
    assert!(!table(&catalog, "owned").rights["anon"].sees_all);
    let usage = |role: &str| catalog.facts.usage[role].contains("closed");
    assert_eq!([usage("anon"), usage("authenticated"), usage(&heir)], [true, false, true]);
    // A superuser's rights are not checked at all.
    database
        .execute("create or replace function helper() returns int language sql security definer as 'select 2'")
        .await;
    database.execute("alter function helper owner to postgres").await;
    let catalog = read(&database.walcast_url()).await;
    let postgres_rights = &table(&catalog, "forced").rights["postgres"];
    assert!(postgres_rights.sees_all && postgres_rights.select == [true]);
    assert!(!catalog.facts.roles.contains(&*heir), "it owns nothing that runs with its rights now");
    database.execute(&format!("drop owned by {owner}, {heir}; drop role {owner}, {heir}")).await;
}

#[tokio::test]
async fn a_key_is_what_can_never_occur_twice() {
    let database = mentioning(
        Postgres::default().major,
        "create table keys (
           a int not null, b int not null, c int, d int not null, e text not null, g int generated always as (a) stored,
           primary key (a, b));
         create unique index on keys (b) include (c);
         create unique index on keys (c);
         create unique index on keys (d) where d > 0;
         create unique index on keys (lower(e));
         alter table keys add unique (e) deferrable;
         create index on keys (d);
         create table deferred (id int primary key deferrable);
         create table late (id int not null unique, other int); alter table late replica identity using index late_id_key;
         create table whole (id int, doubled int generated always as (id * 2) stored); alter table whole replica identity full;
         create table bare (id int); create table none (id int primary key); alter table none replica identity nothing;
         create table covering (id int, extra int, primary key (id) include (extra))",
        "keys deferred late whole bare none covering",
    )
    .await;
    let catalog = read(&database.walcast_url()).await;
    assert_eq!(table(&catalog, "keys").unique_keys, [vec![0, 1], vec![1]]);
    for (name, identity, columns, keys) in [
        ("keys", ReplicaIdentity::Default, &[0, 1][..], 2),
        ("deferred", ReplicaIdentity::Default, &[], 0),
        ("late", ReplicaIdentity::Index, &[0], 1),
        ("whole", ReplicaIdentity::Full, &[0], 0),
        ("bare", ReplicaIdentity::Default, &[], 0),
        ("none", ReplicaIdentity::Nothing, &[], 1),
        ("covering", ReplicaIdentity::Default, &[0], 1),
    ] {
        let table = table(&catalog, name);
        assert_eq!((table.replica_identity, &table.identity[..]), (identity, columns), "{name}");
        assert_eq!(table.unique_keys.len(), keys, "{name}");
        assert_eq!(table.has_usable_identity, !columns.is_empty(), "{name}");
    }
    assert_eq!(table(&catalog, "whole").columns[1].generated.as_ref().unwrap().reads, [0]);
}

#[tokio::test]
async fn only_an_ordinary_table_can_be_followed() {
    let database = mentioning(
        Postgres::default().major,
        "create table plain (id int primary key);
         create table parted (id int primary key) partition by range (id);
         create table part partition of parted for values from (0) to (9);
         create table parent (id int primary key); create table child () inherits (parent);
         create unlogged table unlogged_one (id int primary key);
         create view seen as select * from plain; create materialized view kept as select * from plain;
         insert into plain select generate_series(1, 1000); analyze plain;",
        "plain parted part parent child unlogged_one seen kept passing",
    )
    .await;
    let other = database.connect().await;
    other
        .batch_execute("create temporary table passing (id int); create temporary table plain (id int)")
        .await
        .unwrap();
    let catalog = read(&database.walcast_url()).await;
    let mut ordinary: Vec<&str> = catalog.facts.tables.values().filter(|t| t.is_ordinary).map(|t| &*t.name).collect();
    ordinary.sort_unstable();
    assert_eq!(ordinary, ["docs", "plain"]);
    assert_eq!(catalog.facts.tables.len(), 9, "no temporary one");
    assert_eq!(table(&catalog, "plain").estimated_rows, 1000);
    assert_eq!(table(&catalog, "parent").estimated_rows, 0, "nobody has counted");
}

#[tokio::test]
async fn a_table_is_carried_when_everything_of_it_is_streamed() {
    for major in majors() {
        let database = mentioning(
            major,
            &format!(
                "create table a (id int primary key, x int, g int generated always as (x) stored);
                 create table b (id int primary key, x int); create table c (id int primary key, x int);
                 create table d (id int primary key, x int);
                 create publication {LOOKUP_PUBLICATION}; alter publication supabase_realtime add table a;
                 alter publication {LOOKUP_PUBLICATION} add table b"
            ),
            "a b c d",
        )
        .await;
        let carried = async || {
            let catalog = read(&database.walcast_url()).await;
            ["a", "b", "c", "d"].map(|name| table(&catalog, name).carried)
        };
        use Carried::{Main, No, Own};
        assert_eq!(carried().await, [Main, Own, No, No]);
        database.execute(&format!("alter publication {LOOKUP_PUBLICATION} add table a")).await;
        assert_eq!(carried().await, [Main, Own, No, No]);
        database.execute(&format!("alter publication {LOOKUP_PUBLICATION} set (publish = 'insert')")).await;
        assert_eq!(carried().await, [Main, No, No, No]);
        database.execute("alter publication supabase_realtime set (publish = 'insert, update, delete')").await;
        assert_eq!(carried().await, [No, No, No, No], "a TRUNCATE would not be heard of");
        database
            .execute(&format!(
                "alter publication supabase_realtime set (publish = 'insert, update, delete, truncate');
                 drop publication {LOOKUP_PUBLICATION}; create publication {LOOKUP_PUBLICATION} for all tables"
            ))
            .await;
        assert_eq!(carried().await, [Main, Own, Own, Own]);
        if major < 15 {
            continue;
        }
        database
            .execute(&format!(
                "drop publication {LOOKUP_PUBLICATION}; create publication {LOOKUP_PUBLICATION};
                 alter publication supabase_realtime set table docs, a (id), b where (x > 0), c;
                 alter publication {LOOKUP_PUBLICATION} add table b, c (id, x), d (id, x)"
            ))
            .await;
        assert_eq!(carried().await, [No, No, No, Own], "part of a, rows of b, two lists of c, a full list of d");
    }
}

#[tokio::test]
async fn a_table_is_read_as_whoever_sees_all_of_it() {
    let database = mentioning(
        Postgres::default().major,
        "create table open (id int); create table walled (id int); alter table walled enable row level security;
         create table half (id int, secret int); revoke all on half from walcast, anon, authenticated, service_role;
         grant select (id) on half to service_role, walcast;
         create table lent (id int); revoke all on lent from walcast, anon, service_role;
         create schema closed; create table closed.hidden (id int); grant select on closed.hidden to service_role",
        "open walled half lent hidden",
    )
    .await;
    let readers = async |url: &str| {
        let catalog = read(url).await;
        ["open", "walled", "half", "lent", "hidden"].map(|name| table(&catalog, name).reader.clone())
    };
    let role = |name: &str| Some(Some(Arc::from(name)));
    assert_eq!(readers(&database.walcast_url()).await, [Some(None), role("service_role"), None, Some(None), None]);
    // Without inheritance what a login's roles may do is done as one of them, best as one that sees everything.
    let bare = format!("{}_bare", database.name);
    let login =
        format!("create role {bare} login noinherit password 'x'; grant anon, authenticated, service_role to {bare}");
    database.execute(&login).await;
    let [open, _, half, lent, _] = readers(&database.url_as(&bare, "x")).await;
    assert_eq!([open, half, lent], [role("service_role"), None, role("authenticated")]);
    database.execute(&format!("drop role {bare}")).await;
    assert_eq!(readers(&database.url).await, [const { Some(None) }; 5], "a superuser reads everything");
}

#[tokio::test]
async fn what_sessions_and_the_database_were_given_is_known() {
    for major in majors() {
        let database = mentioning(
            major,
            "create policy asking on docs using (current_setting('app.Tenant', true) = current_setting('request.jwt.claims', true));
             create type pair as (a int, b int);
             create function as_text(pair) returns text language sql as 'select $1::text';
             create cast (pair as text) with function as_text(pair);
             create function same(uuid, text) returns boolean language sql as 'select $1::text = $2';
             create operator ~~~ (leftarg = uuid, rightarg = text, function = same);
             create function pairs(pair, pair) returns boolean language sql as 'select true';
             create operator === (leftarg = pair, rightarg = pair, function = pairs);
             revoke execute on function pg_catalog.initcap(text) from public",
            "docs lower as_text",
        )
        .await;
        let before = read(&database.walcast_url()).await;
        let facts = &before.facts;
        assert_eq!(facts.search_path, ["$user", "public"]);
        assert!(facts.custom_settings.is_empty(), "{:?}", facts.custom_settings);
        assert!(facts.restricted_builtins.contains("initcap") && facts.restricted_builtins.contains("pg_read_file"));
        assert!(!facts.restricted_builtins.contains("lower"));
        let text = 25;
        assert_eq!(facts.custom_casts.iter().map(|cast| cast.1).collect::<Vec<_>>(), [text]);
        let builtin = facts.builtin_functions.as_ref().unwrap();
        assert!(builtin.contains("current_setting") && builtin.contains("lower") && !builtin.contains("as_text"));
        assert!(!builtin.contains("upper"), "nobody mentions it");
        assert_eq!(facts.custom_operators, HashSet::from(["~~~".to_owned()]));
        assert!(matches!(facts.default_collation, Some(Collation::Bytewise | Collation::Deterministic)));
        assert!(Arc::ptr_eq(&facts.types, &before.types));

        let name = &database.name;
        database
            .execute(&format!(
                "alter role walcast in database {name} set search_path = app, \"Odd, one\";
                 alter database {name} set timezone = 'Europe/Oslo';
                 alter database {name} set \"app.tenant\" = 'x';
                 alter role anon in database {name} set \"app.other\" = 'x'"
            ))
            .await;
        let facts = read(&database.walcast_url()).await.facts;
        assert_eq!(facts.search_path, ["app", "Odd, one"]);
        assert!(!facts.is_utc);
        assert_eq!(facts.custom_settings, BTreeSet::from(["app.tenant".to_owned()]), "what anon has is not ours");
        database.execute(&format!("alter database {name} set timezone = 'etc/utc'")).await;
        assert!(read(&database.walcast_url()).await.facts.is_utc);
        // What a session has from elsewhere counts when a policy asks for it.
        let options = format!("{}?options=-c%20app.tenant%3D1%20-c%20app.unasked%3D1", database.url);
        database.execute(&format!("alter database {name} reset \"app.tenant\"")).await;
        let facts = read(&options).await.facts;
        assert_eq!(facts.custom_settings, BTreeSet::from(["app.tenant".to_owned()]));
    }
}

#[tokio::test]
async fn a_collation_is_bytewise_by_what_it_does_and_not_by_its_name() {
    let database = mentioning(
        Postgres::default().major,
        "create schema odd; create collation odd.\"C\" (provider = libc, lc_collate = 'C', lc_ctype = 'C.UTF-8');
         create collation odd.plain (provider = libc, locale = 'POSIX');
         create table texts (id int, a text collate \"C\", b text collate odd.\"C\", c text collate odd.plain, d text)",
        "texts",
    )
    .await;
    let catalog = read(&database.walcast_url()).await;
    let collations: Vec<Collation> = table(&catalog, "texts").columns.iter().map(|column| column.collation).collect();
    use Collation::{Bytewise, Deterministic, None};
    assert_eq!(collations[..4], [None, Bytewise, Deterministic, Bytewise]);
    assert_eq!(Some(collations[4]), catalog.facts.default_collation);
    // A database whose order is that of bytes, but whose letters are more than those of ASCII.
    let other = format!("{}_mixed", database.name);
    database
        .execute(&format!(
            "create database {other} template template0 lc_collate 'C' lc_ctype 'C.UTF-8' encoding 'UTF8'"
        ))
        .await;
    let url = database.url.replace(&database.name, &other);
    let client = connect(&url).await;
    client.batch_execute("create publication supabase_realtime; create table texts (t text); alter publication supabase_realtime add table texts").await.unwrap();
    let catalog = read(&url).await;
    assert_eq!(catalog.facts.default_collation, Some(Deterministic));
    assert_eq!(table(&catalog, "texts").columns[0].collation, Deterministic);
    drop(client);
    database.execute(&format!("drop database {other} with (force)")).await;
}
