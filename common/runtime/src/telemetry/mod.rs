//! Logs, to stderr: stdout belongs to what a program prints for its user.
//!
//! A line is one line, whatever is in it: names and messages that others have made can neither forge a second one nor steer
//! the terminal of whoever reads them (`fields`).
//!
//! What is logged must never stop what serves: a pipe that nobody reads, or a terminal that is held, blocks whoever writes
//! to it. So a line is queued, and one thread of its own writes what is queued. The queue is bounded; what does not fit
//! is dropped, counted, and said in its place. Once [`init`] was called, nothing else may write to stderr.

mod fields;
mod line;
mod queue;
mod writer;

use std::io::{self, IsTerminal as _};
use std::sync::OnceLock;
use std::time::Duration;

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use self::line::Line;
use self::queue::Queue;

pub(crate) use line::escaped;

/// How long the end of the process waits for the last lines to be written: a reader that lives takes them in
/// milliseconds.
const LAST_LINES: Duration = Duration::from_secs(1);

/// What a log line looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter cannot be read.
    #[error("the log filter {0:?} is invalid; expected for example info or engine_svc=debug,info")]
    Filter(String, #[source] tracing_subscriber::filter::ParseError),
    /// It was set up before.
    #[error("logging is set up already")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
    /// There is no thread to write.
    #[error("there is no thread to write the log")]
    Thread(#[source] io::Error),
}

/// The process's log. Dropped at the end of the process, it waits a second at most for the last lines to be written.
#[derive(Debug)]
#[must_use = "the last lines are lost without it"]
pub struct Logging {
    queue: Queue,
}

impl Drop for Logging {
    fn drop(&mut self) {
        self.queue.flush(LAST_LINES);
    }
}

/// The log of this process, of which there is one.
static LOG: OnceLock<Queue> = OnceLock::new();

/// How many lines were dropped since the process was started.
pub(crate) fn lost_lines() -> u64 {
    LOG.get().map_or(0, Queue::lost)
}

/// Sets up logging for the process, of panics too. `filter` is a level, or a list as `target=level,level`.
///
/// # Errors
/// [`TelemetryError`] for a filter that cannot be read, without a thread, and at a second call.
pub fn init(format: LogFormat, filter: &str) -> Result<Logging, TelemetryError> {
    let filter =
        EnvFilter::try_new(filter).map_err(|error| TelemetryError::Filter(filter.to_owned(), error))?;
    let queue = Queue::default();
    let registry = tracing_subscriber::registry().with(filter);
    let lines = Lines {
        queue: queue.clone(),
        format,
    };
    match format {
        LogFormat::Human => registry
            .with(
                layer()
                    .with_writer(lines)
                    .with_ansi(io::stderr().is_terminal())
                    .fmt_fields(fields::human()),
            )
            .try_init()?,
        LogFormat::Json => registry.with(json(lines)).try_init()?,
    }
    let writing = queue.clone();
    std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || {
            writer::run(&writing, rustix::stdio::stderr(), |lines| {
                Line::gap(format, lines)
            })
        })
        .map_err(TelemetryError::Thread)?;
    let panics = queue.clone();
    std::panic::set_hook(Box::new(move |info| {
        panics.push(Line::panic(format, info).into_bytes())
    }));
    Ok(Logging {
        queue: LOG.get_or_init(|| queue).clone(),
    })
}

/// What lines are made of, whatever their form.
fn layer<S>() -> tracing_subscriber::fmt::Layer<S> {
    // Those would be written to stderr directly.
    tracing_subscriber::fmt::layer().log_internal_errors(false)
}

/// Lines of JSON: each span once, for the list has the present one too.
fn json<S, W>(lines: W) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    layer()
        .with_writer(lines)
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .fmt_fields(JsonFields::new())
}

/// Where tracing writes its lines.
#[derive(Debug)]
struct Lines {
    queue: Queue,
    format: LogFormat,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Queued<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        Queued(self)
    }
}

/// Queues whatever is written at once as one line: tracing writes each event at once.
#[derive(Debug)]
struct Queued<'a>(&'a Lines);

impl io::Write for Queued<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let kept = match self.0.format {
            LogFormat::Human => line.to_vec(),
            LogFormat::Json => fields::json(line),
        };
        self.0.queue.push(kept);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

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

    impl MakeWriter<'_> for Kept {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn a_line_of_json_tells_each_span_once() {
        let kept = Kept::default();
        let subscriber = tracing_subscriber::registry().with(json(kept.clone()));
        tracing::subscriber::with_default(subscriber, || {
            let _outer = tracing::info_span!("outermost").entered();
            let _inner = tracing::info_span!("innermost", id = 7).entered();
            tracing::info!("it happened");
        });
        let line = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        for word in ["outermost", "innermost", "it happened"] {
            assert_eq!(line.matches(word).count(), 1, "{word}: {line}");
        }
    }
}
