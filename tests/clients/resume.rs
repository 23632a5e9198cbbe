//! `clients/js`, the transport that gives an unmodified supabase-js exact resume: its own tests, against a server that
//! does what a test says (`resume/`).

use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn the_resuming_transport_keeps_its_promises_frame_by_frame() {
    let tests = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests");
    let folder = tests.join("clients/resume");
    let files = ["memory.test.mjs", "socket.test.mjs", "library.test.mjs"].map(|name| folder.join(name));
    // The library leaves timers behind when it disconnects, which would keep Node for ten seconds.
    let run = Command::new(tests.join(".cache/bin/node"))
        .args(["--test", "--test-force-exit", "--test-reporter=spec"])
        .args(files)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = run.await.expect("Node is there: tests/setup installs it");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("pass 9"), "all of them ran: {said}");
}
