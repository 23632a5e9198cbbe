//! `Program`: the policies of a table for one role, ready to be asked. What depends on claims alone is taken out of
//! them once (`parameters`), so that a subscriber is no more than a list of values, and those with equal values get
//! one answer. Pure.
//!
//! `hoist` finds the parameters and what is read, `paths` how a row finds its subscribers, `super::eval` computes.

mod fold;
mod hoist;
mod moments;
mod paths;

pub use moments::Moment;
pub use paths::{Entry, Probe};

use super::{
    analyse::Clause,
    catalog::ColumnIndex,
    eval::{Env, Judged},
    expr::Expr,
    facts::{Facts, TableFacts},
    functions,
    lookup::{Lookups, Need},
    topic::ChannelUser,
    value::{self, Stop, Type, Value},
};
use crate::{
    change::{
        Datum,
        value::{TypeKind, TypeRegistry},
    },
    claims::Claims,
};
use hoist::Hoist;
use paths::Paths;
use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The policies of a table for one role.
#[derive(Debug)]
pub struct Program {
    /// The policies, by name, over `parameters`.
    pub clauses: Vec<Clause>,
    /// `(permissive or ...) and restrictive and ...`.
    pub predicate: Expr,
    /// What depends on claims and role alone, by number.
    pub parameters: Vec<Expr>,
    /// The columns of the judged row that are read.
    pub reads: BTreeSet<ColumnIndex>,
    /// What is needed of other tables, by oid.
    pub lookups: BTreeMap<u32, Need>,
    /// The moments at which the answer for a row may change though nobody touches it.
    pub moments: Vec<Moment>,
    /// Whether time counts in other ways than `moments`: for those nobody is woken.
    pub has_unwatched_time: bool,
    /// The types of the judged table's columns; none for those the process does not compute with.
    types: Vec<Option<Type>>,
    paths: Paths,
}

/// A subscriber, as far as one program is concerned.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Arguments(Arc<[Result<Value, Stop>]>);

impl Arguments {
    /// Values for the parameters, in their order.
    pub fn new(values: Vec<Result<Value, Stop>>) -> Arguments {
        Arguments(values.into())
    }

    /// The values.
    pub fn values(&self) -> &[Result<Value, Stop>] {
        &self.0
    }
}

/// What a program says of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// He sees it.
    Yes,
    /// He does not.
    No,
    /// The image lacks what decides it.
    Absent,
    /// Postgres would raise an error, with this SQLSTATE.
    Failed(&'static str),
    /// A value is of a kind the process does not compute with.
    Unsupported,
}

/// What is asked about: an image, its texts read as values when they are first needed.
pub struct Row<'a> {
    program: &'a Program,
    column: &'a dyn Fn(ColumnIndex) -> &'a Datum,
    values: Vec<OnceCell<Result<Value, Stop>>>,
}

impl Judged for Row<'_> {
    fn value(&self, index: ColumnIndex) -> Result<Value, Stop> {
        let (Some(cell), Some(kind)) = (self.values.get(index), self.program.types.get(index)) else {
            return Err(Stop::Unsupported);
        };
        let read = || match (self.column)(index) {
            Datum::Absent => Err(Stop::Absent),
            Datum::Null => Ok(Value::Null),
            Datum::Text(text) => value::read((*kind).ok_or(Stop::Unsupported)?, text),
        };
        cell.get_or_init(read).clone()
    }
}

impl Program {
    /// Joins the policies of a table.
    pub fn new(facts: &Facts, table: &TableFacts, clauses: Vec<Clause>) -> Program {
        let mut hoist = Hoist::default();
        let clauses: Vec<Clause> =
            clauses.into_iter().map(|clause| Clause { expr: hoist.expr(fold::fold(clause.expr)), ..clause }).collect();
        let of = |permissive| {
            let wanted = clauses.iter().filter(move |clause| clause.permissive == permissive);
            wanted.map(|clause| clause.expr.clone())
        };
        // Postgres joins permissive policies in the contrary order of their names, and restrictive ones by name: it
        // matters where one of them fails.
        let mut granted: Vec<Expr> = of(true).collect();
        granted.reverse();
        let granted = Expr::Or(granted);
        let predicate = Expr::And([granted].into_iter().chain(of(false)).collect());
        let paths = Paths::of(&predicate);
        let (reads, mut lookups) = hoist::needs(table.oid, &predicate);
        paths.add_needs(&mut lookups);
        let (moments, has_unwatched_time) = moments::moments(&predicate);
        Program {
            moments,
            has_unwatched_time,
            types: table.columns.iter().map(|column| type_of(&facts.types, column.type_oid)).collect(),
            parameters: hoist.parameters,
            clauses,
            predicate,
            reads,
            lookups,
            paths,
        }
    }

    /// The values a subscriber has for the parameters. None when one of them is an error that Postgres might or might
    /// not raise, depending on the order in which it computes: then the database decides.
    pub fn bind(&self, claims: &Claims) -> Option<Arguments> {
        self.bound(claims, None)
    }

    /// The same for policies of private channels, where topic and headers are known beside the claims.
    pub fn bind_channel(&self, user: &ChannelUser) -> Option<Arguments> {
        self.bound(&user.claims, Some(user))
    }

    fn bound(&self, claims: &Claims, channel: Option<&ChannelUser>) -> Option<Arguments> {
        let nothing = Lookups::default();
        let compute = |part: &Expr| {
            let mut env = Env::new(None, &[], &nothing, 0);
            env.claims = Some((&claims.json, &claims.role));
            env.channel = channel;
            env.eval(part)
        };
        let arguments = Arguments(self.parameters.iter().map(compute).collect());
        let is_hiding = |(parameter, value): (&Expr, &Result<Value, Stop>)| {
            value.is_ok() && hides_error(parameter, &|part| compute(part).is_err())
        };
        if self.parameters.iter().zip(arguments.values()).any(is_hiding) {
            return None;
        }
        let failing: Vec<usize> = (0..self.parameters.len()).filter(|&number| arguments.0[number].is_err()).collect();
        if failing.is_empty() {
            return Some(arguments);
        }
        let known = arguments.0.iter().all(|value| !matches!(value, Err(Stop::Absent | Stop::Unsupported)));
        // Of what is wrapped in a sub-select Postgres computes only what it reaches, as we do. Anything else it may
        // compute while it plans, or not: unless it is reached first in any case.
        let is_lazy = |number: usize| matches!(self.parameters.get(number), Some(Expr::Lazy(_)));
        let in_order = failing.iter().all(|&number| is_lazy(number)) && !fails_in_lookup(&self.predicate, &failing);
        let is_reached = in_order || fails_first(&self.predicate, &failing);
        (known && is_reached && !self.may_be_folded()).then_some(arguments)
    }

    /// Whether a condition stands in it that is the same for everybody. Postgres computes such while it plans, and an
    /// OR in which one is true disappears, with the errors of all its other parts.
    fn may_be_folded(&self) -> bool {
        self.predicate.any(&|part| match part {
            Expr::Const(Value::Bool(_) | Value::Null) => true,
            Expr::Parameter(number) => self.parameters.get(*number).is_none_or(|parameter| {
                !parameter.any(&|part| matches!(part, Expr::Claims | Expr::Setting(_) | Expr::Role))
            }),
            _ => false,
        })
    }

    /// Makes a row image ready to be asked about.
    pub fn row<'a>(&'a self, column: &'a dyn Fn(ColumnIndex) -> &'a Datum) -> Row<'a> {
        let values = self.types.iter().map(|_| OnceCell::new()).collect();
        Row { program: self, column, values }
    }

    /// Whether a subscriber sees a row. `now` is in microseconds since 2000-01-01 UTC.
    pub fn judge(&self, arguments: &Arguments, row: &Row<'_>, lookups: &Lookups, now: i64) -> Verdict {
        self.judge_part(&self.predicate, arguments, row, lookups, now)
    }

    /// What a part of the predicate says by itself.
    pub fn judge_part(
        &self,
        part: &Expr,
        arguments: &Arguments,
        row: &Row<'_>,
        lookups: &Lookups,
        now: i64,
    ) -> Verdict {
        match Env::new(Some(row), &arguments.0, lookups, now).eval(part) {
            Ok(Value::Bool(true)) => Verdict::Yes,
            Ok(Value::Bool(false) | Value::Null) => Verdict::No,
            Ok(_) | Err(Stop::Unsupported) => Verdict::Unsupported,
            Err(Stop::Absent) => Verdict::Absent,
            Err(Stop::Failed(sqlstate)) => Verdict::Failed(sqlstate),
        }
    }

    /// Whether the answer depends on the time.
    pub fn is_timed(&self) -> bool {
        self.has_unwatched_time || !self.moments.is_empty()
    }

    /// In how many ways the predicate can become true: the paths `enter` and `probe` speak of, in the same order.
    pub fn paths(&self) -> usize {
        self.paths.len()
    }

    /// Whether each of them hangs on a value of the subscriber, so that a row finds its subscribers without asking all.
    pub fn is_keyed(&self) -> bool {
        self.paths.are_keyed()
    }

    /// Where a subscriber is entered, path by path.
    pub fn enter(&self, arguments: &Arguments) -> Vec<Entry> {
        self.paths.enter(&self.predicate, arguments)
    }

    /// Who may see a row, path by path: candidates, who are then judged one by one. A path whose keys are more than
    /// `limit` gives `Everybody`.
    pub fn probe(&self, row: &Row<'_>, lookups: &Lookups, now: i64, limit: usize) -> Vec<Probe> {
        self.paths.probe(row, lookups, now, limit)
    }
}

/// The type of a column, as far as the process computes with it.
pub fn type_of(types: &TypeRegistry, type_oid: u32) -> Option<Type> {
    let scalar = |oid: u32| {
        let base = types.base(oid);
        let is_enum = matches!(types.get(base).map(|info| &info.kind), Some(TypeKind::Enum));
        functions::scalar_of(base, is_enum)
    };
    match types.get(types.base(type_oid)).map(|info| &info.kind) {
        Some(TypeKind::Array { element, .. }) => scalar(*element).map(Type::array),
        _ => scalar(type_oid).map(Type::of),
    }
}

/// Whether a part is an error that is not reached. While it plans, Postgres computes what it can to guess how many rows
/// will fit, in no such order; but for sub-selects.
fn hides_error(expr: &Expr, fails: &dyn Fn(&Expr) -> bool) -> bool {
    let is_ordered = matches!(expr, Expr::And(_) | Expr::Or(_) | Expr::Case(..) | Expr::Coalesce(_));
    !matches!(expr, Expr::Lazy(_))
        && expr.parts().into_iter().any(|part| (is_ordered && fails(part)) || hides_error(part, fails))
}

/// Whether one of these parameters is computed before anything else could decide, whatever the row.
fn fails_first(expr: &Expr, failing: &[usize]) -> bool {
    let fails = |part: &Expr| fails_first(part, failing);
    match expr {
        Expr::Parameter(number) => failing.contains(number),
        Expr::And(parts) | Expr::Or(parts) | Expr::Coalesce(parts) => parts.first().is_some_and(fails),
        Expr::Case(arms, otherwise) => fails(arms.first().map_or(otherwise.as_ref(), |(condition, _)| condition)),
        Expr::Lookup(_) => false,
        _ => expr.parts().into_iter().any(fails),
    }
}

/// Whether one of these parameters is computed inside of a lookup: how often, and whether at all, depends on its rows.
fn fails_in_lookup(expr: &Expr, failing: &[usize]) -> bool {
    let is_failing = |part: &Expr| matches!(part, Expr::Parameter(number) if failing.contains(number));
    expr.any(&|part| matches!(part, Expr::Lookup(_)) && part.any(&is_failing))
}
