//! The manifest of a data directory: whose it is, and which parts belong to it. The crate's documentation has the
//! keys and the states.
//!
//! Each state is durable before anything is done that only the next one allows, so a crash leaves one of them, and a
//! part of another store, start or time is recognized by its own data (docs/adr/0014).

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use common::id::StoreId;
use common::revision::{Revision, Start};
use serde::{Deserialize, Serialize};

use super::Owner;
use super::frame::Seed;
use crate::StoreError;
use crate::data_dir;

/// The file in the data directory.
pub(super) const FILE: &str = "manifest";

/// Since format 2 records and rows of the history are compressed; since 3 with zstd, and the records of a family with
/// a common dictionary. Records of format 2 can be read.
const FORMAT: u32 = 3;
const OLDEST_FORMAT: u32 = 2;

/// Far more than a manifest has.
const MOST_BYTES: u64 = 4 << 10;

/// The state of the store between two starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Making,
    Open,
    Moving,
    Closed,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    format: u32,
    /// The service that the store belongs to.
    pub service: String,
    /// The id of the host or engine: the configured one, otherwise the store's first id, which an engine uses as its
    /// own. Empty if a repair could not determine it.
    pub owner: String,
    pub store_id: String,
    pub state: State,
    /// Hexadecimal, because its values exceed TOML's integers.
    start: String,
    next: String,
    /// The seed of the current log: the next start's while that one is about to begin.
    seed: String,
    pub revision: u64,
    /// The minimum length of each file of the log.
    pub wal_bytes: u64,
}

impl Manifest {
    /// The manifest of a store that is being created.
    pub(super) fn new(owner: Owner, store_id: StoreId, wal_bytes: u64) -> Self {
        Self {
            format: FORMAT,
            service: owner.service.to_owned(),
            owner: owner.id.map_or_else(|| store_id.to_string(), |id| id.to_string()),
            store_id: store_id.to_string(),
            state: State::Making,
            start: String::new(),
            next: String::new(),
            seed: String::new(),
            revision: 0,
            wal_bytes,
        }
    }

    /// Everything up to `revision` is in the tables, and `next` is about to begin, with a log of this seed.
    pub(super) fn moving(&self, revision: Revision, next: Start, seed: Seed) -> Self {
        Self {
            state: State::Moving,
            next: hex(next.0),
            seed: hex(u64::from_le_bytes(seed)),
            revision: revision.0,
            ..self.clone()
        }
    }

    /// The next start has begun.
    pub(super) fn moved(&self, wal_bytes: u64) -> Self {
        Self {
            state: State::Open,
            start: self.next.clone(),
            next: String::new(),
            revision: 0,
            wal_bytes,
            ..self.clone()
        }
    }

    /// The manifest of a store that was saved from a damaged one, with everything in its tables.
    pub(super) fn saved(
        service: &str,
        owner: &str,
        store_id: StoreId,
        start: Start,
        revision: Revision,
    ) -> Self {
        Self {
            service: service.to_owned(),
            owner: owner.to_owned(),
            state: State::Closed,
            start: hex(start.0),
            revision: revision.0,
            ..Self::new(Owner::service(""), store_id, 0)
        }
    }

    /// Sets the owner if it was unknown.
    pub(super) fn owned_by(self, owner: Owner) -> Self {
        match (self.owner.is_empty(), owner.id) {
            (true, Some(id)) => Self {
                owner: id.to_string(),
                ..self
            },
            _ => self,
        }
    }

    /// Everything is in the tables.
    pub(super) fn closed(&self, revision: Revision) -> Self {
        Self {
            state: State::Closed,
            revision: revision.0,
            ..self.clone()
        }
    }

    pub(super) fn start(&self) -> Start {
        Start(number(&self.start))
    }

    pub(super) fn next(&self) -> Start {
        Start(number(&self.next))
    }

    pub(super) fn seed(&self) -> Seed {
        number(&self.seed).to_le_bytes()
    }

    pub(super) fn store_id(&self) -> Option<StoreId> {
        self.store_id.parse().ok()
    }

    /// Refuses the store of another service, or of another host or engine.
    pub(super) fn belongs_to(&self, owner: Owner, dir: &Path) -> Result<(), StoreError> {
        let (dir, service) = (dir.display(), &self.service);
        if *service != owner.service {
            return Err(StoreError::Unavailable(format!(
                "{dir} is the data directory of {service}, not of {}; give another --data-dir",
                owner.service
            )));
        }
        match owner.id.map(|id| id.to_string()) {
            Some(id) if !self.owner.is_empty() && self.owner != id => Err(StoreError::Unavailable(format!(
                "{dir} is the data directory of {service} {}, not of {id}; give its own id, or another --data-dir",
                self.owner
            ))),
            _ => Ok(()),
        }
    }

    /// Sets the format of the store, unless it is set already: to be written before anything that the previous build
    /// does not know.
    pub(super) fn renewed(&self) -> Option<Self> {
        (self.format != FORMAT).then(|| Self {
            format: FORMAT,
            ..self.clone()
        })
    }

    /// Reads the manifest; none if it does not exist.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if it is damaged.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>, StoreError> {
        let path = dir.join(FILE);
        let text = match data_dir::read(&path, MOST_BYTES + 1) {
            Ok(bytes) if bytes.len() as u64 > MOST_BYTES => None,
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(super::at(&path, &error)),
        };
        match text.and_then(|bytes| decode(&bytes)) {
            Some(manifest) if (OLDEST_FORMAT..=FORMAT).contains(&manifest.format) => Ok(Some(manifest)),
            Some(newer) => Err(StoreError::Unavailable(format!(
                "{} is of format {}, which this version does not know; start the version that wrote it",
                path.display(),
                newer.format
            ))),
            None => Err(super::damaged(&path, "is not what was written")),
        }
    }

    /// Replaces the previous manifest. When it returns `Ok` the new one is durable, including its name.
    pub(super) fn write(&self, dir: &Path) -> io::Result<()> {
        let temporary = dir.join(format!("{FILE}.new"));
        let mut file = data_dir::create(&temporary)?;
        file.write_all(&encode(self)?)?;
        file.sync_all()?;
        fs::rename(&temporary, dir.join(FILE))?;
        File::open(dir)?.sync_all()
    }
}

/// A line for people.
impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            service,
            owner,
            store_id,
            start,
            ..
        } = self;
        let state = match self.state {
            State::Making => "never served",
            State::Open => "not closed in order",
            State::Moving => "ended while it was being opened",
            State::Closed => "closed in order",
        };
        write!(f, "{service} {owner}: store {store_id}, start {start}, {state}")
    }
}

/// The text, followed by its checksum.
fn encode(manifest: &Manifest) -> io::Result<Vec<u8>> {
    let mut text = toml::to_string(manifest).map_err(io::Error::other)?;
    let sum = crc32fast::hash(text.as_bytes());
    text.push_str(&format!("# sum {sum:08x}\n"));
    Ok(text.into_bytes())
}

fn decode(bytes: &[u8]) -> Option<Manifest> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (body, sum) = text.rsplit_once("# sum ")?;
    let is_whole = sum == format!("{:08x}\n", crc32fast::hash(body.as_bytes()));
    if is_whole { toml::from_str(body).ok() } else { None }
}

fn hex(number: u64) -> String {
    format!("{number:016x}")
}

/// 0 if there is none: no start has that number.
fn number(hex: &str) -> u64 {
    u64::from_str_radix(hex, 16).unwrap_or_default()
}
