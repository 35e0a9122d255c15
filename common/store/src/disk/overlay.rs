//! A file of tables that is only read: what redb writes while it opens the file stays in memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::os::unix::fs::FileExt as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::{BackendError, StorageBackend};

/// The size of the pieces of writes: not smaller than the alignment of redb's pages.
const PIECE: u64 = 4 << 10;

/// See the module.
#[derive(Debug)]
pub(super) struct Overlay<S> {
    source: S,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    len: u64,
    /// How much of the source is still visible: less if the file was shortened meanwhile.
    shown: u64,
    pieces: BTreeMap<u64, Vec<u8>>,
}

/// A source that can be read at an offset.
pub(super) trait Source: std::fmt::Debug + Send + Sync + 'static {
    fn len(&self) -> io::Result<u64>;
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;
}

impl Source for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(out, offset)
    }
}

impl<S: Source> Overlay<S> {
    pub(super) fn new(source: S) -> io::Result<Self> {
        let len = source.len()?;
        let state = State {
            len,
            shown: len,
            pieces: BTreeMap::new(),
        };
        Ok(Self {
            source,
            state: Mutex::new(state),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A piece of the source, filled with zeros after its end.
    fn piece(&self, shown: u64, at: u64) -> io::Result<Vec<u8>> {
        let mut piece = vec![0; PIECE as usize];
        let there = shown.saturating_sub(at).min(PIECE) as usize;
        self.source.read(at, &mut piece[..there])?;
        Ok(piece)
    }
}

/// The pieces that a range touches: the offset of each, and the overlap in the piece and in the range.
fn pieces_of(
    offset: u64,
    length: usize,
) -> impl Iterator<Item = (u64, std::ops::Range<usize>, std::ops::Range<usize>)> {
    let end = offset + length as u64;
    let first = offset / PIECE * PIECE;
    (first..end).step_by(PIECE as usize).map(move |at| {
        let (from, to) = (offset.max(at), end.min(at + PIECE));
        let in_piece = (from - at) as usize..(to - at) as usize;
        (at, in_piece, (from - offset) as usize..(to - offset) as usize)
    })
}

impl<S: Source> StorageBackend for Overlay<S> {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        if offset.saturating_add(out.len() as u64) > state.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if state.pieces.is_empty() && offset + out.len() as u64 <= state.shown {
            return self.source.read(offset, out);
        }
        for (at, in_piece, in_out) in pieces_of(offset, out.len()) {
            match state.pieces.get(&at) {
                Some(piece) => out[in_out].copy_from_slice(&piece[in_piece]),
                None => out[in_out].copy_from_slice(&self.piece(state.shown, at)?[in_piece]),
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        state.shown = state.shown.min(len);
        let gone = state.pieces.split_off(&len.next_multiple_of(PIECE));
        drop(gone);
        let last = len / PIECE * PIECE;
        if let Some(piece) = state.pieces.get_mut(&last) {
            piece[(len - last) as usize..].fill(0);
        }
        state.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        for (at, in_piece, in_data) in pieces_of(offset, data.len()) {
            let shown = state.shown;
            let piece = match state.pieces.entry(at) {
                std::collections::btree_map::Entry::Occupied(piece) => piece.into_mut(),
                std::collections::btree_map::Entry::Vacant(room) => room.insert(self.piece(shown, at)?),
            };
            piece[in_piece].copy_from_slice(&data[in_data]);
        }
        state.len = state.len.max(offset + data.len() as u64);
        Ok(())
    }

    // The data directory's own lock keeps everybody else away.
    fn try_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn try_lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn query_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(false)
    }
}
