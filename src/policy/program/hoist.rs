//! Takes what depends on claims and role alone out of an expression, and finds out what the rest reads.

use crate::policy::{
    catalog::ColumnIndex,
    expr::{ColumnRef, Expr, Lookup, Output, Source},
    lookup::Need,
};
use std::collections::{BTreeMap, BTreeSet};

/// The parameters found so far.
#[derive(Default)]
pub(super) struct Hoist {
    pub(super) parameters: Vec<Expr>,
    /// Their printed forms, to find equal ones.
    known: Vec<String>,
}

impl Hoist {
    /// The expression with its greatest parts that depend on claims alone replaced by parameters.
    pub(super) fn expr(&mut self, expr: Expr) -> Expr {
        if is_constant(&expr) {
            return if matches!(expr, Expr::Const(_)) { expr } else { self.parameter(expr) };
        }
        let all = |this: &mut Hoist, parts: Vec<Expr>| parts.into_iter().map(|part| this.expr(part)).collect();
        let mut boxed = |part: Box<Expr>| Box::new(self.expr(*part));
        match expr {
            Expr::Not(part) => Expr::Not(boxed(part)),
            Expr::IsNull(part) => Expr::IsNull(boxed(part)),
            Expr::IsBool(part, wanted) => Expr::IsBool(boxed(part), wanted),
            Expr::Lazy(part) => Expr::Lazy(boxed(part)),
            Expr::AnyAll { comparison, left, array, all } => {
                Expr::AnyAll { comparison, left: boxed(left), array: boxed(array), all }
            }
            Expr::Distinct(equality, left, right) => Expr::Distinct(equality, boxed(left), boxed(right)),
            Expr::NullIf(equality, left, right) => Expr::NullIf(equality, boxed(left), boxed(right)),
            Expr::And(parts) => Expr::And(all(self, parts)),
            Expr::Or(parts) => Expr::Or(all(self, parts)),
            Expr::Coalesce(parts) => Expr::Coalesce(all(self, parts)),
            Expr::Array(parts) => Expr::Array(all(self, parts)),
            Expr::Call(function, arguments) => Expr::Call(function, all(self, arguments)),
            Expr::Case(arms, otherwise) => {
                let arms = arms.into_iter().map(|(condition, result)| (self.expr(condition), self.expr(result)));
                let arms = arms.collect();
                Expr::Case(arms, Box::new(self.expr(*otherwise)))
            }
            Expr::Lookup(lookup) => Expr::Lookup(Box::new(self.lookup(*lookup))),
            plain => plain,
        }
    }

    fn lookup(&mut self, lookup: Lookup) -> Lookup {
        let sources = lookup.sources.into_iter().map(|source| Source {
            table: source.table,
            keys: source.keys.into_iter().map(|(column, expr)| (column, self.expr(expr))).collect(),
            conditions: source.conditions.into_iter().map(|condition| self.expr(condition)).collect(),
        });
        let sources = sources.collect();
        let output = match lookup.output {
            Output::Any { comparison, left, value } => {
                Output::Any { comparison, left: self.expr(left), value: self.expr(value) }
            }
            Output::Scalar(value) => Output::Scalar(self.expr(value)),
            Output::Array(value) => Output::Array(self.expr(value)),
            plain @ (Output::Exists | Output::Count) => plain,
        };
        Lookup { sources, first_scope: lookup.first_scope, output }
    }

    fn parameter(&mut self, expr: Expr) -> Expr {
        let printed = format!("{expr:?}");
        let number = self.known.iter().position(|known| *known == printed).unwrap_or_else(|| {
            self.known.push(printed);
            self.parameters.push(expr);
            self.parameters.len() - 1
        });
        Expr::Parameter(number)
    }
}

/// Whether nothing but claims and role can change its value.
fn is_constant(expr: &Expr) -> bool {
    !expr.any(&|part| matches!(part, Expr::Column(_) | Expr::Now | Expr::Lookup(_) | Expr::Parameter(_)))
}

/// The columns of the judged row that are read, and what is needed of other tables.
pub(super) fn needs(table: u32, expr: &Expr) -> (BTreeSet<ColumnIndex>, BTreeMap<u32, Need>) {
    let mut found = Needs { reads: BTreeSet::new(), lookups: BTreeMap::new(), scopes: vec![table] };
    found.visit(expr);
    (found.reads, found.lookups)
}

struct Needs {
    reads: BTreeSet<ColumnIndex>,
    lookups: BTreeMap<u32, Need>,
    /// The table of each scope.
    scopes: Vec<u32>,
}

impl Needs {
    fn visit(&mut self, expr: &Expr) {
        match expr {
            Expr::Column(column) => self.column(*column),
            Expr::Lookup(lookup) => self.lookup(lookup),
            other => other.parts().into_iter().for_each(|part| self.visit(part)),
        }
    }

    fn column(&mut self, ColumnRef { scope, column }: ColumnRef) {
        if scope == 0 {
            self.reads.insert(column);
        } else if let Some(table) = self.scopes.get(scope) {
            self.lookups.entry(*table).or_default().columns.insert(column);
        }
    }

    fn lookup(&mut self, lookup: &Lookup) {
        if let Output::Any { left, .. } = &lookup.output {
            self.visit(left);
        }
        let outside = self.scopes.clone();
        self.scopes.truncate(lookup.first_scope);
        for source in &lookup.sources {
            let need = self.lookups.entry(source.table).or_default();
            need.columns.extend(source.keys.iter().map(|(column, _)| *column));
            need.keys.insert(source.keys.iter().map(|(column, _)| *column).collect());
            source.keys.iter().for_each(|(_, expr)| self.visit(expr));
            self.scopes.push(source.table);
            source.conditions.iter().for_each(|condition| self.visit(condition));
        }
        if let Output::Any { value, .. } | Output::Scalar(value) | Output::Array(value) = &lookup.output {
            self.visit(value);
        }
        self.scopes = outside;
    }
}
