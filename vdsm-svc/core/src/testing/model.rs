//! A host without a world: its records, the threads that work for its tasks, and the callers' late reads.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::{
    Caller, Change, Claim, Effect, EngineCall, Input, Known, Limits, Loaded, Ordinal, Owner, Refusal, Report,
    Start, State, Task, Transition,
};
use common::fault::{Fault, FaultCode};
use common::id::{DomainId, EngineId, ImageId, StoreId, TaskId, VolumeId};
use common::operation::{
    Allocation, CopyVolume, CreateVolume, DeleteImage, Noop, Operation, VolumeAddress, VolumeFormat,
};
use common::revision::Revision;
use common::task::TaskState;
use common::time::Timestamp;
use uuid::Uuid;

pub(crate) const LIMITS: Limits = Limits {
    running_per_host: 3,
    running_per_domain: 2,
    queue: 6,
};

/// What a thread that works for a task still has to report.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) id: TaskId,
    pub(crate) plan: VecDeque<Report>,
}

#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) state: State,
    pub(crate) records: BTreeMap<Ordinal, Task>,
    pub(crate) owner: Option<Owner>,
    pub(crate) jobs: Vec<Job>,
    /// Every item that watchers were shown, in order.
    pub(crate) shown: Vec<Task>,
    /// Who asks for everything.
    pub(crate) caller: Caller,
    revision: Revision,
    clock: i64,
    started: u64,
}

pub(crate) fn uuid(n: u8) -> Uuid {
    Uuid::from_u128(u128::from(n) + 1)
}

pub(crate) fn task_id(n: u8) -> TaskId {
    TaskId::from_uuid(uuid(n))
}

pub(crate) fn operation(n: u8) -> Operation {
    let domain_id = DomainId::from_uuid(uuid(n % 2));
    let image_id = ImageId::from_uuid(uuid(n / 2 % 3));
    match n % 5 {
        0 => Operation::Noop(Noop),
        1 | 2 => Operation::DeleteImage(DeleteImage { domain_id, image_id }),
        3 => copy((n % 2, (n / 2 + 1) % 3), (n / 2 % 2, n / 2 % 3)),
        _ => Operation::CreateVolume(CreateVolume {
            domain_id,
            image_id,
            volume_id: VolumeId::from_uuid(uuid(n)),
            capacity_bytes: 4096,
            format: VolumeFormat::Raw,
            allocation: Allocation::Sparse,
            description: String::new(),
        }),
    }
}

/// From one image to another, each given by its domain and itself.
pub(crate) fn copy(source: (u8, u8), target: (u8, u8)) -> Operation {
    let address = |(domain, image)| VolumeAddress {
        domain_id: DomainId::from_uuid(uuid(domain)),
        image_id: ImageId::from_uuid(uuid(image)),
        volume_id: VolumeId::from_uuid(uuid(image)),
    };
    Operation::CopyVolume(CopyVolume {
        source: address(source),
        target: address(target),
        format: VolumeFormat::Cow,
        allocation: Allocation::Sparse,
        description: String::new(),
        verify: false,
    })
}

pub(crate) fn oops() -> Fault {
    Fault::new(FaultCode::IoError, "the disk said no")
}

/// What a thread reports that runs an operation; `luck` decides how it goes.
fn run_plan(luck: u8) -> VecDeque<Report> {
    let noted = |past_no_return| Report::Noted {
        note: vec![luck, u8::from(past_no_return)],
        past_no_return,
    };
    match luck % 5 {
        0 => vec![Report::Finished],
        1 | 2 => vec![noted(false), Report::CommitPoint, noted(true), Report::Finished],
        3 => vec![
            noted(false),
            Report::Failed(oops()),
            Report::Stopped,
            Report::Undone,
        ],
        _ => vec![
            noted(false),
            Report::CommitPoint,
            noted(true),
            Report::UndoFailed(oops()),
        ],
    }
    .into()
}

fn stop_plan() -> VecDeque<Report> {
    vec![Report::Stopped, Report::Undone].into()
}

fn recover_plan(task: &Task) -> VecDeque<Report> {
    if task.past_no_return {
        vec![Report::Stopped, Report::Finished].into()
    } else {
        stop_plan()
    }
}

impl Host {
    pub(crate) fn new() -> Self {
        Self {
            state: State::load(LIMITS, loaded(0, Revision(0), None, &BTreeMap::new())),
            records: BTreeMap::new(),
            owner: None,
            jobs: Vec::new(),
            shown: Vec::new(),
            caller: Caller::default(),
            revision: Revision(0),
            clock: 0,
            started: 0,
        }
    }

    /// The host of an engine, which asks for everything.
    pub(crate) fn owned() -> Self {
        let mut host = Self::new();
        let engine = EngineCall {
            engine_id: EngineId::from_uuid(uuid(201)),
            epoch: 1,
            incarnation: None,
            store_id: None,
        };
        let claim = Claim {
            call: engine,
            predecessor: None,
            since: Vec::new(),
            take_over: None,
            waited_for: None,
        };
        host.take(Input::Claim(claim), 0);
        host.caller.engine = Some(engine);
        host
    }

    /// The engine asks again for all that waits for that.
    pub(crate) fn ask_again(&mut self, luck: u8) {
        let held: Vec<Task> = self
            .state
            .unfinished()
            .filter(|task| task.held)
            .cloned()
            .collect();
        for task in held {
            let again = Input::Start(Start {
                caller: self.caller,
                task_id: task.id,
                operation: task.operation.clone().expect("it has not begun"),
                correlation_id: String::new(),
                known: self.known(task.id),
            });
            self.take(again, luck);
        }
    }

    /// What the store knows of an id now.
    pub(crate) fn known(&self, id: TaskId) -> Known {
        let task = self.records.values().find(|task| task.id == id);
        Known {
            revision: self.revision,
            task: task.cloned().map(Arc::new),
        }
    }

    pub(crate) fn start(&self, id: u8, op: u8) -> Input {
        self.start_operation(id, operation(op))
    }

    pub(crate) fn start_operation(&self, id: u8, operation: Operation) -> Input {
        Input::Start(Start {
            caller: self.caller,
            task_id: task_id(id),
            operation,
            correlation_id: String::new(),
            known: self.known(task_id(id)),
        })
    }

    pub(crate) fn abort(&self, id: u8) -> Input {
        Input::Abort {
            caller: self.caller,
            task_id: task_id(id),
            correlation_id: String::new(),
            known: self.known(task_id(id)),
        }
    }

    pub(crate) fn clear(&self, id: u8) -> Input {
        Input::Clear {
            caller: self.caller,
            task_id: task_id(id),
            known: self.known(task_id(id)),
        }
    }

    /// Steps, records, shows, and performs the effects.
    pub(crate) fn take(&mut self, input: Input, luck: u8) -> Transition {
        self.clock += 1;
        let transition = self.state.step(input, Timestamp(self.clock));
        for revision in &transition.revisions {
            self.revision = self.revision.next();
            for change in revision {
                self.record(change);
            }
        }
        for effect in &transition.effects {
            match effect {
                Effect::Run(task) => self.employ(task.id, run_plan(luck)),
                Effect::Recover(task) => self.employ(task.id, recover_plan(task)),
                Effect::SignalAbort(id) => {
                    let job = self.jobs.iter_mut().find(|job| job.id == *id);
                    job.expect("a running task has a thread").plan = stop_plan();
                }
                Effect::Fence(_) => {}
            }
        }
        transition
    }

    /// The next report of one of the threads.
    pub(crate) fn advance(&mut self, at: usize, luck: u8) -> Option<Input> {
        let job = self.jobs.get_mut(at)?;
        let id = job.id;
        let Some(report) = job.plan.pop_front() else {
            self.jobs.remove(at);
            return None;
        };
        let input = Input::Report { task_id: id, report };
        let transition = self.take(input.clone(), luck);
        let refused =
            matches!(&transition.reply, Err(Refusal::Fault(fault)) if fault.code == FaultCode::Aborted);
        let aborting = self
            .state
            .task(id)
            .is_some_and(|task| task.state == TaskState::Aborting);
        if let Some(job) = self.jobs.iter_mut().find(|job| job.id == id)
            && (refused || (aborting && job.plan.is_empty()))
        {
            job.plan = stop_plan();
        }
        Some(input)
    }

    /// The process dies and starts again; the threads are gone.
    pub(crate) fn crash(&mut self, luck: u8) {
        self.jobs.clear();
        self.started += 1;
        self.state = State::load(
            LIMITS,
            loaded(self.started, self.revision, self.owner.clone(), &self.records),
        );
        self.take(Input::Recover { alive: [].into() }, luck);
    }

    /// The store fails and is opened again; the threads live on.
    pub(crate) fn reload(&mut self, luck: u8) {
        let alive = self.jobs.iter().map(|job| job.id).collect();
        self.state = State::load(
            LIMITS,
            loaded(self.started, self.revision, self.owner.clone(), &self.records),
        );
        self.take(Input::Recover { alive }, luck);
    }

    fn employ(&mut self, id: TaskId, plan: VecDeque<Report>) {
        assert!(
            self.jobs.iter().all(|job| job.id != id || job.plan.is_empty()),
            "{id} runs twice"
        );
        self.jobs.retain(|job| job.id != id);
        self.jobs.push(Job { id, plan });
    }

    fn record(&mut self, change: &Change) {
        match change {
            Change::Task(task) => {
                self.shown.push((**task).clone());
                self.records.insert(task.ordinal, (**task).clone());
            }
            Change::Noted(task) => {
                self.records.insert(task.ordinal, (**task).clone());
            }
            Change::Owner(owner) => self.owner = Some(owner.clone()),
            Change::Forgotten { ordinal, .. } => {
                self.records.remove(ordinal);
            }
        }
    }

    pub(crate) fn loaded(&self) -> State {
        State::load(
            LIMITS,
            loaded(self.started, self.revision, self.owner.clone(), &self.records),
        )
    }
}

fn loaded(start: u64, revision: Revision, owner: Option<Owner>, records: &BTreeMap<Ordinal, Task>) -> Loaded {
    let next = records.keys().last().map_or(0, |ordinal| ordinal.0 + 1);
    Loaded {
        store_id: StoreId::from_uuid(uuid(200)),
        start: common::Start(start),
        revision,
        next_ordinal: Ordinal(next),
        owner,
        tasks: records
            .values()
            .filter(|task| !task.state.is_terminal())
            .cloned()
            .collect(),
        calls: Vec::new(),
    }
}
