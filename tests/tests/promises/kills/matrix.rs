//! The kills of a scenario, tried by several worlds at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tests::fail_point::Boundary;
use tests::failure::{Failure, TestResult, ensure};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::boundaries;
use super::choice::Choice;
use super::scenario::Scenario;
use super::slot::Slot;
use super::trial::{Kill, Traces, Victim};

/// The maximum number of worlds at work, over all scenarios.
static AT_WORK: Semaphore = Semaphore::const_new(6);

/// The number of runs of an errand for a second kill, in which first the way there must come and then the point once
/// more; and of an errand for a point at which the first runs killed nobody.
const ATTEMPTS_AGAIN: usize = 12;

/// A kill, in as many ways as are known to lead to it, once for each attempt.
pub(super) type Errand = Vec<Kill>;

/// A point at which a victim was killed, and whether the other service was killed with it.
type Hit = (Victim, String, bool);

/// The errands still to be tried, and the results.
#[derive(Debug, Default)]
struct Board {
    /// The points that each run passes, at which nobody was killed yet.
    always: BTreeMap<Victim, BTreeSet<String>>,
    open: VecDeque<Errand>,
    runs: usize,
    failures: Vec<Failure>,
    hits: BTreeSet<Hit>,
    /// The kill of each errand whose passage came in none of its runs.
    missed: Vec<Kill>,
    /// The points that the host passed after a kill, and the kills that led there.
    recoveries: BTreeMap<String, Errand>,
}

/// Tries the chosen kills of a scenario.
pub(super) async fn run(scenario: Scenario) -> TestResult<()> {
    let choice = Choice::given();
    let mut first = Slot::make(scenario).await?;
    let (host, engine) = boundaries::passed(&mut first, choice.undisturbed_runs()).await?;
    let table = boundaries::table_of(scenario.verb())?;
    let mut slots = vec![first];
    for _ in 1..choice.worlds() {
        slots.push(Slot::make(scenario).await?);
    }
    let mut errands = choice.kills(Victim::Host, host.passages);
    errands.extend(choice.kills(Victim::Engine, engine.passages));
    let tried: BTreeSet<Hit> = errands.iter().flatten().map(Kill::at_boundary).collect();
    let board = Arc::new(Mutex::new(Board {
        always: [(Victim::Host, host.always), (Victim::Engine, engine.always)].into(),
        open: errands.into(),
        ..Board::default()
    }));
    let slots = work(slots, &board).await?;
    // Then, at each step where no kill has come yet, the kills that depend on timing, and those during recovery.
    lock(&board, |board| {
        let (unlucky, again) = (unlucky_kills(board), second_kills(&table, board));
        board.open.extend(unlucky);
        board.open.extend(choice.again(again));
    });
    work(slots, &board).await?;
    let board = lock(&board, std::mem::take);
    let missed: Vec<_> = board.missed.iter().map(ToString::to_string).collect();
    eprintln!(
        "{scenario:?}: {choice}: {} runs, {} points, {} failed; passages that did not come again: {missed:?}",
        board.runs,
        board.hits.len(),
        board.failures.len(),
    );
    let failures: Vec<_> = board.failures.iter().map(ToString::to_string).collect();
    ensure(failures.is_empty(), || {
        format!(
            "{choice}: {} of {} runs:\n\n{}",
            failures.len(),
            board.runs,
            failures.join("\n\n")
        )
    })?;
    match choice {
        Choice::All => {
            nothing_of_the_table_is_missing(&table, &board)?;
            nothing_that_always_comes_is_missing(&tried, &board)
        }
        Choice::Sample { .. } => nothing_that_always_comes_is_missing(&tried, &board),
        Choice::Only(_) => Ok(()),
    }
}

/// One errand for each point at which a kill was missed and no other kill came.
fn unlucky_kills(board: &Board) -> Vec<Errand> {
    let mut unlucky: BTreeMap<Hit, Errand> = BTreeMap::new();
    for kill in &board.missed {
        unlucky.entry(kill.at_boundary()).or_default().push(kill.clone());
    }
    unlucky.retain(|hit, _| !board.hits.contains(hit));
    unlucky.into_values().map(often).collect()
}

/// As many attempts as a kill that depends on timing needs, using each way in turn.
fn often(ways: Errand) -> Errand {
    ways.into_iter().cycle().take(ATTEMPTS_AGAIN).collect()
}

/// A second kill at each step of the table that the host passed during a recovery and at which it was not killed:
/// either only a recovery passes the step, or an undisturbed run passes it by chance, and it did not come again. A
/// first kill at a step of the table leads there again most surely, so those come first; what follows a kill
/// elsewhere is often chance.
fn second_kills(table: &BTreeSet<String>, board: &Board) -> Vec<Errand> {
    let was_killed = |point: &str| {
        [false, true]
            .iter()
            .any(|both| board.hit(Victim::Host, point, *both))
    };
    board
        .recoveries
        .iter()
        .filter(|(point, _)| table.contains(*point) && !was_killed(point))
        .map(|(point, ways)| {
            let again = Some(Boundary {
                point: point.clone(),
                hit: 1,
            });
            let mut ways = ways.clone();
            ways.sort_by_key(|kill| !table.contains(&kill.boundary.point));
            for kill in &mut ways {
                kill.again.clone_from(&again);
            }
            often(ways)
        })
        .collect()
}

/// Works until the board is empty.
async fn work(slots: Vec<Slot>, board: &Arc<Mutex<Board>>) -> TestResult<Vec<Slot>> {
    let mut workers = JoinSet::new();
    for mut slot in slots {
        let board = Arc::clone(board);
        workers.spawn(async move {
            while let Some(errand) = lock(&board, |board| board.open.pop_front()) {
                let _permit = AT_WORK.acquire().await.map_err(Failure::new)?;
                attempt(&mut slot, &errand, &board).await;
            }
            slot.world.kill_engine().await?;
            slot.world.kill_host().await?;
            Ok::<_, Failure>(slot)
        });
    }
    workers.join_all().await.into_iter().collect()
}

/// Tries one errand until its kill has come. A run without the kill counts as undisturbed.
async fn attempt(slot: &mut Slot, errand: &Errand, board: &Mutex<Board>) {
    for kill in errand {
        let outcome = slot.survive(kill).await;
        let is_done = !matches!(outcome, Ok(false));
        lock(board, |board| board.note(kill, outcome, &slot.traces()));
        if is_done {
            return;
        }
    }
    lock(board, |board| board.missed.extend(errand.last().cloned()));
}

impl Kill {
    fn at_boundary(&self) -> Hit {
        (self.victim, self.boundary.point.clone(), self.both)
    }
}

impl Board {
    /// Records a run: what the host passed after the kill, or what the victim passed without a kill.
    fn note(&mut self, kill: &Kill, outcome: TestResult<bool>, traces: &Traces) {
        self.runs += 1;
        match outcome {
            Err(failure) => self.failures.push(failure),
            // The first kill came.
            Ok(false) if kill.again.is_some() => return,
            Ok(false) => {
                let passed = boundaries::names(&traces.victim);
                match self.always.get_mut(&kill.victim) {
                    Some(always) if !passed.is_empty() => always.retain(|point| passed.contains(point)),
                    _ => self
                        .failures
                        .push(Failure::new(format!("{kill}: nothing was traced"))),
                }
                return;
            }
            Ok(true) => {
                self.hits.insert(kill.at_boundary());
                let again = kill.again.as_ref();
                let again = again.map(|boundary| (kill.victim, boundary.point.clone(), kill.both));
                self.hits.extend(again);
            }
        }
        if kill.victim == Victim::Host && kill.again.is_none() {
            for point in boundaries::names(&traces.host) {
                self.recoveries.entry(point).or_default().push(kill.clone());
            }
        }
    }

    fn hit(&self, victim: Victim, point: &str, both: bool) -> bool {
        self.hits.contains(&(victim, point.to_owned(), both))
    }
}

/// Checks that the host was killed at each step of its own table.
fn nothing_of_the_table_is_missing(table: &BTreeSet<String>, board: &Board) -> TestResult<()> {
    let missing: Vec<_> = table
        .iter()
        .filter(|point| !(board.hit(Victim::Host, point, false) || board.hit(Victim::Host, point, true)))
        .collect();
    ensure(!table.is_empty() && missing.is_empty(), || {
        format!("steps of the host's table at which it was never killed: {missing:?}")
    })
}

/// Checks that at each tried point that every undisturbed run passed, somebody was killed: alone, together, or both,
/// as tried.
fn nothing_that_always_comes_is_missing(tried: &BTreeSet<Hit>, board: &Board) -> TestResult<()> {
    let always = |hit: &&Hit| {
        board
            .always
            .get(&hit.0)
            .is_some_and(|always| always.contains(&hit.1))
    };
    let missing: Vec<_> = tried
        .iter()
        .filter(always)
        .filter(|hit| !board.hits.contains(*hit))
        .collect();
    ensure(!tried.is_empty() && missing.is_empty(), || {
        format!("never hit, though it always comes: {missing:?}")
    })
}

fn lock<T>(board: &Mutex<Board>, look: impl FnOnce(&mut Board) -> T) -> T {
    look(&mut board.lock().unwrap_or_else(PoisonError::into_inner))
}
