//! Signals and limits of the system: the service stops regularly or goes on, and a limit costs only the task that
//! reaches it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use proto::host::v1::StartTaskRequest;
use proto::task::v1::operation::Verb;
use proto::task::v1::{Allocation, CreateVolume, VolumeFormat};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, prlimit};
use tests::fail_point::FailPoints;
use tests::failure::{Context as _, TestResult, ensure};
use tests::lone_host::LoneHost;
use tests::patience::eventually;
use tests::programs::write_script;
use tests::world::World;
use tests::{requests, words};

/// The signals at which a service goes on.
const GOES_ON: [Signal; 10] = [
    Signal::HUP,
    Signal::USR1,
    Signal::USR2,
    Signal::ALARM,
    Signal::VTALARM,
    Signal::PROF,
    Signal::IO,
    Signal::XFSZ,
    Signal::XCPU,
    Signal::STKFLT,
];

/// Real-time signals without a meaning: the first, one in the middle, and the last.
const REAL_TIME: [i32; 3] = [34, 50, 64];

const STOPS: [Signal; 4] = [Signal::TERM, Signal::INT, Signal::QUIT, Signal::POWER];

#[tokio::test(flavor = "multi_thread")]
async fn the_usual_signals_end_a_service_in_order_and_others_not_at_all() -> TestResult<()> {
    let mut world = World::start().await?;
    for stop in STOPS {
        for service in [&mut world.host, &mut world.engine] {
            let process = service.pid();
            for signal in GOES_ON {
                service.signal(signal)?;
            }
            for number in REAL_TIME {
                let pid = process.context("it runs")?.as_raw_nonzero();
                let sent = Command::new("sh")
                    .args(["-c", &format!("kill -{number} {pid}")])
                    .status()?;
                ensure(sent.success(), || format!("signal {number}: {sent}"))?;
            }
            // The service logs it, so it has heard the signal before this.
            eventually("SIGHUP to be told", || {
                std::future::ready(
                    service
                        .log_tail(50)
                        .contains("SIGHUP: the certificates, if any, are read again")
                        .then_some(()),
                )
            })
            .await?;
            ensure(service.pid() == process && !service.has_ended(), || {
                format!("it ended:\n{}", service.log_tail(20))
            })?;
            service.signal(stop)?;
            let status = service.ended().await?.context("it did not run")?;
            ensure(status.success(), || format!("{status} at {stop:?}"))?;
            ensure(!service.address_file().exists(), || {
                format!("after {stop:?} its address is still told")
            })?;
            service.start(&FailPoints::default()).await?;
        }
    }
    Ok(())
}

/// A volume that is larger than a file may be: once as a file that qemu-img makes, and once as a file that the host
/// makes itself.
fn too_large(domain_id: &str, format: VolumeFormat) -> StartTaskRequest {
    let volume = requests::create_volume(domain_id, (format, Allocation::Preallocated));
    requests::start_task(Verb::CreateVolume(CreateVolume {
        capacity_bytes: 256 << 20,
        ..volume
    }))
}

fn limit(host: &LoneHost, resource: Resource, soft: Option<u64>) -> TestResult<()> {
    let pid = host.service.pid().context("it runs")?;
    let limit = Rlimit {
        current: soft,
        maximum: getrlimit(resource).maximum,
    };
    prlimit(Some(pid), resource, limit).map_err(std::io::Error::from)?;
    Ok(())
}

/// Checks that a task fails because of a limit and is undone, and that the service goes on.
async fn meets(host: &LoneHost, request: &StartTaskRequest, code: &str) -> TestResult<()> {
    let task = host.client.run(request).await?;
    let fault = task.fault.clone().unwrap_or_default();
    ensure(
        words::task_state(task.state) == "RECOVERED" && fault.code == code,
        || format!("it was to fail with {code}: {task:#?}"),
    )
}

async fn works(host: &LoneHost, domain_id: &str) -> TestResult<()> {
    let volume = requests::create_volume(domain_id, requests::KINDS[2]);
    let task = host
        .client
        .run(&requests::start_task(Verb::CreateVolume(volume)))
        .await?;
    ensure(words::task_state(task.state) == "FINISHED", || {
        format!("{task:#?}")
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_on_files_costs_the_task_that_meets_it() -> TestResult<()> {
    let folder = tempfile::tempdir()?;
    let mut host = LoneHost::start_below(folder.path()).await?;
    let domain_id = host.client.create_domain().await?;
    let process = host.service.pid();
    // More than any write of the store.
    limit(&host, Resource::Fsize, Some(128 << 20))?;
    for format in [VolumeFormat::Raw, VolumeFormat::Cow] {
        meets(&host, &too_large(&domain_id, format), "FILE_TOO_LARGE").await?;
        works(&host, &domain_id).await?;
    }
    limit(&host, Resource::Fsize, None)?;

    let open = std::fs::read_dir(format!(
        "/proc/{}/fd",
        process.map_or(0, |pid| pid.as_raw_nonzero().get())
    ))?;
    limit(&host, Resource::Nofile, Some(open.count() as u64))?;
    let volume = requests::create_volume(&domain_id, requests::KINDS[0]);
    let task = host
        .client
        .run(&requests::start_task(Verb::CreateVolume(volume)))
        .await?;
    let code = task.fault.clone().unwrap_or_default().code;
    ensure(code == "RESOURCE_LIMIT", || format!("{task:#?}"))?;
    limit(&host, Resource::Nofile, Some(1 << 10))?;
    works(&host, &domain_id).await?;
    ensure(host.service.pid() == process, || {
        "it was started again".to_owned()
    })?;
    host.service.stop().await
}

/// The user that the service runs as: no other processes count for this user's limit.
const USER: u32 = 54_360;

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_on_processes_costs_the_task_that_meets_it() -> TestResult<()> {
    if !rustix::process::geteuid().is_root() {
        crate::skipped("a limit on processes", "another user needs root");
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let mut host = as_another_user(folder.path()).await?;
    let domain_id = host.client.create_domain().await?;
    works(&host, &domain_id).await?;
    let process = host.service.pid();
    processes(&host, Some(1)).await?;
    for _ in 0..10 {
        let volume = requests::create_volume(&domain_id, requests::KINDS[2]);
        meets(
            &host,
            &requests::start_task(Verb::CreateVolume(volume)),
            "RESOURCE_LIMIT",
        )
        .await?;
        host.serves().await?;
    }
    processes(&host, None).await?;
    works(&host, &domain_id).await?;
    ensure(host.service.pid() == process, || {
        "it was started again".to_owned()
    })?;
    host.service.stop().await
}

/// Sets the number of processes and threads that the service's user may have: only that user may set it, and only up
/// to the former limit.
async fn processes(host: &LoneHost, most: Option<u64>) -> TestResult<()> {
    let all = getrlimit(Resource::Nproc).maximum;
    let most = most
        .or(all)
        .map_or("unlimited".to_owned(), |most| most.to_string());
    let pid = host.service.pid().context("it runs")?.as_raw_nonzero();
    let ran = tokio::process::Command::new("setpriv")
        .args([
            format!("--reuid={USER}"),
            format!("--regid={USER}"),
            "--clear-groups".to_owned(),
        ])
        .args([
            "prlimit".to_owned(),
            format!("--pid={pid}"),
            format!("--nproc={most}:"),
        ])
        .output()
        .await?;
    ensure(ran.status.success(), || format!("{ran:?}"))
}

async fn as_another_user(folder: &Path) -> TestResult<LoneHost> {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o777))?;
    for name in ["storage", "host"] {
        let path = folder.join(name);
        std::fs::create_dir(&path)?;
        std::os::unix::fs::chown(&path, Some(USER), Some(USER))?;
    }
    let program = folder.join("as-another-user");
    let service = tests::programs::program("vdsm-svc")?;
    // A copy, because other users may not reach the built program.
    std::fs::copy(&service, folder.join("vdsm-svc"))?;
    let script = format!(
        "#!/bin/sh\nexec setpriv --reuid={USER} --regid={USER} --clear-groups {} \"$@\"\n",
        folder.join("vdsm-svc").display()
    );
    write_script(&program, &script).await?;
    LoneHost::start_program(folder, &program).await
}
