//! Who may know whom, and which modules are pure: section 3 of the architecture, as data.
//!
//! Change a row together with the reason for it, in one commit.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// What modules of the assembly layer may use: everything.
const ANYTHING: &[&str] = &["*"];

/// A module's duty towards the others.
struct Rule {
    module: &'static str,
    /// No I/O, no runtime, no clock.
    pure: bool,
    may_use: &'static [&'static str],
}

const fn pure(module: &'static str, may_use: &'static [&'static str]) -> Rule {
    Rule { module, pure: true, may_use }
}

const fn edge(module: &'static str, may_use: &'static [&'static str]) -> Rule {
    Rule { module, pure: false, may_use }
}

/// What every edge may use beyond its row.
const COMMON: &[&str] = &["shutdown", "telemetry", "metrics"];

const RULES: &[Rule] = &[
    // Words.
    pure("lsn", &[]),
    pure("claims", &[]),
    pure("pgoutput", &["lsn"]),
    pure("change", &["pgoutput", "lsn"]),
    pure("protocol", &["change"]),
    pure("limits", &[]),
    // Rules.
    // Policy: whether a transaction is in the rows of a lookup depends on where it committed.
    pure("policy", &["change", "claims", "lsn"]),
    // A session verifies tokens and ends memberships itself: both are plain values, and the moment of either counts.
    // It speaks in rooms itself, too: what is said has its place among the answers.
    pure("session", &["protocol", "policy", "claims", "change", "auth", "hub", "limits"]),
    // Edges.
    edge("auth", &["claims"]),
    edge("pg", &["pgoutput", "change", "policy", "claims", "lsn"]),
    // Positions of the log: between which changes are lost to a client.
    edge("hub", &["protocol", "change", "lsn"]),
    // Limits: events of a rate that was set are counted where they are handed out.
    // Messages: said in their place among row changes.
    edge("router", &["messages", "limits", "hub", "policy", "change", "protocol", "source", "pg", "claims", "lsn"]),
    // Messages of the database: rows of the stream become broadcasts in rooms, within limits; whether they are streamed is
    // the source's to say and to be told.
    edge("messages", &["change", "hub", "limits", "protocol", "policy", "pg", "source", "lsn"]),
    edge("source", &["pg", "pgoutput", "change", "lsn"]),
    // Router: rights are judged by the catalogue it keeps current, and have to know when that is not.
    edge("rights", &["policy", "pg", "router", "claims", "change"]),
    edge("messages", &["pg", "policy", "protocol"]),
    // Source: a client may ask to be told when the stream is up.
    edge(
        "doors",
        &[
            "session", "router", "rights", "messages", "limits", "hub", "auth", "protocol", "policy", "change",
            "claims", "source",
        ],
    ),
    // Explain: asks the database what a user sees, and programs why; the command and the admin endpoint both answer by it.
    edge("explain", &["pg", "policy", "change", "claims"]),
    // Policy: the roles that may be claimed are the catalogue's knowledge. Source and pg: health reports on them.
    // Explain: the admin endpoint is a door to it.
    edge(
        "http",
        &[
            "doors", "router", "rights", "limits", "change", "hub", "auth", "protocol", "policy", "claims", "pg",
            "source", "lsn", "explain", "messages",
        ],
    ),
    edge("devdb", &["pg"]),
    // Helpers of edges and assembly.
    edge("shutdown", &[]),
    edge("telemetry", &[]),
    edge("metrics", &[]),
    // Assembly.
    edge("config", ANYTHING),
    edge("dev", ANYTHING),
    edge("tap", ANYTHING),
    edge("check", ANYTHING),
    edge("token", ANYTHING),
    edge("serve", ANYTHING),
    edge("cli", ANYTHING),
    edge("main", ANYTHING),
    edge("lib", &[]),
    // Only in tests: it plays router, hub, sessions and clients against each other.
    edge("simulation", ANYTHING),
];

/// Modules of the assembly, which nobody below may use.
const ASSEMBLY: &[&str] = &["config", "dev", "tap", "check", "token", "serve", "cli", "main", "simulation"];

/// What pure code does not say.
const IMPURE: &[&str] = &[
    "tokio",
    "std::net",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "Instant::now",
    "SystemTime::now",
    "Timestamp::now",
    "Zoned::now",
];

#[test]
fn every_module_uses_only_what_its_layer_may() {
    let mut faults = Vec::new();
    for (path, module) in sources() {
        let source = fs::read_to_string(root().join(&path)).unwrap();
        faults.extend(faults_in(&path, &module, &source));
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn every_way_to_name_a_forbidden_module_is_seen() {
    let seen = |module: &str, path: &str, source: &str| {
        let faults = faults_in(Path::new(path), module, source);
        faults.iter().map(|fault| fault.split(": ").next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let change = |source| seen("change", "src/change/value/mod.rs", source);
    assert_eq!(change("use crate::lsn::Lsn;\nuse crate::policy::catalog;"), ["src/change/value/mod.rs:2"]);
    assert_eq!(change("\nfn f() { crate::pg::connect() }"), ["src/change/value/mod.rs:2"]);
    assert_eq!(change("use crate::{\n    lsn::{Lsn, hub},\n    claims,\n};"), ["src/change/value/mod.rs:3"]);
    assert_eq!(change("use crate::{self as root, lsn};"), ["src/change/value/mod.rs:1"], "the root gives everything");
    assert_eq!(change("use super::super::hub;"), ["src/change/value/mod.rs:1"], "the root by another name");
    assert_eq!(change("use super::{relation, Change};"), [""; 0]);
    assert_eq!(change("let mut x: Instant = Instant::now();"), ["src/change/value/mod.rs:1"]);
    assert_eq!(change("// tokio\n/// crate::hub\n/* tokio */ let x = \"crate::pg\";"), [""; 0]);
    assert_eq!(change("use tokio::sync::mpsc;"), ["src/change/value/mod.rs:1"]);
    assert_eq!(seen("lsn", "src/lsn.rs", "use super::claims::Claims;"), ["src/lsn.rs:1"]);
    assert_eq!(seen("hub", "src/hub/mod.rs", "use crate::{metrics, serve};"), ["src/hub/mod.rs:1"]);
    assert_eq!(seen("policy", "src/policy/mod.rs", "use crate::metrics;"), ["src/policy/mod.rs:1"]);
    assert_eq!(seen("serve", "src/serve.rs", "use crate::hub;"), [""; 0]);
    assert_eq!(seen("nobody", "src/nobody/mod.rs", ""), ["src/nobody/mod.rs:1"], "a module without a row");
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every source file with the top-level module it belongs to.
fn sources() -> Vec<(PathBuf, String)> {
    let (mut found, mut open) = (Vec::new(), vec![root().join("src")]);
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let path = path.strip_prefix(root()).unwrap().to_owned();
                let module = path.components().nth(1).unwrap().as_os_str().to_str().unwrap();
                let module = module.trim_end_matches(".rs").to_owned();
                found.push((path, module));
            }
        }
    }
    assert!(found.len() > 5, "the sources are where they were");
    found.sort();
    found
}

fn faults_in(path: &Path, module: &str, source: &str) -> Vec<String> {
    let Some(rule) = RULES.iter().find(|rule| rule.module == module) else {
        return vec![format!("{}:1: module {module} has no row in tests/architecture.rs", path.display())];
    };
    let code = without_comments_and_strings(source);
    let mut faults = Vec::new();
    let mut fault = |at: usize, what: String| {
        let line = code[..at].matches('\n').count() + 1;
        faults.push(format!("{}:{line}: {what}", path.display()));
    };
    for (at, used) in roots_used(path, &code) {
        if used != module && !may_use(rule, &used) {
            fault(at, format!("{module} may not use {used}"));
        }
    }
    for word in IMPURE.iter().filter(|_| rule.pure) {
        for at in occurrences(&code, word) {
            fault(at, format!("{module} is pure and may not mention {word}"));
        }
    }
    faults
}

fn may_use(rule: &Rule, used: &str) -> bool {
    rule.may_use == ANYTHING
        || rule.may_use.contains(&used)
        || (!rule.pure && COMMON.contains(&used) && !ASSEMBLY.contains(&used))
}

/// The top-level modules that code names, by `crate::`, by the crate's own name, or by enough `super::`.
fn roots_used(path: &Path, code: &str) -> Vec<(usize, String)> {
    let mut used = Vec::new();
    for prefix in ["crate::", "walcast::"] {
        for at in occurrences(code, prefix) {
            used.extend(names_after(code, at + prefix.len()));
        }
    }
    // How many `super` lead from this file to the root; inline modules only make it more.
    let inner = path.components().count() - 2;
    let depth = if path.ends_with("mod.rs") { inner } else { inner + 1 };
    let chain = "super::".repeat(depth);
    for at in occurrences(code, &chain) {
        // A test module at the end of a file needs one more, and means its own file's parent by this one.
        let is_inline = code[..at].contains("\nmod tests {");
        let rest = &code[at + chain.len()..];
        if !is_inline && !code[..at].ends_with("super::") {
            used.extend(names_after(code, at + chain.len()));
        } else if let Some(rest) = rest.strip_prefix("super::").filter(|_| is_inline) {
            used.extend(names_after(code, code.len() - rest.len()));
        }
    }
    used
}

/// The first names of a path or of a group of paths that starts at `at`.
fn names_after(code: &str, at: usize) -> Vec<(usize, String)> {
    let Some(group) = code[at..].strip_prefix('{') else {
        return word_at(code, at).map(|word| (at, word)).into_iter().collect();
    };
    let (mut names, mut depth, mut expects_name) = (Vec::new(), 0, true);
    for (offset, character) in group.char_indices() {
        let at = at + 1 + offset;
        match character {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => expects_name = true,
            _ if expects_name && !character.is_whitespace() => {
                names.extend(word_at(code, at).map(|word| (at, word)));
                expects_name = false;
            }
            _ => {}
        }
    }
    names
}

fn word_at(code: &str, at: usize) -> Option<String> {
    let word: String = code[at..].chars().take_while(|&character| is_word(character)).collect();
    // A name in capitals is an item that lib.rs itself would hold; it holds none.
    (!word.is_empty()).then_some(word)
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Where `needle` stands in code, not as a part of a longer word.
fn occurrences(code: &str, needle: &str) -> Vec<usize> {
    let all = code.match_indices(needle).map(|(at, _)| at);
    let starts = all.filter(|&at| !code[..at].ends_with(is_word));
    let ends = starts.filter(|&at| needle.ends_with(':') || !code[at + needle.len()..].starts_with(is_word));
    ends.collect()
}

/// The same text with comments and the insides of strings blanked, so that positions stay.
fn without_comments_and_strings(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(character) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with("r#\"") {
            rest.find("\"#").map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with("'\"'") || rest.starts_with("b'\"'") {
            rest[1..].find("'").map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with('"') {
            string_length(rest)
        } else {
            code.push(character);
            rest = &rest[character.len_utf8()..];
            continue;
        };
        code.extend(rest[..skipped].chars().map(|character| if character == '\n' { '\n' } else { ' ' }));
        rest = &rest[skipped..];
    }
    code
}

fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}
