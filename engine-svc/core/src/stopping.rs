//! What asking that a command be stopped would do at this moment. Derived at each reading, never kept.

use common::Words;
use common::words;

use crate::model::{AsyncTask, Command, CommandState, Purpose};
use crate::plan;

/// What stopping would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stopping {
    /// Whether anything of it would still be stopped: of what its host runs, that which its host would stop.
    pub cancelable: bool,
    /// What would be undone, in words; empty where nothing would.
    pub undo: Words,
}

impl Stopping {
    /// Of the root of a tree, from all its commands and tasks in any order. None unless the root is among the
    /// commands.
    pub fn of(commands: &[Command], tasks: &[AsyncTask]) -> Option<Self> {
        let root = commands.iter().find(|command| command.is_root())?;
        // Asking once more would stop nothing more.
        if root.state.is_terminal() || root.cancel_requested {
            return Some(Self::default());
        }
        if root.state == CommandState::Pending {
            return Some(Self {
                cancelable: true,
                undo: Words::default(),
            });
        }
        if let Some(cancelable) = call_is_stopped(root) {
            return Some(Self {
                cancelable,
                undo: Words::default(),
            });
        }
        // What is being stopped already, because another part has failed, is not stopped by asking.
        let stops = |task: &&AsyncTask| {
            task.is_open() && task.purpose == Purpose::Do && task.cancelable && !task.abort_wanted
        };
        let begun = tasks.iter().filter(stops).map(|task| task.undo.clone());
        let begun: Vec<Words> = begun.collect();
        let done = commands.iter().filter_map(|part| undone_if_done(root, part));
        let undone = begun
            .iter()
            .cloned()
            .chain(done)
            .filter(|words| !words.is_empty());
        let cancelable = !begun.is_empty();
        Some(Self {
            undo: if cancelable {
                words::joined(undone, "; ")
            } else {
                Words::default()
            },
            cancelable,
        })
    }
}

/// Whether a command that calls its host is stopped by asking; none for those that do not call.
fn call_is_stopped(root: &Command) -> Option<bool> {
    let calling = plan::calling(root)?;
    // Once the host may have heard of it, only what there is a call for the opposite of is stopped.
    Some(calling.has_opposite() || plan::stopped_unheard(root).is_some())
}

/// What is made of a VM goes again where the rest of it is stopped.
fn undone_if_done(root: &Command, part: &Command) -> Option<Words> {
    let undoes = plan::unmakes_parts(root) && part.state == CommandState::Succeeded;
    let disk = plan::makes_disk(part).filter(|_| undoes)?;
    Some(format!("delete disk {}", disk.disk_id).into())
}

#[cfg(test)]
mod tests {
    use common::FaultCode;
    use common::id::CommandId;

    use super::*;
    use crate::change::Change;
    use crate::input::Input;
    use crate::testing::{
        Fate, World, add_host, attach_disk, command_id, copy_disk, create_disk, create_domain, create_vm,
        host_id,
    };

    fn stopping(world: &World, n: u128) -> Stopping {
        let (commands, tasks) = tree(world, n);
        Stopping::of(&commands, &tasks).expect("it has a root")
    }

    fn tree(world: &World, n: u128) -> (Vec<Command>, Vec<AsyncTask>) {
        let root: CommandId = command_id(n);
        let (mut commands, mut tasks) = (Vec::new(), Vec::new());
        for record in world.engine.records.values() {
            match record {
                Change::Command(command) if command.root == root => commands.push((**command).clone()),
                Change::Task(task) if task.root == Some(root) => tasks.push((**task).clone()),
                _ => {}
            }
        }
        (commands, tasks)
    }

    fn can(world: &World, n: u128) -> bool {
        stopping(world, n).cancelable
    }

    #[test]
    fn a_copy_can_be_stopped_until_its_host_says_otherwise_and_what_goes_is_said_in_the_hosts_words() {
        let mut world = World::with_domains(1);
        world.submit(1, "CreateDisk", create_disk(1, 0));
        world.settle();
        assert!(!can(&world, 1), "it has ended");
        world.submit(2, "CopyDisk", copy_disk(1, 2, 0));
        assert_eq!(
            stopping(&world, 2),
            Stopping {
                cancelable: true,
                undo: Words::default()
            },
            "nothing has begun"
        );
        world.host_mut(0).undo_words = "remove the new volume".to_owned();
        for _ in 0..3 {
            world.flow();
        }
        assert_eq!(
            stopping(&world, 2),
            Stopping {
                cancelable: true,
                undo: "remove the new volume".into()
            }
        );
        world.crash();
        assert!(can(&world, 2), "a restart changes nothing about it");
        let (commands, mut tasks) = tree(&world, 2);
        tasks[0].cancelable = false;
        assert_eq!(
            Stopping::of(&commands, &tasks),
            Some(Stopping::default()),
            "its host says otherwise"
        );
        world.host_mut(0).commit_all();
        world.step(Input::Cancel {
            command_id: command_id(2),
            user: "ann".into(),
        });
        world.connect(host_id(0));
        for at in 0..world.pending.len() {
            world.perform(at, false);
        }
        assert!(!tree(&world, 2).1[0].cancelable, "its host has refused");
        world.settle();
        assert!(!can(&world, 2));
    }

    #[test]
    fn what_is_made_of_a_vm_is_named_while_the_rest_can_be_stopped() {
        let mut world = World::with_domains(1);
        world.submit(1, "CreateVm", create_vm(1, [1, 2], 0));
        let second = world.command(world.root(1).children[1]).tasks[0];
        while !world.command(world.root(1).children[0]).state.is_terminal() {
            world.perform(0, false);
            let open = world.host_mut(0).open_tasks();
            for id in open.into_iter().filter(|id| *id != second) {
                world.host_mut(0).advance(id);
            }
            world.deliver(host_id(0));
        }
        let would = stopping(&world, 1);
        assert!(would.cancelable);
        assert_eq!(would.undo, format!("delete disk {}", crate::testing::disk_id(1)));
    }

    #[test]
    fn what_is_stopped_because_another_part_failed_is_not_stopped_by_asking() {
        let mut world = World::with_domains(1);
        world.host_mut(0).fates = vec![Fate::Recover(FaultCode::IoError)];
        world.submit(1, "CreateVm", create_vm(1, [1, 2], 0));
        let child = |world: &World, at: usize| world.command(world.root(1).children[at]).clone();
        let (fails, runs) = (child(&world, 0).tasks[0], child(&world, 1).tasks[0]);
        while world.state_of(1) != CommandState::Compensating {
            if !world.pending.is_empty() {
                world.perform(0, false);
            }
            world.host_mut(0).advance(fails);
            world.deliver(host_id(0));
        }
        let (_, tasks) = tree(&world, 1);
        let open = tasks.iter().find(|task| task.id == runs);
        assert!(open.is_some_and(|task| task.is_open() && task.cancelable));
        assert_eq!(stopping(&world, 1), Stopping::default());
    }

    #[test]
    fn what_was_asked_to_stop_is_not_to_be_asked_again_though_its_host_has_not_heard_of_it() {
        let mut world = World::with_domains(1);
        world.submit(1, "CreateDisk", create_disk(1, 0));
        assert!(can(&world, 1));
        world.disconnect(host_id(0));
        for _ in 0..2 {
            world.step(Input::Cancel {
                command_id: command_id(1),
                user: "ann".into(),
            });
            assert_eq!(stopping(&world, 1), Stopping::default());
            world.crash();
        }
        assert_eq!(stopping(&world, 1), Stopping::default());
    }

    #[test]
    fn a_call_can_be_stopped_where_it_was_not_heard_or_has_an_opposite() {
        let mut world = World::new(1);
        world.submit(1, "AddHost", add_host(0));
        assert!(can(&world, 1));
        world.settle();
        world.disconnect(host_id(0));
        world.submit(2, "CreateStorageDomain", create_domain(0, 0));
        assert!(can(&world, 2), "its host cannot have heard of it");
        world.connect(host_id(0));
        assert!(!can(&world, 2));
        world.settle();
        world.submit(3, "CreateVm", create_vm(1, [], 0));
        world.submit(4, "CreateDisk", create_disk(1, 0));
        world.settle();
        world.submit(5, "AttachDisk", attach_disk(1, 1));
        assert!(!can(&world, 5), "it was done when it was accepted");
    }
}
