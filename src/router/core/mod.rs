//! `RouterCore`: fragments in, deliveries out; the subscriptions and their index. Pure: it waits for nothing.
//!
//! A subscription whose member lags is *behind*: it gets nothing live, is served from the backlog in slices when its
//! outbox has drained, and is live again at the head. No gap, no double; and when the backlog is too short for that,
//! the client is told.
//!
//! `deliver` routes live changes, `catch_up` serves those behind, `look` sees to it that they are served by rights of now, `resume` says where those stand who come back, `rights` tells whom a change of rights concerns, `time` what
//! changes by itself. The
//! rows of other tables that policies look into are the caller's; the time is, too.

mod catch_up;
mod deliver;
mod doubt;
mod look;
mod lost;
mod resume;
mod rights;
mod time;

use super::{
    SubscriptionKey,
    backlog::Backlog,
    deadlines::Deadlines,
    index::SubscriptionIndex,
    reading::Reading,
    shared::Shared,
    subscription::{Compiled, Ready, Subscription, compile},
};
use crate::{
    change::{
        cursor::Cursor,
        position::{Era, Position},
    },
    claims::Claims,
    hub::{Generation, MessageForm, Standing},
    limits::Meters,
    lsn::Lsn,
    messages::Publisher,
    metrics::Metrics,
    policy::catalog::Catalog,
    protocol::refusal,
    source::{Kind, SourceState, WindowConfig},
};
use deliver::ColumnMaps;
use look::{Look, Pause};
use resume::KnownEra;
use rights::Onlookers;
use slab::Slab;
use std::{
    collections::{BTreeSet, HashSet, VecDeque},
    sync::Arc,
};
use tokio::sync::Notify;

/// What the operator may choose about deliveries.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether a DELETE that cannot be judged, because only the key was logged, is kept from everybody.
    pub strict_deletes: bool,
    /// A change whose images take more bytes than this is sent as an error with its small values only.
    pub max_record_bytes: usize,
    /// Bytes of the last changes that are kept for those who lag or come back.
    pub backlog_bytes: usize,
    /// For how long and how far the slot keeps what is behind a cursor: clients get new ones often enough.
    pub resume_window: WindowConfig,
    /// Bytes of one transaction that are kept in memory until all of it has come; what is beyond goes to a file.
    pub transaction_bytes: usize,
    /// What is counted against limits: a row change is an event for each subscription it goes to.
    pub meters: Arc<Meters>,
}

/// Roles and tables the log names at most between two catalogues.
const KNOWN_MUTE: usize = 1000;

/// Why a subscription was compiled.
#[derive(Clone, Copy)]
enum News {
    /// It begins, or goes on in the name of other claims.
    Fresh(Standing<'static>),
    /// What it is compiled against has changed.
    Compiled,
}

struct Active {
    /// Tells it from the one that had its place before.
    number: u64,
    subscription: Subscription,
    compiled: Compiled,
    generation: Generation,
    /// The cursor it came back with, when that is within a transaction.
    came_with: Option<Cursor>,
    /// The first change it has not been offered, while it is served from the backlog.
    behind: Option<Position>,
    /// How fast it takes in what it is served.
    reading: Reading,
    /// Since when it takes in nothing.
    pause: Pause,
    /// When it was seen to hold a cursor that is new enough, in microseconds since 2000-01-01 UTC.
    fresh_at: i64,
}

pub(in crate::router) struct RouterCore {
    config: Config,
    metrics: Arc<Metrics>,
    messages: Publisher,
    catalog: Arc<Catalog>,
    active: Slab<Active>,
    next_number: u64,
    index: SubscriptionIndex,
    maps: ColumnMaps,
    shared: Shared,
    /// Who hears of changes of rights.
    onlookers: Onlookers,
    /// Rows that time will move in or out of somebody's sight.
    deadlines: Deadlines,
    /// Whether others may be watching than `deadlines` knows.
    watchers_changed: bool,
    /// Everything before this has been routed.
    head: Position,
    /// The eras whose positions mean something, the newest last.
    eras: Vec<KnownEra>,
    /// Where changes are read.
    kind: Kind,
    /// The number of the stream that began last.
    stream: u64,
    /// The tables whose changes nobody captures.
    uncaptured: Arc<BTreeSet<u32>>,
    /// When cursors were looked at last, in microseconds since 2000-01-01 UTC, and where the head was.
    looked_at: (i64, Position),
    backlog: Backlog,
    /// The subscriptions that are behind, whose turn it is first; some may be gone.
    behind: VecDeque<SubscriptionKey>,
    /// Those who came back within a transaction that has not come; some may be gone.
    awaiting: Vec<SubscriptionKey>,
    /// When rights were looked at.
    look: Look,
    /// Woken by members that begin to lag.
    lagging: Arc<Notify>,
    /// Roles and tables of which the log has said that subscriptions get nothing.
    known_mute: HashSet<(Arc<str>, String)>,
    /// The commit of a transaction of which a part has been routed, and the rest is to come.
    open: Option<Lsn>,
    /// Tables of which nobody can say now who may see their rows.
    doubtful: HashSet<u32>,
    /// The era whose publication is gone, and the commit behind which that shows.
    lost_from: Option<(u32, Lsn)>,
}

impl RouterCore {
    pub(super) fn new(config: Config, metrics: Arc<Metrics>, messages: Publisher, catalog: Arc<Catalog>) -> RouterCore {
        RouterCore {
            backlog: Backlog::new(config.backlog_bytes),
            config,
            metrics,
            messages,
            catalog,
            active: Slab::new(),
            next_number: 0,
            index: SubscriptionIndex::default(),
            maps: ColumnMaps::default(),
            shared: Shared::default(),
            onlookers: Onlookers::default(),
            deadlines: Deadlines::default(),
            watchers_changed: false,
            head: Position::default(),
            eras: Vec::new(),
            kind: Kind::default(),
            stream: 0,
            uncaptured: Arc::default(),
            looked_at: (0, Position::default()),
            behind: VecDeque::new(),
            awaiting: Vec::new(),
            look: Look::default(),
            lagging: Arc::new(Notify::new()),
            known_mute: HashSet::new(),
            open: None,
            doubtful: HashSet::new(),
            lost_from: None,
        }
    }

    /// Woken when a member begins to lag.
    pub(super) fn lagging(&self) -> Arc<Notify> {
        self.lagging.clone()
    }

    /// What is counted.
    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// How many subscriptions are served from the backlog.
    pub(super) fn behind(&self) -> usize {
        self.behind.len()
    }

    /// Bytes of the changes that are kept for them.
    pub(super) fn backlog_bytes(&self) -> usize {
        self.backlog.bytes()
    }

    /// Whether anybody is behind.
    pub(super) fn has_behind(&self) -> bool {
        !self.behind.is_empty() || self.onlookers.wait()
    }

    /// Whether a part of the transaction that committed here has been routed, and the rest is to come.
    pub(super) fn is_amid(&self, commit_lsn: Lsn) -> bool {
        self.open == Some(commit_lsn)
    }

    /// The era of a transaction of which a part has been routed, and the rest is to come.
    pub(super) fn era_amid(&self) -> Option<Era> {
        self.open.and_then(|_| self.eras.last()).map(KnownEra::era)
    }

    /// Starts a subscription: the join's reply if it was held back, what is wrong with bindings, and that the others
    /// are active; then it is entered. A join that waits and has a binding that cannot work is refused with the reason.
    /// Of a transaction that is being routed it gets nothing: half of one would be worse, and nobody waits for its end.
    pub(super) fn subscribe(
        &mut self,
        mut subscription: Subscription,
        ready: Ready<'_>,
    ) -> Result<SubscriptionKey, String> {
        let compiled = compile(&subscription, &self.catalog, ready, &mut self.shared);
        if let Some(reply) = subscription.held_reply.take() {
            if let Some(error) = compiled.errors.first() {
                return Err(error.clone());
            }
            subscription.member.deliver(reply);
        }
        let (prepared, entrance) = (subscription.start, self.entrance(&subscription));
        subscription.start = entrance.start;
        subscription.member.wake_on_lag(self.lagging.clone());
        let number = self.next_number;
        self.next_number += 1;
        let place = self.active.insert(Active {
            number,
            subscription,
            compiled: Compiled::default(),
            generation: Generation::default(),
            came_with: entrance.came_with,
            behind: None,
            reading: Reading::default(),
            pause: Pause::default(),
            fresh_at: self.looked_at.0,
        });
        self.install(place, compiled, News::Fresh(entrance.standing));
        self.onlookers.begin(prepared);
        let is_active = self.active[place].compiled.working > 0;
        match (entrance.standing.resumed, entrance.standing.reason) {
            (true, _) => {
                self.metrics.resumed.add(1);
                self.tell_of_absence(place, entrance.start);
                if entrance.came_with.is_some() && !self.has_come(entrance.start) {
                    self.awaiting.push(SubscriptionKey { place, number });
                }
                if entrance.start < self.head {
                    self.serve_from(place, entrance.start);
                }
            }
            (false, Some(_)) if is_active => self.metrics.not_resumed.add(1),
            (false, _) => {}
        }
        Ok(SubscriptionKey { place, number })
    }

    /// The place of a subscription, while it is there.
    fn place(&self, key: SubscriptionKey) -> Option<usize> {
        self.active.get(key.place).filter(|active| active.number == key.number).map(|_| key.place)
    }

    /// Puts a compiled subscription in the place of the one before, and tells its client what is new about it.
    fn install(&mut self, key: usize, compiled: Compiled, news: News) {
        self.leave(key);
        self.exchange(key, compiled, news);
        self.enter(key);
    }

    /// The same while the subscription is not in the index.
    fn exchange(&mut self, key: usize, compiled: Compiled, news: News) {
        let is_fresh = matches!(news, News::Fresh(_));
        if is_fresh {
            self.note_mute(&self.active[key].subscription.claims.role.clone(), &compiled);
        }
        let active = &mut self.active[key];
        let before = std::mem::replace(&mut active.compiled, compiled);
        let member = &active.subscription.member;
        let errors = &active.compiled.errors;
        for error in errors.iter().filter(|error| is_fresh || !before.errors.contains(error)) {
            member.deliver_system("postgres_changes", false, error);
        }
        let is_resumable = member.form() == MessageForm::Resumable;
        // Whoever keeps an account of what he has hears of each binding that works again.
        let recovered =
            before.errors.iter().any(|error| !errors.contains(error)) && (is_resumable || errors.is_empty());
        let is_active = active.compiled.working > 0 && (is_fresh || recovered);
        match news {
            _ if !is_active => {}
            _ if !is_resumable => {
                member.deliver_system("postgres_changes", true, refusal::SUBSCRIBED);
            }
            News::Fresh(standing) => {
                member.deliver_standing(true, refusal::SUBSCRIBED, &standing);
            }
            News::Compiled => {
                let standing = Standing { reason: Some(refusal::BINDING_INACTIVE), ..self.standing(key) };
                self.active[key].subscription.member.deliver_standing(true, refusal::SUBSCRIBED, &standing);
            }
        }
        if is_fresh {
            self.tell_of_source(key);
        }
    }

    /// What a client is told of the source behind having been subscribed: what it cannot promise.
    fn tell_of_source(&self, key: usize) {
        let Active { subscription, compiled, .. } = &self.active[key];
        if self.kind != Kind::Outbox || compiled.working == 0 {
            return;
        }
        subscription.member.deliver_system("postgres_changes", true, refusal::FROM_OUTBOX);
        let uncaptured = compiled.tables.iter().filter(|(table, _)| self.uncaptured.contains(table));
        let mut names: Vec<String> =
            uncaptured.map(|(_, found)| format!("{}.{}", found.table.schema, found.table.name)).collect();
        names.sort_unstable();
        if !names.is_empty() {
            subscription.member.deliver_system("postgres_changes", true, &refusal::not_captured(&names));
        }
    }

    /// Takes news of the source.
    pub(super) fn set_source(&mut self, source: &SourceState) {
        self.uncaptured = source.uncaptured.clone();
        let Some(stream) = source.stream.as_ref().filter(|stream| stream.number != self.stream) else { return };
        self.stream = stream.number;
        if let Some(end) = stream.log_end.filter(|_| source.era == self.head.era) {
            self.shorten(end);
        }
    }

    /// "No error, no event": the client is told nothing, as by the server we replace, but the operator can find out.
    fn note_mute(&mut self, role: &Arc<str>, compiled: &Compiled) {
        self.metrics.mute_subscriptions.add(compiled.mute.len());
        for (table, why) in &compiled.mute {
            if self.known_mute.len() < KNOWN_MUTE && self.known_mute.insert((role.clone(), table.clone())) {
                tracing::info!(%role, table, why, "a subscription gets nothing of a table");
            }
        }
    }

    /// Gives a subscription other claims, from the next change on.
    pub(super) fn replace_claims(&mut self, key: SubscriptionKey, claims: Claims, ready: Ready<'_>) {
        let Some(place) = self.place(key) else { return };
        self.active[place].subscription.claims = claims;
        let compiled = compile(&self.active[place].subscription, &self.catalog, ready, &mut self.shared);
        let standing = Standing { resumed: true, ..self.standing(place) };
        self.install(place, compiled, News::Fresh(standing));
    }

    pub(super) fn unsubscribe(&mut self, key: SubscriptionKey) {
        if let Some(place) = self.place(key) {
            self.remove(place);
        }
    }

    fn remove(&mut self, place: usize) {
        self.leave(place);
        self.active.remove(place);
    }

    /// A transaction could not be kept until all of it had come, so rows of it would be judged by half of what it says:
    /// whoever's rights depend on other tables hears that changes are lost to him. Nobody else joins amid it.
    pub(super) fn lose_lookups(&mut self, commit_lsn: Lsn) {
        self.open = Some(commit_lsn);
        self.lose_where(|active| active.compiled.looked_up().next().is_some());
    }

    /// Changes of any table are lost up to here, also to whoever comes back later: nobody is served across them.
    pub(super) fn lose_all(&mut self, behind: Position) {
        self.open = None;
        self.head = self.head.max(behind);
        self.backlog.begin(self.head);
        self.lose_where(|_| true);
    }

    fn lose_where(&mut self, depends: impl Fn(&Active) -> bool) {
        let places: Vec<usize> =
            self.active.iter().filter(|(_, active)| depends(active)).map(|(place, _)| place).collect();
        for place in places {
            self.miss(place, refusal::CHANGES_UNDECIDED);
        }
    }

    /// Forgets subscriptions whose connection is gone.
    pub(super) fn sweep(&mut self) {
        let gone: Vec<usize> = self
            .active
            .iter()
            .filter(|(_, active)| active.subscription.member.is_ended())
            .map(|(key, _)| key)
            .collect();
        for place in gone {
            self.remove(place);
        }
    }

    pub(super) fn subscriptions(&self) -> usize {
        self.active.len()
    }

    /// Takes a new catalogue and compiles every subscription again, in place. Who is affected is told.
    pub(super) fn set_catalog(&mut self, catalog: Arc<Catalog>, ready: Ready<'_>) {
        self.catalog = catalog;
        // What is known is of its tables.
        self.maps = ColumnMaps::default();
        // What changed the catalogue may have changed rows behind the stream's back.
        self.deadlines.forget();
        self.known_mute.clear();
        self.compile_again(ready);
    }

    /// Whether it goes by this catalogue.
    pub(super) fn has_catalog(&self, catalog: &Catalog) -> bool {
        self.catalog.version == catalog.version
    }

    /// Compiles every subscription again, in place: the catalogue is another one, or lookup tables have become ready or
    /// cannot be followed any more.
    pub(super) fn compile_again(&mut self, ready: Ready<'_>) {
        // Made anew as wholes, rather than taken apart entry by entry.
        self.index = SubscriptionIndex::default();
        self.onlookers.clear();
        self.watchers_changed = true;
        let keys: Vec<usize> = self.active.iter().map(|(key, _)| key).collect();
        for key in keys {
            let compiled = compile(&self.active[key].subscription, &self.catalog, ready, &mut self.shared);
            self.exchange(key, compiled, News::Compiled);
            self.enter(key);
        }
    }

    fn enter(&mut self, key: usize) {
        let Some(active) = self.active.get(key) else { return };
        for table in active.compiled.tables.values() {
            self.index.insert(key, table);
        }
        if active.subscription.visibility {
            self.onlookers.insert(key, &active.compiled);
            self.watchers_changed |= active.compiled.is_timed();
        }
    }

    fn leave(&mut self, key: usize) {
        let Some(active) = self.active.get(key) else { return };
        for table in active.compiled.tables.values() {
            self.index.remove(key, table);
        }
        self.onlookers.remove(key, &active.compiled);
        self.watchers_changed |= active.subscription.visibility && active.compiled.is_timed();
    }
}

#[cfg(test)]
mod tests;
