//! Functions by their bodies: names in them, arguments, languages, and what keeps one from being read.

use super::{World, world::Body};
use crate::policy::facts::{FunctionFacts, Language};

/// What a call of `f(id, status)` on the row means, the function changed as needed.
fn called(arguments: &str, source: &str, change: impl FnOnce(&mut FunctionFacts)) -> Result<String, String> {
    let mut world = World::new();
    change(world.function("public", Body { name: "f", arguments, returns: "bool", source }));
    world.docs("public.f(id, status)")
}

fn plain(source: &str) -> Result<String, String> {
    called("d uuid, s text", source, |_| {})
}

fn plpgsql(source: &str) -> Result<String, String> {
    let mut world = World::new();
    world.table("lost", "found bool", &[]);
    let body = Body { name: "f", arguments: "d uuid, s text", returns: "bool", source };
    world.function("public", body).language = Language::Plpgsql;
    world.docs("public.f(id, status)")
}

#[test]
fn columns_hide_arguments_in_sql_and_contend_with_them_in_plpgsql() {
    // `status` is memberships' own column, not the argument.
    let source = "select exists (select 1 from memberships where org_id = d and status = 'a')";
    let sql = called("d uuid, status text", source, |_| {});
    assert_eq!(sql.unwrap(), "exists{memberships[org_id: docs.id, status: 'a']}");
    let qualified = source.replace("status = 'a'", "f.status = 'a'");
    let sql = called("d uuid, status text", &qualified, |_| {});
    assert_eq!(sql.unwrap(), "exists{memberships[org_id: docs.id] if (docs.status = 'a')}");
    let source = "begin return exists (select 1 from memberships where org_id = d and status = 'a'); end";
    let both = called("d uuid, status text", source, |function| function.language = Language::Plpgsql);
    assert_eq!(both.unwrap_err(), "status is both a column and an argument");
}

#[test]
fn inner_columns_hide_outer_ones() {
    let inner = "(EXISTS ( SELECT 1 FROM public.orgs WHERE (id = owner_id)))";
    assert_eq!(World::new().docs(inner).unwrap(), "exists{orgs[] if (orgs.id = orgs.owner_id)}");
    // ON sees the tables it joins, and only then what is outside.
    let on = "select exists (select 1 from rooms r join orgs o on o.id = d, memberships m where status = 'a')";
    assert!(plain(on).unwrap().contains("memberships[status: 'a']"));
    let on = "select exists (select 1 from memberships m, rooms r join orgs o on status = 'a')";
    assert_eq!(plain(on).unwrap_err(), "column status is not known");
    let ambiguous = "select exists (select 1 from rooms, projects where org_id = d)";
    assert_eq!(plain(ambiguous).unwrap_err(), "column org_id is in several tables");
    // A body does not see the row it is called on.
    assert_eq!(plain("select owner_id = d").unwrap_err(), "column owner_id is not known");
    assert_eq!(plain("select docs.owner_id = d").unwrap_err(), "column docs.owner_id is not known");
}

#[test]
fn arguments_are_named_in_every_way() {
    for source in ["select d is null", "select $1 is null", "select f.d is null", "select D is null;"] {
        assert_eq!(plain(source).unwrap(), "docs.id is null", "{source}");
    }
    assert_eq!(plain("select public.f.d is null").unwrap_err(), "column public.f.d is not known");
    assert_eq!(plain("select \"D\" is null").unwrap_err(), "column D is not known");
}

#[test]
fn of_plpgsql_one_return_is_read_and_nothing_else() {
    for source in ["begin return d is null; end", "\nBEGIN\n  -- why\n  RETURN d IS NULL; /* so */\nEND;\n"] {
        assert_eq!(plpgsql(source).unwrap(), "docs.id is null", "{source}");
    }
    for source in [
        "begin return d is null; return false; end",
        "begin if true then return true; end if; return false; end",
        "begin perform 1; return true; end",
        "declare x int; begin return true; end",
        "declare begin return true; end",
        "<<f>> begin return true; end",
        "begin return query select true; end",
        "begin return true; exception when others then return false; end",
        "begin return true end",
        "begin return; end",
        "begin raise exception 'no'; end",
        "#variable_conflict use_column\nbegin return true; end",
        "begin return true from docs; end",
        "begin return s; end",
        "begin return 'true'; end",
        "begin return (select true; select false); end",
        "begin return found; end",
        "begin return exists (select 1 from lost where found); end",
    ] {
        assert!(plpgsql(source).is_err(), "{source}");
    }
}

#[test]
fn standard_bodies_are_read_with_their_names_as_stored() {
    let stored = |text: &str, usage: bool| {
        let mut world = World::new();
        let function =
            world.function("public", Body { name: "f", arguments: "d uuid, s text", returns: "bool", source: "" });
        function.sql_body = Some(text.to_owned());
        if !usage {
            world.facts.usage.clear();
        }
        world.docs("public.f(id, status)")
    };
    let atomic = "BEGIN ATOMIC\n SELECT (EXISTS ( SELECT 1\n   FROM public.rooms\n  WHERE (rooms.id = f.d))) AS \"exists\";\nEND";
    assert_eq!(stored(atomic, false).unwrap(), "exists{rooms[id: docs.id]}");
    assert_eq!(stored("RETURN (d IS NULL)", false).unwrap(), "docs.id is null");
    assert_eq!(
        stored("BEGIN ATOMIC\n SELECT true;\n SELECT false;\nEND", true).unwrap_err(),
        "the body is more than one statement"
    );
    assert_eq!(
        stored("BEGIN ATOMIC\n SELECT (EXISTS ( SELECT 1 FROM rooms));\nEND", true).unwrap_err(),
        "table rooms is not known"
    );
}

#[test]
fn a_strict_function_is_null_when_an_argument_is() {
    let strict = |source: &str| called("d uuid, s text", source, |function| function.is_strict = true).unwrap();
    assert_eq!(strict("select true"), "case when (docs.id is null or docs.status is null) then null else true end");
    let mut world = World::new();
    world
        .function("public", Body { name: "g", arguments: "s text", returns: "bool", source: "select true" })
        .is_strict = true;
    assert_eq!(world.docs("public.g('a'::text)").unwrap(), "true");
    assert_eq!(world.docs("public.g(NULL::text)").unwrap(), "case when null is null then null else true end");
}

#[test]
fn an_argument_with_a_lookup_is_moved_to_where_it_is_used() {
    // The short form checks that every lookup begins where the rows in scope end.
    let mut world = World::new();
    let source = "select exists (select 1 from memberships m where m.org_id = o and m.user_id = auth.uid())";
    world.function("public", Body { name: "is_member", arguments: "o uuid", returns: "bool", source });
    let outer = "select exists (select 1 from rooms r where public.is_member(r.org_id) and d)";
    world.function("public", Body { name: "f", arguments: "d bool", returns: "bool", source: outer });
    let shown =
        world.docs("public.f((EXISTS ( SELECT 1 FROM public.projects p WHERE (p.id = docs.project_id))))").unwrap();
    let uid = "text::uuid(->>(text::jsonb(nullif(claims, '')), 'sub'))";
    let expected = format!(
        "exists{{rooms[] if exists{{memberships[org_id: rooms.org_id, user_id: {uid}]}}, \
         exists{{projects[id: docs.project_id]}}}}"
    );
    assert_eq!(shown, expected);
    // Two rows would be an error, before the body is computed.
    let one = "select true";
    world.function("public", Body { name: "g", arguments: "d uuid", returns: "bool", source: one });
    let using = "public.g(( SELECT p.org_id FROM public.projects p WHERE (p.id = docs.project_id)))";
    assert_eq!(world.docs(using).unwrap_err(), "an argument of function g may be an error");
}

#[test]
fn a_scalar_body_over_a_table_is_read_only_when_a_key_finds_its_row() {
    let one = plain("select archived from projects where id = d");
    assert_eq!(one.unwrap(), "one{projects[id: docs.id] -> projects.archived}");
    assert!(plain("select archived from projects where id = d limit 1").is_ok());
    assert_eq!(
        plain("select archived from projects where org_id = d").unwrap_err(),
        "function f returns one row of several"
    );
    assert_eq!(plain("select archived from projects where org_id = d limit 1").unwrap_err(), "LIMIT is not read");
    assert_eq!(
        plain("select count(*) > 0 from projects where org_id = d").unwrap(),
        "(count{projects[org_id: docs.id]} > 0)"
    );
    assert_eq!(
        plain("select count(*) > 0 and archived from projects where org_id = d").unwrap_err(),
        "a column beside an aggregate"
    );
}

#[test]
fn sets_are_read_where_sets_are_wanted() {
    let mut world = World::new();
    world.function(
        "public",
        Body {
            name: "mine",
            arguments: "",
            returns: "setof uuid",
            source: "select id from orgs where owner_id = auth.uid()",
        },
    );
    world.function("public", Body { name: "f", arguments: "", returns: "bool", source: "select mine() is not null" });
    let uid = "text::uuid(->>(text::jsonb(nullif(claims, '')), 'sub'))";
    let any = format!("docs.org_id = any{{orgs[owner_id: {uid}] -> orgs.id}}");
    for using in [
        "(org_id IN ( SELECT public.mine() AS mine))",
        "(org_id IN ( SELECT mine.mine FROM public.mine() mine(mine)))",
        "(org_id IN ( SELECT o.o FROM public.mine() o(o)))",
        "(org_id = ANY (ARRAY( SELECT public.mine() AS mine)))",
    ] {
        assert_eq!(world.docs(using).unwrap(), any, "{using}");
    }
    assert_eq!(world.docs("(NOT (org_id IN ( SELECT public.mine() AS mine)))").unwrap(), format!("not {any}"));
    assert_eq!(world.docs("(org_id <> ALL (ARRAY( SELECT public.mine() AS mine)))").unwrap(), format!("not {any}"));
    assert!(world.docs("(level IN ( SELECT 1 FROM public.mine()))").is_err(), "the constant is selected, not the rows");
    assert!(world.docs("(EXISTS ( SELECT 1 FROM public.mine()))").unwrap().starts_with("exists{orgs["));
    assert!(world.docs("(org_id = public.mine())").is_err());
    assert!(world.docs("public.f()").is_err());
    assert!(world.docs("(cardinality(ARRAY( SELECT public.mine() AS mine)) > 1)").is_err(), "repetitions and order");
    assert!(world.docs("(editors && ARRAY( SELECT public.mine() AS mine))").is_ok());
    assert!(world.docs("(editors = ARRAY( SELECT public.mine() AS mine))").is_err());
    assert!(world.docs("(EXISTS ( SELECT jsonb_array_elements(docs.meta)))").is_err());
}

#[test]
fn functions_that_call_themselves_end_somewhere() {
    assert_eq!(plain("select public.f(d, s)").unwrap_err(), "function f is called too deeply, perhaps by itself");
    // So is calling many of them from each.
    let mut world = World::new();
    world.function("public", Body { name: "g6", arguments: "", returns: "bool", source: "select true" });
    for index in 0..6 {
        let source = format!("select {}", vec![format!("public.g{}()", index + 1); 12].join(" and "));
        world.function("public", Body { name: &format!("g{index}"), arguments: "", returns: "bool", source: &source });
    }
    assert_eq!(world.docs("public.g0()").unwrap_err(), "the expression is too large");
    // Doubling at every level is stopped before it fills memory.
    let mut world = World::new();
    let doubled = |name: &str, inner: &str| format!("select {inner}(s || s || s || s || s || s) {name}");
    let last = Body { name: "g7", arguments: "s text", returns: "bool", source: "select s = 'a'" };
    world.function("public", last);
    for index in (0..7).rev() {
        let source = doubled("x", &format!("public.g{}", index + 1));
        world.function(
            "public",
            Body { name: &format!("g{index}"), arguments: "s text", returns: "bool", source: &source },
        );
    }
    assert_eq!(world.docs("public.g0(status)").unwrap_err(), "the expression is too large");
}

#[test]
fn one_of_several_functions_is_chosen_only_without_doubt() {
    let mut world = World::new();
    let mut add = |arguments: &str, source: &str| {
        world.function("public", Body { name: "g", arguments, returns: "bool", source });
    };
    add("x uuid", "select true");
    add("x text", "select false");
    assert_eq!(world.docs("public.g(id)").unwrap(), "true");
    assert_eq!(world.docs("public.g(status)").unwrap(), "false");
    assert_eq!(world.docs("public.g(NULL)").unwrap_err(), "function g is one of several");
    world.function("public", Body { name: "g", arguments: "x email", returns: "bool", source: "select false" });
    assert_eq!(world.docs("public.g(email)").unwrap_err(), "function g is one of several");
}

#[test]
fn special_calls_and_functions_are_refused() {
    let changed = |change: fn(&mut FunctionFacts)| called("d uuid, s text", "select true", change).unwrap_err();
    assert_eq!(changed(|f| f.language = Language::Other), "function f is written in a language that is not read");
    assert!(changed(|f| f.is_plain = false).contains("special way"));
    assert_eq!(changed(|f| f.settings = vec!["role=boss".to_owned()]), "function f changes a setting");
    assert_eq!(changed(|f| f.returns = 2279), "function f returns a type that is not computed with");
    assert_eq!(changed(|f| f.returns = super::world::EMAIL), "function f returns a type that is not computed with");
    assert!(changed(|f| f.arguments = vec![2950, super::world::EMAIL]).contains("argument of a type"));
    assert_eq!(changed(|f| f.returns_set = true), "function f returns a set where one value is wanted");
    assert_eq!(plain("select s").unwrap_err(), "a cast of text to boolean is not known here");
    assert_eq!(plain("select 'true'").unwrap(), "true");
    let mut world = World::new();
    let function = world
        .function("public", Body { name: "f", arguments: "d uuid, s text", returns: "bool", source: "select true" });
    function.defaults = 1;
    assert!(world.docs("public.f(id)").unwrap_err().contains("defaults"));
}
