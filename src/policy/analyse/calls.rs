//! Calls: SQL's own forms, settings and the time, functions of `pg_catalog` by the table of functions, and others by
//! their bodies.

use super::{
    names,
    reader::Reader,
    refusal::{Read, refuse},
    scope,
    typed::{Meaning, Typed},
};
use crate::policy::{
    expr::Expr,
    facts::FunctionFacts,
    functions::{self, Context},
    topic::Setting,
    value::{Scalar, Type, Value},
};
use sqlparser::ast::{self, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments};
use std::sync::Arc;

/// The setting that holds the claims.
const CLAIMS: &str = "request.jwt.claims";
/// Settings of this kind are NULL while nobody sets them. Others with a dot may belong to a module of the server.
const CUSTOM_PREFIXES: &[&str] = &["app", "jwt", "my", "myapp", "request.jwt", "rls", "tenant"];

/// What a call consists of, when it is nothing but a name and arguments.
#[derive(Debug)]
pub(super) struct Call<'n> {
    /// The name.
    pub(super) name: &'n ast::ObjectName,
    /// The arguments; none when it was written without parentheses.
    pub(super) arguments: Option<Vec<&'n ast::Expr>>,
}

/// Takes a call apart. `count(*)` is `is_count`, and no call.
pub(super) fn plain(function: &Function) -> Read<Call<'_>> {
    let Function { name, uses_odbc_syntax, parameters, args, within_group, filter, null_treatment, over } = function;
    let is_plain = !uses_odbc_syntax
        && matches!(parameters, FunctionArguments::None)
        && within_group.is_empty()
        && filter.is_none()
        && null_treatment.is_none()
        && over.is_none();
    if !is_plain {
        return refuse(format!("{name} is more than a plain call"));
    }
    let arguments = match args {
        FunctionArguments::None => None,
        FunctionArguments::Subquery(_) => return refuse(format!("{name} of a sub-select")),
        FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses })
            if clauses.is_empty() =>
        {
            let plain = args.iter().map(|argument| match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Ok(expr),
                FunctionArg::Unnamed(_) => refuse(format!("{name} of *")),
                FunctionArg::Named { .. } | FunctionArg::ExprNamed { .. } => {
                    refuse(format!("{name} by argument names"))
                }
            });
            Some(plain.collect::<Read<Vec<_>>>()?)
        }
        FunctionArguments::List(_) => return refuse(format!("{name} is more than a plain call")),
    };
    Ok(Call { name, arguments })
}

/// The sub-select of `array(select ...)`.
pub(super) fn array_query(function: &Function) -> Option<&ast::Query> {
    let Function { name, uses_odbc_syntax, parameters, args, within_group, filter, null_treatment, over } = function;
    let is_plain = !uses_odbc_syntax
        && matches!(parameters, FunctionArguments::None)
        && within_group.is_empty()
        && filter.is_none()
        && null_treatment.is_none()
        && over.is_none();
    match args {
        FunctionArguments::Subquery(query) if is_plain && names::bare_word(name).as_deref() == Some("array") => {
            Some(query)
        }
        _ => None,
    }
}

/// Whether a call is `count(*)`.
pub(super) fn is_count(function: &Function) -> bool {
    let Function { name, uses_odbc_syntax, parameters, args, within_group, filter, null_treatment, over } = function;
    let star = matches!(
        args,
        FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses })
            if clauses.is_empty() && matches!(args.as_slice(), [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)])
    );
    star && !uses_odbc_syntax
        && matches!(parameters, FunctionArguments::None)
        && within_group.is_empty()
        && filter.is_none()
        && null_treatment.is_none()
        && over.is_none()
        && names::parts(name).is_ok_and(|parts| match parts.as_slice() {
            [name] => name == "count",
            [schema, name] => schema == "pg_catalog" && name == "count",
            _ => false,
        })
}

/// Which function a call means.
#[derive(Debug)]
pub(super) enum Callee {
    /// One of `pg_catalog`.
    Builtin(String, Vec<Meaning>),
    /// Another, with its arguments as it wants them.
    Ours(Arc<FunctionFacts>, Vec<Typed>),
}

impl Reader<'_> {
    /// A node that is a call.
    pub(super) fn function(&mut self, function: &Function) -> Read<Meaning> {
        if let Some(query) = array_query(function) {
            return self.array_of_query(query).map(Meaning::Typed);
        }
        if is_count(function) {
            if names::bare_word(&function.name).is_some() && !self.naming.has_catalog_first() {
                return refuse("count may be an aggregate of another schema");
            }
            let count = self.scopes.levels.last().and_then(|level| level.count.clone());
            return match count {
                Some(count) => self.copy(&Typed::new(count, Type::of(Scalar::Int8))).map(Meaning::Typed),
                None => refuse("an aggregate where it is not read"),
            };
        }
        let call = plain(function)?;
        if let Some(word) = names::bare_word(call.name)
            && let Some(typed) = self.key_word(&word, call.arguments.as_deref())?
        {
            return Ok(Meaning::Typed(typed));
        }
        match self.callee(&call)? {
            Callee::Builtin(name, arguments) => self.builtin_call(&name, arguments).map(Meaning::Typed),
            Callee::Ours(function, arguments) => self.inlined(&function, arguments).map(Meaning::Typed),
        }
    }

    /// Which function a call means, with its arguments read.
    pub(super) fn callee(&mut self, call: &Call<'_>) -> Read<Callee> {
        let Some(arguments) = &call.arguments else { return refuse(format!("{} is not read", call.name)) };
        let parts = names::parts(call.name)?;
        let meanings = arguments.iter().map(|argument| self.meaning(argument)).collect::<Read<Vec<_>>>()?;
        let candidates = self.naming.functions(self.facts(), &parts)?;
        if candidates.is_builtin {
            return Ok(Callee::Builtin(candidates.name, meanings));
        }
        let function = Arc::clone(self.chosen(&candidates, &meanings)?);
        let Some(wanted) = scope::signature(self.facts(), &function) else {
            return refuse(format!("function {} has an argument of a type that is not computed with", function.name));
        };
        let typing = self.typing();
        let arguments = meanings.into_iter().zip(wanted).map(|(meaning, kind)| typing.as_type(meaning, kind));
        let arguments = arguments.collect::<Read<Vec<_>>>()?;
        Ok(Callee::Ours(function, arguments))
    }

    /// The only function that may be meant. Among several of a name, one is chosen only where every one is of plain
    /// built-in types and exactly one is of the types that are there.
    fn chosen<'c>(&self, candidates: &'c names::Candidates<'_>, arguments: &[Meaning]) -> Read<&'c Arc<FunctionFacts>> {
        let name = &candidates.name;
        let may_be_meant = |function: &&&Arc<FunctionFacts>| {
            let most = function.arguments.len();
            !function.is_plain || (most.saturating_sub(function.defaults)..=most).contains(&arguments.len())
        };
        let meant: Vec<&Arc<FunctionFacts>> = candidates.functions.iter().filter(may_be_meant).copied().collect();
        let function = match meant.as_slice() {
            [] => return refuse(format!("function {name} is not known")),
            [one] => *one,
            several => {
                let kinds = arguments.iter().map(|argument| match argument {
                    Meaning::Typed(typed) => Some(typed.kind),
                    Meaning::Literal(_) => None,
                });
                let kinds: Option<Vec<Type>> = kinds.collect();
                let is_distinct = |function: &&Arc<FunctionFacts>| {
                    function.is_plain
                        && function.arguments.iter().all(|&argument| {
                            argument != crate::change::value::oid::VARCHAR
                                && crate::policy::functions::scalar_of(argument, false).is_some()
                        })
                };
                let exact: Vec<_> = several
                    .iter()
                    .filter(|function| kinds.is_some() && scope::signature(self.facts(), function) == kinds)
                    .collect();
                match exact.as_slice() {
                    [one] if several.iter().all(is_distinct) => **one,
                    _ => return refuse(format!("function {name} is one of several")),
                }
            }
        };
        if !function.is_plain || function.arguments.len() != arguments.len() {
            return refuse(format!("function {name} is called with defaults or in another special way"));
        }
        // The borrow is the candidates' list, which holds it.
        match candidates.functions.iter().find(|known| Arc::ptr_eq(known, function)) {
            Some(known) => Ok(known),
            None => refuse(format!("function {name} is not known")),
        }
    }

    /// A word with a grammar or a meaning of its own; none when it is a name like any other.
    fn key_word(&mut self, word: &str, arguments: Option<&[&ast::Expr]>) -> Read<Option<Typed>> {
        let typed = match (word, arguments) {
            ("coalesce", Some(arguments)) => self.coalesce(arguments)?,
            ("nullif", Some([left, right])) => self.null_if(left, right)?,
            ("current_user" | "user", None) => self.current_user(),
            ("current_timestamp", None) => Typed::new(Expr::Now, Type::of(Scalar::Timestamptz)),
            ("current_date", None) => return refuse("current_date depends on the time zone"),
            ("session_user", None) => return refuse("session_user is this server's own login"),
            _ if names::has_call_syntax(word) => return refuse(format!("{} is not read", word.to_ascii_uppercase())),
            _ => return Ok(None),
        };
        Ok(Some(typed))
    }

    /// A function of `pg_catalog`. Constants without a type are text, which is what Postgres takes them for wherever a
    /// function of text fits.
    pub(super) fn builtin_call(&mut self, name: &str, arguments: Vec<Meaning>) -> Read<Typed> {
        match name {
            "current_setting" => return self.setting(&arguments),
            "now" | "transaction_timestamp" if arguments.is_empty() => {
                return Ok(Typed::new(Expr::Now, Type::of(Scalar::Timestamptz)));
            }
            "random" | "gen_random_uuid" | "nextval" | "clock_timestamp" | "statement_timestamp" | "timeofday" => {
                return refuse(format!("function {name}() is volatile"));
            }
            _ => {}
        }
        let typing = self.typing();
        let mut arguments = arguments.into_iter().map(|one| typing.settled(one)).collect::<Read<Vec<_>>>()?;
        // Its only form of one argument takes `double precision`.
        if name == "to_timestamp" && arguments.len() == 1 {
            let wanted = Type::of(Scalar::Float8);
            arguments = arguments.into_iter().map(|one| typing.implicit(one, wanted)).collect::<Read<Vec<_>>>()?;
        }
        if matches!(name, "timezone" | "date_trunc") {
            self.check_word(name, &arguments)?;
        }
        self.builtin(name, arguments)
    }

    /// Of some functions the first argument is a word of which few are computed here. Whether this one is must be known
    /// beforehand: afterwards every row would be hidden.
    fn check_word(&self, name: &str, arguments: &[Typed]) -> Read<()> {
        let kinds: Vec<Type> = arguments.iter().map(|argument| argument.kind).collect();
        let is_computed = match (functions::function(name, &kinds), arguments.first().map(|word| &word.expr)) {
            (Some(found), Some(Expr::Const(word @ Value::Text(_)))) => {
                let sample = [word.clone(), Value::Moment(0)];
                (found.function.eval)(&sample, &Context { now: 0 }).is_ok()
            }
            _ => false,
        };
        if is_computed { Ok(()) } else { refuse(format!("function {name} is known here for few words only")) }
    }

    /// `current_setting(...)`: of what our sessions set there are the claims alone, and for private channels a few more.
    fn setting(&self, arguments: &[Meaning]) -> Read<Typed> {
        if self.facts().restricted_builtins.contains("current_setting") {
            return refuse("not everybody may execute function current_setting");
        }
        let text = |meaning: &Meaning| match meaning {
            Meaning::Literal(Some(text)) => Some(text.to_ascii_lowercase()),
            Meaning::Typed(Typed { expr: Expr::Const(Value::Text(text)), .. }) => Some(text.to_ascii_lowercase()),
            _ => None,
        };
        let (name, is_missing_ok) = match arguments {
            [name] => (text(name), false),
            [name, Meaning::Typed(Typed { expr: Expr::Const(Value::Bool(missing_ok)), .. })] => {
                (text(name), *missing_ok)
            }
            _ => (None, false),
        };
        let Some(name) = name else { return refuse("the name of a setting is computed") };
        if name == CLAIMS {
            return Ok(Typed::new(Expr::Claims, Type::TEXT));
        }
        if let Some(setting) = Setting::named(&name).filter(|_| self.shared.is_channel) {
            return Ok(Typed::new(Expr::Setting(setting), Type::TEXT));
        }
        let is_custom = name.rsplit_once('.').is_some_and(|(prefix, _)| {
            CUSTOM_PREFIXES.iter().any(|known| prefix == *known || prefix.starts_with(&format!("{known}.")))
        });
        let is_set = self.facts().custom_settings.iter().any(|known| known.eq_ignore_ascii_case(&name));
        if !is_custom || is_set || !is_missing_ok {
            return refuse(format!("setting {name} is the session's"));
        }
        // No constant, for Postgres computes it with everything around it, and nothing may be folded by it.
        Ok(Typed::new(Expr::Lazy(Box::new(Expr::Const(Value::Null))), Type::TEXT))
    }

    /// Calls that the parser has nodes of its own for.
    pub(super) fn special_call(&mut self, node: &ast::Expr) -> Read<Meaning> {
        use ast::Expr as E;
        let (name, arguments): (&str, Vec<&ast::Expr>) = match node {
            E::Substring { expr, substring_from: Some(from), substring_for, special: _, shorthand } => {
                let name = if *shorthand { "substr" } else { "substring" };
                (name, [expr, from].into_iter().chain(substring_for).map(|one| &**one).collect())
            }
            E::Trim { trim_where, trim_what, expr, trim_characters: None } => {
                let name = match trim_where {
                    None | Some(ast::TrimWhereField::Both) => "btrim",
                    Some(ast::TrimWhereField::Leading) => "ltrim",
                    Some(ast::TrimWhereField::Trailing) => "rtrim",
                };
                (name, std::iter::once(expr).chain(trim_what).map(|one| &**one).collect())
            }
            E::AtTimeZone { timestamp, time_zone } => ("timezone", vec![time_zone, timestamp]),
            E::Position { expr, r#in } => ("position", vec![r#in, expr]),
            E::Ceil { expr, field: ast::CeilFloorKind::DateTimeField(ast::DateTimeField::NoDateTime) } => {
                ("ceil", vec![expr])
            }
            E::Floor { expr, field: ast::CeilFloorKind::DateTimeField(ast::DateTimeField::NoDateTime) } => {
                ("floor", vec![expr])
            }
            other => return refuse(format!("{} is not read", node_name(other))),
        };
        let meanings = arguments.into_iter().map(|argument| self.meaning(argument)).collect::<Read<Vec<_>>>()?;
        self.builtin_call(name, meanings).map(Meaning::Typed)
    }
}

/// What a node is called, for reasons. Nothing of what it holds.
fn node_name(node: &ast::Expr) -> &'static str {
    use ast::Expr as E;
    match node {
        E::Collate { .. } => "COLLATE",
        E::Extract { .. } => "EXTRACT",
        E::SimilarTo { .. } => "SIMILAR TO",
        E::Tuple(_) => "a row of values",
        E::CompoundFieldAccess { .. } => "a field or an element",
        E::Like { .. } | E::ILike { .. } => "LIKE with ESCAPE or ANY",
        E::Overlay { .. } => "OVERLAY",
        E::Convert { .. } => "CONVERT",
        E::Wildcard(_) | E::QualifiedWildcard(..) => "a whole row",
        E::IsJson { .. } => "IS JSON",
        E::IsNormalized { .. } => "IS NORMALIZED",
        E::Cast { .. } => "a special cast",
        E::Array(_) => "an array without ARRAY",
        _ => "a part of it",
    }
}
