//! The program, killed at step boundaries of every operation and started again: the task ends, and its record and the
//! storage agree.
//!
//! A run of all tests tries a few boundaries of each operation, which the seed draws (`SEED` draws them again); `make kills`
//! tries all. The tests of the storage kill at every boundary in each run, in one process.
#![cfg(feature = "failpoints")]
// A test fails by a panic.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use proto::host::v1 as wire;
use proto::host::v1::storage_service_client::StorageServiceClient;
use proto::host::v1::task_service_client::TaskServiceClient;
use proto::task::v1 as task_wire;
use proto::task::v1::operation::Verb;
use proto::task::v1::{TaskResult, TaskState, TaskStatus};
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(10);
const HOST: &str = "2f1c8a34-7c5e-4d3a-9b16-0f5f0a6d9c01";
const DOMAIN: &str = "6a0f7a52-51a0-4f4f-8f3e-3c1d4b7a9e02";
const IMAGE: &str = "7b1f8b63-62b1-4a50-9f4f-4d2e5c8b0f13";
/// What is copied to [`IMAGE`]: the id of an image and of its volume.
const SOURCE: &str = "8c2a9c74-73c2-4b61-8a5a-5e3f6d9c1a24";

/// Of what is made, in bytes.
const CAPACITY: i64 = 1 << 20;

/// Boundaries of one operation at which it is killed, where not all are asked for.
const SAMPLE: usize = 2;

struct Program {
    child: Child,
    channel: Channel,
}

impl Program {
    async fn start(dir: &Path, kill_at: Option<&str>) -> Self {
        Self::start_with(dir, kill_at, Path::new("qemu-img")).await
    }

    async fn start_with(dir: &Path, kill_at: Option<&str>, qemu_img: &Path) -> Self {
        let address = dir.join("data/address");
        let _ = std::fs::remove_file(&address);
        let mut command = Command::new(env!("CARGO_BIN_EXE_vdsm-svc"));
        command.args(["--listen", "127.0.0.1:0", "--host-id", HOST]);
        command.arg("--data-dir").arg(dir.join("data"));
        command.arg("--storage-root").arg(dir.join("storage"));
        command.arg("--qemu-img").arg(qemu_img);
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(dir.join("log"));
        command.stderr(log.unwrap()).stdin(Stdio::null());
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

    async fn task(&self, id: &str) -> Option<wire::Task> {
        let request = wire::GetTaskRequest { task_id: id.into() };
        let answer = TaskServiceClient::new(self.channel.clone())
            .get_task(request)
            .await;
        answer.ok()?.into_inner().task
    }

    /// The task when it is over; none if the program dies first.
    async fn end_of(&mut self, id: &str) -> Option<wire::Task> {
        let begin = Instant::now();
        loop {
            if self.is_dead() {
                return None;
            }
            let task = self.task(id).await;
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

    /// What guests see of the volumes of [`IMAGE`], in bytes each.
    async fn volumes(&self) -> Vec<i64> {
        let request = wire::ListVolumesRequest {
            domain_id: DOMAIN.into(),
            image_id: IMAGE.into(),
            ..Default::default()
        };
        let answer = StorageServiceClient::new(self.channel.clone())
            .list_volumes(request)
            .await;
        let volumes = answer.map_or_else(|_| Vec::new(), |answer| answer.into_inner().volumes);
        volumes.iter().map(|volume| volume.capacity_bytes).collect()
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

fn create(image: &str) -> Verb {
    Verb::CreateVolume(task_wire::CreateVolume {
        domain_id: DOMAIN.into(),
        image_id: image.into(),
        volume_id: image.into(),
        capacity_bytes: CAPACITY,
        format: task_wire::VolumeFormat::Raw.into(),
        allocation: task_wire::Allocation::Preallocated.into(),
        description: String::new(),
    })
}

fn copy() -> Verb {
    let address = |id: &str| {
        Some(task_wire::VolumeAddress {
            domain_id: DOMAIN.into(),
            image_id: id.into(),
            volume_id: id.into(),
        })
    };
    Verb::CopyVolume(task_wire::CopyVolume {
        source: address(SOURCE),
        target: address(IMAGE),
        format: task_wire::VolumeFormat::Cow.into(),
        allocation: task_wire::Allocation::Preallocated.into(),
        description: String::new(),
        verify: true,
    })
}

fn extend() -> Verb {
    Verb::ExtendVolume(task_wire::ExtendVolume {
        volume: Some(task_wire::VolumeAddress {
            domain_id: DOMAIN.into(),
            image_id: IMAGE.into(),
            volume_id: IMAGE.into(),
        }),
        capacity_bytes: 2 * CAPACITY,
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

/// Those of the points that are tried.
fn chosen(points: Vec<String>) -> Vec<String> {
    if std::env::var("KILLS").is_ok_and(|kills| kills == "all") {
        return points;
    }
    let given = std::env::var("SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = given.unwrap_or_else(|| Uuid::new_v4().as_u64_pair().0);
    eprintln!("SEED={seed}");
    let lot = |point: &String| {
        let mut hasher = DefaultHasher::new();
        (seed, point).hash(&mut hasher);
        hasher.finish()
    };
    let mut verbs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for point in points.into_iter().filter(|point| comes_by_itself(point)) {
        let verb = point.split('.').next().unwrap_or_default().to_owned();
        verbs.entry(verb).or_default().push(point);
    }
    let samples = verbs.into_values().flat_map(|mut points| {
        points.sort_by_key(lot);
        points.truncate(SAMPLE);
        points
    });
    samples.collect()
}

/// Undo steps and those of carrying forward are reached only after another kill or a failure.
fn comes_by_itself(point: &str) -> bool {
    !point.contains(".undo_") && !point.contains(".forward_")
}

/// What is done to [`IMAGE`].
struct Plan {
    first: Vec<Verb>,
    verb: Verb,
    /// The volumes before the verb and after it, by their capacities.
    before: &'static [i64],
    after: &'static [i64],
}

/// What is done to [`IMAGE`] at a fail point.
fn plan(point: &str) -> Plan {
    let of = |first, verb, before, after| Plan {
        first,
        verb,
        before,
        after,
    };
    match point.split('.').next().unwrap() {
        "create_volume" => of(vec![], create(IMAGE), &[], &[CAPACITY]),
        "copy_volume" => of(vec![create(SOURCE)], copy(), &[], &[CAPACITY]),
        "delete_image" => of(vec![create(IMAGE)], delete(), &[CAPACITY], &[]),
        "extend_volume" => of(vec![create(IMAGE)], extend(), &[CAPACITY], &[2 * CAPACITY]),
        verb => panic!("{verb} is not tried"),
    }
}

#[tokio::test]
async fn a_kill_at_any_step_leaves_a_task_that_ends_and_storage_that_agrees() {
    let points = points();
    assert!(points.len() > 20, "{points:?}");
    let points = chosen(points);
    let mut not_reached = Vec::new();
    for point in &points {
        let dir = tempfile::tempdir().unwrap();
        let plan = plan(point);
        let mut program = Program::start(dir.path(), Some(point)).await;
        program.make_domain().await;
        for verb in plan.first {
            let id = Uuid::new_v4().to_string();
            program.begin(&id, verb).await;
            let task = program.end_of(&id).await.expect("its points are others");
            assert_eq!(task.result(), TaskResult::Success, "{task:?}");
        }
        let id = Uuid::new_v4().to_string();
        program.begin(&id, plan.verb).await;
        if program.end_of(&id).await.is_some() {
            not_reached.push(point);
            continue;
        }
        drop(program);
        let mut program = Program::start(dir.path(), None).await;
        let task = program.end_of(&id).await.expect("nobody kills it now");
        let done = task.result() == TaskResult::Success;
        assert!(
            done || task.result() == TaskResult::CleanSuccess,
            "{point}: {task:?}"
        );
        let expected = if done { plan.after } else { plan.before };
        assert_eq!(program.volumes().await, expected, "{point}: {task:?}");
        if !done {
            assert_eq!(
                task.fault.map(|fault| fault.code).as_deref(),
                Some("INTERRUPTED"),
                "{point}"
            );
        }
    }
    not_reached.retain(|point| comes_by_itself(point));
    assert_eq!(not_reached, Vec::<&String>::new());
}

/// What a process has written so far, in bytes.
fn written_by(pid: u32) -> Option<u64> {
    let io = std::fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    let line = io.lines().find_map(|line| line.strip_prefix("wchar: "))?;
    line.parse().ok()
}

/// The process that copies outlives the service; the next start ends it before anything is undone.
#[tokio::test]
async fn a_kill_in_the_middle_of_a_copy_leaves_nothing_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let slow = dir.path().join("qemu-img");
    let script =
        "#!/bin/sh\n[ \"$1\" = convert ] && shift && set -- convert -r 1M \"$@\"\nexec qemu-img \"$@\"\n";
    std::fs::write(&slow, script).unwrap();
    // The storage's user must find it.
    for path in [&slow, dir.path()] {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    // A process that another test is just starting has it open for writing until it has become its program.
    let runs = async || Command::new(&slow).arg("--version").output().ok();
    eventually("the program can be run", runs).await;
    let mut program = Program::start_with(dir.path(), None, &slow).await;
    program.make_domain().await;
    let (made, copied) = (Uuid::new_v4().to_string(), Uuid::new_v4().to_string());
    let Verb::CreateVolume(mut create) = create(SOURCE) else {
        unreachable!()
    };
    create.capacity_bytes = 32 << 20;
    program.begin(&made, Verb::CreateVolume(create)).await;
    program.end_of(&made).await.unwrap();
    let images = dir.path().join("storage").join(DOMAIN).join("images");
    let source = images.join(SOURCE).join(SOURCE);
    std::fs::write(&source, vec![7; 32 << 20]).unwrap();
    program.begin(&copied, copy()).await;
    let child = eventually("the copying process", async || {
        let record = dir.path().join("data/run").join(&copied).join("child");
        let text = std::fs::read_to_string(record).ok()?;
        let pid: u32 = text.split(' ').next()?.parse().ok()?;
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        // Before that it may not have opened the source yet, which is the service's own open file.
        let has_copied = written_by(pid)? > 64 << 10;
        (has_copied && line.contains("convert\0") && line.starts_with("qemu-img")).then_some(pid)
    })
    .await;
    program.child.kill().unwrap();
    program.child.wait().unwrap();
    let alive =
        || std::fs::read_to_string(format!("/proc/{child}/cmdline")).is_ok_and(|line| !line.is_empty());
    assert!(alive(), "it ended with the service");

    let mut program = Program::start_with(dir.path(), None, &slow).await;
    let task = program.end_of(&copied).await.expect("nobody kills it now");
    assert_eq!(task.result(), TaskResult::CleanSuccess, "{task:?}");
    assert_eq!(task.fault.unwrap().code, "INTERRUPTED");
    assert!(!alive(), "it is left");
    assert!(!images.join(IMAGE).exists());
    assert!(std::fs::read(&source).unwrap() == vec![7; 32 << 20]);
}

#[tokio::test]
async fn an_undo_waits_for_another_writer_of_its_domain() {
    let dir = tempfile::tempdir().unwrap();
    let mut program = Program::start(dir.path(), Some("create_volume.create_file.after")).await;
    program.make_domain().await;
    let id = Uuid::new_v4().to_string();
    program.begin(&id, create(IMAGE)).await;
    assert!(program.end_of(&id).await.is_none(), "it did not die");
    let writer = dir
        .path()
        .join("storage")
        .join(DOMAIN)
        .join("dom_md/.vdsm-svc-writer");
    let writer = std::fs::File::options().write(true).open(writer).unwrap();
    writer.lock().unwrap();
    let mut program = Program::start(dir.path(), None).await;
    eventually("the undo to wait", async || {
        let log = std::fs::read_to_string(dir.path().join("log")).ok()?;
        log.contains("undo postponed").then_some(())
    })
    .await;
    let waiting = program.task(&id).await.unwrap();
    assert_eq!(waiting.state(), TaskState::Recovering, "{waiting:?}");
    writer.unlock().unwrap();
    let task = program.end_of(&id).await.expect("nobody kills it now");
    assert_eq!(task.state(), TaskState::Recovered, "{task:?}");
    assert_eq!(program.volumes().await, Vec::<i64>::new());
}
