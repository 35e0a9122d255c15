//! The changes of a step as revisions of the store: the writes, and what watchers are shown.

use bytes::Bytes;
use common::id::{CommandId, RequestId, TaskId};
use engine_core::Change;
use engine_core::jobs::JobHead;
use engine_core::model::{AsyncTask, AsyncTaskState, Command, Purpose};
use proto::store::v1::EngineHistory;
use proto::{convert, encode};
use runtime::machine;
use store::{Reader, StoreError, Write};

use super::command::{self, COMMANDS};
use super::disk::{self, DISKS};
use super::domain::{self, DOMAINS};
use super::host::{self, HOSTS};
use super::task::{self, TASKS};
use super::tree::Tree;
use super::vm::{self, VMS};
use super::{event, job, scan};

/// The maximum number of writes of one revision: a replicated store could take that many in one transaction, too.
const MAX_WRITES: usize = 100;

/// The maximum bytes of one revision's records and history.
const MAX_BYTES: usize = 1 << 20;

/// Revisions in the making.
pub(crate) struct Revisions {
    done: Vec<machine::Change<EngineHistory>>,
    open: machine::Change<EngineHistory>,
    bytes: usize,
}

impl Revisions {
    /// No revisions yet.
    pub(crate) fn new() -> Self {
        Self {
            done: Vec::new(),
            open: empty(),
            bytes: 0,
        }
    }

    /// Adds a change. The changes of one step stay in order; if they do not fit into one revision, they are divided
    /// between two changes. `owner` is the command of a task; `head` is the head of the job, if the change counts in
    /// one.
    pub(crate) fn add(&mut self, change: &Change, owner: Option<&Command>, head: Option<&JobHead>) {
        match change {
            Change::Command(command) => self.command(command),
            Change::Task(task) => self.task(task, owner),
            Change::Host(host) => self.put(vec![HOSTS.put(host.id.as_bytes(), &host::record(host))]),
            Change::HostRemoved(id) => self.put(vec![HOSTS.remove(id.as_bytes())]),
            Change::Domain(domain) => {
                self.put(vec![DOMAINS.put(domain.id.as_bytes(), &domain::record(domain))]);
            }
            Change::Disk(disk) => {
                self.put(vec![DISKS.put(disk.spec.disk_id.as_bytes(), &disk::record(disk))])
            }
            Change::DiskRemoved(id) => self.put(vec![DISKS.remove(id.as_bytes())]),
            Change::Vm(vm) => self.put(vec![VMS.put(vm.id.as_bytes(), &vm::record(vm))]),
            Change::VmRemoved(id) => self.put(vec![VMS.remove(id.as_bytes())]),
            Change::Event(event) => {
                let shown = encode::once(&event::show(event));
                self.put(vec![event::put(event, &shown)]);
                self.note(&shown).events.push(shown);
            }
            // This needs the store: see [`Revisions::forget`].
            Change::CommandRemoved(_) => {}
        }
        if let Some(head) = head {
            let shown = encode::once(&job::head(head, job::steps(change, owner)));
            self.note(&shown).heads.push(shown);
        }
    }

    fn command(&mut self, command: &Command) {
        let shown = encode::once(&command::show(command));
        let mut writes = vec![COMMANDS.put(command.seq, &shown, &command::record(command))];
        if command.sequence == 1 {
            writes.push(COMMANDS.begin(command.seq, command.id.as_bytes()));
            if command.is_root() {
                writes.push(COMMANDS.enter(command.seq));
            }
            let request = command.request.as_ref();
            writes.extend(request.map(|request| command::request(&command.user, request, command)));
        }
        writes.extend(command.ended.map(|time| COMMANDS.end(command.seq, time)));
        self.put(writes);
        self.note(&shown).commands.push(shown);
    }

    fn task(&mut self, task: &AsyncTask, owner: Option<&Command>) {
        let shown = encode::once(&task::show(task, owner));
        let mut writes = vec![TASKS.put(task.seq, &shown, &task::record(task))];
        let foreign = task.purpose == Purpose::Foreign;
        if task.sequence == 1 {
            writes.push(TASKS.begin(task.seq, task.id.as_bytes()));
            writes.extend(foreign.then(|| TASKS.enter(task.seq)));
        }
        writes.extend(task.ended.map(|time| TASKS.end(task.seq, time)));
        let gone = task.async_state == AsyncTaskState::Cleared;
        writes.extend((foreign && gone).then(|| TASKS.leave(task.seq)));
        self.put(writes);
        self.note(&shown).tasks.push(shown);
    }

    /// Adds a write that is no change of the core's.
    pub(crate) fn own(&mut self, write: Write) {
        self.put(vec![write]);
    }

    /// Removes a tree from the working state: a start no longer reads it.
    pub(crate) fn leave(&mut self, root_seq: u64) {
        self.put(vec![COMMANDS.leave(root_seq)]);
    }

    /// Removes an expired command with everything below it: each record is shown once more, as removed.
    ///
    /// # Errors
    /// [`StoreError`] if the tree cannot be read.
    pub(crate) fn forget(&mut self, reader: &dyn Reader, root: CommandId) -> Result<(), StoreError> {
        let tree = Tree::read(reader, root)?;
        for (seq, record) in tree.tasks {
            let Some(mut shown) = record.task else { continue };
            if let Ok(id) = shown.task_id.parse::<TaskId>() {
                let ended = shown.end_time.as_ref().map(convert::from_timestamp);
                self.put(TASKS.remove(seq, id.as_bytes(), ended));
            }
            shown.sequence += 1;
            shown.removed = true;
            let shown = encode::once(&shown);
            self.note(&shown).tasks.push(shown);
        }
        for (seq, record) in tree.commands {
            let Some(mut shown) = record.command else { continue };
            if let Ok(id) = shown.command_id.parse::<CommandId>() {
                let ended = shown.end_time.as_ref().map(convert::from_timestamp);
                let mut writes = COMMANDS.remove(seq, id.as_bytes(), ended);
                if let Ok(request_id) = shown.request_id.parse::<RequestId>() {
                    let key = command::request_key(&shown.user, &record.rpc, request_id.as_bytes());
                    writes.push(scan::write(command::REQUESTS, key, None));
                }
                self.put(writes);
            }
            shown.sequence += 1;
            shown.removed = true;
            let shown = encode::once(&shown);
            self.note(&shown).commands.push(shown);
        }
        Ok(())
    }

    /// All revisions; empty if nothing has changed.
    pub(crate) fn finish(mut self) -> Vec<machine::Change<EngineHistory>> {
        self.cut();
        self.done
    }

    /// Adds writes that must stay in one revision.
    fn put(&mut self, writes: Vec<Write>) {
        let bytes = writes.iter().map(size).sum::<usize>();
        let full = self.open.writes.len() + writes.len() > MAX_WRITES || self.bytes + bytes > MAX_BYTES;
        if full {
            self.cut();
        }
        self.bytes += bytes;
        self.open.writes.extend(writes);
    }

    /// Adds what watchers are shown to the revision of the last [`Revisions::put`].
    fn note(&mut self, shown: &Bytes) -> &mut EngineHistory {
        self.bytes += shown.len();
        &mut self.open.history
    }

    fn cut(&mut self) {
        if !self.open.writes.is_empty() {
            self.done.push(std::mem::replace(&mut self.open, empty()));
            self.bytes = 0;
        }
    }
}

fn size(write: &Write) -> usize {
    write.key.len() + write.value.as_ref().map_or(0, Vec::len)
}

fn empty() -> machine::Change<EngineHistory> {
    machine::Change {
        history: EngineHistory::default(),
        writes: Vec::new(),
    }
}
