//! Does nothing, to measure everything around an operation.

use common::id::ImageId;
use common::{Fault, Noop};

use super::host_op::{HostOp, RecoveryPath, Stage, Step};
use super::{Evidence, Work};
use crate::root::StorageRoot;

impl HostOp for Noop {
    type Run = ();
    type Leftover = ();

    const STAGES: &'static [Stage<Self>] = &[];
    const FORWARD: &'static [Step<Self, ()>] = &[];
    const COMMIT_POINT: Option<&'static str> = None;
    const STARTS_PROCESSES: bool = false;

    fn begin(&self, _: Work<'_>) -> Result<(), Fault> {
        Ok(())
    }

    fn left(&self, _: Work<'_>, _: &[u8]) -> Result<RecoveryPath<()>, Fault> {
        Ok(RecoveryPath::NotBegun)
    }

    fn evidence(&self, _: &StorageRoot) -> Result<Evidence, Fault> {
        Ok(Evidence::Untouched)
    }

    fn makes_in(&self) -> Option<ImageId> {
        None
    }

    fn undo_note(&self) -> &'static str {
        ""
    }
}
