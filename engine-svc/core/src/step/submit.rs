//! Acceptance: a request is a repeat, is refused, or becomes a whole tree of commands, recorded at once.

use std::sync::Arc;

use common::id::{CommandId, HostId};
use common::{Fault, FaultCode};

use super::Reply;
use super::tx::Tx;
use super::wait::would_await;
use crate::change::Change;
use crate::input::Submission;
use crate::model::{Command, CommandParameters as _, CommandRequest, EntityKey, Holder, RequestKey};
use crate::plan::{self, Origin, Plan, Records};
use crate::state::{Owner, RequestScope, Stance, Usage};
use crate::when::utc;

impl Tx<'_> {
    pub(super) fn submit(&mut self, asked: Submission) -> Reply {
        if let Some(reply) = self.repeat(&asked) {
            return reply;
        }
        match self.admit(&asked) {
            Err(fault) => Reply::Refused(fault),
            Ok((records, locks)) if asked.validate_only => self.as_planned(records, &locks),
            Ok((records, Locks::Free)) => self.accept(records),
            Ok((records, Locks::Awaited)) => self.queue(records.root),
        }
    }

    /// The records of a request, and whether it can start.
    fn admit(&self, asked: &Submission) -> Result<(Records, Locks), Fault> {
        // This check comes before all others: the records of a fenced engine may be outdated.
        if !matches!(asked.request, CommandRequest::TakeOverHost(_)) {
            self.is_not_over()?;
        }
        let plan = self.plan(asked.command_id, &asked.request)?;
        let locks = self.locks(asked, &plan)?;
        let origin = Origin {
            id: asked.command_id,
            user: &asked.user,
            correlation_id: &asked.correlation_id,
        };
        let mut records = plan.records(self.state, origin, self.next_seq(), self.now);
        self.too_many(&records)?;
        records.root.lock_wait = asked.lock_wait;
        records.root.request = Some(RequestKey {
            rpc: asked.rpc.clone(),
            request_id: asked.request_id,
            digest: asked.digest.clone(),
        });
        Ok((records, locks))
    }

    /// The plan of a request in the present state, whoever holds the locks that it needs.
    pub(super) fn plan(&self, id: CommandId, request: &CommandRequest) -> Result<Plan, Fault> {
        plan::plan(self.state, id, request).and_then(|plan| self.is_ours(plan))
    }

    fn locks(&self, asked: &Submission, plan: &Plan) -> Result<Locks, Fault> {
        match (self.state.obstacle(&plan.locks), asked.lock_wait, &plan.forbidden) {
            (Some(_), Some(_), _) => self.may_wait().map(|()| Locks::Awaited),
            (Some((key, owner)), None, _) => Err(self.busy(&key, owner)),
            (None, _, Some(fault)) => Err(fault.clone()),
            (None, _, None) => Ok(Locks::Free),
        }
    }

    /// Unfinished work is bounded, so that nobody fills the memory with commands that cannot end. A command that
    /// brings a host back is exempt.
    pub(super) fn too_many(&self, records: &Records) -> Result<(), Fault> {
        if records.root.parameters.takes_over() {
            return Ok(());
        }
        let limits = self.state.seed.limits;
        let user = &records.root.user;
        // A command that waited is recorded already, and so may some of its parts be.
        let parts = records.children.iter().map(|(part, _)| part);
        let new = parts
            .chain([&records.root])
            .filter(|command| self.state.command(command.id).is_none());
        let more = new.map(Usage::of).fold(Usage::default(), Usage::and);
        let (all, of_user) = self.state.usage(user);
        let users = format!("of {user}");
        let bounds = [
            (
                users.as_str(),
                of_user,
                limits.commands_per_user,
                limits.text_bytes_per_user,
                "-per-user",
            ),
            ("in all", all, limits.commands, limits.text_bytes, ""),
        ];
        let words = bounds.into_iter().find_map(|(whose, live, commands, text_bytes, setting)| {
            let then = live.and(more);
            if then.commands > commands {
                Some(format!(
                    "{} commands {whose} have not ended, including their parts, and this one would add {}: at most {commands} may be under way (--max-live-commands{setting})",
                    live.commands, more.commands
                ))
            } else if then.text_bytes > text_bytes {
                Some(format!(
                    "commands {whose} that have not ended hold {} kB of names and descriptions, and this one would add {} kB: \
                     at most {} kB may be held (--max-live-command-mib{setting})",
                    live.text_bytes >> 10,
                    more.text_bytes.div_ceil(1 << 10),
                    text_bytes >> 10
                ))
            } else {
                None
            }
        });
        let Some(words) = words else { return Ok(()) };
        let message =
            format!("{words}. Nothing was changed; wait until some have ended, or cancel some, and repeat");
        Err(Fault::new(FaultCode::TooManyCommands, message))
    }

    fn repeat(&self, asked: &Submission) -> Option<Reply> {
        let scope = RequestScope {
            user: asked.user.clone(),
            rpc: asked.rpc.clone(),
            request_id: asked.request_id,
        };
        let before = self.state.accepted(&scope).or(asked.before.as_ref())?;
        if before.digest != asked.digest {
            let message = format!(
                "request_id {} was used before for another request, which became command {}; use a new one",
                asked.request_id, before.command_id
            );
            return Some(Reply::Refused(
                Fault::new(FaultCode::RequestIdReused, message).about("request_id"),
            ));
        }
        Some(Reply::Accepted {
            command_id: before.command_id,
            command: self.state.command(before.command_id).cloned().map(Box::new),
            repeat: true,
        })
    }

    /// Refuses work that would only rest, because another life of this engine has the host, or another engine. Refuses everything once
    /// another life goes on, and as long as that is undecided.
    fn is_ours(&self, plan: Plan) -> Result<Plan, Fault> {
        if plan.parameters.takes_over() {
            return Ok(plan);
        }
        let of_another = |id: &HostId| Some((*id, self.state.somebody_elses(*id)?));
        match plan.hosts().iter().find_map(of_another) {
            Some((host_id, fault)) => {
                let message = format!(
                    "cannot work on {}: {}",
                    self.state.named_host(host_id),
                    fault.message
                );
                Err(Fault::new(fault.code, message).about(EntityKey::Host(host_id)))
            }
            None => self.may_act().map(|()| plan),
        }
    }

    fn is_not_over(&self) -> Result<(), Fault> {
        match &self.state.volatile.stance {
            Some(Stance::Over(fault)) => Err(fault.clone()),
            Some(Stance::Acts | Stance::Undecided(_)) | None => Ok(()),
        }
    }

    /// Refuses the work of an engine that may not be the one that goes on.
    pub(super) fn may_act(&self) -> Result<(), Fault> {
        match &self.state.volatile.stance {
            Some(Stance::Acts) => Ok(()),
            Some(Stance::Undecided(fault) | Stance::Over(fault)) => Err(fault.clone()),
            None => Err(Fault::new(FaultCode::Loading, "the engine has not begun")),
        }
    }

    fn busy(&self, key: &EntityKey, owner: Owner) -> Fault {
        let message = match self.state.describe(owner) {
            Some(holder) => held(key, &holder, self.state.is_waiting(owner)),
            None => format!("{key} was held by something that has just ended; try again"),
        };
        Fault::new(FaultCode::EntityBusy, message).about(key)
    }

    /// A command that would wait says for whom.
    fn as_planned(&self, mut records: Records, locks: &Locks) -> Reply {
        match locks {
            Locks::Free => {}
            Locks::Awaited => {
                let root = &mut records.root;
                let blockers = self.state.blockers(root.id, &root.locks);
                root.waiting_for = Some(would_await(blockers, self.now));
            }
        }
        let (children, tasks): (Vec<_>, Vec<_>) = records.children.into_iter().unzip();
        let tasks = [records.task].into_iter().chain(tasks);
        Reply::Planned {
            command: Box::new(records.root),
            children,
            tasks: tasks.flatten().collect(),
        }
    }

    /// The root is recorded last: the other records count only with it.
    fn accept(&mut self, records: Records) -> Reply {
        let Records { root, task, children } = records;
        for (command, task) in children {
            self.put(Change::Command(Arc::new(command)));
            self.put_all(task.map(|task| Change::Task(Arc::new(task))));
        }
        self.put_all(task.map(|task| Change::Task(Arc::new(task))));
        self.put(Change::Command(Arc::new(root.clone())));
        self.set_out(&root);
        self.present(root)
    }

    /// The plan of a root is recorded, and the root has its locks: hosts are asked for the first tasks.
    pub(super) fn set_out(&mut self, root: &Command) {
        let id = root.id;
        self.follow_for(root);
        for part in self.state.tree_of(id) {
            let tasks = self.state.command(part).map(|part| part.tasks.clone());
            for task_id in tasks.unwrap_or_default() {
                self.ask(task_id);
            }
        }
        self.call_if_connected(id);
        // Bottom up: a parent with nothing to do has ended before its own parent asks for it.
        for part in self.state.tree_of(id).into_iter().rev() {
            self.decide(part);
        }
    }

    /// A host that is to become this engine's is followed from now on; a recorded host that refuses this engine is
    /// tried at once.
    fn follow_for(&mut self, root: &Command) {
        let follow = self.state.follows(root);
        if follow.is_none() && root.parameters.takes_over() {
            let call = self.state.call_of(root);
            return self.effects(call);
        }
        self.effects(follow);
    }
}

/// Whether the locks of a request are free.
enum Locks {
    Free,
    /// They are not, and the request is willing to wait.
    Awaited,
}

/// Who holds the lock of an entity, or comes first in its queue.
pub(super) fn held(key: &EntityKey, holder: &Holder, waits: bool) -> String {
    let how = if waits { "waited for" } else { "held" };
    match holder {
        Holder::Command {
            command_id,
            user,
            since,
        } => format!(
            "{key} is {how} by command {command_id} of {user} since {}",
            utc(*since)
        ),
        Holder::ForeignTask {
            task_id,
            host_id,
            since,
        } => {
            format!(
                "{key} is {how} by task {task_id} on host {host_id}, which this engine did not start, since {}",
                utc(*since)
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use common::FaultCode;
    use common::lock::Mode;

    use crate::input::Input;
    use crate::model::{CommandRequest, CommandState, EntityKey, Holder, Holding};
    use crate::state::Usage;
    use crate::step::Reply;
    use crate::testing::{
        World, command_id, create_disk, create_vm, domain_id, refusal, remove_vm, submission, vm_id,
    };

    #[test]
    fn a_repeat_is_answered_with_the_same_command_as_it_now_is() {
        let mut world = World::with_domains(1);
        world.submit(1, "CreateVm", create_vm(1, [1], 0));
        let mut again = submission(1, "CreateVm", create_vm(1, [1], 0));
        again.command_id = command_id(99);
        let reply = world.step(Input::Submit(Box::new(again.clone()))).reply;
        let Reply::Accepted {
            command_id: id,
            command: Some(command),
            repeat: true,
        } = reply
        else {
            panic!("{reply:#?}")
        };
        assert_eq!((id, command.state), (command_id(1), CommandState::Active));
        world.settle();
        world.crash();
        let reply = world.step(Input::Submit(Box::new(again))).reply;
        let gone = Reply::Accepted {
            command_id: command_id(1),
            command: None,
            repeat: true,
        };
        assert_eq!(
            reply, gone,
            "also after it has left the live state, and after a restart"
        );
    }

    #[test]
    fn commands_under_way_are_bounded_by_user_and_in_all_and_those_that_end_make_room() {
        let mut world = World::with_domains(1);
        let none = (Usage::default(), Usage::default());
        assert_eq!(world.engine.state.usage("ann"), none);
        // A VM with one disk is two commands.
        for (commands, commands_per_user) in [(2, 9), (9, 2)] {
            let limits = &mut world.engine.state.seed.limits;
            (limits.commands, limits.commands_per_user) = (commands, commands_per_user);
            let vm = commands as u128;
            let number = vm;
            let accepted = world.submit(10 * number, "CreateVm", create_vm(vm, [vm], 0));
            assert!(matches!(accepted, Reply::Accepted { .. }));
            let mut other = submission(10 * number + 1, "CreateVm", create_vm(vm + 10, [vm + 10], 0));
            let transition = world.step(Input::Submit(Box::new(other.clone())));
            assert!(transition.changes.is_empty());
            let fault = refusal(transition.reply);
            assert_eq!(fault.code, FaultCode::TooManyCommands);
            assert!(fault.message.contains("--max-live-commands"), "{}", fault.message);
            // The bound of one user does not apply to another.
            other.user = "bob".to_owned();
            other.validate_only = true;
            let reply = world.step(Input::Submit(Box::new(other))).reply;
            assert_eq!(
                matches!(reply, Reply::Planned { .. }),
                commands > commands_per_user,
                "{reply:?}"
            );
            world.settle();
            assert_eq!(world.engine.state.usage("ann"), none);
        }
    }

    #[test]
    fn texts_of_commands_under_way_are_bounded_by_user_and_in_all_and_those_that_end_make_room() {
        let mut world = World::with_domains(1);
        let long = "\u{1f642}".repeat(1_000);
        let described = |number: u128| {
            let mut request = create_vm(number, [number], 0);
            if let CommandRequest::CreateVm(request) = &mut request {
                request.description.clone_from(&long);
            }
            request
        };
        let all = usize::MAX;
        for (number, text_bytes, text_bytes_per_user, setting) in [
            (1, 12_000, all, "(--max-live-command-mib)"),
            (2, all, 12_000, "(--max-live-command-mib-per-user)"),
        ] {
            let limits = &mut world.engine.state.seed.limits;
            (limits.text_bytes, limits.text_bytes_per_user) = (text_bytes, text_bytes_per_user);
            let accepted = world.submit(10 * number, "CreateVm", described(number));
            assert!(matches!(accepted, Reply::Accepted { .. }));
            let mut other = submission(10 * number + 1, "CreateVm", described(number + 10));
            let transition = world.step(Input::Submit(Box::new(other.clone())));
            assert!(transition.changes.is_empty());
            let fault = refusal(transition.reply);
            assert_eq!(fault.code, FaultCode::TooManyCommands);
            assert!(fault.message.contains(setting), "{}", fault.message);
            // The bound of one user does not apply to another.
            other.user = "bob".to_owned();
            other.validate_only = true;
            let reply = world.step(Input::Submit(Box::new(other.clone()))).reply;
            assert_eq!(
                matches!(reply, Reply::Planned { .. }),
                text_bytes == all,
                "{reply:?}"
            );
            // There is room for a short text.
            other.user = "ann".to_owned();
            other.request = create_vm(number + 10, [number + 10], 0);
            let reply = world.step(Input::Submit(Box::new(other))).reply;
            assert!(matches!(reply, Reply::Planned { .. }), "{reply:?}");
            // Unfinished work counts after a restart as well.
            let before = world.engine.state.usage("ann");
            assert!(before.1.text_bytes > 8_000);
            world.crash();
            assert_eq!(world.engine.state.usage("ann"), before);
            world.settle();
            assert_eq!(
                world.engine.state.usage("ann"),
                (Usage::default(), Usage::default())
            );
        }
    }

    #[test]
    fn the_same_id_for_another_request_is_refused() {
        let mut world = World::with_domains(1);
        world.submit(1, "CreateVm", create_vm(1, [1], 0));
        let fault = refusal(world.submit(1, "CreateVm", create_vm(2, [2], 0)));
        assert_eq!(fault.code, FaultCode::RequestIdReused);
        let other_rpc = world.submit(1, "RemoveVm", remove_vm(1));
        assert_ne!(
            refusal(other_rpc).code,
            FaultCode::RequestIdReused,
            "its scope is user and RPC"
        );
    }

    #[test]
    fn a_refusal_names_who_holds_what_is_needed_and_is_not_recorded() {
        let mut world = World::with_domains(1);
        world.submit(1, "CreateVm", create_vm(1, [1], 0));
        let transition = world.step(Input::Submit(Box::new(submission(
            2,
            "CreateVm",
            create_vm(2, [1], 0),
        ))));
        assert!(transition.changes.is_empty());
        let fault = refusal(transition.reply);
        assert_eq!(fault.code, FaultCode::EntityBusy);
        let holder = command_id(1).to_string();
        assert!(
            fault.message.contains(&holder) && fault.message.contains("ann"),
            "{}",
            fault.message
        );
        world.settle();
        assert!(matches!(
            world.submit(3, "CreateVm", create_vm(2, [2], 0)),
            Reply::Accepted { .. }
        ));
    }

    #[test]
    fn all_who_share_an_entity_are_told_with_how_they_hold_it() {
        let mut world = World::with_domains(1);
        let key = EntityKey::Domain(domain_id(0));
        assert_eq!(world.engine.state.holding(&key), None);
        for n in 1..=2 {
            world.submit(n, "CreateDisk", create_disk(n, 0));
        }
        let holding = world.engine.state.holding(&key).unwrap();
        let told: Vec<_> = holding
            .by
            .iter()
            .map(|(holder, mode)| match holder {
                Holder::Command { command_id, .. } => (*command_id, *mode),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(told, [1, 2].map(|n| (command_id(n), Mode::Shared)));
        assert_eq!(holding.more, 0);
        for n in 3..=Holding::TOLD as u128 + 3 {
            world.submit(n, "CreateDisk", create_disk(n, 0));
        }
        let holding = world.engine.state.holding(&key).unwrap();
        assert_eq!((holding.by.len(), holding.more), (Holding::TOLD, 3));
    }

    #[test]
    fn asked_only_for_the_plan_nothing_is_done() {
        let mut world = World::with_domains(1);
        let mut asked = submission(1, "CreateVm", create_vm(1, [1, 2], 0));
        asked.validate_only = true;
        let transition = world.step(Input::Submit(Box::new(asked)));
        assert!(transition.changes.is_empty() && transition.effects.is_empty());
        let Reply::Planned {
            command,
            children,
            tasks,
        } = transition.reply
        else {
            panic!("a plan")
        };
        assert_eq!((command.children.len(), children.len(), tasks.len()), (2, 2, 2));
        assert!(world.engine.state.lock_owners().is_empty());
    }

    #[test]
    fn what_the_state_forbids_names_the_field() {
        let mut world = World::with_domains(1);
        world.submit(1, "CreateVm", create_vm(1, [1], 0));
        world.settle();
        for (request, code, field) in [
            (create_vm(1, [9], 0), FaultCode::EntityExists, "vm_id"),
            (
                create_vm(2, [8, 1], 0),
                FaultCode::EntityExists,
                "disks[1].disk_id",
            ),
            (
                create_vm(2, [8, 9], 7),
                FaultCode::EntityNotFound,
                "disks[0].domain_id",
            ),
            (
                create_vm(2, [8, 8], 0),
                FaultCode::InvalidArgument,
                "disks[1].disk_id",
            ),
            (remove_vm(5), FaultCode::EntityNotFound, "vm_id"),
        ] {
            let fault = refusal(world.submit(2, "Any", request));
            assert_eq!((fault.code, fault.subject.as_str()), (code, field));
        }
        assert!(world.engine.state.vm(vm_id(2)).is_none());
    }
}
