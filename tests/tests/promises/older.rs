//! A host's data directory is restored from an older copy: everything that the host reported and no longer knows is
//! lost memory. Every command for which it was at work is decided by what storage shows, and ends, or rests with a
//! way out.

use proto::engine::v1::{
    AbandonCommandRequest, Command, CommandState, GetDiskRequest, ListEventsRequest, RetryCommandRequest,
    disk_observation::Presence, host::Connection, list_events_request,
};
use tempfile::TempDir;
use tests::audit::{Records, assert_no_locks, assert_storage_agrees, at_rest};
use tests::fail_point::{Boundary, FailPoints};
use tests::failure::{TestResult, ensure};
use tests::gate::Gate;
use tests::patience::eventually;
use tests::service::Service;
use tests::watch::EngineWatchers;
use tests::{World, requests, storage, words};

/// Points of a creation at which the host dies before it is restored: nothing done, half done, done but not reported.
const OF_A_CREATION: [&str; 4] = [
    "create_volume.note_intent.before",
    "create_volume.make_image.after",
    "create_volume.place_file.after",
    "create_volume.write_meta.after",
];

/// Each task of a command may need a retry of its own.
const RETRIES: usize = 4;

/// The same for a removal.
const OF_A_REMOVAL: [&str; 3] = [
    "delete_image.note_intent.before",
    "delete_image.set_aside.after",
    "delete_image.note_done.before",
];

/// A copy of a service's data directory at one moment.
struct Older {
    folder: TempDir,
}

impl Older {
    /// Copies the directory of a running service, as a snapshot of its file system would.
    fn copy(service: &Service) -> TestResult<Self> {
        let folder = tempfile::Builder::new().prefix("older-").tempdir()?;
        service.signal(rustix::process::Signal::STOP)?;
        let copied = storage::copy_data_dir(&service.recipe().data_dir, &folder.path().join("copy"));
        service.signal(rustix::process::Signal::CONT)?;
        copied?;
        Ok(Self { folder })
    }

    /// The same for a world's host.
    fn of(world: &World) -> TestResult<Self> {
        Self::copy(&world.host)
    }

    fn replace(&self, service: &Service) -> TestResult<()> {
        let place = &service.recipe().data_dir;
        std::fs::remove_dir_all(place)?;
        storage::copy_data_dir(&self.folder.path().join("copy"), place)
    }

    /// Kills the host, replaces its directory by the copy, and starts it again.
    async fn put_back(&self, world: &mut World) -> TestResult<()> {
        world.kill_host().await?;
        self.replace(&world.host)?;
        world.restart_host().await?;
        world.host_is(Connection::Connected).await
    }

    /// The same for the engine.
    async fn put_back_engine(&self, world: &mut World) -> TestResult<()> {
        world.kill_engine().await?;
        self.replace(&world.engine)?;
        world.restart_engine().await?;
        world.host_is(Connection::Connected).await
    }
}

/// Waits for the end of a command; a command that rests is retried, and abandoned if that does not help.
async fn ended(world: &World, command_id: &str) -> TestResult<Command> {
    let mut command = world.settled(command_id).await?;
    for _ in 0..RETRIES {
        if words::command_is_over(command.state) {
            return Ok(command);
        }
        let request = RetryCommandRequest {
            command_id: command_id.to_owned(),
        };
        world.client.commands.clone().retry_command(request).await?;
        command = world.settled(command_id).await?;
    }
    // Refused as long as another task of the command may still run.
    eventually("the command to be over or abandoned", || async {
        let request = AbandonCommandRequest {
            command_id: command_id.to_owned(),
            reason: "nothing else helps".to_owned(),
        };
        let _ = world.client.commands.clone().abandon_command(request).await;
        let command = world.settled(command_id).await.ok()?;
        words::command_is_over(command.state).then_some(command)
    })
    .await
}

/// Checks that records, storage and what watchers of the engine were told agree.
async fn honest(world: &World, watchers: &EngineWatchers) -> TestResult<Records> {
    let records = at_rest(&world.view()).await?;
    assert_no_locks(&records)?;
    assert_storage_agrees(&world.view(), &records)?;
    let broken = watchers.violations();
    ensure(broken.is_empty(), || broken.join("\n"))?;
    Ok(records)
}

async fn doomed(world: &mut World, point: &str) -> TestResult<()> {
    world.host.stop().await?;
    let boundary = Boundary {
        point: point.to_owned(),
        hit: 1,
    };
    world.host.start(&FailPoints::killing(&boundary)).await?;
    world.host_serves().await?;
    world.host_is(Connection::Connected).await
}

/// Prints what a person sees of the command.
fn tell(what: &str, command: &Command) {
    let fault = command.fault.as_ref().map(|fault| fault.code.as_str());
    eprintln!("{what}: {} {fault:?}", words::command_state(command.state));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_whose_host_is_put_back_before_it_ends_by_what_storage_shows() -> TestResult<()> {
    let (mut world, domain) = World::furnished().await?;
    let watchers = EngineWatchers::start(&world.client);
    for point in OF_A_CREATION {
        for is_cancelled in [false, true] {
            let older = Older::of(&world)?;
            doomed(&mut world, point).await?;
            let vm = requests::create_vm(&format!("{point} {is_cancelled}"), requests::four_disks(&domain));
            let created = world.create_vm(&vm).await?;
            world.host.killed_itself().await?;
            if is_cancelled {
                world.client.ask_cancel(&created).await?;
            }
            older.put_back(&mut world).await?;
            let command = ended(&world, &created).await?;
            tell(&format!("{point}, cancelled {is_cancelled}"), &command);
            let records = honest(&world, &watchers).await?;
            let succeeded = command.state == i32::from(CommandState::Succeeded);
            let exists = records.vms.iter().any(|known| known.vm_id == vm.vm_id);
            ensure(exists == succeeded, || format!("{point}: {command:#?}"))?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_whose_host_is_put_back_before_it_ends_by_what_storage_shows() -> TestResult<()> {
    let (mut world, domain) = World::furnished().await?;
    let watchers = EngineWatchers::start(&world.client);
    for point in OF_A_REMOVAL {
        for is_cancelled in [false, true] {
            let vm = requests::create_vm(&format!("{point} {is_cancelled}"), requests::four_disks(&domain));
            world.succeeds(&world.create_vm(&vm).await?).await?;
            let older = Older::of(&world)?;
            doomed(&mut world, point).await?;
            let removed = world.remove_vm(&requests::remove_vm(&vm.vm_id)).await?;
            world.host.killed_itself().await?;
            if is_cancelled {
                world.client.ask_cancel(&removed).await?;
            }
            older.put_back(&mut world).await?;
            let command = ended(&world, &removed).await?;
            tell(&format!("{point}, cancelled {is_cancelled}"), &command);
            honest(&world, &watchers).await?;
        }
    }
    Ok(())
}

/// The moment of a disk's creation at which the copy is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Age {
    Before,
    Running,
    Ended,
}

/// The moment at which the copy is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// While the task works.
    Running,
    /// While the task works and is to be stopped.
    Stopping,
    /// After the task has succeeded and was cleared.
    Ended,
    /// After the disk was removed again.
    Removed,
}

const HISTORIES: [(Age, Moment); 9] = [
    (Age::Before, Moment::Running),
    (Age::Before, Moment::Stopping),
    (Age::Before, Moment::Ended),
    (Age::Before, Moment::Removed),
    (Age::Running, Moment::Stopping),
    (Age::Running, Moment::Ended),
    (Age::Running, Moment::Removed),
    (Age::Ended, Moment::Ended),
    (Age::Ended, Moment::Removed),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_any_age_that_is_put_back_at_any_moment_leaves_nothing_unnamed() -> TestResult<()> {
    let gate = Gate::open().await?;
    let program = gate.program();
    let mut world = World::start_with(&["--qemu-img", &program]).await?;
    let domain = world.furnish().await?;
    let watchers = EngineWatchers::start(&world.client);
    for (age, moment) in HISTORIES {
        let before = records_of_the_past(&world).await?;
        let mut older = Older::of(&world)?;
        gate.shut("create")?;
        let disk = requests::create_disk(&domain, requests::KINDS[2]);
        let made = world.client.ask_create_disk(&disk).await?;
        gate.reached().await?;
        runs(&world, &made).await?;
        if age == Age::Running {
            older = Older::of(&world)?;
        }
        if matches!(moment, Moment::Ended | Moment::Removed) {
            gate.reopen()?;
            world.succeeds(&made).await?;
            at_rest(&world.view()).await?;
            if age == Age::Ended {
                older = Older::of(&world)?;
            }
        }
        if moment == Moment::Removed {
            let removed = world
                .client
                .ask_remove_disk(&requests::remove_disk(&disk.disk_id))
                .await?;
            world.succeeds(&removed).await?;
            at_rest(&world.view()).await?;
        }
        let known = records_of_the_past(&world).await?;
        world.kill_host().await?;
        if matches!(moment, Moment::Running | Moment::Stopping) {
            // A process that worked there ends by itself, after its host.
            gate.reopen()?;
        }
        if moment == Moment::Stopping {
            world.client.ask_cancel(&made).await?;
        }
        older.put_back(&mut world).await?;
        let command = ended(&world, &made).await?;
        tell(&format!("{age:?}, put back {moment:?}"), &command);
        let records = honest(&world, &watchers).await?;
        unchanged(&before, &records)?;
        unchanged(&known, &records)?;
        let there = records.disks.iter().any(|known| known.disk_id == disk.disk_id);
        if there {
            let removed = world
                .client
                .ask_remove_disk(&requests::remove_disk(&disk.disk_id))
                .await?;
            world.succeeds(&removed).await?;
        }
        honest(&world, &watchers).await?;
    }
    Ok(())
}

/// Waits until the engine has heard that a task of this command runs.
async fn runs(world: &World, command_id: &str) -> TestResult<()> {
    eventually("a running task", || async {
        let records = Records::read(&world.view()).await.ok()?;
        let mut tasks = records.tasks.iter();
        let at_work = tasks
            .any(|task| task.root_command_id == command_id && words::task_state(task.state) == "RUNNING");
        at_work.then_some(())
    })
    .await
}

async fn records_of_the_past(world: &World) -> TestResult<Records> {
    Records::read(&world.view()).await
}

/// Checks that the record of a task that was over has not changed.
fn unchanged(before: &Records, now: &Records) -> TestResult<()> {
    let over = |task: &&proto::engine::v1::AsyncTask| words::async_state(task.async_state) == "CLEARED";
    for old in before.tasks.iter().filter(over) {
        let same = now.tasks.iter().any(|new| {
            new.task_id == old.task_id
                && new.state == old.state
                && new.purpose == old.purpose
                && new.command_id == old.command_id
                && new.async_state == old.async_state
        });
        ensure(same, || {
            let new = now.tasks.iter().find(|new| new.task_id == old.task_id);
            format!("a record that was final has changed: {old:#?} {new:#?}")
        })?;
    }
    Ok(())
}

/// The number of VMs that are made and removed at one time: more than the host runs at a time, so that some wait in
/// its queue.
const CROWD: usize = 12;

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_put_back_under_load_leaves_nothing_stuck_or_unnamed() -> TestResult<()> {
    let (mut world, domain) = World::furnished().await?;
    let watchers = EngineWatchers::start(&world.client);
    let mut commands = Vec::new();
    let mut vms = Vec::new();
    for n in 0..CROWD {
        let vm = requests::create_vm(&format!("vm-{n}"), requests::four_disks(&domain));
        commands.push(world.create_vm(&vm).await?);
        vms.push(vm.vm_id);
    }
    world.succeeds(&commands[0]).await?;
    let older = Older::of(&world)?;
    // The first VMs are removed, and more are being created, when the host is restored to the time when it made them.
    for vm in &vms[..CROWD / 3] {
        let command = commands.remove(0);
        world.succeeds(&command).await?;
        commands.push(world.remove_vm(&requests::remove_vm(vm)).await?);
    }
    for n in CROWD..2 * CROWD {
        let vm = requests::create_vm(&format!("vm-{n}"), requests::four_disks(&domain));
        commands.push(world.create_vm(&vm).await?);
    }
    let removal = commands[CROWD - CROWD / 3].clone();
    world.settled(&removal).await?;
    for command_id in commands.iter().rev().take(3) {
        world.client.ask_cancel(command_id).await?;
    }
    older.put_back(&mut world).await?;
    let mut states = std::collections::BTreeMap::new();
    for command_id in &commands {
        let command = ended(&world, command_id).await?;
        *states.entry(words::command_state(command.state)).or_insert(0) += 1;
    }
    eprintln!("{states:?}");
    honest(&world, &watchers).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_put_back_ends_what_its_host_has_ended_meanwhile() -> TestResult<()> {
    let gate = Gate::open().await?;
    let program = gate.program();
    let mut world = World::start_with(&["--qemu-img", &program]).await?;
    let domain = world.furnish().await?;
    for is_running in [false, true] {
        gate.shut("create")?;
        let disk = requests::create_disk(&domain, requests::KINDS[2]);
        let made = world.client.ask_create_disk(&disk).await?;
        gate.reached().await?;
        runs(&world, &made).await?;
        let older = Older::copy(&world.engine)?;
        if !is_running {
            gate.reopen()?;
            world.succeeds(&made).await?;
            at_rest(&world.view()).await?;
        }
        older.put_back_engine(&mut world).await?;
        if is_running {
            gate.reopen()?;
        }
        let watchers = EngineWatchers::start(&world.client);
        let command = ended(&world, &made).await?;
        tell("an engine was put back", &command);
        ensure(command.state == i32::from(CommandState::Succeeded), || {
            format!("{command:#?}")
        })?;
        honest(&world, &watchers).await?;
    }
    Ok(())
}

/// What the engine announced about a disk and its storage.
async fn unknown_storage(world: &World, disk_id: &str) -> Option<String> {
    let request = ListEventsRequest {
        filter: Some(list_events_request::Filter {
            entity_id: disk_id.to_owned(),
            ..list_events_request::Filter::default()
        }),
        ..ListEventsRequest::default()
    };
    let answer = world.client.events.clone().list_events(request).await.ok()?;
    let mut events = answer.into_inner().events.into_iter();
    events.find_map(|event| (event.code == "UNKNOWN_STORAGE_SEEN").then_some(event.message))
}

/// Everything that was acknowledged after the copy is over, and cleared on the host, which has no task left to show.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_put_back_names_the_images_that_it_never_heard_of_and_the_disks_that_are_gone()
-> TestResult<()> {
    let (mut world, domain) = World::furnished().await?;
    let make = |name: &str| {
        let mut request = requests::create_disk(&domain, requests::KINDS[0]);
        request.description = name.to_owned();
        request
    };
    let (kept, removed) = (make("kept"), make("removed"));
    for disk in [&kept, &removed] {
        let made = world.client.ask_create_disk(disk).await?;
        world.succeeds(&made).await?;
    }
    at_rest(&world.view()).await?;
    for round in 0..2 {
        let older = Older::copy(&world.engine)?;
        let later = make("later");
        let made = world.client.ask_create_disk(&later).await?;
        world.succeeds(&made).await?;
        if round == 0 {
            let gone = world
                .client
                .ask_remove_disk(&requests::remove_disk(&removed.disk_id))
                .await?;
            world.succeeds(&gone).await?;
        }
        at_rest(&world.view()).await?;
        older.put_back_engine(&mut world).await?;
        let told = eventually("the engine to name what it never heard of", || {
            unknown_storage(&world, &later.disk_id)
        });
        let told = told.await?;
        let has = |id: &str| told.contains(id);
        let names_removed = has(&removed.disk_id);
        ensure(
            has(&later.disk_id) && names_removed && !has(&kept.disk_id),
            || told.clone(),
        )?;
        eventually("the disk that is gone to be seen so", || async {
            let disk_id = removed.disk_id.clone();
            let answer = world
                .client
                .disks
                .clone()
                .get_disk(GetDiskRequest { disk_id })
                .await
                .ok()?;
            let seen = answer.into_inner().disk?.observation?;
            (seen.presence() == Presence::Absent).then_some(())
        })
        .await?;
    }
    Ok(())
}
