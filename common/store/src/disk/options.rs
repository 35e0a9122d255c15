//! How a store on disk is kept, and whose it is.

use std::time::Duration;

use uuid::Uuid;

use crate::FamilyOf;

/// Whose data directory it is: the store of another service, or of another one of the same, is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The name of the program.
    pub service: &'static str,
    /// The host's or engine's id, where it is known before the store is opened.
    pub id: Option<Uuid>,
}

impl Owner {
    /// A service of which there is no telling which.
    pub const fn service(service: &'static str) -> Self {
        Self { service, id: None }
    }
}

/// How a store on disk is kept.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Whose it is.
    pub owner: Owner,
    /// Bytes of the tables that are kept in memory.
    pub cache_bytes: usize,
    /// Bytes of each of the two segments of the write-ahead log: of so much are reads served from memory, and so much
    /// is read again after a crash, at most twice. As much as both hold is held back of the disk.
    pub wal_bytes: u64,
    /// How long a revision may be in the log only, where it does not fill up.
    pub checkpoint_every: Duration,
    /// Which records are compressed against what they have in common.
    pub family_of: FamilyOf,
    /// Told by name of each point of a checkpoint that is passed: there tests end the process.
    pub passes: fn(&str),
}

impl Options {
    /// The usual ones.
    pub const fn of(owner: Owner) -> Self {
        Self {
            owner,
            cache_bytes: 64 << 20,
            // Each transaction of the tables writes the pages that its keys fall into anew, and while it is synced
            // everybody waits: fewer and larger ones are cheaper, and hold up fewer.
            wal_bytes: 32 << 20,
            checkpoint_every: Duration::from_secs(4),
            family_of: |_, _| None,
            passes: |_| {},
        }
    }
}
