//! Creates one disk of a VM.

use common::id::{HostId, VmId, VolumeId};

use crate::model::DiskSpec;

/// See [`crate::model::Parameters::CreateImage`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateImage {
    /// The VM that it will be attached to.
    pub vm_id: VmId,
    /// The disk.
    pub disk: DiskSpec,
    /// Its volume.
    pub volume_id: VolumeId,
    /// The host that makes it.
    pub host_id: HostId,
}
