//! The engine's figures on the metrics page.

use common::id::HostId;
use common::operation::Operation;
use common::time::Timestamp;
use engine_core::Stance;
use engine_core::model::{AsyncTaskState, CommandKind, CommandState, EventCode};
use runtime::clock;
use runtime::metrics::{Exporter, Page};
use tokio::sync::watch;

use super::census::{Counts, ENDINGS};
use super::{
    ATTENTION_AGE, COMMAND_TIME, COMMANDS, COMMANDS_ENDED, EVENTS, FOREIGN, Figures, HOST_CONNECTS,
    HOST_FAILURES, HOST_RESYNCS, HOST_RETRIES, HOST_SINCE, HOST_TASKS, HOST_UP, HOSTS, LOCK_AGE,
    LOCK_HOLDERS, LOCK_WAIT, LOCK_WAITERS, LOCKS, NO_ROOM, STANCE, TASKS, TASKS_ENDED,
};
use crate::host::{HostLinks, Link};
use crate::open_tasks::OpenTasks;

/// The maximum number of hosts that are shown one by one: the page stays within a megabyte.
const MAX_HOSTS: usize = 1_000;

/// The states of a connection, as labels.
const CONNECTIONS: [&str; 4] = ["connected", "away", "refused", "unknown"];

/// The sources of the figures.
pub(crate) struct Sources {
    pub(crate) figures: Figures,
    pub(crate) links: HostLinks,
    pub(crate) open_tasks: OpenTasks,
    pub(crate) stances: watch::Receiver<Stance>,
}

/// Shows the figures from now on.
pub(crate) fn add(exporter: &Exporter, sources: Sources) {
    exporter.add(move |page| {
        let counts = sources.figures.counts();
        let now = clock::now();
        commands(page, &sources.figures, &counts, now);
        tasks(page, &counts);
        locks(page, &counts, now);
        stance(page, &sources.stances.borrow());
        hosts(page, &sources, &counts);
    });
}

/// An enum's value as a label: `NeedsAttention` is `needs_attention`.
fn label(value: impl std::fmt::Debug) -> String {
    let mut label = String::new();
    for (at, letter) in format!("{value:?}").chars().enumerate() {
        if letter.is_ascii_uppercase() && at > 0 {
            label.push('_');
        }
        label.push(letter.to_ascii_lowercase());
    }
    label
}

fn seconds(since: Option<Timestamp>, now: Timestamp) -> f64 {
    since.map_or(0.0, |since| {
        now.as_micros().saturating_sub(since.as_micros()).max(0) as f64 / 1e6
    })
}

fn commands(page: &mut Page, figures: &Figures, counts: &Counts, now: Timestamp) {
    for kind in CommandKind::ALL {
        let name = label(kind);
        for state in CommandState::ALL {
            let (of_kind, ended) = (
                counts.commands[*kind as usize],
                counts.commands_ended[*kind as usize],
            );
            match state.is_terminal() {
                true => page.count(&COMMANDS_ENDED, &[&name, &label(state)], ended[state as usize]),
                false => page.count(&COMMANDS, &[&name, &label(state)], of_kind[state as usize]),
            }
        }
    }
    for (kind, durations) in figures.durations() {
        page.histogram(&COMMAND_TIME, &[&label(kind)], durations);
    }
    page.put(&ATTENTION_AGE, &[], seconds(counts.attention_since, now));
    for code in EventCode::ALL {
        page.count(&EVENTS, &[code.as_str()], counts.events[*code as usize]);
    }
}

fn tasks(page: &mut Page, counts: &Counts) {
    let verbs = Operation::ALL_NAMES.iter().copied().chain(["unknown"]);
    for (verb, (states, ended)) in verbs.zip(counts.tasks.iter().zip(&counts.tasks_ended)) {
        for state in AsyncTaskState::ALL
            .into_iter()
            .filter(|state| *state != AsyncTaskState::Cleared)
        {
            page.count(&TASKS, &[verb, &label(state)], states[state as usize]);
        }
        for (outcome, count) in ENDINGS.iter().zip(ended) {
            page.count(&TASKS_ENDED, &[verb, outcome], *count);
        }
    }
    page.count(&FOREIGN, &[], counts.foreign);
}

fn locks(page: &mut Page, counts: &Counts, now: Timestamp) {
    page.count(&LOCKS, &[], counts.locks);
    page.count(&LOCK_HOLDERS, &[], counts.holders);
    page.put(&LOCK_AGE, &[], seconds(counts.holder_since, now));
    page.count(&LOCK_WAITERS, &[], counts.waiters);
    page.put(&LOCK_WAIT, &[], seconds(counts.waiter_since, now));
}

fn stance(page: &mut Page, now: &Stance) {
    let (acts, undecided, over) = match now {
        Stance::Acts => (true, false, false),
        Stance::Undecided(_) => (false, true, false),
        Stance::Over(_) => (false, false, true),
    };
    page.flag(&STANCE, &["acts"], acts);
    page.flag(&STANCE, &["undecided"], undecided);
    page.flag(&STANCE, &["over"], over);
}

fn hosts(page: &mut Page, sources: &Sources, counts: &Counts) {
    let Sources {
        links, open_tasks, ..
    } = sources;
    let now = clock::now();
    let mut of = [0_u64; CONNECTIONS.len()];
    for (at, (host_id, name)) in counts.hosts.iter().enumerate() {
        let (connection, since) = connection(links, *host_id);
        of[connection] += 1;
        if at >= MAX_HOSTS {
            continue;
        }
        let id = host_id.to_string();
        page.flag(&HOST_UP, &[&id, name], connection == 0);
        page.put(
            &HOST_SINCE,
            &[&id, name, CONNECTIONS[connection]],
            seconds(since, now),
        );
        page.count(&HOST_TASKS, &[&id, name], open_tasks.count(*host_id));
    }
    for (connection, count) in CONNECTIONS.iter().zip(of) {
        page.count(&HOSTS, &[connection], count);
    }
    let tally = links.tally();
    page.count(&HOST_CONNECTS, &[], tally.connects());
    page.count(&HOST_FAILURES, &[], tally.failures());
    page.count(&HOST_RESYNCS, &[], tally.resyncs());
    page.count(&HOST_RETRIES, &[], tally.retries());
    page.count(&NO_ROOM, &[], links.without_room());
}

/// The index in [`CONNECTIONS`], and since when.
fn connection(links: &HostLinks, host_id: HostId) -> (usize, Option<Timestamp>) {
    let Some(standing) = links.standing(host_id) else {
        return (3, None);
    };
    let connection = match standing.link {
        Link::Connected => 0,
        Link::Away(_) => 1,
        Link::Refused(_) => 2,
    };
    (connection, Some(standing.since))
}
