//! What the router's tests share: one table of texts, policies over it, changes of it, and clients that keep what they
//! are told.

use super::{
    core::{Config, RouterCore},
    subscription::{CastKey, CastValues, Ready, Subscription},
};
use crate::{
    change::{
        Change, Datum, Fragment, OldRow, Operation, Row,
        cursor::Beside,
        position::{Era, Position},
        relation::{Column, Relation, ReplicaIdentity},
        value::{TypeInfo, TypeKind, TypeRegistry},
    },
    claims::Claims,
    hub::{Member, MemberId, MessageForm, OutboxReceiver, Rooms, outbox},
    lsn::Lsn,
    messages::Publisher,
    policy::{
        analyse::Clause,
        binding::{Binding, BindingRequest},
        catalog::{Access, Catalog, Collation, CompiledPolicy, RowPolicy, RowRule, Table, TableColumn},
        expr::{ColumnRef, Expr, Lookup, Output, Source},
        facts::{Carried, Facts, TableFacts},
        filter::casts_needed,
        functions::{CollationUse, Function},
        program::Program,
        value::{Stop, Value},
    },
    protocol::{BadFrame, Broadcast, Codec, Event, Frame, Push, Reply},
    source::WindowConfig,
};
use serde_json::{Value as Json, json};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

/// No table is looked into.
pub(super) const NONE: Ready<'_> = &|_| false;

/// The table: `id` is its key.
pub(super) const TABLE: u32 = 1;
/// A table that policies look into.
pub(crate) const MEMBERS: u32 = 2;
pub(super) const COLUMNS: [&str; 4] = ["id", "owner", "state", "body"];
const OWNER: usize = 1;
const STATE: usize = 2;
const TEXT: u32 = 25;
pub(crate) const ROLE: &str = "authenticated";

/// Frames as JSON: the event and its payload.
struct Plain;

impl Codec for Plain {
    fn name(&self) -> &'static str {
        "plain"
    }
    fn names_joins(&self) -> bool {
        true
    }
    fn decode_text(&self, _: &str) -> Result<Push, BadFrame> {
        Err(BadFrame("nobody speaks"))
    }
    fn decode_binary(&self, _: &[u8]) -> Result<Push, BadFrame> {
        Err(BadFrame("nobody speaks"))
    }
    fn reply(&self, _: &Reply<'_>) -> Frame {
        Frame::text("{}".to_owned())
    }
    fn event(&self, event: &Event<'_>) -> Frame {
        Frame::text(format!(r#"{{"event":"{}","payload":{}}}"#, event.event, event.payload))
    }
    fn broadcast(&self, _: &str, broadcast: &Broadcast) -> Option<Frame> {
        let payload = broadcast.text()?;
        Some(Frame::text(format!(r#"{{"event":"broadcast","payload":{payload}}}"#)))
    }
}

/// `=` of texts.
static EQUAL: Function = Function {
    name: "=",
    may_fail: false,
    is_strict: true,
    collation: CollationUse::Equality,
    is_hash_equality: true,
    needs_utc: false,
    eval: |arguments, _| Ok(Value::Bool(arguments[0] == arguments[1])),
};
/// The claim `sub`; fails where that is `boom`.
static SUBJECT: Function = Function {
    name: "sub",
    may_fail: true,
    is_strict: true,
    collation: CollationUse::None,
    is_hash_equality: false,
    needs_utc: false,
    eval: |arguments, _| match &arguments[0] {
        Value::Text(claims) => {
            let claims: Json = serde_json::from_str(claims).map_err(|_| Stop::Failed("22P02"))?;
            match claims["sub"].as_str() {
                Some("boom") => Err(Stop::Failed("22P02")),
                sub => Ok(sub.map_or(Value::Null, |sub| Value::Text(sub.into()))),
            }
        }
        _ => Err(Stop::Unsupported),
    },
};
/// Fails on `bad`, and is true else.
static PICKY: Function = Function {
    name: "picky",
    may_fail: true,
    is_strict: true,
    collation: CollationUse::None,
    is_hash_equality: false,
    needs_utc: false,
    eval: |arguments, _| {
        if arguments[0] == text_value("bad") { Err(Stop::Failed("22012")) } else { Ok(Value::Bool(true)) }
    },
};

fn text_value(text: &str) -> Value {
    Value::Text(text.into())
}

fn column(column: usize) -> Expr {
    Expr::Column(ColumnRef { scope: 0, column })
}

/// `owner = sub`.
pub(crate) fn is_owner() -> Expr {
    Expr::Call(&EQUAL, vec![column(OWNER), Expr::Call(&SUBJECT, vec![Expr::Claims])])
}

/// `state = ...`.
pub(super) fn state_is(state: &str) -> Expr {
    Expr::Call(&EQUAL, vec![column(STATE), Expr::Const(text_value(state))])
}

/// `id = ...`: what a bare key decides.
pub(super) fn id_is(id: &str) -> Expr {
    Expr::Call(&EQUAL, vec![column(0), Expr::Const(text_value(id))])
}

/// Fails where the state is `bad`.
pub(super) fn state_is_not_bad() -> Expr {
    Expr::Call(&PICKY, vec![column(STATE)])
}

/// A row of `MEMBERS` has the state and the subscriber.
pub(crate) fn is_member() -> Expr {
    let subject = Expr::Call(&SUBJECT, vec![Expr::Claims]);
    let source = Source { table: MEMBERS, keys: vec![(0, column(STATE)), (1, subject)], conditions: Vec::new() };
    Expr::Lookup(Box::new(Lookup { sources: vec![source], first_scope: 1, output: Output::Exists }))
}

/// A rule the process decides, of this policy.
pub(super) fn compiled(expr: Expr) -> RowRule {
    compiled_or_asked(expr, database_policy())
}

/// The same, and what the database is asked where the process cannot decide.
pub(crate) fn compiled_or_asked(expr: Expr, fallback: Arc<RowPolicy>) -> RowRule {
    let clause = Clause { policy: "p".to_owned(), permissive: true, text: String::new(), expr };
    let program = Program::new(&Facts { types: types(), ..Facts::default() }, &facts(TABLE, "t"), vec![clause]);
    RowRule::Compiled(Arc::new(CompiledPolicy { program, fallback }))
}

/// What policies know of a table.
pub(crate) fn facts(oid: u32, name: &str) -> TableFacts {
    TableFacts {
        oid,
        schema: "public".to_owned(),
        name: name.to_owned(),
        is_ordinary: true,
        columns: columns(),
        unique_keys: vec![vec![0]],
        replica_identity: ReplicaIdentity::Default,
        identity: vec![0],
        carried: Carried::Main,
        has_usable_identity: true,
        reader: Some(None),
        estimated_rows: 0,
        policies: Vec::new(),
        rights: HashMap::new(),
    }
}

/// A policy only the database decides.
pub(super) fn database_policy() -> Arc<RowPolicy> {
    Arc::new(RowPolicy { expression: "random() < 2".to_owned(), reads: None, why: Vec::new() })
}

pub(crate) fn types() -> Arc<TypeRegistry> {
    let text = TypeInfo { oid: TEXT, name: "text".to_owned(), sql_name: "text".to_owned(), kind: TypeKind::Base };
    Arc::new(TypeRegistry::new([text]))
}

fn columns() -> Vec<TableColumn> {
    let column = |(number, name): (i16, &&str)| TableColumn {
        number,
        name: (*name).to_owned(),
        type_oid: TEXT,
        type_name: "text".to_owned(),
        collation: Collation::Deterministic,
        collation_oid: 100,
        generated: None,
    };
    (1..).zip(&COLUMNS).map(column).collect()
}

/// The table under this rule.
pub(super) fn catalog(rows: RowRule) -> Arc<Catalog> {
    catalog_of("1", vec![table(TABLE, "t", rows)])
}

/// These tables.
pub(crate) fn catalog_of(version: &str, tables: Vec<Table>) -> Arc<Catalog> {
    Arc::new(Catalog {
        version: version.to_owned(),
        tables: tables.into_iter().map(|table| (table.oid, Arc::new(table))).collect(),
        roles: vec![ROLE.into()],
        types: types(),
        ..Catalog::default()
    })
}

/// A table of these columns under this rule.
pub(crate) fn table(oid: u32, name: &str, rows: RowRule) -> Table {
    let access = Access { select: vec![true; COLUMNS.len()], rows };
    Table {
        oid,
        schema: "public".to_owned(),
        name: name.to_owned(),
        columns: columns(),
        published: None,
        listed: (0..COLUMNS.len()).collect(),
        primary_key: vec![0],
        replica_identity: ReplicaIdentity::Full,
        row_security: true,
        access: HashMap::from([(ROLE.into(), access)]),
    }
}

pub(super) fn config() -> Config {
    Config {
        strict_deletes: false,
        max_record_bytes: 1 << 20,
        backlog_bytes: 1 << 20,
        transaction_bytes: 1 << 20,
        meters: Arc::default(),
        resume_window: WindowConfig::default(),
    }
}

/// A core of one table under this rule.
pub(super) fn core(rows: RowRule) -> RouterCore {
    core_in(rows, &Rooms::default(), BTreeSet::new())
}

/// The same, with rooms that what is inserted into these tables is said in.
pub(super) fn core_in(rows: RowRule, rooms: &Rooms, message_tables: BTreeSet<u32>) -> RouterCore {
    let catalog = Catalog { message_tables, ..Catalog::clone(&catalog(rows)) };
    RouterCore::new(config(), Arc::default(), publisher(rooms), Arc::new(catalog))
}

/// Says messages in rooms, without limits.
pub(super) fn publisher(rooms: &Rooms) -> Publisher {
    Publisher::new(rooms.clone(), Arc::default(), Arc::default(), Lsn::ZERO)
}

/// A client that keeps what it is told.
pub(super) struct Client {
    pub(super) member: Arc<Member>,
    outbox: OutboxReceiver,
}

impl Client {
    /// The messages since it was asked last.
    pub(super) fn heard(&mut self) -> Vec<Json> {
        let frames = std::iter::from_fn(|| self.outbox.receive_ready());
        let text = |frame| match frame {
            Frame::Text(text) => text,
            Frame::Binary(bytes) => panic!("{} bytes that are no text", bytes.len()),
        };
        frames.map(|frame| serde_json::from_str(&text(frame)).unwrap()).collect()
    }

    /// The changes since it was asked last: type and data.
    pub(super) fn changes(&mut self) -> Vec<(String, Json)> {
        let changes = self.heard().into_iter().filter(|message| message["event"] == "postgres_changes");
        let data = changes.map(|mut message| message["payload"]["data"].take());
        data.map(|data| (data["type"].as_str().unwrap().to_owned(), data)).collect()
    }

    /// The types of the changes since it was asked last, `left` and `entered` in the place of theirs.
    pub(super) fn kinds(&mut self) -> Vec<String> {
        let kind = |(kind, data): (String, Json)| data["reason"].as_str().map_or(kind, str::to_owned);
        self.changes().into_iter().map(kind).collect()
    }
}

/// What a client asks for.
pub(super) struct Asked<'a> {
    pub(super) sub: &'a str,
    pub(super) filter: Option<&'a str>,
    pub(super) event: &'a str,
    pub(super) visibility: bool,
    /// Frames its outbox holds.
    pub(super) room: usize,
    pub(super) form: MessageForm,
}

impl Default for Asked<'_> {
    fn default() -> Self {
        Asked { sub: "alice", filter: None, event: "*", visibility: false, room: 4096, form: MessageForm::Modern }
    }
}

impl Asked<'_> {
    /// The subscription and the client that made it.
    pub(super) fn subscription(&self) -> (Subscription, Client) {
        let (sender, outbox) = outbox(self.room, 1 << 20);
        let member = Member::new(MemberId::default(), "realtime:t".into(), Json::Null, &Plain, self.form, sender);
        let mut entry = json!({"event": self.event, "schema": "public", "table": "t"});
        if let Some(filter) = self.filter {
            entry["filter"] = filter.into();
        }
        let request = BindingRequest::parse(entry.as_object().unwrap()).unwrap();
        let casts = values_of(&request);
        let json = json!({"role": ROLE, "sub": self.sub}).to_string().into();
        let subscription = Subscription {
            member: member.clone(),
            claims: Claims { role: ROLE.into(), expires_at: None, json },
            bindings: vec![Binding { id: 1, request: Ok(request) }],
            casts: Arc::new(casts),
            start: Position::default(),
            resume: None,
            visibility: self.visibility,
            held_reply: None,
        };
        (subscription, Client { member, outbox })
    }

    /// Enters it, and forgets the word that it is active.
    pub(super) fn join(&self, core: &mut RouterCore) -> Client {
        self.join_with(core, NONE)
    }

    /// The same where these tables can be looked into.
    pub(super) fn join_with(&self, core: &mut RouterCore, ready: Ready<'_>) -> Client {
        let (subscription, mut client) = self.subscription();
        core.subscribe(subscription, ready).unwrap();
        client.heard();
        client
    }
}

/// Texts are canonical as they stand.
pub(crate) fn values_of(request: &BindingRequest) -> CastValues {
    let casts = casts_needed(&request.conditions, &table(TABLE, "t", RowRule::All), &types());
    let read = casts.into_iter().map(|cast| {
        let key = CastKey { statement: cast.statement(), value: cast.value.clone() };
        (key, Ok(vec![Some(cast.value)]))
    });
    read.collect()
}

/// The table as the stream describes it.
pub(super) fn relation() -> Arc<Relation> {
    relation_of(TABLE)
}

pub(super) fn relation_of(oid: u32) -> Arc<Relation> {
    relation_by(oid, ReplicaIdentity::Full)
}

pub(crate) fn relation_by(oid: u32, replica_identity: ReplicaIdentity) -> Arc<Relation> {
    let column = |(index, name): (usize, &&str)| Column {
        name: (*name).to_owned(),
        type_oid: TEXT,
        type_modifier: -1,
        is_key: index == 0,
    };
    Arc::new(Relation {
        oid,
        schema: "public".to_owned(),
        name: "t".to_owned(),
        replica_identity,
        columns: COLUMNS.iter().enumerate().map(column).collect(),
    })
}

/// `id owner state body`; `-` is absent, `~` is NULL.
pub(crate) fn row(texts: &str) -> Row {
    let datum = |text: &str| match text {
        "-" => Datum::Absent,
        "~" => Datum::Null,
        text => Datum::Text(text.to_owned().into()),
    };
    Row(texts.split(' ').map(datum).collect())
}

fn change(operation: Operation, old: Option<OldRow>, new: Option<Row>) -> Change {
    Change { operation, relation: relation(), old, new, ordinal: 0 }
}

pub(super) fn insert(new: &str) -> Change {
    change(Operation::Insert, None, Some(row(new)))
}

pub(super) fn update(old: &str, new: &str) -> Change {
    change(Operation::Update, Some(OldRow { whole: true, row: row(old) }), Some(row(new)))
}

/// An UPDATE of which the old row was not logged.
pub(super) fn blind_update(new: &str) -> Change {
    change(Operation::Update, None, Some(row(new)))
}

pub(super) fn delete(old: &str) -> Change {
    change(Operation::Delete, Some(OldRow { whole: true, row: row(old) }), None)
}

/// A DELETE of which only the key was logged.
pub(super) fn delete_key(id: &str) -> Change {
    change(Operation::Delete, Some(OldRow { whole: false, row: row(&format!("{id} - - -")) }), None)
}

/// A part of the transaction that committed at `lsn`; the last one ends it.
pub(super) fn part(lsn: u64, first_ordinal: u64, mut changes: Vec<Change>, is_last: bool) -> Arc<Fragment> {
    for (ordinal, change) in (first_ordinal..).zip(&mut changes) {
        change.ordinal = ordinal;
    }
    let end_lsn = is_last.then_some(Lsn(lsn + 1));
    let (era, beside) = (Era::default(), Beside::default());
    Arc::new(Fragment { era, beside, xid: 7, commit_lsn: Lsn(lsn), commit_time: 0, changes, end_lsn })
}

/// A transaction of one fragment.
pub(super) fn transaction(lsn: u64, changes: Vec<Change>) -> Arc<Fragment> {
    part(lsn, 0, changes, true)
}
