//! What must hold when the storm is over, by the checkers that judge real processes.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use tests::audit::{Records, View, assert_agreement, assert_no_locks};
use tests::client::{Engine, Host};
use tests::failure::{Context as _, Failure, Outcome, ensure};
use tests::watch::Watchers;
use tests::words;
use tokio::time::{Instant, sleep};

use crate::ground::Ground;

/// How long the world may take to come to rest, in virtual time.
const PATIENCE: Duration = Duration::from_secs(1_800);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// Those who watch: every host, and the engine.
pub(crate) struct Audience {
    ground: Rc<Ground>,
    seats: Vec<(View, Watchers)>,
}

impl Audience {
    /// From here on they watch.
    pub(crate) fn gather(ground: &Rc<Ground>, engine: &Engine, hosts: &[Host]) -> Self {
        let seats = ground.hosts.iter().zip(hosts).map(|(host_ground, host)| {
            let view = View {
                engine: engine.clone(),
                host: host.clone(),
                storage_root: host_ground.storage.clone(),
            };
            (view, Watchers::start(engine, host))
        });
        Self {
            ground: Rc::clone(ground),
            seats: seats.collect(),
        }
    }

    /// Waits for rest, and then says all that does not hold.
    pub(crate) async fn judge(&self) -> Outcome<()> {
        for (n, (view, watchers)) in self.seats.iter().enumerate() {
            let host = &self.ground.hosts[n];
            let records = self.at_rest(view).await?;
            self.rests_for_a_reason(&records)?;
            assert_no_locks(&records)?;
            let own = of_host(records, &host.id.to_string());
            assert_agreement(view, &own, watchers).await.context(&host.node)?;
        }
        let again = self.ground.trace.ran_again();
        ensure(again.is_empty(), || {
            format!("tasks ran more than once: {again:?}")
        })
    }

    async fn at_rest(&self, view: &View) -> Outcome<Records> {
        let end = Instant::now() + PATIENCE;
        loop {
            // Lists are read one after the other: those read before the rest may be of the time before it.
            if Records::read(view).await?.at_rest() {
                return Records::read(view).await;
            }
            if Instant::now() > end {
                let records = Records::read(view).await?;
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

    /// Only what a lost data directory leaves undecided may rest.
    fn rests_for_a_reason(&self, records: &Records) -> Outcome<()> {
        let anyone_wiped = self.ground.hosts.iter().any(|host| host.wiped.get() > 0);
        let resting = records
            .commands
            .iter()
            .filter(|command| words::command_state(command.state) == "NEEDS_ATTENTION");
        let without = resting.filter(|_| !anyone_wiped);
        let without: Vec<_> = without.map(tests::audit::describe).collect();
        ensure(without.is_empty(), || {
            format!("these rest without a reason: {without:#?}")
        })
    }
}

/// The part of the engine's records that is about one host, with that host's own.
fn of_host(mut records: Records, host_id: &str) -> Records {
    records.hosts.retain(|host| host.host_id == host_id);
    records.domains.retain(|domain| domain.host_id == host_id);
    let domains: BTreeSet<_> = records
        .domains
        .iter()
        .map(|domain| domain.domain_id.clone())
        .collect();
    records.disks.retain(|disk| domains.contains(&disk.domain_id));
    records.tasks.retain(|task| task.host_id == host_id);
    records
}
