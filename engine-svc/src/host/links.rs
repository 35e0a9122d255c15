//! How the engine is connected to each host right now. Not durable: after a restart every host is away until it
//! answers. The followers write the links; whoever shows a host, or a command that waits for it, reads them.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use common::fault::Fault;
use common::id::{HostId, TaskId};
use common::time::Timestamp;

use super::tally::Tally;

/// How the engine is connected to a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// The host's stream is open.
    Connected,
    /// The host does not answer; the fault says how that showed.
    Away(Fault),
    /// The host answers, but not as the host that was added, or it belongs to another engine.
    Refused(Fault),
}

/// A link, and since when it is in this state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkStatus {
    /// The state of the link.
    pub link: Link,
    /// Since when, for people.
    pub since: Timestamp,
}

/// A host that has no room for a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFull {
    /// The host.
    pub host_id: HostId,
    /// The host's refusal.
    pub fault: Fault,
    /// Since when, for people.
    pub since: Timestamp,
}

/// The link to every followed host. Cheap to clone; all clones share one map.
#[derive(Debug, Clone, Default)]
pub struct HostLinks {
    hosts: Arc<RwLock<BTreeMap<HostId, LinkStatus>>>,
    full: Arc<RwLock<BTreeMap<TaskId, HostFull>>>,
    tally: Arc<Tally>,
}

/// A task that waits for room on its host: shown as long as this value lives.
#[derive(Debug)]
pub(crate) struct WaitsForRoom {
    links: HostLinks,
    task_id: TaskId,
}

impl Drop for WaitsForRoom {
    fn drop(&mut self) {
        let mut full = self.links.full.write().unwrap_or_else(PoisonError::into_inner);
        full.remove(&self.task_id);
    }
}

impl HostLinks {
    /// The link to `host_id`; none if the engine does not follow the host.
    pub fn standing(&self, host_id: HostId) -> Option<LinkStatus> {
        let hosts = self.hosts.read().unwrap_or_else(PoisonError::into_inner);
        hosts.get(&host_id).cloned()
    }

    /// Whether every followed host is connected and has room.
    pub(crate) fn all_well(&self) -> bool {
        let full = self.full.read().unwrap_or_else(PoisonError::into_inner);
        let hosts = self.hosts.read().unwrap_or_else(PoisonError::into_inner);
        full.is_empty() && hosts.values().all(|standing| standing.link == Link::Connected)
    }

    /// The host without room that keeps a task waiting.
    pub(crate) fn full(&self, task_id: TaskId) -> Option<HostFull> {
        let full = self.full.read().unwrap_or_else(PoisonError::into_inner);
        full.get(&task_id).cloned()
    }

    /// The number of tasks that wait for room on their hosts.
    pub(crate) fn without_room(&self) -> usize {
        self.full.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The counters of connections.
    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Shows that a task waits for room.
    pub(crate) fn waits_for_room(&self, task_id: TaskId, full: HostFull) -> WaitsForRoom {
        let mut all = self.full.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(task_id, full);
        WaitsForRoom {
            links: self.clone(),
            task_id,
        }
    }

    /// Notes the state of a link. If the kind of state is the same as before, the link keeps its time: "since when"
    /// does not move with each failed attempt.
    pub(crate) fn note(&self, host_id: HostId, link: Link, now: Timestamp) {
        let mut hosts = self.hosts.write().unwrap_or_else(PoisonError::into_inner);
        let since = match hosts.get(&host_id) {
            Some(standing) if same_kind(&standing.link, &link) => standing.since,
            _ => now,
        };
        hosts.insert(host_id, LinkStatus { link, since });
    }

    /// Forgets a host that is no longer followed.
    pub(crate) fn forget(&self, host_id: HostId) {
        let mut hosts = self.hosts.write().unwrap_or_else(PoisonError::into_inner);
        hosts.remove(&host_id);
    }
}

const fn same_kind(a: &Link, b: &Link) -> bool {
    matches!(
        (a, b),
        (Link::Connected, Link::Connected)
            | (Link::Away(_), Link::Away(_))
            | (Link::Refused(_), Link::Refused(_))
    )
}

#[cfg(test)]
mod tests {
    use common::fault::FaultCode;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_time_of_a_loss_does_not_move_with_each_attempt() {
        let links = HostLinks::default();
        let host = HostId::from_uuid(Uuid::from_u128(1));
        let away = |text: &str| Link::Away(Fault::new(FaultCode::HostAway, text));
        links.note(host, away("refused"), Timestamp(1));
        links.note(host, away("timed out"), Timestamp(2));
        let standing = links.standing(host).unwrap();
        assert_eq!((standing.link, standing.since), (away("timed out"), Timestamp(1)));
        links.note(host, Link::Connected, Timestamp(3));
        assert_eq!(links.standing(host).unwrap().since, Timestamp(3));
        links.forget(host);
        assert_eq!(links.standing(host), None);
    }

    #[test]
    fn that_a_host_is_full_is_shown_for_as_long_as_somebody_waits() {
        let links = HostLinks::default();
        let task = TaskId::from_uuid(Uuid::from_u128(2));
        let full = HostFull {
            host_id: HostId::from_uuid(Uuid::from_u128(1)),
            fault: Fault::new(FaultCode::QueueFull, "full"),
            since: Timestamp(1),
        };
        let waits = links.waits_for_room(task, full.clone());
        assert_eq!((links.full(task), links.all_well()), (Some(full), false));
        drop(waits);
        assert_eq!((links.full(task), links.all_well()), (None, true));
    }
}
