//! The promises of the two services, one module for each, tested with the real programs.

mod away;
mod backup;
mod bad_input;
mod cancel;
mod clocks;
mod copy;
mod crowds;
mod cuts;
mod descriptors;
mod diagnostics;
mod disks;
mod doors;
mod duplicates;
mod extend;
mod full;
mod fuzzed;
mod hostile_storage;
mod kills;
mod life_cycle;
mod lists;

mod loading;
mod lock_wait;
mod locks;
mod lost_directory;
mod max_age;
mod metrics;
mod older;
mod one_life;
mod own_files;
mod plain_words;
mod power;
mod proof;
mod readme;
mod resume;
mod rolling;
mod sample;
mod signals;
mod soak;
mod stopping;
mod streams;
mod supervised;
mod taskctl;
mod two_hosts;
mod wait;
mod wiped;

/// Reports past the test runner's capture that a test was skipped, so that somebody sees it and it is counted.
fn skipped(test: &str, why: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout().lock(), "\nskipped: {test}: {why}");
}

/// The seed for a test's randomness: printed, and taken from `SEED` if that is set.
fn seed() -> u64 {
    let given = std::env::var("SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(rand::random);
    eprintln!("SEED={seed}");
    seed
}
