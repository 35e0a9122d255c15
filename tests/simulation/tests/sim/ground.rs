//! What outlives every process of a world: disks, storage, and what is drawn by the seed. And the processes
//! themselves, each as the simulation starts it again and again on the same ground.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser as _;
use common::id::{HostId, StoreId};
use doubles::memory::Disk;
use runtime::chance;
use tempfile::TempDir;
use vdsm_storage::confine::Confiner;
use vdsm_storage::file::FileHook;
use vdsm_storage::{NamedRoot, Options};
use vdsm_svc::Parts;

use crate::fate::Fate;
use crate::net;
use crate::trace::{Trace, TracedStore};
use crate::wear::{Disks, Wear};

/// The engine's node.
pub(crate) const ENGINE: &str = "engine";

/// Small files that need no disk lie in memory where there is such a place.
const MEMORY: &str = "/dev/shm";

/// What a world is in for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    /// Nothing goes wrong.
    Calm,
    /// Everything does.
    Stormy,
}

/// See the module.
pub(crate) struct Ground {
    pub(crate) fate: Rc<Fate>,
    pub(crate) trace: Trace,
    pub(crate) wear: Wear,
    pub(crate) hosts: Vec<HostGround>,
    pub(crate) weather: Weather,
    /// Faults happen now; else everything is or becomes well.
    pub(crate) stormy: Cell<bool>,
    /// Every process is to die once more, and to come back.
    pub(crate) afresh: Cell<bool>,
    engine: Disk,
    _dir: TempDir,
}

/// What is one host's.
pub(crate) struct HostGround {
    pub(crate) node: String,
    pub(crate) id: HostId,
    pub(crate) storage: PathBuf,
    /// How often its data directory was lost.
    pub(crate) wiped: Cell<u32>,
    disk: RefCell<Disk>,
}

/// An empty disk, whose id is the seed's.
fn new_disk() -> Disk {
    Disk::of(StoreId::from_uuid(chance::uuid()))
}

impl HostGround {
    /// Its data directory is lost: a new one has another id.
    pub(crate) fn wipe(&self) {
        self.disk.replace(new_disk());
        self.wiped.set(self.wiped.get() + 1);
    }
}

impl Ground {
    /// Of a world with so many hosts. Within the simulated world.
    pub(crate) fn new(fate: Rc<Fate>, hosts: usize, weather: Weather) -> Rc<Self> {
        let trace = Trace::default();
        let dir = tempfile::Builder::new().prefix("simulation").tempdir_in(MEMORY);
        let dir = dir.or_else(|_| TempDir::new()).expect("a directory for storage");
        let hosts = (1..=hosts).map(|n| HostGround {
            node: format!("host-{n}"),
            id: HostId::from_uuid(chance::uuid()),
            storage: dir.path().join(format!("host-{n}")),
            wiped: Cell::default(),
            disk: RefCell::new(new_disk()),
        });
        Rc::new(Self {
            wear: Wear::of(chance::number(), trace.clone()),
            fate,
            trace,
            hosts: hosts.collect(),
            weather,
            stormy: Cell::new(false),
            afresh: Cell::new(false),
            engine: new_disk(),
            _dir: dir,
        })
    }

    /// The names of all nodes that serve.
    pub(crate) fn nodes(&self) -> Vec<String> {
        let hosts = self.hosts.iter().map(|host| host.node.clone());
        std::iter::once(ENGINE.to_owned()).chain(hosts).collect()
    }

    /// The engine's process: it ends only with its node.
    pub(crate) async fn run_engine(self: Rc<Self>) -> turmoil::Result {
        self.fate.starts(ENGINE);
        self.trace.note("engine starts");
        let arguments = [
            "engine-svc",
            "--data-dir",
            "/nonexistent",
            "--heartbeat-ms",
            "1000",
        ];
        let settings = engine_svc::Settings::try_parse_from(arguments)?;
        let store = TracedStore::open(self.engine.clone(), ENGINE, self.trace.clone(), self.wear.clone());
        let listening = net::listen().await?;
        let forever = std::future::pending();
        engine_svc::serve_on(listening, net::connector(), settings, store, forever).await?;
        Ok(())
    }

    /// The `n`th host's process: it ends only with its node.
    pub(crate) async fn run_host(self: Rc<Self>, n: usize) -> turmoil::Result {
        let host = &self.hosts[n];
        self.fate.starts(&host.node);
        let disk = host.disk.borrow().clone();
        let store = TracedStore::open(disk, &host.node, self.trace.clone(), self.wear.clone());
        self.trace.note(format!("{} starts", host.node));
        std::fs::create_dir_all(&host.storage)?;
        let disks = Arc::new(Disks {
            wear: self.wear.clone(),
            node: host.node.clone(),
            open: AtomicBool::new(false),
        });
        let options = Options {
            hook: Arc::clone(&disks) as Arc<dyn FileHook>,
            confiner: Confiner::program(env!("CARGO_BIN_EXE_confined-child").into()),
            ..Options::new(host.id, host.storage.with_extension("run"))
        };
        let root = NamedRoot::open(&host.storage, options).map_err(|fault| fault.to_string())?;
        disks.open.store(true, Ordering::SeqCst);
        let (storage, id) = (host.storage.to_string_lossy(), host.id.to_string());
        let arguments = [
            "vdsm-svc",
            "--data-dir",
            "/nonexistent",
            "--storage-root",
            &*storage,
            "--host-id",
            &*id,
        ];
        let settings = vdsm_svc::Settings::try_parse_from(arguments)?;
        let parts = Parts {
            root: Arc::new(root),
            qemu_img_version: "the one that is there".to_owned(),
            store,
            listening: net::listen().await?,
        };
        vdsm_svc::serve_over(settings, parts, std::future::pending()).await?;
        Ok(())
    }
}
