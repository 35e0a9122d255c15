//! The ages of records, whatever the wall clock does: [`common::age`] with the clocks of this machine, and a record
//! in the store, table `clock`, the key `self` → `ClockRecord`.
//!
//! Recorded times come from here, together with what must be recorded besides ([`Ages::stamp`]; the coordinator calls
//! it for each input): so the store never has a time of which it does not know that the clock has shown it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::age::{AgeClock, Era, Jump, Kept, Present};
use common::revision::Revision;
use common::time::Timestamp;
use prost::Message as _;
use proto::store::v1::{ClockRecord, clock_record};
use store::{Commit, Store, StoreError, Table, Write};
use tokio::time::Instant;

use crate::clock;
use crate::coordinator::{Handle, Refusal};
use crate::machine::Machine;

const CLOCK: Table = Table("clock");
const KEY: &[u8] = b"self";

/// How often the wall clock is observed while nothing is recorded.
const LOOK: Duration = Duration::from_secs(10);

/// The ages of one service. Cheap to clone; all clones are one clock.
#[derive(Debug, Clone)]
pub struct Ages(Arc<Mutex<Inner>>);

/// A wall clock.
pub type WallClock = fn() -> Timestamp;

#[derive(Debug)]
struct Inner {
    wall: WallClock,
    clock: AgeClock,
    looked: Instant,
    /// What the store has.
    kept: Kept,
}

/// The present time, for records that are made now.
#[derive(Debug)]
pub struct Stamp {
    /// The time of the wall clock.
    pub time: Timestamp,
    /// To be recorded no later than the first record with that time.
    pub writes: Option<Write>,
}

/// The times of commits that become durable one after the other, or not at all. What the clock has shown is written
/// with the first of them, and not again while that one is under way.
#[derive(Debug, Clone)]
pub(crate) struct Stamps {
    ages: Ages,
    /// What is written in a commit of them.
    written: Option<Kept>,
}

/// What the store knows of the clock once a commit is durable.
#[derive(Debug)]
pub(crate) struct Due {
    kept: Kept,
}

impl Ages {
    /// For a service that never ran before. Ages greater than `window` must not be asked for.
    pub fn begin(window: Duration) -> Self {
        Self::over(AgeClock::begin(window, clock::now()), Kept::default(), clock::now)
    }

    /// For the service of this store, before anything else is recorded in this start. Logs a jump of the clock since
    /// the last start.
    ///
    /// # Errors
    /// [`StoreError`] if what earlier starts kept cannot be read, or not be added to.
    pub fn open(store: &dyn Store, window: Duration) -> Result<Self, StoreError> {
        Self::open_by(clock::now, store, window)
    }

    /// As [`Ages::open`], by another clock than the machine's: for tests.
    ///
    /// # Errors
    /// As [`Ages::open`].
    pub fn open_by(wall: WallClock, store: &dyn Store, window: Duration) -> Result<Self, StoreError> {
        let reader = store.reader()?;
        let kept = reader.get(CLOCK, KEY)?.map(|bytes| decode(&bytes)).transpose()?;
        let resumed = kept.clone().and_then(|kept| AgeClock::resume(window, kept));
        let clock = match resumed {
            Some(clock) => clock,
            // An earlier build kept nothing. Its last record is the last time that is known.
            None => AgeClock::begin(
                window,
                last_record(store, reader.revision())?.unwrap_or_else(wall),
            ),
        };
        let is_new = kept.is_none();
        let ages = Self::over(clock, kept.unwrap_or_default(), wall);
        let mut inner = ages.inner();
        let time = inner.look();
        if !is_new && inner.clock.is_due(&inner.kept) {
            let kept = inner.clock.kept();
            let commit = Commit {
                revision: reader.revision().next(),
                time,
                history: Vec::new(),
                writes: vec![write(&kept)],
            };
            store.commit([commit].into())?;
            inner.kept = kept;
        }
        drop(inner);
        Ok(ages)
    }

    fn over(clock: AgeClock, kept: Kept, wall: WallClock) -> Self {
        let inner = Inner {
            wall,
            clock,
            looked: Instant::now(),
            kept,
        };
        Self(Arc::new(Mutex::new(inner)))
    }

    /// The present, from which ages are computed.
    pub fn present(&self) -> Present {
        let mut inner = self.inner();
        inner.look();
        inner.clock.present()
    }

    /// The time for a commit that is made before there is a coordinator, which gives all others theirs.
    pub fn stamp(&self) -> Stamp {
        let (time, due) = Stamps::of(self.clone()).next();
        Stamp {
            time,
            writes: due.map(|due| due.write()),
        }
    }

    /// Keeps what the clocks show while nothing is recorded, until the service stops.
    pub async fn keep<M: Machine>(self, coordinator: Handle<M>) {
        loop {
            let is_due = {
                let mut inner = self.inner();
                inner.look();
                inner.clock.is_due(&inner.kept)
            };
            if is_due {
                match coordinator.keep_clock().await {
                    // If not, at the next look.
                    Ok(()) | Err(Refusal::StoreUnavailable | Refusal::StoreLost(_)) => {}
                    Err(Refusal::Stopping) => return,
                }
            }
            tokio::select! {
                biased;
                () = tokio::time::sleep(LOOK) => {}
                // Released at once: whoever stopped the service may want to reopen the store.
                () = coordinator.ended() => return,
            }
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stamps {
    /// Of what is committed from now on, after what the store has.
    pub(crate) fn of(ages: Ages) -> Self {
        Self { ages, written: None }
    }

    /// The present time, and what must be in the first commit from this one on, where it is time for that.
    pub(crate) fn next(&mut self) -> (Timestamp, Option<Due>) {
        let mut inner = self.ages.inner();
        let time = inner.look();
        let is_due = inner.clock.is_due(self.written.as_ref().unwrap_or(&inner.kept));
        let due = is_due.then(|| Due {
            kept: inner.clock.kept(),
        });
        (time, due)
    }

    /// It is in one of the commits.
    pub(crate) fn write(&mut self, due: &Due) -> Write {
        self.written = Some(due.kept.clone());
        due.write()
    }

    /// The commit that it is in is durable.
    pub(crate) fn is_kept(&self, due: Due) {
        self.ages.inner().kept = due.kept;
    }
}

impl Due {
    fn write(&self) -> Write {
        write(&self.kept)
    }
}

impl Inner {
    /// What the wall clock shows, which the ages know from then on.
    fn look(&mut self) -> Timestamp {
        let now = Instant::now();
        let elapsed = now.saturating_duration_since(self.looked);
        self.looked = self.looked.max(now);
        let wall = (self.wall)();
        if let Some(jump) = self.clock.look(wall, elapsed) {
            tell(jump);
        }
        wall
    }
}

fn tell(jump: Jump) {
    let seconds = jump.micros / 1_000_000;
    if seconds > 0 {
        tracing::warn!(
            seconds,
            "the clock jumped ahead, or the service was stopped for that long: nothing expires because of it; until the retention period has passed, ages count only the time that the service runs"
        );
    } else {
        tracing::warn!(
            seconds,
            "the clock was set back: nothing expires early and nothing is kept longer because of it; ages count the time that the service runs"
        );
    }
}

/// When the newest revision was recorded; none if there is none.
fn last_record(store: &dyn Store, revision: Revision) -> Result<Option<Timestamp>, StoreError> {
    let before = Revision(revision.0.saturating_sub(1));
    Ok(store.history(before, 1)?.first().map(|last| last.time))
}

fn write(kept: &Kept) -> Write {
    let record = ClockRecord {
        running_micros: kept.running,
        eras: kept
            .eras
            .iter()
            .map(|era| clock_record::Era {
                begin_micros: era.begin,
                last_micros: era.last,
                least_micros: era.least,
                most_micros: era.most,
            })
            .collect(),
    };
    Write {
        table: CLOCK,
        key: KEY.to_vec(),
        value: Some(record.encode_to_vec()),
    }
}

fn decode(bytes: &[u8]) -> Result<Kept, StoreError> {
    let record = ClockRecord::decode(bytes);
    let record = record.map_err(|error| StoreError::Damaged(format!("the record of the clock: {error}")))?;
    let eras = record.eras.into_iter().map(|era| Era {
        begin: era.begin_micros,
        last: era.last_micros,
        least: era.least_micros,
        most: era.most_micros,
    });
    Ok(Kept {
        running: record.running_micros,
        eras: eras.collect(),
    })
}

#[cfg(test)]
mod tests {
    use doubles::memory::MemoryStore;

    use super::*;

    const WEEK: Duration = Duration::from_secs(7 * 24 * 3_600);

    fn commit(store: &dyn Store, time: Timestamp, writes: Vec<Write>) {
        let revision = store.reader().unwrap().revision().next();
        let commit = Commit {
            revision,
            time,
            history: Vec::new(),
            writes,
        };
        store.commit([commit].into()).unwrap();
    }

    /// The machine's clock is 40 days ahead of when the store was last written, as after the loss of a clock's battery.
    #[test]
    fn a_store_that_kept_no_clock_is_as_old_as_its_last_record() {
        let store = MemoryStore::new();
        let then = clock::now().plus_seconds(-40 * 24 * 3_600);
        commit(&*store, then, Vec::new());
        let ages = Ages::open(&*store, WEEK).unwrap();
        assert!(!ages.present().is_older(then, WEEK));
        assert!(!ages.present().is_older(clock::now(), WEEK));
        assert!(ages.present().is_older(then.plus_seconds(-8 * 24 * 3_600), WEEK));
    }

    #[test]
    fn what_a_start_sees_of_the_clock_is_kept_before_anything_else() {
        for days in [-7_300, -40, 40, 7_300] {
            let store = MemoryStore::new();
            // Where the clock was, seen from the present start.
            let before = clock::now().plus_seconds(-days * 24 * 3_600);
            commit(
                &*store,
                before,
                vec![write(&AgeClock::begin(WEEK, before).kept())],
            );
            let ages = Ages::open(&*store, WEEK).unwrap();
            assert_eq!(store.reader().unwrap().revision(), Revision(2), "{days}");
            let again = Ages::open(&*store, WEEK).unwrap();
            assert_eq!(store.reader().unwrap().revision(), Revision(2), "nothing new");
            for ages in [ages, again] {
                for time in [before, clock::now()] {
                    assert!(!ages.present().is_older(time, WEEK), "{days} {time:?}");
                }
            }
        }
    }
}
