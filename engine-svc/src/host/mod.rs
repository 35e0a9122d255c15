//! The hosts: each has one follower, which keeps a stream open, passes its frames to the engine, and performs the
//! engine's effects there. Only a host's own follower waits for the host.
//!
//! The engine derives what is outstanding on a host from its state at each connection, so nothing is kept here: an
//! effect for a host that is not connected is dropped.

mod backoff;
mod call;
mod follower;
mod frame;
mod inventory;
mod links;
mod meeting;
mod observation;
mod pages;
mod pending;
mod probe;
mod refusal;
mod room;
mod session;
mod stream;
mod tally;

use std::collections::BTreeMap;
use std::time::Duration;

use common::id::HostId;
use common::words;
use engine_core::Stance;
use engine_core::effect::Effect;
use engine_core::model::{Command, CommandParameters as _, Event};
use runtime::client::Connector;
use runtime::coordinator::{Handle, Perform};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{info, warn};

pub use self::links::{HostFull, HostLinks, Link, LinkStatus};
use crate::holders::Holders;
use crate::life::Lives;
use crate::lock_waits::Waiting;
use crate::machine::{self, Engine};
use crate::open_tasks::OpenTasks;
use crate::store::Log;

/// The maximum number of a command's entities that a log line names.
const LOGGED_ENTITIES: usize = 4;

/// Takes the engine's effects from the coordinator: shows who holds what and what is at work, and hands the rest to
/// [`run`].
///
/// The channel has no bound of its own, because the coordinator must not wait for a host. What is in it is
/// bounded by the state: [`run`] takes it out at once, and one connection sees each outstanding thing once.
pub struct Outbox {
    orders: mpsc::UnboundedSender<Effect>,
    holders: Holders,
    open_tasks: OpenTasks,
    waiting: Waiting,
    log: Log,
    lives: Lives,
    stance: watch::Sender<Stance>,
}

/// The receiving end of an [`Outbox`].
#[derive(Debug)]
pub struct Orders(mpsc::UnboundedReceiver<Effect>);

/// Makes an outbox with its receiving end.
pub fn outbox(
    holders: Holders,
    open_tasks: OpenTasks,
    waiting: Waiting,
    log: Log,
    lives: Lives,
    stance: watch::Sender<Stance>,
) -> (Outbox, Orders) {
    let (orders, receiver) = mpsc::unbounded_channel();
    let outbox = Outbox {
        orders,
        holders,
        open_tasks,
        waiting,
        log,
        lives,
        stance,
    };
    (outbox, Orders(receiver))
}

impl Perform<machine::Effect> for Outbox {
    fn perform(&mut self, effect: machine::Effect) {
        match effect {
            machine::Effect::Core(effect) => {
                // The receiver is gone only while the service stops.
                let _ = self.orders.send(effect);
            }
            machine::Effect::Ended(root) => log_end(&root),
            machine::Effect::Alert(event) => log_alert(&event),
            // Before the hosts are followed anew.
            machine::Effect::Renewed(life) => {
                warn!(
                    epoch = life.epoch, incarnation = %life.incarnation,
                    "another life of this engine is proven: this start takes a new incarnation, with which its hosts can prove it to the other life"
                );
                self.lives.renew(life);
            }
            machine::Effect::Stands(stance) => {
                self.stance.send_replace(stance);
            }
            machine::Effect::Holds(hosts) => self.lives.hold(hosts),
            machine::Effect::Held(_)
            | machine::Effect::AtWork(_)
            | machine::Effect::Waiting(_)
            | machine::Effect::Anew => {}
        }
    }

    fn show(&mut self, effect: &machine::Effect) {
        match effect {
            machine::Effect::Core(_)
            | machine::Effect::Ended(_)
            | machine::Effect::Alert(_)
            | machine::Effect::Renewed(_)
            | machine::Effect::Holds(_)
            | machine::Effect::Stands(_) => {}
            machine::Effect::Held(held) => self.holders.note(held),
            machine::Effect::Waiting(count) => self.waiting.note(*count),
            machine::Effect::AtWork(tasks) => {
                let progress = self.log.progress();
                for task in tasks {
                    match task.is_open {
                        true => progress.begin(task.task_id),
                        false => progress.forget(task.task_id),
                    }
                }
                self.open_tasks.note(tasks);
            }
            machine::Effect::Anew => {
                self.holders.clear();
                self.open_tasks.clear();
                self.log.progress().clear();
            }
        }
    }
}

/// Logs the end of a command once, after the end is durable.
fn log_end(root: &Command) {
    let entities = root.parameters.entities();
    let took = root
        .ended
        .map(|ended| ended.as_micros().saturating_sub(root.created.as_micros()));
    let fault = root
        .fault
        .as_ref()
        .map(|fault| tracing::field::display(fault.clone()));
    info!(
        command_id = %root.id,
        kind = ?root.kind(),
        state = ?root.state,
        entities = words::listed(&entities, LOGGED_ENTITIES),
        user = root.user,
        correlation_id = root.correlation_id,
        duration_ms = took.unwrap_or_default() / 1_000,
        fault,
        left_behind = root.left_behind.len(),
        "the command has ended"
    );
}

/// Logs an event that an operator should look at, for operators who read no events.
fn log_alert(event: &Event) {
    let command_id = event.command.map(tracing::field::display);
    warn!(
        code = event.code.as_str(),
        entities = words::listed(&event.entities, LOGGED_ENTITIES),
        command_id,
        user = event.user,
        correlation_id = event.correlation_id,
        "{}",
        event.message
    );
}

/// What followers need to know about their engine.
#[derive(Clone)]
pub struct Context {
    /// The engine's inputs.
    pub engine: Handle<Engine>,
    /// The history of commits.
    pub log: Log,
    /// How hosts are reached.
    pub connector: Connector,
    /// Where followers note the state of their links.
    pub links: HostLinks,
    /// The life in whose name hosts are called.
    pub lives: Lives,
    /// How often hosts are to send a heartbeat if they have nothing else to send. After three missed heartbeats the
    /// host counts as away.
    pub heartbeat_interval: Duration,
}

/// Routes effects to the hosts' followers until the coordinator has ended. All followers end with it.
pub async fn run(context: Context, mut orders: Orders) {
    let mut followers = BTreeMap::<HostId, Follower>::new();
    while let Some(effect) = orders.0.recv().await {
        match effect {
            Effect::Follow {
                host_id,
                address,
                identity,
            } => {
                // Also after the engine has read its state anew: then frames under way are lost, and the follower
                // begins again from what is committed.
                end(followers.remove(&host_id)).await;
                info!(%host_id, address, "following host");
                let whom = Whom {
                    host_id,
                    address,
                    identity,
                };
                followers.insert(host_id, Follower::spawn(context.clone(), whom));
            }
            Effect::Unfollow { host_id } => {
                info!(%host_id, "stopped following host");
                // The follower must end before what it noted is forgotten.
                end(followers.remove(&host_id)).await;
                context.links.forget(host_id);
            }
            effect => {
                if let Some(follower) = followers.get(&host_of(&effect)) {
                    // A follower ends only when it is dropped.
                    let _ = follower.orders.send(effect);
                }
            }
        }
    }
}

/// The host to follow.
#[derive(Debug, Clone)]
struct Whom {
    host_id: HostId,
    /// `host:port`.
    address: String,
    /// The name that the host's certificate must have; empty for `host:` and the host's id.
    identity: String,
}

/// One host's follower; ends when dropped.
struct Follower {
    orders: mpsc::UnboundedSender<Effect>,
    task: JoinHandle<()>,
}

impl Follower {
    fn spawn(context: Context, whom: Whom) -> Self {
        let (orders, receiver) = mpsc::unbounded_channel();
        let task = tokio::spawn(follower::follow(context, whom, receiver));
        Self { orders, task }
    }
}

/// Ends a follower and waits until it is gone, so that it notes nothing any more. The wait is no longer than the
/// follower's present step.
async fn end(follower: Option<Follower>) {
    if let Some(mut follower) = follower {
        follower.task.abort();
        // The task was aborted, as it should be.
        let _ = (&mut follower.task).await;
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The host that an effect is for.
const fn host_of(effect: &Effect) -> HostId {
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
