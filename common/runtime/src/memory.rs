//! How the process has its memory from the kernel.

/// Has memory given in small pages, for the process and those that it starts. To clear a huge one of 2 MiB takes
/// milliseconds where the machine is virtual, and whoever touches it first waits for it, as do all who wait for them; a
/// service's memory grows a little at a time.
pub fn small_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "cannot turn off huge pages");
    }
}
