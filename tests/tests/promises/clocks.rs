//! What is to be kept for days is kept for days, whatever the machine's clock says, at a start and later.

use std::path::PathBuf;

use proto::host::v1::{GetTaskRequest, ListTasksRequest};
use tests::failure::{Context as _, TestResult, ensure};
use tests::patience::{eventually, persist};
use tests::requests::{self, KINDS};
use tests::{World, words};

/// By how many seconds a clock is wrong: 40 days and 20 years, in both directions.
const OFF: [i64; 4] = [40 * 86_400, 7_300 * 86_400, -40 * 86_400, -7_300 * 86_400];

/// How often the test looks whether an item is still there, once the service is known to look for old items.
const LOOKS: usize = 100;

/// Both services start with wrong clocks, and then with right ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_a_clock_far_off_makes_nothing_expire() -> TestResult<()> {
    for off in OFF {
        let mut years = Years::begin().await?;
        for off in [off, 0] {
            years.stop().await?;
            years.set(off)?;
            years.start().await?;
            years.passes(off, &format!("at {off}")).await?;
        }
        let ended = years.end().await;
        ended.context(format!("{off} seconds off"))?;
    }
    Ok(())
}

/// The clocks are set while both services run, and the services are killed soon afterwards, because a start looks for
/// old items.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_under_services_at_work_makes_nothing_expire() -> TestResult<()> {
    for off in OFF {
        let mut years = Years::begin().await?;
        for off in [off, 0] {
            years.set(off)?;
            years.passes(off, &format!("at {off}")).await?;
            years.kill().await?;
            years.start().await?;
            years.passes(off, &format!("again at {off}")).await?;
        }
        let ended = years.end().await;
        ended.context(format!("{off} seconds off"))?;
    }
    Ok(())
}

/// The clocks are wrong for a moment, in which a VM is made, and right again before anybody reads them, except for
/// the record of the VM.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_off_for_a_moment_makes_nothing_expire() -> TestResult<()> {
    for off in OFF {
        let mut years = Years::begin().await?;
        years.set(off)?;
        let create = years.make(off, "in a moment").await?;
        years.set(0)?;
        years.all_is_there().await?;
        years.kill().await?;
        years.start().await?;
        let there = years.all_is_there().await;
        there.context(format!("{off} seconds off for a moment"))?;
        let (_, created) = years.kept.last().context("what was made")?;
        is_a_repeat(&years.world, &create, created).await?;
        let ended = years.end().await;
        ended.context(format!("{off} seconds off for a moment"))?;
    }
    Ok(())
}

/// A world whose clocks the test sets.
struct Years {
    world: World,
    domain_id: String,
    clock: PathBuf,
    first: proto::engine::v1::CreateVmRequest,
    /// Tasks that the host has cleared.
    task_ids: Vec<String>,
    /// VMs, and the commands that created them.
    kept: Vec<(String, String)>,
}

impl Years {
    async fn begin() -> TestResult<Self> {
        let (mut world, domain_id) = World::furnished().await?;
        let clock = world.folder().join("clock");
        std::fs::write(&clock, "0")?;
        let name = clock.to_string_lossy().into_owned();
        for service in [&mut world.host, &mut world.engine] {
            service.stop().await?;
            service.set_variable("FAILPOINT_CLOCK", &name);
        }
        world.restart_host().await?;
        world.restart_engine().await?;
        let first = requests::create_vm("before", vec![requests::disk(&domain_id, KINDS[2])]);
        let created = world.create_vm(&first).await?;
        world.succeeds(&created).await?;
        let task_ids = cleared_tasks(&world).await?;
        Ok(Self {
            kept: vec![(first.vm_id.clone(), created)],
            world,
            domain_id,
            clock,
            first,
            task_ids,
        })
    }

    /// Writes the file in one step, because it is read all the time.
    fn set(&self, off: i64) -> TestResult<()> {
        let next = self.clock.with_extension("next");
        std::fs::write(&next, off.to_string())?;
        Ok(std::fs::rename(next, &self.clock)?)
    }

    async fn stop(&mut self) -> TestResult<()> {
        self.world.host.stop().await?;
        self.world.engine.stop().await
    }

    async fn kill(&mut self) -> TestResult<()> {
        self.world.kill_host().await?;
        self.world.kill_engine().await
    }

    async fn start(&mut self) -> TestResult<()> {
        self.world.restart_host().await?;
        self.world.restart_engine().await
    }

    /// Makes a VM while the clock is wrong by this much, and checks that everything from before is still there.
    async fn passes(&mut self, off: i64, name: &str) -> TestResult<()> {
        self.make(off, name).await?;
        self.all_is_there().await
    }

    /// Makes a VM while the clock is wrong by this much, and waits until the host has cleared its task.
    async fn make(&mut self, off: i64, name: &str) -> TestResult<proto::engine::v1::CreateVmRequest> {
        // The second command ends at another clock than the first, so its end is not old either.
        let disk = requests::disk(&self.domain_id, KINDS[2]);
        let create = requests::create_vm(name, vec![disk]);
        let created = self.world.create_vm(&create).await?;
        self.world.succeeds(&created).await?;
        let shown = self.world.client.command(&created).await?.create_time;
        let shown = shown.context("a command without a time")?.seconds;
        let now = std::time::UNIX_EPOCH
            .elapsed()
            .ok()
            .context("a clock before 1970")?;
        let ahead = shown - now.as_secs().cast_signed();
        ensure((ahead - off).abs() < 3_600, || format!("{ahead} seconds ahead"))?;
        self.kept.push((create.vm_id.clone(), created));
        self.task_ids = cleared_tasks(&self.world).await?;
        Ok(create)
    }

    async fn all_is_there(&self) -> TestResult<()> {
        for _ in 0..LOOKS {
            for (_, command_id) in &self.kept {
                self.world.client.command(command_id).await?;
            }
            for task_id in &self.task_ids {
                let request = GetTaskRequest {
                    task_id: task_id.clone(),
                };
                let mut tasks = self.world.host_client.tasks.clone();
                tasks.get_task(request).await.context("what the host cleared")?;
            }
        }
        Ok(())
    }

    async fn end(mut self) -> TestResult<()> {
        is_a_repeat(&self.world, &self.first, &self.kept[0].1).await?;
        for (vm_id, _) in &self.kept {
            let removed = self.world.remove_vm(&requests::remove_vm(vm_id)).await?;
            self.world.succeeds(&removed).await?;
        }
        self.world.stop().await
    }
}

/// An earlier request is answered with its command.
async fn is_a_repeat(
    world: &World,
    create: &proto::engine::v1::CreateVmRequest,
    command_id: &str,
) -> TestResult<()> {
    let again = world.create_vm(create).await?;
    ensure(again == command_id, || format!("the repeat made command {again}"))
}

/// All tasks of the engine, once they are cleared.
async fn cleared_tasks(world: &World) -> TestResult<Vec<String>> {
    let tasks = world.client.tasks.clone();
    let listed = persist(|| {
        let mut tasks = tasks.clone();
        async move {
            tasks
                .list_tasks(proto::engine::v1::ListTasksRequest::default())
                .await
        }
    });
    let tasks = listed.await?.into_inner().tasks;
    ensure(
        !tasks.is_empty()
            && tasks
                .iter()
                .all(|task| words::task_state(task.state) == "FINISHED"),
        || format!("{tasks:?}"),
    )?;
    eventually("the host to have cleared the tasks", || async {
        let mut client = world.host_client.tasks.clone();
        let listed = client.list_tasks(ListTasksRequest::default()).await.ok()?;
        listed.into_inner().tasks.is_empty().then_some(())
    })
    .await?;
    Ok(tasks.into_iter().map(|task| task.task_id).collect())
}
