//! Whole worlds in virtual time, one a seed: both services as they are, over a network that loses, delays and cuts,
//! with processes that die, data directories that are lost and clocks that jump; and then calm, in which everything
//! must end, agree, and be free.
//!
//! `SEED=N` (with `HOSTS=N`, where that was given) plays one world again, `SEED=N SIM_TRACE=1` shows all that happens in it, and `SIM_SECONDS=N` goes on with
//! the seeds after it for as long.

mod fate;
mod ground;
mod net;
mod play;
mod requests;
mod storm;
mod trace;
mod verdict;
mod wear;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tests::failure::{Context as _, Failure, TestResult, ensure};

use self::fate::Fate;
use self::ground::{ENGINE, Ground, Weather};
use self::storm::{CLIENT, Storm};
use self::trace::Trace;

/// How far nodes get ahead of each other, at most.
const TICK: Duration = Duration::from_millis(2);

/// In virtual time; whatever takes longer hangs.
const LONGEST: Duration = Duration::from_secs(3_600 * 3);

/// One world at a time: see [`count_on`].
static ALONE: Mutex<()> = Mutex::new(());

/// Tasks of one process are counted, and in what order those of a node that dies are dropped depends on their
/// numbers, by so many and less. So each world begins where such a round does.
const ROUND: u64 = 64;

/// Goes on to where a round of task numbers begins.
fn count_on() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let number = || {
        runtime
            .spawn(async {})
            .id()
            .to_string()
            .parse::<u64>()
            .expect("a number")
    };
    while !number().is_multiple_of(ROUND) {}
}

/// Plays one world to its end; returns what happened in it.
fn world(seed: u64, hosts: usize, weather: Weather) -> (Trace, TestResult<()>) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    count_on();
    let fate = Fate::of(seed);
    let _entered = runtime::simulation::enter(Rc::clone(&fate) as Rc<dyn runtime::simulation::World>);
    let ground = Ground::new(Rc::clone(&fate), hosts, weather);
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .tick_duration(TICK)
        .simulation_duration(LONGEST)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(30))
        .tcp_capacity(4_096)
        .build();
    let engine = Rc::clone(&ground);
    sim.host(ENGINE, move || Rc::clone(&engine).run_engine());
    for n in 0..hosts {
        let host = Rc::clone(&ground);
        sim.host(ground.hosts[n].node.as_str(), move || {
            Rc::clone(&host).run_host(n)
        });
    }
    let outcome = Rc::new(RefCell::new(None));
    let (told, played) = (Rc::clone(&outcome), Rc::clone(&ground));
    sim.client(CLIENT, async move {
        played.fate.starts(CLIENT);
        *told.borrow_mut() = Some(play::play(played).await);
        Ok(())
    });
    let mut storm = Storm::over(&ground);
    let stepped = loop {
        storm.blow(&mut sim);
        match sim.step() {
            Ok(false) => {}
            Ok(true) => break Ok(()),
            Err(error) => break Err(Failure::new(error.to_string())),
        }
    };
    drop(sim);
    let told = outcome.borrow_mut().take();
    let outcome = stepped.and_then(|()| told.unwrap_or_else(|| Err(Failure::new("nobody judged"))));
    (
        ground.trace.clone(),
        outcome.context(format!("the world of SEED={seed}, with {hosts} hosts")),
    )
}

/// How long the seeds go on where nobody says.
const ROUNDS: Duration = Duration::from_secs(15);

/// Worlds that there are at least where nobody says, however long they take.
const WORLDS: u64 = 6;

/// Worlds that are played at most until all of that has happened which must: which they are is the seeds', and not a matter of how
/// fast the machine is.
const WORLDS_AT_MOST: u64 = 40;

/// What must have happened in them, else they are in for nothing: words of one line of a history each.
const HAPPENED: [&[&str]; 14] = [
    &["CREATE_VM", "SUCCEEDED"],
    &["REMOVE_VM", "SUCCEEDED"],
    &["COPY_DISK", "SUCCEEDED"],
    &["CANCELLED"],
    &["NEEDS_ATTENTION"],
    &["engine dies"],
    &["host-1 dies"],
    &["has lost its data directory"],
    &["are cut off from each other"],
    &["are held"],
    &["the clock of", "off"],
    &["a commit fails: Before"],
    &["a commit fails: After"],
    &["fails as"],
];

/// Lines of a history that are shown where it ends badly.
const SHOWN: usize = 40;

/// Mostly a few hosts; now and then as many as an engine is meant for; `HOSTS` where that is given.
fn hosts_of(seed: u64) -> usize {
    if let Some(hosts) = given("HOSTS") {
        return usize::try_from(hosts).unwrap_or(1).max(1);
    }
    match seed % 16 {
        0 => 20,
        n => 1 + usize::try_from(n % 4).unwrap_or_default(),
    }
}

/// A number that somebody gives.
fn given(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn in_calm_weather_all_that_is_asked_for_is_done() -> TestResult<()> {
    let (trace, outcome) = world(7, 1, Weather::Calm);
    outcome?;
    ensure(trace.has(&["CREATE_VM", "SUCCEEDED"]), || {
        "no VM was made".to_owned()
    })
}

#[test]
fn the_same_seed_has_the_same_history() -> TestResult<()> {
    let seed = given("SEED").unwrap_or(3);
    let [one, again] = [(); 2].map(|()| world(seed, hosts_of(seed), Weather::Stormy).0);
    let pairs = one.lines().into_iter().zip(again.lines());
    let differ = pairs.enumerate().find(|(_, (one, again))| one != again);
    ensure(one.hash() == again.hash(), || format!("SEED={seed}: {differ:#?}"))?;
    let (other, _) = world(seed + 4, hosts_of(seed), Weather::Stormy);
    ensure(one.hash() != other.hash(), || {
        "another seed has the same history".to_owned()
    })
}

#[test]
fn whatever_goes_wrong_everything_ends_and_agrees() -> TestResult<()> {
    let seconds = given("SIM_SECONDS").map(Duration::from_secs);
    let (chosen, begin) = (given("SEED"), Instant::now());
    let first = chosen.unwrap_or(1);
    let least = if chosen.is_some() { 1 } else { WORLDS };
    let round = seconds.unwrap_or(if chosen.is_some() { Duration::ZERO } else { ROUNDS });
    let mut never: Vec<_> = HAPPENED.to_vec();
    let mut worlds = 0;
    for seed in first.. {
        let (trace, outcome) = world(seed, hosts_of(seed), Weather::Stormy);
        if outcome.is_err() {
            let lines = trace.lines();
            let last = &lines[lines.len().saturating_sub(SHOWN)..];
            eprintln!(
                "the last of {} lines of SEED={seed}:\n{}",
                lines.len(),
                last.join("\n")
            );
        }
        outcome?;
        if chosen.is_some() {
            eprintln!(
                "SEED={seed}: {} lines, {:016x}",
                trace.lines().len(),
                trace.hash()
            );
        }
        never.retain(|words| !trace.has(words));
        worlds += 1;
        let waits = chosen.is_none() && !never.is_empty() && worlds < WORLDS_AT_MOST;
        if worlds >= least && begin.elapsed() >= round && !waits {
            break;
        }
    }
    ensure(chosen.is_some() || never.is_empty(), || {
        format!("{worlds} worlds, and this never happened: {never:?}")
    })?;
    eprintln!("{worlds} worlds from SEED={first} on ended well");
    Ok(())
}
