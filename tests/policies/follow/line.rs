//! A slot, the stream, and `Follow` behind it, as the router has them, driven by hand.

use crate::support::postgres::Database;
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;
use tokio_postgres::Client;
use walcast::{
    change::{
        Fragment,
        relation::ReplicaIdentity,
        value::{TypeInfo, TypeKind, TypeRegistry},
    },
    pg::{Target, connect::TEXT_FORMS},
    policy::{
        catalog::{Catalog, Collation, TableColumn},
        facts::{Carried, Facts, TableFacts},
        lookup::Need,
    },
    router::{Follow, FollowConfig, FollowParts, LookupPhase},
    shutdown::Tasks,
    source::{
        Feed, FeedReceiver, HandedOn, SourceState, WindowConfig, Wish, feed, slot::Config, slot_task::Walreceiver,
    },
};

const LIMIT: Duration = Duration::from_secs(60);

/// The parts in the order in which the router has them.
pub struct Line {
    pub follow: Follow,
    feed: FeedReceiver,
    handed_on: watch::Sender<HandedOn>,
    source: watch::Receiver<SourceState>,
    wish: watch::Receiver<Wish>,
    tasks: Tasks,
    /// Everything that has passed, in order.
    pub passed: Vec<Arc<Fragment>>,
    held: Option<Arc<Fragment>>,
    /// Whether a table that is out of service may come back; else that is a failure of the test.
    pub may_fail: bool,
}

impl Line {
    /// Streams into a new follower that follows nothing yet.
    pub fn start(url: &str, slot: &str, config: FollowConfig) -> Line {
        let target = Target::parse(url).unwrap();
        let (feed_in, feed) = feed(8, 1 << 20);
        let (handed_on, handed_on_reader) = watch::channel(HandedOn::default());
        let (state, source) = watch::channel(SourceState::default());
        let (wish, wish_reader) = watch::channel(Wish::default());
        let tasks = Tasks::new();
        let pool = target.pool("follow", 1, TEXT_FORMS).unwrap();
        let follow = Follow::new(FollowParts { config, pool, wish, tasks: tasks.clone() });
        let walreceiver = Walreceiver {
            target,
            config: Config {
                publication: "supabase_realtime".to_owned(),
                slot: slot.to_owned(),
                temporary: false,
                application: "walcast".to_owned(),
                lookups: true,
                messages: true,
                window: WindowConfig::default(),
                silence_limit: Duration::from_secs(40),
            },
            feed: feed_in,
            handed_on: handed_on_reader,
            wish: wish_reader.clone(),
            order: watch::channel(walcast::source::Order::default()).1,
            state,
            stop: tasks.stop_token().clone(),
        };
        tasks.spawn("walreceiver", walreceiver.run());
        Line {
            follow,
            feed,
            handed_on,
            source,
            wish: wish_reader,
            tasks,
            passed: Vec::new(),
            held: None,
            may_fail: false,
        }
    }

    /// The same for a database of the tests.
    pub fn of(database: &Database) -> Line {
        Line::start(&database.walcast_url(), &database.slot(), config())
    }

    /// Waits until the stream runs, so that the slot is there.
    pub async fn streaming(&mut self) {
        let running = self.source.wait_for(|state| state.streaming);
        tokio::time::timeout(LIMIT, running).await.expect("a stream in time").unwrap();
        let state = self.source.borrow().clone();
        self.follow.set_source(&state);
    }

    pub fn source(&self) -> SourceState {
        self.source.borrow().clone()
    }

    /// Goes on, as the router does, until it is so. What has passed is looked at after each transaction.
    #[track_caller]
    pub fn until(&mut self, mut is_so: impl FnMut(&Line) -> bool) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let start = Instant::now();
            while !is_so(self) {
                let report = self.follow.report();
                let has_failed = report.iter().any(|table| table.phase == LookupPhase::Failed);
                assert!(self.may_fail || !has_failed, "while waiting at {caller}: {report:?}");
                assert!(
                    start.elapsed() < LIMIT,
                    "in vain at {caller}: {report:?}\n{:?} {:?}",
                    self.source(),
                    self.wish.borrow()
                );
                let _ = tokio::time::timeout(Duration::from_millis(50), self.step()).await;
            }
        }
    }

    /// One turn of the router's loop.
    async fn step(&mut self) {
        if !self.follow.is_holding()
            && let Some(fragment) = self.held.take()
        {
            self.follow.apply_transaction(std::slice::from_ref(&fragment));
            if let Some(lsn) = fragment.end_lsn {
                self.handed_on.send_replace(HandedOn { era: fragment.era.number, lsn });
            }
            self.passed.push(fragment);
            return;
        }
        tokio::select! {
            biased;
            event = self.follow.event() => self.follow.handle(event),
            Ok(()) = self.source.changed() => {
                let state = self.source.borrow_and_update().clone();
                self.follow.set_source(&state);
            }
            fed = self.feed.recv(), if self.held.is_none() => {
                self.held = match fed {
                    Some(Feed::Fragment(fragment)) => Some(fragment),
                    Some(Feed::Begin(_)) | None => None,
                };
            }
        }
    }

    /// Ends the stream and the follower.
    pub async fn stop(self) {
        let Line { feed, tasks, .. } = self;
        drop(feed);
        assert!(tasks.stop(LIMIT).await);
    }

    /// How a table is doing: its state's name and the reason.
    pub fn state(&self) -> (&'static str, String) {
        let report = self.follow.report();
        let state = report.first().expect("a table that is followed");
        (state.phase.name(), state.why.clone().unwrap_or_default())
    }

    pub fn is_ready(&self) -> bool {
        self.state().0 == "ready"
    }

    /// Whether the rows of a table are those of the stream's own position, and not of a snapshot it has not reached.
    pub fn is_past_snapshot(&self, table: u32) -> bool {
        let last = self.passed.last().map(|fragment| fragment.commit_lsn);
        last.zip(self.follow.lookups().current_from(table)).is_some_and(|(last, from)| last >= from)
    }

    /// Whether a transaction has passed that wrote this number into `marks`.
    pub fn has_passed(&self, mark: i64) -> bool {
        let text = mark.to_string();
        let rows = self.passed.iter().flat_map(|fragment| &fragment.changes);
        let marks = rows.filter(|change| change.relation.name == "marks").filter_map(|change| change.new.as_ref());
        marks
            .into_iter()
            .any(|row| matches!(&row.0[0], walcast::change::Datum::Text(found) if **found == *text.as_bytes()))
    }

    /// What the rows of a table are now: the values that are kept, sorted.
    pub fn rows(&self, table: u32, columns: &[usize]) -> Vec<Vec<String>> {
        let found = self.follow.lookups().find(table, &[], &[]);
        let mut rows: Vec<Vec<String>> =
            found.map(|row| columns.iter().map(|&column| text(row.get(column).unwrap())).collect()).collect();
        rows.sort();
        rows
    }
}

pub fn config() -> FollowConfig {
    FollowConfig {
        publication: "supabase_realtime".to_owned(),
        limit_bytes: 64 * 1024 * 1024,
        load_limit: Duration::from_secs(20),
    }
}

/// A value as Postgres would print it.
pub fn text(value: &walcast::policy::value::Value) -> String {
    use walcast::policy::value::Value;
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Text(value) => value.to_string(),
        other => panic!("{other:?}"),
    }
}

/// What the catalogue says of a table, and that policies need all of its columns, by all rows and by these keys.
pub async fn facts(client: &Client, name: &str, carried: Carried, reader: Option<Option<&str>>) -> TableFacts {
    let row = client
        .query_one("select oid, relreplident::text from pg_class where oid = $1::text::regclass", &[&name])
        .await
        .unwrap();
    let (oid, replica_identity): (u32, &str) = (row.get(0), row.get(1));
    let rows = client
        .query(
            "select attnum, attname, atttypid, coalesce((
                 select case c.relreplident when 'f' then true
                        when 'i' then bool_or(i.indisreplident and a.attnum = any (i.indkey))
                        else bool_or(i.indisprimary and a.attnum = any (i.indkey)) end
                 from pg_index i where i.indrelid = c.oid), c.relreplident = 'f')
             from pg_attribute a join pg_class c on c.oid = a.attrelid
             where a.attrelid = $1 and attnum > 0 and not attisdropped order by attnum",
            &[&oid],
        )
        .await
        .unwrap();
    let column = |row: &tokio_postgres::Row| TableColumn {
        number: row.get(0),
        name: row.get(1),
        type_oid: row.get(2),
        type_name: String::new(),
        collation: Collation::None,
        collation_oid: 0,
        generated: None,
    };
    TableFacts {
        oid,
        schema: "public".to_owned(),
        name: name.to_owned(),
        is_ordinary: true,
        columns: rows.iter().map(column).collect(),
        unique_keys: Vec::new(),
        replica_identity: match replica_identity {
            "f" => ReplicaIdentity::Full,
            "i" => ReplicaIdentity::Index,
            _ => ReplicaIdentity::Default,
        },
        identity: (0..rows.len()).filter(|&at| rows[at].get(3)).collect(),
        carried,
        has_usable_identity: true,
        reader: reader.map(|role| role.map(Into::into)),
        estimated_rows: 0,
        policies: Vec::new(),
        rights: HashMap::new(),
    }
}

/// All columns, all rows, and rows by each of these sets of columns.
pub fn need(facts: &TableFacts, keys: &[&[usize]]) -> Need {
    let mut need = Need { columns: (0..facts.columns.len()).collect(), keys: BTreeSet::from([BTreeSet::new()]) };
    need.keys.extend(keys.iter().map(|key| key.iter().copied().collect::<BTreeSet<usize>>()));
    need
}

/// A catalogue that needs no more than these tables.
pub fn catalog(tables: &[(&TableFacts, Need)]) -> Catalog {
    let oids = [16, 20, 23, 25];
    let info = |oid| TypeInfo { oid, name: String::new(), sql_name: String::new(), kind: TypeKind::Base };
    Catalog {
        types: Arc::new(TypeRegistry::new(oids.map(info))),
        facts: Arc::new(Facts {
            tables: tables.iter().map(|(facts, _)| (facts.oid, Arc::new((*facts).clone()))).collect(),
            ..Facts::default()
        }),
        lookups: tables.iter().map(|(facts, need)| (facts.oid, need.clone())).collect(),
        ..Catalog::default()
    }
}
