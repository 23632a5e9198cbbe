//! A random schema: tables, helper functions, rights. What their expressions say is `expression`'s.

use super::{expression::Writer, kinds::Kind, random::Random};
use crate::policies::asked::Asked;
use std::collections::BTreeSet;

/// The roles of all worlds: one that others inherit, one that inherits, one that is a member without inheriting, one
/// that owns tables, one that inherits that, one that bypasses row level security.
pub const ROLES: [&str; 6] =
    ["oracle_user", "oracle_member", "oracle_apart", "oracle_owner", "oracle_heir", "oracle_all"];

/// Makes the roles, once a cluster.
pub const ROLES_SQL: &str = "
    do $$ begin
      perform pg_advisory_xact_lock(4711);
      if not exists (select from pg_roles where rolname = 'oracle_user') then
        create role oracle_user nologin; create role oracle_owner nologin;
        create role oracle_member nologin in role oracle_user; create role oracle_heir nologin in role oracle_owner;
        create role oracle_apart nologin noinherit in role oracle_user; create role oracle_all nologin bypassrls;
        grant oracle_user, oracle_member, oracle_apart, oracle_owner, oracle_heir, oracle_all to walcast;
      end if;
    end $$;";

/// A column.
#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    pub kind: Kind,
    pub nullable: bool,
    /// The expression of a generated one.
    pub generated: Option<String>,
}

/// A table.
#[derive(Clone, Debug)]
pub struct Table {
    /// Without its schema.
    pub name: String,
    pub columns: Vec<Column>,
    /// How many of the first columns are the primary key.
    pub key: usize,
    pub replica_identity_full: bool,
    /// The publication it is in: that of clients, or that of lookup tables.
    pub publication: Option<&'static str>,
}

impl Table {
    /// The columns of the key, with commas.
    pub fn key_list(&self) -> String {
        self.columns[..self.key].iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(",")
    }

    /// The columns that can be written.
    pub fn writable(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|column| column.generated.is_none())
    }
}

/// A helper function.
#[derive(Clone, Debug)]
pub struct Helper {
    /// With its schema.
    pub name: String,
    pub argument: Option<Kind>,
    pub returns: Kind,
    pub returns_set: bool,
    /// The tables it reads whose policies hold there: calls from those would go in a circle.
    pub reads: BTreeSet<usize>,
    /// Its whole definition.
    pub sql: String,
}

/// Tables, functions, rights.
#[derive(Clone, Debug)]
pub struct World {
    pub schema: String,
    pub tables: Vec<Table>,
    pub helpers: Vec<Helper>,
}

impl World {
    /// A random one, in a schema of this name.
    pub fn random(random: &mut Random, schema: &str) -> World {
        let count = random.between(2, 4);
        let tables = (0..count).map(|number| table(random, schema, number)).collect();
        let mut world = World { schema: schema.to_owned(), tables, helpers: Vec::new() };
        for number in 0..random.between(1, 4) {
            let helper = helper(random, &world, number);
            world.helpers.push(helper);
        }
        world
    }

    /// What to ask about the tables, as they are numbered.
    pub fn asked(&self) -> Vec<Asked> {
        self.tables.iter().map(|table| Asked::new(&self.qualified(table), &table.key_list())).collect()
    }

    /// A table's name with the schema.
    pub fn qualified(&self, table: &Table) -> String {
        format!("{}.{}", self.schema, table.name)
    }

    /// The statements that make types and tables; all of them must be accepted.
    pub fn tables_sql(&self) -> String {
        let schema = &self.schema;
        let mut sql = format!(
            "create schema {schema}; grant usage on schema {schema} to public;
             create type {schema}.state as enum ('draft', 'open', 'closed');
             create domain {schema}.label as text check (value <> 'nothing');
             create domain {schema}.count as integer;\n"
        );
        for table in &self.tables {
            let name = self.qualified(table);
            let columns: Vec<String> = table.columns.iter().map(|column| column_sql(column, schema)).collect();
            sql += &format!("create table {name} ({}, primary key ({}));\n", columns.join(", "), table.key_list());
            if table.replica_identity_full {
                sql += &format!("alter table {name} replica identity full;\n");
            }
            if let Some(publication) = table.publication {
                sql += &format!("alter publication {publication} add table {name};\n");
            }
            sql += &format!("grant select on {name} to walcast, oracle_all;\n");
        }
        sql
    }

    /// The statements that give rights. New ones on each call.
    pub fn rights_sql(&self, random: &mut Random) -> String {
        let mut sql = String::new();
        for table in &self.tables {
            let name = self.qualified(table);
            let owner = if random.percent(30) { "oracle_owner" } else { "postgres" };
            sql += &format!("alter table {name} owner to {owner}; grant select on {name} to walcast, oracle_all;\n");
            let (security, force) = (random.percent(90), random.percent(50));
            sql += &format!("alter table {name} {} row level security;\n", if security { "enable" } else { "disable" });
            sql += &format!("alter table {name} {}force row level security;\n", if force { "" } else { "no " });
            for role in &ROLES[..5] {
                sql += &format!("revoke all on {name} from {role};\n");
                let names: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
                match random.below(100) {
                    0..85 => sql += &format!("grant select on {name} to {role};\n"),
                    85..97 => {
                        // The key, so that rows can be told apart, and some others.
                        let granted: Vec<&str> = names
                            .iter()
                            .enumerate()
                            .filter(|(index, _)| *index < table.key || random.percent(70))
                            .map(|(_, name)| *name)
                            .collect();
                        sql += &format!("grant select ({}) on {name} to {role};\n", granted.join(", "));
                    }
                    _ => {}
                }
            }
        }
        sql
    }
}

fn column_sql(column: &Column, schema: &str) -> String {
    let mut sql = format!("{} {}", column.name, column.kind.sql(schema));
    if let Some(expression) = &column.generated {
        sql += &format!(" generated always as ({expression}) stored");
    }
    if !column.nullable {
        sql += " not null";
    }
    sql
}

fn table(random: &mut Random, schema: &str, number: usize) -> Table {
    let column = |name: &str, kind, nullable| Column { name: name.to_owned(), kind, nullable, generated: None };
    let mut columns = match random.below(10) {
        0..5 => vec![column("id", Kind::Int4, false)],
        5..8 => vec![column("org_id", Kind::Uuid, false), column("user_id", Kind::Uuid, false)],
        _ => vec![column("id", Kind::Uuid, false)],
    };
    let key = columns.len();
    for index in 0..random.between(3, 8) {
        let kind = Kind::random(random);
        columns.push(column(&format!("c{index}"), kind, random.percent(85)));
    }
    let texts: Vec<String> =
        columns.iter().filter(|column| column.kind == Kind::Text).map(|column| column.name.clone()).collect();
    if random.percent(30) && !texts.is_empty() {
        let from = random.pick(&texts).clone();
        let expression = random.pick(&["lower({})", "{} || '!'", "coalesce({}, 'none')"]).replace("{}", &from);
        columns.push(Column { generated: Some(expression), ..column("made", Kind::Text, true) });
    }
    if random.percent(8) {
        // A name that must be quoted.
        let last = columns.last_mut().expect("there are columns");
        last.name = "\"Order\"".to_owned();
    }
    let _ = schema;
    Table {
        name: format!("t{number}"),
        columns,
        key,
        replica_identity_full: random.percent(50),
        publication: match random.below(20) {
            0..16 => Some("supabase_realtime"),
            16..19 => Some("walcast_lookups"),
            _ => None,
        },
    }
}

fn helper(random: &mut Random, world: &World, number: usize) -> Helper {
    let schema = &world.schema;
    let name = format!("{schema}.f{number}");
    // The first one is what most are: a condition on a key.
    let is_usual = number == 0;
    let argument =
        (is_usual || random.percent(70)).then(|| *random.pick(&[Kind::Uuid, Kind::Uuid, Kind::Text, Kind::Int4]));
    let returns_set = !is_usual && random.percent(25);
    let returns = if returns_set {
        *random.pick(&[Kind::Uuid, Kind::Uuid, Kind::Text, Kind::Int4])
    } else if is_usual || random.percent(75) {
        Kind::Bool
    } else {
        *random.pick(&[Kind::Text, Kind::Uuid, Kind::Int4])
    };
    let (is_named, is_standard) = (random.percent(70), random.percent(12));
    let is_plpgsql = !returns_set && random.percent(20);
    let placeholder = if is_named || is_plpgsql { "arg" } else { "$1" };
    let is_strict = random.percent(if is_usual { 50 } else { 25 });
    let mut writer = Writer::new(random, world);
    if let Some(kind) = argument {
        writer.parameters.push((placeholder.to_owned(), kind));
    }
    let mut body = if returns_set { writer.set_query(returns) } else { writer.helper_body(returns) };
    if is_strict && returns == Kind::Bool && !returns_set && writer.random.percent(80) {
        // Without STRICT, a NULL would give something else.
        body = format!("(({body}) is not true)");
    }
    let mut reads = std::mem::take(&mut writer.read);
    let argument_sql = argument.map_or_else(String::new, |kind| {
        let name = if placeholder == "arg" { "arg " } else { "" };
        format!("{name}{}", kind.cast(schema))
    });
    let volatility = if random.percent(94) { "stable" } else { *random.pick(&["volatile", "immutable"]) };
    let definer = if random.percent(55) { " security definer" } else { "" };
    let is_owned = random.percent(35);
    if !definer.is_empty() && !is_owned {
        // As superuser, whom no policy holds.
        reads.clear();
    }
    let strict = if is_strict { " strict" } else { "" };
    let path = match random.below(10) {
        0..5 => " set search_path = ''",
        5..6 => " set search_path = pg_catalog, pg_temp",
        _ => "",
    };
    let set = if returns_set { "setof " } else { "" };
    let head = format!(
        "create function {name}({argument_sql}) returns {set}{} language {}{definer} {volatility}{strict}{path}",
        returns.cast(schema),
        if is_plpgsql { "plpgsql" } else { "sql" },
    );
    let definition = if is_plpgsql {
        format!("{head} as $$ begin return {body}; end $$")
    } else if returns_set {
        format!("{head} as $$ {body} $$")
    } else if is_standard {
        format!("{head} return {body}")
    } else {
        format!("{head} as $$ select {body} $$")
    };
    let owner = if is_owned { format!("; alter function {name} owner to oracle_owner") } else { String::new() };
    let execute = if random.percent(8) {
        format!("; revoke execute on function {name} from public; grant execute on function {name} to oracle_user")
    } else {
        String::new()
    };
    Helper { name, argument, returns, returns_set, reads, sql: format!("{definition}{owner}{execute}") }
}
