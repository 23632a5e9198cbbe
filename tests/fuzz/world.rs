//! A database by hand: the tables policies are written for, with a column of every kind, and functions they call.

use std::{collections::HashMap, sync::Arc};
use walcast::{
    change::{
        relation::ReplicaIdentity,
        value::{TypeInfo, TypeKind, TypeRegistry},
    },
    policy::{
        catalog::{Access, Collation, RowRule, Table, TableColumn},
        facts::{Carried, Facts, FunctionFacts, Language, Policy, TableFacts, TableRights},
    },
};

/// The role everybody has.
pub const ROLE: &str = "authenticated";
/// The table policies are about.
pub const DOCS: u32 = 60_000;

/// Name, oid, oid of the array.
const TYPES: &[(&str, u32, u32)] = &[
    ("bool", 16, 1000),
    ("bytea", 17, 1001),
    ("int8", 20, 1016),
    ("int2", 21, 1005),
    ("int4", 23, 1007),
    ("text", 25, 1009),
    ("json", 114, 199),
    ("box", 603, 1020),
    ("float4", 700, 1021),
    ("float8", 701, 1022),
    ("bpchar", 1042, 1014),
    ("varchar", 1043, 1015),
    ("date", 1082, 1182),
    ("timestamp", 1114, 1115),
    ("timestamptz", 1184, 1185),
    ("interval", 1186, 1187),
    ("numeric", 1700, 1231),
    ("uuid", 2950, 2951),
    ("jsonb", 3802, 3807),
    ("mood", 50_001, 50_002),
];

/// Tables: name, columns, how many of the first are the key.
const TABLES: &[(&str, &str, usize)] = &[
    (
        "docs",
        "id uuid, owner_id uuid, org_id uuid, project_id uuid, editors _uuid, is_public bool, status text, meta jsonb, \
         tags _text, level int4, title text, path text, publish_at timestamptz, expires_at timestamptz, \
         deleted_at timestamptz, created_at timestamptz, mood mood, code varchar, letter bpchar, price numeric, \
         ratio float8, size int8, day date, span interval, raw bytea, plain json, spot box, at timestamp, levels _int4",
        1,
    ),
    ("memberships", "org_id uuid, user_id uuid, role text, status text, expires_at timestamptz", 2),
    ("profiles", "id uuid, is_admin bool, email text, dept text, manager_id uuid", 1),
    ("projects", "id uuid, org_id uuid, owner_id uuid, archived bool", 1),
    ("doc_shares", "doc_id uuid, user_id uuid, can_read bool, expires_at timestamptz", 2),
    ("room_members", "room_id uuid, user_id uuid, left_at timestamptz", 2),
    ("messages", "id uuid, room_id uuid, sender_id uuid, recipient_id uuid, body text, created_at timestamptz", 1),
];

/// Functions: schema, name, arguments, what they return, body.
const FUNCTIONS: &[(&str, &str, &str, &str, &str)] = &[
    ("auth", "jwt", "", "jsonb", "select nullif(current_setting('request.jwt.claims', true), '')::jsonb"),
    ("auth", "uid", "", "uuid", "select (auth.jwt() ->> 'sub')::uuid"),
    ("auth", "role", "", "text", "select auth.jwt() ->> 'role'"),
    ("auth", "email", "", "text", "select auth.jwt() ->> 'email'"),
    ("public", "is_member", "o uuid", "bool", IS_MEMBER),
    ("public", "fuzzed", "u uuid", "bool", "select u is not null"),
];

const IS_MEMBER: &str = "select exists (select 1 from public.memberships where org_id = o and user_id = auth.uid())";

/// The types of the database.
pub fn types() -> TypeRegistry {
    let info = |oid, name: &str, sql_name: String, kind| TypeInfo { oid, name: name.to_owned(), sql_name, kind };
    let types = TYPES.iter().flat_map(|&(name, oid, array)| {
        let delimiter = if name == "box" { b';' } else { b',' };
        let kind = if name == "mood" { TypeKind::Enum } else { TypeKind::Base };
        [
            info(oid, name, name.to_owned(), kind),
            info(array, &format!("_{name}"), format!("{name}[]"), TypeKind::Array { element: oid, delimiter }),
        ]
    });
    let email = info(50_003, "email", "public.email".to_owned(), TypeKind::Domain { base: 25 });
    TypeRegistry::new(types.chain([email]))
}

fn type_oid(name: &str) -> u32 {
    let (bare, is_array) = name.strip_prefix('_').map_or((name, false), |name| (name, true));
    let found = TYPES.iter().find(|(known, ..)| *known == bare).expect("a known type");
    if is_array { found.2 } else { found.1 }
}

fn columns(text: &str) -> Vec<TableColumn> {
    let column = |(text, number): (&str, i16)| {
        let (name, kind) = text.trim().split_once(' ').expect("a name and a type");
        let is_text = ["text", "varchar", "_text", "bpchar"].contains(&kind);
        TableColumn {
            number,
            name: name.to_owned(),
            type_oid: type_oid(kind),
            type_name: kind.to_owned(),
            collation: if is_text { Collation::Deterministic } else { Collation::None },
            collation_oid: if is_text { 100 } else { 0 },
            generated: None,
        }
    };
    text.split(',').zip(1..).map(column).collect()
}

/// What policies may mention, without any policy.
pub fn facts() -> Facts {
    let mut facts = Facts {
        search_path: vec!["public".to_owned()],
        is_utc: true,
        default_collation: Some(Collation::Deterministic),
        builtin_functions: Some(Default::default()),
        types: Arc::new(types()),
        roles: [ROLE.into()].into(),
        ..Facts::default()
    };
    facts.usage.insert(ROLE.into(), ["public".to_owned(), "auth".to_owned()].into());
    for (&(name, listed, key), oid) in TABLES.iter().zip(DOCS..) {
        let columns = columns(listed);
        let rights = TableRights { select: vec![true; columns.len()], sees_all: true, policies: Vec::new() };
        let table = TableFacts {
            oid,
            schema: "public".to_owned(),
            name: name.to_owned(),
            is_ordinary: true,
            columns,
            unique_keys: vec![(0..key).collect()],
            replica_identity: ReplicaIdentity::Default,
            identity: (0..key).collect(),
            carried: Carried::Main,
            has_usable_identity: true,
            reader: Some(None),
            estimated_rows: 0,
            policies: Vec::new(),
            rights: HashMap::from([(ROLE.into(), rights)]),
        };
        facts.tables.insert(oid, Arc::new(table));
    }
    facts.functions =
        FUNCTIONS.iter().zip(61_000..).map(|(function, oid)| Arc::new(self::function(function, oid))).collect();
    facts
}

fn function(&(schema, name, arguments, returns, source): &(&str, &str, &str, &str, &str), oid: u32) -> FunctionFacts {
    let arguments: Vec<(&str, &str)> = arguments.split(',').filter_map(|one| one.trim().split_once(' ')).collect();
    FunctionFacts {
        oid,
        schema: schema.to_owned(),
        name: name.to_owned(),
        arguments: arguments.iter().map(|(_, kind)| type_oid(kind)).collect(),
        argument_names: arguments.iter().map(|(name, _)| (*name).to_owned()).collect(),
        defaults: 0,
        returns: type_oid(returns),
        returns_set: false,
        is_plain: true,
        language: Language::Sql,
        source: source.to_owned(),
        sql_body: None,
        security_definer: false,
        owner: ROLE.into(),
        is_strict: false,
        is_immutable: false,
        settings: Vec::new(),
        execute: [ROLE.into()].into(),
    }
}

/// `docs` with one policy of this text, and `fuzzed` with this body.
pub fn with_policy(facts: &mut Facts, using: &str, body: Option<(&str, Language)>) -> Arc<TableFacts> {
    let table = facts.tables.get_mut(&DOCS).expect("it is there");
    let docs = Arc::make_mut(table);
    docs.policies = vec![Policy { name: "p".to_owned(), permissive: true, using: Some(using.to_owned()) }];
    let rights = docs.rights.get_mut(ROLE).expect("its rights");
    (rights.sees_all, rights.policies) = (false, vec![0]);
    let table = Arc::clone(table);
    if let Some((source, language)) = body {
        let function = Arc::make_mut(facts.functions.last_mut().expect("functions"));
        (function.source, function.language) = (source.to_owned(), language);
    }
    table
}

/// `docs` as clients subscribe to it.
pub fn docs() -> Table {
    let columns = columns(TABLES[0].1);
    let access = Access { select: vec![true; columns.len()], rows: RowRule::All };
    Table {
        oid: DOCS,
        schema: "public".to_owned(),
        name: "docs".to_owned(),
        listed: (0..columns.len()).collect(),
        columns,
        published: None,
        primary_key: vec![0],
        replica_identity: ReplicaIdentity::Default,
        row_security: false,
        access: HashMap::from([(ROLE.into(), access)]),
    }
}
