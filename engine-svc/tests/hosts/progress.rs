//! How far a job is, from the samples of its host.

use common::id::TaskId;
use doubles::memory::Disk as MemoryDisk;
use proto::engine::v1::command_service_client::CommandServiceClient;
use proto::engine::v1::disk_service_client::DiskServiceClient;
use proto::engine::v1::job_service_client::JobServiceClient;
use proto::engine::v1::task_service_client::TaskServiceClient;
use proto::engine::v1::watch_jobs_response::Frame;
use proto::engine::v1::*;
use proto::task::v1::{Allocation, VolumeFormat, WatchStart, watch_start};

use crate::double::Double;
use crate::world::{PATIENCE, World, eventually, host_id};

const CAPACITY: i64 = 1 << 30;

/// A disk is asked for: its command, and its task once that runs.
async fn disk_in_the_making(world: &World, double: &Double) -> (String, TaskId) {
    let request = CreateDiskRequest {
        domain_id: world.domain().await,
        capacity_bytes: CAPACITY,
        format: VolumeFormat::Raw.into(),
        allocation: Allocation::Preallocated.into(),
        ..CreateDiskRequest::default()
    };
    let mut disks = DiskServiceClient::new(world.channel.clone());
    let newest = || double.truth().history.last().map(|task| task.task_id.clone());
    let before = newest();
    let accepted = disks.create_disk(request).await.unwrap().into_inner();
    let task_id = eventually("the host to hear of the task", || async {
        newest().filter(|task_id| before.as_ref() != Some(task_id))
    });
    let task_id = task_id.await.parse().unwrap();
    for _ in 0..3 {
        double.advance(task_id);
    }
    (accepted.command.unwrap().command_id, task_id)
}

async fn job(world: &World, job_id: &str) -> Job {
    let mut jobs = JobServiceClient::new(world.channel.clone());
    let request = GetJobRequest {
        job_id: job_id.to_owned(),
    };
    jobs.get_job(request).await.unwrap().into_inner().job.unwrap()
}

async fn is_at(world: &World, job_id: &str, percent: f64) -> Job {
    eventually(&format!("the job at {percent} %"), || async {
        let job = job(world, job_id).await;
        (job.percent == percent).then_some(job)
    })
    .await
}

#[tokio::test]
async fn a_job_is_as_far_as_its_host_says_in_bytes_of_its_disks_and_never_goes_back() {
    let (double, address) = Double::start(host_id());
    let world = World::start(&MemoryDisk::new()).await;
    world.follow(address).await;
    let (job_id, task_id) = disk_in_the_making(&world, &double).await;
    assert_eq!(job(&world, &job_id).await.percent, 0.0);
    double.report(task_id, 25, 100);
    let quarter = is_at(&world, &job_id, 25.0).await;
    assert_eq!(
        (quarter.done_bytes, quarter.total_bytes),
        (CAPACITY / 4, CAPACITY)
    );
    let of = |kind: StepKind| quarter.steps.iter().find(|step| step.kind() == kind).unwrap();
    for kind in [StepKind::Executing, StepKind::Command, StepKind::Task] {
        let step = of(kind);
        assert_eq!(
            (step.percent, step.done_bytes, step.total_bytes),
            (25.0, CAPACITY / 4, CAPACITY)
        );
    }
    // As after a restart of the host: it counts anew.
    double.report(task_id, 10, 100);
    double.report(task_id, 50, 100);
    is_at(&world, &job_id, 50.0).await;
    double.report(task_id, 10, 100);
    double.advance(task_id);
    let done = is_at(&world, &job_id, 100.0).await;
    assert_eq!(
        (done.done_bytes, done.state()),
        (CAPACITY, CommandState::Succeeded)
    );
    world.stop().await;
}

#[tokio::test]
async fn who_watches_jobs_with_progress_gets_the_samples_of_their_tasks() {
    let (double, address) = Double::start(host_id());
    let world = World::start(&MemoryDisk::new()).await;
    world.follow(address).await;
    let (job_id, task_id) = disk_in_the_making(&world, &double).await;
    let watch = |job_ids: Vec<String>| WatchJobsRequest {
        filter: Some(watch_jobs_request::Filter {
            job_ids,
            ..watch_jobs_request::Filter::default()
        }),
        start: Some(WatchStart {
            start: Some(watch_start::Start::Now(())),
        }),
        include_progress: true,
        ..WatchJobsRequest::default()
    };
    let mut jobs = JobServiceClient::new(world.channel.clone());
    let mut stream = jobs.watch_jobs(watch(vec![job_id])).await.unwrap().into_inner();
    double.report(task_id, 25, 100);
    let samples = async {
        loop {
            if let Some(Frame::Progress(samples)) = stream.message().await.unwrap().unwrap().frame {
                break samples.items;
            }
        }
    };
    let samples = tokio::time::timeout(PATIENCE, samples).await.expect("samples");
    let seen: Vec<_> = samples.iter().map(|s| (s.task_id.clone(), s.percent)).collect();
    assert_eq!(seen, [(task_id.to_string(), 25.0)]);
    world.stop().await;
}

/// Every sample that a watch from now gets until a change comes.
async fn samples_before_a_change(world: &World, change: impl Future<Output = ()>) -> Vec<String> {
    let mut tasks = TaskServiceClient::new(world.channel.clone());
    let request = WatchTasksRequest {
        start: Some(WatchStart {
            start: Some(watch_start::Start::Now(())),
        }),
        include_progress: true,
        ..WatchTasksRequest::default()
    };
    let mut stream = tasks.watch_tasks(request).await.unwrap().into_inner();
    let opened = stream.message().await.unwrap().unwrap().frame;
    assert!(matches!(opened, Some(watch_tasks_response::Frame::Opened(_))));
    change.await;
    let mut seen = Vec::new();
    let until = async {
        loop {
            match stream.message().await.unwrap().unwrap().frame {
                Some(watch_tasks_response::Frame::Progress(samples)) => {
                    seen.extend(samples.items.into_iter().map(|sample| sample.task_id));
                }
                Some(watch_tasks_response::Frame::Changes(_)) => break,
                _ => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, until).await.expect("a change");
    seen
}

#[tokio::test]
async fn no_sample_of_a_task_comes_after_its_end() {
    let (double, address) = Double::start(host_id());
    let world = World::start(&MemoryDisk::new()).await;
    world.follow(address).await;
    let (job_id, task_id) = disk_in_the_making(&world, &double).await;
    double.report(task_id, 50, 100);
    is_at(&world, &job_id, 50.0).await;
    double.advance(task_id);
    let command = world.wait(&job_id).await;
    assert_eq!(command.state(), CommandState::Succeeded);
    // One that was late, and then something else.
    let later = async {
        double.report(task_id, 60, 100);
        let (next, task_id) = disk_in_the_making(&world, &double).await;
        double.report(task_id, 25, 100);
        is_at(&world, &next, 25.0).await;
        double.advance(task_id);
    };
    let seen = samples_before_a_change(&world, later).await;
    assert!(!seen.contains(&task_id.to_string()), "{seen:?}");
    world.stop().await;
}

#[tokio::test]
async fn a_command_says_whether_it_can_be_stopped_and_what_would_be_undone() {
    let (double, address) = Double::start(host_id());
    let world = World::start(&MemoryDisk::new()).await;
    world.follow(address).await;
    double.truth().stoppable = Some("remove the new volume".to_owned());
    let (command_id, task_id) = disk_in_the_making(&world, &double).await;
    let get = || async {
        let mut commands = CommandServiceClient::new(world.channel.clone());
        let command_id = command_id.clone();
        let got = commands
            .get_command(GetCommandRequest { command_id })
            .await
            .unwrap();
        got.into_inner().command.unwrap()
    };
    eventually("the host's words to be shown", || async {
        let command = get().await;
        (command.cancelable && command.undo == "remove the new volume").then_some(())
    })
    .await;
    double.truth().stoppable = None;
    double.advance(task_id);
    let command = world.wait(&command_id).await;
    assert_eq!(command.state(), CommandState::Succeeded);
    let command = get().await;
    assert!(!command.cancelable && command.undo.is_empty(), "{command:#?}");
    world.stop().await;
}
