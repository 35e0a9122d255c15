//! What commands are made of: one verb a file, always in the order parameters, validation, locks, plan (children
//! and tasks), undo beside do, end, tests.

pub mod add_host;
pub mod create_image;
pub mod create_storage_domain;
pub mod create_vm;
pub mod remove_all_vm_images;
pub mod remove_host;
pub mod remove_image;
pub mod remove_vm;
