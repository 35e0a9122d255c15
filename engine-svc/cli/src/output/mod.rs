//! What is found, as it was asked for.

mod json;
mod shown;

use std::io::Write;
use std::time::SystemTime;

use comfy_table::{ColumnConstraint, ContentArrangement, Table};

use crate::args::Format;
use crate::failure::Failure;

pub(crate) use json::Described;
pub(crate) use shown::{Shown, command_state, connection, kind_of, operation, task_state, waiting};

/// A value and what it is called.
#[derive(serde::Serialize)]
struct Named<'a, T> {
    name: &'a str,
    #[serde(flatten)]
    value: &'a T,
}

/// Where answers go. Answers go to standard output, and everything else to standard error.
#[derive(Debug)]
pub(crate) struct Output {
    format: Format,
}

impl Output {
    pub(crate) fn new(format: Format) -> Self {
        Self { format }
    }

    /// Whether people read it.
    pub(crate) fn is_for_people(&self) -> bool {
        matches!(self.format, Format::Table | Format::Wide)
    }

    /// A list as a table, or one item a line.
    pub(crate) fn list<T: Shown>(&self, items: &[T]) -> Result<(), Failure> {
        let is_wide = match self.format {
            Format::Table => false,
            Format::Wide => true,
            Format::Json | Format::Yaml | Format::Name => {
                return items.iter().try_for_each(|item| self.item(item));
            }
        };
        let now = SystemTime::now();
        let rows = items.iter().map(|item| item.row(is_wide, now));
        self.table(T::columns(is_wide), rows.collect())
    }

    /// One item, whole.
    pub(crate) fn one<T: Shown>(&self, item: &T) -> Result<(), Failure> {
        match self.format {
            Format::Table | Format::Wide => {
                let facts = item.facts(SystemTime::now());
                let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
                let mut out = anstream::stdout().lock();
                for (name, fact) in facts {
                    if !fact.is_empty() {
                        writeln!(out, "{:width$}  {}", format!("{name}:"), fact, width = width + 1)?;
                    }
                }
                Ok(())
            }
            Format::Json | Format::Yaml | Format::Name => self.item(item),
        }
    }

    /// One item of a list or a stream, for programs; for people, a line of columns.
    pub(crate) fn item<T: Shown>(&self, item: &T) -> Result<(), Failure> {
        // Made whole before any of it is written: what a program reads is whole or absent.
        let mut text = Vec::new();
        match self.format {
            Format::Json => {
                json::write(item, &mut serde_json::Serializer::new(&mut text))?;
                text.push(b'\n');
            }
            Format::Yaml => {
                text.extend_from_slice(b"---\n");
                json::write(item, &mut serde_yaml_ng::Serializer::new(&mut text))?;
            }
            Format::Name => writeln!(text, "{}", item.reference())?,
            Format::Table | Format::Wide => {
                writeln!(
                    text,
                    "{}",
                    item.row(self.format == Format::Wide, SystemTime::now())
                        .join("  ")
                )?;
            }
        }
        let mut out = std::io::stdout().lock();
        out.write_all(&text)?;
        out.flush()?;
        Ok(())
    }

    /// What is no message of the contract, by its name: a value of this program's own.
    pub(crate) fn record(&self, name: &str, value: &impl serde::Serialize) -> Result<(), Failure> {
        let local = |error: &dyn std::fmt::Display| Failure::Local(error.to_string());
        let named = Named { name, value };
        let text = match self.format {
            Format::Json => serde_json::to_string(&named).map_err(|error| local(&error))? + "\n",
            Format::Yaml | Format::Table | Format::Wide => {
                let text = serde_yaml_ng::to_string(&named).map_err(|error| local(&error))?;
                let mark = if self.format == Format::Yaml { "---\n" } else { "" };
                format!("{mark}{text}")
            }
            Format::Name => format!("{name}\n"),
        };
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        Ok(())
    }

    /// A table without lines, as wide as the terminal, or as what it holds where there is none.
    pub(crate) fn table(&self, columns: &[&str], rows: Vec<Vec<String>>) -> Result<(), Failure> {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header(columns.iter().copied());
        table.set_content_arrangement(ContentArrangement::Disabled);
        if let Some(width) = width() {
            table.set_content_arrangement(ContentArrangement::Dynamic);
            table.set_width(width);
        }
        table.add_rows(rows);
        for (number, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            // The first column says what to type next: it is never broken.
            if number == 0 {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
        let mut out = anstream::stdout().lock();
        for line in table.lines() {
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }

    /// A line for people; nothing where a program reads.
    pub(crate) fn say(&self, line: &str) -> Result<(), Failure> {
        if self.is_for_people() {
            writeln!(anstream::stdout().lock(), "{line}")?;
        }
        Ok(())
    }
}

/// How wide the terminal is, if standard output is one.
fn width() -> Option<u16> {
    console::Term::stdout().size_checked().map(|(_, columns)| columns)
}
