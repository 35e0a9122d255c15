//! Mutated bytes for whatever reads what others wrote: requests, tokens, headers, metadata, frames, records.
//!
//! A target is an ordinary test that calls [`fuzz`]. It runs for `FUZZ_SECONDS` (1 by default; `make fuzz` takes a
//! minute) and stops at the first input that its check panics over, shrunk. Inputs that once broke something are kept in
//! `seeds/<target>/` and are tried first, by everybody.

use std::fmt::Write as _;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, RngSeed, TestError, TestRunner};

/// Inputs between two looks at the clock.
const BATCH: u32 = 64;

/// Edits of one seed.
const EDITS: usize = 6;

/// Bytes of an input that is no seed's.
const BYTES: usize = 600;

/// A change of an input; places wrap around.
#[derive(Debug, Clone)]
enum Edit {
    Set(Index, u8),
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Repeat(Index, usize, usize),
    Cut(Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    prop_oneof![
        3 => (at(), interesting()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        3 => (at(), 0..8u8).prop_map(|(at, bit)| Edit::Flip(at, 1 << bit)),
        1 => (at(), vec(interesting(), 1..16)).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        1 => (at(), 1..16usize).prop_map(|(at, bytes)| Edit::Remove(at, bytes)),
        1 => (at(), 1..64usize, 2..40usize).prop_map(|(at, bytes, times)| Edit::Repeat(at, bytes, times)),
        1 => at().prop_map(Edit::Cut),
    ]
}

/// Any byte, and more often one at which readers turn.
fn interesting() -> impl Strategy<Value = u8> {
    prop_oneof![
        2 => any::<u8>(),
        1 => select(b"\x00\x01\x7f\x80\xff\n\r\t\x1b =-.:/0".as_slice()),
    ]
}

impl Edit {
    fn make(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Set(at, byte) => set(bytes, *at, |_| *byte),
            Self::Flip(at, bit) => set(bytes, *at, |byte| byte ^ bit),
            Self::Insert(at, more) => {
                let at = at.index(bytes.len() + 1);
                bytes.splice(at..at, more.iter().copied());
            }
            Self::Remove(at, length) => {
                let at = at.index(bytes.len() + 1);
                let end = bytes.len().min(at + length);
                bytes.drain(at..end);
            }
            Self::Repeat(at, length, times) => {
                let at = at.index(bytes.len() + 1);
                let end = bytes.len().min(at + length);
                let piece = bytes[at..end].repeat(*times);
                bytes.splice(end..end, piece);
            }
            Self::Cut(at) => bytes.truncate(at.index(bytes.len() + 1)),
        }
    }
}

fn set(bytes: &mut [u8], at: Index, to: impl Fn(u8) -> u8) {
    if !bytes.is_empty() {
        let at = at.index(bytes.len());
        bytes[at] = to(bytes[at]);
    }
}

fn inputs(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let edited = (select(seeds), vec(edit(), 1..EDITS)).prop_map(|(mut bytes, edits)| {
        for edit in edits {
            edit.make(&mut bytes);
        }
        bytes
    });
    prop_oneof![1 => vec(any::<u8>(), 0..BYTES), 6 => edited]
}

/// Has `check` look at the kept inputs of a target, at `seeds`, and at edits of both until the time is over.
///
/// # Panics
/// With the shrunk input and the seed of the run, where `check` panics.
pub fn fuzz(target: &str, seeds: impl IntoIterator<Item = Vec<u8>>, check: impl Fn(&[u8])) {
    let mut all: Vec<Vec<u8>> = kept(target);
    all.extend(seeds);
    assert!(!all.is_empty(), "{target} has no seed");
    for seed in &all {
        check(seed);
    }
    let from: u64 = number("SEED").unwrap_or_else(|| u64::from(rand::random::<u32>()));
    eprintln!("{target}: SEED={from}");
    let end = Instant::now() + Duration::from_secs(number("FUZZ_SECONDS").unwrap_or(1));
    let inputs = inputs(all);
    let mut tried = 0u64;
    for round in from.. {
        let mut runner = TestRunner::new(Config {
            cases: BATCH,
            rng_seed: RngSeed::Fixed(round),
            failure_persistence: None,
            ..Config::default()
        });
        let outcome = runner.run(&inputs, |input| {
            let looked = catch_unwind(AssertUnwindSafe(|| check(&input)));
            looked.map_err(|_| TestCaseError::fail("it panicked"))
        });
        match outcome {
            Ok(()) => tried += u64::from(BATCH),
            Err(TestError::Fail(_, input)) => {
                let hex = input.iter().fold(String::new(), |mut hex, byte| {
                    let _ = write!(hex, "{byte:02x}");
                    hex
                });
                panic!("{target}: SEED={round}: keep this as a file in tests/fuzz/seeds/{target}: {hex}");
            }
            Err(TestError::Abort(why)) => panic!("{target}: {why}"),
        }
        if Instant::now() > end {
            break;
        }
    }
    eprintln!("{target}: {tried} inputs");
}

/// What once broke a target.
fn kept(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    let Ok(files) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut paths: Vec<_> = files.flatten().map(|file| file.path()).collect();
    paths.sort();
    paths.iter().filter_map(|path| fs::read(path).ok()).collect()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_that_breaks_a_reader_is_found_and_shrunk() {
        let broken = catch_unwind(|| {
            fuzz("of-itself", [b"version=1\nsize=12\n".to_vec()], |input| {
                assert!(!input.windows(2).any(|pair| pair == b"\n\n"), "two line ends");
            });
        });
        let why = *broken.unwrap_err().downcast::<String>().unwrap();
        assert!(why.contains("0a0a") && why.contains("SEED="), "{why}");
    }
}
