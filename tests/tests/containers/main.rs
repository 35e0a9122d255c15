//! The two containers do what the two programs do: the main job from outside, with kills and new images in the
//! middle, and they contain nothing that a container should not. One test, because there is one published port.

mod deployment;
mod job;

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use deployment::{Deployment, Service};
use rustix::process::Signal;
use tests::failure::{Context as _, Failure, TestResult, ensure};
use tests::{readme, storage};

/// The maximum size of an image.
const fn most_bytes(service: Service) -> u64 {
    match service {
        Service::Engine => 60_000_000,
        Service::Host => 150_000_000,
    }
}

/// Large enough that a copy of it can be seen under way: each service is killed in the middle.
const DISK: u64 = 768 << 20;

/// The tag of the images that replace the first ones.
const NEXT: &str = "test-next";

#[tokio::test]
async fn two_containers_do_the_main_job_through_kills_and_new_images() -> TestResult<()> {
    let deployment = Deployment::new()?;
    let outcome = play(&deployment).await;
    outcome.map_err(|failure| {
        let logs = Service::ALL.map(|service| format!("{service:?}:\n{}", deployment.logs(service)));
        Failure::new(format!("{failure}\n{}", logs.join("\n")))
    })
}

async fn play(deployment: &Deployment) -> TestResult<()> {
    // Removes what an interrupted run left.
    deployment.down()?;

    say("the README's lines, word for word");
    let (_, lines) = readme::marked("containers")?;
    let shown = deployment.shell(&lines)?;
    for expected in [
        "vdsm-engine/engine-svc:latest",
        "\"name\": \"host-1\"",
        "\"commandId\"",
    ] {
        ensure(shown.contains(expected), || {
            format!("{expected} is not in\n{shown}")
        })?;
    }
    let host_id = std::fs::read_to_string(deployment.tree().join(".env"))?;
    let host_id = host_id
        .trim()
        .strip_prefix("HOST_1_ID=")
        .context("no host id")?
        .to_owned();
    job::comes_with(deployment.tree().join("certificates/admin"));
    for service in Service::ALL {
        deployment.is_healthy(service).await?;
        is_small_and_closed(deployment, service)?;
    }
    only_the_engine_is_published(deployment)?;
    without_a_certificate_there_is_no_way_in(deployment)?;

    say("the main job: a VM with two disks, created, watched and removed");
    let domain_id = job::create_domain(&host_id).await?;
    let watch = job::Watch::begin()?;
    let vm_id = job::create_vm(&domain_id).await?;
    job::succeeds(&job::remove_vm(&vm_id)?).await?;
    let seen = watch.end()?;
    for expected in [
        "TASK_STATE_RUNNING",
        "TASK_STATE_FINISHED",
        "createVolume",
        "deleteImage",
    ] {
        ensure(seen.contains(expected), || {
            format!("the watch did not see {expected}:\n{seen}")
        })?;
    }
    is_empty(deployment, &domain_id)?;

    for service in Service::ALL {
        say(&format!(
            "{service:?} is killed while a VM is removed, and is back by itself"
        ));
        let vm_id = job::create_vm(&domain_id).await?;
        // The host is stopped, so that the removal is under way for the whole of this part: sent, and not yet done.
        let host = deployment.process(Service::Host)?;
        host.signal(Signal::STOP)?;
        let removal = job::remove_vm(&vm_id)?;
        job::has_tasks(&removal).await?;
        deployment.process(service)?.signal(Signal::KILL)?;
        deployment.is_healthy(service).await?;
        if service != Service::Host {
            host.signal(Signal::CONT)?;
        }
        job::succeeds(&removal).await?;
        is_empty(deployment, &domain_id)?;
    }

    let source = job::create_disk(&domain_id, DISK).await?;
    let data = data_file(deployment, &domain_id, &source)?;
    fill(&data)?;
    for service in Service::ALL {
        say(&format!("{service:?} is killed in the middle of a copy"));
        let (copying, copy) = job::copy_disk(&domain_id, &source)?;
        job::moves(&copying).await?;
        deployment.kill_and_start(service).await?;
        is_copied(deployment, &domain_id, &data, &copying, &copy).await?;
    }

    build_next(deployment)?;
    for service in Service::ALL {
        say(&format!(
            "{service:?} is replaced by a new image in the middle of a copy"
        ));
        let before = deployment.inspect(service, "{{.Image}}")?;
        let (copying, copy) = job::copy_disk(&domain_id, &source)?;
        job::moves(&copying).await?;
        deployment.replace(service, NEXT).await?;
        let after = deployment.inspect(service, "{{.Image}}")?;
        ensure(before != after, || format!("{service:?} still runs {before}"))?;
        is_copied(deployment, &domain_id, &data, &copying, &copy).await?;
    }
    job::remove_disk(&source).await?;
    is_empty(deployment, &domain_id)?;

    say("SIGTERM ends the first process of each in order");
    for service in Service::ALL {
        let container = deployment.container(service)?;
        deployment.tool(&["stop", "--time", "15", &container])?;
        let code = deployment.inspect(service, "{{.State.ExitCode}}")?;
        ensure(code == "0", || {
            format!("{service:?} ended with {code}:\n{}", deployment.logs(service))
        })?;
    }
    deployment.down()
}

/// A copy succeeds and equals its source; then it is removed.
async fn is_copied(
    deployment: &Deployment,
    domain_id: &str,
    source: &Path,
    copying: &str,
    copy: &str,
) -> TestResult<()> {
    job::succeeds(copying).await?;
    let copied = data_file(deployment, domain_id, copy)?;
    let same = std::process::Command::new("cmp")
        .args([source, &copied])
        .status()?;
    ensure(same.success(), || {
        format!("{} differs from its source", copied.display())
    })?;
    job::remove_disk(copy).await
}

/// The host's volume contains no image, no leftover and no run directory.
fn is_empty(deployment: &Deployment, domain_id: &str) -> TestResult<()> {
    let root = deployment.storage()?;
    let left: BTreeSet<String> = storage::images(&root, domain_id)
        .into_iter()
        .chain(storage::run_directories(&root))
        .collect();
    ensure(left.is_empty(), || format!("left in the volume: {left:?}"))
}

/// The file with a disk's data: the one without a file extension.
fn data_file(deployment: &Deployment, domain_id: &str, disk_id: &str) -> TestResult<PathBuf> {
    let root = deployment.storage()?;
    let file = storage::image_files(&root, domain_id, disk_id)
        .into_iter()
        .find(|name| !name.contains('.'))
        .context(format!("no data file of {disk_id}"))?;
    Ok(root.join(domain_id).join("images").join(disk_id).join(file))
}

/// Writes data that does not repeat, so that a copy has something to do.
fn fill(data: &Path) -> TestResult<()> {
    let mut random = std::fs::File::open("/dev/urandom")?.take(DISK);
    let mut file = std::fs::File::options().write(true).open(data)?;
    std::io::copy(&mut random, &mut file)?;
    file.sync_all()?;
    Ok(())
}

/// Builds both images again, from the same sources; a label makes them different images.
fn build_next(deployment: &Deployment) -> TestResult<()> {
    deployment.shell(&format!("REVISION={NEXT} scripts/containers {NEXT}"))?;
    for service in Service::ALL {
        let label = r#"{{index .Config.Labels "org.opencontainers.image.revision"}}"#;
        let revision = deployment.tool(&["image", "inspect", "--format", label, &service.image(NEXT)])?;
        ensure(revision == NEXT, || format!("{service:?} is labelled {revision}"))?;
    }
    Ok(())
}

/// The image is within its bound, without a shell and a package manager, and its process has no rights.
fn is_small_and_closed(deployment: &Deployment, service: Service) -> TestResult<()> {
    let image = service.image("latest");
    let size = deployment.tool(&["image", "inspect", "--format", "{{.Size}}", &image])?;
    let bytes: u64 = size.parse().map_err(|_| Failure::new(format!("size {size:?}")))?;
    say(&format!("{image}: {:.1} MB", bytes as f64 / 1e6));
    ensure(bytes < most_bytes(service), || {
        format!("{image} has {bytes} bytes")
    })?;

    let list = format!(
        "{} export {} | tar -t",
        deployment.tool_name(),
        deployment.container(service)?
    );
    let files = deployment.shell(&list)?;
    for name in ["sh", "bash", "dash", "busybox", "apt", "apt-get", "dpkg", "curl"] {
        let is_there = files.lines().any(|file| file.ends_with(&format!("/{name}")));
        ensure(!is_there, || format!("{image} has a {name}"))?;
    }

    let folders = match service {
        Service::Engine => &["drwx------ 36/36 var/lib/engine-svc/"][..],
        Service::Host => &["drwx------ 36/36 var/lib/vdsm-svc/", "drwxrwx--- 36/36 storage/"],
    };
    // A container that was never started shows the image, and nothing of a volume.
    let listing = format!(
        "id=$({tool} create {image}) && {tool} export $id | tar -tv --numeric-owner | tr -s ' ' | cut -d ' ' -f 1,2,6; {tool} rm $id >&2",
        tool = deployment.tool_name()
    );
    let listing = deployment.shell(&listing)?;
    for folder in folders {
        ensure(listing.contains(folder), || {
            format!("{folder} is not in\n{listing}")
        })?;
    }

    let read_only = deployment.inspect(service, "{{.HostConfig.ReadonlyRootfs}}")?;
    ensure(read_only == "true", || {
        format!("{service:?} may write to its root")
    })?;
    let status = std::fs::read_to_string(format!("/proc/{}/status", deployment.process(service)?.id()))?;
    for expected in [
        "Uid:\t36\t36\t36\t36",
        "Gid:\t36\t36\t36\t36",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        ensure(status.contains(expected), || {
            format!("{service:?} is not {expected}:\n{status}")
        })?;
    }
    Ok(())
}

/// Only the engine is published, and on loopback; the host's port is known to the engine alone.
fn only_the_engine_is_published(deployment: &Deployment) -> TestResult<()> {
    let ports = "{{json .HostConfig.PortBindings}}";
    let engine = deployment.inspect(Service::Engine, ports)?;
    ensure(
        engine.contains("127.0.0.1") && !engine.contains("0.0.0.0"),
        || engine.clone(),
    )?;
    let host = deployment.inspect(Service::Host, ports)?;
    ensure(!host.contains("HostPort"), || {
        format!("the host publishes {host}")
    })
}

/// Without a certificate nobody gets in: neither in plain text nor with TLS, neither from this machine nor from the
/// network of the containers.
fn without_a_certificate_there_is_no_way_in(deployment: &Deployment) -> TestResult<()> {
    say("each wrong door");
    for flags in ["-plaintext", "-insecure", "-cacert certificates/admin/ca.crt"] {
        let line = format!("! grpcurl {flags} -max-time 10 127.0.0.1:54320 list 2>&1");
        deployment.shell(&line)?;
    }
    let log = deployment.shell("scripts/compose logs engine 2>&1")?;
    for said in ["does not speak TLS", "shows no certificate"] {
        ensure(log.contains(said), || format!("{said} is not in\n{log}"))?;
    }
    Ok(())
}

/// Says what is being tried, for a person who waits.
fn say(what: &str) {
    let _ = writeln!(std::io::stdout().lock(), "containers: {what}");
}
