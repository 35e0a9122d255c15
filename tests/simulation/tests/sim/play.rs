//! What clients do, from the first host to the verdict.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use proto::engine::v1::{
    AbandonCommandRequest, AddHostRequest, Command, CreateStorageDomainRequest, GetCommandRequest,
    RetryCommandRequest,
};
use runtime::chance;
use tests::client::{Engine, Host};
use tests::failure::{Context as _, Failure, TestResult, ensure};
use tests::patience::is_away;
use tests::words;
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

/// How often a command that rests is tried again.
const RETRIES: usize = 3;

/// How long clients go on asking for things.
const STORM: Duration = Duration::from_secs(45);

/// What one world's clients know.
pub(crate) struct Play {
    pub(crate) ground: Rc<Ground>,
    pub(crate) engine: Engine,
    pub(crate) domains: Vec<String>,
    /// Ids of what was asked for, whether or not it came to be.
    pub(crate) vms: RefCell<Vec<String>>,
    pub(crate) disks: RefCell<Vec<String>>,
    pub(crate) commands: RefCell<Vec<String>>,
}

/// All of it, from the first host to the verdict.
pub(crate) async fn play(ground: Rc<Ground>) -> TestResult<()> {
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
    async fn set_up(&mut self) -> TestResult<()> {
        for host in &self.ground.hosts {
            let request = AddHostRequest {
                host_id: host.id.to_string(),
                name: host.node.clone(),
                address: net::address(&host.node),
                identity: String::new(),
                request_id: chance::uuid().to_string(),
                validate_only: false,
                lock_wait: None,
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
                lock_wait: None,
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
    async fn storm(self: &Rc<Self>) -> TestResult<()> {
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

    async fn succeeds(&self, command: Option<Command>) -> TestResult<()> {
        let command_id = command.map(|command| command.command_id).unwrap_or_default();
        let command = self.settled(&command_id).await?;
        ensure(words::command_state(command.state) == "SUCCEEDED", || {
            format!("{command:#?}")
        })
    }

    /// Has a command that rests tried again, and abandoned where that does not help: an operator's work.
    async fn ended(&self, command_id: &str) -> TestResult<()> {
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
    async fn settled(&self, command_id: &str) -> TestResult<Command> {
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
pub(crate) async fn persist<T, F>(mut call: impl FnMut() -> F) -> Result<T, Status>
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
