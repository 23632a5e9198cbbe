//! The whole list of the protocol reference, section 14: which check has which number, and what proves the numbers that
//! other folders of this binary have. A number is proved once; a proof that is not there fails.
#![expect(clippy::print_stdout, reason = "the table is worth reading")]

use std::collections::BTreeMap;

use super::{GROUPS, In};

/// The numbers of the reference.
const LAST: u16 = 146;

/// A number that a test elsewhere in this binary proves.
struct Elsewhere {
    number: u16,
    says: &'static str,
    /// Below `tests/`.
    file: &'static str,
    test: &'static str,
}

const ELSEWHERE: &[Elsewhere] = &[
    Elsewhere {
        number: 140,
        says: "js: subscribes, gets typed rows, removes its channel",
        file: "clients/javascript.rs",
        test: "supabase_js_sees_inserts_updates_and_deletes_with_and_without_a_filter",
    },
    Elsewhere {
        number: 141,
        says: "js: comes back when the server closed its socket",
        file: "clients/channels.rs",
        test: "supabase_js_comes_back_however_its_connection_was_closed",
    },
    Elsewhere {
        number: 142,
        says: "js: sends by REST before it has subscribed, httpSend resolves",
        file: "clients/channels.rs",
        test: "supabase_js_and_python_speak_by_http",
    },
    Elsewhere {
        number: 143,
        says: "py: subscribes and gets rows, without a message it does not recognise",
        file: "clients/python.rs",
        test: "python_realtime_sees_inserts_updates_and_deletes_with_and_without_a_filter",
    },
    Elsewhere {
        number: 146,
        says: "js with vsn 1.0.0: all of 140",
        file: "clients/javascript.rs",
        test: "the_chat_set_up_works_in_v1",
    },
];

/// Numbers whose own words ask for a platform that is not here. What the client sends is played by the check of the
/// number; the reason is printed.
const ONLY_ON_A_DEVICE: &[(u16, &str)] = &[
    (144, "the Dart library runs in Flutter's own runtime; its conversation is played on the wire"),
    (145, "the Swift library needs Apple's networking; its conversation is played on the wire"),
];

/// The line of the list for a number.
fn lines() -> Vec<(u16, String)> {
    let encodings = |encodings: In| match encodings {
        In::Both => "V1 V2",
        In::V1 => "V1",
        In::V2 => "V2",
    };
    let here = GROUPS.iter().flat_map(|group| group.iter());
    let here = here.map(|check| (check.number, format!("{:5}  {}", encodings(check.encodings), check.says)));
    let elsewhere = ELSEWHERE.iter().map(|row| (row.number, format!("{}::{}  {}", row.file, row.test, row.says)));
    here.chain(elsewhere).filter(|(number, _)| *number <= LAST).collect()
}

#[test]
fn every_check_of_the_reference_is_there_exactly_once() {
    let mut table: BTreeMap<u16, Vec<String>> = (1..=LAST).map(|number| (number, Vec::new())).collect();
    for (number, line) in lines() {
        table.get_mut(&number).expect("numbers begin with 1").push(line);
    }
    for (number, proofs) in &table {
        eprintln!("{number:3}  {}", proofs.join("\n     "));
    }
    let wrong: Vec<_> = table.iter().filter(|(_, proofs)| proofs.len() != 1).collect();
    assert!(wrong.is_empty(), "not exactly one proof: {wrong:#?}");
    for (number, reason) in ONLY_ON_A_DEVICE {
        crate::support::skip(&format!("the library itself of check {number}"), reason);
    }
}

#[test]
fn what_proves_a_check_elsewhere_is_a_test() {
    for Elsewhere { number, file, test, .. } in ELSEWHERE {
        let path = format!("{}/tests/{file}", env!("CARGO_MANIFEST_DIR"));
        let source = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("check {number}: {path}: {error}"));
        let function = source.lines().position(|line| line.contains(&format!("fn {test}(")));
        let lines: Vec<&str> = source.lines().collect();
        let function = function.unwrap_or_else(|| panic!("check {number}: {file} has no function {test}"));
        let attributes = lines[..function].iter().rev().take_while(|line| line.trim_start().starts_with("#["));
        let attributes: Vec<_> = attributes.collect();
        assert!(attributes.iter().any(|line| line.contains("test")), "check {number}: {test} is no test");
        assert!(!attributes.iter().any(|line| line.contains("ignore")), "check {number}: {test} is never run");
    }
}
