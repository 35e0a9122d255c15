//! Dropping the privileges of a process.

use rustix::fs::Mode;
use rustix::process::{Gid, Resource, Rlimit, Uid, getrlimit, setrlimit, umask};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

use super::order::Bounds;

/// Open files: more than the program needs for its work.
const OPEN_FILES: u64 = 512;

/// Threads of its user on the whole machine (a copy has a dozen): each takes 30 KiB of kernel memory, so 256 MiB in
/// all. That is enough for hundreds of copies at once.
const THREADS: u64 = 8_192;

/// Changes the user permanently. The process must have one thread.
pub(super) fn become_user((uid, gid): (u32, u32)) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)
}

/// Prevents any program that is executed from here on from gaining privileges, and empties the bounding set if the
/// process may. Returns whether the bounding set is empty.
pub(super) fn bind() -> rustix::io::Result<bool> {
    let mut is_empty = true;
    for capability in CapabilitySet::all().iter() {
        // Only root with CAP_SETPCAP can do this; others do not need it. A capability that the kernel does not know
        // is in no set.
        let _ = remove_capability_from_bounding_set(capability);
        is_empty &= !capability_is_in_bounding_set(capability).unwrap_or(false);
    }
    set_no_new_privs(true)?;
    Ok(is_empty)
}

/// Drops all capabilities.
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

/// Files that it creates are accessible only to its user.
pub(super) fn mask() {
    umask(Mode::from_raw_mode(0o077));
}

/// Sets the limits; the address space comes last, because this program may need more than the one that it executes.
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

/// Never raises a limit.
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
