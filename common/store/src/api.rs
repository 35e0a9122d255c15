//! The guarantees of a store, whatever it is kept on.

use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use common::id::StoreId;
use common::revision::{Revision, Start};
use common::time::Timestamp;

/// A table of records; both its keys and its values are bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table(pub &'static str);

/// One record to be put, or deleted where `value` is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The table that it changes.
    pub table: Table,
    /// Compared bytewise: numbers are big-endian.
    pub key: Vec<u8>,
    /// The value; none deletes the record.
    pub value: Option<Vec<u8>>,
}

/// One revision: the result of one input. At most 100 writes and 1 MiB, plus a record of the clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// One more than the revision before it.
    pub revision: Revision,
    /// The time, for people.
    pub time: Timestamp,
    /// What watchers see of it, encoded.
    pub history: Vec<u8>,
    /// The records that it changes.
    pub writes: Vec<Write>,
}

/// A revision read back from the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The revision.
    pub revision: Revision,
    /// The start of the service that made it.
    pub start: Start,
    /// The time, for people.
    pub time: Timestamp,
    /// What watchers see, as it was committed.
    pub history: Vec<u8>,
}

/// The identity of a store and of its present start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Generated once, with the data directory.
    pub store_id: StoreId,
    /// Random for each start of the service, and recorded with the revision at which it began.
    pub start: Start,
}

/// The revisions that one start of the service made: those after `after`, up to and including `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartSpan {
    /// The last revision before this start.
    pub after: Revision,
    /// The last revision of this start; for the present one, the current revision.
    pub last: Revision,
}

/// The family of a record: records that largely have the same content, such as the parts of one command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// The id of the family.
    pub id: [u8; 16],
    /// Whether the record is the head, whose content the others repeat.
    pub is_head: bool,
}

/// Determines the family of a record, if any, from the table's name and the record's value. It is used when a record
/// is written into the tables, and never to read one: records can be read with another rule, or with none.
pub type FamilyOf = fn(&str, &[u8]) -> Option<Family>;

/// The direction of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// From the lowest key.
    Ascending,
    /// From the highest key.
    Descending,
}

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk or the database failed. After a failed commit the outcome is unknown until [`Store::reopen`] has
    /// succeeded.
    #[error("the store cannot be used: {0}")]
    Unavailable(String),
    /// The data on disk is damaged.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// A backup is damaged, cut off, or of something else.
    #[error("the backup cannot be used: {0}")]
    Backup(String),
    /// Nobody waits for the result of the read any more.
    #[error("nobody waits for this read any more")]
    Unwanted,
}

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// The committed records at one revision, whatever is committed meanwhile. Keep it only briefly: it prevents the
/// reuse of old pages.
pub trait Reader {
    /// Its revision.
    fn revision(&self) -> Revision;

    /// A record.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Up to `limit` records of a range of keys.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    fn scan(
        &self,
        table: Table,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        order: Order,
        limit: usize,
    ) -> Result<Vec<Pair>, StoreError>;
}

/// How a store is, for who measures it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StoreFigures {
    /// A commit failed, and the store was not opened again.
    pub in_doubt: bool,
    /// There is room for new work.
    pub has_room: bool,
    /// Free on its file system, in bytes.
    pub free_bytes: u64,
    /// How large its file system is.
    pub total_bytes: u64,
    /// What its tables take.
    pub table_bytes: u64,
    /// What its write-ahead log takes.
    pub log_bytes: u64,
    /// How full the file of the log is that is being written: 0 to 1.
    pub log_fill: f64,
    /// Revisions that are in the log and in no table.
    pub unwritten_revisions: u64,
    /// For how long there have been any.
    pub unwritten_for: Duration,
    /// The tables cannot be written.
    pub stuck: bool,
}

/// The store of a service.
pub trait Store: Send + Sync + 'static {
    /// The identity of the store.
    fn identity(&self) -> Identity;

    /// Commits a run of revisions durably, all or none; the first one follows the last commit. When it returns `Ok`
    /// they are on disk, and every reader that is opened later sees them.
    ///
    /// # Errors
    /// The outcome is then unknown: drop the computed state, call [`Store::reopen`], and load again.
    fn commit(&self, batch: Arc<[Commit]>) -> Result<(), StoreError>;

    /// A reader of the last commit.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be opened.
    fn reader(&self) -> Result<Box<dyn Reader + Send>, StoreError>;

    /// The revisions after `after`, in order, up to `limit`. Trimmed revisions are missing: compare with
    /// [`Store::oldest`].
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    fn history(&self, after: Revision, limit: usize) -> Result<Vec<Recorded>, StoreError>;

    /// The oldest point that can be resumed after: the history holds every revision after it.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    fn oldest(&self) -> Result<Revision, StoreError>;

    /// The revisions of a start of the service; none if this store never had it.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    fn span(&self, start: Start) -> Result<Option<StartSpan>, StoreError>;

    /// Deletes the history up to and including `through`, a bounded piece per call; returns whether more is left.
    ///
    /// # Errors
    /// [`StoreError`] as for a commit.
    fn trim(&self, through: Revision) -> Result<bool, StoreError>;

    /// Whether there is space for new work. If there is none, running work can still be written, with the space that
    /// was reserved for it. True for stores that cannot tell.
    fn has_room(&self) -> bool {
        true
    }

    /// Whether new work can be accepted, according to the last check of the data directory. Cheap.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] with a message for people, if commits would be lost.
    fn trouble(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Checks whether the commits are where the next start will look for them, and saves what can be saved if they
    /// are not. To be called from time to time, where blocking is allowed.
    ///
    /// # Errors
    /// As [`Store::trouble`].
    fn look_after(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// How it is. May block, as a commit does.
    fn figures(&self) -> StoreFigures {
        StoreFigures {
            has_room: self.has_room(),
            ..StoreFigures::default()
        }
    }

    /// Writes what is committed now as a backup ([`crate::disk::Backup`]), while commits go on. Blocks for as long as `out` does.
    ///
    /// # Errors
    /// [`StoreError`] if the records cannot be read or written, and of stores that cannot be backed up.
    fn back_up(&self, out: &mut dyn io::Write) -> Result<(), StoreError> {
        let _ = out;
        Err(StoreError::Unavailable(
            "a store of this kind cannot be backed up".to_owned(),
        ))
    }

    /// Reopens the database after a failed commit. Meanwhile reads continue from the last commit if the database
    /// allows it.
    ///
    /// # Errors
    /// [`StoreError`] while it still cannot be used.
    fn reopen(&self) -> Result<(), StoreError>;
}

/// Checks that a commit follows the last revision: a gap would be found as damage, but too late. For implementations
/// of [`Store`].
///
/// # Errors
/// [`StoreError::Damaged`] if it does not.
pub fn follows(current: Revision, batch: &[Commit]) -> Result<(), StoreError> {
    let mut last = current;
    for commit in batch {
        if commit.revision != last.next() {
            let (got, last) = (commit.revision.0, last.0);
            return Err(StoreError::Damaged(format!(
                "revision {got} does not follow {last}"
            )));
        }
        last = commit.revision;
    }
    Ok(())
}

/// Whether a range is empty: asking the databases for such a range is an error, or worse. For implementations of
/// [`Reader`].
pub fn is_empty_range(range: &(Bound<&[u8]>, Bound<&[u8]>)) -> bool {
    match range {
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => {
            from >= to
        }
        _ => false,
    }
}
