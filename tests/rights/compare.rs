//! Policies against people and topics: `ChannelRights` and the oracle must say the same of every one.

use super::stage::{ALICE, Stage, Way, alice, bob, user};
use serde_json::json;
use walcast::policy::topic::{ChannelAccess, ChannelUser};

/// Policies of `realtime.messages`, and who has to decide about reading and about writing for `authenticated`; none
/// where it depends on the topic or the claims.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub name: &'static str,
    pub read: Option<Way>,
    pub write: Option<Way>,
    pub sql: &'static str,
}

/// The id of somebody whose id is none.
const NO_UUID: &str = "no uuid";

/// A case whose two sides are decided in the same way: `p` by the process, `d` by the database, `?` by either.
pub const fn case(name: &'static str, ways: &'static str, sql: &'static str) -> Case {
    const fn way(letter: u8) -> Option<Way> {
        match letter {
            b'p' => Some(Way::Process),
            b'd' => Some(Way::Database),
            _ => None,
        }
    }
    let letters = ways.as_bytes();
    Case { name, read: way(letters[0]), write: way(letters[1]), sql }
}

/// Topics as people name them, and as they should not.
pub fn topics() -> Vec<String> {
    let mut topics: Vec<String> = [
        "room-1",
        "room-2",
        "ROOM-1",
        "room:1:chat",
        "room::",
        ":",
        "",
        "it's \"quoted\" \\ $1 %s",
        "日本語:ü😀",
        "red",
        "a%_b",
        "line\nbreak\ttab",
        "null",
    ]
    .map(str::to_owned)
    .into();
    topics.extend([ALICE.to_owned(), format!("user:{ALICE}"), "x".repeat(10_240)]);
    topics
}

/// The ones in which most policies differ, where every question takes a transaction.
pub fn few_topics() -> Vec<String> {
    ["room-1", "ROOM-1", "", "it's \"quoted\" \\ $1 %s", "red", ALICE].map(str::to_owned).into()
}

/// People of every kind who may be claimed.
pub fn people(topic: &str) -> Vec<ChannelUser> {
    let mut plain = user("authenticated", json!({}), topic);
    plain.headers = "{}".into();
    vec![
        alice(topic),
        bob(topic),
        plain,
        user("authenticated", json!({"sub": NO_UUID, "team": 7, "aal": null}), topic),
        user("anon", json!({}), topic),
        user("service_role", json!({}), topic),
    ]
}

/// Sets the policies of each case and compares everything; says all disagreements at once.
pub async fn compare(stage: &mut Stage, cases: &[Case], topics: &[String]) {
    let mut faults = Vec::new();
    let mut granted = 0_usize;
    for case in cases {
        stage.apply(&policies(case.sql)).await;
        let mut questions = Vec::new();
        for topic in topics {
            for user in people(topic) {
                questions.push((user.clone(), ChannelAccess::Read));
                questions.push((user, ChannelAccess::Write));
            }
        }
        let truth = stage.oracle(&questions).await;
        for ((user, access), truth) in questions.iter().zip(truth) {
            let (said, way) = stage.ask_way(user, *access).await;
            let wanted = [truth[0] == "yes", truth[1] == "yes"];
            granted += usize::from(said.broadcast) + usize::from(said.presence);
            let topic: String = user.topic.chars().take(40).collect();
            if [said.broadcast, said.presence] != wanted {
                faults.push(format!(
                    "{}: {access:?} {topic:?} {}: {said:?} by {way:?}, Postgres {truth:?}",
                    case.name, user.claims.json
                ));
            }
            let expected = if *access == ChannelAccess::Read { case.read } else { case.write };
            // An id that is none is an error that Postgres may or may not meet, which the database decides.
            let has_asserted_way = &*user.claims.role == "authenticated" && !user.claims.json.contains(NO_UUID);
            if has_asserted_way && expected.is_some_and(|expected| expected != way) {
                faults.push(format!("{}: {access:?} {topic:?} {}: by {way:?}", case.name, user.claims.json));
            }
        }
    }
    faults.truncate(30);
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    assert!(granted > cases.len(), "hardly anything was granted: {granted}");
    stage.assert_no_trace().await;
}

/// These policies in the place of all that are there. A line that begins with `for`, `as` or `to` is a policy.
fn policies(sql: &str) -> String {
    let mut script = "do $drop$ declare one record; begin
          for one in select polname from pg_policy where polrelid = 'realtime.messages'::regclass loop
            execute format('drop policy %I on realtime.messages', one.polname);
          end loop; end $drop$; alter table realtime.messages enable row level security;"
        .to_owned();
    for (number, line) in sql.lines().map(str::trim).filter(|line| !line.is_empty()).enumerate() {
        if ["for ", "as ", "to "].iter().any(|word| line.starts_with(word)) {
            script.push_str(&format!("create policy \"p{number}\" on realtime.messages {line};\n"));
        } else {
            script.push_str(&format!("{line};\n"));
        }
    }
    script
}
