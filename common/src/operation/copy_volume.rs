//! `copy_volume`.

use super::{Allocation, Touch, Verb, VolumeAddress, VolumeFormat};
use crate::id::VolumeId;

/// Copies a volume without a parent to a new volume, and makes that one's image if there is none. The new one is
/// as large as the old.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CopyVolume {
    /// What is copied.
    pub source: VolumeAddress,
    /// What is made.
    pub target: VolumeAddress,
    /// How the target keeps its data.
    pub format: VolumeFormat,
    /// How the target takes its space.
    pub allocation: Allocation,
    /// The target's, for people; cut to what the metadata holds.
    pub description: String,
    /// Whether the two are compared before the target counts.
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
