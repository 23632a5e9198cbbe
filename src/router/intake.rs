//! `Intake`: fragments → whole transactions → the core. What a transaction says of other tables counts for all its rows,
//! so it is gathered before the first of them is judged, as long as any policy looks into another table.
//!
//! ```text
//! held ──> gathering ──> applying (to the lookup tables) ──> routing
//!   └────> passing, when nothing is looked up or the transaction is one fragment
//! ```
//!
//! One step takes one fragment, so that whoever drives it can serve others between two.

use super::{
    Command,
    core::RouterCore,
    judgement::Basis,
    lane_job::LaneJob,
    transaction::{self, Cursor, SpillConfig, Transaction},
};
use crate::{
    change::{
        Fragment,
        position::{Era, Position},
    },
    lsn::Lsn,
    policy::{catalog::Catalog, lookup::Lookups},
    source::{Beginning, Follows, HandedOn, Kind},
};
use std::{collections::BTreeSet, io, sync::Arc, time::Duration};

/// Who keeps the rows of the tables that policies look into.
pub(super) trait Follow {
    /// Whether there are any such tables.
    fn is_following(&self) -> bool;
    /// Whether the process may decide policies that look into a table.
    fn is_ready(&self, table: u32) -> bool;
    /// Whether other tables are ready than when this was asked last.
    fn take_changes(&mut self) -> bool;
    /// The rows, as of the last transaction that was applied.
    fn lookups(&self) -> &Lookups;
    /// Takes a new catalogue: what is needed of which tables.
    fn set_catalog(&mut self, catalog: &Catalog);
    /// Applies a fragment's changes of these tables; the tables whose rows have changed.
    fn apply(&mut self, fragment: &Arc<Fragment>) -> BTreeSet<u32>;
    /// An era begins, and where its changes are read.
    fn begin_era(&mut self, kind: Kind);
    /// Changes are lost: what is known of the tables is wrong.
    fn distrust(&mut self);
}

/// What one step led to.
#[derive(Default)]
pub(super) struct Passed {
    /// What the database has to decide.
    pub(super) job: Option<LaneJob>,
    /// The end of a transaction that is handed on, and when it committed.
    pub(super) end: Option<(HandedOn, i64)>,
}

/// Where the transaction that comes in stands.
enum Stage {
    /// Fragments pass as they come.
    Passing,
    /// More of it is to come.
    Gathering(Transaction),
    /// All of it has come; its changes of lookup tables are applied.
    Applying(Transaction, Cursor),
    /// Its rows are judged.
    Routing(Transaction, Cursor),
    /// It could not be kept: what was kept passes, then the fragment there was no room for, then what follows.
    Draining(Transaction, Cursor, Arc<Fragment>),
}

/// The way in.
pub(super) struct Intake<F> {
    /// Who gets what.
    pub(super) core: RouterCore,
    /// The rows of other tables.
    pub(super) follow: F,
    held: Option<Arc<Fragment>>,
    stage: Stage,
    /// The era of the transaction that is coming in, and the seamless one that begins behind it.
    late: Option<(Era, Arc<Beginning>)>,
    /// The lookup tables the transaction has changed.
    touched: BTreeSet<u32>,
    limit_bytes: usize,
    file: SpillConfig,
    /// Why the last large transaction could not be put aside, until another one could be.
    problem: Option<String>,
}

impl<F: Follow> Intake<F> {
    /// One that keeps so many bytes of a transaction in memory, and what is beyond in a file.
    pub(super) fn new(core: RouterCore, follow: F, limit_bytes: usize, file: impl Into<SpillConfig>) -> Intake<F> {
        let touched = BTreeSet::new();
        Intake {
            core,
            follow,
            held: None,
            stage: Stage::Passing,
            late: None,
            touched,
            limit_bytes,
            file: file.into(),
            problem: None,
        }
    }

    /// Why large transactions cannot be put aside, and what to do about it.
    pub(super) fn problem(&self) -> Option<&String> {
        self.problem.as_ref()
    }

    /// Looks whether they can be again.
    pub(super) async fn look_for_room(&mut self) {
        if self.problem.is_some() && transaction::has_room(&self.file).await {
            tracing::info!("large transactions can be put aside again");
            self.problem = None;
        }
    }

    /// Whether the next fragment may be brought.
    pub(super) fn wants_fragment(&self) -> bool {
        self.held.is_none() && !self.has_work()
    }

    /// Whether a step would lead somewhere without another fragment.
    pub(super) fn has_work(&self) -> bool {
        !matches!(self.stage, Stage::Passing | Stage::Gathering(_))
    }

    /// An era begins. What was gathered of the one before is of a transaction whose rest will not come; whoever it was for
    /// is told of the gap. A seamless one begins behind the transaction that is coming in: all of that is of one era, or
    /// half of it would be behind the positions at which the new one begins.
    pub(super) fn begin_era(&mut self, beginning: &Arc<Beginning>) {
        let amid = match (&self.late, &self.stage) {
            (Some((era, _)), _) => Some(*era),
            (None, Stage::Gathering(transaction)) => Some(transaction.era),
            (None, _) => self.core.era_amid(),
        };
        self.late = match amid {
            Some(era) if matches!(beginning.follows, Follows::Seamless) => Some((era, beginning.clone())),
            _ => None,
        };
        if self.late.is_none() {
            self.stage = Stage::Passing;
            self.core.begin(beginning);
        }
        self.follow.begin_era(beginning.kind);
    }

    /// Brings the next fragment; ask before whether it is wanted.
    pub(super) fn hold(&mut self, fragment: Arc<Fragment>) {
        self.held = Some(match &self.late {
            Some((era, _)) => Arc::new(Fragment { era: *era, ..Fragment::clone(&fragment) }),
            None => fragment,
        });
    }

    /// The fragment the next step takes in, before anything of it is judged.
    pub(super) fn next(&self) -> Option<&Arc<Fragment>> {
        self.held.as_ref().filter(|_| !self.has_work())
    }

    /// Takes a new catalogue. What is to be read for it holds everything else.
    pub(super) fn set_catalog(&mut self, catalog: Arc<Catalog>) {
        if !self.core.has_catalog(&catalog) {
            self.follow.set_catalog(&catalog);
            self.follow.take_changes();
            let follow = &self.follow;
            self.core.set_catalog(catalog, &|table| follow.is_ready(table));
        }
    }

    /// Gives to the database what the process cannot decide any more, and takes back what it can again.
    /// Whether there was any.
    pub(super) fn settle(&mut self) -> bool {
        let is_changed = self.follow.take_changes();
        if is_changed {
            let follow = &self.follow;
            self.core.compile_again(&|table| follow.is_ready(table));
        }
        is_changed
    }

    /// Does what a client asks for.
    pub(super) fn execute(&mut self, command: Command) {
        let (core, follow) = (&mut self.core, &self.follow);
        let ready = |table| follow.is_ready(table);
        match command {
            Command::Subscribe(subscription, answer) => {
                let entered = core.subscribe(*subscription, &ready);
                // Whoever asked is gone: so is the subscription.
                if let Err(Ok(key)) = answer.send(entered) {
                    core.unsubscribe(key);
                }
            }
            Command::ReplaceClaims(key, claims) => core.replace_claims(key, claims, &ready),
            Command::Unsubscribe(key) => core.unsubscribe(key),
        }
    }

    /// Serves those who are behind, by the rights of now.
    pub(super) fn catch_up(&mut self, lane_has_room: bool, now: i64) -> Vec<LaneJob> {
        // Half of a transaction's changes of lookup tables are the rights of no moment.
        if matches!(self.stage, Stage::Applying(..)) {
            return Vec::new();
        }
        self.core.catch_up(lane_has_room, Basis::at(now, self.follow.lookups()))
    }

    /// How long until time changes what somebody sees; none amid a transaction, or when nothing is to come.
    pub(super) fn until_deadline(&self, now: i64) -> Option<Duration> {
        let at = self.core.next_deadline().filter(|_| matches!(self.stage, Stage::Passing))?;
        Some(Duration::from_micros(u64::try_from(at.saturating_sub(now)).unwrap_or(0)))
    }

    /// Tells of what time has changed.
    pub(super) fn pass_time(&mut self, now: i64) {
        self.core.pass_time(now, self.follow.lookups());
    }

    /// Goes on by one fragment.
    pub(super) async fn step(&mut self) -> Passed {
        match std::mem::replace(&mut self.stage, Stage::Passing) {
            Stage::Passing => match self.held.take() {
                Some(fragment) => self.begin(fragment).await,
                None => Passed::default(),
            },
            Stage::Gathering(transaction) => match self.held.take() {
                Some(fragment) if transaction.has(&fragment) => self.gather(transaction, fragment).await,
                // The stream began anew amid it, as everybody was told.
                Some(fragment) => self.begin(fragment).await,
                None => {
                    self.stage = Stage::Gathering(transaction);
                    Passed::default()
                }
            },
            Stage::Applying(mut transaction, mut cursor) => match transaction.next(&mut cursor).await {
                Ok(Some(fragment)) => {
                    self.apply(&fragment);
                    self.stage = Stage::Applying(transaction, cursor);
                    Passed::default()
                }
                Ok(None) => {
                    self.stage = Stage::Routing(transaction, Cursor::default());
                    Passed::default()
                }
                Err(error) => self.unreadable(&transaction, &error),
            },
            Stage::Routing(mut transaction, mut cursor) => match transaction.next(&mut cursor).await {
                Ok(Some(fragment)) => {
                    if fragment.end_lsn.is_none() {
                        self.stage = Stage::Routing(transaction, cursor);
                    }
                    self.route(&fragment)
                }
                Ok(None) => Passed::default(),
                Err(error) => self.unreadable(&transaction, &error),
            },
            Stage::Draining(mut transaction, mut cursor, last) => match transaction.next(&mut cursor).await {
                Ok(Some(fragment)) => {
                    self.stage = Stage::Draining(transaction, cursor, last);
                    self.pass(&fragment)
                }
                Ok(None) => self.pass(&last),
                Err(error) => {
                    self.unreadable(&transaction, &error);
                    self.pass(&last)
                }
            },
        }
    }

    async fn begin(&mut self, fragment: Arc<Fragment>) -> Passed {
        if self.core.is_amid(fragment.commit_lsn) {
            return self.pass(&fragment);
        }
        self.touched.clear();
        if fragment.end_lsn.is_some() || !self.follow.is_following() {
            return self.pass(&fragment);
        }
        let transaction = Transaction::of(&fragment, self.limit_bytes, &self.file);
        self.gather(transaction, fragment).await
    }

    async fn gather(&mut self, mut transaction: Transaction, fragment: Arc<Fragment>) -> Passed {
        let was_in_file = transaction.is_in_file();
        let pushed = transaction.push(&fragment).await;
        if transaction.is_in_file() && !was_in_file {
            self.core.metrics().transactions_spilled.add(1);
        }
        match pushed {
            Ok(()) if fragment.end_lsn.is_some() => self.stage = Stage::Applying(transaction, Cursor::default()),
            Ok(()) => self.stage = Stage::Gathering(transaction),
            Err(error) => {
                tracing::error!(
                    %error,
                    directory = %self.file.directory.display(),
                    "a large transaction cannot be put aside; subscribers whose policies look into other tables lose it"
                );
                self.core.metrics().transactions_lost.add(1);
                self.problem = Some(format!(
                    "a large transaction could not be put aside ({error}); make room in {} or raise --spill-bytes (WALCAST_SPILL_BYTES), or have more kept in memory with \
                     --transaction-bytes (WALCAST_TRANSACTION_BYTES)",
                    self.file.directory.display()
                ));
                self.core.lose_lookups(transaction.commit_lsn);
                self.stage = Stage::Draining(transaction, Cursor::default(), fragment);
            }
        }
        Passed::default()
    }

    /// Applies and routes a fragment at once.
    fn pass(&mut self, fragment: &Arc<Fragment>) -> Passed {
        self.apply(fragment);
        self.route(fragment)
    }

    fn apply(&mut self, fragment: &Arc<Fragment>) {
        self.touched.append(&mut self.follow.apply(fragment));
        // A table may not be followed any further from here.
        self.settle();
    }

    fn route(&mut self, fragment: &Arc<Fragment>) -> Passed {
        let basis = Basis::at(fragment.commit_time, self.follow.lookups());
        let job = self.core.route(fragment, basis);
        if fragment.end_lsn.is_some() {
            self.core.rights_changed(std::mem::take(&mut self.touched));
        }
        let end = fragment.end_lsn.map(|lsn| (self.handed_on(fragment.era, lsn), fragment.commit_time));
        Passed { job, end }
    }

    /// A transaction is handed on whole. What waited for that begins; and its positions are what the source goes by then.
    fn handed_on(&mut self, era: Era, lsn: Lsn) -> HandedOn {
        let Some((_, beginning)) = self.late.take() else { return HandedOn { era: era.number, lsn } };
        let from = beginning.from.max(lsn);
        self.core.begin(&Arc::new(Beginning { from, ..Beginning::clone(&beginning) }));
        HandedOn { era: beginning.era.number, lsn }
    }

    /// What was put aside is gone, and with it changes of lookup tables.
    fn unreadable(&mut self, transaction: &Transaction, error: &io::Error) -> Passed {
        tracing::error!(%error, "a large transaction that was put aside cannot be read again; all subscribers lose it");
        self.core.metrics().transactions_lost.add(1);
        self.follow.distrust();
        self.settle();
        // A transaction that is still to end passes as it comes; whoever hears of the loss stands behind it.
        let behind = transaction.end_lsn.unwrap_or(Lsn(transaction.commit_lsn.0.saturating_add(1)));
        self.core.lose_all(Position::before(transaction.era.number, behind));
        let end = transaction.end_lsn.map(|lsn| (self.handed_on(transaction.era, lsn), transaction.commit_time));
        Passed { job: None, end }
    }
}

#[cfg(test)]
mod tests;
