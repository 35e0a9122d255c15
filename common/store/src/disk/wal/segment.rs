//! A segment: one of the log's two files. Each append is one write of whole blocks that is durable when it returns: past the page cache
//! where the file system lets us, for then the kernel has no pages to look after, and one wait instead of two.
//!
//! *Room.* Blocks that were allocated and never written are marked so, and to take the mark off is a change of metadata,
//! which makes a durable write half as slow again. So the first write into such room writes zeros far ahead, and
//! those that follow find blocks that are only data.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{Advice, FallocateFlags, OFlags, SeekFrom};
use rustix::io::{Errno, ReadWriteFlags};

use crate::data_dir::{self, Access};

/// What offsets, lengths and memory are multiples of: no smaller than the blocks of any disk or file system.
pub(super) const BLOCK: usize = 4 << 10;

/// How far ahead zeros are written: a millisecond's worth of writing, for some hundred small batches.
const AHEAD: u64 = 256 << 10;

/// See the module.
#[derive(Debug)]
pub(super) struct Segment {
    file: File,
    capacity: u64,
    /// Where the next append goes.
    offset: u64,
    /// What the file holds of the block that `offset` is in, which the next append writes again.
    begun: Vec<u8>,
    /// Both as they were before the last append.
    before: (u64, Vec<u8>),
    /// From here on no block was ever written; the largest number where that is not known to be so.
    unwritten: u64,
    buffer: Vec<u8>,
}

impl Segment {
    /// Opens the file or makes it, and takes room for `capacity` bytes behind its head. What it holds is written over.
    pub(super) fn open(path: &Path, capacity: u64) -> io::Result<Self> {
        let capacity = length(capacity);
        let direct = data_dir::open_with(path, Access::Write, OFlags::DIRECT);
        let file = match direct.map_err(|error| (Errno::from_io_error(&error), error)) {
            Err((Some(Errno::INVAL), _)) => data_dir::open(path, Access::Write)?,
            Err((_, error)) => return Err(error),
            Ok(file) => file,
        };
        let unwritten = allocate(&file, capacity);
        // A file that is shorter than this was cut.
        if file.metadata()?.len() < capacity {
            file.set_len(capacity)?;
        }
        file.sync_all()?;
        Ok(Self {
            file,
            capacity,
            offset: 0,
            begun: Vec::new(),
            before: (0, Vec::new()),
            unwritten,
            buffer: Vec::new(),
        })
    }

    /// Where the next append goes.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// How long it is.
    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Whether it has room for so many bytes. More than fit into it are taken where there is nothing else.
    pub(super) fn has_room_for(&self, bytes: usize) -> bool {
        self.offset <= BLOCK as u64 || self.offset + bytes as u64 <= self.capacity
    }

    /// Whether it has less room left than it holds.
    pub(super) fn is_half_full(&self) -> bool {
        self.offset > self.capacity / 2
    }

    /// Appends bytes. When it returns `Ok` they are on disk.
    ///
    /// # Errors
    /// Whether they are on disk is unknown then: [`Segment::discard_tail`] them.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let end = self.offset + bytes.len() as u64;
        let (first, last) = (self.offset / BLOCK as u64, end / BLOCK as u64);
        let through = match end > self.unwritten {
            true => end.next_multiple_of(AHEAD).min(self.capacity.max(end)),
            false => end,
        };
        let at = first * BLOCK as u64;
        let length = (through - at).next_multiple_of(BLOCK as u64);
        let length = usize::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let (begun, whole) = (self.begun.len(), self.begun.len() + bytes.len());
        let blocks = aligned(&mut self.buffer, length);
        blocks[..begun].copy_from_slice(&self.begun);
        blocks[begun..whole].copy_from_slice(bytes);
        blocks[whole..].fill(0);
        write(&self.file, blocks, at)?;
        self.before.0 = self.offset;
        std::mem::swap(&mut self.before.1, &mut self.begun);
        self.begun.clear();
        self.begun
            .extend_from_slice(&blocks[((last - first) as usize) * BLOCK..whole]);
        self.offset = end;
        self.unwritten = self.unwritten.max(through);
        Ok(())
    }

    /// What was appended last counts as what could not be: [`Segment::discard_tail`] it.
    pub(super) fn reject(&mut self) {
        self.offset = self.before.0;
        std::mem::swap(&mut self.before.1, &mut self.begun);
    }

    /// Makes sure that nothing is left of what could not be appended. The file stays as long as it is: a shorter one counts as cut.
    pub(super) fn discard_tail(&mut self) -> io::Result<()> {
        let end = self.file.metadata()?.len().max(self.capacity);
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        // Needs no room, wherever the write was cut off. A block that is begun keeps what is before the offset.
        match rustix::fs::fallocate(&self.file, flags, self.offset, end - self.offset) {
            Err(Errno::OPNOTSUPP) => {
                self.file.set_len(self.offset)?;
                self.file.set_len(end)?;
            }
            outcome => outcome?,
        }
        self.file.sync_all()?;
        self.unwritten = allocate(&self.file, self.capacity);
        Ok(())
    }

    /// Begins anew with a head, a block that says what follows it; what the file holds behind it is written over. When it returns `Ok` the head
    /// is on disk.
    ///
    /// # Errors
    /// Whether it is on disk is unknown then.
    pub(super) fn begin(&mut self, head: &[u8]) -> io::Result<()> {
        let blocks = aligned(&mut self.buffer, BLOCK);
        blocks.fill(0);
        blocks[..head.len()].copy_from_slice(head);
        write(&self.file, blocks, 0)?;
        self.offset = BLOCK as u64;
        self.begun.clear();
        if self.unwritten < self.offset {
            self.unwritten = self.offset;
        }
        Ok(())
    }
}

/// How long a file is that has so much room behind its head.
pub(super) const fn length(capacity: u64) -> u64 {
    capacity + BLOCK as u64
}

/// A part of a file that was written.
#[derive(Debug)]
pub(super) struct Extent {
    /// Where it lies.
    pub offset: u64,
    pub bytes: Vec<u8>,
}

/// What was ever written of a file, extent by extent: room that was only allocated is not looked at, and there may be much.
/// Each extent begins with a block of the file system.
pub(super) fn written(path: &Path) -> io::Result<Vec<Extent>> {
    let file = data_dir::open(path, Access::Read)?;
    // What is read ahead of unwritten room counts as written for as long as it is cached.
    let _ = rustix::fs::fadvise(&file, 0, None, Advice::Random);
    let mut extents = Vec::new();
    for (start, end) in ranges(&file)? {
        let length = usize::try_from(end - start).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let mut extent = vec![0; length];
        file.read_exact_at(&mut extent, start)?;
        extents.push(Extent {
            offset: start,
            bytes: extent,
        });
    }
    Ok(extents)
}

/// From where to where it was written. Two extents do not touch, for what lies across their edge would be missed.
fn ranges(file: &File) -> io::Result<Vec<(u64, u64)>> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    let mut at = 0;
    loop {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(ranges),
            Err(error) => return Err(error.into()),
        };
        at = rustix::fs::seek(file, SeekFrom::Hole(start))?;
        match ranges.last_mut() {
            Some((_, end)) if *end == start => *end = at,
            _ => ranges.push((start, at)),
        }
    }
}

/// So many bytes of a buffer that begin where a block of memory does.
fn aligned(buffer: &mut Vec<u8>, length: usize) -> &mut [u8] {
    buffer.resize(buffer.len().max(length + BLOCK), 0);
    let skip = buffer.as_ptr().align_offset(BLOCK);
    &mut buffer[skip..skip + length]
}

/// Writes whole blocks durably.
fn write(file: &File, mut blocks: &[u8], mut at: u64) -> io::Result<()> {
    while !blocks.is_empty() {
        match rustix::io::pwritev2(file, &[IoSlice::new(blocks)], at, ReadWriteFlags::DSYNC) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                blocks = &blocks[written..];
                at += written as u64;
            }
            Err(Errno::INTR) => {}
            // Not every file system that opens a file for it can do it.
            Err(Errno::INVAL) if is_direct(file)? => {
                let flags = rustix::fs::fcntl_getfl(file)?;
                rustix::fs::fcntl_setfl(file, flags - OFlags::DIRECT)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn is_direct(file: &File) -> io::Result<bool> {
    Ok(rustix::fs::fcntl_getfl(file)?.contains(OFlags::DIRECT))
}

/// Takes the room ahead, and says from where on it was never written. Where there is none, or none can be taken, each
/// write takes what it needs, or fails.
fn allocate(file: &File, capacity: u64) -> u64 {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, capacity) {
        Ok(()) => rustix::fs::seek(file, SeekFrom::Hole(0)).unwrap_or(u64::MAX),
        Err(error) => {
            if error != Errno::OPNOTSUPP {
                tracing::warn!(%error, capacity, "room for the write-ahead log cannot be preallocated");
            }
            u64::MAX
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    const CAPACITY: u64 = 1 << 20;

    /// What lies behind the head, up to an offset.
    fn content(path: &Path, offset: u64) -> Vec<u8> {
        let mut content = fs::read(path).unwrap();
        content.truncate(usize::try_from(offset).unwrap());
        content.split_off(BLOCK)
    }

    fn begun(path: &Path, capacity: u64) -> Segment {
        let mut segment = Segment::open(path, capacity).unwrap();
        segment.begin(b"head").unwrap();
        segment
    }

    #[test]
    fn what_is_appended_lies_one_behind_the_other_whatever_its_size() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("segment");
        let mut segment = begun(&path, CAPACITY);
        for round in 0..2_u8 {
            let mut all = Vec::new();
            for (n, size) in (0_u8..).zip([8, 4_088, 4_096, 1, 4_095, 0, 12_000, 300_000, 3, 700_000]) {
                let bytes = vec![n + 1 + 100 * round; size];
                segment.append(&bytes).unwrap();
                all.extend_from_slice(&bytes);
                assert_eq!(segment.offset(), (BLOCK + all.len()) as u64);
                assert!(
                    content(&path, segment.offset()) == all,
                    "round {round}, append {n}"
                );
            }
            assert!(!segment.has_room_for(usize::try_from(CAPACITY).unwrap()));
            segment.begin(b"again").unwrap();
        }
        // More than it is meant for.
        let much = vec![7; usize::try_from(CAPACITY).unwrap() + 5];
        assert!(segment.has_room_for(much.len()));
        segment.append(&much).unwrap();
        assert!(content(&path, segment.offset()) == much);
    }

    #[test]
    fn what_is_taken_back_is_gone_and_what_was_before_it_stays() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("segment");
        let mut segment = begun(&path, CAPACITY);
        segment.append(&[1; 5_000]).unwrap();
        // As one that failed may leave it.
        write(
            &segment.file,
            aligned(&mut vec![2; 6 * BLOCK], 2 * BLOCK),
            3 * BLOCK as u64,
        )
        .unwrap();
        segment.discard_tail().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), length(CAPACITY));
        let left = fs::read(&path).unwrap().split_off(BLOCK);
        assert!(left[..5_000].iter().all(|byte| *byte == 1) && left[5_000..].iter().all(|byte| *byte == 0));
        segment.append(&[3; 3_000]).unwrap();
        let whole = content(&path, BLOCK as u64 + 8_000);
        assert_eq!(whole, [vec![1; 5_000], vec![3; 3_000]].concat());
    }

    #[test]
    fn few_writes_find_room_that_was_never_written() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("segment");
        let mut segment = begun(&path, CAPACITY);
        if segment.unwritten > BLOCK as u64 {
            // A file system that does not tell.
            return;
        }
        let mut times = 0;
        while segment.has_room_for(1_000) {
            let before = segment.unwritten;
            segment.append(&[1; 1_000]).unwrap();
            times += u64::from(segment.unwritten != before);
        }
        assert_eq!(times, CAPACITY / AHEAD + 1);
        assert_eq!(segment.unwritten, length(CAPACITY));
        assert!(fs::metadata(&path).unwrap().blocks() * 512 >= CAPACITY);
        // Another start finds it written.
        let again = Segment::open(&path, CAPACITY).unwrap();
        assert_eq!(again.unwritten, length(CAPACITY));
    }

    /// Two extents with a hole between them, as after a generation that wrote far into the file; and room that nobody wrote into.
    #[test]
    fn what_was_written_is_found_and_what_was_only_allocated_is_not_looked_at() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("segment");
        let mut segment = begun(&path, 64 * CAPACITY);
        let bytes = [vec![1; 5_000], vec![2; 9]];
        segment.append(&bytes[0]).unwrap();
        segment.offset = 9 * CAPACITY;
        segment.begun.clear();
        segment.append(&bytes[1]).unwrap();

        let extents = written(&path).unwrap();
        if segment.unwritten == u64::MAX || extents[0].bytes.len() as u64 == length(64 * CAPACITY) {
            // A file system that does not tell.
            return;
        }
        assert_eq!(extents.len(), 2);
        for (extent, (bytes, head)) in extents.iter().zip(bytes.iter().zip([BLOCK, 0])) {
            let extent = &extent.bytes[head..];
            assert!(extent.starts_with(bytes) && extent[bytes.len()..].iter().all(|byte| *byte == 0));
            assert!(extent.len() as u64 <= AHEAD);
        }
        // Whoever reads the file has its empty room cached, which may count as written, and is told of in parts.
        fs::read(&path).unwrap();
        let ranges = ranges(&File::open(&path).unwrap()).unwrap();
        assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0), "{ranges:?}");
        assert!(written(&path).unwrap()[0].bytes[BLOCK..].starts_with(&bytes[0]));
        assert!(written(&dir.path().join("nothing")).is_err());
        fs::write(&path, []).unwrap();
        assert!(written(&path).unwrap().is_empty());
    }
}
