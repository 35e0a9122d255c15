//! The tables of a qcow2 file that say where its data lies: two levels, each entry the place of a cluster.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;

use super::qcow2::{DATA_FILE, EXTENDED_L2, Qcow2Error, Qcow2Header, be64, read_up_to};

/// The largest first table that qemu reads.
const L1_LIMIT_BYTES: u64 = 32 << 20;

/// Bytes of an entry of either table; with subclusters one of the second has twice as many.
const ENTRY_BYTES: u64 = 8;

/// In an entry: where its cluster begins.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;

/// In an entry of the second table: the data is compressed.
const COMPRESSED: u64 = 1 << 62;

/// In an entry of the second table: it reads as zeros, whatever its cluster holds.
const ZERO: u64 = 1;

/// Where a guest's byte lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nowhere: it is zero.
    Zeros,
    /// Here in the file.
    At(u64),
    /// Compressed, or in a subcluster.
    OnlyQemu,
}

/// The tables of a file that refers to no other.
pub(crate) struct Tables {
    cluster_bytes: u64,
    virtual_size_bytes: u64,
    /// Where the second tables begin; zero for none.
    second: Vec<u64>,
    /// Whether its second tables are of the form that is read here.
    plain: bool,
}

/// Clusters of data that a second table tells of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) plain: u64,
    /// How much of the file they take, a program alone knows.
    pub(crate) compressed: u64,
}

impl Tables {
    /// Reads the first table.
    ///
    /// # Errors
    /// [`Qcow2Error`]: it is too small for the volume, or not whole.
    pub(crate) fn read(file: &File, header: &Qcow2Header) -> Result<Self, Qcow2Error> {
        let bytes = u64::from(header.l1_entries) * ENTRY_BYTES;
        if bytes > L1_LIMIT_BYTES {
            return Err(Qcow2Error::Broken("L1 table too large"));
        }
        let mut table = vec![0u8; usize::try_from(bytes).unwrap_or(0)];
        if read_up_to(file, &mut table, header.l1_offset)? < table.len() {
            return Err(Qcow2Error::Broken("truncated within its L1 table"));
        }
        let tables = Self {
            cluster_bytes: header.cluster_bytes,
            virtual_size_bytes: header.virtual_size_bytes,
            second: entries(&table).map(|e| e & OFFSET).collect(),
            plain: header.incompatible_features & (EXTENDED_L2 | DATA_FILE) == 0,
        };
        let needed = tables.virtual_size_bytes.div_ceil(tables.reach());
        if needed > u64::from(header.l1_entries) {
            return Err(Qcow2Error::Broken("L1 table too small"));
        }
        Ok(tables)
    }

    /// Bytes of a cluster.
    pub(crate) const fn cluster_bytes(&self) -> u64 {
        self.cluster_bytes
    }

    /// What a guest sees through one second table, in bytes.
    const fn reach(&self) -> u64 {
        (self.cluster_bytes / ENTRY_BYTES).saturating_mul(self.cluster_bytes)
    }

    /// The second tables that there are, by their places in the first.
    pub(crate) fn second(&self) -> impl Iterator<Item = (usize, u64)> {
        let all = self.second.iter().copied().enumerate();
        all.filter(|(_, offset)| *offset != 0)
    }

    /// Whether two places of the first table share a second one: then one cluster would be written for both.
    pub(crate) fn shared(&self) -> bool {
        let mut seen = BTreeSet::new();
        self.second().any(|(_, offset)| !seen.insert(offset))
    }

    /// Counts the data clusters of a second table that are not compressed; none as for [`Tables::count_all`].
    ///
    /// # Errors
    /// Of the file system.
    pub(crate) fn count(&self, file: &File, offset: u64, file_bytes: u64) -> io::Result<Option<u64>> {
        Ok(self
            .count_all(file, offset, file_bytes)?
            .map(|counted| counted.plain))
    }

    /// Counts the data clusters of a second table; none if it or one of them lies behind the file's end, or where no
    /// cluster begins.
    ///
    /// # Errors
    /// Of the file system.
    pub(crate) fn count_all(&self, file: &File, offset: u64, file_bytes: u64) -> io::Result<Option<Counted>> {
        let within = |offset: u64| offset < file_bytes && offset.is_multiple_of(self.cluster_bytes);
        if !within(offset) {
            return Ok(None);
        }
        let table = self.table(file, offset)?;
        let mut counted = Counted::default();
        for entry in entries(&table) {
            if entry & COMPRESSED != 0 {
                counted.compressed += 1;
            } else if entry & OFFSET != 0 {
                if !within(entry & OFFSET) {
                    return Ok(None);
                }
                counted.plain += 1;
            }
        }
        Ok(Some(counted))
    }

    /// Where a guest's byte lies.
    pub(crate) fn place(&self, file: &File, at: u64) -> io::Result<Place> {
        if !self.plain {
            return Ok(Place::OnlyQemu);
        }
        let first = usize::try_from(at / self.reach()).unwrap_or(usize::MAX);
        let Some(offset) = self.second.get(first).copied().filter(|o| *o != 0) else {
            return Ok(Place::Zeros);
        };
        let mut entry = [0u8; 8];
        let second = at % self.reach() / self.cluster_bytes;
        read_up_to(file, &mut entry, offset + second * ENTRY_BYTES)?;
        let entry = be64(&entry, 0);
        Ok(if entry & COMPRESSED != 0 {
            Place::OnlyQemu
        } else if entry & ZERO != 0 || entry & OFFSET == 0 {
            Place::Zeros
        } else {
            Place::At((entry & OFFSET) + at % self.cluster_bytes)
        })
    }

    /// Where guests see clusters of data: at most about so many of them, from the first to the last, evenly spread.
    ///
    /// # Errors
    /// Of the file system.
    pub(crate) fn mapped(&self, file: &File, at_most: u64) -> io::Result<Vec<u64>> {
        let second: Vec<_> = self.second().collect();
        if !self.plain {
            return Ok(Vec::new());
        }
        let each = at_most.div_ceil(second.len().max(1) as u64);
        let mut found = Vec::new();
        for (first, offset) in spread(&second, at_most) {
            let table = self.table(file, offset)?;
            let used: Vec<u64> = (0..)
                .zip(entries(&table))
                .filter(|(_, e)| e & COMPRESSED == 0 && e & ZERO == 0 && e & OFFSET != 0)
                .map(|(n, _)| first as u64 * self.reach() + n * self.cluster_bytes)
                .collect();
            found.extend(spread(&used, each.max(2)));
        }
        Ok(found)
    }

    fn table(&self, file: &File, offset: u64) -> io::Result<Vec<u8>> {
        // What is missing at the end reads as zeros, as for qemu.
        let mut table = vec![0u8; usize::try_from(self.cluster_bytes).unwrap_or(0)];
        read_up_to(file, &mut table, offset)?;
        Ok(table)
    }
}

fn entries(table: &[u8]) -> impl Iterator<Item = u64> {
    (0..table.len() / 8).map(|n| be64(table, n * 8))
}

/// At most so many (two at least) of a list, evenly spread, the first and the last among them.
fn spread<T: Copy>(all: &[T], at_most: u64) -> Vec<T> {
    let most = usize::try_from(at_most).unwrap_or(usize::MAX).max(2);
    if all.len() <= most {
        return all.to_vec();
    }
    (0..most).map(|n| all[n * (all.len() - 1) / (most - 1)]).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::super::{Guest, Piece};
    use super::*;

    const CLUSTER: usize = 512;

    /// A file of 64 KiB in clusters of 512 bytes: header, first table of two entries, second table, a cluster of data
    /// that a guest sees at 1024, and one that reads as zeros at 1536.
    fn image() -> Vec<u8> {
        let mut bytes = vec![0u8; 5 * CLUSTER];
        let mut put = |at: usize, value: u64| bytes[at..at + 8].copy_from_slice(&value.to_be_bytes());
        put(0, 0x5146_49fb_0000_0003);
        put(16, 9);
        put(24, 64 << 10);
        put(32, 2);
        put(40, CLUSTER as u64);
        put(96, 104);
        put(CLUSTER, 2 * CLUSTER as u64);
        put(2 * CLUSTER + 2 * 8, 3 * CLUSTER as u64);
        put(2 * CLUSTER + 3 * 8, (4 * CLUSTER as u64) | ZERO);
        bytes[3 * CLUSTER..].fill(7);
        bytes
    }

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn tables(file: &File) -> Result<Tables, Qcow2Error> {
        Tables::read(file, &Qcow2Header::read(file)?)
    }

    #[test]
    fn a_guests_bytes_are_found() {
        let file = file(&image());
        let guest = Guest::open(&file, common::VolumeFormat::Cow, 64 << 10).unwrap();
        assert_eq!(
            guest.pieces(8).unwrap().iter().map(|p| p.at).collect::<Vec<_>>(),
            [1024]
        );
        let read = guest
            .read(Piece {
                at: 1000,
                bytes: 1000,
            })
            .unwrap()
            .unwrap();
        let expected: Vec<u8> = (1000..2000)
            .map(|at| if (1024..1536).contains(&at) { 7 } else { 0 })
            .collect();
        assert_eq!(read, expected);
    }

    #[test]
    fn what_lies_behind_the_end_is_noticed() {
        let whole = image();
        let bytes = whole.len() as u64;
        let count = |bytes: &[u8], length| {
            let file = file(bytes);
            tables(&file)
                .unwrap()
                .count(&file, 2 * CLUSTER as u64, length)
                .unwrap()
        };
        assert_eq!(count(&whole, bytes), Some(2));
        assert_eq!(count(&whole[..4 * CLUSTER], 4 * CLUSTER as u64), None);
        assert!(tables(&file(&whole[..CLUSTER + 4])).is_err());
    }

    proptest! {
        #[test]
        fn broken_tables_are_read_without_a_panic(at in 4usize..3 * CLUSTER, byte: u8, len in 0usize..5 * CLUSTER) {
            let mut bytes = image();
            bytes[at] = byte;
            for bytes in [&bytes[..], &bytes[..len]] {
                let file = file(bytes);
                let Ok(tables) = tables(&file) else { continue };
                let _ = tables.shared();
                for (_, offset) in tables.second() {
                    let _ = tables.count(&file, offset, bytes.len() as u64);
                }
                let Ok(guest) = Guest::open(&file, common::VolumeFormat::Cow, 64 << 10) else { continue };
                for piece in guest.pieces(4).unwrap_or_default() {
                    let _ = guest.read(piece);
                }
            }
        }
    }

    #[test]
    fn a_spread_has_both_ends() {
        let all: Vec<u32> = (0..100).collect();
        assert_eq!(spread(&all, 4), [0, 33, 66, 99]);
        assert_eq!(spread(&all, 0), [0, 99]);
        assert_eq!(spread(&all[..3], 4), [0, 1, 2]);
        assert_eq!(spread::<u32>(&[], 4), Vec::<u32>::new());
    }
}
