//! Jobs: command trees as people see them. Derived from commands and tasks at each reading, never kept.

use std::collections::BTreeMap;
use std::fmt;

use common::id::{CommandId, TaskId};
use common::{Fault, TaskState, Timestamp};

use crate::change::Change;
use crate::model::{AsyncTask, Command, CommandKind, CommandState, Purpose, ReportedState};
use crate::plan;
use crate::state::State;

/// The head of a job as one change of its tree left it.
///
/// A tree counts the changes of its commands and tasks from 1. For each of them there is one head, with that
/// count as its `sequence`, so a watcher of jobs proves that it missed nothing as any watcher does: each head's
/// sequence is one more than the last one's. All heads of a transition show the state after it.
#[derive(Debug, Clone, PartialEq)]
pub struct JobHead {
    /// Whose.
    pub root: CommandId,
    /// The count of the change in its tree.
    pub sequence: u64,
    /// What changed: the steps that show it are those that the change touched.
    pub subject: Subject,
    /// Of the root.
    pub kind: CommandKind,
    /// In a line.
    pub description: String,
    /// Of the root, after the transition.
    pub state: CommandState,
    /// 0 to 100: tasks that are over among those that do what the job is for.
    pub percent: f64,
    /// Of the root.
    pub fault: Option<Fault>,
    /// Who asked.
    pub user: String,
    /// Of the root.
    pub correlation_id: String,
    /// When it was accepted.
    pub created: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
}

/// A command or a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A command of the tree.
    Command(CommandId),
    /// A task of the tree.
    Task(TaskId),
}

/// Names a step. Derived from what it shows, so that it stays the same at each reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StepId(CommandId);

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StepId {
    /// The step of a child command.
    pub fn of_command(id: CommandId) -> Self {
        Self(id.child("step"))
    }

    fn of_task(command: CommandId, task: TaskId) -> Self {
        Self(command.child(&format!("step/task/{task}")))
    }

    fn of_phase(root: CommandId, phase: StepKind) -> Self {
        Self(root.child(match phase {
            StepKind::Validating => "step/validating",
            StepKind::Finalizing => "step/finalizing",
            _ => "step/executing",
        }))
    }
}

/// The place of a task among the steps of its job. Kept with the task: deriving it anew with each of its changes
/// would be a good part of what a change costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskStep {
    /// The step that shows the task.
    pub id: StepId,
    /// The step that it is a part of.
    pub parent: StepId,
}

impl TaskStep {
    /// Of a task of this command.
    pub fn of(command: CommandId, root: CommandId, task: TaskId) -> Self {
        Self {
            id: StepId::of_task(command, task),
            parent: if command == root {
                StepId::of_phase(root, StepKind::Executing)
            } else {
                StepId::of_command(command)
            },
        }
    }
}

/// What a step shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StepKind {
    /// That the request was fit to be done.
    Validating,
    /// The doing, with everything below it.
    Executing,
    /// A child command.
    Command,
    /// A task.
    Task,
    /// The end.
    Finalizing,
}

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StepState {
    /// Not begun.
    Pending,
    /// At it.
    Running,
    /// Done.
    Succeeded,
    /// Not done.
    Failed,
    /// Stopped.
    Cancelled,
    /// Rests until somebody decides.
    NeedsAttention,
}

/// A meaningful part of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Its id.
    pub id: StepId,
    /// None for a step of the job itself.
    pub parent: Option<StepId>,
    /// What it shows.
    pub kind: StepKind,
    /// In a line.
    pub description: String,
    /// Where it stands.
    pub state: StepState,
    /// 0 to 100.
    pub percent: f64,
    /// The command that it shows, or whose task.
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
    /// Parents before what is below them.
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

/// One head for each change that counts, in their order.
pub(crate) fn heads(state: &State, counted: &[Counted]) -> Vec<JobHead> {
    let of = |change: &Counted, head: JobHead| JobHead {
        sequence: change.sequence,
        subject: change.subject,
        ..head
    };
    // What mostly happens, and what is to be fast: one task moved.
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
    Some(head(command, tree.over, tree.planned, tree.sequence))
}

fn head(root: &Command, over: usize, planned: usize, sequence: u64) -> JobHead {
    JobHead {
        root: root.id,
        sequence,
        subject: Subject::Command(root.id),
        kind: root.kind(),
        description: plan::describe(&root.parameters),
        state: root.state,
        percent: match root.state {
            CommandState::Succeeded => 100.0,
            _ => share(over as f64, planned),
        },
        fault: root.fault.clone(),
        user: root.user.clone(),
        correlation_id: root.correlation_id.clone(),
        created: root.created,
        ended: root.ended,
    }
}

fn share(done: f64, of: usize) -> f64 {
    if of == 0 { 0.0 } else { 100.0 * done / of as f64 }
}

impl Job {
    /// The job of a tree, from all its commands and tasks in any order. `percent` knows how far a running task
    /// is, where anybody does. None unless the root is among the commands.
    pub fn of(
        commands: &[Command],
        tasks: &[AsyncTask],
        percent: impl Fn(TaskId) -> Option<f64>,
    ) -> Option<Self> {
        let root = commands.iter().find(|command| command.is_root())?;
        let own: Vec<&AsyncTask> = tasks.iter().filter(|task| task.purpose == Purpose::Do).collect();
        let done: f64 = own.iter().map(|task| task_percent(task, &percent) / 100.0).sum();
        let counts = commands
            .iter()
            .map(|c| c.tree_sequence)
            .chain(tasks.iter().map(|t| t.tree_sequence));
        let mut job = head(root, 0, own.len(), counts.max().unwrap_or_default());
        if root.state != CommandState::Succeeded {
            job.percent = share(done, own.len());
        }
        let commands_by_id = commands.iter().map(|c| (c.id, c)).collect();
        let tasks_by_id = tasks.iter().map(|t| (t.id, t)).collect();
        let mut steps = Steps {
            commands: commands_by_id,
            tasks: tasks_by_id,
            percent: &percent,
            made: Vec::new(),
        };
        steps.root(root, job.percent);
        Some(Self {
            head: job,
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
    fn root(&mut self, root: &Command, percent: f64) {
        let [validating, mut executing, finalizing] = phases(root);
        executing.percent = percent;
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
            step.percent = task_percent(task, self.percent);
            self.made.push(step);
        }
        for child in command
            .children
            .iter()
            .filter_map(|id| self.commands.get(id).copied())
            .collect::<Vec<_>>()
        {
            let mut step = step_of_child(child, parent);
            step.percent = self.child_percent(child);
            let id = step.id;
            self.made.push(step);
            self.below(child, id);
        }
    }

    fn child_percent(&self, child: &Command) -> f64 {
        if child.state == CommandState::Succeeded {
            return 100.0;
        }
        let tasks = child.tasks.iter().filter_map(|id| self.tasks.get(id));
        let own: Vec<f64> = tasks
            .filter(|t| t.purpose == Purpose::Do)
            .map(|t| task_percent(t, self.percent))
            .collect();
        let parts = child.children.iter().filter_map(|id| self.commands.get(id));
        let all: Vec<f64> = own
            .into_iter()
            .chain(parts.map(|part| self.child_percent(part)))
            .collect();
        if all.is_empty() {
            0.0
        } else {
            all.iter().sum::<f64>() / all.len() as f64
        }
    }
}

/// The steps that show a command: the phases of a job for a root, its own step for a child. Without what only the
/// whole tree tells: the percentage of a step that is not over is 0.
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
        percent: task_percent(task, &|_| None),
        command: command.id,
        task: Some(task.id),
        fault: task.fault.clone(),
        started: task.created,
        ended: task.ended,
    }
}

fn phases(root: &Command) -> [Step; 3] {
    let phase = |kind, description: &str, state, percent, ended| Step {
        id: StepId::of_phase(root.id, kind),
        parent: None,
        kind,
        description: description.to_owned(),
        state,
        percent,
        command: root.id,
        task: None,
        fault: None,
        started: root.created,
        ended,
    };
    let over = root.state.is_terminal();
    let executing = command_state(root.state);
    let finalizing = if over {
        StepState::Succeeded
    } else {
        StepState::Pending
    };
    let percent = if over { 100.0 } else { 0.0 };
    let mut phases = [
        phase(
            StepKind::Validating,
            "Validating",
            StepState::Succeeded,
            100.0,
            Some(root.created),
        ),
        phase(StepKind::Executing, "Executing", executing, percent, root.ended),
        phase(
            StepKind::Finalizing,
            "Finalizing",
            finalizing,
            percent,
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
        description: plan::describe(&child.parameters),
        state: command_state(child.state),
        percent: if child.state.is_terminal() { 100.0 } else { 0.0 },
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
    use crate::model::Ending;
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

fn task_percent(task: &AsyncTask, percent: &dyn Fn(TaskId) -> Option<f64>) -> f64 {
    if task.is_open() {
        percent(task.id).unwrap_or(0.0).clamp(0.0, 100.0)
    } else {
        100.0
    }
}
