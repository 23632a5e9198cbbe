//! Random expressions of a kind: SQL text over the columns in scope, claims, helper functions and other tables.

use super::{kinds::Kind, random::Random, world::World};
use std::collections::BTreeSet;

/// A table in scope.
#[derive(Clone, Debug)]
pub struct Scope {
    pub alias: String,
    pub table: usize,
}

/// Writes expressions. The last scopes are the innermost ones.
pub struct Writer<'a> {
    pub random: &'a mut Random,
    pub world: &'a World,
    pub scopes: Vec<Scope>,
    /// Arguments of the function whose body is written.
    pub parameters: Vec<(String, Kind)>,
    /// The tables sub-selects may read.
    pub tables: Vec<usize>,
    /// The tables whose policies hold for what has been written.
    pub read: BTreeSet<usize>,
    /// How many parts an expression may still get.
    pub budget: usize,
    aliases: usize,
}

impl<'a> Writer<'a> {
    /// One without anything in scope.
    pub fn new(random: &'a mut Random, world: &'a World) -> Writer<'a> {
        let tables = (0..world.tables.len()).collect();
        Writer {
            random,
            world,
            scopes: Vec::new(),
            parameters: Vec::new(),
            tables,
            read: BTreeSet::new(),
            budget: 12,
            aliases: 0,
        }
    }

    /// The expression of a policy on a table.
    pub fn policy(&mut self, table: usize) -> String {
        self.scopes = vec![Scope { alias: self.world.tables[table].name.clone(), table }];
        self.budget = if self.random.percent(60) { 5 } else { 14 };
        let call = if self.random.percent(8) { self.helper(Kind::Bool) } else { None };
        if let Some(call) = call {
            return call;
        }
        self.boolean()
    }

    /// An expression that is not a sub-select alone, for a function's body.
    pub fn helper_body(&mut self, kind: Kind) -> String {
        self.budget = 5;
        match kind {
            Kind::Bool if self.random.percent(75) => self.exists(),
            Kind::Bool => self.boolean(),
            kind if self.random.percent(60) => self.scalar_query(kind),
            kind => self.of_kind(kind),
        }
    }

    /// A fresh name for a table in a sub-select.
    pub fn alias(&mut self) -> String {
        self.aliases += 1;
        format!("x{}", self.aliases)
    }

    /// Whether there is room for another level.
    pub fn may_nest(&mut self) -> bool {
        if self.budget == 0 {
            return false;
        }
        self.budget -= 1;
        true
    }

    /// A value of exactly this kind (for texts and numbers: of that family).
    pub fn of_kind(&mut self, kind: Kind) -> String {
        if kind == Kind::Bool {
            return self.boolean();
        }
        if !self.random.percent(18) || !self.may_nest() {
            return self.atom(kind);
        }
        let schema = &self.world.schema;
        match self.random.below(6) {
            0 => format!("coalesce({}, {})", self.atom(kind), self.of_kind(kind)),
            1 if kind.has_equality() => format!("nullif({}, {})", self.atom(kind), self.atom(kind)),
            2 => {
                let (condition, then) = (self.simple_boolean(), self.atom(kind));
                if self.random.percent(70) {
                    format!("case when {condition} then {then} else {} end", self.atom(kind))
                } else {
                    format!("case when {condition} then {then} end")
                }
            }
            3 if self.random.percent(50) && !self.tables.is_empty() => self.scalar_query(kind),
            4 => self.computed(kind),
            _ if kind.is_text() => format!("({})::{}", self.atom(Kind::Uuid), Kind::Text.cast(schema)),
            _ => self.computed(kind),
        }
    }

    /// A function or operator with a result of this kind.
    fn computed(&mut self, kind: Kind) -> String {
        match kind {
            Kind::Text | Kind::Bytes | Kind::Varchar | Kind::Label => self.computed_text(kind),
            Kind::Int4 | Kind::Int2 | Kind::Int8 | Kind::Count => self.computed_integer(kind),
            Kind::Bool => self.simple_boolean(),
            Kind::Numeric => match self.random.below(5) {
                0 => format!("({} + {})", self.atom(Kind::Numeric), self.atom(Kind::Int4)),
                1 => format!("({} * {})", self.atom(Kind::Numeric), self.atom(Kind::Numeric)),
                2 => format!("({})::numeric(4,1)", self.atom(Kind::Numeric)),
                3 => format!("abs({})", self.atom(Kind::Numeric)),
                _ => format!("({})::numeric", self.atom(Kind::Float8)),
            },
            Kind::Date => format!("({})::date", self.atom(Kind::Timestamp)),
            Kind::Timestamp => format!("date_trunc('day', {})", self.atom(Kind::Timestamp)),
            Kind::Uuid => format!("({})::uuid", self.atom(Kind::Text)),
            Kind::Jsonb => match self.random.below(3) {
                0 => format!("({} -> {})", self.atom(Kind::Jsonb), self.path()),
                1 => format!("jsonb_build_object('readers', jsonb_build_array({}))", self.atom(Kind::Uuid)),
                _ => format!("to_jsonb({})", self.any_atom()),
            },
            Kind::Timestamptz => {
                let sign = self.random.pick(&["+", "-"]).to_string();
                let length = self.random.pick(&["1 hour", "7 days", "1 month", "90 minutes"]).to_string();
                format!("({} {sign} interval '{length}')", self.atom(Kind::Timestamptz))
            }
            Kind::Texts => match self.random.below(2) {
                0 => format!("array[{}, {}]", self.atom(Kind::Text), self.atom(Kind::Text)),
                _ => format!("string_to_array({}, '/')", self.atom(Kind::Text)),
            },
            Kind::Uuids => format!("array[{}, {}]", self.atom(Kind::Uuid), self.atom(Kind::Uuid)),
            other => self.atom(other),
        }
    }

    fn computed_text(&mut self, kind: Kind) -> String {
        let text = self.atom(kind);
        match self.random.below(20) {
            0 => format!("lower({text})"),
            1 => format!("upper({text})"),
            2 => format!("split_part({text}, '/', {})", self.random.between(1, 2)),
            3 => format!("({text} || {})", self.atom(kind)),
            4 => format!("({} ->> {})", self.atom(Kind::Jsonb), self.path()),
            5 => format!("({})::text", self.any_atom()),
            6 => format!("btrim({text})"),
            7 => format!("left({text}, {})", self.random.below(4)),
            8 => format!("right({text}, -1)"),
            9 => format!("substring({text} from {} for 2)", self.random.below(3)),
            10 => format!("replace({text}, 'a', 'b')"),
            11 => format!("({text})::varchar(2)"),
            12 => format!("jsonb_typeof({})", self.atom(Kind::Jsonb)),
            13 => format!("ltrim({text}, 'a ')"),
            14 => format!("({})[1]", self.column(Kind::Texts).unwrap_or_else(|| "'{a,b}'::text[]".to_owned())),
            15 => format!("({})::text", self.atom(Kind::Numeric)),
            16 => format!("({})::text", self.atom(Kind::Timestamptz)),
            17 => format!("concat({text}, {})", self.atom(kind)),
            18 => format!("greatest({text}, {})", self.atom(kind)),
            _ => format!("({} #>> '{{a,b}}')", self.atom(Kind::Jsonb)),
        }
    }

    fn computed_integer(&mut self, kind: Kind) -> String {
        match self.random.below(14) {
            0 => format!("({} + {})", self.atom(Kind::Int4), self.random.below(3)),
            1 => format!("({} - {})", self.atom(kind), self.atom(Kind::Int2)),
            2 => format!("length({})", self.atom(Kind::Text)),
            3 => format!("cardinality({})", self.atom(Kind::Texts)),
            4 => format!("({} ->> 'a')::int", self.atom(Kind::Jsonb)),
            5 => format!("({} / {})", self.atom(kind), self.atom(Kind::Int4)),
            6 => format!("({} % 2)", self.atom(kind)),
            7 => format!("({})::int", self.atom(Kind::Numeric)),
            8 => format!("({})::int", self.atom(Kind::Float8)),
            9 => format!("({})::int", self.atom(Kind::Bool)),
            10 => format!("array_length({}, 1)", self.atom(Kind::Uuids)),
            11 => format!("position('a' in {})", self.atom(Kind::Text)),
            12 => format!("array_position({}, {})", self.atom(Kind::Texts), self.atom(Kind::Text)),
            _ => format!("jsonb_array_length({})", self.atom(Kind::Jsonb)),
        }
    }
}
