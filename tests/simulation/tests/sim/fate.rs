//! What is drawn by the seed: chance, how long things take, and what each node's wall clock shows.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use common::time::Timestamp;
use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use runtime::simulation::{Takes, World};
use tokio::runtime::Handle;

/// When every world begins: 2026-01-01, in microseconds.
const BEGIN: i64 = 1_767_225_600_000_000;

/// By how much a wall clock jumps at most, in seconds: a day.
const JUMP: i64 = 86_400;

/// See the module.
pub(crate) struct Fate {
    random: RefCell<StdRng>,
    /// By how much the wall clock of a node is off, in seconds; a node is known by its present runtime.
    clocks: RefCell<BTreeMap<String, Rc<Cell<i64>>>>,
    runtimes: RefCell<BTreeMap<String, Rc<Cell<i64>>>>,
    /// Disks and storage are slow now and then.
    stalls: Cell<bool>,
}

impl Fate {
    pub(crate) fn of(seed: u64) -> Rc<Self> {
        Rc::new(Self {
            random: RefCell::new(StdRng::seed_from_u64(seed)),
            clocks: RefCell::default(),
            runtimes: RefCell::default(),
            stalls: Cell::new(false),
        })
    }

    /// From 0 up to, but not including, `n`.
    pub(crate) fn below(&self, n: usize) -> usize {
        self.random.borrow_mut().random_range(0..n)
    }

    /// So many times of a hundred.
    pub(crate) fn percent(&self, times: usize) -> bool {
        self.below(100) < times
    }

    /// A duration between these, in milliseconds.
    pub(crate) fn between(&self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.random.borrow_mut().random_range(least..=most))
    }

    /// Whether disks and storage stall now and then.
    pub(crate) fn stall(&self, stalls: bool) {
        self.stalls.set(stalls);
    }

    /// The node's software starts: from here on its clock is the node's.
    pub(crate) fn starts(&self, node: &str) {
        let clock = Rc::clone(self.clocks.borrow_mut().entry(node.to_owned()).or_default());
        let runtime = Handle::current().id().to_string();
        self.runtimes.borrow_mut().insert(runtime, clock);
    }

    /// The node's wall clock jumps, to and fro.
    pub(crate) fn jump(&self, node: &str) -> i64 {
        let by = self.random.borrow_mut().random_range(-JUMP..=JUMP);
        let clock = Rc::clone(self.clocks.borrow_mut().entry(node.to_owned()).or_default());
        clock.set(by);
        by
    }
}

impl World for Fate {
    fn now(&self) -> Timestamp {
        let runtime = Handle::try_current().map(|runtime| runtime.id().to_string());
        let off = runtime
            .ok()
            .and_then(|id| self.runtimes.borrow().get(&id).map(|clock| clock.get()))
            .unwrap_or_default();
        let elapsed = turmoil::sim_elapsed().unwrap_or_default();
        let elapsed = i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX);
        Timestamp(BEGIN + elapsed).plus_seconds(off)
    }

    fn chance(&self) -> u64 {
        self.random.borrow_mut().next_u64()
    }

    fn time_for(&self, what: Takes) -> Duration {
        match what {
            Takes::Commit if self.stalls.get() && self.percent(2) => self.between(100, 2_000),
            Takes::Commit => self.between(0, 8),
            Takes::Step if self.stalls.get() && self.percent(5) => self.between(100, 5_000),
            Takes::Step => self.between(0, 20),
        }
    }

    fn steps_ahead(&self) -> bool {
        self.percent(30)
    }
}
