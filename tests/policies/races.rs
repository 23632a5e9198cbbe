//! Rights that change while rows do: whatever the order, a row is judged by what holds at its own commit, of which the
//! whole transaction is part. Each test makes sure that the process decides, and not the database.

use super::stage::{Ear, Stage, fenced, lookup};
use crate::{
    commands::{output, stdout},
    line::setup::{database, get, wait_for_health},
    support::{
        json::Json,
        postgres::{Database, Postgres, drive},
        token::{ALICE, BOB, alice, bob},
        wait::until,
    },
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;
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

/// A row says who may hear it. Each has a room of its own, and nothing is taken back that a row depends on: a table
/// that is read meanwhile may be read as it is behind rows that are still to come.
fn lasting(id: usize) -> (String, bool) {
    let enters = |room: usize| format!("insert into members (room, person) values ({room}, '{ALICE}')");
    let leaves = format!("delete from members where room = {id}");
    let is_heard = [0, 1, 5, 6].contains(&(id % 7));
    let body = if is_heard { "yes" } else { "no" };
    let says = |room: usize| format!("insert into messages values ({id}, {room}, '{body}')");
    let sql = match id % 7 {
        0 => format!("{}; {}", says(id), enters(id)),
        1 => format!("begin; {}; commit; {}", enters(id), says(id)),
        2 => says(id),
        3 => format!("{}; {}; {leaves}", enters(id), says(id)),
        4 => format!("begin; {}; commit; begin; {}; {leaves}; commit", enters(id), says(id)),
        5 => format!("begin; savepoint s; {}; rollback to s; {}; {}; commit", enters(id), says(id), enters(id)),
        _ => format!("update members set note = 'n{id}' where room = {0}; {1}", id - 5, says(id - 5)),
    };
    (sql, is_heard)
}

/// A row says who may hear it. Its room is one of few, which are entered and left all the time.
fn passing(id: usize) -> (String, bool) {
    let room = id / NUMBERS;
    let is_heard = id * (room + 3) % 7 < 4;
    let body = if is_heard { "yes" } else { "no" };
    let says = format!("insert into messages values ({id}, {room}, '{body}')");
    let changes = if is_heard {
        format!(
            "insert into members (room, person, note) values ({room}, '{ALICE}', 'n{id}')
             on conflict (room, person) do update set note = excluded.note"
        )
    } else {
        format!("delete from members where room = {room} and person = '{ALICE}'")
    };
    let sql = match id % 4 {
        0 => format!("{says}; {changes}"),
        1 => format!("{changes}; {says}"),
        2 => format!("begin; {changes}; commit; {says}"),
        _ => format!("begin; savepoint s; truncate messages; rollback to s; {changes}; {says}; commit"),
    };
    (sql, is_heard)
}

/// The ids of one writer are those from a multiple of it on.
const NUMBERS: usize = 7 * 100_000;
const WRITERS: usize = 3;

/// Writers that have committed all up to these ids, until they are stopped.
struct Hammer {
    statement: fn(usize) -> (String, bool),
    stop: Arc<AtomicBool>,
    last: Vec<Arc<AtomicUsize>>,
    writing: Arc<Semaphore>,
}

impl Hammer {
    async fn start(database: &Database, first: usize, statement: fn(usize) -> (String, bool)) -> Hammer {
        let (stop, writing) = (Arc::new(AtomicBool::new(false)), Arc::new(Semaphore::new(WRITERS)));
        let mut last = Vec::new();
        for writer in 0..WRITERS {
            let client = database.connect().await;
            let permit = writing.clone().try_acquire_owned().unwrap();
            let (begin, reached, stop) = ((first + writer) * NUMBERS, Arc::new(AtomicUsize::new(0)), stop.clone());
            reached.store(begin, Ordering::SeqCst);
            last.push(reached.clone());
            drive(async move {
                for id in begin + 7.. {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    client.batch_execute(&statement(id).0).await.unwrap();
                    reached.store(id, Ordering::SeqCst);
                }
                drop(permit);
            });
        }
        Hammer { statement, stop, last, writing }
    }

    fn reached(&self) -> Vec<usize> {
        self.last.iter().map(|last| last.load(Ordering::SeqCst)).collect()
    }

    /// Waits until each writer has written so many rows more.
    async fn go_on(&self, more: usize) {
        let before = self.reached();
        let is_on = async || self.reached().iter().zip(&before).all(|(now, before)| *now > before + more);
        until(Duration::from_secs(30), is_on).await;
    }

    async fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        until(Duration::from_secs(10), async || self.writing.available_permits() == WRITERS).await;
    }

    /// Of what was written behind these ids, all that is for Alice was heard, in order and once; and of the rest nothing.
    fn assert_heard(&self, from: &[usize], changes: &[Json]) {
        let ids: Vec<usize> = changes
            .iter()
            .filter(|data| *data.at("table") == "messages")
            .map(|data| usize::try_from(data.at("record").at("id").as_i64().unwrap()).unwrap())
            .collect();
        for (from, to) in from.iter().zip(self.reached()) {
            let range = from / NUMBERS * NUMBERS..=to;
            let heard: Vec<usize> = ids.iter().copied().filter(|id| range.contains(id)).collect();
            let wrong: Vec<&usize> = heard.iter().filter(|id| !(self.statement)(**id).1).collect();
            assert!(wrong.is_empty(), "not for her: {wrong:?}");
            let heard: Vec<usize> = heard.into_iter().filter(|id| id > from).collect();
            let due: Vec<usize> = (from + 1..=to).filter(|&id| (self.statement)(id).1).collect();
            assert!(due.len() > 20, "{due:?}");
            assert_eq!(heard, due);
        }
    }
}

/// The server starts amid the writing, and the index is read again and again for other needs.
#[tokio::test]
async fn while_the_index_is_read_every_row_is_judged_by_its_commit() {
    let database = database(Postgres::default(), &fenced(&format!("{CHAT} {FOLLOWED}"))).await;
    let hammer = Hammer::start(&database, 1, lasting).await;
    let stage = Stage::on(database).await;
    let mut ear = stage.ear(&alice()).await;
    // What is under way now may have begun before the subscription.
    let from: Vec<usize> = hammer.reached().into_iter().map(|reached| reached + 1).collect();
    let mut changes = Vec::new();
    for note in ["and m.note is distinct from 'nobody'", "", "and m.id > 0"] {
        hammer.go_on(20).await;
        stage
            .run(&format!(
                "alter policy member on messages using (exists (select 1 from members m where m.room = messages.room
                 and m.person = auth.uid() {note}))"
            ))
            .await;
        let fence = stage.fence().await;
        changes.extend(ear.changes(fence).await);
    }
    hammer.go_on(20).await;
    hammer.stop().await;
    let fence = stage.fence().await;
    changes.extend(ear.changes(fence).await);
    hammer.assert_heard(&from, &changes);
    let loads = stage.server.log().iter().filter(|line| line.contains("lookup table is followed")).count();
    assert!(loads >= 3, "{loads}");
    stage.assert_compiled().await;
}

#[tokio::test]
async fn memberships_that_come_and_go_all_the_time_are_those_of_each_commit() {
    let stage = chat(FOLLOWED).await;
    let mut ear = stage.ear(&alice()).await;
    let hammer = Hammer::start(&stage.database, 1, passing).await;
    let from: Vec<usize> = (1..=WRITERS).map(|writer| writer * NUMBERS + 6).collect();
    hammer.go_on(150).await;
    hammer.stop().await;
    let fence = stage.fence().await;
    hammer.assert_heard(&from, &ear.changes(fence).await);
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
        assert!(begin.elapsed() < Duration::from_secs(20), "the database is still asked");
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
        let health = wait_for_health(&stage.server, |_, health| {
            let name = format!("public.{table}");
            lookup(health, &name).is_some_and(|(state, _)| state != "loading")
        })
        .await;
        let (state, why) = lookup(&health, &format!("public.{table}")).unwrap();
        assert_eq!((&*state, &*why), ("ready", ""), "{sql}");
    }
    let (_, health) = get(&stage.server, "/health").await;
    assert_eq!(health.at("counters").at("lane_questions_total").as_i64(), Some(0), "{}", stage.server.log().join("\n"));
}
