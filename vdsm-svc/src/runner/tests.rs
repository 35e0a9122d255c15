//! Running tasks over a store that fails.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::store::Store;
use common::fault::FaultCode;
use common::id::{DomainId, EngineId, HostId, ImageId, Incarnation, TaskId, VolumeId};
use common::operation::{Allocation, CreateVolume, Operation, VolumeFormat};
use common::task::TaskState;
use doubles::failing::{FailingStore, When};
use doubles::memory::MemoryStore;
use runtime::coordinator::{self, Handle, Perform as _};
use runtime::log::Log;
use tokio::sync::watch;
use uuid::Uuid;
use vdsm_core::{Answer, Caller, Effect, EngineCall, Input, Limits, Owner, Start, Task};
use vdsm_storage::confine::Confiner;
use vdsm_storage::{NamedRoot, Options};

use super::{Runner, Tools};
use crate::alive::Alive;
use crate::presence::Presence;
use crate::store::{self, HostMachine, Seed};

const PATIENCE: Duration = Duration::from_secs(30);

/// The commits that the creation of a volume takes, and one more that never comes.
const COMMITS: u64 = 8;

fn uuid(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn operation() -> Operation {
    Operation::CreateVolume(CreateVolume {
        domain_id: DomainId::from_uuid(uuid(1)),
        image_id: ImageId::from_uuid(uuid(2)),
        volume_id: VolumeId::from_uuid(uuid(3)),
        capacity_bytes: 4096,
        format: VolumeFormat::Raw,
        allocation: Allocation::Sparse,
        description: String::new(),
    })
}

/// A test program cannot confine children: the program of the storage crate's tests does, which is built with all
/// programs.
fn confiner() -> Confiner {
    let own = std::env::current_exe().unwrap();
    let programs = own.parent().and_then(Path::parent).unwrap();
    Confiner::program(programs.join("vdsm-confined-child"))
}

fn root(dir: &Path) -> Arc<NamedRoot> {
    let options = Options {
        confiner: confiner(),
        ..Options::new(HostId::from_uuid(uuid(9)), dir.join(".data/run"))
    };
    let root = NamedRoot::open(dir, options).unwrap();
    let now = root.now().unwrap();
    now.create_domain(DomainId::from_uuid(uuid(1)), "data").unwrap();
    Arc::new(root)
}

/// An engine that is told that it has the host opens its stream at once: an effect performed later would be too late.
#[tokio::test]
async fn whose_the_host_is_is_shown_before_anybody_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let presence = Arc::new(Presence::default());
    let tools = Tools {
        root: root(dir.path()),
        alive: Arc::default(),
        presence: Arc::clone(&presence),
        log: Log::new(MemoryStore::new()).unwrap(),
        coordinator: watch::channel(None).1,
        tokio: tokio::runtime::Handle::current(),
    };
    let mut runner = Runner::new(tools, 1).unwrap();
    let call = |start: u128| EngineCall {
        engine_id: EngineId::from_uuid(uuid(5)),
        epoch: 1,
        incarnation: Some(Incarnation::from_uuid(uuid(start))),
        store_id: None,
    };
    for start in [6, 7] {
        let now = call(start);
        runner.show(&Effect::Fence(Owner {
            engine_id: now.engine_id,
            epoch: now.epoch,
            incarnation: now.incarnation,
            released: false,
            copies: Vec::new(),
            taken_over: None,
        }));
        assert!(presence.fence(now).is_ok(), "the one that has it now");
        assert!(presence.fence(call(13 - start)).is_err(), "and no other one");
    }
}

fn host(store: Arc<dyn Store>, root: Arc<NamedRoot>) -> Handle<HostMachine> {
    let log = Log::new(Arc::clone(&store)).unwrap();
    let alive = Arc::new(Alive::default());
    let (employer, coordinator) = watch::channel(None);
    let tools = Tools {
        root,
        alive: Arc::clone(&alive),
        presence: Arc::default(),
        log: Arc::clone(&log),
        coordinator,
        tokio: tokio::runtime::Handle::current(),
    };
    let seed = Seed {
        limits: Limits::default(),
        identity: store.identity(),
        alive,
        presence: Arc::default(),
        figures: None,
    };
    let runner = Runner::new(tools, 2).unwrap();
    let handle = coordinator::spawn::<HostMachine>(store, seed, log, runner).unwrap();
    employer.send_replace(Some(handle.clone()));
    handle
}

fn recorded(store: &dyn Store, id: TaskId) -> Option<Task> {
    store::find(&*store.reader().unwrap(), id).unwrap()
}

/// Starts the task, and repeats the call while it is unknown whether the task was recorded.
async fn start(host: &Handle<HostMachine>, store: &dyn Store, id: TaskId) {
    loop {
        let known = store::known(&*store.reader().unwrap(), id).unwrap();
        let input = Input::Start(Start {
            caller: Caller::default(),
            task_id: id,
            operation: operation(),
            correlation_id: String::new(),
            known,
        });
        match host.call(input).await {
            Ok(answer) => match answer.reply.unwrap() {
                Answer::Task(task) => return assert_eq!(task.id, id),
                other => panic!("{other:?}"),
            },
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

async fn end(store: &dyn Store, id: TaskId) -> Task {
    let begin = Instant::now();
    loop {
        if let Some(task) = recorded(store, id).filter(|task| task.state.is_terminal()) {
            return task;
        }
        assert!(
            begin.elapsed() < PATIENCE,
            "the task does not end: {:?}",
            recorded(store, id)
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_commit_fails_the_task_ends_once_and_records_and_storage_agree() {
    for nth in 1..=COMMITS {
        for when in [When::Before, When::After] {
            let dir = tempfile::tempdir().unwrap();
            let root = root(dir.path());
            let store = FailingStore::wrap(MemoryStore::new());
            let host = host(Arc::clone(&store) as Arc<dyn Store>, Arc::clone(&root));
            let id = TaskId::from_uuid(uuid(7));
            store.fail_commit(nth, when);
            start(&host, &*store, id).await;
            let task = end(&*store, id).await;
            let there = root.now().unwrap().domain(DomainId::from_uuid(uuid(1))).unwrap();
            let volumes = there.volumes(ImageId::from_uuid(uuid(2)));
            let fault = task.fault.map(|fault| fault.code);
            match task.state {
                TaskState::Finished => {
                    assert_eq!((volumes.unwrap().len(), fault), (1, None), "{nth} {when:?}")
                }
                // The start was recorded and nobody was told, so the thread never began the task.
                TaskState::Recovered => {
                    assert_eq!((nth, fault), (1, Some(FaultCode::Interrupted)), "{when:?}");
                    assert_eq!(volumes.unwrap_err().code, FaultCode::ImageNotFound);
                }
                other => panic!("{nth} {when:?}: {other:?}"),
            }
            host.stop().await;
        }
    }
}
