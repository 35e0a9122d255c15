//! One engine, one life: if engines run on copies of one data directory, one of them has each host, and no single
//! host stops an engine.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use proto::engine::v1::{CommandState, GetHostRequest, Host, TakeOverHostRequest, host::Connection};
use proto::host::v1::{ClaimHostRequest, GetHostInfoRequest, HostInfo};
use proto::task::v1::{Allocation, VolumeFormat};
use rustix::process::Signal;
use tests::World;
use tests::audit::at_rest;
use tests::client::{Engine, Refusal, with_metadata};
use tests::fail_point::FailPoints;
use tests::failure::{Context as _, Failure, TestResult, ensure};
use tests::ids::{fresh, fresh_loopback};
use tests::neighbour::Neighbour;
use tests::patience::eventually;
use tests::requests;
use tests::service::{Recipe, Service};
use tests::storage::{copy_data_dir, images};
use tonic::Code;

/// The kind of disks in these tests.
const SMALL: (VolumeFormat, Allocation) = (VolumeFormat::Raw, Allocation::Sparse);

/// A second engine.
struct Other {
    service: Service,
    client: Engine,
}

impl Other {
    /// Starts an engine on the directory with this name in the world's folder.
    async fn start(world: &World, name: &str) -> TestResult<Self> {
        let recipe = Recipe {
            data_dir: world.folder().join(name),
            log: world.folder().join(format!("{name}.log")),
            listen: SocketAddr::new(IpAddr::V4(fresh_loopback()), 0),
            ..world.engine.recipe().clone()
        };
        let mut service = Service::new(recipe);
        let address = service.start(&FailPoints::default()).await?;
        Ok(Self {
            service,
            client: Engine::at(address)?,
        })
    }

    async fn restart(&mut self) -> TestResult<()> {
        self.service.kill().await?;
        self.service.start(&FailPoints::default()).await.map(drop)
    }
}

async fn host_of(engine: &Engine, host_id: &str) -> Option<Host> {
    let request = GetHostRequest {
        host_id: host_id.to_owned(),
    };
    let answer = engine.hosts.clone().get_host(request).await.ok()?;
    answer.into_inner().host
}

/// Waits until the engine shows the host in this state, for this reason.
async fn stands(engine: &Engine, host_id: &str, wanted: Connection, code: &str) -> TestResult<()> {
    eventually(&format!("the host to be {wanted:?} for {code}"), || async {
        let host = host_of(engine, host_id).await?;
        let fault = host.connection_fault.as_ref().map(|fault| fault.code.as_str());
        (host.connection() == wanted && fault.unwrap_or_default() == code).then_some(())
    })
    .await
}

/// Creates a disk; returns its id once the creation is announced as succeeded.
async fn makes_a_disk(engine: &Engine, domain_id: &str) -> TestResult<String> {
    let request = requests::create_disk(domain_id, SMALL);
    let command_id = engine.ask_create_disk(&request).await?;
    engine.succeeds(&command_id).await?;
    Ok(request.disk_id)
}

/// Requests a disk from an engine that must not act; the refusal must say why.
async fn makes_none(engine: &Engine, domain_id: &str) -> TestResult<()> {
    let request = requests::create_disk(domain_id, SMALL);
    let refused = engine.disks.clone().create_disk(request).await;
    let refusal = Refusal::from(&refused.err().context("it was accepted")?);
    ensure(
        (refusal.code, refusal.reason.as_str()) == (Code::FailedPrecondition, "ENGINE_FENCED"),
        || format!("{refusal:?}"),
    )
}

async fn info(world: &World) -> TestResult<HostInfo> {
    let answer = world
        .host_client
        .host
        .clone()
        .get_host_info(GetHostInfoRequest::default())
        .await;
    answer
        .context("GetHostInfo")?
        .into_inner()
        .host
        .context("no host")
}

/// Has the engine take over a host that it has recorded.
async fn takes_over_host(engine: &Engine, host_id: &str) -> TestResult<()> {
    let request = TakeOverHostRequest {
        host_id: host_id.to_owned(),
        reason: "its engine is gone".to_owned(),
        request_id: fresh(),
        ..TakeOverHostRequest::default()
    };
    let answer = engine.hosts.clone().take_over_host(request).await;
    let command = answer.context("TakeOverHost")?.into_inner().command;
    engine
        .succeeds(&command.context("no command")?.command_id)
        .await?;
    engine.sees_host(host_id, Connection::Connected).await
}

/// Has the engine take over the host; a recorded host needs no address.
async fn takes_over(engine: &Engine, world: &World, is_recorded: bool) -> TestResult<()> {
    let address = world.host.address().to_string();
    let request = TakeOverHostRequest {
        host_id: world.host_id.clone(),
        name: if is_recorded {
            String::new()
        } else {
            "host".to_owned()
        },
        address: if is_recorded { String::new() } else { address },
        identity: String::new(),
        reason: "its engine is gone".to_owned(),
        request_id: fresh(),
        validate_only: false,
        lock_wait: None,
    };
    let request = with_metadata(request, &[("x-user", "ann"), ("x-correlation-id", "fire-7")]);
    let answer = engine
        .hosts
        .clone()
        .take_over_host(request)
        .await
        .context("TakeOverHost")?;
    let command = answer.into_inner().command.context("no command")?;
    engine.succeeds(&command.command_id).await?;
    engine.sees_host(&world.host_id, Connection::Connected).await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_engines_on_copies_one_goes_on_however_often_which_restarts() -> TestResult<()> {
    let (mut world, domain_id) = World::furnished().await?;
    let mut told = BTreeSet::from([makes_a_disk(&world.client, &domain_id).await?]);
    world.engine.stop().await?;
    copy_data_dir(&world.engine.recipe().data_dir, &world.folder().join("copy"))?;
    world.restart_engine().await?;
    world.host_is(Connection::Connected).await?;
    let mut other = Other::start(&world, "copy").await?;
    // The copy's epoch reaches that of the other engine, and exceeds it.
    for round in 0..6 {
        other.restart().await?;
        stands(
            &other.client,
            &world.host_id,
            Connection::Refused,
            "ENGINE_FENCED",
        )
        .await?;
        makes_none(&other.client, &domain_id).await?;
        if round % 2 == 1 {
            world.kill_engine().await?;
            other.restart().await?;
            stands(
                &other.client,
                &world.host_id,
                Connection::Refused,
                "ENGINE_FENCED",
            )
            .await?;
            world.restart_engine().await?;
            world.host_is(Connection::Connected).await?;
        }
        told.insert(makes_a_disk(&world.client, &domain_id).await?);
    }
    ensure(!other.service.has_ended(), || other.service.log_tail(20))?;
    let records = at_rest(&world.view()).await?;
    let known: BTreeSet<_> = records.disks.iter().map(|disk| disk.disk_id.clone()).collect();
    let stored = images(&world.storage_root(), &domain_id);
    ensure(known == told && stored == told, || {
        format!("told {told:?}, known {known:?}, stored {stored:?}")
    })
}

/// Requests a VM without disks, which touches no host; returns the code of the refusal, if it is refused.
async fn bare_vm(engine: &Engine, name: &str) -> TestResult<Option<String>> {
    let request = requests::create_vm(name, Vec::new());
    match engine.vms.clone().create_vm(request).await {
        Ok(answer) => {
            let command = answer.into_inner().command.context("no command")?;
            engine.succeeds(&command.command_id).await.map(|()| None)
        }
        Err(status) => Ok(Some(Refusal::from(&status).reason)),
    }
}

/// Two hosts: each copy has claimed one of them while the other was down.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_engines_that_share_the_hosts_by_halves_one_refuses_to_act() -> TestResult<()> {
    let (mut world, domain_id) = World::furnished().await?;
    let mut second = world.neighbour("second", &[]).await?;
    let elsewhere = second.furnish(&world.client, "second").await?;
    world.engine.stop().await?;
    copy_data_dir(&world.engine.recipe().data_dir, &world.folder().join("copy"))?;
    second.host.service.stop().await?;
    world.restart_engine().await?;
    world.host_is(Connection::Connected).await?;
    world.host.stop().await?;
    second.host.service.start(&FailPoints::default()).await?;
    world.kill_engine().await?;
    let mut other = Other::start(&world, "copy").await?;
    other.client.sees_host(second.id(), Connection::Connected).await?;
    world.restart_host().await?;
    world.restart_engine().await?;
    for round in 0..3 {
        world.host_is(Connection::Connected).await?;
        stands(&world.client, second.id(), Connection::Refused, "ENGINE_FENCED").await?;
        other.client.sees_host(second.id(), Connection::Connected).await?;
        stands(
            &other.client,
            &world.host_id,
            Connection::Refused,
            "ENGINE_FENCED",
        )
        .await?;
        let first_goes_on = world.host_id.as_str() < second.id();
        let name = format!("vm-{round}");
        let answers = (
            bare_vm(&world.client, &name).await?,
            bare_vm(&other.client, &name).await?,
        );
        let fenced = Some("ENGINE_FENCED".to_owned());
        let wanted = if first_goes_on {
            (None, fenced)
        } else {
            (fenced, None)
        };
        ensure(answers == wanted, || format!("{answers:?}, {first_goes_on}"))?;
        if first_goes_on {
            makes_a_disk(&world.client, &domain_id).await?;
            makes_none(&other.client, &elsewhere).await?;
        } else {
            makes_a_disk(&other.client, &elsewhere).await?;
            makes_none(&world.client, &domain_id).await?;
        }
        other.restart().await?;
        if round == 1 {
            world.kill_engine().await?;
            world.restart_engine().await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_an_engine_at_work_does_not_get_its_host() -> TestResult<()> {
    let (world, domain_id) = World::furnished().await?;
    copied_at_work(&world)?;
    let mut other = Other::start(&world, "copy").await?;
    stands(
        &other.client,
        &world.host_id,
        Connection::Away,
        "ENGINE_STILL_CONNECTED",
    )
    .await?;
    makes_a_disk(&world.client, &domain_id).await?;
    // By then it is clear that the engine at work did not end before the other one began, and it stays clear.
    stands(
        &other.client,
        &world.host_id,
        Connection::Refused,
        "ENGINE_FENCED",
    )
    .await?;
    let mut world = world;
    world.kill_engine().await?;
    other.restart().await?;
    stands(
        &other.client,
        &world.host_id,
        Connection::Refused,
        "ENGINE_FENCED",
    )
    .await?;
    makes_none(&other.client, &domain_id).await?;
    world.restart_engine().await?;
    world.host_is(Connection::Connected).await?;
    makes_a_disk(&world.client, &domain_id).await?;
    // Unless a person decides so.
    takes_over(&other.client, &world, true).await?;
    makes_a_disk(&other.client, &domain_id).await?;
    stands(
        &world.client,
        &world.host_id,
        Connection::Refused,
        "ENGINE_FENCED",
    )
    .await?;
    makes_none(&world.client, &domain_id).await
}

/// Copies the engine's directory while the engine is at work.
fn copied_at_work(world: &World) -> TestResult<()> {
    world.engine.signal(Signal::STOP)?;
    let copied = copy_data_dir(&world.engine.recipe().data_dir, &world.folder().join("copy"));
    world.engine.signal(Signal::CONT)?;
    copied
}

async fn bare_vm_is_refused(engine: &Engine, code: &str) -> TestResult<()> {
    let answer = bare_vm(engine, &fresh()).await?;
    ensure(answer.as_deref() == Some(code), || format!("{answer:?}"))
}

/// Commands that touch no host are refused as well, from the copy's first moment on; and the copy remembers what it
/// was told while nobody answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_an_engine_at_work_takes_no_command_whenever_it_is_asked() -> TestResult<()> {
    let (mut world, _) = World::furnished().await?;
    copied_at_work(&world)?;
    let mut other = Other::start(&world, "copy").await?;
    // The code depends on whether the copy has heard of the other engine yet.
    let either = ["ENGINE_STILL_CONNECTED", "ENGINE_FENCED"].map(str::to_owned);
    let answer = bare_vm(&other.client, &fresh())
        .await?
        .context("it was accepted")?;
    ensure(either.contains(&answer), || answer.clone())?;
    world.host.stop().await?;
    other.restart().await?;
    let answer = bare_vm(&other.client, &fresh())
        .await?
        .context("it was accepted")?;
    ensure(either.contains(&answer), || answer.clone())?;
    // The engine that has had the host accepts commands for it.
    let accepted = bare_vm(&world.client, "while-the-host-is-away").await?;
    ensure(accepted.is_none(), || format!("{accepted:?}"))?;
    other.service.stop().await?;
    world.restart_host().await?;
    world.host_is(Connection::Connected).await?;
    other.service.start(&FailPoints::default()).await?;
    let (fenced, refused) = ("ENGINE_FENCED", Connection::Refused);
    stands(&other.client, &world.host_id, refused, fenced).await?;
    bare_vm_is_refused(&other.client, fenced).await?;
    world.host.stop().await?;
    for _ in 0..2 {
        other.restart().await?;
        bare_vm_is_refused(&other.client, fenced).await?;
    }
    let accepted = bare_vm(&world.client, "once-more").await?;
    ensure(accepted.is_none(), || format!("{accepted:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_whose_hosts_are_all_down_takes_commands_that_wait_for_them() -> TestResult<()> {
    let (mut world, domain_id) = World::furnished().await?;
    world.host.stop().await?;
    world.kill_engine().await?;
    world.restart_engine().await?;
    let accepted = bare_vm(&world.client, "nothing-to-do-there").await?;
    ensure(accepted.is_none(), || format!("{accepted:?}"))?;
    let command_id = world
        .client
        .ask_create_disk(&requests::create_disk(&domain_id, SMALL))
        .await?;
    world.host.start(&FailPoints::default()).await?;
    world.client.succeeds(&command_id).await
}

/// The copy has claimed a host that was down. The other host is loyal to a start in the copy's line, which proves
/// nothing to the copy before that start takes a new incarnation.
#[tokio::test(flavor = "multi_thread")]
async fn of_an_engine_at_work_and_a_copy_of_it_that_share_the_hosts_by_halves_one_refuses_to_act()
-> TestResult<()> {
    let (mut world, domain_id) = World::furnished().await?;
    let mut second = world.neighbour("second", &[]).await?;
    let mut tries = 0;
    // The ids must decide that the engine at work goes on.
    while second.id() < world.host_id.as_str() {
        second.host.service.stop().await?;
        tries += 1;
        second = world.neighbour(&format!("second-{tries}"), &[]).await?;
    }
    let elsewhere = second.furnish(&world.client, "second").await?;
    second.host.service.stop().await?;
    copied_at_work(&world)?;
    let mut other = Other::start(&world, "copy").await?;
    let away = Connection::Away;
    stands(&other.client, &world.host_id, away, "ENGINE_STILL_CONNECTED").await?;
    world.engine.signal(Signal::STOP)?;
    second.host.service.start(&FailPoints::default()).await?;
    let got = other.client.sees_host(second.id(), Connection::Connected).await;
    world.engine.signal(Signal::CONT)?;
    got?;
    let (fenced, refused) = ("ENGINE_FENCED", Connection::Refused);
    for round in 0..3 {
        stands(&world.client, second.id(), refused, fenced).await?;
        stands(&other.client, &world.host_id, refused, fenced).await?;
        world.host_is(Connection::Connected).await?;
        other.client.sees_host(second.id(), Connection::Connected).await?;
        // The copy sees the proof when it has asked its other host once more (docs/adr/0012).
        eventually("the copy to take no command", || async {
            bare_vm_is_refused(&other.client, fenced).await.ok()
        })
        .await?;
        makes_a_disk(&world.client, &domain_id).await?;
        makes_none(&other.client, &elsewhere).await?;
        if round == 1 {
            world.kill_engine().await?;
            world.restart_engine().await?;
        }
        other.restart().await?;
    }
    Ok(())
}

/// Whether the engine accepts a command that touches no host, once that is decided.
async fn takes_commands(engine: &Engine) -> TestResult<bool> {
    match bare_vm(engine, &fresh()).await?.as_deref() {
        None => Ok(true),
        Some("ENGINE_FENCED") => Ok(false),
        Some(code) => Err(Failure::new(format!("refused with {code}"))),
    }
}

/// Waits until one of these two engines accepts commands and the other does not.
async fn one_goes_on(first: &Engine, first_does: bool, second: &Engine) -> TestResult<()> {
    eventually("one of two engines to go on", || async {
        let both = (
            takes_commands(first).await.ok()?,
            takes_commands(second).await.ok()?,
        );
        (both == (first_does, !first_does)).then_some(())
    })
    .await?;
    // And it stays so.
    let both = (takes_commands(first).await?, takes_commands(second).await?);
    ensure(both == (first_does, !first_does), || format!("{both:?}"))
}

fn barred(second: &Neighbour, engine: &Service) -> TestResult<()> {
    second.proxy.unbar();
    second.proxy.bar(engine.pid().context("the engine does not run")?);
    Ok(())
}

/// The copy claims a host that the original does not reach, and both engines are heard at the other host: the hosts
/// themselves prove nothing to the original.
#[tokio::test(flavor = "multi_thread")]
async fn of_an_engine_that_is_cut_off_from_a_host_and_a_copy_that_gets_it_one_goes_on() -> TestResult<()> {
    let (mut world, domain_id) = World::furnished().await?;
    let second = world.neighbour("second", &[]).await?;
    let elsewhere = second.furnish(&world.client, "second").await?;
    copied_at_work(&world)?;
    barred(&second, &world.engine)?;
    world.client.sees_host(second.id(), Connection::Away).await?;
    let mut other = Other::start(&world, "copy").await?;
    other.client.sees_host(second.id(), Connection::Connected).await?;
    // The host with the smaller id decides.
    let first_goes_on = world.host_id.as_str() < second.id();
    for round in 0..3 {
        one_goes_on(&world.client, first_goes_on, &other.client).await?;
        if first_goes_on {
            makes_a_disk(&world.client, &domain_id).await?;
            makes_none(&other.client, &elsewhere).await?;
        } else {
            makes_a_disk(&other.client, &elsewhere).await?;
            makes_none(&world.client, &domain_id).await?;
        }
        match round {
            0 => other.restart().await?,
            _ => {
                world.kill_engine().await?;
                world.restart_engine().await?;
                barred(&second, &world.engine)?;
            }
        }
        world.host_is(Connection::Connected).await?;
        other.client.sees_host(second.id(), Connection::Connected).await?;
    }
    second.proxy.unbar();
    stands(&world.client, second.id(), Connection::Refused, "ENGINE_FENCED").await?;
    one_goes_on(&world.client, first_goes_on, &other.client).await?;
    // A person decides otherwise, or once and for all.
    let winner = if first_goes_on {
        &world.client
    } else {
        &other.client
    };
    let lost = if first_goes_on {
        second.id()
    } else {
        world.host_id.as_str()
    };
    takes_over_host(winner, lost).await?;
    makes_a_disk(winner, &domain_id).await?;
    makes_a_disk(winner, &elsewhere).await.map(drop)
}

/// The engine's hosts have given it up meanwhile, and belong to another life.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_stood_still_takes_nothing_before_its_hosts_have_said_whose_they_are() -> TestResult<()>
{
    let (mut world, _) = World::furnished().await?;
    copied_at_work(&world)?;
    world.engine.signal(Signal::STOP)?;
    // The engine has no connection any more, and the copy claims the host.
    world.host.stop().await?;
    world.host.start(&FailPoints::default()).await?;
    let other = Other::start(&world, "copy").await?;
    let got = other
        .client
        .sees_host(&world.host_id, Connection::Connected)
        .await;
    // Longer than the hosts' patience.
    tokio::time::sleep(std::time::Duration::from_secs(6)).await;
    let asked: Vec<_> = (0..4)
        .map(|_| {
            let engine = world.client.clone();
            tokio::spawn(async move { bare_vm(&engine, &fresh()).await })
        })
        .collect();
    world.engine.signal(Signal::CONT)?;
    got?;
    for asked in asked {
        let answer = asked.await.map_err(|error| Failure::new(error.to_string()))??;
        ensure(answer.as_deref() == Some("ENGINE_FENCED"), || {
            format!("{answer:?}")
        })?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_from_outside_ends_no_engine_and_what_it_does_is_mended() -> TestResult<()> {
    let (mut world, domain_id) = World::furnished().await?;
    let second = world.neighbour("second", &[]).await?;
    let elsewhere = second.furnish(&world.client, "second").await?;
    let ours = info(&world).await?;
    let host = world.host_client.host.clone();
    let by = |epoch: u64, predecessor: &str| {
        let metadata = [
            ("x-engine-id", ours.engine_id.clone()),
            ("x-engine-epoch", epoch.to_string()),
            ("x-engine-incarnation", fresh()),
        ];
        let metadata = metadata.each_ref().map(|(key, value)| (*key, value.as_str()));
        let claim = ClaimHostRequest {
            predecessor: predecessor.to_owned(),
            ..ClaimHostRequest::default()
        };
        with_metadata(claim, &metadata)
    };
    for predecessor in ["", ours.engine_incarnation.as_str()] {
        let refused = host.clone().claim_host(by(u64::MAX, predecessor)).await;
        let refusal = Refusal::from(&refused.err().context("it was accepted")?);
        ensure(refusal.reason == "INVALID_ARGUMENT", || format!("{refusal:?}"))?;
    }
    makes_a_disk(&world.client, &domain_id).await?;

    // Any caller that reaches the port may claim to be the next start of the engine, once that engine is not
    // connected.
    world.kill_engine().await?;
    let epoch = ours.engine_epoch + (1 << 32);
    let stolen = eventually("the host to see the connection end", || async {
        host.clone()
            .claim_host(by(epoch, &ours.engine_incarnation))
            .await
            .ok()
    });
    stolen.await?;
    world.restart_engine().await?;
    stands(
        &world.client,
        &world.host_id,
        Connection::Refused,
        "ENGINE_FENCED",
    )
    .await?;
    world.client.sees_host(second.id(), Connection::Connected).await?;
    makes_none(&world.client, &domain_id).await?;
    makes_a_disk(&world.client, &elsewhere).await?;
    ensure(!world.engine.has_ended(), || world.engine.log_tail(20))?;
    takes_over(&world.client, &world, true).await?;
    makes_a_disk(&world.client, &domain_id).await?;
    world.kill_engine().await?;
    world.restart_engine().await?;
    world.host_is(Connection::Connected).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_of_a_dead_engine_is_taken_over_and_the_dead_one_stays_away() -> TestResult<()> {
    let (mut world, _) = World::furnished().await?;
    world.kill_engine().await?;
    let other = Other::start(&world, "new").await?;
    let request = requests::add_host(&world.host_id, "host", world.host.address());
    let added = other.client.ask_add_host(&request).await?;
    let added = other.client.settled(&added).await?;
    let code = added.fault.as_ref().map(|fault| fault.code.as_str());
    ensure(
        (added.state(), code) == (CommandState::Failed, Some("HOST_OWNED")),
        || format!("{added:#?}"),
    )?;
    let before = info(&world).await?;
    takes_over(&other.client, &world, false).await?;
    let after = info(&world).await?;
    let told = after.last_take_over.context("the host does not tell of it")?;
    let told = [told.user, told.reason, told.correlation_id, told.from_engine_id];
    ensure(
        told == ["ann", "its engine is gone", "fire-7", before.engine_id.as_str()],
        || format!("{told:?}"),
    )?;
    let domain = requests::create_domain(&world.host_id, "second");
    other
        .client
        .succeeds(&other.client.ask_create_domain(&domain).await?)
        .await?;
    makes_a_disk(&other.client, &domain.domain_id).await?;
    world.restart_engine().await?;
    stands(&world.client, &world.host_id, Connection::Refused, "HOST_OWNED").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_put_back_from_before_a_take_over_is_nobodys_to_go_on_with_until_a_person_decides()
-> TestResult<()> {
    let (mut world, domain_id) = World::furnished().await?;
    world.host.signal(Signal::STOP)?;
    let place = world.host.recipe().data_dir.clone();
    let copied = copy_data_dir(&place, &world.folder().join("older"));
    world.host.signal(Signal::CONT)?;
    copied?;
    let other = Other::start(&world, "new").await?;
    takes_over(&other.client, &world, false).await?;
    let (owned, refused) = ("HOST_OWNED", Connection::Refused);
    stands(&world.client, &world.host_id, refused, owned).await?;
    world.kill_host().await?;
    std::fs::remove_dir_all(&place)?;
    copy_data_dir(&world.folder().join("older"), &place)?;
    world.restart_host().await?;
    stands(&other.client, &world.host_id, refused, owned).await?;
    let said = eventually("the former owner to see what became of it", || async {
        let fault = host_of(&world.client, &world.host_id).await?.connection_fault?;
        fault.message.contains("was restored").then_some(fault)
    });
    ensure(said.await?.code == owned, || "another code".to_owned())?;
    stands(&world.client, &world.host_id, refused, owned).await?;
    takes_over(&other.client, &world, true).await?;
    stands(&world.client, &world.host_id, refused, owned).await?;
    takes_over(&world.client, &world, true).await?;
    makes_a_disk(&world.client, &domain_id).await?;
    stands(&other.client, &world.host_id, refused, owned).await
}

/// Nobody requests anything from either engine that would touch the host.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_connected_to_a_host_that_is_taken_over_hears_of_it_at_once() -> TestResult<()> {
    let (mut world, _) = World::furnished().await?;
    world.engine.stop().await?;
    copy_data_dir(&world.engine.recipe().data_dir, &world.folder().join("copy"))?;
    world.restart_engine().await?;
    world.host_is(Connection::Connected).await?;
    let other = Other::start(&world, "copy").await?;
    let fenced = "ENGINE_FENCED";
    stands(&other.client, &world.host_id, Connection::Refused, fenced).await?;
    takes_over(&other.client, &world, true).await?;
    stands(&world.client, &world.host_id, Connection::Refused, fenced).await?;
    let answer = eventually(
        "the engine that has lost its only host to act no more",
        || async { bare_vm(&world.client, &fresh()).await.ok().flatten() },
    );
    let answer = answer.await?;
    ensure(answer == fenced, || answer.clone())?;
    other
        .client
        .sees_host(&world.host_id, Connection::Connected)
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_without_any_engine_is_made_nobodys_while_it_is_stopped() -> TestResult<()> {
    let (mut world, _) = World::furnished().await?;
    world.kill_engine().await?;
    let owner = info(&world).await?.engine_id;
    let release = |world: &World| {
        let recipe = world.host.recipe();
        std::process::Command::new(&recipe.program)
            .arg("--data-dir")
            .arg(&recipe.data_dir)
            .args(&recipe.arguments)
            .arg("--release-host")
            .output()
    };
    let at_work = release(&world)?;
    ensure(!at_work.status.success(), || {
        "done beside a service that runs".to_owned()
    })?;
    world.host.stop().await?;
    let done = release(&world)?;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    ensure(done.status.success() && said.contains(&owner), || {
        format!("{done:?}")
    })?;
    world.host.start(&FailPoints::default()).await?;
    world.host_serves().await?;
    let other = Other::start(&world, "new").await?;
    let request = requests::add_host(&world.host_id, "host", world.host.address());
    other
        .client
        .succeeds(&other.client.ask_add_host(&request).await?)
        .await
}
