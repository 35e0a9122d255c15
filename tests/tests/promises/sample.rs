//! The choice of boundaries for kills and cuts: a few in a run of all tests, all of them on request.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use tests::fail_point::Boundary;

/// The variable that `make kills` sets to `all`, to try every kill and every power cut.
const KILLS: &str = "KILLS";

/// Whether all boundaries are requested.
pub(crate) fn all_are_asked_for() -> bool {
    std::env::var(KILLS).is_ok_and(|kills| kills == "all")
}

/// The lot of a name: it does not depend on the other names.
pub(crate) fn lot(seed: u64, name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (seed, name).hash(&mut hasher);
    hasher.finish()
}

/// This many of the boundaries, unless all are requested.
pub(crate) fn of(mut boundaries: Vec<Boundary>, seed: u64, count: usize) -> Vec<Boundary> {
    if !all_are_asked_for() {
        boundaries.sort_by_key(|boundary| lot(seed, &boundary.to_string()));
        boundaries.truncate(count);
    }
    boundaries
}
