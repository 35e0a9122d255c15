//! One host is in trouble for as long as the test wants. Meanwhile everything requested of the other host ends; the
//! troubled host's commands say whom they wait for, and end once it is back.

use proto::engine::v1::{CreateVmRequest, GetTaskRequest, WaitingFor, host::Connection, waiting_for::What};
use rustix::process::Signal;
use tests::failure::{Context as _, Failure, TestResult, ensure};
use tests::gate::Gate;
use tests::ids::fresh;
use tests::loop_mount::{FileSystem, LoopMount, NoMount};
use tests::patience::{PATIENCE, eventually};
use tests::{requests, storage, words};

use super::pair::Pair;

/// The number of rounds of work on the healthy host, one after the other. Each has [`COMMANDS_A_ROUND`] commands: if
/// each command waited only once for the shortest time that the engine gives a host to answer, 5 s, the rounds would
/// take more than three times as long as this test waits.
const ROUNDS: usize = 5;

/// The number of commands in a round.
const COMMANDS_A_ROUND: usize = 8;

/// The number of commands that are requested of the troubled host at first: more than it runs at once.
const ASKED_OF_THE_TROUBLED: usize = 12;

/// The number requested with each round, when the engine may know that the host does not answer: if the engine waited
/// for each of them, the rounds would not end in time either.
const ASKED_A_ROUND: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_hangs_delays_no_other() -> TestResult<()> {
    let mut pair = Pair::start().await?;
    let old = Old::make(&pair).await?;
    pair.second.host.service.signal(Signal::STOP)?;
    let asked = old.work_goes_on(&mut pair, Trouble::Away).await?;
    pair.second.host.service.signal(Signal::CONT)?;
    asked.all_ends(&pair).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_behind_a_pulled_cable_delays_no_other() -> TestResult<()> {
    let mut pair = Pair::start().await?;
    let old = Old::make(&pair).await?;
    pair.second.proxy.freeze();
    let asked = old.work_goes_on(&mut pair, Trouble::Away).await?;
    pair.second.proxy.thaw();
    asked.all_ends(&pair).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_was_killed_delays_no_other() -> TestResult<()> {
    let mut pair = Pair::start().await?;
    let old = Old::make(&pair).await?;
    pair.second.host.service.kill().await?;
    let asked = old.work_goes_on(&mut pair, Trouble::Away).await?;
    pair.second.restart().await?;
    asked.all_ends(&pair).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_programs_stand_still_delays_no_other() -> TestResult<()> {
    let gate = Gate::open().await?;
    let mut pair = Pair::start_with(None, &["--qemu-img", &gate.program()]).await?;
    let old = Old::make(&pair).await?;
    gate.shut("create")?;
    let asked = old.work_goes_on(&mut pair, Trouble::Slow).await?;
    gate.reopen()?;
    asked.all_ends(&pair).await
}

/// Everything of the host is on the disk that hangs: its storage domain and its data directory.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_disk_hangs_delays_no_other() -> TestResult<()> {
    let mut mount = match LoopMount::make(FileSystem::Ext4) {
        Ok(mount) => mount,
        Err(NoMount::Skip(why)) => {
            crate::skipped("a disk that hangs", &why);
            return Ok(());
        }
        Err(NoMount::Failed(failure)) => return Err(failure),
    };
    let mut pair = Pair::start_with(Some(&mount.path()), &[]).await?;
    let old = Old::make(&pair).await?;
    mount.freeze()?;
    let asked = old.work_goes_on(&mut pair, Trouble::Slow).await;
    mount.thaw()?;
    asked?.all_ends(&pair).await?;
    pair.second.host.service.stop().await
}

/// How the engine must see the host in trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// The host does not answer.
    Away,
    /// The host's work makes no progress, or its answers cannot be recorded.
    Slow,
}

/// The state before the trouble.
#[derive(Debug)]
struct Old {
    /// A VM with a disk on each host.
    vm: CreateVmRequest,
}

/// The requests to the host in trouble.
#[derive(Debug)]
struct Asked {
    /// Disks, and a VM with a disk on each host.
    creations: Vec<String>,
    /// The removal of the old VM, with a disk on each host.
    removal: String,
}

fn on_both(pair: &Pair, name: &str) -> CreateVmRequest {
    let domains = [&pair.domain, &pair.second_domain];
    let disks = domains.map(|domain| requests::disk(domain, requests::KINDS[2]));
    requests::create_vm(name, disks.into())
}

impl Old {
    async fn make(pair: &Pair) -> TestResult<Self> {
        let vm = on_both(pair, "old");
        let created = pair.world.create_vm(&vm).await?;
        pair.world.succeeds(&created).await?;
        Ok(Self { vm })
    }

    /// Requests work from the troubled host; meanwhile everything requested of the healthy host must end.
    async fn work_goes_on(&self, pair: &mut Pair, trouble: Trouble) -> TestResult<Asked> {
        let engine = pair.world.client.clone();
        let mut creations = ask_for_disks(pair, ASKED_OF_THE_TROUBLED).await?;
        let both = on_both(pair, "both");
        creations.push(engine.ask_create_vm(&both).await?);
        let removal = engine.ask_remove_vm(&requests::remove_vm(&self.vm.vm_id)).await?;
        let mut asked = Asked { creations, removal };
        asked.all_wait(pair, trouble).await?;
        let rounds = async {
            for _ in 0..ROUNDS {
                asked.creations.extend(ask_for_disks(pair, ASKED_A_ROUND).await?);
                work_once(pair).await?;
            }
            Ok(())
        };
        in_time(rounds).await?;
        // A restarted engine finds one host and waits for the other.
        pair.world.kill_engine().await?;
        pair.world.restart_engine().await?;
        work(pair).await?;
        asked.all_wait(pair, trouble).await?;
        // The healthy host's part in these commands is done.
        let images = || storage::images(&pair.world.storage_root(), &pair.domain);
        let (made, gone) = (&both.disks[0].disk_id, &self.vm.disks[0].disk_id);
        eventually("the healthy host's part of what both have to do", || {
            let images = images();
            std::future::ready((images.contains(made) && !images.contains(gone)).then_some(()))
        })
        .await?;
        Ok(asked)
    }
}

impl Asked {
    /// Checks that no command has ended, and that each says what it waits for: its host, or an unfinished task there.
    async fn all_wait(&self, pair: &Pair, trouble: Trouble) -> TestResult<()> {
        let engine = &pair.world.client;
        let second = pair.second.id();
        if trouble == Trouble::Away {
            engine.sees_host(second, Connection::Away).await?;
            for command in self.creations.iter().chain([&self.removal]) {
                engine.waits_for_host(command, second).await?;
            }
            return Ok(());
        }
        for command in &self.creations {
            eventually("the command to name what is not over on its host", || async {
                let command = engine.command(command).await.ok()?;
                ensure(!words::command_is_over(command.state), || format!("{command:#?}")).ok()?;
                let waits = names_work_of(pair, second, command.waiting_for?).await;
                waits.then_some(())
            })
            .await
            .context(format!("{:#?}", engine.command(command).await))?;
        }
        Ok(())
    }

    /// The trouble is over: everything succeeds, and no lock remains.
    async fn all_ends(&self, pair: &Pair) -> TestResult<()> {
        for command in self.creations.iter().chain([&self.removal]) {
            pair.world.succeeds(command).await?;
        }
        pair.all_is_well().await.map(drop)
    }
}

/// Whether the wait is for this host, or leads to a task on it.
async fn names_work_of(pair: &Pair, host_id: &str, waiting: WaitingFor) -> bool {
    let engine = &pair.world.client;
    let mut waiting = Some(waiting);
    while let Some(what) = waiting.take().and_then(|waiting| waiting.what) {
        match what {
            What::HostId(named) => return named == host_id,
            What::Locks(_) => return false,
            What::TaskId(task_id) => {
                let answer = engine.tasks.clone().get_task(GetTaskRequest { task_id }).await;
                let task = answer.ok().and_then(|answer| answer.into_inner().task);
                return task.is_some_and(|task| task.host_id == host_id && !words::task_is_over(task.state));
            }
            What::CommandId(command_id) => {
                waiting = engine
                    .command(&command_id)
                    .await
                    .ok()
                    .and_then(|command| command.waiting_for);
            }
            What::Attention(_) => return false,
        }
    }
    false
}

/// Requests this many disks from the host in trouble.
async fn ask_for_disks(pair: &Pair, count: usize) -> TestResult<Vec<String>> {
    let mut asked = Vec::new();
    for _ in 0..count {
        let disk = requests::create_disk(&pair.second_domain, requests::KINDS[2]);
        asked.push(pair.world.client.ask_create_disk(&disk).await?);
    }
    Ok(asked)
}

/// One round on the healthy host.
pub(super) async fn work(pair: &Pair) -> TestResult<()> {
    in_time(work_once(pair)).await
}

async fn in_time(work: impl Future<Output = TestResult<()>>) -> TestResult<()> {
    let ended = tokio::time::timeout(PATIENCE, work).await;
    ended.map_err(|_| Failure::new(format!("work on a healthy host took more than {PATIENCE:?}")))?
}

/// Every verb once, one after the other: a disk, its copy, a VM to which the copy is attached and from which it is
/// detached, and the removal of all of it.
async fn work_once(pair: &Pair) -> TestResult<()> {
    let (engine, domain) = (&pair.world.client, &pair.domain);
    let disk = requests::create_disk(domain, requests::KINDS[0]);
    let copy = requests::copy_disk(&disk.disk_id, domain, requests::KINDS[2]);
    let vm = requests::create_vm(&fresh(), vec![requests::disk(domain, requests::KINDS[2])]);
    let (copy_id, vm_id) = (&copy.disk_id, &vm.vm_id);
    let mut commands = 0;
    macro_rules! succeeds {
        ($($ask:ident($request:expr);)*) => {$(
            let command = engine.$ask($request).await?;
            engine.succeeds(&command).await?;
            commands += 1;
        )*};
    }
    succeeds! {
        ask_create_disk(&disk);
        ask_copy_disk(&copy);
        ask_create_vm(&vm);
        ask_attach_disk(&requests::attach_disk(copy_id, vm_id));
        ask_detach_disk(&requests::detach_disk(copy_id, vm_id));
        ask_remove_disk(&requests::remove_disk(copy_id));
        ask_remove_vm(&requests::remove_vm(vm_id));
        ask_remove_disk(&requests::remove_disk(&disk.disk_id));
    }
    assert_eq!(commands, COMMANDS_A_ROUND);
    Ok(())
}
