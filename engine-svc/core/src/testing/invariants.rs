//! What must hold after every transition, whatever the world did.

use std::collections::BTreeMap;

use super::World;
use super::host::Image;
use super::world::host_of;
use crate::change::Change;
use crate::effect::Effect;
use crate::model::{AsyncTaskState, Command, CommandState, EntityKey, Parameters};
use crate::state::Owner;
use crate::step::Transition;

type Records = BTreeMap<String, Change>;

/// Checks all of them.
pub(crate) fn after(world: &World, before: &Records, transition: &Transition) {
    terminal_is_final(before, transition);
    sequences_are_dense(before, transition);
    successes_are_true(world, transition);
    ends_without_trace_leave_none(world, transition);
    terminal_commands_hold_no_locks(world);
    unfinished_roots_hold_theirs(world);
    parents_end_last(world);
    everybody_says_what_is_awaited(world);
    what_is_loaded_is_what_was_lived(world, transition);
}

fn terminal_is_final(before: &Records, transition: &Transition) {
    let mut ended: BTreeMap<String, CommandState> = BTreeMap::new();
    for change in &transition.changes {
        if let Change::Command(command) = change {
            let key = format!("command {}", command.id);
            let was = match (ended.get(&key), before.get(&key)) {
                (Some(state), _) => Some(*state),
                (None, Some(Change::Command(old))) => Some(old.state),
                _ => None,
            };
            if let Some(state) = was.filter(|state| state.is_terminal()) {
                panic!("{key} changes after its end {state:?}");
            }
            ended.insert(key, command.state);
        }
    }
}

/// Of each command and task, and of each tree; the heads of jobs as well.
fn sequences_are_dense(before: &Records, transition: &Transition) {
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    let mut trees: BTreeMap<String, u64> = BTreeMap::new();
    for record in before.values() {
        note(record, &mut last, &mut trees);
    }
    let mut heads = transition.heads.iter();
    for change in &transition.changes {
        let (key, sequence, tree) = match change {
            Change::Command(c) => (
                format!("command {}", c.id),
                c.sequence,
                Some((c.root, c.tree_sequence)),
            ),
            Change::Task(t) => (
                format!("task {}", t.id),
                t.sequence,
                t.root.map(|r| (r, t.tree_sequence)),
            ),
            _ => continue,
        };
        assert_eq!(sequence, last.get(&key).copied().unwrap_or_default() + 1, "{key}");
        last.insert(key, sequence);
        if let Some((root, sequence)) = tree {
            let key = root.to_string();
            assert_eq!(
                sequence,
                trees.get(&key).copied().unwrap_or_default() + 1,
                "tree {key}"
            );
            trees.insert(key, sequence);
            let head = heads.next().expect("a head for each change");
            assert_eq!((head.root, head.sequence), (root, sequence));
        }
    }
    assert_eq!(heads.next(), None, "a head without a change");
}

fn note(record: &Change, last: &mut BTreeMap<String, u64>, trees: &mut BTreeMap<String, u64>) {
    // Somebody else's task may be seen anew when its host was given up and taken again: a life of its own.
    if matches!(record, Change::Task(task) if task.root.is_none() && task.async_state == AsyncTaskState::Cleared)
    {
        return;
    }
    let (key, sequence, tree) = match record {
        Change::Command(c) => (
            format!("command {}", c.id),
            c.sequence,
            Some((c.root, c.tree_sequence)),
        ),
        Change::Task(t) => (
            format!("task {}", t.id),
            t.sequence,
            t.root.map(|r| (r, t.tree_sequence)),
        ),
        _ => return,
    };
    last.insert(key, sequence);
    if let Some((root, sequence)) = tree {
        let count = trees.entry(root.to_string()).or_default();
        *count = (*count).max(sequence);
    }
}

fn commands(transition: &Transition) -> impl Iterator<Item = &Command> {
    transition.changes.iter().filter_map(|change| match change {
        Change::Command(command) => Some(&**command),
        _ => None,
    })
}

/// What the engine calls done is done on storage, and nothing works on it any more.
fn successes_are_true(world: &World, transition: &Transition) {
    for command in commands(transition).filter(|command| command.state == CommandState::Succeeded) {
        match &command.parameters {
            Parameters::CreateImage(p) => {
                let host = &world.hosts[&p.host_id];
                assert_eq!(
                    host.images.get(&p.disk.disk_id),
                    Some(&Image::Whole),
                    "{command:#?}"
                );
            }
            Parameters::RemoveImage(p) => {
                let host = &world.hosts[&p.host_id];
                assert_eq!(host.images.get(&p.disk_id), None, "{command:#?}");
            }
            Parameters::CreateStorageDomain(p) => {
                assert!(world.hosts[&p.host_id].domains.contains(&p.domain_id));
            }
            _ => {}
        }
        assert!(command.left_behind.is_empty());
    }
}

/// A VM that was not made, and of which nothing is said to be left, has left nothing.
fn ends_without_trace_leave_none(world: &World, transition: &Transition) {
    let failed = |command: &&Command| matches!(command.state, CommandState::Failed | CommandState::Cancelled);
    for command in commands(transition).filter(failed) {
        if command.state == CommandState::Cancelled {
            assert!(command.left_behind.is_empty(), "cancelled means no net change");
        }
        if let Parameters::CreateVm(_) = &command.parameters {
            for child in &command.children {
                let Parameters::CreateImage(p) = &world.command(*child).parameters else {
                    continue;
                };
                let left = world.hosts[&p.host_id].images.contains_key(&p.disk.disk_id);
                let named = command.left_behind.contains(&EntityKey::Disk(p.disk.disk_id));
                // It may have been there before the command: then the task was refused and touched nothing.
                let before = world.leftovers.contains(&p.disk.disk_id);
                assert!(
                    !left || named || before,
                    "{:?} is left and not named: {command:#?}",
                    p.disk.disk_id
                );
            }
        }
    }
}

fn terminal_commands_hold_no_locks(world: &World) {
    let state = &world.engine.state;
    for owner in state.lock_owners() {
        match owner {
            Owner::Command(id) => {
                let command = state.command(id).expect("a holder is live");
                assert!(
                    command.is_root() && !command.state.is_terminal(),
                    "{command:#?} holds locks"
                );
            }
            Owner::Foreign(id) => assert!(state.task(id).expect("a holder is live").is_open()),
        }
    }
}

fn unfinished_roots_hold_theirs(world: &World) {
    let state = &world.engine.state;
    for root in state
        .commands()
        .filter(|command| command.is_root() && !command.state.is_terminal())
    {
        let mut locks = root.locks.clone();
        locks.sort();
        assert_eq!(state.locks_of(root.id), locks, "{root:#?}");
    }
}

fn parents_end_last(world: &World) {
    let state = &world.engine.state;
    for command in state.commands() {
        let children = command.children.iter().filter_map(|id| state.command(*id));
        for child in children {
            assert!(
                !command.state.is_terminal() || child.state.is_terminal(),
                "{command:#?} ended before {child:#?}"
            );
            let rests = child.state == CommandState::NeedsAttention;
            assert!(
                !rests || command.state == CommandState::NeedsAttention,
                "{command:#?} does not rest with {child:#?}"
            );
        }
    }
}

fn everybody_says_what_is_awaited(world: &World) {
    let state = &world.engine.state;
    for command in state.commands() {
        assert_eq!(
            command.waiting_for.is_none(),
            command.state.is_terminal(),
            "{command:#?}"
        );
        assert_eq!(
            command.attention().is_some(),
            command.state == CommandState::NeedsAttention,
            "{command:#?}"
        );
        if command.state.is_terminal() && command.is_root() {
            assert_eq!(command.outcomes.len(), command.children.len());
        }
    }
    for task in state.tasks() {
        assert!(task.waiting_for.is_some() || !task.is_open(), "{task:#?}");
    }
}

/// What a new process would load is what this one has, and it would ask for everything that was just asked for.
fn what_is_loaded_is_what_was_lived(world: &World, transition: &Transition) {
    let loaded = world.engine.reloaded();
    // Printing the whole picture takes its time: now and then is often enough.
    if transition.changes.len() % 3 == 2 {
        assert_eq!(loaded.picture(), world.engine.state.picture());
    }
    let derived = |effect: &&Effect| {
        !matches!(
            effect,
            Effect::Follow { .. }
                | Effect::Unfollow { .. }
                | Effect::Resync { .. }
                | Effect::Reclaim { .. }
                | Effect::Halt { .. }
        )
    };
    // Asked for and made needless by what the same input told later.
    let stands = |effect: &&Effect| match effect {
        Effect::AbortTask { task_id, .. } => {
            loaded.task(*task_id).is_some_and(|t| t.is_open() && t.cancelable)
        }
        _ => true,
    };
    for effect in transition.effects.iter().filter(derived).filter(stands) {
        let host = host_of(effect).expect("only Halt is for no host");
        assert!(
            loaded.outstanding(host).contains(effect),
            "lost for ever in a crash: {effect:#?}"
        );
    }
}
