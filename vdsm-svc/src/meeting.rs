//! What the starts of an engine say about themselves, passed on between those of one engine that call this host
//! (docs/adr/0012).
//!
//! The process keeps it in memory, and the host decides nothing by it: the engines, which have the key, check whether
//! it is true.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use common::fault::Fault;
use common::id::{EngineId, Incarnation};
use proto::convert;
use proto::host::v1::Life;
use tokio::time::Instant;

/// For how long the host passes a start's words on: several times as long as an engine takes to repeat them.
const REMEMBERED: Duration = Duration::from_secs(10);

/// The maximum number of starts that are remembered, for all engines together: the start that has the host, and a few
/// copies. The oldest are dropped.
const MAX_LIVES: usize = 16;

/// Bytes of a nonce.
const NONCE_BYTES: usize = 16;

/// The maximum number of nonces that a start may have heard: one from each remembered start but itself.
const MAX_HEARD: usize = MAX_LIVES - 1;

/// The maximum number of hosts that a start may name; an engine with more hosts names this many. All words together
/// stay below the 4 MiB that an answer may have.
const MAX_HOLDS: usize = 4_096;

/// Bytes of a host's id.
const ID_BYTES: usize = 16;

/// Bytes of the code.
const CODE_BYTES: usize = 32;

/// The words of the starts.
#[derive(Debug, Default)]
pub(crate) struct Meeting(Mutex<VecDeque<Said>>);

#[derive(Debug)]
struct Said {
    engine_id: EngineId,
    incarnation: Incarnation,
    life: Life,
    at: Instant,
}

impl Meeting {
    /// Replaces what a start said before, and returns what the other starts of that engine say.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`, naming the field.
    pub(crate) fn meet(&self, engine_id: EngineId, life: Option<Life>) -> Result<Vec<Life>, Fault> {
        let life = life.ok_or_else(|| Fault::invalid("life", "is missing"))?;
        let incarnation = is_whole(&life)?;
        Ok(self.meet_at(engine_id, incarnation, life, Instant::now()))
    }

    fn meet_at(&self, engine_id: EngineId, incarnation: Incarnation, life: Life, now: Instant) -> Vec<Life> {
        // No code that holds this lock can panic, so poisoning means nothing.
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.retain(|one| {
            now.duration_since(one.at) < REMEMBERED
                && (one.engine_id, one.incarnation) != (engine_id, incarnation)
        });
        if said.len() == MAX_LIVES {
            said.pop_front();
        }
        let others = said.iter().filter(|one| one.engine_id == engine_id);
        let others = others.map(|one| one.life.clone()).collect();
        said.push_back(Said {
            engine_id,
            incarnation,
            life,
            at: now,
        });
        others
    }
}

/// Which start speaks, if its words have the required form.
fn is_whole(life: &Life) -> Result<Incarnation, Fault> {
    let incarnation = convert::id("life.incarnation", &life.incarnation)?;
    let has = |field: &str, bytes: usize, wanted: usize| match bytes == wanted {
        true => Ok(()),
        false => {
            let words = format!("has {bytes} bytes; expected {wanted}");
            Err(Fault::invalid(format!("life.{field}"), words))
        }
    };
    has("nonce", life.nonce.len(), NONCE_BYTES)?;
    has("code", life.code.len(), CODE_BYTES)?;
    if life.heard.len() > MAX_HEARD {
        let words = format!("has {} items; expected {MAX_HEARD} at most", life.heard.len());
        return Err(Fault::invalid("life.heard", words));
    }
    for (at, nonce) in life.heard.iter().enumerate() {
        has(&format!("heard[{at}]"), nonce.len(), NONCE_BYTES)?;
    }
    if !life.holds.len().is_multiple_of(ID_BYTES) || life.holds.len() > MAX_HOLDS * ID_BYTES {
        let words = format!(
            "has {} bytes; expected {ID_BYTES} for each host, and {MAX_HOLDS} hosts at most",
            life.holds.len()
        );
        return Err(Fault::invalid("life.holds", words));
    }
    Ok(incarnation)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn engine(n: u128) -> EngineId {
        EngineId::from_uuid(Uuid::from_u128(n))
    }

    fn life(n: u128) -> Life {
        Life {
            incarnation: Uuid::from_u128(n).to_string(),
            nonce: vec![1; NONCE_BYTES],
            heard: Vec::new(),
            holds: Vec::new(),
            code: vec![2; CODE_BYTES],
        }
    }

    #[test]
    fn each_start_of_an_engine_hears_of_the_others_of_it_for_as_long_as_they_call() {
        let meeting = Meeting::default();
        let begin = Instant::now();
        let meets = |of: u128, n: u128, seconds: u64| {
            let incarnation = Incarnation::from_uuid(Uuid::from_u128(n));
            let at = begin + Duration::from_secs(seconds);
            let heard = meeting.meet_at(engine(of), incarnation, life(n), at);
            heard.into_iter().map(|life| life.incarnation).collect::<Vec<_>>()
        };
        assert!(meets(1, 10, 0).is_empty());
        assert!(meets(2, 20, 0).is_empty(), "of another engine");
        assert_eq!(meets(1, 11, 1), [life(10).incarnation]);
        assert_eq!(meets(1, 10, 2), [life(11).incarnation]);
        assert_eq!(meets(1, 10, 10), [life(11).incarnation]);
        assert!(meets(1, 10, 11).is_empty(), "it has not called for 10 s");
        for n in 100..1_000 {
            assert!(meets(3, n, 12).len() < MAX_LIVES);
        }
        assert_eq!(meeting.0.lock().unwrap().len(), MAX_LIVES);
    }

    #[test]
    fn what_is_not_of_that_form_is_refused_and_not_passed_on() {
        let meeting = Meeting::default();
        let cut = |change: fn(&mut Life)| {
            let mut life = life(1);
            change(&mut life);
            meeting
                .meet(engine(1), Some(life))
                .map_err(|fault| fault.subject.as_str().to_owned())
        };
        let refused = |field: &str| Err(format!("life.{field}"));
        assert_eq!(cut(|life| life.incarnation.clear()), refused("incarnation"));
        assert_eq!(cut(|life| life.nonce.clear()), refused("nonce"));
        assert_eq!(cut(|life| life.code.push(0)), refused("code"));
        assert_eq!(cut(|life| life.heard = vec![vec![0; 15]]), refused("heard[0]"));
        assert_eq!(
            cut(|life| life.heard = vec![vec![0; 16]; MAX_HEARD + 1]),
            refused("heard")
        );
        assert_eq!(cut(|life| life.holds = vec![0; 17]), refused("holds"));
        assert_eq!(
            cut(|life| life.holds = vec![0; (MAX_HOLDS + 1) * ID_BYTES]),
            refused("holds")
        );
        assert_eq!(
            meeting
                .meet(engine(1), None)
                .map_err(|f| f.subject.as_str().to_owned()),
            Err("life".into())
        );
        assert_eq!(meeting.meet(engine(1), Some(life(2))), Ok(Vec::new()));
    }
}
