//! The operations: one verb a file, in each its check, its steps in order, and its undo beside them.
//!
//! What holds for every operation:
//! - It is noted durably (J) what will be done before it is done, and that it is done after it is durable.
//! - Up to the point of no return it can be undone; from there on it is only carried forward.
//! - What it made is known by the task's name or by its [`crate::file::Identity`]; nothing else is ever removed.
//! - [`recover`] may be cut off at any step and run again.

mod confirm;
mod context;
mod copy_volume;
mod create_volume;
mod delete_image;
mod new_volume;
mod note;
mod work;

use common::id::TaskId;
use common::{Fault, Operation};

use self::confirm::Confirming;
use self::work::Work;
use crate::root::StorageRoot;
use crate::run_dir;
use crate::under_way::Standing;

pub use context::OpContext;

/// How a task ends that failed, was aborted, or was cut off by a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpEnd {
    /// It had passed its point of no return: it was carried forward, and took effect.
    Finished,
    /// What it began is undone. The fault is the cause that was given.
    Undone(Fault),
    /// It could be neither finished nor undone; the fault says why, and names what is left. What cannot be
    /// understood was not touched.
    Failed(Fault),
}

/// What storage alone shows of an operation, for an engine whose host lost its journal, or has an older one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// It has taken effect.
    Done,
    /// There is no such image and no leftover of it: a deletion took effect, or it never was there.
    ImageAbsent,
    /// Nothing of it is to be seen.
    Untouched,
    /// Only the empty directory of an image, which the operation takes over when it begins again; in words.
    Empty(String),
    /// Something of it is to be seen; in words.
    Partial(String),
}

/// The steps of each operation that has any, in order, undo and carrying forward last. Each is a fail point, before and
/// after.
pub const STEPS: [(&str, &[&str]); 3] = [
    ("create_volume", create_volume::STEPS),
    ("copy_volume", copy_volume::STEPS),
    ("delete_image", delete_image::STEPS),
];

/// Does the operation. The caller holds the locks of its domain and image, and runs an operation of a task once.
///
/// # Errors
/// Why it did not take effect, or not surely: the caller goes on with [`recover`], whatever the fault.
pub fn run(root: &StorageRoot, op: &Operation, task: TaskId, ctx: &dyn OpContext) -> Result<(), Fault> {
    let standing = standing(root, op)?;
    root.under_way().begin(task, standing);
    let ctx = &Confirming { ctx, root, standing };
    let work = Work { root, task, ctx };
    match op {
        Operation::CreateVolume(op) => create_volume::run(work, op)?,
        Operation::CopyVolume(op) => copy_volume::run(work, op)?,
        Operation::DeleteImage(op) => delete_image::run(work, op)?,
        Operation::Noop(_) => {}
    }
    confirm::took_effect(root, op, standing)
}

fn standing(root: &StorageRoot, op: &Operation) -> Result<Option<Standing>, Fault> {
    op.domain_id()
        .map(|domain| Standing::of(root, domain))
        .transpose()
}

/// Whether the operation starts processes of its own, which may outlive the service.
pub const fn starts_processes(op: &Operation) -> bool {
    match op {
        Operation::CreateVolume(_) | Operation::CopyVolume(_) => true,
        Operation::DeleteImage(_) | Operation::Noop(_) => false,
    }
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
    let standing = match note {
        Some(_) => standing(root, op)?,
        None => None,
    };
    let end = match op {
        Operation::CreateVolume(op) => create_volume::recover(work, op, note, cause)?,
        Operation::CopyVolume(op) => copy_volume::recover(work, op, note, cause)?,
        Operation::DeleteImage(op) => delete_image::recover(work, op, note, cause)?,
        Operation::Noop(_) => OpEnd::Undone(cause),
    };
    if end == OpEnd::Finished {
        confirm::took_effect(root, op, standing)?;
    }
    Ok(end)
}

/// What storage alone shows of the operation.
///
/// # Errors
/// Where storage cannot be read: that shows nothing.
pub fn evidence(root: &StorageRoot, op: &Operation) -> Result<Evidence, Fault> {
    match op {
        Operation::CreateVolume(op) => create_volume::evidence(root, op),
        Operation::CopyVolume(op) => copy_volume::evidence(root, op),
        Operation::DeleteImage(op) => delete_image::evidence(root, op),
        Operation::Noop(_) => Ok(Evidence::Untouched),
    }
}

#[cfg(test)]
mod tests {
    use common::id::{DomainId, ImageId, VolumeId};
    use common::{Allocation, CopyVolume, CreateVolume, DeleteImage, VolumeAddress, VolumeFormat};
    use uuid::Uuid;

    use super::*;

    /// One of each verb: the match says which is forgotten.
    fn after(operation: Option<&Operation>) -> Option<Operation> {
        let domain_id = DomainId::from_uuid(Uuid::from_u128(1));
        let image_id = ImageId::from_uuid(Uuid::from_u128(2));
        let volume_id = VolumeId::from_uuid(Uuid::from_u128(3));
        let address = VolumeAddress {
            domain_id,
            image_id,
            volume_id,
        };
        match operation {
            None => Some(Operation::CreateVolume(CreateVolume {
                domain_id,
                image_id,
                volume_id,
                capacity_bytes: 4096,
                format: VolumeFormat::Raw,
                allocation: Allocation::Sparse,
                description: String::new(),
            })),
            Some(Operation::CreateVolume(_)) => Some(Operation::CopyVolume(CopyVolume {
                source: address,
                target: address,
                format: VolumeFormat::Raw,
                allocation: Allocation::Sparse,
                description: String::new(),
                verify: false,
            })),
            Some(Operation::CopyVolume(_)) => {
                Some(Operation::DeleteImage(DeleteImage { domain_id, image_id }))
            }
            Some(Operation::DeleteImage(_)) => Some(Operation::Noop(common::Noop)),
            Some(Operation::Noop(_)) => None,
        }
    }

    #[test]
    fn every_operation_that_touches_storage_has_steps_at_which_it_can_be_cut_off() {
        let mut operation = after(None);
        while let Some(present) = operation {
            let steps: Vec<_> = STEPS.iter().filter(|(verb, _)| *verb == present.name()).collect();
            if present.touches().is_empty() {
                assert!(steps.is_empty(), "{present:?}");
            } else {
                let [(verb, steps)] = steps[..] else {
                    panic!("{present:?}: {steps:?}");
                };
                assert!(!steps.is_empty() && steps.iter().all(|step| step.starts_with(verb)));
            }
            operation = after(Some(&present));
        }
    }
}
