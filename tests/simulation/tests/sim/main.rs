//! Whole worlds in virtual time, one a seed.

mod fate;
mod ground;
mod net;
mod play;
mod storm;
mod trace;
mod verdict;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tests::failure::{Context as _, Failure, Outcome};

use self::fate::Fate;
use self::ground::{ENGINE, Ground};
use self::storm::{CLIENT, Storm};
use self::trace::Trace;

/// How far nodes get ahead of each other, at most.
const TICK: Duration = Duration::from_millis(2);

/// In virtual time; whatever takes longer hangs.
const LONGEST: Duration = Duration::from_secs(3_600 * 3);

/// Plays one world to its end; returns what happened in it.
fn world(seed: u64, hosts: usize) -> (Trace, Outcome<()>) {
    let fate = Fate::of(seed);
    let _entered = runtime::simulation::enter(Rc::clone(&fate) as Rc<dyn runtime::simulation::World>);
    let ground = Ground::new(Rc::clone(&fate), hosts);
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
        outcome.context(format!("SEED={seed} with {hosts} hosts")),
    )
}

#[test]
fn one() -> Outcome<()> {
    let first: u64 = std::env::var("SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(1);
    let count: u64 = std::env::var("COUNT")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(1);
    let hosts: usize = std::env::var("HOSTS")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(1);
    let mut failed = 0;
    for seed in first..first + count {
        let begin = std::time::Instant::now();
        let (trace, outcome) = world(seed, hosts);
        eprintln!(
            "{seed} {:?} {:x} {}",
            begin.elapsed(),
            trace.hash(),
            trace.lines().len()
        );
        if let Err(error) = outcome {
            failed += 1;
            eprintln!("{error}");
        }
    }
    if failed == 0 {
        Ok(())
    } else {
        Err(Failure::new(format!("{failed} failed")))
    }
}
