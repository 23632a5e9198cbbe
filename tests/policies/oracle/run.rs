//! Runs worlds: makes them one after the other, until enough has been compared.

use super::{planted::Mistake, play::Play, world::ROLES_SQL};
use crate::{
    policies::{
        PRELUDE,
        asked::FUNCTIONS,
        compare::{Disagreement, Tally},
        state::Eyes,
    },
    support::postgres::{Database, Postgres},
};
use std::fmt::Write;

/// What came out.
#[derive(Default)]
pub struct Report {
    pub tally: Tally,
    pub worlds: u64,
    pub policies: u64,
    /// Policies, functions and statements that Postgres refused.
    pub refused: u64,
    pub transactions: u64,
    /// Changes of rows that were judged, and old images among them.
    pub changes: u64,
    pub old_images: u64,
    /// Followed tables that ended, with the reason.
    pub troubles: Vec<String>,
    /// Disagreements, with all that is needed to see them again.
    pub disagreements: Vec<String>,
}

/// A database for worlds.
pub struct Oracle {
    eyes: Eyes,
    database: Database,
}

impl Oracle {
    /// One on this cluster.
    pub async fn open(postgres: &'static Postgres) -> Oracle {
        let database = postgres.database().await;
        let own_publication = "create publication walcast_lookups";
        database.execute(&format!("{PRELUDE} {FUNCTIONS} {ROLES_SQL} {own_publication}")).await;
        Oracle { eyes: Eyes::open(&database).await, database }
    }

    /// Runs worlds until this many decisions have been compared, or a disagreement is found. Notes which mistakes
    /// would have been found, and ends when all are.
    pub async fn run(&mut self, seed: u64, decisions: u64, mistakes: &mut [Mistake]) -> Report {
        let mut report = Report::default();
        let is_hunt = !mistakes.is_empty();
        while report.tally.decisions < decisions && report.disagreements.is_empty() {
            if is_hunt && mistakes.iter().all(|mistake| mistake.found.is_some()) {
                break;
            }
            let seed = seed.wrapping_add(report.worlds);
            Play::new(&mut self.eyes, seed, &mut report).play(&self.database.name, mistakes).await;
            report.worlds += 1;
        }
        report
    }
}

impl Report {
    pub fn note(&mut self, seed: u64, history: &[String], when: &str, found: Vec<Disagreement>) {
        for disagreement in found.into_iter().take(2) {
            let mut text = format!("world {seed}, {when}: {disagreement}\n");
            if self.disagreements.is_empty() {
                for sql in history {
                    let _ = writeln!(text, "{};", sql.trim_end());
                }
            }
            self.disagreements.push(text);
        }
    }
}
