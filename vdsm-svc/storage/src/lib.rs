//! Storage domains on disk, `qemu-img`, and the storage operations with their undo.
//!
//! Everything here is synchronous and is called from threads that may block. There is no async runtime, no network
//! and no database here. An operation records its notes through [`op::OpContext`], which the service provides.
//!
//! - [`mod@file`] is the one layer through which storage is changed: every create, sync, rename and unlink.
//! - [`domain`] and [`volume`] are the on-disk format: what oVirt's VDSM writes and reads.
//! - [`confine`] restricts child processes to the files that they are given.
//! - [`qemu_img`] runs the one external program; [`run_dir`] keeps track of its processes.
//! - [`op`] has the operations, one verb a file, each with a table of its steps and its undo beside it.

pub mod confine;
pub mod domain;
pub mod file;
pub mod op;
pub mod qemu_img;
pub mod root;
pub mod run_dir;
pub mod volume;

mod in_use;
mod named_root;
mod names;
mod process;
mod text;
mod under_way;

pub use named_root::NamedRoot;
pub use op::{Evidence, OpContext, OpEnd};
pub use root::{ListedDomain, Options, StorageRoot};
