//! Checks, before an operation commits and before its success is reported, that names still lead to the directories
//! that it worked in.

use common::{Fault, FaultCode};

use super::host_op::AnyOp;
use super::{Evidence, OpContext};
use crate::root::StorageRoot;
use crate::under_way::DomainDirs;

/// An operation's context that lets it commit only if its domain is still the one that it began in.
pub(super) struct Confirming<'a> {
    pub(super) ctx: &'a dyn OpContext,
    pub(super) root: &'a StorageRoot,
    pub(super) dirs: Option<DomainDirs>,
}

impl OpContext for Confirming<'_> {
    fn note(&self, note: &[u8], past_no_return: bool) -> Result<(), Fault> {
        self.ctx.note(note, past_no_return)
    }

    fn commit_point(&self) -> Result<(), Fault> {
        confirm(self.root, self.dirs)?;
        self.ctx.commit_point()
    }

    fn aborted(&self) -> bool {
        self.ctx.aborted()
    }

    fn fail_point(&self, name: &str) {
        self.ctx.fail_point(name);
    }

    fn progress(&self, done_bytes: u64, total_bytes: u64) {
        self.ctx.progress(done_bytes, total_bytes);
    }
}

/// Refuses to report a success unless the names lead to the result: the domain must be the same, and what was to be
/// created must be found again from the root.
///
/// # Errors
/// `STORAGE_REPLACED`, `STORAGE_ROOT_GONE`; those of the domain, if it is no longer writable.
pub(super) fn took_effect(root: &StorageRoot, op: &dyn AnyOp, dirs: Option<DomainDirs>) -> Result<(), Fault> {
    confirm(root, dirs)?;
    let Some(made) = op.makes_in() else {
        return Ok(());
    };
    if op.evidence(root)? == Evidence::Done {
        return Ok(());
    }
    Err(Fault::new(
        FaultCode::StorageReplaced,
        format!(
            "what the task created is no longer in image {made}: somebody moved, replaced or removed it meanwhile; check the image, then delete it, or send the task again"
        ),
    )
    .about(made))
}

fn confirm(root: &StorageRoot, dirs: Option<DomainDirs>) -> Result<(), Fault> {
    dirs.map_or(Ok(()), |dirs| dirs.confirm(root))
}
