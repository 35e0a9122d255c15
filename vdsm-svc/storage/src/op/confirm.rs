//! Before an operation takes effect, and before it is said to have: what was worked in must be where its name leads.

use common::{Fault, FaultCode};

use super::host_op::AnyOp;
use super::{Evidence, OpContext};
use crate::root::StorageRoot;
use crate::under_way::DomainDirs;

/// An operation's context that lets it commit only where its domain stands as it did at the begin.
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

/// Refuses to call a success what did not come about where its names lead: the domain must stand as it did, and what was
/// to be made must be there, found anew from the root on.
///
/// # Errors
/// `STORAGE_REPLACED`, `STORAGE_ROOT_GONE`; those of the domain, where it can no longer be written.
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
            "what the task made is not in image {made} any more: somebody moved, replaced or removed it meanwhile; look at the image, then delete it, or send the work again"
        ),
    )
    .about(made))
}

fn confirm(root: &StorageRoot, dirs: Option<DomainDirs>) -> Result<(), Fault> {
    dirs.map_or(Ok(()), |dirs| dirs.confirm(root))
}
