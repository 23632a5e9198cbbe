//! One database for many small tests, with its connections: making one takes longer than making the tables anew.

use super::{
    PRELUDE,
    asked::{Asked, FUNCTIONS, Subject, ask},
    compare::{Disagreement, Moment, Replaced, Tally},
    state::Eyes,
};
use crate::support::postgres::{Postgres, majors};
use std::{collections::HashMap, sync::LazyLock};
use tokio::{runtime::Runtime, sync::Mutex};
use walcast::policy::catalog::Catalog;

/// What the test before has left goes.
const FRESH: &str = "set client_min_messages = warning; drop schema public cascade; create schema public;
    grant usage on schema public to public; alter default privileges in schema public grant select on tables to walcast;";

static DATABASES: Mutex<Option<HashMap<u32, Eyes>>> = Mutex::const_new(None);

/// Where the connections live, longer than a test.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
});

/// What came out of a comparison.
pub struct Played {
    pub major: u32,
    pub catalog: Catalog,
    pub tally: Tally,
    pub disagreements: Vec<Disagreement>,
}

impl Played {
    /// Fails when there are disagreements.
    #[track_caller]
    pub fn agrees(&self, name: &str) {
        let said: Vec<_> = self.disagreements.iter().take(3).map(ToString::to_string).collect();
        let (major, count) = (self.major, self.disagreements.len());
        assert!(said.is_empty(), "PostgreSQL {major}, {name}: {count} disagreements\n{}", said.join("\n"));
    }
}

/// Makes tables, and compares what programs and Postgres say of their rows, in every version under test.
pub fn play(sql: &str, asked: &[Asked], subjects: &[Subject]) -> Vec<Played> {
    RUNTIME.block_on(async {
        let mut all = Vec::new();
        for major in majors() {
            let mut databases = DATABASES.lock().await;
            let eyes = eyes(&mut databases, major).await;
            all.push(compare(eyes, major, sql, asked, subjects).await);
        }
        all
    })
}

async fn compare(eyes: &mut Eyes, major: u32, sql: &str, asked: &[Asked], subjects: &[Subject]) -> Played {
    let sql = format!("{FRESH} {sql}");
    eyes.superuser.batch_execute(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let catalog = eyes.catalog().await;
    let judged = eyes.judged(&catalog, asked).await;
    let lookups = eyes.lookups(&catalog).await;
    let answer = ask(&eyes.superuser, subjects, asked).await;
    let replaced = Replaced::new();
    let moment = Moment { catalog: &catalog, lookups: &lookups, subjects, answer: &answer, replaced: &replaced };
    let mut tally = Tally::default();
    let disagreements = moment.compare(&judged, &mut tally);
    Played { major, catalog, tally, disagreements }
}

async fn eyes(databases: &mut Option<HashMap<u32, Eyes>>, major: u32) -> &mut Eyes {
    let databases = databases.get_or_insert_default();
    if !databases.contains_key(&major) {
        let database = Postgres::shared(major).database().await;
        database.execute(&format!("{PRELUDE} {FUNCTIONS}")).await;
        databases.insert(major, Eyes::open(&database).await);
        // It goes with the cluster.
        std::mem::forget(database);
    }
    databases.get_mut(&major).expect("it is there")
}
