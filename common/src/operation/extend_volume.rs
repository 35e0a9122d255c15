//! `extend_volume`.

use super::{Touch, Verb, VolumeAddress};
use crate::id::VolumeId;

/// Makes a volume larger that is alone in its image.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ExtendVolume {
    /// The volume.
    pub volume: VolumeAddress,
    /// What a guest will see, in bytes. One that is as large already stays as it is; none is made smaller.
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
