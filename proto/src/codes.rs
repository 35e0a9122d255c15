//! What each RPC may answer instead of its response: the table that the comments of the contract are tested against, and
//! that a server compares each refusal with before it goes out.

use common::fault::FaultCode::{self, *};

/// What a server says in its log of an answer that is not in the table. Tests look for it.
pub const UNDECLARED: &str = "the contract does not allow this code for this RPC: please report it";

/// A service, and what its RPCs may answer.
#[derive(Debug)]
pub struct Service {
    /// Its full name.
    pub name: &'static str,
    /// What each of its RPCs may answer, besides [`ALWAYS`].
    pub every: &'static [FaultCode],
    /// Its RPCs.
    pub rpcs: &'static [Rpc],
}

/// An RPC, and what it alone may answer.
#[derive(Debug)]
pub struct Rpc {
    /// Its name in its service.
    pub name: &'static str,
    groups: &'static [&'static [FaultCode]],
}

impl Rpc {
    /// Its codes, besides those of its service and [`ALWAYS`].
    pub fn codes(&self) -> impl Iterator<Item = FaultCode> {
        self.groups.iter().flat_map(|group| group.iter().copied())
    }
}

/// Whether an RPC may answer this, by its path (`/package.Service/Method`); none where the path is no RPC of the contract.
pub fn may_answer(path: &str, code: FaultCode) -> Option<bool> {
    let (service, rpc) = path.strip_prefix('/')?.split_once('/')?;
    let service = SERVICES.iter().find(|one| one.name == service)?;
    let rpc = service.rpcs.iter().find(|one| one.name == rpc)?;
    let mut all = ALWAYS.iter().chain(service.every).copied().chain(rpc.codes());
    Some(all.any(|one| one == code))
}

/// What every RPC may answer: what is said before a request comes to its handler, and of the service's own store.
pub const ALWAYS: &[FaultCode] = &[
    InvalidArgument,
    TooManyConnections,
    TooManyRequests,
    MessageTooLarge,
    DeadlineExceeded,
    CompressionUnsupported,
    StoreUnavailable,
    ShuttingDown,
    Internal,
];

/// Of an RPC that an engine answers only where it is the one that goes on: another start of it is not, or it is not known
/// yet which one is.
const ONE_LIFE: &[FaultCode] = &[EngineFenced, EngineStillConnected, Loading];

/// Of an RPC whose request becomes a command.
const COMMAND: &[FaultCode] = &[RequestIdReused, EntityBusy, TooManyCommands, StoreFull];

/// Of an RPC about a command that has not ended.
const UNFINISHED: &[FaultCode] = &[CommandNotFound, CommandEnded, CommandNotRoot];

/// Of a watch.
const WATCH: &[FaultCode] = &[TokenOutOfRange];

/// Of an RPC that changes something on a host: whose host it is, and whose data directory.
const OWNED: &[FaultCode] = &[HostOwned, HostNotOwned, EngineFenced, HostStoreChanged];

/// Of all that looks at storage.
const STORAGE: &[FaultCode] = &[
    Loading,
    DomainNotFound,
    DomainMetadataInvalid,
    DomainChecksumMismatch,
    DomainVersionUnsupported,
    DomainAccessDenied,
    StorageRootGone,
    StorageReplaced,
    NotARegularFile,
    StaleHandle,
    IoError,
    ResourceLimit,
];

/// Of all that changes a storage domain.
const CHANGE: &[FaultCode] = &[
    EntityBusy,
    DomainReadOnly,
    DomainLocked,
    NoSpace,
    QuotaExceeded,
    FileTooLarge,
    FileSystemReadOnly,
];

const fn rpc(name: &'static str, groups: &'static [&'static [FaultCode]]) -> Rpc {
    Rpc { name, groups }
}

/// All services of the contract.
pub const SERVICES: &[Service] = &[
    Service {
        name: "vdsm_engine.engine.v1.VmService",
        every: &[],
        rpcs: &[
            rpc("CreateVm", &[COMMAND, ONE_LIFE, &[EntityNotFound, EntityExists]]),
            rpc("GetVm", &[&[EntityNotFound]]),
            rpc("ListVms", &[]),
            rpc("RemoveVm", &[COMMAND, ONE_LIFE, &[EntityNotFound]]),
        ],
    },
    Service {
        name: "vdsm_engine.engine.v1.DiskService",
        every: &[],
        rpcs: &[
            rpc(
                "CreateDisk",
                &[COMMAND, ONE_LIFE, &[EntityNotFound, EntityExists]],
            ),
            rpc("GetDisk", &[&[EntityNotFound]]),
            rpc("ListDisks", &[]),
            rpc(
                "RemoveDisk",
                &[COMMAND, ONE_LIFE, &[EntityNotFound, DiskAttached]],
            ),
            rpc(
                "AttachDisk",
                &[COMMAND, ONE_LIFE, &[EntityNotFound, DiskAttached, VmFull]],
            ),
            rpc(
                "DetachDisk",
                &[COMMAND, ONE_LIFE, &[EntityNotFound, DiskNotAttached]],
            ),
            rpc(
                "CopyDisk",
                &[COMMAND, ONE_LIFE, &[EntityNotFound, EntityExists, DomainsApart]],
            ),
        ],
    },
    Service {
        name: "vdsm_engine.engine.v1.StorageDomainService",
        every: &[],
        rpcs: &[
            rpc(
                "CreateStorageDomain",
                &[COMMAND, ONE_LIFE, &[EntityNotFound, EntityExists]],
            ),
            rpc("GetStorageDomain", &[&[EntityNotFound]]),
            rpc("ListStorageDomains", &[]),
        ],
    },
    Service {
        name: "vdsm_engine.engine.v1.HostService",
        every: &[],
        rpcs: &[
            rpc("AddHost", &[COMMAND, ONE_LIFE, &[EntityExists]]),
            rpc("GetHost", &[&[EntityNotFound]]),
            rpc("ListHosts", &[]),
            rpc("RemoveHost", &[COMMAND, ONE_LIFE, &[EntityNotFound, EntityInUse]]),
            // Never refused for what is under way, nor for what another life of this engine does: it ends both.
            rpc(
                "TakeOverHost",
                &[&[RequestIdReused, EntityBusy, StoreFull, EntityExists]],
            ),
        ],
    },
    Service {
        name: "vdsm_engine.engine.v1.CommandService",
        every: &[],
        rpcs: &[
            rpc("GetCommand", &[&[CommandNotFound]]),
            rpc("ListCommands", &[]),
            rpc("WaitCommand", &[&[CommandNotFound]]),
            rpc("CancelCommand", &[UNFINISHED, ONE_LIFE]),
            rpc("RetryCommand", &[UNFINISHED, ONE_LIFE, &[CommandNotResting]]),
            rpc(
                "AbandonCommand",
                &[UNFINISHED, ONE_LIFE, &[CommandNotResting, TaskMayRun]],
            ),
            rpc("WatchCommands", &[WATCH]),
        ],
    },
    Service {
        name: "vdsm_engine.engine.v1.TaskService",
        every: &[],
        rpcs: &[
            rpc("GetTask", &[&[TaskNotFound]]),
            rpc("ListTasks", &[]),
            rpc("WatchTasks", &[WATCH]),
        ],
    },
    Service {
        name: "vdsm_engine.engine.v1.JobService",
        every: &[],
        rpcs: &[
            rpc("GetJob", &[&[CommandNotFound]]),
            rpc("ListJobs", &[]),
            rpc("WatchJobs", &[WATCH]),
        ],
    },
    Service {
        name: "vdsm_engine.engine.v1.EventService",
        every: &[],
        rpcs: &[rpc("ListEvents", &[]), rpc("WatchEvents", &[WATCH])],
    },
    Service {
        name: "vdsm_engine.host.v1.TaskService",
        every: &[Loading],
        rpcs: &[
            rpc(
                "StartTask",
                &[OWNED, &[TaskIdReused, OperationUnsupported, QueueFull, StoreFull]],
            ),
            rpc("GetTask", &[&[TaskNotFound]]),
            rpc("ListTasks", &[]),
            rpc("AbortTask", &[OWNED, &[TaskNotAbortable]]),
            rpc("ClearTask", &[OWNED, &[TaskNotFinished]]),
            rpc("WatchTasks", &[WATCH, &[HostOwned, HostNotOwned, EngineFenced]]),
        ],
    },
    Service {
        name: "vdsm_engine.host.v1.HostService",
        every: &[Loading],
        rpcs: &[
            rpc("GetHostInfo", &[]),
            rpc(
                "ClaimHost",
                &[&[HostOwned, EngineFenced, EngineStillConnected, HostStoreChanged]],
            ),
            rpc("ReleaseHost", &[OWNED]),
        ],
    },
    Service {
        name: "vdsm_engine.host.v1.StorageService",
        every: STORAGE,
        rpcs: &[
            rpc("CreateStorageDomain", &[OWNED, CHANGE, &[DomainExists]]),
            rpc("ListStorageDomains", &[]),
            rpc("GetStorageDomain", &[]),
            rpc("FormatStorageDomain", &[OWNED, CHANGE, &[DomainNotEmpty]]),
            rpc("ListImages", &[]),
            rpc("GetImage", &[&[ImageNotFound]]),
            rpc("ListVolumes", &[&[ImageNotFound]]),
            rpc("GetVolume", &[&[ImageNotFound, VolumeNotFound]]),
            rpc("ProbeOperation", &[]),
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_rpc_answers_what_everybody_does_what_its_service_does_and_what_it_does_alone() {
        let get_task = "/vdsm_engine.host.v1.TaskService/GetTask";
        for (code, expected) in [
            (InvalidArgument, true),
            (Loading, true),
            (TaskNotFound, true),
            (CommandNotFound, false),
        ] {
            assert_eq!(may_answer(get_task, code), Some(expected), "{code}");
        }
        for path in [
            "/grpc.health.v1.Health/Check",
            "/vdsm_engine.host.v1.TaskService/Moon",
            "x",
            "",
        ] {
            assert_eq!(may_answer(path, Internal), None, "{path}");
        }
    }
}
