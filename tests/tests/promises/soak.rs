//! Many watchers, with different filters and starting points, while commands run, services are killed and streams are
//! cut: what the watchers were told agrees with each other and with the store.
//!
//! `make test` does one round; `make soak` does round after round, each in a world of its own, for `SOAK_SECONDS`.
//! `SEED` repeats a round: the draws are the same, but the two services' own timing is not.

use std::time::{Duration, Instant};

use proto::engine::v1::{self as engine, CreateVmRequest, RemoveVmRequest};
use proto::host::v1 as vdsm;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tests::audit::all_is_well;
use tests::client::with_metadata;
use tests::failure::{Context as _, TestResult, ensure};
use tests::ids::fresh;
use tests::patience::persist;
use tests::proxy::{Fate, Proxy};
use tests::watch::{
    Commands, Events, HostTasks, Item, Jobs, Recorder, Reference, Selection, Start, Tasks, Watch, Watchers,
    disagreements,
};
use tests::{World, requests};
use tonic::transport::Channel;

/// The duration of one round.
const ROUND: Duration = Duration::from_secs(15);

/// The correlation ids of requests, by which a watcher may select.
const CORRELATIONS: [&str; 3] = ["", "nightly", "by-hand"];

/// The number of VMs at once; few, so that their removals are refused and cancelled, too.
const VMS: usize = 6;

/// The number of watchers in one round.
const WATCHERS: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn many_watchers_agree_with_each_other_and_with_the_store() -> TestResult<()> {
    let given = std::env::var("SOAK_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let end = Instant::now() + Duration::from_secs(given.unwrap_or_default());
    let first = crate::seed();
    let mut rounds = 0;
    loop {
        let seed = first.wrapping_add(rounds);
        round(seed).await.context(format!("the round of SEED={seed}"))?;
        rounds += 1;
        if Instant::now() >= end {
            return Ok(());
        }
        eprintln!("{rounds} rounds");
    }
}

async fn round(seed: u64) -> TestResult<()> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = World::start().await?;
    let proxy = Proxy::before(world.host.address()).await?;
    world.add_host(proxy.address()).await?;
    let domain_id = world.create_domain("first").await?;
    let watchers = Watchers::start(&world.client, &world.host_client);
    let begin = Begin::read(&watchers).await?;
    let mut crowd = Crowd::default();
    let (mut vms, mut commands) = (Vec::new(), Vec::new());
    let end = Instant::now() + ROUND;
    while Instant::now() < end {
        let correlation = CORRELATIONS[random.random_range(0..CORRELATIONS.len())];
        match random.random_range(0..100) {
            0..25 if vms.len() < VMS => {
                let disks = (0..random.random_range(1..=4))
                    .map(|_| requests::disk(&domain_id, requests::KINDS[random.random_range(0..4)]))
                    .collect();
                let request = requests::create_vm(&format!("vm-{}", fresh()), disks);
                vms.push(request.vm_id.clone());
                commands.extend(create(&world, &request, correlation).await);
            }
            25..50 if !vms.is_empty() => {
                let vm_id = vms.swap_remove(random.random_range(0..vms.len()));
                commands.extend(remove(&world, &requests::remove_vm(&vm_id), correlation).await);
            }
            50..58 if !commands.is_empty() => {
                let command_id: &String = &commands[random.random_range(0..commands.len())];
                // A command that is over cannot be cancelled.
                let _ = world.client.ask_cancel(command_id).await;
            }
            58..62 => {
                world.kill_host().await?;
                world.restart_host().await?;
            }
            62..66 => {
                world.kill_engine().await?;
                world.restart_engine().await?;
            }
            66..68 => {
                world.kill_host().await?;
                world.kill_engine().await?;
                world.restart_engine().await?;
                world.restart_host().await?;
            }
            68..74 => proxy.cut(),
            74..76 => {
                // This applies to connections that are still to come, so the present ones are cut.
                proxy.treat(match random.random_range(0..2) {
                    0 => Fate::Pass,
                    _ => Fate::Delay(Duration::from_millis(random.random_range(1..30))),
                });
                proxy.cut();
            }
            76..100 if crowd.len() < WATCHERS => crowd.join(&world, &watchers, &mut random),
            _ => {}
        }
        // This sets the pace and proves nothing: something is always under way when the next thing happens.
        tokio::time::sleep(Duration::from_millis(random.random_range(0..40))).await;
    }
    all_is_well(&world.view(), &watchers).await?;
    crowd.judge(&world, &begin).await
}

/// The points after which both histories are checked.
struct Begin {
    engine: String,
    host: String,
}

impl Begin {
    async fn read(watchers: &Watchers) -> TestResult<Self> {
        let engine = watchers.engine.tasks.until("a point", point).await?;
        let host = watchers.host.until("a point", point).await?;
        Ok(Self { engine, host })
    }
}

fn point<I: Item>(record: &tests::watch::Record<I>) -> Option<String> {
    record.token().map(str::to_owned)
}

/// Requests a VM. No verdict is needed: a refused request leaves no command.
async fn create(world: &World, request: &CreateVmRequest, correlation: &'static str) -> Option<String> {
    let answer = persist(|| {
        let (mut vms, request) = (world.client.vms.clone(), correlated(request.clone(), correlation));
        async move { vms.create_vm(request).await }
    });
    Some(answer.await.ok()?.into_inner().command?.command_id)
}

async fn remove(world: &World, request: &RemoveVmRequest, correlation: &'static str) -> Option<String> {
    let answer = persist(|| {
        let (mut vms, request) = (world.client.vms.clone(), correlated(request.clone(), correlation));
        async move { vms.remove_vm(request).await }
    });
    Some(answer.await.ok()?.into_inner().command?.command_id)
}

fn correlated<T>(message: T, correlation: &'static str) -> tonic::Request<T> {
    match correlation {
        "" => tonic::Request::new(message),
        id => with_metadata(message, &[("x-correlation-id", id)]),
    }
}

/// Watchers of one kind, each with its selection.
type Watching<I> = Vec<(Recorder<I>, Selection)>;

/// All watchers that have joined in a round.
#[derive(Default)]
struct Crowd {
    commands: Watching<engine::Command>,
    tasks: Watching<engine::AsyncTask>,
    jobs: Watching<engine::Job>,
    events: Watching<engine::Event>,
    host: Watching<vdsm::Task>,
}

impl Crowd {
    fn len(&self) -> usize {
        self.commands.len() + self.tasks.len() + self.jobs.len() + self.events.len() + self.host.len()
    }

    /// Adds a watcher, which begins with a snapshot, with the next change, or where another watcher is.
    fn join(&mut self, world: &World, watchers: &Watchers, random: &mut StdRng) {
        let selection = Selection {
            correlation_id: CORRELATIONS[random.random_range(0..CORRELATIONS.len())].to_owned(),
        };
        let kind = random.random_range(0..5);
        let token = match kind {
            4 => watchers.host.record().token().map(str::to_owned),
            _ => watchers.engine.events.record().token().map(str::to_owned),
        };
        let start = match random.random_range(0..3) {
            0 => Start::Now,
            1 => token.map_or(Start::Snapshot, Start::After),
            _ => Start::Snapshot,
        };
        let engine = world.client.channel.clone();
        match kind {
            0 => watch::<Commands>(&mut self.commands, engine, start, selection),
            1 => watch::<Tasks>(&mut self.tasks, engine, start, selection),
            2 => watch::<Jobs>(&mut self.jobs, engine, start, selection),
            3 => watch::<Events>(&mut self.events, engine, start, selection),
            _ => watch::<HostTasks>(
                &mut self.host,
                world.host_client.channel.clone(),
                start,
                selection,
            ),
        }
    }

    async fn judge(&self, world: &World, begin: &Begin) -> TestResult<()> {
        let engine = || world.client.channel.clone();
        let mut found = compare::<Commands>(&self.commands, engine(), &begin.engine).await?;
        found.extend(compare::<Tasks>(&self.tasks, engine(), &begin.engine).await?);
        found.extend(compare::<Jobs>(&self.jobs, engine(), &begin.engine).await?);
        found.extend(compare::<Events>(&self.events, engine(), &begin.engine).await?);
        let host = world.host_client.channel.clone();
        found.extend(compare::<HostTasks>(&self.host, host, &begin.host).await?);
        ensure(found.is_empty(), || {
            format!(
                "{} watchers were told otherwise:\n  {}",
                self.len(),
                found.join("\n  ")
            )
        })
    }
}

fn watch<W: Watch>(all: &mut Watching<W::Item>, channel: Channel, start: Start, selection: Selection) {
    let recorder = Recorder::selecting::<W>(channel, start, selection.clone(), |_| {});
    all.push((recorder, selection));
}

async fn compare<W: Watch>(
    all: &Watching<W::Item>,
    channel: Channel,
    after: &str,
) -> TestResult<Vec<String>> {
    let reference = Reference::read::<W>(channel, after).await?;
    let mut found = Vec::new();
    for (recorder, selection) in all {
        let record = recorder.record();
        found.extend(tests::watch::violations(&record));
        found.extend(disagreements(&record, selection, &reference));
    }
    Ok(found)
}
