//! The task that reads the outbox: it has the lead, numbers what is seen committed, hands fragments to the bounded queue the
//! walreceiver would hand them to, and prunes what clients have been given, a window behind.
//!
//! A notification wakes it, whoever sent it; without one it looks by itself. Where logical replication may become possible
//! it looks for that, too.

use super::{
    OutboxError, SHAPES_INTERVAL,
    beginning::Place,
    lead::Lead,
    moving,
    probing::{Probe, Probing},
    reading::Reader,
};
use crate::{
    change::{Fragment, position::Era},
    lsn::Lsn,
    pg::{
        connect::describe,
        messages,
        outbox::{self, CHANNEL, Given, Installed, Kept},
    },
    source::{
        Feed, Kind, StreamState,
        slot::{self, Exported, SourceError, Started},
        slot_task::Walreceiver,
    },
};
use rand::Rng;
use std::{
    collections::{BTreeSet, HashSet},
    future::Future,
    pin::Pin,
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, Interval, MissedTickBehavior, interval, interval_at, timeout},
};
use tokio_postgres::Client;

/// How often it looks without being woken.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How long it waits after it was woken: whoever notifies in a loop wakes it no oftener.
const PAUSE: Duration = Duration::from_millis(2);
/// A look that takes longer is followed by a pause so many times as long: whatever makes it dear, looking is not all we do.
const DEAR: (Duration, u32) = (Duration::from_millis(50), 4);
/// How often it prunes, and looks which tables are captured and whether it still has the lead.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
/// Rows that are pruned at once; and how often at most, so that deliveries do not wait.
const PRUNED_ROWS: i64 = 5000;
const PRUNED_TIMES: usize = 20;
/// How often it looks whether the log can be read now.
const PROBE_INTERVAL: Duration = Duration::from_secs(3);
/// How long one question may take. Numbering much that was written meanwhile takes longest.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);
/// Waits between attempts double from here ...
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// ... to here; as often it is tried whether the other server has ended.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
const STANDBY_WAIT: Duration = Duration::from_secs(1);

/// What came before.
pub(in crate::source) struct Entry {
    /// The era before; number 0 when there was none in this process.
    pub(in crate::source) era: Era,
    /// What the log has given of what is in the outbox, when that is known exactly.
    pub(in crate::source) given: Option<Given>,
    /// Up to where it was handed on.
    pub(in crate::source) reached: Lsn,
    /// Why the log cannot be read, if it was tried.
    pub(in crate::source) why: Option<String>,
    /// When it may be tried again.
    pub(in crate::source) probing: Probing,
}

/// How it ended.
pub(in crate::source) enum End {
    /// It was told to.
    Stopped,
    /// The log can be read.
    Moved(Box<Moved>),
    /// Another server reads the log, and nothing was read here.
    LogIsRead,
}

/// What came of waiting to be the one that reads.
enum Waited {
    /// It is.
    Leads,
    /// It ended.
    Ended(End),
}

/// Everything that is told by the outbox has been; this tells the rest.
pub(in crate::source) struct Moved {
    /// The stream.
    pub(in crate::source) started: Started,
    /// The era of the outbox.
    pub(in crate::source) era: Era,
    /// Transactions of the stream that the outbox has told ...
    pub(in crate::source) told: HashSet<u32>,
    /// ... all of which committed before this.
    pub(in crate::source) until: Lsn,
    /// Everything the outbox has told, if it had every change of every table.
    pub(in crate::source) given: Option<Given>,
}

/// The task. It has the walreceiver's ends.
pub(in crate::source) struct OutboxTask<'a> {
    /// They.
    pub(in crate::source) ends: &'a Walreceiver,
    /// Whether it goes over to the log when it can.
    pub(in crate::source) may_move: bool,
}

type Exporting = Pin<Box<dyn Future<Output = Result<Exported, SourceError>> + Send>>;

impl OutboxTask<'_> {
    /// Reads until it is told to stop, or may go over to the log, whatever happens to the server.
    pub(in crate::source) async fn run(&self, entry: Entry, lead: &mut Option<Lead>) -> End {
        let mut place = Place { entry, reading: None, cleared: None, lost: None };
        let mut wait = FIRST_WAIT;
        let mut changes = self.ends.target.changes();
        while !self.ends.stop.is_cancelled() {
            let began = Instant::now();
            let error = match self.session(&mut place, lead).await {
                Ok(end) => return end,
                Err(error) => error,
            };
            if began.elapsed() > LONGEST_WAIT {
                wait = FIRST_WAIT;
            }
            if let Some(loss) = error.loss() {
                place.lost = Some(loss);
                wait = FIRST_WAIT;
            }
            if error.is_of_network() {
                // What else is open leads nowhere, either.
                self.ends.target.doubt();
            }
            let problem = error.with_hint();
            tracing::warn!(problem, retry_in = ?wait, "the outbox is not read");
            self.interrupted(problem);
            let jittered = wait.mul_f64(rand::rng().random_range(0.5..1.5));
            tokio::select! {
                () = self.ends.stop.cancelled() => break,
                () = tokio::time::sleep(jittered) => {}
                // With another password it may go on at once.
                Ok(()) = changes.changed() => {}
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
        self.ends.state.send_modify(|state| state.streaming = false);
        End::Stopped
    }

    fn interrupted(&self, problem: String) {
        self.ends.state.send_modify(|state| {
            (state.streaming, state.standby) = (false, false);
            state.problem = Some(problem);
        });
    }

    /// One connection.
    async fn session(&self, place: &mut Place, lead: &mut Option<Lead>) -> Result<End, OutboxError> {
        let heard = Arc::new(Notify::new());
        let mut client = self.ends.target.connect_hearing("walcast outbox", heard.clone()).await?;
        let installed = answer(find(&client, &self.ends.target.user())).await?;
        if let Waited::Ended(end) = self.wait_for_lead(&client, lead, installed.table, place).await? {
            return Ok(end);
        }
        // Behind a pooler it may reach nobody; then it looks by itself.
        if let Err(error) = client.batch_execute(&format!("listen {CHANNEL}")).await {
            tracing::debug!(error = %describe(&error), "cannot listen");
        }
        if !self.begin(&mut client, &installed, place).await? {
            return Ok(End::Stopped);
        }
        let Place { entry, reading: Some((era, reader)), .. } = place else { return Ok(End::Stopped) };
        let (era, is_current) = (*era, installed.is_current);
        let mut session = Session { task: self, client, era, reader, is_current, captured: None, pruned_at: None };
        session.look_after().await?;
        session.announce(entry.why.clone());
        let end = session.read(&heard, lead, &mut entry.probing, installed.table).await;
        // A slot that was being made would keep the log.
        self.ends.maker().abandon().await;
        end
    }

    /// Waits until this server is the one that reads.
    async fn wait_for_lead(
        &self,
        client: &Client,
        lead: &mut Option<Lead>,
        table: u32,
        place: &mut Place,
    ) -> Result<Waited, OutboxError> {
        if let Some(held) = lead
            && held.is_held(table).await
        {
            return Ok(Waited::Leads);
        }
        *lead = None;
        let mut is_told = false;
        loop {
            *lead = answer(Lead::take(&self.ends.target, table)).await?;
            if lead.is_some() {
                return Ok(Waited::Leads);
            }
            if !is_told {
                tracing::info!("another server reads the outbox: standby");
                is_told = true;
            }
            let problem = "another server reads the outbox; this one waits until that one ends";
            self.ends.state.send_modify(|state| {
                (state.streaming, state.standby, state.kind) = (false, true, Kind::Outbox);
                state.problem = Some(problem.to_owned());
            });
            if place.reading.is_none() && self.is_log_read(client, &mut place.entry.probing).await? {
                return Ok(Waited::Ended(End::LogIsRead));
            }
            let wait = STANDBY_WAIT.mul_f64(rand::rng().random_range(0.5..1.5));
            if self.ends.stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                return Ok(Waited::Ended(End::Stopped));
            }
        }
    }

    /// Whether the other server reads the log. Then its slot is what this one goes on with, and not the outbox: whoever
    /// comes from there comes with cursors of the log.
    async fn is_log_read(&self, client: &Client, probing: &mut Probing) -> Result<bool, OutboxError> {
        if !self.may_move {
            return Ok(false);
        }
        let outlook = answer(outbox::outlook(client, &self.ends.config.slot)).await?;
        Ok(matches!(probing.look(outlook, Instant::now()), Probe::Taken(_)))
    }

    /// Puts something into the queue; false when it is time to stop.
    pub(super) async fn feed(&self, feed: Feed) -> bool {
        matches!(self.ends.stop.run_until_cancelled(self.ends.feed.send(feed)).await, Some(Ok(())))
    }
}

/// One connection's reading.
pub(super) struct Session<'a> {
    pub(super) task: &'a OutboxTask<'a>,
    pub(super) client: Client,
    pub(super) era: Era,
    pub(super) reader: &'a mut Reader,
    /// Whether the outbox is as this version makes it.
    is_current: bool,
    /// When it was looked what tables were that no row needs any more.
    pruned_at: Option<Instant>,
    /// Which tables nobody captures, and whether messages are captured, when that was looked at last.
    captured: Option<(BTreeSet<u32>, bool)>,
}

impl Session<'_> {
    async fn read(
        &mut self,
        heard: &Notify,
        lead: &Option<Lead>,
        probing: &mut Probing,
        table: u32,
    ) -> Result<End, OutboxError> {
        let mut poll = every(POLL_INTERVAL);
        let mut upkeep = interval_at(Instant::now() + UPKEEP_INTERVAL, UPKEEP_INTERVAL);
        upkeep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut probe = every(PROBE_INTERVAL);
        let mut exporting: Option<Exporting> = None;
        loop {
            let began = Instant::now();
            let next = answer(outbox::number(&mut self.client)).await?;
            let cost = began.elapsed();
            if next < self.reader.position() {
                return Err(OutboxError::Reverted);
            }
            if answer(outbox::is_full(&self.client)).await? {
                return Err(OutboxError::Full);
            }
            if !self.drain().await? {
                return Ok(End::Stopped);
            }
            self.say_where();
            let task = self.task;
            let wants_probe = task.may_move && exporting.is_none();
            tokio::select! {
                () = task.ends.stop.cancelled() => return Ok(End::Stopped),
                () = heard.notified() => tokio::time::sleep(pause(cost)).await,
                _ = poll.tick() => {}
                _ = upkeep.tick() => {
                    match lead {
                        Some(lead) if lead.is_held(table).await => {}
                        _ => return Err(OutboxError::LeadLost),
                    }
                    self.prune().await?;
                    self.look_after().await?;
                }
                _ = probe.tick(), if wants_probe => exporting = self.probe(probing).await?,
                exported = exported(&mut exporting) => {
                    exporting = None;
                    probing.tried(Instant::now());
                    match exported {
                        Ok(exported) => return moving::to_log(self, exported).await.map(End::Moved),
                        Err(error) => self.not_yet(&error),
                    }
                }
            }
        }
    }

    /// Looks whether the log can be read; the attempt to.
    async fn probe(&self, probing: &mut Probing) -> Result<Option<Exporting>, OutboxError> {
        let ends = self.task.ends;
        let config = &ends.config;
        let outlook = answer(outbox::outlook(&self.client, &config.slot)).await?;
        match probing.look(outlook, Instant::now()) {
            Probe::Wait => Ok(None),
            Probe::Make(idle) => {
                let fork = ends.state.borrow().fork;
                Ok(Some(Box::pin(slot::export(ends.maker(), config.clone(), idle, fork))))
            }
            Probe::Taken(pid) => {
                probing.tried(Instant::now());
                self.not_yet(&SourceError::Taken { slot: config.slot.clone(), pid: Some(pid) });
                Ok(None)
            }
        }
    }

    fn not_yet(&self, error: &SourceError) {
        let Walreceiver { target, config, .. } = self.task.ends;
        tracing::info!(problem = error.with_hint(config, &target.user()), "the log cannot be read yet");
    }

    /// Hands on everything that has a number; false when it is time to stop.
    pub(super) async fn drain(&mut self) -> Result<bool, OutboxError> {
        loop {
            let fragments: Vec<Fragment> = answer(self.reader.next(&self.client)).await?;
            if fragments.is_empty() {
                return Ok(true);
            }
            for fragment in fragments {
                if !self.task.feed(Feed::Fragment(Arc::new(fragment))).await {
                    return Ok(false);
                }
            }
        }
    }

    /// Up to where it was handed on.
    fn handed_on(&self) -> Lsn {
        let handed_on = *self.task.ends.handed_on.borrow();
        if handed_on.era == self.era.number { handed_on.lsn } else { Lsn::ZERO }
    }

    /// Whether every table of the publication is captured.
    pub(super) fn is_whole(&self) -> bool {
        self.captured.as_ref().is_some_and(|(uncaptured, _)| uncaptured.is_empty())
    }

    fn say_where(&self) {
        let (handed_on, received) = (self.handed_on(), Lsn(self.reader.position()));
        self.task.ends.state.send_if_modified(|state| {
            let reached = handed_on.max(state.reached);
            let changed = (state.received, state.reached) != (received, reached);
            (state.received, state.reached) = (received, reached);
            changed
        });
    }

    async fn prune(&mut self) -> Result<(), OutboxError> {
        if self.is_current && self.pruned_at.is_none_or(|at| at.elapsed() > SHAPES_INTERVAL) {
            answer(outbox::prune_shapes(&mut self.client)).await?;
            self.pruned_at = Some(Instant::now());
        }
        let window = self.task.ends.config.window;
        let is_kept = window.bytes > 0 && !window.time.is_zero();
        let kept = Kept {
            milliseconds: if is_kept { i64::try_from(window.time.as_millis()).unwrap_or(i64::MAX) } else { 0 },
            bytes: if is_kept { i64::try_from(window.bytes).unwrap_or(i64::MAX) } else { 0 },
        };
        let handed_on = self.handed_on().0;
        for _ in 0..PRUNED_TIMES {
            if !answer(outbox::prune(&self.client, handed_on, kept, PRUNED_ROWS)).await? {
                break;
            }
        }
        let first = answer(outbox::first(&self.client)).await?.map_or(handed_on, |first| first.min(handed_on));
        self.task.ends.state.send_if_modified(|state| {
            let is_new = state.confirmed != Lsn(first);
            state.confirmed = Lsn(first);
            is_new
        });
        Ok(())
    }

    /// Looks which tables are captured.
    async fn look_after(&mut self) -> Result<(), OutboxError> {
        let publication = &self.task.ends.config.publication;
        let listed = answer(outbox::tables(&self.client, publication, messages::PUBLICATION)).await?;
        if let Some(table) = listed.iter().find(|table| table.triggers > 1) {
            if !self.is_current {
                return Err(OutboxError::Doubled(table.name.clone()));
            }
            if self.captured.is_none() {
                tracing::warn!(
                    table = table.name,
                    "captured by several triggers: `walcast migrate --notify` leaves one"
                );
            }
        }
        let clients = listed.iter().filter(|table| !table.is_messages);
        let uncaptured: BTreeSet<u32> =
            clients.filter(|table| table.is_filtered || !table.is_captured).map(|table| table.table).collect();
        let mut of_messages = listed.iter().filter(|table| table.is_messages).peekable();
        let has_messages = of_messages.peek().is_some() && of_messages.all(|table| table.is_captured);
        let captured = Some((uncaptured, has_messages));
        if captured == self.captured {
            return Ok(());
        }
        let is_first = self.captured.is_none();
        self.captured = captured;
        if !is_first {
            let why = self.task.ends.state.borrow().why_not_log.clone();
            self.announce(why);
        }
        Ok(())
    }

    /// Says what runs.
    fn announce(&self, why: Option<String>) {
        let (uncaptured, has_messages) = self.captured.clone().unwrap_or_default();
        let from = Lsn(self.reader.position());
        self.task.ends.state.send_modify(|state| {
            let number = state.stream.as_ref().map_or(1, |stream| stream.number + 1);
            (state.streaming, state.standby) = (true, false);
            state.problem = None;
            (state.kind, state.why_not_log, state.uncaptured) = (Kind::Outbox, why, Arc::new(uncaptured));
            if state.era != self.era.number {
                (state.era, state.reached, state.confirmed) = (self.era.number, from, from);
            }
            state.received = from;
            state.stream = Some(StreamState {
                number,
                publication: 0,
                kind: Kind::Outbox,
                from,
                log_end: None,
                catalog_xmin: None,
                lookups_since: None,
                lookups_problem: Some("changes are read from the outbox".to_owned()),
                messages_since: has_messages.then_some(from),
                messages_problem: (!has_messages)
                    .then(|| "realtime.messages is not captured; `walcast migrate --notify` does that".to_owned()),
            });
        });
    }
}

/// How long it waits after a look that took so long, once it is woken.
fn pause(cost: Duration) -> Duration {
    let (dear, times) = DEAR;
    if cost > dear { (cost * times).min(POLL_INTERVAL) } else { PAUSE }
}

/// The outbox, if our login may read it.
pub(in crate::source) async fn find(client: &Client, login: &str) -> Result<Installed, OutboxError> {
    let installed = outbox::installed(client).await?.ok_or(OutboxError::NotInstalled)?;
    match installed.timeline {
        None => Err(OutboxError::Standby),
        Some(_) if !installed.may_read => Err(OutboxError::NoRight(login.to_owned())),
        Some(_) => Ok(installed),
    }
}

/// The slot, once it is made. Safe to cancel.
async fn exported(exporting: &mut Option<Exporting>) -> Result<Exported, SourceError> {
    match exporting {
        Some(exporting) => exporting.await,
        None => std::future::pending().await,
    }
}

/// What is asked, within its time.
pub(in crate::source) async fn answer<T, E: Into<OutboxError>>(
    asked: impl Future<Output = Result<T, E>>,
) -> Result<T, OutboxError> {
    match timeout(ANSWER_LIMIT, asked).await {
        Ok(answer) => answer.map_err(Into::into),
        Err(_) => Err(OutboxError::Silent),
    }
}

fn every(period: Duration) -> Interval {
    let mut timer = interval(period);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    timer
}
