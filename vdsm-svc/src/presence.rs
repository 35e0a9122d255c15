//! Which starts of engines are connected, as their open task streams show; which starts ask to succeed one of them;
//! and which streams end because the host belongs to another engine.
//!
//! The process keeps this in memory: a restart of the host ends all streams, and begins anew.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::fault::Fault;
use common::id::{EngineId, Incarnation};
use proto::host::v1::Life;
use tokio::sync::watch;
use tokio::time::Instant;
use vdsm_core::{EngineCall, Owner};

use crate::meeting::Meeting;

/// The maximum number of remembered starts that ask for the host; no honest situation has more, and the oldest are
/// dropped.
const MAX_ASKING: usize = 64;

/// How long a start that was put off must wait after the stream has ended for which it was put off. Within that time
/// the start that had the stream opens it again, or claims the host as another incarnation; and a start that follows
/// it after a restart was never put off.
const GRACE: Duration = Duration::from_secs(2);

/// A start that asked for less than this before the stream ended need not wait: a start that takes a new incarnation
/// may ask before its own stream has ended.
const BRIEF: Duration = Duration::from_millis(500);

/// The maximum number of remembered starts that have ended their last stream; the oldest are dropped.
const MAX_LEFT: usize = 64;

/// How often the log repeats that an engine is refused.
const REMINDER: Duration = Duration::from_secs(60);

/// The maximum number of remembered engines that were refused; the oldest are dropped.
const MAX_REFUSED: usize = 64;

/// The start of an engine that makes a call.
type Caller = (EngineId, Option<Incarnation>);

/// The connected starts, and those that ask for the host.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    streams: Mutex<BTreeMap<Incarnation, usize>>,
    asking: Mutex<VecDeque<(Incarnation, Instant)>>,
    /// Starts whose last stream has ended, and when.
    left: Mutex<VecDeque<(Incarnation, Instant)>>,
    /// Refused callers that the log has named, and when.
    refused: Mutex<VecDeque<(Caller, Instant)>>,
    /// What the starts that call tell each other.
    meeting: Meeting,
    /// Whose host this is, as last recorded.
    owner: watch::Sender<Option<Owner>>,
}

/// One open stream; dropping this ends it.
#[derive(Debug)]
pub(crate) struct Present {
    presence: Arc<Presence>,
    incarnation: Incarnation,
}

impl Presence {
    /// Counts a stream that a start of an engine has opened.
    pub(crate) fn arrives(self: &Arc<Self>, incarnation: Incarnation) -> Present {
        *locked(&self.streams).entry(incarnation).or_insert(0) += 1;
        Present {
            presence: Arc::clone(self),
            incarnation,
        }
    }

    /// The number of connected starts of engines.
    pub(crate) fn connected(&self) -> usize {
        locked(&self.streams).len()
    }

    fn leaves_at(&self, incarnation: Incarnation, now: Instant) {
        let mut streams = locked(&self.streams);
        let Some(count) = streams.get_mut(&incarnation) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            streams.remove(&incarnation);
            let mut left = locked(&self.left);
            if left.len() == MAX_LEFT {
                left.pop_front();
            }
            left.push_back((incarnation, now));
        }
    }

    /// Sets the owner of the host, which is recorded.
    pub(crate) fn belongs_to(&self, owner: Option<Owner>) {
        self.owner.send_replace(owner);
    }

    /// Replaces what a start of an engine said before, and returns what the other starts of that engine say.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`, naming the field.
    pub(crate) fn meet(&self, engine_id: EngineId, life: Option<Life>) -> Result<Vec<Life>, Fault> {
        self.meeting.meet(self.owner.borrow().as_ref(), engine_id, life)
    }

    /// The fence of a stream that this engine wants to open: it completes, with the reason, when the stream must end.
    ///
    /// # Errors
    /// Why the stream must not begin.
    pub(crate) fn fence(
        &self,
        call: EngineCall,
    ) -> Result<impl Future<Output = Fault> + Send + use<>, Fault> {
        let mut owner = self.owner.subscribe();
        let mut has_it = vdsm_core::may_follow(owner.borrow_and_update().as_ref(), &call, false)?;
        Ok(async move {
            loop {
                if owner.changed().await.is_err() {
                    // The service is stopping, and all streams with it.
                    std::future::pending::<()>().await;
                }
                match vdsm_core::may_follow(owner.borrow_and_update().as_ref(), &call, has_it) {
                    Ok(has) => has_it = has,
                    Err(fault) => return fault,
                }
            }
        })
    }

    /// Whether to log now that this engine is refused: once a minute for each start of an engine.
    pub(crate) fn tells_of_refusing(&self, call: &EngineCall) -> bool {
        self.tells_of_refusing_at(call, Instant::now())
    }

    fn tells_of_refusing_at(&self, call: &EngineCall, now: Instant) -> bool {
        let caller = (call.engine_id, call.incarnation);
        let mut refused = locked(&self.refused);
        if let Some((_, told)) = refused.iter_mut().find(|(who, _)| *who == caller) {
            let is_due = now.duration_since(*told) >= REMINDER;
            if is_due {
                *told = now;
            }
            return is_due;
        }
        if refused.len() == MAX_REFUSED {
            refused.pop_front();
        }
        refused.push_back((caller, now));
        true
    }

    /// For how long `line`, whose last start asks now, has asked to succeed `predecessor`; none if the predecessor is
    /// not connected, and was not connected a moment ago when the line asked before.
    pub(crate) fn waited(&self, predecessor: Incarnation, line: &[Incarnation]) -> Option<Duration> {
        self.waited_at(predecessor, line, Instant::now())
    }

    fn waited_at(&self, predecessor: Incarnation, line: &[Incarnation], now: Instant) -> Option<Duration> {
        let is_here = locked(&self.streams).contains_key(&predecessor);
        let mut asking = locked(&self.asking);
        let first = asking
            .iter()
            .find(|(start, _)| line.contains(start))
            .map(|(_, at)| *at);
        let has_just_left = |asked: Instant| {
            let left = locked(&self.left);
            let mut left = left.iter().rev().filter(|(start, _)| *start == predecessor);
            let at = left.next().map(|(_, at)| *at);
            at.is_some_and(|at| now.duration_since(at) < GRACE && at.duration_since(asked) >= BRIEF)
        };
        if !is_here && !first.is_some_and(has_just_left) {
            return None;
        }
        if let (None, Some(wants_it)) = (first, line.last()) {
            if asking.len() == MAX_ASKING {
                asking.pop_front();
            }
            asking.push_back((*wants_it, now));
        }
        Some(first.map_or(Duration::ZERO, |first| now.duration_since(first)))
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.presence.leaves_at(self.incarnation, Instant::now());
    }
}

/// No code that holds one of these locks can panic, so poisoning means nothing.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn start(n: u128) -> Incarnation {
        Incarnation::from_uuid(Uuid::from_u128(n))
    }

    #[test]
    fn an_engine_that_is_refused_is_told_of_once_a_minute() {
        let presence = Presence::default();
        let (begin, seconds) = (Instant::now(), Duration::from_secs);
        let tells = |engine, incarnation, after| {
            let call = EngineCall {
                engine_id: EngineId::from_uuid(Uuid::from_u128(engine)),
                epoch: 1,
                incarnation: Some(start(incarnation)),
                store_id: None,
            };
            presence.tells_of_refusing_at(&call, begin + after)
        };
        assert!(tells(1, 1, seconds(0)) && tells(1, 2, seconds(1)) && tells(2, 1, seconds(2)));
        assert!(!tells(1, 1, seconds(59)));
        assert!(tells(1, 1, seconds(60)));
        assert!(!tells(1, 1, seconds(119)));
        for n in 0..1_000 {
            tells(3, n, seconds(120));
        }
        assert!(locked(&presence.refused).len() <= MAX_REFUSED);
    }

    #[test]
    fn who_asks_while_the_other_is_connected_is_remembered_with_all_that_descends_from_it() {
        let presence = Arc::new(Presence::default());
        let (begin, seconds) = (Instant::now(), Duration::from_secs);
        let waited = |line: &[u128], after| {
            let line: Vec<_> = line.iter().map(|n| start(*n)).collect();
            presence.waited_at(start(1), &line, begin + after)
        };
        assert_eq!(waited(&[2], seconds(0)), None);
        let streams = [presence.arrives(start(1)), presence.arrives(start(1))];
        assert_eq!(waited(&[2], seconds(1)), Some(Duration::ZERO));
        assert_eq!(waited(&[2, 3], seconds(10)), Some(seconds(9)));
        assert_eq!(waited(&[4], seconds(10)), Some(Duration::ZERO));
        streams.into_iter().for_each(std::mem::forget);
        presence.leaves_at(start(1), begin + seconds(11));
        assert!(waited(&[2], seconds(12)).is_some());
        assert_eq!(waited(&[5], seconds(12)), Some(Duration::ZERO));
        presence.leaves_at(start(1), begin + seconds(12));
        // The start may be back within a moment, and then it has the host; meanwhile a start that it did not delay is
        // let in.
        assert_eq!(waited(&[2], seconds(13)), Some(seconds(12)));
        assert_eq!(waited(&[9], seconds(13)), None);
        assert_eq!(waited(&[5], seconds(13)), None, "put off for an instant");
        assert_eq!(waited(&[2], seconds(14)), None);
    }
}
