//! `Reader`: one text on its way from syntax tree to expression. Here is the dispatch over the tree and what every text
//! consists of: names, constants, operators, casts. Every node that is not named here is refused by name.

use super::{
    names::Naming,
    refusal::{Read, refuse},
    scope::Scopes,
    tree,
    typed::{self, Meaning, Typed},
    types,
    typing::{self, Typing},
};
use crate::policy::{
    expr::Expr,
    facts::Facts,
    functions,
    value::{Scalar, Type, Value},
};
use sqlparser::ast::{self, BinaryOperator, CastKind, UnaryOperator, ValueWithSpan};
use std::cell::Cell;

/// How deep expressions may nest, bodies of functions included.
const MAX_DEPTH: usize = 100;
/// How many parts may be made of one policy on the way: arguments that are named often are copied often.
const MAX_WORK: usize = 20_000;
/// What another text to read counts.
const TEXT_WORK: usize = 50;

/// What is the same for all texts of one policy.
#[derive(Debug)]
pub(super) struct Shared<'f> {
    /// The catalogue.
    pub(super) facts: &'f Facts,
    /// Whether the policies are those of private channels, for which more settings are set.
    pub(super) is_channel: bool,
    /// How many parts were copied so far.
    pub(super) work: Cell<usize>,
}

/// A text being read.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    /// What is the same for all texts.
    pub(super) shared: &'a Shared<'a>,
    /// How its names are resolved, and for whom.
    pub(super) naming: Naming,
    /// Whether that is the owner of a SECURITY DEFINER function instead of the claimed role.
    pub(super) is_definer: bool,
    /// What its names of columns may mean.
    pub(super) scopes: Scopes,
    /// The tables whose policies are being read, this one's included.
    pub(super) expanding: Vec<u32>,
    /// How many functions deep the text stands.
    pub(super) calls: usize,
    /// How many nodes deep the reading is.
    pub(super) depth: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn facts(&self) -> &'a Facts {
        self.shared.facts
    }

    pub(super) fn typing(&self) -> Typing<'_> {
        Typing { facts: self.shared.facts, naming: &self.naming }
    }

    /// A copy that counts against the limit.
    pub(super) fn copy(&self, typed: &Typed) -> Read<Typed> {
        self.count(&typed.expr)?;
        Ok(typed.clone())
    }

    /// Counts what was made, against the limit.
    pub(super) fn count(&self, expr: &Expr) -> Read<()> {
        self.spend(tree::size(expr))
    }

    /// Counts the reading of a text, against the limit: where each mentions several others, they multiply.
    pub(super) fn count_text(&self) -> Read<()> {
        self.spend(TEXT_WORK)
    }

    fn spend(&self, work: usize) -> Read<()> {
        let work = self.shared.work.get() + work;
        self.shared.work.set(work);
        if work > MAX_WORK { refuse("the expression is too large") } else { Ok(()) }
    }

    /// What a node means.
    pub(super) fn meaning(&mut self, node: &ast::Expr) -> Read<Meaning> {
        self.depth += 1;
        let meaning =
            if self.depth > MAX_DEPTH { refuse("the expression is nested too deeply") } else { self.node(node) };
        self.depth -= 1;
        meaning
    }

    /// What a node means, with a type.
    pub(super) fn typed(&mut self, node: &ast::Expr) -> Read<Typed> {
        let meaning = self.meaning(node)?;
        self.typing().settled(meaning)
    }

    /// A condition.
    pub(super) fn condition(&mut self, node: &ast::Expr) -> Read<Expr> {
        let meaning = self.meaning(node)?;
        let typed = self.typing().as_type(meaning, Type::BOOL)?;
        Ok(typed.expr)
    }

    fn node(&mut self, mut node: &ast::Expr) -> Read<Meaning> {
        while let ast::Expr::Nested(inner) = node {
            node = inner;
        }
        use ast::Expr as E;
        match node {
            E::Identifier(ident) => self.identifier(ident),
            E::CompoundIdentifier(idents) => {
                let typed = self.scopes.qualified(self.shared.facts, idents)?;
                self.counted(typed)
            }
            E::Value(value) => self.value(value),
            E::BinaryOp { left, op, right } => self.binary(node, left, op, right),
            E::UnaryOp { op, expr } => self.unary(op, expr),
            E::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr, data_type, format: None } => {
                self.cast(expr, data_type)
            }
            E::TypedString(ast::TypedString { data_type, value, uses_odbc_syntax: false }) => {
                let kind = types::named(self.shared.facts, &self.naming, data_type)?;
                self.literal_of(kind, value)
            }
            E::Interval(interval) => self.interval(interval),
            E::Array(ast::Array { elem, named: true }) => self.array(elem, None),
            E::Function(function) => self.function(function),
            E::Subquery(query) => self.scalar_query(query),
            E::Case { case_token: _, end_token: _, operand, conditions, else_result } => {
                self.case(operand.as_deref(), conditions, else_result.as_deref())
            }
            E::Exists { subquery, negated } => self.exists(subquery, *negated),
            other => match self.test(other)? {
                Some(typed) => Ok(Meaning::Typed(typed)),
                None => self.special_call(other),
            },
        }
    }

    fn counted(&self, typed: Typed) -> Read<Meaning> {
        self.count(&typed.expr)?;
        Ok(Meaning::Typed(typed))
    }

    fn identifier(&mut self, ident: &ast::Ident) -> Read<Meaning> {
        let is_word = ident.quote_style.is_none();
        if is_word && ident.value.eq_ignore_ascii_case("current_role") {
            return Ok(Meaning::Typed(self.current_user()));
        }
        let typed = self.scopes.column(self.shared.facts, ident)?;
        self.counted(typed)
    }

    /// `current_user`: the claimed role, or who owns the SECURITY DEFINER function the text belongs to.
    pub(super) fn current_user(&self) -> Typed {
        if self.is_definer {
            typed::text(&self.naming.role, Scalar::Name)
        } else {
            Typed::new(Expr::Role, Type::of(Scalar::Name))
        }
    }

    fn value(&mut self, value: &ValueWithSpan) -> Read<Meaning> {
        use ast::Value as V;
        match &value.value {
            V::Null => Ok(Meaning::Literal(None)),
            V::Boolean(value) => Ok(Meaning::Typed(Typed::boolean(Expr::Const(Value::Bool(*value))))),
            V::Number(digits, false) => typing::number(&self.typing(), digits).map(Meaning::Typed),
            V::Placeholder(name) => {
                let typed = self.scopes.numbered(name)?;
                self.counted(typed)
            }
            value => plain_text(value).map(|text| Meaning::Literal(Some(text))),
        }
    }

    fn literal_of(&self, kind: Type, value: &ValueWithSpan) -> Read<Meaning> {
        let text = plain_text(&value.value)?;
        self.typing().constant(kind, Some(&text)).map(Meaning::Typed)
    }

    fn interval(&self, interval: &ast::Interval) -> Read<Meaning> {
        let ast::Interval { value, leading_field, leading_precision, last_field, fractional_seconds_precision } =
            interval;
        let is_plain = leading_field.is_none()
            && leading_precision.is_none()
            && last_field.is_none()
            && fractional_seconds_precision.is_none();
        match &**value {
            ast::Expr::Value(value) if is_plain => self.literal_of(Type::of(Scalar::Interval), value),
            _ => refuse("an interval with fields"),
        }
    }

    fn binary(&mut self, node: &ast::Expr, left: &ast::Expr, op: &BinaryOperator, right: &ast::Expr) -> Read<Meaning> {
        if matches!(op, BinaryOperator::And | BinaryOperator::Or) {
            let mut operands = Vec::new();
            chain(node, op, &mut operands);
            let conditions = operands.into_iter().map(|operand| self.condition(operand)).collect::<Read<Vec<_>>>()?;
            let expr = if *op == BinaryOperator::And { Expr::And(conditions) } else { Expr::Or(conditions) };
            return Ok(Meaning::Typed(Typed::boolean(expr)));
        }
        let (name, negated) = operator(op)?;
        let left = self.meaning(left)?;
        let right = self.meaning(right)?;
        let typed = self.typing().binary(name, left, right)?;
        Ok(Meaning::Typed(if negated { negation(typed) } else { typed }))
    }

    fn unary(&mut self, op: &UnaryOperator, operand: &ast::Expr) -> Read<Meaning> {
        match op {
            UnaryOperator::Not => {
                let condition = self.condition(operand)?;
                Ok(Meaning::Typed(Typed::boolean(Expr::Not(Box::new(condition)))))
            }
            UnaryOperator::Minus => {
                if let ast::Expr::Value(ValueWithSpan { value: ast::Value::Number(digits, false), span: _ }) = operand {
                    return typing::number(&self.typing(), &format!("-{digits}")).map(Meaning::Typed);
                }
                let Meaning::Typed(operand) = self.meaning(operand)? else { return refuse("minus before a text") };
                match functions::operator("-", None, operand.kind) {
                    Some(found) => self.typing().call(found, vec![operand]).map(Meaning::Typed),
                    None => refuse(format!("operator - before {} is not known here", typed::words(operand.kind))),
                }
            }
            _ => refuse(format!("operator {op} is not known here")),
        }
    }

    fn cast(&mut self, operand: &ast::Expr, data_type: &ast::DataType) -> Read<Meaning> {
        let kind = types::named(self.shared.facts, &self.naming, data_type)?;
        let mut inner = operand;
        while let ast::Expr::Nested(nested) = inner {
            inner = nested;
        }
        // A cast of ARRAY[...] is a cast of its elements.
        if let (ast::Expr::Array(ast::Array { elem, named: true }), Some(element)) = (inner, functions::element(kind)) {
            return self.array(elem, Some(element));
        }
        let meaning = self.meaning(operand)?;
        self.typing().explicit(meaning, kind).map(Meaning::Typed)
    }

    fn array(&mut self, elements: &[ast::Expr], wanted: Option<Type>) -> Read<Meaning> {
        if elements.is_empty() && wanted.is_none() {
            return refuse("an array without elements or type");
        }
        let meanings = elements.iter().map(|element| self.meaning(element)).collect::<Read<Vec<_>>>()?;
        let meanings = match wanted {
            None => meanings,
            Some(kind) => {
                let cast = |meaning| self.typing().explicit(meaning, kind).map(Meaning::Typed);
                meanings.into_iter().map(cast).collect::<Read<Vec<_>>>()?
            }
        };
        let (all, kind, collating) = self.typing().unified(meanings)?;
        let kind = wanted.unwrap_or(kind);
        if kind.is_array {
            return refuse("arrays of arrays are not computed with");
        }
        let expr = Expr::Array(all.into_iter().map(|element| element.expr).collect());
        Ok(Meaning::Typed(Typed::derived(expr, Type::array(kind.scalar), collating)))
    }

    /// A function of `pg_catalog` for exactly these arguments.
    pub(super) fn builtin(&self, name: &str, arguments: Vec<Typed>) -> Read<Typed> {
        if self.shared.facts.restricted_builtins.contains(name) {
            return refuse(format!("not everybody may execute function {name}"));
        }
        let kinds: Vec<Type> = arguments.iter().map(|argument| argument.kind).collect();
        match functions::function(name, &kinds) {
            Some(found) => self.typing().call(found, arguments),
            None => {
                let kinds: Vec<String> = kinds.into_iter().map(typed::words).collect();
                refuse(format!("function {name}({}) is not known here", kinds.join(", ")))
            }
        }
    }
}

/// NOT of a condition.
pub(super) fn negation(condition: Typed) -> Typed {
    Typed::boolean(Expr::Not(Box::new(condition.expr)))
}

/// The operands of a chain of AND or of OR, left to right. What Postgres prints has parentheses only around others.
fn chain<'n>(node: &'n ast::Expr, wanted: &BinaryOperator, into: &mut Vec<&'n ast::Expr>) {
    let mut rights = Vec::new();
    let mut left = node;
    while let ast::Expr::BinaryOp { left: inner, op, right } = left {
        if op != wanted {
            break;
        }
        rights.push(&**right);
        left = inner;
    }
    into.push(left);
    into.extend(rights.into_iter().rev());
}

/// A constant's text. Texts with escapes of other kinds are refused.
fn plain_text(value: &ast::Value) -> Read<String> {
    use ast::Value as V;
    match value {
        V::SingleQuotedString(text) | V::EscapedStringLiteral(text) => Ok(text.clone()),
        V::DollarQuotedString(quoted) => Ok(quoted.value.clone()),
        _ => refuse("a constant is written in a way that is not read"),
    }
}

/// The name of an operator, and whether what is meant is the contrary of that.
pub(super) fn operator(op: &BinaryOperator) -> Read<(&'static str, bool)> {
    use BinaryOperator as B;
    let name = match op {
        B::Plus => "+",
        B::Minus => "-",
        B::Multiply => "*",
        B::Divide => "/",
        B::Modulo => "%",
        B::StringConcat => "||",
        B::Gt => ">",
        B::Lt => "<",
        B::GtEq => ">=",
        B::LtEq => "<=",
        B::Eq => "=",
        B::NotEq => "<>",
        B::PGExp => "^",
        B::PGOverlap => "&&",
        B::PGLikeMatch => "~~",
        B::PGILikeMatch => "~~*",
        B::PGNotLikeMatch => return Ok(("~~", true)),
        B::PGNotILikeMatch => return Ok(("~~*", true)),
        B::PGStartsWith => "^@",
        B::Arrow => "->",
        B::LongArrow => "->>",
        B::HashArrow => "#>",
        B::HashLongArrow => "#>>",
        B::AtArrow => "@>",
        B::ArrowAt => "<@",
        B::HashMinus => "#-",
        B::Question => "?",
        B::QuestionAnd => "?&",
        B::QuestionPipe => "?|",
        B::PGRegexMatch => "~",
        B::PGRegexIMatch => "~*",
        B::PGRegexNotMatch => "!~",
        B::PGRegexNotIMatch => "!~*",
        // `OPERATOR(pg_catalog.=)`; of any other schema it is not one of ours.
        B::PGCustomBinaryOperator(parts) => match parts.as_slice() {
            [schema, name] if schema.eq_ignore_ascii_case("pg_catalog") => return catalog_operator(name),
            _ => return refuse(format!("operator {} is not known here", parts.join("."))),
        },
        _ => return refuse(format!("operator {op} is not known here")),
    };
    Ok((name, false))
}

fn catalog_operator(name: &str) -> Read<(&'static str, bool)> {
    const KNOWN: &[&str] = &["=", "<>", "<", "<=", ">", ">=", "||", "->", "->>", "#>", "#>>", "@>", "<@", "&&"];
    match KNOWN.iter().find(|known| **known == name) {
        Some(known) => Ok((known, false)),
        None => refuse(format!("operator {name} is not known here")),
    }
}
