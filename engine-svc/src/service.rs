//! Putting the parts together, and taking them apart in order.

use std::future::Future;
use std::io;
use std::sync::Arc;

use common::fault::Fault;
use proto::task::v1::closing::Reason;
use runtime::ages::Ages;
use runtime::client::Connector;
use runtime::coordinator::{self, Options};
use runtime::server::{self, Connections, Health, Listening, ServeError};
use runtime::store::disk::{self, DiskStore};
use runtime::store::{Store, StoreError};
use runtime::{clock, log};
use tokio::sync::oneshot;
use tracing::{error, info};

use crate::config::Config;
use crate::grpc::api::Api;
use crate::grpc::show::Show;
use crate::holders::Holders;
use crate::host::{self, Board, Context};
use crate::machine::Seed;
use crate::store::engine;
use crate::{grpc, janitor};

/// Why the engine does not run, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The data directory cannot be used.
    #[error("the data directory cannot be used")]
    Store(#[from] StoreError),
    /// The socket cannot be had, or its address not be written down.
    #[error("it cannot be listened")]
    Listen(#[from] io::Error),
    /// The server failed.
    #[error("it cannot be served")]
    Serve(#[from] ServeError),
    /// The engine had to stop.
    #[error("the engine must stop: {0}")]
    Halted(Fault),
    /// The coordinator ended by itself.
    #[error("a defect has stopped the engine; its log says more")]
    Defect,
}

/// Runs an engine until `shutdown` completes. `address` in its data directory says where it listens.
///
/// # Errors
/// [`RunError`].
pub async fn serve(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
    let store: Arc<dyn Store> =
        DiskStore::open(&config.data_dir, disk::Options::with_cache(config.cache_bytes()))?;
    serve_over(config, store, shutdown).await
}

/// As [`serve`], over a store that is open: for tests, and for stores of another kind.
///
/// # Errors
/// [`RunError`].
pub async fn serve_over(
    config: Config,
    store: Arc<dyn Store>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let listening = Listening::bind(config.listen, &config.data_dir)?;
    serve_on(listening, Connector::tcp(), config, store, shutdown).await
}

/// As [`serve_over`], where something listens already, and with another way to hosts: for other networks.
///
/// # Errors
/// [`RunError`].
pub async fn serve_on(
    listening: Listening<impl Connections>,
    connector: Connector,
    config: Config,
    store: Arc<dyn Store>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let ages = Ages::open(&*store, config.greatest_age())?;
    let identity = engine::begin(&store, clock::now())?;
    let log = log::Log::new(Arc::clone(&store))?;
    let holders = Holders::default();
    let board = Board::default();
    let (outbox, orders) = host::outbox(holders.clone(), Arc::clone(&log));
    let seed = Seed {
        engine_id: identity.engine_id,
        store: Arc::clone(&store),
    };
    let options = Options {
        name: "engine".to_owned(),
        retention: config.retention(),
        ages: ages.clone(),
    };
    let engine = coordinator::spawn_with(store, seed, Arc::clone(&log), outbox, options)?;
    let context = Context {
        engine: engine.clone(),
        log: Arc::clone(&log),
        connector,
        board: board.clone(),
        engine_id: identity.engine_id,
        epoch: identity.epoch,
        heartbeat_interval: config.heartbeat_interval(),
    };
    let (halt, halted) = oneshot::channel();
    let hosts = tokio::spawn(async move {
        // Received only while the engine still serves.
        let _ = halt.send(host::run(context, orders).await);
    });
    let janitor = tokio::spawn(janitor::run(
        engine.clone(),
        Arc::clone(&log),
        ages.clone(),
        config.command_age(),
    ));
    // Ends with the coordinator.
    tokio::spawn(ages.keep(engine.clone()));
    let api = Api {
        engine: engine.clone(),
        log: Arc::clone(&log),
        show: Show {
            log: Arc::clone(&log),
            board,
            holders,
        },
        watches: config.watch_terms(),
    };
    let health = Health::new(&grpc::SERVICES).await;
    health.set_serving(true).await;
    info!(
        address = %listening.address(), engine_id = %identity.engine_id, epoch = identity.epoch, "the engine serves"
    );
    let mut outcome = Ok(());
    let until = async {
        tokio::select! {
            biased;
            () = shutdown => {}
            fault = halted => outcome = Err(halted_by(fault.ok().flatten())),
        }
    };
    let served = server::serve(listening, grpc::routes(&api), health, until, || {
        log.close(Reason::Shutdown)
    })
    .await;
    hosts.abort();
    janitor.abort();
    engine.stop().await;
    served?;
    outcome
}

/// The hosts' orders end with a fault that the engine must stop for, or because the coordinator is gone.
fn halted_by(fault: Option<Fault>) -> RunError {
    match fault {
        Some(fault) => RunError::Halted(fault),
        None => {
            error!("the coordinator has ended");
            RunError::Defect
        }
    }
}
