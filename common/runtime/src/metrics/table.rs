//! The tables of metrics, and the page of documentation that is made of them.

use std::fmt::Write as _;

/// How a metric's value moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It rises, and begins again at 0 with each start of the service.
    Counter,
    /// It is what it is now.
    Gauge,
    /// Observations, counted by their size.
    Histogram,
}

impl Kind {
    /// As the text format calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric: a row of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// By Prometheus' rules: base units, `_total` for counters.
    pub name: &'static str,
    /// How its value moves.
    pub kind: Kind,
    /// The names of its labels. Their values are bounded: those of an enum, or one for each host or domain.
    pub labels: &'static [&'static str],
    /// What it means.
    pub help: &'static str,
}

impl Metric {
    /// In what it is measured, by the end of its name.
    pub fn unit(&self) -> &'static str {
        let name = self.name.strip_suffix("_total").unwrap_or(self.name);
        if name.ends_with("_timestamp_seconds") {
            return "seconds since 1970";
        }
        ["seconds", "bytes", "ratio"]
            .into_iter()
            .find(|unit| name.ends_with(&format!("_{unit}")))
            .unwrap_or("")
    }
}

/// Makes a table, `TABLE`, and a constant for each of its rows.
#[macro_export]
macro_rules! metrics {
    ($($name:ident: $kind:ident $text:literal [$($label:ident),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub(crate) const $name: $crate::metrics::Metric = $crate::metrics::Metric {
                name: $text,
                kind: $crate::metrics::Kind::$kind,
                labels: &[$(stringify!($label)),*],
                help: $help,
            };
        )*

        /// All of them: what the documentation is held against.
        #[cfg(test)]
        pub(crate) const TABLE: &[$crate::metrics::Metric] = &[$($name),*];
    };
}

/// A section of docs/metrics.md.
fn document(title: &str, table: &[Metric]) -> String {
    let mut text =
        format!("## {title}\n\n| name | type | unit | labels | meaning |\n|---|---|---|---|---|\n");
    for metric in table {
        let labels: Vec<_> = (metric.labels.iter()).map(|label| format!("`{label}`")).collect();
        // Nothing fails that writes to memory.
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} | {} |",
            metric.name,
            metric.kind.name(),
            metric.unit(),
            labels.join(", "),
            metric.help
        );
    }
    text
}

/// That a table keeps the rules for names, and stands in docs/metrics.md, whose `text` is given: for tests.
///
/// # Panics
/// Where it does not, with what would be right.
pub fn is_documented(title: &str, table: &[Metric], text: &str) {
    keeps_the_rules(table);
    let section = document(title, table);
    assert!(
        text.contains(&section),
        "docs/metrics.md is to have this section:\n\n{section}"
    );
}

fn keeps_the_rules(table: &[Metric]) {
    for (index, metric) in table.iter().enumerate() {
        let Metric {
            name,
            kind,
            labels,
            help,
        } = metric;
        let plain = |text: &str| {
            text.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit())
        };
        assert!(plain(name), "{name}");
        assert!(
            labels
                .iter()
                .all(|label| plain(label) && !label.starts_with("__")),
            "{name}"
        );
        assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
        for reserved in ["_count", "_sum", "_bucket"] {
            assert!(!name.ends_with(reserved), "{name}");
        }
        assert!(
            help.ends_with('.') && !help.contains(['\n', '|']),
            "{name}: {help}"
        );
        assert!(
            !table[..index].iter().any(|other| other.name == *name),
            "{name} is there twice"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_off_the_names() {
        let unit = |name| {
            Metric {
                name,
                kind: Kind::Gauge,
                labels: &[],
                help: "",
            }
            .unit()
        };
        assert_eq!(unit("a_seconds_total"), "seconds");
        assert_eq!(unit("a_bytes"), "bytes");
        assert_eq!(unit("a_timestamp_seconds"), "seconds since 1970");
        assert_eq!(unit("a_total"), "");
    }
}
