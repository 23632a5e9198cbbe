//! Rights that have changed in a transaction nobody can see yet, though it is in the log: its commit waits for a standby.

use super::site::Site;
use crate::{
    line::setup::{all_of, is, next, subscriber, summary, token_of, wait_for_health, wait_for_stream},
    support::{
        server::Server,
        socket::{Message, Socket},
        token::alice,
        wait::until,
    },
};
use serde_json::json;
use std::time::Duration;

const TOPIC: &str = "realtime:line";
/// The stream is held for twenty seconds before others go on.
const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::test]
async fn while_nobody_can_know_who_sees_a_table_its_rows_wait_and_come_by_the_rights_that_were_meant() {
    // Whoever asks for it waits with his commit for a standby of which there is none: it is in the log, and nobody sees it.
    let site = Site::own(&[("synchronous_standby_names", "nobody"), ("synchronous_commit", "local")]).await;
    site.execute(
        "create table docs (id int primary key); create table open (id int primary key); \
         grant select on docs, open to authenticated; alter table docs enable row level security; \
         create policy p on docs for select to authenticated using (true); \
         alter publication supabase_realtime add table docs, open",
    )
    .await;
    let server = Server::start_at(&site.url(), &site.slot, &[]).await;
    wait_for_stream(&server).await;
    let mut patient = Socket::open(&server.websocket_url("2.0.0", &alice())).await;
    let config = json!({"postgres_changes": all_of("docs"), "postgres_changes_options": {"resume": true}});
    patient.join(TOPIC, &json!({ "config": config })).await;
    let standing = patient.expect("where it stands", |message| message.is(TOPIC, "system")).await.payload;
    let (mut plain, _) = subscriber(&server, &alice(), "docs").await;
    let (mut other, _) = subscriber(&server, &token_of(json!({"role": "authenticated"})), "open").await;
    site.execute("insert into docs values (1)").await;
    for socket in [&mut patient, &mut plain] {
        assert_eq!(next(socket).await, is("INSERT", 1));
    }

    let writer = site.admin().await;
    let pid: i32 = writer.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    let change = "set synchronous_commit = on; \
                  begin; alter policy p on docs using (id > 3); insert into docs values (2); commit";
    let admin = site.admin().await;
    let meanwhile = async {
        let waits = "select count(*) from pg_stat_activity where pid = $1 and wait_event = 'SyncRep'";
        until(PATIENCE, async || admin.query_one(waits, &[&pid]).await.unwrap().get::<_, i64>(0) == 1).await;
        site.execute("insert into open values (1)").await;
        let seen = other
            .expect_within(PATIENCE, "what concerns nobody's rights", |message| message.is(TOPIC, "postgres_changes"));
        assert_eq!(summary(&seen.await.payload), is("INSERT", 1));
        // Who comes back now waits as well.
        let cursor = standing.at("cursor").as_str().unwrap();
        let mut late = Socket::open(&server.websocket_url("2.0.0", &alice())).await;
        let config = json!({"postgres_changes": all_of("docs"), "postgres_changes_options": {"resume": cursor}});
        late.join(TOPIC, &json!({ "config": config })).await;
        wait_for_health(&server, |_, health| health.at("subscriptions_behind").as_i64() == Some(3)).await;
        for socket in [&mut patient, &mut plain, &mut late] {
            socket.heartbeat().await;
            let is_told = |message: &Message| message.is(TOPIC, "postgres_changes");
            assert!(socket.take(is_told).is_none(), "by the policy of before everybody would see it");
        }

        // Who is tired of waiting has committed all the same.
        admin.query_one("select pg_cancel_backend($1)", &[&pid]).await.unwrap();
        late
    };
    let (written, mut late) = tokio::join!(writer.batch_execute(change), meanwhile);
    written.unwrap();
    wait_for_health(&server, |_, health| health.at("subscriptions_behind").as_i64() == Some(0)).await;
    site.execute("insert into docs values (4)").await;
    for socket in [&mut patient, &mut plain, &mut late] {
        assert_eq!(next(socket).await, is("INSERT", 4), "nothing was for him, and nothing is lost");
    }
    server.stop().await;
    site.end().await;
}
