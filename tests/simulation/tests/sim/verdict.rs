//! What must hold when the storm is over, by the checkers that judge real processes.

use std::rc::Rc;
use std::time::Duration;

use proto::engine::v1::{Command, waiting_for::What};
use proto::task::v1::Fault;
use tests::audit::{Place, Records, View, assert_agreement, assert_no_locks};
use tests::client::{Engine, Host};
use tests::failure::{Context as _, Failure, TestResult, ensure};
use tests::watch::{Commands, Events, Jobs, Record, Reference, Selection, Tasks, Watchers, disagreements};
use tests::words;
use tokio::time::{Instant, sleep};

use crate::ground::{ENGINE, Ground, HostGround};
use crate::net;

/// How long the world may take to come to rest, in virtual time.
const PATIENCE: Duration = Duration::from_secs(1_800);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// Those who watch: every host, and the engine.
pub(crate) struct Audience {
    ground: Rc<Ground>,
    view: View,
    /// One for each host.
    seats: Vec<Watchers>,
    /// Where the engine's history stood when they began to watch.
    begin: String,
}

impl Audience {
    /// From here on they watch.
    pub(crate) async fn gather(ground: &Rc<Ground>, engine: &Engine, hosts: &[Host]) -> TestResult<Self> {
        let place = |(own, host): (&HostGround, &Host)| Place {
            host_id: own.id.to_string(),
            host: host.clone(),
            storage_root: own.storage.clone(),
        };
        let view = View {
            engine: engine.clone(),
            places: ground.hosts.iter().zip(hosts).map(place).collect(),
        };
        let seats: Vec<_> = hosts.iter().map(|host| Watchers::start(engine, host)).collect();
        let watchers = seats.first().context("a world without a host")?;
        let token = |record: &Record<_>| record.token().map(str::to_owned);
        let begin = watchers.engine.tasks.until("a point", token).await?;
        Ok(Self {
            ground: Rc::clone(ground),
            view,
            seats,
            begin,
        })
    }

    /// Waits until every command has ended or rests, and every host has been told of every end.
    pub(crate) async fn nothing_moves(&self) -> TestResult<()> {
        let records = self.at_rest().await?;
        assert_no_locks(&records)
    }

    /// All that must hold when nothing rests any more either.
    pub(crate) async fn judge(&self) -> TestResult<()> {
        let records = self.at_rest().await?;
        let holders = records.holders();
        ensure(holders.is_empty(), || {
            format!("all has ended, and these are held: {holders:?}")
        })?;
        for (watchers, host) in self.seats.iter().zip(&self.ground.hosts) {
            assert_agreement(&self.view, &records, watchers)
                .await
                .context(&host.node)?;
        }
        let otherwise = self.told_otherwise().await?;
        ensure(otherwise.is_empty(), || {
            format!("watchers were told otherwise:\n  {}", otherwise.join("\n  "))
        })?;
        let again = self.ground.trace.ran_again();
        ensure(again.is_empty(), || {
            format!("tasks ran more than once: {again:?}")
        })
    }

    /// Only what a lost data directory leaves undecided may rest, and what a worn disk did not let be undone.
    pub(crate) fn rests_for_a_reason(&self, command: &Command) -> TestResult<()> {
        if words::command_is_over(command.state) {
            return Ok(());
        }
        let attention = match command
            .waiting_for
            .as_ref()
            .and_then(|waiting| waiting.what.as_ref())
        {
            Some(What::Attention(fault)) => fault.clone(),
            _ => Fault::default(),
        };
        let reason = match attention.code.as_str() {
            "EVIDENCE_MISSING" => self.ground.hosts.iter().any(|host| host.wiped.get() > 0),
            "UNDO_FAILED" | "IO_ERROR" | "NO_SPACE" => self.ground.wear.has_failed(),
            // What stopped it comes first, and why it could not be undone after it.
            _ => self.ground.wear.has_failed() && attention.message.contains("could not be undone"),
        };
        ensure(reason, || {
            format!(
                "it rests without a reason: {}\n{command:#?}",
                tests::audit::describe(command)
            )
        })
    }

    /// Where what watchers of the engine were told is not what its store's history holds.
    async fn told_otherwise(&self) -> TestResult<Vec<String>> {
        let channel = || net::channel(ENGINE);
        let commands = Reference::read::<Commands>(channel(), &self.begin).await?;
        let tasks = Reference::read::<Tasks>(channel(), &self.begin).await?;
        let jobs = Reference::read::<Jobs>(channel(), &self.begin).await?;
        let events = Reference::read::<Events>(channel(), &self.begin).await?;
        let everything = Selection::default();
        let mut found = Vec::new();
        for Watchers { engine, .. } in &self.seats {
            found.extend(disagreements(&engine.commands.record(), &everything, &commands));
            found.extend(disagreements(&engine.tasks.record(), &everything, &tasks));
            found.extend(disagreements(&engine.jobs.record(), &everything, &jobs));
            found.extend(disagreements(&engine.events.record(), &everything, &events));
        }
        Ok(found)
    }

    async fn at_rest(&self) -> TestResult<Records> {
        let end = Instant::now() + PATIENCE;
        loop {
            // Lists are read one after the other: those read before the rest may be of the time before it.
            if Records::read(&self.view).await?.at_rest() {
                return Records::read(&self.view).await;
            }
            if Instant::now() > end {
                let records = Records::read(&self.view).await?;
                let tasks = records
                    .tasks
                    .iter()
                    .filter(|task| words::async_state(task.async_state) != "CLEARED");
                return Err(Failure::new(format!(
                    "the world does not come to rest: {:#?}",
                    tasks.collect::<Vec<_>>()
                )));
            }
            sleep(PAUSE).await;
        }
    }
}
