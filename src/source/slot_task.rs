//! The walreceiver: one task that owns the replication connection and the assembler.
//!
//! ```text
//! socket ──Envelope──> Assembler ──Fragment──> queue (bounded) ──> router
//!    ^                                                               │
//!    └──── status update: a timer, a keepalive's wish ──── handed on ┘
//! ```
//!
//! What is confirmed stays a window behind what was handed on, so that after a crash the server sends that much again.
//!
//! While the queue is full the socket is not read, but the timer goes on, so the server does not take us for dead.
//! When the server goes away: back-off with jitter, and on behind the last transaction that came whole. Of one that came
//! in part the slot sends all again, and what was delivered already is dropped here by its position.

use super::{
    Beginning, Feed, FeedSender, Follows, Gap, GapReason, HandedOn, Kind, Order, SourceState, StreamState, Wish,
    farewell::Farewell,
    holder::Sender,
    ledger::Ledger,
    making::Maker,
    slot::{self, Before, Config, SourceError, Started},
    window::Window,
};
use crate::{
    change::{
        Fragment,
        assemble::Assembler,
        position::{Era, Position},
    },
    lsn::Lsn,
    pg::{
        Target,
        connect::describe,
        replication::{ReplicationError, ReplicationStream},
    },
    pgoutput::{
        self,
        envelope::{Envelope, StatusUpdate},
    },
};
use rand::Rng;
use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

/// A status update goes out this often, or at a third of `wal_sender_timeout` or an eighth of the silence that is borne
/// where that is less: often enough that a restart resends little, and that who is asked has time to answer.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);
/// Every status update asks for an answer once the server has been silent for this part of what it may be.
const ASK_AFTER: u32 = 4;
/// How often the server is asked how far it is while the stream is to begin anew.
const RENEWAL_INTERVAL: Duration = Duration::from_millis(50);
/// Waits between attempts double from here ...
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// ... to here.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// About how often it is tried whether the other server has left the slot: taking over takes a few seconds.
const STANDBY_WAIT: Duration = Duration::from_secs(1);
/// Seconds between the epochs of Unix and of Postgres.
const POSTGRES_EPOCH: Duration = Duration::from_secs(946_684_800);

/// The walreceiver's ends.
pub struct Walreceiver {
    /// Where the database is.
    pub target: Target,
    /// Which slot.
    pub config: Config,
    /// Where fragments go, and word of how their eras begin.
    pub feed: FeedSender,
    /// Up to where the receiver has handed them on.
    pub handed_on: watch::Receiver<HandedOn>,
    /// Where it is told to begin anew.
    pub wish: watch::Receiver<Wish>,
    /// Where it is told to give the slot up and make a new one.
    pub order: watch::Receiver<Order>,
    /// Where the task says how it is doing.
    pub state: watch::Sender<SourceState>,
    /// When to end.
    pub stop: CancellationToken,
}

/// What outlives one connection.
#[derive(Default)]
pub(super) struct Progress {
    /// The era; number 0 before the first stream.
    pub(super) era: Era,
    /// The next change that was not delivered yet.
    next: Position,
    /// The end of the last transaction that went into the queue whole.
    queued: Lsn,
    /// Whether a part of a transaction went into the queue, and the rest has not.
    pub(super) is_amid: bool,
    /// Every transaction that committed before this was handed on.
    pub(super) reached: Lsn,
    /// What was confirmed last.
    flushed: Lsn,
    /// How far behind it is confirmed. A connection that never lasts as long as the window must not keep WAL for ever.
    window: Option<Window>,
    /// The publication of lookup tables, by its oid, and since when it has been streamed without a break.
    lookups: Option<(u32, Lsn)>,
    /// The wish with which it broke the stream.
    refused: Option<Wish>,
    /// The same of the publication of messages.
    messages: Option<(u32, Lsn)>,
    refused_messages: Option<Wish>,
    /// Why the slot is to be made anew.
    replace: Option<GapReason>,
    /// What was ordered when the slot was found to be another's: it is for that one to do.
    void: Option<Order>,
    /// The server's process of the session before.
    sender: Option<Sender>,
    /// What is noted while an outbox is filled beside the log.
    pub(super) ledger: Option<Arc<Ledger>>,
    /// Transactions that the outbox has told of already, up to a position.
    pub(super) told: (HashSet<u32>, Lsn),
}

impl Progress {
    /// Behind another source's era, which has told of these transactions. What is noted goes into the ledger.
    pub(super) fn behind(era: Era, told: (HashSet<u32>, Lsn), ledger: Arc<Ledger>) -> Progress {
        Progress { era, told, ledger: Some(ledger), ..Progress::default() }
    }

    /// Behind the last change that was delivered: where a log branches off before this, it lacks something of it. Of a
    /// transaction that came in part at least the first byte of its commit record must be there.
    fn delivered(&self) -> Lsn {
        let part = Lsn(self.next.commit_lsn.0.saturating_add(1));
        if self.is_amid { self.queued.max(part) } else { self.queued }
    }
}

/// How a connection came to its end without a failure.
enum Ended {
    /// It was told to.
    Stopped,
    /// The next one is wished for.
    Renewed,
    /// The slot is to be given up.
    Ordered,
}

impl Walreceiver {
    /// Streams until told to stop, whatever happens to the server.
    pub async fn run(self) {
        self.run_with(None).await;
    }

    /// The same, beginning with a stream that was started already.
    pub async fn run_from(self, started: Started) {
        self.run_with(Some(started)).await;
    }

    async fn run_with(self, first: Option<Started>) {
        // Nobody but this can stream: what is impossible may become possible.
        let mut progress = Progress::default();
        self.run_until_impossible(first, &mut progress).await;
    }

    /// The same with what is known of before. While a ledger is kept it ends with the error after which there can be no
    /// stream; none when it was told to end.
    pub(super) async fn run_until_impossible(
        &self,
        mut first: Option<Started>,
        progress: &mut Progress,
    ) -> Option<SourceError> {
        let mut wait = FIRST_WAIT;
        let mut changes = self.target.changes();
        while !self.stop.is_cancelled() {
            let started = Instant::now();
            let error = match self.stream_once(first.take(), progress).await {
                Ok(Ended::Stopped) => break,
                Ok(Ended::Renewed | Ended::Ordered) => continue,
                Err(error) => error,
            };
            if error.is_taken() {
                progress.replace = None;
                progress.void = Some(*self.order.borrow());
                if !self.stand_by(&error).await {
                    break;
                }
                wait = FIRST_WAIT;
                continue;
            }
            if progress.lookups.is_some() && error.may_be_of_lookups() {
                // What clients subscribe to goes on without it.
                tracing::warn!(problem = %describe(&error), "the publication of lookup tables breaks the stream");
                progress.refused = Some(*self.wish.borrow());
                continue;
            }
            if progress.messages.is_some() && error.may_be_of_messages() {
                tracing::warn!(problem = %describe(&error), "the publication of messages breaks the stream");
                progress.refused_messages = Some(*self.wish.borrow());
                continue;
            }
            if progress.ledger.is_some() && error.is_impossible() {
                return Some(error);
            }
            // While the publication is missing the next attempt ends before the slot is looked at.
            progress.replace = error.needs_new_slot(&self.config).or(progress.replace);
            let problem = error.with_hint(&self.config, &self.target.user());
            if error.is_of_network() {
                // What else is open leads nowhere, either.
                self.target.doubt();
            }
            if started.elapsed() > LONGEST_WAIT {
                wait = FIRST_WAIT;
            }
            tracing::warn!(slot = self.config.slot, problem, retry_in = ?wait, "replication interrupted");
            self.state.send_modify(|state| {
                (state.streaming, state.standby) = (false, false);
                state.problem = Some(problem);
            });
            let jittered = wait.mul_f64(rand::rng().random_range(0.5..1.5));
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = tokio::time::sleep(jittered) => {}
                // With another password it may go on at once.
                Ok(()) = changes.changed() => {}
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
        self.state.send_modify(|state| state.streaming = false);
        None
    }

    /// Says that another server reads the slot, once, and waits a little; false when it is time to stop.
    async fn stand_by(&self, error: &SourceError) -> bool {
        let problem = error.with_hint(&self.config, &self.target.user());
        if !self.state.borrow().standby {
            tracing::info!(slot = self.config.slot, problem, "standby");
        }
        self.state.send_modify(|state| {
            (state.streaming, state.standby) = (false, true);
            state.problem = Some(problem);
        });
        let wait = STANDBY_WAIT.mul_f64(rand::rng().random_range(0.5..1.5));
        self.stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_some()
    }

    /// Who makes its slots.
    pub(super) fn maker(&self) -> Maker {
        let (target, slot) = (self.target.clone(), self.config.slot.clone());
        Maker { target, slot, state: self.state.clone(), order: self.order.clone() }
    }

    /// Why the slot is to be given up, if that is ordered of the stream that ran last.
    fn ordered(&self, progress: &Progress) -> Option<GapReason> {
        let order = *self.order.borrow();
        order.of(self.number()).filter(|_| progress.void != Some(order))
    }

    /// The process that was making the slot when the connection broke.
    fn making(&self) -> Option<Sender> {
        self.state.borrow().making.as_ref().map(|making| making.sender().clone())
    }

    /// The number of the stream that runs, or ran last; 0 before there was one.
    fn number(&self) -> u64 {
        self.state.borrow().stream.as_ref().map_or(0, |stream| stream.number)
    }

    /// Starts a stream; none when it is time to stop.
    async fn start(&self, before: &Before, progress: &mut Progress) -> Result<Option<Started>, SourceError> {
        let maker = self.maker();
        let started = tokio::select! {
            () = self.stop.cancelled() => None,
            // It is large, and seldom needed.
            started = Box::pin(slot::start(&maker, &self.config, before)) => Some(started),
        };
        match started {
            None => {
                maker.abandon().await;
                Ok(None)
            }
            Some(Err(error @ SourceError::NotMade { .. })) => {
                // What was dropped before that is lost for that reason still.
                progress.replace = before.replace;
                Err(error)
            }
            Some(started) => started.map(Some),
        }
    }

    /// One connection.
    async fn stream_once(&self, first: Option<Started>, progress: &mut Progress) -> Result<Ended, SourceError> {
        let before = Before {
            is_any: progress.era.number > 0,
            epoch: progress.era.epoch,
            fork: self.state.borrow().fork,
            received: progress.reached.max(progress.queued),
            delivered: progress.delivered(),
            wish: *self.wish.borrow(),
            refused: progress.refused,
            refused_messages: progress.refused_messages,
            replace: self.ordered(progress).or(progress.replace),
            sender: self.making().or_else(|| progress.sender.clone()),
        };
        let started = match first {
            Some(started) => started,
            None => match self.start(&before, progress).await? {
                Some(started) => started,
                None => return Ok(Ended::Stopped),
            },
        };
        progress.replace = None;
        let beginning = self.beginning(&started, &before, progress);
        let begins = beginning.is_some();
        if let Some(beginning) = beginning
            && !self.begin(beginning, started.confirmed, progress).await
        {
            return Ok(Ended::Stopped);
        }
        progress.sender.clone_from(&started.sender);
        self.announce(&started, progress, begins);
        let beside = started.beside();
        let Started { stream, confirmed, sender_timeout, .. } = started;
        let flushed = confirmed.max(progress.flushed);
        let window = progress.window.take().unwrap_or_else(|| Window::new(self.config.window, flushed));
        let mut connection = Connection {
            receiver: self,
            stream,
            assembler: Assembler::of(progress.era, beside),
            window,
            progress,
            kept_alive: Lsn::ZERO,
            flushed,
            wish: before.wish,
            order: self.order.clone(),
            number: self.number(),
            heard: Instant::now(),
            farewell: Farewell::default(),
        };
        let result = connection.run(status_interval(sender_timeout, self.config.silence_limit)).await;
        let update = result.is_ok().then(|| connection.status(false));
        let Connection { stream, window, progress, .. } = connection;
        progress.window = Some(window);
        if let Some(update) = update {
            let finish = stream.finish(update);
            if !matches!(tokio::time::timeout(Duration::from_secs(2), finish).await, Ok(Ok(()))) {
                tracing::debug!("replication connection did not end in order");
            }
        }
        result
    }

    /// The era that begins when the stream does not simply go on with the one before.
    fn beginning(&self, started: &Started, before: &Before, progress: &Progress) -> Option<Beginning> {
        // The rest of a transaction is found by how many of its changes came, which other publications change.
        let publications = (started.lookups.as_ref().ok(), started.messages.as_ref().ok());
        let (lookups, messages) = (progress.lookups.as_ref(), progress.messages.as_ref());
        let before_it = (lookups.map(|(oid, _)| oid), messages.map(|(oid, _)| oid));
        let is_torn = progress.is_amid && before_it != publications;
        let follows = match started.gap.or(is_torn.then_some(GapReason::Torn)) {
            _ if !before.is_any => Follows::First,
            Some(reason) => Follows::Gap(Gap { reason, old: before.received, new: started.from }),
            // A timeline that branched off behind all that was received.
            None if before.epoch != started.epoch => Follows::Seamless,
            None => return None,
        };
        if let Follows::Gap(Gap { reason, old, new }) = &follows {
            tracing::warn!(%reason, %old, %new, "changes between these positions are lost to clients");
        }
        let era = Era { number: progress.era.number + 1, epoch: started.epoch };
        // Whatever comes behind another era is new.
        let new_from = before.is_any.then_some(Lsn::ZERO);
        Some(Beginning {
            era,
            from: started.from,
            accepts: started.accepts.clone(),
            follows,
            new_from,
            kind: Kind::Log,
        })
    }

    /// Says that an era begins, in the queue; false when it is time to stop.
    async fn begin(&self, beginning: Beginning, confirmed: Lsn, progress: &mut Progress) -> bool {
        let Beginning { era, from, .. } = beginning;
        let is_seamless = beginning.follows == Follows::Seamless;
        tokio::select! {
            () = self.stop.cancelled() => return false,
            sent = self.feed.send(Feed::Begin(Arc::new(beginning))) => if sent.is_err() { return false },
        }
        if is_seamless {
            progress.next.era = era.number;
            (progress.era, progress.reached, progress.flushed) = (era, from, confirmed);
            // What was noted may be of the timeline that was left.
            progress.window = None;
        } else {
            // Positions of before say nothing about what comes.
            let Progress { refused, refused_messages, ledger, .. } = std::mem::take(progress);
            *progress = Progress { era, reached: from, refused, refused_messages, ledger, ..Progress::default() };
        }
        true
    }

    /// Says what stream begins.
    fn announce(&self, started: &Started, progress: &mut Progress, begins: bool) {
        let since = |found: &Result<u32, String>, before: Option<(u32, Lsn)>| {
            found.as_ref().ok().map(|&oid| before.filter(|(same, _)| *same == oid).unwrap_or((oid, started.from)))
        };
        progress.lookups = since(&started.lookups, progress.lookups);
        progress.messages = since(&started.messages, progress.messages);
        let (has_lookups, has_messages) = (progress.lookups.is_some(), progress.messages.is_some());
        let (slot, publication) = (&self.config.slot, &self.config.publication);
        tracing::info!(slot, publication, from = %started.from, has_lookups, has_messages, "replication started");
        let stream = StreamState {
            number: self.number() + 1,
            publication: started.publication,
            kind: Kind::Log,
            from: started.from,
            log_end: started.log_end,
            catalog_xmin: started.catalog_xmin,
            lookups_since: progress.lookups.map(|(_, since)| since),
            lookups_problem: started.lookups.as_ref().err().cloned(),
            messages_since: progress.messages.map(|(_, since)| since),
            messages_problem: started.messages.as_ref().err().cloned(),
        };
        self.state.send_modify(|state| {
            (state.streaming, state.standby) = (true, false);
            (state.problem, state.making) = (None, None);
            state.fork = started.fork;
            (state.kind, state.why_not_log, state.uncaptured) = (Kind::Log, None, Arc::default());
            if begins {
                state.era = progress.era.number;
                state.reached = started.from;
            }
            state.stream = Some(stream);
        });
    }
}

struct Connection<'a> {
    receiver: &'a Walreceiver,
    stream: ReplicationStream,
    assembler: Assembler,
    progress: &'a mut Progress,
    /// The position of the last keepalive: every transaction that committed before it has been sent.
    kept_alive: Lsn,
    /// How far behind it is confirmed.
    window: Window,
    /// What was confirmed last; a slot must not be told less.
    flushed: Lsn,
    /// The wish it was begun with.
    wish: Wish,
    order: watch::Receiver<Order>,
    /// The number of the stream, by which orders name it.
    number: u64,
    heard: Instant,
    farewell: Farewell,
}

impl Connection<'_> {
    async fn run(&mut self, status_interval: Duration) -> Result<Ended, SourceError> {
        let mut timer = interval(status_interval);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut wish = self.receiver.wish.clone();
        let mut renewal = interval(RENEWAL_INTERVAL);
        renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_wished = *wish.borrow() != self.wish;
            tokio::select! {
                () = self.receiver.stop.cancelled() => return Ok(Ended::Stopped),
                _ = timer.tick() => self.tick().await?,
                Ok(()) = wish.changed() => {}
                () = ordered(&mut self.order, self.number) => return Ok(Ended::Ordered),
                _ = renewal.tick(), if is_wished => {
                    // The answer says how far the server is, when nothing has happened for a while.
                    self.send_status(true).await?;
                    if self.assembler.is_idle() && self.progress.reached >= wish.borrow().reach() {
                        return Ok(Ended::Renewed);
                    }
                }
                envelope = self.stream.next() => {
                    let envelope = envelope?;
                    self.heard = Instant::now();
                    let Some(fragment) = self.receive(envelope).await? else { continue };
                    if let Some(ended) = self.queue(fragment, &mut timer).await? {
                        return Ok(ended);
                    }
                }
            }
        }
    }

    /// Takes an envelope in; a fragment when it completed one that was not delivered before.
    async fn receive(&mut self, envelope: Envelope) -> Result<Option<Fragment>, SourceError> {
        match envelope {
            Envelope::Keepalive { end, reply } => {
                self.kept_alive = self.kept_alive.max(end);
                if reply {
                    self.send_status(false).await?;
                    let is_behind = self.flushed < end;
                    // It would wait until the window is over. What is not confirmed comes again when it is back.
                    if is_behind && self.farewell.is_meant(end, Instant::now().into_std()) {
                        return Err(SourceError::ShutsDown);
                    }
                }
                Ok(None)
            }
            Envelope::XLogData { data, .. } => {
                self.farewell.forget();
                let message = pgoutput::decode(data).map_err(ReplicationError::from)?;
                Ok(self.assembler.push(message)?.map(|fragment| self.without_delivered(fragment)))
            }
        }
    }

    /// Drops the changes that were delivered before the connection broke.
    fn without_delivered(&self, mut fragment: Fragment) -> Fragment {
        let next = self.progress.next;
        let (era, commit_lsn) = (fragment.era.number, fragment.commit_lsn);
        let (told, until) = &self.progress.told;
        if commit_lsn <= *until && told.contains(&fragment.xid) {
            fragment.changes.clear();
        }
        fragment.changes.retain(|change| Position { era, commit_lsn, ordinal: change.ordinal } >= next);
        fragment
    }

    /// Puts a fragment into the queue; meanwhile the timer goes on. How it ended when it is time to.
    async fn queue(
        &mut self,
        fragment: Fragment,
        timer: &mut tokio::time::Interval,
    ) -> Result<Option<Ended>, SourceError> {
        let receiver = self.receiver;
        let fragment = Arc::new(fragment);
        let feed = Feed::Fragment(fragment.clone());
        // One wait, however often the timer ticks meanwhile: whoever asks again stands last again.
        let reserving = receiver.feed.reserve(&feed);
        tokio::pin!(reserving);
        let place = loop {
            tokio::select! {
                () = receiver.stop.cancelled() => return Ok(Some(Ended::Stopped)),
                () = ordered(&mut self.order, self.number) => return Ok(Some(Ended::Ordered)),
                _ = timer.tick() => {
                    // The socket is not read now, so silence proves nothing.
                    self.heard = Instant::now();
                    self.tick().await?;
                }
                place = &mut reserving => break place,
            }
        };
        let Ok(place) = place else { return Ok(Some(Ended::Stopped)) };
        // Only now: a connection that broke while the queue was full sends these changes again.
        if let Some(last) = fragment.changes.last() {
            self.progress.next = Position { ordinal: last.ordinal + 1, ..fragment.position(last) };
        }
        if let Some(end) = fragment.end_lsn {
            self.progress.queued = end;
            if let Some(ledger) = &self.progress.ledger {
                ledger.note(fragment.xid);
            }
        }
        self.progress.is_amid = fragment.end_lsn.is_none();
        place.put(Feed::Fragment(fragment));
        Ok(None)
    }

    async fn tick(&mut self) -> Result<(), SourceError> {
        let silence = self.heard.elapsed();
        let limit = self.receiver.config.silence_limit;
        if silence > limit {
            return Err(SourceError::Silent(silence.as_secs()));
        }
        self.send_status(silence > limit / ASK_AFTER).await
    }

    async fn send_status(&mut self, reply: bool) -> Result<(), SourceError> {
        let update = self.status(reply);
        // A server that takes nothing in is as dead as one that says nothing.
        let limit = self.receiver.config.silence_limit;
        match tokio::time::timeout(limit, self.stream.send(update)).await {
            Ok(sent) => sent?,
            Err(_) => return Err(SourceError::Silent(limit.as_secs())),
        }
        self.receiver.state.send_if_modified(|state| {
            let reached = self.progress.reached;
            let now = (update.flushed, update.written, reached);
            let changed = (state.confirmed, state.received, state.reached) != now;
            (state.confirmed, state.received, state.reached) = now;
            changed
        });
        Ok(())
    }

    /// Only what has been handed on is confirmed, a window behind. With nothing undelivered that is all up to the last
    /// keepalive: otherwise a quiet publication on a busy database would hold its WAL for ever.
    fn status(&mut self, reply: bool) -> StatusUpdate {
        let handed_on = *self.receiver.handed_on.borrow();
        // What is still said of the era before is no position of this one.
        let handed_on = if handed_on.era == self.progress.era.number { handed_on.lsn } else { Lsn::ZERO };
        let nothing_open = self.assembler.is_idle() && handed_on >= self.progress.queued;
        let reached = if nothing_open { self.kept_alive.max(handed_on) } else { handed_on };
        self.progress.reached = self.progress.reached.max(reached);
        self.flushed = self.flushed.max(self.window.confirm(self.progress.reached, Instant::now().into_std()));
        self.progress.flushed = self.flushed;
        let written = self.kept_alive.max(self.progress.queued).max(self.flushed);
        StatusUpdate { written, flushed: self.flushed, clock: postgres_clock(), reply }
    }
}

/// Waits until the slot of this stream is to be given up. Safe to cancel.
async fn ordered(order: &mut watch::Receiver<Order>, number: u64) {
    if order.wait_for(|order| order.of(number).is_some()).await.is_err() {
        // Nobody is left to order anything.
        std::future::pending().await
    }
}

fn status_interval(sender_timeout: Option<Duration>, silence_limit: Duration) -> Duration {
    let third = sender_timeout.map_or(STATUS_INTERVAL, |timeout| timeout / 3);
    third.min(silence_limit / 8).clamp(Duration::from_millis(10), STATUS_INTERVAL)
}

/// Microseconds since 2000-01-01 UTC.
pub(crate) fn postgres_clock() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH + POSTGRES_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_branches_off_where_a_commit_record_would_begin_lacks_a_transaction_that_came_in_part() {
        let next = Position { era: 1, commit_lsn: Lsn(10), ordinal: 3 };
        let mut progress = Progress { next, queued: Lsn(7), is_amid: true, ..Progress::default() };
        assert_eq!(progress.delivered(), Lsn(11));
        progress.is_amid = false;
        assert_eq!(progress.delivered(), Lsn(7));
    }
}
