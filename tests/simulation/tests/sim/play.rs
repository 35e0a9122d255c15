//! What clients do: set the world up, ask for all kinds of things, ask twice, cancel, watch, and in the end judge.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use proto::engine::v1::{
    AbandonCommandRequest, AddHostRequest, CancelCommandRequest, Command, CreateStorageDomainRequest,
    GetCommandRequest, RetryCommandRequest,
};
use proto::task::v1::{Allocation, VolumeFormat};
use runtime::chance;
use tests::client::{Engine, Host};
use tests::failure::{Context as _, Failure, Outcome, ensure};
use tests::patience::is_away;
use tests::{requests, words};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tonic::Status;

use crate::ground::{ENGINE, Ground, Weather};
use crate::net;
use crate::verdict::Audience;

/// How long a client asks before it gives up, in virtual time: longer than any storm, and every back-off after it.
const PATIENCE: Duration = Duration::from_secs(1_800);

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(250);

/// Raw, sparse and without data: however fast its process is, a copy has no progress to tell.
const KIND: (VolumeFormat, Allocation) = (VolumeFormat::Raw, Allocation::Sparse);

/// How often a command that rests is tried again.
const RETRIES: usize = 3;

/// How long clients go on asking for things.
const STORM: Duration = Duration::from_secs(45);

/// What one world's clients know.
pub(crate) struct Play {
    ground: Rc<Ground>,
    engine: Engine,
    domains: Vec<String>,
    /// Ids of what was asked for, whether or not it came to be.
    vms: RefCell<Vec<String>>,
    disks: RefCell<Vec<String>>,
    commands: RefCell<Vec<String>>,
}

/// All of it, from the first host to the verdict.
pub(crate) async fn play(ground: Rc<Ground>) -> Outcome<()> {
    let engine = Engine::over(net::channel(ENGINE));
    let mut play = Play {
        domains: Vec::new(),
        vms: RefCell::default(),
        disks: RefCell::default(),
        commands: RefCell::default(),
        engine,
        ground: Rc::clone(&ground),
    };
    let hosts: Vec<Host> = ground
        .hosts
        .iter()
        .map(|host| Host::over(net::channel(&host.node)))
        .collect();
    play.set_up().await?;
    let audience = Audience::gather(&ground, &play.engine, &hosts).await?;
    let stormy = ground.weather == Weather::Stormy;
    ground.stormy.set(stormy);
    ground.fate.stall(stormy);
    ground.wear.wears(stormy);
    let play = Rc::new(play);
    play.storm().await?;
    ground.stormy.set(false);
    ground.fate.stall(false);
    ground.wear.wears(false);
    ground.trace.note("calm");
    let commands = play.commands.borrow().clone();
    for command_id in &commands {
        let command = play.settled(command_id).await?;
        audience.rests_for_a_reason(&command)?;
    }
    audience.nothing_moves().await?;
    for command_id in &commands {
        play.ended(command_id).await?;
    }
    // What must hold does so after a start from what is on disk, too.
    ground.afresh.set(true);
    sleep(PAUSE).await;
    audience.judge().await
}

impl Play {
    /// Every host is added, and has a domain.
    async fn set_up(&mut self) -> Outcome<()> {
        for host in &self.ground.hosts {
            let request = AddHostRequest {
                host_id: host.id.to_string(),
                name: host.node.clone(),
                address: net::address(&host.node),
                request_id: chance::uuid().to_string(),
                validate_only: false,
            };
            let answer = persist(|| {
                let (mut client, request) = (self.engine.hosts.clone(), request.clone());
                async move { client.add_host(request).await }
            });
            self.succeeds(answer.await?.into_inner().command).await?;
            let request = CreateStorageDomainRequest {
                domain_id: chance::uuid().to_string(),
                name: format!("on {}", host.node),
                host_id: host.id.to_string(),
                request_id: chance::uuid().to_string(),
                validate_only: false,
            };
            let answer = persist(|| {
                let (mut client, request) = (self.engine.domains.clone(), request.clone());
                async move { client.create_storage_domain(request).await }
            });
            self.succeeds(answer.await?.into_inner().command).await?;
            self.domains.push(request.domain_id);
        }
        Ok(())
    }

    /// Asks for things, a few at a time, until the storm is over and every question has its answer.
    async fn storm(self: &Rc<Self>) -> Outcome<()> {
        let end = Instant::now() + STORM;
        let mut asking = JoinSet::new();
        let mut number = 0;
        while Instant::now() < end {
            number += 1;
            let play = Rc::clone(self);
            asking.spawn_local(async move { play.ask(number).await });
            sleep(self.ground.fate.between(50, 2_000)).await;
        }
        while let Some(asked) = asking.join_next().await {
            asked.map_err(|error| Failure::new(error.to_string()))??;
        }
        Ok(())
    }

    /// Asks for one thing. A refusal is an answer as good as any.
    async fn ask(&self, number: usize) -> Outcome<()> {
        let fate = &self.ground.fate;
        match fate.below(100) {
            0..30 => {
                let disks = (0..=fate.below(3)).map(|_| {
                    let mut disk = requests::disk(&self.domain(), KIND);
                    disk.disk_id = chance::uuid().to_string();
                    disk
                });
                let mut request = requests::create_vm(&format!("vm-{number}"), disks.collect());
                request.vm_id = chance::uuid().to_string();
                request.request_id = chance::uuid().to_string();
                self.vms.borrow_mut().push(request.vm_id.clone());
                self.twice("CreateVm", || {
                    let (mut client, request) = (self.engine.vms.clone(), request.clone());
                    async move { Ok(client.create_vm(request).await?.into_inner().command) }
                })
                .await
            }
            30..50 => {
                let mut request = requests::create_disk(&self.domain(), KIND);
                request.disk_id = chance::uuid().to_string();
                request.request_id = chance::uuid().to_string();
                self.disks.borrow_mut().push(request.disk_id.clone());
                self.twice("CreateDisk", || {
                    let (mut client, request) = (self.engine.disks.clone(), request.clone());
                    async move { Ok(client.create_disk(request).await?.into_inner().command) }
                })
                .await
            }
            50..68 => {
                let Some(vm_id) = self.any(&self.vms) else {
                    return Ok(());
                };
                let mut request = requests::remove_vm(&vm_id);
                request.request_id = chance::uuid().to_string();
                self.twice("RemoveVm", || {
                    let (mut client, request) = (self.engine.vms.clone(), request.clone());
                    async move { Ok(client.remove_vm(request).await?.into_inner().command) }
                })
                .await
            }
            68..78 => {
                let Some(disk_id) = self.any(&self.disks) else {
                    return Ok(());
                };
                let mut request = requests::remove_disk(&disk_id);
                request.request_id = chance::uuid().to_string();
                self.twice("RemoveDisk", || {
                    let (mut client, request) = (self.engine.disks.clone(), request.clone());
                    async move { Ok(client.remove_disk(request).await?.into_inner().command) }
                })
                .await
            }
            86..92 => {
                let Some(source) = self.any(&self.disks) else {
                    return Ok(());
                };
                let mut request = requests::copy_disk(&source, &self.domain(), KIND);
                request.disk_id = chance::uuid().to_string();
                request.request_id = chance::uuid().to_string();
                self.disks.borrow_mut().push(request.disk_id.clone());
                self.twice("CopyDisk", || {
                    let (mut client, request) = (self.engine.disks.clone(), request.clone());
                    async move { Ok(client.copy_disk(request).await?.into_inner().command) }
                })
                .await
            }
            78..86 => {
                let (Some(disk_id), Some(vm_id)) = (self.any(&self.disks), self.any(&self.vms)) else {
                    return Ok(());
                };
                let mut request = requests::attach_disk(&disk_id, &vm_id);
                request.request_id = chance::uuid().to_string();
                self.twice("AttachDisk", || {
                    let (mut client, request) = (self.engine.disks.clone(), request.clone());
                    async move { Ok(client.attach_disk(request).await?.into_inner().command) }
                })
                .await
            }
            _ => {
                let Some(command_id) = self.any(&self.commands) else {
                    return Ok(());
                };
                self.ground.trace.note(format!("client cancels {command_id}"));
                let request = CancelCommandRequest { command_id };
                let answer = persist(|| {
                    let (mut client, request) = (self.engine.commands.clone(), request.clone());
                    async move { client.cancel_command(request).await }
                });
                self.answered("CancelCommand", answer.await.map(drop))
            }
        }
    }

    /// Asks until there is an answer, and now and then once more after it: both answers name one command.
    async fn twice<F>(&self, rpc: &str, ask: impl Fn() -> F) -> Outcome<()>
    where
        F: Future<Output = Result<Option<Command>, Status>>,
    {
        let first = persist(&ask).await;
        let Ok(Some(command)) = &first else {
            return self.answered(rpc, first.map(drop));
        };
        self.ground
            .trace
            .note(format!("client: {rpc} is {}", command.command_id));
        self.commands.borrow_mut().push(command.command_id.clone());
        if self.ground.fate.percent(30) {
            sleep(self.ground.fate.between(0, 10_000)).await;
            let again = persist(&ask).await.context(format!("{rpc}, once more"))?;
            ensure(
                again.is_some_and(|again| again.command_id == command.command_id),
                || format!("{rpc}: a repeat made another command than {}", command.command_id),
            )?;
        }
        Ok(())
    }

    fn answered(&self, rpc: &str, answer: Result<(), Status>) -> Outcome<()> {
        match answer {
            Ok(()) => Ok(()),
            Err(status) if is_away(&status) || status.code() == tonic::Code::Internal => {
                Err(status).context(format!("{rpc} was never answered"))
            }
            Err(status) => {
                let code = status.code();
                self.ground
                    .trace
                    .note(format!("client: {rpc} is refused: {code:?} {}", status.message()));
                Ok(())
            }
        }
    }

    fn domain(&self) -> String {
        self.domains[self.ground.fate.below(self.domains.len())].clone()
    }

    fn any(&self, all: &RefCell<Vec<String>>) -> Option<String> {
        let all = all.borrow();
        (!all.is_empty()).then(|| all[self.ground.fate.below(all.len())].clone())
    }

    async fn succeeds(&self, command: Option<Command>) -> Outcome<()> {
        let command_id = command.map(|command| command.command_id).unwrap_or_default();
        let command = self.settled(&command_id).await?;
        ensure(words::command_state(command.state) == "SUCCEEDED", || {
            format!("{command:#?}")
        })
    }

    /// Has a command that rests tried again, and abandoned where that does not help: an operator's work.
    async fn ended(&self, command_id: &str) -> Outcome<()> {
        for _ in 0..RETRIES {
            if words::command_is_over(self.settled(command_id).await?.state) {
                return Ok(());
            }
            self.ground.trace.note(format!("client tries {command_id} again"));
            let answer = persist(|| {
                let (mut client, command_id) = (self.engine.commands.clone(), command_id.to_owned());
                async move { client.retry_command(RetryCommandRequest { command_id }).await }
            });
            self.answered("RetryCommand", answer.await.map(drop))?;
        }
        self.ground.trace.note(format!("client abandons {command_id}"));
        let answer = persist(|| {
            let mut client = self.engine.commands.clone();
            let request = AbandonCommandRequest {
                command_id: command_id.to_owned(),
                reason: "trying again does not help".to_owned(),
            };
            async move { client.abandon_command(request).await }
        });
        answer.await.context("AbandonCommand")?;
        let command = self.settled(command_id).await?;
        ensure(words::command_is_over(command.state), || {
            format!("abandoned, and not over: {command:#?}")
        })
    }

    /// Asks until the command has ended or rests.
    async fn settled(&self, command_id: &str) -> Outcome<Command> {
        let end = Instant::now() + PATIENCE;
        let mut last = None;
        while Instant::now() < end {
            let request = GetCommandRequest {
                command_id: command_id.to_owned(),
            };
            let answer = persist(|| {
                let (mut client, request) = (self.engine.commands.clone(), request.clone());
                async move { client.get_command(request).await }
            });
            let command = answer
                .await
                .context(format!("GetCommand {command_id}"))?
                .into_inner()
                .command;
            let command = command.context("a command without itself")?;
            if words::command_is_over(command.state)
                || words::command_state(command.state) == "NEEDS_ATTENTION"
            {
                return Ok(command);
            }
            last = Some(command);
            sleep(PAUSE).await;
        }
        Err(Failure::new(format!("it neither ends nor rests: {last:#?}")))
    }
}

/// Repeats a call until somebody answers.
async fn persist<T, F>(mut call: impl FnMut() -> F) -> Result<T, Status>
where
    F: Future<Output = Result<T, Status>>,
{
    let end = Instant::now() + PATIENCE;
    loop {
        match call().await {
            Err(status) if is_away(&status) && Instant::now() < end => sleep(PAUSE).await,
            verdict => return verdict,
        }
    }
}
