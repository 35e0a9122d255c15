//! What a data directory says of itself: whose it is, and which pieces belong to it. The crate's text has the keys and the states.
//!
//! Each state is durable before anything is done that only the next one allows, so a crash leaves one of them, and any piece of
//! another store, start or time is found by what it says of itself (docs/adr/0014).

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

/// Since 2 records and the rows of the history are compressed, since 3 with zstd, and records of one family against what they
/// have in common. What 2 wrote is read, record by record.
const FORMAT: u32 = 3;
const OLDEST_FORMAT: u32 = 2;

/// Far more than one has.
const MOST_BYTES: u64 = 4 << 10;

/// Where the store is between two starts.
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
    /// The service whose store this is.
    pub service: String,
    /// Which one of that service: the id that was given, else the store's first one, which an engine takes for its own.
    /// Empty where a repair found nobody who knew.
    pub owner: String,
    pub store_id: String,
    pub state: State,
    /// Hexadecimal, for its values are beyond what TOML's integers hold.
    start: String,
    next: String,
    /// Of the log that counts now: the next start's while that one is about to begin.
    seed: String,
    pub revision: u64,
    /// How long each file of the log is at least.
    pub wal_bytes: u64,
}

impl Manifest {
    /// Of a store that is being made.
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

    /// All up to `revision` is in the tables, and `next` is about to begin, with a log of this seed.
    pub(super) fn moving(&self, revision: Revision, next: Start, seed: Seed) -> Self {
        Self {
            state: State::Moving,
            next: hex(next.0),
            seed: hex(u64::from_le_bytes(seed)),
            revision: revision.0,
            ..self.clone()
        }
    }

    /// The next start is served from now on.
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

    /// Of a store that was saved from a damaged one, and has all in its tables.
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

    /// As it is, and of this owner where nobody knew whose it was.
    pub(super) fn owned_by(self, owner: Owner) -> Self {
        match (self.owner.is_empty(), owner.id) {
            (true, Some(id)) => Self {
                owner: id.to_string(),
                ..self
            },
            _ => self,
        }
    }

    /// All is in the tables.
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

    /// Refuses the store of another service, or of another one of the same.
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

    /// Says of what format the store is from now on, unless it says so already: to be written before anything that the build before does not
    /// know.
    pub(super) fn renewed(&self) -> Option<Self> {
        (self.format != FORMAT).then(|| Self {
            format: FORMAT,
            ..self.clone()
        })
    }

    /// None where there is none.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] where it is not what was written.
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

    /// Puts it in the place of the one before. When it returns `Ok` it is durable, name and all.
    pub(super) fn write(&self, dir: &Path) -> io::Result<()> {
        let temporary = dir.join(format!("{FILE}.new"));
        let mut file = data_dir::create(&temporary)?;
        file.write_all(&encode(self)?)?;
        file.sync_all()?;
        fs::rename(&temporary, dir.join(FILE))?;
        File::open(dir)?.sync_all()
    }
}

/// In a line, for people.
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

/// The text, and under it its sum.
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

/// 0 where there is none: nothing has that start.
fn number(hex: &str) -> u64 {
    u64::from_str_radix(hex, 16).unwrap_or_default()
}
