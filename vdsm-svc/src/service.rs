//! The assembled service: what it opens first, when it serves, and how it ends.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::store::disk::{self, DiskStore};
use ::store::{Store, StoreError};
use common::fault::Fault;
use proto::store::v1::HostHistory;
use proto::task::v1::closing::Reason;
use runtime::ages::Ages;
use runtime::audit::{Audit, AuditError};
use runtime::coordinator::{self, Handle};
use runtime::log::Log;
use runtime::metrics::{Exporter, Identity, Listener, ListenerError, Meters};
use runtime::server::{self, Connections, Health, Listening, ServeError};
use runtime::tls::TlsError;
use runtime::{backup, clock, program, threads, tls};
use tokio::sync::watch;
use tonic::transport::server::TcpIncoming;
use vdsm_storage::{NamedRoot, Options, StorageRoot, op, run_dir};

use crate::alive::Alive;
use crate::expiry;
use crate::grpc::{self, Facts, Gate, Host};
use crate::metrics::{self, Figures, Sources};
use crate::places;
use crate::presence::Presence;
use crate::runner::{Runner, Tools};
use crate::settings::Settings;
use crate::store::{self, HostMachine, Seed};

/// How long the service waits for the coordinator at its end. A disk that takes longer is cut off, as by a crash.
const LAST_COMMIT: Duration = Duration::from_secs(3);

/// The owner of the data directory, whichever host it is.
pub const OWNER: disk::Owner = disk::Owner::service("vdsm-svc");

/// The service's identity in the metrics.
const IDENTITY: Identity = Identity {
    service: "vdsm-svc",
    version: env!("CARGO_PKG_VERSION"),
};

/// Why the service did not start, or has ended.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The storage root does not exist and cannot be made.
    #[error("cannot create the storage root {}", .0.display())]
    StorageRoot(PathBuf, #[source] io::Error),
    /// One of the two directories lies in the other.
    #[error("--data-dir {} and --storage-root {} must be separate directories, but {trouble}: give another directory for one of them", data_dir.display(), storage_root.display())]
    Places {
        /// As given.
        data_dir: PathBuf,
        /// As given.
        storage_root: PathBuf,
        /// How they lie, in words.
        trouble: &'static str,
    },
    /// The storage root cannot be used, or qemu-img is missing or too old.
    #[error("storage cannot be used")]
    Storage(#[source] Fault),
    /// The store cannot be opened or read.
    #[error("the service cannot start on the data directory {}", .0.display())]
    Store(PathBuf, #[source] StoreError),
    /// No thread for tasks can be started.
    #[error("cannot start a thread for tasks: raise the limit of processes")]
    Threads(#[source] io::Error),
    /// TLS is not configured where it is required, or cannot be used as configured.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The service cannot listen on the address.
    #[error("cannot listen on {0}")]
    Listen(std::net::SocketAddr, #[source] io::Error),
    /// Metrics cannot be served.
    #[error(transparent)]
    Metrics(#[from] ListenerError),
    /// The audit log cannot be written.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// Serving failed.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The coordinator ended by itself.
    #[error("the coordinator ended unexpectedly: please report it, with the log")]
    CoordinatorEnded,
}

/// Serves until `shutdown` completes. Must run within a tokio runtime of several threads.
///
/// A fault in the configuration, the storage root, qemu-img or the store is an error before anything is served. From
/// then on RPCs answer, with `LOADING` until the tasks are read and all their locks are held.
///
/// # Errors
/// [`ServiceError`].
pub async fn serve(settings: Settings, shutdown: impl Future<Output = ()>) -> Result<(), ServiceError> {
    // Checked before anything is opened, so that a mistake in the settings changes nothing.
    let tls = settings.door.lock(settings.listen)?;
    let (root, qemu_img_version) = open_storage(&settings)?;
    // The store first: it refuses a data directory that another process uses, before this process writes an address.
    let options = disk::Options {
        cache_bytes: settings.cache_mib << 20,
        passes: runtime::failpoint::hit,
        ..disk::Options::of(disk::Owner {
            id: Some(settings.host_id.as_uuid()),
            ..OWNER
        })
    };
    let store = DiskStore::open(&settings.data_dir, options).map_err(at_store(&settings))?;
    let listen = settings.listen;
    let listening = Listening::bind(listen, &settings.data_dir)
        .and_then(|listening| listening.locked(tls, &settings.data_dir))
        .map_err(|error| ServiceError::Listen(listen, error))?;
    let parts = Parts {
        root,
        qemu_img_version,
        store: Arc::<DiskStore>::clone(&store),
        listening,
    };
    let data_dir = settings.data_dir.clone();
    let backups = backup::Door::open(&data_dir, &parts.store);
    let outcome = serve_over(settings, parts, shutdown).await;
    if let Some(backups) = backups {
        backups.close().await;
    }
    program::forget_address(&data_dir);
    // The open store keeps other services out of the directory until here.
    drop(store);
    outcome
}

/// Checks whether the service could start with these settings: reads the certificates, and changes nothing.
///
/// # Errors
/// [`ServiceError`].
pub fn check_config(settings: &Settings) -> Result<(), ServiceError> {
    settings.door.lock(settings.listen)?;
    settings.metrics.check(settings.door.insecure)?;
    settings.audit.check()?;
    check_places(settings)
}

/// The parts of a service.
pub struct Parts<I = TcpIncoming> {
    /// The storage domains.
    pub root: Arc<NamedRoot>,
    /// The version of the program that makes and reads images, for people.
    pub qemu_img_version: String,
    /// The service's records.
    pub store: Arc<dyn Store>,
    /// The socket.
    pub listening: Listening<I>,
}

/// Like [`serve`], over parts that are open already: for stores, and for networks, of other kinds.
///
/// # Errors
/// [`ServiceError`].
pub async fn serve_over(
    settings: Settings,
    parts: Parts<impl Connections>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServiceError> {
    let start_time = clock::now();
    let Parts {
        root,
        qemu_img_version,
        store,
        listening,
    } = parts;
    tracing::info!(address = %listening.address(), host_id = %settings.host_id, qemu_img_version, "listening");
    // Kept until the end, because it writes the last lines.
    let audit_file = settings.audit.open()?;
    let last_look = Arc::clone(&store);
    let limits = expiry::Limits::of(&settings);
    let window = limits.greatest().max(settings.retention().max_age);
    let ages = Ages::open(&*store, window).map_err(at_store(&settings))?;
    let meters = Meters::new(settings.metrics.metrics_listen.is_some());
    tls::measure(&meters, settings.door.insecure, listening.tls(), None);
    let listening = listening.audited(Audit::into_file(audit_file.as_ref(), &meters));
    let log = Log::measured(store, Arc::clone(&meters)).map_err(at_store(&settings))?;
    let exporter = Exporter::default();
    exporter.add_shared(IDENTITY, &log);
    // Kept to the very end, and started before the tasks are loaded.
    let _metrics = Listener::start(
        &settings.metrics,
        settings.door.insecure,
        &settings.data_dir,
        exporter.clone(),
        Arc::clone(&meters),
    )?;
    let health = Health::new(&grpc::SERVICES).await;
    meters.set_health(&health);
    let gate = Gate::default();
    let facts = Facts {
        host_id: settings.host_id,
        qemu_img_version,
        start_time,
    };

    let loading = Loading {
        settings: settings.clone(),
        root,
        log: Arc::clone(&log),
        ages,
        gate: gate.clone(),
        health: health.clone(),
        exporter,
    };
    let mut coordinator = None;
    let ended = {
        let coordinator = &mut coordinator;
        async move {
            match loading.load(facts).await {
                Ok(handle) => coordinator.insert(handle).ended().await,
                Err(error) => return error,
            }
            ServiceError::CoordinatorEnded
        }
    };
    let outcome = serve_until(
        listening,
        &gate,
        health,
        &log,
        settings.wire.clone(),
        shutdown,
        ended,
    )
    .await;
    if let Some(coordinator) = coordinator
        && tokio::time::timeout(LAST_COMMIT, coordinator.stop())
            .await
            .is_err()
    {
        tracing::warn!(patience = ?LAST_COMMIT, "the last commit did not finish in time: stopping without it");
    }
    outcome?;
    // A regular end would tell the next start that everything was written.
    let kept = threads::blocking(move || last_look.look_after()).await;
    kept.unwrap_or(Ok(())).map_err(at_store(&settings))
}

/// Serves until the service is to stop, or until a part ends that must not.
async fn serve_until(
    listening: Listening<impl Connections>,
    gate: &Gate,
    health: Health,
    log: &Log<HostHistory>,
    limits: server::Limits,
    shutdown: impl Future<Output = ()>,
    ended: impl Future<Output = ServiceError>,
) -> Result<(), ServiceError> {
    let mut broken = None;
    let stop = async {
        tokio::select! {
            biased;
            () = shutdown => {}
            error = ended => broken = Some(error),
        }
    };
    let close = || log.close(Reason::Shutdown);
    let served = server::serve(
        listening,
        grpc::routes(gate),
        health,
        limits,
        log.meters(),
        stop,
        close,
    )
    .await;
    match broken {
        Some(error) => Err(error),
        None => Ok(served?),
    }
}

/// What loading the tasks needs.
struct Loading {
    settings: Settings,
    root: Arc<NamedRoot>,
    log: Arc<Log<HostHistory>>,
    ages: Ages,
    gate: Gate,
    health: Health,
    exporter: Exporter,
}

impl Loading {
    /// Reads the tasks, and then opens the gate.
    async fn load(self, facts: Facts) -> Result<Handle<HostMachine>, ServiceError> {
        let alive = Arc::new(Alive::default());
        let presence = Arc::new(Presence::default());
        let (employer, coordinator) = watch::channel(None);
        let tools = Tools {
            root: Arc::clone(&self.root),
            alive: Arc::clone(&alive),
            presence: Arc::clone(&presence),
            log: Arc::clone(&self.log),
            coordinator,
            tokio: tokio::runtime::Handle::current(),
        };
        let figures = Figures::default();
        let seed = Seed {
            limits: self.settings.limits(),
            identity: self.log.identity(),
            alive: Arc::clone(&alive),
            presence: Arc::clone(&presence),
            figures: self.log.meters().is_on().then(|| figures.clone()),
        };
        let sources = Sources {
            figures,
            limits: self.settings.limits(),
            host_id: facts.host_id,
            qemu_img_version: facts.qemu_img_version.clone(),
            presence: Arc::clone(&presence),
            root: Arc::clone(&self.root),
            log: Arc::downgrade(&self.log),
        };
        let runner = Runner::new(tools, self.settings.running_per_host).map_err(ServiceError::Threads)?;
        let options = coordinator::Options {
            name: "host".to_owned(),
            retention: self.settings.retention(),
            ages: self.ages.clone(),
        };
        let log = Arc::clone(&self.log);
        let root = Arc::clone(&self.root);
        let spawned = threads::blocking(move || {
            look_after(&root, &log)?;
            coordinator::spawn_with::<HostMachine>(Arc::clone(log.store()), seed, log, runner, options)
        });
        let handle = match spawned.await {
            Ok(spawned) => spawned.map_err(at_store(&self.settings))?,
            Err(_) => return Err(ServiceError::CoordinatorEnded),
        };
        metrics::add(&self.exporter, sources);
        employer.send_replace(Some(handle.clone()));
        let store = Arc::downgrade(self.log.store());
        tokio::spawn(expiry::run(
            handle.clone(),
            Arc::clone(self.log.store()),
            expiry::Limits::of(&self.settings),
            self.ages.clone(),
        ));
        // Ends with the coordinator.
        tokio::spawn(self.ages.keep(handle.clone()));
        self.gate.open(Host {
            coordinator: handle.clone(),
            log: self.log,
            root: self.root,
            alive,
            presence,
            facts,
            watches: self.settings.watch_terms(),
        });
        self.health.set_serving(true).await;
        tokio::spawn(self.health.follow(store));
        Ok(handle)
    }
}

/// Removes leftovers of orphans before any task of this service runs: a lost store's tasks without a process no
/// longer need their run directories. Nor do tasks that have ended well: a run directory that could not be removed at
/// the end would otherwise stay as long as the task's record.
fn look_after(root: &NamedRoot, log: &Arc<Log<HostHistory>>) -> Result<(), StoreError> {
    // A storage root that is opened later in its place may hold other leftovers, which are removed as at a start.
    let later = Arc::downgrade(log);
    root.welcome(move |root| {
        if let Some(log) = later.upgrade()
            && let Err(error) = sweep(root, &**log.store())
        {
            tracing::warn!(%error, "cannot read the run directories in the storage root that was reopened");
        }
    });
    match root.now() {
        Ok(root) => sweep(&root, &**log.store()),
        Err(fault) => {
            tracing::warn!(%fault, "cannot read the run directories of earlier tasks");
            Ok(())
        }
    }
}

fn sweep(root: &StorageRoot, store: &dyn Store) -> Result<(), StoreError> {
    if let Err(fault) = run_dir::sweep(root, &|id| store::may_need(store, id)) {
        tracing::warn!(%fault, "cannot read the run directories of earlier tasks");
    }
    Ok(())
}

/// The storage root, and the version of qemu-img.
fn open_storage(settings: &Settings) -> Result<(Arc<NamedRoot>, String), ServiceError> {
    check_places(settings)?;
    let path = &settings.storage_root;
    let fail = |error| ServiceError::StorageRoot(path.clone(), error);
    places::make_storage_root(path).map_err(fail)?;
    let options = Options {
        qemu_img: settings.qemu_img.clone(),
        no_progress_timeout: settings.no_progress_timeout(),
        confiner: settings.confiner(),
        storage_user: settings.storage_user,
        ..Options::new(settings.host_id, settings.runs())
    };
    let root = NamedRoot::open(path, options).map_err(ServiceError::Storage)?;
    let version = root.qemu_img().probe().map_err(ServiceError::Storage)?;
    tell_confinement(&root)?;
    Ok((Arc::new(root), version.to_string()))
}

/// Checks that neither of storage and data directory lies in the other.
fn check_places(settings: &Settings) -> Result<(), ServiceError> {
    let path = &settings.storage_root;
    let trouble = places::trouble(&settings.data_dir, path);
    match trouble.map_err(|error| ServiceError::StorageRoot(path.clone(), error))? {
        Some(trouble) => Err(ServiceError::Places {
            data_dir: settings.data_dir.clone(),
            storage_root: path.clone(),
            trouble,
        }),
        None => Ok(()),
    }
}

/// Logs which parts of the children's confinement this machine lacks, and what that costs.
fn tell_confinement(root: &NamedRoot) -> Result<(), ServiceError> {
    let report = root.qemu_img().confinement().map_err(ServiceError::Storage)?;
    for missing in &report.missing {
        tracing::warn!(part = ?missing.part, "qemu-img is confined less than it could be: {missing}");
    }
    for weaker in &report.weaker {
        tracing::warn!("qemu-img is confined less than it could be: {weaker}");
    }
    if report.missing.is_empty() && report.weaker.is_empty() {
        tracing::info!("qemu-img is confined: storage user, no capabilities, Landlock, seccomp filter");
    }
    Ok(())
}

fn at_store(settings: &Settings) -> impl FnOnce(StoreError) -> ServiceError {
    let path = settings.data_dir.clone();
    |error| ServiceError::Store(path, error)
}

/// Every step boundary of every operation, named as its fail point is.
pub fn fail_points() -> Vec<String> {
    op::steps()
        .into_iter()
        .flat_map(|(_, steps)| steps)
        .flat_map(|step| [format!("{step}.before"), format!("{step}.after")])
        .collect()
}
