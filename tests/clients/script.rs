//! A running client script: commands to its stdin, events from its stdout, each a line of JSON. Ends with the test.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, timeout_at};

use crate::support::json::Json;

/// Reconnecting takes the libraries seconds, and starting Node on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(40);

pub(super) struct Script {
    child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
    unread: VecDeque<Json>,
    log: Vec<String>,
}

impl Script {
    /// Runs a script of this folder; its ending decides what runs it.
    pub(super) fn start(name: &str, environment: &[(&str, String)]) -> Self {
        let tests = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests");
        let runner = if name.ends_with(".mjs") { "bin/node" } else { "venv/bin/python" };
        let runner = tests.join(".cache").join(runner);
        assert!(runner.exists(), "{} is missing: run tests/setup", runner.display());
        let mut child = Command::new(runner)
            .arg(tests.join("clients").join(name))
            .envs(environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the runner starts");
        let stdin = child.stdin.take().expect("stdin is piped");
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        Self { child, stdin, stdout, unread: VecDeque::new(), log: Vec::new() }
    }

    /// Sends a command.
    pub(super) async fn tell(&mut self, command: &Value) {
        self.stdin.write_all(format!("{command}\n").as_bytes()).await.expect("the script reads its stdin");
    }

    /// Takes the first event that fits, heard already or still to come.
    pub(super) async fn expect(&mut self, what: &str, fits: impl Fn(&Json) -> bool) -> Json {
        let deadline = Instant::now() + PATIENCE;
        let mut checked = 0;
        loop {
            if let Some(index) = self.unread.iter().skip(checked).position(&fits) {
                return self.unread.remove(checked + index).expect("the position was just found");
            }
            checked = self.unread.len();
            match timeout_at(deadline, self.stdout.next_line()).await {
                Ok(Ok(Some(line))) => self.keep(&line),
                Ok(_) => panic!("{what} did not come, the script ended; it said {:?}, log {:?}", self.unread, self.log),
                Err(_) => {
                    panic!("{what} did not come in {PATIENCE:?}; the script said {:?}, log {:?}", self.unread, self.log)
                }
            }
        }
    }

    /// Everything said and not asked for.
    pub(super) fn rest(&mut self) -> Vec<Json> {
        self.unread.drain(..).collect()
    }

    /// Tells a driver to end and waits until it has.
    pub(super) async fn end(mut self) {
        self.tell(&serde_json::json!({"do": "end"})).await;
        let end = tokio::time::timeout(PATIENCE, async {
            while let Ok(Some(line)) = self.stdout.next_line().await {
                self.keep(&line);
            }
            self.child.wait().await
        });
        let status = end.await.expect("the script ends").expect("its status can be read");
        assert!(status.success(), "the script ended with {status}; log {:?}", self.log);
        self.understood_everything();
    }

    /// Python's library logs each frame that it cannot read.
    fn understood_everything(&self) {
        let strange: Vec<_> = self.log.iter().filter(|line| line.contains("Unrecognized message format")).collect();
        assert!(strange.is_empty(), "{strange:?}");
    }

    fn keep(&mut self, line: &str) {
        let event = Json::parse(line).unwrap_or_else(|_| panic!("the script printed no JSON: {line}"));
        match event.at("log").as_str() {
            Some(text) => self.log.push(text.to_owned()),
            None => self.unread.push_back(event),
        }
    }
}
