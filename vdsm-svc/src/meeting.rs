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
use vdsm_core::Owner;

/// For how long the host passes a start's words on: several times as long as an engine takes to repeat them.
const REMEMBERED: Duration = Duration::from_secs(10);

/// The maximum number of starts that are remembered of the engine that has the host, and as many again of all other
/// engines together: one start, and a few copies. The oldest are dropped, but never the start that has the host.
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
    /// Replaces what a start said before, and returns what the other starts of that engine say. Whoever is not of the
    /// `owner`'s engine displaces nobody of that engine, and nobody displaces the start that has the host: however many
    /// starts somebody makes up, that start is heard.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`, naming the field.
    pub(crate) fn meet(
        &self,
        owner: Option<&Owner>,
        engine_id: EngineId,
        life: Option<Life>,
    ) -> Result<Vec<Life>, Fault> {
        let life = life.ok_or_else(|| Fault::invalid("life", "is missing"))?;
        let incarnation = is_whole(&life)?;
        let said = Said {
            engine_id,
            incarnation,
            life,
            at: Instant::now(),
        };
        Ok(self.hear(owner, said))
    }

    fn hear(&self, owner: Option<&Owner>, new: Said) -> Vec<Life> {
        // No code that holds this lock can panic, so poisoning means nothing.
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let who = |one: &Said| (one.engine_id, one.incarnation);
        said.retain(|one| new.at.duration_since(one.at) < REMEMBERED && who(one) != who(&new));
        let owner = owner.map(|owner| (owner.engine_id, owner.incarnation));
        let is_at_home = |one: &Said| owner.is_some_and(|(engine_id, _)| engine_id == one.engine_id);
        let has_the_host = |one: &Said| owner == Some((one.engine_id, Some(one.incarnation)));
        let its_kind = |one: &&Said| is_at_home(one) == is_at_home(&new);
        // More than one, if the host has another owner now.
        while said.iter().filter(its_kind).count() >= MAX_LIVES {
            let oldest = said.iter().position(|one| its_kind(&one) && !has_the_host(one));
            // One start at most has the host, so there is another one.
            let Some(_) = oldest.and_then(|at| said.remove(at)) else {
                break;
            };
        }
        let others = said.iter().filter(|one| one.engine_id == new.engine_id);
        let others = others.map(|one| one.life.clone()).collect();
        said.push_back(new);
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

    fn start(n: u128) -> Incarnation {
        Incarnation::from_uuid(Uuid::from_u128(n))
    }

    /// What a start of an engine hears when it calls at this second.
    fn meets(meeting: &Meeting, owner: Option<&Owner>, of: u128, n: u128, at: Instant) -> Vec<String> {
        let said = Said {
            engine_id: engine(of),
            incarnation: start(n),
            life: life(n),
            at,
        };
        let heard = meeting.hear(owner, said);
        heard.into_iter().map(|life| life.incarnation).collect()
    }

    #[test]
    fn each_start_of_an_engine_hears_of_the_others_of_it_for_as_long_as_they_call() {
        let meeting = Meeting::default();
        let begin = Instant::now();
        let meets = |of: u128, n: u128, seconds: u64| {
            meets(&meeting, None, of, n, begin + Duration::from_secs(seconds))
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
    fn whoever_makes_up_starts_silences_neither_the_one_that_has_the_host_nor_other_engines_starts() {
        let meeting = Meeting::default();
        let at = Instant::now();
        let owner = Owner {
            engine_id: engine(1),
            incarnation: Some(start(10)),
            ..Owner::nobody(None)
        };
        let meets = |owner: &Owner, of: u128, n: u128| meets(&meeting, Some(owner), of, n, at);
        meets(&owner, 1, 10);
        meets(&owner, 1, 11);
        // Other engines' starts leave those of the owner's engine alone,
        for n in 100..1_000 {
            meets(&owner, n, n);
        }
        assert_eq!(meets(&owner, 1, 10), [life(11).incarnation]);
        // and starts of its engine leave the one alone that has the host.
        for n in 1_000..2_000 {
            assert!(meets(&owner, 1, n).contains(&life(10).incarnation), "{n}");
        }
        assert_eq!(meeting.0.lock().unwrap().len(), 2 * MAX_LIVES);
        // A host that gets another owner keeps to the bound.
        let other = Owner {
            engine_id: engine(999),
            ..owner
        };
        for n in 2_000..2_100 {
            assert!(meets(&other, 1, n).len() < MAX_LIVES, "{n}");
        }
        assert!(meeting.0.lock().unwrap().len() <= 2 * MAX_LIVES);
    }

    #[test]
    fn what_is_not_of_that_form_is_refused_and_not_passed_on() {
        let meeting = Meeting::default();
        let cut = |change: fn(&mut Life)| {
            let mut life = life(1);
            change(&mut life);
            meeting
                .meet(None, engine(1), Some(life))
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
                .meet(None, engine(1), None)
                .map_err(|f| f.subject.as_str().to_owned()),
            Err("life".into())
        );
        assert_eq!(meeting.meet(None, engine(1), Some(life(2))), Ok(Vec::new()));
    }
}
