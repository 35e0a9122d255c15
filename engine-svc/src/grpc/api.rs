//! The code that all services share: submitting, and reading.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use common::Timestamp;
use common::fault::{Fault, FaultCode};
use common::id::{CommandId, RequestId};
use common::words::Label;
use engine_core::input::{self, Submission};
use engine_core::model::{CommandParameters as _, EntityKey, Holder, Parameters};
use engine_core::{Input, Reply, Stance};
use proto::convert;
use proto::engine::v1 as wire;
use runtime::audit::{self, Outcome, Trail};
use runtime::coordinator::{Answer, Handle};
use runtime::metadata::Caller;
use runtime::watch::Terms;
use runtime::{chance, status};
use sha1::{Digest as _, Sha1};
use store::{Reader, StoreError};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tonic::{Request, Response, Status};
use tracing::{Instrument as _, info, info_span};

use super::show::Show;
use super::wait::Waits;
use crate::life::Lives;
use crate::machine::Engine;
use crate::store::command::{self, COMMANDS};
use crate::store::{Log, codec, read};
use crate::verbs::{self, Answered, Envelope, Mutation};

/// Maximum bytes of a request that becomes a command: enough for 64 disks with descriptions of more than 1,000
/// characters.
const MAX_BYTES: usize = 128 << 10;

/// How long a request waits until the engine knows whether it may act: longer than it takes to find that a host is
/// away.
const UNDECIDED: Duration = Duration::from_secs(10);

/// The parts of every service. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) engine: Handle<Engine>,
    pub(crate) log: Log,
    pub(crate) show: Show,
    pub(crate) watches: Terms,
    pub(crate) waits: Waits,
    /// Whether the engine may act.
    pub(crate) stances: watch::Receiver<Stance>,
    /// Who this engine is by now.
    pub(crate) lives: Lives,
    pub(crate) start_time: Timestamp,
    /// The audit log, if there is one.
    pub(crate) trail: Option<Trail>,
}

impl Api {
    /// Has a request accepted as a command, or returns the plan.
    pub(crate) async fn mutate<R: Mutation>(
        &self,
        request: Request<R>,
    ) -> Result<Response<R::Response>, Status> {
        let mut caller = caller(&request)?;
        let correlation_id = caller.correlation_id.take();
        let correlation_id = correlation_id.unwrap_or_else(|| chance::uuid().to_string());
        audit::note(|noted| noted.correlation_id = Some(Label::of(&correlation_id)));
        let mut body = request.into_inner();
        let request = body.request().map_err(|fault| status::from_fault(&fault))?;
        let Envelope {
            request_id: id,
            validate_only,
            lock_wait: wait,
        } = body.open();
        let request_id = request_id(&id).map_err(|fault| status::from_fault(&fault))?;
        let lock_wait = lock_wait(wait.as_ref()).map_err(|fault| status::from_fault(&fault))?;
        bounded(body.encoded_len()).map_err(|fault| status::from_fault(&fault))?;
        // If there is no room for a command, the request is only planned: a repeat is answered as usual, and takes no
        // room.
        let full = status::admit(&**self.log.store()).err();
        let full = full.filter(|_| !validate_only);
        let span = info_span!("submit", rpc = R::RPC, %correlation_id, user = caller.user);
        let submission = Submission {
            command_id: CommandId::from_uuid(chance::uuid()),
            user: caller.user,
            rpc: R::RPC.to_owned(),
            request_id,
            digest: digest(&body),
            correlation_id,
            request,
            lock_wait,
            validate_only: validate_only || full.is_some(),
            before: None,
        };
        let answered = self
            .accept(Input::Submit(Box::new(submission)))
            .instrument(span)
            .await?;
        match full {
            Some(full) if answered.token.is_empty() => Err(full),
            _ => Ok(Response::new(R::response(answered))),
        }
    }

    /// Has the engine answer an input. If the engine cannot know yet whether it may act, waits until it does: a start
    /// that asks its hosts needs a moment.
    async fn decided(&self, input: Input) -> Result<Answer<Reply>, Status> {
        let mut stances = self.stances.clone();
        let until = Instant::now() + UNDECIDED;
        loop {
            stances.borrow_and_update();
            let answer = self.engine.call(input.clone()).await;
            let answer = answer.map_err(status::from_refusal)?;
            // Each such change comes with a change of the stance, at the latest when a host has answered.
            if !is_undecided_by(&answer.reply)
                || !matches!(timeout_at(until, stances.changed()).await, Ok(Ok(())))
            {
                return Ok(answer);
            }
        }
    }

    /// Sends an input that is answered with a command.
    async fn accept(&self, input: Input) -> Result<Answered, Status> {
        let Answer { reply, token } = self.decided(input).await?;
        match reply {
            Reply::Accepted {
                command_id,
                command,
                repeat,
            } => {
                let correlation_id = command.as_ref().map(|command| command.correlation_id.clone());
                info!(%command_id, repeat, command_correlation_id = correlation_id, "accepted");
                audit::note(|noted| {
                    noted.outcome = Some(match repeat {
                        true => Outcome::Repeated,
                        false => Outcome::Accepted,
                    });
                    noted.command_id = command_id.to_string().into();
                    if let Some(command) = &command {
                        noted.entity = command.parameters.entity().to_string().into();
                    }
                });
                let (entity_id, command) = match command {
                    Some(command) => {
                        let shown = self.show.command(command::show(&command));
                        (entity_id(&command.parameters), shown)
                    }
                    None => {
                        let shown = self.command(command_id).await?;
                        let parameters = verbs::decode(shown.parameters.clone());
                        (parameters.as_ref().map(entity_id).unwrap_or_default(), shown)
                    }
                };
                Ok(Answered {
                    command,
                    entity_id,
                    token: token.to_string(),
                })
            }
            Reply::Planned {
                command,
                children,
                tasks,
            } => {
                audit::note(|noted| {
                    noted.outcome = Some(Outcome::Planned);
                    noted.entity = command.parameters.entity().to_string().into();
                });
                Ok(Answered {
                    entity_id: entity_id(&command.parameters),
                    command: command::preview(&command, &children, &tasks),
                    token: String::new(),
                })
            }
            Reply::Refused(fault) => {
                info!(%fault, "refused");
                Err(status::from_fault(&fault))
            }
            Reply::Done => Err(status::from_fault(&Fault::new(
                FaultCode::Internal,
                "the engine has no answer for this request; please report it",
            ))),
        }
    }

    /// Sends an input about an existing command. The working state knows live commands; for other commands, the store
    /// tells why the request does not fit.
    pub(crate) async fn accept_about(
        &self,
        rpc: &'static str,
        caller: &Caller,
        id: CommandId,
        input: Input,
    ) -> Result<Answered, Status> {
        let correlation_id = caller.correlation_id.as_deref();
        let span = info_span!("ask", rpc, command_id = %id, user = caller.user, correlation_id);
        audit::note(|noted| noted.command_id = id.to_string().into());
        let refused = match self.accept(input).instrument(span).await {
            Err(refused) => refused,
            accepted => return accepted,
        };
        let unknown = status::fault_of(&refused).is_some_and(|(f, _)| f.code == FaultCode::CommandNotFound);
        if !unknown {
            return Err(refused);
        }
        let command = self.command(id).await?;
        let root = command.root_command_id.parse().ok();
        Err(status::from_fault(&engine_core::not_to_be_asked(id, root)))
    }

    /// A command, as committed.
    pub(crate) async fn command(&self, id: CommandId) -> Result<wire::Command, Status> {
        let found = self
            .read(move |reader| COMMANDS.get(reader, id.as_bytes()))
            .await?;
        let command = found.and_then(|record| record.command);
        command
            .map(|command| self.show.command(command))
            .ok_or_else(|| no_command(id))
    }

    /// The refusal for an entity that does not exist. If a command is about to make the entity, the refusal says so.
    pub(crate) fn absent(&self, field: &str, key: &EntityKey) -> Status {
        let holder = self
            .show
            .holders
            .holder(key)
            .and_then(|held| held.by.into_iter().next());
        let fault = match holder {
            Some((Holder::Command { command_id, user, .. }, _)) => Fault::new(
                FaultCode::EntityNotFound,
                format!(
                    "{key} does not exist now, but command {command_id} of {user} works on it: wait until that ends (WaitCommand)"
                ),
            ),
            _ => Fault::missing(FaultCode::EntityNotFound, key, ""),
        };
        status::from_fault(&fault.about(field))
    }

    /// Reads from the committed snapshot.
    pub(crate) fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> impl Future<Output = Result<T, Status>> + Send {
        let log = self.log.clone();
        async move { read::on(&log, read).await.map_err(status::from_store) }
    }
}

/// Whether the request is refused because hosts have not said yet whose they are.
fn is_undecided_by(reply: &Reply) -> bool {
    let codes = [FaultCode::Loading, FaultCode::EngineStillConnected];
    matches!(reply, Reply::Refused(fault) if codes.contains(&fault.code))
}

/// The caller. A caller without a name is identified by its address, whatever the port, so that a repeat over another
/// connection is recognized.
pub(crate) fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let mut caller = Caller::of(request).map_err(|fault| status::from_fault(&fault))?;
    if let Ok(address) = caller.user.parse::<SocketAddr>() {
        caller.user = address.ip().to_string();
    }
    Ok(caller)
}

/// A digest that distinguishes a request's body from another one. The request's id and `validate_only` must be
/// removed from the request before.
fn digest(request: &impl prost::Message) -> Vec<u8> {
    Sha1::digest(request.encode_to_vec()).to_vec()
}

/// The refusal of an unknown command.
pub(crate) fn no_command(id: CommandId) -> Status {
    status::from_fault(&engine_core::not_to_be_asked(id, None))
}

/// The refusal of an unknown job.
pub(crate) fn no_job(id: CommandId) -> Status {
    let advice = "a job has the id of its root command";
    let fault = Fault::missing(FaultCode::CommandNotFound, format_args!("job {id}"), advice);
    status::from_fault(&fault.about("job_id"))
}

/// The id of the entity that a command is about.
fn entity_id(parameters: &Parameters) -> String {
    codec::entity(&parameters.entity()).id
}

/// How long a request is willing to wait for its locks.
fn lock_wait(given: Option<&prost_types::Duration>) -> Result<Option<Duration>, Fault> {
    given.map_or(Ok(None), |wait| input::lock_wait(convert::from_duration(wait)))
}

/// Refuses a request that is too large, because it is kept with the command and with its parts, in each of their
/// revisions.
fn bounded(bytes: usize) -> Result<(), Fault> {
    if bytes <= MAX_BYTES {
        return Ok(());
    }
    let words = format!(
        "the request has {bytes} bytes, and at most {MAX_BYTES} are allowed: shorten descriptions, or ask for less at once"
    );
    Err(Fault::new(FaultCode::MessageTooLarge, words))
}

fn request_id(text: &str) -> Result<RequestId, Fault> {
    let given = convert::optional_id("request_id", text)?;
    Ok(given.unwrap_or_else(|| RequestId::from_uuid(chance::uuid())))
}
