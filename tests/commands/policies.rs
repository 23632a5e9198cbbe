//! `walcast check --policies`, and what `check` and `migrate` do about the tables that policies look into.

use super::{output, stderr, stdout};
use crate::{
    line::setup,
    support::postgres::{Database, Postgres, connect},
};
use serde_json::Value;
use walcast::pg::migrate::{Outcome, migrate};

const SCHEMA: &str = "
    create table docs (id int primary key, owner uuid, room int, shown boolean, ends timestamptz, secret text);
    alter table docs enable row level security; alter publication supabase_realtime add table docs;
    revoke select on docs from authenticated;
    grant select (id, owner, room, shown, ends) on docs to authenticated;
    create table members (room int, person uuid, primary key (room, person));
    create table rooms (id int primary key, org int); create table staff (org int primary key, person uuid);
";

/// Name, class, and the policy, for docs and authenticated.
const POLICIES: &[(&str, &str, &str)] = &[
    ("a_claims", "C", "using (auth.jwt() ->> 'aal' = 'aal2')"),
    ("b_equal", "P-eq", "using (owner = (select auth.uid()))"),
    ("c_row", "P", "using (shown or owner = auth.uid())"),
    ("d_time", "P+T", "using (shown and ends > now())"),
    ("e_lookup", "L1", "using (room in (select m.room from members m where m.person = auth.uid()))"),
    (
        "f_join",
        "L2",
        "using (exists (select from rooms r join staff s on s.org = r.org where r.id = docs.room and s.person = auth.uid()))",
    ),
    ("g_wall", "P", "as restrictive to authenticated using (shown)"),
];

async fn database(policies: &[&str]) -> Database {
    let policies: Vec<String> =
        POLICIES.iter().filter(|(name, ..)| policies.contains(name)).map(|(name, _, sql)| policy(name, sql)).collect();
    setup::database(Postgres::default(), &format!("{SCHEMA} {}", policies.concat())).await
}

fn policy(name: &str, sql: &str) -> String {
    let to = if sql.contains("to authenticated") { sql.to_owned() } else { format!("to authenticated {sql}") };
    format!("create policy {name} on docs {to};")
}

fn all() -> Vec<&'static str> {
    POLICIES.iter().map(|(name, ..)| *name).collect()
}

/// The lines about docs and authenticated.
fn lines(database: &Database) -> Vec<Value> {
    let output = output(&["check", "--policies", "--json"], &[("DATABASE_URL", &database.walcast_url())]);
    assert!(output.status.success(), "{}", stderr(&output));
    let lines: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    lines.into_iter().filter(|line| line["table"] == "public.docs" && line["role"] == "authenticated").collect()
}

/// What `check` finds with this id: subject, status, SQL.
fn findings(database: &Database, id: &str) -> Vec<(String, String, Option<String>)> {
    let output = output(&["check", "--json"], &[("DATABASE_URL", &database.walcast_url())]);
    let all: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", stderr(&output)));
    let text = |finding: &Value, key: &str| finding[key].as_str().map(str::to_owned);
    let these = all.iter().filter(|finding| finding["id"] == id);
    these.map(|found| (text(found, "subject").unwrap(), text(found, "status").unwrap(), text(found, "fix"))).collect()
}

#[tokio::test]
async fn every_policy_has_its_class_and_says_what_it_reads() {
    let database = database(&all()).await;
    database
        .execute(
            "create publication walcast_lookups; alter publication walcast_lookups add table members, rooms, staff",
        )
        .await;
    let lines = lines(&database);
    let classes: Vec<(&str, &str)> =
        lines.iter().map(|line| (line["policy"].as_str().unwrap(), line["class"].as_str().unwrap())).collect();
    assert_eq!(classes, POLICIES.iter().map(|(name, class, _)| (*name, *class)).collect::<Vec<_>>());
    for line in &lines {
        assert_eq!((&line["decided_by"], &line["why"]), (&"process".into(), &Value::Array(Vec::new())), "{line}");
        assert_eq!(line["not_granted"], serde_json::json!(["secret"]));
        assert_eq!(line["permissive"], line["policy"] != "g_wall");
    }
    assert_eq!(lines[3]["reads"], serde_json::json!(["shown", "ends"]));
    assert_eq!(lines[4]["looks_into"][0]["table"], "public.members");
    assert_eq!(lines[4]["looks_into"][0]["carried_by"], "publication walcast_lookups");

    let output = output(&["check", "--policies"], &[("DATABASE_URL", &database.walcast_url())]);
    let text = stdout(&output);
    for line in [
        "public.docs  anon  -  C  no policy applies: it sees no row\n",
        "public.docs  authenticated  b_equal  P-eq  reads owner\n",
        "public.docs  authenticated  e_lookup  L1  reads room; looks into public.members (room, person), carried by \
         publication walcast_lookups\n",
        "public.docs  authenticated  g_wall  P  restrictive; reads shown\n",
        "public.docs  authenticated  columns not granted: secret\n",
        "public.docs  service_role  -  C  row level security does not hold for it: it sees every row\n",
    ] {
        assert!(text.contains(line), "no {line} in\n{text}");
    }
}

#[tokio::test]
async fn policies_of_private_channels_say_who_decides_them() {
    let schema = include_str!("../rights/schema.sql");
    let policies = "
        create policy hears on realtime.messages for select to authenticated using (topic = realtime.topic());
        create policy speaks on realtime.messages for insert to authenticated with check (is_member(topic));
        create policy wall on realtime.messages as restrictive for insert with check (extension = 'broadcast')";
    let database = setup::database(Postgres::default(), &[schema, policies].concat()).await;
    let output = output(&["check", "--policies"], &[("DATABASE_URL", &database.walcast_url())]);
    let text = stdout(&output);
    for line in [
        "realtime.messages for select  anon  -  C  no policy applies\n",
        "realtime.messages for select  authenticated  hears  P-eq  reads topic\n",
        "realtime.messages for insert  authenticated  speaks  Q  the database decides: it looks into other tables\n",
        "realtime.messages for insert  authenticated  wall  Q  restrictive; the database decides: together with the others\n",
        "realtime.messages for insert  service_role  -  C  row level security does not hold for it\n",
    ] {
        assert!(text.contains(line), "no {line} in\n{text}");
    }
}

#[tokio::test]
async fn what_the_database_decides_says_why_and_what_would_change_that() {
    let database = database(&["b_equal"]).await;
    database.execute(&policy("odd", "using (random() < 0.5)")).await;
    let [equal, odd] = &lines(&database)[..] else { panic!() };
    assert_eq!((&equal["class"], &odd["class"]), (&"P-eq".into(), &"Q".into()));
    assert_eq!(equal["why"][0], "together with odd");
    assert!(odd["why"][0].as_str().unwrap().contains("random"), "{odd}");

    database.execute(&format!("drop policy odd on docs; {}", policy("member", POLICIES[4].2))).await;
    let [_, member] = &lines(&database)[..] else { panic!() };
    assert_eq!((&member["class"], &member["decided_by"]), (&"L1".into(), &"database".into()));
    assert_eq!(member["why"][0], "table public.members is not in publication walcast_lookups");
    let fix = member["looks_into"][0]["fix"].as_str().unwrap();
    database.execute("create publication walcast_lookups").await;
    database.execute(fix).await;
    assert!(lines(&database).iter().all(|line| line["decided_by"] == "process"));
}

#[tokio::test]
async fn without_a_publication_there_are_no_policies_to_tell_of() {
    let database = Postgres::default().database().await;
    let output = output(&["check", "--policies"], &[("DATABASE_URL", &database.walcast_url())]);
    assert!(!output.status.success() && stderr(&output).contains("publication supabase_realtime does not exist"));
}

#[tokio::test]
async fn check_names_the_lookup_tables_and_the_sql_by_which_they_are_followed() {
    let database = database(&["e_lookup", "f_join"]).await;
    database
        .execute("alter table rooms replica identity nothing; alter publication supabase_realtime add table staff")
        .await;
    let found = findings(&database, "lookup_table");
    let state = |found: &[(String, String, Option<String>)]| -> Vec<(String, String)> {
        found.iter().map(|(subject, status, _)| (subject.clone(), status.clone())).collect()
    };
    let is = |subject: &str, status: &str| (format!("public.{subject}"), status.to_owned());
    assert_eq!(state(&found), [is("members", "warning"), is("rooms", "warning"), is("staff", "ok")]);
    let publication = findings(&database, "lookup_publication");
    assert_eq!(publication[0].1, "warning");
    database.execute(publication[0].2.as_ref().unwrap()).await;
    // First an identity, then the publication: the other way round the application's UPDATEs would fail.
    for _ in 0..2 {
        for (_, _, fix) in findings(&database, "lookup_table") {
            database.execute(&fix.unwrap_or_default()).await;
        }
    }
    let found = findings(&database, "lookup_table");
    assert!(found.iter().all(|(_, status, _)| status == "ok"), "{found:?}");
    assert_eq!(findings(&database, "lookup_publication")[0].1, "ok");
    assert!(findings(&database, "lookup_member").is_empty());

    // What harms is an error, and the SQL undoes it.
    for (harm, named) in [
        ("alter table rooms replica identity nothing", "public.rooms"),
        (
            "alter publication supabase_realtime set (publish = 'insert'); alter publication walcast_lookups add table staff",
            "public.staff",
        ),
    ] {
        database.execute(harm).await;
        let [(subject, status, Some(fix))] = &findings(&database, "lookup_member")[..] else { panic!("{harm}") };
        assert_eq!((&**subject, &**status), (named, "error"));
        database.execute(fix).await;
        assert!(findings(&database, "lookup_member").is_empty());
    }
}

#[tokio::test]
async fn a_migration_follows_what_can_be_followed_without_harm_and_repeats_nothing() {
    let database = database(&["e_lookup", "f_join"]).await;
    database.execute("alter table rooms replica identity nothing; create table unneeded (id int primary key)").await;
    let outcomes = async || {
        let report = migrate(&mut database.connect().await, false).await.unwrap();
        assert!(report.is_complete(), "{report}");
        let ours = report.steps.iter().filter(|step| step.name.contains("walcast_lookups"));
        ours.map(|step| (step.name.to_string(), step.outcome.clone())).collect::<Vec<_>>()
    };
    let steps = |outcome: Outcome| {
        [
            "publication walcast_lookups",
            "table public.members in publication walcast_lookups",
            "table public.staff in publication walcast_lookups",
        ]
        .map(|name| (name.to_owned(), outcome.clone()))
    };
    assert_eq!(outcomes().await, steps(Outcome::Done));
    assert_eq!(outcomes().await, steps(Outcome::AlreadyThere));
    let members = "select string_agg(tablename, ' ' order by tablename) from pg_publication_tables where pubname = 'walcast_lookups'";
    let row = database.connect().await.query_one(members, &[]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), "members staff", "rooms has no identity, nobody looks into unneeded");
    // What clients get a part of is never joined with the whole of it.
    database
        .execute(
            "alter publication walcast_lookups drop table members; alter publication supabase_realtime add table members;
             alter publication supabase_realtime set (publish = 'insert')",
        )
        .await;
    assert_eq!(outcomes().await.len(), 2, "the publication and staff");
}

#[tokio::test]
async fn tables_of_others_are_left_to_their_owner_as_sql_that_runs() {
    let database = database(&["e_lookup"]).await;
    let role = format!("{}_migrator", database.name);
    database
        .execute(&format!(
            "create role {role} login password 'x'; grant create on database {name} to {role};
             grant create on schema public to {role}; create schema walcast; comment on schema walcast is 'walcast'",
            name = database.name
        ))
        .await;
    let mut client = connect(&database.url_as(&role, "x")).await;
    let report = migrate(&mut client, false).await.unwrap();
    let step = report.steps.iter().find(|step| step.name.contains("public.members")).unwrap();
    assert!(matches!(&step.outcome, Outcome::NeedsAdministrator(why) if why.contains("owner")), "{:?}", step.outcome);
    let sql = report.administrator_sql().unwrap();
    assert!(sql.contains("alter publication walcast_lookups add table public.members;\n"), "{sql}");
    database.execute(&sql).await;
    assert!(migrate(&mut client, false).await.unwrap().is_complete());
    assert_eq!(findings(&database, "lookup_table")[0].1, "ok");
    database.execute(&format!("drop owned by {role} cascade; drop role {role}")).await;
}
