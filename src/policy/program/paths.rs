//! How a row finds those who may see it. Pure.
//!
//! A predicate becomes true by one of several *paths*. Most hang on one value of the subscriber: his id equals a column,
//! is an element of one, or stands in a row of another table that the judged row leads to. Subscribers are entered under
//! that value once (`enter`), and a row computes the values it could be true for (`probe`), so a change costs as much as
//! it has recipients. What is found is a candidate, never more: everything that might be true is found.

use super::{Arguments, Row};
use crate::policy::{
    catalog::ColumnIndex,
    eval::Env,
    expr::{ColumnRef, Expr, Lookup, Output},
    lookup::{Lookups, Need},
    value::{Jsonb, Stop, Value},
};
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

/// Under which keys a subscriber is entered for one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// This path lets him see nothing.
    Nowhere,
    /// Rows that are probed with one of these may be his.
    Keys(Vec<Value>),
    /// Any row may be his.
    Everywhere,
}

/// Whose keys may let a row through by one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Nobody sees it by this path.
    Nobody,
    /// Those who are entered under one of these, and those entered everywhere.
    Keys(Vec<Value>),
    /// All who are entered for this path.
    Everybody,
}

/// What of a subscriber a path hangs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hook {
    /// Nothing.
    Open,
    /// A parameter's value.
    Equal(usize),
    /// The elements of a parameter, an array.
    Element(usize),
    /// The keys of a parameter, a `jsonb` object, or the strings of an array: what `?` looks for.
    Name(usize),
    /// That a parameter is true.
    Flag(usize),
}

/// How a row's keys are computed.
#[derive(Debug)]
enum Plan {
    /// Whatever the row.
    Open { path: usize },
    /// For those with the flag.
    Flag { path: usize },
    /// This value.
    Value { path: usize, of: Expr },
    /// The elements of this array.
    Elements { path: usize, of: Expr },
    /// Nothing unless all of these are true, which depend on no subscriber.
    Guarded(Vec<Expr>, Box<Plan>),
    /// Any of these.
    Any(Vec<Plan>),
    /// For every row that these lead to.
    Join(Vec<Step>, Box<Plan>),
}

/// One table on the way from the judged row to a subscriber's value.
#[derive(Debug)]
struct Step {
    table: u32,
    scope: usize,
    /// What its rows are found by; none of it depends on a subscriber.
    keys: Vec<(ColumnIndex, Expr)>,
    conditions: Vec<Expr>,
}

/// How well a plan narrows; less is better.
type Rank = u8;
const OPEN: Rank = 200;
/// Those with a flag may be many, but they are known beforehand.
const FLAG: Rank = 100;
/// A lookup may find many; anything in the row itself is better.
const JOIN: Rank = 10;

/// The paths of a predicate.
#[derive(Debug)]
pub(super) struct Paths {
    hooks: Vec<Hook>,
    plan: Plan,
}

impl Paths {
    pub(super) fn of(predicate: &Expr) -> Paths {
        let mut hooks = Hooks::default();
        let (plan, _) = hooks.plan(predicate);
        Paths { hooks: hooks.0, plan }
    }

    pub(super) fn len(&self) -> usize {
        self.hooks.len()
    }

    /// Whether every one of them hangs on a value of the subscriber.
    pub(super) fn are_keyed(&self) -> bool {
        !self.hooks.contains(&Hook::Open)
    }

    /// Adds what finding rows needs beyond judging them.
    pub(super) fn add_needs(&self, lookups: &mut BTreeMap<u32, Need>) {
        add_needs(&self.plan, lookups);
    }

    pub(super) fn enter(&self, predicate: &Expr, arguments: &Arguments) -> Vec<Entry> {
        let values = arguments.values();
        if !may_be_true(predicate, values) {
            return vec![Entry::Nowhere; self.hooks.len()];
        }
        let entry = |hook: &Hook| match hook {
            Hook::Open => Entry::Everywhere,
            Hook::Equal(number) => match values.get(*number) {
                Some(Ok(Value::Null)) => Entry::Nowhere,
                Some(Ok(value)) => Entry::Keys(vec![value.clone()]),
                // An error is met when a row is judged: he may have to hear of it.
                _ => Entry::Everywhere,
            },
            Hook::Element(number) => match values.get(*number) {
                Some(Ok(Value::Null)) => Entry::Nowhere,
                Some(Ok(Value::Array(elements))) => {
                    let keys: HashSet<&Value> = elements.iter().filter(|element| **element != Value::Null).collect();
                    Entry::Keys(keys.into_iter().cloned().collect())
                }
                _ => Entry::Everywhere,
            },
            Hook::Name(number) => match values.get(*number) {
                Some(Ok(Value::Null)) => Entry::Nowhere,
                Some(Ok(Value::Jsonb(json))) => Entry::Keys(names(json)),
                _ => Entry::Everywhere,
            },
            Hook::Flag(number) => match values.get(*number) {
                Some(Ok(Value::Bool(false) | Value::Null)) => Entry::Nowhere,
                _ => Entry::Everywhere,
            },
        };
        self.hooks.iter().map(entry).collect()
    }

    pub(super) fn probe(&self, row: &Row<'_>, lookups: &Lookups, now: i64, limit: usize) -> Vec<Probe> {
        let probes = self.hooks.iter().map(|_| Found::default()).collect();
        let mut search = Search { env: Env::new(Some(row), &[], lookups, now), probes, limit, steps: 0 };
        search.walk(&self.plan);
        let probe = |found: Found| match found {
            Found { all: true, .. } => Probe::Everybody,
            Found { touched: false, .. } => Probe::Nobody,
            Found { keys, .. } => Probe::Keys(keys.into_iter().collect()),
        };
        search.probes.into_iter().map(probe).collect()
    }
}

/// What `jsonb ? text` finds at the top of a value.
fn names(json: &Jsonb) -> Vec<Value> {
    let strings: HashSet<&Arc<str>> = match json {
        Jsonb::Object(fields) => fields.iter().map(|(key, _)| key).collect(),
        Jsonb::Array(elements) => elements.iter().filter_map(string).collect(),
        scalar => string(scalar).into_iter().collect(),
    };
    strings.into_iter().map(|text| Value::Text(text.clone())).collect()
}

fn string(json: &Jsonb) -> Option<&Arc<str>> {
    match json {
        Jsonb::String(text) => Some(text),
        _ => None,
    }
}

/// Whether the predicate is not settled as untrue by the subscriber alone.
fn may_be_true(expr: &Expr, values: &[Result<Value, Stop>]) -> bool {
    match expr {
        Expr::Parameter(number) => !matches!(values.get(*number), Some(Ok(Value::Bool(false) | Value::Null))),
        Expr::Const(value) => *value == Value::Bool(true),
        Expr::And(parts) => parts.iter().all(|part| may_be_true(part, values)),
        Expr::Or(parts) => parts.iter().any(|part| may_be_true(part, values)),
        _ => true,
    }
}

fn depends_on_subscriber(expr: &Expr) -> bool {
    expr.any(&|part| matches!(part, Expr::Parameter(_)))
}

/// Collects hooks while the plan is made.
#[derive(Default)]
struct Hooks(Vec<Hook>);

impl Hooks {
    fn path(&mut self, hook: Hook) -> usize {
        self.0.iter().position(|known| *known == hook).unwrap_or_else(|| {
            self.0.push(hook);
            self.0.len() - 1
        })
    }

    fn open(&mut self) -> (Plan, Rank) {
        (Plan::Open { path: self.path(Hook::Open) }, OPEN)
    }

    /// A plan that finds everybody for whom the expression may be true.
    fn plan(&mut self, expr: &Expr) -> (Plan, Rank) {
        if matches!(expr, Expr::Const(value) if *value != Value::Bool(true)) {
            return (Plan::Any(Vec::new()), 0);
        }
        if !depends_on_subscriber(expr) {
            let (plan, rank) = self.open();
            return (Plan::Guarded(vec![expr.clone()], Box::new(plan)), rank);
        }
        match expr {
            Expr::Parameter(number) => (Plan::Flag { path: self.path(Hook::Flag(*number)) }, FLAG),
            Expr::And(parts) => self.all(parts),
            Expr::Or(parts) => self.any(parts.iter()),
            // True only if what it comes to is, whichever that is.
            Expr::Case(arms, otherwise) => self.any(arms.iter().map(|(_, result)| result).chain([otherwise.as_ref()])),
            Expr::Call(function, arguments) if function.is_hash_equality => match &arguments[..] {
                [Expr::Parameter(number), of] | [of, Expr::Parameter(number)] if !depends_on_subscriber(of) => {
                    (Plan::Value { path: self.path(Hook::Equal(*number)), of: of.clone() }, 1)
                }
                _ => self.open(),
            },
            Expr::Call(function, arguments) if function.name == "?" => match &arguments[..] {
                [Expr::Parameter(number), of] if !depends_on_subscriber(of) => {
                    (Plan::Value { path: self.path(Hook::Name(*number)), of: of.clone() }, 2)
                }
                _ => self.open(),
            },
            Expr::AnyAll { comparison, left, array, all: false } if comparison.is_hash_equality => {
                self.element(left, array)
            }
            Expr::IsBool(part, true) | Expr::Lazy(part) => self.plan(part),
            Expr::Lookup(lookup) => self.lookup(lookup).unwrap_or_else(|| self.open()),
            _ => self.open(),
        }
    }

    fn any<'e>(&mut self, parts: impl Iterator<Item = &'e Expr>) -> (Plan, Rank) {
        let plans: Vec<(Plan, Rank)> = parts.map(|part| self.plan(part)).collect();
        let rank = plans.iter().map(|(_, rank)| *rank).max().unwrap_or_default();
        (Plan::Any(plans.into_iter().map(|(plan, _)| plan).collect()), rank)
    }

    fn element(&mut self, left: &Expr, array: &Expr) -> (Plan, Rank) {
        match (left, array) {
            (Expr::Parameter(number), of) if !depends_on_subscriber(of) => {
                (Plan::Elements { path: self.path(Hook::Equal(*number)), of: of.clone() }, 2)
            }
            (of, Expr::Parameter(number)) if !depends_on_subscriber(of) => {
                (Plan::Value { path: self.path(Hook::Element(*number)), of: of.clone() }, 2)
            }
            // `$1 in (a, b)` and the like: each element by itself.
            (Expr::Parameter(number), Expr::Array(parts)) => {
                let path = self.path(Hook::Equal(*number));
                let known = parts.iter().all(|part| !depends_on_subscriber(part));
                if !known {
                    return self.open();
                }
                (Plan::Any(parts.iter().map(|part| Plan::Value { path, of: part.clone() }).collect()), 2)
            }
            _ => self.open(),
        }
    }

    /// The best of what must all be true; what depends on no subscriber guards it.
    fn all(&mut self, parts: &[Expr]) -> (Plan, Rank) {
        let (guards, others): (Vec<&Expr>, Vec<&Expr>) = parts.iter().partition(|part| !depends_on_subscriber(part));
        // Hooks of plans that are not taken would be paths nobody probes: they are taken back.
        let mut best: Option<(Plan, Rank, Vec<Hook>)> = None;
        let before = self.0.clone();
        for part in others {
            self.0.clone_from(&before);
            let (plan, rank) = self.plan(part);
            if best.as_ref().is_none_or(|(_, best, _)| rank < *best) {
                best = Some((plan, rank, self.0.clone()));
            }
        }
        let (plan, rank) = match best {
            Some((plan, rank, hooks)) => {
                self.0 = hooks;
                (plan, rank)
            }
            None => self.open(),
        };
        if guards.is_empty() {
            return (plan, rank);
        }
        (Plan::Guarded(guards.into_iter().cloned().collect(), Box::new(plan)), rank)
    }

    /// From the judged row through the tables of a lookup to a subscriber's value.
    fn lookup(&mut self, lookup: &Lookup) -> Option<(Plan, Rank)> {
        let (mut equalities, mut conditions) = equalities(lookup)?;
        let before = self.0.clone();
        // The equality with a subscriber's value is what the way leads to.
        let target = equalities.iter().position(|(_, expr)| matches!(expr, Expr::Parameter(_)));
        let (plan, rank) = match target.map(|at| equalities.swap_remove(at)) {
            Some((column, Expr::Parameter(number))) => {
                (Plan::Value { path: self.path(Hook::Equal(number)), of: Expr::Column(column) }, 0)
            }
            _ => {
                let of_subscriber: Vec<Expr> =
                    conditions.extract_if(.., |condition| depends_on_subscriber(condition)).collect();
                self.all(&of_subscriber)
            }
        };
        if rank >= OPEN {
            self.0 = before;
            return None;
        }
        equalities.retain(|(_, expr)| !depends_on_subscriber(expr));
        conditions.retain(|condition| !depends_on_subscriber(condition));
        let steps = steps(lookup, equalities, conditions);
        Some((Plan::Join(steps, Box::new(plan)), JOIN.saturating_add(rank)))
    }
}

type Equality = (ColumnRef, Expr);

/// What the columns of a lookup's tables must equal, and what else must be true; none for lookups that are not a
/// question of existence.
fn equalities(lookup: &Lookup) -> Option<(Vec<Equality>, Vec<Expr>)> {
    let mut equalities: Vec<Equality> = Vec::new();
    let mut conditions: Vec<Expr> = Vec::new();
    for (at, source) in lookup.sources.iter().enumerate() {
        let scope = lookup.first_scope + at;
        equalities
            .extend(source.keys.iter().map(|(column, expr)| (ColumnRef { scope, column: *column }, expr.clone())));
        for condition in &source.conditions {
            match condition {
                Expr::Column(column) if column.scope >= lookup.first_scope => {
                    equalities.push((*column, Expr::Const(Value::Bool(true))));
                }
                other => conditions.push(other.clone()),
            }
        }
    }
    match &lookup.output {
        Output::Exists => {}
        Output::Any { comparison, left, value } if comparison.is_hash_equality => match value {
            Expr::Column(column) if column.scope >= lookup.first_scope => equalities.push((*column, left.clone())),
            _ => {}
        },
        _ => return None,
    }
    Some((equalities, conditions))
}

/// An order of the tables in which each is found by what is known already, as far as that can be.
fn steps(lookup: &Lookup, equalities: Vec<Equality>, conditions: Vec<Expr>) -> Vec<Step> {
    let scopes = lookup.first_scope..lookup.first_scope + lookup.sources.len();
    let mut placed: HashSet<usize> = HashSet::new();
    let mut conditions = conditions;
    let mut steps = Vec::new();
    while placed.len() < lookup.sources.len() {
        let candidates = scopes.clone().filter(|scope| !placed.contains(scope));
        let found = candidates.map(|scope| (keys(scope, &equalities, &scopes, &placed), scope));
        let Some((keys, scope)) = found.max_by_key(|(keys, scope)| (keys.len(), std::cmp::Reverse(*scope))) else {
            break;
        };
        placed.insert(scope);
        let here = conditions.extract_if(.., |condition| is_known(condition, &scopes, &placed)).collect();
        let Some(source) = lookup.sources.get(scope - lookup.first_scope) else { break };
        steps.push(Step { table: source.table, scope, keys, conditions: here });
    }
    steps
}

/// What a table can be found by when these others are placed: one expression a column.
fn keys(
    scope: usize,
    equalities: &[Equality],
    scopes: &std::ops::Range<usize>,
    placed: &HashSet<usize>,
) -> Vec<(ColumnIndex, Expr)> {
    let mut keys: BTreeMap<ColumnIndex, Expr> = BTreeMap::new();
    for (column, expr) in equalities {
        if column.scope == scope && is_known(expr, scopes, placed) {
            keys.insert(column.column, expr.clone());
        }
        // The other way round.
        if let Expr::Column(other) = expr
            && other.scope == scope
            && placed.contains(&column.scope)
        {
            keys.insert(other.column, Expr::Column(*column));
        }
    }
    keys.into_iter().collect()
}

/// Whether an expression reads only tables that are placed, or none of this lookup.
fn is_known(expr: &Expr, scopes: &std::ops::Range<usize>, placed: &HashSet<usize>) -> bool {
    !expr.any(&|part| match part {
        Expr::Column(column) => scopes.contains(&column.scope) && !placed.contains(&column.scope),
        // Scopes inside of it would have to be told apart from ours.
        Expr::Lookup(_) => true,
        _ => false,
    })
}

fn add_needs(plan: &Plan, lookups: &mut BTreeMap<u32, Need>) {
    match plan {
        Plan::Open { .. } | Plan::Flag { .. } | Plan::Value { .. } | Plan::Elements { .. } => {}
        Plan::Guarded(_, plan) => add_needs(plan, lookups),
        Plan::Any(plans) => plans.iter().for_each(|plan| add_needs(plan, lookups)),
        Plan::Join(steps, plan) => {
            for step in steps {
                let need = lookups.entry(step.table).or_default();
                need.columns.extend(step.keys.iter().map(|(column, _)| *column));
                need.keys.insert(step.keys.iter().map(|(column, _)| *column).collect());
            }
            add_needs(plan, lookups);
        }
    }
}

#[derive(Clone, Default)]
struct Found {
    touched: bool,
    all: bool,
    keys: HashSet<Value>,
}

/// One walk through a plan for one row.
struct Search<'a> {
    env: Env<'a>,
    probes: Vec<Found>,
    limit: usize,
    steps: usize,
}

impl Search<'_> {
    fn walk(&mut self, plan: &Plan) {
        match plan {
            Plan::Open { path } => self.all(*path),
            Plan::Flag { path } => {
                if let Some(found) = self.probes.get_mut(*path) {
                    found.touched = true;
                }
            }
            Plan::Value { path, of } => match self.env.eval(of) {
                Ok(Value::Null) => {}
                Ok(value) => self.key(*path, value),
                Err(_) => self.all(*path),
            },
            Plan::Elements { path, of } => match self.env.eval(of) {
                Ok(Value::Null) => {}
                Ok(Value::Array(elements)) => elements.iter().for_each(|element| self.key(*path, element.clone())),
                _ => self.all(*path),
            },
            Plan::Guarded(guards, plan) => {
                let is_untrue =
                    |env: &mut Env<'_>, guard| matches!(env.eval(guard), Ok(Value::Bool(false) | Value::Null));
                if !guards.iter().any(|guard| is_untrue(&mut self.env, guard)) {
                    self.walk(plan);
                }
            }
            Plan::Any(plans) => plans.iter().for_each(|plan| self.walk(plan)),
            Plan::Join(steps, plan) => self.join(steps, plan),
        }
    }

    fn join(&mut self, steps: &[Step], plan: &Plan) {
        let Some((step, rest)) = steps.split_first() else { return self.walk(plan) };
        let keys: Vec<(usize, Result<Value, Stop>)> =
            step.keys.iter().map(|(column, expr)| (*column, self.env.eval(expr))).collect();
        let rows = match self.env.rows(step.table, keys.into_iter()) {
            Ok(None) => return,
            Ok(Some(rows)) => rows,
            // Nobody can say whom it leads to.
            Err(_) => return self.everybody(plan),
        };
        let before = self.env.place(step.scope, None);
        for row in rows {
            self.steps += 1;
            // More rows than there are subscribers: to judge them all is cheaper.
            if self.steps > self.limit.saturating_mul(2).saturating_add(64) {
                self.everybody(plan);
                break;
            }
            self.env.place(step.scope, Some(row));
            let env = &mut self.env;
            let untrue = |condition| matches!(env.eval(condition), Ok(Value::Bool(false) | Value::Null));
            if !step.conditions.iter().any(untrue) {
                self.join(rest, plan);
            }
        }
        self.env.place(step.scope, before);
    }

    fn key(&mut self, path: usize, value: Value) {
        let limit = self.limit;
        let Some(found) = self.probes.get_mut(path) else { return };
        found.touched = true;
        if found.all || value == Value::Null {
            return;
        }
        found.keys.insert(value);
        if found.keys.len() > limit {
            self.all(path);
        }
    }

    fn all(&mut self, path: usize) {
        if let Some(found) = self.probes.get_mut(path) {
            *found = Found { touched: true, all: true, keys: HashSet::new() };
        }
    }

    fn everybody(&mut self, plan: &Plan) {
        match plan {
            Plan::Open { path } | Plan::Flag { path } | Plan::Value { path, .. } | Plan::Elements { path, .. } => {
                self.all(*path);
            }
            Plan::Guarded(_, plan) | Plan::Join(_, plan) => self.everybody(plan),
            Plan::Any(plans) => plans.iter().for_each(|plan| self.everybody(plan)),
        }
    }
}
