//! `copy_volume`.

use super::{Allocation, Touch, Verb, VolumeAddress, VolumeFormat};
use crate::id::VolumeId;

/// Copies a volume without a parent to a new volume, and creates the target's image if it does not exist. The target
/// has the same capacity.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CopyVolume {
    /// The source.
    pub source: VolumeAddress,
    /// The target.
    pub target: VolumeAddress,
    /// The format of the target.
    pub format: VolumeFormat,
    /// The allocation of the target.
    pub allocation: Allocation,
    /// The description of the target, for people; cut to what fits into the metadata.
    pub description: String,
    /// Whether both are compared before the target is accepted.
    pub verify: bool,
}

impl Verb for CopyVolume {
    const NAME: &'static str = "copy_volume";

    fn touches(&self) -> Vec<Touch> {
        vec![
            Touch::changed(self.target.domain_id, self.target.image_id),
            Touch::read(self.source.domain_id, self.source.image_id),
        ]
    }

    fn volumes(&self) -> Vec<VolumeId> {
        vec![self.target.volume_id, self.source.volume_id]
    }

    fn summary(&self) -> String {
        format!(
            "copy volume {} to {}",
            self.source.volume_id, self.target.volume_id
        )
    }
}
