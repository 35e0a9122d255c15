//! One page of metrics, in the text format 0.0.4.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::histogram::Histogram;
use super::table::{Kind, Metric};

/// A page in the making. Samples of one metric stand together, whoever puts them in and in whichever order.
#[derive(Debug, Default)]
pub struct Page {
    families: BTreeMap<&'static str, Family>,
}

#[derive(Debug)]
struct Family {
    metric: Metric,
    samples: String,
}

impl Page {
    /// A sample of a counter or a gauge. As many label values as the metric has labels; what is too few is empty.
    pub fn put(&mut self, metric: &Metric, labels: &[&str], value: f64) {
        debug_assert_eq!(metric.labels.len(), labels.len(), "{}", metric.name);
        debug_assert_ne!(metric.kind, Kind::Histogram, "{}", metric.name);
        let samples = self.family(metric);
        sample(samples, metric.name, "", metric.labels, labels, None, value);
    }

    /// As [`Page::put`], of a number of things.
    pub fn count(&mut self, metric: &Metric, labels: &[&str], value: impl TryInto<u64>) {
        // Beyond 2^53 the last digits are lost, and nobody misses them.
        let value = value.try_into().unwrap_or(u64::MAX);
        self.put(metric, labels, value as f64);
    }

    /// As [`Page::put`], 1 for true.
    pub fn flag(&mut self, metric: &Metric, labels: &[&str], value: bool) {
        self.put(metric, labels, f64::from(u8::from(value)));
    }

    /// All samples of a histogram.
    pub fn histogram(&mut self, metric: &Metric, labels: &[&str], histogram: &Histogram) {
        debug_assert_eq!(metric.labels.len(), labels.len(), "{}", metric.name);
        debug_assert_eq!(metric.kind, Kind::Histogram, "{}", metric.name);
        let (buckets, sum) = histogram.read();
        let samples = self.family(metric);
        let mut all = 0;
        let ends = histogram.bounds().iter().map(|bound| bound.to_string());
        for (count, end) in buckets.iter().zip(ends.chain(["+Inf".to_owned()])) {
            all += count;
            sample(
                samples,
                metric.name,
                "_bucket",
                metric.labels,
                labels,
                Some(&end),
                all as f64,
            );
        }
        sample(samples, metric.name, "_sum", metric.labels, labels, None, sum);
        sample(
            samples,
            metric.name,
            "_count",
            metric.labels,
            labels,
            None,
            all as f64,
        );
    }

    /// The page as it is sent.
    pub fn into_text(self) -> String {
        let mut text = String::new();
        for Family { metric, samples } in self.families.values() {
            let (name, kind) = (metric.name, metric.kind.name());
            // Nothing fails that writes to memory.
            let _ = write!(
                text,
                "# HELP {name} {}\n# TYPE {name} {kind}\n{samples}",
                metric.help.replace('\\', "\\\\")
            );
        }
        text
    }

    fn family(&mut self, metric: &Metric) -> &mut String {
        let family = self.families.entry(metric.name).or_insert_with(|| Family {
            metric: *metric,
            samples: String::new(),
        });
        &mut family.samples
    }
}

fn sample(
    text: &mut String,
    name: &str,
    suffix: &str,
    labels: &[&str],
    values: &[&str],
    end: Option<&str>,
    value: f64,
) {
    text.push_str(name);
    text.push_str(suffix);
    let pairs = labels
        .iter()
        .zip(values)
        .chain(end.iter().map(|end| (&"le", end)));
    let mut open = '{';
    for (label, value) in pairs {
        text.push(open);
        text.push_str(label);
        text.push_str("=\"");
        for symbol in value.chars() {
            match symbol {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                symbol => text.push(symbol),
            }
        }
        text.push('"');
        open = ',';
    }
    if open == ',' {
        text.push('}');
    }
    // Nothing fails that writes to memory.
    let _ = writeln!(text, " {value}");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::histogram::SHORT;
    use super::*;

    const THINGS: Metric = Metric {
        name: "a_things",
        kind: Kind::Gauge,
        labels: &["kind", "name"],
        help: "Things.",
    };

    const WAITS: Metric = Metric {
        name: "a_wait_seconds",
        kind: Kind::Histogram,
        labels: &[],
        help: "Waits.",
    };

    #[test]
    fn samples_of_one_metric_stand_together_and_labels_are_escaped() {
        let mut page = Page::default();
        page.count(&THINGS, &["a", "x\\\"\n"], 3_u32);
        page.histogram(&WAITS, &[], &Histogram::new(&[0.5, 1.0]));
        page.put(&THINGS, &["b", ""], 0.25);
        assert_eq!(
            page.into_text(),
            "# HELP a_things Things.\n# TYPE a_things gauge\na_things{kind=\"a\",name=\"x\\\\\\\"\\n\"} 3\n\
             a_things{kind=\"b\",name=\"\"} 0.25\n# HELP a_wait_seconds Waits.\n# TYPE a_wait_seconds histogram\n\
             a_wait_seconds_bucket{le=\"0.5\"} 0\na_wait_seconds_bucket{le=\"1\"} 0\na_wait_seconds_bucket{le=\"+Inf\"} 0\n\
             a_wait_seconds_sum 0\na_wait_seconds_count 0\n"
        );
    }

    #[test]
    fn buckets_count_up_and_a_bound_belongs_to_its_bucket() {
        let histogram = Histogram::new(SHORT);
        for millis in [0, 1, 10, 60_000] {
            histogram.took(Duration::from_millis(millis));
        }
        let mut page = Page::default();
        page.histogram(&WAITS, &[], &histogram);
        let text = page.into_text();
        for line in [
            "a_wait_seconds_bucket{le=\"0.0005\"} 1",
            "a_wait_seconds_bucket{le=\"0.001\"} 2",
            "a_wait_seconds_bucket{le=\"0.01\"} 3",
            "a_wait_seconds_bucket{le=\"+Inf\"} 4",
            "a_wait_seconds_sum 60.011",
            "a_wait_seconds_count 4",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is not in\n{text}"
            );
        }
    }
}
