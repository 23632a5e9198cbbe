//! Random sub-selects over the tables of a world.

use super::{
    expression::{Scope, Writer},
    kinds::Kind,
};

impl Writer<'_> {
    /// `exists (...)`, or its contrary.
    pub fn exists(&mut self) -> String {
        let not = if self.random.percent(25) { "not " } else { "" };
        let outer = self.scopes.len();
        let from = self.from_and_where();
        self.scopes.truncate(outer);
        let output = *self.random.pick(&["1", "1", "*", "true", "null"]);
        format!("({not}exists (select {output} {from}))")
    }

    /// `x in (select ...)`, or another spelling of it.
    pub fn in_query(&mut self) -> String {
        let kind = *self.random.pick(&[Kind::Uuid, Kind::Uuid, Kind::Uuid, Kind::Text, Kind::Int4]);
        let left = self.atom(kind);
        let query = match self.set_helper(kind) {
            Some(call) if self.random.percent(35) => format!("select {call}"),
            _ => self.set_query(kind),
        };
        match self.random.below(10) {
            0..4 => format!("({left} in ({query}))"),
            4..7 => format!("({left} not in ({query}))"),
            7 => format!("({left} = any (array({query})))"),
            8 => format!("({left} <> all (array({query})))"),
            _ => format!("({left} = any ({query}))"),
        }
    }

    /// A query of values of a kind.
    pub fn set_query(&mut self, kind: Kind) -> String {
        let outer = self.scopes.len();
        let from = self.from_and_where();
        let inner: Vec<Scope> = self.scopes[outer..].to_vec();
        let rest = std::mem::replace(&mut self.scopes, inner);
        let nullable = if self.random.percent(60) { self.nullable(kind) } else { None };
        let value = nullable.or_else(|| self.column(kind));
        self.scopes = rest;
        let value = value.unwrap_or_else(|| self.constant(kind));
        self.scopes.truncate(outer);
        let distinct = if self.random.percent(8) { "distinct " } else { "" };
        format!("select {distinct}{value} {from}")
    }

    /// `(select x from ...)`, of one row at most if all is well, or an aggregate.
    pub fn scalar_query(&mut self, kind: Kind) -> String {
        let outer = self.scopes.len();
        if kind == Kind::Int4 && self.random.percent(50) {
            let from = self.from_and_where();
            self.scopes.truncate(outer);
            return format!("(select count(*)::int {from})");
        }
        let number = self.pick_table();
        let table = &self.world.tables[number];
        let (qualified, key) = (self.world.qualified(table), table.columns[..table.key].to_vec());
        let alias = self.alias();
        // By its key: then there is one row at most.
        let keys: Vec<String> =
            key.iter().map(|column| format!("{alias}.{} = {}", column.name, self.atom(column.kind))).collect();
        let inner = vec![Scope { alias: alias.clone(), table: number }];
        let rest = std::mem::replace(&mut self.scopes, inner);
        let value = self.column(kind);
        self.scopes = rest;
        let value = value.unwrap_or_else(|| self.constant(kind));
        let mut condition = keys.join(" and ");
        if self.random.percent(8) {
            condition = "true".to_owned();
        }
        let limit = if self.random.percent(6) { " limit 1" } else { "" };
        format!("(select {value} from {qualified} {alias} where {condition}{limit})")
    }

    fn set_helper(&mut self, kind: Kind) -> Option<String> {
        let helper = self.pick_helper(|helper| helper.returns_set && helper.returns == kind)?;
        let argument = helper.argument.map_or_else(String::new, |kind| self.atom_for(kind));
        Some(format!("{}({argument})", helper.name))
    }

    fn pick_table(&mut self) -> usize {
        let table = self.tables[self.random.below(self.tables.len())];
        self.read.insert(table);
        table
    }

    /// `from ... where ...`; its tables stay in scope.
    fn from_and_where(&mut self) -> String {
        let outer = self.scopes.len();
        let mut from = String::from("from ");
        let mut conditions = Vec::new();
        let sources = if self.random.percent(22) { 2 } else { 1 };
        for source in 0..sources {
            let number = self.pick_table();
            let alias = self.alias();
            let qualified = self.world.qualified(&self.world.tables[number]);
            let link = |writer: &mut Self, alias: &str| {
                let scope = Scope { alias: alias.to_owned(), table: number };
                writer.link(&scope)
            };
            if source == 0 {
                from += &format!("{qualified} {alias}");
                conditions.extend(link(self, &alias));
            } else if self.random.percent(70) {
                let on = link(self, &alias).unwrap_or_else(|| "true".to_owned());
                from += &format!(" join {qualified} {alias} on {on}");
            } else if self.random.percent(80) {
                from += &format!(", {qualified} {alias}");
                conditions.extend(link(self, &alias));
            } else {
                let on = link(self, &alias).unwrap_or_else(|| "true".to_owned());
                from += &format!(" left join {qualified} {alias} on {on}");
            }
            self.scopes.push(Scope { alias, table: number });
        }
        for _ in 0..self.random.below(3) {
            let inner = self.scopes[outer..].to_vec();
            let rest = if self.random.percent(70) { Some(std::mem::replace(&mut self.scopes, inner)) } else { None };
            let condition = match self.random.below(10) {
                0 if self.budget > 2 => self.boolean(),
                1..5 => self.mine(),
                _ => self.simple_boolean(),
            };
            conditions.push(condition);
            if let Some(rest) = rest {
                self.scopes = rest;
            }
        }
        if !conditions.is_empty() {
            from += &format!(" where {}", conditions.join(" and "));
        }
        from
    }

    /// A column of the innermost table that equals a claim.
    fn mine(&mut self) -> String {
        let scope = self.scopes.last().expect("a table is in scope").clone();
        let columns: Vec<String> = self.world.tables[scope.table]
            .columns
            .iter()
            .filter(|column| column.kind == Kind::Uuid)
            .map(|column| format!("{}.{}", scope.alias, column.name))
            .collect();
        if columns.is_empty() {
            return self.simple_boolean();
        }
        let column = self.random.pick(&columns).clone();
        if self.random.percent(50) {
            format!("{column} = auth.uid()")
        } else {
            format!("{} = {column}", self.claim(Kind::Uuid))
        }
    }

    /// An equality between a column of a new table and one that is in scope already, or a parameter.
    fn link(&mut self, scope: &Scope) -> Option<String> {
        let columns = self.world.tables[scope.table].columns.clone();
        let linkable: Vec<_> = columns
            .iter()
            .filter(|column| column.kind == Kind::Uuid || column.kind.is_text() || column.kind.is_number())
            .collect();
        for _ in 0..4 {
            let column = *self.random.pick(&linkable);
            let parameters: Vec<String> = self
                .parameters
                .iter()
                .filter(|(_, kind)| kind.is_comparable(column.kind))
                .map(|(name, _)| name.clone())
                .collect();
            let other = if !parameters.is_empty() && self.random.percent(70) {
                Some(self.random.pick(&parameters).clone())
            } else {
                self.column(column.kind)
            };
            if let Some(other) = other {
                let (own, other) = (format!("{}.{}", scope.alias, column.name), other);
                return Some(if self.random.percent(50) {
                    format!("{own} = {other}")
                } else {
                    format!("{other} = {own}")
                });
            }
        }
        None
    }
}
