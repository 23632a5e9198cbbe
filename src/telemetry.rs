//! Log output: `tracing` to stderr, as lines for people or as JSON for machines. Rows, tokens and payloads are never
//! logged by anybody; records of the `log` crate are not taken in, for the database driver writes parameters there.

use std::str::FromStr;
use tracing_subscriber::EnvFilter;

/// How records are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<LogFormat, String> {
        match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            other => Err(format!("`{other}` is not a log format; it is text or json")),
        }
    }
}

/// Starts logging. The level is a name such as `info`, or a `tracing` filter such as `info,walcast=debug`.
pub fn start(format: LogFormat, level: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(level).map_err(|error| format!("`{level}` is not a log level: {error}"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(false).try_init(),
    };
    started.map_err(|error| error.to_string())
}
