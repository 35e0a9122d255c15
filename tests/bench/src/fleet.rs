//! A real engine that owns simulated hosts.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::Path;

use proto::engine::v1::host::Connection;
use proto::engine::v1::{
    AddHostRequest, Command, CommandState, CreateStorageDomainRequest, CreateVmRequest, DiskSpec,
    GetHostRequest, WaitCommandRequest,
};
use proto::task::v1::{Allocation, VolumeFormat};
use tests::client::Engine;
use tests::fail_point::FailPoints;
use tests::failure::ensure;
use tests::ids::fresh;
use tests::patience::eventually;
use tests::proxy::Proxy;
use tests::requests;
use tests::service::Service;
use tests::world::engine_recipe;
use tests::{Context as _, Failure, TestResult};
use tokio::task::JoinSet;

use crate::sim::SimulatedHost;

/// Disks of one VM: as many as a request may have.
pub(crate) const DISKS_PER_VM: usize = 64;

/// How long a command of a whole fleet may take.
const COMMAND_TIMEOUT: prost_types::Duration = prost_types::Duration {
    seconds: 60,
    nanos: 0,
};

/// An engine and its hosts.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) engine: Service,
    pub(crate) client: Engine,
    pub(crate) hosts: Vec<SimulatedHost>,
    /// One on each host.
    domains: Vec<String>,
    /// Through it the engine reaches the first host, where one was asked for.
    pub(crate) proxy: Option<Proxy>,
}

impl Fleet {
    /// Starts an engine in `dir`, and gives it so many hosts with a storage domain each.
    ///
    /// # Errors
    /// Where one of these steps fails.
    pub(crate) async fn start(dir: &Path, hosts: usize) -> TestResult<Self> {
        Self::start_with(dir, hosts, false).await
    }

    /// The same, with a proxy before the first host.
    ///
    /// # Errors
    /// Where one of them does not come up.
    pub(crate) async fn start_behind_proxy(dir: &Path, hosts: usize) -> TestResult<Self> {
        Self::start_with(dir, hosts, true).await
    }

    async fn start_with(dir: &Path, hosts: usize, proxied: bool) -> TestResult<Self> {
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut engine = Service::new(engine_recipe(dir, any_port)?);
        let client = Engine::at(engine.start(&FailPoints::default()).await?)?;
        let mut fleet = Self {
            engine,
            client,
            hosts: Vec::new(),
            domains: Vec::new(),
            proxy: None,
        };
        for number in 0..hosts {
            let host = SimulatedHost::start()?;
            let mut address = host.address;
            if proxied && number == 0 {
                let proxy = Proxy::before(address).await?;
                address = proxy.address();
                fleet.proxy = Some(proxy);
            }
            let domain = fleet.furnish(&host, address, number).await?;
            fleet.hosts.push(host);
            fleet.domains.push(domain);
        }
        Ok(fleet)
    }

    async fn furnish(&self, host: &SimulatedHost, address: SocketAddr, number: usize) -> TestResult<String> {
        let request = AddHostRequest {
            host_id: host.host_id.clone(),
            name: format!("host-{number}"),
            address: address.to_string(),
            identity: String::new(),
            request_id: fresh(),
            validate_only: false,
            lock_wait: None,
        };
        let answer = self
            .client
            .hosts
            .clone()
            .add_host(request)
            .await
            .context("AddHost")?;
        succeeds(&self.client, answer.into_inner().command).await?;
        let request = CreateStorageDomainRequest {
            domain_id: fresh(),
            name: format!("domain-{number}"),
            host_id: host.host_id.clone(),
            request_id: fresh(),
            validate_only: false,
            lock_wait: None,
        };
        let answer = self.client.domains.clone().create_storage_domain(request).await;
        let answer = answer.context("CreateStorageDomain")?.into_inner();
        succeeds(&self.client, answer.command).await?;
        Ok(answer.domain_id)
    }

    /// Has the engine accept so many VMs of [`DISKS_PER_VM`] disks, each on one of these hosts, in turn: returns the
    /// commands.
    ///
    /// # Errors
    /// Where one is refused.
    pub(crate) async fn create_vms(&self, hosts: Range<usize>, vms: usize) -> TestResult<Vec<Command>> {
        let mut calls = JoinSet::new();
        for domain in self.domains[hosts].iter().cycle().take(vms) {
            let mut client = self.client.vms.clone();
            let request = vm_on(domain);
            calls.spawn(async move { client.create_vm(request).await });
        }
        let mut commands = Vec::with_capacity(vms);
        while let Some(answer) = calls.join_next().await {
            let answer = answer.map_err(Failure::new)?.context("CreateVm")?.into_inner();
            commands.push(answer.command.context("CreateVm answered without a command")?);
        }
        Ok(commands)
    }

    /// Waits until all hosts hold what they are sent: so many tasks in all.
    ///
    /// # Errors
    /// Where they do not within reason.
    pub(crate) async fn hosts_accepted(&self, tasks: usize) -> TestResult<()> {
        eventually("the hosts to have been sent every task", || {
            let accepted: usize = self.hosts.iter().map(|host| host.history.accepted()).sum();
            std::future::ready((accepted >= tasks).then_some(()))
        })
        .await
    }
}

/// Waits until a command has succeeded.
///
/// # Errors
/// Where it ends otherwise, or not in time.
pub(crate) async fn succeeds(client: &Engine, command: Option<Command>) -> TestResult<()> {
    let command_id = command.context("an answer without a command")?.command_id;
    let request = WaitCommandRequest {
        command_id,
        timeout: Some(COMMAND_TIMEOUT),
    };
    let answer = client
        .commands
        .clone()
        .wait_command(request)
        .await
        .context("WaitCommand")?;
    let command = answer
        .into_inner()
        .command
        .context("WaitCommand answered without a command")?;
    ensure(command.state == i32::from(CommandState::Succeeded), || {
        format!("a command did not succeed: {command:?}")
    })
}

/// Whether the engine is connected to the host and has followed its history up to `cursor`.
pub(crate) async fn has_caught_up(client: &Engine, host_id: &str, cursor: &str) -> Option<()> {
    let request = GetHostRequest {
        host_id: host_id.to_owned(),
    };
    let host = client
        .hosts
        .clone()
        .get_host(request)
        .await
        .ok()?
        .into_inner()
        .host?;
    (host.connection == i32::from(Connection::Connected) && host.cursor == cursor).then_some(())
}

fn vm_on(domain: &str) -> CreateVmRequest {
    let disk: fn(&str) -> DiskSpec = |domain| requests::disk(domain, (VolumeFormat::Cow, Allocation::Sparse));
    let disks = std::iter::repeat_with(|| disk(domain))
        .take(DISKS_PER_VM)
        .collect();
    requests::create_vm(&format!("vm-{}", fresh()), disks)
}
