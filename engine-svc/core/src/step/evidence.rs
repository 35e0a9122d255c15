//! Tasks whose host has lost its memory, or may have: the host has another store than the one that was given the
//! task, or it was started anew, perhaps from an older copy of its directory. If such a host does not know a task, or
//! says that it was undone, that proves nothing about the work: storage itself must show what became of the task, and
//! no process from before may be running any more. If storage does not show it, an operator must look.

use common::id::{CommandId, DiskId, TaskId};
use common::{Fault, FaultCode, Words};

use super::tx::Tx;
use crate::change::Change;
use crate::input::{Evidence, Remembered};
use crate::model::{AsyncTask, AsyncTaskEvent, Disk, EventCode, Observation, Presence, Purpose, Settled};
use crate::plan;
use crate::state::Life;

/// The meaning of the evidence for a task.
enum Shown {
    /// The task's effect is complete.
    Effect,
    /// Storage shows nothing of the task: the engine can ask for it anew.
    Nothing,
    /// Storage shows only a beginning, which the task takes over when the engine asks for it anew.
    Begun,
    /// Storage does not tell; the words say why.
    Unclear(Words),
}

/// One look at storage.
pub(super) struct Look {
    pub(super) evidence: Evidence,
    pub(super) is_busy: bool,
    pub(super) remembered: Remembered,
}

impl Tx<'_> {
    /// A look through another memory of the host than the present one is ignored: the next connection asks for it
    /// again.
    pub(super) fn probed(&mut self, task_id: TaskId, life: Life, look: Look) {
        let Some(task) = self.state.task(task_id).filter(|task| task.command.is_some()) else {
            return;
        };
        let host = self.state.host(task.host_id);
        let present =
            host.is_some_and(|host| (host.store_id, host.start) == (Some(life.store_id), Some(life.start)));
        if !present {
            return;
        }
        if self.state.is_of_lost_store(task) {
            self.settle(task_id, life, look);
        } else if self.state.is_undecided(task) {
            match (task.is_doubted(), look.remembered) {
                // The host looked before the task was over.
                (true, Remembered::Open) => self.ask(task_id),
                (true, _) | (false, Remembered::Unknown) => self.settle(task_id, life, look),
                (false, Remembered::Open | Remembered::Over) => self.is_remembered(task_id, life),
            }
        } else if self.state.is_examined_again(task) {
            let shown = shown(task, look.evidence);
            self.settle_again(task_id, shown, look.is_busy);
        } else if task.is_open() {
            // Meanwhile the host has shown that it knows the task: the request that was held back is due.
            self.ask(task_id);
        }
    }

    /// The host's present start knows the task after all: the engine asks for it as usual.
    fn is_remembered(&mut self, task_id: TaskId, life: Life) {
        let now = self.now;
        self.move_task(task_id, &[AsyncTaskEvent::AskAgain], |task| {
            task.start = Some(life.start);
            task.outlived_a_start = true;
            task.waiting_for = AsyncTask::waits_for(task.async_state, task.host_id, "", now);
        });
        self.ask(task_id);
        self.decide_for(task_id);
    }

    fn settle(&mut self, task_id: TaskId, life: Life, look: Look) {
        let Some(task) = self.state.task(task_id) else {
            return;
        };
        if look.is_busy {
            return self.needs_somebody(task_id, orphans_at_work());
        }
        let is_undone = task.is_doubted();
        match shown(task, look.evidence) {
            Shown::Effect => self.settle_as(task_id, Settled::Done, None),
            Shown::Nothing if is_undone => self.believe(task_id, false),
            Shown::Begun if is_undone => self.believe(task_id, true),
            Shown::Nothing => self.address_anew(task_id, life, false),
            Shown::Begun => self.address_anew(task_id, life, true),
            Shown::Unclear(words) => self.settle_as(task_id, Settled::Unclear, Some(unclear(&words))),
        }
        self.decide_for(task_id);
    }

    /// Storage shows the task undone, as its host says.
    fn believe(&mut self, task_id: TaskId, begun: bool) {
        let now = self.now;
        self.move_task(task_id, &[AsyncTaskEvent::End], |task| {
            task.begun_before |= begun;
            task.ended = Some(now);
            task.waiting_for = None;
        });
    }

    /// An operator had storage examined once more: the task itself is over, only its command can go on.
    fn settle_again(&mut self, task_id: TaskId, shown: Shown, is_busy: bool) {
        let Some(id) = self.state.task(task_id).and_then(|task| task.command) else {
            return;
        };
        let Some(command) = self.state.command(id) else {
            return;
        };
        let next = match shown {
            _ if is_busy => return self.rest_again(task_id, orphans_at_work()),
            Shown::Effect => {
                self.settle_as(task_id, Settled::Done, None);
                return self.decide(id);
            }
            Shown::Nothing | Shown::Begun => plan::make_anew(command),
            Shown::Unclear(words) => plan::give_up(command, unclear(&words)),
        };
        self.take(id, next);
        self.decide(id);
        self.decide_parent(id);
    }

    fn rest_again(&mut self, task_id: TaskId, fault: Fault) {
        let waiting = self.attention(fault);
        self.edit_task(task_id, |task| task.waiting_for = Some(waiting));
        self.decide_for(task_id);
    }

    fn settle_as(&mut self, task_id: TaskId, settled: Settled, fault: Option<Fault>) {
        let now = self.now;
        let made = self
            .state
            .task(task_id)
            .is_some_and(|task| task.purpose == Purpose::Do);
        let attention = fault.clone().filter(|_| made).map(|fault| self.attention(fault));
        self.move_task(task_id, &[AsyncTaskEvent::End], |task| {
            task.settled = Some(settled);
            task.resynced = true;
            task.ended = Some(now);
            task.waiting_for = attention;
            if let Some(fault) = &fault {
                task.fault.get_or_insert_with(|| fault.clone());
            }
        });
        // If storage does not tell, the task is not settled yet; the event of its command says that a person must
        // look.
        let shown = matches!(settled, Settled::Done);
        let Some(task) = self.state.task(task_id).cloned().filter(|_| shown) else {
            return;
        };
        let message = format!(
            "{} lost its record of task {task_id}; storage shows that the task is done",
            self.state.named_host(task.host_id)
        );
        self.emit_about(EventCode::TaskSettledByEvidence, task.entities(), message);
    }

    /// Storage shows nothing of the task: the host's present store gets it as if it were new. Failures of the task in
    /// the lost store do not count for it here.
    fn address_anew(&mut self, task_id: TaskId, life: Life, begun: bool) {
        let now = self.now;
        self.move_task(task_id, &[AsyncTaskEvent::AskAgain], |task| {
            task.store_id = Some(life.store_id);
            task.start = Some(life.start);
            task.outlived_a_start = false;
            task.begun_before |= begun;
            task.reported = None;
            task.fault = None;
            task.undo_fault = None;
            task.undo = Words::default();
            task.host_sequence = 0;
            task.resynced = true;
            task.cancelable = true;
            task.waiting_for = AsyncTask::waits_for(task.async_state, task.host_id, "", now);
        });
        self.ask(task_id);
    }

    pub(super) fn decide_parent(&mut self, id: CommandId) {
        if let Some(parent) = self.parent_of(id) {
            self.decide(parent);
        }
    }

    /// An observation of a disk: what storage shows, and when.
    pub(super) fn disk_observed(&mut self, disk_id: DiskId, presence: Presence, note: Words) {
        let Some(disk) = self.state.disk(disk_id) else {
            return;
        };
        let observation = Some(Observation {
            presence,
            time: self.now,
            note,
        });
        let disk = Disk {
            observation,
            ..disk.clone()
        };
        self.put(Change::Disk(disk));
    }
}

fn shown(task: &AsyncTask, evidence: Evidence) -> Shown {
    match evidence {
        Evidence::Begun(words) | Evidence::Unclear(words) => Shown::Unclear(words),
        Evidence::Done => Shown::Effect,
        // A creation takes the empty directory over; a creation that is no longer wanted would leave it behind.
        Evidence::EmptyImage if task.abort_wanted && !task.is_doubted() => {
            Shown::Unclear("an empty directory of the image is left".into())
        }
        Evidence::EmptyImage => Shown::Begun,
        Evidence::NotBegun => Shown::Nothing,
    }
}

fn unclear(words: &str) -> Fault {
    let message = format!(
        "the host lost its records, and storage does not show whether the task was done or undone ({words}); look at it, \
         then retry or abandon the command"
    );
    Fault::new(FaultCode::EvidenceMissing, message)
}

fn orphans_at_work() -> Fault {
    let message = "the host lost its records, and processes from before that are still running there; once they have ended, retry the command";
    Fault::new(FaultCode::EvidenceMissing, message)
}

#[cfg(test)]
mod tests {
    use common::{FaultCode, TaskState};

    use crate::change::Change;
    use crate::input::Input;
    use crate::model::{CommandState, EventCode, ReportedState};
    use crate::testing::{Fate, Image, World, command_id, create_disk, disk_id, host_id, remove_disk};

    /// A disk in the making: its host has reported that the task runs, and is then put back to an older memory.
    fn put_back_under_a_creation() -> World {
        let mut world = World::with_domains(1);
        world.host_mut(0).copy();
        world.submit(1, "CreateDisk", create_disk(1, 0));
        let running = Some(ReportedState::Known(TaskState::Running));
        while world.engine.state.tasks().all(|task| task.reported != running) {
            assert!(world.flow(), "the task runs before its host is put back");
        }
        world.put_back(host_id(0), 0);
        world
    }

    /// The store that was given the task is lost, another store takes its place, and then an older copy of the first
    /// is put back: that copy counts from the beginning, although the engine has heard the middle.
    #[test]
    fn a_store_that_comes_back_older_after_another_one_counts_anew() {
        let mut world = World::with_domains(1);
        world.host_mut(0).copy();
        world.submit(1, "CreateDisk", create_disk(1, 0));
        let until = |world: &mut World, state| {
            let wanted = Some(ReportedState::Known(state));
            while world.engine.state.tasks().all(|task| task.reported != wanted) {
                assert!(world.flow(), "the task is {state:?} before its host is wiped");
            }
        };
        until(&mut world, TaskState::Preparing);
        // Each time the task is held and asked for again counts as well: the engine has heard of more changes than a
        // whole life of the task has.
        world.restart(host_id(0));
        world.connect(host_id(0));
        until(&mut world, TaskState::Queued);
        world.wipe(host_id(0));
        world.connect(host_id(0));
        world.put_back(host_id(0), 0);
        world.settle();
        assert_eq!(world.state_of(1), CommandState::Succeeded);
    }

    #[test]
    fn a_host_with_an_older_memory_does_not_decide_by_what_it_does_not_know() {
        for is_done in [true, false] {
            let mut world = put_back_under_a_creation();
            world.step(Input::Cancel {
                command_id: command_id(1),
                user: "ann".into(),
            });
            world.host_mut(0).end_orphan(is_done);
            world.settle();
            let state = world.state_of(1);
            let there = world.host_mut(0).images.contains_key(&disk_id(1));
            match is_done {
                true => assert_eq!((state, there), (CommandState::Succeeded, true)),
                false => assert_eq!((state, there), (CommandState::Cancelled, false)),
            }
            let told = |event: &crate::model::Event| event.code == EventCode::HostStoreChanged;
            assert!(world.engine.events.iter().any(told), "people are told");
        }
    }

    #[test]
    fn what_a_cut_list_of_orphans_does_not_name_is_not_taken_for_gone() {
        let mut world = World::with_domains(1);
        let id = common::id::TaskId::from_uuid(uuid::Uuid::from_u128(0x77));
        let operation = common::Operation::DeleteImage(common::DeleteImage {
            domain_id: crate::testing::domain_id(0),
            image_id: disk_id(0x77).image(),
        });
        world.host_mut(0).start_foreign(id, operation);
        while world.engine.state.task(id).is_none() {
            assert!(world.flow(), "it is seen");
        }
        world.wipe(host_id(0));
        for more in [true, false] {
            world.host_mut(0).orphans.clear();
            world.host_mut(0).more_orphans = more;
            world.disconnect(host_id(0));
            world.connect(host_id(0));
            assert_eq!(world.engine.state.task(id).is_some(), more);
        }
    }

    #[test]
    fn what_a_host_with_an_older_memory_counts_anew_is_no_repeat() {
        let mut world = put_back_under_a_creation();
        world.host_mut(0).orphans.clear();
        world.host_mut(0).vanish(disk_id(1));
        world.settle();
        assert_eq!(world.state_of(1), CommandState::Succeeded, "it was made anew");
    }

    #[test]
    fn what_was_undone_by_an_older_memory_is_looked_at() {
        let mut world = World::with_domains(1);
        world.submit(1, "CreateDisk", create_disk(1, 0));
        world.perform(0, false);
        let task = world.host_mut(0).open_tasks()[0];
        for _ in 0..2 {
            world.host_mut(0).advance(task);
        }
        // The host has accepted the task, and begun nothing of it.
        world.host_mut(0).copy();
        world.host_mut(0).advance(task);
        while world.deliver(host_id(0)) {}
        world.put_back(host_id(0), 0);
        world.step(Input::Cancel {
            command_id: command_id(1),
            user: "ann".into(),
        });
        world.settle();
        assert_eq!(world.state_of(1), CommandState::Cancelled);
        assert!(
            world.host_mut(0).images.is_empty(),
            "what the lost memory began is gone"
        );
    }

    #[test]
    fn what_is_over_for_good_does_not_begin_again_where_its_host_is_put_back() {
        let mut world = World::with_domains(1);
        world.submit(1, "CreateDisk", create_disk(1, 0));
        world.settle();
        world.submit(2, "RemoveDisk", remove_disk(1));
        world.perform(0, false);
        world.host_mut(0).copy();
        world.settle();
        assert_eq!(world.state_of(2), CommandState::Succeeded);
        // The id is used again: the disk that the copy is about to delete is another one by now.
        world.submit(3, "CreateDisk", create_disk(1, 0));
        world.settle();
        let tasks = |world: &World| {
            let records = world.engine.records.iter();
            let tasks = records.filter(|(_, record)| matches!(record, Change::Task(_)));
            tasks
                .map(|(key, record)| (key.clone(), record.clone()))
                .collect::<Vec<_>>()
        };
        let before = tasks(&world);
        world.put_back(host_id(0), 0);
        world.settle();
        assert_eq!(tasks(&world), before, "a record that is final has changed");
        assert_eq!(world.host_mut(0).images.get(&disk_id(1)), Some(&Image::Whole));
        assert!(
            world.host_mut(0).open_tasks().is_empty(),
            "its host has done with it"
        );
    }

    #[test]
    fn what_went_wrong_in_a_lost_store_is_not_told_of_what_the_next_one_makes() {
        let mut world = World::with_domains(1);
        world.host_mut(0).fates = vec![Fate::Recover(FaultCode::IoError)];
        world.submit(1, "CreateDisk", create_disk(1, 0));
        let aborting = Some(ReportedState::Known(TaskState::Aborting));
        while world.engine.state.tasks().all(|task| task.reported != aborting) {
            assert!(world.flow(), "the task fails before its store is lost");
        }
        world.wipe(host_id(0));
        world.host_mut(0).vanish(disk_id(1));
        world.host_mut(0).orphans.clear();
        world.connect(host_id(0));
        world.settle();
        assert_eq!(world.state_of(1), CommandState::Succeeded);
        let task = world.engine.records.values().find_map(|record| match record {
            Change::Task(task) => Some(task),
            _ => None,
        });
        let task = task.expect("its task");
        assert_eq!(task.reported, Some(ReportedState::Known(TaskState::Finished)));
        assert_eq!(task.fault, None);
    }
}
