//! Accidents that befall whoever asks the table late, or one subscriber with all others: they cannot happen here. Each
//! test makes sure that the process decides.

use super::scene::{Stage, short};
use crate::support::{
    json::Json,
    token::{ALICE, BOB, alice, anon, bob, in_seconds, sign, user},
};
use serde_json::json;

/// Rows of users, of which the whole old row is logged.
const DOCS: &str = "
    create table docs (id int primary key, owner uuid, body text, divisor int);
    alter table docs replica identity full; alter table docs enable row level security;
    alter publication supabase_realtime add table docs;
";
const OWN: &str = "create policy own on docs for select to authenticated using (owner = auth.uid());";

fn named(sql: &str) -> String {
    sql.replace("{a}", &format!("'{ALICE}'")).replace("{b}", &format!("'{BOB}'"))
}

async fn docs(policy: &str) -> Stage {
    Stage::open(&format!("{DOCS} {policy}")).await
}

fn shorts(changes: &[Json]) -> Vec<String> {
    changes.iter().map(short).collect()
}

fn assert_silent_on(changes: &[Json], secret: &str) {
    let told = changes.iter().find(|change| change.to_string().contains(secret));
    assert!(told.is_none(), "{secret} in {}", told.unwrap());
}

/// An identity service of another make calls its users `user_2abc`, which is no uuid.
#[tokio::test]
async fn a_claim_the_policy_cannot_read_costs_nobody_else_anything() {
    let stage = docs(OWN).await;
    let (mut first, mut second) = (stage.ear(&alice()).await, stage.ear(&bob()).await);
    let mut strangers = vec![
        stage.ear(&user("user_2abc")).await,
        stage.ear(&user("")).await,
        stage.ear(&sign(json!({"role": "authenticated", "sub": 7, "exp": in_seconds(3600)}))).await,
        stage.ear(&sign(json!({"role": "authenticated", "sub": {"a": []}, "exp": in_seconds(3600)}))).await,
        stage.ear(&sign(json!({"role": "authenticated", "exp": in_seconds(3600)}))).await,
    ];
    let lines =
        "insert into docs select n, case when n % 2 = 0 then {a} else {b} end::uuid, 'x' from generate_series(1, 20) n
        update docs set body = 'y' where id in (1, 2)
        delete from docs where id in (1, 2)";
    stage.each(&named(lines)).await;
    let fence = stage.fence().await;
    for (ear, parity) in [(&mut first, 0), (&mut second, 1)] {
        let mut due: Vec<String> =
            (1..=20).filter(|id| id % 2 == parity).map(|id| format!("INSERT docs {id}")).collect();
        due.extend([format!("UPDATE docs {}", 2 - parity), format!("DELETE docs {}", 2 - parity)]);
        assert_eq!(ear.until(fence).await, due);
        assert!(ear.told().is_empty(), "whose claims are in order hears of nobody's");
    }
    for ear in &mut strangers {
        assert_eq!(ear.until(fence).await, [] as [&str; 0]);
    }
    let told = strangers[0].told().join(" ");
    assert!(told.contains("22P02"), "he hears why: {told}");
}

#[tokio::test]
async fn nobody_gets_what_a_row_was_before_it_became_his() {
    let stage = docs(OWN).await;
    let (mut first, mut second) = (stage.ear(&alice()).await, stage.ear(&bob()).await);
    let option = json!({"visibility": true});
    let mut moved = (stage.ear_with(&alice(), option.clone()).await, stage.ear_with(&bob(), option).await);
    let lines = "
        insert into docs values (1, {a}, 'hers', 111)
        update docs set owner = {b}, body = 'his', divisor = 222 where id = 1
        insert into docs values (2, {a}, 'hers', 111)
        update docs set owner = {b}, body = 'his', divisor = 222, id = 3 where id = 2
        delete from docs where id = 1";
    stage.each(&named(lines)).await;
    let fence = stage.fence().await;
    let seen = first.changes(fence).await;
    assert_eq!(shorts(&seen), ["INSERT docs 1", "INSERT docs 2"]);
    for secret in ["his", BOB, "222"] {
        assert_silent_on(&seen, secret);
    }
    let seen = second.changes(fence).await;
    assert_eq!(shorts(&seen), ["UPDATE docs 1", "UPDATE docs 3", "DELETE docs 1"]);
    assert_eq!(seen[0].at("old_record").keys(), ["id"], "the key only: {}", seen[0]);
    for secret in ["hers", ALICE, "111"] {
        assert_silent_on(&seen, secret);
    }
    let seen = moved.0.changes(fence).await;
    assert_eq!(shorts(&seen), ["INSERT docs 1", "left docs 1", "INSERT docs 2", "left docs 2"]);
    assert!(!seen[1].has("record") && seen[1].at("old_record").keys() == ["id"], "{}", seen[1]);
    assert_eq!(*seen[1].at("type"), "DELETE");
    for secret in ["his", BOB, "222"] {
        assert_silent_on(&seen, secret);
    }
    let seen = moved.1.changes(fence).await;
    assert_eq!(shorts(&seen), ["entered docs 1", "entered docs 3", "DELETE docs 1"]);
    assert_eq!(*seen[0].at("type"), "INSERT");
    assert!(!seen[0].has("old_record"), "{}", seen[0]);
    assert_eq!(*seen[0].at("record").at("body"), "his");
    for secret in ["hers", ALICE, "111"] {
        assert_silent_on(&seen, secret);
    }
    stage.assert_compiled().await;
}

/// Written and gone, overwritten, and renamed before anybody could look: each version is judged by itself.
#[tokio::test]
async fn every_version_of_a_row_is_judged_by_itself() {
    let stage = docs(OWN).await;
    let (mut first, mut second) = (stage.ear(&alice()).await, stage.ear(&bob()).await);
    let lines = "
        begin; insert into docs values (1, {a}, 'v1'); commit; begin; delete from docs; commit
        insert into docs values (2, {a}, 'v2'); delete from docs where id = 2
        insert into docs values (3, {a}, 'v3')
        update docs set body = 'v4'
        update docs set owner = {b}, body = 'v5'
        update docs set body = 'v6'
        update docs set owner = {a}, body = 'v7'
        update docs set id = 4, body = 'v8'
        update docs set id = 5, body = 'v9'
        update docs set id = 6, owner = {b}, body = 'v10'; update docs set id = 7, owner = {a}, body = 'v11'
        delete from docs";
    stage.run(&named(lines).trim().replace('\n', ";")).await;
    stage.each(&named(lines)).await;
    let fence = stage.fence().await;
    let mine = [
        "INSERT docs 1",
        "DELETE docs 1",
        "INSERT docs 2",
        "DELETE docs 2",
        "INSERT docs 3",
        "UPDATE docs 3",
        "UPDATE docs 3",
        "UPDATE docs 4",
        "UPDATE docs 5",
        "UPDATE docs 7",
        "DELETE docs 7",
    ];
    let seen = first.changes(fence).await;
    assert_eq!(shorts(&seen), [mine, mine].concat());
    let bodies = ["v1", "v2", "v3", "v4", "v7", "v8", "v9", "v11"];
    let told: Vec<&str> = seen
        .iter()
        .filter(|change| change.has("record"))
        .filter_map(|change| change.at("record").at("body").as_str())
        .collect();
    assert_eq!(told, [bodies, bodies].concat());
    let his = ["UPDATE docs 3", "UPDATE docs 3", "UPDATE docs 6"];
    let seen = second.changes(fence).await;
    assert_eq!(shorts(&seen), [his, his].concat());
    for hers in ["v1\"", "v2", "v3", "v4", "v7", "v8", "v9", "v11"] {
        assert_silent_on(&seen, hers);
    }
    stage.assert_compiled().await;
}

#[tokio::test]
async fn a_delete_is_for_those_who_saw_the_row_and_a_role_without_select_learns_nothing() {
    let policy = "create policy own on docs for select using (owner = auth.uid() or body = 'open');
        create table keys (id int primary key, owner uuid); alter table keys enable row level security;
        create policy own on keys for select to authenticated using (owner = auth.uid());
        create table plain (id int primary key, body text);
        alter publication supabase_realtime add table keys, plain; revoke select on docs, keys, plain from anon;";
    let stage = docs(policy).await;
    let (mut first, mut second) = (stage.ear(&alice()).await, stage.ear(&bob()).await);
    let mut nobody = stage.ear(&anon()).await;
    let mut moves = stage.ear_with(&alice(), json!({"visibility": true})).await;
    let lines = "
        insert into docs values (1, {a}, 'x'), (2, {b}, 'x'), (3, {b}, 'open')
        delete from docs
        insert into plain values (1, 'x'); update plain set body = 'y'; delete from plain
        insert into keys values (1, {a}); delete from keys";
    stage.each(&named(lines)).await;
    let fence = stage.fence().await;
    let plain = ["INSERT plain 1", "UPDATE plain 1", "DELETE plain 1"];
    let mine = ["INSERT docs 1", "INSERT docs 3", "DELETE docs 1", "DELETE docs 3"];
    let all: Vec<&str> = [&mine[..], &plain, &["INSERT keys 1", "DELETE keys 1"]].concat();
    assert_eq!(first.until(fence).await, all);
    assert_eq!(moves.until(fence).await, all);
    let his = ["INSERT docs 2", "INSERT docs 3", "DELETE docs 2", "DELETE docs 3"];
    // Of a bare key everybody hears who may read the table.
    assert_eq!(second.until(fence).await, [&his[..], &plain, &["DELETE keys 1"]].concat());
    assert_eq!(nobody.until(fence).await, [] as [&str; 0]);
    stage.assert_compiled().await;
}

#[tokio::test]
async fn a_policy_that_fails_on_a_row_hides_that_row_from_that_subscriber() {
    let policy = "create policy divided on docs for select to authenticated
        using (owner = auth.uid() or 100 / (divisor - (auth.jwt() ->> 'n')::int) > 5);";
    let stage = docs(policy).await;
    let of = |n: i64| sign(json!({"role": "authenticated", "sub": BOB, "n": n, "exp": in_seconds(3600)}));
    let (mut one, mut two) = (stage.ear(&of(1)).await, stage.ear(&of(2)).await);
    let lines = "
        insert into docs values (1, {a}, 'x', 1), (2, {a}, 'x', 2), (3, {a}, 'x', 3), (4, {b}, 'x', 1), (5, {a}, 'x', null)
        insert into docs values (6, {a}, 'x', 1)
        update docs set divisor = divisor + 1 where id = 1
        delete from docs where id in (2, 3)";
    stage.each(&named(lines)).await;
    let fence = stage.fence().await;
    assert_eq!(
        one.until(fence).await,
        ["INSERT docs 2", "INSERT docs 3", "INSERT docs 4", "UPDATE docs 1", "DELETE docs 2", "DELETE docs 3"]
    );
    assert_eq!(two.until(fence).await, ["INSERT docs 3", "INSERT docs 4", "DELETE docs 3"]);
    for ear in [&mut one, &mut two] {
        let told = ear.told();
        assert!(told.len() == 1 && told[0].contains("22012"), "once, without the row: {told:?}");
    }
    stage.assert_compiled().await;
}

/// The same rights by membership, written after the row and before anybody could have looked.
#[tokio::test]
async fn a_membership_that_ends_or_begins_behind_a_row_does_not_reach_back() {
    let policy = "create table members (owner uuid, person uuid, primary key (owner, person));
        create publication walcast_lookups for table members;
        create policy shared on docs for select to authenticated using (exists (
          select 1 from members m where m.owner = docs.owner and m.person = auth.uid()));";
    let stage = docs(policy).await;
    stage.followed(&["public.members"]).await;
    let mut ear = stage.ear(&bob()).await;
    let lines = "
        insert into docs values (1, {a}, 'x')
        insert into members values ({a}, {b})
        insert into docs values (2, {a}, 'x')
        update docs set body = 'y' where id = 1
        delete from members
        update docs set body = 'z' where id = 2
        delete from docs";
    stage.each(&named(lines)).await;
    assert_eq!(stage.heard(&mut ear).await, ["INSERT docs 2", "UPDATE docs 1"]);
    stage.assert_compiled().await;
}
