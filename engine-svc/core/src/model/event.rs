//! The people's log.

use common::id::CommandId;
use common::{Timestamp, Words};

use super::EntityKey;

/// How much an event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Good to know.
    Info,
    /// Not as wished, and no harm done.
    Warning,
    /// Something failed.
    Error,
    /// Somebody must act.
    Alert,
}

macro_rules! event_codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal, $severity:ident;)*) => {
        /// What can happen: stable codes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum EventCode {
            $($(#[doc = $doc])+ $name,)*
        }

        impl EventCode {
            /// Every code.
            pub const ALL: &'static [EventCode] = &[$(Self::$name,)*];

            /// The code as it travels: `UPPER_SNAKE`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// How much it matters.
            pub const fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity,)* }
            }
        }
    };
}

event_codes! {
    /// A host is this engine's now.
    HostAdded = "HOST_ADDED", Info;
    /// A host was not taken.
    HostAddFailed = "HOST_ADD_FAILED", Error;
    /// Taking a host was stopped.
    HostAddCancelled = "HOST_ADD_CANCELLED", Info;
    /// A host was given up.
    HostRemoved = "HOST_REMOVED", Info;
    /// A host was not given up.
    HostRemoveFailed = "HOST_REMOVE_FAILED", Error;
    /// Giving a host up was stopped.
    HostRemoveCancelled = "HOST_REMOVE_CANCELLED", Info;
    /// A storage domain is there.
    StorageDomainCreated = "STORAGE_DOMAIN_CREATED", Info;
    /// A host was taken over, by a person's decision.
    HostTakenOver = "HOST_TAKEN_OVER", Alert;
    /// A host was not taken over.
    HostTakeOverFailed = "HOST_TAKE_OVER_FAILED", Error;
    /// Taking a host over was stopped.
    HostTakeOverCancelled = "HOST_TAKE_OVER_CANCELLED", Info;
    /// A storage domain was not made.
    StorageDomainCreateFailed = "STORAGE_DOMAIN_CREATE_FAILED", Error;
    /// Making a storage domain was stopped.
    StorageDomainCreateCancelled = "STORAGE_DOMAIN_CREATE_CANCELLED", Info;
    /// A VM is there with all its disks.
    VmCreated = "VM_CREATED", Info;
    /// A VM was not made.
    VmCreateFailed = "VM_CREATE_FAILED", Error;
    /// Making a VM was stopped.
    VmCreateCancelled = "VM_CREATE_CANCELLED", Info;
    /// A VM is gone with all its disks.
    VmRemoved = "VM_REMOVED", Info;
    /// A VM was not removed, or not wholly.
    VmRemoveFailed = "VM_REMOVE_FAILED", Error;
    /// Removing a VM was stopped.
    VmRemoveCancelled = "VM_REMOVE_CANCELLED", Info;
    /// A disk of its own is there.
    DiskCreated = "DISK_CREATED", Info;
    /// A disk of its own was not made.
    DiskCreateFailed = "DISK_CREATE_FAILED", Error;
    /// Making a disk was stopped.
    DiskCreateCancelled = "DISK_CREATE_CANCELLED", Info;
    /// A disk of its own is gone.
    DiskRemoved = "DISK_REMOVED", Info;
    /// A disk of its own was not removed.
    DiskRemoveFailed = "DISK_REMOVE_FAILED", Error;
    /// Removing a disk was stopped.
    DiskRemoveCancelled = "DISK_REMOVE_CANCELLED", Info;
    /// A disk was given to a VM.
    DiskAttached = "DISK_ATTACHED", Info;
    /// A disk was not given to a VM.
    DiskAttachFailed = "DISK_ATTACH_FAILED", Error;
    /// Giving a disk to a VM was stopped.
    DiskAttachCancelled = "DISK_ATTACH_CANCELLED", Info;
    /// A disk was taken from its VM.
    DiskDetached = "DISK_DETACHED", Info;
    /// A disk was not taken from its VM.
    DiskDetachFailed = "DISK_DETACH_FAILED", Error;
    /// Taking a disk from its VM was stopped.
    DiskDetachCancelled = "DISK_DETACH_CANCELLED", Info;
    /// A copy of a disk is there.
    DiskCopied = "DISK_COPIED", Info;
    /// A disk was not copied.
    DiskCopyFailed = "DISK_COPY_FAILED", Error;
    /// Copying a disk was stopped.
    DiskCopyCancelled = "DISK_COPY_CANCELLED", Info;
    /// A command rests until somebody decides.
    CommandNeedsAttention = "COMMAND_NEEDS_ATTENTION", Alert;
    /// A command that rested goes on by itself.
    CommandResumed = "COMMAND_RESUMED", Info;
    /// Somebody had a resting command tried again.
    CommandRetried = "COMMAND_RETRIED", Info;
    /// Somebody gave a resting command up.
    CommandAbandoned = "COMMAND_ABANDONED", Alert;
    /// Somebody asked that a command be stopped.
    CommandCancelRequested = "COMMAND_CANCEL_REQUESTED", Info;
    /// A host was connected.
    HostConnected = "HOST_CONNECTED", Info;
    /// A host does not answer.
    HostAway = "HOST_AWAY", Warning;
    /// A host answers as another, or is another engine's.
    HostRefused = "HOST_REFUSED", Alert;
    /// A host lost its memory.
    HostStoreChanged = "HOST_STORE_CHANGED", Alert;
    /// A host was restarted under a task and undid it: it is sent again, under a new id.
    TaskSentAgain = "TASK_SENT_AGAIN", Warning;
    /// What a task did was decided by what storage shows.
    TaskSettledByEvidence = "TASK_SETTLED_BY_EVIDENCE", Warning;
    /// A task that no command of ours started is at work on our host.
    ForeignTaskSeen = "FOREIGN_TASK_SEEN", Warning;
    /// A host's storage holds what is not recorded, or not what is: the records are older.
    UnknownStorageSeen = "UNKNOWN_STORAGE_SEEN", Alert;
    /// A host belongs to another life of this engine: nothing is done there.
    EngineFenced = "ENGINE_FENCED", Alert;
}

/// Something that happened. A success is told only after the work is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Rises with each event.
    pub id: u64,
    /// When.
    pub time: Timestamp,
    /// How much it matters.
    pub severity: Severity,
    /// What happened, for programs.
    pub code: EventCode,
    /// A sentence for people.
    pub message: Words,
    /// What it is about.
    pub entities: Vec<EntityKey>,
    /// The command that it is about.
    pub command: Option<CommandId>,
    /// The root of that command's tree.
    pub root: Option<CommandId>,
    /// Whose deed it was; empty where nobody's.
    pub user: String,
    /// Of the command or task.
    pub correlation_id: String,
}
