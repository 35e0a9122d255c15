//! What is counted while a service works.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use common::revision::Revision;
use proto::task::v1::history_range::Problem;
use tokio::time::Instant;

use super::histogram::{Histogram, SHORT, SIZES};
use crate::audit::Sink;
use crate::server::{Health, Traffic};

/// Who has no point yet up to which it was given everything.
const NOT_LIVE: u64 = u64::MAX;

type Certificates = Box<dyn Fn() -> Vec<(String, i64)> + Send + Sync>;
type Waiting = Box<dyn Fn() -> usize + Send + Sync>;

/// The counters of one service. Where nobody can ask for them, the clock is not read for them.
pub struct Meters {
    on: bool,
    /// See the table, as for all that follows.
    pub(super) input: Histogram,
    pub(super) commit: Histogram,
    pub(super) batch: Histogram,
    pub(super) delivery: Histogram,
    commits_failed: AtomicU64,
    revision: AtomicU64,
    points_refused: [AtomicU64; PROBLEMS.len()],
    pages: AtomicU64,
    ready: OnceLock<Arc<AtomicBool>>,
    plain_text: AtomicBool,
    certificates: OnceLock<Certificates>,
    traffic: OnceLock<Weak<Traffic>>,
    waiting: OnceLock<Waiting>,
    audit: OnceLock<Arc<Sink>>,
    cursors: Mutex<Cursors>,
}

/// Each problem, and how it is called in a label.
const PROBLEMS: [(Problem, &str); 6] = [
    (Problem::UnknownStore, "unknown_store"),
    (Problem::UnknownStart, "unknown_start"),
    (Problem::PastStart, "past_start"),
    (Problem::Future, "future"),
    (Problem::TooOld, "too_old"),
    (Problem::Damaged, "damaged"),
];

#[derive(Debug, Default)]
struct Cursors {
    next: u64,
    all: HashMap<u64, Arc<AtomicU64>>,
}

impl Meters {
    /// Of a service that is measured, or, where that is not `on`, is not.
    pub fn new(on: bool) -> Arc<Self> {
        Arc::new(Self {
            on,
            input: Histogram::new(SHORT),
            commit: Histogram::new(SHORT),
            batch: Histogram::new(SIZES),
            delivery: Histogram::new(SHORT),
            commits_failed: AtomicU64::new(0),
            revision: AtomicU64::new(0),
            points_refused: Default::default(),
            pages: AtomicU64::new(0),
            ready: OnceLock::new(),
            plain_text: AtomicBool::new(false),
            certificates: OnceLock::new(),
            traffic: OnceLock::new(),
            waiting: OnceLock::new(),
            audit: OnceLock::new(),
            cursors: Mutex::default(),
        })
    }

    /// Whether anybody can ask for them.
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// The time, for what is measured.
    pub(crate) fn now(&self) -> Option<Instant> {
        self.on.then(Instant::now)
    }

    /// Where it stands whether the service serves.
    pub fn set_health(&self, health: &Health) {
        // Only the first counts: there is one server.
        let _ = self.ready.set(health.serving());
    }

    /// It serves plain text where others than this machine can reach it.
    pub fn set_plain_text(&self) {
        self.plain_text.store(true, Ordering::Relaxed);
    }

    /// Where the certificates are asked about that it uses: each by a name of a few, with the seconds since 1970 at which it
    /// ends. Called at each page; it must not block.
    pub fn set_certificates(&self, certificates: impl Fn() -> Vec<(String, i64)> + Send + Sync + 'static) {
        // Only the first counts: there is one server.
        let _ = self.certificates.set(Box::new(certificates));
    }

    pub(crate) fn set_traffic(&self, traffic: &Arc<Traffic>) {
        // Only the first counts: there is one server.
        let _ = self.traffic.set(Arc::downgrade(traffic));
    }

    /// The audit log.
    pub(crate) fn set_audit(&self, audit: Arc<Sink>) {
        // Only the first counts: there is one file.
        let _ = self.audit.set(audit);
    }

    pub(super) fn audit(&self) -> Option<&Sink> {
        self.audit.get().map(|audit| &**audit)
    }

    /// How many inputs wait.
    pub(crate) fn set_waiting(&self, waiting: impl Fn() -> usize + Send + Sync + 'static) {
        // Only the first counts: there is one coordinator.
        let _ = self.waiting.set(Box::new(waiting));
    }

    /// A commit of so many revisions took from `begun` until now.
    pub(crate) fn committed(&self, begun: Option<Instant>, revisions: usize, is_done: bool) {
        if let Some(begun) = begun {
            self.commit.took(begun.elapsed());
            self.batch.observe(revisions as f64);
        }
        if !is_done {
            self.commits_failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Inputs that arrived then are durable now.
    pub(crate) fn are_durable(&self, arrivals: &[Instant], now: Option<Instant>) {
        if let Some(now) = now {
            for arrival in arrivals {
                self.input.took(now.saturating_duration_since(*arrival));
            }
        }
    }

    /// The last revision that is shown.
    pub(crate) fn reached(&self, revision: Revision) {
        self.revision.store(revision.0, Ordering::Relaxed);
    }

    /// A watch hands on what was committed then.
    pub(crate) fn delivers(&self, committed: Option<Instant>) {
        if let Some(committed) = committed.filter(|_| self.on) {
            self.delivery.took(committed.elapsed());
        }
    }

    pub(crate) fn point_refused(&self, problem: Problem) {
        let at = PROBLEMS.iter().position(|(known, _)| *known == problem);
        if let Some(count) = at.and_then(|at| self.points_refused.get(at)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn page_asked_for(&self) {
        self.pages.fetch_add(1, Ordering::Relaxed);
    }

    /// One more watch, which tells how far it is; none where nobody can ask.
    pub(crate) fn watch(self: &Arc<Self>) -> Option<Cursor> {
        if !self.on {
            return None;
        }
        let at = Arc::new(AtomicU64::new(NOT_LIVE));
        let mut cursors = self.cursors();
        cursors.next += 1;
        let number = cursors.next;
        cursors.all.insert(number, Arc::clone(&at));
        Some(Cursor {
            meters: Arc::clone(self),
            number,
            at,
        })
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready
            .get()
            .is_some_and(|ready| ready.load(Ordering::Relaxed))
    }

    pub(super) fn is_plain_text(&self) -> bool {
        self.plain_text.load(Ordering::Relaxed)
    }

    pub(super) fn certificates(&self) -> Vec<(String, i64)> {
        self.certificates.get().map_or_else(Vec::new, |all| all())
    }

    pub(super) fn traffic(&self) -> Option<Arc<Traffic>> {
        self.traffic.get()?.upgrade()
    }

    pub(super) fn inputs_waiting(&self) -> usize {
        self.waiting.get().map_or(0, |waiting| waiting())
    }

    pub(super) fn commits_failed(&self) -> u64 {
        self.commits_failed.load(Ordering::Relaxed)
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision.load(Ordering::Relaxed)
    }

    pub(super) fn points_refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self
            .points_refused
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        PROBLEMS.iter().map(|(_, name)| *name).zip(counts)
    }

    pub(super) fn pages(&self) -> u64 {
        self.pages.load(Ordering::Relaxed)
    }

    /// It looks at each watch: there are no more than may be (--max-watches).
    pub(super) fn watch_lag(&self) -> u64 {
        let cursors = self.cursors();
        let at = cursors.all.values().map(|at| at.load(Ordering::Relaxed));
        let last = at.filter(|at| *at != NOT_LIVE).min();
        drop(cursors);
        last.map_or(0, |last| self.revision().saturating_sub(last))
    }

    fn cursors(&self) -> MutexGuard<'_, Cursors> {
        self.cursors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Meters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meters")
            .field("on", &self.on)
            .finish_non_exhaustive()
    }
}

/// How far one watch is; forgotten when dropped.
#[derive(Debug)]
pub struct Cursor {
    meters: Arc<Meters>,
    number: u64,
    at: Arc<AtomicU64>,
}

impl Cursor {
    /// Everything up to this revision was handed on.
    pub(crate) fn is_at(&self, revision: Revision) {
        self.at.store(revision.0, Ordering::Relaxed);
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        self.meters.cursors().all.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lag_is_that_of_the_watch_furthest_behind_and_of_none_that_reads_its_snapshot() {
        let meters = Meters::new(true);
        meters.reached(Revision(10));
        assert_eq!(meters.watch_lag(), 0);
        let (first, second) = (meters.watch().unwrap(), meters.watch().unwrap());
        assert_eq!(meters.watch_lag(), 0);
        first.is_at(Revision(9));
        second.is_at(Revision(4));
        assert_eq!(meters.watch_lag(), 6);
        drop(second);
        assert_eq!(meters.watch_lag(), 1);
    }

    #[test]
    fn nothing_is_measured_where_nobody_asks() {
        let meters = Meters::new(false);
        assert!(meters.now().is_none() && meters.watch().is_none());
    }

    #[test]
    fn every_problem_of_a_point_is_counted_by_its_name() {
        let meters = Meters::new(true);
        let all = (1..100).filter_map(|number| Problem::try_from(number).ok());
        for problem in all.clone() {
            meters.point_refused(problem);
        }
        assert_eq!(
            meters.points_refused().map(|(_, count)| count).sum::<u64>(),
            all.count() as u64
        );
    }
}
