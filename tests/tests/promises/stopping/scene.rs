//! A world whose copies stand still in the middle for as long as a test wants.

use proto::engine::v1::{AsyncTask, Command, CopyDiskRequest, ListTasksRequest};
use tests::audit::{self, Records};
use tests::fail_point::FailPoints;
use tests::failure::{Context as _, TestResult, ensure};
use tests::gate::Gate;
use tests::patience::{eventually, persist};
use tests::watch::Watchers;
use tests::{World, requests, storage, words};

/// What a copy in the middle says about cancelling it.
pub(super) const UNDO: &str = "removes the copy";

/// A host that is silent is noticed after three heartbeats, and these tests would only wait for that.
const HEARTBEAT_MS: &str = "500";

/// A disk to be copied, one copy at a time.
#[derive(Debug)]
pub(super) struct Scene {
    /// The gate of the host's copy program.
    pub(super) gate: Gate,
    /// The domain of the disk.
    pub(super) domain: String,
    /// The disk.
    pub(super) source_id: String,
    /// All watches.
    pub(super) watchers: Watchers,
    /// Both services.
    pub(super) world: World,
}

/// A requested copy.
#[derive(Debug)]
pub(super) struct Copying {
    /// Its command.
    pub(super) command_id: String,
    /// Its target.
    pub(super) request: CopyDiskRequest,
}

impl Scene {
    /// Makes the disk; the gate is open.
    pub(super) async fn set() -> TestResult<Self> {
        let gate = Gate::open().await?;
        let host = ["--running-per-domain", "1", "--qemu-img", &gate.program()];
        let world = World::start_as(&host, &["--heartbeat-ms", HEARTBEAT_MS]).await?;
        let domain = world.furnish().await?;
        let watchers = Watchers::start(&world.client, &world.host_client);
        let source = requests::create_disk(&domain, requests::KINDS[0]);
        let created = world.client.ask_create_disk(&source).await?;
        world.succeeds(&created).await?;
        Ok(Self {
            gate,
            domain,
            source_id: source.disk_id,
            watchers,
            world,
        })
    }

    /// Requests a copy.
    pub(super) async fn copy(&self) -> TestResult<Copying> {
        let request = requests::copy_disk(&self.source_id, &self.domain, requests::KINDS[2]);
        let command_id = self.world.client.ask_copy_disk(&request).await?;
        Ok(Copying { command_id, request })
    }

    /// Requests a copy, and waits until its program stands still.
    pub(super) async fn copy_in_the_middle(&self) -> TestResult<Copying> {
        self.gate.shut("convert")?;
        let copying = self.copy().await?;
        self.gate.reached().await?;
        self.is(&copying, "RUNNING", true, UNDO).await?;
        Ok(copying)
    }

    /// Waits until the engine's record of a copy's newest task is in this state and says this about cancelling, and
    /// the command's record says the same.
    pub(super) async fn is(
        &self,
        copying: &Copying,
        state: &str,
        cancelable: bool,
        undo: &str,
    ) -> TestResult<()> {
        let what = format!("a copy that is {state}, cancelable: {cancelable}, undo: {undo:?}");
        let seen = eventually(&what, || async {
            let (task, command) = self.records(copying).await.ok()?;
            let says = |stops: bool, words: &str| {
                stops == cancelable && (words == undo || !undo.is_empty() && words.contains(undo))
            };
            let holds = words::task_state(task.state) == state
                && says(task.cancelable, &task.undo)
                && says(command.cancelable, &command.undo);
            holds.then_some(())
        });
        let seen = seen.await;
        seen.context(format!("{:#?}", self.records(copying).await))
    }

    /// A copy's newest task and its command, as the engine shows them.
    pub(super) async fn records(&self, copying: &Copying) -> TestResult<(AsyncTask, Command)> {
        let answer = persist(|| {
            let mut tasks = self.world.client.tasks.clone();
            let request = ListTasksRequest {
                page_size: 1_000,
                ..ListTasksRequest::default()
            };
            async move { tasks.list_tasks(request).await }
        });
        let tasks = answer.await?.into_inner().tasks;
        // The newest comes first.
        let newest = tasks
            .into_iter()
            .find(|task| task.root_command_id == copying.command_id);
        let newest = newest.context("a copy without a task")?;
        Ok((newest, self.world.client.command(&copying.command_id).await?))
    }

    /// Cancels the copy.
    pub(super) async fn cancel(&self, copying: &Copying) -> TestResult<Command> {
        Ok(self.world.client.ask_cancel(&copying.command_id).await?)
    }

    /// Checks that the copy was cancelled, that nothing of it is left, and that its source is unchanged.
    pub(super) async fn is_undone(&self, copying: &Copying) -> TestResult<Records> {
        let command = self.world.settled(&copying.command_id).await?;
        let cancelled = words::command_state(command.state) == "CANCELLED" && command.cancel_requested;
        ensure(
            cancelled && command.left_behind.is_empty() && !command.cancelable && command.undo.is_empty(),
            || format!("{command:#?}"),
        )?;
        let records = audit::all_is_well(&self.world.view(), &self.watchers).await?;
        let disks: Vec<_> = records.disks.iter().map(|disk| &disk.disk_id).collect();
        ensure(disks == [&self.source_id], || format!("{disks:?}"))?;
        let images = storage::images(&self.world.storage_root(), &self.domain);
        ensure(images == [self.source_id.clone()].into(), || {
            format!("images are left: {images:?}")
        })?;
        let programs: Vec<_> = tests::world::processes_naming(&self.gate.program());
        let programs: Vec<_> = programs
            .iter()
            .filter(|(_, line)| !line.contains("vdsm-svc"))
            .collect();
        ensure(programs.is_empty(), || {
            format!("processes are left: {programs:?}")
        })?;
        Ok(records)
    }

    /// Starts the host again; it will kill itself at this point.
    pub(super) async fn host_dies_at(&mut self, fail_points: &FailPoints) -> TestResult<()> {
        self.world.host.stop().await?;
        self.world.host.start(fail_points).await?;
        self.world.host_serves().await
    }
}
