//! The choice of kills: a sample that the seed draws, or all of them.

use std::collections::BTreeSet;
use std::fmt;

use tests::fail_point::Boundary;

use super::matrix::Errand;
use super::trial::{Kill, Victim};
use crate::sample::{self, lot};

/// The number of runs of one errand.
const ATTEMPTS: usize = 3;

/// The kills of one scenario in a sample, half of them of the host.
const SAMPLE: usize = 8;

/// The second kills of one scenario in a sample, during the host's recovery.
const SAMPLE_AGAIN: usize = 2;

/// The variable that restricts the kills to those with this text, whatever else is set.
const ONLY: &str = "KILL_ONLY";

/// The choice of a scenario's kills.
#[derive(Debug, Clone)]
pub(super) enum Choice {
    /// Each passage of each point, with one victim and with both.
    All,
    /// Those of them that contain this text.
    Only(String),
    /// As many as fit into a run of all tests.
    Sample {
        /// Draws the sample: the same one, if the same passages are available.
        seed: u64,
    },
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all kills"),
            Self::Only(text) => write!(f, "kills with {text:?}"),
            Self::Sample { seed } => write!(f, "a sample of the kills, drawn by SEED={seed}"),
        }
    }
}

impl Choice {
    /// The choice that the environment makes; a sample by default.
    pub(super) fn given() -> Self {
        if let Ok(text) = std::env::var(ONLY) {
            return Self::Only(text);
        }
        match sample::all_are_asked_for() {
            true => Self::All,
            false => Self::Sample { seed: crate::seed() },
        }
    }

    /// The number of worlds in which the kills are tried in parallel.
    pub(super) const fn worlds(&self) -> usize {
        match self {
            Self::All | Self::Only(_) => 4,
            // Making a world takes as long as some kills.
            Self::Sample { .. } => 2,
        }
    }

    /// The number of undisturbed runs that are compared: passages that only some of them have depend on timing.
    pub(super) const fn undisturbed_runs(&self) -> usize {
        match self {
            Self::All | Self::Only(_) => 3,
            // A drawn passage that does not come again is then known to depend on timing.
            Self::Sample { .. } => 1,
        }
    }

    /// The first kills, at these passages of the victim. Each is attempted a few times.
    pub(super) fn kills(&self, victim: Victim, passages: BTreeSet<Boundary>) -> Vec<Errand> {
        let kills = passages.into_iter().flat_map(|boundary| {
            [false, true].map(|both| Kill {
                victim,
                boundary: boundary.clone(),
                both,
                again: None,
            })
        });
        let kills: Vec<_> = match self {
            Self::All => kills.collect(),
            Self::Only(text) => kills.filter(|kill| kill.to_string().contains(text)).collect(),
            Self::Sample { seed } => {
                let mut kills: Vec<_> = kills.collect();
                // First one kill for each point, because some points are passed much more often than others.
                kills.sort_by_key(|kill| (lot(*seed, &kill.boundary.point), lot(*seed, &kill.to_string())));
                kills.dedup_by(|one, other| one.boundary.point == other.boundary.point);
                kills.truncate(SAMPLE / 2);
                kills
            }
        };
        kills.into_iter().map(|kill| self.attempts(kill)).collect()
    }

    /// A passage that depends on timing does not come in each run. A sample has no other kill at its point; therefore
    /// the last attempt is at the first passage, which comes whenever the point is passed at all.
    fn attempts(&self, kill: Kill) -> Errand {
        let mut errand = vec![kill; ATTEMPTS];
        if let (Self::Sample { .. }, Some(last)) = (self, errand.last_mut()) {
            last.boundary.hit = 1;
        }
        errand
    }

    /// The second kills, chosen from these errands; several first kills may lead to each.
    pub(super) fn again(&self, mut errands: Vec<Errand>) -> Vec<Errand> {
        match self {
            Self::All => {}
            Self::Only(text) => {
                errands.retain(|errand| errand.iter().any(|kill| kill.to_string().contains(text)));
            }
            Self::Sample { seed } => {
                errands.sort_by_key(|errand| {
                    let second = errand.first().and_then(|kill| kill.again.as_ref());
                    second.map(|boundary| lot(*seed, &boundary.point))
                });
                errands.truncate(SAMPLE_AGAIN);
            }
        }
        errands
    }
}
