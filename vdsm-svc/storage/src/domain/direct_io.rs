//! Whether a domain's file system supports direct I/O, and with which alignment.

use std::os::unix::fs::FileExt;

use crate::file::Dir;
use crate::names;

/// The largest alignment that is tried, in bytes.
const LARGEST_STEP: usize = 4096;

/// A file system's support for direct I/O.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectIo {
    /// Supported for reads aligned to this many bytes (512 or 4096).
    Steps(u32),
    /// Not supported; the page cache and fsync are used.
    Unsupported,
}

/// Determines the support by reading the domain's metadata.
pub(crate) fn probe(dom_md: &Dir) -> DirectIo {
    let Ok(Some(file)) = dom_md.file_direct(names::METADATA) else {
        return DirectIo::Unsupported;
    };
    let mut space = vec![0u8; 2 * LARGEST_STEP];
    let start = space.as_ptr().align_offset(LARGEST_STEP);
    for step in [512u32, 4096] {
        let Some(buffer) = space.get_mut(start..start.saturating_add(step as usize)) else {
            return DirectIo::Unsupported;
        };
        if file.read_at(buffer, 0).is_ok() {
            return DirectIo::Steps(step);
        }
    }
    DirectIo::Unsupported
}
