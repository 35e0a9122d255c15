//! What becomes of each kind of command: one kind a file, named as its parameters are in `model/parameters`.

mod add_host;
mod attach_disk;
mod copy_disk;
mod copy_image;
mod create_disk;
mod create_image;
mod create_storage_domain;
mod create_vm;
mod detach_disk;
mod extend_disk;
mod remove_all_vm_images;
mod remove_disk;
mod remove_host;
mod remove_image;
mod remove_vm;
mod take_over_host;

/// Disks of one VM. Far more than oVirt's own limit for one controller, and a tree that still is one input's work.
pub const MAX_DISKS: usize = 64;
