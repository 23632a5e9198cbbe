//! Expressions in words close to SQL, for people who ask why: columns and tables by their names, parameters by what they
//! stand for. Never a value of a row.

use super::{
    expr::{ColumnRef, Expr, Lookup, Output},
    facts::Facts,
    value::Value,
};

/// Prints expressions over a table's row.
pub struct Printer<'a> {
    facts: &'a Facts,
    parameters: &'a [Expr],
    /// The table of each scope.
    scopes: Vec<u32>,
}

impl<'a> Printer<'a> {
    /// For expressions of a program over rows of `table`.
    pub fn new(facts: &'a Facts, table: u32, parameters: &'a [Expr]) -> Printer<'a> {
        Printer { facts, parameters, scopes: vec![table] }
    }

    /// The text of an expression.
    pub fn print(&mut self, expr: &Expr) -> String {
        match expr {
            Expr::Const(value) => constant(value),
            Expr::Column(column) => self.column(*column),
            Expr::Claims => "the claims".to_owned(),
            Expr::Setting(setting) => format!("current_setting('{}')", setting.name()),
            Expr::Role => "current_user".to_owned(),
            Expr::Now => "now()".to_owned(),
            Expr::Parameter(number) => match self.parameters.get(*number) {
                Some(parameter) => self.print(parameter),
                None => format!("${number}"),
            },
            Expr::And(parts) => self.joined(parts, " and "),
            Expr::Or(parts) => self.joined(parts, " or "),
            Expr::Not(part) => format!("not {}", self.inner(part)),
            Expr::IsNull(part) => format!("{} is null", self.inner(part)),
            Expr::IsBool(part, value) => format!("{} is {value}", self.inner(part)),
            Expr::Call(function, arguments) => self.call(function.name, arguments),
            Expr::AnyAll { comparison, left, array, all } => {
                let word = if *all { "all" } else { "any" };
                format!("{} {} {word} ({})", self.inner(left), comparison.name, self.print(array))
            }
            Expr::Case(arms, otherwise) => {
                let arms = arms
                    .iter()
                    .map(|(condition, result)| format!("when {} then {} ", self.print(condition), self.print(result)));
                let arms: String = arms.collect();
                format!("case {arms}else {} end", self.print(otherwise))
            }
            Expr::Coalesce(parts) => format!("coalesce({})", self.list(parts)),
            Expr::Distinct(_, left, right) => format!("{} is distinct from {}", self.inner(left), self.inner(right)),
            Expr::NullIf(_, left, right) => format!("nullif({}, {})", self.print(left), self.print(right)),
            Expr::Array(parts) => format!("array[{}]", self.list(parts)),
            Expr::Lazy(part) => format!("(select {})", self.print(part)),
            Expr::Lookup(lookup) => self.lookup(lookup),
        }
    }

    fn inner(&mut self, expr: &Expr) -> String {
        match expr {
            Expr::And(_) | Expr::Or(_) => format!("({})", self.print(expr)),
            _ => self.print(expr),
        }
    }

    fn joined(&mut self, parts: &[Expr], word: &str) -> String {
        parts.iter().map(|part| self.inner(part)).collect::<Vec<_>>().join(word)
    }

    fn list(&mut self, parts: &[Expr]) -> String {
        parts.iter().map(|part| self.print(part)).collect::<Vec<_>>().join(", ")
    }

    fn call(&mut self, name: &str, arguments: &[Expr]) -> String {
        let is_word = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
        match (name.split_once("::"), arguments) {
            (Some((_, to)), [value]) => format!("{}::{to}", self.inner(value)),
            (None, [left, right]) if !is_word => format!("{} {name} {}", self.inner(left), self.inner(right)),
            (None, [value]) if !is_word => format!("{name}{}", self.inner(value)),
            _ => format!("{name}({})", self.list(arguments)),
        }
    }

    fn column(&self, ColumnRef { scope, column }: ColumnRef) -> String {
        let table = self.scopes.get(scope).and_then(|oid| self.facts.tables.get(oid));
        let name = table.and_then(|table| table.columns.get(column));
        match (table, name) {
            (Some(table), Some(name)) if self.scopes.len() > 1 => format!("{}.{}", table.name, name.name),
            (_, Some(name)) => name.name.clone(),
            _ => "?".to_owned(),
        }
    }

    fn lookup(&mut self, lookup: &Lookup) -> String {
        let outside = self.scopes.clone();
        let left = match &lookup.output {
            Output::Any { comparison, left, .. } => format!("{} {} any ", self.inner(left), comparison.name),
            _ => String::new(),
        };
        self.scopes.truncate(lookup.first_scope);
        let mut tables = Vec::new();
        let mut conditions = Vec::new();
        for source in &lookup.sources {
            let scope = self.scopes.len();
            self.scopes.push(source.table);
            tables.push(self.facts.tables.get(&source.table).map_or("?", |table| &table.name).to_owned());
            for (column, expr) in &source.keys {
                let column = self.column(ColumnRef { scope, column: *column });
                conditions.push(format!("{column} = {}", self.inner(expr)));
            }
            for condition in &source.conditions {
                conditions.push(self.inner(condition));
            }
        }
        let what = match &lookup.output {
            Output::Exists => "1".to_owned(),
            Output::Any { value, .. } | Output::Scalar(value) | Output::Array(value) => self.print(value),
            Output::Count => "count(*)".to_owned(),
        };
        self.scopes = outside;
        let mut select = format!("(select {what} from {}", tables.join(", "));
        if !conditions.is_empty() {
            select.push_str(" where ");
            select.push_str(&conditions.join(" and "));
        }
        select.push(')');
        match &lookup.output {
            Output::Exists => format!("exists {select}"),
            Output::Any { .. } => format!("{left}{select}"),
            Output::Array(_) => format!("array{select}"),
            Output::Scalar(_) | Output::Count => select,
        }
    }
}

/// A constant of a policy, which its author wrote down.
fn constant(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Text(text) => format!("'{}'", text.replace('\'', "''")),
        Value::Uuid(bytes) => format!("'{}'", uuid::Uuid::from_bytes(*bytes)),
        Value::Array(values) => format!("array[{}]", values.iter().map(constant).collect::<Vec<_>>().join(", ")),
        _ => "a constant".to_owned(),
    }
}
