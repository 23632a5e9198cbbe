//! What the oracle tests share: a session that prints as the stream does, and the database's types.

use std::collections::HashMap;
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};
use walcast::change::value::{TypeInfo, TypeKind, TypeRegistry};

/// Makes the session print values as the replication stream does.
pub(super) async fn pin_output(client: &Client) {
    let settings = "set datestyle to 'ISO'; set intervalstyle to 'postgres'; set bytea_output to 'hex'; \
                    set timezone to 'UTC'; set extra_float_digits to 1";
    client.batch_execute(settings).await.unwrap();
}

/// Rows in the text form of the types' output functions.
pub(super) async fn rows(client: &Client, sql: &str) -> Result<Vec<SimpleQueryRow>, tokio_postgres::Error> {
    let messages = client.simple_query(sql).await?;
    let rows = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    Ok(rows.collect())
}

/// A text as an SQL literal.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Every type of the database.
pub(super) async fn registry(client: &Client) -> TypeRegistry {
    let number = |row: &SimpleQueryRow, column: &str| row.get(column).unwrap().parse::<u32>().unwrap();
    let attributes = "select c.reltype, a.attname, a.atttypid from pg_attribute a join pg_class c on c.oid = a.attrelid \
                      where a.attnum > 0 and not a.attisdropped order by a.attrelid, a.attnum";
    let mut fields: HashMap<u32, Vec<(String, u32)>> = HashMap::new();
    for row in rows(client, attributes).await.unwrap() {
        let field = (row.get("attname").unwrap().to_owned(), number(&row, "atttypid"));
        fields.entry(number(&row, "reltype")).or_default().push(field);
    }
    let sql = "select t.oid, t.typname, format_type(t.oid, null) as sql_name, t.typtype, t.typbasetype, t.typelem, \
               t.typsubscript = 'array_subscript_handler'::regproc as is_array, e.typdelim \
               from pg_type t left join pg_type e on e.oid = t.typelem";
    let types = rows(client, sql).await.unwrap().into_iter().map(|row| {
        let oid = number(&row, "oid");
        let kind = match row.get("typtype").unwrap() {
            "d" => TypeKind::Domain { base: number(&row, "typbasetype") },
            "c" => TypeKind::Composite { fields: fields.remove(&oid).unwrap_or_default() },
            "e" => TypeKind::Enum,
            "r" | "m" => TypeKind::Range,
            _ if row.get("is_array") == Some("t") => TypeKind::Array {
                element: number(&row, "typelem"),
                delimiter: row.get("typdelim").unwrap().as_bytes()[0],
            },
            _ => TypeKind::Base,
        };
        let text = |column| row.get(column).unwrap().to_owned();
        TypeInfo { oid, name: text("typname"), sql_name: text("sql_name"), kind }
    });
    TypeRegistry::new(types.collect::<Vec<_>>())
}
