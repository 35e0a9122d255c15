//! A stream of a certain age ends regularly, and a client that resumes after its last point misses nothing.

use proto::engine::v1::{AsyncTask, Command, Event, Job, host::Connection};
use proto::host::v1::Task;
use proto::task::v1::closing::Reason;
use tests::audit::all_is_well;
use tests::failure::{Context as _, TestResult, ensure};
use tests::patience::PATIENCE;
use tests::watch::{
    Commands, Events, Frame, HostTasks, Item, Jobs, Record, Recorder, Reference, Selection, Tasks, Watch,
    Watchers, disagreements,
};
use tests::{World, requests};
use tonic::transport::Channel;

/// Two seconds instead of an hour: long enough for the checker to read the whole history in one stream.
const SECONDS: &str = "2";

/// The number of streams of each watch that must end like this.
const ENDS: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_age_end_well_and_their_clients_resume_with_no_gap() -> TestResult<()> {
    let arguments = ["--max-watch-seconds", SECONDS];
    let world = World::start_as(&arguments, &arguments).await?;
    let domain = world.furnish().await?;
    let watchers = Watchers::start(&world.client, &world.host_client);
    let beginnings = Beginnings::read(&watchers).await?;
    // Something always happens, so that a gap would be seen.
    let work = async {
        let mut rounds = 0;
        while !enough(&watchers) {
            let vm = requests::create_vm(&format!("web-{rounds}"), requests::four_disks(&domain));
            let created = world.create_vm(&vm).await?;
            world.succeeds(&created).await?;
            let removed = world.remove_vm(&requests::remove_vm(&vm.vm_id)).await?;
            world.succeeds(&removed).await?;
            // The engine's own stream of its host ends as well, which must not make the host count as away.
            let request = proto::engine::v1::GetHostRequest {
                host_id: world.host_id.clone(),
            };
            let host = world
                .client
                .hosts
                .clone()
                .get_host(request)
                .await?
                .into_inner()
                .host;
            let connected = host.is_some_and(|host| host.connection == i32::from(Connection::Connected));
            ensure(connected, || "the host counts as away".to_owned())?;
            rounds += 1;
        }
        Ok::<_, tests::Failure>(())
    };
    let in_time = tokio::time::timeout(PATIENCE, work).await;
    in_time.ok().context("the streams do not come of age")??;

    let records = all_is_well(&world.view(), &watchers).await?;
    ensure(records.tasks.iter().all(|task| !task.resynced), || {
        "states of a task were missed".to_owned()
    })?;
    beginnings.compare(&world, &watchers).await
}

/// Whether enough streams of each watch have reached that age.
fn enough(watchers: &Watchers) -> bool {
    let engine = &watchers.engine;
    [
        of_age(&engine.commands.record()),
        of_age(&engine.tasks.record()),
        of_age(&engine.jobs.record()),
        of_age(&engine.events.record()),
        of_age(&watchers.host.record()),
    ]
    .iter()
    .all(|ends| *ends >= ENDS)
}

fn of_age<I>(record: &Record<I>) -> usize {
    let ends = record.frames.iter().filter(|arrived| {
        matches!(&arrived.frame, Frame::Closing { reason: Reason::MaxAge, token } if !token.is_empty())
    });
    ends.count()
}

/// The points of the snapshots with which the watches began.
struct Beginnings {
    commands: String,
    tasks: String,
    jobs: String,
    events: String,
    host: String,
}

impl Beginnings {
    async fn read(watchers: &Watchers) -> TestResult<Self> {
        let engine = &watchers.engine;
        Ok(Self {
            commands: beginning::<Command>(&engine.commands).await?,
            tasks: beginning::<AsyncTask>(&engine.tasks).await?,
            jobs: beginning::<Job>(&engine.jobs).await?,
            events: beginning::<Event>(&engine.events).await?,
            host: beginning::<Task>(&watchers.host).await?,
        })
    }

    /// Checks that everything announced to each watch since then is in the histories of the stores.
    async fn compare(&self, world: &World, watchers: &Watchers) -> TestResult<()> {
        let (engine, host) = (&world.client.channel, &world.host_client.channel);
        let told = &watchers.engine;
        same::<Commands>(engine, &self.commands, &told.commands).await?;
        same::<Tasks>(engine, &self.tasks, &told.tasks).await?;
        same::<Jobs>(engine, &self.jobs, &told.jobs).await?;
        same::<Events>(engine, &self.events, &told.events).await?;
        same::<HostTasks>(host, &self.host, &watchers.host).await
    }
}

async fn beginning<I: Item>(recorder: &Recorder<I>) -> TestResult<String> {
    let first = |record: &Record<I>| record.token().map(str::to_owned);
    recorder.until("its snapshot", first).await
}

/// Checks that each stream except the last one ended with `Closing` and OK, that none began anew, and that nothing
/// was missed.
async fn same<W: Watch>(channel: &Channel, after: &str, recorder: &Recorder<W::Item>) -> TestResult<()> {
    let reference = Reference::read::<W>(channel.clone(), after).await?;
    let record = recorder.record().clone();
    let name = W::Item::NAME;
    for pair in record.frames.windows(2) {
        let holds = match (&pair[0].frame, &pair[1].frame) {
            (Frame::Closing { reason, .. }, Frame::Lost { why }) => {
                *reason == Reason::MaxAge && why.starts_with("Ok:")
            }
            (_, Frame::OutOfRange) | (Frame::Closing { .. }, _) | (_, Frame::Lost { .. }) => false,
            _ => true,
        };
        ensure(holds, || {
            format!("{name}: {:?} and then {:?}", pair[0].frame, pair[1].frame)
        })?;
    }
    let differences = disagreements(&record, &Selection::default(), &reference);
    ensure(differences.is_empty(), || differences.join("\n"))
}
