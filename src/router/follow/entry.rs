//! `Entry`: how one lookup table is doing. Pure but for the time of the next attempt.

use crate::pg::lookup::LoadError;
use crate::{
    lsn::Lsn,
    policy::{
        facts::TableFacts,
        lookup::{Need, Trouble},
    },
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// The wait before a table that failed is read again doubles from here ...
const FIRST_WAIT: Duration = Duration::from_secs(5);
/// ... or from here, when reading it held the stream for long, and so does the next attempt ...
const FIRST_LONG_WAIT: Duration = Duration::from_secs(300);
/// ... to here. A table that was ready for this long has no failures behind it.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

pub(super) struct Entry {
    pub(super) facts: Arc<TableFacts>,
    pub(super) need: Need,
    pub(super) phase: Phase,
    /// Whether policies that look into it have been given to the database since it was ready last.
    pub(super) is_out: bool,
    /// What its rows depend on without the stream telling.
    pub(super) mark: String,
    /// Its membership in the publication, and from where on a stream has all of its changes.
    pub(super) settled: Option<(String, Lsn)>,
    /// The catalogue after which nobody has asked yet whether the rows still are what was read.
    pub(super) doubt: Option<u64>,
    failures: u32,
    ready_since: Option<Instant>,
}

pub(super) enum Phase {
    /// To be read at once; the stream is held.
    New,
    /// Being read; the stream is held.
    Loading,
    /// Its rows are complete.
    Ready,
    /// The stream must begin anew at this position first.
    Stream(Lsn),
    /// These transactions must end first.
    Writers(Vec<String>),
    /// It cannot be read, or not any more.
    Failed { why: String, again: Option<Instant> },
}

impl Entry {
    pub(super) fn new(facts: Arc<TableFacts>, need: Need) -> Entry {
        Entry {
            facts,
            need,
            phase: Phase::New,
            is_out: false,
            mark: String::new(),
            settled: None,
            doubt: None,
            failures: 0,
            ready_since: None,
        }
    }

    /// Whether the process may decide by it; not yet read counts, because nothing is decided before that.
    pub(super) fn is_ready(&self) -> bool {
        match self.phase {
            Phase::Ready => true,
            Phase::New | Phase::Loading => !self.is_out,
            Phase::Stream(_) | Phase::Writers(_) | Phase::Failed { .. } => false,
        }
    }

    /// Whether it must be read, or asked about, before anything else is decided.
    pub(super) fn holds(&self) -> bool {
        match self.phase {
            Phase::New | Phase::Loading => true,
            Phase::Ready => self.doubt.is_some(),
            Phase::Stream(_) | Phase::Writers(_) | Phase::Failed { .. } => false,
        }
    }

    pub(super) fn begin(&mut self) {
        self.doubt = None;
        self.phase = Phase::New;
    }

    pub(super) fn be_ready(&mut self, mark: String) {
        (self.phase, self.mark, self.is_out) = (Phase::Ready, mark, false);
        self.ready_since = Some(Instant::now());
    }

    pub(super) fn wait(&mut self, phase: Phase) {
        (self.phase, self.is_out) = (phase, true);
    }

    /// Out of service until an era begins in which it can be of use.
    pub(super) fn rest(&mut self, why: &str) {
        self.doubt = None;
        self.wait(Phase::Failed { why: why.to_owned(), again: None });
    }

    /// Out of service for good, as long as the catalogue says the same of it.
    pub(super) fn refuse(&mut self, why: String) {
        tracing::warn!(table = self.name(), why, "policies that look into a table go to the database");
        self.wait(Phase::Failed { why, again: None });
    }

    /// Out of service until the next attempt.
    pub(super) fn fail(&mut self, why: String, is_long: bool) {
        if self.ready_since.take().is_some_and(|since| since.elapsed() > LONGEST_WAIT) {
            self.failures = 0;
        }
        let first = if is_long { FIRST_LONG_WAIT } else { FIRST_WAIT };
        let wait = first.saturating_mul(1 << self.failures.min(10)).min(LONGEST_WAIT);
        self.failures = self.failures.saturating_add(1);
        tracing::warn!(table = self.name(), why, retry_in = ?wait, "policies that look into a table go to the database");
        self.wait(Phase::Failed { why, again: Some(Instant::now() + wait) });
    }

    pub(super) fn is_due(&self) -> bool {
        matches!(self.phase, Phase::Failed { again: Some(at), .. } if at <= Instant::now())
    }

    /// Whether a catalogue says something else of the table, as far as reading it is concerned.
    pub(super) fn differs(&self, facts: &TableFacts, need: &Need) -> bool {
        let old = &*self.facts;
        self.need != *need
            || old.columns != facts.columns
            || old.identity != facts.identity
            || old.replica_identity != facts.replica_identity
            || old.carried != facts.carried
            || old.reader != facts.reader
            || old.is_ordinary != facts.is_ordinary
            || (&old.schema, &old.name) != (&facts.schema, &facts.name)
    }

    pub(super) fn name(&self) -> String {
        format!("{}.{}", self.facts.schema, self.facts.name)
    }
}

/// Whether the next attempt would hold the stream as long as this one.
pub(super) fn is_long(error: &LoadError) -> bool {
    matches!(error, LoadError::Slow(_) | LoadError::Trouble(Trouble::NoRoom(_)))
}
