//! Under systemd: the units are well-formed and confined, and each service reports when it serves, that it lives, and
//! when it stops.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tests::fail_point::FailPoints;
use tests::failure::{Context as _, TestResult, ensure};
use tests::ids::fresh;
use tests::patience::PATIENCE;
use tests::programs::{program, workspace};
use tests::service::Service;
use tests::world::{engine_recipe, host_recipe};

const UNITS: [&str; 2] = ["engine-svc", "vdsm-svc"];

/// The highest score of `systemd-analyze security` that a unit may have, times ten.
const MOST_EXPOSED: &str = "--threshold=29";

fn systemd_analyze(arguments: &[&str], unit: &Path) -> TestResult<()> {
    let output = Command::new("systemd-analyze")
        .args(arguments)
        .arg(unit)
        .output()
        .context("systemd-analyze, of Debian's package systemd")?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    ensure(output.status.success(), || format!("{arguments:?}: {said}"))?;
    // systemd only prints its complaints about a unit that can be loaded.
    ensure(arguments[0] != "verify" || said.is_empty(), || said)
}

#[test]
fn units_are_well_formed_and_confined() -> TestResult<()> {
    let folder = tempfile::tempdir()?;
    for name in UNITS {
        let file = format!("{name}.service");
        let text = std::fs::read_to_string(workspace().join("deploy/systemd").join(&file))?;
        let installed = format!("/usr/bin/{name}");
        ensure(text.contains(&installed), || {
            format!("{name} is run from elsewhere")
        })?;
        // The programs are not installed here.
        let unit = folder.path().join(&file);
        std::fs::write(
            &unit,
            text.replace(&installed, &program(name)?.display().to_string()),
        )?;
        systemd_analyze(&["verify", "--man=no"], &unit)?;
        systemd_analyze(&["security", "--offline=true", MOST_EXPOSED], &unit)?;
    }
    Ok(())
}

/// Waits for the next notification with this text.
fn hears(supervisor: &UnixDatagram, expected: &str) -> TestResult<()> {
    let mut bytes = [0; 512];
    for _ in 0..1_000 {
        let length = supervisor
            .recv(&mut bytes)
            .context(format!("{expected} was not told"))?;
        let told = String::from_utf8_lossy(&bytes[..length]).into_owned();
        ensure(expected == "STOPPING=1" || !told.contains("STOPPING=1"), || {
            told.clone()
        })?;
        if told.lines().any(|line| line == expected) {
            return Ok(());
        }
    }
    Err(tests::Failure::new(format!("{expected} was not told")))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_is_told_when_a_service_serves_lives_and_stops() -> TestResult<()> {
    let folder = tempfile::tempdir()?;
    let root = folder.path();
    let listen = "127.0.0.1:0".parse().ok().context("an address")?;
    std::fs::create_dir_all(root.join("storage"))?;
    for recipe in [engine_recipe(root, listen)?, host_recipe(root, listen, &fresh())?] {
        let path = root.join(format!("{}.notify", recipe.name));
        let supervisor = UnixDatagram::bind(&path)?;
        supervisor.set_read_timeout(Some(PATIENCE))?;
        let mut service = Service::new(recipe);
        service.set_variable("NOTIFY_SOCKET", &path.display().to_string());
        service.set_variable(
            "WATCHDOG_USEC",
            &Duration::from_millis(200).as_micros().to_string(),
        );
        service.start(&FailPoints::default()).await?;
        hears(&supervisor, "READY=1")?;
        for _ in 0..3 {
            hears(&supervisor, "WATCHDOG=1")?;
        }
        service.signal(rustix::process::Signal::TERM)?;
        hears(&supervisor, "STOPPING=1")?;
        service.ended().await?;
    }
    Ok(())
}
