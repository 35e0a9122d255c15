//! What a store promises, whatever it is kept on.

use std::ops::Bound;
use std::sync::Arc;

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
    /// Compared byte by byte: numbers are kept big-endian.
    pub key: Vec<u8>,
    /// What; none deletes.
    pub value: Option<Vec<u8>>,
}

/// One revision: the outcome of one input. At most 100 writes and 1 MiB, and a record of the clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// One more than the revision before it.
    pub revision: Revision,
    /// For people.
    pub time: Timestamp,
    /// What watchers will be shown of it, encoded.
    pub history: Vec<u8>,
    /// The records that it changes.
    pub writes: Vec<Write>,
}

/// A revision read back from the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The revision that is meant.
    pub revision: Revision,
    /// The start of the service that made it.
    pub start: Start,
    /// For people.
    pub time: Timestamp,
    /// As it was committed.
    pub history: Vec<u8>,
}

/// Whose memory this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Made once, with the data directory.
    pub store_id: StoreId,
    /// Drawn anew at each start of the service, and recorded with the revision at which it began.
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

/// Where a record belongs among records that say largely the same: the parts of one whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// Which whole.
    pub id: [u8; 16],
    /// The others repeat what stands in this one.
    pub is_head: bool,
}

/// Tells of a table's name and a record's value which family the record is of, if of any. It is asked when a record is brought into the tables, and
/// never to read one: another rule, or none, reads what this one has led to.
pub type FamilyOf = fn(&str, &[u8]) -> Option<Family>;

/// Which way a scan goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// From the lowest key.
    Ascending,
    /// From the highest key.
    Descending,
}

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk or the database refused. After a failed commit its outcome is unknown until
    /// [`Store::reopen`] has succeeded.
    #[error("the store cannot be used: {0}")]
    Unavailable(String),
    /// What is on disk is not what was written.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// Nobody waits for what was to be read.
    #[error("nobody waits for this read any more")]
    Unwanted,
}

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// The committed records at one revision, whatever is committed meanwhile. Keep it briefly: it holds back the
/// reuse of old pages.
pub trait Reader {
    /// The revision that it shows.
    fn revision(&self) -> Revision;

    /// One record.
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

/// A service's memory.
pub trait Store: Send + Sync + 'static {
    /// Whose it is.
    fn identity(&self) -> Identity;

    /// Makes a run of revisions durable, all or none; the first follows what was committed last. When it returns `Ok`
    /// they are on disk, and every reader opened later sees them.
    ///
    /// # Errors
    /// The outcome is unknown then: drop what was computed, [`Store::reopen`], and load again.
    fn commit(&self, batch: Arc<[Commit]>) -> Result<(), StoreError>;

    /// What is committed now.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be opened.
    fn reader(&self) -> Result<Box<dyn Reader + Send>, StoreError>;

    /// The revisions after `after`, in order, up to `limit` of them. Those that were trimmed are not there:
    /// compare with [`Store::oldest`].
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    fn history(&self, after: Revision, limit: usize) -> Result<Vec<Recorded>, StoreError>;

    /// The oldest point that can be resumed after: the history holds every revision after it.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    fn oldest(&self) -> Result<Revision, StoreError>;

    /// What a start of the service made; none if this store never had it.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    fn span(&self, start: Start) -> Result<Option<StartSpan>, StoreError>;

    /// Forgets the history up to and including `through`, a bounded piece at a time; says whether more is left.
    ///
    /// # Errors
    /// [`StoreError`] as for a commit.
    fn trim(&self, through: Revision) -> Result<bool, StoreError>;

    /// Whether there is room for new work. Where there is none, what is under way may still be written: it ends with
    /// what was held back for it. True for stores that cannot tell.
    fn has_room(&self) -> bool {
        true
    }

    /// Whether new work may be taken, by what was last seen of where the store is kept. Cheap.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] in words for people, where what is committed would be lost.
    fn trouble(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Looks whether what was committed is where the next start will look for it, and saves what can be saved where it is
    /// not. To be asked now and then, where it may block.
    ///
    /// # Errors
    /// As [`Store::trouble`].
    fn look_after(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// After a failed commit: opens the database again. Reads went on meanwhile from what was committed last
    /// where the database allows.
    ///
    /// # Errors
    /// [`StoreError`] while it still cannot be used.
    fn reopen(&self) -> Result<(), StoreError>;
}

/// A store takes only what follows what it has, one after the other: a hole would be found as damage, too late. For whoever implements a
/// [`Store`].
///
/// # Errors
/// [`StoreError::Damaged`] where it does not.
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

/// Whether nothing can lie in the range: asking the databases for such a one is an error, or worse. For whoever implements a [`Reader`].
pub fn is_empty_range(range: &(Bound<&[u8]>, Bound<&[u8]>)) -> bool {
    match range {
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => {
            from >= to
        }
        _ => false,
    }
}
