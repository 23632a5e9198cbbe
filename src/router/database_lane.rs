//! The database lane: what only Postgres can decide, decided by Postgres on the row image, under the subscriber's role
//! and claims.
//!
//! One task takes jobs in order, asks each question of a batch once, and delivers in the order of the jobs, so every
//! subscriber's order holds. The router never waits for it: a job that finds no room is turned down, and its
//! subscribers lag from there. Any doubt hides the row, and is counted.

use super::{
    core::{Config as RouterConfig, announce_gap, position},
    image::{Image, judged_image},
    lane_job::{Candidate, LaneJob, LaneWork},
    matching::{is_bare_key_delete, messages},
    questions::{AskedRow, Question, Questions, Verdict},
    render::{Extent, Rendering},
    statements::{Asker, Verdicts},
    subscription::TableBinding,
};
use crate::{change::Operation, hub::Delivery, metrics::Metrics, policy::catalog::RowRule, protocol::refusal};
use deadpool_postgres::Pool;
use std::{sync::Arc, time::Duration};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Jobs that wait at most ...
const QUEUE_JOBS: usize = 4096;
/// ... and what they keep alive at most, in KiB.
const QUEUE_KIBIBYTES: usize = 64 * 1024;
/// Jobs that are asked about together: more share statements, fewer wait for each other.
const BATCH_JOBS: usize = 256;

/// What the operator may choose about the lane.
#[derive(Clone, Debug)]
pub struct Config {
    /// Connections that ask at the same time.
    pub connections: usize,
    /// How long one statement may take.
    pub statement_timeout: Duration,
}

/// The router's end.
#[derive(Clone)]
pub(super) struct Lane {
    jobs: mpsc::Sender<(LaneJob, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
}

/// The task's end.
pub(super) struct LaneTask {
    jobs: mpsc::Receiver<(LaneJob, OwnedSemaphorePermit)>,
    asker: Asker,
    router: RouterConfig,
    metrics: Arc<Metrics>,
}

pub(super) fn lane(pool: Pool, config: &Config, router: RouterConfig, metrics: Arc<Metrics>) -> (Lane, LaneTask) {
    let (sender, receiver) = mpsc::channel(QUEUE_JOBS);
    let room = Arc::new(Semaphore::new(QUEUE_KIBIBYTES));
    let asker = Asker::new(pool, config.clone());
    let task = LaneTask { jobs: receiver, asker, router, metrics };
    (Lane { jobs: sender, room }, task)
}

impl Lane {
    /// Takes a job, or lets its subscribers lag.
    pub(super) fn offer(&self, job: LaneJob) {
        let wanted = u32::try_from((job.bytes() / 1024 + 1).min(QUEUE_KIBIBYTES)).unwrap_or(u32::MAX);
        match self.room.clone().try_acquire_many_owned(wanted) {
            Ok(permit) => {
                if let Err(refused) = self.jobs.try_send((job, permit)) {
                    refuse(&refused.into_inner().0);
                }
            }
            Err(_) => refuse(&job),
        }
    }

    /// Whether half of it is free.
    pub(super) fn has_room(&self) -> bool {
        self.jobs.capacity() >= QUEUE_JOBS / 2 && self.room.available_permits() >= QUEUE_KIBIBYTES / 2
    }
}

/// No room: whoever the job is for is served from the backlog later.
fn refuse(job: &LaneJob) {
    for work in &job.work {
        let position = position(&job.fragment, &job.fragment.changes[work.change]);
        for candidate in &work.candidates {
            candidate.member.member().lag_from(candidate.generation, position);
        }
    }
}

/// What is asked for one candidate.
struct Case {
    work: usize,
    candidate: usize,
    /// Whether he sees the row: asked, or known without asking.
    is: Sight,
    /// Whether he saw the old row of an UPDATE.
    was: Sight,
    /// For each binding, the database's part of its filter.
    filters: Vec<Sight>,
}

#[derive(Clone, Copy)]
enum Sight {
    Known(bool),
    /// Not decidable on this image.
    Absent,
    Asked(Question),
}

impl LaneTask {
    pub(super) async fn run(mut self) {
        let mut batch = Vec::new();
        loop {
            batch.clear();
            if self.jobs.recv_many(&mut batch, BATCH_JOBS).await == 0 {
                return;
            }
            let jobs: Vec<&LaneJob> = batch.iter().map(|(job, _)| job).collect();
            self.judge(&jobs).await;
        }
    }

    async fn judge(&self, jobs: &[&LaneJob]) {
        let mut questions = Questions::default();
        let cases: Vec<Vec<Case>> = jobs.iter().map(|job| cases(job, &mut questions)).collect();
        let asked_rows: usize = questions.groups.iter().map(|group| group.images.len()).sum();
        self.metrics.lane_questions.add(asked_rows);
        let transactions = jobs.iter().map(|job| job.fragment.xid).collect();
        let verdicts = self.asker.ask(&questions, transactions).await;
        for (job, cases) in jobs.iter().zip(&cases) {
            self.deliver(job, cases, &questions, &verdicts);
        }
    }

    fn deliver(&self, job: &LaneJob, cases: &[Case], questions: &Questions, verdicts: &Verdicts) {
        for cases in cases.chunk_by(|a, b| a.work == b.work) {
            let work = &job.work[cases[0].work];
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
                let mut judge = Judge { lane: self, candidate, questions, verdicts, unasked: false };
                let extent = judge.extent(work, case, job);
                let bindings = extent.map(|_| judge.bindings(candidate, case)).unwrap_or_default();
                if judge.unasked {
                    announce_gap(candidate.member.member(), &self.metrics);
                } else if let Some(extent) = extent.filter(|_| !bindings.is_empty()) {
                    let member = candidate.member.member();
                    let frames = messages(&mut rendering, member, change.operation, &bindings, extent);
                    let count = frames.len();
                    let at = position(&job.fragment, change);
                    if member.deliver_change(candidate.generation, at, frames) == Delivery::Queued {
                        self.metrics.deliveries.add(count);
                    }
                }
            }
        }
    }

    /// A policy failed on a row: hidden, counted, and said once a join, without the message, which may quote the row.
    fn tell_failed(&self, candidate: &Candidate, table: &(String, String), sqlstate: &str) {
        self.metrics.hidden_error.add(1);
        if candidate.member.member().is_first_failure() {
            let text = refusal::policy_failed(&table.0, &table.1, sqlstate);
            candidate.member.member().deliver_system("postgres_changes", false, &text);
            tracing::warn!(schema = table.0, table = table.1, role = %candidate.claims.role, sqlstate, "policy failed");
        }
    }
}

/// What must be asked to decide a job.
fn cases(job: &LaneJob, questions: &mut Questions) -> Vec<Case> {
    let types = &job.catalog.types;
    let mut cases = Vec::new();
    for (at, work) in job.work.iter().enumerate() {
        let change = &job.fragment.changes[work.change];
        let Some(image) = judged_image(change, &work.map) else { continue };
        let row = questions.row(work, types, &image);
        let old_row = match (&change.operation, &change.old) {
            (Operation::Update, Some(old)) if old.whole => {
                Some(questions.row(work, types, &Image::new(&old.row, &work.map)))
            }
            _ => None,
        };
        for (number, candidate) in work.candidates.iter().enumerate() {
            // Whoever left meanwhile, perhaps because there was too much to ask, must not add to it.
            if candidate.member.member().is_ended() {
                continue;
            }
            let rows = &candidate.subscription.rows;
            let mut sight = |row: &AskedRow| match rows.asked() {
                None => Sight::Known(matches!(rows, RowRule::All)),
                Some(policy) => questions.may_see(work, candidate, policy, row).map_or(Sight::Absent, Sight::Asked),
            };
            let is = sight(&row);
            let was = old_row.as_ref().map_or(Sight::Absent, &mut sight);
            let filters = candidate.bindings.iter().map(|binding| {
                let consulted = binding.fault.is_none() || change.operation == Operation::Delete;
                match binding.filter.database_sql(2).filter(|_| consulted) {
                    None => Sight::Known(true),
                    Some(filter) => {
                        let reads: Vec<_> = binding.filter.database_columns().collect();
                        questions
                            .matches(work, &candidate.claims.role, filter, &reads, &row)
                            .map_or(Sight::Absent, Sight::Asked)
                    }
                }
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
    questions: &'a Questions,
    verdicts: &'a Verdicts,
    unasked: bool,
}

impl Judge<'_> {
    fn answer(&mut self, question: Question) -> bool {
        match self.verdicts.of(question) {
            Verdict::Yes => true,
            Verdict::No => false,
            Verdict::Failed(sqlstate) => {
                let table = &self.questions.groups[question.group].table;
                self.lane.tell_failed(self.candidate, table, &sqlstate);
                false
            }
            Verdict::Unasked => {
                self.unasked = true;
                false
            }
        }
    }

    /// What of the change he may see, if anything.
    fn extent(&mut self, work: &LaneWork, case: &Case, job: &LaneJob) -> Option<Extent> {
        let change = &job.fragment.changes[work.change];
        let strict = self.lane.router.strict_deletes;
        let bare = is_bare_key_delete(change);
        let sees = match case.is {
            Sight::Known(answer) => answer,
            Sight::Asked(question) => self.answer(question),
            // A bare key cannot be judged: by default every subscriber hears of it, as of the server we replace.
            Sight::Absent if bare && !strict => return Some(Extent::KeyOnly),
            Sight::Absent => {
                self.lane.metrics.hidden_absent.add(1);
                return None;
            }
        };
        if !sees {
            let of_no_row_policy = matches!(case.is, Sight::Known(false));
            return (of_no_row_policy && bare && !strict).then_some(Extent::KeyOnly);
        }
        if change.operation != Operation::Update {
            return Some(Extent::WholeOld);
        }
        let saw = match case.was {
            Sight::Known(answer) => answer,
            Sight::Asked(question) => self.answer(question),
            Sight::Absent => false,
        };
        let old_is_whole = change.old.as_ref().is_some_and(|old| old.whole);
        Some(match (saw, old_is_whole) {
            (true, _) => Extent::WholeOld,
            // A key-only old image under row level security is as public as that of a DELETE.
            (false, false) if matches!(candidate_rows(self.candidate), RowRule::All) => Extent::WholeOld,
            (false, false) if !strict => Extent::KeyOnly,
            (false, _) => Extent::NewKey,
        })
    }

    fn bindings(&mut self, candidate: &Candidate, case: &Case) -> Vec<Arc<TableBinding>> {
        let mut matching = Vec::new();
        for (binding, filter) in candidate.bindings.iter().zip(&case.filters) {
            let matches = match *filter {
                Sight::Known(answer) => answer,
                Sight::Asked(question) => self.answer(question),
                Sight::Absent => {
                    self.lane.metrics.hidden_absent.add(1);
                    false
                }
            };
            if matches {
                matching.push(binding.clone());
            }
        }
        matching
    }
}

fn candidate_rows(candidate: &Candidate) -> &RowRule {
    &candidate.subscription.rows
}
