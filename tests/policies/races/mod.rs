//! Rights that change while rows do: whatever the order, a row is judged by what holds at its own commit, of which the
//! whole transaction is part. Each test makes sure that the process decides, and not the database.
//!
//! Here single transactions; `hammer` has many at once, `tables` what is done to the tables that are looked into,
//! `kinds` the other kinds of looking.

mod hammer;
mod kinds;
mod tables;

use super::scene::Stage;
use crate::support::token::{ALICE, BOB, alice, bob};
use tokio_postgres::Client;

/// Conversations, who takes part, and what is said; all of it for those who take part.
const CHAT: &str = "
    create table conversations (id int primary key, title text);
    create table members (id int generated always as identity, room int, person uuid, note text,
      primary key (room, person));
    create table messages (id int primary key, room int, body text);
    alter table conversations enable row level security; alter table members enable row level security;
    alter table messages enable row level security;
    create policy own on members for select to authenticated using (person = auth.uid());
    create policy member on conversations for select to authenticated using (exists (
      select 1 from members m where m.room = conversations.id and m.person = auth.uid()));
    create policy member on messages for select to authenticated using (room in (
      select m.room from members m where m.person = auth.uid()));
    alter publication supabase_realtime add table conversations, messages;
";
const FOLLOWED: &str = "create publication walcast_lookups for table members;";
const MEMBERS: &[&str] = &["public.members"];

/// The names of the two users in the statements below.
fn named(sql: &str) -> String {
    sql.replace("{a}", &format!("'{ALICE}'")).replace("{b}", &format!("'{BOB}'"))
}

async fn chat(more: &str) -> Stage {
    let stage = Stage::open(&format!("{CHAT} {more}")).await;
    stage.followed(MEMBERS).await;
    stage
}

fn inserts(table: &str, ids: &[i32]) -> Vec<String> {
    ids.iter().map(|id| format!("INSERT {table} {id}")).collect()
}

#[tokio::test]
async fn a_membership_counts_from_its_commit_to_that_of_its_end() {
    let stage = chat(FOLLOWED).await;
    let sql = "insert into members (room, person) select n, {a} from generate_series(11, 20) n";
    stage.run(&named(sql)).await;
    let (mut first, mut second) = (stage.ear(&alice()).await, stage.ear(&bob()).await);
    let lines = "
        insert into members (room, person) values (1, {a}); insert into messages values (1, 1)
        insert into messages values (2, 2); insert into members (room, person) values (2, {a})
        insert into members (room, person) values (3, {a})
        insert into messages values (3, 3)
        insert into messages values (4, 4)
        insert into members (room, person) values (4, {a})
        delete from members where room = 11; insert into messages values (11, 11)
        insert into messages values (12, 12); delete from members where room = 12
        delete from members where room = 13
        insert into messages values (13, 13)
        insert into messages values (14, 14)
        delete from members where room = 14
        update members set person = {b} where room = 15; insert into messages values (15, 15)
        update members set room = 100 where room = 16; insert into messages values (16, 16), (17, 100)
        insert into messages values (18, 18); delete from members where room = 18; insert into members (room, person) values (18, {a})
        insert into members (room, person) values (5, {a}); insert into messages values (5, 5); delete from members where room = 5";
    stage.each(&named(lines)).await;
    let fence = stage.fence().await;
    assert_eq!(first.until(fence).await, inserts("messages", &[1, 2, 3, 14, 17, 18]));
    assert_eq!(second.until(fence).await, inserts("messages", &[15]));
    stage.assert_compiled().await;
}

/// Also when members are published to clients, and stand last in a transaction of many fragments.
#[tokio::test]
async fn a_conversation_its_members_and_its_first_message_arrive_in_the_order_they_were_written() {
    let stage = chat("alter publication supabase_realtime add table members;").await;
    let (mut first, mut second) = (stage.ear(&alice()).await, stage.ear(&bob()).await);
    let sql = "insert into conversations values (1);
        insert into members (room, person) overriding system value select 1, p from unnest(array[{a}, {b}]::uuid[]) p;
        insert into messages values (1, 1)";
    stage.run(&named(&sql.replace(" overriding system value", ""))).await;
    let fence = stage.fence().await;
    assert_eq!(first.until(fence).await, ["INSERT conversations 1", "INSERT members 1", "INSERT messages 1"]);
    assert_eq!(second.until(fence).await, ["INSERT conversations 1", "INSERT members 2", "INSERT messages 1"]);
    // Far more than a fragment, in three orders; of what was rolled back nothing counts.
    let sql = "begin; insert into messages values (2, 2); insert into conversations values (2);
        insert into messages select n, 9 from generate_series(1000, 2500) n;
        savepoint s; insert into members (room, person) values (9, {b}); rollback to s;
        insert into members (room, person) values (2, {a}); commit;
        begin; insert into members (room, person) values (3, {a});
        insert into messages select n, 9 from generate_series(3000, 4500) n;
        insert into messages values (3, 3); insert into conversations values (3); commit;
        begin; insert into members (room, person) values (4, {a}); insert into messages values (4, 4);
        insert into messages select n, 9 from generate_series(5000, 6500) n; delete from members where room = 4; commit";
    stage.run(&named(sql)).await;
    let fence = stage.fence().await;
    let heard = [
        "INSERT messages 2",
        "INSERT conversations 2",
        "INSERT members 4",
        "INSERT members 5",
        "INSERT messages 3",
        "INSERT conversations 3",
        // His own, though it opens nothing.
        "INSERT members 6",
    ];
    let told = first.until(fence).await;
    // The bare key of the row that went is told to everybody.
    let told: Vec<&String> = told.iter().filter(|change| !change.starts_with("DELETE")).collect();
    assert_eq!(told, heard);
    assert!(second.until(fence).await.iter().all(|change| change.starts_with("DELETE")));
    stage.assert_compiled().await;
}

#[tokio::test]
async fn transactions_that_overlap_count_in_the_order_of_their_commits() {
    let stage = chat(FOLLOWED).await;
    stage.run(&named("insert into members (room, person) values (3, {a}), (4, {a}), (5, {a})")).await;
    let mut ear = stage.ear(&alice()).await;
    let (one, two, three) =
        (stage.database.connect().await, stage.database.connect().await, stage.database.connect().await);
    let run = async |client: &Client, sql: &str| client.batch_execute(&named(sql)).await.unwrap();
    // Begun first, committed last: what it wrote is judged by what committed between.
    run(&one, "begin; insert into messages values (1, 1), (3, 3)").await;
    run(&two, "begin; insert into members (room, person) values (1, {a}); delete from members where room = 3").await;
    run(&three, "begin; insert into messages values (2, 1), (4, 3), (6, 4)").await;
    run(&three, "commit").await;
    run(&two, "commit").await;
    run(&one, "commit").await;
    // A membership that was written long ago and is not committed yet.
    run(&one, "begin; insert into members (room, person) values (7, {a}); delete from members where room = 4").await;
    run(&two, "insert into messages values (7, 7), (8, 4)").await;
    run(&one, "commit").await;
    run(&two, "insert into messages values (9, 7), (10, 4)").await;
    // Of parts that are taken back nothing counts, of those that are kept all.
    run(
        &three,
        "begin; savepoint a; delete from members where room = 5; insert into members (room, person) values (8, {a});
         rollback to a; savepoint b; insert into members (room, person) values (9, {a}); release b;
         insert into messages values (11, 5), (12, 8), (13, 9); savepoint c;
         insert into messages values (14, 5); rollback to c; commit;
         begin; delete from members where room = 5; rollback; insert into messages values (15, 5)",
    )
    .await;
    assert_eq!(stage.heard(&mut ear).await, inserts("messages", &[4, 6, 1, 8, 9, 11, 13, 15]));
    stage.assert_compiled().await;
}

#[tokio::test]
async fn a_policy_that_is_altered_counts_from_its_commit_on() {
    let stage = chat(FOLLOWED).await;
    stage.run(&named("insert into members (room, person, note) values (1, {a}, 'x'), (2, {a}, 'y')")).await;
    let mut ear = stage.ear(&alice()).await;
    stage.run("insert into messages values (1, 1), (2, 2)").await;
    assert_eq!(stage.heard(&mut ear).await, inserts("messages", &[1, 2]));
    // It reads another column, so that the index is read anew.
    let only = |note: &str| {
        format!(
            "alter policy member on messages using (exists (select 1 from members m where m.room = messages.room
             and m.person = auth.uid() and m.note = '{note}'))"
        )
    };
    stage.run(&only("x")).await;
    stage.run("insert into messages values (3, 1), (4, 2)").await;
    assert_eq!(stage.heard(&mut ear).await, inserts("messages", &[3]));
    // In the transaction of the rows.
    stage.run(&format!("{}; insert into messages values (5, 1), (6, 2)", only("y"))).await;
    assert_eq!(stage.heard(&mut ear).await, inserts("messages", &[6]));
    stage
        .run(&format!("insert into messages values (7, 100); {}; insert into messages values (8, 1)", only("x")))
        .await;
    assert_eq!(stage.heard(&mut ear).await, inserts("messages", &[8]));
    // The policy, the membership and the row at once.
    stage
        .run(&format!("{}; update members set note = 'z'; insert into messages values (9, 1), (10, 2)", only("z")))
        .await;
    assert_eq!(stage.heard(&mut ear).await, inserts("messages", &[9, 10]));
    stage.followed(MEMBERS).await;
    stage.assert_compiled().await;
}

#[tokio::test]
async fn what_happened_while_the_server_was_down_counts_once() {
    let stage = chat(FOLLOWED).await;
    stage.run(&named("insert into members (room, person) select n, {a} from generate_series(1, 5) n")).await;
    let mut ear = stage.ear(&alice()).await;
    stage.run("insert into messages values (1, 1)").await;
    assert_eq!(stage.heard(&mut ear).await, inserts("messages", &[1]));
    let Stage { database, server, writer, .. } = stage;
    assert!(server.stop().await.success());
    let down = "insert into members (room, person) values (6, {a}), (7, {a}); delete from members where room in (1, 7);
        update members set room = 20 where room = 2; insert into messages values (2, 2), (3, 20), (4, 1);
        insert into members (room, person) values (1, {a}); delete from members where room = 3;
        delete from members where room = 1; insert into messages values (5, 5)";
    for statement in down.split(';') {
        writer.batch_execute(&named(statement)).await.unwrap();
    }
    let stage = Stage::on(database).await;
    let mut ear = stage.ear(&alice()).await;
    stage.followed(MEMBERS).await;
    stage.run("insert into messages select 100 + n, n from unnest(array[1, 2, 3, 4, 5, 6, 7, 20]) n").await;
    stage
        .run(&named("insert into members (room, person) values (1, {a}), (7, {a}); delete from members where room = 4"))
        .await;
    stage.run("insert into messages select 200 + n, n from unnest(array[1, 2, 3, 4, 5, 6, 7, 20]) n").await;
    let heard = stage.heard(&mut ear).await;
    assert_eq!(heard, inserts("messages", &[104, 105, 106, 120, 201, 205, 206, 207, 220]));
    // A table with a row too many or too few would have given up.
    stage.followed(MEMBERS).await;
    stage.assert_compiled().await;
}
