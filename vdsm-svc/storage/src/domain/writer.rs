//! Who writes to a domain: one process at a time, proven by a lock that the kernel frees when the process ends.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek};
use std::thread;
use std::time::{Duration, Instant};

use common::id::HostId;
use common::{Fault, FaultCode};

use super::Domain;
use crate::file::{Dir, FileError};
use crate::names;

/// How much is read of what the writer wrote about itself.
const WHO_LIMIT_BYTES: u64 = 200;

/// Between a fork and its exec, a child of another thread, or of a service that was killed, holds a copy of the
/// lock for an instant.
const INSTANT: Duration = Duration::from_secs(1);

/// How often the lock is tried within it.
const LOOK: Duration = Duration::from_millis(10);

/// The lock of a domain's writer; freed when it is dropped.
pub(crate) struct Writer {
    _lock: File,
}

impl Writer {
    /// Takes the lock of a domain that is ours to write, and writes into its file who holds it.
    ///
    /// # Errors
    /// `DOMAIN_READ_ONLY` with the reason; `DOMAIN_LOCKED` naming the holder.
    pub(crate) fn take(domain: &Domain, host: HostId) -> Result<Self, Fault> {
        if let Some(reason) = read_only_reason(domain) {
            return Err(Fault::new(
                FaultCode::DomainReadOnly,
                format!("domain {} may only be read here: {reason}", domain.id),
            )
            .about(domain.id));
        }
        let mut lock = open(&domain.dom_md)?;
        let started = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if started.elapsed() < INSTANT => thread::sleep(LOOK),
                Err(TryLockError::WouldBlock) => return Err(locked(domain, &lock)),
                Err(TryLockError::Error(e)) => {
                    return Err(domain.dom_md.error("lock", names::WRITER.as_ref(), e).into());
                }
            }
        }
        // For people and for the refusal above. Only the lock decides, so this needs no sync.
        let fail = |e: io::Error| domain.dom_md.error("write", names::WRITER.as_ref(), e);
        lock.set_len(0).and_then(|()| lock.rewind()).map_err(fail)?;
        let text = format!("host {host}, process {}\n", std::process::id());
        domain.dom_md.write(names::WRITER, &lock, text.as_bytes())?;
        Ok(Self { _lock: lock })
    }
}

/// Why a domain may only be read here; none if it is ours to write.
pub(crate) fn read_only_reason(domain: &Domain) -> Option<String> {
    domain
        .meta
        .read_only_reason()
        .or_else(|| foreign_owner(&domain.dir))
}

/// A domain whose files belong to somebody else, where we are not root: what we made there, its owner could not
/// use, and the other way round.
fn foreign_owner(dir: &Dir) -> Option<String> {
    let we = rustix::process::geteuid();
    let stat = rustix::fs::fstat(dir).ok()?;
    let ours = we.is_root() || stat.st_uid == we.as_raw();
    (!ours).then(|| {
        format!(
            "its directory belongs to user {}, and this service runs as {}; run it as that user or as root",
            stat.st_uid,
            we.as_raw()
        )
    })
}

fn open(dom_md: &Dir) -> Result<File, FileError> {
    if let Some(file) = dom_md.file_for_writing(names::WRITER)? {
        return Ok(file);
    }
    match dom_md.create_file(names::WRITER) {
        Err(e) if e.is_taken() => dom_md
            .file_for_writing(names::WRITER)?
            .ok_or_else(|| dom_md.error("open", names::WRITER.as_ref(), io::ErrorKind::NotFound.into())),
        made => made,
    }
}

fn locked(domain: &Domain, file: &File) -> Fault {
    let mut who = String::new();
    // Best effort: the name of the holder only helps people.
    let _ = file.take(WHO_LIMIT_BYTES).read_to_string(&mut who);
    let who = if who.trim().is_empty() {
        "another process"
    } else {
        who.trim()
    };
    Fault::new(
        FaultCode::DomainLocked,
        format!(
            "domain {} is being written by {who}; stop it, or try again when it has ended",
            domain.id
        ),
    )
    .about(domain.id)
}
