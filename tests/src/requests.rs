//! Requests as a sensible client makes them.

use proto::engine::v1::{CreateVmRequest, DiskSpec, RemoveVmRequest};
use proto::task::v1::operation::Verb;
use proto::task::v1::{Allocation, CreateVolume, DeleteImage, Operation, VolumeFormat};
use proto::vdsm::v1::StartTaskRequest;

use crate::ids::fresh;

/// Small, so that a preallocated disk costs no time.
pub const DISK_BYTES: i64 = 1 << 20;

/// Both formats, each as both allocations.
pub const KINDS: [(VolumeFormat, Allocation); 4] = [
    (VolumeFormat::Raw, Allocation::Sparse),
    (VolumeFormat::Raw, Allocation::Preallocated),
    (VolumeFormat::Cow, Allocation::Sparse),
    (VolumeFormat::Cow, Allocation::Preallocated),
];

/// A disk to be.
pub fn disk(domain_id: &str, (format, allocation): (VolumeFormat, Allocation)) -> DiskSpec {
    DiskSpec {
        disk_id: fresh(),
        domain_id: domain_id.to_owned(),
        capacity_bytes: DISK_BYTES,
        format: format.into(),
        allocation: allocation.into(),
        description: String::new(),
    }
}

/// Four disks, one of each kind.
pub fn four_disks(domain_id: &str) -> Vec<DiskSpec> {
    KINDS.iter().map(|kind| disk(domain_id, *kind)).collect()
}

/// A VM with these disks.
pub fn create_vm(name: &str, disks: Vec<DiskSpec>) -> CreateVmRequest {
    CreateVmRequest {
        vm_id: fresh(),
        name: name.to_owned(),
        description: String::new(),
        disks,
        request_id: fresh(),
        validate_only: false,
    }
}

/// Its removal.
pub fn remove_vm(vm_id: &str) -> RemoveVmRequest {
    RemoveVmRequest {
        vm_id: vm_id.to_owned(),
        request_id: fresh(),
        validate_only: false,
    }
}

/// A task that creates a volume in an image of its own.
pub fn create_volume(domain_id: &str, (format, allocation): (VolumeFormat, Allocation)) -> CreateVolume {
    CreateVolume {
        domain_id: domain_id.to_owned(),
        image_id: fresh(),
        volume_id: fresh(),
        capacity_bytes: DISK_BYTES,
        format: format.into(),
        allocation: allocation.into(),
        description: String::new(),
    }
}

/// A task that deletes an image.
pub fn delete_image(domain_id: &str, image_id: &str) -> DeleteImage {
    DeleteImage {
        domain_id: domain_id.to_owned(),
        image_id: image_id.to_owned(),
    }
}

/// A request for a task under an id that nobody has used.
pub fn start_task(verb: Verb) -> StartTaskRequest {
    StartTaskRequest {
        task_id: fresh(),
        operation: Some(Operation { verb: Some(verb) }),
    }
}
