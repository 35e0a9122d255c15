//! Every kill of a scenario, by several worlds at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tests::fail_point::Boundary;
use tests::failure::{Failure, Outcome, ensure};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::boundaries;
use super::scenario::Scenario;
use super::slot::Slot;
use super::trial::{Kill, Traces, Victim};

/// Worlds of one scenario at work. They mostly wait for disks and back-offs.
const WORLDS: usize = 4;

/// Worlds of all scenarios at work.
static AT_WORK: Semaphore = Semaphore::const_new(6);

/// Runs of one errand: a passage that depends on timing does not come in each.
const ATTEMPTS: usize = 3;

/// The same for a second kill, where what leads to it has to come first and then this once more, and for a point at
/// which nobody was killed in the first runs.
const ATTEMPTS_AGAIN: usize = 12;

/// Runs only the kills whose text holds this.
const ONLY: &str = "KILL_ONLY";

/// A kill, in as many ways as are known to lead to it, once for each attempt.
type Errand = Vec<Kill>;

/// A point where somebody was killed, and whether the other one was killed with it.
type Hit = (Victim, String, bool);

/// What is still to be tried, and what came of it.
#[derive(Debug, Default)]
struct Board {
    /// The points that each run passes in which nobody was killed.
    always: BTreeMap<Victim, BTreeSet<String>>,
    open: VecDeque<Errand>,
    runs: usize,
    failures: Vec<Failure>,
    hits: BTreeSet<Hit>,
    /// The kill of each errand whose passage came in none of its runs.
    missed: Vec<Kill>,
    /// What the host passed after a kill, and the kills that led there.
    recoveries: BTreeMap<String, Errand>,
}

/// Tries every kill of a scenario.
pub(super) async fn run(scenario: Scenario) -> Outcome<()> {
    let mut first = Slot::make(scenario).await?;
    let (host, engine) = boundaries::passed(&mut first).await?;
    let table = boundaries::table_of(scenario.verb())?;
    let mut slots = vec![first];
    for _ in 1..WORLDS {
        slots.push(Slot::make(scenario).await?);
    }
    let turn = usize::from(rand::random::<bool>());
    let errands =
        kills(Victim::Host, host.passages, turn).chain(kills(Victim::Engine, engine.passages, turn));
    let board = Arc::new(Mutex::new(Board {
        always: [(Victim::Host, host.always), (Victim::Engine, engine.always)].into(),
        open: errands.filter(wanted).collect(),
        ..Board::default()
    }));
    let slots = work(slots, &board).await?;
    // Then, at each step where none has come yet, those that need luck, and those during recovery.
    lock(&board, |board| {
        let (unlucky, again) = (unlucky_kills(board), second_kills(&table, board));
        board.open.extend(unlucky);
        board.open.extend(again.into_iter().filter(wanted));
    });
    work(slots, &board).await?;
    let board = lock(&board, std::mem::take);
    let missed: Vec<_> = board.missed.iter().map(ToString::to_string).collect();
    eprintln!(
        "{scenario:?}: {} runs, {} points, {} failed; turn {turn}; passages that did not come again: {missed:?}",
        board.runs,
        board.hits.len(),
        board.failures.len(),
    );
    let failures: Vec<_> = board.failures.iter().map(ToString::to_string).collect();
    ensure(failures.is_empty(), || {
        format!(
            "{} of {} runs:\n\n{}",
            failures.len(),
            board.runs,
            failures.join("\n\n")
        )
    })?;
    if std::env::var_os(ONLY).is_none() {
        nothing_is_missing(&table, &board)?;
    }
    Ok(())
}

/// Each passage: at the first and the last of a point with the one who passes it killed alone, and with both; between
/// them with one of these, by turns, and which ones by chance. With `KILLS=all` each in both ways.
fn kills(victim: Victim, passages: BTreeSet<Boundary>, turn: usize) -> impl Iterator<Item = Errand> {
    let all = std::env::var("KILLS").is_ok_and(|kills| kills == "all");
    let mut of_point: BTreeMap<String, Vec<Boundary>> = BTreeMap::new();
    for boundary in passages {
        of_point.entry(boundary.point.clone()).or_default().push(boundary);
    }
    of_point.into_values().flat_map(move |mut boundaries| {
        boundaries.sort_by_key(|boundary| boundary.hit);
        let last = boundaries.len() - 1;
        let each = boundaries.into_iter().enumerate().flat_map(move |(n, boundary)| {
            let ways = match (n + turn) % 2 {
                _ if all || n == 0 || n == last => [false, true].as_slice(),
                0 => &[false],
                _ => &[true],
            };
            ways.iter().map(move |both| {
                let kill = Kill {
                    victim,
                    boundary: boundary.clone(),
                    both: *both,
                    again: None,
                };
                vec![kill; ATTEMPTS]
            })
        });
        each.collect::<Vec<_>>()
    })
}

/// One errand for each point where some did not come and no other came.
fn unlucky_kills(board: &Board) -> Vec<Errand> {
    let mut unlucky: BTreeMap<Hit, Errand> = BTreeMap::new();
    for kill in &board.missed {
        unlucky.entry(kill.at_boundary()).or_default().push(kill.clone());
    }
    unlucky.retain(|hit, _| !board.hits.contains(hit));
    unlucky.into_values().map(often).collect()
}

/// As many attempts as for what needs luck, each way in its turn.
fn often(ways: Errand) -> Errand {
    ways.into_iter().cycle().take(ATTEMPTS_AGAIN).collect()
}

/// A second kill at each step of the table that the host passed while it recovered, and at which it was not killed: because
/// only a recovery passes it, or because an undisturbed run passes it by chance, and it did not come again. A first kill at a
/// step of the table leads there again most surely, so those come first; what follows a kill elsewhere is often chance.
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

fn wanted(errand: &Errand) -> bool {
    let only = std::env::var(ONLY);
    only.map_or(true, |only| {
        errand.iter().any(|kill| kill.to_string().contains(&only))
    })
}

/// Empties the board.
async fn work(slots: Vec<Slot>, board: &Arc<Mutex<Board>>) -> Outcome<Vec<Slot>> {
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

/// Tries one errand until its kill has come. A run without it is an undisturbed one.
async fn attempt(slot: &mut Slot, errand: &Errand, board: &Mutex<Board>) {
    for kill in errand {
        let outcome = slot.survive(kill).await;
        let is_done = !matches!(outcome, Ok(false));
        lock(board, |board| board.note(kill, outcome, &slot.traces()));
        if is_done {
            return;
        }
    }
    lock(board, |board| board.missed.extend(errand.first().cloned()));
}

impl Kill {
    fn at_boundary(&self) -> Hit {
        (self.victim, self.boundary.point.clone(), self.both)
    }
}

impl Board {
    /// What came of a run: what the host passed after the kill, or what the victim passed without one.
    fn note(&mut self, kill: &Kill, outcome: Outcome<bool>, traces: &Traces) {
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

/// Everybody was killed, alone and together, at each point that every undisturbed run passed; and the host at each
/// step of its own table.
fn nothing_is_missing(table: &BTreeSet<String>, board: &Board) -> Outcome<()> {
    let mut missing: Vec<String> = table
        .iter()
        .filter(|point| !(board.hit(Victim::Host, point, false) || board.hit(Victim::Host, point, true)))
        .map(|point| format!("{point} of the host's table"))
        .collect();
    for (victim, always) in &board.always {
        for (point, both) in always.iter().flat_map(|point| [(point, false), (point, true)]) {
            if !board.hit(*victim, point, both) {
                missing.push(format!("{victim:?} {point}, both {both}"));
            }
        }
    }
    ensure(!table.is_empty() && missing.is_empty(), || {
        format!("never hit: {missing:?}")
    })
}

fn lock<T>(board: &Mutex<Board>, look: impl FnOnce(&mut Board) -> T) -> T {
    look(&mut board.lock().unwrap_or_else(PoisonError::into_inner))
}
