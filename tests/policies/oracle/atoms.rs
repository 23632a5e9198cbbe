//! What expressions are made of: columns, constants, claims, parameters, calls of helpers.

use super::{
    expression::{Scope, Writer},
    kinds::Kind,
    world::Helper,
};

impl Writer<'_> {
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
    pub fn any_atom(&mut self) -> String {
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
            Kind::State | Kind::Ints | Kind::Float4 | Kind::Char | Kind::Bytea | Kind::Interval => &[],
        };
        if kind == Kind::State {
            return format!("(auth.jwt() -> 'app_metadata' ->> 'state')::{}", kind.cast(&self.world.schema));
        }
        if of.is_empty() { self.constant(kind) } else { (*self.random.pick(of)).to_owned() }
    }
}
