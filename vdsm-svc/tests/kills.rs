//! The program, killed at every step boundary of every operation and started again: the task ends, and its record
//! and the storage agree.
#![cfg(feature = "failpoints")]
// A test fails by a panic.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use proto::task::v1 as task_wire;
use proto::task::v1::operation::Verb;
use proto::task::v1::{TaskResult, TaskStatus};
use proto::vdsm::v1 as wire;
use proto::vdsm::v1::storage_service_client::StorageServiceClient;
use proto::vdsm::v1::task_service_client::TaskServiceClient;
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(10);
const HOST: &str = "2f1c8a34-7c5e-4d3a-9b16-0f5f0a6d9c01";
const DOMAIN: &str = "6a0f7a52-51a0-4f4f-8f3e-3c1d4b7a9e02";
const IMAGE: &str = "7b1f8b63-62b1-4a50-9f4f-4d2e5c8b0f13";

struct Program {
    child: Child,
    channel: Channel,
}

impl Program {
    async fn start(dir: &Path, kill_at: Option<&str>) -> Self {
        let address = dir.join("data/address");
        let _ = std::fs::remove_file(&address);
        let mut command = Command::new(env!("CARGO_BIN_EXE_vdsm-svc"));
        command.args(["--listen", "127.0.0.1:0", "--host-id", HOST]);
        command.arg("--data-dir").arg(dir.join("data"));
        command.arg("--storage-root").arg(dir.join("storage"));
        command.stderr(Stdio::null()).stdin(Stdio::null());
        if let Some(point) = kill_at {
            command.env("FAILPOINT_KILL", format!("{point}@1"));
        }
        let child = command.spawn().unwrap();
        let address = eventually("the address", async || {
            let text = std::fs::read_to_string(&address).ok()?;
            text.ends_with('\n').then(|| text.trim().to_owned())
        });
        let endpoint = Endpoint::from_shared(format!("http://{}", address.await)).unwrap();
        let channel = endpoint.connect_lazy();
        Self { child, channel }
    }

    /// Whether it was killed at its fail point.
    fn is_dead(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// The task when it is over; none if the program dies first.
    async fn end_of(&mut self, id: &str) -> Option<wire::Task> {
        let begin = Instant::now();
        loop {
            if self.is_dead() {
                return None;
            }
            let request = wire::GetTaskRequest { task_id: id.into() };
            let answer = TaskServiceClient::new(self.channel.clone())
                .get_task(request)
                .await;
            let task = answer.ok().and_then(|answer| answer.into_inner().task);
            if let Some(task) = task.filter(|task| task.status() == TaskStatus::Finished) {
                return Some(task);
            }
            assert!(begin.elapsed() < PATIENCE, "task {id} does not end");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Starts a task; the program may die of it.
    async fn begin(&self, id: &str, verb: Verb) {
        let request = wire::StartTaskRequest {
            task_id: id.into(),
            operation: Some(task_wire::Operation { verb: Some(verb) }),
        };
        let _ = TaskServiceClient::new(self.channel.clone())
            .start_task(request)
            .await;
    }

    async fn make_domain(&self) {
        let request = wire::CreateStorageDomainRequest {
            domain_id: DOMAIN.into(),
            name: "data".into(),
        };
        eventually("the domain", async || {
            StorageServiceClient::new(self.channel.clone())
                .create_storage_domain(request.clone())
                .await
                .ok()
        })
        .await;
    }

    async fn volumes(&self) -> usize {
        let request = wire::ListVolumesRequest {
            domain_id: DOMAIN.into(),
            image_id: IMAGE.into(),
        };
        let answer = StorageServiceClient::new(self.channel.clone())
            .list_volumes(request)
            .await;
        answer.map_or(0, |answer| answer.into_inner().volumes.len())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn eventually<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(begin.elapsed() < PATIENCE, "{what} does not come");
        tokio::time::sleep(LOOK).await;
    }
}

fn create() -> Verb {
    Verb::CreateVolume(task_wire::CreateVolume {
        domain_id: DOMAIN.into(),
        image_id: IMAGE.into(),
        volume_id: Uuid::new_v4().to_string(),
        capacity_bytes: 1 << 20,
        format: task_wire::VolumeFormat::Raw.into(),
        allocation: task_wire::Allocation::Preallocated.into(),
        description: String::new(),
    })
}

fn delete() -> Verb {
    Verb::DeleteImage(task_wire::DeleteImage {
        domain_id: DOMAIN.into(),
        image_id: IMAGE.into(),
    })
}

fn points() -> Vec<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_vdsm-svc"))
        .arg("--list-fail-points")
        .output()
        .unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_kill_at_any_step_leaves_a_task_that_ends_and_storage_that_agrees() {
    let points = points();
    assert!(points.len() > 20, "{points:?}");
    let mut not_reached = Vec::new();
    for point in &points {
        let dir = tempfile::tempdir().unwrap();
        let deletes = point.starts_with("delete_image.");
        let mut program = Program::start(dir.path(), Some(point)).await;
        program.make_domain().await;
        let (made, gone) = (Uuid::new_v4().to_string(), Uuid::new_v4().to_string());
        program.begin(&made, create()).await;
        let mut survived = program.end_of(&made).await.is_some();
        if survived && deletes {
            program.begin(&gone, delete()).await;
            survived = program.end_of(&gone).await.is_some();
        }
        if survived {
            // Undo steps and those of carrying forward are reached only after another kill or a failure.
            not_reached.push(point);
            continue;
        }
        drop(program);
        let mut program = Program::start(dir.path(), None).await;
        let id = if deletes { &gone } else { &made };
        let task = program.end_of(id).await.expect("nobody kills it now");
        let done = task.result() == TaskResult::Success;
        assert!(
            done || task.result() == TaskResult::CleanSuccess,
            "{point}: {task:?}"
        );
        let expected = usize::from(done != deletes);
        assert_eq!(program.volumes().await, expected, "{point}: {task:?}");
        if !done {
            assert_eq!(
                task.fault.map(|fault| fault.code).as_deref(),
                Some("INTERRUPTED"),
                "{point}"
            );
        }
    }
    let other = |point: &&&String| !point.contains(".undo_") && !point.contains(".forward_");
    assert_eq!(
        not_reached.iter().filter(other).collect::<Vec<_>>(),
        Vec::<&&String>::new()
    );
}
