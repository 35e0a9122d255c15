//! The disk of an image that a leaf makes. The disk is in the inventory only once the whole tree is done.

use common::Timestamp;

use super::verb::NewImage;
use crate::model::{Command, Disk, Observation, Presence};

/// The disk that a leaf has made, as it enters the inventory.
pub(super) fn made(leaf: &Command, image: &dyn NewImage, now: Timestamp) -> Disk {
    Disk {
        spec: image.disk().clone(),
        last_vm: None,
        volume_id: image.volume_id(),
        // A host calls its task FINISHED only once the volume is whole and durable.
        observation: Some(Observation {
            presence: Presence::Whole,
            time: leaf.ended.unwrap_or(now),
            note: "as its creation ended".into(),
        }),
    }
}
