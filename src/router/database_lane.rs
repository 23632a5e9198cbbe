//! The database lane: what only Postgres can decide, decided by Postgres on the row image, under the subscriber's role
//! and claims.
//!
//! One task takes jobs in order, asks each question of a batch once, and delivers in the order of the jobs, so every
//! subscriber's order holds. The router never waits for it: a job that finds no room is turned down, and its
//! subscribers lag from there. Any doubt hides the row, and is counted.

use super::{
    core::Config as RouterConfig,
    image::Images,
    lane_job::{Candidate, LaneCursor, LaneJob},
    matching::{Wanted, messages},
    notices::{announce_gap, tell_failed},
    questions::{AskedRow, Needed, Question, Questions, Verdict},
    rate::{self, Allowed},
    render::{Extent, Rendering},
    sight::{Matching, Seen, Sight, Sights},
    statements::{Asker, Verdicts},
    subscription::TableBinding,
};
use crate::{
    change::{Change, Operation, position::Position},
    hub::{Delivery, MessageForm},
    messages::Publisher,
    metrics::Metrics,
    policy::catalog::RowRule,
};
use deadpool_postgres::Pool;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Jobs that wait at most ...
const QUEUE_JOBS: usize = 4096;
/// ... and what they keep alive at most, in KiB.
const QUEUE_KIBIBYTES: usize = 64 * 1024;
/// Jobs that are asked about together: more share statements, fewer wait for each other.
const BATCH_JOBS: usize = 256;
/// A batch ends with the job that makes it larger than this: questions are texts, several times as large as the rows.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// How long nobody is served later who was not because the database could not be asked.
const FAILED_PAUSE: Duration = Duration::from_millis(500);

/// What the operator may choose about the lane.
#[derive(Clone, Debug)]
pub struct Config {
    /// Connections that ask at the same time.
    pub connections: usize,
    /// How long one statement may take.
    pub statement_timeout: Duration,
}

/// What the lane needs.
pub(super) struct LaneParts {
    pub(super) pool: Pool,
    pub(super) config: Config,
    pub(super) router: RouterConfig,
    pub(super) messages: Publisher,
    pub(super) metrics: Arc<Metrics>,
}

/// The router's end.
#[derive(Clone)]
pub(super) struct Lane {
    jobs: mpsc::Sender<(LaneJob, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
    kibibytes: usize,
    messages: Publisher,
    failed: Arc<Mutex<Option<Instant>>>,
}

/// The task's end.
pub(super) struct LaneTask {
    jobs: mpsc::Receiver<(LaneJob, OwnedSemaphorePermit)>,
    asker: Asker,
    router: RouterConfig,
    messages: Publisher,
    metrics: Arc<Metrics>,
    /// When the database could not be asked last.
    failed: Arc<Mutex<Option<Instant>>>,
}

pub(super) fn lane(parts: LaneParts) -> (Lane, LaneTask) {
    lane_of(parts, QUEUE_JOBS, QUEUE_KIBIBYTES)
}

/// A lane in which so many jobs wait at most, which keep so many KiB alive at most.
pub(super) fn lane_of(parts: LaneParts, jobs: usize, kibibytes: usize) -> (Lane, LaneTask) {
    let LaneParts { pool, config, router, messages, metrics } = parts;
    let (sender, receiver) = mpsc::channel(jobs);
    let room = Arc::new(Semaphore::new(kibibytes));
    let asker = Asker::new(pool, config);
    let failed = Arc::default();
    let task =
        LaneTask { jobs: receiver, asker, router, messages: messages.clone(), metrics, failed: Arc::clone(&failed) };
    (Lane { jobs: sender, room, kibibytes, messages, failed }, task)
}

impl Lane {
    /// Takes a job, or lets its subscribers lag.
    pub(super) fn offer(&self, job: LaneJob) {
        let wanted = u32::try_from((job.bytes() / 1024 + 1).min(self.kibibytes)).unwrap_or(u32::MAX);
        match self.room.clone().try_acquire_many_owned(wanted) {
            Ok(permit) => {
                if let Err(refused) = self.jobs.try_send((job, permit)) {
                    self.refuse(&refused.into_inner().0);
                }
            }
            Err(_) => self.refuse(&job),
        }
    }

    /// No room: whoever the job is for is served from the backlog later. Messages are in no log they could be served
    /// from, so they come now, before changes that they stood behind.
    fn refuse(&self, job: &LaneJob) {
        for work in &job.work {
            let position = job.fragment.position(&job.fragment.changes[work.change]);
            for candidate in &work.candidates {
                candidate.member.member().lag_from(candidate.generation, position);
            }
        }
        for message in &job.messages {
            self.messages.publish_postponed(&message.postponed);
        }
    }

    /// Jobs that wait.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.jobs.max_capacity() - self.jobs.capacity()
    }

    /// Lets the pause after a failure be over.
    #[cfg(test)]
    pub(super) fn forget_failure(&self) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether half of it is free, and the database could be asked lately.
    pub(super) fn has_room(&self) -> bool {
        let failed = *self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.is_none_or(|at| at.elapsed() > FAILED_PAUSE)
            && self.jobs.capacity() >= self.jobs.max_capacity() / 2
            && self.room.available_permits() >= self.kibibytes / 2
    }
}

/// What is asked for one candidate.
struct Case {
    work: usize,
    candidate: usize,
    /// Whether he sees the row.
    is: Asked,
    /// Whether he saw the old row of an UPDATE.
    was: Asked,
    /// For each binding, the database's part of its filter.
    filters: Vec<AskedFilter>,
}

/// An answer, or where it will be.
#[derive(Clone, Copy)]
enum Asked {
    Known(Sight),
    Of(Question),
}

/// A filter on both images.
struct AskedFilter {
    is: Asked,
    /// Where entering and leaving are told.
    was: Option<Asked>,
}

impl LaneTask {
    pub(super) async fn run(mut self) {
        let mut batch = Vec::new();
        loop {
            batch.clear();
            if self.jobs.recv_many(&mut batch, BATCH_JOBS).await == 0 {
                return;
            }
            let mut waiting = batch.drain(..);
            loop {
                let (mut taken, mut bytes) = (Vec::new(), 0);
                while bytes < BATCH_BYTES
                    && let Some(next) = waiting.next()
                {
                    bytes += next.0.asked_bytes();
                    taken.push(next);
                }
                if taken.is_empty() {
                    break;
                }
                let jobs: Vec<&LaneJob> = taken.iter().map(|(job, _)| job).collect();
                self.judge(&jobs).await;
            }
        }
    }

    async fn judge(&self, jobs: &[&LaneJob]) {
        let (questions, cases) = all_cases(jobs);
        let asked_rows: usize = questions.groups.iter().map(|group| group.images.len()).sum();
        self.metrics.lane_questions.add(asked_rows);
        let transactions = jobs.iter().map(|job| job.fragment.xid).collect();
        let verdicts = self.asker.ask(&questions, transactions).await;
        self.deliver_all(jobs, &cases, &verdicts);
    }

    /// Takes up to so many jobs that wait and has them answered by somebody else than a database; how many.
    #[cfg(test)]
    pub(super) fn judge_by(&mut self, limit: usize, answer: impl FnOnce(&Questions) -> Verdicts) -> usize {
        let batch: Vec<_> = std::iter::from_fn(|| self.jobs.try_recv().ok()).take(limit).collect();
        let jobs: Vec<&LaneJob> = batch.iter().map(|(job, _)| job).collect();
        let (questions, cases) = all_cases(&jobs);
        self.deliver_all(&jobs, &cases, &answer(&questions));
        batch.len()
    }

    fn deliver_all(&self, jobs: &[&LaneJob], cases: &[Vec<Case>], verdicts: &Verdicts) {
        for (job, cases) in jobs.iter().zip(cases) {
            self.deliver(job, cases, verdicts);
        }
    }

    fn deliver(&self, job: &LaneJob, cases: &[Case], verdicts: &Verdicts) {
        let mut said = job.messages.iter().peekable();
        for cases in cases.chunk_by(|a, b| a.work == b.work) {
            let work = &job.work[cases[0].work];
            while let Some(message) = said.next_if(|message| message.change < work.change) {
                self.messages.publish_postponed(&message.postponed);
            }
            let change = &job.fragment.changes[work.change];
            let mut rendering = Rendering::new(
                change,
                &work.table,
                &work.map,
                &job.catalog.types,
                job.fragment.commit_time,
                self.router.max_record_bytes,
            );
            for case in cases {
                let candidate = &work.candidates[case.candidate];
                let mut judge = Judge { lane: self, candidate, verdicts, unasked: false };
                let told = judge.told(change, case);
                if judge.unasked {
                    self.leave_unasked(candidate, job.fragment.position(change));
                } else if !told.is_empty() {
                    let (member, at) = (candidate.member.member(), job.fragment.position(change));
                    let meters = &self.router.meters;
                    if rate::allowed(meters, &self.metrics, member, candidate.generation, at) != Allowed::Now {
                        continue;
                    }
                    let cursor = |given, of| job.fragment.cursor(change, given, of);
                    let frames = messages(&mut rendering, member, &told, cursor);
                    let count = frames.len();
                    if member.deliver_change(candidate.generation, at, frames) == Delivery::Queued {
                        self.metrics.deliveries.add(count);
                        rate::count(&self.router.meters, told.len());
                    }
                }
            }
        }
        said.for_each(|message| self.messages.publish_postponed(&message.postponed));
        for LaneCursor { member, generation, position, cursor } in &job.cursors {
            member.member().deliver_cursor(*generation, *position, cursor);
        }
    }

    /// Nobody could be asked. Whoever can come back to where he stood is served from the backlog later, as long as that
    /// has it; the others hear of a gap.
    fn leave_unasked(&self, candidate: &Candidate, position: Position) {
        let member = candidate.member.member();
        if member.form() == MessageForm::Resumable {
            *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            member.lag_from(candidate.generation, position);
        } else {
            announce_gap(member, &self.metrics);
        }
    }
}

/// What must be asked to decide these jobs, each question once.
fn all_cases(jobs: &[&LaneJob]) -> (Questions, Vec<Vec<Case>>) {
    let mut questions = Questions::default();
    let cases = jobs.iter().map(|job| cases(job, &mut questions)).collect();
    (questions, cases)
}

/// What must be asked to decide a job.
fn cases(job: &LaneJob, questions: &mut Questions) -> Vec<Case> {
    let types = &job.catalog.types;
    let mut cases = Vec::new();
    for (at, work) in job.work.iter().enumerate() {
        let change = &job.fragment.changes[work.change];
        let Some(images) = Images::of(change, &work.map) else { continue };
        let needed = Needed::of(work);
        let row = questions.row(work, types, &images.is, &needed);
        let old_row = images.was.map(|was| questions.row(work, types, &was, &needed));
        for (number, candidate) in work.candidates.iter().enumerate() {
            // Whoever left meanwhile, perhaps because there was too much to ask, must not add to it.
            if candidate.member.member().is_ended() {
                continue;
            }
            let rows = &candidate.subscription.rows;
            let mut sight = |row: &AskedRow| match rows.asked() {
                None => Asked::Known(Sight::of(matches!(rows, RowRule::All))),
                Some(policy) => {
                    let question = questions.may_see(work, candidate, policy, row);
                    question.map_or(Asked::Known(Sight::Absent), Asked::Of)
                }
            };
            let (is, was) = match candidate.sights {
                Some(Sights { is, was }) => (Asked::Known(is), Asked::Known(was)),
                None => (sight(&row), old_row.as_ref().map_or(Asked::Known(Sight::Absent), sight)),
            };
            let filters = candidate.bindings.iter().map(|Wanted { binding, filter }| {
                let consulted = binding.fault.is_none() || change.operation == Operation::Delete;
                let asked = binding.filter.database_sql(2).filter(|_| consulted);
                let reads: Vec<_> = binding.filter.database_columns().collect();
                let mut answer = |matches: bool, row: &AskedRow| match &asked {
                    None => Asked::Known(Sight::of(matches)),
                    Some(_) if !matches => Asked::Known(Sight::Hidden),
                    Some(filter) => questions
                        .matches(work, &candidate.claims.role, filter.clone(), &reads, row)
                        .map_or(Asked::Known(Sight::Absent), Asked::Of),
                };
                let was = filter.was.zip(old_row.as_ref()).map(|(was, old_row)| answer(was, old_row));
                AskedFilter { is: answer(filter.is, &row), was }
            });
            let filters = filters.collect();
            cases.push(Case { work: at, candidate: number, is, was, filters });
        }
    }
    cases
}

/// Reads the verdicts for one candidate.
struct Judge<'a> {
    lane: &'a LaneTask,
    candidate: &'a Candidate,
    verdicts: &'a Verdicts,
    unasked: bool,
}

impl<'a> Judge<'a> {
    fn answer(&mut self, asked: Asked) -> Sight {
        let question = match asked {
            Asked::Known(sight) => return sight,
            Asked::Of(question) => question,
        };
        match self.verdicts.of(question) {
            Verdict::Yes => Sight::Seen,
            Verdict::No => Sight::Hidden,
            Verdict::Failed(sqlstate) => {
                let table = &self.candidate.subscription.table;
                tell_failed(self.candidate.member.member(), table, &self.candidate.claims.role, &sqlstate);
                self.lane.metrics.hidden_error.add(1);
                Sight::Failed
            }
            Verdict::Unasked => {
                self.unasked = true;
                Sight::Failed
            }
        }
    }

    /// Which of his bindings hear of the change, and how much of it.
    fn told(&mut self, change: &Change, case: &Case) -> Vec<(&'a TableBinding, Extent)> {
        let tells_moves = case.filters.iter().any(|filter| filter.was.is_some());
        let is = self.answer(case.is);
        // What was seen before matters to those who see it now, and to those who hear of what leaves.
        let was = if is == Sight::Seen || tells_moves { self.answer(case.was) } else { Sight::Absent };
        let rows = &self.candidate.subscription.rows;
        let strict_deletes = self.lane.router.strict_deletes;
        let seen = Seen { change, rows, strict_deletes, sights: Sights { is, was } };
        if seen.is_hidden_by_absence() {
            self.lane.metrics.hidden_absent.add(1);
        }
        let mut told = Vec::new();
        for (wanted, filter) in self.candidate.bindings.iter().zip(&case.filters) {
            // Whether he asked for such a message, and might hear of the row at all, is known before the filter is.
            let most = Matching { is: true, was: None };
            if filter.was.is_none() && wanted.told(&seen, most).is_none() {
                continue;
            }
            let filter = Matching { is: self.matches(filter.is), was: filter.was.map(|was| self.matches(was)) };
            told.extend(wanted.told(&seen, filter).map(|extent| (&*wanted.binding, extent)));
        }
        told
    }

    fn matches(&mut self, filter: Asked) -> bool {
        let sight = self.answer(filter);
        if sight == Sight::Absent {
            self.lane.metrics.hidden_absent.add(1);
        }
        sight == Sight::Seen
    }
}
