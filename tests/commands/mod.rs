//! The commands, as processes against real databases: what they print, how they end, what they leave behind.

mod check;
mod explain;
mod life;
mod limits;
mod policies;
mod serving;
mod settings;
mod slot;
mod supabase;
mod tap;
mod token;
mod unsuitable;

use crate::support::written::Written;
use std::{
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

const SOON: Duration = Duration::from_secs(60);

/// The program in an environment of its own.
fn walcast(arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_walcast"));
    command.args(arguments).env_clear().envs(environment.iter().copied()).stdin(Stdio::null());
    command
}

/// Runs a command that ends by itself.
pub(crate) fn output(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    walcast(arguments, environment).output().expect("the program was built")
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A command that runs until it is told to end. Killed when dropped.
struct Running {
    child: Child,
    stdout: Written,
    stderr: Written,
}

impl Running {
    fn start(mut command: Command) -> Running {
        let (stdout, stderr) = (Written::new(), Written::new());
        let child = command.stdout(stdout.target()).stderr(stderr.target()).spawn().expect("the program was built");
        Running { child, stdout, stderr }
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    async fn ended(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < SOON, "it does not end; it said {:?}", self.stderr.lines());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
