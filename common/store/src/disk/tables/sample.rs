//! Samples: what records of one family are packed against. A family's head says what all the others repeat (the root of a tree of
//! commands has the parameters of each part), so that is kept once.
//!
//! A sample is made when the head is brought into the tables, of the head and of the first of its kin in each table. It never changes. It
//! counts the records that are packed against it, and the rows of the history (which show the same), and goes with the last one.
//!
//! | table | key | value |
//! |---|---|---|
//! | `runtime/samples` | the family | how many records and rows (8 bytes, little-endian), how long it is (4), the sample in zstd, and the CRC-32 of the key and of the sample |

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use redb::{
    ReadOnlyTable, ReadableTable as _, ReadableTableMetadata as _, TableDefinition, WriteTransaction,
};

use super::record::{Like, shown};
use super::{Layer, failed};
use crate::disk::pack::{self, Packer, Unpacker};
use crate::{Commit, Kin, Kinship, StoreError, Write};

/// Which family.
pub(super) type Id = [u8; 16];

pub(super) const SAMPLES: TableDefinition<'static, &'static [u8], &'static [u8]> =
    TableDefinition::new("runtime/samples");

/// Heads from which on a sample saves more than it costs.
const LONG_HEAD: usize = 2 << 10;

/// Bytes of a head in a sample: packing against it takes a look at all of it.
const MOST_OF_HEAD: usize = 128 << 10;

/// Bytes of each of its kin, and how many of a table: the first shows how such a record looks, the second what changes from one to
/// the next.
const MOST_OF_KIN: usize = 4 << 10;
const KIN_OF_TABLE: usize = 2;

/// Bytes of all of it: what is longer was not written here.
const MOST_OF_SAMPLE: usize = MOST_OF_HEAD + (32 << 10);

/// Samples for a transaction that writes.
pub(super) struct Sampler<'a> {
    table: redb::Table<'a, &'static [u8], &'static [u8]>,
    kinship: Kinship,
    /// Of the heads in the layer that have none yet.
    coming: BTreeMap<Id, Coming>,
    /// The one that was asked for last: records of a family come one after the other.
    last: Option<(Id, Option<(u32, Packer)>)>,
    /// How many records and rows more, or fewer, are packed against each.
    counts: BTreeMap<Id, i64>,
}

/// A sample in the making.
#[derive(Default)]
struct Coming {
    bytes: Vec<u8>,
    kin: BTreeMap<&'static str, usize>,
}

impl<'a> Sampler<'a> {
    pub(super) fn open(
        transaction: &'a WriteTransaction,
        layer: &Layer,
        kinship: Kinship,
    ) -> Result<Self, StoreError> {
        let table = transaction.open_table(SAMPLES).map_err(failed)?;
        let mut coming = heads(layer, kinship);
        if !coming.is_empty() {
            add_kin(&mut coming, layer, kinship);
        }
        Ok(Self {
            table,
            kinship,
            coming,
            last: None,
            counts: BTreeMap::new(),
        })
    }

    /// What this record is to be packed against.
    pub(super) fn like(&mut self, table: &str, value: &[u8]) -> Result<Option<Like<'_>>, StoreError> {
        match (self.kinship)(table, value) {
            Some(kin) => self.of(&kin.family),
            None => Ok(None),
        }
    }

    /// A family's sample, if it has one.
    pub(super) fn of(&mut self, id: &Id) -> Result<Option<Like<'_>>, StoreError> {
        if self.last.as_ref().is_none_or(|(last, _)| last != id) {
            self.last = Some((*id, self.find(id)?));
        }
        let found = self.last.as_mut().and_then(|(_, found)| found.as_mut());
        Ok(found.map(|(sum, packer)| Like {
            id: *id,
            sum: *sum,
            packer,
        }))
    }

    /// The family that a revision is of, if that has a sample: by the first of its records that is anybody's kin.
    pub(super) fn family(&mut self, commit: &Commit) -> Result<Option<Id>, StoreError> {
        if self.table.is_empty().map_err(failed)? {
            return Ok(None);
        }
        let kin = |write: &Write| (self.kinship)(write.table.0, write.value.as_deref()?);
        match commit.writes.iter().find_map(kin) {
            Some(kin) => Ok(self.of(&kin.family)?.map(|like| like.id)),
            None => Ok(None),
        }
    }

    /// A record, or a row of the history, was put in the place of another one; either may be none.
    pub(super) fn count(&mut self, before: Option<Id>, now: Option<Id>) {
        for (id, change) in [(before, -1), (now, 1)] {
            if let Some(id) = id {
                *self.counts.entry(id).or_default() += change;
            }
        }
    }

    /// Records how many there are. A sample that nothing is packed against any more goes.
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

    fn find(&mut self, id: &Id) -> Result<Option<(u32, Packer)>, StoreError> {
        let sample = match (self.row(id)?, self.coming.remove(id)) {
            // One that is damaged has nothing packed against it any more: its records are put as they are.
            (Some(row), _) => match read(id, &row) {
                Some((_, sample)) => sample,
                None => return Ok(None),
            },
            (None, Some(coming)) => {
                let row = row_of(id, &coming.bytes)?;
                self.table.insert(id.as_slice(), row.as_slice()).map_err(failed)?;
                // It goes again at the end, unless something is packed against it.
                self.counts.entry(*id).or_default();
                coming.bytes
            }
            (None, None) => return Ok(None),
        };
        Ok(Some((sum(id, &sample), Packer::against(&sample)?)))
    }

    fn row(&self, id: &Id) -> Result<Option<Vec<u8>>, StoreError> {
        let row = self.table.get(id.as_slice()).map_err(failed)?;
        Ok(row.map(|row| row.value().to_vec()))
    }
}

impl Coming {
    fn add(&mut self, table: &'static str, value: &[u8]) {
        let count = self.kin.entry(table).or_default();
        let value = &value[..value.len().min(MOST_OF_KIN)];
        if *count < KIN_OF_TABLE && self.bytes.len() + value.len() <= MOST_OF_SAMPLE {
            *count += 1;
            self.bytes.extend_from_slice(value);
        }
    }
}

/// The heads in a layer that are long enough.
fn heads(layer: &Layer, kinship: Kinship) -> BTreeMap<Id, Coming> {
    let mut found = BTreeMap::new();
    for (table, records) in layer.tables() {
        let long = records.filter_map(|(_, value)| value.filter(|value| value.len() >= LONG_HEAD));
        for value in long {
            if let Some(Kin {
                family,
                is_head: true,
            }) = kinship(table.0, value)
            {
                let coming = Coming {
                    bytes: value[..value.len().min(MOST_OF_HEAD)].to_vec(),
                    kin: BTreeMap::new(),
                };
                found.insert(family, coming);
            }
        }
    }
    found
}

/// Adds the first of their kin.
fn add_kin(coming: &mut BTreeMap<Id, Coming>, layer: &Layer, kinship: Kinship) {
    for (table, records) in layer.tables() {
        for value in records.filter_map(|(_, value)| value) {
            let kin = kinship(table.0, value).filter(|kin| !kin.is_head);
            if let Some(coming) = kin.and_then(|kin| coming.get_mut(&kin.family)) {
                coming.add(table.0, value);
            }
        }
    }
}

/// Samples for those who read.
pub(super) struct Samples {
    /// None where nobody has written one yet.
    table: Option<ReadOnlyTable<&'static [u8], &'static [u8]>>,
    /// The one that was read last: records of a family are read one after the other.
    last: Mutex<Option<(Id, Loaded)>>,
}

/// What unpacks.
pub(super) struct Loaded {
    pub(super) sum: u32,
    pub(super) unpacker: Unpacker,
}

impl Samples {
    pub(super) fn of(table: Option<ReadOnlyTable<&'static [u8], &'static [u8]>>) -> Self {
        Self {
            table,
            last: Mutex::new(None),
        }
    }

    /// Does this with a sample.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] where it is not there, or not what was written.
    pub(super) fn with<T>(&self, id: &Id, work: impl FnOnce(&mut Loaded) -> T) -> Result<T, StoreError> {
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

    /// How many records are packed against each; faults in words.
    pub(super) fn counts(&self, faults: &mut Vec<String>) -> Result<BTreeMap<Id, i64>, StoreError> {
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
                .map(|id: Id| (id, read(&id, row.value())))
            {
                Some((id, Some((count, _)))) => drop(counts.insert(id, count)),
                _ => faults.push(format!(
                    "the sample {} is not what was written",
                    shown(id.value())
                )),
            }
        }
        Ok(counts)
    }

    fn load(&self, id: &Id) -> Result<Loaded, StoreError> {
        let row = match &self.table {
            Some(table) => table.get(id.as_slice()).map_err(failed)?,
            None => None,
        };
        let row = row.ok_or_else(|| damaged(id))?;
        let (_, sample) = read(id, row.value()).ok_or_else(|| damaged(id))?;
        Ok(Loaded {
            sum: sum(id, &sample),
            unpacker: Unpacker::against(&sample).ok_or_else(|| damaged(id))?,
        })
    }
}

impl fmt::Debug for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Samples")
    }
}

/// The row of a new sample.
fn row_of(id: &Id, sample: &[u8]) -> Result<Vec<u8>, StoreError> {
    let packed = Packer::new()?.pack(sample)?;
    // No longer than `MOST_OF_SAMPLE`.
    let length = sample.len() as u32;
    let mut row = 0_i64.to_le_bytes().to_vec();
    row.extend_from_slice(&length.to_le_bytes());
    row.extend_from_slice(&packed);
    row.extend_from_slice(&sum(id, sample).to_le_bytes());
    Ok(row)
}

/// How many records are packed against it, and the sample; none where it is not what was written.
fn read(id: &Id, row: &[u8]) -> Option<(i64, Vec<u8>)> {
    let (count, rest) = row.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (packed, found) = rest.split_last_chunk()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    if length > MOST_OF_SAMPLE {
        return None;
    }
    let sample = pack::unpack(packed, length)?;
    let is_whole = sum(id, &sample) == u32::from_le_bytes(*found);
    is_whole.then_some((i64::from_le_bytes(*count), sample))
}

fn sum(id: &Id, sample: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(id);
    hasher.update(sample);
    hasher.finalize()
}

fn damaged(id: &Id) -> StoreError {
    StoreError::Damaged(format!("the sample {} is not what was written", shown(id)))
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
    use crate::disk::pace::Pace;

    const NOTES: Table = Table("notes");
    const FAMILY: Id = [7; 16];

    fn kinship(_: &str, value: &[u8]) -> Option<Kin> {
        let family = value.get(1..17)?.try_into().ok()?;
        (family == FAMILY).then_some(Kin {
            family,
            is_head: value[0] == 1,
        })
    }

    fn note(is_head: bool, family: u8, length: usize) -> Vec<u8> {
        let mut value = vec![family; 17];
        value[0] = u8::from(is_head);
        value.extend((0..length).map(|at| (at * at / 7) as u8));
        value
    }

    fn layer(revision: u64, notes: &[(u8, Vec<u8>)]) -> Layer {
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
        let mut layer = Layer::default();
        layer.push([commit].into());
        layer
    }

    #[test]
    fn a_damaged_sample_harms_its_family_alone_and_that_until_it_is_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let tables = Tables::open(dir.path(), 1 << 20, kinship, &Arc::new(Pace::new())).unwrap();
        tables
            .begin(StoreId::from_uuid(Uuid::from_u128(1)), Start(1))
            .unwrap();
        let family = [(1, note(true, 7, 5_000)), (2, note(false, 7, 1_000))];
        let apply = |revision, notes: &[(u8, Vec<u8>)]| {
            let layer = layer(revision, notes);
            tables.apply(&layer, Start(1), 1, Revision(0)).unwrap();
        };
        apply(1, &family);
        apply(2, &[(3, note(false, 8, 1_000))]);
        let get = |key: u8| tables.snapshot().unwrap().get(NOTES, &[key]);
        for (key, value) in &family {
            assert_eq!(get(*key).unwrap().as_ref(), Some(value));
        }
        // As a bad sector does while the service runs: redb's own sums are looked at when it starts.
        let transaction = tables.write().unwrap();
        {
            let mut samples = transaction.open_table(SAMPLES).unwrap();
            let mut row = samples.get(FAMILY.as_slice()).unwrap().unwrap().value().to_vec();
            let middle = row.len() / 2;
            row[middle] ^= 1;
            samples.insert(FAMILY.as_slice(), row.as_slice()).unwrap();
        }
        transaction.commit().unwrap();
        for key in [1, 2] {
            let error = get(key).unwrap_err();
            assert!(matches!(error, StoreError::Damaged(_)), "{error}");
            assert!(error.to_string().contains("sample 0707"), "{error}");
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
