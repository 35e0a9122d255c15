//! An engine in this process, over a store in memory, and a client of its public contract.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser as _;
use common::id::{HostId, TaskId};
use doubles::memory::{Disk as MemoryDisk, MemoryStore};
use engine_svc::{RunError, Settings, serve_over};
use proto::engine::v1::command_service_client::CommandServiceClient;
use proto::engine::v1::disk_service_client::DiskServiceClient;
use proto::engine::v1::host_service_client::HostServiceClient;
use proto::engine::v1::storage_domain_service_client::StorageDomainServiceClient;
use proto::engine::v1::task_service_client::TaskServiceClient;
use proto::engine::v1::watch_tasks_response::Frame;
use proto::engine::v1::*;
use proto::task::v1::{Allocation, VolumeFormat, WatchStart, watch_start};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use uuid::Uuid;

/// How long anything may take here before it counts as not happening.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn host_id() -> HostId {
    HostId::from_uuid(Uuid::from_u128(0x1001))
}

pub(crate) fn task_id(number: u128) -> TaskId {
    TaskId::from_uuid(Uuid::from_u128(0x7_0000 + number))
}

/// The engine.
pub(crate) struct World {
    pub(crate) channel: Channel,
    pub(crate) running: JoinHandle<Result<(), RunError>>,
    stop: Option<oneshot::Sender<()>>,
    _dir: TempDir,
}

impl World {
    /// One that does not think of a busy machine that its host is silent.
    pub(crate) async fn start(disk: &MemoryDisk) -> Self {
        Self::start_with(disk, Duration::from_secs(5)).await
    }

    /// One that its host is to send a heartbeat so often.
    pub(crate) async fn start_with(disk: &MemoryDisk, heartbeat: Duration) -> Self {
        let heartbeat_ms = heartbeat.as_millis().to_string();
        let dir = TempDir::new().unwrap();
        let data_dir = dir.path().to_str().unwrap();
        let arguments = [
            "engine-svc",
            "--listen",
            "127.0.0.1:0",
            "--data-dir",
            data_dir,
            "--heartbeat-ms",
            &heartbeat_ms,
        ];
        let settings = Settings::try_parse_from(arguments).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let store = MemoryStore::open(disk.clone());
        let running = tokio::spawn(serve_over(settings, store, async {
            let _ = stopped.await;
        }));
        let file = dir.path().join("address");
        let address = eventually("the engine listens", || {
            let read = std::fs::read_to_string(&file).ok();
            async move { read?.trim().parse::<SocketAddr>().ok() }
        })
        .await;
        let endpoint = runtime::client::endpoint(&address.to_string()).unwrap();
        Self {
            channel: endpoint.connect().await.unwrap(),
            running,
            stop: Some(stop),
            _dir: dir,
        }
    }

    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        self.running.await.unwrap().unwrap();
    }

    pub(crate) fn hosts(&self) -> HostServiceClient<Channel> {
        HostServiceClient::new(self.channel.clone())
    }

    pub(crate) fn tasks(&self) -> TaskServiceClient<Channel> {
        TaskServiceClient::new(self.channel.clone())
    }

    /// Adds the host at this address, and waits until its stream is up to date.
    pub(crate) async fn follow(&self, address: SocketAddr) {
        let command = self.add(address).await;
        assert_eq!(command.state(), CommandState::Succeeded, "{command:#?}");
        eventually("the host is followed", || async {
            let host = self.host().await;
            (host.connection() == host::Connection::Connected && !host.cursor.is_empty()).then_some(())
        })
        .await;
    }

    /// Adds the host at this address and waits for the end of it.
    pub(crate) async fn add(&self, address: SocketAddr) -> Command {
        let command_id = self.begin_to_add(address).await;
        self.wait(&command_id).await
    }

    /// Asks for the host at this address to be added: the command's id.
    pub(crate) async fn begin_to_add(&self, address: SocketAddr) -> String {
        let request = AddHostRequest {
            host_id: host_id().to_string(),
            name: "h1".into(),
            address: address.to_string(),
            identity: String::new(),
            ..AddHostRequest::default()
        };
        let accepted = self.hosts().add_host(request).await.unwrap().into_inner();
        accepted.command.unwrap().command_id
    }

    /// Has the host taken over and waits for the end of it; without an address it is one that is recorded.
    pub(crate) async fn take_over(&self, address: Option<SocketAddr>) -> Command {
        let request = TakeOverHostRequest {
            host_id: host_id().to_string(),
            name: address.map(|_| "h1".to_owned()).unwrap_or_default(),
            identity: String::new(),
            address: address.map(|address| address.to_string()).unwrap_or_default(),
            reason: "burnt down".into(),
            ..TakeOverHostRequest::default()
        };
        let accepted = self.hosts().take_over_host(request).await.unwrap().into_inner();
        self.wait(&accepted.command.unwrap().command_id).await
    }

    /// Asks for a disk: the command's id.
    pub(crate) async fn ask_for_a_disk(&self, domain_id: &str) -> Result<String, tonic::Status> {
        let request = CreateDiskRequest {
            domain_id: domain_id.to_owned(),
            capacity_bytes: 4096,
            format: VolumeFormat::Raw.into(),
            allocation: Allocation::Sparse.into(),
            ..CreateDiskRequest::default()
        };
        let mut disks = DiskServiceClient::new(self.channel.clone());
        let accepted = disks.create_disk(request).await?.into_inner();
        Ok(accepted.command.unwrap().command_id)
    }

    /// Asks for the host to be given up: the command's id.
    pub(crate) async fn remove(&self) -> String {
        let request = RemoveHostRequest {
            host_id: host_id().to_string(),
            ..RemoveHostRequest::default()
        };
        let accepted = self.hosts().remove_host(request).await.unwrap().into_inner();
        accepted.command.unwrap().command_id
    }

    pub(crate) async fn cancel(&self, command_id: &str) {
        let mut commands = CommandServiceClient::new(self.channel.clone());
        let request = CancelCommandRequest {
            command_id: command_id.to_owned(),
        };
        commands.cancel_command(request).await.unwrap();
    }

    pub(crate) async fn wait(&self, command_id: &str) -> Command {
        let mut commands = CommandServiceClient::new(self.channel.clone());
        let request = WaitCommandRequest {
            command_id: command_id.to_owned(),
            timeout: prost_types::Duration::try_from(PATIENCE).ok(),
        };
        let answer = commands.wait_command(request).await.unwrap().into_inner();
        assert!(answer.done, "{answer:#?}");
        answer.command.unwrap()
    }

    /// Has the host make a storage domain: its id.
    pub(crate) async fn domain(&self) -> String {
        let mut domains = StorageDomainServiceClient::new(self.channel.clone());
        let request = CreateStorageDomainRequest {
            name: "d1".into(),
            host_id: host_id().to_string(),
            ..CreateStorageDomainRequest::default()
        };
        let accepted = domains.create_storage_domain(request).await.unwrap().into_inner();
        let command = self.wait(&accepted.command.unwrap().command_id).await;
        assert_eq!(command.state(), CommandState::Succeeded, "{command:#?}");
        accepted.domain_id
    }

    pub(crate) async fn host(&self) -> Host {
        let request = GetHostRequest {
            host_id: host_id().to_string(),
        };
        self.hosts()
            .get_host(request)
            .await
            .unwrap()
            .into_inner()
            .host
            .unwrap()
    }

    /// Waits until the engine stands so with the host.
    pub(crate) async fn linked(&self, wanted: host::Connection) -> Host {
        eventually(&format!("{wanted:?}"), || async {
            let host = self.host().await;
            (host.connection() == wanted).then_some(host)
        })
        .await
    }

    /// Everything that the engine shows of tasks, from now on and of before.
    pub(crate) async fn watch(&self) -> Seen {
        let request = WatchTasksRequest {
            start: Some(WatchStart {
                start: Some(watch_start::Start::Snapshot(())),
            }),
            ..WatchTasksRequest::default()
        };
        let mut tasks = TaskServiceClient::new(self.channel.clone());
        let mut stream = tasks.watch_tasks(request).await.unwrap().into_inner();
        let seen = Seen::default();
        // What comes after this call is seen edge by edge; before, the snapshot may have been made too late for that.
        while !seen.note(stream.message().await.unwrap().unwrap()) {}
        let noted = seen.clone();
        tokio::spawn(async move {
            while let Ok(Some(response)) = stream.message().await {
                noted.note(response);
            }
        });
        seen
    }
}

/// What a watch has shown so far.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<std::sync::Mutex<Vec<AsyncTask>>>);

impl Seen {
    /// Says whether the snapshot is over.
    fn note(&self, response: WatchTasksResponse) -> bool {
        let items = match response.frame {
            Some(Frame::SnapshotDone(_)) => return true,
            Some(Frame::Snapshot(snapshot)) => snapshot.items,
            Some(Frame::Changes(changes)) => changes.items,
            _ => Vec::new(),
        };
        self.0.lock().unwrap().extend(items);
        false
    }

    pub(crate) fn of(&self, task_id: TaskId) -> Vec<AsyncTask> {
        let seen = self.0.lock().unwrap();
        let of_task = seen.iter().filter(|task| task.task_id == task_id.to_string());
        of_task.cloned().collect()
    }

    /// Waits until the host's count of the task has got this far.
    pub(crate) async fn reached(&self, task_id: TaskId, host_sequence: u64) -> Vec<AsyncTask> {
        eventually(&format!("{task_id} at {host_sequence}"), || async {
            let seen = self.of(task_id);
            let last = seen.last().map_or(0, |task| task.host_sequence);
            (last >= host_sequence).then_some(seen)
        })
        .await
    }
}

/// Tries until it is so.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
