//! Random conditions, and the ones people write.

use super::{
    expression::Writer,
    kinds::{Kind, TEXTS, UUIDS},
};

impl Writer<'_> {
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
        if self.random.percent(12) {
            return format!("starts_with({text}, {pattern})");
        }
        let operator = *self.random.pick(&["like", "like", "like", "like", "not like", "not like", "ilike", "~"]);
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
