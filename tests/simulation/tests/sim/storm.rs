//! What goes wrong, by the seed: links that lose and delay, connections that break, processes that die, data
//! directories that are lost, clocks that jump.

use std::rc::Rc;
use std::time::Duration;

use turmoil::Sim;

use crate::ground::{ENGINE, Ground};

/// The clients' node.
pub(crate) const CLIENT: &str = "client";

/// A thing that goes wrong now, and how it ends.
enum Ends {
    /// The node is started again.
    Bounce(String),
    /// The link is whole again.
    Repair(String, String),
    /// What was held is delivered.
    Release(String, String),
}

/// See the module. It is asked before each step of the simulation.
pub(crate) struct Storm {
    ground: Rc<Ground>,
    next: Duration,
    under_way: Vec<(Duration, Ends)>,
}

impl Storm {
    pub(crate) fn over(ground: &Rc<Ground>) -> Self {
        Self {
            ground: Rc::clone(ground),
            next: Duration::ZERO,
            under_way: Vec::new(),
        }
    }

    /// What is due now. When the weather turns calm everything ends at once, and nothing begins any more.
    pub(crate) fn blow(&mut self, sim: &mut Sim<'_>) {
        let (now, stormy) = (sim.elapsed(), self.ground.stormy.get());
        let due = |end: &Duration| !stormy || *end <= now;
        let (over, rest) = std::mem::take(&mut self.under_way)
            .into_iter()
            .partition(|(end, _)| due(end));
        self.under_way = rest;
        let over: Vec<(Duration, Ends)> = over;
        over.into_iter().for_each(|(_, end)| self.end(sim, end));
        if self.ground.afresh.take() {
            for node in self.ground.nodes() {
                self.note(sim, format!("{node} dies, for the last time"));
                sim.crash(&*node);
                sim.bounce(&*node);
            }
        }
        if stormy && now >= self.next {
            self.begin(sim, now);
            self.next = now + self.ground.fate.between(100, 6_000);
        }
    }

    fn begin(&mut self, sim: &mut Sim<'_>, now: Duration) {
        let ground = Rc::clone(&self.ground);
        let fate = &ground.fate;
        let nodes = ground.nodes();
        let node = nodes[fate.below(nodes.len())].clone();
        let host = &ground.hosts[fate.below(ground.hosts.len())];
        // Mostly between the engine and a host; now and then between a client and whoever.
        let (one, other) = match fate.below(4) {
            0 => (CLIENT.to_owned(), node.clone()),
            _ => (ENGINE.to_owned(), host.node.clone()),
        };
        let until = now + fate.between(0, 20_000);
        match fate.below(100) {
            0..20 => {
                self.note(sim, format!("{one} and {other} are cut off from each other"));
                sim.partition(&*one, &*other);
                self.under_way.push((until, Ends::Repair(one, other)));
            }
            20..30 => {
                self.note(sim, format!("{one} no longer reaches {other}"));
                sim.partition_oneway(&*one, &*other);
                self.under_way.push((until, Ends::Repair(one, other)));
            }
            30..45 => {
                self.note(sim, format!("{one} and {other} are held"));
                sim.hold(&*one, &*other);
                self.under_way.push((until, Ends::Release(one, other)));
            }
            45..75 => {
                self.crash(sim, node, until, now);
            }
            75..80 => {
                if self.crash(sim, host.node.clone(), until, now) {
                    self.note(sim, format!("{} has lost its data directory", host.node));
                    host.wipe();
                }
            }
            80..90 => {
                let by = fate.jump(&node);
                self.note(sim, format!("the clock of {node} is {by} s off"));
            }
            _ => {
                // Gone and back at once: what was on its way then is lost, and its connections with it.
                self.note(sim, format!("what is between {one} and {other} is lost"));
                sim.partition(&*one, &*other);
                self.under_way
                    .push((now + fate.between(10, 200), Ends::Repair(one, other)));
            }
        };
    }

    /// A process dies; false if it is dead already.
    fn crash(&mut self, sim: &mut Sim<'_>, node: String, until: Duration, now: Duration) -> bool {
        let dead = self
            .under_way
            .iter()
            .any(|(_, end)| matches!(end, Ends::Bounce(dead) if *dead == node));
        if dead {
            return false;
        }
        self.note(sim, format!("{node} dies"));
        sim.crash(&*node);
        // Half of them are back at once.
        let until = if self.ground.fate.percent(50) { now } else { until };
        self.under_way.push((until, Ends::Bounce(node)));
        true
    }

    fn end(&self, sim: &mut Sim<'_>, end: Ends) {
        match end {
            Ends::Bounce(node) => sim.bounce(&*node),
            Ends::Repair(one, other) => {
                self.note(sim, format!("{one} and {other} are whole again"));
                sim.repair(&*one, &*other);
            }
            Ends::Release(one, other) => {
                self.note(sim, format!("{one} and {other} are released"));
                sim.release(&*one, &*other);
            }
        }
    }

    fn note(&self, sim: &Sim<'_>, what: String) {
        self.ground.trace.note_at(sim.elapsed(), format!("storm: {what}"));
    }
}
