//! One life of the engine: this start, and the starts that it descends from.
//!
//! Each start is an *incarnation*, a random id that no earlier copy of the data directory knows. A host is loyal to
//! one incarnation. This start may have the host if that incarnation is in its own line; otherwise the host's owner
//! lives from another copy, or from a younger state, of this data directory (docs/adr/0012).

use std::sync::{Arc, PoisonError, RwLock};

use common::fault::{Fault, FaultCode};
use common::id::{EngineId, HostId, Incarnation};
use hmac::{Hmac, KeyInit as _, Mac as _};
use proto::convert;
use proto::host::v1::{ClaimHostRequest, HostInfo};
use runtime::chance;
use sha2::Sha256;
use uuid::Builder;

/// The maximum length of a line. A host that has met none of this many last starts takes the engine for another one;
/// then a person has the host taken over.
pub(crate) const MAX_LINE: usize = 4_096;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// The engine's id, made once with the data directory.
    pub engine_id: EngineId,
    /// Increases with each start.
    pub epoch: u64,
    /// This start.
    pub incarnation: Incarnation,
    /// The earlier starts, oldest first.
    pub line: Arc<[Incarnation]>,
    /// The key that marks the starts of this data directory and of its copies.
    pub key: Key,
}

/// The life in whose name the hosts are called, which is this start or the one that it has become, and the hosts that
/// it has. Cheap to clone; all clones share one state.
#[derive(Debug, Clone)]
pub struct Lives {
    life: Arc<RwLock<Life>>,
    holds: Arc<RwLock<Arc<[HostId]>>>,
}

impl Lives {
    /// Begins with this life.
    #[must_use]
    pub fn new(life: Life) -> Self {
        Self {
            life: Arc::new(RwLock::new(life)),
            holds: Arc::default(),
        }
    }

    /// The life as it is now.
    #[must_use]
    pub fn now(&self) -> Life {
        self.life.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The hosts that this life has: connected, and loyal to it.
    #[must_use]
    pub fn holds(&self) -> Arc<[HostId]> {
        Arc::clone(&self.holds.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the hosts that this life has.
    pub(crate) fn hold(&self, hosts: Vec<HostId>) {
        *self.holds.write().unwrap_or_else(PoisonError::into_inner) = hosts.into();
    }

    /// Goes on as another incarnation, which is recorded.
    pub(crate) fn renew(&self, life: Life) {
        *self.life.write().unwrap_or_else(PoisonError::into_inner) = life;
    }
}

/// What a host that answers is to this start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Loyalty {
    /// The host belongs to this start.
    Ours,
    /// The host belongs to nobody.
    Nobodys,
    /// The host belongs to a start that this one descends from: the engine must claim it before anything else.
    Inherited,
    /// The host says that it belongs to another engine, or to another life of this one.
    Other(Fault),
    /// The host belongs to another life of this engine, and shows a start that only a copy of the data directory can
    /// have made.
    OtherLife(Fault),
}

/// The key that marks the starts made from one data directory and its copies: an incarnation ends with a code of its
/// first half, made with this key. A host learns incarnations but not the key, so it can repeat an incarnation that
/// an engine has shown it, and can make none.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; Key::BYTES]);

impl Key {
    /// The length of a key.
    pub const BYTES: usize = 32;

    /// A key that was recorded; none if the bytes are not a whole key.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// A new random key.
    #[must_use]
    pub fn random() -> Self {
        let mut bytes = [0; Self::BYTES];
        for part in bytes.chunks_exact_mut(8) {
            part.copy_from_slice(&chance::number().to_be_bytes());
        }
        Self(bytes)
    }

    /// The bytes to be recorded, and shown to nobody.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// An incarnation of this engine: a UUID of version 8 whose first half is random.
    #[must_use]
    pub fn incarnation(&self, engine_id: EngineId, random: u64) -> Incarnation {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&random.to_be_bytes());
        let first = Builder::from_custom_bytes(bytes).into_uuid();
        bytes[8..].copy_from_slice(&self.code(engine_id, &first.as_bytes()[..8]));
        bytes[..8].copy_from_slice(&first.as_bytes()[..8]);
        Incarnation::from_uuid(Builder::from_custom_bytes(bytes).into_uuid())
    }

    /// Whether the incarnation was made with this key.
    #[must_use]
    pub fn has_made(&self, engine_id: EngineId, start: Incarnation) -> bool {
        let bytes = start.as_bytes();
        let (random, _) = bytes.split_first_chunk().unwrap_or((&[0; 8], &[]));
        self.incarnation(engine_id, u64::from_be_bytes(*random)) == start
    }

    /// The code of a start's words about itself, which nobody can make without the key.
    pub(crate) fn seal(&self, said: &[u8]) -> Vec<u8> {
        self.sealing(said)
            .map(|mac| mac.finalize().into_bytes().to_vec())
            .unwrap_or_default()
    }

    /// Whether this is the code of these words.
    pub(crate) fn has_sealed(&self, said: &[u8], code: &[u8]) -> bool {
        self.sealing(said)
            .is_some_and(|mac| mac.verify_slice(code).is_ok())
    }

    /// The sealed text is longer than the text of an incarnation's code, so the two are never the same.
    fn sealing(&self, said: &[u8]) -> Option<Hmac<Sha256>> {
        // HMAC accepts a key of any length.
        let mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        Some(
            mac.chain_update(b"what a life of the engine says of itself")
                .chain_update(said),
        )
    }

    fn code(&self, engine_id: EngineId, random: &[u8]) -> [u8; 8] {
        let mut code = [0; 8];
        // HMAC accepts a key of any length.
        if let Ok(mac) = Hmac::<Sha256>::new_from_slice(&self.0) {
            let whole = mac
                .chain_update(engine_id.as_uuid().as_bytes())
                .chain_update(random)
                .finalize();
            code.copy_from_slice(&whole.into_bytes()[..8]);
        }
        code
    }
}

/// The key is a secret: its bytes appear in no log.
impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Life {
    /// Whose a host is, according to the host.
    ///
    /// # Errors
    /// `HOST_AWAY` if an id in the answer is none.
    pub(crate) fn loyalty(&self, host_id: HostId, info: &HostInfo) -> Result<Loyalty, Fault> {
        let engine_id = id::<EngineId>("an engine_id", &info.engine_id)?;
        let start = id::<Incarnation>("an engine_incarnation", &info.engine_incarnation)?;
        let Some(engine_id) = engine_id else {
            return Ok(Loyalty::Nobodys);
        };
        if engine_id != self.engine_id {
            let words = format!(
                "the host belongs to engine {engine_id}; remove it there first, or have it taken over (TakeOverHost)"
            );
            return Ok(Loyalty::Other(
                Fault::new(FaultCode::HostOwned, words).about(host_id),
            ));
        }
        Ok(match start {
            Some(start) if start == self.incarnation => Loyalty::Ours,
            Some(start) if self.line.contains(&start) => Loyalty::Inherited,
            // Hosts and engines of older builds decide by the epoch alone.
            None if info.engine_epoch == self.epoch => Loyalty::Ours,
            None if info.engine_epoch < self.epoch => Loyalty::Inherited,
            Some(start) if self.key.has_made(self.engine_id, start) => {
                Loyalty::OtherLife(self.fenced(host_id, info))
            }
            _ => Loyalty::Other(self.fenced(host_id, info)),
        })
    }

    fn fenced(&self, host_id: HostId, info: &HostInfo) -> Fault {
        let words = format!(
            "the host belongs to another start of this engine (incarnation {}, epoch {}), from which this one (incarnation {}, epoch {}) does not descend: another engine runs, or ran, on a copy of this data directory, or an older copy of this directory was restored. Stop the engine that is not to have the host; if this one is, have the host taken over (TakeOverHost)",
            info.engine_incarnation, info.engine_epoch, self.incarnation, self.epoch
        );
        Fault::new(FaultCode::EngineFenced, words).about(host_id)
    }

    /// The claim of a host, by its answer.
    pub(crate) fn claim(&self, info: &HostInfo) -> ClaimHostRequest {
        let known = info.engine_incarnation.parse::<Incarnation>().ok();
        let at = known.and_then(|start| self.line.iter().position(|earlier| *earlier == start));
        let Some(at) = at else {
            return ClaimHostRequest::default();
        };
        ClaimHostRequest {
            predecessor: self.line[at].to_string(),
            since: self.line[at + 1..].iter().map(ToString::to_string).collect(),
            take_over: None,
        }
    }
}

fn id<T>(what: &str, text: &str) -> Result<Option<T>, Fault>
where
    T: std::str::FromStr<Err = common::id::IdError>,
{
    convert::optional_id(what, text).map_err(|_| {
        Fault::new(
            FaultCode::HostAway,
            format!("the host sent {what} that is not a UUID"),
        )
    })
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn start(n: u128) -> Incarnation {
        Incarnation::from_uuid(Uuid::from_u128(n))
    }

    fn life() -> Life {
        Life {
            engine_id: EngineId::from_uuid(Uuid::from_u128(1)),
            epoch: 7,
            incarnation: start(70),
            line: [40, 50, 60].map(start).into(),
            key: key(),
        }
    }

    fn key() -> Key {
        Key::from_slice(&[7; Key::BYTES]).unwrap()
    }

    fn host(engine: u128, epoch: u64, incarnation: u128) -> HostInfo {
        let text = |n: u128| match n {
            0 => String::new(),
            n => Uuid::from_u128(n).to_string(),
        };
        HostInfo {
            engine_id: text(engine),
            engine_epoch: epoch,
            engine_incarnation: text(incarnation),
            ..HostInfo::default()
        }
    }

    fn loyalty(info: &HostInfo) -> Loyalty {
        let host_id = HostId::from_uuid(Uuid::from_u128(9));
        life().loyalty(host_id, info).unwrap()
    }

    #[test]
    fn the_line_decides_and_no_epoch_whatever_a_host_says() {
        assert_eq!(loyalty(&host(1, 7, 70)), Loyalty::Ours);
        for epoch in [1, 7, u64::MAX] {
            assert_eq!(loyalty(&host(1, epoch, 50)), Loyalty::Inherited);
            assert!(
                matches!(loyalty(&host(1, epoch, 71)), Loyalty::Other(f) if f.code == FaultCode::EngineFenced)
            );
        }
        assert!(matches!(loyalty(&host(2, 1, 50)), Loyalty::Other(f) if f.code == FaultCode::HostOwned));
        assert_eq!(loyalty(&host(0, 0, 71)), Loyalty::Nobodys);
    }

    #[test]
    fn a_start_that_a_copy_has_made_proves_itself_and_no_host_can_make_one() {
        let engine_id = life().engine_id;
        let shows = |start: Incarnation| {
            loyalty(&HostInfo {
                engine_incarnation: start.to_string(),
                ..host(1, 9, 0)
            })
        };
        for random in [0, 1, 0x0123_4567_89ab_cdef, u64::MAX] {
            let made = key().incarnation(engine_id, random);
            assert_eq!(made.as_uuid().get_version_num(), 8);
            assert!(matches!(shows(made), Loyalty::OtherLife(f) if f.code == FaultCode::EngineFenced));
            // An incarnation with any bit changed, of another engine, or with another key proves nothing.
            for bit in 0..128 {
                let changed = Uuid::from_u128(made.as_uuid().as_u128() ^ (1 << bit));
                let is_ours = key().has_made(engine_id, Incarnation::from_uuid(changed));
                assert!(!is_ours, "bit {bit}");
            }
            let elsewhere = Key::from_slice(&[8; Key::BYTES]).unwrap();
            let others = [
                elsewhere.incarnation(engine_id, random),
                key().incarnation(EngineId::from_uuid(Uuid::from_u128(2)), random),
            ];
            for other in others {
                assert!(matches!(shows(other), Loyalty::Other(_)));
            }
        }
    }

    #[test]
    fn a_key_is_in_no_log() {
        let shown = format!("{:?}", life());
        assert!(shown.contains("Key(…)") && !shown.contains("7, 7"), "{shown}");
    }

    #[test]
    fn a_host_of_an_older_build_goes_by_the_epoch() {
        assert_eq!(loyalty(&host(1, 6, 0)), Loyalty::Inherited);
        assert_eq!(loyalty(&host(1, 7, 0)), Loyalty::Ours);
        assert!(matches!(loyalty(&host(1, 8, 0)), Loyalty::Other(_)));
    }

    #[test]
    fn a_claim_names_the_start_that_has_the_host_and_those_since() {
        let names = |info: &HostInfo| {
            let claim = life().claim(info);
            (claim.predecessor, claim.since)
        };
        let text = |n: u128| start(n).to_string();
        assert_eq!(names(&host(1, 4, 40)), (text(40), vec![text(50), text(60)]));
        assert_eq!(names(&host(1, 6, 60)), (text(60), vec![]));
        assert_eq!(names(&host(1, 6, 61)), (String::new(), vec![]));
    }
}
