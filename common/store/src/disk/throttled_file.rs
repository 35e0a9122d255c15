//! The file of the tables. A transaction of redb leaves thousands of pages to one sync at its end, which keeps the disk
//! for ten milliseconds and more, and a batch that is to be made durable meanwhile waits for as long. So what is written is
//! synced in pieces, with rests between them ([`Throttle`]): each holds others up for no longer than another batch would.
//! More is synced than redb asks for, and never less.

use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use redb::{BackendError, StorageBackend};

use super::throttle::Throttle;

/// What is synced at a time: sixteen pages, half a millisecond's worth.
const PIECE: usize = 64 << 10;

type Lower = Bound<u64>;
type Upper = Bound<u64>;

/// See the module.
#[derive(Debug)]
pub(super) struct ThrottledFile<B> {
    inner: B,
    throttle: Arc<Throttle>,
    /// Bytes that were written since the last sync.
    unsynced: AtomicUsize,
}

impl<B> ThrottledFile<B> {
    pub(super) fn new(inner: B, throttle: Arc<Throttle>) -> Self {
        Self {
            inner,
            throttle,
            unsynced: AtomicUsize::new(0),
        }
    }
}

impl<B: StorageBackend> StorageBackend for ThrottledFile<B> {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.unsynced.store(0, Ordering::Relaxed);
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.inner.write(offset, data)?;
        let unsynced = self.unsynced.fetch_add(data.len(), Ordering::Relaxed) + data.len();
        if unsynced >= PIECE && !self.throttle.is_hurried() {
            self.sync_data()?;
            self.throttle.rest();
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Lower, end: Upper) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Lower, end: Upper) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Lower, end: Upper) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Lower, end: Upper) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Lower, end: Upper) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Lower, end: Upper) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use redb::backends::InMemoryBackend;
    use redb::{Database, TableDefinition};

    use super::*;

    const TABLE: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("table");

    /// Notes how much lies between two syncs.
    #[derive(Debug)]
    struct Noting {
        inner: InMemoryBackend,
        since: Mutex<usize>,
        pieces: Arc<Mutex<Vec<usize>>>,
    }

    impl StorageBackend for Noting {
        fn len(&self) -> io::Result<u64> {
            self.inner.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.inner.read(offset, out)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.inner.set_len(len)
        }

        fn sync_data(&self) -> io::Result<()> {
            let bytes = std::mem::take(&mut *self.since.lock().unwrap());
            self.pieces.lock().unwrap().push(bytes);
            self.inner.sync_data()
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            *self.since.lock().unwrap() += data.len();
            self.inner.write(offset, data)
        }
    }

    /// The pieces in which a transaction of 4 MiB is synced.
    fn pieces(throttle: Throttle) -> Vec<usize> {
        let pieces = Arc::<Mutex<Vec<usize>>>::default();
        let noting = Noting {
            inner: InMemoryBackend::new(),
            since: Mutex::default(),
            pieces: Arc::clone(&pieces),
        };
        let file = ThrottledFile::new(noting, Arc::new(throttle));
        let database = Database::builder().create_with_backend(file).unwrap();
        pieces.lock().unwrap().clear();
        let transaction = database.begin_write().unwrap();
        {
            let mut table = transaction.open_table(TABLE).unwrap();
            for key in 0..1_024 {
                table.insert(key, [7; 4_000].as_slice()).unwrap();
            }
        }
        transaction.commit().unwrap();
        let mut pieces = pieces.lock().unwrap().clone();
        // redb also syncs each time the file grows.
        pieces.retain(|bytes| *bytes > 0);
        pieces
    }

    #[test]
    fn a_large_transaction_is_synced_in_pieces_and_its_end_has_little_left() {
        let throttle = Throttle::new();
        throttle.ease();
        let pieces = pieces(throttle);
        // A page is written whole, so a piece may be one larger.
        assert!(
            pieces.len() > 60 && pieces.iter().all(|bytes| *bytes < 2 * PIECE),
            "{pieces:?}"
        );
    }

    #[test]
    fn in_a_hurry_it_is_synced_when_redb_asks_for_it() {
        let pieces = pieces(Throttle::new());
        assert!(pieces.len() == 1 && pieces[0] > 4_000_000, "{pieces:?}");
    }
}
