//! The progress of a copy, by what its process has read and written.

use super::super::OpContext;
use crate::process::IoCounters;

/// qemu-img reads this much ahead of its writing at most: 8 buffers of 2 MiB.
const IN_FLIGHT_BYTES: u64 = 16 << 20;

/// Progress is measured in data of the source, once for copying and once more for comparing; holes take no time.
pub(super) struct Meter<'a> {
    ctx: &'a dyn OpContext,
    data_bytes: u64,
    total_bytes: u64,
}

impl<'a> Meter<'a> {
    /// Of a source with so much data.
    pub(super) fn new(ctx: &'a dyn OpContext, data_bytes: u64, verify: bool) -> Self {
        Self {
            ctx,
            data_bytes,
            total_bytes: if verify { 2 * data_bytes } else { data_bytes },
        }
    }

    /// The counters of a process that copies. What was read and is no longer buffered was written, or was zeros that
    /// need not be written.
    pub(super) fn converted(&self, io: IoCounters) {
        let done = io.written.max(io.read.saturating_sub(IN_FLIGHT_BYTES));
        self.show(done.min(self.data_bytes));
    }

    /// Everything is copied.
    pub(super) fn all_converted(&self) {
        self.show(self.data_bytes);
    }

    /// The counters of a process that compares: it reads two files.
    pub(super) fn compared(&self, io: IoCounters) {
        self.show(self.data_bytes + (io.read / 2).min(self.data_bytes));
    }

    /// Everything is compared.
    pub(super) fn all_compared(&self) {
        self.show(self.total_bytes);
    }

    fn show(&self, done_bytes: u64) {
        // A source that is one hole has no progress.
        if self.total_bytes > 0 {
            self.ctx.progress(done_bytes, self.total_bytes);
        }
    }
}
