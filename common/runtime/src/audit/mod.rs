//! The audit log (docs/adr/0023): who asked for which change, from where, and with which outcome. Each call that changes
//! something gets an entry, and each call that is refused because the caller is not permitted.
//!
//! The server makes the entry where it looks up the path of a call, so no RPC can be forgotten: the RPC's row in
//! [`proto::codes`] decides. The entry is queued when the call has ended, and nobody waits for the disk: a full queue
//! counts what it loses.

mod entry;
mod file;
mod open;
mod settings;
mod sink;
mod trail;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::metrics::Meters;

pub use self::entry::{Entry, Outcome};
pub use self::open::{Noted, note};
pub(crate) use self::open::{Open, within};
pub use self::settings::{AuditError, AuditFile, AuditSettings};
pub(crate) use self::sink::Sink;
pub use self::trail::{Line, Piece, Trail};

/// The maximum number of refusals that get a line of their own at once: enough to see who it is. A client can be refused
/// as often as the machine answers, and each line pushes out an older one at the next rotation; further refusals are
/// counted.
const REFUSALS_AT_ONCE: u32 = 50;

/// After that, one more refusal gets a line per this time: with the default settings a flood needs days to push out what
/// was done.
const REFUSAL_EVERY: Duration = Duration::from_millis(100);

/// Takes entries to their file. Cheap to clone; all clones share their state.
#[derive(Debug, Clone, Default)]
pub struct Audit(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    sink: Arc<Sink>,
    /// For clients without a certificate, and for others: a stranger must not hide what a user tries.
    strangers: Mutex<Allowance>,
    callers: Mutex<Allowance>,
}

/// How many more refusals get a line.
#[derive(Debug)]
struct Allowance {
    since: Instant,
    left: u32,
}

impl Audit {
    /// Keeps entries in this file, and shows how that goes on the page of metrics; without a file, keeps none.
    pub fn into_file(file: Option<&AuditFile>, meters: &Meters) -> Self {
        let Some(file) = file else { return Self(None) };
        meters.set_audit(file.sink());
        Self::into_sink(file.sink())
    }

    fn into_sink(sink: Arc<Sink>) -> Self {
        let full = || Mutex::new(Allowance::full());
        let (strangers, callers) = (full(), full());
        Self(Some(Arc::new(Inner {
            sink,
            strangers,
            callers,
        })))
    }

    /// Whether entries are kept.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// A client was refused in the handshake because of its certificate.
    pub(crate) fn turn_away(&self, peer: Option<IpAddr>, what: &str) {
        if self.is_on() {
            self.enter(Entry::turned_away(peer, what));
        }
    }

    fn enter(&self, entry: Entry) {
        let Some(inner) = &self.0 else { return };
        let allowance = match entry.rpc.as_str() {
            "" => &inner.strangers,
            _ => &inner.callers,
        };
        let allows = || allowance.lock().unwrap_or_else(PoisonError::into_inner).take();
        if entry.outcome == Outcome::Refused && !allows() {
            inner.sink.leave_out();
            return;
        }
        inner.sink.push(entry);
    }
}

impl Allowance {
    fn full() -> Self {
        Self {
            since: Instant::now(),
            left: REFUSALS_AT_ONCE,
        }
    }

    fn take(&mut self) -> bool {
        let earned = self.since.elapsed().as_millis() / REFUSAL_EVERY.as_millis();
        let earned = u32::try_from(earned).unwrap_or(u32::MAX).min(REFUSALS_AT_ONCE);
        if earned > 0 {
            self.left = (self.left + earned).min(REFUSALS_AT_ONCE);
            self.since = Instant::now();
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

#[cfg(test)]
mod tests;
