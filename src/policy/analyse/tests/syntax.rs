//! What is refused of SQL, and how what is read binds.

use super::{World, world::Body};

/// What a function of one document's columns means that `authenticated` calls on the row.
fn body(source: &str) -> Result<String, String> {
    let mut world = World::new();
    let arguments = "d uuid, t text";
    world.function("public", Body { name: "f", arguments, returns: "bool", source });
    world.docs("public.f(id, title)")
}

fn refused(source: &str) -> String {
    match body(source) {
        Ok(shown) => panic!("{source} is understood as {shown}"),
        Err(why) => why,
    }
}

fn condition(using: &str) -> Result<String, String> {
    World::new().docs(using)
}

#[test]
fn clauses_that_are_not_read_are_refused_by_name() {
    let cases = [
        ("select exists (select distinct on (org_id) 1 from memberships)", "DISTINCT ON is not read"),
        ("select exists (select 1 from memberships group by org_id)", "GROUP BY and HAVING are not read"),
        ("select exists (select 1 from memberships having true)", "GROUP BY and HAVING are not read"),
        ("select exists (select 1 from memberships limit 2)", "LIMIT is not read"),
        ("select exists (select 1 from memberships limit 0)", "LIMIT is not read"),
        ("select exists (select 1 from memberships offset 1)", "LIMIT and OFFSET are not read"),
        ("select exists (select 1 from memberships fetch first 1 row only)", "FETCH FIRST is not read"),
        ("select exists (select 1 from memberships for update)", "FOR UPDATE and the like are not read"),
        ("select exists (select 1 from memberships union select 2)", "UNION is not read"),
        ("select exists (with m as (select 1) select 1 from m)", "WITH is not read"),
        ("select exists (values (1))", "VALUES is not read"),
        ("select exists (select 1 from memberships window w as (order by org_id))", "WINDOW is not read"),
        (
            "select exists (select 1 from memberships m left join rooms r on r.org_id = m.org_id)",
            "a join that is not an inner one",
        ),
        (
            "select exists (select 1 from memberships m full join rooms r on r.org_id = m.org_id)",
            "a join that is not an inner one",
        ),
        ("select exists (select 1 from memberships m natural join rooms r)", "JOIN with USING or NATURAL"),
        ("select exists (select 1 from memberships m join rooms r using (org_id))", "JOIN with USING or NATURAL"),
        ("select exists (select 1 from (select 1) x)", "a sub-select in FROM"),
        ("select exists (select 1 from memberships, lateral (select 1) x)", "a sub-select in FROM"),
        ("select exists (select 1 from memberships, generate_series(1, 2))", "a function in FROM beside others"),
        ("select exists (select 1 from memberships m (a, b))", "a table whose columns are renamed"),
        ("select exists (select 1 from memberships m, rooms m)", "several tables are called m"),
        ("select d in (select org_id, user_id from memberships)", "a sub-select of more than one column"),
        ("select exists (select 1 from rooms tablesample system (1))", "something in FROM that is no plain table"),
        ("select d in (select id from orgs limit 1)", "LIMIT is not read"),
        ("select exists (select count(*) from memberships)", "EXISTS of an aggregate"),
        ("select exists (select 1)", "EXISTS without FROM"),
        ("select true where false", "WHERE without FROM"),
        ("select d in (select id from orgs order by t::uuid)", "ORDER BY may be an error"),
        ("select true; select false", "the body is more than one statement"),
        ("delete from orgs", "the body is no query"),
    ];
    for (source, why) in cases {
        assert_eq!(refused(source), why, "{source}");
    }
    // The parser itself reads these differently or not at all.
    for source in [
        "select exists (select 1 from only memberships)",
        "select exists (select 1 from rooms with ordinality)",
        "select exists (select 1 from rows from (now()))",
        "select exists (table memberships)",
        "select exists (select 1 from memberships m cross join lateral (select 1) x)",
        "select exists (select 1 from memberships m right join rooms r on true)",
        "select d in (select id from orgs union all select id from orgs)",
    ] {
        refused(source);
    }
}

#[test]
fn expressions_that_are_not_read_are_refused() {
    for source in [
        "select (t, t) = (t, t)",
        "select row(t) = row(t)",
        "select t collate \"C\" = t",
        "select t similar to 'a'",
        "select t like 'a' escape 'b'",
        "select t like any (array['a'])",
        "select (array['a'])[1] = t",
        "select (d).x = 1",
        "select now() at time zone 'Europe/Vienna' > now()",
        "select extract(epoch from now()) > 1",
        "select t::varchar(5) = t",
        "select t::char(5) = t",
        "select 1.5::numeric(10, 2) = 1",
        "select t::regclass is null",
        "select t::public.email = t",
        "select greatest(t, t) = t",
        "select least(1, 2) = 1",
        "select lower(t => 'a') = t",
        "select concat(variadic array['a']) = t",
        "select count(*) filter (where true) > 1 from orgs",
        "select count(distinct id) > 1 from orgs",
        "select row_number() over () > 1",
        "select max(level) > 1 from orgs",
        "select interval '1' day > interval '1 day'",
        "select interval '1 day 2' hour > interval '1 day'",
        "select U&'a' = t",
        "select B'1' = B'1'",
        "select X'1' = X'1'",
        "select N'a' = t",
        "select t == t",
        "select t is json",
        "select t is normalized",
        "select overlay(t placing 'a' from 1) = t",
        "select array[array['a']] = array[array['a']]",
        "select array[]",
        "select t operator(public.=) t",
        "select session_user = 'a'",
        "select current_date > '2020-01-01'",
        "select current_schema = 'a'",
        "select current_catalog = 'a'",
        "select localtimestamp > '2020-01-01'",
        "select current_timestamp(3) > now()",
        "select clock_timestamp() > now()",
        "select nextval('s') > 1",
        "select current_setting('role') = 'a'",
        "select current_setting('app.tenant') = 'a'",
        "select current_setting(t, true) = 'a'",
        "select current_setting('plpgsql.check_asserts', true) = 'a'",
        "select orgs is null from orgs",
        "select ctid is null from orgs where id = d",
        "select exists (select 1 from orgs where xmin is null)",
        "select exists (select orgs.* is null from orgs)",
        "select 1_000 = 1",
        "select 0x10 = 1",
        "select try_cast(t as int) = 1",
        "select 1 = any (select 1) || 2",
        "select $3 = t",
        "select $0 = t",
        "select if(true, true, false)",
        "select t ~ 'a'",
        "select d = '00000000-0000-0000-0000-00000000000'",
        "select t in ((select 'a'), (select 'b'))",
        "select exists (select 1 from pg_class)",
        "select exists (select 1 from information_schema.tables)",
        "select 'a' in ('a')",
        "select t = 'a' 'b'",
        "select t isnull",
    ] {
        refused(source);
    }
}

#[test]
fn operators_bind_as_in_postgres_or_are_refused() {
    // The parser binds these otherwise.
    assert!(refused("select -2 ^ 2 = 4").contains("bound in another order"));
    for (source, expected) in [
        (
            "select t || 'a' = 'b' and not t = 'c' or t is null",
            "(((docs.title || 'a') = 'b') and not (docs.title = 'c')) or docs.title is null",
        ),
        ("select not t like 'a' || 'b'", "not (docs.title ~~ ('a' || 'b'))"),
        ("select t = 'a' is not true", "not (docs.title = 'a') is true"),
        ("select 1 + 2 * 3 = 7", "((1 + (2 * 3)) = 7)"),
        ("select 1 - 2 - 3 = 7", "(((1 - 2) - 3) = 7)"),
        ("select auth.jwt() -> 'a' ->> 'b' = t", "(->>(->(JWT, 'a'), 'b') = docs.title)"),
        ("select t between 'a' and 'b' and true", "order"),
        ("select t is distinct from 'a' or false", "((docs.title distinct 'a') or false)"),
        ("select not t is null and true", "(not docs.title is null and true)"),
        ("select -1 = - 1", "(-1 = -1)"),
        ("select - 1::int = 1", "(-(1) = 1)"),
    ] {
        let shown = body(source);
        match expected {
            "order" => assert!(shown.unwrap_err().contains("collation"), "{source}"),
            expected => {
                let jwt = "text::jsonb(nullif(claims, ''))";
                let shown = shown.unwrap_or_else(|why| panic!("{source}: {why}"));
                let trimmed = shown.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')).unwrap_or(&shown);
                let expected = expected.replace("JWT", jwt);
                assert!(shown == expected || trimmed == expected, "{source}: {shown}");
            }
        }
    }
}

#[test]
fn texts_are_read_as_postgres_lexes_them() {
    assert_eq!(body("select t = 'it''s' -- 'x'\n /* a /* nested */ 'y' */").unwrap(), "(docs.title = 'it's')");
    assert_eq!(body("select t = E'a\\\\b'").unwrap(), "(docs.title = 'a\\b')");
    assert_eq!(body("select t = 'a\\b'").unwrap(), "(docs.title = 'a\\b')");
    assert_eq!(body("select t = $$a'b$$").unwrap(), "(docs.title = 'a'b')");
    assert_eq!(body("SELECT T = 'a' AS \"x\"").unwrap(), "(docs.title = 'a')");
    refused("select t = E'a\\vb'");
    refused("select\u{a0}t = 'a'");
    refused("select \"T\" = 'a'");
    refused("select t = 'a' as 'b'");
    assert!(refused(&format!("select t = '{}'", "a".repeat(70_000))).contains("too long"));
}

#[test]
fn deep_and_long_texts_are_refused_without_harm() {
    let nested = format!("{}true{}", "(".repeat(5_000), ")".repeat(5_000));
    assert!(condition(&nested).is_err());
    let chained = format!("(is_public{})", " and is_public".repeat(4_000));
    assert!(condition(&chained).is_err());
    let added = format!("(level = 1{})", " + 1".repeat(5_000));
    assert!(condition(&added).is_err());
    let casts = format!("(title{} = 'a'::text)", "::text".repeat(5_000));
    assert!(condition(&casts).is_err());
    let nots = format!("({}is_public)", "not ".repeat(5_000));
    assert!(condition(&nots).is_err());
    let cases = format!("({}true{})", "case when is_public then ".repeat(500), " end".repeat(500));
    assert!(condition(&cases).is_err());
    // At the limits themselves it is read on a small stack.
    let deep = format!("{}is_public{}", "(not (".repeat(18), "))".repeat(18));
    let chained = format!("(is_public{})", " or (not is_public)".repeat(70));
    let sums = format!("(level = (1{}))", " + 1".repeat(80));
    for text in [deep, chained, sums] {
        assert!(condition(&text).is_ok(), "{text}");
    }
}

#[test]
fn constants_take_the_type_beside_them() {
    assert_eq!(body("select t = null").unwrap(), "(docs.title = null)");
    assert_eq!(body("select d = any ('{}')").unwrap(), format!("(docs.id = any({{}}))"));
    assert_eq!(body("select 'a' = any (array[t])").unwrap(), "('a' = any([docs.title]))");
    assert_eq!(body("select d is distinct from null").unwrap(), "not docs.id is null");
    assert_eq!(condition("(level = 2147483648)").unwrap(), "(docs.level = 2147483648)");
    let mut world = World::new();
    world.function("public", Body { name: "g", arguments: "m mood", returns: "bool", source: "select m = 'ok'" });
    assert_eq!(world.docs("public.g(mood)").unwrap_err(), "a label of an enum is checked by the database only");
    // Beside a float, a number is compared as double precision: PostgreSQL's preferred type.
    let shown = condition("(ratio = level)").unwrap();
    assert_eq!(shown, "(real::double precision(docs.ratio) = integer::double precision(docs.level))");
    assert_eq!(condition("(price = level)").unwrap(), "(docs.price = integer::numeric(docs.level))");
    assert_eq!(condition("(size = level)").unwrap(), "(docs.size = docs.level)");
    assert_eq!(condition("(id = status)").unwrap_err(), "operator = of uuid and text is not known here");
}

#[test]
fn what_constants_make_uncomputable_is_refused_beforehand() {
    assert!(condition("(expires_at > (date_trunc('week'::text, now())))").is_ok());
    let why = condition("(expires_at > (date_trunc('century'::text, now())))").unwrap_err();
    assert_eq!(why, "function date_trunc is known here for few words only");
    assert!(condition("(day < ((now() AT TIME ZONE 'UTC'::text))::date)").is_ok());
    let why = condition("(day < ((now() AT TIME ZONE 'Europe/Vienna'::text))::date)").unwrap_err();
    assert_eq!(why, "function timezone is known here for few words only");
    assert!(condition("(day < ((now() AT TIME ZONE region))::date)").is_err());
    assert!(condition("((1 / 0) = level)").unwrap_err().contains("of these constants"));
}

#[test]
fn types_the_process_does_not_compute_with_may_stand_in_the_table_but_are_not_read() {
    assert!(condition("(code = 'a'::text)").is_ok());
    assert!(condition("(email = 'a'::text)").is_ok(), "a domain reads as what it is made of");
    assert_eq!(condition("(spot IS NOT NULL)").unwrap_err(), "type point of column spot is not computed with");
    assert_eq!(condition("(letter = 'a'::bpchar)").unwrap_err(), "type bpchar of column letter is not computed with");
    assert_eq!(condition("(mood = 'ok'::public.mood)").unwrap(), "(docs.mood = 'ok')");
    assert!(condition("((title)::public.email = 'a'::text)").is_err());
}
