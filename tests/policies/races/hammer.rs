//! Writers that never pause, while the index is read and while it is followed.

use super::{CHAT, FOLLOWED, MEMBERS, chat};
use crate::{
    line::setup::database,
    policies::scene::{Stage, fenced},
    support::{
        json::Json,
        postgres::{Database, Postgres, drive},
        socket::PATIENCE,
        token::{ALICE, alice},
        wait::until,
    },
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};
use tokio::sync::Semaphore;

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
        until(PATIENCE, is_on).await;
    }

    async fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        until(PATIENCE, async || self.writing.available_permits() == WRITERS).await;
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
    // A table that the stream may have left out at its beginning costs one new beginning, and the database is asked until
    // then.
    hammer.go_on(20).await;
    stage.followed(MEMBERS).await;
    let fence = stage.fence().await;
    let mut changes = ear.changes(fence).await;
    let questions = stage.questions().await;
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
    assert!(loads >= 3, "{loads}: {}", stage.server.log().join("\n"));
    assert_eq!(stage.questions().await, questions, "{}", stage.server.log().join("\n"));
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
