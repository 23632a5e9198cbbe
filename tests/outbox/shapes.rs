//! What tables were goes when no row needs it any more, and never before.

use super::setup::{database, outbox_fragments};
use crate::support::postgres::{Postgres, majors};
use tokio_postgres::Client;
use walcast::pg::outbox::{self, Kept};

const TABLE: &str =
    "create table docs (id int primary key, body text); alter publication supabase_realtime add table docs";

async fn count(client: &Client) -> i64 {
    client.query_one("select count(*) from walcast.outbox_shapes", &[]).await.unwrap().get(0)
}

/// Alters the table so many times, and writes a row each time.
async fn alter(client: &Client, times: u32) {
    for time in 0..times {
        let identity = ["full", "default"][(time % 2) as usize];
        let sql = format!("alter table docs replica identity {identity}; insert into docs (body) values ('x')");
        client.batch_execute(&sql).await.unwrap();
    }
}

/// Reads everything and prunes it, and with it what tables were, as often as that takes.
async fn prune(client: &mut Client) {
    let next = outbox_fragments(client, 1).await.last().map_or(1, |last| last.end_lsn.unwrap().0);
    while outbox::prune(client, next, Kept { milliseconds: 0, bytes: 0 }, 1000).await.unwrap() {}
    for _ in 0..3 {
        outbox::prune_shapes(client).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_tables_were_goes_unless_a_row_needs_it_or_will() {
    for major in majors() {
        let database = database(Postgres::shared(major), TABLE).await;
        let mut client = database.connect().await;
        client.batch_execute("alter table docs alter id add generated always as identity").await.unwrap();
        // One that has written and stays open, and one that has seen what was and writes only later.
        let (open, old) = (database.connect().await, database.connect().await);
        alter(&client, 50).await;
        old.batch_execute("begin isolation level repeatable read; select count(*) from docs").await.unwrap();
        open.batch_execute("begin; insert into docs (body) values ('open')").await.unwrap();
        client.batch_execute("insert into docs (body) values ('same')").await.unwrap();
        let fake = "insert into walcast.outbox_shapes (relation, places, writers, description) \
                    select relation, '{}', '{}', description from walcast.outbox_shapes, generate_series(1, 40) \
                    where id = (select min(id) from walcast.outbox_shapes)";
        client.batch_execute(fake).await.unwrap();
        let before = count(&client).await;
        assert!(before > 80, "{before}");
        prune(&mut client).await;
        assert_eq!(count(&client).await, before, "one is open that may need any of them");
        open.batch_execute("commit").await.unwrap();
        let read = outbox_fragments(&mut client, 1).await;
        assert_eq!(read.last().unwrap().changes.len(), 1, "it is read");
        assert_eq!(count(&client).await, before);
        prune(&mut client).await;
        let left = count(&client).await;
        assert!(left < 5, "{left} of {before}");
        // What the old one sees has gone since.
        old.batch_execute("insert into docs (body) values ('a'), ('b'); insert into docs (body) values ('c'); commit")
            .await
            .unwrap();
        client.batch_execute("insert into docs (body) values ('now')").await.unwrap();
        let read = outbox_fragments(&mut client, 1).await;
        let changes: usize = read.iter().map(|fragment| fragment.changes.len()).sum();
        assert_eq!(changes, 4, "each is read by what its table was");
        assert!(count(&client).await <= left + 2, "one who does not see what there is makes one of his own");
    }
}
