//! Compiling filters, and the words of every refusal. That the answers are Postgres' is shown by
//! `tests/changes/filters.rs`.

use super::*;
use crate::{
    change::{relation::ReplicaIdentity, value::TypeInfo},
    policy::catalog::{Access, Collation, Generated},
};
use std::collections::HashMap;

fn types() -> TypeRegistry {
    let info = |oid, name: &str, sql_name: &str, kind| TypeInfo {
        oid,
        name: name.to_owned(),
        sql_name: sql_name.to_owned(),
        kind,
    };
    let base = |oid, name, sql_name| info(oid, name, sql_name, TypeKind::Base);
    TypeRegistry::new([
        base(16, "bool", "boolean"),
        base(23, "int4", "integer"),
        base(25, "text", "text"),
        base(603, "box", "box"),
        base(701, "float8", "double precision"),
        base(1042, "bpchar", "character"),
        base(1700, "numeric", "numeric"),
        base(3802, "jsonb", "jsonb"),
        info(1020, "_box", "box[]", TypeKind::Array { element: 603, delimiter: b';' }),
        base(20_000, "citext", "citext"),
        info(20_001, "label", "label", TypeKind::Domain { base: 25 }),
        info(20_002, "pair", "pair", TypeKind::Composite { fields: vec![("a".to_owned(), 23)] }),
        info(20_003, "mood", "mood", TypeKind::Enum),
    ])
}

fn table() -> Table {
    let column = |name: &str, type_oid, collation| TableColumn {
        number: 1,
        name: name.to_owned(),
        type_oid,
        type_name: name.to_owned(),
        collation,
        collation_oid: 0,
        generated: None,
    };
    let mut columns = vec![
        column("n", 23, Collation::None),
        column("body", 25, Collation::Deterministic),
        column("raw", 25, Collation::Bytewise),
        column("odd", 25, Collation::Nondeterministic),
        column("flag", 16, Collation::None),
        column("price", 1700, Collation::None),
        column("ratio", 701, Collation::None),
        column("code", 1042, Collation::Deterministic),
        column("meta", 3802, Collation::None),
        column("name \"x\"", 20_000, Collation::Deterministic),
        column("label", 20_001, Collation::Deterministic),
        column("pair", 20_002, Collation::None),
        column("mood", 20_003, Collation::None),
        column("area", 603, Collation::None),
        column("total", 23, Collation::None),
        column("hidden", 23, Collation::None),
    ];
    columns[14].generated =
        Some(Generated { expression: "n + 1".to_owned(), sql_type: "integer".to_owned(), reads: vec![0] });
    Table {
        oid: 1,
        schema: "public".to_owned(),
        name: "t".to_owned(),
        columns,
        published: None,
        listed: Vec::new(),
        primary_key: vec![0],
        replica_identity: ReplicaIdentity::Default,
        row_security: false,
        access: HashMap::new(),
    }
}

fn check(filter: &str, select: Option<&[&str]>) -> Result<(), String> {
    let table = table();
    let select: Option<Vec<String>> = select.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
    let readable = table.columns.iter().map(|column| column.name != "hidden").collect();
    let access = Access { select: readable, ..Access::default() };
    check_columns(&table, &types(), &access, &parse(filter).unwrap(), select.as_deref())
}

/// Compiles a filter as if every value were canonical as it stands.
fn compile(filter: &str) -> Filter {
    let conditions = parse(filter).unwrap();
    let values: Vec<Vec<Option<String>>> = conditions.iter().map(as_written).collect();
    Filter::compile(&conditions, &values, &table(), &types()).unwrap()
}

fn as_written(condition: &Condition) -> Vec<Option<String>> {
    match condition.operator {
        Operator::In => {
            let inner = condition.value.trim_matches(['{', '}']);
            let elements = inner.split(',').filter(|element| !element.is_empty());
            elements.map(|element| (element != "NULL").then(|| element.to_owned())).collect()
        }
        _ => vec![Some(condition.value.clone())],
    }
}

fn sql(filter: &str) -> (String, Vec<String>) {
    compile(filter).database_sql(3).unwrap()
}

fn eval(filter: &str, value: &Datum) -> Option<bool> {
    let filter = compile(filter);
    assert_eq!(filter.database_sql(1), None);
    filter.eval(&|_| value)
}

fn text(value: &'static str) -> Datum {
    Datum::Text(value.into())
}

#[test]
fn an_operator_has_one_name() {
    for (operator, name) in OPERATORS {
        assert_eq!(operator.name(), name);
        assert_eq!(Operator::from_name(name), Some(operator));
    }
    assert_eq!(Operator::from_name("EQ"), None);
}

#[test]
fn a_filter_that_does_not_fit_its_table_is_refused_in_the_known_words() {
    for (filter, expected) in [
        ("nocol=eq.5", "invalid column for filter nocol"),
        ("hidden=eq.5", "invalid column for filter hidden"),
        ("n=is.true", "is true filter requires a boolean column, got integer"),
        ("n=not.is.unknown", "is unknown filter requires a boolean column, got integer"),
        ("flag=is.NULL", "invalid value for is filter: must be null, true, false, or unknown"),
        ("flag=is.", "invalid value for is filter: must be null, true, false, or unknown"),
        ("n=like.5%", "operator like requires a text-compatible column type, got integer"),
        ("ratio=ilike.5%", "operator ilike requires a text-compatible column type, got double precision"),
        ("n=match.5", "operator match requires a text-compatible column type, got integer"),
        ("mood=imatch.5", "operator imatch requires a text-compatible column type, got mood"),
        ("n=eq.1,nocol=eq.1,hidden=eq.1", "invalid column for filter nocol"),
    ] {
        assert_eq!(check(filter, None).unwrap_err(), expected, "{filter}");
    }
    let good = "n=is.null,flag=is.true,body=like.a%,label=ilike.a,name \"x\"=match.a,code=imatch.a";
    assert_eq!(check(good, Some(&["n", "body"])), Ok(()));
}

#[test]
fn a_selection_of_unknown_or_forbidden_columns_is_refused() {
    assert_eq!(check("", Some(&["n", "nocol"])).unwrap_err(), "invalid column for select nocol");
    assert_eq!(check("", Some(&["hidden"])).unwrap_err(), "invalid column for select hidden");
    assert_eq!(check("nocol=eq.1", Some(&["hidden"])).unwrap_err(), "invalid column for filter nocol");
}

#[test]
fn an_in_of_more_than_a_hundred_values_is_refused() {
    let conditions = parse("n=in.(1)").unwrap();
    let compile =
        |count| Filter::compile(&conditions, &[vec![Some("1".to_owned()); count]], &table(), &types()).map(|_| ());
    assert_eq!(compile(100), Ok(()));
    assert_eq!(compile(101).unwrap_err(), "too many values for `in` filter. Maximum 100");
}

#[test]
fn the_values_postgres_must_read_are_named_with_their_types() {
    let conditions = parse("n=eq.1,code=in.(a,b),body=match.^a,body=like.a%,n=is.null,price=isdistinct.2").unwrap();
    let casts = casts_needed(&conditions, &table(), &types());
    let shown: Vec<_> =
        casts.iter().map(|cast| (cast.condition, cast.sql_type.as_str(), cast.value.as_str(), cast.kind)).collect();
    let expected = [
        (0, "integer", "1", CastKind::Scalar),
        (1, "pg_catalog.bpchar", "{a,b}", CastKind::Array),
        (2, "text", "^a", CastKind::Regex),
        (5, "numeric", "2", CastKind::Scalar),
    ];
    assert_eq!(shown, expected);
    let message = "invalid regular expression: parentheses () not balanced";
    assert_eq!(casts[2].refusal(message).unwrap(), format!("invalid regular expression for match filter: {message}"));
    assert_eq!(casts[0].refusal("x"), None);
}

#[test]
fn what_only_postgres_can_decide_becomes_sql() {
    for (filter, expected, value) in [
        ("body=ilike.A%", r#"("body" operator(pg_catalog.~~*) $3::text)"#, "A%"),
        ("body=match.^a", r#"("body" operator(pg_catalog.~) $3::text)"#, "^a"),
        ("body=not.imatch.^a", r#"not ("body" operator(pg_catalog.~*) $3::text)"#, "^a"),
        ("body=gt.m", r#"("body" operator(pg_catalog.>) ($3::text)::text)"#, "m"),
        (r"body=like.a\", r#"("body" operator(pg_catalog.~~) $3::text)"#, r"a\"),
        ("odd=eq.a", r#"("odd" operator(pg_catalog.=) ($3::text)::text)"#, "a"),
        ("ratio=lte.0.5", r#"("ratio" operator(pg_catalog.<=) ($3::text)::double precision)"#, "0.5"),
        ("code=neq.a", r#"("code" operator(pg_catalog.<>) ($3::text)::pg_catalog.bpchar)"#, "a"),
        ("name \"x\"=eq.a", r#"("name ""x""" = ($3::text)::citext)"#, "a"),
        ("meta=not.isdistinct.{}", r#"not ("meta" is distinct from ($3::text)::jsonb)"#, "{}"),
        (
            "ratio=in.(1,NULL)",
            r#"("ratio" operator(pg_catalog.=) any (($3::text)::double precision[]))"#,
            r#"{"1",NULL}"#,
        ),
        ("mood=lt.ok", r#"("mood" operator(pg_catalog.<) ($3::text)::mood)"#, "ok"),
        ("total=eq.1", r#"("total" operator(pg_catalog.=) ($3::text)::integer)"#, "1"),
    ] {
        assert_eq!(sql(filter), (expected.to_owned(), vec![value.to_owned()]), "{filter}");
    }
    assert_eq!(sql("pair=is.null").0, r#"("pair" is null)"#);
    assert_eq!(sql("total=not.is.null").0, r#"not ("total" is null)"#);
    let area = parse("area=in.(x)").unwrap();
    let values = [vec![Some("(1,1),(0,0)".to_owned()), Some("(2,2),(0,0)".to_owned())]];
    let filter = Filter::compile(&area, &values, &table(), &types()).unwrap();
    assert_eq!(filter.database_sql(1).unwrap().1, [r#"{"(1,1),(0,0)";"(2,2),(0,0)"}"#]);
}

#[test]
fn several_conditions_for_postgres_number_their_parameters() {
    let filter = compile("body=match.a,n=eq.1,pair=is.null,ratio=gt.1");
    let (sql, values) = filter.database_sql(5).unwrap();
    assert_eq!(
        sql,
        r#"("body" operator(pg_catalog.~) $5::text) and ("pair" is null) and ("ratio" operator(pg_catalog.>) ($6::text)::double precision)"#
    );
    assert_eq!(values, ["a", "1"]);
    assert_eq!(filter.database_columns().collect::<Vec<_>>(), [1, 11, 6]);
}

#[test]
fn a_generated_column_in_the_stream_is_decided_here() {
    let mut table = table();
    table.published = Some((0..table.columns.len()).collect());
    let conditions = parse("total=eq.1").unwrap();
    let filter = Filter::compile(&conditions, &[vec![Some("1".to_owned())]], &table, &types()).unwrap();
    assert_eq!(filter.database_sql(1), None);
}

#[test]
fn null_is_unknown_and_so_is_what_is_absent() {
    for (filter, value, expected) in [
        ("n=eq.5", text("5"), Some(true)),
        ("n=eq.5", text("6"), Some(false)),
        ("n=not.eq.5", text("6"), Some(true)),
        ("n=eq.5", Datum::Null, None),
        ("n=not.eq.5", Datum::Null, None),
        ("n=neq.5", Datum::Null, None),
        ("n=in.(1,5)", text("5"), Some(true)),
        ("n=in.(1,NULL)", text("5"), None),
        ("n=not.in.(1,NULL)", text("5"), None),
        ("n=not.in.(1,NULL)", text("1"), Some(false)),
        ("n=in.()", Datum::Null, Some(false)),
        ("n=not.in.()", Datum::Null, Some(true)),
        ("n=is.null", Datum::Null, Some(true)),
        ("n=not.is.null", Datum::Null, Some(false)),
        ("n=is.null", Datum::Absent, None),
        ("n=not.is.null", Datum::Absent, None),
        ("n=isdistinct.5", Datum::Null, Some(true)),
        ("n=not.isdistinct.5", Datum::Null, Some(false)),
        ("n=isdistinct.5", Datum::Absent, None),
        ("flag=is.true", Datum::Null, Some(false)),
        ("flag=not.is.false", Datum::Null, Some(true)),
        ("flag=is.unknown", Datum::Null, Some(true)),
        ("flag=is.true", text("t"), Some(true)),
        ("price=eq.1.5", text("1.500"), Some(true)),
        ("body=like.a%", Datum::Null, None),
        ("body=not.like.a%", text("b"), Some(true)),
        ("raw=lt.b", text("a"), Some(true)),
        ("n=gt.1,n=lt.9", text("5"), Some(true)),
        ("n=gt.1,n=lt.4", text("5"), Some(false)),
    ] {
        assert_eq!(eval(filter, &value), expected, "{filter} of {value:?}");
    }
    assert_eq!(compile("").eval(&|_| &Datum::Absent), Some(true));
}

#[test]
fn one_false_condition_outweighs_an_unknown_one() {
    let filter = compile("n=eq.1,body=eq.a");
    let (one, two) = (text("1"), text("2"));
    let row = |n| move |index| if index == 0 { n } else { &Datum::Absent };
    assert_eq!(filter.eval(&row(&one)), None);
    assert_eq!(filter.eval(&row(&two)), Some(false));
}

#[test]
fn the_equality_key_is_the_shortest_exact_equality() {
    let key = |filter: &str| {
        let key = compile(filter).equality_key();
        key.map(|(column, values)| (column, values.into_iter().map(|v| String::from_utf8(v.into()).unwrap()).collect()))
    };
    assert_eq!(key("n=in.(1,2,NULL),body=eq.x"), Some((1, vec!["x".to_owned()])));
    assert_eq!(key("n=in.(1,2,NULL)"), Some((0, vec!["1".to_owned(), "2".to_owned()])));
    assert_eq!(key("n=not.neq.7"), Some((0, vec!["7".to_owned()])));
    for filter in ["", "n=not.eq.1", "n=gt.1", "price=eq.1", "odd=eq.a", "ratio=eq.1", "total=eq.1", "n=neq.1"] {
        assert_eq!(key(filter), None, "{filter}");
    }
}
