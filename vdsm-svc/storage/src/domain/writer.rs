//! The writer of a domain: one process at a time, proven by a lock that the kernel releases when the process ends.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use common::id::HostId;
use common::{Fault, FaultCode};

use super::Domain;
use crate::file::{Dir, FileError, FileId};
use crate::names;

/// The maximum that is read of the writer's description of itself.
const WHO_LIMIT_BYTES: u64 = 200;

/// Between fork and exec, a child of another thread, or of a service that was killed, holds a copy of the lock for an
/// instant.
const INSTANT: Duration = Duration::from_secs(1);

/// How often the lock is tried within that time.
const LOOK: Duration = Duration::from_millis(10);

/// A holder that is seen within this time counts as the same as before.
const SAME_HOLDER: Duration = Duration::from_secs(2);

/// The lock of a domain's writer; released when it is dropped.
pub(crate) struct Writer {
    _lock: File,
    /// The locked file: another file may take its name, and another host may lock that one.
    file_id: FileId,
}

/// The place for the lock of one domain in this process.
#[derive(Default)]
pub(crate) struct WriterSlot(Mutex<Held>);

#[derive(Default)]
struct Held {
    writer: Option<Arc<Writer>>,
    elsewhere: Option<Elsewhere>,
}

/// Another process was seen to hold the lock.
#[derive(Clone, Copy)]
struct Elsewhere {
    since: Instant,
    last: Instant,
}

impl WriterSlot {
    /// The lock of a writable domain: the one that is held if its file still has its name, otherwise one that is
    /// taken now. All callers that wait for it wait until the same instant, and none blocks another.
    ///
    /// # Errors
    /// `DOMAIN_READ_ONLY` with the reason; `DOMAIN_LOCKED` naming the holder; those of the file system.
    pub(crate) fn writer(&self, domain: &Domain, host: HostId) -> Result<Arc<Writer>, Fault> {
        loop {
            if let Some(writer) = self.held().attempt(domain, host)? {
                return Ok(writer);
            }
            thread::sleep(LOOK);
        }
    }

    /// Releases the lock, once nobody uses it any more.
    pub(crate) fn forget(&self) {
        self.held().writer = None;
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// None if another process has the lock, perhaps only for an instant.
    fn attempt(&mut self, domain: &Domain, host: HostId) -> Result<Option<Arc<Writer>>, Fault> {
        if let Some(reason) = domain.meta.read_only_reason() {
            self.writer = None;
            return Err(read_only(domain, &reason));
        }
        if let Some(writer) = &self.writer
            && writer.has_its_name(&domain.dom_md)?
        {
            return Ok(Some(Arc::clone(writer)));
        }
        self.writer = None;
        if let Some(reason) = read_only_reason(domain) {
            return Err(read_only(domain, &reason));
        }
        let lock = open(&domain.dom_md)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) if self.may_pass() => return Ok(None),
            Err(TryLockError::WouldBlock) => return Err(locked(domain, &lock)),
            Err(TryLockError::Error(e)) => {
                return Err(domain.dom_md.error("lock", names::WRITER.as_ref(), e).into());
            }
        }
        self.elsewhere = None;
        let writer = Writer::new(domain, lock, host)?;
        // Another file may have taken the name between the opening and the locking.
        if !writer.has_its_name(&domain.dom_md)? {
            return Ok(None);
        }
        let writer = Arc::new(writer);
        self.writer = Some(Arc::clone(&writer));
        Ok(Some(writer))
    }

    /// Whether the holder may hold the lock only for an instant. A holder gets that time once, not again for each task.
    fn may_pass(&mut self) -> bool {
        let now = Instant::now();
        let seen = self.elsewhere.filter(|seen| now - seen.last < SAME_HOLDER);
        let since = seen.map_or(now, |seen| seen.since);
        self.elsewhere = Some(Elsewhere { since, last: now });
        now - since < INSTANT
    }
}

impl Writer {
    /// Holds the lock, and writes the holder into its file.
    fn new(domain: &Domain, mut lock: File, host: HostId) -> Result<Self, Fault> {
        // For people and for refusals. Only the lock decides, so no sync is needed.
        let fail = |e: io::Error| domain.dom_md.error("write", names::WRITER.as_ref(), e);
        let file_id = FileId::of(&lock).map_err(|e| fail(e.into()))?;
        lock.set_len(0).and_then(|()| lock.rewind()).map_err(fail)?;
        let text = format!("host {host}, process {}\n", std::process::id());
        domain.dom_md.write(names::WRITER, &lock, text.as_bytes())?;
        Ok(Self { _lock: lock, file_id })
    }

    fn has_its_name(&self, dom_md: &Dir) -> Result<bool, FileError> {
        Ok(dom_md.file_id_of(names::WRITER)? == Some(self.file_id))
    }
}

fn read_only(domain: &Domain, reason: &str) -> Fault {
    Fault::new(
        FaultCode::DomainReadOnly,
        format!("domain {} is read-only here: {reason}", domain.id),
    )
    .about(domain.id)
}

/// Why a domain is read-only here; none if it is writable.
pub(crate) fn read_only_reason(domain: &Domain) -> Option<String> {
    domain
        .meta
        .read_only_reason()
        .or_else(|| foreign_owner(&domain.dir))
}

/// The domain's files belong to another user, and we are not root: its owner could not use what we create, and the
/// other way round.
fn foreign_owner(dir: &Dir) -> Option<String> {
    let we = rustix::process::geteuid();
    let stat = rustix::fs::fstat(dir).ok()?;
    let ours = we.is_root() || stat.st_uid == we.as_raw();
    (!ours).then(|| {
        format!(
            "its directory belongs to user {}, but this service runs as {}; run it as that user or as root",
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
            "domain {} is in use by {who}; stop that, or try again when it has ended",
            domain.id
        ),
    )
    .about(domain.id)
}
