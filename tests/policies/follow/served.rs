//! The same behind the server: what subscribers get, and what `/health` says.

use crate::{
    line::setup::{database, is, next, subscriber, wait_for_health, wait_for_lookup},
    support::{
        json::Json,
        postgres::{Postgres, majors},
        server::Server,
        token::{ALICE, alice},
    },
};

const TABLES: &str = "
    create table members (room int, who uuid, primary key (room, who));
    create table notes (id int primary key, room int);
    alter table notes enable row level security;
    create policy p on notes for select to authenticated
      using (exists (select from members m where m.room = notes.room and m.who = auth.uid()));
    alter publication supabase_realtime add table notes;";

fn lookup<'a>(health: &'a Json, field: &str) -> &'a Json {
    health.at("lookups").at("public.members").at(field)
}

/// How many rows the database was asked about.
fn questions(health: &Json) -> i64 {
    health.at("counters").at("lane_questions_total").as_i64().unwrap()
}

#[tokio::test]
async fn a_membership_counts_from_the_transaction_that_grants_it_to_the_one_that_takes_it() {
    for major in majors() {
        let database = database(Postgres::shared(major), TABLES).await;
        let client = database.connect().await;
        client.batch_execute("create publication walcast_lookups for table members").await.unwrap();
        let server = Server::start(&database, &[]).await;
        wait_for_lookup(&server, "public.members").await;
        let (mut socket, _) = subscriber(&server, &alice(), "notes").await;
        let sql = format!(
            "insert into notes values (1, 1);
             begin; insert into notes values (2, 1); insert into members values (1, '{ALICE}'); commit;
             insert into notes values (3, 1);
             begin; insert into notes values (4, 1); delete from members; commit;
             insert into notes values (5, 1);
             begin; insert into members values (1, '{ALICE}'), (2, '{ALICE}'); insert into notes values (6, 2); commit;
             truncate members;
             insert into notes values (7, 1);
             insert into members values (1, '{ALICE}');
             insert into notes values (8, 1);"
        );
        for statement in sql.split_inclusive(';').filter(|statement| !statement.trim().is_empty()) {
            client.batch_execute(statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
        }
        for id in [2, 3, 6, 8] {
            assert_eq!(next(&mut socket).await, is("INSERT", id), "PostgreSQL {major}");
        }
        let health =
            wait_for_health(&server, |status, health| status == 200 && lookup(health, "rows").as_i64() == Some(1))
                .await;
        assert!(
            lookup(&health, "reason").as_str().is_none() && lookup(&health, "bytes").as_i64().unwrap() > 0,
            "{health}"
        );
        assert_eq!(questions(&health), 0, "the process decides");
        assert!(server.stop().await.success());
    }
}

#[tokio::test]
async fn a_policy_whose_table_cannot_be_kept_is_decided_by_the_database() {
    let database = database(Postgres::default(), TABLES).await;
    let sql = "insert into members select n, gen_random_uuid() from generate_series(1, 1000) n;
               alter publication supabase_realtime add table members";
    let client = database.connect().await;
    client.batch_execute(sql).await.unwrap();
    let server = Server::start(&database, &[("WALCAST_LOOKUP_BYTES", "10000")]).await;
    let failed = |status: u16, health: &Json| {
        status == 200 && health.at("lookups").has("public.members") && *lookup(health, "state") == "failed"
    };
    let health = wait_for_health(&server, failed).await;
    assert!(lookup(&health, "reason").as_str().unwrap().contains("raise lookup_bytes (now 10000"), "{health}");
    let (mut socket, _) = subscriber(&server, &alice(), "notes").await;
    client.batch_execute(&format!("insert into members values (1, '{ALICE}')")).await.unwrap();
    client.batch_execute("insert into notes values (1, 1001), (2, 1)").await.unwrap();
    assert_eq!(next(&mut socket).await, is("INSERT", 2));
    let health = wait_for_health(&server, |_, health| questions(health) > 0).await;
    assert_eq!(*lookup(&health, "state"), "failed");
    assert!(server.stop().await.success());
}
