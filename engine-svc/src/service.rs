//! Assembles the parts of the service, and stops them in order.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use proto::task::v1::closing::Reason;
use runtime::ages::Ages;
use runtime::audit::{Audit, AuditError};
use runtime::client::Connector;
use runtime::coordinator::{self, Options};
use runtime::metrics::{Exporter, Identity, Listener, ListenerError, Meters};
use runtime::server::{self, Connections, Health, Listening, ServeError};
use runtime::tls::{ClientTls, ServerTls, TlsError};
use runtime::{backup, log, program, threads, tls};
use store::disk::{self, DiskStore};
use store::{Store, StoreError};
use tokio::sync::{oneshot, watch};
use tracing::{error, info};

use crate::grpc::api::Api;
use crate::grpc::show::Show;
use crate::grpc::wait::Waits;
use crate::holders::Holders;
use crate::host::{self, Context, HostLinks};
use crate::life::Lives;
use crate::lock_waits::Waiting;
use crate::machine::Seed;
use crate::metrics::{Figures, Sources};
use crate::open_tasks::OpenTasks;
use crate::pulse::Pulse;
use crate::settings::Settings;
use crate::store::engine;
use crate::{expiry, grpc, lock_waits, metrics, stance};

/// The owner of the data directory. The directory alone says which engine it is.
pub const OWNER: disk::Owner = disk::Owner::service("engine-svc");

/// The service's identity in the metrics.
const IDENTITY: Identity = Identity {
    service: "engine-svc",
    version: env!("CARGO_PKG_VERSION"),
};

/// Why the engine does not start, or has stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The data directory cannot be used.
    #[error("the service cannot start on its data directory")]
    Store(#[from] StoreError),
    /// The service cannot listen, or cannot write its address to the data directory.
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] io::Error),
    /// Metrics cannot be served.
    #[error(transparent)]
    Metrics(#[from] ListenerError),
    /// TLS is not configured where it is required, or cannot be used as configured.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The audit log cannot be written.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The server failed.
    #[error("the server failed")]
    Serve(#[from] ServeError),
    /// The coordinator ended by itself.
    #[error("a bug has stopped the engine: please report it, with the log")]
    Defect,
}

/// Runs an engine until `shutdown` completes. The file `address` in its data directory says where it listens.
///
/// # Errors
/// [`RunError`].
pub async fn serve(settings: Settings, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
    // Checked before anything is opened, so that a mistake in the settings changes nothing.
    let doors = Doors::of(&settings)?;
    let options = disk::Options {
        cache_bytes: settings.cache_bytes(),
        family_of: crate::store::family::family_of,
        passes: runtime::failpoint::hit,
        ..disk::Options::of(OWNER)
    };
    let store: Arc<dyn Store> = DiskStore::open(&settings.data_dir, options)?;
    serve_behind(doors, settings, store, shutdown).await
}

/// Checks whether the service could start with these settings: reads the certificates, and changes nothing.
///
/// # Errors
/// [`RunError`].
pub fn check_config(settings: &Settings) -> Result<(), RunError> {
    Doors::of(settings)?;
    settings.metrics.check(settings.door.insecure)?;
    settings.audit.check()?;
    Ok(())
}

/// Like [`serve`], over a store that is open already: for tests, and for stores of other kinds.
///
/// # Errors
/// [`RunError`].
pub async fn serve_over(
    settings: Settings,
    store: Arc<dyn Store>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let doors = Doors::of(&settings)?;
    serve_behind(doors, settings, store, shutdown).await
}

async fn serve_behind(
    doors: Doors,
    settings: Settings,
    store: Arc<dyn Store>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let data_dir = settings.data_dir.clone();
    let listening = Listening::bind(settings.listen, &data_dir)
        .and_then(|listening| listening.locked(doors.tls, &data_dir))
        .map_err(|error| RunError::Listen(settings.listen, error))?;
    let backups = backup::Door::open(&data_dir, &store);
    // The open store keeps other services out of the directory until the address is forgotten.
    let kept = Arc::clone(&store);
    let ways = Ways {
        connector: Connector::tcp(doors.to_hosts.clone(), settings.door.insecure),
        tls: doors.to_hosts,
    };
    let outcome = serve_on(listening, ways, settings, store, shutdown).await;
    if let Some(backups) = backups {
        backups.close().await;
    }
    program::forget_address(&data_dir);
    drop(kept);
    outcome
}

/// The TLS of the engine's server and of its connections to hosts.
struct Doors {
    tls: Option<ServerTls>,
    to_hosts: Option<ClientTls>,
}

impl Doors {
    fn of(settings: &Settings) -> Result<Self, TlsError> {
        let tls = settings.door.lock(settings.listen)?;
        let to_hosts = settings.host_door.files()?.map(ClientTls::open).transpose()?;
        Ok(Self { tls, to_hosts })
    }
}

/// How the engine reaches its hosts.
#[derive(Debug)]
pub struct Ways {
    /// Makes connections.
    pub connector: Connector,
    /// The certificate that the engine shows to hosts; none in plain text.
    pub tls: Option<ClientTls>,
}

impl From<Connector> for Ways {
    fn from(connector: Connector) -> Self {
        Self { connector, tls: None }
    }
}

/// Like [`serve_over`], on a socket that listens already, and with another way to reach hosts: for other networks.
///
/// # Errors
/// [`RunError`].
pub async fn serve_on(
    listening: Listening<impl Connections>,
    ways: impl Into<Ways>,
    settings: Settings,
    store: Arc<dyn Store>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let Ways {
        connector,
        tls: shown,
    } = ways.into();
    // Kept until the end, because it writes the last lines.
    let audit_file = settings.audit.open()?;
    let ages = Ages::open(&*store, settings.greatest_age())?;
    let named = shown.as_ref().map(ClientTls::engine_id);
    if let (Some(tls), Some(own)) = (&shown, engine::recorded_id(&*store.reader()?)?) {
        tls.is_of(own)?;
    }
    let life = engine::begin(&store, ages.stamp(), named)?;
    let meters = Meters::new(settings.metrics.metrics_listen.is_some());
    tls::measure(&meters, settings.door.insecure, listening.tls(), shown.as_ref());
    let listening = listening.audited(Audit::into_file(audit_file.as_ref(), &meters));
    let log = log::Log::measured(Arc::clone(&store), Arc::clone(&meters))?;
    let exporter = Exporter::default();
    exporter.add_shared(IDENTITY, &log);
    // Kept to the very end, and started before the records are loaded.
    let _metrics = Listener::start(
        &settings.metrics,
        settings.door.insecure,
        &settings.data_dir,
        exporter.clone(),
        Arc::clone(&meters),
    )?;
    let kept = Arc::clone(&store);
    let figures = Figures::default();
    let holders = Holders::default();
    let links = HostLinks::default();
    let open_tasks = OpenTasks::default();
    let lives = Lives::new(life.clone());
    let (decides, stances) = watch::channel(stance::not_begun());
    let waiting = Waiting::default();
    let pulse = Pulse::default();
    let (outbox, orders) = host::outbox(
        holders.clone(),
        open_tasks.clone(),
        waiting.clone(),
        Arc::clone(&log),
        lives.clone(),
        decides,
    );
    let seed = Seed {
        engine_id: life.engine_id,
        store: Arc::clone(&store),
        limits: settings.limits(),
        figures: meters.is_on().then(|| figures.clone()),
        pulse: pulse.clone(),
    };
    let options = Options {
        name: "engine".to_owned(),
        retention: settings.retention(),
        ages: ages.clone(),
    };
    let engine = coordinator::spawn_with(store, seed, Arc::clone(&log), outbox, options)?;
    let sources = Sources {
        figures,
        links: links.clone(),
        open_tasks: open_tasks.clone(),
        stances: stances.clone(),
    };
    metrics::add(&exporter, sources);
    let context = Context {
        engine: engine.clone(),
        log: Arc::clone(&log),
        connector,
        links: links.clone(),
        lives: lives.clone(),
        heartbeat_interval: settings.heartbeat_interval(),
    };
    let (end, ended) = oneshot::channel();
    let hosts = tokio::spawn(async move {
        host::run(context, orders).await;
        // Received only while the engine still serves.
        let _ = end.send(());
    });
    let expiry = tokio::spawn(expiry::run(
        engine.clone(),
        Arc::clone(&log),
        ages.clone(),
        settings.command_age(),
    ));
    let lock_waits = tokio::spawn(lock_waits::run(engine.clone(), ages.clone(), waiting));
    let pulse = tokio::spawn(pulse.run(engine.clone()));
    // Ends with the coordinator.
    tokio::spawn(ages.keep(engine.clone()));
    // Ends with the coordinator.
    tokio::spawn(stance::log_changes(stances.clone()));
    let certificates = tokio::spawn(async move {
        if let Some(tls) = shown {
            tls.keep().await;
        }
    });
    let waits = Waits::default();
    let ends = tokio::spawn(waits.clone().follow(Arc::clone(&log)));
    let api = Api {
        engine: engine.clone(),
        log: Arc::clone(&log),
        show: Show {
            log: Arc::clone(&log),
            links,
            holders,
            open_tasks,
            stances: stances.clone(),
        },
        watches: settings.watch_terms(),
        waits,
        stances,
        trail: settings.audit.trail(),
        lives,
        start_time: runtime::clock::now(),
    };
    let health = Health::new(&grpc::SERVICES).await;
    meters.set_health(&health);
    health.set_serving(true).await;
    let follower = tokio::spawn(health.clone().follow(Arc::downgrade(&kept)));
    info!(
        address = %listening.address(), engine_id = %life.engine_id, epoch = life.epoch,
        incarnation = %life.incarnation, "the engine is serving"
    );
    let mut outcome = Ok(());
    let until = async {
        tokio::select! {
            biased;
            () = shutdown => {}
            _ = ended => {
                error!("the coordinator has ended");
                outcome = Err(RunError::Defect);
            }
        }
    };
    let served = server::serve(
        listening,
        grpc::routes(&api),
        health,
        settings.wire,
        &meters,
        until,
        || log.close(Reason::Shutdown),
    )
    .await;
    hosts.abort();
    expiry.abort();
    lock_waits.abort();
    pulse.abort();
    ends.abort();
    follower.abort();
    certificates.abort();
    engine.stop().await;
    served?;
    outcome?;
    // A regular end would tell the next start that everything was written.
    let looked = threads::blocking(move || kept.look_after()).await;
    Ok(looked.unwrap_or(Ok(()))?)
}
