//! `walcast health`: whether a server on this machine answers, as an exit code. For the health checks of containers,
//! which otherwise need another program for it.

use anyhow::Context;
use clap::Args;
use std::{process::ExitCode, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(5);

/// The flags of `walcast health`.
#[derive(Args)]
pub(super) struct Arguments {
    /// Port the server listens on [default: 4000]
    #[arg(long, env = "PORT")]
    port: Option<u16>,
    /// Also ask whether the stream from the database runs
    #[arg(long)]
    stream: bool,
}

/// Asks; a failure when there is no good answer.
pub(super) async fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let path = if arguments.stream { "/health" } else { "/healthcheck" };
    let status = timeout(LIMIT, ask(arguments.port.unwrap_or(4000), path)).await.context("no answer in time")??;
    anyhow::ensure!(status == 200, "{path} answers {status}");
    Ok(ExitCode::SUCCESS)
}

async fn ask(port: u16, path: &str) -> anyhow::Result<u16> {
    let mut stream = TcpStream::connect(("localhost", port)).await.with_context(|| format!("nobody at port {port}"))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    // `HTTP/1.1 200`: the rest of the answer is of no interest.
    let mut line = [0; 12];
    stream.read_exact(&mut line).await.context("the answer is cut short")?;
    let status = std::str::from_utf8(&line).ok().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    status.context("the answer is not HTTP")
}
