//! What goes wrong with files, and which fault it is.

use std::io::{self, ErrorKind};
use std::path::PathBuf;

use common::{Fault, FaultCode};
use rustix::io::Errno;

/// A call on a file that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct FileError {
    /// What was to be done, such as "rename".
    pub action: &'static str,
    /// On what, relative to the storage root.
    pub path: PathBuf,
    /// Why not.
    #[source]
    pub source: io::Error,
}

impl FileError {
    /// Whether there is nothing of that name.
    pub fn is_missing(&self) -> bool {
        self.source.kind() == ErrorKind::NotFound
    }

    /// Whether there is something of that name already.
    pub fn is_taken(&self) -> bool {
        self.source.kind() == ErrorKind::AlreadyExists
    }

    /// Whether an NFS handle was stale: worth opening once more.
    pub fn is_stale(&self) -> bool {
        Errno::from_io_error(&self.source) == Some(Errno::STALE)
    }
}

impl From<FileError> for Fault {
    fn from(error: FileError) -> Fault {
        let (code, advice) = verdict(&error.source);
        let path = error.path.display();
        Fault::new(
            code,
            format!("cannot {} {path}: {}; {advice}", error.action, error.source),
        )
        .about(path)
    }
}

/// What to do where a limit was met.
pub(crate) const LIMIT_ADVICE: &str = "a limit of this process or of the machine was met; close what is not needed, or raise it (ulimit, systemd's Limit… and TasksMax, a container's pids limit), then try again";

/// The fault code of an error of the file system, and what to do about it.
fn verdict(error: &io::Error) -> (FaultCode, &'static str) {
    match Errno::from_io_error(error) {
        Some(Errno::NOSPC) => (FaultCode::NoSpace, "free space on the domain's file system"),
        Some(Errno::DQUOT) => (FaultCode::QuotaExceeded, "raise the quota or free space"),
        Some(Errno::FBIG) => (
            FaultCode::FileTooLarge,
            "use a file system that holds files of this size, or raise the service's limit on them (ulimit -f, LimitFSIZE)",
        ),
        Some(Errno::ROFS) => (
            FaultCode::FileSystemReadOnly,
            "see the kernel's log, then mount it for writing",
        ),
        Some(Errno::STALE) => (FaultCode::StaleHandle, "mount the domain again"),
        Some(Errno::ACCESS | Errno::PERM) => (
            FaultCode::DomainAccessDenied,
            "let the service's user read and write the domain (36:36, 0660)",
        ),
        Some(Errno::LOOP | Errno::NOTDIR | Errno::ISDIR | Errno::NXIO) => (
            FaultCode::NotARegularFile,
            "symlinks and special files are not followed; remove it if it is not wanted",
        ),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::AGAIN) => {
            (FaultCode::ResourceLimit, LIMIT_ADVICE)
        }
        _ => (FaultCode::IoError, "see the kernel's log, then try again"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_file_system_are_told_apart() {
        for (errno, code) in [
            (Errno::NOSPC, FaultCode::NoSpace),
            (Errno::DQUOT, FaultCode::QuotaExceeded),
            (Errno::FBIG, FaultCode::FileTooLarge),
            (Errno::ROFS, FaultCode::FileSystemReadOnly),
            (Errno::STALE, FaultCode::StaleHandle),
            (Errno::ACCESS, FaultCode::DomainAccessDenied),
            (Errno::LOOP, FaultCode::NotARegularFile),
            (Errno::MFILE, FaultCode::ResourceLimit),
            (Errno::NFILE, FaultCode::ResourceLimit),
            (Errno::IO, FaultCode::IoError),
        ] {
            let fault = Fault::from(FileError {
                action: "sync",
                path: "d/images".into(),
                source: errno.into(),
            });
            assert_eq!(fault.code, code);
            assert!(
                fault.message.starts_with("cannot sync d/images: "),
                "{}",
                fault.message
            );
        }
    }
}
