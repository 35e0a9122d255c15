//! The options and the owner of a store on disk.

use std::time::Duration;

use uuid::Uuid;

use crate::FamilyOf;

/// The owner of a data directory: the store of another service, or of another host or engine, is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The name of the program.
    pub service: &'static str,
    /// The host's or engine's id, if it is known before the store is opened.
    pub id: Option<Uuid>,
}

impl Owner {
    /// A service whose id is not known yet.
    pub const fn service(service: &'static str) -> Self {
        Self { service, id: None }
    }
}

/// The options of a store on disk.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The identity of the store.
    pub owner: Owner,
    /// The size of the cache for the tables, in bytes.
    pub cache_bytes: usize,
    /// The size of each of the two segments of the write-ahead log, in bytes: at most twice this much is served from
    /// memory, and replayed after a crash. The size of both is reserved on the disk.
    pub wal_bytes: u64,
    /// How long a revision may be only in the log, if the log does not fill up.
    pub checkpoint_every: Duration,
    /// The rule for families of records, which are compressed with a common dictionary.
    pub family_of: FamilyOf,
    /// Called with the name of each point that a checkpoint passes: tests end the process there.
    pub passes: fn(&str),
}

impl Options {
    /// The defaults.
    pub const fn of(owner: Owner) -> Self {
        Self {
            owner,
            cache_bytes: 64 << 20,
            // Each transaction rewrites the pages of its keys, and everybody waits while it is synced: fewer, larger
            // transactions are cheaper and delay fewer commits.
            wal_bytes: 32 << 20,
            checkpoint_every: Duration::from_secs(4),
            family_of: |_, _| None,
            passes: |_| {},
        }
    }
}
