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

/// How large a whole image is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    /// What its data show.
    pub(crate) shows: u64,
    /// What its metadata says; the same but while it is extended, and where that was cut off.
    pub(crate) says: u64,
}

impl Size {
    pub(crate) const fn of(bytes: u64) -> Self {
        let (shows, says) = (bytes, bytes);
        Self { shows, says }
    }
}

/// What an operation does to an image. All that the host does goes by this, so that a verb is told of here only.
enum Work<'a> {
    /// Makes it, as large as this; of another one, where it copies.
    Makes(DiskId, u64),
    Copies(DiskId, &'a CopyVolume),
    Removes(DiskId),
    /// Makes it as large as this.
    Grows(DiskId, u64),
    Nothing,
}

impl<'a> Work<'a> {
    fn of(operation: &'a Operation) -> Self {
        match operation {
            Operation::CreateVolume(op) => Self::Makes(op.image_id.disk(), op.capacity_bytes),
            Operation::CopyVolume(op) => Self::Copies(op.target.image_id.disk(), op),
            Operation::DeleteImage(op) => Self::Removes(op.image_id.disk()),
            Operation::ExtendVolume(op) => Self::Grows(op.volume.image_id.disk(), op.capacity_bytes),
            Operation::Noop(_) => Self::Nothing,
        }
    }
}

#[derive(Debug, Clone)]
struct Record {
    item: HostTask,
    fate: Fate,
    /// It made something of its own, which its undo removes.
    begun: bool,
    /// How large it found what it extends.
    found_size: Option<Size>,
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
    /// Of those that are whole, and of some that are gone.
    sizes: BTreeMap<DiskId, Size>,
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
            sizes: BTreeMap::new(),
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
        let committed = record.committed;
        match state {
            TaskState::Init | TaskState::Preparing | TaskState::Queued => {
                if record.item.engine_id.is_some() {
                    record.item.is_held = true;
                    record.item.sequence += 1;
                    self.history.push(record.item.clone());
                }
            }
            TaskState::Running if self.goes_forward(id, committed) => {
                self.edge(id, TaskState::Finished, None);
            }
            TaskState::Running
            | TaskState::Aborting
            | TaskState::Recovering
            | TaskState::Finished
            | TaskState::Recovered
            | TaskState::Failed => self.goes_back(id, state),
        }
    }

    /// Whether it was carried to its end, for there is no way back.
    fn goes_forward(&mut self, id: TaskId, committed: bool) -> bool {
        let operation = self.tasks[&id].item.operation.clone();
        match operation.as_ref().map(Work::of) {
            Some(Work::Removes(disk)) if committed => {
                if self.images.get(&disk) == Some(&Image::Partial) {
                    self.images.remove(&disk);
                }
                true
            }
            // Its metadata tells of what a memory from before does not know.
            Some(Work::Grows(disk, bytes)) => {
                let is_done = self.size(disk).is_some_and(|size| size.says == bytes);
                let grows = committed && self.is_as_found(id, disk);
                if grows {
                    self.sizes.insert(disk, Size::of(bytes));
                }
                is_done || grows
            }
            Some(Work::Removes(_) | Work::Makes(..) | Work::Copies(..) | Work::Nothing) | None => false,
        }
    }

    fn goes_back(&mut self, id: TaskId, state: TaskState) {
        if let Some(record) = self.tasks.get_mut(&id) {
            record.committed = false;
        }
        if state == TaskState::Running {
            let fault = Fault::new(FaultCode::Interrupted, "it was started anew");
            self.edge(id, TaskState::Aborting, Some(fault));
        }
        if known(&self.tasks[&id].item) == TaskState::Aborting {
            self.edge(id, TaskState::Recovering, None);
        }
        self.wind_back(id);
    }

    /// How large an image is that is whole.
    pub(crate) fn size(&self, disk: DiskId) -> Option<Size> {
        let size = self.sizes.get(&disk).copied().unwrap_or(Size::of(0));
        (self.images.get(&disk) == Some(&Image::Whole)).then_some(size)
    }

    /// Somebody extends an image.
    pub(crate) fn grow(&mut self, disk: DiskId, bytes: u64) {
        self.sizes.insert(disk, Size::of(bytes));
    }

    /// Whether nobody has changed meanwhile what it extends.
    fn is_as_found(&self, id: TaskId, disk: DiskId) -> bool {
        let found = self.tasks[&id].found_size.map(|size| size.says);
        found.is_some() && found == self.size(disk).map(|size| size.says)
    }

    fn make(&mut self, disk: DiskId, size: Size) {
        self.images.insert(disk, Image::Whole);
        self.sizes.insert(disk, size);
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
        match Work::of(&operation) {
            Work::Makes(disk, bytes) if done => self.make(disk, Size::of(bytes)),
            Work::Copies(disk, copy) => match self.source(copy) {
                Some(size) if done => self.make(disk, size),
                // What is copied may have gone meanwhile: then the copy cannot become whole.
                Some(_) | None => drop(self.images.insert(disk, Image::Partial)),
            },
            Work::Makes(disk, _) => drop(self.images.insert(disk, Image::Partial)),
            Work::Removes(disk) if done => drop(self.images.remove(&disk)),
            Work::Grows(disk, bytes) => {
                let size = self.size(disk).filter(|size| size.says < bytes);
                if let Some(Size { says, .. }) = size {
                    let says = if done { bytes } else { says };
                    self.sizes.insert(disk, Size { shows: bytes, says });
                }
            }
            Work::Removes(_) | Work::Nothing => {}
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
            return match same {
                false => Err(Fault::new(FaultCode::TaskIdReused, "another operation")),
                true => Ok(over(&record.item)),
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
        match Work::of(operation) {
            Work::Removes(disk) | Work::Grows(disk, _) => {
                let reader = self.copies().find(|copy| copy.source.image_id == disk.image());
                assert!(reader.is_none(), "the source of {reader:?} is changed under it");
            }
            Work::Makes(..) | Work::Copies(..) | Work::Nothing => {}
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
        open.chain(self.orphans.values())
            .filter_map(|op| match Work::of(op) {
                Work::Copies(_, copy) => Some(copy),
                Work::Makes(..) | Work::Removes(_) | Work::Grows(..) | Work::Nothing => None,
            })
    }

    /// How large what is copied is; none where it is not there, or not whole.
    fn source(&self, copy: &CopyVolume) -> Option<Size> {
        let size = self.size(copy.source.image_id.disk());
        size.filter(|size| size.shows == size.says)
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
                found_size: None,
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
        if let Some(over) = over(&record.item) {
            return Ok(Some(over));
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
            TaskState::Recovering => return self.wind_back(id),
            TaskState::Finished | TaskState::Recovered | TaskState::Failed => return,
        };
        self.edge(id, next, None);
    }

    fn run(&mut self, id: TaskId) {
        let Some(record) = self.tasks.get(&id).cloned() else {
            return;
        };
        let keeps_on = !matches!(record.fate, Fate::Recover(_));
        let operation = record.item.operation.as_ref();
        match operation.map(Work::of) {
            Some(Work::Copies(_, copy)) if self.source(copy).is_none() => {
                return self.refuse(id, FaultCode::ImageNotFound);
            }
            Some(Work::Makes(disk, _) | Work::Copies(disk, _)) => {
                let Entry::Vacant(place) = self.images.entry(disk) else {
                    return self.refuse(id, FaultCode::VolumeExists);
                };
                place.insert(Image::Partial);
                self.begin(id);
            }
            Some(Work::Removes(disk)) => {
                let Some(image) = self.images.get_mut(&disk) else {
                    return self.refuse(id, FaultCode::ImageNotFound);
                };
                if keeps_on {
                    // Renamed out of the way: no way back.
                    *image = Image::Partial;
                    self.commit(id);
                }
            }
            Some(Work::Grows(disk, bytes)) => match self.to_grow(disk, bytes) {
                Err(code) => return self.refuse(id, code),
                Ok(size) => {
                    if let Some(record) = self.tasks.get_mut(&id) {
                        record.found_size = Some(size);
                    }
                    if keeps_on {
                        let shows = bytes;
                        self.sizes.insert(disk, Size { shows, ..size });
                        self.commit(id);
                    }
                }
            },
            Some(Work::Nothing) | None => {}
        }
        self.edge(id, TaskState::Running, None);
    }

    /// How large what is to be extended is, or why it is not.
    fn to_grow(&self, disk: DiskId, bytes: u64) -> Result<Size, FaultCode> {
        let Some(size) = self.size(disk) else {
            return Err(match self.images.contains_key(&disk) {
                true => FaultCode::VolumeIllegal,
                false => FaultCode::ImageNotFound,
            });
        };
        // What shows as much already was cut off, and is carried on with.
        if size.says > bytes {
            return Err(FaultCode::InvalidArgument);
        }
        match size.shows == size.says || size.shows == bytes {
            true => Ok(size),
            false => Err(FaultCode::VolumeDataInvalid),
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
        match &record.fate {
            Fate::Finish => self.finish(id, record.item.operation.as_ref()),
            Fate::Recover(code) => self.edge(id, TaskState::Aborting, Some(Fault::new(*code, "as fated"))),
            Fate::Fail => self.fail(id, Fault::new(FaultCode::IoError, "as fated")),
        }
    }

    fn finish(&mut self, id: TaskId, operation: Option<&Operation>) {
        match operation.map(Work::of) {
            Some(Work::Makes(disk, bytes)) => self.make(disk, Size::of(bytes)),
            Some(Work::Copies(disk, copy)) => match self.source(copy) {
                Some(size) => self.make(disk, size),
                None => {
                    let fault = Fault::new(FaultCode::IoError, "its source is gone");
                    return self.edge(id, TaskState::Aborting, Some(fault));
                }
            },
            Some(Work::Removes(disk)) => drop(self.images.remove(&disk)),
            Some(Work::Grows(disk, bytes)) if self.is_as_found(id, disk) => {
                self.sizes.insert(disk, Size::of(bytes));
            }
            Some(Work::Grows(..)) => {
                return self.fail(id, Fault::new(FaultCode::GenerationMismatch, "somebody was here"));
            }
            Some(Work::Nothing) | None => {}
        }
        self.edge(id, TaskState::Finished, None);
    }

    /// Neither done nor undone.
    fn fail(&mut self, id: TaskId, fault: Fault) {
        self.edge(id, TaskState::Aborting, Some(fault));
        self.edge(id, TaskState::Recovering, None);
        self.leave(id);
    }

    fn leave(&mut self, id: TaskId) {
        if let Some(record) = self.tasks.get_mut(&id) {
            record.item.undo_fault = Some(Fault::new(FaultCode::FileSystemReadOnly, "no way back"));
        }
        self.edge(id, TaskState::Failed, None);
    }

    /// What it began is undone, where it can be.
    fn wind_back(&mut self, id: TaskId) {
        let Some(record) = self.tasks.get(&id).cloned() else {
            return;
        };
        match record.item.operation.as_ref().map(Work::of) {
            Some(Work::Makes(disk, _) | Work::Copies(disk, _)) if record.begun => {
                if self.images.get(&disk) == Some(&Image::Partial) {
                    self.images.remove(&disk);
                }
            }
            Some(Work::Grows(disk, _)) if record.found_size.is_some() => {
                if !self.is_as_found(id, disk) {
                    return self.leave(id);
                }
                self.sizes.extend(record.found_size.map(|found| (disk, found)));
            }
            Some(Work::Makes(..) | Work::Copies(..) | Work::Grows(..) | Work::Removes(_) | Work::Nothing)
            | None => {}
        }
        self.edge(id, TaskState::Recovered, None);
    }

    pub(crate) fn evidence(&self, operation: &Operation) -> Evidence {
        let image = |disk: DiskId| self.images.get(&disk);
        match Work::of(operation) {
            Work::Nothing => Evidence::NotBegun,
            Work::Makes(disk, _) | Work::Copies(disk, _) => match image(disk) {
                None => Evidence::NotBegun,
                Some(Image::Partial) => Evidence::Begun("leftovers".into()),
                Some(Image::Whole) => Evidence::Done,
            },
            Work::Removes(disk) => match image(disk) {
                None => Evidence::Done,
                Some(Image::Partial) => Evidence::Begun("leftovers".into()),
                Some(Image::Whole) => Evidence::NotBegun,
            },
            Work::Grows(disk, bytes) => match self.size(disk) {
                Some(size) if size.shows != size.says => Evidence::Begun("two sizes".into()),
                Some(size) if size.says >= bytes => Evidence::Done,
                Some(_) | None => Evidence::NotBegun,
            },
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

/// What the host says at once of a task that is over.
fn over(item: &HostTask) -> Option<HostTask> {
    (item.removed || item.state.is_terminal()).then(|| item.clone())
}
