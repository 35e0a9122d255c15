//! The engine's machine, as the coordinator drives it: inputs go in, records and history come out.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use common::id::{CommandId, EngineId, HostId};
use common::time::Timestamp;
use engine_core::input::{Frame, HostTask, PriorRequest, Submission};
use engine_core::jobs::Subject;
use engine_core::model::{AsyncTask, Command, EntityKey, Event, Holding, Purpose, Severity};
use engine_core::{Change, Input, Limits, Reply, Stance, State, Transition};
use proto::store::v1::EngineHistory;
use runtime::machine::{Machine, Shown, Step};
use store::{Reader, Store, StoreError};
use tracing::error;

use crate::life::Life;
use crate::metrics::{Census, Figures};
use crate::open_tasks::AtWork;
use crate::pulse::Pulse;
use crate::store::command::{COMMANDS, REQUESTS, request_key};
use crate::store::task::TASKS;
use crate::store::writes::Revisions;
use crate::store::{engine, load};

/// What the engine needs at each load besides the records.
#[derive(Clone)]
pub struct Seed {
    /// The engine's id.
    pub engine_id: EngineId,
    /// For requests of commands that have ended, and for commands that are forgotten, which are no part of the
    /// working state.
    pub store: Arc<dyn Store>,
    /// The bounds of what the engine accepts.
    pub limits: Limits,
    /// Where its figures are shown, if there are metrics.
    pub figures: Option<Figures>,
    /// Whether the process stood still.
    pub pulse: Pulse,
}

/// Effects to be performed once a step is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// An effect of the core.
    Core(engine_core::Effect),
    /// Show who holds these entities from now on.
    Held(Vec<(EntityKey, Option<Holding>)>),
    /// Log that this command has ended.
    Ended(Box<Command>),
    /// Log an event that an operator should look at.
    Alert(Box<Event>),
    /// These tasks are at work from now on, or over. Their progress stops being shown before their end is told.
    AtWork(Vec<AtWork>),
    /// Call the hosts as this recorded incarnation from now on.
    Renewed(Life),
    /// The engine may act, or not, from now on.
    Stands(Stance),
    /// These hosts are this start's from now on.
    Holds(Vec<HostId>),
    /// This many commands wait for their locks from now on.
    Waiting(usize),
    /// Forget who held what and which tasks were at work: the working state was read anew, and both come next.
    Anew,
}

/// The engine's machine.
pub struct Engine {
    state: State,
    store: Arc<dyn Store>,
    /// The recorded life; none over a store in which no engine has begun.
    life: Option<Life>,
    pulse: Pulse,
    /// The number of standstills of the process after which the hosts were asked anew.
    standstills: u64,
    /// The number of commands that waited for their locks after the last step; none before the first step.
    waiting: Option<usize>,
    /// Counts the working state, if there are metrics.
    census: Option<Census>,
}

impl Machine for Engine {
    type Input = Input;
    type Reply = Reply;
    type Effect = Effect;
    type History = EngineHistory;
    type Seed = Seed;

    fn load(reader: &dyn Reader, seed: &Seed) -> Result<Self, StoreError> {
        let core = load::seed(reader, seed.engine_id, seed.limits)?;
        let state = State::load(core, load::changes(reader)?);
        let census = |figures: &Figures| Census::of(figures.clone(), &state);
        Ok(Self {
            census: seed.figures.as_ref().map(census),
            state,
            store: Arc::clone(&seed.store),
            life: engine::present(reader)?,
            // All hosts are asked at each load.
            standstills: seed.pulse.beat(),
            pulse: seed.pulse.clone(),
            waiting: None,
        })
    }

    fn recover(&self) -> Option<Input> {
        Some(Input::Recover)
    }

    fn step(&mut self, mut input: Input, now: Timestamp) -> Step<Self> {
        if let Input::Observed { frame, .. } = &mut input
            && let Err(error) = self.mark_settled(frame)
        {
            // The commit that follows fails as well; then the connection begins anew.
            error!(%error, "cannot look up tasks of a host");
        }
        if let Input::Submit(submission) = &mut input
            && let Err(error) = self.look_up(submission)
        {
            // The commit that follows fails as well; then nobody is told anything.
            error!(%error, "cannot look up a request");
        }
        let anew = matches!(input, Input::Recover);
        let what = kind(&input);
        let transition = match self.stood_still(&input) {
            true => self
                .state
                .step(Input::StoodStill, now)
                .then(self.state.step(input, now)),
            false => self.state.step(input, now),
        };
        for fault in &transition.defects {
            error!(input = what, %fault, "a step was refused");
        }
        self.settle(transition, anew)
    }

    fn shown(&mut self) -> Option<Shown> {
        self.census.as_mut().map(Census::shown)
    }

    fn label(input: &Input) -> String {
        kind(input).to_owned()
    }
}

impl Engine {
    /// Whether the process stood still since the hosts were last asked, so that they may belong to another life by
    /// now. Then their earlier answers decide nothing.
    fn stood_still(&mut self, input: &Input) -> bool {
        let standstills = self.pulse.beat();
        match input {
            Input::Submit(_) | Input::Cancel { .. } | Input::Retry { .. } | Input::Abandon { .. } => {
                std::mem::replace(&mut self.standstills, standstills) != standstills
            }
            Input::StoodStill => {
                self.standstills = standstills;
                false
            }
            _ => false,
        }
    }

    /// Looks up the request of a command that has left the working state, so that the core need not remember it.
    fn look_up(&self, submission: &mut Submission) -> Result<(), StoreError> {
        let key = request_key(
            &submission.user,
            &submission.rpc,
            submission.request_id.as_bytes(),
        );
        let reader = self.store.reader()?;
        let id = reader.get(REQUESTS, &key)?;
        if let Some(command_id) = id.and_then(|id| CommandId::from_slice(&id).ok()) {
            let record = COMMANDS.get(&*reader, command_id.as_bytes())?;
            submission.before = record.map(|record| PriorRequest {
                command_id,
                digest: record.request_digest,
            });
        }
        Ok(())
    }

    /// Marks tasks that have left the working state: they are over for good, whatever a host says that was restored
    /// from an older copy. Only tasks that the core does not know are looked up.
    fn mark_settled(&self, frame: &mut Frame) -> Result<(), StoreError> {
        let unknown = |item: &&mut HostTask| {
            item.engine_id.is_some() && !item.removed && self.state.task(item.id).is_none()
        };
        for item in frame.tasks_mut().iter_mut().filter(unknown) {
            let record = TASKS.get(&*self.store.reader()?, item.id.as_bytes())?;
            let shown = record.and_then(|record| record.task);
            item.is_settled = shown.is_some_and(|task| !task.command_id.is_empty());
        }
        Ok(())
    }

    fn settle(&mut self, transition: Transition, anew: bool) -> Step<Self> {
        if let Some(census) = &mut self.census {
            census.take(&transition.changes);
        }
        let mut revisions = Revisions::new();
        let mut heads = transition.heads.iter().peekable();
        for change in &transition.changes {
            let head = heads.next_if(|head| counts(change) == Some((head.subject, head.sequence)));
            let owner = self.owner(change, &transition.changes);
            revisions.add(change, owner.as_deref(), head);
        }
        if let Err(error) = self.let_go(&transition.changes, &mut revisions) {
            // Nothing is lost: records that stay in the tables are read, and let go of, at the next start.
            error!(%error, "cannot read records that have left the working state");
        }
        let mut effects = Vec::new();
        if transition.renews {
            effects.extend(self.renew(&mut revisions).map(Effect::Renewed));
        }
        effects.extend(transition.stance.map(Effect::Stands));
        effects.extend(transition.holds.map(Effect::Holds));
        let held = if anew {
            effects.push(Effect::Anew);
            self.all_held()
        } else {
            self.touched(&transition.changes)
        };
        if !held.is_empty() {
            effects.push(Effect::Held(self.holders(held)));
        }
        let at_work = self.at_work(&transition.changes, anew);
        if !at_work.is_empty() {
            effects.push(Effect::AtWork(at_work));
        }
        effects.extend(alerts(&transition.changes).map(|event| Effect::Alert(Box::new(event.clone()))));
        let waiting = self.state.waiting_commands();
        if self.waiting.replace(waiting) != Some(waiting) {
            effects.push(Effect::Waiting(waiting));
        }
        effects.extend(ended(&transition.changes).map(|root| Effect::Ended(Box::new(root.clone()))));
        effects.extend(transition.effects.into_iter().map(Effect::Core));
        Step {
            revisions: revisions.finish(),
            effects,
            reply: transition.reply,
        }
    }

    /// Takes a new incarnation in the same commit as the change that requires it.
    fn renew(&mut self, revisions: &mut Revisions) -> Option<Life> {
        let renewed = engine::renewed(self.life.as_ref()?);
        // If there is no next epoch, the engine goes on with its present incarnation.
        let renewed = renewed.inspect_err(|error| error!(%error, "cannot take another incarnation"));
        let (life, write) = renewed.ok()?;
        revisions.own(write);
        self.life = Some(life.clone());
        Some(life)
    }

    /// The command of a changed task. If the tree has left the working state with this very step, the command is in
    /// the store, or among the changes.
    fn owner<'a>(&'a self, change: &Change, changes: &'a [Change]) -> Option<Cow<'a, Command>> {
        let Change::Task(task) = change else { return None };
        let id = task.command?;
        let changed = || {
            changes.iter().rev().find_map(|change| match change {
                Change::Command(command) if command.id == id => Some(&**command),
                _ => None,
            })
        };
        let live = self.state.command(id).or_else(changed).map(Cow::Borrowed);
        live.or_else(|| {
            let reader = self.store.reader().ok()?;
            let (seq, record) = COMMANDS.find(&*reader, id.as_bytes()).ok()??;
            load::read_command(seq, record).map(Cow::Owned)
        })
    }

    /// Removes trees that have left the working state with these changes, and commands that are forgotten.
    fn let_go(&self, changes: &[Change], revisions: &mut Revisions) -> Result<(), StoreError> {
        let mut left = BTreeMap::new();
        for change in changes {
            match change {
                Change::Command(command) if self.state.command(command.root).is_none() => {
                    let seq = command.is_root().then_some(command.seq);
                    let known = left.entry(command.root).or_insert(None);
                    *known = known.or(seq);
                }
                Change::Task(task) => {
                    if let Some(root) = task.root.filter(|root| self.state.command(*root).is_none()) {
                        left.entry(root).or_insert(None);
                    }
                }
                Change::CommandRemoved(id) => revisions.forget(&*self.store.reader()?, *id)?,
                _ => {}
            }
        }
        for (root, seq) in left {
            let seq = match seq {
                Some(seq) => Some(seq),
                None => COMMANDS.sequence_of(&*self.store.reader()?, root.as_bytes())?,
            };
            if let Some(seq) = seq {
                revisions.leave(seq);
            }
        }
        Ok(())
    }

    /// Which tasks have begun and ended; after a load, all tasks at work.
    fn at_work(&self, changes: &[Change], anew: bool) -> Vec<AtWork> {
        let loaded = self.state.tasks().filter(|task| anew && task.is_open());
        let changed = changes.iter().filter_map(|change| match change {
            Change::Task(task) if task.sequence == 1 || !task.is_open() => Some(&**task),
            _ => None,
        });
        let at_work = |task: &AsyncTask| AtWork {
            task_id: task.id,
            host_id: task.host_id,
            is_open: task.is_open(),
        };
        loaded.chain(changed).map(at_work).collect()
    }

    /// The entities whose holder may have changed.
    fn touched(&self, changes: &[Change]) -> BTreeSet<EntityKey> {
        let mut touched = BTreeSet::new();
        for change in changes {
            match change {
                // A command that waited may have got its locks.
                Change::Command(command)
                    if command.sequence == 1
                        || command.state.is_terminal()
                        || command.lock_wait.is_some() =>
                {
                    touched.extend(command.locks.iter().map(|(key, _)| key.clone()));
                }
                Change::Task(task) if task.purpose == Purpose::Foreign => touched.extend(task.entities()),
                _ => {}
            }
        }
        touched
    }

    fn all_held(&self) -> BTreeSet<EntityKey> {
        let commands = self
            .state
            .commands()
            .flat_map(|command| command.locks.iter().map(|(key, _)| key.clone()));
        let foreign = self.state.tasks().filter(|task| task.purpose == Purpose::Foreign);
        commands.chain(foreign.flat_map(AsyncTask::entities)).collect()
    }

    fn holders(&self, keys: BTreeSet<EntityKey>) -> Vec<(EntityKey, Option<Holding>)> {
        keys.into_iter()
            .map(|key| {
                let holder = self.state.holding(&key);
                (key, holder)
            })
            .collect()
    }
}

/// The roots that end with these changes. People are told about an end once, by an event of the very same step.
fn ended(changes: &[Change]) -> impl Iterator<Item = &Command> {
    let told: BTreeSet<CommandId> = (changes.iter())
        .filter_map(|change| match change {
            Change::Event(event) => event.command,
            _ => None,
        })
        .collect();
    let mut seen = BTreeSet::new();
    changes.iter().rev().filter_map(move |change| match change {
        Change::Command(command) if command.is_root() && command.state.is_terminal() => {
            (told.contains(&command.id) && seen.insert(command.id)).then_some(&**command)
        }
        _ => None,
    })
}

/// The events of these changes that an operator should look at.
fn alerts(changes: &[Change]) -> impl Iterator<Item = &Event> {
    changes.iter().filter_map(|change| match change {
        Change::Event(event) => Some(event).filter(|event| event.severity == Severity::Alert),
        _ => None,
    })
}

/// The number of a change in its tree, if it has one.
fn counts(change: &Change) -> Option<(Subject, u64)> {
    match change {
        Change::Command(command) => Some((Subject::Command(command.id), command.tree_sequence)),
        Change::Task(task) => task.root.map(|_| (Subject::Task(task.id), task.tree_sequence)),
        _ => None,
    }
}

/// The kind of an input, for logs and fail points.
const fn kind(input: &Input) -> &'static str {
    match input {
        Input::Recover => "recover",
        Input::Submit(_) => "submit",
        Input::Cancel { .. } => "cancel",
        Input::Retry { .. } => "retry",
        Input::Abandon { .. } => "abandon",
        Input::LockWaitsChecked { .. } => "lock_waits_checked",
        Input::Forget { .. } => "forget",
        Input::HostConnected { .. } => "host_connected",
        Input::HostAway { .. } => "host_away",
        Input::HostPutsOff { .. } => "host_puts_off",
        Input::ConnectionsSpent { .. } => "connections_spent",
        Input::HostRefused { .. } => "host_refused",
        Input::LivesMet { .. } => "lives_met",
        Input::StoodStill => "stood_still",
        Input::Observed { .. } => "observed",
        Input::StartAccepted { .. } => "start_accepted",
        Input::StartRefused { .. } => "start_refused",
        Input::AbortAccepted { .. } => "abort_accepted",
        Input::AbortRefused { .. } => "abort_refused",
        Input::Cleared { .. } => "cleared",
        Input::ClearFailed { .. } => "clear_failed",
        Input::CallAnswered { .. } => "call_answered",
        Input::Probed { .. } => "probed",
        Input::RetriesSpent { .. } => "retries_spent",
        Input::DiskObserved { .. } => "disk_observed",
        Input::InventoryTaken { .. } => "inventory_taken",
    }
}

#[cfg(test)]
mod tests;
