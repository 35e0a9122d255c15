//! A Prometheus server beside a world.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::World;
use tests::failure::{Context as _, Failure, TestResult, ensure};
use tests::ids::fresh_loopback;
use tests::metrics::address;

/// How long an effect may take to be seen: several scrapes, and what leads to it.
const PATIENCE: Duration = Duration::from_secs(90);

/// How often the test looks.
const LOOK: Duration = Duration::from_millis(250);

/// A Prometheus that scrapes both services every second. Dropping this kills it.
#[derive(Debug)]
pub(super) struct Prometheus {
    process: Child,
    address: SocketAddr,
    folder: TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("— Prometheus' last words —\n{}", self.log());
        }
    }
}

impl Prometheus {
    /// Starts Prometheus with these rules, for the services of a world.
    pub(super) async fn start(world: &World, rules: &str) -> TestResult<Self> {
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name);
        fs::write(path("rules.yml"), rules)?;
        let jobs = ["engine-svc", "vdsm-svc"].map(|job| {
            let files = path(&format!("{job}.json"));
            format!(
                "  - job_name: {job}\n    file_sd_configs:\n      - files: [\"{}\"]\n        refresh_interval: 1s\n",
                files.display()
            )
        });
        let configuration = format!(
            "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\n  evaluation_interval: 1s\nrule_files: [rules.yml]\nscrape_configs:\n{}",
            jobs.concat()
        );
        fs::write(path("prometheus.yml"), configuration)?;
        let address = SocketAddr::new(fresh_loopback().into(), 9_090);
        targets(&folder, world).await?;
        let log = fs::File::create(path("log"))?;
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", path("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", path("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("prometheus, of Debian's package prometheus")?;
        let prometheus = Self {
            process,
            address,
            folder,
        };
        for job in ["engine-svc", "vdsm-svc"] {
            prometheus
                .eventually_has(job, &format!("up{{job=\"{job}\"}} == 1"))
                .await?;
        }
        Ok(prometheus)
    }

    /// Points Prometheus to the new ports of the world's services.
    pub(super) async fn measure(&self, world: &World) -> TestResult<()> {
        targets(&self.folder, world).await
    }

    /// Waits until a query returns data.
    pub(super) async fn eventually_has(&self, what: &str, query: &str) -> TestResult<()> {
        self.eventually(&format!("{what}: {query}"), || Ok(!self.query(query)?.is_empty()))
            .await
    }

    /// Waits until an alert fires.
    pub(super) async fn eventually_fires(&self, alert: &str) -> TestResult<()> {
        self.eventually_has(alert, &firing(alert)).await
    }

    /// Waits until an alert no longer fires.
    pub(super) async fn eventually_ends(&self, alert: &str) -> TestResult<()> {
        self.eventually(&format!("{alert} to end"), || {
            Ok(self.query(&firing(alert))?.is_empty())
        })
        .await
    }

    /// Checks that none of these alerts fires now.
    pub(super) fn has_quiet(&self, alerts: &[&str]) -> TestResult<()> {
        for alert in alerts {
            let found = self.query(&firing(alert))?;
            ensure(found.is_empty(), || format!("{alert} fires: {found:?}"))?;
        }
        Ok(())
    }

    async fn eventually(&self, what: &str, look: impl Fn() -> TestResult<bool>) -> TestResult<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            // Prometheus may still be starting.
            let seen = look();
            if matches!(seen, Ok(true)) {
                return Ok(());
            }
            if Instant::now() > end {
                let all = self.query("ALERTS");
                return Err(Failure::new(format!(
                    "waited {PATIENCE:?} in vain for {what}: {seen:?}; alerts: {all:?}\n{}",
                    self.log()
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The result of an instant query.
    fn query(&self, query: &str) -> TestResult<Vec<Value>> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        // In HTTP 1.0, the answer ends with the connection.
        write!(
            stream,
            "GET /api/v1/query?query={} HTTP/1.0\r\n\r\n",
            escaped(query)
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").context("an answer")?;
        let body: Value = serde_json::from_str(body).ok().context(format!("JSON: {body}"))?;
        ensure(body["status"] == "success", || body.to_string())?;
        Ok(body["data"]["result"].as_array().cloned().unwrap_or_default())
    }

    fn log(&self) -> String {
        let text = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

/// Writes the scrape targets of a world's services.
async fn targets(folder: &TempDir, world: &World) -> TestResult<()> {
    for (job, instance, data_dir) in [
        ("engine-svc", "engine", world.engine.recipe().data_dir.clone()),
        ("vdsm-svc", "host", world.host.recipe().data_dir.clone()),
    ] {
        let targets = json!([{
            "targets": [address(&data_dir).await?.to_string()],
            "labels": { "instance": instance },
        }]);
        let file: PathBuf = folder.path().join(format!("{job}.json"));
        let new = file.with_extension("new");
        fs::write(&new, targets.to_string())?;
        fs::rename(new, file)?;
    }
    Ok(())
}

fn firing(alert: &str) -> String {
    format!("ALERTS{{alertname=\"{alert}\", alertstate=\"firing\"}}")
}

fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte.is_ascii_alphanumeric() {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}
