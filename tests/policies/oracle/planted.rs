//! Mistakes planted in compiled policies: what the comparison must find.

use crate::policies::compare::Replaced;
use walcast::policy::{
    analyse::{Ruling, ruling},
    catalog::{Catalog, RowRule},
    expr::{Expr, Lookup, Output},
    program::Program,
    value::Value,
};

/// A kind of mistake.
pub struct Mistake {
    pub name: &'static str,
    /// Makes it of an expression, or says that it cannot be made of this one.
    plant: fn(&mut Expr) -> bool,
    /// Makes it at the top only.
    is_of_the_whole: bool,
    /// How many programs it was planted in.
    pub planted: u64,
    /// After how many decisions it was found.
    pub found: Option<u64>,
}

/// All kinds.
pub fn mistakes() -> Vec<Mistake> {
    let of = |name, plant| Mistake { name, plant, is_of_the_whole: false, planted: 0, found: None };
    let mut all = vec![
        of("< is computed as <=", |expr| flip_order(expr, "<")),
        of("<= is computed as <", |expr| flip_order(expr, "<=")),
        of("IS NULL is never true", |expr| {
            take(expr, |expr| match expr {
                Expr::IsNull(_) => Ok(Expr::Const(Value::Bool(false))),
                other => Err(other),
            })
        }),
        of("AND is computed as OR", |expr| {
            take(expr, |expr| match expr {
                Expr::And(parts) if parts.len() > 1 => Ok(Expr::Or(parts)),
                other => Err(other),
            })
        }),
        of("OR is computed as AND", |expr| {
            take(expr, |expr| match expr {
                Expr::Or(parts) if parts.len() > 1 => Ok(Expr::And(parts)),
                other => Err(other),
            })
        }),
        of("NOT of NULL is true", |expr| {
            take(expr, |expr| match expr {
                Expr::Not(part) => Ok(Expr::Not(Box::new(Expr::IsBool(part, true)))),
                other => Err(other),
            })
        }),
        of("a condition of a lookup is forgotten", |expr| {
            of_lookup(expr, |lookup| lookup.sources.iter_mut().any(|source| source.conditions.pop().is_some()))
        }),
        of("a key of a lookup is forgotten", |expr| {
            of_lookup(expr, |lookup| lookup.sources.iter_mut().any(|source| source.keys.pop().is_some()))
        }),
        of("EXISTS is always true", |expr| {
            take(expr, |expr| match expr {
                Expr::Lookup(lookup) if matches!(lookup.output, Output::Exists) => Ok(Expr::Const(Value::Bool(true))),
                other => Err(other),
            })
        }),
        of("IN is false where a NULL makes it unknown", |expr| {
            take(expr, |expr| match expr {
                Expr::Lookup(lookup) if matches!(lookup.output, Output::Any { .. }) => {
                    Ok(Expr::IsBool(Box::new(Expr::Lookup(lookup)), true))
                }
                other => Err(other),
            })
        }),
        of("ANY is computed as ALL, and ALL as ANY", |expr| match expr {
            Expr::AnyAll { all, .. } => {
                *all = !*all;
                true
            }
            _ => false,
        }),
        of("IS DISTINCT FROM is computed as <>", |expr| {
            take(expr, |expr| match expr {
                Expr::Distinct(equality, left, right) => {
                    Ok(Expr::Not(Box::new(Expr::Call(equality, vec![*left, *right]))))
                }
                other => Err(other),
            })
        }),
        of("NULL equals NULL", |expr| {
            take(expr, |expr| match expr {
                Expr::Call(function, arguments) if function.name == "=" => {
                    let Ok([left, right]) = <[Expr; 2]>::try_from(arguments) else {
                        unreachable!("= has two arguments")
                    };
                    Ok(Expr::Not(Box::new(Expr::Distinct(function, Box::new(left), Box::new(right)))))
                }
                other => Err(other),
            })
        }),
        of("COALESCE gives its first argument", |expr| {
            take(expr, |expr| match expr {
                Expr::Coalesce(parts) if parts.len() > 1 => Ok(parts.into_iter().next().expect("there are several")),
                other => Err(other),
            })
        }),
        of("NULLIF gives its first argument", |expr| {
            take(expr, |expr| match expr {
                // Claims are never the empty text here.
                Expr::NullIf(_, left, _) if !matches!(*left, Expr::Claims) => Ok(*left),
                other => Err(other),
            })
        }),
        of("the first arm of CASE is forgotten", |expr| match expr {
            // Those that stand for STRICT are a mistake of their own.
            Expr::Case(arms, _) if arms.first().is_some_and(|(_, result)| !is_null(result)) => {
                arms.remove(0);
                true
            }
            _ => false,
        }),
        of("STRICT is ignored", |expr| match expr {
            Expr::Case(arms, _) if arms.first().is_some_and(|(when, result)| is_null(result) && is_test(when)) => {
                arms.remove(0);
                true
            }
            _ => false,
        }),
        of("now() is the year 2000", |expr| {
            take(expr, |expr| match expr {
                Expr::Now => Ok(Expr::Const(Value::Moment(0))),
                other => Err(other),
            })
        }),
        of("IS TRUE keeps NULL", |expr| {
            take(expr, |expr| match expr {
                Expr::IsBool(part, true) => Ok(*part),
                other => Err(other),
            })
        }),
    ];
    all.push(Mistake {
        is_of_the_whole: true,
        ..of("a restrictive policy is forgotten", |expr| match expr {
            Expr::And(parts) if parts.len() > 1 => parts.pop().is_some(),
            _ => false,
        })
    });
    all
}

impl Mistake {
    /// The catalogue's programs with the mistake, where it can be made.
    pub fn planted_in(&mut self, catalog: &Catalog) -> Replaced {
        let mut replaced = Replaced::new();
        for table in catalog.tables.values() {
            let Some(facts) = catalog.facts.tables.get(&table.oid) else { continue };
            for (role, access) in &table.access {
                let RowRule::Compiled(_) = access.rows else { continue };
                let Ruling::Clauses(clauses) = ruling(&catalog.facts, facts, role) else { continue };
                let mut program = Program::new(&catalog.facts, facts, clauses);
                if self.plant(&mut program) {
                    self.planted += 1;
                    replaced.insert((table.oid, role.to_string()), program);
                }
            }
        }
        replaced
    }

    fn plant(&self, program: &mut Program) -> bool {
        if self.is_of_the_whole {
            return (self.plant)(&mut program.predicate);
        }
        let mut is_planted = visit(&mut program.predicate, self.plant);
        for parameter in &mut program.parameters {
            is_planted |= visit(parameter, self.plant);
        }
        is_planted
    }
}

/// A test for NULL, and not one for whether an argument can be computed at all.
fn is_test(expr: &Expr) -> bool {
    match expr {
        Expr::IsNull(part) => !matches!(**part, Expr::IsNull(_)),
        Expr::Or(parts) => parts.iter().all(is_test),
        _ => false,
    }
}

fn is_null(expr: &Expr) -> bool {
    matches!(expr, Expr::Const(Value::Null))
}

/// Replaces an expression by what is made of it.
fn take(expr: &mut Expr, change: impl FnOnce(Expr) -> Result<Expr, Expr>) -> bool {
    match change(std::mem::replace(expr, Expr::Const(Value::Null))) {
        Ok(changed) => {
            *expr = changed;
            true
        }
        Err(same) => {
            *expr = same;
            false
        }
    }
}

fn flip_order(expr: &mut Expr, name: &str) -> bool {
    take(expr, |expr| match expr {
        // `a <= b` is `not b < a`, and the other way round.
        Expr::Call(function, arguments) if function.name == name && arguments.len() == 2 => {
            Ok(Expr::Not(Box::new(Expr::Call(function, arguments.into_iter().rev().collect()))))
        }
        other => Err(other),
    })
}

fn of_lookup(expr: &mut Expr, change: fn(&mut Lookup) -> bool) -> bool {
    match expr {
        Expr::Lookup(lookup) => change(lookup),
        _ => false,
    }
}

/// Changes every part that can be, the innermost ones first.
fn visit(expr: &mut Expr, plant: fn(&mut Expr) -> bool) -> bool {
    let mut is_planted = false;
    for part in parts(expr) {
        is_planted |= visit(part, plant);
    }
    plant(expr) || is_planted
}

fn parts(expr: &mut Expr) -> Vec<&mut Expr> {
    match expr {
        Expr::Const(_)
        | Expr::Column(_)
        | Expr::Claims
        | Expr::Setting(_)
        | Expr::Role
        | Expr::Now
        | Expr::Parameter(_) => Vec::new(),
        Expr::And(parts) | Expr::Or(parts) | Expr::Call(_, parts) | Expr::Coalesce(parts) | Expr::Array(parts) => {
            parts.iter_mut().collect()
        }
        Expr::Not(part) | Expr::IsNull(part) | Expr::IsBool(part, _) | Expr::Lazy(part) => vec![part],
        Expr::AnyAll { left, array, .. } => vec![left, array],
        Expr::Distinct(_, left, right) | Expr::NullIf(_, left, right) => vec![left, right],
        Expr::Case(arms, otherwise) => {
            let of_arms = arms.iter_mut().flat_map(|(condition, result)| [condition, result]);
            of_arms.chain([&mut **otherwise]).collect()
        }
        Expr::Lookup(lookup) => {
            let Lookup { sources, output, .. } = &mut **lookup;
            let of_sources = sources
                .iter_mut()
                .flat_map(|source| source.keys.iter_mut().map(|(_, expr)| expr).chain(&mut source.conditions));
            let of_output = match output {
                Output::Any { left, value, .. } => vec![left, value],
                Output::Scalar(value) | Output::Array(value) => vec![value],
                Output::Exists | Output::Count => Vec::new(),
            };
            of_sources.chain(of_output).collect()
        }
    }
}
