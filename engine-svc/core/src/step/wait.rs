//! Commands that wait for their locks (PENDING): they are accepted, shown, started in the order of their acceptance
//! when all locks of the tree are free, stopped, and ended when their time is up. Their work is planned when they
//! start.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use common::age::Present;
use common::id::CommandId;
use common::{Fault, FaultCode, Timestamp};

use super::submit::held;
use super::tx::Tx;
use super::{Reply, Transition};
use crate::change::Change;
use crate::model::{
    AsyncTask, AsyncTaskEvent, Awaited, Blockers, Command, CommandEvent, CommandState, EntityKey, Settled,
    WaitingFor,
};
use crate::plan::{self, End, Origin, Plan, Records};
use crate::state::{Stance, State, freed_by};

/// The maximum number of trees that begin in one step: hundreds may wait for the locks that an end frees, and each
/// tree begins with up to a hundred records. The others begin with the next inputs; an input comes every second while
/// a command waits.
const BEGIN_AT_ONCE: usize = 32;

/// The maximum number of blockers that a fault names.
const NAMED: usize = 3;

impl State {
    /// Starts the commands that wait for entities that a step has freed. Each start is a step of its own, added to
    /// the others' changes: a refused start harms only itself.
    pub(super) fn start_waiting(&mut self, transition: &mut Transition, is_restart: bool, now: Timestamp) {
        let mut freed = std::mem::take(&mut self.volatile.freed);
        if self.waiting_commands() == 0 {
            return;
        }
        freed.append(&mut freed_by(&transition.changes));
        if is_restart {
            freed = self.all_waited_for();
        }
        // An engine that may not be the one that goes on begins nothing: the freed entities are looked at again
        // later.
        if !matches!(self.volatile.stance, Some(Stance::Acts)) {
            self.volatile.freed = freed;
            return;
        }
        let (mut begun, mut blocked) = (0, BTreeSet::new());
        while !freed.is_empty() {
            let keys = std::mem::take(&mut freed);
            for id in self.waiting_for(&keys) {
                if self.is_blocked(id) {
                    blocked.insert(id);
                    continue;
                }
                if begun == BEGIN_AT_ONCE {
                    self.volatile.freed = keys;
                    return;
                }
                begun += 1;
                let step = self.with_tx(now, |tx| tx.begin(id));
                freed.append(&mut freed_by(&step.changes));
                transition.append(step);
            }
        }
        let step = self.with_tx(now, |tx| blocked.into_iter().for_each(|id| tx.note_blockers(id)));
        transition.append(step);
    }

    fn with_tx(&mut self, now: Timestamp, act: impl FnOnce(&mut Tx<'_>)) -> Transition {
        let mut tx = Tx::new(self, now);
        act(&mut tx);
        tx.finish(Reply::Done)
            .unwrap_or_else(|defect| Transition::refused(defect.fault()))
    }
}

impl Tx<'_> {
    /// Whether one more command may wait.
    pub(super) fn may_wait(&self) -> Result<(), Fault> {
        let most = self.state.seed.limits.waiting_commands;
        let waiting = self.state.waiting_commands();
        if waiting < most {
            return Ok(());
        }
        let message = format!(
            "{waiting} commands wait for their locks, and {most} is the maximum. Nothing was changed; repeat the request later"
        );
        Err(Fault::new(FaultCode::TooManyCommands, message))
    }

    /// Accepts a command that waits. Of its plan, only the locks are recorded.
    pub(super) fn queue(&mut self, planned: Command) -> Reply {
        let blockers = self.state.blockers(planned.id, &planned.locks);
        let root = Command {
            state: CommandState::Pending,
            children: Vec::new(),
            tasks: Vec::new(),
            waiting_for: Some(awaits(blockers, self.now)),
            tree_sequence: 1,
            ..planned
        };
        self.put(Change::Command(Arc::new(root.clone())));
        self.present(root)
    }

    /// The locks of a waiting command are free: it starts, if that is still possible, or waits for the locks that it
    /// needs now.
    fn begin(&mut self, id: CommandId) {
        let Some(root) = self.state.command(id).cloned() else {
            return;
        };
        let plan = match self.plan_again(&root) {
            Ok(plan) => plan,
            Err(fault) => return self.end_waiting(id, Some(fault)),
        };
        if !same(&plan, &root) {
            self.edit_command(id, |command| command.locks.clone_from(&plan.locks));
            if self.state.is_blocked(id) {
                return self.note_blockers(id);
            }
        }
        if let Some(fault) = plan.forbidden {
            return self.end_waiting(id, Some(fault));
        }
        let origin = Origin {
            id,
            user: &root.user,
            correlation_id: &root.correlation_id,
        };
        let records = plan.records(self.state, origin, self.next_seq(), self.now);
        match self.too_many(&records) {
            Ok(()) => self.start_planned(records),
            Err(fault) => self.end_waiting(id, Some(fault)),
        }
    }

    fn plan_again(&self, root: &Command) -> Result<Plan, Fault> {
        let Some(request) = plan::asked(&root.parameters) else {
            let message = format!(
                "command {} cannot have been requested by a client; please report it",
                root.id
            );
            return Err(Fault::new(FaultCode::Internal, message));
        };
        self.plan(root.id, &request)
    }

    /// The order: first the root's lists of its parts and tasks, then these records, each parent before its children,
    /// then the start. The lists lead to the records of an interrupted start, which stay as they are. No host is
    /// asked for any of it before the start.
    fn start_planned(&mut self, records: Records) {
        let Records {
            root: planned,
            task,
            children,
        } = records;
        let id = planned.id;
        self.edit_command(id, |command| {
            command.children.clone_from(&planned.children);
            command.tasks.clone_from(&planned.tasks);
            command.parameters.clone_from(&planned.parameters);
        });
        for (mut command, task) in children.into_iter().rev() {
            if self.state.command(command.id).is_none() {
                command.tree_sequence = self.next_tree_sequence(id);
                self.put(Change::Command(Arc::new(command)));
            }
            self.record_planned(id, task);
        }
        self.record_planned(id, task);
        self.move_command(id, CommandEvent::Start, |command| {
            command.waiting_for = planned.waiting_for;
        });
        if let Some(root) = self.state.command(id).cloned() {
            self.set_out(&root);
        }
    }

    fn record_planned(&mut self, root: CommandId, task: Option<AsyncTask>) {
        if let Some(mut task) = task.filter(|task| self.state.task(task.id).is_none()) {
            task.tree_sequence = self.next_tree_sequence(root);
            self.put(Change::Task(Arc::new(task)));
        }
    }

    /// The command ends without having begun; it counts as stopped if somebody asked for that.
    pub(super) fn end_waiting(&mut self, id: CommandId, fault: Option<Fault>) {
        let Some(command) = self.state.command(id) else {
            return;
        };
        let next = End::without_trace(command, fault);
        self.drop_parts(id);
        self.take(id, next);
    }

    /// Ends the records of an interrupted start that is not to happen. As far as is known, a new plan would be the
    /// same.
    fn drop_parts(&mut self, root: CommandId) {
        for id in self.state.tree_of(root) {
            let tasks = self.state.command(id).map(|part| part.tasks.clone());
            let now = self.now;
            for task_id in tasks.unwrap_or_default() {
                self.move_task(task_id, &[AsyncTaskEvent::End], |task| {
                    task.settled = Some(Settled::Refused);
                    task.ended = Some(now);
                    task.waiting_for = None;
                });
                self.clear_locally(task_id);
            }
            if id != root {
                self.move_command(id, CommandEvent::Cancel, |part| {
                    part.waiting_for = None;
                    part.ended = Some(now);
                });
            }
        }
    }

    /// Records who blocks a waiting command.
    fn note_blockers(&mut self, id: CommandId) {
        let Some(command) = self.state.command(id) else {
            return;
        };
        let blockers = self.state.blockers(id, &command.locks);
        let since = command.created;
        if command.state == CommandState::Pending {
            self.edit_command(id, |command| command.waiting_for = Some(awaits(blockers, since)));
        }
    }

    /// Ends the commands whose time is up: by the age of their records, or because this process alone has seen them wait
    /// for that long. The age of a record says nothing for a while after the wall clock has jumped.
    pub(super) fn check_lock_waits(&mut self, present: &Present, running: Duration) {
        let stance = self.may_act().err();
        let seen = std::mem::take(&mut self.state.volatile.waits);
        for id in self.state.waiting() {
            let since = *seen.get(&id).unwrap_or(&running);
            self.state.volatile.waits.insert(id, since);
            let Some(command) = self.state.command(id) else {
                continue;
            };
            let wait = command.lock_wait.unwrap_or_default();
            if present.is_older(command.created, wait) || running.saturating_sub(since) >= wait {
                let blockers = self.state.blockers(id, &command.locks);
                self.end_waiting(id, Some(expired(wait.as_secs_f64(), &blockers, stance.as_ref())));
            }
        }
    }
}

/// Whether the plan needs the locks that the command has waited for.
fn same(plan: &Plan, root: &Command) -> bool {
    let of = |locks: &[(EntityKey, _)]| locks.iter().cloned().collect::<BTreeSet<_>>();
    of(&plan.locks) == of(&root.locks)
}

fn awaits(blockers: Blockers, since: Timestamp) -> WaitingFor {
    WaitingFor {
        what: Awaited::Locks(blockers),
        note: "its locks: it starts when the commands before it have ended".into(),
        since,
    }
}

/// The same for a command that is only planned.
pub(super) fn would_await(blockers: Blockers, now: Timestamp) -> WaitingFor {
    WaitingFor {
        note: "its locks: it would wait, and start when those that come first have ended".into(),
        ..awaits(blockers, now)
    }
}

/// `stance`: why the engine begins nothing, if so.
fn expired(seconds: f64, blockers: &Blockers, stance: Option<&Fault>) -> Fault {
    if let Some(fault) = stance {
        let message = format!(
            "it waited {seconds} s (lock_wait) and did not start, because this engine starts nothing: {}",
            fault.message
        );
        return Fault::new(FaultCode::LockWaitExpired, message).about(&fault.subject);
    }
    let named = blockers.by.iter().take(NAMED);
    let named: Vec<String> = named
        .map(|blocker| held(&blocker.entity, &blocker.holder, blocker.waits))
        .collect();
    let more = blockers.by.len().saturating_sub(NAMED) + blockers.more;
    let more = if more > 0 {
        format!("; {more} more block it")
    } else {
        String::new()
    };
    let message = format!(
        "it waited {seconds} s for its locks (lock_wait) and did not start: {}{more}",
        named.join("; ")
    );
    let fault = Fault::new(FaultCode::LockWaitExpired, message);
    match blockers.by.first() {
        Some(first) => fault.about(&first.entity),
        None => fault,
    }
}

#[cfg(test)]
mod tests {
    use common::FaultCode;
    use common::age::AgeClock;
    use common::id::TaskId;
    use common::lock::Mode;

    use super::*;
    use crate::input::{Input, MAX_LOCK_WAIT, lock_wait};
    use crate::model::CommandState::*;
    use crate::model::Holder;
    use crate::testing::{
        World, add_host, attach_disk, code, command_id, copy_disk, create_disk, create_vm, disk_id, host_id,
        remove_disk, remove_vm, submission, vm_id,
    };

    /// Running time; inputs are microseconds apart.
    const WAIT: Duration = Duration::from_micros(500);

    /// A disk that is being copied, and a waiting command that is to remove it.
    fn world() -> World {
        let mut world = World::with_domains(1);
        world.submit(1, "CreateDisk", create_disk(1, 0));
        world.settle();
        world.submit(2, "CopyDisk", copy_disk(1, 2, 0));
        world.submit_waiting(3, "RemoveDisk", remove_disk(1), WAIT);
        world
    }

    fn fault(world: &World, n: u128) -> Fault {
        world.root(n).fault.clone().expect("it failed")
    }

    fn blockers(world: &World, n: u128) -> Vec<(CommandId, bool)> {
        match world.root(n).waiting_for.as_ref().map(|waiting| &waiting.what) {
            Some(Awaited::Locks(blockers)) => {
                let of = |blocker: &crate::model::Blocker| match &blocker.holder {
                    Holder::Command { command_id, .. } => (*command_id, blocker.waits),
                    Holder::ForeignTask { .. } => panic!("a command is meant"),
                };
                blockers.by.iter().map(of).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn it_waits_without_any_plan_and_starts_when_its_locks_are_free_after_a_restart_too() {
        for crash in [false, true] {
            let mut world = world();
            let root = world.root(3);
            assert_eq!((root.state, root.children.len(), root.sequence), (Pending, 0, 1));
            assert_eq!(blockers(&world, 3), [(command_id(2), false)]);
            if crash {
                world.crash();
            }
            world.settle();
            assert_eq!((world.state_of(2), world.state_of(3)), (Succeeded, Succeeded));
            assert!(!world.host_mut(0).images.contains_key(&disk_id(1)));
        }
    }

    #[test]
    fn it_waits_no_longer_than_it_may_whatever_the_wall_clock_does() {
        let mut world = world();
        // The clock was a year ahead for a moment, so no record is old for a year.
        let year = 365 * 86_400 * 1_000_000;
        let mut clock = AgeClock::begin(MAX_LOCK_WAIT, Timestamp(0));
        clock.look(Timestamp(year), Duration::ZERO);
        let check = |world: &mut World, running: Duration| {
            let present = clock.present();
            world.step(Input::LockWaitsChecked { present, running });
            world.state_of(3)
        };
        let moment = Duration::from_micros(1);
        assert_eq!(check(&mut world, Duration::from_secs(5)), Pending);
        assert_eq!(check(&mut world, Duration::from_secs(5) + WAIT - moment), Pending);
        // Another process begins to count anew.
        world.crash();
        assert_eq!(check(&mut world, moment), Pending);
        assert_eq!(check(&mut world, WAIT), Pending);
        assert_eq!(check(&mut world, moment + WAIT), Failed);
        assert_eq!(fault(&world, 3).code, FaultCode::LockWaitExpired);
    }

    #[test]
    fn without_a_time_to_wait_it_is_refused_at_once_behind_one_that_waits_too() {
        let mut world = world();
        let copy = world.submit(4, "CopyDisk", copy_disk(1, 3, 0));
        let Reply::Refused(fault) = copy else {
            panic!("one that came first needs the disk alone");
        };
        assert_eq!(fault.code, FaultCode::EntityBusy);
        let next = command_id(3).to_string();
        assert!(
            fault.message.contains("is waited for by") && fault.message.contains(&next),
            "{fault}"
        );
    }

    #[test]
    fn nobody_passes_one_who_came_first_and_those_who_share_start_together() {
        let mut world = world();
        for n in 4..=5 {
            world.submit_waiting(n, "CopyDisk", copy_disk(1, n, 0), WAIT);
            assert_eq!(
                blockers(&world, n),
                [(command_id(3), true)],
                "only what is in its way"
            );
        }
        world.step(Input::Cancel {
            command_id: command_id(3),
            user: "ann".into(),
        });
        assert_eq!(world.state_of(3), Cancelled);
        for n in 4..=5 {
            assert_eq!(
                world.state_of(n),
                Active,
                "what is only read is shared with the first copy"
            );
        }
        world.settle();
        assert_eq!((world.state_of(4), world.state_of(5)), (Succeeded, Succeeded));
    }

    #[test]
    fn stopped_while_it_waits_nothing_has_changed() {
        let mut world = world();
        world.step(Input::Cancel {
            command_id: command_id(3),
            user: "ann".into(),
        });
        let root = world.root(3);
        assert_eq!(
            (root.state, root.cancel_requested, root.fault.clone()),
            (Cancelled, true, None)
        );
        world.settle();
        assert!(world.engine.state.disk(disk_id(1)).is_some());
    }

    #[test]
    fn when_its_time_is_up_it_fails_and_names_who_is_in_its_way() {
        let mut world = world();
        world.look_at_waits(100);
        assert_eq!(world.state_of(3), Pending);
        world.crash();
        world.look_at_waits(1_000);
        let fault = fault(&world, 3);
        assert_eq!(
            (world.state_of(3), fault.code),
            (Failed, FaultCode::LockWaitExpired)
        );
        let copy = command_id(2).to_string();
        assert!(
            fault.message.contains(&copy) && fault.message.contains("ann"),
            "{fault}"
        );
        world.settle();
        assert!(world.engine.state.disk(disk_id(1)).is_some());
    }

    #[test]
    fn what_it_works_on_may_be_gone_when_its_turn_comes() {
        let mut world = world();
        world.submit_waiting(4, "RemoveDisk", remove_disk(1), WAIT);
        world.submit_waiting(5, "CopyDisk", copy_disk(1, 9, 0), WAIT);
        world.settle();
        for n in 4..=5 {
            let fault = fault(&world, n);
            assert_eq!(
                (world.state_of(n), fault.code),
                (Failed, FaultCode::EntityNotFound),
                "{fault}"
            );
        }
    }

    #[test]
    fn it_is_planned_when_it_starts() {
        let mut world = World::with_domains(1);
        world.submit(1, "CreateVm", create_vm(1, [1], 0));
        world.submit(2, "CreateDisk", create_disk(2, 0));
        world.settle();
        world.submit(3, "CopyDisk", copy_disk(1, 3, 0));
        world.submit_waiting(4, "AttachDisk", attach_disk(2, 1), WAIT);
        world.submit_waiting(5, "RemoveVm", remove_vm(1), WAIT);
        assert_eq!((world.state_of(4), world.state_of(5)), (Pending, Pending));
        let planned = world.root(5).locks.clone();
        world.settle();
        assert_eq!((world.state_of(4), world.state_of(5)), (Succeeded, Succeeded));
        assert!(
            world.root(5).locks.len() > planned.len(),
            "the disk that was attached meanwhile goes with it"
        );
        assert!(!world.host_mut(0).images.contains_key(&disk_id(2)));
        assert!(world.engine.state.vm(vm_id(1)).is_none());
    }

    #[test]
    fn what_the_state_forbids_is_said_when_the_locks_are_free() {
        let mut world = World::with_domains(1);
        world.submit(1, "CreateVm", create_vm(1, [1], 0));
        world.submit(2, "CreateVm", create_vm(2, [], 0));
        world.settle();
        world.submit(3, "CopyDisk", copy_disk(1, 3, 0));
        world.submit_waiting(4, "AttachDisk", attach_disk(1, 2), WAIT);
        assert_eq!(world.state_of(4), Pending);
        world.settle();
        assert_eq!(fault(&world, 4).code, FaultCode::DiskAttached);
    }

    #[test]
    fn those_that_wait_are_bounded_and_planned_only_they_take_no_place() {
        let mut world = world();
        world.engine.state.seed.limits.waiting_commands = 2;
        let mut planned = submission(4, "RemoveDisk", remove_disk(1));
        (planned.lock_wait, planned.validate_only) = (Some(WAIT), true);
        let transition = world.step(Input::Submit(Box::new(planned)));
        assert!(transition.changes.is_empty());
        let Reply::Planned { command, .. } = transition.reply else {
            panic!("it would be accepted");
        };
        let Some(Awaited::Locks(ahead)) = command.waiting_for.map(|waiting| waiting.what) else {
            panic!("it would wait");
        };
        let disk = EntityKey::Disk(disk_id(1));
        let ahead: Vec<_> = ahead
            .by
            .iter()
            .map(|one| (&one.entity, one.mode, one.waits))
            .collect();
        assert_eq!(
            ahead,
            [(&disk, Mode::Shared, false), (&disk, Mode::Exclusive, true)]
        );
        world.submit_waiting(5, "RemoveDisk", remove_disk(1), WAIT);
        let reply = world.submit_waiting(6, "RemoveDisk", remove_disk(1), WAIT);
        assert_eq!(code(reply), Some(FaultCode::TooManyCommands));
    }

    #[test]
    fn hundreds_that_one_end_frees_begin_in_order_a_bounded_number_at_a_time() {
        let mut world = world();
        for n in 10..10 + 2 * BEGIN_AT_ONCE as u128 {
            world.submit_waiting(n, "CopyDisk", copy_disk(1, n, 0), WAIT);
        }
        let cancel = Input::Cancel {
            command_id: command_id(3),
            user: "ann".into(),
        };
        let active = |world: &World| {
            let copies = 10..10 + 2 * BEGIN_AT_ONCE as u128;
            copies.filter(|n| world.state_of(*n) == Active).count()
        };
        world.engine.step(cancel);
        assert_eq!(active(&world), BEGIN_AT_ONCE);
        world.look_at_waits(0);
        assert_eq!(active(&world), 2 * BEGIN_AT_ONCE);
    }

    #[test]
    fn one_that_calls_a_host_calls_nobody_while_it_waits() {
        let mut world = World::new(1);
        world.submit(1, "AddHost", add_host(0));
        world.submit_waiting(2, "AddHost", add_host(0), WAIT);
        assert_eq!(world.state_of(2), Pending);
        world.step(Input::Cancel {
            command_id: command_id(2),
            user: "ann".into(),
        });
        assert!(
            world.followed.contains_key(&host_id(0)),
            "the first one is still at it"
        );
        world.submit_waiting(3, "AddHost", add_host(0), WAIT);
        world.crash();
        world.settle();
        assert_eq!(
            (world.state_of(1), fault(&world, 3).code),
            (Succeeded, FaultCode::EntityExists)
        );
    }

    #[test]
    fn a_task_of_somebody_else_is_waited_for_as_well() {
        let mut world = World::with_domains(1);
        world.submit(1, "CreateDisk", create_disk(1, 0));
        world.settle();
        let id = TaskId::from_uuid(uuid::Uuid::from_u128(0x9000));
        let operation = common::Operation::DeleteImage(common::DeleteImage {
            domain_id: crate::testing::domain_id(0),
            image_id: disk_id(2).image(),
        });
        world.host_mut(0).start_foreign(id, operation);
        while world.engine.state.task(id).is_none() {
            assert!(world.deliver(host_id(0)), "it is shown");
        }
        world.submit_waiting(2, "CopyDisk", copy_disk(1, 2, 0), WAIT);
        assert_eq!(world.state_of(2), Pending);
        world.settle();
        assert_eq!(world.state_of(2), Succeeded);
    }

    #[test]
    fn a_day_is_the_longest_wait_and_none_is_none() {
        assert_eq!(lock_wait(Some(Duration::ZERO)), Ok(None));
        assert_eq!(lock_wait(Some(MAX_LOCK_WAIT)), Ok(Some(MAX_LOCK_WAIT)));
        for wrong in [
            None,
            Some(MAX_LOCK_WAIT + Duration::from_nanos(1)),
            Some(Duration::MAX),
        ] {
            assert_eq!(
                lock_wait(wrong).map_err(|fault| fault.code),
                Err(FaultCode::InvalidArgument)
            );
        }
    }
}
