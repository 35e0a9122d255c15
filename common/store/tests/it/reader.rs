//! Another reader of a data directory. It shares no code with the crate and follows nothing but the text at its top, section by section: where the
//! two disagree, one of them is wrong.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, TableHandle as _};

/// What is in a data directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Content {
    /// By table and key.
    pub(crate) records: BTreeMap<(String, Vec<u8>), Vec<u8>>,
    /// By revision: start, time and history.
    pub(crate) history: BTreeMap<u64, (u64, i64, Vec<u8>)>,
}

/// The manifest, as far as a reader needs it.
pub(crate) struct Manifest {
    pub(crate) state: String,
    pub(crate) store_id: String,
    pub(crate) start: u64,
    pub(crate) seed: [u8; 8],
    pub(crate) revision: u64,
    pub(crate) wal_bytes: u64,
}

/// A segment's header.
pub(crate) struct Segment {
    pub(crate) store_id: [u8; 16],
    pub(crate) start: u64,
    pub(crate) generation: u64,
    pub(crate) base: u64,
    pub(crate) seed: [u8; 8],
}

/// A mark of the seal.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    pub(crate) generation: u64,
    pub(crate) offset: u64,
    pub(crate) revision: u64,
}

/// A revision of the log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Revision {
    pub(crate) time: i64,
    pub(crate) history: Vec<u8>,
    /// Table, key and value.
    pub(crate) writes: Vec<(String, Vec<u8>, Option<Vec<u8>>)>,
}

/// Where a segment's frames begin.
pub(crate) const FRAMES: usize = 4_096;

/// The CRC of some bytes one behind the other.
pub(crate) fn crc(parts: &[&[u8]]) -> u32 {
    crc32fast::hash(&parts.concat())
}

/// Reads all of a data directory whose service is not at work.
pub(crate) fn read(dir: &Path) -> Content {
    let manifest = manifest(dir);
    let mut content = Content::default();
    let (current, generation) = tables(dir, &mut content);
    match manifest.state.as_str() {
        "open" => log(dir, &manifest, current, generation, &mut content),
        "closed" => assert_eq!(current, manifest.revision),
        state => panic!("no test leaves a directory {state}"),
    }
    content
}

pub(crate) fn manifest(dir: &Path) -> Manifest {
    let text = fs::read_to_string(dir.join("manifest")).unwrap();
    let (body, sum) = text.rsplit_once("# sum ").unwrap();
    assert_eq!(sum, format!("{:08x}\n", crc(&[body.as_bytes()])));
    let keys: toml::Table = body.parse().unwrap();
    let word = |key: &str| keys[key].as_str().unwrap().to_owned();
    let hex = |key: &str| u64::from_str_radix(&word(key), 16).unwrap();
    let number = |key: &str| u64::try_from(keys[key].as_integer().unwrap()).unwrap();
    assert_eq!(number("format"), 3);
    Manifest {
        state: word("state"),
        store_id: word("store_id"),
        start: hex("start"),
        seed: hex("seed").to_le_bytes(),
        revision: number("revision"),
        wal_bytes: number("wal_bytes"),
    }
}

/// The header of a segment, if it is whole.
pub(crate) fn segment(bytes: &[u8]) -> Option<Segment> {
    let is_whole = bytes[..4] == *b"VWH1" && u32_at(bytes, 4) == crc(&[&bytes[8..56]]);
    is_whole.then(|| Segment {
        store_id: bytes[8..24].try_into().unwrap(),
        start: u64_at(bytes, 24),
        generation: u64_at(bytes, 32),
        base: u64_at(bytes, 40),
        seed: bytes[48..56].try_into().unwrap(),
    })
}

/// The furthest mark of the seal.
pub(crate) fn seal(dir: &Path, seed: [u8; 8]) -> Mark {
    let bytes = fs::read(dir.join("store.seal")).unwrap();
    let marks = [0, 512].into_iter().filter_map(|at| {
        let mark = &bytes[at..at + 32];
        let is_whole = mark[..4] == *b"VSL1" && u32_at(mark, 4) == crc(&[&seed, &mark[8..]]);
        is_whole.then(|| Mark {
            generation: u64_at(mark, 8),
            offset: u64_at(mark, 16),
            revision: u64_at(mark, 24),
        })
    });
    marks.max().unwrap()
}

/// The frame that bytes begin with, if it is whole: its first revision, its revisions, and its length.
pub(crate) fn frame(seed: [u8; 8], generation: u64, bytes: &[u8]) -> Option<(u64, Vec<Revision>, usize)> {
    if bytes.len() < 24 || bytes[..4] != *b"VWL1" {
        return None;
    }
    let end = 24 + u32_at(bytes, 20) as usize;
    let summed = bytes.get(8..end)?;
    if u32_at(bytes, 4) != crc(&[&seed, &generation.to_le_bytes(), summed]) {
        return None;
    }
    let mut body = Bytes(&bytes[24..end]);
    let revisions = (0..u32_at(bytes, 16)).map(|_| {
        let time = body.u64() as i64;
        let (history, writes) = (body.u32(), body.u32());
        let history = body.take(history);
        let writes = (0..writes).map(|_| {
            let (name, key, value) = (body.u32(), body.u32(), body.u32());
            let (name, key) = (String::from_utf8(body.take(name)).unwrap(), body.take(key));
            (name, key, (value != u32::MAX).then(|| body.take(value)))
        });
        Revision {
            time,
            writes: writes.collect(),
            history,
        }
    });
    let revisions = revisions.collect();
    assert!(body.0.is_empty());
    Some((u64_at(bytes, 8), revisions, end.next_multiple_of(8)))
}

/// What the log adds to the tables.
fn log(dir: &Path, manifest: &Manifest, current: u64, generation: u64, content: &mut Content) {
    let mark = seal(dir, manifest.seed);
    if generation == u64::MAX {
        assert!(mark.revision <= current);
        return;
    }
    let segments = ["store.wal-0", "store.wal-1"].map(|name| {
        let bytes = fs::read(dir.join(name)).unwrap();
        assert!(bytes.len() as u64 >= manifest.wal_bytes, "{name}");
        let header = segment(&bytes).unwrap();
        let store_id = uuid::Uuid::from_bytes(header.store_id).to_string();
        assert_eq!(
            (store_id, header.start),
            (manifest.store_id.clone(), manifest.start)
        );
        assert_eq!(header.seed, manifest.seed, "{name}");
        assert!(header.generation <= generation + 2, "{name}");
        (header, bytes)
    });
    let (mut last, mut end) = (current, (0, 0));
    for next in [generation + 1, generation + 2] {
        let Some((header, bytes)) = segments.iter().find(|(header, _)| header.generation == next) else {
            assert_ne!(next, generation + 1, "nothing goes on from the tables");
            break;
        };
        assert_eq!(header.base, last);
        let mut at = FRAMES;
        while let Some((first, revisions, length)) = frame(manifest.seed, next, &bytes[at..]) {
            assert_eq!(first, last + 1);
            for revision in revisions {
                last += 1;
                content
                    .history
                    .insert(last, (manifest.start, revision.time, revision.history));
                for (table, key, value) in revision.writes {
                    match value {
                        Some(value) => drop(content.records.insert((table, key), value)),
                        None => drop(content.records.remove(&(table, key))),
                    }
                }
            }
            at += length;
        }
        let mut behind = (at..bytes.len()).step_by(8);
        assert!(behind.all(|at| frame(manifest.seed, next, &bytes[at..]).is_none()));
        end = (next, at as u64);
    }
    assert!((mark.generation, mark.offset) <= end && mark.revision <= last);
}

type Rows = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// What is in the tables: their last revision, and the last generation of which all is in them.
fn tables(dir: &Path, content: &mut Content) -> (u64, u64) {
    const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("runtime/meta");
    const HISTORY: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("runtime/history_rows");
    const SAMPLES: Rows = TableDefinition::new("runtime/samples");
    let database = Database::open(dir.join("store.redb")).unwrap();
    let transaction = database.begin_read().unwrap();
    let mut dictionaries = BTreeMap::new();
    if let Ok(table) = transaction.open_table(SAMPLES) {
        for row in table.iter().unwrap() {
            let (family, row) = row.unwrap();
            let (family, row) = (family.value().to_vec(), row.value());
            let (row, sum) = row.split_at(row.len() - 4);
            let dictionary = zstd::bulk::decompress(&row[12..], u32_at(row, 8) as usize).unwrap();
            assert_eq!(u32_at(sum, 0), crc(&[&family, &dictionary]));
            dictionaries.insert(family, dictionary);
        }
    }
    let names: Vec<_> = transaction.list_tables().unwrap().collect();
    for name in names
        .iter()
        .map(|table| table.name())
        .filter(|name| !name.starts_with("runtime/"))
    {
        let table = transaction
            .open_table(TableDefinition::<&[u8], &[u8]>::new(name))
            .unwrap();
        for row in table.iter().unwrap() {
            let (key, row) = row.unwrap();
            let value = record(name, key.value(), row.value(), &dictionaries);
            content
                .records
                .insert((name.to_owned(), key.value().to_vec()), value);
        }
    }
    let meta = transaction.open_table(META).unwrap();
    let number = |name| {
        let value = meta.get(name).unwrap()?;
        Some(u64::from_be_bytes(value.value().try_into().unwrap()))
    };
    let (oldest, generation) = (number("oldest").unwrap_or(0), number("generation").unwrap());
    let mut current = oldest;
    for row in transaction.open_table(HISTORY).unwrap().iter().unwrap() {
        let (last, row) = row.unwrap();
        history(last.value(), row.value(), &dictionaries, content);
        current = last.value();
    }
    content.history.retain(|revision, _| *revision > oldest);
    (current, generation)
}

type Dictionaries = BTreeMap<Vec<u8>, Vec<u8>>;

fn record(table: &str, key: &[u8], row: &[u8], dictionaries: &Dictionaries) -> Vec<u8> {
    let (kept, sum) = row.split_at(row.len() - 4);
    let length = |part: &[u8]| (part.len() as u64).to_le_bytes();
    let mut summed = Vec::new();
    for part in [table.as_bytes(), key, kept] {
        summed.extend([&length(part), part].concat());
    }
    let (kind, rest) = (u32_at(kept, 0), &kept[4..]);
    let value = match kind {
        0 => rest.to_vec(),
        u32::MAX => {
            let family = &rest[4..20];
            let dictionary = &dictionaries[family];
            summed.extend(crc(&[family, dictionary]).to_le_bytes());
            with_dictionary(dictionary, &rest[20..], u32_at(rest, 0) as usize)
        }
        length => lz4_flex::block::decompress(rest, length as usize).unwrap(),
    };
    assert_eq!(u32_at(sum, 0), crc(&[&summed]));
    value
}

fn history(last: u64, row: &[u8], dictionaries: &Dictionaries, content: &mut Content) {
    let big = |at: usize| u32::from_be_bytes(row[at..at + 4].try_into().unwrap());
    let start = u64::from_be_bytes(row[..8].try_into().unwrap());
    let (count, length) = (big(8) & !(3 << 30), big(12) as usize);
    let end = row.len() - 4;
    let mut summed = [&last.to_be_bytes(), &row[..end]].concat();
    let revisions = match (big(8) >> 31 & 1, big(8) >> 30 & 1) {
        (1, 0) => zstd::bulk::decompress(&row[16..end], length).unwrap(),
        (1, 1) => {
            let family = &row[16..32];
            let dictionary = &dictionaries[family];
            summed.extend(crc(&[family, dictionary]).to_be_bytes());
            with_dictionary(dictionary, &row[32..end], length)
        }
        _ => lz4_flex::block::decompress(&row[16..end], length).unwrap(),
    };
    assert_eq!(big(end), crc(&[&summed]));
    let mut rest = revisions.as_slice();
    for revision in last + 1 - u64::from(count)..=last {
        let time = i64::from_be_bytes(rest[..8].try_into().unwrap());
        let length = u32::from_be_bytes(rest[8..12].try_into().unwrap()) as usize;
        content
            .history
            .insert(revision, (start, time, rest[12..12 + length].to_vec()));
        rest = &rest[12 + length..];
    }
    assert!(rest.is_empty());
}

fn with_dictionary(dictionary: &[u8], compressed: &[u8], length: usize) -> Vec<u8> {
    let mut zstd = zstd::bulk::Decompressor::with_dictionary(dictionary).unwrap();
    let value = zstd.decompress(compressed, length).unwrap();
    assert_eq!(value.len(), length);
    value
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Bytes, taken from the front.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take(&mut self, count: u32) -> Vec<u8> {
        let (taken, rest) = self.0.split_at(count as usize);
        self.0 = rest;
        taken.to_vec()
    }

    fn u32(&mut self) -> u32 {
        u32_at(&self.take(4), 0)
    }

    fn u64(&mut self) -> u64 {
        u64_at(&self.take(8), 0)
    }
}
