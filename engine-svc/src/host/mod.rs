//! The hosts: one follower each, which keeps a stream open, feeds what it says to the engine, and performs what
//! the engine wants done there. Nobody waits for a host but its own follower.
//!
//! What is outstanding to a host is derived from the engine's state at each connect, so nothing here is kept: an
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

/// Entities of a command that the log names.
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

/// The other end of an [`Outbox`].
#[derive(Debug)]
pub struct Orders(mpsc::UnboundedReceiver<Effect>);

/// A new pair.
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
                // Nobody receives only while the service stops.
                let _ = self.orders.send(effect);
            }
            machine::Effect::Ended(root) => log_end(&root),
            machine::Effect::Alert(event) => log_alert(&event),
            // Before the hosts are followed anew.
            machine::Effect::Renewed(life) => {
                warn!(
                    epoch = life.epoch, incarnation = %life.incarnation,
                    "another life of this engine was proven: this one takes a new incarnation, so that its hosts can prove this one to the other"
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

/// The end of a command, told once, after it is durable.
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

/// An event that somebody should look at, who may read no events.
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

/// What followers need to know of the engine that they work for.
#[derive(Clone)]
pub struct Context {
    /// Where inputs go.
    pub engine: Handle<Engine>,
    /// What was committed.
    pub log: Log,
    /// How hosts are reached.
    pub connector: Connector,
    /// Where followers note how they stand.
    pub links: HostLinks,
    /// Who calls the hosts.
    pub lives: Lives,
    /// What hosts are asked to send when nothing else is to be sent. Three that stay out mean that the
    /// host is away.
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
                // Also after the engine has read its state anew: then what was on its way is lost, and the
                // follower begins again with what is committed.
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
                // First it ends, and then what it noted goes.
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

/// The host that is followed.
#[derive(Debug, Clone)]
struct Whom {
    host_id: HostId,
    /// `host:port`.
    address: String,
    /// How its certificate must name it; empty for `host:` and its id.
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

/// Ends a follower and sees it gone: it notes nothing any more. That takes no longer than the step that it is making.
async fn end(follower: Option<Follower>) {
    if let Some(mut follower) = follower {
        follower.task.abort();
        // Cut off, as it was to be.
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
