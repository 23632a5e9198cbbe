//! What the tests of the outbox share: a database with triggers, and the changes as the log and as the outbox have them.

use crate::{
    line::setup::PRELUDE,
    support::postgres::{Database, Postgres},
};
use bytes::Bytes;
use tokio_postgres::Client;
use walcast::{
    change::{Change, Datum, Fragment, OldRow, Row, assemble::Assembler, position::Era},
    pg::{migrate::notify, outbox},
    pgoutput,
    source::outbox::Reader,
};

/// The publication clients subscribe to.
pub const PUBLICATION: &str = "supabase_realtime";

/// A database with these tables, some of them published, and the outbox.
pub async fn database(postgres: &'static Postgres, sql: &str) -> Database {
    let database = postgres.database().await;
    database.execute(PRELUDE).await;
    database.execute(sql).await;
    install(&database).await;
    // As when a server reads it: otherwise nobody gets a number.
    database.execute("update walcast.outbox_state set is_whole = true").await;
    database
}

/// Makes the outbox, and the triggers that are missing.
pub async fn install(database: &Database) {
    let report = notify::install(&mut database.connect().await, PUBLICATION).await.unwrap();
    assert!(report.is_complete(), "{report}");
}

/// A change in words that can be compared: operation, table, columns, and the images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub operation: &'static str,
    pub table: String,
    pub columns: Vec<(String, u32, i32, bool)>,
    pub old: Option<(bool, Vec<Option<Option<String>>>)>,
    pub new: Option<Vec<Option<Option<String>>>>,
}

/// A value: absent, NULL or text.
fn values(row: &Row) -> Vec<Option<Option<String>>> {
    let value = |datum: &Datum| match datum {
        Datum::Absent => None,
        Datum::Null => Some(None),
        Datum::Text(text) => Some(Some(String::from_utf8(text.to_vec()).expect("UTF-8"))),
    };
    row.0.iter().map(value).collect()
}

fn told(change: &Change) -> Told {
    let relation = &change.relation;
    let column = |column: &walcast::change::relation::Column| {
        (column.name.clone(), column.type_oid, column.type_modifier, column.is_key)
    };
    Told {
        operation: change.operation.name(),
        table: format!("{} {}.{} {:?}", relation.oid, relation.schema, relation.name, relation.replica_identity),
        columns: relation.columns.iter().map(column).collect(),
        old: change.old.as_ref().map(|OldRow { whole, row }| (*whole, values(row))),
        new: change.new.as_ref().map(values),
    }
}

/// The transactions of a stream or an outbox, each with what it tells. Those that tell nothing are left out.
fn transactions(fragments: Vec<Fragment>) -> Vec<Vec<Told>> {
    let mut transactions = Vec::new();
    let mut open: Vec<Told> = Vec::new();
    for fragment in fragments {
        open.extend(fragment.changes.iter().filter(|change| change.operation.name() != "TRUNCATE").map(told));
        if fragment.end_lsn.is_some() {
            transactions.extend(Some(std::mem::take(&mut open)).filter(|transaction| !transaction.is_empty()));
        }
    }
    assert!(open.is_empty(), "a transaction without its end");
    transactions
}

/// The log from here on, as a slot keeps it.
pub struct Log {
    slot: String,
    client: Client,
}

impl Log {
    /// Begins now.
    pub async fn begin(database: &Database) -> Log {
        Log::begin_named(database, &database.slot()).await
    }

    /// The same with a slot of this name.
    pub async fn begin_named(database: &Database, slot: &str) -> Log {
        let (client, slot) = (database.connect().await, slot.to_owned());
        client.execute("select pg_create_logical_replication_slot($1, 'pgoutput')", &[&slot]).await.unwrap();
        let forms = "set datestyle to 'ISO'; set intervalstyle to 'postgres'; set bytea_output to 'hex'; \
                     set timezone to 'UTC'; set extra_float_digits to 3";
        client.batch_execute(forms).await.unwrap();
        Log { slot, client }
    }

    /// What it has had since.
    pub async fn transactions(&self) -> Vec<Vec<Told>> {
        let sql = "select data from pg_logical_slot_get_binary_changes($1, null, null, 'proto_version', '1', \
                   'publication_names', 'supabase_realtime')";
        let mut assembler = Assembler::default();
        let mut fragments = Vec::new();
        for row in self.client.query(sql, &[&self.slot]).await.unwrap() {
            let message = pgoutput::decode(Bytes::copy_from_slice(row.get::<_, &[u8]>(0))).unwrap();
            fragments.extend(assembler.push(message).unwrap());
        }
        transactions(fragments)
    }
}

/// What the outbox has from a number on.
pub async fn outbox_transactions(client: &mut Client, from: u64) -> Vec<Vec<Told>> {
    transactions(outbox_fragments(client, from).await)
}

/// The same, as it is read.
pub async fn outbox_fragments(client: &mut Client, from: u64) -> Vec<Fragment> {
    outbox::number(client).await.unwrap();
    let mut reader = Reader::new(PUBLICATION, Era { number: 1, ..Era::default() }, from);
    let mut all = Vec::new();
    loop {
        let fragments = reader.next(client).await.unwrap();
        if fragments.is_empty() {
            return all;
        }
        all.extend(fragments);
    }
}

/// Asserts that both have told the same.
pub fn assert_same(log: &[Vec<Told>], outbox: &[Vec<Told>]) {
    for (log, outbox) in log.iter().zip(outbox) {
        for (log, outbox) in log.iter().zip(outbox) {
            assert_eq!(log, outbox);
        }
        assert_eq!(log.len(), outbox.len(), "{log:?}\n{outbox:?}");
    }
    assert_eq!(log.len(), outbox.len(), "{log:?}\n{outbox:?}");
}
