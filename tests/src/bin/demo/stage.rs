//! What the audience sees: aligned lines, with colours only on a terminal.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};

/// Width of a heading's rule.
const WIDTH: usize = 120;

/// A colour, or rather what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As the terminal has it.
    Plain,
    /// Less important.
    Dim,
    /// A heading.
    Bold,
    /// Went well.
    Good,
    /// Under way.
    Busy,
    /// Went wrong, or is being stopped.
    Bad,
}

impl Tone {
    /// What a state of a task, a command or a step says.
    pub(crate) fn of(state: &str) -> Self {
        match state {
            "FINISHED" | "SUCCEEDED" | "CLEARED" => Self::Good,
            "FAILED" | "CANCELLED" | "ABORTING" | "RECOVERING" | "RECOVERED" | "NEEDS_ATTENTION"
            | "COMPENSATING" | "CLEAR_FAILED" => Self::Bad,
            "RUNNING" | "ACTIVE" => Self::Busy,
            _ => Self::Plain,
        }
    }

    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Dim => "\x1b[2m",
            Self::Bold => "\x1b[1m",
            Self::Good => "\x1b[32m",
            Self::Busy => "\x1b[36m",
            Self::Bad => "\x1b[31m",
        }
    }
}

/// Standard output.
#[derive(Debug)]
pub(crate) struct Stage {
    colours: bool,
}

impl Stage {
    /// Colours where people look on, and did not ask for none.
    pub(crate) fn new() -> Self {
        let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { colours }
    }

    /// A line. Nobody to read it is no reason to stop.
    pub(crate) fn line(&mut self, text: impl Display) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{text}");
        let _ = out.flush();
    }

    /// How far something is: on a terminal the line moves, elsewhere each is a line of its own.
    pub(crate) fn progress(&mut self, text: impl Display) {
        let mut out = std::io::stdout().lock();
        let _ = match self.colours {
            true => write!(out, "\r\x1b[2K{text}"),
            false => writeln!(out, "{text}"),
        };
        let _ = out.flush();
    }

    /// The line stays as it is.
    pub(crate) fn progress_done(&mut self) {
        if self.colours {
            self.line("");
        }
    }

    /// The beginning of an act.
    pub(crate) fn heading(&mut self, text: &str) {
        let rule = "─".repeat(WIDTH.saturating_sub(text.chars().count() + 4));
        let text = self.paint(Tone::Bold, text);
        let rule = self.paint(Tone::Dim, &rule);
        self.line(format_args!("\n── {text} {rule}\n"));
    }

    /// Something worth knowing between the edges.
    pub(crate) fn note(&mut self, text: impl Display) {
        let text = self.paint(Tone::Dim, &text.to_string());
        self.line(format_args!("  {text}"));
    }

    /// The text in a tone.
    pub(crate) fn paint(&self, tone: Tone, text: &str) -> String {
        if !self.colours || tone == Tone::Plain {
            return text.to_owned();
        }
        format!("{}{text}\x1b[0m", tone.code())
    }

    /// The text in a tone, filled up to so many columns.
    pub(crate) fn column(&self, tone: Tone, text: &str, width: usize) -> String {
        let fill = " ".repeat(width.saturating_sub(text.chars().count()));
        self.paint(tone, text) + &fill
    }
}
