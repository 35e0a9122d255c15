//! Storage domains: a directory of the storage root with `dom_md` and `images` in it.

mod create;
mod direct_io;
mod format;
mod info;
mod metadata;
mod open;
mod writer;

pub use direct_io::DirectIo;
pub(crate) use format::purge_leftovers;
pub use info::{DomainInfo, ImageName};
pub(crate) use info::{LEFTOVERS_MAX, too_many_leftovers};
pub use metadata::{DomainMeta, DomainMetaError};
pub use open::{Domain, WritableDomain};
pub(crate) use writer::{Writer, WriterSlot};
