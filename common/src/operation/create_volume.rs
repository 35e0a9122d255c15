//! `create_volume`.

use super::{Allocation, Touch, Verb, VolumeFormat};
use crate::id::{DomainId, ImageId, VolumeId};

/// Creates a volume without a parent, and its image if there is none.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CreateVolume {
    /// The domain it lies in.
    pub domain_id: DomainId,
    /// The image it belongs to.
    pub image_id: ImageId,
    /// Its own id, also its file name.
    pub volume_id: VolumeId,
    /// What a guest sees, in bytes; a multiple of [`super::CAPACITY_STEP_BYTES`].
    pub capacity_bytes: u64,
    /// How data is kept.
    pub format: VolumeFormat,
    /// How space is taken.
    pub allocation: Allocation,
    /// For people; cut to what the metadata holds.
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
