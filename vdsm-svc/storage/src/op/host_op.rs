//! An operation on its host: a table of steps, each next to its undo, and the evidence on storage.
//!
//! Running, undoing and completing a table is implemented once, below.

use common::id::ImageId;
use common::{Fault, FaultCode, Verb};

use super::context::stop_if_aborted;
use super::{Evidence, OpEnd, Work};
use crate::root::StorageRoot;
use crate::run_dir;

/// The implementation of a verb.
pub(super) trait HostOp: Verb + Sized + 'static {
    /// What it knows and holds open while it runs.
    type Run: 'static;

    /// What recovery found of the operation.
    type Leftover: 'static;

    /// Its steps in order, with their undo.
    const STAGES: &'static [Stage<Self>];

    /// The steps that complete it, in order.
    const FORWARD: &'static [Step<Self, Self::Leftover>];

    /// The step that commits: recovery undoes the operation before it and completes it after it; from this step on it
    /// cannot be aborted. None if the operation changes nothing.
    const COMMIT_POINT: Option<&'static str>;

    /// Whether it starts processes, which may outlive the service.
    const STARTS_PROCESSES: bool;

    /// The checks before anything is noted or changed.
    ///
    /// # Errors
    /// The reason to refuse the operation.
    fn begin(&self, work: Work<'_>) -> Result<Self::Run, Fault>;

    /// Determines by its last note what is left of it, and whether to undo or complete it.
    ///
    /// # Errors
    /// If that cannot be determined: it is left as it is.
    fn left(&self, work: Work<'_>, note: &[u8]) -> Result<RecoveryPath<Self::Leftover>, Fault>;

    /// What storage shows of it, without the note.
    ///
    /// # Errors
    /// If storage cannot be read.
    fn evidence(&self, root: &StorageRoot) -> Result<Evidence, Fault>;

    /// The image that has its result once it is done; none if it leaves nothing that must exist.
    fn makes_in(&self) -> Option<ImageId>;

    /// What an abort undoes, for people; empty if nothing.
    fn undo_note(&self) -> &'static str;
}

/// What recovery has to do.
pub(super) enum RecoveryPath<L> {
    /// Nothing: it was not begun.
    NotBegun,
    /// Before its commit point: what it began is undone.
    Back(L),
    /// Past its commit point: it is completed.
    Forward(L),
}

/// Steps, with their undo.
pub(super) struct Stage<O: HostOp> {
    /// The steps in order.
    pub(super) steps: &'static [Step<O, O::Run>],
    /// The undo steps in order. Stages are undone in reverse order; each undo step succeeds if its work was done
    /// before, or was never needed.
    pub(super) undo: &'static [Step<O, O::Leftover>],
}

/// A step, with a fail point before and after it: `<verb>.<step>.before` and `<verb>.<step>.after`.
pub(super) struct Step<O, S> {
    /// The name of the step, unique within its verb.
    pub(super) name: &'static str,
    act: fn(&O, Work<'_>, &mut S) -> Result<(), Fault>,
    /// Whether the step has anything to do. A step that is skipped has no fail points.
    applies: fn(&O, &S) -> Result<bool, Fault>,
}

impl<O, S> Step<O, S> {
    pub(super) const fn new(name: &'static str, act: fn(&O, Work<'_>, &mut S) -> Result<(), Fault>) -> Self {
        let applies = |_: &O, _: &S| Ok(true);
        Self { name, act, applies }
    }

    /// The step, skipped unless `applies` says that it has something to do.
    pub(super) const fn only_if(self, applies: fn(&O, &S) -> Result<bool, Fault>) -> Self {
        Self { applies, ..self }
    }
}

/// An operation of any verb, for the rest of the crate.
pub(super) trait AnyOp {
    /// As [`super::run`].
    fn run(&self, work: Work<'_>) -> Result<(), Fault>;

    /// As [`super::recover`], with faults as errors.
    fn recover(&self, work: Work<'_>, note: Option<&[u8]>, cause: Fault) -> Result<OpEnd, Fault>;

    /// As [`HostOp::evidence`].
    fn evidence(&self, root: &StorageRoot) -> Result<Evidence, Fault>;

    /// As [`HostOp::makes_in`].
    fn makes_in(&self) -> Option<ImageId>;

    /// As [`HostOp::undo_note`].
    fn undo_note(&self) -> &'static str;

    /// As [`HostOp::STARTS_PROCESSES`].
    fn starts_processes(&self) -> bool;
}

impl<O: HostOp> AnyOp for O {
    fn run(&self, work: Work<'_>) -> Result<(), Fault> {
        let mut run = self.begin(work)?;
        let mut firm = Firm::No;
        for step in O::STAGES.iter().flat_map(|stage| stage.steps) {
            if O::COMMIT_POINT == Some(step.name) {
                work.ctx.commit_point()?;
                firm = Firm::Yes;
            }
            pass(self, work, step, &mut run, firm)?;
        }
        if O::STARTS_PROCESSES {
            // A run directory that remains after the task does no harm.
            let _ = run_dir::remove(work.root, work.task);
        }
        Ok(())
    }

    fn recover(&self, work: Work<'_>, note: Option<&[u8]>, cause: Fault) -> Result<OpEnd, Fault> {
        // Without a note, nothing was begun.
        let Some(note) = note else {
            return Ok(OpEnd::Undone(cause));
        };
        match self.left(work, note)? {
            RecoveryPath::NotBegun => Ok(OpEnd::Undone(cause)),
            RecoveryPath::Back(mut left) => {
                for step in O::STAGES.iter().rev().flat_map(|stage| stage.undo) {
                    pass(self, work, step, &mut left, Firm::Yes)?;
                }
                Ok(OpEnd::Undone(cause))
            }
            RecoveryPath::Forward(mut left) => {
                for step in O::FORWARD {
                    pass(self, work, step, &mut left, Firm::Yes)?;
                }
                Ok(OpEnd::Finished)
            }
        }
    }

    fn evidence(&self, root: &StorageRoot) -> Result<Evidence, Fault> {
        HostOp::evidence(self, root)
    }

    fn makes_in(&self) -> Option<ImageId> {
        HostOp::makes_in(self)
    }

    fn undo_note(&self) -> &'static str {
        HostOp::undo_note(self)
    }

    fn starts_processes(&self) -> bool {
        O::STARTS_PROCESSES
    }
}

/// Whether a step ignores an abort: past the commit point, or during the undo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Firm {
    Yes,
    No,
}

fn pass<O: HostOp, S>(
    op: &O,
    work: Work<'_>,
    step: &Step<O, S>,
    state: &mut S,
    firm: Firm,
) -> Result<(), Fault> {
    if !(step.applies)(op, state)? {
        return Ok(());
    }
    if firm == Firm::No {
        stop_if_aborted(work.ctx)?;
    }
    let (verb, name) = (O::NAME, step.name);
    work.ctx.fail_point(&format!("{verb}.{name}.before"));
    (step.act)(op, work, state)?;
    work.ctx.fail_point(&format!("{verb}.{name}.after"));
    Ok(())
}

/// The names of all steps: of the table, of the undo in order, and of the completion, each once.
pub(super) fn step_names<O: HostOp>() -> Vec<&'static str> {
    let steps = O::STAGES
        .iter()
        .flat_map(|stage| stage.steps)
        .map(|step| step.name);
    let undo = O::STAGES
        .iter()
        .rev()
        .flat_map(|stage| stage.undo)
        .map(|step| step.name);
    let forward = O::FORWARD.iter().map(|step| step.name);
    let mut names = Vec::new();
    for name in steps.chain(undo).chain(forward) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// What an earlier step must have created.
///
/// # Errors
/// `INTERNAL` if the table has the steps in another order.
pub(super) fn made<'a, T>(by_an_earlier_step: Option<&'a T>, what: &str) -> Result<&'a T, Fault> {
    by_an_earlier_step.ok_or_else(|| {
        Fault::new(
            FaultCode::Internal,
            format!("a step ran before there was {what}; please report it"),
        )
    })
}
