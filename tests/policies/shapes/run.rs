//! One shape: its classes, and its verdicts next to Postgres'.

use super::subjects::{ROLES, subjects};
use crate::policies::{asked::Asked, compare::Tally, stage::play};
use walcast::policy::catalog::{Catalog, RowRule};

const SCHEMA: &str = include_str!("schema.sql");

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

/// Compares a shape with Postgres, for all roles, claims and rows.
pub fn check(shape: &Shape) {
    let sql = format!("{SCHEMA} {}", shape.sql.join(";\n"));
    for played in play(&sql, &[Asked::new(shape.table, shape.key)], &subjects()) {
        check_rules(shape, &played.catalog, played.major);
        played.agrees(shape.name);
        check_tally(shape, &played.tally);
    }
}

fn check_rules(shape: &Shape, catalog: &Catalog, major: u32) {
    // Views are not published, whoever reads them.
    assert!(catalog.tables.values().all(|table| table.name != "doc_list"));
    let table = catalog.tables.values().find(|table| table.name == shape.table).expect("it is published");
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

/// A comparison in which nothing was compiled, or everything was doubted, would prove nothing.
fn check_tally(shape: &Shape, tally: &Tally) {
    let is_compiled = shape.rules.iter().any(|rule| matches!(rule, Rule::Compiled));
    assert_eq!(tally.compiled > 0, is_compiled, "{}: {tally}", shape.name);
    let is_told_apart = tally.visible > 0 && tally.visible < tally.compiled;
    assert_eq!(is_told_apart, is_compiled && !ALIKE.contains(&shape.name), "{}: {tally}", shape.name);
    assert_eq!(tally.not_followed, 0, "{}: {tally}", shape.name);
    // Two of eight claims are such that Postgres may raise an error.
    assert!(tally.doubts * 2 <= tally.compiled, "{}: {tally}", shape.name);
    assert_eq!((tally.absent, tally.unsupported, tally.unreadable), (0, 0, 0), "{}: {tally}", shape.name);
}
