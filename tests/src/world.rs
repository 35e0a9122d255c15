//! A small world: one host, one engine, their directories and a client of each.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proto::engine::v1::{Command, CreateVmRequest, RemoveVmRequest, host::Connection};
use proto::host::v1::GetHostInfoRequest;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tonic::transport::Channel;

use crate::audit::{Place, View};
use crate::client::{self, Engine, Host};
use crate::fail_point::FailPoints;
use crate::failure::{Context, Failure, TestResult};
use crate::ids::{fresh, fresh_loopback};
use crate::neighbour::Neighbour;
use crate::patience::{eventually, persist};
use crate::programs::program;
use crate::requests;
use crate::service::{Recipe, Service};
use crate::tls::{Knock, Locks};

/// Keeps the directories of worlds, for a look at what a failed test left.
const KEEP: &str = "KEEP_WORLDS";

/// How long the end of killed processes is waited for.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// How often it is looked for.
const GLANCE: Duration = Duration::from_millis(2);

/// Both services and what is theirs. They are killed when this is dropped, and whatever they left running with
/// them.
#[derive(Debug)]
pub struct World {
    /// The host.
    pub host: Service,
    /// The engine.
    pub engine: Service,
    /// The id that the host is configured with.
    pub host_id: String,
    /// A client of the host.
    pub host_client: Host,
    /// A client of the engine.
    pub client: Engine,
    /// What is on the doors; none in plain text.
    pub locks: Option<Locks>,
    /// Declared last: the directories go when nobody works in them any more.
    folder: TempDir,
}

impl World {
    /// Starts both services in directories of their own. The engine knows no host yet.
    ///
    /// # Errors
    /// When one of them does not come up.
    pub async fn start() -> TestResult<Self> {
        Self::start_with(&[]).await
    }

    /// The same, with more arguments for the host.
    ///
    /// # Errors
    /// When one of them does not come up.
    pub async fn start_with(host_arguments: &[&str]) -> TestResult<Self> {
        Self::start_as(host_arguments, &[]).await
    }

    /// The same, with more arguments for each of them.
    ///
    /// # Errors
    /// When one of them does not come up.
    pub async fn start_as(host_arguments: &[&str], engine_arguments: &[&str]) -> TestResult<Self> {
        Self::start_in(&std::env::temp_dir(), host_arguments, engine_arguments).await
    }

    /// Starts both services in a directory of their own below `parent`.
    ///
    /// # Errors
    /// When one of them does not come up.
    pub async fn start_below(parent: &Path) -> TestResult<Self> {
        Self::start_in(parent, &[], &[]).await
    }

    /// Starts both services in directories of their own, with TLS on all three ways. The clients are those of an admin.
    ///
    /// # Errors
    /// When one of them does not come up.
    pub async fn locked() -> TestResult<Self> {
        let dress = |root: &Path, address: IpAddr, host_id: &str| {
            let locks = Locks::make(root.join("pki"), address, host_id)?;
            Ok(Dress {
                host: locks.host.as_service().into(),
                engine: [locks.engine.as_service(), locks.engine.to_hosts()].concat(),
                locks: Some(locks),
            })
        };
        Self::start_dressed(&std::env::temp_dir(), dress).await
    }

    /// Starts both services in a directory of their own below `parent`, with more arguments for each of them.
    ///
    /// # Errors
    /// When one of them does not come up.
    pub async fn start_in(
        parent: &Path,
        host_arguments: &[&str],
        engine_arguments: &[&str],
    ) -> TestResult<Self> {
        let dress = |_: &Path, _: IpAddr, _: &str| {
            let owned = |arguments: &[&str]| arguments.iter().map(|&one| one.to_owned()).collect();
            Ok(Dress {
                host: owned(host_arguments),
                engine: owned(engine_arguments),
                locks: None,
            })
        };
        Self::start_dressed(parent, dress).await
    }

    async fn start_dressed(
        parent: &Path,
        dress: impl FnOnce(&Path, IpAddr, &str) -> TestResult<Dress>,
    ) -> TestResult<Self> {
        let mut folder = tempfile::Builder::new().prefix("world-").tempdir_in(parent)?;
        folder.disable_cleanup(std::env::var_os(KEEP).is_some());
        let root = folder.path();
        let listen = SocketAddr::new(IpAddr::V4(fresh_loopback()), 0);
        let host_id = fresh();
        std::fs::create_dir_all(root.join("storage"))?;
        let dress = dress(root, listen.ip(), &host_id)?;
        let mut recipe = host_recipe(root, listen, &host_id)?;
        recipe.arguments.extend(dress.host.iter().map(Into::into));
        let mut host = Service::new(recipe);
        let mut engine_recipe = engine_recipe(root, listen)?;
        engine_recipe
            .arguments
            .extend(dress.engine.iter().map(Into::into));
        let mut engine = Service::new(engine_recipe);
        let host_address = host.start(&FailPoints::default()).await?;
        let engine_address = engine.start(&FailPoints::default()).await?;
        let world = Self {
            host,
            engine,
            host_id,
            host_client: Host::over(way(host_address, dress.locks.as_ref())?),
            client: Engine::over(way(engine_address, dress.locks.as_ref())?),
            locks: dress.locks,
            folder,
        };
        world.host_serves().await?;
        Ok(world)
    }

    /// A world whose engine has taken the host and made a storage domain: with the domain's id.
    ///
    /// # Errors
    /// When one of these steps fails.
    pub async fn furnished() -> TestResult<(Self, String)> {
        let world = Self::start().await?;
        let domain_id = world.furnish().await?;
        Ok((world, domain_id))
    }

    /// Adds the host and creates a storage domain: returns its id.
    ///
    /// # Errors
    /// When one of these steps fails.
    pub async fn furnish(&self) -> TestResult<String> {
        self.add_host(self.host.address()).await?;
        self.create_domain("first").await
    }

    /// Has the engine take the host at this address.
    ///
    /// # Errors
    /// When it does not succeed.
    pub async fn add_host(&self, address: SocketAddr) -> TestResult<()> {
        let command_id = self.ask_add_host(address).await?;
        self.succeeds(&command_id).await
    }

    /// Starts one more host below this world's folder, in one of this name, with more arguments. The engine does not
    /// know it yet.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn neighbour(&self, folder: &str, arguments: &[&str]) -> TestResult<Neighbour> {
        Neighbour::start_below(&self.folder().join(folder), arguments).await
    }

    /// Asks the engine to take the host at this address: returns the command's id.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn ask_add_host(&self, address: SocketAddr) -> TestResult<String> {
        let request = requests::add_host(&self.host_id, "host", address);
        self.client.ask_add_host(&request).await
    }

    /// Creates a storage domain on the host: returns its id.
    ///
    /// # Errors
    /// When it does not succeed.
    pub async fn create_domain(&self, name: &str) -> TestResult<String> {
        let (command_id, domain_id) = self.ask_create_domain(name).await?;
        self.succeeds(&command_id).await?;
        Ok(domain_id)
    }

    /// Asks for a storage domain on the host: returns the command's id and the domain's.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn ask_create_domain(&self, name: &str) -> TestResult<(String, String)> {
        let request = requests::create_domain(&self.host_id, name);
        let command_id = self.client.ask_create_domain(&request).await?;
        Ok((command_id, request.domain_id))
    }

    /// As [`Engine::ask_create_vm`].
    ///
    /// # Errors
    /// When it is refused.
    pub async fn create_vm(&self, request: &CreateVmRequest) -> TestResult<String> {
        self.client.ask_create_vm(request).await
    }

    /// As [`Engine::ask_remove_vm`].
    ///
    /// # Errors
    /// When it is refused.
    pub async fn remove_vm(&self, request: &RemoveVmRequest) -> TestResult<String> {
        self.client.ask_remove_vm(request).await
    }

    /// As [`Engine::settled`].
    ///
    /// # Errors
    /// When it neither ends nor rests.
    pub async fn settled(&self, command_id: &str) -> TestResult<Command> {
        self.client.settled(command_id).await
    }

    /// As [`Engine::succeeds`].
    ///
    /// # Errors
    /// When it ended otherwise.
    pub async fn succeeds(&self, command_id: &str) -> TestResult<()> {
        self.client.succeeds(command_id).await
    }

    /// What an auditor looks at.
    pub fn view(&self) -> View {
        View {
            engine: self.client.clone(),
            places: vec![Place {
                host_id: self.host_id.clone(),
                host: self.host_client.clone(),
                storage_root: self.storage_root(),
            }],
        }
    }

    /// Waits until the host answers: it does so only when its tasks are loaded.
    ///
    /// # Errors
    /// When it does not.
    pub async fn host_serves(&self) -> TestResult<()> {
        let answer = persist(|| {
            let mut host = self.host_client.host.clone();
            async move { host.get_host_info(GetHostInfoRequest::default()).await }
        });
        answer.await.context("the host does not serve").map(drop)
    }

    /// Waits until the engine sees the host so.
    ///
    /// # Errors
    /// When it does not within reason.
    pub async fn host_is(&self, connection: Connection) -> TestResult<()> {
        self.client.sees_host(&self.host_id, connection).await
    }

    /// Starts the host again where it was, and waits until it serves.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn restart_host(&mut self) -> TestResult<()> {
        self.host.start(&FailPoints::default()).await?;
        self.host_serves().await
    }

    /// Starts the engine again where it was.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn restart_engine(&mut self) -> TestResult<()> {
        self.engine.start(&FailPoints::default()).await.map(drop)
    }

    /// SIGKILLs the host and waits until it is gone.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub async fn kill_host(&mut self) -> TestResult<()> {
        self.host.kill().await
    }

    /// SIGKILLs the engine and waits until it is gone.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub async fn kill_engine(&mut self) -> TestResult<()> {
        self.engine.kill().await
    }

    /// The directory that holds all that is this world's.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the host keeps its storage domains.
    pub fn storage_root(&self) -> PathBuf {
        self.folder().join("storage")
    }

    /// Processes that work in this world's directories, the services included.
    pub fn processes(&self) -> Vec<(i32, String)> {
        processes_naming(&self.folder().to_string_lossy())
    }

    /// Stops both services in good order and sees that nothing of theirs is left running.
    ///
    /// # Errors
    /// When one of them does not end well, or something is left.
    pub async fn stop(&mut self) -> TestResult<()> {
        self.engine.stop().await?;
        self.host.stop().await?;
        eventually("every process of the world to end", || {
            std::future::ready(self.processes().is_empty().then_some(()))
        })
        .await
        .map_err(|failure| Failure::new(format!("{failure}: {:?}", self.processes())))
    }
}

/// What the services of a world are started with besides.
struct Dress {
    host: Vec<String>,
    engine: Vec<String>,
    locks: Option<Locks>,
}

fn way(address: SocketAddr, locks: Option<&Locks>) -> TestResult<Channel> {
    match locks {
        None => client::channel(address),
        Some(locks) => Knock::with(&locks.admin).channel(address),
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("— the host's last words —\n{}", self.host.log_tail(30));
            eprintln!("— the engine's last words —\n{}", self.engine.log_tail(30));
        }
        // A process that was killed is gone only a moment later. What outlasts this hangs in the kernel.
        let end = Instant::now() + LAST_WAIT;
        loop {
            let left = self.processes();
            if left.is_empty() || Instant::now() > end {
                break;
            }
            for pid in left.into_iter().filter_map(|(pid, _)| Pid::from_raw(pid)) {
                // It may have ended meanwhile, which is what is wanted.
                let _ = kill_process(pid, Signal::KILL);
            }
            std::thread::sleep(GLANCE);
        }
    }
}

/// How the host below `root` is run.
///
/// # Errors
/// When its program was not built.
pub fn host_recipe(root: &Path, listen: SocketAddr, host_id: &str) -> TestResult<Recipe> {
    Ok(Recipe {
        name: "vdsm-svc",
        program: program("vdsm-svc")?,
        arguments: vec![
            "--storage-root".into(),
            root.join("storage").into(),
            "--host-id".into(),
            host_id.into(),
        ],
        data_dir: root.join("host"),
        listen,
        log: root.join("host.log"),
    })
}

/// How the engine below `root` is run.
///
/// # Errors
/// When its program was not built.
pub fn engine_recipe(root: &Path, listen: SocketAddr) -> TestResult<Recipe> {
    Ok(Recipe {
        name: "engine-svc",
        program: program("engine-svc")?,
        arguments: Vec::new(),
        data_dir: root.join("engine"),
        listen,
        log: root.join("engine.log"),
    })
}

/// Live processes whose arguments hold `text`, with their arguments.
pub fn processes_naming(text: &str) -> Vec<(i32, String)> {
    let own = std::process::id().cast_signed();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| *pid != own)
        .filter_map(|pid| {
            let raw = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let line = String::from_utf8_lossy(&raw).replace('\0', " ");
            // A confined child is given open files and no names.
            (line.contains(text) || has_open(pid, text)).then_some((pid, line))
        })
        .collect()
}

/// Whether a process has a file open whose name holds `text`.
fn has_open(pid: i32, text: &str) -> bool {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten();
    let mut names = files.filter_map(|file| std::fs::read_link(file.path()).ok());
    names.any(|name| name.to_string_lossy().contains(text))
}
