//! `delete_image`.

use super::{Touch, Verb};
use crate::id::{DomainId, ImageId, VolumeId};

/// Deletes an image with all its volumes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DeleteImage {
    /// The domain that it is in.
    pub domain_id: DomainId,
    /// The image.
    pub image_id: ImageId,
}

impl Verb for DeleteImage {
    const NAME: &'static str = "delete_image";

    fn touches(&self) -> Vec<Touch> {
        vec![Touch::changed(self.domain_id, self.image_id)]
    }

    fn volumes(&self) -> Vec<VolumeId> {
        Vec::new()
    }

    fn summary(&self) -> String {
        format!("delete image {}", self.image_id)
    }
}
