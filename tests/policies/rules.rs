//! Who decides about rows: what becomes of policies when the catalogue is read.

use crate::{
    line::setup,
    support::postgres::{Database, Postgres, connect},
};
use walcast::{
    pg::{
        catalog::{self, Scope},
        migrate::migrate,
    },
    policy::{
        catalog::{Catalog, RowRule},
        facts::Carried,
    },
};

const TABLES: &str = "
    create table docs (id int primary key, owner uuid, room int, shown boolean, path text);
    alter table docs enable row level security;
    alter publication supabase_realtime add table docs;
    create table members (room int, person uuid, primary key (room, person));
    create publication walcast_lookups;
";
const OWNER: &str = "create policy owner on docs to authenticated using (owner = (select auth.uid()));";
const MEMBER: &str = "create policy member on docs to authenticated using (
    exists (select from members m where m.room = docs.room and m.person = auth.uid()));";
const FOLLOWED: &str = "alter publication walcast_lookups add table members;";

async fn read(database: &Database) -> Catalog {
    catalog::read(&mut connect(&database.walcast_url()).await, Scope::of("supabase_realtime")).await.unwrap()
}

async fn catalog_of(sql: &[&str]) -> Catalog {
    read(&setup::database(Postgres::default(), &format!("{TABLES} {}", sql.concat())).await).await
}

/// The rule of a role for the one table, `docs`.
fn rule<'a>(catalog: &'a Catalog, role: &str) -> &'a RowRule {
    let docs = catalog.tables.values().find(|table| table.name == "docs").unwrap();
    &catalog.access(docs, role).unwrap().rows
}

#[track_caller]
fn why<'a>(catalog: &'a Catalog, role: &str) -> &'a [String] {
    match rule(catalog, role) {
        RowRule::Database(policy) => &policy.why,
        other => panic!("not the database's: {other:?}"),
    }
}

#[tokio::test]
async fn policies_that_are_understood_are_the_process_to_decide_for_whom_they_hold() {
    let catalog = catalog_of(&[OWNER, MEMBER, FOLLOWED]).await;
    let RowRule::Compiled(compiled) = rule(&catalog, "authenticated") else {
        panic!("{:?}", rule(&catalog, "authenticated"))
    };
    assert!(compiled.fallback.expression.contains("auth.uid()") && compiled.fallback.why.is_empty());
    assert_eq!(compiled.fallback.reads.as_deref(), Some(&[1, 2][..]));
    let policies: Vec<&str> = compiled.program.clauses.iter().map(|clause| &*clause.policy).collect();
    assert_eq!(policies, ["member", "owner"]);
    assert_eq!(*rule(&catalog, "anon"), RowRule::None);
    assert_eq!(*rule(&catalog, "service_role"), RowRule::All);
    let members = catalog.facts.tables.values().find(|table| table.name == "members").unwrap();
    assert_eq!(members.carried, Carried::Own);
    assert_eq!(catalog.lookups.keys().collect::<Vec<_>>(), [&members.oid]);
    assert_eq!(catalog.lookups, compiled.program.lookups);
}

#[tokio::test]
async fn what_is_true_for_everybody_asks_nobody() {
    let catalog = catalog_of(&["create policy everybody on docs to anon using (true);
         create function always() returns boolean language sql immutable as 'select true';
         create policy by_function on docs to authenticated using (always());
         create policy wall on docs as restrictive to authenticated using (true);"])
    .await;
    assert_eq!(*rule(&catalog, "anon"), RowRule::All);
    assert_eq!(*rule(&catalog, "authenticated"), RowRule::All);
    assert!(catalog.lookups.is_empty());
}

#[tokio::test]
async fn one_policy_that_is_not_understood_leaves_all_of_them_to_the_database_and_says_why() {
    let catalog = catalog_of(&[OWNER, "create policy odd on docs to authenticated using (random() < 0.5);"]).await;
    let why = why(&catalog, "authenticated");
    assert!(why.len() == 1 && why[0].starts_with("policy \"odd\": ") && why[0].contains("random"), "{why:?}");
    assert!(rule(&catalog, "authenticated").asked().unwrap().expression.contains("random()"));
}

#[tokio::test]
async fn a_table_that_is_not_followed_leaves_its_policies_to_the_database_and_names_the_sql() {
    let database = setup::database(Postgres::default(), &format!("{TABLES} {OWNER} {MEMBER}")).await;
    let expected = "table public.members is not in publication walcast_lookups; run: alter publication walcast_lookups \
                    add table public.members";
    let catalog = read(&database).await;
    assert_eq!(why(&catalog, "authenticated"), [expected]);
    assert!(catalog.lookups.is_empty(), "nobody needs what nobody may use");
    let fix = expected.split_once("run: ").unwrap().1;
    database.execute(fix).await;
    assert!(matches!(rule(&read(&database).await, "authenticated"), RowRule::Compiled(_)));

    for (broken, mended, named) in [
        (
            "alter table members replica identity nothing",
            "alter table members replica identity full",
            "replica identity",
        ),
        (
            "revoke select on members from walcast, service_role, anon; alter table members enable row level security;
             create policy all_of_it on members using (true)",
            "grant select on members to service_role",
            "can read all rows of",
        ),
        (
            "alter publication walcast_lookups set (publish = 'insert')",
            "alter publication walcast_lookups set (publish = 'insert, update, delete, truncate')",
            "not in publication",
        ),
        ("create table more () inherits (members)", "drop table more", "ordinary"),
        ("alter publication supabase_realtime add table members (room, person)", "", ""),
    ] {
        let is_there = Postgres::default().major >= 15 || !broken.contains("(room, person)");
        if !is_there {
            continue;
        }
        database.execute(broken).await;
        let catalog = read(&database).await;
        if mended.is_empty() {
            // A list in one publication and none in the other.
            assert!(why(&catalog, "authenticated")[0].contains("another list"), "{:?}", why(&catalog, "authenticated"));
            continue;
        }
        assert!(why(&catalog, "authenticated")[0].contains(named), "{broken}: {:?}", why(&catalog, "authenticated"));
        database.execute(mended).await;
        let catalog = read(&database).await;
        assert!(matches!(rule(&catalog, "authenticated"), RowRule::Compiled(_)), "{mended}: {catalog:?}");
    }
}

#[tokio::test]
async fn every_policy_of_the_demo_is_decided_by_the_process_and_its_lookups_are_carried() {
    let database = Postgres::default().database().await;
    migrate(&mut database.connect().await, true).await.unwrap();
    let catalog = read(&database).await;
    assert_eq!(catalog.tables.len(), 8);
    for table in catalog.tables.values() {
        for role in ["anon", "authenticated", "service_role"] {
            let rule = &catalog.access(table, role).unwrap().rows;
            assert!(!matches!(rule, RowRule::Database(_)), "{} for {role}: {rule:?}", table.name);
        }
    }
    let looked_into: Vec<_> = catalog.lookups.keys().map(|oid| &catalog.facts.tables[oid]).collect();
    assert_eq!(looked_into.len(), 5);
    assert!(looked_into.iter().all(|table| table.carried == Carried::Main && table.reader.is_some()));
}
