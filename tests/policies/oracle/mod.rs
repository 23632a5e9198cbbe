//! Random tables, policies, rights, claims, rows and transactions: every verdict next to Postgres'.
//!
//! A run is a seed; world number n of a run has the seed plus n, so that any world can be had alone:
//!
//! ```text
//! WALCAST_ORACLE_DECISIONS=1000000 WALCAST_ORACLE_SEED=1 \
//!   cargo test --release --test main oracle_long -- --ignored --nocapture
//! WALCAST_ORACLE_REFUSED=1 prints what Postgres refused.
//! ```

mod changes;
mod claims;
mod expression;
mod kinds;
mod planted;
mod queries;
mod random;
mod run;
mod stream;
mod world;

use crate::support::postgres::{Postgres, majors};
use planted::{Mistake, mistakes};
use run::{Oracle, Report};
use std::{env, io::Write};

const SEED: u64 = 20_260_101;

fn number(name: &str, default: u64) -> u64 {
    env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

async fn run(postgres: &'static Postgres, seed: u64, decisions: u64) -> Report {
    let mut oracle = Oracle::open(postgres).await;
    oracle.run(seed, decisions, &mut []).await
}

/// Says what was compared, also where the output of passing tests is hidden.
fn tell(report: &Report, seed: u64) {
    let mut text = format!(
        "seed {seed}: {} worlds, {} policies, {} statements refused, {} transactions, {} changes, {} old images\n{}",
        report.worlds,
        report.policies,
        report.refused,
        report.transactions,
        report.changes,
        report.old_images,
        report.tally
    );
    for trouble in report.troubles.iter().take(5) {
        text += &format!("trouble: {trouble}\n");
    }
    writeln!(std::io::stderr(), "{text}").expect("stderr is open");
}

fn check(report: &Report, seed: u64) {
    assert!(report.disagreements.is_empty(), "seed {seed}\n{}", report.disagreements.join("\n"));
    assert_eq!(report.troubles, [""; 0], "seed {seed}: tables that could not be followed");
    let tally = &report.tally;
    // A run in which nothing was decided would prove nothing.
    assert!(tally.compiled * 4 > tally.decisions, "seed {seed}: {tally}");
    assert!(tally.visible * 20 > tally.compiled, "seed {seed}: {tally}");
    assert!(tally.unsupported * 50 < tally.compiled, "seed {seed}: {tally}");
    assert!(tally.doubts * 4 < tally.compiled, "seed {seed}: {tally}");
}

#[tokio::test]
async fn random_policies_are_decided_as_postgres_decides_them() {
    for major in majors() {
        let report = run(Postgres::shared(major), SEED, 20_000).await;
        check(&report, SEED);
    }
}

/// Looks for planted mistakes: what was found, and after how many decisions.
async fn hunt(decisions: u64) -> (usize, usize, String) {
    let mut mistakes = mistakes();
    let report = Oracle::open(Postgres::default()).await.run(SEED, decisions, &mut mistakes).await;
    check(&report, SEED);
    mistakes.sort_by_key(|mistake| mistake.found.unwrap_or(u64::MAX));
    let say = |mistake: &Mistake| match mistake.found {
        Some(decisions) => format!("within {decisions} decisions: {}", mistake.name),
        None => format!("not found, planted {} times: {}", mistake.planted, mistake.name),
    };
    let said = mistakes.iter().map(say).collect::<Vec<_>>().join("\n");
    (mistakes.iter().filter(|mistake| mistake.found.is_some()).count(), mistakes.len(), said)
}

#[tokio::test]
async fn most_planted_mistakes_are_found_at_once() {
    let (found, all, said) = hunt(25_000).await;
    assert!(found * 3 >= all * 2, "seed {SEED}:\n{said}");
}

#[tokio::test]
#[ignore = "takes a minute; the rarer mistakes need some 200,000 decisions"]
async fn oracle_finds_every_planted_mistake() {
    let (found, all, said) = hunt(400_000).await;
    writeln!(std::io::stderr(), "{said}").expect("stderr is open");
    assert_eq!(found, all, "seed {SEED}:\n{said}");
}

#[tokio::test]
#[ignore = "takes minutes; see the head of tests/policies/oracle/mod.rs"]
async fn oracle_long() {
    let seed = number("WALCAST_ORACLE_SEED", SEED);
    for major in majors() {
        let report = run(Postgres::shared(major), seed, number("WALCAST_ORACLE_DECISIONS", 1_000_000)).await;
        tell(&report, seed);
        check(&report, seed);
    }
}
