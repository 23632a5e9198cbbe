//! What is done to a table that is looked into: emptied, altered, without identity, published late, dropped and made
//! again.

use super::{CHAT, FOLLOWED, MEMBERS, chat, inserts, named};
use crate::{
    commands::{output, stdout},
    policies::scene::{Ear, Stage},
    support::{postgres::Database, socket::PATIENCE, token::alice},
};
use std::time::Instant;

#[tokio::test]
async fn a_lookup_table_may_be_emptied() {
    let stage = chat(FOLLOWED).await;
    stage.run(&named("insert into members (room, person) values (1, {a}), (2, {a})")).await;
    let mut ear = stage.ear(&alice()).await;
    let lines = "
        insert into messages values (1, 1)
        truncate members
        insert into messages values (2, 1)
        insert into members (room, person) values (1, {a}); insert into messages values (3, 1), (4, 2)
        insert into messages values (5, 1); truncate members; insert into members (room, person) values (2, {a}); insert into messages values (6, 2)
        insert into messages values (7, 1), (8, 2)
        begin; truncate members; rollback; insert into messages values (9, 1), (10, 2)
        begin; savepoint s; truncate members; rollback to s; insert into messages values (11, 2); commit
        truncate members restart identity cascade; insert into messages values (12, 1), (13, 2)";
    let heard = stage.one_by_one(&mut ear, &named(lines)).await;
    assert_eq!(heard, inserts("messages", &[1, 3, 6, 8, 10, 11]));
    stage.followed(MEMBERS).await;
    stage.assert_compiled().await;
}

/// The reasons `check --policies` gives for a policy.
fn reasons(database: &Database, table: &str) -> String {
    let output = output(&["check", "--policies", "--json"], &[("DATABASE_URL", &database.walcast_url())]);
    let lines: Vec<serde_json::Value> =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", stdout(&output)));
    let found = lines.iter().find(|line| line["table"] == table && line["role"] == "authenticated");
    found.unwrap_or_else(|| panic!("{lines:?}"))["why"].to_string()
}

#[tokio::test]
async fn a_lookup_table_without_identity_is_left_to_the_database_until_it_has_one() {
    let bare = CHAT.replace("primary key (room, person)", "unique (room, person)");
    let stage = Stage::open(&bare).await;
    stage.run(&named("insert into members (room, person) values (1, {a})")).await;
    let mut ear = stage.ear(&alice()).await;
    stage.run("insert into messages values (1, 1), (2, 2)").await;
    assert_eq!(stage.heard(&mut ear).await, inserts("messages", &[1]));
    assert!(stage.questions().await > 0);
    let why = reasons(&stage.database, "public.messages");
    assert!(why.contains("public.members has no usable replica identity"), "{why}");
    // Its identity, and then the publication: from there on the process decides.
    stage.run("alter table members add primary key (room, person)").await;
    stage.run(FOLLOWED).await;
    stage.followed(MEMBERS).await;
    decided_by_process(&stage, &mut ear).await;
    // And its identity is taken away again.
    stage.run("alter table members drop constraint members_pkey; insert into messages values (3, 1), (4, 2)").await;
    stage.run("insert into messages values (5, 1), (6, 2)").await;
    stage
        .run(&named("insert into members (room, person) values (2, {a}); insert into messages values (7, 1), (8, 2)"))
        .await;
    assert_eq!(stage.heard(&mut ear).await, inserts("messages", &[3, 5, 7, 8]));
}

/// Waits until the database is not asked about messages any more. Uses up ids from a million on.
async fn decided_by_process(stage: &Stage, ear: &mut Ear) {
    let begin = Instant::now();
    for id in 1_000_000.. {
        let before = stage.questions().await;
        stage.run(&format!("insert into messages values ({id}, 1)")).await;
        assert_eq!(stage.heard(ear).await, [format!("INSERT messages {id}")]);
        if stage.questions().await == before {
            break;
        }
        assert!(begin.elapsed() < PATIENCE, "the database is still asked");
    }
    stage.run("delete from messages where id >= 1000000").await;
    stage.heard(ear).await;
}

#[tokio::test]
async fn a_publication_that_is_made_while_rows_flow_takes_over_without_a_wrong_verdict() {
    let stage = Stage::open(CHAT).await;
    let mut ear = stage.ear(&alice()).await;
    let mut due = Vec::new();
    let mut heard = Vec::new();
    for id in 1..=60 {
        let is_member = id % 5 < 3;
        let change = if is_member {
            "insert into members (room, person) values (1, {a}) on conflict do nothing"
        } else {
            "delete from members"
        };
        stage.run(&named(&format!("{change}; insert into messages values ({id}, 1)"))).await;
        if is_member {
            due.push(id);
        }
        // By the database rows are judged as they are when it is asked, so each waits for the one before.
        heard.extend(stage.heard(&mut ear).await);
        if id == 20 {
            stage.run(FOLLOWED).await;
        }
    }
    assert_eq!(heard, inserts("messages", &due));
    stage.followed(MEMBERS).await;
    stage.run(&named("insert into members (room, person) values (1, {a}) on conflict do nothing")).await;
    decided_by_process(&stage, &mut ear).await;
    let lines = "
        insert into messages values (101, 1); delete from members
        insert into messages values (102, 1)
        insert into messages values (103, 1); insert into members (room, person) values (1, {a})
        delete from members
        insert into members (room, person) values (1, {a}); insert into messages values (104, 1)";
    let questions = stage.questions().await;
    stage.each(&named(lines)).await;
    assert_eq!(stage.heard(&mut ear).await, inserts("messages", &[103, 104]));
    assert_eq!(stage.questions().await, questions);
}

/// What is altered of a lookup table, of which rows and policies go on being read.
const ALTERED: &[&str] = &[
    "alter table members add column extra text",
    "alter table members add column more int default 7 not null",
    "alter table members alter column more type bigint",
    "alter table members drop column extra",
    "alter table members rename column room to space",
    "alter table members rename column space to room",
    "alter table members alter column note type varchar(100)",
    "alter table members rename to participants",
    "alter table participants rename to members",
    "alter table members replica identity full",
    "alter table members replica identity default",
    "alter table members drop constraint members_pkey; alter table members add primary key (person, room)",
    "drop policy member on messages; drop policy member on conversations;
     alter table members alter column room type bigint; create policy member on messages for select to authenticated
     using (exists (select 1 from members m where m.room = messages.room and m.person = auth.uid()))",
    "cluster members using members_pkey",
    "vacuum full members",
];

#[tokio::test]
async fn a_lookup_table_may_be_altered_while_it_is_followed() {
    let stage = chat(FOLLOWED).await;
    stage.run(&named("insert into members (room, person) values (1, {a})")).await;
    let mut ear = stage.ear(&alice()).await;
    for (round, sql) in ALTERED.iter().enumerate() {
        let id = |number: usize| round * 10 + number;
        let table = if sql.contains("rename to participants") { "participants" } else { "members" };
        let room = if sql.contains("room to space") { "space" } else { "room" };
        // It does not run in a transaction.
        let together = if sql.contains("vacuum") { "\n" } else { ";" };
        let lines = format!(
            "{}{together} insert into messages values ({}, 1), ({}, 2)
             insert into {table} ({room}, person) values (2, {{a}}); insert into messages values ({}, 2)
             update {table} set {room} = 3 where {room} = 2
             insert into messages values ({}, 2), ({}, 3)
             delete from {table} where {room} = 3; insert into messages values ({}, 3)",
            sql.replace('\n', " "),
            id(1),
            id(2),
            id(3),
            id(4),
            id(5),
            id(6)
        );
        let heard = stage.one_by_one(&mut ear, &named(&lines)).await;
        let due: Vec<String> = [1, 3, 5].iter().map(|&number| format!("INSERT messages {}", id(number))).collect();
        assert_eq!(heard, due, "{sql}\n{}", stage.server.log().join("\n"));
        stage.followed(&[&format!("public.{table}")]).await;
    }
    // It may have been asked while the catalogue that knows the new columns was on its way, and is not any more.
    decided_by_process(&stage, &mut ear).await;
}

/// Values that are stored apart are not in the log again when they do not change, whatever tells rows apart.
#[tokio::test]
async fn a_large_value_of_a_lookup_table_stays_what_it_was() {
    for identity in ["full", "default"] {
        let stage = chat(&format!(
            "{FOLLOWED} alter table members alter column note set storage external;
             alter table members replica identity {identity};
             alter policy member on messages using (exists (
               select 1 from members m where m.room = messages.room and m.person = auth.uid() and m.note <> 'y'));"
        ))
        .await;
        let mut ear = stage.ear(&alice()).await;
        let lines = "
            insert into members (room, person, note) values (1, {a}, repeat('x', 20000)), (5, {a}, 'y')
            insert into messages values (1, 1), (2, 5)
            update members set room = room + 1
            insert into messages values (3, 1), (4, 2), (5, 6)
            update members set note = 'y' where room = 2; insert into messages values (6, 2)
            update members set note = repeat('x', 20000); insert into messages values (7, 2), (8, 6)
            update members set room = room + 1; update members set room = room + 1
            delete from members where room = 4; insert into messages values (9, 4), (10, 8)";
        stage.each(&named(lines)).await;
        assert_eq!(stage.heard(&mut ear).await, inserts("messages", &[1, 4, 7, 8, 10]), "{identity}");
        stage.followed(MEMBERS).await;
        stage.assert_compiled().await;
    }
}

/// A key that is checked late cannot tell rows apart: Postgres does not take it for an identity either.
#[tokio::test]
async fn a_deferrable_key_is_no_identity() {
    let bare = CHAT.replace("primary key (room, person)", "primary key (room, person) deferrable");
    let stage =
        Stage::open(&format!("{bare} create publication walcast_lookups for table members with (publish = 'insert');"))
            .await;
    stage.run(&named("insert into members (room, person) values (1, {a}), (2, {a})")).await;
    let mut ear = stage.ear(&alice()).await;
    stage.run("update members set room = room + 1; insert into messages values (1, 1), (2, 3)").await;
    assert_eq!(stage.heard(&mut ear).await, inserts("messages", &[2]));
    let why = reasons(&stage.database, "public.messages");
    assert!(why.contains("public.members has no usable replica identity"), "{why}");
}

/// A function's body names the table, so that nothing hinders it from being another one.
#[tokio::test]
async fn a_lookup_table_may_be_dropped_and_made_again() {
    let stage = chat(
        "create publication walcast_lookups for table members;
         create function is_member(r int) returns boolean language sql stable security definer set search_path = ''
           as $$ select exists (select 1 from public.members m where m.room = r and m.person = auth.uid()) $$;
         drop policy member on conversations; alter policy member on messages using (is_member(room));",
    )
    .await;
    stage.run(&named("insert into members (room, person) values (1, {a})")).await;
    let mut ear = stage.ear(&alice()).await;
    assert_eq!(rooms(&stage, &mut ear).await, [1]);
    let steps: &[(&str, &[i64])] = &[
        (
            "drop table members; create table members (room int, person uuid, primary key (room, person));
             insert into members values (2, {a})",
            &[2],
        ),
        ("alter publication walcast_lookups add table members", &[2]),
        ("insert into members values (3, {a}); delete from members where room = 2", &[3]),
        (
            "alter table members rename to former;
             create table members as select 4 as room, person from former",
            &[4],
        ),
        ("drop table members; alter table former rename to members", &[3]),
        ("alter table members set schema auth", &[]),
        ("alter table auth.members set schema public", &[3]),
    ];
    for (sql, wanted) in steps {
        stage.run(&named(sql)).await;
        // Nothing in the stream tells of another table of the name: it is found out soon.
        let begin = Instant::now();
        while rooms(&stage, &mut ear).await != *wanted {
            assert!(begin.elapsed() < PATIENCE, "{sql}");
        }
        assert_eq!(rooms(&stage, &mut ear).await, *wanted, "{sql}");
    }
    stage.followed(MEMBERS).await;
    stage.run(&named("insert into members values (1, {a})")).await;
    decided_by_process(&stage, &mut ear).await;
}

/// The rooms of which something is heard that is said now.
async fn rooms(stage: &Stage, ear: &mut Ear) -> Vec<i64> {
    stage.run("delete from messages; insert into messages select n, n from generate_series(1, 4) n").await;
    let heard = stage.heard(ear).await;
    heard.iter().filter_map(|change| change.strip_prefix("INSERT messages ")?.parse().ok()).collect()
}
