//! Jobs as they are shown. They have no table: a job is derived from the records of its tree, and its changes from
//! the heads in the history.

use engine_core::Change;
use engine_core::jobs::{self, Job, JobHead, Step, StepState};
use engine_core::model::Command;
use engine_core::model::StepKind;
use proto::convert;
use proto::engine::v1 as wire;
use proto::store::v1 as records;

use super::tree::Tree;
use super::{codec, command, load};
use crate::verbs;
use common::id::TaskId;

/// The head of a job in the history.
pub(super) fn head(head: &JobHead, steps: Vec<wire::Step>) -> records::JobHead {
    records::JobHead {
        root_command_id: head.root.to_string(),
        sequence: head.sequence,
        kind: verbs::kind(head.kind).into(),
        description: head.description.clone(),
        state: command::state(head.state).into(),
        percent: head.progress.percent,
        done_bytes: codec::signed(head.progress.done_bytes),
        total_bytes: codec::signed(head.progress.total_bytes),
        user: head.user.clone(),
        correlation_id: head.correlation_id.clone(),
        start_time: codec::time(head.created),
        end_time: head.ended.map(convert::timestamp),
        fault: head.fault.as_ref().map(convert::fault_to_wire),
        steps,
    }
}

/// The steps that show a change; `owner` is the command of a task.
pub(super) fn steps(change: &Change, owner: Option<&Command>) -> Vec<wire::Step> {
    match (change, owner) {
        (Change::Command(command), _) => {
            let parent_is_root = command.parent == Some(command.root);
            jobs::steps_of_command(command, parent_is_root)
                .iter()
                .map(step)
                .collect()
        }
        (Change::Task(task), Some(owner)) => vec![step(&jobs::step_of_task(owner, task))],
        _ => Vec::new(),
    }
}

/// A job as a revision left it, from its head in the history.
pub(crate) fn of_head(head: &records::JobHead) -> wire::Job {
    wire::Job {
        job_id: head.root_command_id.clone(),
        kind: head.kind,
        description: head.description.clone(),
        state: head.state,
        percent: head.percent,
        done_bytes: head.done_bytes,
        total_bytes: head.total_bytes,
        steps: head.steps.clone(),
        sequence: head.sequence,
        fault: head.fault.clone(),
        user: head.user.clone(),
        correlation_id: head.correlation_id.clone(),
        start_time: head.start_time,
        end_time: head.end_time,
        removed: false,
        waiting_for: None,
    }
}

/// The job of a tree, with all its steps. `percent` gives the progress of a running task, if it is known.
pub(crate) fn of_tree(tree: Tree, percent: impl Fn(TaskId) -> Option<f64>) -> Option<wire::Job> {
    let (commands, tasks) = load::whole_tree(tree);
    let job = Job::of(&commands, &tasks, percent)?;
    let steps = job.steps.iter().map(step).collect();
    Some(of_head(&head(&job.head, steps)))
}

fn step(step: &Step) -> wire::Step {
    let kind = match step.kind {
        StepKind::Validating => wire::StepKind::Validating,
        StepKind::Executing => wire::StepKind::Executing,
        StepKind::Command => wire::StepKind::Command,
        StepKind::Task => wire::StepKind::Task,
        StepKind::Finalizing => wire::StepKind::Finalizing,
    };
    let state = match step.state {
        StepState::Pending => wire::StepState::Pending,
        StepState::Running => wire::StepState::Running,
        StepState::Succeeded => wire::StepState::Succeeded,
        StepState::Failed => wire::StepState::Failed,
        StepState::Cancelled => wire::StepState::Cancelled,
        StepState::NeedsAttention => wire::StepState::NeedsAttention,
    };
    wire::Step {
        step_id: step.id.to_string(),
        parent_step_id: codec::text(step.parent),
        kind: kind.into(),
        description: step.description.clone(),
        state: state.into(),
        percent: step.progress.percent,
        done_bytes: codec::signed(step.progress.done_bytes),
        total_bytes: codec::signed(step.progress.total_bytes),
        command_id: step.command.to_string(),
        task_id: codec::text(step.task),
        fault: step.fault.as_ref().map(convert::fault_to_wire),
        start_time: codec::time(step.started),
        end_time: step.ended.map(convert::timestamp),
    }
}
