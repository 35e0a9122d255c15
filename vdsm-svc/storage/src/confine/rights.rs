//! Giving up what a process may do by who it is.

use rustix::fs::Mode;
use rustix::process::{Gid, Resource, Rlimit, Uid, getrlimit, setrlimit, umask};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

use super::order::Bounds;

/// Open files: a program that opens more is not at its work.
const OPEN_FILES: u64 = 512;

/// Threads of its user, on all of the machine: what no process counts (a copy has a dozen) takes 30 KiB of the kernel's
/// memory each, 256 MiB in all. A machine with hundreds of copies at once has room.
const THREADS: u64 = 8_192;

/// Becomes another user, for good. The process has one thread.
pub(super) fn become_user((uid, gid): (u32, u32)) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)
}

/// No program that is executed from here on gains anything. While the process may, it also empties the set of what any
/// could ever have (the bounding set): whether that is empty.
pub(super) fn bind() -> rustix::io::Result<bool> {
    let mut is_empty = true;
    for capability in CapabilitySet::all().iter() {
        // Only root with CAP_SETPCAP may, and need not where nothing is gained. One that the kernel does not know is in no set.
        let _ = remove_capability_from_bounding_set(capability);
        is_empty &= !capability_is_in_bounding_set(capability).unwrap_or(false);
    }
    set_no_new_privs(true)?;
    Ok(is_empty)
}

/// Has none of root's powers left.
pub(super) fn drop_capabilities() -> rustix::io::Result<()> {
    let none = CapabilitySet::empty();
    let _ = clear_ambient_capability_set();
    set_capabilities(
        None,
        CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        },
    )?;
    let left = capabilities(None)?;
    if left.effective.is_empty() && left.permitted.is_empty() {
        Ok(())
    } else {
        Err(rustix::io::Errno::PERM)
    }
}

/// What it creates is nobody else's.
pub(super) fn mask() {
    umask(Mode::from_raw_mode(0o077));
}

/// Sets the limits; the address space comes last, for this program may take more than the one that it becomes.
pub(super) fn limit(bounds: Bounds) -> rustix::io::Result<()> {
    at_most(Resource::Core, 0)?;
    at_most(Resource::Nofile, OPEN_FILES)?;
    at_most(Resource::Nproc, THREADS)?;
    at_most(Resource::Msgqueue, 0)?;
    if let Some(bytes) = bounds.file_bytes {
        at_most(Resource::Fsize, bytes)?;
    }
    if let Some(seconds) = bounds.cpu_s {
        at_most(Resource::Cpu, seconds)?;
    }
    at_most(Resource::As, bounds.memory_bytes)
}

/// Never more than it is already.
fn at_most(resource: Resource, limit: u64) -> rustix::io::Result<()> {
    let now = getrlimit(resource);
    let limit = [now.current, now.maximum]
        .into_iter()
        .flatten()
        .fold(limit, u64::min);
    let both = Rlimit {
        current: Some(limit),
        maximum: Some(limit),
    };
    setrlimit(resource, both)
}
