//! Log output: `tracing` to stderr, as lines for people or as JSON for machines. Rows, tokens and payloads are never
//! logged by anybody; records of the `log` crate are not taken in, for the database driver writes parameters there.

use std::{io::IsTerminal, str::FromStr};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

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
    let filter = filter(level)?;
    let coloured = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(coloured);
    let started = match format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(false).try_init(),
    };
    started.map_err(|error| error.to_string())
}

/// A lone word that is no level would be taken for a module's name, and every other record would vanish.
fn filter(text: &str) -> Result<EnvFilter, String> {
    let is_level = |part: &str| part.contains(['=', '[']) || part.parse::<LevelFilter>().is_ok();
    match EnvFilter::try_new(text) {
        Ok(filter) if text.split(',').map(str::trim).all(is_level) => Ok(filter),
        _ => Err(format!(
            "log_level: `{text}` is not a log level; it is error, warn, info, debug or trace, or a filter such as \
             info,walcast=debug"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::filter;

    #[test]
    fn a_word_that_is_no_level_is_refused() {
        for good in ["info", "WARN", "off", "info,walcast=debug", "walcast::router=trace"] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["loud", "info,loud", "walcast=loud"] {
            assert!(filter(bad).is_err(), "{bad}");
        }
    }
}
