//! The operations: a file for each verb, with its checks, the table of its steps and their undo, and its evidence on
//! storage (`host_op::HostOp`).
//!
//! What holds for every operation:
//! - Before anything is done, a durable note (J) says what will be done; after it is durable, a note says that it is
//!   done.
//! - Up to the point of no return it can be undone; from there on it can only be completed.
//! - It recognizes what it created by the task's name or by its [`crate::file::Identity`]; it never removes anything
//!   else.
//! - [`recover`] can be interrupted at any step and run again.

mod alone;
mod confirm;
mod context;
mod copy_volume;
mod create_volume;
mod delete_image;
mod extend_volume;
mod host_op;
mod new_volume;
mod noop;
mod note;
mod work;

use common::id::TaskId;
use common::{Fault, Operation, Verb as _};

use self::confirm::Confirming;
use self::host_op::AnyOp;
use self::work::Work;
use crate::root::StorageRoot;
use crate::run_dir;
use crate::under_way::DomainDirs;

pub use context::OpContext;

/// How a task ends that failed, was aborted, or was interrupted by a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpEnd {
    /// It had passed its point of no return: it was completed, and took effect.
    Finished,
    /// What it began is undone. The fault is the cause that was given.
    Undone(Fault),
    /// It could be neither finished nor undone; the fault says why, and names what is left. What is not understood
    /// was not changed.
    Failed(Fault),
}

/// What storage shows of an operation, for an engine whose host lost its store or has an older one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// It has taken effect.
    Done,
    /// Neither the image nor a leftover of it exists: a deletion took effect, or the image never existed.
    ImageAbsent,
    /// Nothing of it exists.
    Untouched,
    /// Only the empty directory of an image exists, which the operation uses when it begins again; described for
    /// people.
    Empty(String),
    /// A part of it exists, described for people.
    Partial(String),
}

macro_rules! tables {
    ($($verb:ident,)*) => {
        vec![$((common::$verb::NAME, host_op::step_names::<common::$verb>()),)*]
    };
}

/// The steps of each operation in order, with undo and completion last. Each has a fail point before and after it.
pub fn steps() -> Vec<(&'static str, Vec<String>)> {
    let tables = common::each_verb!(tables);
    let named = tables.into_iter().map(|(verb, steps): (&str, Vec<&str>)| {
        let steps = steps.into_iter().map(|step| format!("{verb}.{step}"));
        (verb, steps.collect())
    });
    named.collect()
}

/// The only place that knows all verbs.
fn any(op: &Operation) -> &dyn AnyOp {
    common::by_verb!(op, op => op)
}

/// Runs the operation. The caller holds the locks of its domain and image, and runs the operation of a task once.
///
/// # Errors
/// Why it did not take effect, or may not have: the caller continues with [`recover`], whatever the fault.
pub fn run(root: &StorageRoot, op: &Operation, task: TaskId, ctx: &dyn OpContext) -> Result<(), Fault> {
    let dirs = dirs(root, op)?;
    root.under_way().begin(task, dirs);
    let ctx = &Confirming { ctx, root, dirs };
    let work = Work { root, task, ctx };
    any(op).run(work)?;
    confirm::took_effect(root, any(op), dirs)
}

fn dirs(root: &StorageRoot, op: &Operation) -> Result<Option<DomainDirs>, Fault> {
    op.domain_id()
        .map(|domain| DomainDirs::of(root, domain))
        .transpose()
}

/// Whether the operation starts processes of its own, which may outlive the service.
pub fn starts_processes(op: &Operation) -> bool {
    any(op).starts_processes()
}

/// What stopping the operation undoes, in words for people; empty if nothing.
pub fn undo_note(op: &Operation) -> &'static str {
    any(op).undo_note()
}

/// The task is over: what this process knew of it is forgotten.
pub fn forget(root: &StorageRoot, task: TaskId) {
    root.under_way().end(task);
}

/// Brings an operation to its end after a failure, an abort or a restart, from the last note and from what
/// storage shows. The caller holds its locks and has seen [`run_dir::kill_leftovers`] succeed.
pub fn recover(
    root: &StorageRoot,
    op: &Operation,
    task: TaskId,
    note: Option<&[u8]>,
    cause: Fault,
    ctx: &dyn OpContext,
) -> OpEnd {
    let work = Work { root, task, ctx };
    let concluded = conclude(work, op, note, cause);
    // A run directory that stays hurts nobody: it is empty of processes, and seen at the next start.
    let _ = run_dir::remove(root, task);
    concluded.unwrap_or_else(OpEnd::Failed)
}

fn conclude(work: Work<'_>, op: &Operation, note: Option<&[u8]>, cause: Fault) -> Result<OpEnd, Fault> {
    let Work { root, task, .. } = work;
    // Without a note nothing was begun, wherever it was.
    if note.is_some() {
        if starts_processes(op) {
            work.all_have_ended()?;
        }
        root.under_way().check_same(root, task)?;
    }
    let dirs = match note {
        Some(_) => dirs(root, op)?,
        None => None,
    };
    let end = any(op).recover(work, note, cause)?;
    if end == OpEnd::Finished {
        confirm::took_effect(root, any(op), dirs)?;
    }
    Ok(end)
}

/// What storage alone shows of the operation.
///
/// # Errors
/// Where storage cannot be read: that shows nothing.
pub fn evidence(root: &StorageRoot, op: &Operation) -> Result<Evidence, Fault> {
    any(op).evidence(root)
}

#[cfg(test)]
mod tests;
