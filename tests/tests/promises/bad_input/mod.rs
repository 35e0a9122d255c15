//! Bad input gets a clear error with a stable code that names the field or the entity, and nothing changes.

#[macro_use]
mod table;

mod commands;
mod complete;
mod disks;
mod host_storage;
mod host_tasks;
mod hosts;
mod lists;
mod operations;
mod ownership;
mod vms;
mod watches;
