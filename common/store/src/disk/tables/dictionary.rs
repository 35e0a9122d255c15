//! Dictionaries, in the table `runtime/samples`: what records of one family are compressed against. A family's head
//! says what all the others repeat (the root of a tree of commands has the parameters of each part), so that is kept
//! once.
//!
//! A dictionary is made when the head is brought into the tables, of the head and of the first other members in each
//! table. It never changes. It counts the records that are compressed against it, and the rows of the history (which
//! show the same), and goes with the last one.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use redb::{
    ReadOnlyTable, ReadableTable as _, ReadableTableMetadata as _, TableDefinition, WriteTransaction,
};

use super::record::{DictionaryRef, shown};
use super::{Memtable, failed};
use crate::disk::compression::{self, Compressor, Decompressor};
use crate::{Commit, Family, FamilyOf, StoreError, Write};

/// Which family.
pub(super) type DictionaryId = [u8; 16];

pub(super) const DICTIONARIES: TableDefinition<'static, &'static [u8], &'static [u8]> =
    TableDefinition::new("runtime/samples");

/// Heads from which on a dictionary saves more than it costs.
const LONG_HEAD: usize = 2 << 10;

/// Bytes of a head in a dictionary: compressing against it takes a look at all of it.
const MOST_OF_HEAD: usize = 128 << 10;

/// Bytes of each other member, and how many of a table: the first shows how such a record looks, the second what
/// changes from one to the next.
const MOST_OF_MEMBER: usize = 4 << 10;
const MEMBERS_OF_TABLE: usize = 2;

/// Bytes of all of it: what is longer was not written here.
const MOST_OF_DICTIONARY: usize = MOST_OF_HEAD + (32 << 10);

/// Dictionaries for a transaction that writes.
pub(super) struct DictionaryWriter<'a> {
    table: redb::Table<'a, &'static [u8], &'static [u8]>,
    family_of: FamilyOf,
    /// Of the heads in the memtable that have none yet.
    candidates: BTreeMap<DictionaryId, Candidate>,
    /// The one that was asked for last: records of a family come one after the other.
    last: Option<(DictionaryId, Option<(u32, Compressor)>)>,
    /// How many records and rows more, or fewer, are compressed against each.
    counts: BTreeMap<DictionaryId, i64>,
}

/// A dictionary in the making.
#[derive(Default)]
struct Candidate {
    bytes: Vec<u8>,
    members: BTreeMap<&'static str, usize>,
}

impl<'a> DictionaryWriter<'a> {
    pub(super) fn open(
        transaction: &'a WriteTransaction,
        memtable: &Memtable,
        family_of: FamilyOf,
    ) -> Result<Self, StoreError> {
        let table = transaction.open_table(DICTIONARIES).map_err(failed)?;
        let mut candidates = heads(memtable, family_of);
        if !candidates.is_empty() {
            add_members(&mut candidates, memtable, family_of);
        }
        Ok(Self {
            table,
            family_of,
            candidates,
            last: None,
            counts: BTreeMap::new(),
        })
    }

    /// What this record is to be compressed against.
    pub(super) fn for_record(
        &mut self,
        table: &str,
        value: &[u8],
    ) -> Result<Option<DictionaryRef<'_>>, StoreError> {
        match (self.family_of)(table, value) {
            Some(family) => self.of(&family.id),
            None => Ok(None),
        }
    }

    /// A family's dictionary, if it has one.
    pub(super) fn of(&mut self, id: &DictionaryId) -> Result<Option<DictionaryRef<'_>>, StoreError> {
        if self.last.as_ref().is_none_or(|(last, _)| last != id) {
            self.last = Some((*id, self.find(id)?));
        }
        let found = self.last.as_mut().and_then(|(_, found)| found.as_mut());
        Ok(found.map(|(checksum, compressor)| DictionaryRef {
            id: *id,
            checksum: *checksum,
            compressor,
        }))
    }

    /// The family that a revision is of, if that has a dictionary: by the first of its records that is of any.
    pub(super) fn family(&mut self, commit: &Commit) -> Result<Option<DictionaryId>, StoreError> {
        if self.table.is_empty().map_err(failed)? {
            return Ok(None);
        }
        let family_of = |write: &Write| (self.family_of)(write.table.0, write.value.as_deref()?);
        match commit.writes.iter().find_map(family_of) {
            Some(family) => Ok(self.of(&family.id)?.map(|dictionary| dictionary.id)),
            None => Ok(None),
        }
    }

    /// A record, or a row of the history, was put in the place of another one; either may be none.
    pub(super) fn count(&mut self, before: Option<DictionaryId>, now: Option<DictionaryId>) {
        for (id, change) in [(before, -1), (now, 1)] {
            if let Some(id) = id {
                *self.counts.entry(id).or_default() += change;
            }
        }
    }

    /// Records how many there are. A dictionary that nothing is compressed against any more goes.
    pub(super) fn finish(mut self) -> Result<(), StoreError> {
        for (id, change) in std::mem::take(&mut self.counts) {
            let Some(row) = self.row(&id)? else { continue };
            let (before, rest) = row.split_first_chunk().ok_or_else(|| damaged(&id))?;
            let count = i64::from_le_bytes(*before).saturating_add(change);
            if count <= 0 {
                self.table.remove(id.as_slice()).map_err(failed)?;
            } else if change != 0 {
                let row = [count.to_le_bytes().as_slice(), rest].concat();
                self.table.insert(id.as_slice(), row.as_slice()).map_err(failed)?;
            }
        }
        Ok(())
    }

    fn find(&mut self, id: &DictionaryId) -> Result<Option<(u32, Compressor)>, StoreError> {
        let dictionary = match (self.row(id)?, self.candidates.remove(id)) {
            // One that is damaged has nothing compressed against it any more: its records are put as they are.
            (Some(row), _) => match read(id, &row) {
                Some((_, dictionary)) => dictionary,
                None => return Ok(None),
            },
            (None, Some(candidate)) => {
                let row = row_of(id, &candidate.bytes)?;
                self.table.insert(id.as_slice(), row.as_slice()).map_err(failed)?;
                // It goes again at the end, unless something is compressed against it.
                self.counts.entry(*id).or_default();
                candidate.bytes
            }
            (None, None) => return Ok(None),
        };
        Ok(Some((
            checksum(id, &dictionary),
            Compressor::against(&dictionary)?,
        )))
    }

    fn row(&self, id: &DictionaryId) -> Result<Option<Vec<u8>>, StoreError> {
        let row = self.table.get(id.as_slice()).map_err(failed)?;
        Ok(row.map(|row| row.value().to_vec()))
    }
}

impl Candidate {
    fn add(&mut self, table: &'static str, value: &[u8]) {
        let count = self.members.entry(table).or_default();
        let value = &value[..value.len().min(MOST_OF_MEMBER)];
        if *count < MEMBERS_OF_TABLE && self.bytes.len() + value.len() <= MOST_OF_DICTIONARY {
            *count += 1;
            self.bytes.extend_from_slice(value);
        }
    }
}

/// The heads in a memtable that are long enough.
fn heads(memtable: &Memtable, family_of: FamilyOf) -> BTreeMap<DictionaryId, Candidate> {
    let mut found = BTreeMap::new();
    for (table, records) in memtable.tables() {
        let long = records.filter_map(|(_, value)| value.filter(|value| value.len() >= LONG_HEAD));
        for value in long {
            if let Some(Family { id, is_head: true }) = family_of(table.0, value) {
                let candidate = Candidate {
                    bytes: value[..value.len().min(MOST_OF_HEAD)].to_vec(),
                    members: BTreeMap::new(),
                };
                found.insert(id, candidate);
            }
        }
    }
    found
}

/// Adds the first members beside the heads.
fn add_members(candidates: &mut BTreeMap<DictionaryId, Candidate>, memtable: &Memtable, family_of: FamilyOf) {
    for (table, records) in memtable.tables() {
        for value in records.filter_map(|(_, value)| value) {
            let family = family_of(table.0, value).filter(|family| !family.is_head);
            if let Some(candidate) = family.and_then(|family| candidates.get_mut(&family.id)) {
                candidate.add(table.0, value);
            }
        }
    }
}

/// Dictionaries for those who read.
pub(super) struct Dictionaries {
    /// None where nobody has written one yet.
    table: Option<ReadOnlyTable<&'static [u8], &'static [u8]>>,
    /// The one that was read last: records of a family are read one after the other.
    last: Mutex<Option<(DictionaryId, LoadedDictionary)>>,
}

/// What decompresses.
pub(super) struct LoadedDictionary {
    pub(super) checksum: u32,
    pub(super) decompressor: Decompressor,
}

impl Dictionaries {
    pub(super) fn of(table: Option<ReadOnlyTable<&'static [u8], &'static [u8]>>) -> Self {
        Self {
            table,
            last: Mutex::new(None),
        }
    }

    /// Does this with a dictionary.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] where it is not there, or not what was written.
    pub(super) fn with<T>(
        &self,
        id: &DictionaryId,
        work: impl FnOnce(&mut LoadedDictionary) -> T,
    ) -> Result<T, StoreError> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_none_or(|(there, _)| there != id) {
            *last = Some((*id, self.load(id)?));
        }
        match last.as_mut() {
            Some((_, loaded)) => Ok(work(loaded)),
            None => Err(damaged(id)),
        }
    }

    /// Bytes of all of them, as they lie in their table.
    pub(super) fn bytes(&self) -> Result<u64, StoreError> {
        let Some(table) = &self.table else { return Ok(0) };
        let mut bytes = 0;
        for row in table.range::<&[u8]>(..).map_err(failed)? {
            let (id, row) = row.map_err(failed)?;
            bytes += (id.value().len() + row.value().len()) as u64;
        }
        Ok(bytes)
    }

    /// How many records are compressed against each; faults in words.
    pub(super) fn counts(&self, faults: &mut Vec<String>) -> Result<BTreeMap<DictionaryId, i64>, StoreError> {
        let mut counts = BTreeMap::new();
        let Some(table) = &self.table else {
            return Ok(counts);
        };
        for row in table.range::<&[u8]>(..).map_err(failed)? {
            let (id, row) = row.map_err(failed)?;
            match id
                .value()
                .try_into()
                .ok()
                .map(|id: DictionaryId| (id, read(&id, row.value())))
            {
                Some((id, Some((count, _)))) => drop(counts.insert(id, count)),
                _ => faults.push(format!(
                    "the dictionary {} is not what was written",
                    shown(id.value())
                )),
            }
        }
        Ok(counts)
    }

    fn load(&self, id: &DictionaryId) -> Result<LoadedDictionary, StoreError> {
        let row = match &self.table {
            Some(table) => table.get(id.as_slice()).map_err(failed)?,
            None => None,
        };
        let row = row.ok_or_else(|| damaged(id))?;
        let (_, dictionary) = read(id, row.value()).ok_or_else(|| damaged(id))?;
        Ok(LoadedDictionary {
            checksum: checksum(id, &dictionary),
            decompressor: Decompressor::against(&dictionary).ok_or_else(|| damaged(id))?,
        })
    }
}

impl fmt::Debug for Dictionaries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dictionaries")
    }
}

/// The row of a new dictionary.
fn row_of(id: &DictionaryId, dictionary: &[u8]) -> Result<Vec<u8>, StoreError> {
    let compressed = Compressor::new()?.compress(dictionary)?;
    // No longer than `MOST_OF_DICTIONARY`.
    let length = dictionary.len() as u32;
    let mut row = 0_i64.to_le_bytes().to_vec();
    row.extend_from_slice(&length.to_le_bytes());
    row.extend_from_slice(&compressed);
    row.extend_from_slice(&checksum(id, dictionary).to_le_bytes());
    Ok(row)
}

/// How many records are compressed against it, and the dictionary; none if it is damaged.
fn read(id: &DictionaryId, row: &[u8]) -> Option<(i64, Vec<u8>)> {
    let (count, rest) = row.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (compressed, found) = rest.split_last_chunk()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    if length > MOST_OF_DICTIONARY {
        return None;
    }
    let dictionary = compression::decompress(compressed, length)?;
    let is_whole = checksum(id, &dictionary) == u32::from_le_bytes(*found);
    is_whole.then_some((i64::from_le_bytes(*count), dictionary))
}

fn checksum(id: &DictionaryId, dictionary: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(id);
    hasher.update(dictionary);
    hasher.finalize()
}

fn damaged(id: &DictionaryId) -> StoreError {
    StoreError::Damaged(format!("the dictionary {} is not what was written", shown(id)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use common::id::StoreId;
    use common::revision::{Revision, Start};
    use common::time::Timestamp;
    use uuid::Uuid;

    use super::super::{Tables, walk};
    use super::*;
    use crate::Table;
    use crate::disk::throttle::Throttle;

    const NOTES: Table = Table("notes");
    const FAMILY: DictionaryId = [7; 16];

    fn family_of(_: &str, value: &[u8]) -> Option<Family> {
        let id = value.get(1..17)?.try_into().ok()?;
        (id == FAMILY).then_some(Family {
            id,
            is_head: value[0] == 1,
        })
    }

    fn note(is_head: bool, family: u8, length: usize) -> Vec<u8> {
        let mut value = vec![family; 17];
        value[0] = u8::from(is_head);
        value.extend((0..length).map(|at| (at * at / 7) as u8));
        value
    }

    fn memtable(revision: u64, notes: &[(u8, Vec<u8>)]) -> Memtable {
        let writes = notes.iter().map(|(key, value)| Write {
            table: NOTES,
            key: vec![*key],
            value: Some(value.clone()),
        });
        let commit = Commit {
            revision: Revision(revision),
            time: Timestamp(7),
            history: notes.iter().flat_map(|(_, value)| value.clone()).collect(),
            writes: writes.collect(),
        };
        let mut memtable = Memtable::default();
        memtable.insert([commit].into());
        memtable
    }

    #[test]
    fn a_damaged_dictionary_harms_its_family_alone_and_that_until_it_is_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let tables = Tables::open(dir.path(), 1 << 20, family_of, &Arc::new(Throttle::new())).unwrap();
        tables
            .begin(StoreId::from_uuid(Uuid::from_u128(1)), Start(1))
            .unwrap();
        let family = [(1, note(true, 7, 5_000)), (2, note(false, 7, 1_000))];
        let apply = |revision, notes: &[(u8, Vec<u8>)]| {
            let memtable = memtable(revision, notes);
            tables.apply(&memtable, Start(1), 1, Revision(0)).unwrap();
        };
        apply(1, &family);
        apply(2, &[(3, note(false, 8, 1_000))]);
        let get = |key: u8| tables.snapshot().unwrap().get(NOTES, &[key]);
        for (key, value) in &family {
            assert_eq!(get(*key).unwrap().as_ref(), Some(value));
        }
        // As a bad sector does while the service runs: redb's own checksums are looked at when it starts.
        let transaction = tables.write().unwrap();
        {
            let mut dictionaries = transaction.open_table(DICTIONARIES).unwrap();
            let mut row = dictionaries
                .get(FAMILY.as_slice())
                .unwrap()
                .unwrap()
                .value()
                .to_vec();
            let middle = row.len() / 2;
            row[middle] ^= 1;
            dictionaries.insert(FAMILY.as_slice(), row.as_slice()).unwrap();
        }
        transaction.commit().unwrap();
        for key in [1, 2] {
            let error = get(key).unwrap_err();
            assert!(matches!(error, StoreError::Damaged(_)), "{error}");
            assert!(error.to_string().contains("dictionary 0707"), "{error}");
        }
        assert_eq!(get(3).unwrap(), Some(note(false, 8, 1_000)));
        let snapshot = tables.snapshot().unwrap();
        assert!(snapshot.history(Revision(0), 10).is_err());
        assert_eq!(snapshot.history(Revision(1), 10).unwrap().len(), 1);
        let walked = walk(tables.database().unwrap(), |_, _, _| Ok(())).unwrap();
        assert_eq!(walked.records, 1);
        assert!(walked.faults.len() >= 4, "{:?}", walked.faults);
        apply(3, &family);
        for (key, value) in &family {
            assert_eq!(get(*key).unwrap().as_ref(), Some(value));
        }
    }
}
