//! The question Postgres is asked: the policies' own text over the row that a message would be. Pure.

use crate::policy::{
    channels::{ChannelColumn, Condition},
    topic::ChannelAccess,
};
use postgres_protocol::escape::escape_literal;

/// The oids of `uuid`, `timestamp` and `timestamptz`.
const UUID: u32 = 2950;
const TIMES: [u32; 2] = [1114, 1184];

/// `$1` is the topic, `$2` the extensions; what comes back are those that are granted. None when the policies read a
/// column that only writing the row would compute.
///
/// Hearing is a WHERE, as it is for whoever selects: Postgres then looks at the condition while it plans, and meets the
/// errors it would meet there. Around it stands IS TRUE, so that no part of it becomes a join. Speaking is a value, as
/// a WITH CHECK is.
pub(super) fn statement(condition: &Condition<'_>, access: ChannelAccess) -> Option<String> {
    let mut fields = vec!["'topic', $1::pg_catalog.text, 'extension', _walcast._asked".to_owned()];
    let mut known = vec!["topic", "extension"];
    for column in &condition.reads {
        // Extensions and topic always stand there: their parameters must.
        if !known.contains(&column.name.as_str()) {
            known.push(&column.name);
            fields.extend(field(column)?);
        }
    }
    let source = format!(
        "pg_catalog.unnest($2::pg_catalog.text[]) as _walcast(_asked) \
         cross join lateral pg_catalog.jsonb_populate_record(null::realtime.messages, \
         pg_catalog.jsonb_build_object({})) as messages",
        fields.join(", ")
    );
    let sql = &condition.sql;
    Some(match access {
        ChannelAccess::Read => format!("select _walcast._asked, true from {source} where ({sql}) is true"),
        ChannelAccess::Write => format!("select _walcast._asked, ({sql}) is true from {source}"),
    })
}

/// A column's name and value, as two arguments; nothing for one that is NULL. None for one that cannot be told.
fn field(column: &ChannelColumn) -> Option<Option<String>> {
    let of_default = |default: &String| format!("({default})::{}", column.sql_type);
    let value = match (column.name.as_str(), column.type_oid) {
        ("private", _) => "false".to_owned(),
        ("id", UUID) => "pg_catalog.gen_random_uuid()".to_owned(),
        ("inserted_at" | "updated_at", kind) if TIMES.contains(&kind) => "pg_catalog.now()".to_owned(),
        _ if column.is_generated || column.is_identity => return None,
        _ => match column.default.as_ref().map(of_default) {
            Some(default) => default,
            None => return Some(None),
        },
    };
    Some(Some(format!("{}, {value}", escape_literal(&column.name))))
}
