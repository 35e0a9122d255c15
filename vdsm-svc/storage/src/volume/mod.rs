//! Volumes: their metadata text, their headers, and what a listing says of them.

mod chain;
mod data;
mod describe;
#[cfg(test)]
mod fuzzed;
mod guest;
mod keys;
mod meta;
mod qcow2;
mod tables;
mod write;

pub use chain::chain;
pub(crate) use data::data_bytes;
pub use describe::{VolumeInfo, VolumeStatus};
pub(crate) use describe::{data_name, describe, read_meta, template_home, volume_ids};
pub(crate) use guest::{Guest, Piece};
pub use meta::{Legality, MetaError, Role, VolumeMeta, allocation_text, format_text, parent_text};
pub use qcow2::{Qcow2Error, Qcow2Header};
pub(crate) use tables::Tables;
pub(crate) use write::write_meta;
