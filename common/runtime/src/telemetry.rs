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
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use self::line::Line;
use self::queue::Queue;

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
    #[error("the log filter {0:?} cannot be read; expected for example info or engine_svc=debug,info")]
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

/// Sets up logging for the process, of panics too. `filter` is a level, or a list as `target=level,level`.
///
/// # Errors
/// [`TelemetryError`] for a filter that cannot be read, without a thread, and at a second call.
pub fn init(format: LogFormat, filter: &str) -> Result<Logging, TelemetryError> {
    let filter =
        EnvFilter::try_new(filter).map_err(|error| TelemetryError::Filter(filter.to_owned(), error))?;
    let queue = Queue::default();
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer()
        // Those would be written to stderr directly.
        .log_internal_errors(false)
        .with_writer(Lines {
            queue: queue.clone(),
            format,
        });
    match format {
        LogFormat::Human => registry
            .with(
                layer
                    .with_ansi(io::stderr().is_terminal())
                    .fmt_fields(fields::human()),
            )
            .try_init()?,
        // Each span once: the list has the present one too.
        LogFormat::Json => registry
            .with(
                layer
                    .json()
                    .flatten_event(true)
                    .with_current_span(false)
                    .fmt_fields(JsonFields::new()),
            )
            .try_init()?,
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
    Ok(Logging { queue })
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
