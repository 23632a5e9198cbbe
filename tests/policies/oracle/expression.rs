//! Random expressions of a kind: SQL text over the columns in scope, claims, helper functions and other tables.

use super::{
    kinds::{Kind, TEXTS, UUIDS},
    random::Random,
    world::{Helper, World},
};
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
        if self.random.percent(8) {
            if let Some(call) = self.helper(Kind::Bool) {
                return call;
            }
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
    fn may_nest(&mut self) -> bool {
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
            Kind::Text | Kind::Bytes | Kind::Varchar | Kind::Label => match self.random.below(8) {
                0 => format!("lower({})", self.atom(kind)),
                1 => format!("upper({})", self.atom(kind)),
                2 => format!("split_part({}, '/', {})", self.atom(kind), self.random.between(1, 2)),
                3 => format!("({} || {})", self.atom(kind), self.atom(kind)),
                4 => format!("({} ->> {})", self.atom(Kind::Jsonb), self.path()),
                5 => format!("({})::text", self.any_atom()),
                6 => format!("btrim({})", self.atom(kind)),
                _ => format!("({} #>> '{{a,b}}')", self.atom(Kind::Jsonb)),
            },
            Kind::Int4 | Kind::Int2 | Kind::Int8 | Kind::Count => match self.random.below(6) {
                0 => format!("({} + {})", self.atom(Kind::Int4), self.random.below(3)),
                1 => format!("({} - {})", self.atom(kind), self.atom(Kind::Int2)),
                2 => format!("length({})", self.atom(Kind::Text)),
                3 => format!("cardinality({})", self.atom(Kind::Texts)),
                4 => format!("({} ->> 'a')::int", self.atom(Kind::Jsonb)),
                _ => format!("({} / {})", self.atom(kind), self.atom(Kind::Int4)),
            },
            Kind::Numeric => format!("({} + {})", self.atom(Kind::Numeric), self.atom(Kind::Int4)),
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

    pub fn path(&mut self) -> String {
        (*self.random.pick(&["'a'", "'readers'", "'visibility'", "'level'", "'b'", "0"])).to_owned()
    }

    /// A column, constant, claim, parameter or call of this kind.
    pub fn atom(&mut self, kind: Kind) -> String {
        match self.random.below(100) {
            0..55 => self.column(kind).unwrap_or_else(|| self.claim(kind)),
            55..75 => self.claim(kind),
            75..83 => self.parameter(kind).or_else(|| self.helper(kind)).unwrap_or_else(|| self.constant(kind)),
            _ => self.constant(kind),
        }
    }

    /// A column, constant or claim of any kind.
    fn any_atom(&mut self) -> String {
        let kind = Kind::random(self.random);
        self.atom(kind)
    }

    pub fn constant(&mut self, kind: Kind) -> String {
        if self.random.percent(4) {
            return format!("null::{}", kind.cast(&self.world.schema));
        }
        let value = kind.value(self.random, &self.world.schema);
        if kind == Kind::Label { format!("({value})::{}", kind.cast(&self.world.schema)) } else { value }
    }

    /// A column of a comparable kind in scope, the innermost scope first.
    pub fn column(&mut self, kind: Kind) -> Option<String> {
        let from = if self.random.percent(65) { self.scopes.len().saturating_sub(1) } else { 0 };
        self.column_from(from, kind).or_else(|| self.column_from(0, kind))
    }

    fn column_from(&mut self, from: usize, kind: Kind) -> Option<String> {
        let fits: Vec<String> = self.scopes[from..]
            .iter()
            .flat_map(|scope| {
                let columns = self.world.tables[scope.table].columns.iter();
                columns
                    .filter(|column| column.kind == kind || (kind.is_comparable(column.kind)))
                    .map(|column| format!("{}.{}", scope.alias, column.name))
            })
            .collect();
        (!fits.is_empty()).then(|| self.random.pick(&fits).clone())
    }

    /// A column of this kind that may be NULL.
    pub fn nullable(&mut self, kind: Kind) -> Option<String> {
        let of_scope = |scope: &Scope| {
            let columns = self.world.tables[scope.table].columns.iter();
            let fits = columns.filter(|column| column.nullable && column.kind == kind);
            fits.map(|column| format!("{}.{}", scope.alias, column.name)).collect::<Vec<_>>()
        };
        let fits: Vec<String> = self.scopes.iter().flat_map(of_scope).collect();
        (!fits.is_empty()).then(|| self.random.pick(&fits).clone())
    }

    fn parameter(&mut self, kind: Kind) -> Option<String> {
        let fits: Vec<String> =
            self.parameters.iter().filter(|(_, of)| of.is_comparable(kind)).map(|(name, _)| name.clone()).collect();
        (!fits.is_empty()).then(|| self.random.pick(&fits).clone())
    }

    /// A call of a helper that returns one value of this kind.
    pub fn helper(&mut self, kind: Kind) -> Option<String> {
        if self.budget == 0 {
            return None;
        }
        let helper = self.pick_helper(|helper| !helper.returns_set && helper.returns == kind)?;
        self.budget -= 1;
        let argument = helper.argument.map_or_else(String::new, |kind| self.atom_for(kind));
        Some(format!("{}({argument})", helper.name))
    }

    /// A helper that reads nothing but what may be read here.
    pub fn pick_helper(&mut self, fits: impl Fn(&Helper) -> bool) -> Option<Helper> {
        let may_read = |helper: &&Helper| helper.reads.iter().all(|table| self.tables.contains(table));
        let fits: Vec<&Helper> = self.world.helpers.iter().filter(|helper| fits(helper)).filter(may_read).collect();
        if fits.is_empty() {
            return None;
        }
        let helper = (*self.random.pick(&fits)).clone();
        self.read.extend(&helper.reads);
        Some(helper)
    }

    /// An atom that a function with a parameter of exactly this kind takes.
    pub fn atom_for(&mut self, kind: Kind) -> String {
        let column = if self.random.percent(70) { self.nullable(kind) } else { None };
        let atom = column.unwrap_or_else(|| self.atom(kind));
        // Numbers do not narrow by themselves.
        if kind == Kind::Int4 { format!("({atom})::int") } else { atom }
    }

    /// What depends on claims alone.
    pub fn claim(&mut self, kind: Kind) -> String {
        let of: &[&str] = match kind {
            Kind::Uuid => &[
                "auth.uid()",
                "auth.uid()",
                "(select auth.uid())",
                "(auth.jwt() ->> 'sub')::uuid",
                "((auth.jwt() -> 'app_metadata') ->> 'org_id')::uuid",
                "nullif(auth.jwt() ->> 'org_id', '')::uuid",
                "(select (auth.jwt() ->> 'org_id')::uuid)",
                "nullif(current_setting('app.tenant', true), '')::uuid",
                "(current_setting('request.jwt.claims', true)::jsonb ->> 'sub')::uuid",
            ],
            Kind::Text | Kind::Bytes | Kind::Varchar | Kind::Label => &[
                "auth.email()",
                "auth.role()",
                "(auth.jwt() ->> 'user_role')",
                "(auth.jwt() ->> 'aal')",
                "(auth.jwt() #>> '{app_metadata,role}')",
                "(select auth.jwt() ->> 'sub')",
                "auth.uid()::text",
                "current_user::text",
                "(current_setting('request.jwt.claims', true)::json ->> 'email')",
                "current_setting('request.jwt.claim.sub', true)",
                "coalesce(auth.jwt() -> 'app_metadata' ->> 'role', 'none')",
            ],
            Kind::Int2 | Kind::Int4 | Kind::Int8 | Kind::Count => &[
                "(auth.jwt() -> 'app_metadata' ->> 'level')::int",
                "coalesce((auth.jwt() #>> '{app_metadata,level}')::int, 0)",
                "(auth.jwt() ->> 'iat')::bigint",
                "jsonb_array_length(auth.jwt() -> 'app_metadata' -> 'orgs')",
            ],
            Kind::Numeric => &["(auth.jwt() -> 'app_metadata' ->> 'level')::numeric", "(auth.jwt() -> 'iat')::numeric"],
            Kind::Float8 => &["(auth.jwt() -> 'app_metadata' ->> 'level')::double precision"],
            Kind::Bool => &[
                "(auth.jwt() ->> 'is_anonymous')::boolean",
                "(auth.jwt() -> 'is_anonymous')::boolean",
                "((select auth.role()) = 'oracle_user')",
                "(auth.jwt() ? 'email')",
            ],
            Kind::Timestamptz => &[
                "now()",
                "now()",
                "to_timestamp((auth.jwt() ->> 'iat')::bigint)",
                "(now() - interval '7 days')",
                "current_timestamp",
            ],
            Kind::Timestamp => &["(now() at time zone 'utc')", "localtimestamp"],
            Kind::Date => &["current_date", "now()::date"],
            Kind::Jsonb => &[
                "auth.jwt()",
                "(auth.jwt() -> 'app_metadata')",
                "(auth.jwt() #> '{app_metadata,orgs}')",
                "(auth.jwt() -> 'app_metadata' -> 'tags')",
                "jsonb_build_object('readers', jsonb_build_array(auth.uid()))",
            ],
            Kind::Json => &["current_setting('request.jwt.claims', true)::json"],
            Kind::Uuids => &["array[auth.uid()]", "array[auth.uid(), null]"],
            Kind::Texts => &[
                "array(select jsonb_array_elements_text(auth.jwt() #> '{app_metadata,tags}'))",
                "array(select jsonb_array_elements_text(auth.jwt() -> 'app_metadata' -> 'orgs'))",
                "string_to_array(auth.jwt() ->> 'user_role', '/')",
            ],
            Kind::State | Kind::Ints => &[],
        };
        if kind == Kind::State {
            return format!("(auth.jwt() -> 'app_metadata' ->> 'state')::{}", kind.cast(&self.world.schema));
        }
        if of.is_empty() { self.constant(kind) } else { (*self.random.pick(of)).to_owned() }
    }

    /// A condition.
    pub fn boolean(&mut self) -> String {
        if !self.may_nest() {
            return self.simple_boolean();
        }
        match self.random.below(100) {
            0..12 => format!("({} and {})", self.boolean(), self.boolean()),
            12..24 => format!("({} or {})", self.boolean(), self.boolean()),
            24..29 => format!("(not {})", self.boolean()),
            29..33 => format!(
                "(case when {} then {} else {} end)",
                self.simple_boolean(),
                self.boolean(),
                self.simple_boolean()
            ),
            33..37 => {
                let test =
                    self.random.pick(&["is true", "is not true", "is false", "is not false", "is null", "is unknown"]);
                let test = test.to_string();
                format!("(({}) {test})", self.boolean())
            }
            37..39 => format!("coalesce({}, {})", self.boolean(), self.random.percent(50)),
            39..45 => self.helper(Kind::Bool).unwrap_or_else(|| self.simple_boolean()),
            45..53 if !self.tables.is_empty() => self.exists(),
            53..62 if !self.tables.is_empty() => self.in_query(),
            62..64 => format!("({} = {})", self.boolean(), self.simple_boolean()),
            64..78 => self.shape(),
            _ => self.simple_boolean(),
        }
    }

    /// A condition without sub-selects over tables (but for what atoms have).
    pub fn simple_boolean(&mut self) -> String {
        match self.random.below(100) {
            0..32 => self.equality(),
            32..46 => self.order(),
            46..53 => self.null_test(),
            53..60 => self.list(),
            60..70 => self.array(),
            70..78 => self.json(),
            78..83 => self.pattern(),
            83..85 => self.between(),
            85..88 => self.claim(Kind::Bool),
            88..90 => self.random.percent(50).to_string(),
            90 if self.random.percent(30) => self.odd(),
            _ => self.column(Kind::Bool).unwrap_or_else(|| self.equality()),
        }
    }

    /// Two kinds that can be compared, one of them likely that of a column.
    fn kinds(&mut self) -> (Kind, Kind) {
        let columns: Vec<Kind> = self
            .scopes
            .iter()
            .flat_map(|scope| self.world.tables[scope.table].columns.iter().map(|column| column.kind))
            .filter(|kind| kind.has_equality() && *kind != Kind::Bool)
            .collect();
        let one = if columns.is_empty() || self.random.percent(10) {
            *self.random.pick(&[Kind::Uuid, Kind::Text, Kind::Int4, Kind::Timestamptz, Kind::Jsonb])
        } else {
            *self.random.pick(&columns)
        };
        (one, one)
    }

    fn equality(&mut self) -> String {
        let (left, right) = self.kinds();
        let (left, right) = (self.of_kind(left), self.atom(right));
        let operator = self.random.pick(&["=", "=", "=", "=", "<>", "is distinct from", "is not distinct from"]);
        format!("({left} {operator} {right})")
    }

    fn order(&mut self) -> String {
        let operator = self.random.pick(&["<", "<=", "<=", ">", ">=", ">="]).to_string();
        let of = [Kind::Int4, Kind::Int8, Kind::Numeric, Kind::Timestamptz, Kind::Timestamptz, Kind::Bytes, Kind::Uuid];
        let kind = match self.random.below(10) {
            0 => self.kinds().0,
            _ => *self.random.pick(&of),
        };
        // Texts are ordered by their collation, which is rarely known.
        let collate = if kind.is_text() && self.random.percent(8) { " collate \"C\"" } else { "" };
        let left = self.column(kind).unwrap_or_else(|| self.of_kind(kind));
        format!("({left}{collate} {operator} {})", self.atom(kind))
    }

    fn between(&mut self) -> String {
        let kind = *self.random.pick(&[Kind::Int4, Kind::Timestamptz, Kind::Numeric]);
        let not = if self.random.percent(30) { "not " } else { "" };
        let symmetric = if self.random.percent(15) { "symmetric " } else { "" };
        format!("({} {not}between {symmetric}{} and {})", self.atom(kind), self.atom(kind), self.atom(kind))
    }

    fn null_test(&mut self) -> String {
        let (kind, _) = self.kinds();
        let test = *self.random.pick(&["is null", "is not null"]);
        if self.random.percent(25) {
            let column = self.column(kind).unwrap_or_else(|| self.constant(kind));
            return format!("(nullif({column}, {}) {test})", self.atom(kind));
        }
        format!("({} {test})", self.of_kind(kind))
    }

    fn list(&mut self) -> String {
        let (kind, _) = self.kinds();
        let items: Vec<String> = (0..self.random.between(1, 3)).map(|_| self.atom(kind)).collect();
        let not = if self.random.percent(35) { "not " } else { "" };
        format!("({} {not}in ({}))", self.atom(kind), items.join(", "))
    }

    fn array(&mut self) -> String {
        let (one, many) =
            *self.random.pick(&[(Kind::Uuid, Kind::Uuids), (Kind::Text, Kind::Texts), (Kind::Int4, Kind::Ints)]);
        match self.random.below(10) {
            0..5 => format!("({} = any ({}))", self.atom(one), self.of_kind(many)),
            5 => format!("({} <> all ({}))", self.atom(one), self.of_kind(many)),
            6 => format!("({} = all ({}))", self.atom(one), self.of_kind(many)),
            7 => format!("({} && {})", self.of_kind(many), self.atom(many)),
            8 => format!("({} @> {})", self.of_kind(many), self.atom(many)),
            _ => format!("({} <@ {})", self.of_kind(many), self.atom(many)),
        }
    }

    fn json(&mut self) -> String {
        let document = self.of_kind(Kind::Jsonb);
        match self.random.below(9) {
            0 => format!("({document} ? {})", self.atom_text()),
            1 => format!("({document} ?| {})", self.atom(Kind::Texts)),
            2 => format!("({document} ?& {})", self.atom(Kind::Texts)),
            3 => format!("({document} @> {})", self.atom(Kind::Jsonb)),
            4 => format!("({document} <@ {})", self.atom(Kind::Jsonb)),
            5 => format!("({document} ->> {} = {})", self.path(), self.atom(Kind::Text)),
            6 => format!("(({document} -> 'readers') ? {}::text)", self.atom(Kind::Uuid)),
            7 => format!("(({document} ->> 'a')::int > {})", self.atom(Kind::Int4)),
            _ => format!("({document} = {})", self.atom(Kind::Jsonb)),
        }
    }

    /// A text without doubt about its type.
    fn atom_text(&mut self) -> String {
        format!("({})::text", self.atom(Kind::Text))
    }

    fn pattern(&mut self) -> String {
        let text = self.of_kind(Kind::Text);
        let pattern = match self.random.below(4) {
            0 => format!("({} || '%')", self.atom(Kind::Text)),
            1 => self.atom(Kind::Text),
            _ => {
                (*self.random.pick(&["'%@example.com'", "'a%'", "'%/_/%'", "'_'", "'A%'", "'%'", "'a\\%'"])).to_owned()
            }
        };
        let operator = *self.random.pick(&["like", "like", "like", "not like", "ilike"]);
        format!("({text} {operator} {pattern})")
    }

    /// What the process must leave to the database.
    fn odd(&mut self) -> String {
        let of = [
            "(random() < 2)",
            "(pg_backend_pid() > 0)",
            "(session_user = 'postgres')",
            "(current_setting('server_version') <> '')",
            "(clock_timestamp() > '2020-01-01')",
            "(has_schema_privilege('public', 'usage'))",
        ];
        (*self.random.pick(&of)).to_owned()
    }

    /// One of the shapes people write, over columns that fit.
    fn shape(&mut self) -> String {
        let column = |writer: &mut Self, kind| writer.column(kind).unwrap_or_else(|| writer.constant(kind));
        match self.random.below(12) {
            0 => format!("({} = auth.uid())", column(self, Kind::Uuid)),
            1 => format!("((select auth.uid()) = {})", column(self, Kind::Uuid)),
            2 => format!("(auth.uid() in ({}, {}))", column(self, Kind::Uuid), column(self, Kind::Uuid)),
            3 => format!("(auth.uid() = any ({}))", column(self, Kind::Uuids)),
            4 => format!("({} or {} = auth.uid())", column(self, Kind::Bool), column(self, Kind::Uuid)),
            5 => format!("((auth.jwt() #> '{{app_metadata,orgs}}') ? {}::text)", column(self, Kind::Uuid)),
            6 => format!(
                "({}::text in (select jsonb_array_elements_text(auth.jwt() #> '{{app_metadata,orgs}}')))",
                column(self, Kind::Uuid)
            ),
            7 => format!("(split_part({}, '/', 1) = auth.uid()::text)", column(self, Kind::Text)),
            8 => format!(
                "(case {} when 'open' then {} = auth.uid() when 'draft' then {} else true end)",
                column(self, Kind::Text),
                column(self, Kind::Uuid),
                self.simple_boolean()
            ),
            9 => format!(
                "({} <= now() and ({} is null or {} > now()))",
                column(self, Kind::Timestamptz),
                column(self, Kind::Timestamptz),
                column(self, Kind::Timestamptz)
            ),
            10 => format!("(auth.jwt() ->> 'aal' = {})", self.random.pick(&["'aal1'", "'aal2'"])),
            _ => format!(
                "({} in ('{}', '{}') and {} = auth.uid())",
                column(self, Kind::Text),
                self.random.pick(&TEXTS[..4]),
                self.random.pick(&TEXTS[4..6]),
                self.random.pick(&["auth.uid()", &format!("'{}'::uuid", UUIDS[0])])
            ),
        }
    }
}
