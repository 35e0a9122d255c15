//! A host as the contract has it: what it was told once it does once, and it says so in an ordered history.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use common::id::{DiskId, DomainId, EngineId, HostId, ImageId, StoreId, TaskId};
use common::{
    CopyVolume, Fault, FaultCode, Label, Operation, Revision, Start, TaskState, Timestamp, Token, Words,
};

use super::{ENGINE, store_id};
use crate::input::{Evidence, Frame, HostFacts, HostTask, Inventory, Remembered};
use crate::model::HostCall;
use crate::model::{Presence, ReportedState};

/// What will become of a task once it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    Finish,
    /// It fails, and what it began is undone.
    Recover(FaultCode),
    /// It fails, and leaves a part of the image behind.
    Fail,
}

/// What there is of an image, truly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Image {
    Whole,
    Partial,
}

#[derive(Debug, Clone)]
struct Record {
    item: HostTask,
    fate: Fate,
    /// It made something of its own, which its undo removes.
    begun: bool,
    committed: bool,
    /// It was found unfinished by a start, in a memory that may be older than what it did.
    found: bool,
}

/// A copy of all that a host remembers.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    store: StoreId,
    owner: Option<EngineId>,
    tasks: BTreeMap<TaskId, Record>,
    history: Vec<HostTask>,
    starts: Vec<(Start, usize)>,
}

pub(crate) struct FakeHost {
    pub(crate) store: StoreId,
    pub(crate) owner: Option<EngineId>,
    /// Copies of its memory, to be put back.
    pub(crate) copies: Vec<Memory>,
    pub(crate) images: BTreeMap<DiskId, Image>,
    pub(crate) domains: BTreeSet<DomainId>,
    /// Processes of earlier stores that still work.
    pub(crate) orphans: BTreeMap<TaskId, Operation>,
    /// It does not say who all of them are.
    pub(crate) more_orphans: bool,
    /// Fates of the tasks to come, last first; those after them finish.
    pub(crate) fates: Vec<Fate>,
    /// Whether calls are refused, with this.
    pub(crate) call_fault: Option<FaultCode>,
    /// What it says of tasks from now on that stopping them would undo.
    pub(crate) undo_words: String,
    tasks: BTreeMap<TaskId, Record>,
    history: Vec<HostTask>,
    /// Each with the length of the history at which it began.
    starts: Vec<(Start, usize)>,
    stores: u128,
    last_start: u64,
}

impl FakeHost {
    pub(crate) fn new(id: HostId) -> Self {
        let mut host = Self {
            store: store_id(0),
            owner: None,
            copies: Vec::new(),
            images: BTreeMap::new(),
            domains: BTreeSet::new(),
            orphans: BTreeMap::new(),
            more_orphans: false,
            fates: Vec::new(),
            call_fault: None,
            undo_words: String::new(),
            tasks: BTreeMap::new(),
            history: Vec::new(),
            starts: Vec::new(),
            last_start: (id.as_uuid().as_u128() as u64) << 32,
            stores: id.as_uuid().as_u128() << 16,
        };
        host.lose_memory();
        host
    }

    /// A wiped data directory. What was at work may work on.
    pub(crate) fn lose_memory(&mut self) {
        self.stores += 1;
        self.store = store_id(self.stores);
        self.owner = None;
        for (id, record) in std::mem::take(&mut self.tasks) {
            let at_work = record.item.state == ReportedState::Known(TaskState::Running);
            if let Some(operation) = record.item.operation.filter(|_| at_work) {
                self.orphans.insert(id, operation);
            }
        }
        self.history.clear();
        self.starts.clear();
        self.wake();
    }

    fn wake(&mut self) {
        self.last_start += 1;
        self.starts.push((Start(self.last_start), self.history.len()));
    }

    pub(crate) fn present_start(&self) -> Start {
        self.starts.last().expect("it was started").0
    }

    /// Somebody copies its directory.
    pub(crate) fn copy(&mut self) {
        self.copies.push(self.memory());
    }

    fn memory(&self) -> Memory {
        Memory {
            store: self.store,
            owner: self.owner,
            tasks: self.tasks.clone(),
            history: self.history.clone(),
            starts: self.starts.clone(),
        }
    }

    /// It is started again, with all that it remembers.
    pub(crate) fn restart(&mut self) {
        self.wake_with(self.memory());
    }

    /// A copy of its directory is put back, and it is started. Processes of tasks that the copy does not know work on.
    pub(crate) fn put_back(&mut self, copy: Memory) {
        for (id, record) in std::mem::take(&mut self.tasks) {
            let at_work = known(&record.item) == TaskState::Running;
            if let Some(operation) = record
                .item
                .operation
                .filter(|_| at_work && !copy.tasks.contains_key(&id))
            {
                self.orphans.insert(id, operation);
            }
        }
        // A process of a task that it knows again is no orphan: a host ends what is left of its own before it works on it.
        let again: Vec<TaskId> = copy.tasks.keys().copied().collect();
        for operation in again
            .iter()
            .filter_map(|id| self.orphans.remove(id))
            .collect::<Vec<_>>()
        {
            self.end_process(operation, false);
        }
        self.wake_with(copy);
    }

    fn wake_with(&mut self, memory: Memory) {
        let Memory {
            store,
            owner,
            tasks,
            history,
            starts,
        } = memory;
        (self.store, self.owner) = (store, owner);
        (self.tasks, self.history, self.starts) = (tasks, history, starts);
        self.wake();
        for id in self.open_tasks() {
            self.find(id);
        }
    }

    /// What waited for its turn waits until it is asked for again; what was at work is brought to its end, by what the
    /// memory says that it did.
    fn find(&mut self, id: TaskId) {
        let Some(record) = self.tasks.get_mut(&id) else {
            return;
        };
        record.found = true;
        let state = known(&record.item);
        let deletes = matches!(record.item.operation, Some(Operation::DeleteImage(_)));
        match (state, record.committed && deletes) {
            (TaskState::Init | TaskState::Preparing | TaskState::Queued, _) => {
                if record.item.engine_id.is_some() {
                    record.item.is_held = true;
                    record.item.sequence += 1;
                    self.history.push(record.item.clone());
                }
            }
            (TaskState::Running, true) => {
                let image = record.item.operation.as_ref().and_then(Operation::image_id);
                let is_aside = |disk: &DiskId| self.images.get(disk) == Some(&Image::Partial);
                if let Some(disk) = image.map(ImageId::disk).filter(is_aside) {
                    self.images.remove(&disk);
                }
                self.edge(id, TaskState::Finished, None);
            }
            _ => {
                record.committed = false;
                if state == TaskState::Running {
                    let fault = Fault::new(FaultCode::Interrupted, "it was started anew");
                    self.edge(id, TaskState::Aborting, Some(fault));
                }
                if known(&self.tasks[&id].item) == TaskState::Aborting {
                    self.edge(id, TaskState::Recovering, None);
                }
                self.undo(id);
                self.edge(id, TaskState::Recovered, None);
            }
        }
    }

    /// Why a point is not in its history; empty where it is.
    fn forgotten(&self, point: Token) -> String {
        let at = self.starts.iter().position(|(start, _)| *start == point.start);
        let Some(at) = at.filter(|_| point.store_id == self.store) else {
            return "it never saw that start".to_owned();
        };
        let next = self.starts.get(at + 1);
        let end = next.map_or(self.history.len(), |(_, first)| *first);
        match point.revision.0 as usize > end {
            true => "that start ended before this point".to_owned(),
            false => String::new(),
        }
    }

    /// A process of an earlier store comes to its end: its work is done, or cut off half-way.
    pub(crate) fn end_orphan(&mut self, done: bool) {
        if let Some((_, operation)) = self.orphans.pop_first() {
            self.end_process(operation, done);
        }
    }

    fn end_process(&mut self, operation: Operation, done: bool) {
        let Some(disk) = operation.image_id().map(ImageId::disk) else {
            return;
        };
        match operation {
            Operation::CreateVolume(_) | Operation::CopyVolume(_) => {
                // What is copied may have gone meanwhile: then the copy cannot become whole.
                let whole = done && self.has_source(&operation);
                self.images
                    .insert(disk, if whole { Image::Whole } else { Image::Partial });
            }
            Operation::DeleteImage(_) if done => {
                self.images.remove(&disk);
            }
            Operation::DeleteImage(_) | Operation::ExtendVolume(_) | Operation::Noop(_) => {}
        }
    }

    /// What it says to somebody who has followed it up to this point.
    pub(crate) fn facts(&self, followed: Option<Token>) -> HostFacts {
        HostFacts {
            store_id: self.store,
            engine_id: self.owner,
            start: self.present_start(),
            followed,
            forgotten: followed
                .map(|point| self.forgotten(point))
                .unwrap_or_default()
                .into(),
            orphan_task_ids: self.orphans.keys().copied().collect(),
            more_orphans: self.more_orphans,
        }
    }

    pub(crate) fn remembered(&self, id: TaskId) -> Remembered {
        match self.tasks.get(&id).map(|record| record.item.state.is_terminal()) {
            None => Remembered::Unknown,
            Some(true) => Remembered::Over,
            Some(false) => Remembered::Open,
        }
    }

    pub(crate) fn token(&self, at: usize) -> Token {
        Token {
            store_id: self.store,
            start: self.start_at(at),
            revision: Revision(at as u64),
        }
    }

    /// The start that made the history up to there.
    fn start_at(&self, at: usize) -> Start {
        let before = self.starts.iter().rev().find(|(_, first)| *first < at);
        before.or(self.starts.first()).expect("it was started").0
    }

    pub(crate) fn now(&self) -> usize {
        self.history.len()
    }

    pub(crate) fn snapshot(&self) -> Vec<HostTask> {
        self.tasks
            .values()
            .filter(|record| !record.item.removed)
            .map(|record| record.item.clone())
            .collect()
    }

    pub(crate) fn changes(&self, at: usize) -> Option<Frame> {
        let item = self.history.get(at)?;
        Some(Frame::Changes {
            token: Some(self.token(at + 1)),
            time: Timestamp(0),
            tasks: vec![item.clone()],
        })
    }

    /// Whether a change is not its task's last one so far.
    pub(crate) fn is_followed_up(&self, at: usize) -> bool {
        let Some(item) = self.history.get(at) else {
            return false;
        };
        self.history[at + 1..].iter().any(|later| later.id == item.id)
    }

    /// The record of the task, if it was cleared before.
    pub(crate) fn start(
        &mut self,
        id: TaskId,
        operation: Operation,
        by: Option<EngineId>,
    ) -> Result<Option<HostTask>, Fault> {
        if let Some(record) = self.tasks.get_mut(&id) {
            if std::mem::take(&mut record.item.is_held) {
                record.found = false;
                record.item.sequence += 1;
                self.history.push(record.item.clone());
            }
            let same = record.item.operation.is_none() || record.item.operation.as_ref() == Some(&operation);
            return match (same, record.item.removed) {
                (false, _) => Err(Fault::new(FaultCode::TaskIdReused, "another operation")),
                (true, true) => Ok(Some(record.item.clone())),
                (true, false) => Ok(None),
            };
        }
        // What is left of this very task is ended first: its processes hold the task's lock, and nothing of the task begins while one does.
        self.orphans.remove(&id);
        self.assert_alone(&operation);
        let fate = self.fates.pop().unwrap_or(Fate::Finish);
        self.insert(id, Some(operation), by, TaskState::Init, None, fate);
        Ok(None)
    }

    /// Nothing is undone, and nothing begins, while another task on the image may still be at work.
    fn assert_alone(&self, operation: &Operation) {
        let image = operation.image_id();
        let mut others = self
            .tasks
            .values()
            .filter(|record| !record.item.state.is_terminal());
        let open = others.find(|record| {
            record.item.engine_id.is_some()
                && !record.found
                && record
                    .item
                    .operation
                    .as_ref()
                    .is_some_and(|op| op.image_id() == image)
        });
        assert!(open.is_none(), "{operation:?} begins while {open:?} is not over");
        let strange = self.orphans.values().find(|op| op.image_id() == image);
        assert!(
            strange.is_none(),
            "{operation:?} begins while {strange:?} is still at work"
        );
        if let Operation::DeleteImage(op) = operation {
            let reader = self.copies().find(|copy| copy.source.image_id == op.image_id);
            assert!(reader.is_none(), "the source of {reader:?} is deleted under it");
        }
    }

    /// Copies that are not over, or that processes of earlier stores still work at. Beside one that a start found
    /// unfinished nothing begins on a host: its locks are held until it has been brought to its end.
    fn copies(&self) -> impl Iterator<Item = &CopyVolume> {
        let open = self
            .tasks
            .values()
            .filter(|r| !r.item.state.is_terminal() && !r.found);
        let open = open.filter_map(|record| record.item.operation.as_ref());
        open.chain(self.orphans.values()).filter_map(|op| match op {
            Operation::CopyVolume(copy) => Some(copy),
            _ => None,
        })
    }

    /// Whether what an operation reads is there, if it reads anything.
    fn has_source(&self, operation: &Operation) -> bool {
        match operation {
            Operation::CopyVolume(op) => self.images.get(&op.source.image_id.disk()) == Some(&Image::Whole),
            _ => true,
        }
    }

    /// Somebody removes an image by hand.
    pub(crate) fn vanish(&mut self, disk: DiskId) {
        self.images.remove(&disk);
    }

    fn insert(
        &mut self,
        id: TaskId,
        operation: Option<Operation>,
        engine_id: Option<EngineId>,
        state: TaskState,
        fault: Option<Fault>,
        fate: Fate,
    ) {
        let item = HostTask {
            id,
            operation,
            state: ReportedState::Known(state),
            fault,
            sequence: 1,
            cancelable: !state.is_terminal(),
            undo: Words::default(),
            undo_fault: None,
            waiting_for: Words::default(),
            engine_id,
            removed: false,
            correlation_id: Label::default(),
            is_held: false,
            is_settled: false,
        };
        self.history.push(item.clone());
        self.tasks.insert(
            id,
            Record {
                item,
                fate,
                begun: false,
                committed: false,
                found: false,
            },
        );
    }

    pub(crate) fn abort(&mut self, id: TaskId) -> Result<Option<HostTask>, Fault> {
        let Some(record) = self.tasks.get(&id) else {
            let fault = Fault::new(FaultCode::NeverStarted, "never started");
            self.insert(
                id,
                None,
                Some(ENGINE),
                TaskState::Recovered,
                Some(fault),
                Fate::Finish,
            );
            return Ok(None);
        };
        if record.item.removed {
            return Ok(Some(record.item.clone()));
        }
        let state = known(&record.item);
        if record.committed && !state.is_terminal() {
            return Err(Fault::new(
                FaultCode::TaskNotAbortable,
                "past its point of no return",
            ));
        }
        if matches!(
            state,
            TaskState::Init | TaskState::Preparing | TaskState::Queued | TaskState::Running
        ) {
            self.edge(
                id,
                TaskState::Aborting,
                Some(Fault::new(FaultCode::Aborted, "stopped")),
            );
        }
        Ok(None)
    }

    /// The sequence of the removal; none if the id is unknown. What is not over is not cleared.
    pub(crate) fn clear(&mut self, id: TaskId) -> Result<Option<u64>, Fault> {
        let Some(record) = self.tasks.get_mut(&id) else {
            return Ok(None);
        };
        if !record.item.state.is_terminal() {
            assert!(record.found, "only what is over is cleared");
            return Err(Fault::new(FaultCode::TaskNotFinished, "it is not over"));
        }
        if !record.item.removed {
            record.item.removed = true;
            record.item.sequence += 1;
            self.history.push(record.item.clone());
        }
        Ok(Some(record.item.sequence))
    }

    fn edge(&mut self, id: TaskId, state: TaskState, fault: Option<Fault>) {
        let Some(record) = self.tasks.get_mut(&id) else {
            return;
        };
        record.item.is_held = false;
        record.item.state = ReportedState::Known(state);
        record.item.sequence += 1;
        record.item.fault = record.item.fault.take().or(fault);
        record.item.cancelable = !state.is_terminal() && !record.committed;
        record.item.undo = self.undo_words.as_str().into();
        self.history.push(record.item.clone());
    }

    pub(crate) fn open_tasks(&self) -> Vec<TaskId> {
        self.tasks
            .values()
            .filter(|r| !r.item.state.is_terminal())
            .map(|r| r.item.id)
            .collect()
    }

    /// Those of them that do not wait until they are asked for again.
    pub(crate) fn moving_tasks(&self) -> Vec<TaskId> {
        let mut ids = self.open_tasks();
        ids.retain(|id| !self.tasks[id].item.is_held);
        ids
    }

    /// One step of a task's life.
    pub(crate) fn advance(&mut self, id: TaskId) {
        let Some(record) = self.tasks.get(&id) else { return };
        let next = match known(&record.item) {
            TaskState::Init => TaskState::Preparing,
            TaskState::Preparing => TaskState::Queued,
            TaskState::Queued => return self.run(id),
            TaskState::Running => return self.conclude(id),
            TaskState::Aborting => TaskState::Recovering,
            TaskState::Recovering => {
                self.undo(id);
                TaskState::Recovered
            }
            TaskState::Finished | TaskState::Recovered | TaskState::Failed => return,
        };
        self.edge(id, next, None);
    }

    fn run(&mut self, id: TaskId) {
        let Some(record) = self.tasks.get(&id).cloned() else {
            return;
        };
        match &record.item.operation {
            Some(op) if !self.has_source(op) => self.refuse(id, FaultCode::ImageNotFound),
            Some(op @ (Operation::CreateVolume(_) | Operation::CopyVolume(_))) => {
                let disk = op.image_id().expect("it makes one").disk();
                if let Entry::Vacant(place) = self.images.entry(disk) {
                    place.insert(Image::Partial);
                    self.begin(id);
                    self.edge(id, TaskState::Running, None);
                } else {
                    self.refuse(id, FaultCode::VolumeExists);
                }
            }
            Some(Operation::DeleteImage(op)) => {
                let Some(image) = self.images.get_mut(&op.image_id.disk()) else {
                    return self.refuse(id, FaultCode::ImageNotFound);
                };
                if !matches!(record.fate, Fate::Recover(_)) {
                    // Renamed out of the way: no way back.
                    *image = Image::Partial;
                    self.commit(id);
                }
                self.edge(id, TaskState::Running, None);
            }
            _ => self.edge(id, TaskState::Running, None),
        }
    }

    fn begin(&mut self, id: TaskId) {
        if let Some(record) = self.tasks.get_mut(&id) {
            record.begun = true;
        }
    }

    fn commit(&mut self, id: TaskId) {
        if let Some(record) = self.tasks.get_mut(&id) {
            record.committed = true;
        }
    }

    /// Every task that runs is past its point of no return.
    pub(crate) fn commit_all(&mut self) {
        for id in self.open_tasks() {
            self.commit(id);
        }
    }

    fn refuse(&mut self, id: TaskId, code: FaultCode) {
        // Nothing was touched, so nothing is undone either.
        if let Some(record) = self.tasks.get_mut(&id) {
            record.fate = Fate::Recover(code);
            record.item.operation = record.item.operation.clone();
        }
        self.edge(
            id,
            TaskState::Aborting,
            Some(Fault::new(code, "refused by what is there")),
        );
        self.edge(id, TaskState::Recovering, None);
        self.edge(id, TaskState::Recovered, None);
    }

    fn conclude(&mut self, id: TaskId) {
        let Some(record) = self.tasks.get(&id).cloned() else {
            return;
        };
        match (&record.fate, &record.item.operation) {
            (Fate::Finish, Some(op)) if !self.has_source(op) => {
                let fault = Fault::new(FaultCode::IoError, "its source is gone");
                self.edge(id, TaskState::Aborting, Some(fault));
            }
            (Fate::Finish, Some(op @ (Operation::CreateVolume(_) | Operation::CopyVolume(_)))) => {
                let disk = op.image_id().expect("it makes one").disk();
                self.images.insert(disk, Image::Whole);
                self.edge(id, TaskState::Finished, None);
            }
            (Fate::Finish, Some(Operation::DeleteImage(op))) => {
                self.images.remove(&op.image_id.disk());
                self.edge(id, TaskState::Finished, None);
            }
            (Fate::Finish, _) => self.edge(id, TaskState::Finished, None),
            (Fate::Recover(code), _) => {
                self.edge(id, TaskState::Aborting, Some(Fault::new(*code, "as fated")))
            }
            (Fate::Fail, _) => {
                self.edge(
                    id,
                    TaskState::Aborting,
                    Some(Fault::new(FaultCode::IoError, "as fated")),
                );
                self.edge(id, TaskState::Recovering, None);
                if let Some(record) = self.tasks.get_mut(&id) {
                    record.item.undo_fault = Some(Fault::new(FaultCode::FileSystemReadOnly, "no way back"));
                }
                self.edge(id, TaskState::Failed, None);
            }
        }
    }

    fn undo(&mut self, id: TaskId) {
        let Some(record) = self.tasks.get(&id).filter(|record| record.begun) else {
            return;
        };
        if let Some(op @ (Operation::CreateVolume(_) | Operation::CopyVolume(_))) = &record.item.operation {
            let disk = op.image_id().expect("it makes one").disk();
            if self.images.get(&disk) == Some(&Image::Partial) {
                self.images.remove(&disk);
            }
        }
    }

    pub(crate) fn evidence(&self, operation: &Operation) -> Evidence {
        let Some(image) = operation.image_id() else {
            return Evidence::NotBegun;
        };
        match (operation, self.images.get(&image.disk())) {
            (Operation::DeleteImage(_), None) => Evidence::Done,
            (_, None) => Evidence::NotBegun,
            (_, Some(Image::Partial)) => Evidence::Begun("leftovers".into()),
            (Operation::DeleteImage(_), Some(Image::Whole)) => Evidence::NotBegun,
            (_, Some(Image::Whole)) => Evidence::Done,
        }
    }

    /// All images, as if they lay in its first domain: histories have one domain a host.
    pub(crate) fn inventory(&self) -> Inventory {
        let images: BTreeSet<ImageId> = self.images.keys().map(|disk| disk.image()).collect();
        let mut all: BTreeMap<_, _> = self
            .domains
            .iter()
            .map(|id| (*id, Some(BTreeSet::new())))
            .collect();
        if let Some(first) = all.values_mut().next() {
            *first = Some(images);
        }
        Inventory { images: all }
    }

    pub(crate) fn presence(&self, disk: DiskId) -> Presence {
        match self.images.get(&disk) {
            None => Presence::Absent,
            Some(Image::Partial) => Presence::Partial,
            Some(Image::Whole) => Presence::Whole,
        }
    }

    pub(crate) fn call(&mut self, call: &HostCall) -> Result<(), Fault> {
        if let Some(code) = self.call_fault {
            return Err(Fault::new(code, "as fated"));
        }
        match call {
            HostCall::Claim | HostCall::TakeOver { .. } => self.owner = Some(ENGINE),
            HostCall::Release => self.owner = None,
            HostCall::CreateDomain { domain_id, .. } => {
                self.domains.insert(*domain_id);
            }
        }
        Ok(())
    }

    /// Somebody without an engine starts a task.
    pub(crate) fn start_foreign(&mut self, id: TaskId, operation: Operation) {
        self.insert(id, Some(operation), None, TaskState::Init, None, Fate::Finish);
    }
}

fn known(item: &HostTask) -> TaskState {
    match item.state {
        ReportedState::Known(state) => state,
        ReportedState::Unknown(_) => TaskState::Running,
    }
}
