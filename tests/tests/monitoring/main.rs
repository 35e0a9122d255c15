//! A real Prometheus watches both services: each query of the dashboard returns data, and each alert fires when its
//! problem is caused.
//!
//! The rules are those of `deploy/`, with shorter times and smaller numbers (`SHORTENED`), because a test cannot wait
//! for a quarter of an hour; `promtool test rules` checks the unchanged rules against series of hours. If a problem
//! cannot be caused here, `UNMADE` says why.

mod prometheus;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use proto::engine::v1::WatchCommandsRequest;
use proto::engine::v1::host::Connection;
use tests::fail_point::{Boundary, FailPoints};
use tests::failure::{Context as _, TestResult, ensure};
use tests::gate::Gate;
use tests::loop_mount::{FileSystem, LoopMount, NoMount};
use tests::programs::workspace;
use tests::{World, requests, storage};

use self::prometheus::Prometheus;

/// What is replaced in the rules, in this order: first the times, then bounds that would take hours to reach.
const SHORTENED: [(&str, &str); 9] = [
    ("for: 1m", "for: 0s"),
    ("for: 2m", "for: 0s"),
    ("for: 5m", "for: 0s"),
    ("[15m]", "[15s]"),
    ("[5m]", "[15s]"),
    ("stalled_seconds > 120", "stalled_seconds > 3"),
    ("oldest_seconds > 900", "oldest_seconds > 3"),
    ("sample_age_seconds > 60", "sample_age_seconds > 3"),
    ("lag_revisions > 10000", "lag_revisions > 20"),
];

/// Alerts whose problem is not caused here, and why.
const UNMADE: [(&str, &str); 3] = [
    (
        "CertificateEndsSoon",
        "the services of this world speak plain text on loopback",
    ),
    (
        "WatchLag",
        "a client falls behind only by what does not fit into its connection: some hundred thousand changes",
    ),
    (
        "EngineTakesNoCommands",
        "a start whose hosts are silent acts after five seconds: only another life of the engine keeps it from acting for longer",
    ),
];

fn deploy() -> PathBuf {
    workspace().join("deploy")
}

fn rules() -> TestResult<String> {
    Ok(fs::read_to_string(
        deploy().join("prometheus/vdsm-engine.rules.yml"),
    )?)
}

/// The names of all alerts.
fn alerts() -> TestResult<BTreeSet<String>> {
    let rules = rules()?;
    let names = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    Ok(names.map(str::to_owned).collect())
}

fn promtool(arguments: &[&str], file: &str) -> TestResult<()> {
    let output = Command::new("promtool")
        .args(arguments)
        .arg(deploy().join("prometheus").join(file))
        .output()
        .context("promtool, of Debian's package prometheus")?;
    ensure(output.status.success(), || {
        let said = [output.stdout, output.stderr].concat();
        format!("promtool {arguments:?}: {}", String::from_utf8_lossy(&said))
    })
}

#[test]
fn rules_are_well_formed_and_fire_when_they_must_and_not_before() -> TestResult<()> {
    promtool(&["check", "rules"], "vdsm-engine.rules.yml")?;
    promtool(&["check", "config"], "prometheus.yml")?;
    promtool(&["test", "rules"], "vdsm-engine.test.yml")
}

#[test]
fn every_alert_is_tested_and_has_a_section_that_says_what_to_do() -> TestResult<()> {
    let tested = fs::read_to_string(deploy().join("prometheus/vdsm-engine.test.yml"))?;
    let operations = fs::read_to_string(workspace().join("docs/operations.md"))?;
    for alert in alerts()? {
        let fires = format!("alertname: {alert}\n        exp_alerts:\n          - ");
        ensure(tested.contains(&fires), || format!("no case has {alert} fire"))?;
        let rests = format!("alertname: {alert}, exp_alerts: []");
        ensure(tested.contains(&rests), || {
            format!("no case has {alert} not fire")
        })?;
        ensure(operations.contains(&format!("\n### {alert}\n")), || {
            format!("docs/operations.md has no section {alert}")
        })?;
        let runbook = format!("docs/operations.md#{}\n", alert.to_lowercase());
        ensure(rules()?.contains(&runbook), || {
            format!("{alert} does not name its section")
        })?;
    }
    Ok(())
}

/// The queries of the dashboard, with the titles of their panels.
fn queries() -> TestResult<Vec<(String, String)>> {
    let text = fs::read_to_string(deploy().join("grafana/vdsm-engine.json"))?;
    let dashboard: serde_json::Value = serde_json::from_str(&text).ok().context("a dashboard is JSON")?;
    let panels = dashboard["panels"].as_array().context("it has panels")?;
    let of = |panel: &serde_json::Value| {
        let title = panel["title"].as_str().unwrap_or_default().to_owned();
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        targets.into_iter().filter_map(move |target| {
            let query = target["expr"].as_str()?.replace("$__rate_interval", "30s");
            Some((title.clone(), query))
        })
    };
    Ok(panels.iter().flat_map(of).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_shows_data_and_each_alert_fires_when_its_trouble_is_made() -> TestResult<()> {
    let mount = match LoopMount::make(FileSystem::Ext4) {
        Ok(mount) => Some(mount),
        Err(NoMount::Skip(why)) => {
            say(&format!("skipped: disks that are nearly full: {why}"));
            None
        }
        Err(NoMount::Failed(failure)) => return Err(failure),
    };
    let folder = tempfile::tempdir()?;
    let below = mount
        .as_ref()
        .map_or_else(|| folder.path().to_owned(), LoopMount::path);
    let gate = Gate::open().await?;
    let host = [
        "--qemu-img",
        &gate.program(),
        "--metrics-listen",
        "0",
        "--running-per-host",
        "1",
    ];
    let audit = folder.path().join("audit.jsonl");
    let engine = [
        "--audit-log",
        &audit.display().to_string(),
        "--metrics-listen",
        "0",
        "--heartbeat-ms",
        "500",
        "--max-watches",
        "1",
    ];
    let world = World::start_in(&below, &host, &engine).await?;
    let domain = world.furnish().await?;
    let mut rules = rules()?;
    for (old, new) in SHORTENED {
        ensure(rules.contains(old), || {
            format!("the rules do not have {old:?} any more")
        })?;
        rules = rules.replace(old, new);
    }
    let prometheus = Prometheus::start(&world, &rules).await?;

    say("the dashboard");
    let vm = requests::create_vm("a", requests::four_disks(&domain));
    let created = world.create_vm(&vm).await?;
    world.succeeds(&created).await?;
    refuse_watches(&world).await;
    for (title, query) in queries()? {
        prometheus
            .eventually_has(&format!("data of {title:?}"), &query)
            .await?;
    }
    prometheus.has_quiet(&["ServiceDown", "HostAway", "CommandNeedsAttention", "NoProgress"])?;

    let mut stage = Stage {
        world,
        prometheus,
        gate,
        domain,
        audit,
        fired: BTreeSet::new(),
    };
    stage.play(mount.as_ref()).await?;
    let mut fired = stage.fired;
    fired.extend(UNMADE.iter().map(|(alert, _)| (*alert).to_owned()));
    if mount.is_none() {
        fired.extend(["DataDirectoryNearlyFull", "StorageDomainNearlyFull"].map(str::to_owned));
    }
    ensure(fired == alerts()?, || {
        format!("other alerts fired than there are: {fired:?}")
    })
}

fn say(what: &str) {
    // Nobody reads this if the test runner has ended.
    let _ = writeln!(std::io::stdout().lock(), "{what}");
}

/// Opens one watch more than the engine accepts.
async fn refuse_watches(world: &World) {
    let watch = || {
        let mut commands = world.client.commands.clone();
        async move { commands.watch_commands(WatchCommandsRequest::default()).await }
    };
    let first = watch().await;
    let second = watch().await;
    say(&format!(
        "one watch {}, another {}",
        first.is_ok(),
        second.is_ok()
    ));
}

/// The world, and what the test saw in it.
struct Stage {
    world: World,
    prometheus: Prometheus,
    gate: Gate,
    domain: String,
    audit: PathBuf,
    fired: BTreeSet<String>,
}

impl Stage {
    async fn fires(&mut self, alert: &str) -> TestResult<()> {
        say(alert);
        self.prometheus.eventually_fires(alert).await?;
        self.fired.insert(alert.to_owned());
        Ok(())
    }

    async fn ends(&self, alert: &str) -> TestResult<()> {
        self.prometheus.eventually_ends(alert).await
    }

    /// Causes all problems, one after the other; each is mended before the next.
    async fn play(&mut self, mount: Option<&LoopMount>) -> TestResult<()> {
        self.tasks_that_stand_still().await?;
        self.calls_refused().await?;
        self.an_audit_log_that_is_lost().await?;
        self.a_host_that_is_away().await?;
        self.storage_that_is_not_there().await?;
        self.a_store_that_is_lost().await?;
        if let Some(mount) = mount {
            self.disks_nearly_full(mount).await?;
        }
        self.a_command_that_rests().await
    }

    async fn tasks_that_stand_still(&mut self) -> TestResult<()> {
        let disk = requests::create_disk(&self.domain, requests::KINDS[0]);
        let created = self.world.client.ask_create_disk(&disk).await?;
        self.world.succeeds(&created).await?;
        fill(&self.world.storage_root().join(&self.domain).join("images"))?;
        self.gate.shut("convert")?;
        let id = &disk.disk_id;
        let copied = requests::copy_disk(id, &self.domain, requests::KINDS[1]);
        let copied = self.world.client.ask_copy_disk(&copied).await?;
        self.gate.reached().await?;
        let waits = requests::create_disk(&self.domain, requests::KINDS[2]);
        let waits = self.world.client.ask_create_disk(&waits).await?;
        self.fires("NoProgress").await?;
        self.fires("QueueStandsStill").await?;
        self.gate.reopen()?;
        self.world.succeeds(&copied).await?;
        self.world.succeeds(&waits).await?;
        self.ends("NoProgress").await?;
        self.ends("QueueStandsStill").await
    }

    async fn calls_refused(&mut self) -> TestResult<()> {
        refuse_watches(&self.world).await;
        self.fires("CallsRefused").await?;
        self.ends("CallsRefused").await
    }

    async fn an_audit_log_that_is_lost(&mut self) -> TestResult<()> {
        let moved = self.audit.with_extension("moved");
        fs::rename(&self.audit, &moved)?;
        fs::create_dir(&self.audit)?;
        let disk = requests::create_disk(&self.domain, requests::KINDS[2]);
        let created = self.world.client.ask_create_disk(&disk).await?;
        self.world.succeeds(&created).await?;
        self.fires("AuditLogNotWritable").await?;
        fs::remove_dir(&self.audit)?;
        self.ends("AuditLogNotWritable").await
    }

    async fn a_host_that_is_away(&mut self) -> TestResult<()> {
        self.world.kill_host().await?;
        self.fires("HostAway").await?;
        self.fires("ServiceDown").await?;
        self.world.restart_host().await?;
        self.prometheus.measure(&self.world).await?;
        self.ends("HostAway").await?;
        self.ends("ServiceDown").await
    }

    async fn storage_that_is_not_there(&mut self) -> TestResult<()> {
        let root = self.world.storage_root();
        let moved = root.with_extension("moved");
        fs::rename(&root, &moved)?;
        self.fires("StorageDoesNotAnswer").await?;
        fs::rename(&moved, &root)?;
        self.ends("StorageDoesNotAnswer").await
    }

    async fn a_store_that_is_lost(&mut self) -> TestResult<()> {
        let dir = self.world.engine.recipe().data_dir.clone();
        let moved = dir.with_extension("moved");
        fs::rename(&dir, &moved)?;
        self.fires("StoreUnusable").await?;
        self.fires("ServiceNotReady").await?;
        fs::rename(&moved, &dir)?;
        self.ends("StoreUnusable").await?;
        self.ends("ServiceNotReady").await
    }

    async fn disks_nearly_full(&mut self, mount: &LoopMount) -> TestResult<()> {
        let filler = mount.path().join("filler");
        let stat = rustix::fs::statvfs(mount.path()).ok().context("the mount")?;
        let (free, all) = (stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize);
        // Three per cent are left.
        let file = fs::File::create(&filler)?;
        let flags = rustix::fs::FallocateFlags::empty();
        rustix::fs::fallocate(&file, flags, 0, free - all / 100 * 3)
            .ok()
            .context("to fill it")?;
        self.fires("DataDirectoryNearlyFull").await?;
        self.fires("StorageDomainNearlyFull").await?;
        fs::remove_file(filler)?;
        drop(file);
        self.ends("DataDirectoryNearlyFull").await?;
        self.ends("StorageDomainNearlyFull").await
    }

    /// The host dies during a removal, and loses its memory: storage does not tell, and a person must decide.
    async fn a_command_that_rests(&mut self) -> TestResult<()> {
        let world = &mut self.world;
        let vm = requests::create_vm("b", requests::four_disks(&self.domain));
        let created = world.create_vm(&vm).await?;
        world.succeeds(&created).await?;
        world.host.stop().await?;
        let boundary = Boundary {
            point: "delete_image.set_aside.after".to_owned(),
            hit: 1,
        };
        world.host.start(&FailPoints::killing(&boundary)).await?;
        world.host_serves().await?;
        world.host_is(Connection::Connected).await?;
        let removed = world.remove_vm(&requests::remove_vm(&vm.vm_id)).await?;
        world.host.killed_itself().await?;
        fs::remove_dir_all(&world.host.recipe().data_dir)?;
        world.restart_host().await?;
        self.prometheus.measure(world).await?;
        self.fires("CommandNeedsAttention").await?;
        self.world.client.ended(&removed).await?;
        self.ends("CommandNeedsAttention").await?;
        self.a_task_that_leaves_something().await
    }

    /// A host that cannot tell whether anything of an interrupted task still runs undoes nothing.
    async fn a_task_that_leaves_something(&mut self) -> TestResult<()> {
        let runs = storage::runs(&self.world.storage_root());
        let aside = self.world.folder().join("aside");
        self.gate.shut("create")?;
        let disk = requests::create_disk(&self.domain, requests::KINDS[2]);
        self.world.client.ask_create_disk(&disk).await?;
        self.gate.reached().await?;
        self.world.kill_host().await?;
        fs::rename(&runs, &aside)?;
        fs::write(&runs, "in the way")?;
        self.world.restart_host().await?;
        self.prometheus.measure(&self.world).await?;
        self.fires("TaskLeftSomething").await?;
        fs::remove_file(&runs)?;
        fs::rename(&aside, &runs)?;
        self.gate.reopen()
    }
}

/// Writes something into each raw volume in this directory: a volume that is one hole has no progress.
fn fill(images: &Path) -> TestResult<()> {
    for image in fs::read_dir(images)? {
        for file in fs::read_dir(image?.path())? {
            let path = file?.path();
            if path.extension().is_none() {
                let file = fs::File::options().write(true).open(path)?;
                std::os::unix::fs::FileExt::write_all_at(&file, &[7; 1 << 20], 0)?;
            }
        }
    }
    Ok(())
}
