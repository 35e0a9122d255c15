//! A user's requests to the deployment, with grpcurl, from outside.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::{Value, json};
use tests::failure::{Context as _, Failure, TestResult, ensure};
use tests::ids;
use tests::patience::eventually;
use tests::readme;

/// The only port that is published.
const ENGINE: &str = "127.0.0.1:54320";

/// The time limit that the README names: the longest that a call waits.
const LIMIT: &str = "60";

/// The directory of the caller's certificate.
static KEYS: OnceLock<PathBuf> = OnceLock::new();

/// From here on, calls show the certificate in this directory.
pub(crate) fn comes_with(keys: PathBuf) {
    // Only the first call counts: there is one deployment.
    let _ = KEYS.set(keys);
}

/// One call, and its answer.
pub(crate) fn call(method: &str, request: &Value) -> TestResult<Value> {
    let done = grpcurl(method, request)?.output().context("grpcurl")?;
    ensure(done.status.success(), || {
        format!("{method} {request}: {}", String::from_utf8_lossy(&done.stderr))
    })?;
    serde_json::from_slice(&done.stdout).map_err(|error| Failure::new(format!("{method}: {error}")))
}

fn grpcurl(method: &str, request: &Value) -> TestResult<Command> {
    let mut grpcurl = Command::new(readme::grpcurl_folder()?.join("grpcurl"));
    grpcurl
        .current_dir(KEYS.get().context("the keys are not there yet")?)
        .args([
            "-cacert",
            "ca.crt",
            "-cert",
            "tls.crt",
            "-key",
            "tls.key",
            "-max-time",
            LIMIT,
        ])
        .args(["-d", &request.to_string(), ENGINE, method])
        .stdin(Stdio::null());
    Ok(grpcurl)
}

/// Requests a command; returns its id.
pub(crate) fn ask(method: &str, request: &Value) -> TestResult<String> {
    let answer = call(method, request)?;
    let id = answer["command"]["commandId"].as_str();
    Ok(id.context(format!("no command in {answer}"))?.to_owned())
}

/// Waits until a command has succeeded, over restarts of the engine.
pub(crate) async fn succeeds(command_id: &str) -> TestResult<()> {
    let command = eventually(&format!("command {command_id} to end"), || {
        let answer = call(
            "vdsm_engine.engine.v1.CommandService/GetCommand",
            &json!({"command_id": command_id}),
        );
        let command = answer.ok().map(|answer| answer["command"].clone());
        let state = command.as_ref().and_then(|command| command["state"].as_str());
        let rests = matches!(
            state,
            None | Some("COMMAND_STATE_ACTIVE" | "COMMAND_STATE_COMPENSATING")
        );
        std::future::ready(command.filter(|_| !rests))
    })
    .await?;
    ensure(command["state"] == "COMMAND_STATE_SUCCEEDED", || {
        format!("{command:#}")
    })
}

/// Waits until a task of a command has some progress: neither none nor all.
pub(crate) async fn moves(command_id: &str) -> TestResult<()> {
    eventually(&format!("a task of {command_id} to be on its way"), || {
        let answer = call(
            "vdsm_engine.engine.v1.JobService/GetJob",
            &json!({"job_id": command_id}),
        );
        let steps = answer
            .map(|answer| answer["job"]["steps"].clone())
            .unwrap_or_default();
        let is_on_its_way = steps.as_array().into_iter().flatten().any(|step| {
            let percent = step["percent"].as_f64().unwrap_or_default();
            step["taskId"].is_string() && percent > 0.0 && percent < 100.0
        });
        std::future::ready(is_on_its_way.then_some(()))
    })
    .await
}

/// Waits until a command has a task, which is then recorded and on its way to the host.
pub(crate) async fn has_tasks(command_id: &str) -> TestResult<()> {
    eventually(&format!("a task of {command_id}"), || {
        let request = json!({"filter": {"root_command_id": command_id}});
        let tasks = call("vdsm_engine.engine.v1.TaskService/ListTasks", &request).ok();
        std::future::ready(tasks.filter(|tasks| tasks["tasks"].is_array()).map(drop))
    })
    .await
}

/// All changes of tasks from now on, as grpcurl prints them.
pub(crate) struct Watch(std::process::Child);

impl Watch {
    pub(crate) fn begin() -> TestResult<Self> {
        let request = json!({"start": {"snapshot": {}}});
        let mut grpcurl = grpcurl("vdsm_engine.engine.v1.TaskService/WatchTasks", &request)?;
        Ok(Self(
            grpcurl.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?,
        ))
    }

    /// Ends the watch; returns what it saw.
    pub(crate) fn end(mut self) -> TestResult<String> {
        self.0.kill()?;
        let seen = self.0.wait_with_output()?;
        Ok(String::from_utf8_lossy(&seen.stdout).into_owned())
    }
}

/// Creates the storage domain for the disks; returns its id.
pub(crate) async fn create_domain(host_id: &str) -> TestResult<String> {
    let domain_id = ids::fresh();
    let request = json!({"domain_id": domain_id, "name": "data", "host_id": host_id});
    succeeds(&ask(
        "vdsm_engine.engine.v1.StorageDomainService/CreateStorageDomain",
        &request,
    )?)
    .await?;
    Ok(domain_id)
}

/// Creates a VM with two disks, observed by a watch; returns its id.
pub(crate) async fn create_vm(domain_id: &str) -> TestResult<String> {
    let vm_id = ids::fresh();
    let request = json!({"vm_id": vm_id, "name": format!("vm-{vm_id}"), "disks": [
        {"domain_id": domain_id, "capacity_bytes": 1 << 30, "format": "VOLUME_FORMAT_COW", "allocation": "ALLOCATION_SPARSE"},
        {"domain_id": domain_id, "capacity_bytes": 1 << 24, "format": "VOLUME_FORMAT_RAW", "allocation": "ALLOCATION_PREALLOCATED"},
    ]});
    succeeds(&ask("vdsm_engine.engine.v1.VmService/CreateVm", &request)?).await?;
    Ok(vm_id)
}

/// Requests a VM's removal; returns the command's id.
pub(crate) fn remove_vm(vm_id: &str) -> TestResult<String> {
    ask(
        "vdsm_engine.engine.v1.VmService/RemoveVm",
        &json!({"vm_id": vm_id}),
    )
}

/// Creates a disk without a VM; returns its id.
pub(crate) async fn create_disk(domain_id: &str, bytes: u64) -> TestResult<String> {
    let disk_id = ids::fresh();
    let request = json!({"disk_id": disk_id, "domain_id": domain_id, "capacity_bytes": bytes,
        "format": "VOLUME_FORMAT_RAW", "allocation": "ALLOCATION_PREALLOCATED"});
    succeeds(&ask("vdsm_engine.engine.v1.DiskService/CreateDisk", &request)?).await?;
    Ok(disk_id)
}

/// Requests a copy of a disk that is compared before it counts; returns the ids of the command and of the copy.
pub(crate) fn copy_disk(domain_id: &str, source: &str) -> TestResult<(String, String)> {
    let disk_id = ids::fresh();
    let request = json!({"source_disk_id": source, "disk_id": disk_id, "domain_id": domain_id, "verify": true,
        "format": "VOLUME_FORMAT_RAW", "allocation": "ALLOCATION_SPARSE"});
    Ok((
        ask("vdsm_engine.engine.v1.DiskService/CopyDisk", &request)?,
        disk_id,
    ))
}

/// Removes a disk.
pub(crate) async fn remove_disk(disk_id: &str) -> TestResult<()> {
    succeeds(&ask(
        "vdsm_engine.engine.v1.DiskService/RemoveDisk",
        &json!({"disk_id": disk_id}),
    )?)
    .await
}
