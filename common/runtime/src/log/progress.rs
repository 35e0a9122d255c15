//! The newest progress sample of each running task. Never durable, and samples may be skipped. Only unfinished tasks
//! have progress: a task's sample is removed before anybody sees the task's end, and none comes after.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::id::TaskId;
use proto::convert;
use proto::task::v1 as wire;

use super::pace::Pace;
use super::waiters::Waiters;

/// The number of tasks with samples; far more than run at a time. The sample that is the oldest is dropped first.
const MAX_TASKS: usize = 10_000;

/// One sample a task, the newest; each later than the readers' last look by its number.
#[derive(Debug, Default)]
pub struct LatestProgress {
    inner: Mutex<Inner>,
    waiters: Arc<Waiters>,
}

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    /// How many samples differ from the one before.
    moves: u64,
    /// Each sample with its number.
    by_task: HashMap<TaskId, (u64, Sample)>,
    by_number: BTreeMap<u64, TaskId>,
    /// The tasks whose samples may be relayed: those that are recorded and have not ended.
    living: HashSet<TaskId>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    done_bytes: u64,
    total_bytes: u64,
    rate_bytes_per_second: u64,
    time_left: Option<Duration>,
    /// None if the other service measured the rate.
    pace: Option<Pace>,
    /// When a byte moved last.
    moved: Instant,
}

impl LatestProgress {
    /// Reports the progress of a task of this process; a `total_bytes` of 0 means that it is unknown. The rate and
    /// the remaining time are measured here.
    pub fn report(&self, task_id: TaskId, done_bytes: u64, total_bytes: u64) {
        let now = Instant::now();
        self.put(task_id, |_, old| {
            let before = old.and_then(|old| old.pace);
            let pace = before.map_or_else(
                || Pace::begin(done_bytes, now),
                |before| before.after(done_bytes, now),
            );
            Some(Sample {
                done_bytes,
                total_bytes,
                rate_bytes_per_second: pace.rate_bytes_per_second(),
                time_left: match total_bytes {
                    0 => None,
                    total => pace.time_for(total.saturating_sub(done_bytes)),
                },
                pace: Some(pace),
                moved: now,
            })
        });
    }

    /// A sample that another service measured. One of a task that is not recorded, or over, is dropped: it may be
    /// late.
    pub fn relay(&self, task_id: TaskId, sample: &wire::Progress) {
        let now = Instant::now();
        let bytes = |count: i64| u64::try_from(count).unwrap_or(0);
        self.put(task_id, |inner, _| {
            inner.living.contains(&task_id).then(|| Sample {
                done_bytes: bytes(sample.done_bytes),
                total_bytes: bytes(sample.total_bytes),
                rate_bytes_per_second: bytes(sample.rate_bytes_per_second),
                time_left: sample.time_left.as_ref().and_then(convert::from_duration),
                pace: None,
                moved: now,
            })
        });
    }

    /// Stores the next sample of a task, if there is one, with the next number.
    fn put(&self, task_id: TaskId, next: impl FnOnce(&Inner, Option<&Sample>) -> Option<Sample>) {
        let mut inner = self.lock();
        let old = inner.by_task.get(&task_id).copied();
        let Some(mut sample) = next(&inner, old.as_ref().map(|(_, sample)| sample)) else {
            return;
        };
        match old
            .as_ref()
            .filter(|(_, old)| old.done_bytes == sample.done_bytes)
        {
            Some((_, old)) => sample.moved = old.moved,
            None => inner.moves += 1,
        }
        inner.last += 1;
        let number = inner.last;
        inner.by_task.insert(task_id, (number, sample));
        if let Some((old, _)) = old {
            inner.by_number.remove(&old);
        }
        inner.by_number.insert(number, task_id);
        if inner.by_task.len() > MAX_TASKS
            && let Some((_, oldest)) = inner.by_number.pop_first()
        {
            inner.by_task.remove(&oldest);
        }
        drop(inner);
        self.waiters.wake_all();
    }

    /// The task is recorded: its samples may be relayed until it is over.
    pub fn begin(&self, task_id: TaskId) {
        self.lock().living.insert(task_id);
    }

    /// The task has ended: to be called before anybody can see that.
    pub fn forget(&self, task_id: TaskId) {
        let mut inner = self.lock();
        inner.living.remove(&task_id);
        if let Some((old, _)) = inner.by_task.remove(&task_id) {
            inner.by_number.remove(&old);
        }
    }

    /// Forgets every task: unfinished ones are reported again.
    pub fn clear(&self) {
        let mut inner = self.lock();
        inner.living.clear();
        inner.by_task.clear();
        inner.by_number.clear();
    }

    /// The newest sample of a task.
    pub fn newest(&self, task_id: TaskId) -> Option<wire::Progress> {
        self.lock()
            .by_task
            .get(&task_id)
            .map(|(_, sample)| sample.to_wire(task_id))
    }

    /// The samples after number `seen`, and the number to give next time.
    pub(crate) fn since(&self, seen: u64, selects: impl Fn(TaskId) -> bool) -> (Vec<wire::Progress>, u64) {
        let inner = self.lock();
        let newer = inner.by_number.range(seen + 1..).map(|(_, task_id)| *task_id);
        let samples = newer
            .filter(|task_id| selects(*task_id))
            .filter_map(|task_id| Some(inner.by_task.get(&task_id)?.1.to_wire(task_id)))
            .collect();
        (samples, inner.last)
    }

    /// How many samples there were that differ from the one before.
    pub(crate) fn moves(&self) -> u64 {
        self.lock().moves
    }

    /// For how long no byte has moved of a task, of all that have samples the longest: there are no more than a
    /// bounded number.
    pub fn stalled(&self) -> Duration {
        let inner = self.lock();
        let first = inner.by_task.values().map(|(_, sample)| sample.moved).min();
        drop(inner);
        first.map_or(Duration::ZERO, |moved| moved.elapsed())
    }

    /// The number of the newest sample.
    pub(crate) fn last(&self) -> u64 {
        self.lock().last
    }

    pub(crate) fn waiters(&self) -> &Arc<Waiters> {
        &self.waiters
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sample {
    fn to_wire(self, task_id: TaskId) -> wire::Progress {
        let percent = match self.total_bytes {
            0 => 0.0,
            total => (self.done_bytes as f64 / total as f64 * 100.0).min(100.0),
        };
        wire::Progress {
            task_id: task_id.to_string(),
            done_bytes: i64::try_from(self.done_bytes).unwrap_or(i64::MAX),
            total_bytes: i64::try_from(self.total_bytes).unwrap_or(i64::MAX),
            percent,
            rate_bytes_per_second: i64::try_from(self.rate_bytes_per_second).unwrap_or(i64::MAX),
            time_left: self.time_left.and_then(|time| time.try_into().ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn task(number: u128) -> TaskId {
        TaskId::from_uuid(Uuid::from_u128(number))
    }

    #[test]
    fn only_the_newest_sample_of_each_task_is_kept() {
        let progress = LatestProgress::default();
        progress.report(task(1), 10, 100);
        progress.report(task(2), 5, 0);
        progress.report(task(1), 50, 100);
        let (samples, seen) = progress.since(0, |_| true);
        let seen_of: Vec<_> = samples.iter().map(|s| (s.done_bytes, s.percent)).collect();
        assert_eq!(seen_of, [(5, 0.0), (50, 50.0)]);
        assert!(progress.since(seen, |_| true).0.is_empty());
        progress.report(task(2), 6, 0);
        progress.forget(task(2));
        assert!(progress.since(seen, |_| true).0.is_empty());
    }

    #[test]
    fn a_relayed_sample_is_shown_as_it_came() {
        let progress = LatestProgress::default();
        progress.begin(task(1));
        let sample = wire::Progress {
            task_id: task(1).to_string(),
            done_bytes: 250,
            total_bytes: 1000,
            percent: 25.0,
            rate_bytes_per_second: 50,
            time_left: Duration::from_secs(15).try_into().ok(),
        };
        progress.relay(task(1), &sample);
        assert_eq!(progress.newest(task(1)), Some(sample));
    }

    #[test]
    fn nothing_is_relayed_of_what_is_not_at_work() {
        let progress = LatestProgress::default();
        let sample = wire::Progress {
            task_id: task(1).to_string(),
            done_bytes: 1,
            ..wire::Progress::default()
        };
        let is_shown = || {
            progress.relay(task(1), &sample);
            progress.newest(task(1)).is_some()
        };
        assert!(!is_shown(), "nobody has recorded it");
        progress.begin(task(1));
        assert!(is_shown());
        progress.forget(task(1));
        assert!(!is_shown(), "it is over");
        progress.begin(task(1));
        assert!(is_shown());
        progress.clear();
        assert!(!is_shown());
        assert!(progress.since(0, |_| true).0.is_empty());
    }

    #[test]
    fn the_samples_are_bounded() {
        let progress = LatestProgress::default();
        for number in 0..MAX_TASKS as u128 + 10 {
            progress.report(task(number), 1, 1);
        }
        assert_eq!(progress.since(0, |_| true).0.len(), MAX_TASKS);
        assert_eq!(progress.newest(task(9)), None);
        assert!(progress.newest(task(10)).is_some());
    }
}
