//! Rights, roles and search paths; the row level security of tables that are looked up; whole rulings.

use super::{World, world::Body};
use crate::policy::{
    analyse::{Ruling, mentioned, ruling},
    facts::FunctionFacts,
    facts::TableFacts,
};
use std::{collections::BTreeSet, sync::Arc};

const UID: &str = "text::uuid(->>(text::jsonb(nullif(claims, '')), 'sub'))";
const FELLOW: &str = "select exists (select 1 from memberships m where m.org_id = o and m.user_id = auth.uid())";

/// `is_member(org_id)` with a body that names its tables bare.
fn world(change: impl FnOnce(&mut FunctionFacts)) -> World {
    let mut world = World::new();
    let body = Body { name: "is_member", arguments: "o uuid", returns: "bool", source: FELLOW };
    change(world.function("public", body));
    world
}

fn revoke(world: &mut World, role: &str, table: &str, columns: &[&str]) {
    world.change(table, |table| {
        let indexes: Vec<usize> =
            columns.iter().filter_map(|name| table.columns.iter().position(|column| column.name == *name)).collect();
        let rights = table.rights.get_mut(role).unwrap();
        for index in indexes {
            rights.select[index] = false;
        }
    });
}

#[test]
fn a_lookup_is_read_with_the_rights_of_whoever_runs_it() {
    let using = "public.is_member(org_id)";
    let why = "role authenticated has no SELECT on column user_id of public.memberships";
    let mut invoker = world(|_| {});
    assert_eq!(invoker.docs(using).unwrap(), format!("exists{{memberships[org_id: docs.org_id, user_id: {UID}]}}"));
    revoke(&mut invoker, "authenticated", "memberships", &["user_id"]);
    assert_eq!(invoker.docs(using).unwrap_err(), why);
    let mut definer = world(|function| function.security_definer = true);
    revoke(&mut definer, "authenticated", "memberships", &["user_id"]);
    assert!(definer.docs(using).is_ok());
    revoke(&mut definer, "boss", "memberships", &["org_id"]);
    assert_eq!(definer.docs(using).unwrap_err(), "role boss has no SELECT on column org_id of public.memberships");
}

#[test]
fn a_table_of_which_no_column_is_named_needs_the_right_to_one() {
    let all = ["org_id", "user_id", "role", "status", "expires_at"];
    let mut world = World::new();
    let using = "(EXISTS ( SELECT 1 FROM public.memberships))";
    revoke(&mut world, "authenticated", "memberships", &all[1..]);
    assert!(world.docs(using).is_ok());
    assert!(world.docs("(EXISTS ( SELECT memberships.org_id FROM public.memberships))").is_ok());
    assert!(world.docs("(EXISTS ( SELECT * FROM public.memberships))").is_err());
    assert!(world.docs("(EXISTS ( SELECT memberships.* FROM public.memberships))").is_err());
    revoke(&mut world, "authenticated", "memberships", &all);
    assert_eq!(world.docs(using).unwrap_err(), "role authenticated has no SELECT on public.memberships");
}

#[test]
fn execute_and_usage_are_needed_where_postgres_asks_for_them() {
    let using = "public.is_member(org_id)";
    let why = "role authenticated has no EXECUTE on function is_member";
    assert_eq!(world(|function| function.execute.clear()).docs(using).unwrap_err(), why);
    // Inside a SECURITY DEFINER function the owner calls.
    let mut definer = world(|function| function.security_definer = true);
    let uid = definer.facts.functions.iter_mut().find(|function| function.name == "uid").unwrap();
    Arc::make_mut(uid).execute.remove("authenticated");
    assert!(definer.docs(using).is_ok());
    Arc::make_mut(definer.facts.functions.iter_mut().find(|function| function.name == "uid").unwrap()).execute.clear();
    assert_eq!(definer.docs(using).unwrap_err(), "role boss has no EXECUTE on function uid");
    // A policy was resolved when it was stored; a body is resolved when it runs.
    let mut hidden = world(|_| {});
    hidden.facts.usage.get_mut("authenticated").unwrap().remove("auth");
    assert_eq!(hidden.docs(using).unwrap_err(), "role authenticated has no USAGE on schema auth");
    let stored = "(EXISTS ( SELECT 1 FROM public.memberships m WHERE (m.org_id = docs.org_id)))";
    hidden.facts.usage.clear();
    assert!(hidden.docs(stored).is_ok());
}

#[test]
fn bare_names_follow_the_search_path_of_who_runs_the_body() {
    let using = "public.is_member(org_id)";
    let empty = |function: &mut FunctionFacts| function.settings = vec!["search_path=\"\"".to_owned()];
    assert_eq!(world(empty).docs(using).unwrap_err(), "table memberships is not known");
    let set = |path: &str| {
        let path = format!("search_path={path}");
        let mut world = world(|function| function.settings = vec![path]);
        for schema in ["private", "authenticated", "boss"] {
            world.table("memberships", "org_id uuid, user_id uuid", &["org_id", "user_id"]);
            let made = world.facts.tables.values().map(|table| table.oid).max().unwrap();
            Arc::make_mut(world.facts.tables.get_mut(&made).unwrap()).schema = schema.to_owned();
        }
        world
    };
    let chosen = |world: &mut World| {
        world.secure("docs", &[("p", true, using)]);
        let docs = world.facts.tables.values().find(|table| table.name == "docs").unwrap();
        let Ruling::Clauses(clauses) = ruling(&world.facts, docs, &"authenticated".into()) else {
            return String::new();
        };
        let crate::policy::expr::Expr::Lookup(lookup) = &clauses[0].expr else { return String::new() };
        world.facts.tables[&lookup.sources[0].table].schema.clone()
    };
    assert_eq!(chosen(&mut set("private, public")), "public", "a schema without USAGE is passed over");
    let mut usable = set("private, public");
    usable.facts.usage.get_mut("authenticated").unwrap().insert("private".to_owned());
    assert_eq!(chosen(&mut usable), "private");
    let mut own = set("\"$user\", public");
    own.facts.usage.get_mut("authenticated").unwrap().insert("authenticated".to_owned());
    assert_eq!(chosen(&mut own), "authenticated");
    assert_eq!(chosen(&mut set("pg_temp, \"public\"")), "public");
    assert_eq!(chosen(&mut set("\"public, private\"")), "", "one name with a comma in it");
}

#[test]
fn an_inner_body_inherits_the_search_path_it_is_called_under() {
    let mut world = world(|_| {});
    let outer = "select public.is_member(o)";
    let function =
        world.function("public", Body { name: "around", arguments: "o uuid", returns: "bool", source: outer });
    function.settings = vec!["search_path=\"\"".to_owned()];
    assert_eq!(world.docs("public.around(org_id)").unwrap_err(), "table memberships is not known");
}

#[test]
fn a_bare_name_that_pg_catalog_has_too_is_refused() {
    let mut world = world(|function| function.source = "select lower('A') = 'a'".to_owned());
    world.facts.default_collation = Some(crate::policy::catalog::Collation::Bytewise);
    let using = "public.is_member(org_id)";
    assert!(world.docs(using).is_ok());
    world.function("public", Body { name: "lower", arguments: "x text", returns: "text", source: "select 'a'" });
    world.facts.builtin_functions = Some(["lower".to_owned()].into());
    assert_eq!(world.docs(using).unwrap_err(), "function lower may be one of pg_catalog");
    world.facts.builtin_functions = None;
    assert_eq!(world.docs(using).unwrap_err(), "function lower may be one of pg_catalog");
    world.facts.functions.pop();
    world.facts.restricted_builtins.insert("lower".to_owned());
    assert_eq!(world.docs(using).unwrap_err(), "not everybody may execute function lower");
}

#[test]
fn operators_and_casts_that_somebody_made_are_refused_where_they_may_be_meant() {
    let mut world = world(|_| {});
    world.facts.custom_operators.insert("=".to_owned());
    assert_eq!(world.docs("public.is_member(org_id)").unwrap_err(), "operator = is one of several");
    assert!(world.docs("(org_id = owner_id)").is_ok(), "a policy prints it with its schema");
    world.facts.custom_casts.insert((1043, 2950));
    assert_eq!(world.docs("((status)::uuid = id)").unwrap_err(), "somebody made a cast of text to uuid");
}

#[test]
fn the_role_is_a_constant_inside_security_definer() {
    let source = "select current_user = 'boss' and user = 'boss' and current_role = 'boss'";
    let mut world = World::new();
    world.function("public", Body { name: "f", arguments: "", returns: "bool", source });
    let shown = "((role = 'boss') and (role = 'boss') and (role = 'boss'))";
    assert_eq!(world.docs("public.f()").unwrap(), shown);
    let function = world.facts.functions.iter_mut().find(|function| function.name == "f").unwrap();
    Arc::make_mut(function).security_definer = true;
    assert_eq!(world.docs("public.f()").unwrap(), shown.replace("role", "'boss'"));
}

#[test]
fn a_looked_up_tables_own_policies_hold_for_who_looks() {
    let using = "(EXISTS ( SELECT 1 FROM public.rooms r WHERE (r.id = docs.project_id)))";
    let mut world = World::new();
    world.secure("rooms", &[]);
    assert_eq!(world.docs(using).unwrap(), "exists{rooms[id: docs.project_id] if false}", "no policy grants");
    let topic = ("a", true, "(topic = 'a'::text)");
    let org = ("b", true, "(EXISTS ( SELECT 1 FROM public.orgs o WHERE (o.id = rooms.org_id)))");
    let wall = ("c", false, "(org_id IS NOT NULL)");
    world.secure("rooms", &[topic, org, wall, ("d", true, "")]);
    let expected = "exists{rooms[id: docs.project_id] if not rooms.org_id is null, \
                    ((rooms.topic = 'a') or exists{orgs[id: rooms.org_id]})}";
    assert_eq!(world.docs(using).unwrap(), expected);
    world.secure("rooms", &[("a", true, "(random() < (0.1)::double precision)")]);
    assert_eq!(world.docs(using).unwrap_err(), "policy \"a\" of public.rooms: function random() is volatile");
    world.secure("rooms", &[("a", true, "((topic)::integer = 1)")]);
    assert!(world.docs(using).unwrap_err().contains("may be an error"));
}

#[test]
fn policies_that_look_into_each_other_are_refused() {
    let mut world = World::new();
    world.secure("rooms", &[("a", true, "(EXISTS ( SELECT 1 FROM public.orgs o WHERE (o.id = rooms.org_id)))")]);
    world.secure("orgs", &[("b", true, "(EXISTS ( SELECT 1 FROM public.rooms r WHERE (r.org_id = orgs.id)))")]);
    let why = world.docs("(EXISTS ( SELECT 1 FROM public.rooms r WHERE (r.id = docs.id)))").unwrap_err();
    assert!(why.ends_with("infinite recursion in the policies of public.rooms"), "{why}");
    // Through an invoker's function as well.
    let mut world = World::new();
    let source = "select exists (select 1 from docs d where d.org_id = o)";
    world.function("public", Body { name: "f", arguments: "o uuid", returns: "bool", source });
    assert_eq!(world.docs("public.f(org_id)").unwrap_err(), "infinite recursion in the policies of public.docs");
}

#[test]
fn what_a_lookup_checks_cannot_be_an_error() {
    let mut world = World::new();
    // Claims alone: decided once for a subscriber.
    let claims = "(EXISTS ( SELECT 1 FROM public.rooms r WHERE (r.id = (auth.jwt() ->> 'room'::text)::uuid)))";
    assert!(world.docs(claims).is_ok());
    for using in [
        "(EXISTS ( SELECT 1 FROM public.rooms r WHERE (r.id = (docs.title)::uuid)))",
        "(EXISTS ( SELECT 1 FROM public.rooms r WHERE ((r.topic)::integer = 1)))",
        "((title)::uuid IN ( SELECT r.id FROM public.rooms r))",
        "(id IN ( SELECT (r.topic)::uuid AS topic FROM public.rooms r))",
        "(EXISTS ( SELECT 1 FROM public.rooms r WHERE (r.topic = ( SELECT p.email FROM public.profiles p WHERE (p.dept = r.topic)))))",
    ] {
        assert!(world.docs(using).unwrap_err().contains("may be an error"), "{using}");
    }
    let keyed = "(EXISTS ( SELECT 1 FROM public.rooms r WHERE (r.topic = ( SELECT p.email FROM public.profiles p WHERE (p.id = r.org_id)))))";
    assert!(world.docs(keyed).is_ok(), "a unique key finds one row at most");
}

#[test]
fn generated_columns_and_other_relations_are_not_looked_up() {
    let mut world = World::new();
    let slug = "(EXISTS ( SELECT 1 FROM public.docs d WHERE (d.slug = messages.body)))";
    assert_eq!(world.read("messages", slug).unwrap_err(), "column slug of docs is generated");
    world.change("rooms", |table| table.is_ordinary = false);
    let view = "(EXISTS ( SELECT 1 FROM public.rooms r WHERE (r.id = docs.id)))";
    assert_eq!(world.docs(view).unwrap_err(), "public.rooms is no ordinary table");
}

fn docs(world: &World) -> &TableFacts {
    world.facts.tables.values().find(|table| table.name == "docs").unwrap()
}

#[test]
fn a_ruling_joins_what_applies_to_the_role() {
    let mut world = World::new();
    let authenticated: Arc<str> = "authenticated".into();
    assert!(matches!(ruling(&world.facts, docs(&world), &authenticated), Ruling::All));
    world.secure("docs", &[("wall", false, "is_public"), ("write", true, "")]);
    assert!(matches!(ruling(&world.facts, docs(&world), &authenticated), Ruling::None));
    assert!(matches!(ruling(&world.facts, docs(&world), &"boss".into()), Ruling::All));
    assert!(matches!(ruling(&world.facts, docs(&world), &"nobody".into()), Ruling::Database(why) if why.is_empty()));
    world.secure("docs", &[("wall", false, "is_public"), ("b", true, "true"), ("a", true, "(id IS NULL)")]);
    let Ruling::Clauses(clauses) = ruling(&world.facts, docs(&world), &authenticated) else { panic!() };
    let names: Vec<(&str, bool)> = clauses.iter().map(|clause| (clause.policy.as_str(), clause.permissive)).collect();
    assert_eq!(names, [("a", true), ("b", true), ("wall", false)]);
    world.secure("docs", &[("wall", false, "(random() > (0.5)::double precision)"), ("a", true, "true")]);
    let Ruling::Database(results) = ruling(&world.facts, docs(&world), &authenticated) else { panic!() };
    assert!(results[0].is_ok());
    let why = results[1].as_ref().unwrap_err().to_string();
    assert_eq!(why, "policy \"wall\": function random() is volatile");
    world.change("docs", |table| {
        table.rights.get_mut("authenticated").unwrap().policies = vec![1];
    });
    let Ruling::Clauses(clauses) = ruling(&world.facts, docs(&world), &authenticated) else { panic!() };
    assert_eq!(clauses.len(), 1);
}

#[test]
fn a_text_mentions_its_tables_and_functions() {
    let names = |text: &str| mentioned(text).into_iter().collect::<Vec<_>>().join(" ");
    let policy =
        "((auth.uid() = owner_id) OR (EXISTS ( SELECT 1 FROM (public.\"Rooms\" r JOIN x.memberships ON (f(r.id))))))";
    assert_eq!(names(policy), "Rooms f memberships uid");
    assert_eq!(names(FELLOW), "memberships uid");
    assert_eq!(names("BEGIN return Coalesce(G(1), (select h())); END;"), "coalesce g h");
    assert_eq!(names("BEGIN ATOMIC\n SELECT f(1);\nEND"), "f");
    assert_eq!(names("RETURN a.f(1)"), "f");
    assert_eq!(names("select * from a.set_of(1)"), "set_of");
    assert_eq!(mentioned("begin if true then return f(1); end if; end"), BTreeSet::new());
}
