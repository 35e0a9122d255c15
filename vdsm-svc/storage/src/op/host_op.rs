//! What an operation is on its host: a table of steps, each with what undoes it beside it, and what storage shows of it.
//!
//! How a table is run, wound back and carried forward is written once, below.

use common::id::ImageId;
use common::{Fault, FaultCode, Verb};

use super::context::stop_if_aborted;
use super::{Evidence, OpEnd, Work};
use crate::root::StorageRoot;
use crate::run_dir;

/// A verb as it is done.
pub(super) trait HostOp: Verb + Sized + 'static {
    /// What it knows and holds open while it is done.
    type Run: 'static;

    /// What recovery found of it.
    type Leftover: 'static;

    /// Its steps in their order, and what undoes them.
    const STAGES: &'static [Stage<Self>];

    /// The steps that carry it forward, in their order.
    const FORWARD: &'static [Step<Self, Self::Leftover>];

    /// The step that commits: before it recovery goes back, from it on forward, and it is aborted no more. None if it changes
    /// nothing.
    const COMMIT_POINT: Option<&'static str>;

    /// Whether it starts processes of its own, which may outlive the service.
    const STARTS_PROCESSES: bool;

    /// Looks before anything is noted or changed.
    ///
    /// # Errors
    /// Why it is refused.
    fn begin(&self, work: Work<'_>) -> Result<Self::Run, Fault>;

    /// Finds by its last note what is left of it, and where to go from there.
    ///
    /// # Errors
    /// If that cannot be understood: it is left as it is.
    fn left(&self, work: Work<'_>, note: &[u8]) -> Result<RecoveryPath<Self::Leftover>, Fault>;

    /// What storage alone shows of it.
    ///
    /// # Errors
    /// If storage cannot be read: that shows nothing.
    fn evidence(&self, root: &StorageRoot) -> Result<Evidence, Fault>;

    /// The image in which what it made is to be found once it is done; none if it leaves nothing that must be there.
    fn makes_in(&self) -> Option<ImageId>;

    /// What stopping it undoes, in words for people; empty if nothing.
    fn undo_note(&self) -> &'static str;
}

/// Where recovery goes.
pub(super) enum RecoveryPath<L> {
    /// Nothing of it took place.
    NotBegun,
    /// Before its commit point: what it began is undone.
    Back(L),
    /// Past its commit point: it is carried to its end.
    Forward(L),
}

/// Steps, and beside them what undoes them.
pub(super) struct Stage<O: HostOp> {
    /// In their order.
    pub(super) steps: &'static [Step<O, O::Run>],
    /// In their own order. Stages are undone last first; each of these finds its work done if it was done before, or never needed.
    pub(super) undo: &'static [Step<O, O::Leftover>],
}

/// A step, which is a fail point before it and after it: `<verb>.<step>.before` and `<verb>.<step>.after`.
pub(super) struct Step<O, S> {
    /// Within its verb.
    pub(super) name: &'static str,
    act: fn(&O, Work<'_>, &mut S) -> Result<(), Fault>,
    /// Whether there is anything for it to do. A step that is passed over is no fail point.
    applies: fn(&O, &S) -> Result<bool, Fault>,
}

impl<O, S> Step<O, S> {
    pub(super) const fn new(name: &'static str, act: fn(&O, Work<'_>, &mut S) -> Result<(), Fault>) -> Self {
        let applies = |_: &O, _: &S| Ok(true);
        Self { name, act, applies }
    }

    /// The step, passed over unless this says that there is anything to do.
    pub(super) const fn only_if(self, applies: fn(&O, &S) -> Result<bool, Fault>) -> Self {
        Self { applies, ..self }
    }
}

/// An operation of whichever verb: what the rest of the crate does with it.
pub(super) trait AnyOp {
    /// As [`super::run`].
    fn run(&self, work: Work<'_>) -> Result<(), Fault>;

    /// As [`super::recover`], but that a fault is an error.
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
            // The run directory of a task that is done hurts nobody if it stays.
            let _ = run_dir::remove(work.root, work.task);
        }
        Ok(())
    }

    fn recover(&self, work: Work<'_>, note: Option<&[u8]>, cause: Fault) -> Result<OpEnd, Fault> {
        // Without a note nothing was begun.
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

/// Whether a step is done whatever is wished: past the commit point, or on the way back.
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

/// The names of all steps: those of the table, of the undo in its order, and of carrying forward, each once.
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

/// What a step before this one was to leave.
///
/// # Errors
/// `INTERNAL` if the table has the steps in another order.
pub(super) fn made<'a, T>(by_an_earlier_step: Option<&'a T>, what: &str) -> Result<&'a T, Fault> {
    by_an_earlier_step.ok_or_else(|| {
        Fault::new(
            FaultCode::Internal,
            format!("a step was done before there was {what}; please report it"),
        )
    })
}
