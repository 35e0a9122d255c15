//! Engine, hosts and the wires between them. Effects wait until they are performed; answers and frames may be
//! lost, doubled or late.

use std::collections::{BTreeMap, BTreeSet};

use std::time::Duration;

use common::Timestamp;
use common::age::AgeClock;
use common::id::{CommandId, DiskId, HostId};

use super::{Engine, FakeHost, command_id, domain_id, host_id, submission};
use crate::change::Change;
use crate::effect::Effect;
use crate::input::{Frame, Input, MAX_LOCK_WAIT};
use crate::model::AddHost;
use crate::model::CommandRequest;
use crate::model::CreateStorageDomain;
use crate::model::{Command, CommandState, EntityKey, Parameters};
use crate::step::{Reply, Transition};

/// Where an open stream is in the host's history.
struct Stream {
    at: usize,
    snapshot: bool,
}

pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) hosts: BTreeMap<HostId, FakeHost>,
    /// Whom the engine's shell tries to reach.
    pub(crate) followed: BTreeMap<HostId, String>,
    streams: BTreeMap<HostId, Stream>,
    /// Effects that have not been answered.
    pub(crate) pending: Vec<Effect>,
    /// What was said before and may be said again.
    pub(crate) said: Vec<Input>,
    /// Images of which commands that were given up left something.
    pub(crate) leftovers: BTreeSet<DiskId>,
    pub(crate) counts: super::invariants::Counts,
    /// How often the process was killed.
    crashes: u64,
}

impl World {
    pub(crate) fn new(hosts: u128) -> Self {
        Self {
            engine: Engine::new(),
            hosts: (0..hosts)
                .map(|n| (host_id(n), FakeHost::new(host_id(n))))
                .collect(),
            followed: BTreeMap::new(),
            streams: BTreeMap::new(),
            pending: Vec::new(),
            said: Vec::new(),
            leftovers: BTreeSet::new(),
            counts: super::invariants::Counts::default(),
            crashes: 0,
        }
    }

    /// With hosts added, each with a domain of the same number.
    pub(crate) fn with_domains(hosts: u128) -> Self {
        Self::with_domains_and(hosts, 0)
    }

    /// The same, and with more hosts that nobody has added.
    pub(crate) fn with_domains_and(hosts: u128, more: u128) -> Self {
        let mut world = Self::new(hosts + more);
        for n in 0..hosts {
            world.submit(0x100 + n, "AddHost", add_host(n));
            world.settle();
            world.submit(0x200 + n, "CreateStorageDomain", create_domain(n, n));
            world.settle();
        }
        world
    }

    pub(crate) fn submit(&mut self, n: u128, rpc: &str, request: CommandRequest) -> Reply {
        self.step(Input::Submit(Box::new(submission(n, rpc, request))))
            .reply
    }

    pub(crate) fn step(&mut self, mut input: Input) -> Transition {
        if may_come_again(&input) {
            self.said.push(input.clone());
        }
        self.mark_settled(&mut input);
        let transition = self.engine.step(input);
        if self.engine.was_cut() {
            self.counts.restart(self.engine.records.values());
            self.crash();
            return transition;
        }
        let mut counts = std::mem::take(&mut self.counts);
        super::invariants::after(self, &mut counts, &transition);
        self.counts = counts;
        self.note_leftovers(&transition);
        for effect in &transition.effects {
            self.take(effect.clone());
        }
        transition
    }

    /// As the engine's shell does it: of what a host shows, that is marked of which a record is kept that is final.
    fn mark_settled(&self, input: &mut Input) {
        let Input::Observed { frame, .. } = input else {
            return;
        };
        for item in frame.tasks_mut() {
            let record = self.engine.records.get(&format!("task {}", item.id));
            let ours =
                record.is_some_and(|record| matches!(record, Change::Task(task) if task.command.is_some()));
            item.is_settled = ours && self.engine.state.task(item.id).is_none();
        }
    }

    /// What a command was given up with is there when the next one comes, and in what is copied of that.
    fn note_leftovers(&mut self, transition: &Transition) {
        for change in &transition.changes {
            if let Change::Command(command) = change {
                if let Parameters::CopyDisk(p) = &command.parameters
                    && self.leftovers.contains(&p.source_disk_id)
                {
                    self.leftovers.insert(p.disk.disk_id);
                }
                let disks = command.left_behind.iter().filter_map(|key| match key {
                    EntityKey::Disk(id) => Some(*id),
                    _ => None,
                });
                self.leftovers.extend(disks);
            }
        }
    }

    fn take(&mut self, effect: Effect) {
        match effect {
            Effect::Follow { host_id, address, .. } => {
                self.followed.insert(host_id, address);
            }
            Effect::Unfollow { host_id } => {
                self.followed.remove(&host_id);
                self.cut(host_id);
            }
            // Those for a host that is not connected are dropped.
            effect => {
                if self.streams.contains_key(&host_of(&effect)) && !self.pending.contains(&effect) {
                    self.pending.push(effect);
                }
            }
        }
    }

    pub(crate) fn is_connected(&self, host: HostId) -> bool {
        self.streams.contains_key(&host)
    }

    pub(crate) fn connect(&mut self, host: HostId) {
        if self.is_connected(host) || !self.followed.contains_key(&host) {
            return;
        }
        let followed = self.engine.state.host(host).and_then(|host| host.cursor);
        let facts = self.hosts[&host].facts(followed);
        let refused = facts.engine_id.is_some_and(|id| id != super::ENGINE);
        if !refused {
            self.open_stream(host);
        }
        self.step(Input::HostConnected { host_id: host, facts });
        if self.is_connected(host) {
            // The cursor may have been given up on the way.
            self.open_stream(host);
            self.observe(host, Frame::Opened);
        }
    }

    fn open_stream(&mut self, host: HostId) {
        let cursor = self
            .engine
            .state
            .host(host)
            .and_then(|h| h.cursor)
            .filter(|c| c.store_id == self.hosts[&host].store);
        let stream = match cursor {
            Some(token) => Stream {
                at: token.revision.0 as usize,
                snapshot: false,
            },
            None => Stream {
                at: 0,
                snapshot: true,
            },
        };
        self.streams.insert(host, stream);
    }

    fn observe(&mut self, host: HostId, frame: Frame) {
        let (store_id, start) = (self.hosts[&host].store, self.hosts[&host].present_start());
        self.step(Input::Observed {
            host_id: host,
            store_id,
            start,
            frame,
        });
    }

    /// The connection breaks, without the engine having been told yet.
    pub(crate) fn cut(&mut self, host: HostId) {
        self.streams.remove(&host);
        self.pending.retain(|effect| host_of(effect) != host);
    }

    pub(crate) fn disconnect(&mut self, host: HostId) {
        if self.is_connected(host) {
            self.cut(host);
            self.step(Input::HostAway { host_id: host });
        }
    }

    /// The host loses its memory; its connections break with it.
    pub(crate) fn wipe(&mut self, host: HostId) {
        self.disconnect(host);
        if let Some(fake) = self.hosts.get_mut(&host) {
            fake.lose_memory();
        }
    }

    /// The host is killed and started again.
    pub(crate) fn restart(&mut self, host: HostId) {
        self.disconnect(host);
        if let Some(fake) = self.hosts.get_mut(&host) {
            fake.restart();
        }
    }

    /// The host is killed, and started again from a copy of its directory.
    pub(crate) fn put_back(&mut self, host: HostId, copy: usize) {
        let copies = &self.hosts[&host].copies;
        let Some(memory) = copies.get(copy % copies.len().max(1)).cloned() else {
            return;
        };
        self.disconnect(host);
        if let Some(fake) = self.hosts.get_mut(&host) {
            fake.put_back(memory);
        }
    }

    /// The next frame of a host's stream, if there is one.
    pub(crate) fn deliver(&mut self, host: HostId) -> bool {
        let Some(stream) = self.streams.get_mut(&host) else {
            return false;
        };
        let fake = &self.hosts[&host];
        if std::mem::take(&mut stream.snapshot) {
            stream.at = fake.now();
            let (tasks, token) = (fake.snapshot(), fake.token(fake.now()));
            self.observe(host, Frame::Snapshot(tasks));
            self.observe(host, Frame::SnapshotDone { token });
            return true;
        }
        let Some(frame) = fake.changes(stream.at) else {
            return false;
        };
        stream.at += 1;
        self.observe(host, frame);
        true
    }

    /// A frame of the host's stream is lost on the way, which a correct peer never does; it shows when the task's
    /// next one comes.
    pub(crate) fn lose_frame(&mut self, host: HostId) {
        let Some(stream) = self.streams.get_mut(&host) else {
            return;
        };
        if !stream.snapshot && self.hosts[&host].is_followed_up(stream.at) {
            stream.at += 1;
        }
    }

    /// Performs a pending effect; the answer may be lost, and then it is tried again.
    pub(crate) fn perform(&mut self, at: usize, answer_lost: bool) {
        if at >= self.pending.len() {
            return;
        }
        let effect = self.pending[at].clone();
        let Some(answer) = self.on_host(&effect).filter(|_| !answer_lost) else {
            // No verdict: it is tried again after the others.
            self.pending[at..].rotate_left(1);
            return;
        };
        self.pending.retain(|pending| *pending != effect);
        if let Some(input) = answer {
            self.step(input);
        }
    }

    /// What the host answers; none where that is no verdict.
    fn on_host(&mut self, effect: &Effect) -> Option<Option<Input>> {
        let host = self.hosts.get_mut(&host_of(effect))?;
        let ours = host.owner == Some(super::ENGINE);
        Some(match effect {
            Effect::StartTask {
                task_id,
                operation,
                store_id,
                ..
            } => {
                if !ours || *store_id != Some(host.store) {
                    return None;
                }
                let (store_id, start) = (host.store, host.present_start());
                Some(
                    match host.start(*task_id, operation.clone(), Some(super::ENGINE)) {
                        Ok(over) => Input::StartAccepted {
                            task_id: *task_id,
                            store_id,
                            start,
                            over: over.map(Box::new),
                        },
                        Err(fault) => Input::StartRefused {
                            task_id: *task_id,
                            fault,
                        },
                    },
                )
            }
            Effect::AbortTask {
                task_id, store_id, ..
            } => {
                if !ours || *store_id != Some(host.store) {
                    return None;
                }
                let (store_id, start) = (host.store, host.present_start());
                Some(match host.abort(*task_id) {
                    Ok(over) => Input::AbortAccepted {
                        task_id: *task_id,
                        store_id,
                        start,
                        over: over.map(Box::new),
                    },
                    Err(fault) => Input::AbortRefused {
                        task_id: *task_id,
                        fault,
                    },
                })
            }
            Effect::ClearTask { task_id, .. } => {
                if !ours {
                    return None;
                }
                // One that it has open again is told to stop first.
                let Ok(sequence) = host.clear(*task_id) else {
                    let _ = host.abort(*task_id);
                    return None;
                };
                Some(Input::Cleared {
                    task_id: *task_id,
                    sequence,
                })
            }
            Effect::Call { command_id, call, .. } => Some(Input::CallAnswered {
                command_id: *command_id,
                call: call.clone(),
                result: host.call(call),
            }),
            Effect::Reclaim { .. } => {
                host.owner.get_or_insert(super::ENGINE);
                None
            }
            Effect::ProbeTask {
                task_id, operation, ..
            } => Some(Input::Probed {
                task_id: *task_id,
                store_id: host.store,
                start: host.present_start(),
                evidence: host.evidence(operation),
                is_busy: !host.orphans.is_empty(),
                remembered: host.remembered(*task_id),
            }),
            Effect::ObserveDisk { disk_id, .. } => Some(Input::DiskObserved {
                disk_id: *disk_id,
                presence: host.presence(*disk_id),
                note: common::Words::default(),
            }),
            Effect::TakeInventory { host_id, before } => Some(Input::InventoryTaken {
                host_id: *host_id,
                inventory: host.inventory(),
                before: before.clone(),
            }),
            Effect::Resync { host_id } => {
                let host_id = *host_id;
                self.open_stream(host_id);
                self.observe(host_id, Frame::Opened);
                None
            }
            Effect::Follow { .. } | Effect::Unfollow { .. } => None,
        })
    }

    /// The process is killed and starts again, and has asked each host in vain by the time when this returns.
    pub(crate) fn crash(&mut self) {
        self.crash_unasked();
        let hosts: Vec<HostId> = self.engine.state.hosts().map(|host| host.id).collect();
        for host_id in hosts {
            self.step(Input::HostAway { host_id });
        }
    }

    /// As [`World::crash`], before any host was asked.
    pub(crate) fn crash_unasked(&mut self) {
        self.crashes += 1;
        self.streams.clear();
        self.pending.clear();
        self.followed.clear();
        self.engine.state = self.engine.reloaded();
        self.step(Input::Recover);
    }

    /// The engine is killed, and started again from a copy of its directory.
    pub(crate) fn put_engine_back(&mut self, records: BTreeMap<String, Change>) {
        self.engine.records = records;
        self.counts.restart(self.engine.records.values());
        self.crash();
    }

    /// All that can happen on open connections happens once.
    pub(crate) fn flow(&mut self) -> bool {
        let hosts: Vec<HostId> = self.hosts.keys().copied().collect();
        let mut moved = !self.pending.is_empty();
        for _ in 0..self.pending.len() {
            self.perform(0, false);
        }
        for host in hosts {
            let open = self.hosts[&host].moving_tasks();
            moved |= !open.is_empty();
            for task in open {
                if let Some(fake) = self.hosts.get_mut(&host) {
                    fake.advance(task);
                }
            }
            while self.deliver(host) {
                moved = true;
            }
        }
        moved
    }

    /// So many microseconds from now, it is looked whose time is up.
    pub(crate) fn look_at_waits(&mut self, later: i64) {
        let now = Timestamp(self.engine.inputs() + later);
        let present = AgeClock::begin(MAX_LOCK_WAIT, now).present();
        let running = Duration::ZERO;
        self.step(Input::LockWaitsChecked { present, running });
    }

    /// A request that waits for its locks.
    pub(crate) fn submit_waiting(
        &mut self,
        n: u128,
        rpc: &str,
        request: CommandRequest,
        wait: Duration,
    ) -> Reply {
        let mut asked = submission(n, rpc, request);
        asked.lock_wait = Some(wait);
        self.step(Input::Submit(Box::new(asked))).reply
    }

    /// A fair world: everybody connects, every effect is performed, every task comes to its end.
    pub(crate) fn settle(&mut self) {
        for _ in 0..10_000 {
            let crashes = self.crashes;
            let hosts: Vec<HostId> = self.hosts.keys().copied().collect();
            for host in hosts {
                self.connect(host);
            }
            // One that was killed while it connected has nothing to do and everything to connect.
            if !self.flow() && self.crashes == crashes {
                return;
            }
        }
        panic!("the world does not come to rest: {:#?}", self.pending);
    }

    /// As last recorded, whether or not it is still live.
    pub(crate) fn command(&self, id: CommandId) -> &Command {
        match self.engine.records.get(&format!("command {id}")) {
            Some(Change::Command(command)) => command,
            other => panic!("command {id}: {other:?}"),
        }
    }

    pub(crate) fn root(&self, n: u128) -> &Command {
        self.command(command_id(n))
    }

    pub(crate) fn state_of(&self, n: u128) -> CommandState {
        self.root(n).state
    }

    pub(crate) fn host_mut(&mut self, n: u128) -> &mut FakeHost {
        self.hosts.get_mut(&host_id(n)).expect("a host of this world")
    }
}

/// What a peer, or a slow wire, may say twice. A stream begins once, and so does the snapshot that it begins with.
fn may_come_again(input: &Input) -> bool {
    match input {
        Input::Observed { frame, .. } => matches!(frame, Frame::Changes { .. }),
        Input::Recover
        | Input::HostConnected { .. }
        | Input::HostAway { .. }
        | Input::HostPutsOff { .. }
        | Input::ConnectionsSpent { .. }
        | Input::LockWaitsChecked { .. }
        | Input::HostRefused { .. }
        | Input::LivesMet { .. }
        | Input::StoodStill => false,
        _ => true,
    }
}

pub(crate) fn host_of(effect: &Effect) -> HostId {
    match effect {
        Effect::Follow { host_id, .. }
        | Effect::Unfollow { host_id }
        | Effect::Reclaim { host_id }
        | Effect::StartTask { host_id, .. }
        | Effect::AbortTask { host_id, .. }
        | Effect::ClearTask { host_id, .. }
        | Effect::Call { host_id, .. }
        | Effect::ProbeTask { host_id, .. }
        | Effect::ObserveDisk { host_id, .. }
        | Effect::TakeInventory { host_id, .. }
        | Effect::Resync { host_id } => *host_id,
    }
}

pub(crate) fn add_host(n: u128) -> CommandRequest {
    CommandRequest::AddHost(AddHost {
        host_id: host_id(n),
        name: format!("host-{n}"),
        address: format!("host-{n}:1"),
        identity: String::new(),
    })
}

pub(crate) fn create_domain(n: u128, host: u128) -> CommandRequest {
    CommandRequest::CreateStorageDomain(CreateStorageDomain {
        domain_id: domain_id(n),
        name: format!("domain-{n}"),
        host_id: host_id(host),
    })
}
