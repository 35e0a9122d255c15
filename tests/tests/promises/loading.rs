//! A host that still loads its tasks says so, and nothing is concluded from tasks that it does not show yet.

use std::net::{IpAddr, SocketAddr};

use proto::engine::v1::{AsyncTask, CommandState, GetHostRequest, host::Connection};
use proto::host::v1::*;
use tests::audit::{self, Place};
use tests::client::{Host, Refusal};
use tests::fail_point::{Boundary, FailPoints};
use tests::failure::{Context as _, Failure, TestResult, ensure};
use tests::ids::{fresh, fresh_loopback};
use tests::loop_mount::{FileSystem, LoopMount, NoMount};
use tests::patience::eventually;
use tests::service::{Recipe, Service};
use tests::watch::{HostTasks, Selection, Start, Watch, Watchers};
use tests::world::host_recipe;
use tests::{World, requests, words};
use tonic::{Code, Status};

/// The point at which the task is interrupted that the next start is to find.
const CUT: &str = "create_volume.place_file.after";

/// The host's storage hangs from before its start. So the host loads for as long as the test wants, because it first
/// removes leftovers of orphans there.
#[tokio::test(flavor = "multi_thread")]
async fn while_a_host_loads_it_answers_so_and_its_tasks_stay_as_they_were() -> TestResult<()> {
    let mut mount = match LoopMount::make(FileSystem::Ext4) {
        Ok(mount) => mount,
        Err(NoMount::Skip(why)) => {
            crate::skipped("a host that loads for long", &why);
            return Ok(());
        }
        Err(NoMount::Failed(failure)) => return Err(failure),
    };
    let world = World::start_as(&[], &["--heartbeat-ms", "500"]).await?;
    let (mut service, place) = host_on(&world, &mount).await?;
    let engine = &world.client;
    let added = requests::add_host(&place.host_id, "loading", service.address());
    let added = engine.ask_add_host(&added).await?;
    engine.succeeds(&added).await?;
    let domain = requests::create_domain(&place.host_id, "data");
    let made = engine.ask_create_domain(&domain).await?;
    engine.succeeds(&made).await?;
    let watchers = Watchers::start(engine, &place.host);
    let disk = requests::create_disk(&domain.domain_id, requests::KINDS[2]);
    let created = engine.ask_create_disk(&disk).await?;
    service.killed_itself().await?;
    engine.sees_host(&place.host_id, Connection::Away).await?;
    // The engine heard this before it saw that the host is away, and takes its time to record it.
    let before = eventually("the task to be recorded as running", || async {
        let task = task_of(&world, &created).await.ok()?;
        (words::task_state(task.state) == "RUNNING").then_some(task)
    })
    .await?;

    let stranger = place.storage_root.join(".vdsm-run").join(fresh());
    std::fs::create_dir_all(&stranger)?;
    std::fs::write(stranger.join("lock"), b"")?;
    mount.freeze()?;
    service.spawn(&FailPoints::default())?;
    let hung = async {
        service.bound().await?.context("the host ended")?;
        refuses_everything(&place.host).await?;
        waits(&world, &place, &created, &before).await
    };
    let hung = hung.await;
    mount.thaw()?;
    hung?;
    engine.succeeds(&created).await?;
    ensure(!stranger.exists(), || {
        "it did not hang where it was meant to".to_owned()
    })?;
    let mut view = world.view();
    view.places = vec![place];
    audit::all_is_well(&view, &watchers).await?;
    service.stop().await
}

/// A host whose storage is on the mount and whose data directory is not. It will die during its first creation.
async fn host_on(world: &World, mount: &LoopMount) -> TestResult<(Service, Place)> {
    let listen = SocketAddr::new(IpAddr::V4(fresh_loopback()), 0);
    let host_id = fresh();
    let folder = world.folder().join("loading");
    std::fs::create_dir(&folder)?;
    let storage_root = mount.path().join("storage");
    let mut recipe: Recipe = host_recipe(&mount.path(), listen, &host_id)?;
    recipe.data_dir = folder.join("host");
    recipe.log = folder.join("host.log");
    let mut service = Service::new(recipe);
    let boundary = Boundary {
        point: CUT.to_owned(),
        hit: 1,
    };
    let dies = FailPoints {
        kill: Some(boundary),
        ..FailPoints::default()
    };
    let host = Host::at(service.start(&dies).await?)?;
    let place = Place {
        host_id,
        host,
        storage_root,
    };
    Ok((service, place))
}

/// Checks that every RPC is refused with `LOADING`, which may be repeated and is no verdict.
async fn refuses_everything(host: &Host) -> TestResult<()> {
    let (mut tasks, mut storage) = (host.tasks.clone(), host.storage.clone());
    let id = fresh;
    let verb = proto::task::v1::operation::Verb::DeleteImage(requests::delete_image(&id(), &id()));
    macro_rules! refused {
        ($($client:ident.$rpc:ident($request:expr);)*) => {$(
            is_loading(stringify!($rpc), $client.$rpc($request).await.err())?;
        )*};
    }
    let mut hosts = host.host.clone();
    refused! {
        hosts.get_host_info(GetHostInfoRequest::default());
        tasks.start_task(requests::start_task(verb));
        tasks.get_task(GetTaskRequest { task_id: id() });
        tasks.list_tasks(ListTasksRequest::default());
        tasks.abort_task(AbortTaskRequest { task_id: id() });
        tasks.clear_task(ClearTaskRequest { task_id: id() });
        storage.list_storage_domains(ListStorageDomainsRequest::default());
    }
    let watch = HostTasks::open(host.channel.clone(), Start::Snapshot, &Selection::default()).await;
    is_loading("watch_tasks", watch.err())
}

fn is_loading(rpc: &str, status: Option<Status>) -> TestResult<()> {
    let status = status.context(format!("{rpc} was answered"))?;
    let refusal = Refusal::from(&status);
    let expected = (refusal.code, refusal.reason.as_str()) == (Code::Unavailable, "LOADING");
    let no_verdict = refusal.fault.repeat_may_help && !refusal.fault.final_verdict;
    ensure(expected && no_verdict, || format!("{rpc}: {refusal:?}"))
}

/// Checks that the engine says why the host is away, keeps what it knows of the task, and lets the command wait.
async fn waits(world: &World, place: &Place, created: &str, before: &AsyncTask) -> TestResult<()> {
    eventually("the engine to see that the host loads", || async {
        let request = GetHostRequest {
            host_id: place.host_id.clone(),
        };
        let answer = world.client.hosts.clone().get_host(request).await.ok()?;
        let host = answer.into_inner().host?;
        let away = host.connection == i32::from(Connection::Away);
        (away && host.connection_fault?.code == "LOADING").then_some(())
    })
    .await?;
    let command = world.client.waits_for_host(created, &place.host_id).await?;
    ensure(command.state == i32::from(CommandState::Active), || {
        format!("{command:#?}")
    })?;
    let after = task_of(world, created).await?;
    ensure(
        (after.state, after.sequence) == (before.state, before.sequence),
        || format!("{before:#?} became {after:#?}"),
    )
}

async fn task_of(world: &World, root: &str) -> TestResult<AsyncTask> {
    let request = proto::engine::v1::ListTasksRequest::default();
    let answer = world.client.tasks.clone().list_tasks(request).await?;
    let task = answer
        .into_inner()
        .tasks
        .into_iter()
        .find(|task| task.root_command_id == root);
    task.ok_or_else(|| Failure::new("the command has no task"))
}
