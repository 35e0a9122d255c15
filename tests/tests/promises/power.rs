//! A power cut at steps of a creation and of a deletion, drawn by the seed (`make kills` tries every step): domain
//! and data directory are on one file system, which is shut down without writing anything back. Everything that was
//! answered is still known, everything that is called done is on disk, and everything undone is gone.

use std::path::Path;

use proto::host::v1::{GetTaskRequest, GetVolumeRequest, Legality, StartTaskRequest, Volume};
use proto::task::v1::operation::Verb;
use tests::fail_point::{self, Boundary, FailPoints};
use tests::failure::{Context as _, Failure, TestResult, ensure};
use tests::lone_host::LoneHost;
use tests::loop_mount::{FileSystem, LoopMount, NoMount};
use tests::requests::{self, KINDS};
use tests::{storage, words};
use tonic::Code;

use crate::sample;

/// Raw and preallocated, qcow2 and sparse: together they pass every step of a creation.
const CREATED: [usize; 2] = [1, 2];

/// The number of cuts of one operation, unless all are requested.
const SAMPLE: usize = 5;

/// The contents of the mount, and how each is copied.
const PARTS: [(&str, storage::Copy); 2] = [("host", storage::copy_data_dir), ("storage", storage::copy)];

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_at_any_step_on_xfs() -> TestResult<()> {
    cut_anywhere(FileSystem::Xfs).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_at_any_step_on_ext4() -> TestResult<()> {
    cut_anywhere(FileSystem::Ext4).await
}

async fn cut_anywhere(kind: FileSystem) -> TestResult<()> {
    let mut mount = match LoopMount::make(kind) {
        Ok(mount) => mount,
        Err(NoMount::Skip(why)) => {
            crate::skipped(&format!("power cuts on {}", kind.name()), &why);
            return Ok(());
        }
        Err(NoMount::Failed(failure)) => return Err(failure),
    };
    let seed = crate::seed();
    let mut failures = Vec::new();
    let mut cuts = 0;
    for place in CREATED {
        cuts += Bench::creation(&mount, place)
            .await?
            .run(&mut mount, seed, &mut failures)
            .await?;
    }
    cuts += Bench::deletion(&mount)
        .await?
        .run(&mut mount, seed, &mut failures)
        .await?;
    eprintln!("{}: {cuts} power cuts, {} failed", kind.name(), failures.len());
    ensure(failures.is_empty(), || {
        let texts: Vec<_> = failures.iter().map(ToString::to_string).collect();
        format!("{} of {cuts} power cuts:\n{}", texts.len(), texts.join("\n"))
    })
}

/// One operation, with the state in which it begins.
struct Bench {
    host: LoneHost,
    domain_id: String,
    request: StartTaskRequest,
    /// The volume that the operation creates or deletes.
    volume: GetVolumeRequest,
    saved: tempfile::TempDir,
}

impl Bench {
    async fn creation(mount: &LoopMount, place: usize) -> TestResult<Self> {
        let host = LoneHost::start_below(&mount.path()).await?;
        let domain_id = host.client.create_domain().await?;
        let volume = requests::create_volume(&domain_id, KINDS[place]);
        let names = (volume.image_id.clone(), volume.volume_id.clone());
        let request = requests::start_task(Verb::CreateVolume(volume));
        Self::save(host, domain_id, request, names).await
    }

    async fn deletion(mount: &LoopMount) -> TestResult<Self> {
        let host = LoneHost::start_below(&mount.path()).await?;
        let domain_id = host.client.create_domain().await?;
        let volume = requests::create_volume(&domain_id, KINDS[1]);
        let names = (volume.image_id.clone(), volume.volume_id.clone());
        let task = host
            .client
            .run(&requests::start_task(Verb::CreateVolume(volume)))
            .await?;
        ensure(words::task_state(task.state) == "FINISHED", || {
            format!("{task:?}")
        })?;
        let request = requests::start_task(Verb::DeleteImage(requests::delete_image(&domain_id, &names.0)));
        Self::save(host, domain_id, request, names).await
    }

    /// Saves the state in which the operation begins.
    async fn save(
        mut host: LoneHost,
        domain_id: String,
        request: StartTaskRequest,
        (image_id, volume_id): (String, String),
    ) -> TestResult<Self> {
        host.service.stop().await?;
        let saved = tempfile::Builder::new().prefix("saved-").tempdir()?;
        for (part, copy) in PARTS {
            let root = host.storage_root();
            let mount = root.parent().context("a root without a parent")?;
            copy(&mount.join(part), &saved.path().join(part))?;
        }
        let volume = GetVolumeRequest {
            domain_id: domain_id.clone(),
            image_id,
            volume_id,
        };
        Ok(Self {
            host,
            domain_id,
            request,
            volume,
            saved,
        })
    }

    /// Cuts the power at boundaries of an undisturbed run; returns how many boundaries there were.
    async fn run(
        &mut self,
        mount: &mut LoopMount,
        seed: u64,
        failures: &mut Vec<Failure>,
    ) -> TestResult<usize> {
        let trace = self.saved.path().join("trace");
        self.reset(mount)?;
        self.start(&FailPoints::tracing(trace.clone())).await?;
        self.host.client.run(&self.request).await?;
        self.host.service.kill().await?;
        let boundaries = sample::of(fail_point::boundaries(&trace)?, seed, SAMPLE);
        for boundary in &boundaries {
            let outcome = self.cut(mount, boundary).await;
            self.host.service.kill().await?;
            failures.extend(outcome.context(format!("{} {boundary}", self.verb())).err());
        }
        self.clean(mount)?;
        Ok(boundaries.len())
    }

    async fn cut(&mut self, mount: &mut LoopMount, boundary: &Boundary) -> TestResult<()> {
        self.reset(mount)?;
        self.host.service.spawn(&FailPoints::killing(boundary))?;
        // The host may die while it starts, or instead of an answer.
        let answered = match self.host.service.bound().await? {
            None => false,
            Some(_) => self.ask().await?,
        };
        self.host.service.killed_itself().await?;
        mount.cut_power()?;
        self.start(&FailPoints::default()).await?;
        let request = GetTaskRequest {
            task_id: self.request.task_id.clone(),
        };
        match self.host.client.tasks.clone().get_task(request).await {
            Ok(_) => {}
            Err(status) if status.code() == Code::NotFound => {
                ensure(!answered, || "a task that was accepted is forgotten".to_owned())?;
                self.host
                    .client
                    .tasks
                    .clone()
                    .start_task(self.request.clone())
                    .await?;
            }
            Err(status) => return Err(status.into()),
        }
        self.judge().await
    }

    /// Sends the request until it is answered or the host is dead.
    async fn ask(&mut self) -> TestResult<bool> {
        loop {
            match self
                .host
                .client
                .tasks
                .clone()
                .start_task(self.request.clone())
                .await
            {
                Ok(_) => return Ok(true),
                Err(status) if !tests::patience::is_away(&status) => return Err(status.into()),
                Err(_) if self.host.service.has_ended() => return Ok(false),
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }

    /// Checks that the task's end is one of the allowed ends, and that storage agrees.
    async fn judge(&self) -> TestResult<()> {
        let task = self.host.client.ended(&self.request.task_id).await?;
        let state = words::task_state(task.state);
        match (self.verb(), state.as_str()) {
            ("create_volume", "FINISHED") => self.volume_is_whole().await?,
            ("create_volume", "RECOVERED") => {
                self.nothing_is_left()?;
                self.a_second_attempt_succeeds().await?;
                self.volume_is_whole().await?;
            }
            ("delete_image", "FINISHED") => self.nothing_is_left()?,
            ("delete_image", "RECOVERED") => {
                self.volume_is_whole().await?;
                self.a_second_attempt_succeeds().await?;
                self.nothing_is_left()?;
            }
            _ => return Err(Failure::new(format!("it ended {state}: {:?}", task.fault))),
        }
        let runs = storage::run_directories(&self.host.storage_root());
        ensure(runs.is_empty(), || format!("run directories are left: {runs:?}"))
    }

    async fn a_second_attempt_succeeds(&self) -> TestResult<()> {
        let again = StartTaskRequest {
            task_id: tests::ids::fresh(),
            ..self.request.clone()
        };
        let task = self.host.client.run(&again).await?;
        ensure(words::task_state(task.state) == "FINISHED", || {
            format!("a second attempt ended {task:?}")
        })
    }

    async fn volume_is_whole(&self) -> TestResult<()> {
        let answer = self
            .host
            .client
            .storage
            .clone()
            .get_volume(self.volume.clone())
            .await?;
        let volume: Volume = answer.into_inner().volume.context("a volume without a body")?;
        let preallocated = volume.allocation == 2;
        let whole = volume.legality == i32::from(Legality::Legal)
            && volume.status == "OK"
            && volume.fault.is_none()
            && volume.capacity_bytes == requests::DISK_BYTES
            && (!preallocated || volume.true_size_bytes >= volume.capacity_bytes);
        ensure(whole, || format!("{volume:#?}"))
    }

    fn nothing_is_left(&self) -> TestResult<()> {
        let images = storage::images(&self.host.storage_root(), &self.domain_id);
        ensure(images.is_empty(), || format!("images are left: {images:?}"))
    }

    async fn start(&mut self, fail_points: &FailPoints) -> TestResult<()> {
        self.host.service.start(fail_points).await?;
        self.host.serves().await
    }

    /// Restores everything, durably. The host must not run.
    fn reset(&self, mount: &LoopMount) -> TestResult<()> {
        self.clean(mount)?;
        for (part, copy) in PARTS {
            copy(&self.saved.path().join(part), &mount.path().join(part))?;
        }
        mount.sync()
    }

    fn clean(&self, mount: &LoopMount) -> TestResult<()> {
        for (part, _) in PARTS {
            let place: &Path = &mount.path().join(part);
            if place.exists() {
                std::fs::remove_dir_all(place)?;
            }
        }
        Ok(())
    }

    fn verb(&self) -> &'static str {
        match self
            .request
            .operation
            .as_ref()
            .and_then(|operation| operation.verb.as_ref())
        {
            Some(Verb::DeleteImage(_)) => "delete_image",
            _ => "create_volume",
        }
    }
}
