//! One connection to a host, from the first question to its end.

use std::sync::Arc;

use common::fault::{Fault, FaultCode};
use common::id::{EngineId, HostId, StoreId};
use common::revision::Token;
use common::words::Words;
use engine_core::effect::Effect;
use engine_core::input::{HostFacts, Input};
use proto::host::v1::host_service_client::HostServiceClient;
use proto::host::v1::{ClaimHostRequest, GetHostInfoRequest, HostInfo};
use runtime::causes::causes;
use runtime::client;
use runtime::metadata::EngineCall;
use runtime::tls::HostName;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;

use super::call::{self, CallEnd, Connection, Limits};
use super::follower::{Orders, idle};
use super::meeting::Meeting;
use super::pending::PendingEffects;
use super::refusal::Refusal;
use super::room::Room;
use super::{Context, Whom, probe, stream};
use crate::life::{Life, Loyalty};
use crate::store;

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
    /// It answers, and another start of this engine is connected there: it does not say yet whose it is.
    PutOff(Fault),
    /// It answers as somebody else, or belongs to somebody else: another engine, or another life of this one. That
    /// is one host's word, and ends nothing but what goes on with this host.
    Refused(Fault),
    /// As `Refused`, and the host shows a start that only a copy of this engine's data directory can have made.
    Superseded(Fault),
    /// It is as well as it was: connect again.
    Again,
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Owned(fault) | Refusal::Fenced(fault) => Self::Refused(fault),
            Refusal::PutOff(fault) => Self::PutOff(fault),
            Refusal::Lost(fault)
            | Refusal::Full(fault)
            | Refusal::Unclear(fault)
            | Refusal::Answer(fault)
            | Refusal::Final(fault) => Self::Away(fault),
        }
    }
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        Self::Refused(fault)
    }
}

/// A person's decision that a host changes hands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TakeOver {
    pub(super) user: String,
    pub(super) reason: String,
    pub(super) correlation_id: String,
}

impl TakeOver {
    /// The claim that makes it so.
    pub(super) fn claim(&self) -> ClaimHostRequest {
        ClaimHostRequest {
            take_over: Some(proto::host::v1::TakeOver {
                user: self.user.clone(),
                reason: self.reason.clone(),
            }),
            ..ClaimHostRequest::default()
        }
    }
}

/// A connected host, of which the engine has been told.
pub(super) struct Session<'a> {
    context: &'a Context,
    connection: Connection,
}

/// Connects, asks the host who it is, claims it where it is still an earlier start's or to be taken over, and tells the
/// engine, which answers with all that is outstanding there.
///
/// # Errors
/// Why there is no connection.
pub(super) async fn open<'a>(
    context: &'a Context,
    whom: &Whom,
    take_over: Option<&TakeOver>,
    orders: &mut Orders,
    meeting: &mut Meeting,
) -> Result<Session<'a>, End> {
    let host_id = whom.host_id;
    let connected = idle(orders, connect(context, whom, take_over, meeting)).await?;
    let (connection, facts) = connected;
    // From here on effects count: what comes before the engine's answer is at worst done twice, which is harmless.
    let told = context.engine.call(Input::HostConnected { host_id, facts }).await;
    told.map_err(|refusal| End::Away(Fault::new(FaultCode::StoreUnavailable, refusal.to_string())))?;
    Ok(Session { context, connection })
}

async fn connect(
    context: &Context,
    whom: &Whom,
    take_over: Option<&TakeOver>,
    meeting: &mut Meeting,
) -> Result<(Connection, HostFacts), End> {
    let (host_id, address) = (whom.host_id, &whom.address);
    let endpoint = client::endpoint(address).map_err(End::Refused)?;
    let name = HostName::of(&whom.identity, host_id).map_err(End::Refused)?;
    let connected = context.connector.connect(endpoint, name).await;
    let (channel, last_words) = connected.map_err(|error| {
        let words = format!("the host at {address} does not answer: {}", causes(&error));
        End::Away(Fault::new(FaultCode::HostAway, words))
    })?;
    let before = store::host::before(&context.log, host_id)
        .await
        .map_err(|error| End::Away(Fault::new(FaultCode::StoreUnavailable, error.to_string())))?;
    let followed = before.followed;
    let mut hello = HostServiceClient::new(channel.clone());
    let (info, forgotten) =
        host_info(hello.clone(), followed)
            .await
            .map_err(|refusal| match (refusal, last_words.get()) {
                // It has said more than HTTP/2 passes on.
                (Refusal::Lost(_) | Refusal::Unclear(_), Some(words)) => {
                    let words = format!("the host at {address} {words}");
                    End::Away(Fault::new(FaultCode::HostAway, words))
                }
                (refusal, _) => refusal.into(),
            })?;
    is_the_one(host_id, &info)?;
    let life = context.lives.now();
    let (call, claim) = (engine_call(&life, &info)?, life.claim(&info));
    // Whosever the host is, and before anything is decided by what it says of that.
    meeting.meet(context, channel.clone(), &call).await;
    let loyalty = life.loyalty(host_id, &info).map_err(End::Away)?;
    let wanted = match (loyalty, take_over) {
        // What a host was put back to is no decision that it changes hands.
        (Loyalty::Ours | Loyalty::Inherited, None) if before.other_owner.is_some() => {
            let said = before.other_owner.as_ref();
            return Err(End::Refused(engine_core::put_back(host_id, said)));
        }
        (Loyalty::Ours | Loyalty::Nobodys, _) => None,
        (Loyalty::Inherited, None) => Some((claim.clone(), "")),
        (Loyalty::Other(fault), None) => return Err(fault.into()),
        (Loyalty::OtherLife(fault), None) => return Err(End::Superseded(fault)),
        // A copy of an engine at work has the start of that one in its line: what a person decided counts.
        (Loyalty::Inherited | Loyalty::Other(_) | Loyalty::OtherLife(_), Some(decided)) => {
            Some((decided.claim(), decided.correlation_id.as_str()))
        }
    };
    let info = match wanted {
        None => info,
        // Before the host is shown as connected, and before any call that changes something there.
        Some((claim, correlation_id)) => take(&mut hello, &call, claim, correlation_id).await?,
    };
    let facts = HostFacts {
        followed,
        forgotten: forgotten.into(),
        ..facts(&info)?
    };
    let connection = Connection {
        host_id,
        store_id: facts.store_id,
        start: facts.start,
        channel,
        call,
        claim,
    };
    Ok((connection, facts))
}

fn engine_call(life: &Life, info: &HostInfo) -> Result<EngineCall, End> {
    Ok(EngineCall {
        engine_id: life.engine_id,
        epoch: life.epoch,
        incarnation: Some(life.incarnation),
        store_id: Some(facts(info)?.store_id),
    })
}

/// Claims the host. What it then says of itself may have changed with that.
async fn take(
    client: &mut HostServiceClient<tonic::transport::Channel>,
    call: &EngineCall,
    claim: ClaimHostRequest,
    correlation_id: &str,
) -> Result<HostInfo, Refusal> {
    let mut request = tonic::Request::new(claim);
    request.set_timeout(HELLO_DEADLINE);
    call.attach(&mut request, Some(correlation_id).filter(|id| !id.is_empty()));
    let answer = client.claim_host(request).await;
    let answer = answer.map_err(|status| Refusal::of(&status))?;
    answer.into_inner().host.ok_or_else(silent)
}

fn silent() -> Refusal {
    Refusal::Unclear(Fault::new(
        FaultCode::HostAway,
        "the host sent no information about itself",
    ))
}

/// Asks a host who it is, and whether it has forgotten what was `followed` of it; in words, which are empty where not.
///
/// # Errors
/// What its refusal means.
pub(super) async fn host_info(
    mut client: HostServiceClient<tonic::transport::Channel>,
    followed: Option<Token>,
) -> Result<(HostInfo, String), Refusal> {
    let followed = followed.map(|token| token.to_string()).unwrap_or_default();
    let mut request = tonic::Request::new(GetHostInfoRequest { followed });
    request.set_timeout(HELLO_DEADLINE);
    let answer = client
        .get_host_info(request)
        .await
        .map_err(|status| Refusal::of(&status))?;
    let answer = answer.into_inner();
    let info = answer.host.ok_or_else(silent)?;
    Ok((info, answer.forgotten))
}

/// Whether it is the host that was added.
fn is_the_one(host_id: HostId, info: &HostInfo) -> Result<(), End> {
    if info.host_id == host_id.to_string() {
        return Ok(());
    }
    let words = format!(
        "the host at this address says that it is {}; correct its --host-id or the address",
        info.host_id
    );
    Err(End::Refused(
        Fault::new(FaultCode::HostIdMismatch, words).about(host_id),
    ))
}

/// What a host says of itself, parsed. Who gives ids that are none is not understood, and so is away.
pub(super) fn facts(info: &HostInfo) -> Result<HostFacts, End> {
    let unclear = |what: &str| {
        let words = format!("the host sent {what} that is not a UUID");
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
    let orphans = info.stranger_task_ids.iter().filter_map(|id| id.parse().ok());
    Ok(HostFacts {
        store_id,
        start: probe::start(&info.start).ok_or_else(|| unclear("a start"))?,
        followed: None,
        forgotten: Words::default(),
        engine_id,
        orphan_task_ids: orphans.collect(),
        more_orphans: info.stranger_tasks_left_out > 0 || !info.unreadable_run_directories.is_empty(),
    })
}

impl Session<'_> {
    /// The store that the host answered with.
    pub(super) const fn store_id(&self) -> StoreId {
        self.connection.store_id
    }

    /// Reads the stream and performs effects side by side, until either ends the connection.
    pub(super) async fn run(&self, orders: &mut Orders, meeting: &mut Meeting) -> End {
        let Connection { channel, call, .. } = &self.connection;
        let (resync, room) = (Notify::new(), Arc::new(Room::new()));
        tokio::select! {
            // Both are asked each time, in an order that is not left to chance.
            biased;
            end = stream::read(self.context, &self.connection, &resync, &room) => end,
            end = self.perform_all(orders, &resync, &room) => end,
            never = meeting.go_on(self.context, channel, call) => match never {},
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
                        Ok(CallEnd::Said(input)) => {
                            let _ = self.context.engine.send(input).await;
                            work.has_ended(&effect, true);
                        }
                        Ok(CallEnd::Nothing) => work.has_ended(&effect, true),
                        Ok(CallEnd::Superseded) => work.has_ended(&effect, false),
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
    pending: PendingEffects,
    calls: JoinSet<(Effect, Result<CallEnd, Refusal>)>,
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
            pending: PendingEffects::default(),
            calls: JoinSet::new(),
        }
    }

    fn order(&mut self, effect: Effect) {
        if let Some(mut wanted) = self.pending.want(&effect) {
            let (context, connection) = (self.context.clone(), self.connection.clone());
            let limits = Arc::clone(&self.limits);
            self.calls.spawn(async move {
                let outcome = call::perform(&context, &connection, &effect, &mut wanted, &limits).await;
                (effect, outcome)
            });
        }
    }

    fn has_ended(&mut self, effect: &Effect, is_done: bool) {
        if let Some(next) = self.pending.has_ended(effect, is_done) {
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
