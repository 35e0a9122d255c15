//! The task that deletes a disk's image: it removes a disk, and it undoes a disk's creation.

use common::id::{DiskId, DomainId, HostId};
use common::{DeleteImage, Operation};

use crate::model::PlannedTask;

pub(super) fn delete_image(host_id: HostId, domain_id: DomainId, disk_id: DiskId) -> PlannedTask {
    PlannedTask {
        host_id,
        operation: Operation::DeleteImage(DeleteImage {
            domain_id,
            image_id: disk_id.image(),
        }),
    }
}
