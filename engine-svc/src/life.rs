//! One life of the engine: this start, and the starts that it descends from.
//!
//! Each start is an *incarnation*, a random id that no copy of the data directory knows of a start after it was copied.
//! A host is loyal to one of them. This start may have it where the host's is one of its own line; else whoever has it
//! lives from another copy, or a younger state, of this data directory (docs/adr/0012).

use std::sync::Arc;

use common::fault::{Fault, FaultCode};
use common::id::{EngineId, HostId, Incarnation};
use proto::convert;
use proto::host::v1::{ClaimHostRequest, HostInfo};

/// Starts that a line is kept for. A host that none of the last so many starts has met takes the engine for another
/// one; a person then has it taken over.
pub(crate) const MAX_LINE: usize = 4_096;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// Made once, with the data directory.
    pub engine_id: EngineId,
    /// Rises with each start.
    pub epoch: u64,
    /// This start.
    pub incarnation: Incarnation,
    /// The starts before it, oldest first.
    pub line: Arc<[Incarnation]>,
}

/// What a host that answers is to this start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Loyalty {
    /// It belongs to this start.
    Ours,
    /// It belongs to nobody.
    Nobodys,
    /// It belongs to a start that this one descends from: to be claimed before anything else.
    Inherited,
    /// It belongs to another engine, or to another life of this one.
    Other(Fault),
}

impl Life {
    /// Whose a host is, by what it says of itself.
    ///
    /// # Errors
    /// `HOST_AWAY` where that is no id.
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
            // Hosts, and engines, of older builds go by the epoch alone.
            None if info.engine_epoch == self.epoch => Loyalty::Ours,
            None if info.engine_epoch < self.epoch => Loyalty::Inherited,
            _ => Loyalty::Other(self.fenced(host_id, info)),
        })
    }

    fn fenced(&self, host_id: HostId, info: &HostInfo) -> Fault {
        let words = format!(
            "the host belongs to another start of this engine (incarnation {}, epoch {}), from which this one (incarnation {}, epoch {}) does not descend: another engine runs, or ran, on a copy or a younger state of this data directory. Stop the one that is not meant to have the host; if this one is, have the host taken over (TakeOverHost)",
            info.engine_incarnation, info.engine_epoch, self.incarnation, self.epoch
        );
        Fault::new(FaultCode::EngineFenced, words).about(host_id)
    }

    /// The claim of a host that says this of itself.
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
            format!("the host gives {what} that is no UUID"),
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
        }
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
