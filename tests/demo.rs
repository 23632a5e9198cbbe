//! The demo's policies, asked person by person: what each sees, what each may write, and what `insert_message` makes
//! of it.

use crate::support::postgres::{Database, Postgres, drive, majors};
use std::{future::poll_fn, sync::mpsc, time::Duration};
use tokio_postgres::{AsyncMessage, Client, NoTls, SimpleQueryMessage};
use walcast::pg::migrate::migrate;

const ALICE: &str = "11111111-1111-1111-1111-111111111111";
const BOB: &str = "22222222-2222-2222-2222-222222222222";
const CAROL: &str = "33333333-3333-3333-3333-333333333333";
const AGENT: &str = "44444444-4444-4444-4444-444444444444";
const OTHER_AGENT: &str = "55555555-5555-5555-5555-555555555555";
const PROJECT: &str = "a0000000-0000-4000-8000-000000000001";
const CONVERSATION: &str = "d0000000-0000-4000-8000-000000000001";
const MESSAGE: &str = "e0000000-0000-4000-8000-000000000001";

struct Person {
    role: &'static str,
    claims: String,
}

fn user(id: &str) -> Person {
    Person { role: "authenticated", claims: format!(r#"{{"role":"authenticated","sub":"{id}"}}"#) }
}

fn claiming(id: &str, kind: &str) -> Person {
    let claims = format!(r#"{{"role":"authenticated","sub":"{id}","app_metadata":{{"role":"{kind}"}}}}"#);
    Person { role: "authenticated", claims }
}

fn agent(id: &str) -> Person {
    claiming(id, "agent")
}

fn bare(role: &'static str) -> Person {
    Person { role, claims: format!(r#"{{"role":"{role}"}}"#) }
}

struct Demo {
    database: Database,
    client: Client,
}

impl Demo {
    /// One on each major version under test.
    async fn of_each_major() -> Vec<Demo> {
        let mut demos = Vec::new();
        for major in majors() {
            let database = Postgres::shared(major).database().await;
            let mut client = database.connect().await;
            assert!(migrate(&mut client, true).await.unwrap().is_complete());
            demos.push(Demo { database, client });
        }
        demos
    }

    /// Runs statements as somebody. What they change stays, unless one fails.
    /// Answers with the first column of the rows, or the SQLSTATE.
    async fn ask(&self, person: &Person, statements: &str) -> Result<Vec<String>, String> {
        self.client.batch_execute("begin").await.unwrap();
        let who = "select set_config('role', $1, true), set_config('request.jwt.claims', $2, true)";
        self.client.execute(who, &[&person.role, &person.claims]).await.unwrap();
        let answer = self.client.simple_query(statements).await;
        self.client.batch_execute(if answer.is_ok() { "commit" } else { "rollback" }).await.unwrap();
        let rows = answer.map_err(|error| error.code().unwrap().code().to_owned())?;
        let first = |message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("null").to_owned()),
            _ => None,
        };
        Ok(rows.into_iter().filter_map(first).collect())
    }

    /// How many rows of a table somebody sees.
    async fn sees(&self, person: &Person, table: &str) -> u32 {
        self.ask(person, &format!("select count(*) from public.{table}")).await.unwrap()[0].parse().unwrap()
    }

    async fn may(&self, person: &Person, statements: &str) {
        let answer = self.ask(person, statements).await;
        assert!(answer.as_ref().is_ok_and(|rows| !rows.is_empty()), "{}: {statements}: {answer:?}", person.claims);
    }

    /// The statement fails for want of a right, or (with RETURNING) touches no row.
    async fn may_not(&self, person: &Person, statements: &str) {
        match self.ask(person, statements).await {
            Err(code) => assert_eq!(code, "42501", "{}: {statements}", person.claims),
            Ok(rows) => assert!(rows.is_empty(), "{}: {statements}: {rows:?}", person.claims),
        }
    }
}

const TABLES: [&str; 8] =
    ["projects", "project_members", "notes", "tags", "notes_tags", "conversations", "conversation_members", "messages"];

#[tokio::test]
async fn everybody_sees_of_the_examples_what_is_meant_for_him() {
    for demo in Demo::of_each_major().await {
        for (person, expected) in [
            (user(ALICE), [1, 1, 2, 1, 1, 1, 2, 1]),
            (user(BOB), [1, 1, 1, 1, 1, 1, 2, 1]),
            (user(CAROL), [0, 0, 0, 1, 0, 0, 0, 0]),
            (agent(AGENT), [0, 0, 0, 1, 0, 1, 2, 1]),
            (claiming(CAROL, "chatbot"), [0, 0, 0, 1, 0, 0, 0, 0]),
            (bare("authenticated"), [0, 0, 0, 1, 0, 0, 0, 0]),
            (bare("anon"), [0, 0, 0, 1, 0, 0, 0, 0]),
            (bare("service_role"), [1, 1, 2, 1, 1, 1, 2, 1]),
        ] {
            for (table, rows) in TABLES.iter().zip(expected) {
                assert_eq!(demo.sees(&person, table).await, rows, "{} sees {table}", person.claims);
            }
        }
    }
}

#[tokio::test]
async fn notes_belong_to_their_owner_and_the_people_of_their_project() {
    for demo in Demo::of_each_major().await {
        let (alice, bob, carol) = (user(ALICE), user(BOB), user(CAROL));
        let note = format!("insert into notes (project_id, title) values ('{PROJECT}', 'Keys') returning owner_id");
        assert_eq!(demo.ask(&bob, &note).await, Ok(vec![BOB.to_owned()]));
        demo.may_not(&carol, &note).await;
        demo.may_not(&bare("anon"), &note).await;
        demo.may_not(&bob, &format!("insert into notes (owner_id) values ('{ALICE}') returning id")).await;
        demo.may(&carol, "insert into notes (title) values ('Mine') returning id").await;

        // Alice owns the project, so Bob's note in it is hers to read and to write in, not to delete or to claim.
        demo.may(&alice, "update notes set content = 'By the door' where title = 'Keys' returning id").await;
        demo.may_not(&alice, &format!("update notes set owner_id = '{ALICE}' where title = 'Keys' returning id")).await;
        demo.may_not(&alice, "delete from notes where title = 'Keys' returning id").await;
        demo.may_not(&carol, "update notes set content = 'x' where title = 'Keys' returning id").await;
        demo.may_not(&bob, "update notes set content = 'x' where title = 'Private' returning id").await;
        demo.may(&bob, "delete from notes where title = 'Keys' returning id").await;

        let label = "insert into notes_tags select id, 'c0000000-0000-4000-8000-000000000001' from notes \
                 where title in ('Mine', 'Private') returning note_id";
        demo.may(&carol, label).await;
        demo.may_not(&bob, label).await;
        demo.may_not(
            &bob,
            "insert into notes_tags values ('b0000000-0000-4000-8000-000000000002', \
                        'c0000000-0000-4000-8000-000000000001') returning note_id",
        )
        .await;
        demo.may_not(&bob, "update tags set name = 'x' returning id").await;
        demo.may(&alice, "update tags set name = 'later' returning id").await;

        demo.may_not(&bob, &format!("insert into project_members values ('{PROJECT}', '{CAROL}') returning user_id"))
            .await;
        demo.may(&alice, &format!("insert into project_members values ('{PROJECT}', '{CAROL}') returning user_id"))
            .await;
        assert_eq!(demo.sees(&carol, "projects").await, 1);
        demo.may_not(&carol, &format!("delete from project_members where user_id = '{BOB}' returning user_id")).await;
        demo.may(&carol, &format!("delete from project_members where user_id = '{CAROL}' returning user_id")).await;
        demo.may_not(&bob, "update projects set name = 'x' returning id").await;
        demo.may_not(&bob, "delete from projects returning id").await;
        demo.may(&alice, "update projects set name = 'Moved' returning id").await;
    }
}

#[tokio::test]
async fn an_unassigned_conversation_is_every_agents_until_one_takes_it() {
    for demo in Demo::of_each_major().await {
        let (one, other, carol, bob) = (agent(AGENT), agent(OTHER_AGENT), user(CAROL), user(BOB));
        demo.may_not(&one, "update conversations set created_by = auth.uid() returning id").await;
        demo.may_not(&one, &format!("update conversations set assignee_id = '{OTHER_AGENT}' returning id")).await;
        demo.may_not(&carol, "update conversations set assignee_id = auth.uid() returning id").await;
        demo.may_not(&bob, "update conversations set status = 'closed' returning id").await;
        demo.may(&one, "update conversations set assignee_id = auth.uid() returning id").await;
        assert_eq!((demo.sees(&one, "conversations").await, demo.sees(&one, "messages").await), (1, 1));
        assert_eq!((demo.sees(&other, "conversations").await, demo.sees(&other, "messages").await), (0, 0));
        assert_eq!(demo.sees(&other, "conversation_members").await, 0);
        demo.may(
            &one,
            &format!(
                "insert into conversation_members (conversation_id, user_id) \
                             values ('{CONVERSATION}', '{CAROL}') returning user_id"
            ),
        )
        .await;
        assert_eq!((demo.sees(&carol, "conversations").await, demo.sees(&carol, "messages").await), (1, 1));
        demo.may(
            &carol,
            "update conversation_members set last_read_at = now() where user_id = auth.uid() returning user_id",
        )
        .await;
        demo.may_not(
            &carol,
            &format!("update conversation_members set last_read_at = now() where user_id = '{BOB}' returning user_id"),
        )
        .await;
        demo.may_not(&carol, &format!("delete from conversation_members where user_id = '{BOB}' returning user_id"))
            .await;
        demo.may_not(&carol, "delete from conversations returning id").await;
        demo.may(&user(ALICE), "delete from conversations returning id").await;
        assert_eq!(demo.sees(&bare("service_role"), "messages").await, 0);
    }
}

#[tokio::test]
async fn a_new_conversation_is_seen_by_who_opens_it() {
    for demo in Demo::of_each_major().await {
        let carol = user(CAROL);
        demo.may(&carol, "insert into conversations (subject) values ('Help') returning id").await;
        demo.may_not(&carol, &format!("insert into conversations (created_by) values ('{BOB}') returning id")).await;
        demo.may_not(&bare("anon"), "insert into conversations (subject) values ('Help') returning id").await;
        assert_eq!(demo.sees(&carol, "conversations").await, 1);
        assert_eq!(demo.sees(&agent(AGENT), "conversations").await, 2);
        assert_eq!(demo.sees(&user(BOB), "conversations").await, 1);
    }
}

#[tokio::test]
async fn messages_are_written_by_participants_and_changed_by_their_senders() {
    for demo in Demo::of_each_major().await {
        let (alice, bob, carol, one) = (user(ALICE), user(BOB), user(CAROL), agent(AGENT));
        let message = |kind: &str| {
            format!(
                "insert into messages (conversation_id, sender_type, content) values ('{CONVERSATION}', '{kind}', 'Hi') returning id"
            )
        };
        demo.may(&bob, &message("customer")).await;
        demo.may(&one, &message("agent")).await;
        for kind in ["agent", "chatbot", "system"] {
            demo.may_not(&bob, &message(kind)).await;
        }
        demo.may_not(&one, &message("system")).await;
        demo.may_not(&carol, &message("customer")).await;
        demo.may_not(&bare("authenticated"), &message("customer")).await;
        demo.may_not(&bare("anon"), &message("customer")).await;
        let forged = format!(
            "insert into messages (conversation_id, sender_id, content) values ('{CONVERSATION}', '{ALICE}', 'x') returning id"
        );
        demo.may_not(&bob, &forged).await;

        let direct = format!("insert into messages (recipient_id, content) values ('{ALICE}', 'Psst') returning id");
        demo.may(&carol, &direct).await;
        assert_eq!(
            demo.ask(&alice, "select content from messages where recipient_id is not null").await,
            Ok(vec!["Psst".into()])
        );
        assert_eq!(demo.ask(&bob, "select content from messages where recipient_id is not null").await, Ok(vec![]));

        demo.may(&alice, &format!("update messages set content = 'Sunday?' where id = '{MESSAGE}' returning id")).await;
        demo.may_not(&bob, &format!("update messages set content = 'x' where id = '{MESSAGE}' returning id")).await;
        demo.may_not(
            &alice,
            &format!("update messages set sender_type = 'customer' where id = '{MESSAGE}' returning id"),
        )
        .await;
        demo.may_not(&alice, "update messages set conversation_id = null, recipient_id = auth.uid() returning id")
            .await;
        demo.may_not(&bob, &format!("delete from messages where id = '{MESSAGE}' returning id")).await;
        demo.may(&alice, &format!("delete from messages where id = '{MESSAGE}' returning id")).await;

        let both = format!(
            "insert into messages (conversation_id, recipient_id, content) values ('{CONVERSATION}', '{ALICE}', 'x')"
        );
        assert_eq!(demo.ask(&bob, &both).await, Err("23514".into()));
        assert_eq!(
            demo.ask(&bare("service_role"), "insert into messages (sender_id, content) values (null, 'x')").await,
            Err("23514".into())
        );
    }
}

#[tokio::test]
async fn insert_message_holds_the_caller_to_his_rights() {
    for demo in Demo::of_each_major().await {
        let call = |rest: &str| {
            format!(
                "select sender_type || ' ' || coalesce(sender_id::text, 'nobody') from insert_message('Hi', {rest})"
            )
        };
        let there = format!("conversation_id => '{CONVERSATION}'");
        let to_alice = format!("recipient_id => '{ALICE}'");
        let service = bare("service_role");
        let said = |text: String| Ok(vec![text]);
        for (person, rest, expected) in [
            (user(BOB), there.clone(), said(format!("customer {BOB}"))),
            (user(CAROL), to_alice.clone(), said(format!("customer {CAROL}"))),
            (agent(AGENT), format!("{there}, sender_type => 'agent'"), said(format!("agent {AGENT}"))),
            (claiming(BOB, "chatbot"), format!("{there}, sender_type => 'chatbot'"), said(format!("chatbot {BOB}"))),
            (claiming(BOB, "system"), format!("{to_alice}, sender_type => 'system'"), said(format!("system {BOB}"))),
            (bare("service_role"), format!("{there}, sender_type => 'system'"), said("system nobody".into())),
            (
                bare("service_role"),
                format!("{there}, sender_type => 'agent', metadata => null"),
                said("agent nobody".into()),
            ),
            (service, there.clone(), Err("42501".into())),
            (user(CAROL), there.clone(), Err("42501".into())),
            (user(BOB), format!("{there}, sender_type => 'agent'"), Err("42501".into())),
            (agent(AGENT), format!("{there}, sender_type => 'chatbot'"), Err("42501".into())),
            // What a user can write himself is no proof.
            (
                Person {
                    role: "authenticated",
                    claims: format!(r#"{{"role":"service_role","sub":"{BOB}","user_metadata":{{"role":"agent"}}}}"#),
                },
                format!("{there}, sender_type => 'agent'"),
                Err("42501".into()),
            ),
            (bare("authenticated"), there.clone(), Err("42501".into())),
            (bare("anon"), there.clone(), Err("42501".into())),
            (user(BOB), format!("{there}, {to_alice}"), Err("22023".into())),
            (user(BOB), "sender_type => 'customer'".into(), Err("22023".into())),
            (user(BOB), format!("{there}, sender_type => 'king'"), Err("22023".into())),
            (user(BOB), format!("{there}, sender_type => null"), Err("22023".into())),
            // Whether a conversation exists is nobody's business who has no part in it.
            (user(BOB), format!("conversation_id => '{CAROL}'"), Err("42501".into())),
            (
                bare("service_role"),
                format!("conversation_id => '{CAROL}', sender_type => 'system'"),
                Err("23503".into()),
            ),
        ] {
            assert_eq!(demo.ask(&person, &call(&rest)).await, expected, "{} {rest}", person.claims);
        }
        for content in ["''", "null"] {
            let empty = format!("select insert_message({content}, recipient_id => '{ALICE}')");
            assert_eq!(demo.ask(&user(BOB), &empty).await, Err("22023".into()));
        }
    }
}

#[tokio::test]
async fn insert_message_notifies_of_the_key_and_nothing_else() {
    for demo in Demo::of_each_major().await {
        let (listener, mut connection) = tokio_postgres::connect(&demo.database.url, NoTls).await.unwrap();
        let (heard, notifications) = mpsc::channel();
        let pump = async move {
            while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
                if let AsyncMessage::Notification(notification) = message.unwrap() {
                    let _ = heard.send((notification.channel().to_owned(), notification.payload().to_owned()));
                }
            }
        };
        drive(pump);
        listener.batch_execute("listen walcast").await.unwrap();
        let long = "x".repeat(20_000);
        // Refused and so rolled back: says nothing.
        let refused = format!("select insert_message('{long}', '{CONVERSATION}')");
        assert!(demo.ask(&user(CAROL), &refused).await.is_err());
        let sent = format!(
            "select id from insert_message('{long}', '{CONVERSATION}', metadata => '{{\"secret\":\"{long}\"}}')"
        );
        let id = demo.ask(&user(BOB), &sent).await.unwrap().remove(0);
        let (channel, payload) = loop {
            if let Ok(notification) = notifications.try_recv() {
                break notification;
            }
            // Any answer of the server brings the notification with it.
            tokio::time::timeout(Duration::from_secs(10), listener.batch_execute("select 1")).await.unwrap().unwrap();
        };
        assert_eq!(channel, "walcast");
        let payload: serde_json::Value = serde_json::from_str(&payload).unwrap();
        let expected =
            serde_json::json!({"schema": "public", "table": "messages", "operation": "INSERT", "key": {"id": id}});
        assert_eq!(payload, expected);
        assert!(notifications.try_recv().is_err());
    }
}

/// The next step of the project compiles policies, and inlines what is one SQL expression; and a function that runs
/// with its owner's rights must not resolve names in a path its caller chose.
#[tokio::test]
async fn what_policies_call_is_one_expression_with_a_fixed_search_path() {
    for demo in Demo::of_each_major().await {
        let functions = "select p.proname::text, l.lanname = 'sql', p.provolatile = 's', p.prosecdef, \
                         'search_path=\"\"' = any (p.proconfig), p.prosrc ~* '\\mfrom public\\.', \
                         has_function_privilege('public', p.oid, 'execute') \
                         from pg_proc p join pg_language l on l.oid = p.prolang \
                         where p.pronamespace = 'walcast_demo'::regnamespace and p.proname <> 'touch'";
        let rows = demo.client.query(functions, &[]).await.unwrap();
        assert_eq!(rows.len(), 7);
        for row in rows {
            let name: &str = row.get(0);
            let fact = |column: usize| row.get::<_, bool>(column);
            assert!(fact(1) && fact(2) && fact(4), "{name}");
            assert_eq!(fact(3), fact(5), "{name}: owner's rights for what reads tables, and for nothing else");
            assert!(!fact(6), "{name} is open to everybody");
        }
    }
}
