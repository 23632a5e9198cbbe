//! `walcast explain`: which policy and which clause shows a row or hides it, held against Postgres in every case.

mod http;

use super::{output, stderr, stdout};
use crate::{
    line::setup,
    support::{
        postgres::{Database, Postgres, default_major},
        skip,
        token::{ALICE, BOB, SECRET, alice, anon, bob, in_seconds, sign},
    },
};
use serde_json::{Value, json};

/// A value that no explanation may hold.
const MARKER: &str = "the-value-of-a-row";

/// Row 1 is Alice's, row 2 nobody's in a room where Bob is a member, row 3 is Bob's and not shown.
fn schema() -> String {
    format!(
        "create table notes (id int primary key, owner uuid, room int, shown boolean, body text, secret text);
         create table members (room int, person uuid, role text, primary key (room, person));
         alter table notes enable row level security; alter table notes replica identity full;
         alter publication supabase_realtime add table notes;
         create publication walcast_lookups for table members;
         create policy mine on notes to authenticated using (owner = (select auth.uid()));
         create policy members on notes to authenticated using (room is not null and exists (
           select from members m where m.room = notes.room and m.person = (select auth.uid())));
         create policy wall on notes as restrictive to authenticated using (shown);
         insert into members values (7, '{BOB}', '{MARKER}');
         insert into notes values (1, '{ALICE}', 8, true, '{MARKER}', '{MARKER}'),
           (2, null, 7, true, '{MARKER}', '{MARKER}'), (3, '{BOB}', null, false, '{MARKER}', '{MARKER}');"
    )
}

async fn database() -> Database {
    setup::database(Postgres::default(), &schema()).await
}

/// An explanation, with the exit code it came with.
struct Explained {
    report: Value,
    code: i32,
}

fn run(database: &Database, arguments: &[&str]) -> std::process::Output {
    let environment = [("DATABASE_URL", &*database.walcast_url()), ("JWT_SECRET", SECRET)];
    output(&[&["explain"], arguments].concat(), &environment)
}

#[track_caller]
fn explained(database: &Database, token: &str, arguments: &[&str]) -> Explained {
    let arguments = [&["--json", "--token", token], arguments].concat();
    let output = run(database, &arguments);
    let text = stdout(&output);
    assert!(!text.contains(MARKER) && !text.contains(ALICE), "values of rows and claims are nobody's business: {text}");
    let report = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{}", stderr(&output)));
    let explained = Explained { report, code: output.status.code().unwrap() };
    assert_eq!(explained.code, i32::from(explained.report["visible"] != true));
    explained
}

#[track_caller]
fn row(database: &Database, token: &str, key: &str) -> Explained {
    explained(database, token, &["--table", "notes", "--row", key])
}

impl Explained {
    fn verdict(&self) -> &str {
        self.report["verdict"].as_str().unwrap()
    }

    /// The verdict, where Postgres was asked the same and agrees.
    #[track_caller]
    fn agreed(&self) -> &str {
        assert_eq!(self.report["postgres"]["agrees"], true, "{:#}", self.report);
        let sees = self.report["postgres"]["answer"] == "sees the row";
        assert_eq!(sees, self.code == 0, "{:#}", self.report);
        self.verdict()
    }

    fn policy(&self, name: &str) -> &Value {
        let policies = self.report["policies"].as_array().unwrap();
        policies.iter().find(|policy| policy["policy"] == name).unwrap_or_else(|| panic!("{:#}", self.report))
    }

    fn finding(&self, id: &str) -> &Value {
        let findings = self.report["findings"].as_array().unwrap();
        findings.iter().find(|finding| finding["id"] == id).unwrap_or_else(|| panic!("no {id}: {:#}", self.report))
    }
}

#[tokio::test]
async fn who_may_see_a_row_hears_which_policy_lets_him() {
    let database = database().await;
    let mine = row(&database, &alice(), "1");
    assert_eq!(mine.agreed(), "visible: policy \"mine\" of public.notes lets role \"authenticated\" see this row");
    assert_eq!(mine.report["decided_by"], "process");
    assert_eq!((&mine.policy("mine")["answer"], &mine.policy("members")["answer"]), (&"yes".into(), &"no".into()));
    assert_eq!(mine.finding("publication")["effect"], "passes");
    let member = row(&database, &bob(), "2");
    assert!(member.agreed().contains("policy \"members\""), "{}", member.verdict());

    let text = stdout(&run(&database, &["--token", &alice(), "--table", "public.notes", "--row", "1"]));
    for part in [
        "visible: policy \"mine\"",
        "\npolicy \"wall\" (restrictive): yes\n  shown: yes\n",
        "Postgres, asked as role \"authenticated\": sees the row, as was found out here\n",
    ] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
    assert!(!text.contains(MARKER));
}

#[tokio::test]
async fn who_may_not_hears_which_clause_of_the_closest_policy_keeps_it_from_him() {
    let database = database().await;
    let foreign = row(&database, &alice(), "2");
    assert!(
        foreign.agreed().starts_with(
            "hidden: no permissive policy of public.notes lets role \"authenticated\" see this row; closest: policy \
             \"members\" – clause exists (select 1 from members where "
        ),
        "{}",
        foreign.verdict()
    );
    assert!(foreign.verdict().ends_with(" is no"), "{}", foreign.verdict());
    let clauses = foreign.policy("members")["clauses"].as_array().unwrap();
    let answers: Vec<_> = clauses.iter().map(|clause| clause["answer"].as_str().unwrap()).collect();
    assert_eq!(answers, ["yes", "no"]);
    assert_eq!(foreign.policy("mine")["answer"], "no (null)", "a comparison with NULL says so");

    let wall = row(&database, &bob(), "3");
    let expected = "hidden: restrictive policy \"wall\" of public.notes keeps this row from role \"authenticated\" – \
                    clause shown is no";
    assert_eq!(wall.agreed(), expected);
    assert_eq!(wall.policy("wall")["permissive"], false);
}

#[tokio::test]
async fn what_is_missing_is_named_with_the_sql_that_adds_it() {
    let database = database().await;
    database
        .execute(
            "create table plain (id int primary key); create table bare (id int); insert into plain values (1);
             create table \"Not\" (id int primary key); insert into bare values (1);
             alter publication supabase_realtime add table plain, bare",
        )
        .await;
    let unpublished = explained(&database, &alice(), &["--table", "Not", "--row", "1"]);
    assert!(unpublished.verdict().contains("not in publication supabase_realtime"), "{}", unpublished.verdict());
    database.execute(unpublished.finding("publication")["fix"].as_str().unwrap()).await;
    database.execute("create schema realtime; create table realtime.messages (id int primary key)").await;
    let messages = explained(&database, &alice(), &["--table", "realtime.messages", "--row", "1"]);
    assert!(messages.verdict().contains("are broadcast") && messages.finding("publication")["fix"].is_null());
    database.execute("insert into \"Not\" values (1)").await;
    let open = explained(&database, &alice(), &["--table", "Not", "--row", "1"]);
    assert_eq!(open.finding("row_security")["effect"], "note", "everybody sees it");
    assert!(open.agreed().contains("row level security of public.Not is off"));

    database.execute("revoke select on plain from anon").await;
    let ungranted = explained(&database, &anon(), &["--table", "plain", "--row", "1"]);
    assert!(ungranted.agreed().contains("may SELECT no column of public.plain"), "{}", ungranted.verdict());
    assert_eq!(ungranted.report["postgres"]["answer"], "error 42501");
    database.execute(ungranted.finding("grant")["fix"].as_str().unwrap()).await;
    assert_eq!(explained(&database, &anon(), &["--table", "plain", "--row", "1"]).code, 0);

    database
        .execute("revoke select on notes from authenticated; grant select (owner, body) on notes to authenticated")
        .await;
    let keyless = row(&database, &alice(), "1");
    assert!(keyless.agreed().contains("may not SELECT id of the primary key"), "{}", keyless.verdict());
    assert!(keyless.verdict().contains("Error 401"));
    assert_eq!(keyless.report["columns"]["not_granted"], json!(["id", "room", "shown", "secret"]));
    database.execute(keyless.finding("key")["fix"].as_str().unwrap()).await;
    let some = row(&database, &alice(), "1");
    assert!(some.agreed().starts_with("visible") && some.finding("grant")["effect"] == "note");
    let bare = explained(&database, &alice(), &["--table", "bare", "--row", "1"]);
    assert!(bare.verdict().contains("no primary key"), "{}", bare.verdict());

    let nobody = row(&database, &anon(), "1");
    assert!(nobody.agreed().contains("no permissive policy for SELECT on public.notes applies to role \"anon\""));
    database
        .execute(
            "create schema inner_room; create table inner_room.t (id int primary key);
        insert into inner_room.t values (1); grant select on inner_room.t to anon, service_role;
        grant usage on schema inner_room to service_role;
        alter publication supabase_realtime add table inner_room.t",
        )
        .await;
    let outside = explained(&database, &anon(), &["--table", "inner_room.t", "--row", "1"]);
    assert!(outside.agreed().contains("no USAGE on schema inner_room"), "{}", outside.verdict());
    database.execute(outside.finding("grant")["fix"].as_str().unwrap()).await;
    assert_eq!(explained(&database, &anon(), &["--table", "inner_room.t", "--row", "1"]).code, 0);
}

#[tokio::test]
async fn a_sub_that_is_no_uuid_is_an_error_that_says_so() {
    let database = database().await;
    let token = setup::token_of(json!({"role": "authenticated", "sub": "nobody"}));
    let bad = row(&database, &token, "1");
    assert!(bad.agreed().contains("fails with SQLSTATE 22P02"), "{}", bad.verdict());
    assert!(bad.verdict().contains("claim sub"), "{}", bad.verdict());
}

#[tokio::test]
async fn what_only_postgres_can_decide_is_asked_of_it_policy_by_policy() {
    let database = database().await;
    database.execute("create policy odd on notes to authenticated using (md5(body) > 'zzz' or body ~ 'nothing')").await;
    let asked = row(&database, &bob(), "1");
    assert_eq!(asked.report["decided_by"], "database", "{:#}", asked.report);
    assert!(asked.agreed().contains("closest: policy \"members\""), "{}", asked.verdict());
    let odd = asked.policy("odd");
    assert_eq!(odd["answer"], "no");
    assert!(!odd["why_database"].is_null(), "{odd}");
    assert!(asked.report["why_database"][0].as_str().unwrap().contains("\"odd\""), "{:#}", asked.report);
    let seen = row(&database, &bob(), "2");
    assert!(seen.agreed().contains("policy \"members\""), "{}", seen.verdict());

    // A table nobody follows: the database decides, and every clause has its answer all the same.
    database.execute("drop policy odd on notes; drop publication walcast_lookups").await;
    let unfollowed = row(&database, &alice(), "2");
    assert_eq!(unfollowed.report["decided_by"], "database");
    assert!(unfollowed.agreed().contains("clause exists"), "{}", unfollowed.verdict());
    assert!(unfollowed.report["why_database"][0].as_str().unwrap().contains("walcast_lookups"));
}

#[tokio::test]
async fn a_filter_is_judged_condition_by_condition_and_a_bad_one_is_refused_as_the_server_does() {
    let database = database().await;
    let with = |filter: &str| explained(&database, &alice(), &["--table", "notes", "--row", "1", "--filter", filter]);
    assert_eq!(with("room=eq.8,shown=is.true").code, 0);
    let other = with("shown=is.true,room=in.(1,9)");
    assert_eq!(other.verdict(), "hidden: the row does not match the filter: room=in.(1,9) is no");
    assert_eq!(other.report["filter"][0]["answer"], "yes");
    let asked = with("body=imatch.^nothing");
    assert_eq!(asked.report["filter"][0]["decided_by"], "database");
    assert!(asked.verdict().ends_with("body=imatch.^nothing is no"), "{}", asked.verdict());
    for (filter, why) in [
        ("colour=eq.red", "invalid column for filter colour"),
        ("room=eq.many", "cannot be compared with column room (SQLSTATE 22P02)"),
        ("room", "Error parsing `filter` params"),
    ] {
        let refused = with(filter);
        assert!(refused.verdict().contains("refuses a subscription with this filter"), "{}", refused.verdict());
        assert!(refused.verdict().contains(why), "{}", refused.verdict());
    }
}

#[tokio::test]
async fn a_row_that_the_publication_leaves_out_is_named_so() {
    if default_major() < 15 {
        return skip("a_row_that_the_publication_leaves_out_is_named_so", "row filters exist from 15 on");
    }
    let database = database().await;
    database.execute("alter publication supabase_realtime set table notes where (id > 1)").await;
    let left_out = row(&database, &alice(), "1");
    assert!(left_out.verdict().contains("row filter leaves this row of public.notes out"), "{}", left_out.verdict());
    assert_eq!(left_out.report["postgres"]["answer"], "sees the row");
    let member = row(&database, &bob(), "2");
    assert_eq!((member.code, &member.finding("row_filter")["effect"]), (0, &"passes".into()), "{:#}", member.report);
    database
        .execute("alter publication supabase_realtime set (publish = 'insert, update'); alter table notes replica identity default")
        .await;
    let member = row(&database, &bob(), "2");
    assert!(member.finding("operations")["meaning"].as_str().unwrap().contains("DELETE"));
    assert!(member.finding("replica_identity")["meaning"].as_str().unwrap().contains("only the key"));
}

#[tokio::test]
async fn what_the_stream_does_not_carry_hides_a_row_that_postgres_shows_and_is_no_disagreement() {
    if default_major() < 15 {
        return skip("what_the_stream_does_not_carry_...", "column lists exist from 15 on");
    }
    let database = database().await;
    database.execute("alter publication supabase_realtime set table notes (id, owner, room)").await;
    let compiled = row(&database, &alice(), "1");
    assert!(compiled.verdict().contains("the stream lacks a column it reads"), "{}", compiled.verdict());
    database.execute("create policy odd on notes to authenticated using (body ~ 'nothing')").await;
    let asked = row(&database, &alice(), "1");
    assert!(asked.verdict().contains("the stream does not carry"), "{}", asked.verdict());
    for explained in [compiled, asked] {
        assert_eq!(explained.report["postgres"], json!({"answer": "sees the row", "agrees": null}));
    }
}

#[tokio::test]
async fn where_nobody_may_read_the_row_postgres_is_asked_all_the_same() {
    let database = database().await;
    database.execute("revoke select on notes from service_role").await;
    let seen = row(&database, &alice(), "1");
    assert_eq!(seen.verdict(), "visible: Postgres shows this row of public.notes to role \"authenticated\"");
    assert_eq!(seen.finding("reader")["effect"], "note");
    let hidden = row(&database, &alice(), "2");
    assert!(hidden.verdict().contains("(does not see the row)"), "{}", hidden.verdict());
}

#[tokio::test]
async fn a_composite_key_is_taken_in_every_form() {
    let database = database().await;
    database
        .execute(&format!(
            "create table \"Pairs\" (a text, b uuid, shown boolean, primary key (a, b)); alter table \"Pairs\" enable row level security;
             alter publication supabase_realtime add table \"Pairs\"; insert into \"Pairs\" values ('x', '{BOB}', true);
             create policy p on \"Pairs\" using (shown)"
        ))
        .await;
    let joined = format!("x,{BOB}");
    let list = json!(["x", BOB]).to_string();
    let object = json!({"b": BOB, "a": "x"}).to_string();
    for key in [&["--row", &joined][..], &["--row", "x", "--row", BOB], &["--row", &list], &["--row", &object]] {
        let explained = explained(&database, &alice(), &[&["--table", "Pairs"], key].concat());
        assert!(explained.agreed().starts_with("visible: policy \"p\""), "{key:?}");
    }
    let short = run(&database, &["--token", &alice(), "--table", "Pairs", "--row", "x"]);
    assert_eq!(short.status.code(), Some(2));
    assert!(stderr(&short).contains("the primary key of public.Pairs is (a, b)"), "{}", stderr(&short));
}

#[tokio::test]
async fn what_cannot_be_explained_ends_with_another_exit_code_and_says_what_to_do() {
    let database = database().await;
    let expired = sign(json!({"role": "authenticated", "sub": ALICE, "exp": in_seconds(-30)}));
    for (arguments, said) in [
        (&["--token", &*alice(), "--table", "nothing", "--row", "1"][..], "there is no table public.nothing"),
        (&["--token", &*alice(), "--table", "notes", "--row", "99"], "public.notes has no row with this key"),
        (&["--token", &*alice(), "--table", "notes", "--row", "x"], "not of the type"),
        (&["--token", &*expired, "--table", "notes", "--row", "1"], "Token has expired 3"),
        (&["--token", "a.b.c", "--table", "notes", "--row", "1"], "not a valid JWT"),
        (&["--claims", "{\"sub\": \"x\"}", "--table", "notes", "--row", "1"], "has no role"),
        (&["--claims", "role", "--table", "notes", "--row", "1"], "not a JSON object"),
        (&["--table", "notes", "--row", "1"], "--token"),
    ] {
        let output = run(&database, arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stdout(&output));
        assert!(stderr(&output).contains(said), "{arguments:?}: {}", stderr(&output));
    }
    for (role, said) in
        [("nobody_at_all", "there is no role \"nobody_at_all\""), ("postgres", "tokens may not claim role")]
    {
        let token = setup::token_of(json!({"role": role}));
        assert!(row(&database, &token, "1").verdict().contains(said));
    }
}

#[tokio::test]
async fn claims_do_in_the_place_of_a_token_for_those_who_have_the_database_anyway() {
    let database = database().await;
    let claims = json!({"role": "authenticated", "sub": ALICE}).to_string();
    let environment = [("DATABASE_URL", &*database.walcast_url())];
    let arguments = ["explain", "--claims", &claims, "--table", "notes", "--row", "1"];
    let output = output(&arguments, &environment);
    assert!(output.status.success() && stdout(&output).starts_with("visible: policy \"mine\""), "{}", stderr(&output));
}
