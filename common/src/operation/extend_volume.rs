//! `extend_volume`.

use super::{Touch, Verb, VolumeAddress};
use crate::id::VolumeId;

/// Extends the only volume of an image.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ExtendVolume {
    /// The volume.
    pub volume: VolumeAddress,
    /// The size that a guest will see, in bytes. A volume that already has this size is not changed; a volume is
    /// never shrunk.
    pub capacity_bytes: u64,
}

impl Verb for ExtendVolume {
    const NAME: &'static str = "extend_volume";

    fn touches(&self) -> Vec<Touch> {
        vec![Touch::changed(self.volume.domain_id, self.volume.image_id)]
    }

    fn volumes(&self) -> Vec<VolumeId> {
        vec![self.volume.volume_id]
    }

    fn summary(&self) -> String {
        format!(
            "extend volume {} to {} bytes",
            self.volume.volume_id, self.capacity_bytes
        )
    }
}
