//! What each kind of command does: one file a kind, with the same name as the file of its parameters in
//! `model/parameters`.

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

/// Maximum number of disks of one VM: far more than oVirt's own limit for one controller, and one input can still
/// record the whole tree.
pub const MAX_DISKS: usize = 64;
