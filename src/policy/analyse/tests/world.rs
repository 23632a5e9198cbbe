//! A catalogue by hand, and expressions in a short form to look at.

use crate::{
    change::{
        relation::ReplicaIdentity,
        value::{TypeInfo, TypeKind, TypeRegistry},
    },
    policy::{
        analyse::{Ruling, Unprovable, ruling},
        catalog::{Collation, TableColumn},
        expr::{Expr, Output},
        facts::{Carried, Facts, FunctionFacts, Language, Policy, TableFacts, TableRights},
        value::Value,
    },
};
use std::sync::Arc;

/// The types of the catalogue: name, oid, oid of the array.
const TYPES: &[(&str, u32, u32)] = &[
    ("bool", 16, 1000),
    ("int2", 21, 1005),
    ("int4", 23, 1007),
    ("int8", 20, 1016),
    ("numeric", 1700, 1231),
    ("float4", 700, 1021),
    ("float8", 701, 1022),
    ("text", 25, 1009),
    ("varchar", 1043, 1015),
    ("name", 19, 1003),
    ("bpchar", 1042, 1014),
    ("uuid", 2950, 2951),
    ("date", 1082, 1182),
    ("timestamp", 1114, 1115),
    ("timestamptz", 1184, 1185),
    ("interval", 1186, 1187),
    ("json", 114, 199),
    ("jsonb", 3802, 3807),
    ("point", 600, 1017),
];
pub(super) const MOOD: u32 = 50_001;
pub(super) const EMAIL: u32 = 50_003;

pub(super) struct World {
    pub(super) facts: Facts,
    next: u32,
}

/// How a function is made.
pub(super) struct Body<'a> {
    pub(super) name: &'a str,
    pub(super) arguments: &'a str,
    pub(super) returns: &'a str,
    pub(super) source: &'a str,
}

impl World {
    /// The assumed objects of the catalogue of shapes.
    pub(super) fn new() -> World {
        let mut world = World::bare();
        world.table("orgs", "id uuid, parent_id uuid, plan text, owner_id uuid", &["id"]);
        let members = "org_id uuid, user_id uuid, role text, status text, expires_at timestamptz";
        world.table("memberships", members, &["org_id", "user_id"]);
        world.table("profiles", "id uuid, is_admin bool, email text, dept text, manager_id uuid", &["id"]);
        world.table("projects", "id uuid, org_id uuid, owner_id uuid, archived bool", &["id"]);
        let docs = "id uuid, owner_id uuid, org_id uuid, project_id uuid, folder_id uuid, reviewer_id uuid, \
             editors uuid[], is_public bool, status text, meta jsonb, tags text[], region text, level int4, title text, \
             path text, slug text generated, publish_at timestamptz, expires_at timestamptz, deleted_at timestamptz, \
             created_at timestamptz, mood mood, email email, code varchar, spot point, letter bpchar, price numeric, \
             ratio float4, size int8, day date, weird_title text(en), nick text(ci)";
        world.table("docs", docs, &["id"]);
        let shares = "doc_id uuid, user_id uuid, can_read bool, expires_at timestamptz";
        world.table("doc_shares", shares, &["doc_id", "user_id"]);
        world.table("blocks", "blocker uuid, blocked uuid", &["blocker", "blocked"]);
        world.table("follows", "follower uuid, followee uuid, state text", &["follower", "followee"]);
        world.table("role_permissions", "role text, permission text", &["role", "permission"]);
        world.table("rooms", "id uuid, topic text, org_id uuid", &["id"]);
        world.table("room_members", "room_id uuid, user_id uuid, left_at timestamptz", &["room_id", "user_id"]);
        let messages = "id uuid, room_id uuid, sender_id uuid, recipient_id uuid, body text, created_at timestamptz";
        world.table("messages", messages, &["id"]);
        world.table("feature_flags", "name text, enabled bool", &["name"]);
        world.table("mfa", "user_id uuid, status text", &[]);
        world.table("tree", "id uuid, parent_id uuid, owner_id uuid", &["id"]);
        let jwt = "select nullif(current_setting('request.jwt.claims', true), '')::jsonb";
        world.function("auth", Body { name: "jwt", arguments: "", returns: "jsonb", source: jwt });
        let uid = "select (auth.jwt() ->> 'sub')::uuid";
        world.function("auth", Body { name: "uid", arguments: "", returns: "uuid", source: uid });
        let role = "select auth.jwt() ->> 'role'";
        world.function("auth", Body { name: "role", arguments: "", returns: "text", source: role });
        let email = "select auth.jwt() ->> 'email'";
        world.function("auth", Body { name: "email", arguments: "", returns: "text", source: email });
        world
    }

    fn bare() -> World {
        let mut types = Vec::new();
        for &(name, oid, array) in TYPES {
            types.push(info(oid, name, name, TypeKind::Base));
            types.push(info(array, &format!("_{name}"), &format!("{name}[]"), list(oid)));
        }
        types.push(info(MOOD, "mood", "public.mood", TypeKind::Enum));
        types.push(info(50_002, "_mood", "public.mood[]", list(MOOD)));
        types.push(info(EMAIL, "email", "public.email", TypeKind::Domain { base: 25 }));
        let role: Arc<str> = "authenticated".into();
        let mut facts = Facts {
            search_path: vec!["$user".to_owned(), "public".to_owned()],
            is_utc: true,
            default_collation: Some(Collation::Deterministic),
            builtin_functions: Some(Default::default()),
            types: Arc::new(TypeRegistry::new(types)),
            ..Facts::default()
        };
        for role in [role, "boss".into()] {
            facts.usage.insert(Arc::clone(&role), ["public".to_owned(), "auth".to_owned()].into());
            facts.roles.insert(role);
        }
        World { facts, next: 60_000 }
    }

    fn oid(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    /// The oid of a type by name.
    pub(super) fn type_oid(&self, name: &str) -> u32 {
        self.facts.types.all().find(|info| info.name == name || info.sql_name == name).map_or(0, |info| info.oid)
    }

    /// A table in `public` that everybody may read all of, with a key.
    pub(super) fn table(&mut self, name: &str, columns: &str, key: &[&str]) {
        let oid = self.oid();
        let columns: Vec<TableColumn> = columns
            .split(", ")
            .zip(1i16..)
            .map(|(column, number)| {
                let (column, is_generated) = match column.strip_suffix(" generated") {
                    Some(column) => (column, true),
                    None => (column, false),
                };
                let (name, type_name) = column.split_once(' ').expect("a name and a type");
                let (type_name, special) =
                    type_name.split_once('(').map_or((type_name, ""), |(name, rest)| (name, rest));
                let type_oid = self.type_oid(type_name);
                let collation = match (special, type_name) {
                    ("en)", _) => Collation::Bytewise,
                    ("ci)", _) => Collation::Nondeterministic,
                    (_, "text" | "varchar" | "text[]" | "email") => Collation::Deterministic,
                    _ => Collation::None,
                };
                let generated = is_generated.then(|| crate::policy::catalog::Generated {
                    expression: "lower(title)".to_owned(),
                    sql_type: "text".to_owned(),
                    reads: Vec::new(),
                });
                let (name, type_name) = (name.trim().to_owned(), type_name.to_owned());
                let collation_oid = match collation {
                    Collation::None => 0,
                    Collation::Bytewise => 950,
                    Collation::Deterministic => 100,
                    Collation::Nondeterministic => 16_400,
                };
                TableColumn { number, name, type_oid, type_name, collation, collation_oid, generated }
            })
            .collect();
        let index = |name: &&str| columns.iter().position(|column| column.name == **name).expect("a column");
        let key: Vec<usize> = key.iter().map(index).collect();
        let right = TableRights { select: vec![true; columns.len()], sees_all: true, policies: Vec::new() };
        let rights = self.facts.roles.iter().map(|role| (Arc::clone(role), right.clone())).collect();
        let table = TableFacts {
            oid,
            schema: "public".to_owned(),
            name: name.to_owned(),
            is_ordinary: true,
            identity: key.clone(),
            unique_keys: if key.is_empty() { Vec::new() } else { vec![key] },
            columns,
            replica_identity: ReplicaIdentity::Default,
            carried: Carried::Main,
            has_usable_identity: true,
            reader: Some(None),
            estimated_rows: 0,
            policies: Vec::new(),
            rights,
        };
        self.facts.tables.insert(oid, Arc::new(table));
    }

    pub(super) fn change(&mut self, name: &str, change: impl FnOnce(&mut TableFacts)) {
        let table = self.facts.tables.values_mut().find(|table| table.name == name).expect("a table");
        change(Arc::make_mut(table));
    }

    /// Turns on row level security with these policies for everybody but `boss`.
    pub(super) fn secure(&mut self, name: &str, policies: &[(&str, bool, &str)]) {
        self.change(name, |table| {
            let policy = |&(name, permissive, using): &(&str, bool, &str)| Policy {
                name: name.to_owned(),
                permissive,
                using: (!using.is_empty()).then(|| using.to_owned()),
            };
            table.policies = policies.iter().map(policy).collect();
            for (role, rights) in &mut table.rights {
                rights.sees_all = &**role == "boss";
                rights.policies = (0..policies.len()).collect();
            }
        });
    }

    /// A SQL function that everybody may call.
    pub(super) fn function(&mut self, schema: &str, body: Body<'_>) -> &mut FunctionFacts {
        let oid = self.oid();
        let arguments: Vec<(&str, &str)> = if body.arguments.is_empty() {
            Vec::new()
        } else {
            body.arguments.split(", ").map(|one| one.split_once(' ').expect("a name and a type")).collect()
        };
        let (returns, returns_set) = match body.returns.strip_prefix("setof ") {
            Some(returns) => (returns, true),
            None => (body.returns, false),
        };
        let function = FunctionFacts {
            oid,
            schema: schema.to_owned(),
            name: body.name.to_owned(),
            arguments: arguments.iter().map(|(_, kind)| self.type_oid(kind)).collect(),
            argument_names: arguments.iter().map(|(name, _)| (*name).to_owned()).collect(),
            defaults: 0,
            returns: self.type_oid(returns),
            returns_set,
            is_plain: true,
            language: Language::Sql,
            source: body.source.to_owned(),
            sql_body: None,
            security_definer: false,
            owner: "boss".into(),
            is_strict: false,
            is_immutable: false,
            settings: Vec::new(),
            execute: self.facts.roles.iter().cloned().collect(),
        };
        self.facts.functions.push(Arc::new(function));
        Arc::make_mut(self.facts.functions.last_mut().expect("just pushed"))
    }

    /// What one policy of a table says for `authenticated`.
    pub(super) fn read(&mut self, table: &str, using: &str) -> Result<String, String> {
        self.secure(table, &[("p", true, using)]);
        let table = self.facts.tables.values().find(|known| known.name == table).expect("a table");
        match ruling(&self.facts, table, &"authenticated".into()) {
            Ruling::Clauses(clauses) => {
                let mut scopes = vec![Arc::clone(table)];
                Ok(clauses.iter().map(|clause| self.show(&clause.expr, &mut scopes)).collect())
            }
            Ruling::Database(results) => {
                Err(results.into_iter().filter_map(|result| result.err()).map(|Unprovable { why, .. }| why).collect())
            }
            other => panic!("{other:?}"),
        }
    }

    /// What a policy of `docs` says.
    pub(super) fn docs(&mut self, using: &str) -> Result<String, String> {
        self.read("docs", using)
    }

    /// An expression in a short form, columns by table and name.
    pub(super) fn show(&self, expr: &Expr, scopes: &mut Vec<Arc<TableFacts>>) -> String {
        let mut all = |parts: &[Expr]| parts.iter().map(|part| self.show(part, scopes)).collect::<Vec<_>>();
        match expr {
            Expr::Const(value) => show_value(value),
            Expr::Column(column) => {
                let table = scopes.get(column.scope).expect("a scope that is there");
                let count = scopes.iter().take(column.scope).filter(|other| other.oid == table.oid).count();
                let name = &table.columns.get(column.column).expect("a column that is there").name;
                format!("{}{}.{name}", table.name, "'".repeat(count))
            }
            Expr::Claims => "claims".to_owned(),
            Expr::Setting(setting) => setting.name().to_owned(),
            Expr::Role => "role".to_owned(),
            Expr::Now => "now".to_owned(),
            Expr::Parameter(number) => format!("${number}"),
            Expr::And(parts) => format!("({})", all(parts).join(" and ")),
            Expr::Or(parts) => format!("({})", all(parts).join(" or ")),
            Expr::Not(part) => format!("not {}", self.show(part, scopes)),
            Expr::IsNull(part) => format!("{} is null", self.show(part, scopes)),
            Expr::IsBool(part, wanted) => format!("{} is {wanted}", self.show(part, scopes)),
            Expr::Call(function, parts) => match all(parts).as_slice() {
                [left, right]
                    if !function.name.contains(char::is_alphabetic)
                        && !["->", "->>", "#>"].contains(&function.name) =>
                {
                    format!("({left} {} {right})", function.name)
                }
                parts => format!("{}({})", function.name, parts.join(", ")),
            },
            Expr::AnyAll { comparison, left, array, all } => {
                let (left, array) = (self.show(left, scopes), self.show(array, scopes));
                format!("({left} {} {}({array}))", comparison.name, if *all { "all" } else { "any" })
            }
            Expr::Case(arms, otherwise) => {
                let arms = arms
                    .iter()
                    .map(|(when, then)| format!("when {} then {} ", self.show(when, scopes), self.show(then, scopes)));
                let arms: String = arms.collect();
                format!("case {arms}else {} end", self.show(otherwise, scopes))
            }
            Expr::Coalesce(parts) => format!("coalesce({})", all(parts).join(", ")),
            Expr::Distinct(_, left, right) => {
                format!("({} distinct {})", self.show(left, scopes), self.show(right, scopes))
            }
            Expr::NullIf(_, left, right) => {
                format!("nullif({}, {})", self.show(left, scopes), self.show(right, scopes))
            }
            Expr::Array(parts) => format!("[{}]", all(parts).join(", ")),
            Expr::Lazy(part) => format!("lazy({})", self.show(part, scopes)),
            Expr::Lookup(lookup) => {
                assert_eq!(lookup.first_scope, scopes.len(), "a lookup begins where the rows in scope end");
                let left = match &lookup.output {
                    Output::Any { left, .. } => self.show(left, scopes),
                    _ => String::new(),
                };
                let mut sources = Vec::new();
                for source in &lookup.sources {
                    let table = self.facts.tables.get(&source.table).expect("a table that is there");
                    let keys: Vec<String> = source
                        .keys
                        .iter()
                        .map(|(column, key)| {
                            let name = &table.columns.get(*column).expect("a column that is there").name;
                            format!("{name}: {}", self.show(key, scopes))
                        })
                        .collect();
                    scopes.push(Arc::clone(table));
                    let conditions: Vec<String> =
                        source.conditions.iter().map(|condition| self.show(condition, scopes)).collect();
                    let conditions =
                        if conditions.is_empty() { String::new() } else { format!(" if {}", conditions.join(", ")) };
                    sources.push(format!("{}[{}]{conditions}", table.name, keys.join(", ")));
                }
                let sources = sources.join("; ");
                let shown = match &lookup.output {
                    Output::Exists => format!("exists{{{sources}}}"),
                    Output::Any { comparison, value, .. } => {
                        format!("{left} {} any{{{sources} -> {}}}", comparison.name, self.show(value, scopes))
                    }
                    Output::Scalar(value) => format!("one{{{sources} -> {}}}", self.show(value, scopes)),
                    Output::Array(value) => format!("array{{{sources} -> {}}}", self.show(value, scopes)),
                    Output::Count => format!("count{{{sources}}}"),
                };
                scopes.truncate(lookup.first_scope);
                shown
            }
        }
    }
}

fn show_value(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Text(value) => format!("'{value}'"),
        Value::Array(values) => format!("{{{}}}", values.iter().map(show_value).collect::<Vec<_>>().join(", ")),
        other => format!("{other:?}"),
    }
}

fn info(oid: u32, name: &str, sql_name: &str, kind: TypeKind) -> TypeInfo {
    TypeInfo { oid, name: name.to_owned(), sql_name: sql_name.to_owned(), kind }
}

fn list(element: u32) -> TypeKind {
    TypeKind::Array { element, delimiter: b',' }
}
