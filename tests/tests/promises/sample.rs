//! Boundaries at which something is cut off: a few of them in a run of all tests, all of them where that is asked for.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use tests::fail_point::Boundary;

/// `all`, as `make kills` sets it, has every kill and every power cut tried.
const KILLS: &str = "KILLS";

/// Whether nothing may be left out.
pub(crate) fn all_are_asked_for() -> bool {
    std::env::var(KILLS).is_ok_and(|kills| kills == "all")
}

/// The lot that something draws: it does not depend on what else there is.
pub(crate) fn lot(seed: u64, name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (seed, name).hash(&mut hasher);
    hasher.finish()
}

/// So many of the boundaries, unless all are asked for.
pub(crate) fn of(mut boundaries: Vec<Boundary>, seed: u64, count: usize) -> Vec<Boundary> {
    if !all_are_asked_for() {
        boundaries.sort_by_key(|boundary| lot(seed, &boundary.to_string()));
        boundaries.truncate(count);
    }
    boundaries
}
