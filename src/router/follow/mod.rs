//! `Follow`: the tables that policies look into, as the router has them. It says which are read when, holds the stream
//! meanwhile, applies every transaction to them before its rows are judged, and takes out what is in doubt: then the
//! policies are the database's. Why nothing is lost is written in `pg::lookup`.
//!
//! ```text
//! catalogue, source ──> Follow ──Request──> loader (one connection)
//! transactions ────────>  │ ^───Report────────┘
//!                         └──wish: begin the stream anew──> source
//! ```

mod entry;
mod loader;

use super::state::{LookupPhase, LookupState};
use crate::{
    change::{Fragment, value::TypeRegistry},
    lsn::Lsn,
    pg::{
        connect::describe,
        lookup::{Answer, Load, Outcome, PUBLICATION, Question, Wanted},
    },
    policy::{
        catalog::Catalog,
        facts::Carried,
        lookup::{Layout, Lookups},
    },
    shutdown::Tasks,
    source::{Kind, SourceState, StreamState, Wish},
};
use deadpool_postgres::Pool;
use entry::{Entry, Phase, is_long};
use loader::{Loader, Report, Request};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, Interval, MissedTickBehavior, interval},
};

/// How often it is asked whether the rows still are what they were read as, and what is waited for is over.
const QUESTION_INTERVAL: Duration = Duration::from_secs(1);

/// Why no table is read.
const NOT_OF_LOG: &str = "changes are read from the outbox, so the database decides";

/// What the operator may choose about lookup tables.
#[derive(Clone, Debug)]
pub struct Config {
    /// The publication clients subscribe to.
    pub publication: String,
    /// Bytes their rows may take.
    pub limit_bytes: usize,
    /// How long reading them may hold the stream.
    pub load_limit: Duration,
}

/// What `Follow` needs.
pub struct Parts {
    /// Its choices.
    pub config: Config,
    /// Where tables are read, with the text forms of the stream.
    pub pool: Pool,
    /// Where the source is told to begin anew.
    pub wish: watch::Sender<Wish>,
    /// Where the loader's task runs.
    pub tasks: Tasks,
}

/// What happened that `Follow::handle` takes.
pub struct Event(Happened);

enum Happened {
    Reported(Option<Report>),
    Ticked,
}

/// The tables that policies look into.
pub struct Follow {
    config: Config,
    lookups: Lookups,
    tables: BTreeMap<u32, Entry>,
    types: Arc<TypeRegistry>,
    era: u32,
    stream: Option<StreamState>,
    /// Since when the loader has been busy.
    busy: Option<Instant>,
    requests: mpsc::Sender<Request>,
    reports: mpsc::Receiver<Report>,
    wish: watch::Sender<Wish>,
    timer: Interval,
    /// Catalogues taken in so far, and those before the question that is under way.
    catalogs: u64,
    asked_after: u64,
    /// The tables that were ready when somebody asked last.
    ready: BTreeSet<u32>,
    /// Whether changes are read where no position says which of them a table that is read shows already.
    is_idle: bool,
}

impl Follow {
    /// Follows nothing yet; the loader's task is started.
    pub fn new(parts: Parts) -> Follow {
        // One request is under way at a time.
        let (requests, loader_requests) = mpsc::channel(1);
        let (loader_reports, reports) = mpsc::channel(1);
        let stop = parts.tasks.stop_token().clone();
        let loader = Loader { pool: parts.pool, requests: loader_requests, reports: loader_reports, stop };
        parts.tasks.spawn_essential("lookup loader", loader.run());
        let mut timer = interval(QUESTION_INTERVAL);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Follow {
            lookups: Lookups::new(parts.config.limit_bytes),
            config: parts.config,
            tables: BTreeMap::new(),
            types: Arc::default(),
            era: 0,
            stream: None,
            busy: None,
            requests,
            reports,
            wish: parts.wish,
            timer,
            catalogs: 0,
            asked_after: 0,
            ready: BTreeSet::new(),
            is_idle: false,
        }
    }

    /// An era begins, in the log or elsewhere. What was read counts for the era before only.
    pub fn begin_era(&mut self, kind: Kind) {
        let was_idle = std::mem::replace(&mut self.is_idle, kind != Kind::Log);
        if was_idle == self.is_idle {
            return;
        }
        for (table, entry) in &mut self.tables {
            self.lookups.drop_table(*table);
            entry.settled = None;
            entry.begin();
        }
        self.advance();
    }

    /// The rows.
    pub fn lookups(&self) -> &Lookups {
        &self.lookups
    }

    /// Whether nothing may be routed now.
    pub fn is_holding(&self) -> bool {
        self.tables.values().any(Entry::holds)
    }

    /// Whether the process may decide policies that look into a table.
    pub fn ready(&self, table: u32) -> bool {
        self.tables.get(&table).is_some_and(Entry::is_ready)
    }

    /// Whether other tables are ready than when this was asked last: then subscriptions are compiled again.
    pub fn take_changes(&mut self) -> bool {
        let ready: BTreeSet<u32> =
            self.tables.iter().filter(|(_, entry)| entry.is_ready()).map(|(&table, _)| table).collect();
        std::mem::replace(&mut self.ready, ready) != self.ready
    }

    /// Waits until there is something to handle. Safe to cancel.
    pub async fn event(&mut self) -> Event {
        tokio::select! {
            report = self.reports.recv(), if self.busy.is_some() => Event(Happened::Reported(report)),
            _ = self.timer.tick(), if !self.tables.is_empty() => Event(Happened::Ticked),
            else => std::future::pending().await,
        }
    }

    /// Takes what happened.
    pub fn handle(&mut self, Event(happened): Event) {
        match happened {
            Happened::Reported(report) => {
                let busy = self.busy.take();
                match report {
                    Some(Report::Loaded(outcomes)) => {
                        let held = busy.map(|since| since.elapsed()).unwrap_or_default();
                        tracing::info!(?held, "lookup tables read");
                        self.take_outcomes(outcomes);
                    }
                    Some(Report::Answered(Some(answer))) => self.take_answer(answer),
                    // It is asked again, and what is in doubt stays so.
                    Some(Report::Answered(None)) => {}
                    None => self.tables.values_mut().for_each(|entry| entry.refuse("its reader has ended".to_owned())),
                }
            }
            Happened::Ticked => {
                self.tables.values_mut().filter(|entry| entry.is_due()).for_each(Entry::begin);
                self.ask();
            }
        }
        self.advance();
    }

    /// Takes a new catalogue: what policies need, and of which tables.
    pub fn set_catalog(&mut self, catalog: &Catalog) {
        self.types = catalog.types.clone();
        self.catalogs += 1;
        let lookups = &mut self.lookups;
        self.tables.retain(|table, _| {
            let is_needed = catalog.lookups.contains_key(table) && catalog.facts.tables.contains_key(table);
            if !is_needed {
                lookups.drop_table(*table);
            }
            is_needed
        });
        for (table, need) in &catalog.lookups {
            // Without facts about it no policy can have been compiled.
            let Some(facts) = catalog.facts.tables.get(table) else { continue };
            let entry = self.tables.entry(*table).or_insert_with(|| Entry::new(facts.clone(), need.clone()));
            let differs = entry.differs(facts, need);
            (entry.facts, entry.need) = (facts.clone(), need.clone());
            match entry.phase {
                Phase::Ready if !self.lookups.serves(facts, need) => {
                    self.lookups.drop_table(*table);
                    entry.begin();
                }
                Phase::Stream(_) | Phase::Writers(_) | Phase::Failed { .. } if differs => entry.begin(),
                _ => {}
            }
        }
        // What made the catalogue change may have changed rows behind the stream's back: nothing is decided by them
        // before that is known.
        for entry in self.tables.values_mut().filter(|entry| matches!(entry.phase, Phase::Ready)) {
            entry.doubt = Some(self.catalogs);
        }
        self.timer.reset_immediately();
        self.advance();
    }

    /// Takes news of the stream.
    pub fn set_source(&mut self, source: &SourceState) {
        let before = self.stream.clone();
        if source.stream == before && source.era == self.era {
            return;
        }
        self.stream = source.stream.clone();
        let begins_anew = std::mem::replace(&mut self.era, source.era) != source.era;
        let Some(stream) = &self.stream else { return };
        let lookups_broke = before.is_some_and(|before| before.lookups_since != stream.lookups_since);
        for (table, entry) in &mut self.tables {
            if begins_anew {
                entry.settled = None;
            }
            let is_own = entry.facts.carried == Carried::Own;
            let began_before = entry.settled.as_ref().is_some_and(|(_, from)| *from > stream.from);
            let again = match &entry.phase {
                Phase::New | Phase::Loading => false,
                Phase::Ready => begins_anew || (is_own && lookups_broke) || began_before,
                Phase::Stream(from) => begins_anew || stream.from >= *from,
                Phase::Writers(_) | Phase::Failed { .. } => begins_anew,
            };
            if again {
                self.lookups.drop_table(*table);
                entry.begin();
            }
        }
        // What is being read now belongs to the stream before.
        if begins_anew || lookups_broke {
            self.tables.values_mut().filter(|entry| matches!(entry.phase, Phase::Loading)).for_each(Entry::begin);
        }
        self.advance();
    }

    /// Applies a transaction, or a part of it; the tables whose rows are others now. Ask for `take_changes` after that:
    /// a table may be out of service.
    pub fn apply_transaction(&mut self, fragments: &[Arc<Fragment>]) -> BTreeSet<u32> {
        let mut touched = BTreeSet::new();
        for fragment in fragments {
            for change in &fragment.changes {
                let table = change.relation.oid;
                let is_touched = match self.lookups.apply(change, fragment.xid, fragment.commit_lsn) {
                    Ok(is_touched) => is_touched,
                    Err(trouble) => {
                        if let Some(entry) = self.tables.get_mut(&table) {
                            entry.fail(trouble.to_string(), is_long(&trouble.into()));
                        }
                        true
                    }
                };
                if is_touched {
                    touched.insert(table);
                }
            }
        }
        touched
    }

    /// How the tables are doing.
    pub fn report(&self) -> Vec<LookupState> {
        let state = |(table, entry): (&u32, &Entry)| {
            let (rows, bytes) = self.lookups.size(*table).unwrap_or_default();
            let (phase, why) = match &entry.phase {
                Phase::New | Phase::Loading => (LookupPhase::Loading, None),
                Phase::Ready => (LookupPhase::Ready, None),
                Phase::Stream(_) => (LookupPhase::Waiting, Some("the stream must begin anew".to_owned())),
                Phase::Writers(_) => (LookupPhase::Waiting, Some("transactions that write to it must end".to_owned())),
                Phase::Failed { why, .. } => (LookupPhase::Failed, Some(why.clone())),
            };
            LookupState { table: entry.name(), phase, rows, bytes, why }
        };
        self.tables.iter().map(state).collect()
    }

    /// Has what is new read, unless the loader is busy; then it comes later.
    fn advance(&mut self) {
        if self.is_idle {
            let held = self.tables.values_mut().filter(|entry| entry.holds());
            held.for_each(|entry| entry.rest(NOT_OF_LOG));
            return;
        }
        let is_of_log = |stream: &StreamState| stream.kind == Kind::Log;
        let stream = self.stream.clone().filter(|stream| is_of_log(stream) && self.busy.is_none());
        let Some(stream) = stream else { return };
        let mut wanted = Vec::new();
        for (table, entry) in self.tables.iter_mut().filter(|(_, entry)| matches!(entry.phase, Phase::New)) {
            self.lookups.drop_table(*table);
            if let Some(table) = want(entry, &stream, &self.config.publication, &self.types) {
                wanted.push(table);
            }
        }
        if wanted.is_empty() {
            return;
        }
        let oids: Vec<u32> = wanted.iter().map(|wanted| wanted.layout.facts().oid).collect();
        let names: Vec<String> = oids.iter().filter_map(|oid| Some(self.tables.get(oid)?.name())).collect();
        tracing::info!(tables = names.join(", "), "changes are held while lookup tables are read");
        let room = self.lookups.room_without(&oids);
        let load = Load { tables: wanted, room, catalog_xmin: stream.catalog_xmin, limit: self.config.load_limit };
        self.request(Request::Load(Box::new(load)));
    }

    fn request(&mut self, request: Request) {
        let sent = self.requests.try_send(request);
        if sent.is_ok() {
            self.busy = Some(Instant::now());
        } else if self.requests.is_closed() {
            self.tables.values_mut().for_each(|entry| entry.refuse("its reader has ended".to_owned()));
        }
    }

    fn take_outcomes(&mut self, outcomes: Vec<(u32, Outcome)>) {
        for (table, outcome) in outcomes {
            // What was asked for before a new beginning, or is not needed any more, is of no use.
            let entry = self.tables.get_mut(&table).filter(|entry| matches!(entry.phase, Phase::Loading));
            let Some(entry) = entry else { continue };
            match outcome {
                Outcome::Loaded { rows, mark } => {
                    let (count, bytes) = (rows.len(), rows.bytes());
                    self.lookups.complete(*rows);
                    if self.lookups.serves(&entry.facts, &entry.need) {
                        tracing::info!(table = entry.name(), rows = count, bytes, "lookup table is followed");
                        entry.be_ready(mark);
                    } else {
                        // The catalogue has moved on meanwhile.
                        self.lookups.drop_table(table);
                        entry.begin();
                    }
                }
                Outcome::Writers(transactions) => {
                    tracing::info!(table = entry.name(), "lookup table waits for transactions that write to it");
                    entry.wait(Phase::Writers(transactions));
                }
                Outcome::Unsettled { membership, from } => {
                    entry.settled = Some((membership, from));
                    let is_own = entry.facts.carried == Carried::Own;
                    let has_begun =
                        |stream: &StreamState| stream.from >= from && (!is_own || stream.lookups_since.is_some());
                    if self.stream.as_ref().is_some_and(has_begun) {
                        entry.begin();
                        continue;
                    }
                    tracing::info!(table = entry.name(), %from, "lookup table waits for the stream to begin anew");
                    entry.wait(Phase::Stream(from));
                    self.wish.send_modify(|wish| {
                        *wish = Wish { from: wish.from.max(from), lookups: wish.lookups || is_own, ..*wish };
                    });
                }
                Outcome::Failed(error) => entry.fail(describe(&*error), is_long(&error)),
            }
        }
        // Another's failure ended the attempt before it was their turn.
        self.tables.values_mut().filter(|entry| matches!(entry.phase, Phase::Loading)).for_each(Entry::begin);
    }

    fn ask(&mut self) {
        if self.busy.is_some() {
            return;
        }
        let mut question = Question::default();
        for (table, entry) in &self.tables {
            match &entry.phase {
                Phase::Ready => question.tables.push((*table, publication(entry, &self.config.publication))),
                Phase::Writers(transactions) => question.transactions.extend(transactions.iter().cloned()),
                _ => {}
            }
        }
        if !question.tables.is_empty() || !question.transactions.is_empty() {
            self.asked_after = self.catalogs;
            self.request(Request::Ask(question));
        }
    }

    fn take_answer(&mut self, Answer { marks, open }: Answer) {
        for (table, entry) in &mut self.tables {
            entry.doubt = entry.doubt.filter(|catalog| *catalog > self.asked_after);
            let again = match &entry.phase {
                // One that is not in the answer is gone, or out of the publication: the catalogue will say so.
                Phase::Ready => marks.get(table).is_some_and(|mark| *mark != entry.mark),
                Phase::Writers(transactions) => !transactions.iter().any(|transaction| open.contains(transaction)),
                _ => false,
            };
            if again {
                self.lookups.drop_table(*table);
                entry.begin();
            }
        }
    }
}

/// The router's view.
impl super::intake::Follow for Follow {
    fn is_following(&self) -> bool {
        !self.tables.is_empty()
    }

    fn is_ready(&self, table: u32) -> bool {
        self.ready(table)
    }

    fn take_changes(&mut self) -> bool {
        self.take_changes()
    }

    fn lookups(&self) -> &Lookups {
        self.lookups()
    }

    fn set_catalog(&mut self, catalog: &Catalog) {
        self.set_catalog(catalog);
    }

    fn apply(&mut self, fragment: &Arc<Fragment>) -> BTreeSet<u32> {
        self.apply_transaction(std::slice::from_ref(fragment))
    }

    fn begin_era(&mut self, kind: Kind) {
        self.begin_era(kind);
    }

    fn distrust(&mut self) {
        for (table, entry) in &mut self.tables {
            self.lookups.drop_table(*table);
            // What is being read is held against a stream that has lost some of it.
            if matches!(entry.phase, Phase::Ready | Phase::Loading) {
                entry.begin();
            }
        }
        self.advance();
    }
}

/// What is to be read of a table, which is in the state of being read then; else its state says why not.
fn want(entry: &mut Entry, stream: &StreamState, main: &str, types: &TypeRegistry) -> Option<Wanted> {
    let layout = match Layout::new(entry.facts.clone(), entry.need.clone(), types) {
        Ok(layout) => layout,
        Err(trouble) => {
            entry.refuse(trouble.to_string());
            return None;
        }
    };
    if entry.facts.reader.is_none() {
        entry.refuse("no role that is granted to this server's login can read all of its rows".to_owned());
        return None;
    }
    let settled = entry.settled.clone().filter(|(_, from)| stream.from >= *from);
    let is_streamed = entry.facts.carried != Carried::Own || stream.lookups_since.is_some();
    if !is_streamed && settled.is_some() {
        // The stream has begun anew for it, without it.
        entry.settled = None;
        let why = stream.lookups_problem.clone().unwrap_or_default();
        entry.fail(format!("publication \"{PUBLICATION}\" is not in the stream: {why}"), false);
        return None;
    }
    entry.phase = Phase::Loading;
    let trusted = settled.map(|(membership, _): (String, Lsn)| membership);
    Some(Wanted { publication: publication(entry, main), layout, is_streamed, trusted })
}

fn publication(entry: &Entry, main: &str) -> String {
    if entry.facts.carried == Carried::Own { PUBLICATION.to_owned() } else { main.to_owned() }
}
