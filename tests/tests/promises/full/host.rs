//! A host's data directory.

use std::collections::HashMap;
use std::future::ready;

use proto::host::v1::{AbortTaskRequest, GetTaskRequest, ListTasksRequest, StartTaskRequest, Task};
use proto::task::v1::Noop;
use proto::task::v1::operation::Verb;
use tests::fail_point::FailPoints;
use tests::failure::{Context as _, Failure, TestResult, ensure};
use tests::ids::fresh;
use tests::lone_host::LoneHost;
use tests::loop_mount::FileSystem;
use tests::patience::{eventually, persist};
use tests::small_disk::SmallDisk;
use tests::watch::{HostTasks, Recorder, violations};
use tests::{requests, storage, words};
use tokio::task::JoinSet;
use tonic::Code;

use super::{Said, says_what_it_lacks, small_disk};

/// More tasks than fit into the log and into the room that the database still has when the disk is full.
const MOST: usize = 400_000;

/// The number of answers of unknown outcome to reach: the file system and the database may find room for one more
/// commit between two of them.
const UNKNOWN: usize = 30;

/// The maximum that a list returns at once.
const PAGE: i32 = 1_000;

/// The number of calls in flight if there are thousands.
const AT_ONCE: usize = 64;

/// One task in this many works on storage.
const WORK: usize = 16;

struct Bench {
    host: LoneHost,
    disk: SmallDisk,
    domain_id: String,
    /// Tasks that were accepted.
    accepted: Vec<StartTaskRequest>,
    /// Ids whose abort was answered.
    aborted: Vec<String>,
    _folder: tempfile::TempDir,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_disk_is_full_keeps_its_word_and_goes_on_by_itself() -> TestResult<()> {
    keeps_its_word(FileSystem::Ext4).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_disk_is_full_keeps_its_word_on_xfs_too() -> TestResult<()> {
    keeps_its_word(FileSystem::Xfs).await
}

async fn keeps_its_word(kind: FileSystem) -> TestResult<()> {
    let Some(mut bench) = Bench::start(kind).await? else {
        return Ok(());
    };
    let watcher = Recorder::start::<HostTasks>(bench.host.client.channel.clone());
    let refused = bench.start_tasks_until_refused().await?;
    bench.reads_go_on(&refused).await?;
    bench.all_ended_well().await?;

    bench.host.service.kill().await?;
    bench.host.service.start(&FailPoints::default()).await?;
    bench.host.serves().await?;
    bench.reads_go_on(&refused).await?;
    bench.all_ended_well().await?;

    let process = bench.host.service.pid();
    bench.disk.make_room()?;
    bench.takes_again(&refused).await?;
    bench.all_ended_well().await?;
    ensure(bench.host.service.pid() == process, || {
        "it did not go on by itself".to_owned()
    })?;
    bench.everything_told_is_kept(&watcher).await?;
    bench.host.service.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_has_used_up_even_what_was_held_back_loses_nothing() -> TestResult<()> {
    loses_nothing(FileSystem::Ext4).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_has_used_up_even_what_was_held_back_loses_nothing_on_xfs() -> TestResult<()> {
    loses_nothing(FileSystem::Xfs).await
}

async fn loses_nothing(kind: FileSystem) -> TestResult<()> {
    let Some(mut bench) = Bench::start(kind).await? else {
        return Ok(());
    };
    let watcher = Recorder::start::<HostTasks>(bench.host.client.channel.clone());
    let refused = bench.start_tasks_until_refused().await?;
    bench.all_ended_well().await?;
    bench.abort_until_nothing_is_known().await?;
    let said = bench.try_start(&refused).await?;
    ensure(said.is_some(), || "it was accepted without any room".to_owned())?;

    let process = bench.host.service.pid();
    bench.disk.make_room()?;
    bench.takes_again(&refused).await?;
    bench.all_ended_well().await?;
    ensure(bench.host.service.pid() == process, || {
        "it did not go on by itself".to_owned()
    })?;

    bench.disk.fill()?;
    bench.abort_until_nothing_is_known().await?;
    bench.host.service.kill().await?;
    bench.host.service.spawn(&FailPoints::default())?;
    if bench.host.service.bound().await?.is_none() {
        says_what_it_lacks(&bench.host.service)?;
    }
    bench.host.service.kill().await?;
    bench.disk.make_room()?;
    bench.host.service.start(&FailPoints::default()).await?;
    bench.host.serves().await?;
    bench.all_ended_well().await?;
    bench.everything_told_is_kept(&watcher).await?;
    bench.host.service.stop().await
}

impl Bench {
    async fn start(kind: FileSystem) -> TestResult<Option<Self>> {
        let folder = tempfile::tempdir()?;
        let mut host = LoneHost::start_with(folder.path(), &["--queue-limit", "1000000"]).await?;
        let domain_id = host.client.create_domain().await?;
        host.service.stop().await?;
        let Some(disk) = small_disk(&mut host.service, kind)? else {
            return Ok(None);
        };
        host.service.start(&FailPoints::default()).await?;
        host.serves().await?;
        Ok(Some(Self {
            host,
            disk,
            domain_id,
            accepted: Vec::new(),
            aborted: Vec::new(),
            _folder: folder,
        }))
    }

    async fn try_start(&self, request: &StartTaskRequest) -> TestResult<Option<Said>> {
        match self.host.client.tasks.clone().start_task(request.clone()).await {
            Ok(_) => Ok(None),
            Err(status) => Said::of(&status).map(Some),
        }
    }

    /// There is room again, and some of it is held back again.
    async fn takes_again(&mut self, refused: &StartTaskRequest) -> TestResult<()> {
        let again = persist(|| {
            let (mut tasks, request) = (self.host.client.tasks.clone(), refused.clone());
            async move { tasks.start_task(request).await }
        });
        again.await.context("there is room again")?;
        self.accepted.push(refused.clone());
        ensure(self.holds_room_back(), || {
            "it takes work, and holds nothing back".to_owned()
        })
    }

    fn holds_room_back(&self) -> bool {
        self.host.service.recipe().data_dir.join("reserve").exists()
    }

    /// Fills the disk under tasks at work; returns the task that is refused.
    async fn start_tasks_until_refused(&mut self) -> TestResult<StartTaskRequest> {
        for n in 0..MOST {
            let verb = match n % WORK {
                0 => Verb::CreateVolume(requests::create_volume(
                    &self.domain_id,
                    requests::KINDS[n / WORK % 4],
                )),
                _ => Verb::Noop(Noop {}),
            };
            let request = requests::start_task(verb);
            if n == WORK {
                self.disk.fill()?;
            }
            match self.try_start(&request).await? {
                None => self.accepted.push(request),
                Some(Said::Full) => {
                    eprintln!("{} accepted, then refused", self.accepted.len());
                    return Ok(request);
                }
                // Sent again, the task runs once.
                Some(Said::Unknown) => {
                    let told = eventually("an answer that decides", || async {
                        match self.try_start(&request).await {
                            Ok(Some(Said::Unknown)) => None,
                            decided => Some(decided),
                        }
                    });
                    if told.await??.is_some() {
                        eprintln!("{} accepted, then one was unknown", self.accepted.len());
                        return Ok(request);
                    }
                    self.accepted.push(request);
                }
            }
        }
        Err(Failure::new("the disk is full, and everything is accepted"))
    }

    /// The ends of work are written as long as there is any room: here there is no room for them either, again and
    /// again.
    async fn abort_until_nothing_is_known(&mut self) -> TestResult<()> {
        let mut unknown = 0;
        self.disk.fill()?;
        self.abort_many_until_one_is_unknown().await?;
        for _ in 0..MOST {
            let task_id = fresh();
            let request = AbortTaskRequest {
                task_id: task_id.clone(),
            };
            match self.host.client.tasks.clone().abort_task(request).await {
                Ok(_) => self.aborted.push(task_id),
                Err(status) => {
                    ensure(Said::of(&status)? == Said::Unknown, || format!("{status:?}"))?;
                    unknown += 1;
                    if unknown == UNKNOWN {
                        eprintln!("{} aborts were written", self.aborted.len());
                        return Ok(());
                    }
                    // The host then gives up the room that it held back, and the test takes that room too.
                    self.disk.fill()?;
                }
            }
        }
        Err(Failure::new("there is no room, and everything is written"))
    }

    async fn abort_many_until_one_is_unknown(&mut self) -> TestResult<()> {
        let mut held_back = self.holds_room_back();
        for _ in 0..MOST / AT_ONCE {
            if held_back && !self.holds_room_back() {
                held_back = false;
                // The host has given up that room, and the test takes it.
                self.disk.fill()?;
            }
            let tasks = self.host.client.tasks.clone();
            let said = at_once(std::iter::repeat_with(fresh).take(AT_ONCE), |task_id| {
                let (mut tasks, id) = (tasks.clone(), task_id.clone());
                async move {
                    match tasks.abort_task(AbortTaskRequest { task_id }).await {
                        Ok(_) => Ok(Some(id)),
                        Err(status) if Said::of(&status)? == Said::Unknown => Ok(None),
                        Err(status) => Err(Failure::new(format!("{status:?}"))),
                    }
                }
            });
            let said = said.await?;
            let any_unknown = said.iter().any(Option::is_none);
            self.aborted.extend(said.into_iter().flatten());
            if any_unknown {
                return self.disk.fill();
            }
        }
        Err(Failure::new("there is no room, and everything is written"))
    }

    async fn task(&self, task_id: &str) -> TestResult<Task> {
        let answer = persist(|| {
            let (mut tasks, task_id) = (self.host.client.tasks.clone(), task_id.to_owned());
            async move { tasks.get_task(GetTaskRequest { task_id }).await }
        });
        let answer = answer.await.context(format!("GetTask {task_id}"))?;
        answer.into_inner().task.context("an answer without a task")
    }

    /// All tasks that the host knows, by their ids.
    async fn tasks(&self) -> TestResult<HashMap<String, Task>> {
        let mut found = HashMap::new();
        let mut request = ListTasksRequest {
            show_removed: true,
            page_size: PAGE,
            ..ListTasksRequest::default()
        };
        loop {
            let answer = persist(|| {
                let (mut tasks, request) = (self.host.client.tasks.clone(), request.clone());
                async move { tasks.list_tasks(request).await }
            });
            let page = answer.await.context("ListTasks")?.into_inner();
            found.extend(page.tasks.into_iter().map(|task| (task.task_id.clone(), task)));
            if page.next_page_token.is_empty() {
                return Ok(found);
            }
            request.page_token = page.next_page_token;
        }
    }

    async fn reads_go_on(&self, refused: &StartTaskRequest) -> TestResult<()> {
        for request in &self.accepted {
            self.task(&request.task_id).await?;
        }
        // A repeat is answered, and so is the abort of a task that is over.
        let first = &self.accepted[0];
        self.host.client.ended(&first.task_id).await?;
        ensure(self.try_start(first).await?.is_none(), || {
            "a repeat is refused".to_owned()
        })?;
        let abort = AbortTaskRequest {
            task_id: first.task_id.clone(),
        };
        self.host.client.tasks.clone().abort_task(abort).await?;
        let request = GetTaskRequest {
            task_id: refused.task_id.clone(),
        };
        let unknown = self.host.client.tasks.clone().get_task(request).await;
        ensure(
            unknown
                .as_ref()
                .is_err_and(|status| status.code() == Code::NotFound),
            || format!("a refused task is known: {unknown:?}"),
        )?;
        self.host
            .client
            .tasks
            .clone()
            .list_tasks(ListTasksRequest::default())
            .await?;
        let late = Recorder::start::<HostTasks>(self.host.client.channel.clone());
        eventually("a watch that begins now to be served", || {
            ready(late.record().token().map(|_| ()))
        })
        .await?;
        let found = violations(&late.record());
        ensure(found.is_empty(), || found.join("\n"))
    }

    /// Every answered task is known, and every accepted task was done.
    async fn all_ended_well(&self) -> TestResult<()> {
        for request in &self.accepted {
            let task = self.host.client.ended(&request.task_id).await?;
            ensure(words::task_state(task.state) == "FINISHED", || {
                format!("{task:?}")
            })?;
        }
        let tasks = self.tasks().await?;
        for task_id in &self.aborted {
            let task = tasks.get(task_id);
            let recovered = task.is_some_and(|task| words::task_state(task.state) == "RECOVERED");
            ensure(recovered, || format!("{task_id} was aborted: {task:?}"))?;
        }
        let volumes = self.accepted.iter().filter(|request| {
            let verb = request
                .operation
                .as_ref()
                .and_then(|operation| operation.verb.as_ref());
            matches!(verb, Some(Verb::CreateVolume(_)))
        });
        let (images, wanted) = (
            storage::images(&self.host.storage_root(), &self.domain_id).len(),
            volumes.count(),
        );
        ensure(images == wanted, || {
            format!("{images} images, and {wanted} were asked for")
        })?;
        let runs = storage::run_directories(&self.host.storage_root());
        ensure(runs.is_empty(), || format!("run directories are left: {runs:?}"))
    }

    /// Every announced change is on disk.
    async fn everything_told_is_kept(&self, watcher: &Recorder<Task>) -> TestResult<()> {
        let record = watcher.record().clone();
        let found = violations(&record);
        ensure(found.is_empty(), || found.join("\n"))?;
        let tasks = self.tasks().await?;
        for (task_id, told) in record.latest() {
            let kept = tasks.get(&task_id);
            ensure(kept.is_some_and(|kept| kept.sequence >= told.sequence), || {
                format!("told {told:?}, and kept {kept:?}")
            })?;
        }
        Ok(())
    }
}

/// Does `work` for each item, [`AT_ONCE`] at a time; returns the results in any order.
async fn at_once<T, R, F>(items: impl IntoIterator<Item = T>, work: impl Fn(T) -> F) -> TestResult<Vec<R>>
where
    R: Send + 'static,
    F: Future<Output = TestResult<R>> + Send + 'static,
{
    let (mut items, mut at_work, mut done) = (items.into_iter(), JoinSet::new(), Vec::new());
    loop {
        while at_work.len() < AT_ONCE
            && let Some(item) = items.next()
        {
            at_work.spawn(work(item));
        }
        match at_work.join_next().await {
            Some(ended) => done.push(ended.map_err(Failure::new)??),
            None => return Ok(done),
        }
    }
}
