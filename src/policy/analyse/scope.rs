//! What names of columns mean: the queries a text stands in, innermost last, and the arguments of the function it is
//! the body of. Notes which columns are read, for the rights to them.

use super::{
    names,
    refusal::{Read, refuse},
    tree,
    typed::{Collating, DEFAULT_COLLATION, Typed},
    types,
};
use crate::policy::{
    catalog::{Collation, ColumnIndex},
    expr::{ColumnRef, Expr},
    facts::{Facts, FunctionFacts, TableFacts},
    value::Type,
};
use sqlparser::ast::Ident;
use std::{collections::BTreeSet, ops::Range, sync::Arc};

/// Columns every table has beside its own.
const SYSTEM_COLUMNS: &[&str] = &["ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"];

/// A table in FROM, or the one a policy is of.
#[derive(Clone, Debug)]
pub(super) struct Relation {
    /// What its columns are qualified with.
    pub(super) alias: String,
    /// Whether that is its own name, so that its schema may stand before it.
    pub(super) is_unaliased: bool,
    /// The table.
    pub(super) table: Arc<TableFacts>,
    /// The scope of its rows.
    pub(super) scope: usize,
    /// The columns that were read.
    pub(super) read: BTreeSet<ColumnIndex>,
    /// Whether it is looked up: then what is read must be in the stream, always.
    pub(super) is_lookup: bool,
}

/// One query's FROM.
#[derive(Clone, Debug, Default)]
pub(super) struct Level {
    /// The tables.
    pub(super) relations: Vec<Relation>,
    /// Those that the part being read may name: ON sees the tables it joins.
    pub(super) visible: Range<usize>,
    /// Set while the select list of an aggregate is read: columns may not be named, `count(*)` is this.
    pub(super) count: Option<Expr>,
}

/// The arguments a function's body may name.
#[derive(Clone, Debug)]
pub(super) struct Parameters {
    /// The function.
    pub(super) function: Arc<FunctionFacts>,
    /// What it is called with.
    pub(super) values: Vec<Typed>,
    /// How many rows were in scope where it is called.
    pub(super) rows: usize,
    /// Whether a column of the same name hides one: in SQL. In PL/pgSQL that is an error.
    pub(super) columns_win: bool,
}

/// Everything a name may mean.
#[derive(Clone, Debug, Default)]
pub(super) struct Scopes {
    /// The queries, outermost first.
    pub(super) levels: Vec<Level>,
    /// The arguments.
    pub(super) parameters: Option<Parameters>,
    /// How many rows are in scope.
    pub(super) rows: usize,
}

impl Scopes {
    /// A bare name.
    pub(super) fn column(&mut self, facts: &Facts, ident: &Ident) -> Read<Typed> {
        let name = names::identifier(ident)?;
        let found = self.find(&name)?;
        let argument = self.argument(&name);
        // PL/pgSQL has a variable of this name in every body.
        if name == "found" && self.parameters.as_ref().is_some_and(|parameters| !parameters.columns_win) {
            return refuse("found may be a column and PL/pgSQL's variable");
        }
        match (found, argument) {
            (Some((level, relation, column)), None) => self.read(facts, level, relation, column),
            (Some((level, relation, column)), Some(_)) if self.columns_win() => {
                self.read(facts, level, relation, column)
            }
            (Some(_), Some(_)) => refuse(format!("{name} is both a column and an argument")),
            (None, Some(index)) => self.argument_value(index),
            (None, None) => refuse(format!("column {name} is not known")),
        }
    }

    /// A name with something before it.
    pub(super) fn qualified(&mut self, facts: &Facts, idents: &[Ident]) -> Read<Typed> {
        let parts = idents.iter().map(names::identifier).collect::<Read<Vec<_>>>()?;
        let unknown = || refuse(format!("column {} is not known", parts.join(".")));
        let (schema, qualifier, name) = match parts.as_slice() {
            [qualifier, name] => (None, qualifier, name),
            [schema, qualifier, name] => (Some(schema), qualifier, name),
            _ => return unknown(),
        };
        let Some((level, relation)) = self.relation(schema.map(String::as_str), qualifier)? else {
            let is_own = schema.is_none()
                && self.parameters.as_ref().is_some_and(|parameters| parameters.function.name == *qualifier);
            return match self.argument(name) {
                Some(index) if is_own => self.argument_value(index),
                _ => unknown(),
            };
        };
        // In PL/pgSQL the function's name is a label too, and Postgres may take it for either.
        if self.parameters.as_ref().is_some_and(|own| !own.columns_win && own.function.name == *qualifier) {
            return refuse(format!("{qualifier} is both a table and the function"));
        }
        let table = self.levels.get(level).and_then(|level| level.relations.get(relation)).map(|known| &known.table);
        match table.and_then(|table| table.columns.iter().position(|column| column.name == *name)) {
            Some(column) => self.read(facts, level, relation, column),
            None => unknown(),
        }
    }

    /// `$1`.
    pub(super) fn numbered(&self, placeholder: &str) -> Read<Typed> {
        let number = placeholder.strip_prefix('$').and_then(|digits| digits.parse::<usize>().ok());
        match number.and_then(|number| number.checked_sub(1)) {
            Some(index) => self.argument_value(index),
            None => refuse(format!("parameter {placeholder} is not known")),
        }
    }

    /// The relation with this name in the innermost query that has one.
    pub(super) fn relation(&self, schema: Option<&str>, name: &str) -> Read<Option<(usize, usize)>> {
        for (index, level) in self.levels.iter().enumerate().rev() {
            let named = level.visible.clone().filter(|&at| {
                level.relations.get(at).is_some_and(|relation| {
                    relation.alias == name
                        && schema.is_none_or(|schema| relation.is_unaliased && relation.table.schema == schema)
                })
            });
            let named: Vec<usize> = named.collect();
            match named.as_slice() {
                [] => {}
                [_] if level.count.is_some() => return refuse("a column beside an aggregate"),
                [relation] => return Ok(Some((index, *relation))),
                _ => return refuse(format!("several tables are called {name}")),
            }
        }
        Ok(None)
    }

    fn find(&self, name: &str) -> Read<Option<(usize, usize, ColumnIndex)>> {
        for (index, level) in self.levels.iter().enumerate().rev() {
            if !level.visible.is_empty() && SYSTEM_COLUMNS.contains(&name) {
                return refuse(format!("system column {name} is not in the stream"));
            }
            let found = level.visible.clone().filter_map(|relation| {
                let table = &level.relations.get(relation)?.table;
                Some((index, relation, table.columns.iter().position(|column| column.name == name)?))
            });
            let found: Vec<_> = found.collect();
            match found.as_slice() {
                [] => {}
                [_] if level.count.is_some() => return refuse("a column beside an aggregate"),
                [one] => return Ok(Some(*one)),
                _ => return refuse(format!("column {name} is in several tables")),
            }
        }
        Ok(None)
    }

    fn read(&mut self, facts: &Facts, level: usize, relation: usize, column: ColumnIndex) -> Read<Typed> {
        let Some(relation) = self.levels.get_mut(level).and_then(|level| level.relations.get_mut(relation)) else {
            return refuse("a column is not known");
        };
        let Some(known) = relation.table.columns.get(column) else { return refuse("a column is not known") };
        let Some(kind) = types::of_column(facts, known.type_oid) else {
            return refuse(format!("type {} of column {} is not computed with", known.type_name, known.name));
        };
        if relation.is_lookup && known.generated.is_some() {
            return refuse(format!("column {} of {} is generated", known.name, relation.table.name));
        }
        relation.read.insert(column);
        let expr = Expr::Column(ColumnRef { scope: relation.scope, column });
        let collating = match known.collation {
            Collation::None => Collating::None,
            _ if known.collation_oid == DEFAULT_COLLATION => Collating::Default,
            other => Collating::Of(other, known.collation_oid),
        };
        Ok(Typed { collating, ..Typed::new(expr, kind) })
    }

    fn columns_win(&self) -> bool {
        self.parameters.as_ref().is_some_and(|parameters| parameters.columns_win)
    }

    fn argument(&self, name: &str) -> Option<usize> {
        self.parameters.as_ref()?.function.argument_names.iter().position(|known| known == name)
    }

    /// An argument where it is named: rows that lookups inside of it bring into scope come after those that are there.
    fn argument_value(&self, index: usize) -> Read<Typed> {
        let Some(parameters) = &self.parameters else { return refuse("an argument outside of a function") };
        let Some(value) = parameters.values.get(index) else { return refuse("an argument that is not there") };
        let mut value = value.clone();
        tree::rebase(&mut value.expr, parameters.rows, self.rows);
        Ok(value)
    }
}

/// The type of every argument of a function; none when one is not computed with.
pub(super) fn signature(facts: &Facts, function: &FunctionFacts) -> Option<Vec<Type>> {
    function.arguments.iter().map(|&argument| types::of_signature(facts, argument)).collect()
}
