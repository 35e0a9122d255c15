//! What the demo does, act by act.

use std::time::Instant;

use proto::engine::v1::{
    CommandState, DiskSpec, GetCommandRequest, GetHostRequest, GetJobRequest, GetVmRequest, host::Connection,
};
use proto::host::v1::GetHostInfoRequest;
use rustix::process::Signal;
use tests::failure::{Context, Failure, TestResult, ensure};
use tests::storage;
use tests::words;
use tests::{World, requests};

use crate::copying;
use crate::edges::{Edge, Edges};
use crate::lead::{Narrator, Tale};
use crate::stage::Stage;
use crate::tree;

/// The four tasks take milliseconds, so a kill may come too late to be one in the middle; then another VM is
/// removed. More attempts than this would mean that something else is wrong.
const ATTEMPTS: usize = 10;

/// The whole play.
pub(crate) async fn play(stage: &mut Stage) -> TestResult<()> {
    let began = Instant::now();
    stage.heading("1 · Two services on loopback, with directories of their own");
    let mut world = World::start().await?;
    introduce(stage, &world).await?;
    let mut narrator = Narrator::new(Edges::watch(&world.client).await?);

    stage.heading("2 · Add the host, create a storage domain");
    narrator.call(&world.host_id, "host 1");
    narrator.begin(stage);
    let added = world.ask_add_host(world.host.address()).await?;
    to_the_end(stage, &mut narrator, &added, &mut Tale::default()).await?;
    let (made, domain_id) = world.ask_create_domain("data").await?;
    to_the_end(stage, &mut narrator, &made, &mut Tale::default()).await?;

    stage.heading("3 · Create a VM with four disks");
    let mut jobs = Vec::new();
    let vm = requests::create_vm("web-01", requests::four_disks(&domain_id));
    introduce_disks(&mut narrator, "web-01", &vm.vm_id, &vm.disks);
    narrator.begin(stage);
    let created = world.create_vm(&vm).await?;
    to_the_end(stage, &mut narrator, &created, &mut Tale::default()).await?;
    jobs.push(created);
    show_files(stage, &world, &domain_id);

    stage.heading("4 · Remove it");
    narrator.begin(stage);
    let removed = world.remove_vm(&requests::remove_vm(&vm.vm_id)).await?;
    to_the_end(stage, &mut narrator, &removed, &mut Tale::default()).await?;
    jobs.push(removed);
    is_gone(&world, &vm.vm_id).await?;

    stage.heading("5 · Remove a second VM, and SIGKILL the host in the middle");
    let removed = in_the_middle(stage, &mut world, &mut narrator, &domain_id).await?;
    jobs.push(removed);

    stage.heading("6 · Copy a disk, and cancel a second copy in the middle");
    jobs.extend(copying::act(stage, &world, &domain_id).await?);

    stage.heading("7 · The jobs");
    for job_id in &jobs {
        show_job(stage, &world, &narrator, job_id).await?;
    }

    stage.heading("8 · What is left in the storage domain");
    nothing_is_left(stage, &world, &domain_id)?;
    world.stop().await?;
    stage.note(format!(
        "both services ended at SIGTERM; nothing is left running; {:.1} s in all",
        began.elapsed().as_secs_f64()
    ));
    stage.line("");
    Ok(())
}

async fn introduce(stage: &mut Stage, world: &World) -> TestResult<()> {
    for service in [&world.host, &world.engine] {
        let recipe = service.recipe();
        stage.line(format!(
            "  {:<11} {:<24} {}",
            recipe.name,
            service.address(),
            recipe.data_dir.display()
        ));
    }
    let answer = world
        .host_client
        .host
        .clone()
        .get_host_info(GetHostInfoRequest::default())
        .await?;
    let info = answer.into_inner().host.context("a host without information")?;
    let storage = world.storage_root();
    stage.line(format!(
        "  {:<11} {:<24} {}",
        "qemu-img",
        info.qemu_img_version,
        storage.display()
    ));
    Ok(())
}

/// Names the disks by what they are.
fn introduce_disks(narrator: &mut Narrator, vm_name: &str, vm_id: &str, disks: &[DiskSpec]) {
    narrator.call(vm_id, vm_name);
    for (place, disk) in disks.iter().enumerate() {
        let format = match words::format(disk.format).as_str() {
            "COW" => "qcow2".to_owned(),
            other => other.to_lowercase(),
        };
        let allocation = words::allocation(disk.allocation).to_lowercase();
        narrator.call(&disk.disk_id, format!("disk {} {format} {allocation}", place + 1));
    }
}

/// Tells a command until nothing more will happen, and wants it to have succeeded.
async fn to_the_end(
    stage: &mut Stage,
    narrator: &mut Narrator,
    root: &str,
    tale: &mut Tale,
) -> TestResult<()> {
    narrator.tell(stage, root, tale, |tale, _| tale.is_over()).await?;
    let command = tale.root.as_ref().context("a command that nobody told of")?;
    ensure(command.state == i32::from(CommandState::Succeeded), || {
        format!(
            "the command ended {}: {:?}",
            words::command_state(command.state),
            command.fault
        )
    })
}

/// Creates and removes VMs until the host was killed with some of the tasks over, or at work, and others not.
async fn in_the_middle(
    stage: &mut Stage,
    world: &mut World,
    narrator: &mut Narrator,
    domain_id: &str,
) -> TestResult<String> {
    for attempt in 2..2 + ATTEMPTS {
        let name = format!("web-{attempt:02}");
        let vm = requests::create_vm(&name, requests::four_disks(domain_id));
        introduce_disks(narrator, &name, &vm.vm_id, &vm.disks);
        let created = world.create_vm(&vm).await?;
        world.succeeds(&created).await?;
        stage.note(format!("{name} with four disks is created"));
        narrator.begin(stage);
        let removed = world.remove_vm(&requests::remove_vm(&vm.vm_id)).await?;
        let mut tale = Tale::default();
        let killed = kill_while_running(stage, world, narrator, &removed, &mut tale).await?;
        if killed {
            to_the_end(stage, narrator, &removed, &mut tale).await?;
            is_gone(world, &vm.vm_id).await?;
            return Ok(removed);
        }
        stage.note("it was over before the kill; once more with another VM");
        to_the_end(stage, narrator, &removed, &mut tale).await?;
    }
    Err(Failure::new(
        "the host was never killed in the middle of a removal",
    ))
}

/// Kills the host when the first task runs, and starts it again. False if every task was over by then.
async fn kill_while_running(
    stage: &mut Stage,
    world: &mut World,
    narrator: &mut Narrator,
    root: &str,
    tale: &mut Tale,
) -> TestResult<bool> {
    let host = &world.host;
    let mut fired = Ok(());
    narrator
        .tell(stage, root, tale, |_, edge| {
            let now = edge.is_some_and(Edge::begins_to_run);
            if now {
                // Before the edge is printed: printing takes time.
                fired = host.signal(Signal::KILL);
            }
            now
        })
        .await?;
    fired?;
    world.host.ended().await?;
    world.host_is(Connection::Away).await?;
    let open = open_tasks(world).await?;
    stage.note(format!(
        "host killed with SIGKILL: {open} of {} tasks were not over when the stream broke",
        tale.tasks.len().max(4)
    ));
    let request = GetCommandRequest {
        command_id: root.to_owned(),
    };
    let answer = world.client.commands.clone().get_command(request).await?;
    let command = answer.into_inner().command.context("a command without a body")?;
    if let Some(waiting) = &command.waiting_for {
        stage.note(format!(
            "the command is {}, and says: {}",
            words::command_state(command.state),
            waiting.note
        ));
    }
    world.restart_host().await?;
    stage.note("host started again");
    Ok(open > 0)
}

async fn open_tasks(world: &World) -> TestResult<u32> {
    let request = GetHostRequest {
        host_id: world.host_id.clone(),
    };
    let host = world
        .client
        .hosts
        .clone()
        .get_host(request)
        .await?
        .into_inner()
        .host;
    Ok(host.context("a host that was added is gone")?.open_tasks)
}

/// The engine knows no such VM any more.
async fn is_gone(world: &World, vm_id: &str) -> TestResult<()> {
    let request = GetVmRequest {
        vm_id: vm_id.to_owned(),
    };
    let answer = world.client.vms.clone().get_vm(request).await;
    let code = answer.err().map(|status| status.code());
    ensure(code == Some(tonic::Code::NotFound), || {
        format!("the VM {vm_id} should be gone, and GetVm says {code:?}")
    })
}

async fn show_job(stage: &mut Stage, world: &World, narrator: &Narrator, job_id: &str) -> TestResult<()> {
    let request = GetJobRequest {
        job_id: job_id.to_owned(),
    };
    let job = world.client.jobs.clone().get_job(request).await?.into_inner().job;
    tree::draw(stage, narrator, &job.context("a job without a body")?);
    stage.line("");
    Ok(())
}

fn show_files(stage: &mut Stage, world: &World, domain_id: &str) {
    let root = world.storage_root();
    let images = storage::images(&root, domain_id);
    let files: usize = images
        .iter()
        .map(|image| storage::image_files(&root, domain_id, image).len())
        .sum();
    stage.note(format!(
        "the domain holds {} images with {files} files",
        images.len()
    ));
}

fn nothing_is_left(stage: &mut Stage, world: &World, domain_id: &str) -> TestResult<()> {
    let root = world.storage_root();
    let images = storage::images(&root, domain_id);
    let runs = storage::run_directories(&root);
    ensure(images.is_empty() && runs.is_empty(), || {
        format!("images {images:?} and run directories {runs:?} are left")
    })?;
    for path in storage::tree(&root.join(domain_id)) {
        stage.line(format!("  {domain_id}/{}", path.display()));
    }
    stage.note("no image, no leftover, no run directory: nothing of the VMs is left");
    Ok(())
}
