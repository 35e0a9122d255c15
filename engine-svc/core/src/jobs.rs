//! Jobs: command trees as people see them. Derived from commands and tasks at each read, never recorded.

use std::collections::BTreeMap;

use common::id::{CommandId, TaskId};
use common::{Fault, TaskState, Timestamp};

use crate::change::Change;
use crate::model::{
    AsyncTask, Command, CommandKind, CommandParameters as _, CommandState, Ending, Purpose, ReportedState,
    StepId, StepKind, TaskStep,
};
use crate::plan;
use crate::state::State;

/// The head of a job as one change of its tree left it.
///
/// A tree counts the changes of its commands and tasks from 1. Each change has one head, with that count as its
/// `sequence`, so a watcher of jobs can verify that it missed nothing: each head's sequence is one more than the
/// previous one's. All heads of a transition show the state after it.
#[derive(Debug, Clone, PartialEq)]
pub struct JobHead {
    /// The root command of its tree.
    pub root: CommandId,
    /// The count of the change in its tree.
    pub sequence: u64,
    /// What changed: the steps that show it are those that the change touched.
    pub subject: Subject,
    /// Of the root.
    pub kind: CommandKind,
    /// A line for people.
    pub description: String,
    /// Of the root, after the transition.
    pub state: CommandState,
    /// The progress of the job. It never decreases.
    pub progress: Progress,
    /// Of the root.
    pub fault: Option<Fault>,
    /// The user who requested it.
    pub user: String,
    /// Of the root.
    pub correlation_id: String,
    /// When it was accepted.
    pub created: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
}

/// Progress in bytes of the disks that are worked on: the weight of a part is the capacity of its disk, whatever its
/// host has to write for it, so the weights never change.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Progress {
    /// 0 to 100.
    pub percent: f64,
    /// Of `total_bytes`.
    pub done_bytes: u64,
    /// 0 if no disk is worked on.
    pub total_bytes: u64,
}

impl Progress {
    /// If there is nothing to do, nothing is done.
    fn of(done_bytes: u64, total_bytes: u64) -> Self {
        let percent = match total_bytes {
            0 => 0.0,
            total => 100.0 * done_bytes as f64 / total as f64,
        };
        Self {
            percent,
            done_bytes,
            total_bytes,
        }
    }

    const fn whole(total_bytes: u64) -> Self {
        Self {
            percent: 100.0,
            done_bytes: total_bytes,
            total_bytes,
        }
    }

    /// A share of it, in percent.
    fn share(percent: f64, total_bytes: u64) -> Self {
        let percent = percent.clamp(0.0, 100.0);
        Self {
            percent,
            done_bytes: (total_bytes as f64 * percent / 100.0) as u64,
            total_bytes,
        }
    }
}

/// A command or a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A command of the tree.
    Command(CommandId),
    /// A task of the tree.
    Task(TaskId),
}

/// The state of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StepState {
    /// Not begun.
    Pending,
    /// Running.
    Running,
    /// Done.
    Succeeded,
    /// Failed.
    Failed,
    /// Cancelled.
    Cancelled,
    /// Waits for an operator.
    NeedsAttention,
}

/// A step of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Its id.
    pub id: StepId,
    /// None for a step of the job itself.
    pub parent: Option<StepId>,
    /// What it shows.
    pub kind: StepKind,
    /// A line for people.
    pub description: String,
    /// Its state.
    pub state: StepState,
    /// Its progress.
    pub progress: Progress,
    /// The command that it shows, or the command of its task.
    pub command: CommandId,
    /// The task that it shows.
    pub task: Option<TaskId>,
    /// What went wrong.
    pub fault: Option<Fault>,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
}

/// A command tree as people see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Its head, with the count of the tree's last change.
    pub head: JobHead,
    /// The steps, parents first.
    pub steps: Vec<Step>,
}

/// A change that counts in its tree.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted {
    pub(crate) root: CommandId,
    sequence: u64,
    subject: Subject,
}

impl Counted {
    pub(crate) fn of(change: &Change) -> Option<Self> {
        match change {
            Change::Command(command) => Some(Self {
                root: command.root,
                sequence: command.tree_sequence,
                subject: Subject::Command(command.id),
            }),
            Change::Task(task) => task.root.map(|root| Self {
                root,
                sequence: task.tree_sequence,
                subject: Subject::Task(task.id),
            }),
            _ => None,
        }
    }
}

/// One head for each change that counts, in order.
pub(crate) fn heads(state: &State, counted: &[Counted]) -> Vec<JobHead> {
    let of = |change: &Counted, head: JobHead| JobHead {
        sequence: change.sequence,
        subject: change.subject,
        ..head
    };
    // The most frequent case, which must be fast: one task changed.
    if let [change] = counted {
        return present(state, change.root)
            .map(|head| of(change, head))
            .into_iter()
            .collect();
    }
    let mut of_root: BTreeMap<CommandId, Option<JobHead>> = BTreeMap::new();
    let mut heads = Vec::with_capacity(counted.len());
    for change in counted {
        let template = of_root
            .entry(change.root)
            .or_insert_with(|| present(state, change.root));
        heads.extend(template.clone().map(|head| of(change, head)));
    }
    heads
}

fn present(state: &State, root: CommandId) -> Option<JobHead> {
    let (command, tree) = (state.command(root)?, state.tree(root)?);
    let progress = Progress::of(tree.done_bytes, tree.total_bytes);
    Some(head(command, progress, tree.sequence))
}

fn head(root: &Command, progress: Progress, sequence: u64) -> JobHead {
    JobHead {
        root: root.id,
        sequence,
        subject: Subject::Command(root.id),
        kind: root.kind(),
        description: root.parameters.describe(),
        state: root.state,
        progress: match root.state {
            CommandState::Succeeded => Progress::whole(progress.total_bytes),
            _ => progress,
        },
        fault: root.fault.clone(),
        user: root.user.clone(),
        correlation_id: root.correlation_id.clone(),
        created: root.created,
        ended: root.ended,
    }
}

impl Job {
    /// The job of a tree, from all its commands and tasks in any order. `percent` returns the progress of a running
    /// task, if it is known. None unless the root is among the commands.
    pub fn of(
        commands: &[Command],
        tasks: &[AsyncTask],
        percent: impl Fn(TaskId) -> Option<f64>,
    ) -> Option<Self> {
        let root = commands.iter().find(|command| command.is_root())?;
        let counts = commands
            .iter()
            .map(|c| c.tree_sequence)
            .chain(tasks.iter().map(|t| t.tree_sequence));
        let sequence = counts.max().unwrap_or_default();
        let commands_by_id = commands.iter().map(|c| (c.id, c)).collect();
        let tasks_by_id = tasks.iter().map(|t| (t.id, t)).collect();
        let mut steps = Steps {
            commands: commands_by_id,
            tasks: tasks_by_id,
            percent: &percent,
            made: Vec::new(),
        };
        let head = head(root, steps.progress(root), sequence);
        steps.root(root, head.progress);
        Some(Self {
            head,
            steps: steps.made,
        })
    }
}

struct Steps<'a> {
    commands: BTreeMap<CommandId, &'a Command>,
    tasks: BTreeMap<TaskId, &'a AsyncTask>,
    percent: &'a dyn Fn(TaskId) -> Option<f64>,
    made: Vec<Step>,
}

impl Steps<'_> {
    fn root(&mut self, root: &Command, progress: Progress) {
        let [validating, mut executing, finalizing] = phases(root);
        executing.progress = progress;
        let parent = executing.id;
        self.made.extend([validating, executing]);
        self.below(root, parent);
        self.made.push(finalizing);
    }

    fn below(&mut self, command: &Command, parent: StepId) {
        for task in command
            .tasks
            .iter()
            .filter_map(|id| self.tasks.get(id).copied())
            .collect::<Vec<_>>()
        {
            let mut step = step_of_task(command, task);
            step.progress = task_progress(command, task, self.percent);
            self.made.push(step);
        }
        for child in command
            .children
            .iter()
            .filter_map(|id| self.commands.get(id).copied())
            .collect::<Vec<_>>()
        {
            let mut step = step_of_child(child, parent);
            step.progress = self.progress(child);
            let id = step.id;
            self.made.push(step);
            self.below(child, id);
        }
    }

    /// A finished part counts in full, a running one by the progress of its task. A part that failed, or was begun
    /// and undone, does not count.
    fn progress(&self, command: &Command) -> Progress {
        let own = own_progress(command);
        let parts = command.children.iter().filter_map(|id| self.commands.get(id));
        let parts = parts.map(|part| self.progress(part));
        let task = command.tasks.last().and_then(|id| self.tasks.get(id));
        let at_work = task.filter(|task| task.is_open() && task.purpose == Purpose::Do);
        let own = match at_work {
            Some(task) if !command.state.is_terminal() => task_progress(command, task, self.percent),
            _ => own,
        };
        let (done, total) = parts.fold((own.done_bytes, own.total_bytes), |(done, total), part| {
            (done + part.done_bytes, total + part.total_bytes)
        });
        if command.state == CommandState::Succeeded && !command.is_root() {
            Progress::whole(total)
        } else {
            Progress::of(done, total)
        }
    }
}

/// The progress of a command without its parts.
fn own_progress(command: &Command) -> Progress {
    let bytes = command.parameters.bytes();
    if command.state == CommandState::Succeeded {
        Progress::whole(bytes)
    } else {
        Progress::of(0, bytes)
    }
}

/// The steps that show a command: the phases of a job for a root, its own step for a child. Without what only the
/// whole tree shows: the percentage of a step that has not ended is 0.
pub fn steps_of_command(command: &Command, parent_is_root: bool) -> Vec<Step> {
    match command.parent {
        None => phases(command).into(),
        Some(parent) if parent_is_root => {
            vec![step_of_child(
                command,
                StepId::of_phase(parent, StepKind::Executing),
            )]
        }
        Some(parent) => vec![step_of_child(command, StepId::of_command(parent))],
    }
}

/// The step that shows a task of `command`.
pub fn step_of_task(command: &Command, task: &AsyncTask) -> Step {
    let step = task
        .step
        .unwrap_or_else(|| TaskStep::of(command.id, command.root, task.id));
    Step {
        id: step.id,
        parent: Some(step.parent),
        kind: StepKind::Task,
        description: plan::task_words(task),
        state: task_state(task),
        progress: task_progress(command, task, &|_| None),
        command: command.id,
        task: Some(task.id),
        fault: task.fault.clone(),
        started: task.created,
        ended: task.ended,
    }
}

fn phases(root: &Command) -> [Step; 3] {
    let phase = |kind, description: &str, state, progress, ended| Step {
        id: StepId::of_phase(root.id, kind),
        parent: None,
        kind,
        description: description.to_owned(),
        state,
        progress,
        command: root.id,
        task: None,
        fault: None,
        started: root.created,
        ended,
    };
    let (over, done) = (root.state.is_terminal(), root.state == CommandState::Succeeded);
    let executing = command_state(root.state);
    let finalizing = if over {
        StepState::Succeeded
    } else {
        StepState::Pending
    };
    let whole = |is_whole| match is_whole {
        true => Progress::whole(0),
        false => Progress::default(),
    };
    let mut phases = [
        phase(
            StepKind::Validating,
            "Validating",
            StepState::Succeeded,
            Progress::whole(0),
            Some(root.created),
        ),
        phase(
            StepKind::Executing,
            "Executing",
            executing,
            whole(done),
            root.ended,
        ),
        phase(
            StepKind::Finalizing,
            "Finalizing",
            finalizing,
            whole(over),
            root.ended,
        ),
    ];
    phases[1].fault.clone_from(&root.fault);
    phases
}

fn step_of_child(child: &Command, parent: StepId) -> Step {
    Step {
        id: StepId::of_command(child.id),
        parent: Some(parent),
        kind: StepKind::Command,
        description: child.parameters.describe(),
        state: command_state(child.state),
        progress: own_progress(child),
        command: child.id,
        task: None,
        fault: child.fault.clone(),
        started: child.created,
        ended: child.ended,
    }
}

const fn command_state(state: CommandState) -> StepState {
    match state {
        CommandState::Pending => StepState::Pending,
        CommandState::Active | CommandState::Compensating => StepState::Running,
        CommandState::Succeeded => StepState::Succeeded,
        CommandState::Failed => StepState::Failed,
        CommandState::Cancelled => StepState::Cancelled,
        CommandState::NeedsAttention => StepState::NeedsAttention,
    }
}

fn task_state(task: &AsyncTask) -> StepState {
    match task.ending() {
        None if task.attention().is_some() => StepState::NeedsAttention,
        None => match task.reported {
            None | Some(ReportedState::Known(TaskState::Init | TaskState::Preparing | TaskState::Queued)) => {
                StepState::Pending
            }
            Some(_) => StepState::Running,
        },
        Some(Ending::Done) => StepState::Succeeded,
        Some(Ending::Untouched(_)) if task.abort_wanted => StepState::Cancelled,
        Some(Ending::Untouched(_) | Ending::Unclear(_)) => StepState::Failed,
    }
}

/// A task works on the disk of its command.
fn task_progress(command: &Command, task: &AsyncTask, percent: &dyn Fn(TaskId) -> Option<f64>) -> Progress {
    let bytes = command.parameters.bytes();
    match task.ending() {
        None => Progress::share(percent(task.id).unwrap_or(0.0), bytes),
        Some(Ending::Done) => Progress::whole(bytes),
        Some(Ending::Untouched(_) | Ending::Unclear(_)) => Progress::of(0, bytes),
    }
}

#[cfg(test)]
mod tests {
    use common::FaultCode;

    use super::*;
    use crate::model::CommandRequest;
    use crate::testing::{Fate, World, command_id, create_vm, remove_vm};

    /// The job of command `n`, as its records say, where each task at work is this far.
    fn job(world: &World, n: u128, percent: f64) -> Job {
        let (mut commands, mut tasks) = (Vec::new(), Vec::new());
        for record in world.engine.records.values() {
            match record {
                Change::Command(command) if command.root == command_id(n) => {
                    commands.push((**command).clone())
                }
                Change::Task(task) if task.root == Some(command_id(n)) => tasks.push((**task).clone()),
                _ => {}
            }
        }
        Job::of(&commands, &tasks, |_| Some(percent)).expect("it has a root")
    }

    /// Two disks, one of which is three times as large.
    fn unequal() -> CommandRequest {
        let mut request = create_vm(1, [1, 2], 0);
        if let CommandRequest::CreateVm(request) = &mut request {
            request.disks[1].capacity_bytes *= 3;
        }
        request
    }

    fn progress_of(job: &Job, kind: StepKind) -> Vec<Progress> {
        let steps = job.steps.iter().filter(|step| step.kind == kind);
        steps.map(|step| step.progress).collect()
    }

    #[test]
    fn parts_weigh_what_their_disks_hold() {
        let mut world = World::with_domains(1);
        world.submit(1, "CreateVm", unequal());
        let begun = job(&world, 1, 50.0);
        assert_eq!(begun.head.progress, Progress::of(8_192, 16_384));
        assert_eq!(progress_of(&begun, StepKind::Executing), [begun.head.progress]);
        let parts = [Progress::of(2_048, 4_096), Progress::of(6_144, 12_288)];
        assert_eq!(progress_of(&begun, StepKind::Command), parts);
        assert_eq!(progress_of(&begun, StepKind::Task), parts);
        // The small one is done, the large one has done nothing.
        let large = world.root(1).children[1];
        let large = world.command(large).tasks[0];
        while world.engine.state.tasks().filter(|task| task.is_open()).count() == 2 {
            world.perform(0, false);
            for id in world
                .host_mut(0)
                .open_tasks()
                .into_iter()
                .filter(|id| *id != large)
            {
                world.host_mut(0).advance(id);
            }
            world.deliver(crate::testing::host_id(0));
        }
        assert_eq!(job(&world, 1, 0.0).head.progress, Progress::of(4_096, 16_384));
        let told = world.engine.heads.last().map(|head| head.progress);
        assert_eq!(
            told,
            Some(Progress::of(4_096, 16_384)),
            "watchers are told the same"
        );
        world.settle();
        assert_eq!(job(&world, 1, 0.0).head.progress, Progress::whole(16_384));
    }

    #[test]
    fn what_did_not_come_about_does_not_count() {
        let mut world = World::with_domains(1);
        world.submit(1, "CreateVm", unequal());
        world.settle();
        world.host_mut(0).fates = vec![Fate::Finish, Fate::Recover(FaultCode::NoSpace)];
        world.submit(2, "RemoveVm", remove_vm(1));
        world.settle();
        let job = job(&world, 2, 0.0);
        assert!(job.steps.iter().any(|step| step.state == StepState::Failed));
        for step in &job.steps {
            let done = step.state == StepState::Succeeded;
            assert_eq!(step.progress.percent == 100.0, done, "{step:#?}");
        }
        assert!(job.head.progress.percent < 100.0, "{:#?}", job.head);
        let told = world
            .engine
            .heads
            .iter()
            .rev()
            .find(|head| head.root == command_id(2));
        assert_eq!(told.map(|head| head.progress), Some(job.head.progress));
    }

    #[test]
    fn while_its_tasks_move_on_a_job_never_goes_back() {
        let mut world = World::with_domains(1);
        world.host_mut(0).fates = vec![Fate::Finish, Fate::Recover(FaultCode::NoSpace)];
        world.submit(1, "CreateVm", unequal());
        world.settle();
        world.submit(2, "CreateVm", unequal());
        world.settle();
        world.submit(3, "RemoveVm", remove_vm(1));
        let mut last = Progress::default();
        for step in 0..12 {
            let now = job(&world, 3, f64::from(step) * 8.0).head.progress;
            assert_eq!(now.total_bytes, 16_384);
            assert!(now.done_bytes >= last.done_bytes && now.percent >= last.percent);
            last = now;
            world.flow();
        }
        assert_eq!(last, Progress::whole(16_384));
    }
}
