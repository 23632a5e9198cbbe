//! The expression tree of policies: typed, resolved, free of names. `analyse` makes it of SQL, `program` binds it to
//! claims, `eval` computes it.
//!
//! Columns are named by *scope*: scope 0 is the row that is judged, and every source of a lookup adds the next one
//! while the lookup's expressions are computed, outer sources first.

use super::{catalog::ColumnIndex, functions::Function, topic::Setting, value::Value};

/// A column of a row in scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ColumnRef {
    /// 0 for the judged row, then the sources of lookups, outermost first.
    pub scope: usize,
    /// The column of that row's table.
    pub column: ColumnIndex,
}

/// An expression. SQL's three values: `Value::Bool` or `Value::Null`.
#[derive(Clone, Debug)]
pub enum Expr {
    /// A constant.
    Const(Value),
    /// A column.
    Column(ColumnRef),
    /// The text of the setting `request.jwt.claims`.
    Claims,
    /// The text of another setting. Only in policies of private channels: for rows nothing sets them.
    Setting(Setting),
    /// The claimed role's name: `current_user` outside of SECURITY DEFINER functions.
    Role,
    /// `now()`, to the microsecond of the judgement.
    Now,
    /// A part that depends on nothing but claims and role, computed once a subscriber: an index into
    /// `Program::parameters`. Only in programs.
    Parameter(usize),
    /// All, left to right: false as soon as one is.
    And(Vec<Expr>),
    /// Any, left to right: true as soon as one is.
    Or(Vec<Expr>),
    /// The contrary; NULL stays.
    Not(Box<Expr>),
    /// `is null`, of scalars and arrays only.
    IsNull(Box<Expr>),
    /// `is true`, `is false`.
    IsBool(Box<Expr>, bool),
    /// A function, operator or cast.
    Call(&'static Function, Vec<Expr>),
    /// `left operator any (array)`, or `all`: `comparison` computes one element, its arguments in this order.
    AnyAll {
        /// The operator, for the left value and one element.
        comparison: &'static Function,
        /// The left value.
        left: Box<Expr>,
        /// The array.
        array: Box<Expr>,
        /// Whether all elements must agree.
        all: bool,
    },
    /// The value behind the first condition that is true, else the last.
    Case(Vec<(Expr, Expr)>, Box<Expr>),
    /// The first that is not NULL.
    Coalesce(Vec<Expr>),
    /// `left is distinct from right`, by this equality.
    Distinct(&'static Function, Box<Expr>, Box<Expr>),
    /// NULL when both are equal by this equality, else the left one.
    NullIf(&'static Function, Box<Expr>, Box<Expr>),
    /// An array of these.
    Array(Vec<Expr>),
    /// A sub-select that reads no table: computed when first needed, at most once a statement in Postgres, so an error
    /// in it counts only where it is reached.
    Lazy(Box<Expr>),
    /// A sub-select over other tables.
    Lookup(Box<Lookup>),
}

/// One table of a lookup's FROM, joined inside.
#[derive(Clone, Debug)]
pub struct Source {
    /// The oid of the table.
    pub table: u32,
    /// Columns of this table and what they equal, computable from scopes before it: what an index finds its rows by.
    /// By `Value`'s equality (`Function::is_hash_equality`).
    pub keys: Vec<(ColumnIndex, Expr)>,
    /// What else must be true of its rows, computable with it in scope: WHERE and ON conditions, and the table's own
    /// row level security where that holds for the role that reads it. Cannot fail.
    pub conditions: Vec<Expr>,
}

/// What a lookup's rows make.
#[derive(Clone, Debug)]
pub enum Output {
    /// `exists (...)`.
    Exists,
    /// `left operator any (select value ...)`, with its three values: the left expression is computed outside of the
    /// sources, the value with all of them in scope.
    Any {
        /// Compares the left value and one row's.
        comparison: &'static Function,
        /// The left value.
        left: Expr,
        /// The rows' value.
        value: Expr,
    },
    /// `(select value ...)`: NULL without a row; two rows are an error.
    Scalar(Expr),
    /// `array(select value ...)`, in no order that anything may depend on.
    Array(Expr),
    /// `(select count(*) ...)`.
    Count,
}

/// A sub-select over one or more tables.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// The tables, in the order they are joined. The first one's scope is `first_scope`.
    pub sources: Vec<Source>,
    /// The scope of the first source: how many rows are in scope outside of the lookup.
    pub first_scope: usize,
    /// What the rows make.
    pub output: Output,
}

impl Expr {
    /// The parts directly below this one; of a lookup, every expression in it.
    pub fn parts(&self) -> Vec<&Expr> {
        match self {
            Expr::Const(_)
            | Expr::Column(_)
            | Expr::Claims
            | Expr::Setting(_)
            | Expr::Role
            | Expr::Now
            | Expr::Parameter(_) => Vec::new(),
            Expr::And(parts) | Expr::Or(parts) | Expr::Call(_, parts) | Expr::Coalesce(parts) | Expr::Array(parts) => {
                parts.iter().collect()
            }
            Expr::Not(part) | Expr::IsNull(part) | Expr::IsBool(part, _) | Expr::Lazy(part) => vec![part],
            Expr::AnyAll { left, array, .. } => vec![left, array],
            Expr::Distinct(_, left, right) | Expr::NullIf(_, left, right) => vec![left, right],
            Expr::Case(arms, otherwise) => {
                let arms = arms.iter().flat_map(|(condition, result)| [condition, result]);
                arms.chain([otherwise.as_ref()]).collect()
            }
            Expr::Lookup(lookup) => lookup.parts(),
        }
    }

    /// Whether this or any part of it is so.
    pub fn any(&self, is_so: &dyn Fn(&Expr) -> bool) -> bool {
        is_so(self) || self.parts().into_iter().any(|part| part.any(is_so))
    }

    /// Whether computing it may raise an error in Postgres, or stop here, with all values present and no parameter
    /// being an error.
    pub fn may_fail(&self) -> bool {
        self.any(&|expr| match expr {
            Expr::Call(function, _)
            | Expr::AnyAll { comparison: function, .. }
            | Expr::Distinct(function, ..)
            | Expr::NullIf(function, ..) => function.may_fail,
            Expr::Lookup(lookup) => match &lookup.output {
                Output::Any { comparison, .. } => comparison.may_fail,
                Output::Scalar(_) => true,
                Output::Exists | Output::Array(_) | Output::Count => false,
            },
            _ => false,
        })
    }
}

impl Lookup {
    /// Every expression in it.
    pub fn parts(&self) -> Vec<&Expr> {
        let of_sources = self.sources.iter().flat_map(|source| {
            let keys = source.keys.iter().map(|(_, expr)| expr);
            keys.chain(&source.conditions)
        });
        let of_output = match &self.output {
            Output::Exists | Output::Count => Vec::new(),
            Output::Any { left, value, .. } => vec![left, value],
            Output::Scalar(value) | Output::Array(value) => vec![value],
        };
        of_sources.chain(of_output).collect()
    }
}
