//! Faults: what went wrong, with a stable code that programs can decide by.

use std::fmt;
use std::str::FromStr;

use crate::words::{Label, Words};

/// The kind of a failure, which decides its gRPC status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultKind {
    /// The request itself is wrong, whatever the state.
    InvalidArgument,
    /// It does not exist.
    NotFound,
    /// Another one exists already.
    AlreadyExists,
    /// The state forbids it.
    FailedPrecondition,
    /// Somebody else holds what is needed at the moment.
    Aborted,
    /// The peer, its store or the storage does not answer now.
    Unavailable,
    /// A bound was reached.
    ResourceExhausted,
    /// A point outside the history that is kept.
    OutOfRange,
    /// The caller may not do this.
    PermissionDenied,
    /// It was cancelled.
    Cancelled,
    /// This build does not support it.
    Unimplemented,
    /// It was not answered before its deadline.
    DeadlineExceeded,
    /// A defect or an internal failure.
    Internal,
}

impl FaultKind {
    /// The name of the gRPC code that carries it.
    pub const fn grpc_code(self) -> &'static str {
        match self {
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::NotFound => "NOT_FOUND",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::FailedPrecondition => "FAILED_PRECONDITION",
            Self::Aborted => "ABORTED",
            Self::Unavailable => "UNAVAILABLE",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::Cancelled => "CANCELLED",
            Self::Unimplemented => "UNIMPLEMENTED",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::Internal => "INTERNAL",
        }
    }
}

macro_rules! faults {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal, $kind:ident, $vdsm:expr, $retry:literal;)*) => {
        /// The stable codes. Each has a section in `docs/error-codes.md`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum FaultCode {
            $($(#[doc = $doc])+ $name,)*
        }

        impl FaultCode {
            /// Every code.
            pub const ALL: &'static [FaultCode] = &[$(Self::$name,)*];

            /// The code on the wire: `UPPER_SNAKE`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The kind of the failure.
            pub const fn kind(self) -> FaultKind {
                match self { $(Self::$name => FaultKind::$kind,)* }
            }

            /// VDSM's number for the same failure, if it has one.
            pub const fn vdsm_code(self) -> Option<u32> {
                match self { $(Self::$name => $vdsm,)* }
            }

            /// Whether the same request may succeed later although nothing else has changed.
            pub const fn repeat_may_help(self) -> bool {
                match self { $(Self::$name => $retry,)* }
            }
        }

        impl FromStr for FaultCode {
            type Err = UnknownCode;

            fn from_str(text: &str) -> Result<Self, UnknownCode> {
                match text { $($text => Ok(Self::$name),)* _ => Err(UnknownCode) }
            }
        }
    };
}

/// A code that this build does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a fault code that this build knows")]
pub struct UnknownCode;

faults! {
    // Requests.
    /// A field of the request is wrong; the fault names it.
    InvalidArgument = "INVALID_ARGUMENT", InvalidArgument, Some(1000), false;
    /// The caller, who is known by a certificate, may not do this.
    NotPermitted = "NOT_PERMITTED", PermissionDenied, None, false;
    /// The request's id was used before, for another request.
    RequestIdReused = "REQUEST_ID_REUSED", AlreadyExists, None, false;
    /// The task id was used before, for another operation.
    TaskIdReused = "TASK_ID_REUSED", AlreadyExists, Some(405), false;
    /// Another entity with this id or name exists already.
    EntityExists = "ENTITY_EXISTS", AlreadyExists, None, false;
    /// The entity does not exist.
    EntityNotFound = "ENTITY_NOT_FOUND", NotFound, None, false;
    /// The task does not exist.
    TaskNotFound = "TASK_NOT_FOUND", NotFound, Some(401), false;
    /// The command does not exist.
    CommandNotFound = "COMMAND_NOT_FOUND", NotFound, None, false;
    /// A command holds the entity; the fault names the command, its user and since when.
    EntityBusy = "ENTITY_BUSY", Aborted, Some(651), true;
    /// A command waited for its locks for as long as its request allowed, and did not start.
    LockWaitExpired = "LOCK_WAIT_EXPIRED", Aborted, None, true;
    /// Other entities depend on this one.
    EntityInUse = "ENTITY_IN_USE", FailedPrecondition, None, false;
    /// The disk is attached to a VM, which the fault names.
    DiskAttached = "DISK_ATTACHED", FailedPrecondition, None, false;
    /// The disk is not attached to the VM.
    DiskNotAttached = "DISK_NOT_ATTACHED", FailedPrecondition, None, false;
    /// The VM has the maximum number of disks.
    VmFull = "VM_FULL", FailedPrecondition, None, false;
    /// The storage domains are served by different hosts, but the operation must run on one host.
    DomainsApart = "DOMAINS_APART", FailedPrecondition, None, false;
    /// The command has ended.
    CommandEnded = "COMMAND_ENDED", FailedPrecondition, None, false;
    /// The call is only for commands that need attention, and this one does not.
    CommandNotResting = "COMMAND_NOT_RESTING", FailedPrecondition, None, false;
    /// The call is only for the root of a command tree.
    CommandNotRoot = "COMMAND_NOT_ROOT", FailedPrecondition, None, false;
    /// A task of the command may still run.
    TaskMayRun = "TASK_MAY_RUN", FailedPrecondition, None, true;
    /// The task is past its point of no return and continues.
    TaskNotAbortable = "TASK_NOT_ABORTABLE", FailedPrecondition, None, false;
    /// The task has not ended.
    TaskNotFinished = "TASK_NOT_FINISHED", FailedPrecondition, Some(410), true;
    /// A bounded queue is full.
    QueueFull = "QUEUE_FULL", ResourceExhausted, None, true;
    /// The service has the maximum number of connections, in total or from one address.
    TooManyConnections = "TOO_MANY_CONNECTIONS", ResourceExhausted, None, true;
    /// The service has the maximum number of running calls, or of bytes held for them.
    TooManyRequests = "TOO_MANY_REQUESTS", ResourceExhausted, None, true;
    /// The maximum number of unfinished commands is reached, in total or for this user.
    TooManyCommands = "TOO_MANY_COMMANDS", ResourceExhausted, None, true;
    /// The message is larger than the service accepts.
    MessageTooLarge = "MESSAGE_TOO_LARGE", ResourceExhausted, None, false;
    /// The call was not answered before its deadline. Whether it took effect is unknown.
    DeadlineExceeded = "DEADLINE_EXCEEDED", DeadlineExceeded, None, true;
    /// The port does not serve this method.
    MethodUnknown = "METHOD_UNKNOWN", Unimplemented, None, false;
    /// The message uses a compression that the service does not support.
    CompressionUnsupported = "COMPRESSION_UNSUPPORTED", Unimplemented, None, false;
    /// The point of the history is unknown, no longer kept, or in the future.
    TokenOutOfRange = "TOKEN_OUT_OF_RANGE", OutOfRange, None, false;
    /// This build does not support the operation.
    OperationUnsupported = "OPERATION_UNSUPPORTED", Unimplemented, Some(2009), false;

    // Services and their peers.
    /// The service's own store cannot be written now. Whether the request took effect is unknown: repeat it.
    StoreUnavailable = "STORE_UNAVAILABLE", Unavailable, None, true;
    /// The disk of the service's data directory is full: no new work is accepted, and nothing was changed.
    StoreFull = "STORE_FULL", Unavailable, None, true;
    /// The service is starting and is still reading its tasks, or asking its hosts.
    Loading = "LOADING", Unavailable, None, true;
    /// The service is stopping.
    ShuttingDown = "SHUTTING_DOWN", Unavailable, None, true;
    /// The host does not answer.
    HostAway = "HOST_AWAY", Unavailable, None, true;
    /// The host belongs to another start of this engine, and not to this one.
    EngineFenced = "ENGINE_FENCED", FailedPrecondition, None, false;
    /// Another start of this engine has the host, and is connected to it.
    EngineStillConnected = "ENGINE_STILL_CONNECTED", Unavailable, None, true;
    /// The service was started without an audit log.
    AuditLogOff = "AUDIT_LOG_OFF", FailedPrecondition, None, false;
    /// The host belongs to another engine.
    HostOwned = "HOST_OWNED", PermissionDenied, None, false;
    /// The host belongs to no engine, or not to the caller's.
    HostNotOwned = "HOST_NOT_OWNED", FailedPrecondition, None, false;
    /// The host that answers has another id than the one that was added.
    HostIdMismatch = "HOST_ID_MISMATCH", FailedPrecondition, Some(700), false;
    /// The host's data directory is not the one that the call was meant for.
    HostStoreChanged = "HOST_STORE_CHANGED", FailedPrecondition, None, false;

    // How tasks and commands end.
    /// The task or command was aborted on request.
    Aborted = "ABORTED", Cancelled, Some(411), false;
    /// The task was aborted before the host received it.
    NeverStarted = "NEVER_STARTED", Cancelled, None, false;
    /// The service ended while the task was running.
    Interrupted = "INTERRUPTED", Aborted, None, true;
    /// The task's process read and wrote nothing for as long as is allowed, and was stopped.
    NoProgress = "NO_PROGRESS", Unavailable, None, true;
    /// A process of the task cannot be killed.
    ProcessStuck = "PROCESS_STUCK", Internal, None, true;
    /// What the task began could not be undone.
    UndoFailed = "UNDO_FAILED", Internal, None, true;
    /// A part of the command failed; its outcomes name each part.
    ChildFailed = "CHILD_FAILED", FailedPrecondition, None, false;
    /// The host lost its data directory, and storage does not show whether the task was done or undone.
    EvidenceMissing = "EVIDENCE_MISSING", FailedPrecondition, None, false;
    /// The maximum number of attempts was made.
    RetriesSpent = "RETRIES_SPENT", Unavailable, None, true;
    /// An operator abandoned the command; what is left is named.
    Abandoned = "ABANDONED", Cancelled, None, false;

    // Domains.
    /// The storage domain does not exist on this host.
    DomainNotFound = "DOMAIN_NOT_FOUND", NotFound, Some(358), false;
    /// A storage domain with this id exists, and differs from the request.
    DomainExists = "DOMAIN_EXISTS", AlreadyExists, Some(365), false;
    /// The domain still has images.
    DomainNotEmpty = "DOMAIN_NOT_EMPTY", FailedPrecondition, Some(361), false;
    /// The domain is read-only here; the fault says why.
    DomainReadOnly = "DOMAIN_READ_ONLY", FailedPrecondition, None, false;
    /// Another host or process writes to the domain.
    DomainLocked = "DOMAIN_LOCKED", FailedPrecondition, None, true;
    /// The domain's metadata cannot be understood.
    DomainMetadataInvalid = "DOMAIN_METADATA_INVALID", FailedPrecondition, Some(751), false;
    /// The domain's metadata does not match its checksum.
    DomainChecksumMismatch = "DOMAIN_CHECKSUM_MISMATCH", FailedPrecondition, Some(752), false;
    /// This build cannot read this version of a domain.
    DomainVersionUnsupported = "DOMAIN_VERSION_UNSUPPORTED", FailedPrecondition, Some(394), false;
    /// The service's user may not create or read the files.
    DomainAccessDenied = "DOMAIN_ACCESS_DENIED", FailedPrecondition, Some(379), false;

    /// The storage root does not exist: it was moved, removed or unmounted.
    StorageRootGone = "STORAGE_ROOT_GONE", Unavailable, None, true;
    /// Another directory has taken the place of the one that the work was, or is to be, done in: it was mounted over,
    /// moved or restored.
    StorageReplaced = "STORAGE_REPLACED", FailedPrecondition, None, true;

    // Images and volumes.
    /// The image does not exist in the domain.
    ImageNotFound = "IMAGE_NOT_FOUND", NotFound, Some(268), false;
    /// The volume does not exist in the image.
    VolumeNotFound = "VOLUME_NOT_FOUND", NotFound, Some(201), false;
    /// A volume or file with this id exists already.
    VolumeExists = "VOLUME_EXISTS", AlreadyExists, Some(212), false;
    /// Volumes of other images are based on this image.
    ImageShared = "IMAGE_SHARED", FailedPrecondition, Some(223), false;
    /// A process has the image open.
    ImageInUse = "IMAGE_IN_USE", FailedPrecondition, None, true;
    /// The volume changed since the operation began.
    GenerationMismatch = "GENERATION_MISMATCH", FailedPrecondition, Some(911), false;
    /// The volume's metadata says that it may not be used.
    VolumeIllegal = "VOLUME_ILLEGAL", FailedPrecondition, None, false;
    /// The volume has a parent, is the base of another volume, or is not the only volume of its image.
    VolumeInChain = "VOLUME_IN_CHAIN", FailedPrecondition, None, false;
    /// The volume's data differs from its metadata, or uses a feature that is not supported.
    VolumeDataInvalid = "VOLUME_DATA_INVALID", FailedPrecondition, None, false;
    /// A copy differs from its source.
    CopyDiffers = "COPY_DIFFERS", Internal, None, true;
    /// The volume's metadata cannot be understood.
    VolumeMetadataInvalid = "VOLUME_METADATA_INVALID", FailedPrecondition, Some(751), false;
    /// The volume's metadata would not fit into 512 bytes.
    VolumeMetadataTooLarge = "VOLUME_METADATA_TOO_LARGE", InvalidArgument, Some(756), false;
    /// A symlink, directory, FIFO or device is in the place of a regular file.
    NotARegularFile = "NOT_A_REGULAR_FILE", FailedPrecondition, None, false;
    /// The image has a file that oVirt did not create; it is left alone.
    UnexpectedFile = "UNEXPECTED_FILE", FailedPrecondition, Some(922), false;

    // The file system and qemu-img.
    /// The file system is full.
    NoSpace = "NO_SPACE", ResourceExhausted, Some(397), true;
    /// The quota is used up.
    QuotaExceeded = "QUOTA_EXCEEDED", ResourceExhausted, None, true;
    /// The file is too large for the file system or a limit.
    FileTooLarge = "FILE_TOO_LARGE", FailedPrecondition, None, false;
    /// The file system is mounted read-only.
    FileSystemReadOnly = "FILE_SYSTEM_READ_ONLY", FailedPrecondition, None, true;
    /// The NFS handle is stale.
    StaleHandle = "STALE_HANDLE", Unavailable, Some(384), true;
    /// Reading or writing failed.
    IoError = "IO_ERROR", Internal, Some(2002), true;
    /// A limit of the process or of the machine was reached: open files, processes, memory.
    ResourceLimit = "RESOURCE_LIMIT", ResourceExhausted, None, true;
    /// qemu-img failed, or succeeded and produced something else than requested.
    QemuImgFailed = "QEMU_IMG_FAILED", Internal, Some(205), true;
    /// qemu-img is missing or too old.
    QemuImgMissing = "QEMU_IMG_MISSING", FailedPrecondition, None, false;

    // The rest.
    /// A defect of the service: please report it.
    Internal = "INTERNAL", Internal, Some(100), false;
    /// A code that this build does not know, kept unchanged.
    Unrecognized = "UNRECOGNIZED", Internal, None, false;
}

impl fmt::Display for FaultCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failure: its code, its subject, and a message for people that says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", self.code_text())]
pub struct Fault {
    /// The stable code.
    pub code: FaultCode,
    /// The code's text if it came from a newer peer ([`FaultCode::Unrecognized`]).
    pub foreign_code: Option<Label>,
    /// The path of the field, or the entity; may be empty.
    pub subject: Label,
    /// A sentence for people. Its type bounds it and keeps it in one line, whatever storage, a program or a peer put
    /// into it.
    pub message: Words,
}

impl Fault {
    /// A fault about no entity in particular.
    pub fn new(code: FaultCode, message: impl Into<Words>) -> Self {
        Self {
            code,
            foreign_code: None,
            subject: Label::default(),
            message: message.into(),
        }
    }

    /// The same fault, naming the field or entity that it is about.
    #[must_use]
    pub fn about(mut self, subject: impl fmt::Display) -> Self {
        self.subject = subject.to_string().into();
        self
    }

    /// The refusal of something that does not exist: `what` is its kind and id, `advice` what may explain it or what
    /// to do; it may be empty.
    pub fn missing(code: FaultCode, what: impl fmt::Display, advice: &str) -> Self {
        let separator = if advice.is_empty() { "" } else { "; " };
        Self::new(code, format!("{what} does not exist{separator}{advice}"))
    }

    /// A wrong field: its path in the request and what would be right.
    pub fn invalid(field: impl fmt::Display, message: impl fmt::Display) -> Self {
        Self::new(FaultCode::InvalidArgument, format!("{field} {message}")).about(field)
    }

    /// From the text of a code; a code that this build does not know is kept unchanged.
    pub fn from_code_text(code: &str, subject: impl Into<Label>, message: impl Into<Words>) -> Self {
        let (known, foreign_code) = match code.parse() {
            Ok(known) => (known, None),
            Err(UnknownCode) => (FaultCode::Unrecognized, Some(code.into())),
        };
        Self {
            code: known,
            foreign_code,
            subject: subject.into(),
            message: message.into(),
        }
    }

    /// The code on the wire.
    pub fn code_text(&self) -> &str {
        self.foreign_code.as_deref().unwrap_or_else(|| self.code.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_upper_snake_unique_and_read_back() {
        let mut seen = std::collections::BTreeSet::new();
        for code in FaultCode::ALL {
            let text = code.as_str();
            assert!(text.chars().all(|c| c.is_ascii_uppercase() || c == '_'), "{text}");
            assert!(seen.insert(text), "{text} twice");
            assert_eq!(text.parse(), Ok(*code));
        }
    }

    #[test]
    fn whatever_it_is_made_of_a_fault_is_short_and_one_line() {
        let junk = "DESCRIPTION=\u{1b}[2J\nLEGALITY=LEGAL\u{202e}".repeat(100_000);
        let faults = [
            Fault::new(FaultCode::VolumeMetadataInvalid, junk.clone()).about(&junk),
            Fault::invalid(&junk, &junk),
            Fault::from_code_text(&junk, junk.as_str(), junk.as_str()),
        ];
        for fault in faults {
            let text = format!("{fault} {} {}", fault.subject, fault.code_text());
            assert!(text.len() < 4_096, "{}", text.len());
            assert!(!text.chars().any(crate::text::steers), "{text}");
        }
    }

    #[test]
    fn a_code_of_a_newer_peer_is_kept_as_it_came() {
        let fault = Fault::from_code_text("MOON_PHASE_WRONG", "", "wait");
        assert_eq!(fault.code, FaultCode::Unrecognized);
        assert_eq!(fault.code_text(), "MOON_PHASE_WRONG");
        assert_eq!(fault.to_string(), "MOON_PHASE_WRONG: wait");
    }
}
