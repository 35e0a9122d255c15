//! Requests as a sensible client makes them.

use std::net::SocketAddr;

use proto::engine::v1::*;
use proto::host::v1::StartTaskRequest;
use proto::task::v1::operation::Verb;
use proto::task::v1::{
    Allocation, CopyVolume, CreateVolume, DeleteImage, Operation, VolumeAddress, VolumeFormat,
};

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
        lock_wait: None,
    }
}

/// Its removal.
pub fn remove_vm(vm_id: &str) -> RemoveVmRequest {
    RemoveVmRequest {
        vm_id: vm_id.to_owned(),
        request_id: fresh(),
        validate_only: false,
        lock_wait: None,
    }
}

/// A disk of its own.
pub fn create_disk(domain_id: &str, (format, allocation): (VolumeFormat, Allocation)) -> CreateDiskRequest {
    CreateDiskRequest {
        disk_id: fresh(),
        domain_id: domain_id.to_owned(),
        capacity_bytes: DISK_BYTES,
        format: format.into(),
        allocation: allocation.into(),
        description: String::new(),
        request_id: fresh(),
        validate_only: false,
        lock_wait: None,
    }
}

/// A copy of a disk.
pub fn copy_disk(
    source_disk_id: &str,
    domain_id: &str,
    (format, allocation): (VolumeFormat, Allocation),
) -> CopyDiskRequest {
    CopyDiskRequest {
        source_disk_id: source_disk_id.to_owned(),
        disk_id: fresh(),
        domain_id: domain_id.to_owned(),
        format: format.into(),
        allocation: allocation.into(),
        description: String::new(),
        verify: true,
        request_id: fresh(),
        validate_only: false,
        lock_wait: None,
    }
}

/// A larger disk.
pub fn extend_disk(disk_id: &str, capacity_bytes: i64) -> ExtendDiskRequest {
    ExtendDiskRequest {
        disk_id: disk_id.to_owned(),
        capacity_bytes,
        request_id: fresh(),
        validate_only: false,
        lock_wait: None,
    }
}

/// The removal of a disk of its own.
pub fn remove_disk(disk_id: &str) -> RemoveDiskRequest {
    RemoveDiskRequest {
        disk_id: disk_id.to_owned(),
        request_id: fresh(),
        validate_only: false,
        lock_wait: None,
    }
}

/// A disk for a VM.
pub fn attach_disk(disk_id: &str, vm_id: &str) -> AttachDiskRequest {
    AttachDiskRequest {
        disk_id: disk_id.to_owned(),
        vm_id: vm_id.to_owned(),
        request_id: fresh(),
        validate_only: false,
        lock_wait: None,
    }
}

/// A disk from its VM.
pub fn detach_disk(disk_id: &str, vm_id: &str) -> DetachDiskRequest {
    DetachDiskRequest {
        disk_id: disk_id.to_owned(),
        vm_id: vm_id.to_owned(),
        request_id: fresh(),
        validate_only: false,
        lock_wait: None,
    }
}

/// A host for the engine.
pub fn add_host(host_id: &str, name: &str, address: SocketAddr) -> AddHostRequest {
    AddHostRequest {
        host_id: host_id.to_owned(),
        name: name.to_owned(),
        address: address.to_string(),
        identity: String::new(),
        request_id: fresh(),
        validate_only: false,
        lock_wait: None,
    }
}

/// A host that the engine is to give up.
pub fn remove_host(host_id: &str) -> RemoveHostRequest {
    RemoveHostRequest {
        host_id: host_id.to_owned(),
        request_id: fresh(),
        validate_only: false,
        lock_wait: None,
    }
}

/// A storage domain on a host.
pub fn create_domain(host_id: &str, name: &str) -> CreateStorageDomainRequest {
    CreateStorageDomainRequest {
        domain_id: fresh(),
        name: name.to_owned(),
        host_id: host_id.to_owned(),
        request_id: fresh(),
        validate_only: false,
        lock_wait: None,
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

/// A copy of a volume to an image of its own in the same domain.
pub fn copy_volume(source: &VolumeAddress, (format, allocation): (VolumeFormat, Allocation)) -> CopyVolume {
    CopyVolume {
        source: Some(source.clone()),
        target: Some(VolumeAddress {
            domain_id: source.domain_id.clone(),
            image_id: fresh(),
            volume_id: fresh(),
        }),
        format: format.into(),
        allocation: allocation.into(),
        description: String::new(),
        verify: false,
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
