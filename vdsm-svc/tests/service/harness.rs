//! A host on a free port, with a data directory and a storage root that go with it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser as _;
use common::fault::FaultCode;
use proto::host::v1 as wire;
use proto::host::v1::host_service_client::HostServiceClient;
use proto::host::v1::storage_service_client::StorageServiceClient;
use proto::host::v1::task_service_client::TaskServiceClient;
use proto::task::v1 as task_wire;
use proto::task::v1::operation::Verb;
use runtime::status;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use uuid::Uuid;
use vdsm_svc::{ServiceError, Settings, serve};

/// For what happens by itself; far more than it takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

pub(crate) const HOST: &str = "2f1c8a34-7c5e-4d3a-9b16-0f5f0a6d9c01";
pub(crate) const DOMAIN: &str = "6a0f7a52-51a0-4f4f-8f3e-3c1d4b7a9e02";

/// A host that serves.
pub(crate) struct Host {
    pub(crate) dir: TempDir,
    pub(crate) channel: Channel,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<Result<(), ServiceError>>,
}

impl Host {
    pub(crate) async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), &[]).await
    }

    pub(crate) async fn start_in(dir: TempDir, more: &[&str]) -> Self {
        let settings = settings(&dir, more);
        let file = settings.data_dir.join("address");
        let _ = std::fs::remove_file(&file);
        let (address, stop, served) = loop {
            let (stop, stopped) = oneshot::channel::<()>();
            let served = tokio::spawn(serve(settings.clone(), async {
                let _ = stopped.await;
            }));
            // A thread of a stopped service may hold its store for a moment longer: then this one ends at once.
            let bound = eventually("the address file", async || match address(&file) {
                Some(address) => Some(Some(address)),
                None => served.is_finished().then_some(None),
            });
            if let Some(address) = bound.await {
                break (address, stop, served);
            }
            tokio::time::sleep(LOOK).await;
        };
        let channel = Endpoint::from_shared(format!("http://{address}"))
            .unwrap()
            .connect_lazy();
        let host = Self {
            dir,
            channel,
            stop: Some(stop),
            served,
        };
        eventually("the end of loading", async || {
            host.hosts()
                .get_host_info(wire::GetHostInfoRequest::default())
                .await
                .ok()
        })
        .await;
        host
    }

    /// Stops it, and gives the directories back.
    pub(crate) async fn stop(mut self) -> TempDir {
        self.stop.take().unwrap().send(()).unwrap();
        self.served.await.unwrap().unwrap();
        self.dir
    }

    pub(crate) fn tasks(&self) -> TaskServiceClient<Channel> {
        TaskServiceClient::new(self.channel.clone())
    }

    pub(crate) fn hosts(&self) -> HostServiceClient<Channel> {
        HostServiceClient::new(self.channel.clone())
    }

    pub(crate) fn storage(&self) -> StorageServiceClient<Channel> {
        StorageServiceClient::new(self.channel.clone())
    }

    pub(crate) async fn with_domain(self) -> Self {
        let request = wire::CreateStorageDomainRequest {
            domain_id: DOMAIN.into(),
            name: "data".into(),
        };
        self.storage().create_storage_domain(request).await.unwrap();
        self
    }

    pub(crate) async fn begin(&self, id: &str, verb: Verb) -> Result<wire::Task, Status> {
        let answer = self.tasks().start_task(start(id, verb)).await?;
        Ok(answer.into_inner().task.unwrap())
    }

    pub(crate) async fn abort(&self, id: &str) -> Result<wire::Task, Status> {
        let answer = self
            .tasks()
            .abort_task(wire::AbortTaskRequest { task_id: id.into() })
            .await?;
        Ok(answer.into_inner().task.unwrap())
    }

    pub(crate) async fn clear(&self, id: &str) -> Result<Option<wire::Task>, Status> {
        let answer = self
            .tasks()
            .clear_task(wire::ClearTaskRequest { task_id: id.into() })
            .await?;
        Ok(answer.into_inner().task)
    }

    pub(crate) async fn get(&self, id: &str) -> Result<wire::Task, Status> {
        let answer = self
            .tasks()
            .get_task(wire::GetTaskRequest { task_id: id.into() })
            .await?;
        Ok(answer.into_inner().task.unwrap())
    }

    /// The task when it is over.
    pub(crate) async fn end_of(&self, id: &str) -> wire::Task {
        eventually("the end of a task", async || {
            let task = self.get(id).await.unwrap();
            (task.status() == task_wire::TaskStatus::Finished).then_some(task)
        })
        .await
    }
}

fn settings(dir: &TempDir, more: &[&str]) -> Settings {
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (data, storage) = (path("data"), path("storage"));
    let least = [
        "vdsm-svc",
        "--listen",
        "127.0.0.1:0",
        "--host-id",
        HOST,
        "--data-dir",
        &data,
        "--storage-root",
        &storage,
        // The service runs in a test, which is no program to confine a child.
        "--confiner",
        env!("CARGO_BIN_EXE_vdsm-svc"),
    ];
    Settings::parse_from(least.iter().chain(more))
}

fn address(file: &PathBuf) -> Option<SocketAddr> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// What comes sooner or later.
pub(crate) async fn eventually<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(begin.elapsed() < PATIENCE, "{what} does not come");
        tokio::time::sleep(LOOK).await;
    }
}

pub(crate) fn fresh() -> String {
    Uuid::new_v4().to_string()
}

pub(crate) fn start(id: &str, verb: Verb) -> wire::StartTaskRequest {
    wire::StartTaskRequest {
        task_id: id.into(),
        operation: Some(task_wire::Operation { verb: Some(verb) }),
    }
}

pub(crate) fn create_volume(image: &str) -> Verb {
    Verb::CreateVolume(task_wire::CreateVolume {
        domain_id: DOMAIN.into(),
        image_id: image.into(),
        volume_id: fresh(),
        capacity_bytes: 1 << 20,
        format: task_wire::VolumeFormat::Raw.into(),
        allocation: task_wire::Allocation::Sparse.into(),
        description: "test".into(),
    })
}

/// The volume of an image whose one volume has the image's id, copied to one of the same kind.
pub(crate) fn copy_volume(source: &str, target: &str, verify: bool) -> Verb {
    let address = |id: &str| {
        Some(task_wire::VolumeAddress {
            domain_id: DOMAIN.into(),
            image_id: id.into(),
            volume_id: id.into(),
        })
    };
    Verb::CopyVolume(task_wire::CopyVolume {
        source: address(source),
        target: address(target),
        format: task_wire::VolumeFormat::Raw.into(),
        allocation: task_wire::Allocation::Sparse.into(),
        description: "test".into(),
        verify,
    })
}

pub(crate) fn delete_image(image: &str) -> Verb {
    Verb::DeleteImage(task_wire::DeleteImage {
        domain_id: DOMAIN.into(),
        image_id: image.into(),
    })
}

/// The code and the fault of a refusal, and whether it is a verdict.
pub(crate) fn refusal<T: std::fmt::Debug>(outcome: Result<T, Status>) -> (Code, FaultCode, bool) {
    let status = outcome.unwrap_err();
    let (fault, verdict) = status::fault_of(&status).expect("every refusal carries a fault");
    (status.code(), fault.code, verdict)
}
