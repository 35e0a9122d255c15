//! What a service does at a signal: one table. A signal that no one has an answer for ends a process at once, in the
//! middle of whatever it does; here each that people, supervisors and limits send has one.

use std::future::{Future, poll_fn};
use std::ops::RangeInclusive;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustix::process::Signal as Number;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal means.
#[derive(Debug, Clone, Copy)]
enum Meaning {
    /// The service ends in order.
    Stop,
    /// The service goes on, and says why.
    GoOn(&'static str),
}

/// A limit's signal comes with each write that meets it: it is told this often.
const TOLD_AGAIN: Duration = Duration::from_secs(10);

const NOTHING: &str = "the service ignores it and continues";

/// Those that may come. Programs that are started get none of this: for them each means what it always does.
const SIGNALS: [(Number, &str, Meaning); 14] = [
    (Number::TERM, "SIGTERM", Meaning::Stop),
    (Number::INT, "SIGINT", Meaning::Stop),
    (Number::QUIT, "SIGQUIT", Meaning::Stop),
    (Number::POWER, "SIGPWR", Meaning::Stop),
    (
        Number::HUP,
        "SIGHUP",
        Meaning::GoOn(
            "the certificates, if any, are read again; the settings and the log filter are read only at startup: restart the service to change them",
        ),
    ),
    (
        Number::XFSZ,
        "SIGXFSZ",
        Meaning::GoOn(
            "a write failed because it would exceed the file size limit of this process; the service continues; raise the limit (ulimit -f, LimitFSIZE)",
        ),
    ),
    (
        Number::XCPU,
        "SIGXCPU",
        Meaning::GoOn(
            "this process has used up its CPU time: at the hard limit the system kills it; raise the limit (ulimit -t, LimitCPU)",
        ),
    ),
    (Number::USR1, "SIGUSR1", Meaning::GoOn(NOTHING)),
    (Number::USR2, "SIGUSR2", Meaning::GoOn(NOTHING)),
    (Number::ALARM, "SIGALRM", Meaning::GoOn(NOTHING)),
    (Number::VTALARM, "SIGVTALRM", Meaning::GoOn(NOTHING)),
    (Number::PROF, "SIGPROF", Meaning::GoOn(NOTHING)),
    (Number::IO, "SIGIO", Meaning::GoOn(NOTHING)),
    (Number::STKFLT, "SIGSTKFLT", Meaning::GoOn(NOTHING)),
];

/// The real-time signals, without the first two: those are the C library's own.
const REAL_TIME: RangeInclusive<i32> = 34..=64;

/// Every signal that has an answer: its number, its name and its meaning.
fn all() -> impl Iterator<Item = (i32, String, Meaning)> {
    let named = SIGNALS.into_iter();
    let named = named.map(|(number, name, meaning)| (number.as_raw(), name.to_owned(), meaning));
    let real_time = REAL_TIME.map(|number| (number, format!("signal {number}"), Meaning::GoOn(NOTHING)));
    named.chain(real_time)
}

/// A signal that is caught.
struct Caught {
    signal: Signal,
    name: String,
    meaning: Meaning,
    told: Option<Instant>,
}

/// Catches all signals that have an answer, from this call on and for as long as the process lives; completes at the first
/// that ends the service. Within a tokio runtime.
pub fn termination() -> impl Future<Output = ()> {
    let mut caught: Vec<_> = all().filter_map(Caught::catch).collect();
    poll_fn(move |context| {
        // All of them are asked, so that each wakes this.
        let mut stops = false;
        for signal in &mut caught {
            stops |= signal.stops(context);
        }
        if stops { Poll::Ready(()) } else { Poll::Pending }
    })
}

impl Caught {
    fn catch((number, name, meaning): (i32, String, Meaning)) -> Option<Self> {
        match signal(SignalKind::from_raw(number)) {
            Ok(signal) => Some(Self {
                signal,
                name,
                meaning,
                told: None,
            }),
            Err(error) => {
                tracing::error!(%error, "{name} cannot be caught and will end the process at once");
                None
            }
        }
    }

    /// Takes what came of it, and tells; says whether it ends the service.
    fn stops(&mut self, context: &mut Context<'_>) -> bool {
        let mut stops = false;
        while let Poll::Ready(Some(())) = self.signal.poll_recv(context) {
            match self.meaning {
                Meaning::Stop => {
                    tracing::info!("{}: stopping", self.name);
                    stops = true;
                }
                Meaning::GoOn(what) => self.tell(what),
            }
        }
        stops
    }

    fn tell(&mut self, what: &str) {
        if self.told.is_none_or(|told| told.elapsed() > TOLD_AGAIN) {
            self.told = Some(Instant::now());
            tracing::warn!("{}: {what}", self.name);
        }
    }
}
