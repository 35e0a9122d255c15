//! The header of a qcow2 file, as far as listing and refusing need it. Read by us, never by a qemu program: a
//! header may name files that are nobody's business.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const MAGIC: &[u8; 4] = b"QFI\xfb";

/// A version 2 header; version 3 goes on to at least 104 bytes.
const HEADER_BYTES: usize = 104;

/// The longest backing file name that qemu writes or reads.
const NAME_LIMIT_BYTES: u32 = 1023;

/// Header extension: the backing file's format.
const EXT_BACKING_FORMAT: u32 = 0xe279_2aca;

/// The most extensions that are looked at.
const EXTENSIONS_MAX: usize = 64;

/// Incompatible feature: it was not closed properly; reading it is safe.
pub(super) const DIRTY: u64 = 1 << 0;

/// Incompatible feature: its metadata is known to be broken.
const CORRUPT: u64 = 1 << 1;

/// Incompatible feature: the data lies in another file.
pub(super) const DATA_FILE: u64 = 1 << 2;

/// Incompatible feature: compressed otherwise than with zlib.
const COMPRESSION: u64 = 1 << 3;

/// Incompatible feature: L2 entries with subclusters.
pub(super) const EXTENDED_L2: u64 = 1 << 4;

/// What a qcow2 header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qcow2Header {
    /// 2 (compat 0.10) or 3 (compat 1.1).
    pub version: u32,
    /// The size that a guest sees, in bytes.
    pub virtual_size_bytes: u64,
    /// Bytes of a cluster.
    pub cluster_bytes: u64,
    /// The backing file's name, as it stands there: not to be trusted.
    pub backing_file: Option<String>,
    /// The backing file's format, if it is recorded.
    pub backing_format: Option<String>,
    /// Whether the data is encrypted.
    pub encrypted: bool,
    /// Features that a reader must know. Bit 2: the data lies in another file.
    pub incompatible_features: u64,
    /// Snapshots within the file, which oVirt never makes.
    pub snapshots: u32,
    /// Where the first of the tables begins that say where the data lies.
    pub l1_offset: u64,
    /// Entries of that table.
    pub l1_entries: u32,
}

/// Why a file is not a qcow2 image that can be described.
#[derive(Debug, thiserror::Error)]
pub enum Qcow2Error {
    /// It does not begin with qcow2's magic.
    #[error("is not a qcow2 file")]
    NotQcow2,
    /// It does, and then goes wrong.
    #[error("has a broken qcow2 header: {0}")]
    Broken(&'static str),
    /// Reading failed.
    #[error("cannot be read")]
    Io(#[from] io::Error),
}

impl Qcow2Header {
    /// Reads the header of an open file.
    ///
    /// # Errors
    /// [`Qcow2Error`].
    pub fn read(file: &File) -> Result<Self, Qcow2Error> {
        let mut head = [0u8; HEADER_BYTES];
        let got = read_up_to(file, &mut head, 0)?;
        if got < 4 || head[..4] != *MAGIC {
            return Err(Qcow2Error::NotQcow2);
        }
        if got < 72 {
            return Err(Qcow2Error::Broken("truncated"));
        }
        let version = be32(&head, 4);
        if !(2..=3).contains(&version) {
            return Err(Qcow2Error::Broken("unknown version"));
        }
        if version == 3 && got < HEADER_BYTES {
            return Err(Qcow2Error::Broken("truncated"));
        }
        let cluster_bits = be32(&head, 20);
        if !(9..=21).contains(&cluster_bits) {
            return Err(Qcow2Error::Broken("impossible cluster size"));
        }
        let cluster_bytes = 1u64 << cluster_bits;
        let (header_bytes, incompatible_features) = match version {
            2 => (72, 0),
            _ => (u64::from(be32(&head, 100)), be64(&head, 72)),
        };
        Ok(Self {
            version,
            virtual_size_bytes: be64(&head, 24),
            cluster_bytes,
            backing_file: backing_name(file, be64(&head, 8), be32(&head, 16), cluster_bytes)?,
            backing_format: backing_format(file, header_bytes, cluster_bytes)?,
            encrypted: be32(&head, 32) != 0,
            incompatible_features,
            snapshots: be32(&head, 60),
            l1_offset: be64(&head, 40),
            l1_entries: be32(&head, 36),
        })
    }

    /// What is wrong with it as the header of a file that was just made; none if nothing is.
    pub(crate) fn trouble_when_new(&self) -> Option<&'static str> {
        if self.version != 3 {
            Some("has compat 0.10 instead of 1.1")
        } else if self.snapshots != 0 {
            Some("has internal snapshots")
        } else if self.incompatible_features & DIRTY != 0 {
            Some("was not closed properly")
        } else if self.backing_file.is_some() {
            Some("names a backing file")
        } else {
            self.trouble()
        }
    }

    /// Why a program must not be given it as a volume that stands alone; none if it may.
    pub(crate) fn trouble(&self) -> Option<&'static str> {
        let has = |feature| self.incompatible_features & feature != 0;
        let known = DIRTY | CORRUPT | DATA_FILE | COMPRESSION | EXTENDED_L2;
        if self.backing_file.is_some() {
            Some("names a backing file, but its metadata says that it has no parent")
        } else if has(DATA_FILE) {
            Some("has an external data file")
        } else if self.encrypted {
            Some("is encrypted")
        } else if has(CORRUPT) {
            Some("is marked as corrupt")
        } else if has(!known) {
            Some("has a feature that this build does not know")
        } else {
            None
        }
    }
}

fn backing_name(file: &File, offset: u64, bytes: u32, cluster: u64) -> Result<Option<String>, Qcow2Error> {
    if offset == 0 || bytes == 0 {
        return Ok(None);
    }
    if bytes > NAME_LIMIT_BYTES || offset > cluster {
        return Err(Qcow2Error::Broken("impossible backing file name"));
    }
    Ok(Some(text(file, offset, bytes)?))
}

fn backing_format(file: &File, mut at: u64, cluster: u64) -> Result<Option<String>, Qcow2Error> {
    for _ in 0..EXTENSIONS_MAX {
        let mut head = [0u8; 8];
        if at + 8 > cluster || read_up_to(file, &mut head, at)? < 8 {
            return Ok(None);
        }
        let (kind, bytes) = (be32(&head, 0), be32(&head, 4));
        match kind {
            0 => return Ok(None),
            EXT_BACKING_FORMAT if bytes <= 64 => return Ok(Some(text(file, at + 8, bytes)?)),
            EXT_BACKING_FORMAT => return Err(Qcow2Error::Broken("impossible backing format")),
            _ => at += 8 + u64::from(bytes).next_multiple_of(8),
        }
    }
    Err(Qcow2Error::Broken("too many header extensions"))
}

fn text(file: &File, at: u64, bytes: u32) -> Result<String, Qcow2Error> {
    let mut buffer = vec![0u8; bytes as usize];
    if read_up_to(file, &mut buffer, at)? < buffer.len() {
        return Err(Qcow2Error::Broken("truncated"));
    }
    Ok(String::from_utf8_lossy(&buffer).into_owned())
}

pub(super) fn read_up_to(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match file.read_at(&mut buffer[got..], at + got as u64) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(got)
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |n, b| n << 8 | u32::from(*b))
}

pub(super) fn be64(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].iter().fold(0, |n, b| n << 8 | u64::from(*b))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Qcow2Header, Qcow2Error> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Qcow2Header::read(&file)
    }

    /// A version 3 header with a backing file `base` of format `raw`.
    fn header() -> Vec<u8> {
        let mut bytes = vec![0u8; 256];
        bytes[..4].copy_from_slice(MAGIC);
        bytes[7] = 3;
        bytes[15] = 200;
        bytes[19] = 4;
        bytes[23] = 16;
        bytes[24..32].copy_from_slice(&(1u64 << 30).to_be_bytes());
        bytes[103] = 104;
        bytes[104..108].copy_from_slice(&EXT_BACKING_FORMAT.to_be_bytes());
        bytes[111] = 3;
        bytes[112..115].copy_from_slice(b"raw");
        bytes[200..204].copy_from_slice(b"base");
        bytes
    }

    #[test]
    fn size_and_backing_file_are_read() {
        let read = read(&header()).unwrap();
        assert_eq!(read.virtual_size_bytes, 1 << 30);
        assert_eq!(read.cluster_bytes, 65536);
        assert_eq!(read.backing_file.as_deref(), Some("base"));
        assert_eq!(read.backing_format.as_deref(), Some("raw"));
        assert!(!read.encrypted);
    }

    #[test]
    fn only_what_stands_alone_is_no_trouble() {
        let alone = Qcow2Header {
            backing_file: None,
            ..read(&header()).unwrap()
        };
        let with = |incompatible_features| Qcow2Header {
            incompatible_features,
            ..alone.clone()
        };
        for harmless in [0, DIRTY, COMPRESSION, EXTENDED_L2] {
            assert_eq!(with(harmless).trouble(), None);
        }
        for bit in [CORRUPT, DATA_FILE, 1 << 5, 1 << 63] {
            assert!(with(bit).trouble().is_some(), "{bit:#x}");
        }
        assert!(read(&header()).unwrap().trouble().is_some());
        let encrypted = Qcow2Header {
            encrypted: true,
            ..alone
        };
        assert!(encrypted.trouble().is_some());
    }

    #[test]
    fn raw_data_is_not_qcow2() {
        assert!(matches!(read(&[0; 4096]), Err(Qcow2Error::NotQcow2)));
        assert!(matches!(read(&[]), Err(Qcow2Error::NotQcow2)));
    }

    proptest! {
        #[test]
        fn a_broken_header_is_read_without_a_panic(at in 4usize..256, byte: u8, len in 0usize..256) {
            let mut bytes = header();
            bytes[at] = byte;
            let _ = read(&bytes);
            let _ = read(&bytes[..len]);
        }
    }
}
