//! What must hold after every transition, whatever the world did.

use std::collections::{BTreeMap, BTreeSet};

use common::id::{CommandId, TaskId};
use common::lock::Mode;

use super::World;
use super::host::{Image, Size};
use super::world::host_of;
use crate::change::Change;
use crate::effect::Effect;
use crate::model::{
    AsyncTaskState, Awaited, Command, CommandState, CopyImage, CreateImage, Ending, EntityKey, Parameters,
};
use crate::state::{Owner, State};
use crate::step::Transition;

/// What was counted so far, across restarts as well.
#[derive(Default)]
pub(crate) struct Counts {
    commands: BTreeMap<CommandId, u64>,
    tasks: BTreeMap<TaskId, u64>,
    trees: BTreeMap<CommandId, u64>,
    ended: BTreeSet<CommandId>,
    endings: BTreeMap<TaskId, Option<Ending>>,
    done_bytes: BTreeMap<CommandId, u64>,
    transitions: u64,
    /// Every move of a command and of a task, with the state that it began in.
    pub(crate) moved: super::Moved,
}

impl Counts {
    /// Begins anew, as records have them.
    pub(crate) fn restart<'a>(&mut self, records: impl Iterator<Item = &'a Change>) {
        let moved = std::mem::take(&mut self.moved);
        *self = Self {
            moved,
            ..Self::of(records)
        };
    }

    /// As records have them.
    fn of<'a>(records: impl Iterator<Item = &'a Change>) -> Self {
        let mut counts = Self::default();
        for record in records {
            let (root, sequence) = match record {
                Change::Command(c) => {
                    counts.commands.insert(c.id, c.sequence);
                    counts.ended.extend(c.state.is_terminal().then_some(c.id));
                    (c.root, c.tree_sequence)
                }
                Change::Task(t) => {
                    counts.tasks.insert(t.id, t.sequence);
                    if t.command.is_some() && !t.is_open() {
                        counts.endings.insert(t.id, t.ending());
                    }
                    let Some(root) = t.root else { continue };
                    (root, t.tree_sequence)
                }
                _ => continue,
            };
            let count = counts.trees.entry(root).or_default();
            *count = (*count).max(sequence);
        }
        counts
    }
}

/// Checks all of them.
pub(crate) fn after(world: &World, counts: &mut Counts, transition: &Transition) {
    counts.transitions += 1;
    assert!(transition.defects.is_empty(), "{:#?}", transition.defects);
    counts.moved.add(&transition.moves);
    terminal_is_final(counts, transition);
    endings_are_final(counts, transition);
    sequences_are_dense(counts, transition);
    jobs_never_go_back(counts, transition);
    successes_are_true(world, transition);
    ends_without_trace_leave_none(world, transition);
    terminal_commands_hold_no_locks(world);
    unfinished_roots_hold_theirs(world);
    waiting_commands_wait_for_somebody(world);
    nobody_overtakes(world, transition);
    disks_are_attached_once(world);
    sources_stay(world);
    parents_end_last(world);
    everybody_says_what_is_awaited(world);
    the_stance_follows_from_the_state(world);
    if counts.transitions.is_multiple_of(LOADED_EVERY) {
        what_is_loaded_is_what_was_lived(world, transition);
    }
}

/// Whatever changes what the hosts say of this start is told.
fn the_stance_follows_from_the_state(world: &World) {
    let state = &world.engine.state;
    assert_eq!(state.volatile.stance.as_ref(), Some(&state.stance()));
}

/// Loading everything takes its time: now and then is often enough.
const LOADED_EVERY: u64 = 4;

fn terminal_is_final(counts: &mut Counts, transition: &Transition) {
    for command in commands(transition) {
        assert!(
            !counts.ended.contains(&command.id),
            "it changes after its end: {command:#?}"
        );
        if command.state.is_terminal() {
            counts.ended.insert(command.id);
        }
    }
}

/// What became of a task of ours stays so, whatever its host remembers.
fn endings_are_final(counts: &mut Counts, transition: &Transition) {
    for change in &transition.changes {
        let Change::Task(task) = change else { continue };
        if task.command.is_none() || task.is_open() {
            assert!(!counts.endings.contains_key(&task.id), "it was over: {task:#?}");
            continue;
        }
        let before = counts.endings.insert(task.id, task.ending());
        let is_looked_at_again = matches!(before, Some(Some(Ending::Unclear(_))));
        assert!(
            before.is_none() || is_looked_at_again || before == Some(task.ending()),
            "{before:?} {task:#?}"
        );
    }
}

/// What is over of a job stays so, and is never more than all of it.
fn jobs_never_go_back(counts: &mut Counts, transition: &Transition) {
    for head in &transition.heads {
        let last = counts.done_bytes.insert(head.root, head.progress.done_bytes);
        assert!(head.progress.done_bytes >= last.unwrap_or_default(), "{head:#?}");
        assert!(head.progress.done_bytes <= head.progress.total_bytes, "{head:#?}");
        assert!((0.0..=100.0).contains(&head.progress.percent), "{head:#?}");
    }
}

/// Of each command and task, and of each tree; the heads of jobs as well.
fn sequences_are_dense(counts: &mut Counts, transition: &Transition) {
    let mut heads = transition.heads.iter();
    for change in &transition.changes {
        let (sequence, last, tree) = match change {
            Change::Command(c) => {
                let last = counts.commands.insert(c.id, c.sequence);
                (c.sequence, last, Some((c.root, c.tree_sequence)))
            }
            Change::Task(t) => {
                let last = counts.tasks.insert(t.id, t.sequence);
                (t.sequence, last, t.root.map(|root| (root, t.tree_sequence)))
            }
            _ => continue,
        };
        assert_eq!(sequence, last.unwrap_or_default() + 1, "{change:#?}");
        if let Some((root, sequence)) = tree {
            let last = counts.trees.insert(root, sequence);
            assert_eq!(sequence, last.unwrap_or_default() + 1, "tree {root}");
            let head = heads.next().expect("a head for each change");
            assert_eq!((head.root, head.sequence), (root, sequence));
        } else if let Change::Task(task) = change {
            // Somebody else's task may be seen anew when its host was given up and taken again: another life.
            if task.async_state == AsyncTaskState::Cleared {
                counts.tasks.remove(&task.id);
            }
        }
    }
    assert_eq!(heads.next(), None, "a head without a change");
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
        let state = &world.engine.state;
        match &command.parameters {
            Parameters::AddHost(p) => assert!(state.host(p.host_id).is_some(), "{command:#?}"),
            Parameters::RemoveHost(p) => assert_eq!(state.host(p.host_id), None, "{command:#?}"),
            Parameters::TakeOverHost(p) => assert!(state.host(p.host_id).is_some(), "{command:#?}"),
            Parameters::CreateStorageDomain(p) => {
                assert!(world.hosts[&p.host_id].domains.contains(&p.domain_id));
            }
            Parameters::CreateVm(p) => assert!(state.vm(p.vm_id).is_some(), "{command:#?}"),
            Parameters::RemoveVm(p) => assert_eq!(state.vm(p.vm_id), None, "{command:#?}"),
            Parameters::CreateDisk(p) => assert!(state.disk(p.disk.disk_id).is_some(), "{command:#?}"),
            Parameters::RemoveDisk(p) => assert_eq!(state.disk(p.disk_id), None, "{command:#?}"),
            Parameters::AttachDisk(p) => {
                let vm = state.vm_of(p.disk_id).map(|vm| vm.id);
                assert_eq!(vm, Some(p.vm_id), "{command:#?}");
            }
            Parameters::DetachDisk(p) => assert_eq!(state.vm_of(p.disk_id), None, "{command:#?}"),
            Parameters::ExtendDisk(p) => {
                let recorded = state.disk(p.disk_id).map(|disk| disk.spec.capacity_bytes);
                assert_eq!(recorded, Some(p.capacity_bytes), "{command:#?}");
                // Somebody may have removed it by hand meanwhile.
                let there = world.hosts[&p.host_id].size(p.disk_id);
                assert!(
                    there.is_none_or(|size| size == Size::of(p.capacity_bytes)),
                    "{there:?} {command:#?}"
                );
            }
            Parameters::CopyDisk(p) => assert!(state.disk(p.disk.disk_id).is_some(), "{command:#?}"),
            Parameters::CreateImage(CreateImage { host_id, disk, .. })
            | Parameters::CopyImage(CopyImage { host_id, disk, .. }) => {
                let image = world.hosts[host_id].images.get(&disk.disk_id);
                assert_eq!(image, Some(&Image::Whole), "{command:#?}");
            }
            Parameters::RemoveAllVmImages(p) => {
                for disk_id in &p.disk_ids {
                    assert_eq!(state.disk(*disk_id), None, "{command:#?}");
                }
            }
            Parameters::RemoveImage(p) => {
                let host = &world.hosts[&p.host_id];
                assert_eq!(host.images.get(&p.disk_id), None, "{command:#?}");
            }
        }
        assert!(command.left_behind.is_empty());
    }
}

/// A disk is on the list of one VM at most, and is there.
fn disks_are_attached_once(world: &World) {
    let state = &world.engine.state;
    let mut seen = BTreeSet::new();
    for vm in state.vms() {
        for id in &vm.disk_ids {
            assert!(
                state.disk(*id).is_some(),
                "{vm:#?} names a disk that is not there"
            );
            assert!(seen.insert(*id), "disk {id} is attached twice");
            assert_eq!(state.vm_of(*id), Some(vm), "disk {id} does not lead to its VM");
        }
    }
}

/// What a copy reads stays in the inventory, with its VM, until the copy is over.
fn sources_stay(world: &World) {
    let state = &world.engine.state;
    let at_work = |command: &&Command| !command.state.is_terminal() && command.state != CommandState::Pending;
    for copy in state.commands().filter(at_work) {
        let Parameters::CopyDisk(p) = &copy.parameters else {
            continue;
        };
        assert!(
            state.disk(p.source_disk_id).is_some(),
            "the source is gone: {copy:#?}"
        );
        let vm = copy.locks.iter().find_map(|(key, _)| match key {
            EntityKey::Vm(id) => Some(*id),
            _ => None,
        });
        assert_eq!(state.vm_of(p.source_disk_id).map(|vm| vm.id), vm, "{copy:#?}");
    }
}

/// A VM or a disk that was not made, and of which nothing is said to be left, has left nothing.
fn ends_without_trace_leave_none(world: &World, transition: &Transition) {
    let failed = |command: &&Command| matches!(command.state, CommandState::Failed | CommandState::Cancelled);
    for command in commands(transition).filter(failed) {
        if command.state == CommandState::Cancelled {
            assert!(command.left_behind.is_empty(), "cancelled means no net change");
            let failed_itself = |child: &CommandId| world.command(*child).state == CommandState::Failed;
            assert!(
                !command.children.iter().any(failed_itself),
                "a part of it failed by itself: {command:#?}"
            );
        }
        // One that never started says nothing of a disk that another command may just be extending.
        if let Parameters::ExtendDisk(p) = &command.parameters
            && !command.tasks.is_empty()
            && let Some(size) = world.hosts[&p.host_id].size(p.disk_id)
        {
            let recorded = world
                .engine
                .state
                .disk(p.disk_id)
                .map(|disk| disk.spec.capacity_bytes);
            let named = !command.left_behind.is_empty() || world.leftovers.contains(&p.disk_id);
            assert!(
                named || Some(size) == recorded.map(Size::of),
                "{size:?} {recorded:?} {command:#?}"
            );
        }
        for child in &command.children {
            let (Parameters::CreateImage(CreateImage { host_id, disk, .. })
            | Parameters::CopyImage(CopyImage { host_id, disk, .. })) = &world.command(*child).parameters
            else {
                continue;
            };
            let disk = disk.disk_id;
            let left = world.hosts[host_id].images.contains_key(&disk);
            let named = command.left_behind.contains(&EntityKey::Disk(disk));
            // It may have been there before the command: then the task was refused and touched nothing.
            let before = world.leftovers.contains(&disk);
            assert!(
                !left || named || before,
                "{disk:?} is left and not named: {command:#?}"
            );
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
    let waiting = state.waiting();
    for root in state
        .commands()
        .filter(|command| command.is_root() && !command.state.is_terminal())
    {
        let mut locks = root.locks.clone();
        locks.sort();
        let waits = root.state == CommandState::Pending;
        assert_eq!(waiting.contains(&root.id), waits, "{root:#?}");
        if waits {
            assert!(state.locks_of(root.id).is_empty(), "{root:#?} has locks");
            assert!(root.lock_wait.is_some(), "{root:#?}");
            nothing_is_asked_for(state, root);
        } else {
            assert_eq!(state.locks_of(root.id), locks, "{root:#?}");
        }
    }
}

/// Of a tree that waits nothing is recorded but what a start that was cut has left, and no host is asked for that.
fn nothing_is_asked_for(state: &State, root: &Command) {
    let parts = state.tree_of(root.id).into_iter();
    let parts = parts.filter_map(|id| state.command(id));
    for task in parts
        .flat_map(|part| &part.tasks)
        .filter_map(|id| state.task(*id))
    {
        assert_eq!(task.async_state, AsyncTaskState::Initializing, "{task:#?}");
        assert_eq!(state.ask_of(task), None, "{root:#?}");
    }
}

/// Whoever waits has somebody in its way, whom it names, once the engine may act; the queue is that of acceptance.
fn waiting_commands_wait_for_somebody(world: &World) {
    let state = &world.engine.state;
    let mut last = 0;
    for id in state.waiting() {
        let command = state.command(id).expect("who waits is live");
        assert!(command.seq > last, "the queue is in order");
        last = command.seq;
        // Those that begin later begin with one of the next inputs.
        if !state.volatile.freed.is_empty() {
            continue;
        }
        assert!(state.is_blocked(id), "nobody is in its way: {command:#?}");
        let blockers = state.blockers(id, &command.locks);
        let what = command.waiting_for.as_ref().map(|waiting| &waiting.what);
        assert_eq!(what, Some(&Awaited::Locks(blockers)), "{command:#?}");
    }
}

/// Nobody starts before one who waits for the same, and came first.
fn nobody_overtakes(world: &World, transition: &Transition) {
    let state = &world.engine.state;
    let begins = |command: &&Command| {
        let first = command.sequence == 1 || command.lock_wait.is_some();
        command.is_root() && command.state == CommandState::Active && first
    };
    for begun in commands(transition).filter(begins) {
        for id in state.waiting() {
            let waiting = state.command(id).expect("who waits is live");
            let conflict = begun.locks.iter().any(|(key, mode)| {
                let same = waiting.locks.iter().filter(|(other, _)| other == key);
                same.into_iter()
                    .any(|(_, other)| [*mode, *other].contains(&Mode::Exclusive))
            });
            // One that was at work before it came keeps what it has.
            assert!(
                !conflict || waiting.seq > begun.seq,
                "{begun:#?} passes {waiting:#?}"
            );
        }
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
    assert_eq!(loaded.dump(), world.engine.state.dump());
    let derived = |effect: &&Effect| {
        !matches!(
            effect,
            Effect::Follow { .. }
                | Effect::Unfollow { .. }
                | Effect::Resync { .. }
                | Effect::Reclaim { .. }
                // After a crash the first look comes again, wherever the host is recorded by then.
                | Effect::TakeInventory { .. }
        )
    };
    // Asked for and made needless by what the same input told later.
    let stands = |effect: &&Effect| match effect {
        Effect::AbortTask { task_id, .. } => {
            loaded.task(*task_id).is_some_and(|t| t.is_open() && t.cancelable)
        }
        // Of a task that is over for good: it is shown again at the next connection.
        Effect::ClearTask { host_id, task_id, .. } => {
            loaded.task(*task_id).is_some() || loaded.host(*host_id).is_none_or(|host| !host.has_risen)
        }
        _ => true,
    };
    for effect in transition.effects.iter().filter(derived).filter(stands) {
        let host = host_of(effect);
        assert!(
            loaded.outstanding(host).contains(effect),
            "lost for ever in a crash: {effect:#?}"
        );
    }
}
