//! `create_volume`.

use super::{Allocation, Touch, Verb, VolumeFormat};
use crate::id::{DomainId, ImageId, VolumeId};

/// Creates a volume without a parent, and its image if it does not exist.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CreateVolume {
    /// The domain that it is in.
    pub domain_id: DomainId,
    /// The image that it belongs to.
    pub image_id: ImageId,
    /// Its id, which is also its file name.
    pub volume_id: VolumeId,
    /// The size that a guest sees, in bytes; a multiple of [`super::CAPACITY_STEP_BYTES`].
    pub capacity_bytes: u64,
    /// Its format.
    pub format: VolumeFormat,
    /// Its allocation.
    pub allocation: Allocation,
    /// A description for people; cut to what fits into the metadata.
    pub description: String,
}

impl Verb for CreateVolume {
    const NAME: &'static str = "create_volume";

    fn touches(&self) -> Vec<Touch> {
        vec![Touch::changed(self.domain_id, self.image_id)]
    }

    fn volumes(&self) -> Vec<VolumeId> {
        vec![self.volume_id]
    }

    fn summary(&self) -> String {
        format!("create volume {}", self.volume_id)
    }
}
