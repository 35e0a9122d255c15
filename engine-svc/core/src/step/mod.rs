//! The step: one input makes changes, effects and an answer.

mod attention;
mod cancel;
mod clear;
mod decide;
mod end;
mod evidence;
mod host;
mod inventory;
mod observe;
mod outstanding;
mod recover;
mod submit;
mod tx;
mod verdict;
mod wait;

use std::collections::BTreeSet;

pub use cancel::not_to_be_asked;
use common::id::{CommandId, HostId};
use common::{Fault, Timestamp};

use crate::change::Change;
use crate::effect::Effect;
use crate::input::Input;
use crate::jobs::JobHead;
use crate::model::{AsyncTask, Command, CommandRequest};
use crate::state::{Life, Stance, State};
use evidence::Look;
pub use host::put_back;
use tx::Tx;

/// The outcome of one input.
#[derive(Debug, Clone, PartialEq)]
pub struct Transition {
    /// In order; [`Change`] says what the order promises.
    pub changes: Vec<Change>,
    /// One for each change of a command or a task of a tree, in the order of the changes; see [`JobHead`].
    pub heads: Vec<JobHead>,
    /// To be performed in order, once all of `changes` are durable.
    pub effects: Vec<Effect>,
    /// The engine takes a new incarnation, in the same commit: hosts that are followed from now on are called by it.
    pub renews: bool,
    /// Whether the engine may act, if that has changed.
    pub stance: Option<Stance>,
    /// The hosts that are this start's, if they have changed.
    pub holds: Option<Vec<HostId>>,
    /// The answer for the sender of the input.
    pub reply: Reply,
    /// Refused moves that no table has, to be logged; the state is as if they had not been tried.
    pub defects: Vec<Fault>,
    #[cfg(test)]
    pub(crate) moves: Moves,
}

/// The moves of a step, each with the state in which it began.
#[cfg(test)]
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Moves {
    pub(crate) commands: Vec<(crate::model::CommandState, crate::model::CommandEvent)>,
    pub(crate) tasks: Vec<(crate::model::AsyncTaskState, crate::model::AsyncTaskEvent)>,
}

/// The answer to the sender of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// For inputs that nobody waits for.
    Done,
    /// The command is recorded; for a request about a command, the request is recorded.
    Accepted {
        /// The id of the command.
        command_id: CommandId,
        /// The command as it is now; none if only the store has it.
        command: Option<Box<Command>>,
        /// Whether the same request was accepted before.
        repeat: bool,
    },
    /// For `validate_only`: what would be done. Nothing is done.
    Planned {
        /// The root. If it would wait for its locks, it says for whom.
        command: Box<Command>,
        /// The root's descendants.
        children: Vec<Command>,
        /// The tasks of all these commands.
        tasks: Vec<AsyncTask>,
    },
    /// Nothing was done, and nothing is recorded.
    Refused(Fault),
}

impl Transition {
    /// Appends the results of a step after this one.
    fn append(&mut self, next: Self) {
        self.changes.extend(next.changes);
        self.heads.extend(next.heads);
        self.effects.extend(next.effects);
        self.defects.extend(next.defects);
        #[cfg(test)]
        {
            self.moves.commands.extend(next.moves.commands);
            self.moves.tasks.extend(next.moves.tasks);
        }
    }

    /// The results of this step and the next one; the answer is that of the next one.
    #[must_use]
    pub fn then(mut self, next: Self) -> Self {
        self.reply = next.reply.clone();
        self.renews |= next.renews;
        self.stance = next.stance.clone().or(self.stance);
        self.holds = next.holds.clone().or(self.holds);
        self.append(next);
        self
    }

    /// A refusal that changes nothing.
    fn refused(fault: Fault) -> Self {
        Self {
            changes: Vec::new(),
            heads: Vec::new(),
            effects: Vec::new(),
            renews: false,
            stance: None,
            holds: None,
            defects: vec![fault.clone()],
            reply: Reply::Refused(fault),
            #[cfg(test)]
            moves: Moves::default(),
        }
    }
}

impl State {
    /// Processes one input. If the input would move a record in a way that its table does not have, the whole input
    /// is refused (`INTERNAL`), and the state is as before.
    pub fn step(&mut self, input: Input, now: Timestamp) -> Transition {
        let may_decide = decides(&input);
        let is_restart = matches!(input, Input::Recover);
        let mut transition = self.taken(input, now);
        if may_decide {
            transition.stance = self.take_stance();
            transition.holds = self.take_holds();
        }
        self.start_waiting(&mut transition, is_restart, now);
        transition
    }

    fn taken(&mut self, input: Input, now: Timestamp) -> Transition {
        if matches!(input, Input::Recover) {
            return self.recover(now);
        }
        let mut tx = Tx::new(self, now);
        let reply = tx.dispatch(input);
        tx.finish(reply)
            .unwrap_or_else(|defect| Transition::refused(defect.fault()))
    }

    /// Whether the engine may act, if that has changed since it was last announced.
    fn take_stance(&mut self) -> Option<Stance> {
        let now = self.stance();
        let has_changed = self.volatile.stance.as_ref() != Some(&now);
        has_changed.then(|| {
            self.volatile.stance = Some(now.clone());
            now
        })
    }

    /// The hosts that are this start's, if they have changed since they were last announced.
    fn take_holds(&mut self) -> Option<Vec<HostId>> {
        let now = self.held();
        let has_changed = self.volatile.held != now;
        has_changed.then(|| {
            self.volatile.held.clone_from(&now);
            now
        })
    }

    /// A restart skips trees that would move in a way that no table has; the other trees go on.
    fn recover(&mut self, now: Timestamp) -> Transition {
        let (mut left_out, mut defects) = (BTreeSet::new(), Vec::new());
        loop {
            let mut tx = Tx::new(self, now);
            tx.recover(&left_out);
            match tx.finish(Reply::Done) {
                Ok(transition) => {
                    return Transition {
                        defects,
                        ..transition
                    };
                }
                Err(defect) => {
                    defects.push(defect.fault());
                    let is_new = defect.root.is_some_and(|root| left_out.insert(root));
                    if !is_new {
                        return Transition {
                            defects,
                            ..Transition::refused(defect.fault())
                        };
                    }
                }
            }
        }
    }
}

/// Whether this input can change the stance: inputs from hosts, or from people who decide about hosts.
const fn decides(input: &Input) -> bool {
    if let Input::Submit(asked) = input {
        return matches!(asked.request, CommandRequest::TakeOverHost(_));
    }
    matches!(
        input,
        Input::Recover
            | Input::Cancel { .. }
            | Input::Abandon { .. }
            | Input::CallAnswered { .. }
            | Input::HostConnected { .. }
            | Input::HostAway { .. }
            | Input::HostPutsOff { .. }
            | Input::HostRefused { .. }
            | Input::LivesMet { .. }
            | Input::StoodStill
    )
}

impl Tx<'_> {
    fn dispatch(&mut self, input: Input) -> Reply {
        match input {
            Input::Submit(submission) => return self.submit(*submission),
            Input::Cancel { command_id, user } => return self.cancel(command_id, &user),
            Input::Retry { command_id, user } => return self.retry(command_id, &user),
            Input::Abandon {
                command_id,
                user,
                reason,
            } => return self.abandon(command_id, &user, &reason),
            Input::Recover => self.recover(&BTreeSet::new()),
            Input::LockWaitsChecked { present, running } => self.check_lock_waits(&present, running),
            Input::Forget { command_ids } => self.forget(command_ids),
            Input::HostConnected { host_id, facts } => self.host_connected(host_id, facts),
            Input::HostAway { host_id } => self.host_away(host_id),
            Input::HostPutsOff { host_id, fault } => self.host_puts_off(host_id, fault),
            Input::ConnectionsSpent { host_id, fault } => self.connections_spent(host_id, &fault),
            Input::HostRefused {
                host_id,
                fault,
                is_proven,
            } => self.host_refused(host_id, fault, is_proven),
            Input::LivesMet { host_id, lives } => self.lives_met(host_id, &lives),
            Input::StoodStill => self.stood_still(),
            Input::Observed {
                host_id,
                store_id,
                start,
                frame,
            } => self.observed(host_id, Life { store_id, start }, frame),
            Input::StartAccepted {
                task_id,
                store_id,
                start,
                over,
            } => self.start_accepted(task_id, Life { store_id, start }, over),
            Input::StartRefused { task_id, fault } => self.start_refused(task_id, fault),
            Input::AbortAccepted {
                task_id,
                store_id,
                start,
                over,
            } => self.abort_accepted(task_id, Life { store_id, start }, over),
            Input::AbortRefused { task_id, .. } => self.abort_refused(task_id),
            Input::Cleared { task_id, sequence } => self.cleared(task_id, sequence),
            Input::ClearFailed { task_id, .. } => self.clear_failed(task_id),
            Input::CallAnswered {
                command_id,
                call,
                result,
            } => self.call_answered(command_id, &call, result),
            Input::Probed {
                task_id,
                store_id,
                start,
                evidence,
                is_busy,
                remembered,
            } => self.probed(
                task_id,
                Life { store_id, start },
                Look {
                    evidence,
                    is_busy,
                    remembered,
                },
            ),
            Input::RetriesSpent { what, fault, .. } => self.retries_spent(what, &fault),
            Input::DiskObserved {
                disk_id,
                presence,
                note,
            } => self.disk_observed(disk_id, presence, note),
            Input::InventoryTaken {
                host_id,
                inventory,
                before,
            } => self.inventory_taken(host_id, &inventory, before),
        }
        Reply::Done
    }
}
