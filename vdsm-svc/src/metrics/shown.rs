//! The host's figures on the metrics page.

use std::sync::{Arc, Weak};
use std::time::Duration;

use common::id::{DomainId, HostId};
use common::operation::Operation;
use common::task::TaskState;
use proto::store::v1::HostHistory;
use runtime::clock;
use runtime::log::Log;
use runtime::metrics::{Exporter, Page, Sampler};
use vdsm_core::Limits;
use vdsm_storage::NamedRoot;

use super::{
    DOMAIN_FREE, DOMAIN_TOTAL, DOMAINS, ENGINES, Figures, HOST, QUEUE_WAIT, QUEUED, QUEUED_AGE, QUEUED_MOST,
    RUN_TIME, RUNNING, RUNNING_MOST, STALLED, STORAGE_AGE, STORAGE_USABLE, TASKS, TASKS_ENDED,
};
use crate::presence::Presence;

/// The maximum number of domains that are shown one by one: the page stays within a megabyte.
const MAX_DOMAINS: usize = 1_000;

/// The sources of the figures.
pub(crate) struct Sources {
    pub(crate) figures: Figures,
    pub(crate) limits: Limits,
    pub(crate) host_id: HostId,
    pub(crate) qemu_img_version: String,
    pub(crate) presence: Arc<Presence>,
    pub(crate) root: Arc<NamedRoot>,
    pub(crate) log: Weak<Log<HostHistory>>,
}

/// A look at storage.
#[derive(Debug, Clone, Default)]
struct Storage {
    usable: bool,
    domains: usize,
    /// The total and free bytes of each domain.
    spaces: Vec<(DomainId, u64, u64)>,
}

/// Shows the figures from now on.
pub(crate) fn add(exporter: &Exporter, sources: Sources) {
    let root = Arc::clone(&sources.root);
    exporter.add_sampled(Sampler::new(move || look(&root)), storage);
    exporter.add(move |page| {
        let host_id = sources.host_id.to_string();
        page.flag(&HOST, &[&host_id, &sources.qemu_img_version], true);
        page.count(&ENGINES, &[], sources.presence.connected());
        tasks(page, &sources);
        let stalled = sources.log.upgrade().map(|log| log.progress().stalled());
        page.put(&STALLED, &[], stalled.unwrap_or_default().as_secs_f64());
    });
}

fn tasks(page: &mut Page, Sources { figures, limits, .. }: &Sources) {
    let counts = figures.counts();
    let verbs = Operation::ALL_NAMES.iter().copied().chain(["none"]);
    for (at, verb) in verbs.enumerate() {
        for state in TaskState::ALL {
            let label = format!("{state:?}").to_ascii_lowercase();
            match state.is_terminal() {
                true => page.count(&TASKS_ENDED, &[verb, &label], counts.ended[at][state as usize]),
                false => page.count(&TASKS, &[verb, &label], counts.tasks[at][state as usize]),
            }
        }
        if let Some(runs) = figures.runs().get(at) {
            page.histogram(&RUN_TIME, &[verb], runs);
        }
    }
    page.histogram(&QUEUE_WAIT, &[], figures.waits());
    page.count(&QUEUED, &[], counts.queued);
    page.count(&QUEUED_MOST, &[], limits.queue);
    let waited = counts.queued_since.map_or(0, |since| {
        clock::now().as_micros().saturating_sub(since.as_micros()).max(0)
    });
    page.put(&QUEUED_AGE, &[], waited as f64 / 1e6);
    page.count(&RUNNING, &[], counts.running);
    page.count(&RUNNING_MOST, &[], limits.running_per_host);
}

fn look(root: &NamedRoot) -> Storage {
    let Ok(root) = root.now() else {
        return Storage::default();
    };
    let Ok(ids) = root.domain_ids() else {
        return Storage::default();
    };
    let spaces = ids.iter().take(MAX_DOMAINS).filter_map(|id| {
        let (total, free) = root.space(*id).ok()?;
        Some((*id, total, free))
    });
    Storage {
        usable: true,
        domains: ids.len(),
        spaces: spaces.collect(),
    }
}

fn storage(page: &mut Page, age: Duration, storage: Storage) {
    page.flag(&STORAGE_USABLE, &[], storage.usable);
    page.count(&DOMAINS, &[], storage.domains);
    for (id, total, free) in storage.spaces {
        let id = id.to_string();
        page.count(&DOMAIN_TOTAL, &[&id], total);
        page.count(&DOMAIN_FREE, &[&id], free);
    }
    page.put(&STORAGE_AGE, &[], age.as_secs_f64());
}
