//! A backup: every record of a store at one revision, in one file. The crate's documentation has the format.
//!
//! A restored store is a *new* one with another id, as after a repair: a backup is older than what peers have seen, and they must
//! notice that.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use common::id::StoreId;
use common::revision::Revision;
use crc32fast::Hasher;
use serde::{Deserialize, Serialize};

use super::repair::make_store;
use super::{Owner, at, check, repair};
use crate::StoreError;

const MAGIC: [u8; 4] = *b"VBK1";
const FORMAT: u32 = 1;

/// Stands where the length of a table's name would: no record follows.
const END: u32 = u32::MAX;

/// More than any header, name, key or record has. A damaged length must not take all memory.
const MAX_HEADER: u32 = 4 << 10;
const MAX_NAME: u32 = 256;
const MAX_KEY: u32 = 64 << 10;
const MAX_VALUE: u32 = 64 << 20;

/// zstd's window, as a power of two: what its default level needs, and a bound for the memory of a reader.
const MAX_WINDOW: u32 = 23;

/// What a backup is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    format: u32,
    service: String,
    owner: String,
    store_id: String,
    revision: u64,
}

impl Header {
    /// A backup of this store, up to a revision.
    pub(super) fn new(service: &str, owner: &str, store_id: Option<StoreId>, revision: Revision) -> Self {
        Self {
            format: FORMAT,
            service: service.to_owned(),
            owner: owner.to_owned(),
            store_id: store_id.map(|id| id.to_string()).unwrap_or_default(),
            revision: revision.0,
        }
    }
}

/// Takes a record: its table's name, its key, its value.
pub(super) type Take<'a> = &'a mut dyn FnMut(&str, &[u8], &[u8]) -> Result<(), StoreError>;

/// Writes a backup of the records that `walk` has taken.
///
/// # Errors
/// Of `walk`, and where `out` cannot be written.
pub(super) fn write(
    header: &Header,
    out: &mut dyn Write,
    walk: impl FnOnce(Take<'_>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let text = toml::to_string(header).map_err(|error| StoreError::Unavailable(error.to_string()))?;
    let out = zstd::stream::write::Encoder::new(out, zstd::DEFAULT_COMPRESSION_LEVEL).map_err(unwritten)?;
    let mut out = Summed::new(out);
    out.write_all(&MAGIC).map_err(unwritten)?;
    out.put(text.as_bytes()).map_err(unwritten)?;
    let mut count = 0_u64;
    walk(&mut |table, key, value| {
        count += 1;
        [table.as_bytes(), key, value]
            .into_iter()
            .try_for_each(|piece| out.put(piece))
            .map_err(unwritten)
    })?;
    let end = |out: &mut Summed<_>| {
        out.write_all(&END.to_le_bytes())?;
        out.write_all(&count.to_le_bytes())?;
        let sum = out.sum.clone().finalize();
        out.write_all(&sum.to_le_bytes())
    };
    end(&mut out).map_err(unwritten)?;
    let out = out.inner.finish().map_err(unwritten)?;
    out.flush().map_err(unwritten)
}

fn unwritten(error: io::Error) -> StoreError {
    StoreError::Unavailable(format!("the backup cannot be written: {error}"))
}

/// What passes is summed up.
struct Summed<T> {
    inner: T,
    sum: Hasher,
}

impl<T> Summed<T> {
    fn new(inner: T) -> Self {
        Self {
            inner,
            sum: Hasher::new(),
        }
    }
}

impl<T: Write> Summed<T> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.inner.write_all(bytes)
    }

    /// Bytes behind their length.
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        self.write_all(&len.to_le_bytes())?;
        self.write_all(bytes)
    }
}

impl<T: Read> Summed<T> {
    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes)?;
        self.sum.update(&bytes);
        Ok(bytes)
    }

    fn length(&mut self) -> io::Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn bytes(&mut self, len: u32, max: u32) -> io::Result<Vec<u8>> {
        if len > max {
            return Err(io::Error::other(format!(
                "a piece of it has {len} bytes; {max} are the most"
            )));
        }
        let mut bytes = vec![0; len as usize];
        self.inner.read_exact(&mut bytes)?;
        self.sum.update(&bytes);
        Ok(bytes)
    }

    fn piece(&mut self, max: u32) -> io::Result<Vec<u8>> {
        let len = self.length()?;
        self.bytes(len, max)
    }
}

/// A backup that was read from end to end, and is whole.
#[derive(Debug)]
pub struct Backup {
    path: PathBuf,
    header: Header,
    records: u64,
}

/// What a backup holds; displayed for people.
#[derive(Debug, Clone, Copy)]
pub struct BackupSummary<'a>(&'a Backup);

impl fmt::Display for BackupSummary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Backup {
            path,
            header,
            records,
        } = self.0;
        write!(
            f,
            "{}: a backup of {} {}, store {}, up to revision {}, {records} records",
            path.display(),
            header.service,
            header.owner,
            header.store_id,
            header.revision
        )
    }
}

impl Backup {
    /// Reads a backup of this service from end to end.
    ///
    /// # Errors
    /// [`StoreError`] if the file cannot be read, is damaged or cut off, or is of another service.
    pub fn open(path: &Path, owner: Owner) -> Result<Self, StoreError> {
        let mut records = Records::open(path)?;
        let header = records.header.clone();
        if header.service != owner.service {
            return Err(StoreError::Backup(format!(
                "{} is of {}, and not of {}",
                path.display(),
                header.service,
                owner.service
            )));
        }
        records.by_ref().try_for_each(|record| record.map(drop))?;
        Ok(Self {
            path: path.to_owned(),
            header,
            records: records.count,
        })
    }

    /// What it holds.
    pub const fn summary(&self) -> BackupSummary<'_> {
        BackupSummary(self)
    }

    /// Makes a store of it, in a data directory that does not exist yet or is empty.
    ///
    /// # Errors
    /// [`StoreError`] if the directory is not empty or cannot be written, or the backup cannot be read any more. What
    /// was written then is no store.
    pub fn restore(&self, into: &Path) -> Result<(), StoreError> {
        let records = Records::open(&self.path)?;
        let revision = Revision(self.header.revision);
        make_store(into, &self.header.service, &self.header.owner, revision, records)
    }
}

/// Writes a backup of the data directory of a service that is stopped, without changing the directory.
///
/// # Errors
/// [`StoreError`] if a service has the directory open, if it is damaged, or where `out` cannot be written.
pub fn back_up_stopped(dir: &Path, owner: Owner, out: &mut dyn Write) -> Result<(), StoreError> {
    let faults = check(dir, owner)?.faults;
    if let Some(first) = faults.first() {
        return Err(StoreError::Damaged(format!(
            "{first}; `repair` says what can be saved"
        )));
    }
    repair(dir, owner)?.back_up(owner, out)
}

/// The records of a backup. Reading past the last one compares the sum and the count.
struct Records {
    path: PathBuf,
    header: Header,
    /// None after the end, and after an error.
    from: Option<Summed<Input>>,
    count: u64,
}

type Input = zstd::stream::read::Decoder<'static, BufReader<File>>;
type Record = (String, Vec<u8>, Vec<u8>);

impl Records {
    fn open(path: &Path) -> Result<Self, StoreError> {
        let file = File::open(path).map_err(|error| at(path, &error))?;
        let begin = || {
            let mut input = zstd::stream::read::Decoder::new(file)?.single_frame();
            input.window_log_max(MAX_WINDOW)?;
            let mut from = Summed::new(input);
            if from.array()? != MAGIC {
                return Err(io::Error::other("it is not a backup"));
            }
            let header = String::from_utf8(from.piece(MAX_HEADER)?).map_err(io::Error::other)?;
            let header: Header = toml::from_str(&header).map_err(io::Error::other)?;
            if header.format != FORMAT {
                let words = format!(
                    "its format is {}; this build reads format {FORMAT}",
                    header.format
                );
                return Err(io::Error::other(words));
            }
            Ok((from, header))
        };
        let (from, header) = begin().map_err(|error| unreadable(path, &error))?;
        Ok(Self {
            path: path.to_owned(),
            header,
            from: Some(from),
            count: 0,
        })
    }

    fn read(&mut self) -> io::Result<Option<Record>> {
        let Some(from) = &mut self.from else {
            return Ok(None);
        };
        let len = from.length()?;
        if len != END {
            let name = String::from_utf8(from.bytes(len, MAX_NAME)?).map_err(io::Error::other)?;
            self.count += 1;
            return Ok(Some((name, from.piece(MAX_KEY)?, from.piece(MAX_VALUE)?)));
        }
        let count = from.array().map(u64::from_le_bytes)?;
        let sum = from.sum.clone().finalize();
        if from.length()? != sum || count != self.count {
            return Err(io::Error::other("its sum is wrong"));
        }
        // A frame that goes on, or bytes behind it, are no part of what was summed up.
        let mut rest = [0];
        let input = &mut from.inner;
        if input.read(&mut rest)? != 0 || input.get_mut().read(&mut rest)? != 0 {
            return Err(io::Error::other("something stands behind its end"));
        }
        self.from = None;
        Ok(None)
    }
}

impl Iterator for Records {
    type Item = Result<Record, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let found = self.read();
        if found.is_err() {
            self.from = None;
        }
        found.map_err(|error| unreadable(&self.path, &error)).transpose()
    }
}

fn unreadable(path: &Path, error: &io::Error) -> StoreError {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::UnexpectedEof => StoreError::Backup(format!("{path} is cut off")),
        _ => StoreError::Backup(format!("{path}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const OWNER: Owner = Owner::service("backup-svc");

    fn made(dir: &Path, records: &[(&str, &[u8], &[u8])]) -> PathBuf {
        let header = Header::new(OWNER.service, "owner", None, Revision(7));
        let mut bytes = Vec::new();
        write(&header, &mut bytes, |take| {
            records
                .iter()
                .try_for_each(|(table, key, value)| take(table, key, value))
        })
        .unwrap();
        let path = dir.join("backup");
        fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn every_byte_that_is_changed_cut_off_or_added_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = made(
            folder.path(),
            &[("a", b"1", b"one"), ("b", b"2", &[7; 300]), ("b", b"3", b"")],
        );
        assert_eq!(Backup::open(&path, OWNER).unwrap().records, 3);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            fs::write(&path, &whole[..at]).unwrap();
            assert!(Backup::open(&path, OWNER).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                fs::write(&path, &bytes).unwrap();
                // A bit of zstd's own header may mean nothing: then what is read is the same.
                if let Ok(read) = Backup::open(&path, OWNER) {
                    let records: Vec<_> = Records::open(&path).unwrap().map(Result::unwrap).collect();
                    assert_eq!((read.records, records.len()), (3, 3), "bit {bit} of byte {at}");
                    assert_eq!(records[1], ("b".to_owned(), b"2".to_vec(), vec![7; 300]));
                }
            }
        }
        fs::write(&path, [&whole[..], b"x"].concat()).unwrap();
        assert!(Backup::open(&path, OWNER).is_err(), "one byte more");
        fs::write(&path, [&whole[..], &whole[..]].concat()).unwrap();
        assert!(Backup::open(&path, OWNER).is_err(), "twice");
        fs::write(&path, b"").unwrap();
        assert!(Backup::open(&path, OWNER).is_err(), "nothing");
    }

    #[test]
    fn a_backup_of_another_service_is_refused_and_so_is_a_directory_with_something_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = made(folder.path(), &[("a", b"1", b"one")]);
        let other = Backup::open(&path, Owner::service("other-svc")).unwrap_err();
        assert!(other.to_string().contains("backup-svc"), "{other}");
        let backup = Backup::open(&path, OWNER).unwrap();
        assert!(backup.restore(folder.path()).is_err());
        let into = folder.path().join("new");
        backup.restore(&into).unwrap();
        assert!(check(&into, OWNER).unwrap().faults.is_empty());
        assert!(backup.restore(&into).is_err(), "a second time");
    }
}
