//! One shape in a database of its own: its classes, and its verdicts next to Postgres'.

use super::subjects::{ROLES, subjects};
use crate::{
    policies::{
        PRELUDE,
        asked::{Asked, FUNCTIONS, ask},
        compare::{Moment, Replaced, Tally},
        state::Eyes,
    },
    support::postgres::{Postgres, majors},
};
use std::{collections::HashMap, sync::LazyLock};
use tokio::{runtime::Runtime, sync::Mutex};
use walcast::policy::catalog::{Catalog, RowRule, Table};

const SCHEMA: &str = include_str!("schema.sql");
/// What the shape before has left goes.
const FRESH: &str = "set client_min_messages = warning; drop schema public cascade; create schema public;
    grant usage on schema public to public;";

/// Shapes by which nobody sees anything: settings that nobody sets, a lookup table that its own policies hide.
const ALIKE: [&str; 3] =
    ["c25_tenant_of_a_session_setting", "c26_legacy_claim_setting", "c29b_membership_whose_own_policy_hides_it"];

/// Who decides about a table for a role.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    All,
    None,
    Compiled,
    /// With these words in the reason.
    Database(&'static str),
}

impl Rule {
    fn fits(self, rows: &RowRule) -> bool {
        match (self, rows) {
            (Rule::All, RowRule::All) | (Rule::None, RowRule::None) | (Rule::Compiled, RowRule::Compiled(_)) => true,
            (Rule::Database(words), RowRule::Database(policy)) => policy.why.iter().any(|why| why.contains(words)),
            _ => false,
        }
    }
}

/// A policy, or several, and what becomes of them.
pub struct Shape {
    pub name: &'static str,
    pub table: &'static str,
    pub key: &'static str,
    /// By role, as `ROLES` lists them.
    pub rules: [Rule; 6],
    pub sql: &'static [&'static str],
}

/// One database for all shapes of a major version, with its connections: making one takes longer than making the tables
/// anew.
static DATABASES: Mutex<Option<HashMap<u32, Eyes>>> = Mutex::const_new(None);

/// Where those connections live, longer than a test.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
});

/// Compares a shape with Postgres, for all roles, claims and rows.
pub fn check(shape: &Shape) {
    RUNTIME.block_on(compare(shape));
}

async fn compare(shape: &Shape) {
    for major in majors() {
        let mut databases = DATABASES.lock().await;
        let eyes = eyes(&mut databases, major).await;
        let sql = format!("{FRESH} {SCHEMA} {}", shape.sql.join(";\n"));
        eyes.superuser.batch_execute(&sql).await.unwrap_or_else(|error| panic!("{}: {error:?}", shape.name));
        let catalog = eyes.catalog().await;
        let asked = [Asked::new(shape.table, shape.key)];
        let judged = eyes.judged(&catalog, &asked).await;
        check_rules(shape, &judged[0].table, major);
        check_views(&catalog);
        let lookups = eyes.lookups(&catalog).await;
        let subjects = subjects();
        let answer = ask(&eyes.superuser, &subjects, &asked).await;
        let replaced = Replaced::new();
        let moment =
            Moment { catalog: &catalog, lookups: &lookups, subjects: &subjects, answer: &answer, replaced: &replaced };
        let mut tally = Tally::default();
        let disagreements = moment.compare(&judged, &mut tally);
        let said: Vec<_> = disagreements.iter().take(3).map(ToString::to_string).collect();
        assert!(
            said.is_empty(),
            "PostgreSQL {major}, {}: {} disagreements\n{}",
            shape.name,
            disagreements.len(),
            said.join("\n")
        );
        check_tally(shape, &tally);
    }
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

fn check_rules(shape: &Shape, table: &Table, major: u32) {
    for (role, rule) in ROLES.iter().zip(shape.rules) {
        let rows = &table.access[*role].rows;
        let got = match rows {
            RowRule::Database(policy) => format!("the database's, {:?}", policy.why),
            RowRule::Compiled(_) => "compiled".to_owned(),
            settled => format!("{settled:?}"),
        };
        assert!(rule.fits(rows), "PostgreSQL {major}, {}: for {role} it should be {rule:?}, but is {got}", shape.name);
    }
}

/// Views are not published, whoever reads them.
fn check_views(catalog: &Catalog) {
    assert!(catalog.tables.values().all(|table| table.name != "doc_list"));
}

/// A comparison in which nothing was compiled, or everything was doubted, would prove nothing.
fn check_tally(shape: &Shape, tally: &Tally) {
    let is_compiled = shape.rules.iter().any(|rule| matches!(rule, Rule::Compiled));
    assert_eq!(tally.compiled > 0, is_compiled, "{}: {tally}", shape.name);
    // A generated column is not in the stream up to 17, and the database computes it.
    let is_absent = shape.name == "c19_generated_column";
    assert_eq!(tally.absent, if is_absent { tally.compiled } else { 0 }, "{}: {tally}", shape.name);
    let is_told_apart = tally.visible > 0 && tally.visible < tally.compiled;
    assert_eq!(is_told_apart, is_compiled && !is_absent && !ALIKE.contains(&shape.name), "{}: {tally}", shape.name);
    assert_eq!(tally.not_followed, 0, "{}: {tally}", shape.name);
    // Two of eight claims are such that Postgres may raise an error.
    assert!(tally.doubts * 2 <= tally.compiled, "{}: {tally}", shape.name);
    assert_eq!((tally.unsupported, tally.unreadable), (0, 0), "{}: {tally}", shape.name);
}
