//! Which of the kills are tried: a sample that the seed draws, or all of them.

use std::collections::BTreeSet;
use std::fmt;

use tests::fail_point::Boundary;

use super::matrix::Errand;
use super::trial::{Kill, Victim};
use crate::sample::{self, lot};

/// Runs of one errand.
const ATTEMPTS: usize = 3;

/// Kills of one scenario in a sample, half of them of the host.
const SAMPLE: usize = 8;

/// Second kills, while the host recovers, of one scenario in a sample.
const SAMPLE_AGAIN: usize = 2;

/// Runs only the kills whose text holds this, whatever else is asked for.
const ONLY: &str = "KILL_ONLY";

/// Which kills of a scenario are tried.
#[derive(Debug, Clone)]
pub(super) enum Choice {
    /// Each passage of each point, with one victim and with both.
    All,
    /// Those of them whose text holds this.
    Only(String),
    /// As many as a run of all tests has time for.
    Sample {
        /// Draws them: the same ones, where the same passages are to be had.
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
    /// What the environment asks for; a sample where it asks for nothing.
    pub(super) fn given() -> Self {
        if let Ok(text) = std::env::var(ONLY) {
            return Self::Only(text);
        }
        match sample::all_are_asked_for() {
            true => Self::All,
            false => Self::Sample { seed: crate::seed() },
        }
    }

    /// Worlds in which the kills are tried beside each other.
    pub(super) const fn worlds(&self) -> usize {
        match self {
            Self::All | Self::Only(_) => 4,
            // Making a world costs as much as some kills.
            Self::Sample { .. } => 2,
        }
    }

    /// Undisturbed runs that are compared: what only some of them pass depends on timing.
    pub(super) const fn undisturbed_runs(&self) -> usize {
        match self {
            Self::All | Self::Only(_) => 3,
            // What is drawn and does not come again is seen not to be passed always.
            Self::Sample { .. } => 1,
        }
    }

    /// The first kills: at these passages, which are the victim's. Each is attempted a few times.
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
                // One of each point first: some are passed much more often than others.
                kills.sort_by_key(|kill| (lot(*seed, &kill.boundary.point), lot(*seed, &kill.to_string())));
                kills.dedup_by(|one, other| one.boundary.point == other.boundary.point);
                kills.truncate(SAMPLE / 2);
                kills
            }
        };
        kills.into_iter().map(|kill| self.attempts(kill)).collect()
    }

    /// A passage that depends on timing does not come in each run. In a sample there is nobody else to be killed at its point:
    /// so the first passage is tried in the end, which comes wherever the point is passed at all.
    fn attempts(&self, kill: Kill) -> Errand {
        let mut errand = vec![kill; ATTEMPTS];
        if let (Self::Sample { .. }, Some(last)) = (self, errand.last_mut()) {
            last.boundary.hit = 1;
        }
        errand
    }

    /// The second kills: of these, each of which can be led to in several ways.
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
