//! Compares what programs say with what Postgres shows, row by row and subject by subject.

use super::{
    asked::{Answer, Shown, Subject},
    state::{Image, Judged},
};
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};
use walcast::policy::{
    catalog::{Catalog, RowRule, Table},
    facts::Policy,
    lookup::Lookups,
    print::Printer,
    program::{Arguments, Entry, Probe, Program, Verdict},
};

/// How many keys of one path a row may be probed with.
const KEY_LIMIT: usize = 64;

/// What Postgres says of a policy with `x = x` for an `x` without columns: an internal error, whatever `x` is.
const PLANNER_BREAKS: &str = "XX000 cannot cope with variable-free clause";

/// What was decided, and by whom.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Questions of a row and a subject.
    pub decisions: u64,
    /// Decided without looking at the row: all rows, or none.
    pub settled: u64,
    /// Decided by a program.
    pub compiled: u64,
    /// ... of which visible.
    pub visible: u64,
    /// ... of which Postgres says it with an error.
    pub errors: u64,
    /// Left to the database with the policy.
    pub database: u64,
    /// Left to the database because of the claims: an error that Postgres may or may not raise.
    pub doubts: u64,
    /// Left to the database because a lookup table is not followed.
    pub not_followed: u64,
    /// Not decided, because the image lacks a value.
    pub absent: u64,
    /// Not decided, because of a value's kind.
    pub unsupported: u64,
    /// A program said that Postgres fails.
    pub failed: u64,
    /// Not compared: Postgres' planner breaks.
    pub broken: u64,
    /// Not asked, because the role may not read the key.
    pub unreadable: u64,
    /// Probed decisions, and the candidates among them: how much an index saves.
    pub probed: u64,
    pub candidates: u64,
    /// Policies of a table for a role: compiled ones, and ones left to the database.
    pub rules_compiled: u64,
    pub rules_database: u64,
    /// Why the database decides.
    pub reasons: BTreeMap<String, u64>,
}

/// What Postgres says about one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    Shown,
    Hidden,
    Error,
}

/// A verdict that Postgres does not share.
#[derive(Clone, Debug)]
pub struct Disagreement {
    pub table: String,
    pub subject: Subject,
    pub row: String,
    pub verdict: String,
    pub postgres: String,
    pub policies: String,
    pub predicate: String,
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: the program says {}, Postgres says {}", self.table, self.verdict, self.postgres)?;
        writeln!(f, "  policies: {}", self.policies)?;
        writeln!(f, "  subject: {} {}", self.subject.role, self.subject.claims)?;
        writeln!(f, "  row: {}", self.row)?;
        write!(f, "  predicate: {}", self.predicate)
    }
}

/// Programs in the places of those in the catalogue, by table and role.
pub type Replaced = HashMap<(u32, String), Program>;

/// What is known at one moment. With replaced programs, only those are compared.
#[derive(Clone, Copy)]
pub struct Moment<'a> {
    pub catalog: &'a Catalog,
    pub lookups: &'a Lookups,
    pub subjects: &'a [Subject],
    pub answer: &'a Answer,
    pub replaced: &'a Replaced,
}

impl Moment<'_> {
    /// Compares all rows of tables, which are numbered as the oracle was asked about them.
    pub fn compare(&self, judged: &[Judged], tally: &mut Tally) -> Vec<Disagreement> {
        let mut disagreements = Vec::new();
        for judged in judged {
            let mut counted = BTreeMap::new();
            for (index, subject) in self.subjects.iter().enumerate() {
                let shown = &self.answer.shown[&(index, judged.number)];
                if counted.insert(subject.role.as_str(), ()).is_none() {
                    tally.count_rule(&judged.table, &subject.role);
                }
                self.compare_subject(judged, subject, shown, tally, &mut disagreements);
            }
        }
        disagreements
    }

    fn compare_subject(
        &self,
        judged: &Judged,
        subject: &Subject,
        shown: &Shown,
        tally: &mut Tally,
        disagreements: &mut Vec<Disagreement>,
    ) {
        let rows = judged.images.len() as u64;
        let Some(access) = self.catalog.access(&judged.table, &subject.role) else { return };
        let may_read =
            |key: &str| judged.table.column(key).is_some_and(|(column, _)| access.select.get(column) == Some(&true));
        if !judged.asked.key.split(',').all(may_read) {
            tally.unreadable += rows;
            return;
        }
        tally.decisions += rows;
        let mut disagree = |image: &Image, verdict: String, sight: Sight, program: Option<&Program>| {
            disagreements.push(Disagreement {
                table: judged.asked.table.clone(),
                subject: subject.clone(),
                row: format!("{:?}", Readable(image, &judged.table)),
                verdict,
                postgres: match &shown.error {
                    Some(error) => format!("{sight:?} (of all rows: {error})"),
                    None => format!("{sight:?}"),
                },
                policies: policies(self.catalog, judged.table.oid),
                predicate: program.map_or_else(String::new, |program| {
                    Printer::new(&self.catalog.facts, judged.table.oid, &program.parameters).print(&program.predicate)
                }),
            });
        };
        let program = match &access.rows {
            settled @ (RowRule::All | RowRule::None) => {
                tally.settled += rows;
                let says = if *settled == RowRule::All { Sight::Shown } else { Sight::Hidden };
                for image in &judged.images {
                    let sight = sight(shown, image);
                    if (sight == Sight::Shown) != (says == Sight::Shown) {
                        disagree(image, format!("{settled:?}"), sight, None);
                    }
                }
                return;
            }
            RowRule::Database(_) => {
                tally.database += rows;
                return;
            }
            RowRule::Compiled(compiled) => {
                self.replaced.get(&(judged.table.oid, subject.role.clone())).unwrap_or(&compiled.program)
            }
        };
        let is_replaced = self.replaced.contains_key(&(judged.table.oid, subject.role.clone()));
        if !self.replaced.is_empty() && !is_replaced {
            return;
        }
        if !program.lookups.keys().all(|oid| self.lookups.is_ready(*oid)) {
            tally.not_followed += rows;
            return;
        }
        let Some(arguments) = program.bind(&subject.bearer()) else {
            tally.doubts += rows;
            return;
        };
        if shown.error.as_ref().is_some_and(|error| error.contains(PLANNER_BREAKS)) {
            tally.broken += rows;
            return;
        }
        tally.compiled += rows;
        let entries = program.enter(&arguments);
        for image in &judged.images {
            let sight = sight(shown, image);
            let said = self.judge(program, &arguments, &entries, image, tally);
            tally.errors += u64::from(sight == Sight::Error);
            let agrees = match said.verdict {
                Verdict::Yes => sight == Sight::Shown && said.is_candidate,
                Verdict::No | Verdict::Failed(_) => sight != Sight::Shown,
                // Hidden by doubt, which is counted.
                Verdict::Absent | Verdict::Unsupported => true,
            };
            if !agrees {
                let index = if said.is_candidate { "" } else { ", and is no candidate" };
                disagree(image, format!("{:?}{index}", said.verdict), sight, Some(program));
            }
        }
    }

    fn judge(
        &self,
        program: &Program,
        arguments: &Arguments,
        entries: &[Entry],
        image: &Image,
        tally: &mut Tally,
    ) -> Said {
        let now = self.answer.now;
        let column = |index: usize| &image.values[index];
        let row = program.row(&column);
        let verdict = program.judge(arguments, &row, self.lookups, now);
        let probes = program.probe(&row, self.lookups, now, KEY_LIMIT);
        assert_eq!((entries.len(), probes.len()), (program.paths(), program.paths()), "paths of {program:?}");
        let is_candidate = entries.iter().zip(&probes).any(|(entry, probe)| may_pass(entry, probe));
        match verdict {
            Verdict::Yes => tally.visible += 1,
            Verdict::No => {}
            Verdict::Absent => tally.absent += 1,
            Verdict::Failed(_) => tally.failed += 1,
            Verdict::Unsupported => tally.unsupported += 1,
        }
        tally.probed += 1;
        tally.candidates += u64::from(is_candidate);
        Said { verdict, is_candidate }
    }
}

struct Said {
    verdict: Verdict,
    is_candidate: bool,
}

fn may_pass(entry: &Entry, probe: &Probe) -> bool {
    match (entry, probe) {
        (Entry::Nowhere, _) | (_, Probe::Nobody) => false,
        (Entry::Everywhere, _) | (_, Probe::Everybody) => true,
        (Entry::Keys(entered), Probe::Keys(probed)) => probed.iter().any(|key| entered.contains(key)),
    }
}

fn sight(shown: &Shown, image: &Image) -> Sight {
    if shown.seen.contains(&image.key) {
        Sight::Shown
    } else if shown.failed.contains(&image.key) {
        Sight::Error
    } else {
        Sight::Hidden
    }
}

fn policies(catalog: &Catalog, oid: u32) -> String {
    let Some(table) = catalog.facts.tables.get(&oid) else { return String::new() };
    let policy = |policy: &Policy| {
        let using = policy.using.as_deref().unwrap_or_default().replace('\n', " ");
        format!("\n    {}{}: {using}", policy.name, if policy.permissive { "" } else { " (restrictive)" })
    };
    table.policies.iter().map(policy).collect()
}

impl Tally {
    fn count_rule(&mut self, table: &Table, role: &str) {
        match table.access.get(role).map(|access| &access.rows) {
            Some(RowRule::Compiled(_)) => self.rules_compiled += 1,
            Some(RowRule::Database(policy)) => {
                self.rules_database += 1;
                for why in &policy.why {
                    // The name of the policy and names made at random say nothing.
                    let why = why.split_once("\": ").map_or(why.as_str(), |(_, why)| why);
                    let why: String = why.chars().filter(|letter| !letter.is_ascii_digit()).take(90).collect();
                    *self.reasons.entry(why).or_default() += 1;
                }
            }
            _ => {}
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} decisions", self.decisions)?;
        writeln!(f, "  {} compiled: {} visible, {} where Postgres fails", self.compiled, self.visible, self.errors)?;
        writeln!(f, "    {} failed, {} absent, {} unsupported", self.failed, self.absent, self.unsupported)?;
        writeln!(f, "    {} candidates of {} probed", self.candidates, self.probed)?;
        writeln!(f, "  {} settled without the row", self.settled)?;
        writeln!(
            f,
            "  {} of the database, {} by doubt, {} not followed",
            self.database, self.doubts, self.not_followed
        )?;
        writeln!(f, "{} not asked: the key is unreadable; {} the planner breaks", self.unreadable, self.broken)?;
        writeln!(f, "{} rules compiled, {} left to the database:", self.rules_compiled, self.rules_database)?;
        let mut reasons: Vec<_> = self.reasons.iter().collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for (reason, count) in reasons.into_iter().take(40) {
            writeln!(f, "  {count:>6} {reason}")?;
        }
        Ok(())
    }
}

struct Readable<'a>(&'a Image, &'a Table);

impl fmt::Debug for Readable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (column, value) in self.1.columns.iter().zip(&self.0.values) {
            map.entry(&column.name, value);
        }
        map.finish()
    }
}
