//! Values that are known only at reading: who holds an entity, how the engine is connected to a host, and that a
//! command or a task waits for a host that is away. They are filled into records on their way out, and never stored.

use common::fault::FaultCode;
use common::id::{CommandId, TaskId};
use engine_core::Stance;
use engine_core::model::{EntityKey, Holding};
use engine_core::stopping::Stopping;
use proto::convert;
use proto::engine::v1 as wire;
use proto::engine::v1::host::Connection;
use proto::engine::v1::waiting_for::What;
use store::{Reader, StoreError};
use tokio::sync::watch;

use crate::holders::Holders;
use crate::host::{HostLinks, Link, LinkStatus};
use crate::open_tasks::OpenTasks;
use crate::store::codec;
use crate::store::command::{self, COMMANDS};
use crate::store::task::TASKS;
use crate::store::tree::Tree;
use crate::store::{Log, job, load};

/// How many links of a chain of waiting are followed: more than any command tree is deep.
const MAX_DEPTH: usize = 16;

/// The end of a chain of waiting.
struct End {
    host_id: String,
    /// The task that the host is to do.
    task_id: Option<TaskId>,
}

/// Fills in the values that are known only at reading. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Show {
    pub(crate) log: Log,
    pub(crate) links: HostLinks,
    pub(crate) holders: Holders,
    pub(crate) open_tasks: OpenTasks,
    /// Whether the engine may act.
    pub(crate) stances: watch::Receiver<Stance>,
}

impl Show {
    pub(crate) fn command(&self, mut command: wire::Command) -> wire::Command {
        self.refine(command.waiting_for.as_mut(), None);
        command
    }

    /// Like [`Show::command`], and what stopping the command would do. Reads the whole tree of a root that is at
    /// work.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub(crate) fn command_now(
        &self,
        reader: &dyn Reader,
        command: wire::Command,
    ) -> Result<wire::Command, StoreError> {
        let mut command = self.command(command);
        let at_work = command.parent_command_id.is_empty() && command::is_open(&command);
        if let Some(id) = command.command_id.parse().ok().filter(|_| at_work) {
            let (commands, tasks) = load::whole_tree(Tree::read(reader, id)?);
            let stopping = Stopping::of(&commands, &tasks).unwrap_or_default();
            command.cancelable = stopping.cancelable;
            command.undo = stopping.undo.into();
        }
        Ok(command)
    }

    /// A job with all its steps, and what its root waits for.
    pub(crate) fn job(&self, tree: Tree) -> Option<wire::Job> {
        let mut waiting_for = tree.root()?.command.as_ref()?.waiting_for.clone();
        self.refine(waiting_for.as_mut(), None);
        let job = job::of_tree(tree, |task| self.percent(task))?;
        Some(wire::Job { waiting_for, ..job })
    }

    pub(crate) fn task(&self, mut task: wire::AsyncTask) -> wire::AsyncTask {
        let end = End {
            host_id: task.host_id.clone(),
            task_id: task.task_id.parse().ok(),
        };
        self.refine(task.waiting_for.as_mut(), Some(end));
        task
    }

    pub(crate) fn host(&self, mut host: wire::Host) -> wire::Host {
        let id = host.host_id.parse().ok();
        let standing = id.and_then(|id| self.links.standing(id));
        let (connection, since, fault) = match standing {
            None => (Connection::Away, None, None),
            Some(LinkStatus { link, since }) => match link {
                Link::Connected => (Connection::Connected, Some(since), None),
                Link::Away(fault) => (Connection::Away, Some(since), Some(fault)),
                Link::Refused(fault) => (Connection::Refused, Some(since), Some(fault)),
            },
        };
        host.connection = connection.into();
        host.connection_since = since.map(convert::timestamp);
        host.connection_fault = fault.as_ref().map(convert::fault_to_wire);
        host.open_tasks = id.map_or(0, |id| self.open_tasks.count(id));
        (host.held_by, host.held_by_left_out) = self.held_by(id.map(EntityKey::Host));
        host
    }

    pub(crate) fn domain(&self, mut domain: wire::StorageDomain) -> wire::StorageDomain {
        let id = domain.domain_id.parse().ok();
        (domain.held_by, domain.held_by_left_out) = self.held_by(id.map(EntityKey::Domain));
        domain
    }

    pub(crate) fn disk(&self, mut disk: wire::Disk) -> wire::Disk {
        let id = disk.disk_id.parse().ok();
        (disk.held_by, disk.held_by_left_out) = self.held_by(id.map(EntityKey::Disk));
        disk
    }

    pub(crate) fn vm(&self, mut vm: wire::Vm) -> wire::Vm {
        let id = vm.vm_id.parse().ok();
        (vm.held_by, vm.held_by_left_out) = self.held_by(id.map(EntityKey::Vm));
        vm
    }

    /// A task's record as committed; none if it cannot be read.
    pub(crate) fn task_record(&self, task_id: TaskId) -> Option<wire::AsyncTask> {
        let reader = self.log.store().reader().ok()?;
        TASKS.get(&*reader, task_id.as_bytes()).ok()??.task
    }

    /// The progress of a running task, if its host has reported it.
    pub(crate) fn percent(&self, task_id: TaskId) -> Option<f64> {
        self.log.progress().newest(task_id).map(|sample| sample.percent)
    }

    /// Names the host in the end: an item that waits for a task or for a part, which waits for a host that is away or
    /// has no room, waits for that host.
    fn refine(&self, waiting: Option<&mut wire::WaitingFor>, end: Option<End>) {
        let Some(waiting) = waiting else { return };
        if matches!(waiting.what, Some(What::Locks(_))) {
            return self.refine_locks(waiting);
        }
        // By far the most common case; the code below reads records.
        if self.links.all_well() {
            return;
        }
        let end = match waiting.what.clone() {
            // A task that its host has not accepted waits for the host itself.
            Some(What::HostId(_)) | None if end.is_some() => end,
            None => None,
            Some(what) => self.end_of(what),
        };
        let Some(End { host_id, task_id }) = end else {
            return;
        };
        let Ok(id) = host_id.parse() else { return };
        if let Some(full) = task_id.and_then(|task_id| self.links.full(task_id)) {
            waiting.since = Some(convert::timestamp(full.since));
            waiting.note = format!("room on host {id}: {}", full.fault);
            waiting.what = Some(What::HostId(host_id));
            return;
        }
        let Some(LinkStatus { link, since }) = self.links.standing(id) else {
            return;
        };
        let (how, fault) = match link {
            Link::Connected => return,
            Link::Away(fault) if fault.code == FaultCode::EngineStillConnected => {
                ("answers, and does not take this engine yet", fault)
            }
            Link::Away(fault) => ("is away", fault),
            Link::Refused(fault) => ("answers, and is not to be used", fault),
        };
        waiting.since = Some(convert::timestamp(since));
        waiting.note = format!("host {id} {how}: {}", fault.message);
        waiting.what = Some(What::HostId(host_id));
    }

    /// An engine that may not act starts no waiting command, even if the command's locks are free by now.
    fn refine_locks(&self, waiting: &mut wire::WaitingFor) {
        match &*self.stances.borrow() {
            Stance::Acts => {}
            Stance::Undecided(fault) => {
                waiting.note = format!("this engine to know whether it may act: {}", fault.message);
            }
            Stance::Over(fault) => {
                waiting.note = format!(
                    "its locks, and it does not start while this engine begins nothing: {}. It ends when its time is up \
                     (lock_wait), unless this engine goes on before that (TakeOverHost)",
                    fault.message
                );
            }
        }
    }

    /// The end of the chain: a command waits for a part, the part for its task, the task for its host.
    fn end_of(&self, mut what: What) -> Option<End> {
        let reader = self.log.store().reader().ok()?;
        // A damaged record must not lead in circles.
        for _ in 0..MAX_DEPTH {
            what = match what {
                What::Attention(_) | What::Locks(_) => return None,
                What::HostId(host_id) => {
                    let task_id = None;
                    return Some(End { host_id, task_id });
                }
                What::TaskId(id) => {
                    let id: TaskId = id.parse().ok()?;
                    let host_id = TASKS.get(&*reader, id.as_bytes()).ok()??.task?.host_id;
                    let task_id = Some(id);
                    return Some(End { host_id, task_id });
                }
                What::CommandId(id) => {
                    let id: CommandId = id.parse().ok()?;
                    COMMANDS
                        .get(&*reader, id.as_bytes())
                        .ok()??
                        .command?
                        .waiting_for?
                        .what?
                }
            };
        }
        None
    }

    /// The listed holders of an entity, and how many more there are.
    fn held_by(&self, key: Option<EntityKey>) -> (Vec<wire::Holder>, u32) {
        let Some(Holding { by, more }) = key.and_then(|key| self.holders.holder(&key)) else {
            return (Vec::new(), 0);
        };
        let shown = by.iter().map(|(holder, mode)| codec::holder(holder, *mode));
        (shown.collect(), u32::try_from(more).unwrap_or(u32::MAX))
    }
}
