//! One connection to a host, from the first question to its end.

use std::sync::Arc;

use common::fault::{Fault, FaultCode};
use common::id::{EngineId, HostId, StoreId};
use engine_core::effect::Effect;
use engine_core::input::{HostFacts, Input};
use proto::vdsm::v1::host_service_client::HostServiceClient;
use proto::vdsm::v1::{GetHostInfoRequest, HostInfo};
use runtime::client;
use runtime::metadata::EngineCall;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;

use super::backoff::Backoff;
use super::call::{self, Connection, Limits, Outcome};
use super::follower::{Orders, idle};
use super::refusal::Refusal;
use super::room::Room;
use super::wishes::Wishes;
use super::{Context, stream};

/// Calls under way on one host at a time: enough to fill the host's group commit, few enough that an abort
/// passes ten thousand starts within a moment.
const CALLS: usize = 64;

/// How long the first question may take.
const HELLO_DEADLINE: std::time::Duration = std::time::Duration::from_secs(5);

/// Why a connection ended, or never began.
#[derive(Debug)]
pub(super) enum End {
    /// The host does not answer.
    Away(Fault),
    /// It answers as somebody else, or belongs to somebody else.
    Refused(Fault),
    /// A younger start of this engine has taken over.
    Fenced(Fault),
    /// It is as well as it was: connect again.
    Again,
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Owned(fault) => Self::Refused(fault),
            Refusal::Fenced(fault) => Self::Fenced(fault),
            Refusal::Lost(fault)
            | Refusal::Full(fault)
            | Refusal::Unclear(fault)
            | Refusal::Answer(fault)
            | Refusal::Final(fault) => Self::Away(fault),
        }
    }
}

/// A connected host, of which the engine has been told.
pub(super) struct Session<'a> {
    context: &'a Context,
    connection: Connection,
}

/// Connects, asks the host who it is, and tells the engine, which answers with all that is outstanding there.
///
/// # Errors
/// Why there is no connection.
pub(super) async fn open<'a>(
    context: &'a Context,
    host_id: HostId,
    address: &str,
    orders: &mut Orders,
) -> Result<Session<'a>, End> {
    let connected = idle(orders, connect(context, host_id, address)).await?;
    let (connection, facts) = connected;
    // From here on effects count: what comes before the engine's answer is at worst done twice, which is harmless.
    let told = context.engine.call(Input::HostConnected { host_id, facts }).await;
    told.map_err(|refusal| End::Away(Fault::new(FaultCode::StoreUnavailable, refusal.to_string())))?;
    Ok(Session { context, connection })
}

async fn connect(context: &Context, host_id: HostId, address: &str) -> Result<(Connection, HostFacts), End> {
    let endpoint = client::endpoint(address).map_err(End::Refused)?;
    let channel = context.connector.connect(endpoint).await.map_err(|error| {
        let words = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        End::Away(Fault::new(
            FaultCode::HostAway,
            format!("the host does not answer: {words}"),
        ))
    })?;
    let hello = HostServiceClient::new(channel.clone());
    let info = host_info(hello).await?;
    let facts = identify(context, host_id, &info)?;
    let call = EngineCall {
        engine_id: context.engine_id,
        epoch: context.epoch,
        store_id: Some(facts.store_id),
    };
    let connection = Connection {
        host_id,
        store_id: facts.store_id,
        channel,
        call,
    };
    Ok((connection, facts))
}

/// Asks a host who it is.
///
/// # Errors
/// What its refusal means.
pub(super) async fn host_info(
    mut client: HostServiceClient<tonic::transport::Channel>,
) -> Result<HostInfo, Refusal> {
    let mut request = tonic::Request::new(GetHostInfoRequest {});
    request.set_timeout(HELLO_DEADLINE);
    let answer = client
        .get_host_info(request)
        .await
        .map_err(|status| Refusal::of(&status))?;
    answer.into_inner().host.ok_or_else(|| {
        Refusal::Unclear(Fault::new(
            FaultCode::HostAway,
            "the host says nothing about itself",
        ))
    })
}

/// Whether it is the host that was added, and still ours or nobody's.
fn identify(context: &Context, host_id: HostId, info: &HostInfo) -> Result<HostFacts, End> {
    if info.host_id != host_id.to_string() {
        let words = format!(
            "the host at this address says that it is {}; correct its --host-id or the address",
            info.host_id
        );
        return Err(End::Refused(
            Fault::new(FaultCode::HostIdMismatch, words).about(host_id),
        ));
    }
    let facts = facts(info)?;
    match facts.engine_id {
        Some(owner) if owner != context.engine_id => {
            let words = format!("the host belongs to engine {owner}; remove it there first");
            Err(End::Refused(
                Fault::new(FaultCode::HostOwned, words).about(host_id),
            ))
        }
        Some(_) if info.engine_epoch > context.epoch => {
            let words = format!("the host has seen epoch {} of this engine", info.engine_epoch);
            Err(End::Fenced(
                Fault::new(FaultCode::EngineFenced, words).about(host_id),
            ))
        }
        _ => Ok(facts),
    }
}

/// What a host says of itself, parsed. Who gives ids that are none is not understood, and so is away.
pub(super) fn facts(info: &HostInfo) -> Result<HostFacts, End> {
    let unclear = |what: &str| {
        let words = format!("the host gives {what} that is no UUID");
        End::Away(Fault::new(FaultCode::HostAway, words))
    };
    let store_id = info
        .store_id
        .parse::<StoreId>()
        .map_err(|_| unclear("a store_id"))?;
    let engine_id = match info.engine_id.as_str() {
        "" => None,
        text => Some(text.parse::<EngineId>().map_err(|_| unclear("an engine_id"))?),
    };
    let strangers = info.stranger_task_ids.iter().filter_map(|id| id.parse().ok());
    Ok(HostFacts {
        store_id,
        engine_id,
        stranger_task_ids: strangers.collect(),
    })
}

impl Session<'_> {
    /// The store that the host answered with.
    pub(super) const fn store_id(&self) -> StoreId {
        self.connection.store_id
    }

    /// Reads the stream and performs effects side by side, until either ends the connection.
    pub(super) async fn run(&self, orders: &mut Orders, backoff: &mut Backoff) -> End {
        let (resync, room) = (Notify::new(), Arc::new(Room::new()));
        tokio::select! {
            // Both are asked each time, in an order that is not left to chance.
            biased;
            end = stream::read(self.context, &self.connection, &resync, &room, backoff) => end,
            end = self.perform_all(orders, &resync, &room) => end,
        }
    }

    async fn perform_all(&self, orders: &mut Orders, resync: &Notify, room: &Arc<Room>) -> End {
        let mut work = Work::on(self.context, &self.connection, room);
        loop {
            tokio::select! {
                // Calls end, each once, so they do not keep an order waiting for long.
                biased;
                Some(done) = work.calls.join_next() => {
                    // A call that panicked says nothing, as one that was cut.
                    let Ok((effect, outcome)) = done else { return End::Again };
                    match outcome {
                        Ok(Outcome::Said(input)) => {
                            let _ = self.context.engine.send(input).await;
                            work.has_ended(&effect, true);
                        }
                        Ok(Outcome::Nothing) => work.has_ended(&effect, true),
                        Ok(Outcome::Superseded) => work.has_ended(&effect, false),
                        Err(refusal) => return refusal.into(),
                    }
                }
                Some(effect) = orders.recv() => match effect {
                    Effect::Resync { .. } => resync.notify_one(),
                    // What comes after it presumes that it was done.
                    Effect::Reclaim { .. } => {
                        if let Err(refusal) = work.perform(&effect).await {
                            return refusal.into();
                        }
                    }
                    effect => work.order(effect),
                },
            }
        }
    }
}

/// The calls on one connection.
struct Work<'a> {
    context: &'a Context,
    connection: &'a Connection,
    limits: Arc<Limits>,
    wishes: Wishes,
    calls: JoinSet<(Effect, Result<Outcome, Refusal>)>,
}

impl<'a> Work<'a> {
    fn on(context: &'a Context, connection: &'a Connection, room: &Arc<Room>) -> Self {
        Self {
            context,
            connection,
            limits: Arc::new(Limits {
                places: Semaphore::new(CALLS),
                room: Arc::clone(room),
            }),
            wishes: Wishes::default(),
            calls: JoinSet::new(),
        }
    }

    fn order(&mut self, effect: Effect) {
        if let Some(mut wanted) = self.wishes.wish(&effect) {
            let (context, connection) = (self.context.clone(), self.connection.clone());
            let limits = Arc::clone(&self.limits);
            self.calls.spawn(async move {
                let outcome = call::perform(&context, &connection, &effect, &mut wanted, &limits).await;
                (effect, outcome)
            });
        }
    }

    fn has_ended(&mut self, effect: &Effect, is_done: bool) {
        if let Some(next) = self.wishes.has_ended(effect, is_done) {
            self.order(next);
        }
    }

    /// Performs it while all else waits.
    async fn perform(&self, effect: &Effect) -> Result<(), Refusal> {
        let (_sender, mut wanted) = watch::channel(effect.clone());
        call::perform(self.context, self.connection, effect, &mut wanted, &self.limits)
            .await
            .map(|_| ())
    }
}
