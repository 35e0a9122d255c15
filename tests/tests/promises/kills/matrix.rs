//! Every kill of a scenario, by several worlds at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tests::fail_point::Boundary;
use tests::failure::{Failure, Outcome, ensure};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::boundaries::{self, Passed};
use super::scenario::Scenario;
use super::slot::Slot;
use super::trial::{Kill, Victim};

/// Worlds of one scenario at work. They mostly wait for disks and back-offs.
const WORLDS: usize = 4;

/// Worlds of all scenarios at work.
static AT_WORK: Semaphore = Semaphore::const_new(6);

/// Runs only the kills whose text holds this.
const ONLY: &str = "KILL_ONLY";

/// What is still to be tried, and what came of it.
#[derive(Debug, Default)]
struct Board {
    open: VecDeque<Kill>,
    tried: usize,
    failures: Vec<Failure>,
    /// What the host passed after a kill, and a kill that led there.
    recoveries: BTreeMap<String, Kill>,
}

/// Tries every kill of a scenario.
pub(super) async fn run(scenario: Scenario) -> Outcome<()> {
    let mut first = Slot::make(scenario).await?;
    let passed = boundaries::passed(&mut first).await?;
    let mut slots = vec![first];
    for _ in 1..WORLDS {
        slots.push(Slot::make(scenario).await?);
    }
    let board = Arc::new(Mutex::new(Board {
        open: kills(&passed).filter(wanted).collect(),
        ..Board::default()
    }));
    let slots = work(slots, &board).await?;
    // Then the kills during recovery, at each step that only a recovery passes.
    let again = lock(&board, |board| second_kills(&passed, &board.recoveries));
    lock(&board, |board| {
        board.open.extend(again.into_iter().filter(wanted))
    });
    work(slots, &board).await?;
    let board = lock(&board, std::mem::take);
    eprintln!(
        "{scenario:?}: {} kills, {} failed",
        board.tried,
        board.failures.len()
    );
    if std::env::var_os(ONLY).is_none() {
        nothing_is_missing(scenario, &passed, &board)?;
    }
    let failures: Vec<_> = board.failures.iter().map(ToString::to_string).collect();
    ensure(failures.is_empty(), || {
        format!(
            "{} of {} kills:\n\n{}",
            failures.len(),
            board.tried,
            failures.join("\n\n")
        )
    })
}

/// Each boundary, with the one who passes it killed alone, and with both.
fn kills(passed: &Passed) -> impl Iterator<Item = Kill> {
    let of = |victim, boundaries: &[Boundary]| {
        let boundaries = boundaries.to_vec();
        boundaries.into_iter().flat_map(move |boundary| {
            [false, true].map(|both| Kill {
                victim,
                boundary: boundary.clone(),
                both,
                again: None,
            })
        })
    };
    of(Victim::Host, &passed.host).chain(of(Victim::Engine, &passed.engine))
}

/// A second kill at each step that the host passes only while it recovers.
fn second_kills(passed: &Passed, recoveries: &BTreeMap<String, Kill>) -> Vec<Kill> {
    let usual: BTreeSet<_> = passed.host.iter().map(|boundary| &boundary.point).collect();
    recoveries
        .iter()
        .filter(|(point, _)| !usual.contains(point) && is_a_step(point))
        .map(|(point, kill)| Kill {
            again: Some(Boundary {
                point: point.clone(),
                hit: 1,
            }),
            ..kill.clone()
        })
        .collect()
}

fn is_a_step(point: &str) -> bool {
    point.ends_with(".before") || point.ends_with(".after")
}

fn wanted(kill: &Kill) -> bool {
    std::env::var(ONLY).map_or(true, |only| kill.to_string().contains(&only))
}

/// Empties the board.
async fn work(slots: Vec<Slot>, board: &Arc<Mutex<Board>>) -> Outcome<Vec<Slot>> {
    let mut workers = JoinSet::new();
    for mut slot in slots {
        let board = Arc::clone(board);
        workers.spawn(async move {
            while let Some(kill) = lock(&board, |board| board.open.pop_front()) {
                let _permit = AT_WORK.acquire().await.map_err(Failure::new)?;
                let outcome = slot.survive(&kill).await;
                let passed = boundaries::names(&slot.traces().host);
                lock(&board, |board| {
                    board.tried += 1;
                    board.failures.extend(outcome.err());
                    if kill.victim == Victim::Host && kill.again.is_none() {
                        for point in passed {
                            board.recoveries.entry(point).or_insert_with(|| kill.clone());
                        }
                    }
                });
            }
            slot.world.kill_engine().await?;
            slot.world.kill_host().await?;
            Ok::<_, Failure>(slot)
        });
    }
    workers.join_all().await.into_iter().collect()
}

/// The host's table names no step that was never passed.
fn nothing_is_missing(scenario: Scenario, passed: &Passed, board: &Board) -> Outcome<()> {
    ensure(board.tried > passed.host.len() + passed.engine.len(), || {
        "too few kills were tried".to_owned()
    })?;
    let verb = match scenario {
        Scenario::Remove => "delete_image",
        Scenario::Create | Scenario::CreateFailing => "create_volume",
    };
    let seen: BTreeSet<&String> = passed
        .host
        .iter()
        .map(|boundary| &boundary.point)
        .chain(board.recoveries.keys())
        .collect();
    let table = boundaries::table_of(verb)?;
    let missing: Vec<_> = table.iter().filter(|point| !seen.contains(point)).collect();
    ensure(!table.is_empty() && missing.is_empty(), || {
        format!("never hit: {missing:?}")
    })
}

fn lock<T>(board: &Mutex<Board>, look: impl FnOnce(&mut Board) -> T) -> T {
    look(&mut board.lock().unwrap_or_else(PoisonError::into_inner))
}
