//! A service's page of metrics, as who measures it sees it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::failure::{Context, TestResult, ensure};
use crate::patience::eventually;

/// How long a page may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// A page that was read.
#[derive(Debug, Clone)]
pub struct Page {
    /// As it came.
    pub text: String,
}

/// The file that says where metrics are served.
pub const ADDRESS: &str = "metrics-address";

/// Where the service over this data directory serves metrics, which may be a moment after it has its address.
///
/// # Errors
/// Where it serves none.
pub async fn address(data_dir: &Path) -> TestResult<SocketAddr> {
    let file = data_dir.join(ADDRESS);
    let text = eventually("metrics to be served", || {
        std::future::ready(std::fs::read_to_string(&file).ok())
    })
    .await?;
    text.trim().parse().ok().context("an address")
}

/// Sends a request of one line, and gives the answer's first line and its body.
///
/// # Errors
/// Where there is no answer.
pub fn ask(address: SocketAddr, line: &str) -> TestResult<(String, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "{line} HTTP/1.1\r\nHost: metrics\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer with a head")?;
    let status = head.lines().next().context("a line of status")?;
    ensure(!head.to_ascii_lowercase().contains("transfer-encoding"), || {
        head.to_owned()
    })?;
    Ok((status.to_owned(), body.to_owned()))
}

impl Page {
    /// Reads the page of the service over this data directory.
    ///
    /// # Errors
    /// Where it serves none.
    pub async fn of(data_dir: &Path) -> TestResult<Self> {
        let address = address(data_dir).await?;
        let asked = tokio::task::spawn_blocking(move || ask(address, "GET /metrics"));
        let (status, text) = asked.await.ok().context("who asks")??;
        ensure(status == "HTTP/1.1 200 OK", || format!("{status}: {text}"))?;
        Ok(Self { text })
    }

    /// The sum of the samples of a metric whose labels hold all of these, each as it stands in the page: `kind="create_vm"`.
    ///
    /// # Errors
    /// Where there is none.
    pub fn sum(&self, name: &str, labels: &[&str]) -> TestResult<f64> {
        let samples = self.text.lines().filter_map(|line| {
            let (what, value) = line.rsplit_once(' ')?;
            let of = what.split('{').next()?;
            (of == name && labels.iter().all(|label| what.contains(label))).then_some(value)
        });
        let values: Vec<f64> = samples
            .map(str::parse)
            .collect::<Result<_, _>>()
            .ok()
            .context("a number")?;
        ensure(!values.is_empty(), || {
            format!("the page has no {name} with {labels:?}")
        })?;
        Ok(values.iter().sum())
    }

    /// That Prometheus' own tool has nothing to say of it.
    ///
    /// # Errors
    /// What it says.
    pub fn is_well_formed(&self) -> TestResult<()> {
        let mut tool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("promtool, of Debian's package prometheus")?;
        let mut input = tool.stdin.take().context("its input")?;
        input.write_all(self.text.as_bytes())?;
        drop(input);
        let output = tool.wait_with_output()?;
        let said = [output.stdout, output.stderr].concat();
        ensure(output.status.success() && said.is_empty(), || {
            format!("promtool: {}", String::from_utf8_lossy(&said))
        })
    }
}
