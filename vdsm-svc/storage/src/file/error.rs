//! Errors of file operations, and the faults that they become.

use std::io::{self, ErrorKind};
use std::path::PathBuf;

use common::{Fault, FaultCode};
use rustix::fs::FileType;
use rustix::io::Errno;

/// A file or directory was expected, and something else was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is {}, not a {}", kind_in_words(self.found), self.wanted)]
pub(crate) struct WrongKind {
    pub(crate) found: FileType,
    /// "regular file" or "directory".
    pub(crate) wanted: &'static str,
}

impl From<WrongKind> for io::Error {
    fn from(kind: WrongKind) -> Self {
        Self::new(ErrorKind::InvalidInput, kind)
    }
}

/// The kind of a file, for people.
pub(crate) const fn kind_in_words(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symlink",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        FileType::Unknown => "of an unknown kind",
    }
}

/// A file operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct FileError {
    /// What was attempted, such as "rename".
    pub action: &'static str,
    /// The path, relative to the storage root.
    pub path: PathBuf,
    /// The error of the system.
    #[source]
    pub source: io::Error,
}

impl FileError {
    /// Whether the name does not exist.
    pub fn is_missing(&self) -> bool {
        self.source.kind() == ErrorKind::NotFound
    }

    /// Whether the name is taken.
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
        let (code, advice) = verdict(&error.source, error.action);
        let path = error.path.display();
        Fault::new(
            code,
            format!("cannot {} {path}: {}; {advice}", error.action, error.source),
        )
        .about(path)
    }
}

/// The advice if a limit was reached.
pub(crate) const LIMIT_ADVICE: &str = "a limit of this process or of the machine was reached; close what is not needed, or raise the limit (ulimit, systemd's Limit… and TasksMax, a container's pids limit), then try again";

/// The advice if something is of the wrong kind.
const NOT_FOLLOWED: &str = "symlinks and special files are not followed; remove it if it should not be there";

/// The kind of a file operation: the same error has different causes in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CallKind {
    /// It changes names: creates, renames, links or removes.
    Names,
    /// It changes the owner or the mode of a file.
    Owner,
    /// It writes data or allocates space.
    Data,
    /// It only reads.
    Looks,
}

impl CallKind {
    /// From [`FileError::action`].
    fn of(action: &str) -> Self {
        match action.split_whitespace().next().unwrap_or_default() {
            "create" | "make" | "rename" | "remove" | "link" | "swap" | "exchange" => Self::Names,
            _ if action.contains("owner") || action.contains("mode") => Self::Owner,
            "write" | "sync" | "allocate" | "set" | "truncate" | "extend" | "punch" => Self::Data,
            _ => Self::Looks,
        }
    }
}

/// The fault code of a file system error and the advice, depending on the error and the operation.
fn verdict(error: &io::Error, action: &str) -> (FaultCode, &'static str) {
    use FaultCode as Code;
    if error.get_ref().is_some_and(|inner| inner.is::<WrongKind>()) {
        return (Code::NotARegularFile, NOT_FOLLOWED);
    }
    let errno =
        Errno::from_io_error(error).or_else(|| error.kind().eq(&ErrorKind::NotFound).then_some(Errno::NOENT));
    match (errno, CallKind::of(action)) {
        (Some(Errno::NOSPC), CallKind::Names) => (
            Code::NoSpace,
            "the domain's file system has no inodes or no blocks left: check `df -i` and `df`, and remove files or enlarge it",
        ),
        (Some(Errno::NOSPC), _) => (Code::NoSpace, "free space on the domain's file system (`df`)"),
        (Some(Errno::DQUOT), CallKind::Names) => (
            Code::QuotaExceeded,
            "the quota of files or blocks is used up: raise it, or remove files",
        ),
        (Some(Errno::DQUOT), _) => (Code::QuotaExceeded, "raise the quota of blocks, or free space"),
        (Some(Errno::FBIG), _) => (
            Code::FileTooLarge,
            "use a file system that holds files of this size, or raise the service's limit on them (ulimit -f, LimitFSIZE)",
        ),
        (Some(Errno::ROFS), _) => (
            Code::FileSystemReadOnly,
            "it is mounted read-only, on purpose or because of an error: check the kernel's log, then mount it writable",
        ),
        (Some(Errno::STALE), _) => (
            Code::StaleHandle,
            "the server exports another file system or directory in its place: mount the domain again",
        ),
        (Some(Errno::PERM), CallKind::Owner) => (
            Code::DomainAccessDenied,
            "only root may change the owner of files, and not if the server squashes root: run the service as user 36 and group 36, or export the domain to them",
        ),
        (Some(Errno::PERM), _) => (
            Code::DomainAccessDenied,
            "it or its directory is immutable or append-only (see `lsattr`; `chattr -i` or `-a` removes that), or the file system forbids this to everybody",
        ),
        (Some(Errno::ACCESS), CallKind::Looks) => (
            Code::DomainAccessDenied,
            "let the service's user read it and pass the directories above it (36:36; files 0660, directories 0755 or wider)",
        ),
        (Some(Errno::ACCESS), _) => (
            Code::DomainAccessDenied,
            "let the service's user write to it and to its directory (36:36; files 0660, directories 0755 or wider), and check whether SELinux forbids it",
        ),
        (Some(Errno::BUSY | Errno::TXTBSY), _) => (
            Code::IoError,
            "something is mounted on it or a program uses it: check `findmnt` and `fuser -vm`, end that, then try again",
        ),
        (Some(Errno::NOENT), _) => (
            Code::IoError,
            "it or its directory existed a moment ago: find out who else renames or removes files in the domain, then try again",
        ),
        (Some(Errno::NOTEMPTY | Errno::EXIST), _) => (
            Code::IoError,
            "something else was created there meanwhile: find out who else creates files in the domain, then try again",
        ),
        (Some(Errno::LOOP | Errno::NOTDIR | Errno::ISDIR | Errno::NXIO), _) => {
            (Code::NotARegularFile, NOT_FOLLOWED)
        }
        (Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::AGAIN), _) => {
            (Code::ResourceLimit, LIMIT_ADVICE)
        }
        (Some(Errno::MLINK), _) => (
            Code::IoError,
            "it has the maximum number of names that the file system allows: remove images that are based on the template",
        ),
        (Some(Errno::XDEV), _) => (
            Code::IoError,
            "another file system is mounted within the domain, and a domain must be on one; unmount it",
        ),
        (Some(Errno::NOLCK), _) => (
            Code::IoError,
            "the file system has no lock available: check whether the NFS lock manager runs on both sides, then try again",
        ),
        (Some(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL), _) => (
            Code::IoError,
            "the file system does not support this: use one of those listed in docs/operations.md",
        ),
        (
            Some(Errno::TIMEDOUT | Errno::HOSTDOWN | Errno::HOSTUNREACH | Errno::NOTCONN | Errno::CONNRESET),
            _,
        ) => (
            Code::IoError,
            "the storage server does not answer: check the server and the network, then try again",
        ),
        _ => (Code::IoError, "check the kernel's log, then try again"),
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

    #[test]
    fn the_advice_fits_the_error_and_what_was_tried() {
        for (errno, action, code, advice) in [
            (Errno::PERM, "remove", FaultCode::DomainAccessDenied, "chattr -i"),
            (
                Errno::PERM,
                "set the owner of",
                FaultCode::DomainAccessDenied,
                "root",
            ),
            (Errno::ACCESS, "open", FaultCode::DomainAccessDenied, "0660"),
            (
                Errno::ACCESS,
                "rename to",
                FaultCode::DomainAccessDenied,
                "SELinux",
            ),
            (Errno::BUSY, "remove", FaultCode::IoError, "findmnt"),
            (Errno::NOSPC, "create", FaultCode::NoSpace, "df -i"),
            (Errno::NOSPC, "write", FaultCode::NoSpace, "free space"),
            (
                Errno::DQUOT,
                "make the directory",
                FaultCode::QuotaExceeded,
                "files",
            ),
            (Errno::DQUOT, "write", FaultCode::QuotaExceeded, "blocks"),
            (Errno::ROFS, "write", FaultCode::FileSystemReadOnly, "read-only"),
            (Errno::STALE, "read", FaultCode::StaleHandle, "mount"),
            (Errno::NOENT, "rename to", FaultCode::IoError, "a moment ago"),
            (Errno::MFILE, "open", FaultCode::ResourceLimit, "ulimit"),
            (Errno::NOTEMPTY, "remove", FaultCode::IoError, "meanwhile"),
            (Errno::NOLCK, "lock", FaultCode::IoError, "NFS"),
            (Errno::IO, "read", FaultCode::IoError, "kernel's log"),
        ] {
            let fault = Fault::from(FileError {
                action,
                path: "d/images".into(),
                source: errno.into(),
            });
            assert_eq!(fault.code, code, "{errno} in {action}");
            assert!(fault.message.contains(advice), "{errno} in {action}: {fault}");
        }
    }
}
