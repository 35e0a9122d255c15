//! Faults: what went wrong, under a stable code that programs may decide by.

use std::fmt;
use std::str::FromStr;

use crate::words::{Label, Words};

/// What sort of failure a code is: decides the gRPC status that carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultKind {
    /// The request itself is wrong, whatever the state.
    InvalidArgument,
    /// No such thing.
    NotFound,
    /// There is one already, and it is another.
    AlreadyExists,
    /// The state forbids it.
    FailedPrecondition,
    /// Somebody else holds what is needed, for now.
    Aborted,
    /// The peer, its store or the storage does not answer now.
    Unavailable,
    /// A bound was reached.
    ResourceExhausted,
    /// A point outside the history that is kept.
    OutOfRange,
    /// Not yours to do.
    PermissionDenied,
    /// It was stopped on purpose.
    Cancelled,
    /// Served by no part of this build.
    Unimplemented,
    /// It was not answered in the time that it had.
    DeadlineExceeded,
    /// Something that should not be.
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

            /// The code as it travels: `UPPER_SNAKE`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// What sort of failure it is.
            pub const fn kind(self) -> FaultKind {
                match self { $(Self::$name => FaultKind::$kind,)* }
            }

            /// VDSM's number for the same failure, where it has one.
            pub const fn vdsm_code(self) -> Option<u32> {
                match self { $(Self::$name => $vdsm,)* }
            }

            /// Whether the same request may succeed later with nothing else changed.
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
    /// The request's id was used before, for another request.
    RequestIdReused = "REQUEST_ID_REUSED", AlreadyExists, None, false;
    /// The task id was used before, for another operation.
    TaskIdReused = "TASK_ID_REUSED", AlreadyExists, Some(405), false;
    /// There is an entity of this id already, and it is another.
    EntityExists = "ENTITY_EXISTS", AlreadyExists, None, false;
    /// There is no entity of this id.
    EntityNotFound = "ENTITY_NOT_FOUND", NotFound, None, false;
    /// There is no task of this id.
    TaskNotFound = "TASK_NOT_FOUND", NotFound, Some(401), false;
    /// There is no command of this id.
    CommandNotFound = "COMMAND_NOT_FOUND", NotFound, None, false;
    /// A command holds the entity; the fault names the command, its user and since when.
    EntityBusy = "ENTITY_BUSY", Aborted, Some(651), true;
    /// A command waited for its locks for as long as its request allowed, and did not begin.
    LockWaitExpired = "LOCK_WAIT_EXPIRED", Aborted, None, true;
    /// Other entities depend on this one.
    EntityInUse = "ENTITY_IN_USE", FailedPrecondition, None, false;
    /// The disk is attached to a VM; the fault names it.
    DiskAttached = "DISK_ATTACHED", FailedPrecondition, None, false;
    /// The disk is not attached to the VM.
    DiskNotAttached = "DISK_NOT_ATTACHED", FailedPrecondition, None, false;
    /// The VM has as many disks as it may have.
    VmFull = "VM_FULL", FailedPrecondition, None, false;
    /// The storage domains are served by two hosts, and the work is one host's.
    DomainsApart = "DOMAINS_APART", FailedPrecondition, None, false;
    /// The command has ended.
    CommandEnded = "COMMAND_ENDED", FailedPrecondition, None, false;
    /// The verb is for commands that need attention, and this one does not.
    CommandNotResting = "COMMAND_NOT_RESTING", FailedPrecondition, None, false;
    /// Only the root of a command tree takes this verb.
    CommandNotRoot = "COMMAND_NOT_ROOT", FailedPrecondition, None, false;
    /// A task of the command may still run.
    TaskMayRun = "TASK_MAY_RUN", FailedPrecondition, None, true;
    /// The task is past its point of no return: it runs on.
    TaskNotAbortable = "TASK_NOT_ABORTABLE", FailedPrecondition, None, false;
    /// The task is not over.
    TaskNotFinished = "TASK_NOT_FINISHED", FailedPrecondition, Some(410), true;
    /// A bounded queue is full.
    QueueFull = "QUEUE_FULL", ResourceExhausted, None, true;
    /// The service has as many connections as it takes, or as it takes from one address.
    TooManyConnections = "TOO_MANY_CONNECTIONS", ResourceExhausted, None, true;
    /// The service has as many calls under way, or holds as much for them, as it may.
    TooManyRequests = "TOO_MANY_REQUESTS", ResourceExhausted, None, true;
    /// There are as many commands that have not ended as may be, in all or of this user.
    TooManyCommands = "TOO_MANY_COMMANDS", ResourceExhausted, None, true;
    /// The message is larger than the service takes.
    MessageTooLarge = "MESSAGE_TOO_LARGE", ResourceExhausted, None, false;
    /// The call was not answered in the time that it had. Whether it took effect is unknown.
    DeadlineExceeded = "DEADLINE_EXCEEDED", DeadlineExceeded, None, true;
    /// The port serves no such method.
    MethodUnknown = "METHOD_UNKNOWN", Unimplemented, None, false;
    /// The message is compressed in a way that the service does not read.
    CompressionUnsupported = "COMPRESSION_UNSUPPORTED", Unimplemented, None, false;
    /// The point of the history is unknown, gone or still to come.
    TokenOutOfRange = "TOKEN_OUT_OF_RANGE", OutOfRange, None, false;
    /// The operation is not served by this build.
    OperationUnsupported = "OPERATION_UNSUPPORTED", Unimplemented, Some(2009), false;

    // Services and their peers.
    /// The service's own store cannot be written now. Whether the request took effect is unknown: repeat it.
    StoreUnavailable = "STORE_UNAVAILABLE", Unavailable, None, true;
    /// The disk of the service's data directory is full: no new work is taken, and nothing was changed.
    StoreFull = "STORE_FULL", Unavailable, None, true;
    /// The service is starting and still reads its tasks.
    Loading = "LOADING", Unavailable, None, true;
    /// The service is stopping.
    ShuttingDown = "SHUTTING_DOWN", Unavailable, None, true;
    /// The host does not answer.
    HostAway = "HOST_AWAY", Unavailable, None, true;
    /// The host belongs to another start of this engine, and not to this one.
    EngineFenced = "ENGINE_FENCED", FailedPrecondition, None, false;
    /// Another start of this engine has the host, and is connected to it.
    EngineStillConnected = "ENGINE_STILL_CONNECTED", Unavailable, None, true;
    /// The host belongs to another engine.
    HostOwned = "HOST_OWNED", PermissionDenied, None, false;
    /// The host belongs to no engine, or not to the caller's.
    HostNotOwned = "HOST_NOT_OWNED", FailedPrecondition, None, false;
    /// The host answers with another id than the one it was recorded under.
    HostIdMismatch = "HOST_ID_MISMATCH", FailedPrecondition, Some(700), false;
    /// The host's data directory is not the one that the call was meant for.
    HostStoreChanged = "HOST_STORE_CHANGED", FailedPrecondition, None, false;

    // How tasks and commands end.
    /// It was stopped at somebody's request.
    Aborted = "ABORTED", Cancelled, Some(411), false;
    /// It was aborted before the host ever heard of it.
    NeverStarted = "NEVER_STARTED", Cancelled, None, false;
    /// The service ended while it was at work.
    Interrupted = "INTERRUPTED", Aborted, None, true;
    /// It moved no byte for as long as is allowed, and was stopped.
    NoProgress = "NO_PROGRESS", Unavailable, None, true;
    /// A process of it cannot be killed.
    ProcessStuck = "PROCESS_STUCK", Internal, None, true;
    /// What it began could not be undone.
    UndoFailed = "UNDO_FAILED", Internal, None, true;
    /// A part of it failed; the result names each.
    ChildFailed = "CHILD_FAILED", FailedPrecondition, None, false;
    /// The host lost its memory, and storage does not tell whether the task was done or undone.
    EvidenceMissing = "EVIDENCE_MISSING", FailedPrecondition, None, false;
    /// It was tried as often as allowed.
    RetriesSpent = "RETRIES_SPENT", Unavailable, None, true;
    /// An operator gave it up; what is left is named.
    Abandoned = "ABANDONED", Cancelled, None, false;

    // Domains.
    /// There is no such storage domain on this host.
    DomainNotFound = "DOMAIN_NOT_FOUND", NotFound, Some(358), false;
    /// There is a storage domain of this id, made otherwise.
    DomainExists = "DOMAIN_EXISTS", AlreadyExists, Some(365), false;
    /// The domain still holds images.
    DomainNotEmpty = "DOMAIN_NOT_EMPTY", FailedPrecondition, Some(361), false;
    /// The domain may only be read here; the fault says why.
    DomainReadOnly = "DOMAIN_READ_ONLY", FailedPrecondition, None, false;
    /// Another host or process writes to the domain.
    DomainLocked = "DOMAIN_LOCKED", FailedPrecondition, None, true;
    /// The domain's metadata cannot be understood.
    DomainMetadataInvalid = "DOMAIN_METADATA_INVALID", FailedPrecondition, Some(751), false;
    /// The domain's metadata does not match its checksum.
    DomainChecksumMismatch = "DOMAIN_CHECKSUM_MISMATCH", FailedPrecondition, Some(752), false;
    /// The domain is of a version that this build does not read.
    DomainVersionUnsupported = "DOMAIN_VERSION_UNSUPPORTED", FailedPrecondition, Some(394), false;
    /// Files may not be made or read as the service's user.
    DomainAccessDenied = "DOMAIN_ACCESS_DENIED", FailedPrecondition, Some(379), false;

    /// No directory stands under the storage root's name: it was moved, removed or unmounted.
    StorageRootGone = "STORAGE_ROOT_GONE", Unavailable, None, true;
    /// Another directory stands where the work was done, or is to be done: it was mounted over, moved or restored.
    StorageReplaced = "STORAGE_REPLACED", FailedPrecondition, None, true;

    // Images and volumes.
    /// There is no such image in the domain.
    ImageNotFound = "IMAGE_NOT_FOUND", NotFound, Some(268), false;
    /// There is no such volume in the image.
    VolumeNotFound = "VOLUME_NOT_FOUND", NotFound, Some(201), false;
    /// There is something of this volume's name already.
    VolumeExists = "VOLUME_EXISTS", AlreadyExists, Some(212), false;
    /// Volumes of other images stand on this one.
    ImageShared = "IMAGE_SHARED", FailedPrecondition, Some(223), false;
    /// A process has the image open.
    ImageInUse = "IMAGE_IN_USE", FailedPrecondition, None, true;
    /// The volume changed since the operation began.
    GenerationMismatch = "GENERATION_MISMATCH", FailedPrecondition, Some(911), false;
    /// The volume's metadata says that it may not be used.
    VolumeIllegal = "VOLUME_ILLEGAL", FailedPrecondition, None, false;
    /// The volume stands on another one, or others stand on it or beside it.
    VolumeInChain = "VOLUME_IN_CHAIN", FailedPrecondition, None, false;
    /// The volume's data is not what its metadata says, or asks for what is not served.
    VolumeDataInvalid = "VOLUME_DATA_INVALID", FailedPrecondition, None, false;
    /// A copy does not hold what its source holds.
    CopyDiffers = "COPY_DIFFERS", Internal, None, true;
    /// The volume's metadata cannot be understood.
    VolumeMetadataInvalid = "VOLUME_METADATA_INVALID", FailedPrecondition, Some(751), false;
    /// The volume's metadata would not fit into 512 bytes.
    VolumeMetadataTooLarge = "VOLUME_METADATA_TOO_LARGE", InvalidArgument, Some(756), false;
    /// A symlink, directory, FIFO or device where a regular file should be.
    NotARegularFile = "NOT_A_REGULAR_FILE", FailedPrecondition, None, false;
    /// Something in the image is not of oVirt's making; it is left alone.
    UnexpectedFile = "UNEXPECTED_FILE", FailedPrecondition, Some(922), false;

    // The file system and qemu-img.
    /// The file system is full.
    NoSpace = "NO_SPACE", ResourceExhausted, Some(397), true;
    /// The quota is used up.
    QuotaExceeded = "QUOTA_EXCEEDED", ResourceExhausted, None, true;
    /// The file system cannot hold so large a file.
    FileTooLarge = "FILE_TOO_LARGE", FailedPrecondition, None, false;
    /// The file system is mounted read-only.
    FileSystemReadOnly = "FILE_SYSTEM_READ_ONLY", FailedPrecondition, None, true;
    /// The NFS handle is stale.
    StaleHandle = "STALE_HANDLE", Unavailable, Some(384), true;
    /// Reading or writing failed.
    IoError = "IO_ERROR", Internal, Some(2002), true;
    /// A limit of the process or of the machine was met: open files, processes, memory.
    ResourceLimit = "RESOURCE_LIMIT", ResourceExhausted, None, true;
    /// qemu-img ended with an error, or made something else than it was asked for.
    QemuImgFailed = "QEMU_IMG_FAILED", Internal, Some(205), true;
    /// qemu-img is missing or too old.
    QemuImgMissing = "QEMU_IMG_MISSING", FailedPrecondition, None, false;

    // The rest.
    /// A defect of ours: please report it.
    Internal = "INTERNAL", Internal, Some(100), false;
    /// A code that this build does not know, kept as it came.
    Unrecognized = "UNRECOGNIZED", Internal, None, false;
}

impl fmt::Display for FaultCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One failure: its code, what it is about, and a sentence for people that says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", self.code_text())]
pub struct Fault {
    /// The stable code.
    pub code: FaultCode,
    /// The code's text where it is one of a newer peer ([`FaultCode::Unrecognized`]).
    pub foreign_code: Option<Label>,
    /// The field's path, or the entity, that it is about; may be empty.
    pub subject: Label,
    /// A sentence for people. Its type bounds it and keeps it in one line, whatever storage, a program or a peer put into it.
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

    /// A wrong field: its path in the request and what would be right.
    pub fn invalid(field: impl fmt::Display, message: impl fmt::Display) -> Self {
        Self::new(FaultCode::InvalidArgument, format!("{field} {message}")).about(field)
    }

    /// From the text of a code: one that this build does not know is kept as it came.
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

    /// The code as it travels.
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
