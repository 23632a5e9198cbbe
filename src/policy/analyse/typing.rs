//! How Postgres makes one type of several: constants without a type, implicit casts, common types, operators
//! (documentation, chapter 10). Where its rules leave a doubt, the answer is no.

use super::{
    names::Naming,
    refusal::{Read, Refusal, refuse},
    typed::{Collating, Meaning, Typed, words},
    types,
};
use crate::policy::{
    catalog::Collation,
    expr::Expr,
    facts::Facts,
    functions::{self, Cast, CollationUse, Context, Function, Resolved},
    value::{Scalar, Type, Value},
};

/// The operators that may be asked of arrays without an order.
const MEMBERSHIP: &[&str] = &["&&", "@>", "<@"];

/// What the types of an expression are judged by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Typing<'a> {
    /// The catalogue.
    pub(super) facts: &'a Facts,
    /// How the text's names are resolved.
    pub(super) naming: &'a Naming,
}

impl Typing<'_> {
    /// A constant of a type.
    pub(super) fn constant(&self, kind: Type, text: Option<&str>) -> Read<Typed> {
        let Some(text) = text else { return Ok(Typed::new(Expr::Const(Value::Null), kind)) };
        if matches!(kind.scalar, Scalar::Enum(_)) && !self.naming.is_stored {
            return refuse("a label of an enum is checked by the database only");
        }
        if kind == Type::TEXT {
            return Ok(Typed::new(Expr::Const(Value::Text(text.into())), kind));
        }
        match functions::literal(kind, text) {
            Ok(value) => Ok(Typed::new(Expr::Const(value), kind)),
            Err(_) => refuse(format!("a constant of type {} is not read", words(kind))),
        }
    }

    /// A meaning where this type is wanted.
    pub(super) fn as_type(&self, meaning: Meaning, kind: Type) -> Read<Typed> {
        match meaning {
            Meaning::Literal(text) => self.constant(kind, text.as_deref()),
            Meaning::Typed(typed) => self.implicit(typed, kind),
        }
    }

    /// A meaning on its own: constants without a type are `text`.
    pub(super) fn settled(&self, meaning: Meaning) -> Read<Typed> {
        match meaning {
            Meaning::Literal(text) => self.constant(Type::TEXT, text.as_deref()),
            Meaning::Typed(typed) => Ok(typed),
        }
    }

    /// The cast Postgres applies by itself.
    pub(super) fn implicit(&self, typed: Typed, to: Type) -> Read<Typed> {
        if typed.kind == to {
            return Ok(typed);
        }
        self.by(functions::implicit_cast(typed.kind, to), typed, to)
    }

    /// A cast that is written down.
    pub(super) fn explicit(&self, meaning: Meaning, to: Type) -> Read<Typed> {
        match meaning {
            Meaning::Literal(text) => self.constant(to, text.as_deref()),
            Meaning::Typed(typed) if typed.kind == to => Ok(typed),
            Meaning::Typed(typed) => self.by(functions::cast(typed.kind, to), typed, to),
        }
    }

    fn by(&self, cast: Option<Cast>, typed: Typed, to: Type) -> Read<Typed> {
        let from = typed.kind;
        let is_custom = types::oids(from.scalar)
            .iter()
            .any(|&from| types::oids(to.scalar).iter().any(|&to| self.facts.custom_casts.contains(&(from, to))));
        match cast {
            _ if is_custom => refuse(format!("somebody made a cast of {} to {}", words(from), words(to))),
            Some(Cast::Same) => {
                let is_unordered = typed.is_unordered;
                Ok(Typed { is_unordered, ..Typed::derived(typed.expr, to, typed.collating) })
            }
            Some(Cast::By(function)) if from.is_array && to.is_array => {
                let is_unordered = typed.is_unordered;
                let cast =
                    self.call(Resolved { function, result: to }, vec![Typed { is_unordered: false, ..typed }])?;
                Ok(Typed { is_unordered, ..cast })
            }
            Some(Cast::By(function)) => self.call(Resolved { function, result: to }, vec![typed]),
            None => refuse(format!("a cast of {} to {} is not known here", words(from), words(to))),
        }
    }

    /// A call of what was found for exactly these arguments.
    pub(super) fn call(&self, found: Resolved, arguments: Vec<Typed>) -> Read<Typed> {
        let Resolved { function, result } = found;
        if arguments.iter().any(|argument| argument.is_unordered) && !MEMBERSHIP.contains(&function.name) {
            return refuse("a list in no order is asked for more than what is in it");
        }
        let inputs = self.check(function, &arguments.iter().collect::<Vec<_>>())?;
        check_constants(function, &arguments)?;
        let expressions = arguments.into_iter().map(|argument| argument.expr).collect();
        Ok(Typed::derived(Expr::Call(function, expressions), result, inputs))
    }

    /// Whether a function may be computed here on these arguments, and their common collation.
    pub(super) fn check(&self, function: &'static Function, arguments: &[&Typed]) -> Read<Collating> {
        let inputs = arguments.iter().fold(Collating::None, |all, argument| all.with(argument.collating));
        let name = function.name;
        if function.needs_utc && !self.facts.is_utc {
            return refuse(format!("{name} depends on the time zone"));
        }
        let collation = match inputs {
            Collating::None => None,
            Collating::Default => Some(self.facts.default_collation),
            Collating::Of(collation, _) => Some(Some(collation)),
            Collating::Conflict if function.collation == CollationUse::None => None,
            Collating::Conflict => return refuse(format!("{name} is used on texts of different collations")),
        };
        let is_known = matches!(
            (function.collation, collation),
            (CollationUse::None, _)
                | (_, None)
                | (CollationUse::Equality, Some(Some(Collation::Bytewise | Collation::Deterministic)))
                | (CollationUse::Order, Some(Some(Collation::Bytewise)))
        );
        if is_known { Ok(inputs) } else { refuse(format!("{name} depends on a collation that is not C")) }
    }

    /// The operator for two operands, and these as it wants them.
    pub(super) fn resolve(&self, name: &str, left: Meaning, right: Meaning) -> Read<(Resolved, Typed, Typed)> {
        if !self.naming.is_stored && self.facts.custom_operators.contains(name) {
            return refuse(format!("operator {name} is one of several"));
        }
        let unknown = |left: Type, right: Type| {
            Refusal(format!("operator {name} of {} and {} is not known here", words(left), words(right)))
        };
        let (wanted_left, wanted_right) = match (left.kind(), right.kind()) {
            (None, None) => (Type::TEXT, Type::TEXT),
            (Some(left), None) => (left, beside_literal(name, left)),
            // With the constant to the left there is no operator that wants another type of it.
            (None, Some(right)) => (right, right),
            (Some(left), Some(right)) if functions::operator(name, Some(left), right).is_some() => (left, right),
            (Some(left), Some(right)) => common(left, right).map(|kind| (kind, kind)).ok_or(unknown(left, right))?,
        };
        let Some(found) = functions::operator(name, Some(wanted_left), wanted_right) else {
            return Err(unknown(wanted_left, wanted_right));
        };
        Ok((found, self.as_type(left, wanted_left)?, self.as_type(right, wanted_right)?))
    }

    /// An operator between two operands.
    pub(super) fn binary(&self, name: &str, left: Meaning, right: Meaning) -> Read<Typed> {
        let (found, left, right) = self.resolve(name, left, right)?;
        self.call(found, vec![left, right])
    }

    /// An operator that answers with a boolean, checked, and its operands.
    pub(super) fn comparison(
        &self,
        name: &str,
        left: Meaning,
        right: Meaning,
    ) -> Read<(&'static Function, Typed, Typed)> {
        let (found, left, right) = self.resolve(name, left, right)?;
        if found.result != Type::BOOL {
            return refuse(format!("operator {name} is no comparison"));
        }
        if left.is_unordered || right.is_unordered {
            return refuse("a list in no order is asked for more than what is in it");
        }
        self.check(found.function, &[&left, &right])?;
        Ok((found.function, left, right))
    }

    /// `left operator any (array)`, or `all`.
    pub(super) fn any_all(&self, name: &str, left: Meaning, array: Meaning, all: bool) -> Read<Typed> {
        let array = match (array, left.kind()) {
            (Meaning::Typed(array), _) => array,
            (Meaning::Literal(text), Some(left)) if !left.is_array => {
                self.constant(Type::array(left.scalar), text.as_deref())?
            }
            _ => return refuse("ANY or ALL of a constant whose type is not known"),
        };
        let Some(element) = functions::element(array.kind) else {
            return refuse("ANY or ALL of something that is no array");
        };
        let one = Typed { kind: element, expr: Expr::Const(Value::Null), is_unordered: false, ..array.clone() };
        let (found, left, one) = self.resolve(name, left, Meaning::Typed(one))?;
        if found.result != Type::BOOL || one.kind != element {
            return refuse(format!("operator {name} is not known here for the elements of an array"));
        }
        self.check(found.function, &[&left, &one])?;
        Ok(Typed::boolean(Expr::AnyAll {
            comparison: found.function,
            left: Box::new(left.expr),
            array: Box::new(array.expr),
            all,
        }))
    }

    /// Several as one type: the branches of CASE, the elements of ARRAY, the arguments of COALESCE.
    pub(super) fn unified(&self, meanings: Vec<Meaning>) -> Read<(Vec<Typed>, Type, Collating)> {
        let mut kind: Option<Type> = None;
        for own in meanings.iter().filter_map(Meaning::kind) {
            kind = Some(match kind {
                None => own,
                Some(kind) if kind == own => kind,
                Some(kind) => match (rank(kind), rank(own)) {
                    (Some(rank), Some(own_rank)) => {
                        if own_rank > rank {
                            own
                        } else {
                            kind
                        }
                    }
                    _ => return refuse(format!("{} and {} are mixed", words(kind), words(own))),
                },
            });
        }
        let kind = kind.unwrap_or(Type::TEXT);
        let all = meanings.into_iter().map(|meaning| self.as_type(meaning, kind)).collect::<Read<Vec<Typed>>>()?;
        if all.iter().any(|typed| typed.is_unordered) {
            return refuse("a list in no order is asked for more than what is in it");
        }
        let collating = all.iter().fold(Collating::None, |all, typed| all.with(typed.collating));
        Ok((all, kind, collating))
    }
}

/// A call of nothing but constants is computed by Postgres before it meets a row. One that is not computed here would
/// hide every row.
fn check_constants(function: &'static Function, arguments: &[Typed]) -> Read<()> {
    let values = arguments.iter().map(|argument| match &argument.expr {
        Expr::Const(value) => Some(value.clone()),
        _ => None,
    });
    let Some(values) = values.collect::<Option<Vec<Value>>>() else { return Ok(()) };
    let is_null = function.is_strict && values.contains(&Value::Null);
    match (function.eval)(&values, &Context { now: 0 }) {
        Err(_) if !is_null => refuse(format!("{} of these constants is not computed here", function.name)),
        _ => Ok(()),
    }
}

/// The type of a constant without one to the right of an operator. Postgres takes the left operand's own type where
/// such an operator exists, else prefers text.
fn beside_literal(name: &str, left: Type) -> Type {
    let is_json = matches!(left, Type { scalar: Scalar::Json | Scalar::Jsonb, is_array: false });
    match name {
        "->" | "->>" | "?" if is_json => Type::TEXT,
        "#>" | "#>>" | "?|" | "?&" if is_json => Type::array(Scalar::Text),
        _ => left,
    }
}

/// The types both operands are cast to, where Postgres' rules leave no doubt. With a float beside any other number it
/// compares as `double precision`, its preferred type.
fn common(left: Type, right: Type) -> Option<Type> {
    use Scalar::{Float4, Float8, Name, Text};
    if left.is_array || right.is_array {
        return None;
    }
    match (left.scalar, right.scalar) {
        (Name, Text) | (Text, Name) => return Some(Type::TEXT),
        _ => {}
    }
    let (left_rank, right_rank) = (rank(left)?, rank(right)?);
    let is_float = |kind: Type| matches!(kind.scalar, Float4 | Float8);
    Some(match () {
        () if is_float(left) || is_float(right) => Type::of(Float8),
        () if left_rank >= right_rank => left,
        () => right,
    })
}

/// The order in which numbers become each other by themselves.
fn rank(kind: Type) -> Option<u8> {
    if kind.is_array {
        return None;
    }
    Some(match kind.scalar {
        Scalar::Int2 => 0,
        Scalar::Int4 => 1,
        Scalar::Int8 => 2,
        Scalar::Numeric => 3,
        Scalar::Float4 => 4,
        Scalar::Float8 => 5,
        _ => return None,
    })
}

/// A number as Postgres types it: the smallest of `integer`, `bigint` and `numeric` that holds it.
pub(super) fn number(typing: &Typing<'_>, digits: &str) -> Read<Typed> {
    let plain = digits.strip_prefix('-').unwrap_or(digits);
    let is_number =
        plain.chars().all(|c| c.is_ascii_digit() || c == '.') && plain.contains(|c: char| c.is_ascii_digit());
    if !is_number {
        return refuse("a number is written in a way that is not read");
    }
    if let Ok(value) = digits.parse::<i64>() {
        let kind = if i32::try_from(value).is_ok() { Scalar::Int4 } else { Scalar::Int8 };
        return Ok(Typed::new(Expr::Const(Value::Int(value)), Type::of(kind)));
    }
    typing.constant(Type::of(Scalar::Numeric), Some(digits))
}
