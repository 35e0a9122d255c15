//! What a host's stream shows. Only the stream moves a task's recorded state; the same transition records the
//! position in the stream.

use std::collections::BTreeSet;
use std::sync::Arc;

use common::id::{HostId, StoreId, TaskId};
use common::{Start, TaskState, Timestamp, Token, Words};

use super::clear::is_being_cleared;
use super::tx::Tx;
use crate::change::Change;
use crate::effect::Effect;
use crate::input::{Frame, HostTask};
use crate::model::{
    AsyncTask, AsyncTaskEvent, AsyncTaskState, EntityKey, EventCode, Host, Purpose, ReportedState,
};
use crate::state::{Life, Stream};

/// What a task waits for if its host was started anew and says that the task was undone.
const STORAGE_IS_ASKED: &str = "the host to say what storage shows";

/// How the stream shows a task.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// As a change: it is the one after the last change, or something is missing.
    Change,
    /// As of one point of the host's history: earlier states may have been missed.
    Snapshot,
}

impl Tx<'_> {
    /// A frame of another connection than the present one is ignored: its position was not recorded, so the frame
    /// comes again. No connection is present after the state was read anew: earlier frames may have been lost with
    /// the failed commit, and only a new connection begins at the point that the records have. The same goes for a
    /// host that is being added: a new stream begins once the host is this engine's.
    pub(super) fn observed(&mut self, host_id: HostId, by: Life, frame: Frame) {
        let present = self.state.volatile.connected.get(&host_id) == Some(&by);
        let cursor = match self.state.host(host_id) {
            Some(host) if present => host.cursor,
            _ => return,
        };
        if frame == Frame::Opened {
            self.state.volatile.streams.insert(host_id, Stream::default());
            return;
        }
        let Some(stream) = self.state.volatile.streams.get_mut(&host_id) else {
            return;
        };
        match (frame, cursor) {
            (Frame::Opened, _) => {}
            (Frame::Snapshot(_) | Frame::SnapshotDone { .. }, _) if stream.live => {}
            (Frame::Snapshot(tasks), _) => {
                stream.seen.extend(tasks.iter().map(|task| task.id));
                for task in tasks {
                    self.shown(host_id, &task, Shown::Snapshot, None);
                }
            }
            (Frame::SnapshotDone { token }, cursor) => {
                stream.live = true;
                let seen = std::mem::take(&mut stream.seen);
                // The host's history does not reach back to the point up to which it was followed: what the host did
                // since then is not shown.
                if cursor.is_some() {
                    self.want_inventory(host_id);
                }
                self.snapshot_done(host_id, &seen, token);
            }
            // The changes after a hole come again in the snapshot that was asked for.
            (Frame::Changes { .. }, _) if stream.hole => {}
            // The point to resume after was given up, so this stream had to begin with a snapshot.
            (Frame::Changes { .. }, None) => self.hole_in(host_id),
            (Frame::Changes { token, .. }, Some(cursor)) if is_past(token, cursor) => {}
            (Frame::Changes { token, time, tasks }, Some(_)) => {
                stream.live = true;
                self.changed(host_id, token, time, &tasks);
            }
        }
    }

    fn changed(&mut self, host_id: HostId, token: Option<Token>, time: Timestamp, tasks: &[HostTask]) {
        for task in tasks {
            self.shown(host_id, task, Shown::Change, Some(time));
        }
        let streams = &self.state.volatile.streams;
        let whole = streams.get(&host_id).is_some_and(|stream| !stream.hole);
        if let Some(token) = token.filter(|_| whole) {
            self.followed_to(host_id, Some(token));
        }
    }

    fn followed_to(&mut self, host_id: HostId, cursor: Option<Token>) {
        if let Some(host) = self.state.host(host_id).filter(|host| host.cursor != cursor) {
            let host = Host {
                cursor,
                ..host.clone()
            };
            self.put(Change::Host(Arc::new(host)));
        }
    }

    fn shown(&mut self, host_id: HostId, item: &HostTask, how: Shown, time: Option<Timestamp>) {
        match self.state.task(item.id) {
            None if item.removed => {}
            None if item.is_settled => self.lay_to_rest(host_id, item),
            // Nobody will ask for this task again, and nothing of it has begun.
            None if item.is_held && item.engine_id == Some(self.state.seed.engine_id) => {
                self.foreign_seen(host_id, item, time);
                self.lay_to_rest(host_id, item);
            }
            None => self.foreign_seen(host_id, item, time),
            Some(task) if task.host_id != host_id => {}
            // The host takes back what it showed before: an end is final, and one that was shown before would be known.
            Some(task) if how == Shown::Change && contradicts(task, item) => self.hole_in(host_id),
            Some(task) if item.sequence <= task.host_sequence && !contradicts(task, item) => {}
            // The task belongs to an earlier store, or to a later one that was never given the task: storage decides.
            Some(task) if self.state.is_of_lost_store(task) && task.command.is_some() => {}
            Some(task) => {
                let next = item.sequence == task.host_sequence + 1;
                if how == Shown::Change && !next {
                    return self.hole_in(host_id);
                }
                self.moved(item, !next, time);
            }
        }
    }

    /// The stream has a hole. The next stream starts with a snapshot, even after a crash.
    fn hole_in(&mut self, host_id: HostId) {
        let stream = self.state.volatile.streams.entry(host_id).or_default();
        if !std::mem::replace(&mut stream.hole, true) {
            self.followed_to(host_id, None);
            self.effect(Effect::Resync { host_id });
        }
    }

    fn moved(&mut self, item: &HostTask, jumped: bool, time: Option<Timestamp>) {
        let Some(task) = self.state.task(item.id) else {
            return;
        };
        let unstoppable = task.abort_wanted && !task.cancelable;
        let was_undecided = self.state.is_undecided(task);
        let start = self.state.host(task.host_id).and_then(|host| host.start);
        self.take_in(item, start, jumped, time);
        let is_doubted = self.state.task(item.id).is_some_and(AsyncTask::is_doubted);
        self.calm(item);
        if unstoppable || was_undecided || is_doubted || item.is_held {
            // The task may be one that can be stopped now, or about which storage is to be asked.
            self.ask(item.id);
        }
        self.after_move(item.id);
    }

    /// A task that is over for the engine, and that its host holds until the engine sends it again, must not begin.
    fn calm(&mut self, item: &HostTask) {
        let Some(task) = self.state.task(item.id).filter(|_| item.is_held) else {
            return;
        };
        let unknown = task.purpose == Purpose::Foreign && item.engine_id == Some(self.state.seed.engine_id);
        if unknown || task.command.is_some() && !task.is_open() {
            let host_id = task.host_id;
            self.lay_to_rest(host_id, item);
        }
    }

    fn take_in(&mut self, item: &HostTask, start: Option<Start>, jumped: bool, time: Option<Timestamp>) {
        let now = self.now;
        if let Some(look) = self.state.task(item.id).map(|task| Look::at(task, item, start)) {
            self.move_task(item.id, &look.events(), |task| {
                look.take_in(task, item, jumped, time, now);
            });
        }
    }

    /// A command hears of its task when the task is over, or when the task was thought to need an operator.
    fn after_move(&mut self, task_id: TaskId) {
        let Some(task) = self.state.task(task_id) else {
            return;
        };
        let Some(command) = task.command else { return };
        let rests = self
            .state
            .command(command)
            .is_some_and(|command| command.attention().is_some());
        if task.async_state == AsyncTaskState::Ended || rests {
            self.decide(command);
        }
    }

    /// Takes in the outcome of a task that was cleared before the engine heard it, because the stream will not show it again; and
    /// the outcome of a task that the stream has shown otherwise. All others are left to the stream, which shows each edge.
    pub(super) fn take_over(&mut self, record: &HostTask) {
        let task = self.state.task(record.id);
        let shown_otherwise = task.is_some_and(|task| contradicts(task, record));
        if record.state.is_terminal() && (record.removed || shown_otherwise) {
            let start = task
                .and_then(|task| self.state.host(task.host_id))
                .and_then(|host| host.start);
            self.take_in(record, start, true, None);
            if self.state.task(record.id).is_some_and(AsyncTask::is_doubted) {
                self.ask(record.id);
            }
        }
    }

    /// The host has a task again that is over for good: its directory was restored from an older copy. The record
    /// stays as it is, and the host must end the task.
    fn lay_to_rest(&mut self, host_id: HostId, item: &HostTask) {
        let task_id = item.id;
        let Some(host) = self.state.host(host_id) else {
            return;
        };
        let store_id = host.store_id;
        if !host.has_risen {
            let host = Host {
                has_risen: true,
                ..host.clone()
            };
            self.put(Change::Host(Arc::new(host)));
        }
        // If the task has left the working state, the host still has the id that the task was sent with.
        let correlation_id = match self.state.task(task_id) {
            Some(task) => task.correlation_id.clone(),
            None => item.correlation_id.to_string(),
        };
        self.effect(match item.state.is_terminal() {
            true => Effect::ClearTask {
                host_id,
                task_id,
                correlation_id,
            },
            false => Effect::AbortTask {
                host_id,
                task_id,
                store_id,
                correlation_id,
            },
        });
    }

    /// Foreign tasks are recorded as long as there is room; an event gives the number of the others, less and less
    /// often.
    fn foreign_seen(&mut self, host_id: HostId, item: &HostTask, time: Option<Timestamp>) {
        if item.engine_id == Some(self.state.seed.engine_id) {
            self.want_inventory(host_id);
        }
        let most = self.state.seed.limits.foreign_tasks_per_host;
        if self.state.foreign_on(host_id) >= most {
            let more = self.state.volatile.unrecorded.entry(host_id).or_default();
            *more += 1;
            let more = *more;
            if is_power_of_ten(more) {
                let host = self.state.named_host(host_id);
                let message = format!(
                    "{host} has {more} more foreign tasks than the {most} that are recorded. They are not listed, and commands may collide with them; see ListTasks of the host itself, or raise --max-foreign-tasks-per-host"
                );
                self.emit_about(
                    EventCode::ForeignTaskSeen,
                    vec![EntityKey::Host(host_id)],
                    message,
                );
            }
            return;
        }
        let store_id = self.state.host(host_id).and_then(|host| host.store_id);
        let mut task = foreign(host_id, item, store_id, self.next_seq(), self.now);
        let look = Look::at(&task, item, None);
        if !self.advance(&mut task, &look.events()) {
            return;
        }
        look.take_in(&mut task, item, item.sequence > 1, time, self.now);
        let (open, entities) = (task.is_open(), task.entities());
        self.put(Change::Task(Arc::new(task)));
        if open {
            let ours = if item.engine_id == Some(self.state.seed.engine_id) {
                "; it has this engine's id but is not in its records: an older copy of the engine's data directory was restored, or another life of this engine had the host. What was acknowledged there is not known here"
            } else {
                ""
            };
            let host = self.state.named_host(host_id);
            let message = format!("task {} on {host} was started by somebody else{ours}", item.id);
            let entities = entities.into_iter().chain([EntityKey::Host(host_id)]).collect();
            self.emit_about(EventCode::ForeignTaskSeen, entities, message);
        }
    }

    fn snapshot_done(&mut self, host_id: HostId, seen: &BTreeSet<TaskId>, token: Token) {
        for task_id in self.state.tasks_on(host_id) {
            if !seen.contains(&task_id) {
                self.missing(task_id);
            }
        }
        self.followed_to(host_id, Some(token));
    }

    /// The host does not show a task. An absent task has not failed: a write settles it, here and again at each
    /// connection.
    fn missing(&mut self, task_id: TaskId) {
        let Some(task) = self.state.task(task_id) else {
            return;
        };
        let now = self.now;
        match task.async_state {
            // The host shows every task that was not cleared.
            state if is_being_cleared(state) || task.purpose == Purpose::Foreign => {
                let present = self.state.host(task.host_id).and_then(|host| host.store_id);
                let of_this_store = task.purpose != Purpose::Foreign || task.store_id == present;
                if of_this_store {
                    self.clear_locally(task_id);
                }
            }
            AsyncTaskState::Watching if !self.state.is_of_lost_store(task) => {
                self.move_task(task_id, &[AsyncTaskEvent::AskAgain], |task| {
                    task.host_sequence = 0;
                    task.resynced = true;
                    task.waiting_for = AsyncTask::waits_for(task.async_state, task.host_id, "", now);
                });
                self.ask(task_id);
            }
            _ => {}
        }
    }
}

/// Whether the host shows as over what it has shown as open with this sequence, or a later one, of the same start. No honest
/// host does, and what is not over for the engine may not stay so because a host has once said what is not true.
fn contradicts(task: &AsyncTask, item: &HostTask) -> bool {
    task.is_open()
        && item.state.is_terminal()
        && item.sequence <= task.host_sequence
        && task.reported != Some(item.state)
}

/// Whether the changes up to `token` were taken in before.
fn is_past(token: Option<Token>, cursor: Token) -> bool {
    token.is_some_and(|token| {
        (token.store_id, token.start) == (cursor.store_id, cursor.start) && token.revision <= cursor.revision
    })
}

/// The meaning of a host's task for the record.
struct Look {
    /// The start of the host that shows the task.
    start: Option<Start>,
    /// Whether the record is open, so that the host's report counts. A terminal state is final.
    is_open: bool,
    /// Whether the host says that the task was undone and storage must be asked first, because the host may have
    /// forgotten its work.
    is_doubted: bool,
    /// Whether the task is over with this report.
    is_over: bool,
    /// Whether the host holds the task until the engine sends it again, whatever the engine sent before. Each
    /// connection sends it, until the host shows otherwise.
    is_held: bool,
    /// Whether the task is gone at its host, and was a foreign one.
    has_vanished: bool,
    /// Whether the task is gone at its host because it was cleared.
    is_cleared: bool,
}

impl Look {
    fn at(task: &AsyncTask, item: &HostTask, start: Option<Start>) -> Self {
        let is_open = task.is_open();
        let outlived = task.outlived_a_start || task.has_outlived(start);
        let is_doubted = is_open
            && task.command.is_some()
            && outlived
            && item.state == ReportedState::Known(TaskState::Recovered);
        let is_gone = item.removed && task.async_state != AsyncTaskState::Cleared;
        Self {
            start,
            is_open,
            is_doubted,
            is_over: is_open && item.state.is_terminal() && !is_doubted,
            is_held: item.is_held,
            has_vanished: is_gone && task.purpose == Purpose::Foreign,
            is_cleared: is_gone && task.purpose != Purpose::Foreign && is_being_cleared(task.async_state),
        }
    }

    fn events(&self) -> Vec<AsyncTaskEvent> {
        let seen = match (self.is_open, self.is_over, self.is_held) {
            (false, _, _) => None,
            (true, true, _) => Some(AsyncTaskEvent::End),
            (true, false, true) => Some(AsyncTaskEvent::AskAgain),
            (true, false, false) => Some(AsyncTaskEvent::Accept),
        };
        let vanished = self.has_vanished.then_some(AsyncTaskEvent::Vanish);
        let cleared = self.is_cleared.then_some(AsyncTaskEvent::Clear);
        seen.into_iter().chain(vanished).chain(cleared).collect()
    }

    /// The one place that takes a host's report into a record. The events have moved the record already.
    fn take_in(
        &self,
        task: &mut AsyncTask,
        item: &HostTask,
        jumped: bool,
        time: Option<Timestamp>,
        now: Timestamp,
    ) {
        task.host_sequence = item.sequence;
        task.host_commit_time = time.or(task.host_commit_time);
        if !self.is_open {
            return;
        }
        task.met(self.start);
        task.reported = Some(item.state);
        task.resynced = jumped;
        task.cancelable = item.cancelable;
        task.undo.clone_from(&item.undo);
        task.fault = task.fault.take().or_else(|| item.fault.clone());
        task.undo_fault.clone_from(&item.undo_fault);
        task.ended = self.is_over.then_some(now);
        let words = if self.is_doubted {
            STORAGE_IS_ASKED
        } else {
            &item.waiting_for
        };
        let waits = AsyncTask::waits_for(task.async_state, task.host_id, words, now);
        match (&mut task.waiting_for, waits) {
            // A change that waits for the same thing keeps the time since when the task waits.
            (Some(present), Some(new)) if present.what == new.what => present.note = new.note,
            (present, new) => *present = new,
        }
    }
}

fn foreign(
    host_id: HostId,
    item: &HostTask,
    store_id: Option<StoreId>,
    seq: u64,
    now: Timestamp,
) -> AsyncTask {
    AsyncTask {
        id: item.id,
        seq,
        host_id,
        purpose: Purpose::Foreign,
        operation: item.operation.clone(),
        async_state: AsyncTaskState::Watching,
        reported: None,
        settled: None,
        fault: None,
        host_sequence: 0,
        sequence: 1,
        resynced: false,
        cancelable: false,
        undo: Words::default(),
        undo_fault: None,
        command: None,
        root: None,
        place: None,
        step: None,
        store_id,
        start: None,
        outlived_a_start: false,
        abort_wanted: false,
        begun_before: false,
        user: String::new(),
        correlation_id: item.correlation_id.to_string(),
        created: now,
        ended: None,
        host_commit_time: None,
        waiting_for: None,
        tree_sequence: 0,
    }
}

fn is_power_of_ten(number: u64) -> bool {
    10_u64.checked_pow(number.checked_ilog10().unwrap_or_default()) == Some(number)
}

#[cfg(test)]
mod tests {
    use common::id::{TaskId, VolumeId};
    use common::{Allocation, CopyVolume, FaultCode, Operation, VolumeAddress, VolumeFormat};
    use uuid::Uuid;

    use super::*;
    use crate::input::Input;
    use crate::model::CommandState;
    use crate::step::Reply;
    use crate::testing::{
        World, command_id, copy_disk, create_disk, disk_id, domain_id, host_id, remove_disk,
    };

    #[test]
    fn tasks_of_others_are_recorded_up_to_a_bound_and_then_counted_in_words() {
        let mut world = World::with_domains(1);
        world.engine.state.seed.limits.foreign_tasks_per_host = 3;
        for number in 0..103 {
            let id = TaskId::from_uuid(Uuid::from_u128(0x9000 + number));
            world
                .host_mut(0)
                .start_foreign(id, common::Operation::Noop(common::Noop));
        }
        world.settle();
        assert_eq!(world.engine.state.foreign_on(host_id(0)), 3);
        let more = |event: &&crate::model::Event| event.message.contains("--max-foreign-tasks-per-host");
        let told: Vec<_> = world.engine.events.iter().filter(more).collect();
        assert!((1..10).contains(&told.len()), "{told:#?}");
        // The bound counts existing tasks: there is room again once others have gone.
        assert!(world.is_connected(host_id(0)));
    }

    #[test]
    fn a_copy_of_somebody_elses_holds_what_it_reads_as_well_as_what_it_makes() {
        let mut world = World::with_domains(1);
        world.submit(1, "CreateDisk", create_disk(1, 0));
        world.settle();
        let address = |disk: u128| VolumeAddress {
            domain_id: domain_id(0),
            image_id: disk_id(disk).image(),
            volume_id: VolumeId::from_uuid(Uuid::from_u128(0x8000 + disk)),
        };
        let copy = CopyVolume {
            source: address(1),
            target: address(2),
            format: VolumeFormat::Raw,
            allocation: Allocation::Sparse,
            description: String::new(),
            verify: false,
        };
        let id = TaskId::from_uuid(Uuid::from_u128(0x9000));
        world.host_mut(0).start_foreign(id, Operation::CopyVolume(copy));
        while world.engine.state.task(id).is_none() {
            assert!(world.deliver(host_id(0)), "it is never shown");
        }
        let busy =
            |reply: Reply| matches!(reply, Reply::Refused(fault) if fault.code == FaultCode::EntityBusy);
        assert!(busy(world.submit(2, "RemoveDisk", remove_disk(1))), "its source");
        assert!(
            busy(world.submit(3, "CreateDisk", create_disk(2, 0))),
            "its target"
        );
        let shared = world.submit(4, "CopyDisk", copy_disk(1, 3, 0));
        assert!(
            matches!(shared, Reply::Accepted { .. }),
            "what is only read is shared"
        );
        let task = world.engine.state.task(id).unwrap();
        let entities = [disk_id(2), disk_id(1)].map(EntityKey::Disk);
        assert_eq!(task.entities()[..2], entities, "it is found under both");
    }

    #[test]
    fn where_a_host_does_not_know_the_point_that_it_was_followed_to_it_is_read_anew() {
        let mut world = World::with_domains(1);
        world.submit(1, "CreateDisk", create_disk(1, 0));
        let start = world.host_mut(0).present_start();
        let token = |revision| Token {
            store_id: world.hosts[&host_id(0)].store,
            start,
            revision: common::Revision(revision),
        };
        let frame = Frame::Changes {
            token: Some(token(1_000)),
            time: Timestamp(0),
            tasks: Vec::new(),
        };
        let store_id = world.host_mut(0).store;
        let host_id = host_id(0);
        world.step(Input::Observed {
            host_id,
            store_id,
            start,
            frame,
        });
        // The next stream begins at that point, and would never show anything.
        world.disconnect(host_id);
        world.settle();
        assert_eq!(world.state_of(1), CommandState::Succeeded);
    }

    /// A world in which the host showed, where it had to show the end of the task, another state or a much later one, and has
    /// been honest ever since.
    fn lied_to(state: ReportedState, further: u64) -> World {
        let mut world = World::with_domains(1);
        world.submit(1, "CreateDisk", create_disk(1, 0));
        let host_id = host_id(0);
        while world.host_mut(0).open_tasks().is_empty() {
            world.perform(0, false);
        }
        let id = world.host_mut(0).open_tasks()[0];
        while world.host_mut(0).open_tasks().contains(&id) {
            world.host_mut(0).advance(id);
        }
        let end = world
            .host_mut(0)
            .snapshot()
            .into_iter()
            .find(|task| task.id == id);
        let end = end.expect("it is not cleared");
        while world.engine.state.task(id).expect("it is known").host_sequence + 1 < end.sequence {
            assert!(world.deliver(host_id), "the edges before");
        }
        let (store_id, start) = (world.host_mut(0).store, world.host_mut(0).present_start());
        let token = world.hosts[&host_id].token(world.hosts[&host_id].now());
        for more in 0..=further {
            let lie = HostTask {
                state,
                sequence: end.sequence + more,
                ..end.clone()
            };
            let frame = Frame::Changes {
                token: (more == further).then_some(token),
                time: Timestamp(0),
                tasks: vec![lie],
            };
            world.step(Input::Observed {
                host_id,
                store_id,
                start,
                frame,
            });
        }
        world.settle();
        world
    }

    #[test]
    fn what_a_host_has_once_said_untruly_of_an_end_does_not_stay_so_when_the_host_is_asked() {
        let lies = [
            ReportedState::Known(TaskState::Preparing),
            ReportedState::Known(TaskState::Running),
            ReportedState::Unknown(77),
        ];
        for (lie, further) in lies.into_iter().flat_map(|lie| [(lie, 0), (lie, 3)]) {
            let mut world = lied_to(lie, further);
            assert_eq!(
                world.state_of(1),
                CommandState::Active,
                "{lie:?}: nothing shows that it is a lie"
            );
            world.step(Input::Cancel {
                command_id: command_id(1),
                user: "ann".to_owned(),
            });
            world.settle();
            assert_eq!(
                world.state_of(1),
                CommandState::Succeeded,
                "{lie:?} {further}: it is asked"
            );
        }
    }

    #[test]
    fn numbers_are_told_ever_less_often() {
        let told: Vec<u64> = (0..2_000).filter(|number| is_power_of_ten(*number)).collect();
        assert_eq!(told, [1, 10, 100, 1_000]);
    }
}
