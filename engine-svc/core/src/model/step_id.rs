//! The names of the steps of a job. A task's is kept with it, so they are made here, below what derives the steps themselves
//! (`jobs`).

use std::fmt;

use common::id::{CommandId, TaskId};

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

    pub(crate) fn of_task(command: CommandId, task: TaskId) -> Self {
        Self(command.child(&format!("step/task/{task}")))
    }

    pub(crate) fn of_phase(root: CommandId, phase: StepKind) -> Self {
        Self(root.child(match phase {
            StepKind::Validating => "step/validating",
            StepKind::Finalizing => "step/finalizing",
            // A step of these kinds is named by what it shows; a phase that holds them is one of execution.
            StepKind::Executing | StepKind::Command | StepKind::Task => "step/executing",
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
