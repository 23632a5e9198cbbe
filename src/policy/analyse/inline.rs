//! Functions by their bodies: what a call of one means, with the caller's needs kept. EXECUTE, the search path, the
//! role it runs as and STRICT count; what it says of its volatility does not, because a body that can be read here
//! changes nothing and gives, at one state of the database, one answer.

use super::{
    names::{self, Naming},
    parse::{self, Body},
    reader::Reader,
    refusal::{Read, refuse},
    scope::{Parameters, Scopes},
    subquery::Gathered,
    typed::{Collating, Meaning, Typed},
    types,
};
use crate::policy::{
    expr::{Expr, Output},
    facts::{FunctionFacts, Language},
    value::{Type, Value},
};
use std::sync::Arc;

/// How many functions deep calls may go: beyond that they may go on for ever.
const MAX_CALLS: usize = 8;

impl<'a> Reader<'a> {
    /// A call of a function that returns one value.
    pub(super) fn inlined(&mut self, function: &Arc<FunctionFacts>, arguments: Vec<Typed>) -> Read<Typed> {
        let name = &function.name;
        if function.returns_set {
            return refuse(format!("function {name} returns a set where one value is wanted"));
        }
        let kind = self.returned(function)?;
        let inputs = self.collation_of_call(&arguments)?;
        let nulls = if function.is_strict { null_tests(&arguments) } else { Vec::new() };
        let arguments = computed_before(arguments);
        let risky = risky(function, &arguments)?;
        let mut body = self.body_reader(function, arguments, inputs)?;
        let value = match parse::body(function)? {
            Body::Expression(node) => {
                let meaning = body.meaning(&node)?;
                body.returning(function, meaning, kind)?
            }
            Body::Query(query) => match body.gather(&query)? {
                Gathered::One(meaning) => body.returning(function, meaning, kind)?,
                Gathered::Rows(rows) => {
                    // Of several rows the function returns the first, and which that is nobody said.
                    if !rows.is_single {
                        return refuse(format!("function {name} returns one row of several"));
                    }
                    let (lookup, value) = rows.lookup(|value| Output::Scalar(value.expr.clone()));
                    let lookup = Typed { expr: lookup, ..value };
                    body.returning(function, Meaning::Typed(lookup), kind)?
                }
                Gathered::Elements(_) => return refuse(format!("function {name} returns the first of a set")),
            },
        };
        self.count(&value.expr)?;
        check_immutable(function, &value.expr)?;
        let expr = if nulls.is_empty() {
            value.expr
        } else {
            let any = if nulls.len() == 1 { nulls.into_iter().next() } else { Some(Expr::Or(nulls)) };
            match any {
                Some(any) => Expr::Case(vec![(any, Expr::Const(Value::Null))], Box::new(value.expr)),
                None => value.expr,
            }
        };
        let expr = risky.into_iter().fold(expr, with_risk);
        let is_unordered = value.is_unordered;
        Ok(Typed { is_unordered, ..Typed::derived(expr, kind, inputs) })
    }

    /// A call of a function that returns a set, where a set is wanted.
    pub(super) fn inlined_set(&mut self, function: &Arc<FunctionFacts>, arguments: Vec<Typed>) -> Read<Gathered> {
        let name = &function.name;
        let kind = self.returned(function)?;
        if function.is_strict && !null_tests(&arguments).is_empty() {
            return refuse(format!("function {name} is STRICT and returns a set"));
        }
        let inputs = self.collation_of_call(&arguments)?;
        let arguments = computed_before(arguments);
        let risky = risky(function, &arguments)?;
        let mut body = self.body_reader(function, arguments, inputs)?;
        let Body::Query(query) = parse::body(function)? else {
            return refuse(format!("function {name} returns a set by RETURN"));
        };
        match body.gather(&query)? {
            Gathered::Rows(rows) if rows.value.kind == kind => {
                if function.is_immutable {
                    return refuse_immutable(function);
                }
                // A key is computed whatever the rows are, and as it stands.
                let is_key = |argument: &Expr| {
                    let printed = format!("{argument:?}");
                    let mut keys = rows.sources.iter().flat_map(|source| &source.keys);
                    keys.any(|(_, key)| format!("{key:?}") == printed)
                };
                if !risky.iter().all(is_key) {
                    return refuse(format!("function {name} does not use an argument that may be an error"));
                }
                let value = Typed::derived(rows.value.expr.clone(), kind, inputs);
                Ok(Gathered::Rows(super::subquery::Rows { value, ..rows }))
            }
            _ => refuse(format!("function {name} returns a set in a way that is not read")),
        }
    }

    fn returned(&self, function: &FunctionFacts) -> Read<Type> {
        match types::of_signature(self.facts(), function.returns) {
            Some(kind) => Ok(kind),
            None => refuse(format!("function {} returns a type that is not computed with", function.name)),
        }
    }

    /// The collation a function is called with: inside, that of every text among its arguments.
    fn collation_of_call(&self, arguments: &[Typed]) -> Read<Collating> {
        match arguments.iter().fold(Collating::None, |all, argument| all.with(argument.collating)) {
            Collating::Conflict => refuse("a function is called with texts of different collations"),
            inputs => Ok(inputs),
        }
    }

    /// The body's value as what the function returns.
    fn returning(&self, function: &FunctionFacts, meaning: Meaning, kind: Type) -> Read<Typed> {
        let is_plpgsql = function.language == Language::Plpgsql;
        match meaning {
            // In PL/pgSQL such a constant is a text first, and then cast as an assignment is.
            Meaning::Literal(Some(_)) if is_plpgsql && kind != Type::TEXT => {
                refuse(format!("function {} returns a constant of another type", function.name))
            }
            Meaning::Typed(typed) if is_plpgsql && typed.kind != kind => {
                refuse(format!("function {} returns a value of another type", function.name))
            }
            meaning => self.typing().as_type(meaning, kind),
        }
    }

    /// A reader for the body, as whom it runs.
    fn body_reader(&self, function: &Arc<FunctionFacts>, arguments: Vec<Typed>, inputs: Collating) -> Read<Reader<'a>> {
        let name = &function.name;
        if self.calls >= MAX_CALLS {
            return refuse(format!("function {name} is called too deeply, perhaps by itself"));
        }
        self.count_text()?;
        if !function.execute.contains(&self.naming.role) {
            return refuse(format!("role {} has no EXECUTE on function {name}", self.naming.role));
        }
        let mut search_path = self.naming.search_path.clone();
        for setting in &function.settings {
            match setting.split_once('=') {
                Some((key, value)) if key.eq_ignore_ascii_case("search_path") => match names::search_path(value) {
                    Some(schemas) => search_path = schemas,
                    None => return refuse(format!("the search path of function {name} is not read")),
                },
                _ => return refuse(format!("function {name} changes a setting")),
            }
        }
        let role = if function.security_definer { Arc::clone(&function.owner) } else { Arc::clone(&self.naming.role) };
        let collated = arguments.into_iter().map(|argument| Typed {
            is_unordered: argument.is_unordered,
            ..Typed::derived(argument.expr, argument.kind, inputs)
        });
        Ok(Reader {
            shared: self.shared,
            naming: Naming { is_stored: function.sql_body.is_some(), role, search_path },
            is_definer: self.is_definer || function.security_definer,
            scopes: Scopes {
                levels: Vec::new(),
                rows: self.scopes.rows,
                parameters: Some(Parameters {
                    function: Arc::clone(function),
                    values: collated.collect(),
                    rows: self.scopes.rows,
                    columns_win: function.language == Language::Sql,
                }),
            },
            expanding: self.expanding.clone(),
            calls: self.calls + 1,
            depth: self.depth,
        })
    }
}

/// The arguments as a call computes them: before the body, and not only when they are reached.
fn computed_before(arguments: Vec<Typed>) -> Vec<Typed> {
    let of = |expr| match expr {
        Expr::Lazy(expr) => *expr,
        expr => expr,
    };
    arguments.into_iter().map(|argument| Typed { expr: of(argument.expr), ..argument }).collect()
}

/// The arguments that may be an error, of claims alone: Postgres computes them before the body, unless it puts the body
/// in the place of the call.
fn risky(function: &FunctionFacts, arguments: &[Typed]) -> Read<Vec<Expr>> {
    let failing = arguments.iter().map(|argument| &argument.expr).filter(|expr| expr.may_fail());
    let of_rows = |expr: &Expr| expr.any(&|part| matches!(part, Expr::Column(_) | Expr::Lookup(_)));
    let failing: Vec<Expr> = failing.cloned().collect();
    if failing.iter().any(of_rows) {
        return refuse(format!("an argument of function {} may be an error", function.name));
    }
    Ok(failing)
}

/// Postgres calls a function that is declared IMMUTABLE while it plans, also where its answer is not reached.
fn check_immutable(function: &FunctionFacts, body: &Expr) -> Read<()> {
    let changes =
        |part: &Expr| matches!(part, Expr::Claims | Expr::Setting(_) | Expr::Role | Expr::Now | Expr::Lookup(_));
    if function.is_immutable && body.any(&changes) { refuse_immutable(function) } else { Ok(()) }
}

fn refuse_immutable<T>(function: &FunctionFacts) -> Read<T> {
    refuse(format!("function {} is declared IMMUTABLE, and is not", function.name))
}

/// A body behind an argument that may be an error: the body may reach it, or not, but the call computes it in any case.
fn with_risk(body: Expr, argument: Expr) -> Expr {
    // Whether something is NULL never is.
    let never = Expr::IsNull(Box::new(Expr::IsNull(Box::new(argument))));
    Expr::Case(vec![(never, Expr::Const(Value::Null))], Box::new(body))
}

/// Whether each argument is NULL, those left out that never are.
fn null_tests(arguments: &[Typed]) -> Vec<Expr> {
    let may_be_null = arguments.iter().filter(|argument| match &argument.expr {
        Expr::Const(value) => *value == Value::Null,
        Expr::Role | Expr::Now => false,
        _ => true,
    });
    may_be_null.map(|argument| Expr::IsNull(Box::new(argument.expr.clone()))).collect()
}
