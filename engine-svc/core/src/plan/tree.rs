//! A plan as data: a tree of commands with their tasks, before it is recorded.

use common::id::{CommandId, HostId};
use common::lock::Mode;
use common::{Fault, Timestamp, Words};

use super::next::Awaits;
use crate::model::{
    AsyncTask, AsyncTaskState, Command, CommandParameters as _, CommandState, EntityKey, Parameters, Place,
    PlannedTask, Purpose, TaskStep,
};
use crate::state::State;

/// A root command to be, with the whole tree below it.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) parameters: Parameters,
    /// All locks of the tree.
    pub(crate) locks: Vec<(EntityKey, Mode)>,
    pub(crate) children: Vec<Part>,
    /// The task of a root that works by itself.
    pub(crate) task: Option<PlannedTask>,
    /// Why the request cannot be met now, although everything that it names exists. The refusal is given only once
    /// the locks are known to be free: whoever holds one may be changing just that.
    pub(crate) forbidden: Option<Fault>,
}

/// A child command to be.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    /// The child's place in its parent; the child's id is derived from it.
    pub(crate) place: String,
    pub(crate) parameters: Parameters,
    pub(crate) children: Vec<Part>,
    pub(crate) task: Option<PlannedTask>,
}

impl Part {
    fn add_hosts(&self, hosts: &mut Vec<HostId>) {
        hosts.extend(self.task.as_ref().map(|task| task.host_id));
        self.children.iter().for_each(|part| part.add_hosts(hosts));
    }
}

/// Who asked for a plan.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin<'a> {
    /// The root.
    pub(crate) id: CommandId,
    pub(crate) user: &'a str,
    pub(crate) correlation_id: &'a str,
}

/// The records of a plan.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    pub(crate) root: Command,
    /// The root's own task.
    pub(crate) task: Option<AsyncTask>,
    /// Each child with its task, in the order of recording.
    pub(crate) children: Vec<(Command, Option<AsyncTask>)>,
}

impl Plan {
    /// A plan without children, tasks or objections.
    pub(crate) fn of(parameters: impl Into<Parameters>, locks: Vec<(EntityKey, Mode)>) -> Self {
        Self {
            parameters: parameters.into(),
            locks,
            children: Vec::new(),
            task: None,
            forbidden: None,
        }
    }

    /// The hosts on which the plan does something.
    pub(crate) fn hosts(&self) -> Vec<HostId> {
        let own = self.task.as_ref().map(|task| task.host_id);
        let mut hosts: Vec<HostId> = self.parameters.called_host().into_iter().chain(own).collect();
        self.children.iter().for_each(|part| part.add_hosts(&mut hosts));
        hosts
    }

    /// The records as they are at the start. Their `seq` numbers begin with `first_seq`.
    pub(crate) fn records(
        self,
        state: &State,
        origin: Origin<'_>,
        first_seq: u64,
        now: Timestamp,
    ) -> Records {
        let mut maker = Maker {
            state,
            origin,
            now,
            seq: first_seq,
            tree_sequence: 0,
            made: Vec::new(),
        };
        let mut root = maker.command(origin.id, None, self.parameters);
        root.children = maker.parts(origin.id, self.children);
        root.locks = self.locks;
        maker.await_last_child(&mut root);
        let task = self.task.map(|task| maker.task(&mut root, task));
        root.tree_sequence = maker.tree_sequence + 1;
        Records {
            root,
            task,
            children: maker.made,
        }
    }
}

struct Maker<'a> {
    state: &'a State,
    origin: Origin<'a>,
    now: Timestamp,
    seq: u64,
    tree_sequence: u64,
    made: Vec<(Command, Option<AsyncTask>)>,
}

impl Maker<'_> {
    fn command(&mut self, id: CommandId, parent: Option<CommandId>, parameters: Parameters) -> Command {
        let seq = self.next_seq();
        let waits_for_host = parameters.called_host().map(Awaits::host);
        Command {
            id,
            seq,
            parameters,
            parent,
            root: self.origin.id,
            children: Vec::new(),
            tasks: Vec::new(),
            state: CommandState::Active,
            cancel_requested: false,
            call_sent: false,
            fault: None,
            outcomes: Vec::new(),
            left_behind: Vec::new(),
            waiting_for: waits_for_host.map(|awaits| awaits.since(self.now)),
            user: self.origin.user.to_owned(),
            request: None,
            correlation_id: self.origin.correlation_id.to_owned(),
            created: self.now,
            ended: None,
            sequence: 1,
            attempt: 1,
            abandoned_by: None,
            lock_wait: None,
            locks: Vec::new(),
            tree_sequence: 0,
        }
    }

    fn parts(&mut self, parent: CommandId, parts: Vec<Part>) -> Vec<CommandId> {
        parts.into_iter().map(|part| self.part(parent, part)).collect()
    }

    fn part(&mut self, parent: CommandId, part: Part) -> CommandId {
        let id = parent.child(&part.place);
        let mut command = self.command(id, Some(parent), part.parameters);
        command.children = self.parts(id, part.children);
        self.await_last_child(&mut command);
        command.tree_sequence = self.next_tree_sequence();
        let task = part.task.map(|task| self.task(&mut command, task));
        self.made.push((command, task));
        id
    }

    fn task(&mut self, command: &mut Command, planned: PlannedTask) -> AsyncTask {
        let seq = self.next_seq();
        let place = Place {
            part: 0,
            attempt: 1,
            turn: 1,
        };
        let mut task = new_task(self.state, command, Purpose::Do, place, planned, seq, self.now);
        task.tree_sequence = self.next_tree_sequence();
        command.tasks.push(task.id);
        command.waiting_for = Some(Awaits::task(task.id).since(self.now));
        task
    }

    fn await_last_child(&self, command: &mut Command) {
        if let Some(last) = command.children.last() {
            command.waiting_for = Some(Awaits::child(*last).since(self.now));
        }
    }

    fn next_seq(&mut self) -> u64 {
        let seq = self.seq;
        self.seq += 1;
        seq
    }

    fn next_tree_sequence(&mut self) -> u64 {
        self.tree_sequence += 1;
        self.tree_sequence
    }
}

/// A task of a command, before its host hears of it.
pub(crate) fn new_task(
    state: &State,
    command: &Command,
    purpose: Purpose,
    place: Place,
    planned: PlannedTask,
    seq: u64,
    now: Timestamp,
) -> AsyncTask {
    let word = if purpose == Purpose::Undo { "undo" } else { "do" };
    let id = command.id.task(&format!("{word}/{place}"));
    AsyncTask {
        id,
        seq,
        host_id: planned.host_id,
        purpose,
        operation: Some(planned.operation),
        async_state: AsyncTaskState::Initializing,
        reported: None,
        settled: None,
        fault: None,
        host_sequence: 0,
        sequence: 1,
        resynced: false,
        cancelable: true,
        undo: Words::default(),
        undo_fault: None,
        command: Some(command.id),
        root: Some(command.root),
        place: Some(place),
        step: Some(TaskStep::of(command.id, command.root, id)),
        store_id: state.host(planned.host_id).and_then(|host| host.store_id),
        // A task that is recorded while the host is away cannot have been sent.
        start: state
            .volatile
            .connected
            .get(&planned.host_id)
            .map(|life| life.start),
        outlived_a_start: false,
        abort_wanted: false,
        begun_before: false,
        user: command.user.clone(),
        correlation_id: command.correlation_id.clone(),
        created: now,
        ended: None,
        host_commit_time: None,
        waiting_for: AsyncTask::waits_for(AsyncTaskState::Initializing, planned.host_id, "", now),
        tree_sequence: 0,
    }
}
