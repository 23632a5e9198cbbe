//! Who opted in to visibility hears when rights change to rows that do not change themselves, once a transaction and
//! table; nobody else hears anything new.

use super::scene::{Ear, Stage};
use crate::support::token::{ALICE, BOB, alice, anon, bob};
use serde_json::{Value, json};

const TABLES: &str = "
    create table members (room int, person uuid, note text, primary key (room, person));
    create table docs (id int primary key, room int, body text);
    create table notes (id int primary key, room int, owner uuid);
    create table own (id int primary key, owner uuid);
    alter table docs enable row level security; alter table notes enable row level security;
    alter table own enable row level security; alter table docs replica identity full;
    create policy member on docs for select to authenticated using (exists (
      select 1 from members m where m.room = docs.room and m.person = auth.uid()));
    create policy member on notes for select to authenticated using (owner = auth.uid() or room in (
      select m.room from members m where m.person = auth.uid()));
    create policy own on own for select to authenticated using (owner = auth.uid());
    alter publication supabase_realtime add table docs, notes, own;
    create publication walcast_lookups for table members;
";
const DOCS: &str = "Rights to rows of public.docs have changed. Fetch it again";
const NOTES: &str = "Rights to rows of public.notes have changed. Fetch it again";

fn named(sql: &str) -> String {
    sql.replace("{a}", &format!("'{ALICE}'")).replace("{b}", &format!("'{BOB}'"))
}

async fn stage() -> Stage {
    let stage = Stage::open(TABLES).await;
    stage.followed(&["public.members"]).await;
    stage
}

/// What is heard of changes and told beside them, by now.
async fn heard_and_told(stage: &Stage, ear: &mut Ear) -> (Vec<String>, Vec<String>) {
    let heard = stage.heard(ear).await;
    // Told behind the rows of the transaction, and so before a later fence.
    let mut told = ear.told();
    told.sort();
    (heard, told)
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[tokio::test]
async fn a_membership_that_changes_names_the_tables_it_opens_or_closes() {
    let stage = stage().await;
    let mut ear = stage.ear_with(&alice(), json!({"visibility": true})).await;
    let mut plain = stage.ear_with(&alice(), json!({})).await;
    let both = texts(&[DOCS, NOTES]);
    let cases: &[(&str, &[&str], bool)] = &[
        ("insert into docs values (1, 1, 'x'); insert into own values (1, {a})", &["INSERT own 1"], false),
        ("insert into members values (1, {a})", &[], true),
        ("insert into docs values (2, 1, 'x')", &["INSERT docs 2"], false),
        ("update docs set room = 2 where id = 2", &["left docs 2"], false),
        ("update docs set room = 1 where id = 2", &["entered docs 2"], false),
        ("update members set room = 2", &[], true),
        ("delete from members; insert into docs values (3, 2, 'x')", &[], true),
        (
            "insert into members values (3, {a}), (4, {a}); insert into docs values (4, 3, 'x')",
            &["INSERT docs 4"],
            true,
        ),
        ("begin; insert into members values (5, {a}); rollback; insert into own values (2, {b})", &[], false),
        ("truncate members", &[], true),
    ];
    for (sql, changes, is_told) in cases {
        stage.run(&named(sql)).await;
        let told = if *is_told { both.clone() } else { Vec::new() };
        assert_eq!(heard_and_told(&stage, &mut ear).await, (texts(changes), told), "{sql}");
    }
    let plainly = ["INSERT own 1", "INSERT docs 2", "UPDATE docs 2", "INSERT docs 4"];
    assert_eq!(heard_and_told(&stage, &mut plain).await, (texts(&plainly), Vec::new()));
    stage.assert_compiled().await;
}

#[tokio::test]
async fn the_option_takes_the_forms_the_others_take_and_goes_with_them() {
    let stage = stage().await;
    let forms: &[(Value, bool)] = &[
        (json!({"visibility": true}), true),
        (json!({"visibility": "true"}), true),
        (json!({"visibility": "TRUE"}), true),
        (json!({"visibility": true, "wait": true}), true),
        (json!({"visibility": "True", "wait": "true", "timeout": 5000}), true),
        (json!({"visibility": false, "wait": true}), false),
        (json!({"visibility": "false"}), false),
        (json!({"visibility": "yes"}), false),
        (json!({"visibility": 1}), false),
        (json!({"visibility": null}), false),
        (json!({"visibility": {"on": true}}), false),
        (json!({"wait": true, "timeout": 5000}), false),
        (json!({}), false),
        (Value::Null, false),
    ];
    let mut ears = Vec::new();
    for (options, is_on) in forms {
        ears.push((stage.ear_with(&alice(), options.clone()).await, options, is_on));
    }
    // Of another role, whose rights depend on no membership.
    let mut anon = stage.ear_with(&anon(), json!({"visibility": true})).await;
    let mut other = stage.ear_with(&bob(), json!({"visibility": true})).await;
    stage.run(&named("insert into members values (1, {a})")).await;
    stage.run("insert into docs values (1, 1, 'x')").await;
    stage.run(&named("update docs set room = 2")).await;
    let fence = stage.fence().await;
    for (ear, options, is_on) in &mut ears {
        let expected = if **is_on { ["INSERT docs 1", "left docs 1"].as_slice() } else { &["INSERT docs 1"] };
        assert_eq!(ear.until(fence).await, expected, "{options}");
        let told = ear.told();
        assert_eq!(told.len(), if **is_on { 2 } else { 0 }, "{options}: {told:?}");
    }
    assert_eq!(anon.until(fence).await, texts(&[]));
    assert_eq!(anon.told(), texts(&[]));
    // Whose rights did not change never sees a row for it; that he is told to look is no disclosure of one.
    assert_eq!(other.until(fence).await, texts(&[]));
    stage.assert_compiled().await;
}
