//! What a channel asked for, compiled against the catalogue: for each table, which bindings, with which filter and
//! columns. Pure.
//!
//! A subscription is compiled when it begins, and again in place whenever the catalogue changes.

use super::{bound::Bound, shared::Shared};
use crate::{
    change::{cursor::Resume, position::Position, value::TypeRegistry},
    claims::Claims,
    hub::Member,
    policy::{
        binding::{Binding, BindingRequest, EventFilter, WILDCARD, raised},
        catalog::{Access, Catalog, ColumnIndex, RowRule, Table},
        filter::{CastKind, Filter, casts_needed, check_columns},
    },
    protocol::Frame,
};
use std::{collections::HashMap, sync::Arc};

/// The values of filters as Postgres read them, by type, kind and text: what makes compiling again free of I/O.
pub type CastValues = HashMap<CastKey, Result<Vec<Option<String>>, String>>;

/// A value of a filter and how it was to be read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CastKey {
    /// The statement that reads it: names type, operator and kind.
    pub statement: String,
    /// The text that was read.
    pub value: String,
}

/// A channel's subscription to row changes.
pub struct Subscription {
    /// Where changes go.
    pub member: Arc<Member>,
    /// In whose name they are judged.
    pub claims: Claims,
    /// The bindings of the join.
    pub bindings: Vec<Binding>,
    /// Their values.
    pub casts: Arc<CastValues>,
    /// Changes before this position are not delivered.
    pub start: Position,
    /// Whether the client wants to be able to come back, and from where it does.
    pub resume: Option<Resume>,
    /// Whether the client wants to hear of rows that enter and leave what it sees.
    pub visibility: bool,
    /// The join's reply, when the client asked to hear it only once the subscription is active.
    pub held_reply: Option<Frame>,
}

/// The columns a subscriber gets, and how `columns` lists them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ColumnSet {
    /// The columns of `record` and `old_record`, in attribute order.
    pub(super) columns: Vec<ColumnIndex>,
    /// The JSON of `columns`.
    pub(super) listing: String,
}

/// Why a table's INSERTs and UPDATEs reach a subscriber as an error only (protocol reference, section 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Fault {
    /// The table has no primary key.
    NoPrimaryKey,
    /// The role may not SELECT all of the primary key.
    KeyNotReadable,
}

impl Fault {
    /// The text in `errors`.
    pub(super) fn text(self) -> &'static str {
        match self {
            Fault::NoPrimaryKey => "Error 400: Bad Request, no primary key",
            Fault::KeyNotReadable => "Error 401: Unauthorized",
        }
    }
}

/// A binding, compiled for one table and role.
#[derive(Debug)]
pub(super) struct TableBinding {
    /// What the join reply called it.
    pub(super) id: u32,
    /// Which operations.
    pub(super) event: EventFilter,
    /// Which rows.
    pub(super) filter: Filter,
    /// Which columns.
    pub(super) columns: Arc<ColumnSet>,
    /// Set when INSERT and UPDATE cannot be sent.
    pub(super) fault: Option<Fault>,
}

/// A subscription, compiled for one table.
#[derive(Debug)]
pub(super) struct TableSubscription {
    /// The table as it was compiled for.
    pub(super) table: Arc<Table>,
    /// Who decides about its rows.
    pub(super) rows: RowRule,
    /// The policy and its arguments, where the process decides.
    pub(super) bound: Option<Arc<Bound>>,
    /// Whether the client hears of rows that enter and leave.
    pub(super) tells_moves: bool,
    /// The bindings that mean this table.
    pub(super) bindings: Vec<Arc<TableBinding>>,
}

/// Whether the process may decide policies that look into a table.
pub(super) type Ready<'a> = &'a dyn Fn(u32) -> bool;

/// The outcome of compiling: what can be delivered, and what the client must hear.
#[derive(Debug, Default)]
pub(super) struct Compiled {
    /// By the oid of the table.
    pub(super) tables: HashMap<u32, Arc<TableSubscription>>,
    /// What is wrong with bindings, each once, in their order.
    pub(super) errors: Vec<String>,
    /// Bindings with which nothing is wrong.
    pub(super) working: usize,
    /// Tables that were named and of which the role can get nothing, and why: the silence nobody understands.
    pub(super) mute: Vec<(String, &'static str)>,
    /// Whether some of it can only be decided by the database: then all of the subscription goes that way, so that
    /// its order holds.
    pub(super) needs_database: bool,
}

impl Compiled {
    /// The tables whose rows some of it depends on without showing them: the looked-up table and the one that is shown.
    pub(super) fn looked_up(&self) -> impl Iterator<Item = (u32, &Arc<Table>)> {
        self.tables.values().flat_map(|table| {
            let lookups = table.bound.iter().flat_map(|bound| bound.policy.program.lookups.keys());
            lookups.map(|&lookup| (lookup, &table.table))
        })
    }

    /// Whether time alone may show or hide some of it.
    pub(super) fn is_timed(&self) -> bool {
        self.tables.values().any(|table| table.is_timed())
    }
}

impl TableSubscription {
    /// Whether time alone may show or hide rows.
    pub(super) fn is_timed(&self) -> bool {
        self.bound.as_ref().is_some_and(|bound| !bound.policy.program.moments.is_empty())
    }
}

/// Compiles the bindings of a join for the claims it has.
pub(super) fn compile(
    subscription: &Subscription,
    catalog: &Catalog,
    ready: Ready<'_>,
    shared: &mut Shared,
) -> Compiled {
    let Subscription { bindings, claims, casts, .. } = subscription;
    let role = &*claims.role;
    let ground = Ground { catalog, role, casts };
    let mut compiled = Compiled::default();
    let mut by_table: HashMap<u32, Vec<Arc<TableBinding>>> = HashMap::new();
    let role_error = role_refusal(role, catalog);
    for binding in bindings {
        let request = match &binding.request {
            Ok(request) => request,
            Err(text) => {
                note(&mut compiled.errors, text.clone());
                continue;
            }
        };
        if let Some(error) = &role_error {
            note(&mut compiled.errors, request.refused(error));
            continue;
        }
        let mut found = request.schema == WILDCARD && request.table == WILDCARD;
        let errors_before = compiled.errors.len();
        for table in catalog.tables.values().filter(|table| request.names(&table.schema, &table.name)) {
            found = true;
            match compile_binding((binding.id, request), table, ground, shared) {
                Ok(Some(compiled)) => by_table.entry(table.oid).or_default().push(Arc::new(compiled)),
                // A role that may read nothing of the table hears nothing of it.
                Ok(None) if request.table == WILDCARD => {}
                Ok(None) => compiled.mute.push((table.name.clone(), "the role may SELECT no column of it")),
                Err(error) => note(&mut compiled.errors, request.refused(&error)),
            }
        }
        if !found {
            note(&mut compiled.errors, request.not_published());
        }
        compiled.working += usize::from(found && compiled.errors.len() == errors_before);
    }
    for (oid, bindings) in by_table {
        let Some(table) = catalog.tables.get(&oid) else { continue };
        let rows = catalog.access(table, role).map(|access| access.rows.clone()).unwrap_or_default();
        let filter_asks = bindings.iter().any(|binding| binding.filter.database_sql(1).is_some());
        if matches!(rows, RowRule::None) {
            compiled.mute.push((table.name.clone(), "no policy of it lets the role see a row"));
        }
        let bound = bind(&rows, claims, ready, shared);
        compiled.needs_database |= filter_asks || (rows.asked().is_some() && bound.is_none());
        let (table, tells_moves) = (table.clone(), subscription.visibility);
        compiled.tables.insert(oid, Arc::new(TableSubscription { table, rows, bound, tells_moves, bindings }));
    }
    compiled
}

/// The policy with the claims' arguments, where the process has all it takes to decide.
fn bind(rows: &RowRule, claims: &Claims, ready: Ready<'_>, shared: &mut Shared) -> Option<Arc<Bound>> {
    let RowRule::Compiled(policy) = rows else { return None };
    if !policy.program.lookups.keys().all(|&table| ready(table)) {
        return None;
    }
    Some(shared.bind(policy, policy.program.bind(claims)?))
}

fn note(errors: &mut Vec<String>, text: String) {
    if !errors.contains(&text) {
        errors.push(text);
    }
}

/// Why a claimed role cannot be used, in the words Postgres would find.
fn role_refusal(role: &str, catalog: &Catalog) -> Option<String> {
    if catalog.is_claimable(role) {
        None
    } else if catalog.other_roles.iter().any(|other| other == role) {
        Some(format!("ERROR 42501 (insufficient_privilege) permission denied to set role \"{role}\""))
    } else {
        Some(format!("ERROR 42704 (undefined_object) role \"{role}\" does not exist"))
    }
}

/// What a binding is compiled against.
#[derive(Clone, Copy)]
struct Ground<'a> {
    catalog: &'a Catalog,
    role: &'a str,
    casts: &'a CastValues,
}

fn compile_binding(
    (id, request): (u32, &BindingRequest),
    table: &Table,
    Ground { catalog, role, casts }: Ground<'_>,
    shared: &mut Shared,
) -> Result<Option<TableBinding>, String> {
    let nothing = Access::default();
    let access = catalog.access(table, role).unwrap_or(&nothing);
    check_columns(table, &catalog.types, access, &request.conditions, request.select.as_deref())
        .map_err(|error| raised(&error))?;
    let readable = |index: ColumnIndex| access.select.get(index).copied().unwrap_or(false);
    if !(0..table.columns.len()).any(readable) {
        return Ok(None);
    }
    let filter = compile_filter(request, table, &catalog.types, casts)?;
    let wanted = |index: ColumnIndex| match &request.select {
        None => true,
        Some(names) => table.primary_key.contains(&index) || names.contains(&table.columns[index].name),
    };
    let columns = table.listed.iter().copied().filter(|&index| readable(index) && wanted(index));
    let columns: Vec<ColumnIndex> = columns.collect();
    let fault = if table.primary_key.is_empty() {
        Some(Fault::NoPrimaryKey)
    } else if !table.primary_key.iter().all(|&index| readable(index)) {
        Some(Fault::KeyNotReadable)
    } else {
        None
    };
    let columns = shared.columns(ColumnSet { listing: listing(table, &columns), columns });
    Ok(Some(TableBinding { id, event: request.event, filter, columns, fault }))
}

fn compile_filter(
    request: &BindingRequest,
    table: &Table,
    types: &TypeRegistry,
    casts: &CastValues,
) -> Result<Filter, String> {
    let mut values = vec![Vec::new(); request.conditions.len()];
    for cast in casts_needed(&request.conditions, table, types) {
        let key = CastKey { statement: cast.statement(), value: cast.value.clone() };
        let read = match casts.get(&key) {
            Some(read) => read.clone()?,
            // The column's type changed since the join: nobody has read the value as the new type.
            None => {
                return Err(raised(&format!(
                    "the type of the filter's column changed, subscribe again: {}",
                    cast.sql_type
                )));
            }
        };
        if cast.kind != CastKind::Regex || !read.is_empty() {
            values[cast.condition] = read;
        }
    }
    Filter::compile(&request.conditions, &values, table, types).map_err(|error| raised(&error))
}

fn listing(table: &Table, columns: &[ColumnIndex]) -> String {
    let entries = columns.iter().map(|&index| {
        let column = &table.columns[index];
        serde_json::json!({"name": column.name, "type": column.type_name}).to_string()
    });
    format!("[{}]", entries.collect::<Vec<_>>().join(","))
}
