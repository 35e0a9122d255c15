//! What lines say, made fit to be read: escaped, and of a bounded length.

use std::fmt::{self, Write};

use common::text;
use tracing::field::Field;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{self, Writer};

use super::LogFormat;
use super::line::Line;

/// Bytes that one field of a line may have.
const FIELD_BYTES: usize = 4_096;

/// Bytes of a line of JSON from which on it is told in short.
const LINE_BYTES: usize = 64 << 10;

/// The fields of a line for people: the message, then `name=value`.
pub(super) fn human() -> impl for<'a> FormatFields<'a> + Send + Sync + 'static {
    format::debug_fn(|writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug| {
        match field.name() {
            "message" => {}
            name => write!(writer, "{name}=")?,
        }
        write!(Escaping::of(writer), "{value:?}")
    })
    .delimited(" ")
}

/// A line of JSON as tracing makes it, with no character that steers a terminal. Those of ASCII are escaped there already;
/// the others can only be in strings.
pub(super) fn json(line: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches('\n');
    if text.len() > LINE_BYTES {
        let start = &text[..text.floor_char_boundary(FIELD_BYTES)];
        let words = format!("a line of {} bytes is cut; it began with {start}", text.len());
        return Line::error(LogFormat::Json, &words).into_bytes();
    }
    let mut kept = String::with_capacity(text.len() + 1);
    for letter in text.chars() {
        // Writing to a String does not fail.
        let _ = match text::steers(letter) {
            true => write!(kept, "\\u{:04x}", u32::from(letter)),
            false => kept.write_char(letter),
        };
    }
    kept.push('\n');
    kept.into_bytes()
}

/// Escapes what steers, and cuts what is too long.
struct Escaping<'a, W> {
    writer: &'a mut W,
    left: usize,
}

impl<'a, W: Write> Escaping<'a, W> {
    const fn of(writer: &'a mut W) -> Self {
        Self {
            writer,
            left: FIELD_BYTES,
        }
    }
}

impl<W: Write> Write for Escaping<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            if self.left == 0 {
                return Ok(());
            }
            self.left = self.left.saturating_sub(letter.len_utf8());
            match text::steers(letter) {
                true => write!(self.writer, "{}", letter.escape_default())?,
                false => self.writer.write_char(letter)?,
            }
            if self.left == 0 {
                self.writer.write_str("… (cut here)")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const HOSTILE: &str = "web\n2026-01-01T00:00:00Z  INFO forged\u{1b}[2J\u{9b}31m\u{202e}";

    #[test]
    fn nothing_that_is_logged_forges_a_line_or_steers_a_terminal() {
        let kept = Kept::default();
        let writer = kept.clone();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .fmt_fields(human());
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("host", name = HOSTILE, shown = %HOSTILE);
            let _inside = span.enter();
            tracing::info!(name = HOSTILE, shown = %HOSTILE, "it is called {HOSTILE}");
            tracing::info!(long = %"x".repeat(1 << 20), "long");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(!text.replace('\n', "").chars().any(text::steers), "{text}");
        assert!(text.contains("it is called web\\n2026"), "{text}");
        assert!(
            text.contains("… (cut here)") && text.len() < 10_000,
            "{}",
            text.len()
        );
    }

    #[test]
    fn a_line_of_json_steers_nothing_and_is_still_one() {
        let line = "{\"a\":\"\u{9b}31m\u{202e}\"}\n";
        assert_eq!(
            String::from_utf8(json(line.as_bytes())).unwrap(),
            "{\"a\":\"\\u009b31m\\u202e\"}\n"
        );
        let long = json(format!("{{\"a\":\"{}\"}}\n", "x".repeat(1 << 20)).as_bytes());
        assert!(long.len() < 10_000 && long.ends_with(b"\"}\n"), "{}", long.len());
    }
}
