//! Lines that no filter may hold back, and that no subscriber makes: what was dropped, and panics.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::Write as _;
use std::panic::PanicHookInfo;

use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};

use super::LogFormat;

/// A line of the log, as those that tracing makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line(String);

impl Line {
    /// Lines are missing here.
    pub(super) fn gap(format: LogFormat, dropped: u64) -> Self {
        let message = "log lines were dropped here: stderr was not read fast enough or could not be written";
        match format {
            LogFormat::Human => Self(format!(
                "{}  WARN runtime::telemetry: {message} dropped={dropped}\n",
                now()
            )),
            LogFormat::Json => Self(format!(
                "{{\"timestamp\":\"{}\",\"level\":\"WARN\",\"message\":{message:?},\"dropped\":{dropped},\
                 \"target\":\"runtime::telemetry\"}}\n",
                now()
            )),
        }
    }

    /// A thread has panicked.
    pub(super) fn panic(format: LogFormat, info: &PanicHookInfo<'_>) -> Self {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("without a name");
        let mut message = format!("the thread {name:?} panicked, a defect: {info}");
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            // Writing to a string cannot fail.
            let _ = write!(message, "\n{backtrace}");
        }
        Self::error(format, &message)
    }

    pub(super) fn error(format: LogFormat, message: &str) -> Self {
        match format {
            LogFormat::Human => Self(format!(
                "{} ERROR runtime::telemetry: {}\n",
                now(),
                escaped(message)
            )),
            LogFormat::Json => Self(format!(
                "{{\"timestamp\":\"{}\",\"level\":\"ERROR\",\"message\":{},\"target\":\"runtime::telemetry\"}}\n",
                now(),
                quoted(message)
            )),
        }
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0.into_bytes()
    }
}

fn now() -> String {
    let mut text = String::new();
    // A time that cannot be had is left out.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

/// With its own line ends, of a backtrace, and nothing else that steers.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter != '\n' && common::text::steers(letter) {
            true => escaped.extend(letter.escape_default()),
            false => escaped.push(letter),
        }
    }
    escaped
}

/// As a JSON string.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            letter if common::text::steers(letter) => {
                // Writing to a string cannot fail.
                let _ = write!(quoted, "\\u{:04x}", u32::from(letter));
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_says_how_many_lines_are_missing() {
        let line = Line::gap(LogFormat::Human, 7).0;
        assert!(
            line.contains(" WARN ") && line.ends_with(" dropped=7\n"),
            "{line}"
        );
        let line = Line::gap(LogFormat::Json, 7).0;
        assert!(
            line.starts_with("{\"timestamp\":\"2") && line.contains("\"dropped\":7,"),
            "{line}"
        );
    }

    #[test]
    fn whatever_a_panic_says_is_one_json_string() {
        let line = Line::error(LogFormat::Json, "a \"b\"\n\u{1b}[1m\\").0;
        assert!(line.contains(r#""message":"a \"b\"\n\u001b[1m\\","#), "{line}");
        assert_eq!(line.lines().count(), 1);
    }
}
