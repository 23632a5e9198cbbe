//! Expressions put to Postgres, many at a time: what they are, or which error they raise.

use crate::support::postgres::Database;
use tokio_postgres::Client;
use walcast::policy::value::{Scalar, Type};

const SETUP: &str = r#"
    create type mood as enum ('sad', 'ok', 'happy');
    create function ask(expression text, out type oid, out value text, out bytes text, out failure text)
        language plpgsql as $$
        begin
            execute 'select pg_typeof(x)::oid, case when x is not null then format(''%s'', x) end,'
                    || ' encode(record_send(row(x)), ''hex'') from (select ' || expression || ' as x) as q'
                into type, value, bytes;
        exception when others then failure := sqlstate;
        end $$;
"#;

/// What the stream prints by.
const PLAIN: &str = "set datestyle = 'ISO'; set intervalstyle = 'postgres'; set bytea_output = 'hex'; \
                     set timezone = 'UTC'; set extra_float_digits = 1";

/// Everything otherwise.
const ODD: &str = "set datestyle = 'SQL, DMY'; set intervalstyle = 'sql_standard'; set bytea_output = 'escape'; \
                   set timezone = 'America/New_York'; set extra_float_digits = -5";

/// What Postgres says of an expression.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// The oid of its type.
    pub(super) type_oid: u32,
    /// As its type prints it, none for NULL; or the SQLSTATE.
    pub(super) value: Result<Option<String>, String>,
    /// As its type sends it, whatever the settings.
    pub(super) bytes: Option<String>,
}

/// A database that answers.
pub(super) struct Oracle {
    plain: Client,
    odd: Client,
    /// A deterministic collation that is not bytewise, if there is one.
    pub(super) other_collation: String,
    /// The enum with the labels `sad`, `ok`, `happy`.
    pub(super) mood: u32,
    /// The oids of the types, arrays included.
    oids: Vec<(Type, u32)>,
}

impl Oracle {
    pub(super) async fn new(database: &Database) -> Oracle {
        let (plain, odd) = (database.connect().await, database.connect().await);
        plain.batch_execute(SETUP).await.unwrap();
        plain.batch_execute(PLAIN).await.unwrap();
        odd.batch_execute(ODD).await.unwrap();
        let mood = plain.query_one("select 'mood'::regtype::oid", &[]).await.unwrap().get(0);
        let other = "select quote_ident(collname) from pg_collation where collisdeterministic \
                     and collname not in ('C', 'POSIX', 'ucs_basic', 'default') \
                     order by collname = 'und-x-icu' desc, collname ilike 'en%' desc, collname limit 1";
        let other_collation = plain.query_one(other, &[]).await.unwrap().get(0);
        let mut oracle = Oracle { plain, odd, other_collation, mood, oids: Vec::new() };
        for known in oracle.types() {
            let sql = format!("select '{}'::regtype::oid", oracle.sql_type(known));
            let oid = oracle.plain.query_one(&sql, &[]).await.unwrap().get(0);
            oracle.oids.push((known, oid));
        }
        oracle
    }

    /// Every type that values may have.
    pub(super) fn types(&self) -> Vec<Type> {
        let scalars = [
            Scalar::Bool,
            Scalar::Int2,
            Scalar::Int4,
            Scalar::Int8,
            Scalar::Numeric,
            Scalar::Float4,
            Scalar::Float8,
            Scalar::Text,
            Scalar::Name,
            Scalar::Uuid,
            Scalar::Bytea,
            Scalar::Date,
            Scalar::Timestamp,
            Scalar::Timestamptz,
            Scalar::Interval,
            Scalar::Json,
            Scalar::Jsonb,
            Scalar::Enum(self.mood),
        ];
        scalars.map(Type::of).into_iter().chain(scalars.map(Type::array)).collect()
    }

    /// The type's name in SQL.
    pub(super) fn sql_type(&self, of: Type) -> String {
        let name = match of.scalar {
            Scalar::Enum(_) => "mood".to_owned(),
            other => format!("{other:?}").to_lowercase(),
        };
        if of.is_array { format!("{name}[]") } else { name }
    }

    pub(super) fn oid(&self, of: Type) -> u32 {
        self.oids.iter().find(|(known, _)| *known == of).unwrap().1
    }

    /// The answers to many expressions.
    pub(super) async fn ask(&self, expressions: &[String]) -> Vec<Answer> {
        ask(&self.plain, expressions).await
    }

    /// The same in a session whose settings are all unusual.
    pub(super) async fn ask_oddly(&self, expressions: &[String]) -> Vec<Answer> {
        ask(&self.odd, expressions).await
    }
}

async fn ask(client: &Client, expressions: &[String]) -> Vec<Answer> {
    let sql = "select a.type, a.value, a.bytes, a.failure \
               from unnest($1::text[]) with ordinality as u (expression, n), lateral ask(u.expression) as a order by n";
    let mut answers = Vec::new();
    for some in expressions.chunks(5_000) {
        for row in client.query(sql, &[&some]).await.unwrap() {
            answers.push(Answer {
                type_oid: row.get::<_, Option<u32>>(0).unwrap_or_default(),
                value: row.get::<_, Option<String>>(3).map_or_else(|| Ok(row.get(1)), Err),
                bytes: row.get(2),
            });
        }
    }
    assert_eq!(answers.len(), expressions.len());
    answers
}

/// A text as an SQL literal.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
