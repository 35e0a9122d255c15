//! The ids of the steps of a job. The id of a task's step is recorded with the task, so they are defined here, below
//! the module that derives the steps (`jobs`).

use std::fmt;

use common::id::{CommandId, TaskId};

/// Identifies a step. Derived from what it shows, so that it is the same at each read.
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
            // The id of such a step derives from what it shows; its phase is the execution.
            StepKind::Executing | StepKind::Command | StepKind::Task => "step/executing",
        }))
    }
}

/// The position of a task among the steps of its job. Recorded with the task: deriving it at each change would be a
/// considerable part of the cost of a change.
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
    /// The validation of the request.
    Validating,
    /// The execution, with everything below it.
    Executing,
    /// A child command.
    Command,
    /// A task.
    Task,
    /// The end.
    Finalizing,
}
