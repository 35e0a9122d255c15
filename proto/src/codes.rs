//! What each RPC may answer instead of its response: the table that the comments of the contract are tested against, and
//! that a server compares each refusal with before it goes out.

use common::fault::FaultCode::{self, *};

use crate::access::{Access, Role};

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
    /// Who may call it.
    pub access: Access,
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
    NotPermitted,
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

/// Users who look; and engines.
const VIEWER: Access = Access::User(Role::Viewer);

/// Users who do the daily work.
const OPERATOR: Access = Access::User(Role::Operator);

/// Users who decide about hosts and storage domains, and give up what cannot be mended.
const ADMIN: Access = Access::User(Role::Admin);

/// The engine that has the host.
const ENGINE: Access = Access::Engine;

const fn rpc(name: &'static str, access: Access, groups: &'static [&'static [FaultCode]]) -> Rpc {
    Rpc { name, access, groups }
}

/// All services of the contract.
pub const SERVICES: &[Service] = &[
    Service {
        name: "vdsm_engine.engine.v1.VmService",
        every: &[],
        rpcs: &[
            rpc(
                "CreateVm",
                OPERATOR,
                &[COMMAND, ONE_LIFE, &[EntityNotFound, EntityExists]],
            ),
            rpc("GetVm", VIEWER, &[&[EntityNotFound]]),
            rpc("ListVms", VIEWER, &[]),
            rpc("RemoveVm", OPERATOR, &[COMMAND, ONE_LIFE, &[EntityNotFound]]),
        ],
    },
    Service {
        name: "vdsm_engine.engine.v1.DiskService",
        every: &[],
        rpcs: &[
            rpc(
                "CreateDisk",
                OPERATOR,
                &[COMMAND, ONE_LIFE, &[EntityNotFound, EntityExists]],
            ),
            rpc("GetDisk", VIEWER, &[&[EntityNotFound]]),
            rpc("ListDisks", VIEWER, &[]),
            rpc(
                "RemoveDisk",
                OPERATOR,
                &[COMMAND, ONE_LIFE, &[EntityNotFound, DiskAttached]],
            ),
            rpc(
                "AttachDisk",
                OPERATOR,
                &[COMMAND, ONE_LIFE, &[EntityNotFound, DiskAttached, VmFull]],
            ),
            rpc(
                "DetachDisk",
                OPERATOR,
                &[COMMAND, ONE_LIFE, &[EntityNotFound, DiskNotAttached]],
            ),
            rpc(
                "CopyDisk",
                OPERATOR,
                &[COMMAND, ONE_LIFE, &[EntityNotFound, EntityExists, DomainsApart]],
            ),
            rpc("ExtendDisk", OPERATOR, &[COMMAND, ONE_LIFE, &[EntityNotFound]]),
        ],
    },
    Service {
        name: "vdsm_engine.engine.v1.StorageDomainService",
        every: &[],
        rpcs: &[
            rpc(
                "CreateStorageDomain",
                ADMIN,
                &[COMMAND, ONE_LIFE, &[EntityNotFound, EntityExists]],
            ),
            rpc("GetStorageDomain", VIEWER, &[&[EntityNotFound]]),
            rpc("ListStorageDomains", VIEWER, &[]),
        ],
    },
    Service {
        name: "vdsm_engine.engine.v1.HostService",
        every: &[],
        rpcs: &[
            rpc("AddHost", ADMIN, &[COMMAND, ONE_LIFE, &[EntityExists]]),
            rpc("GetHost", VIEWER, &[&[EntityNotFound]]),
            rpc("ListHosts", VIEWER, &[]),
            rpc(
                "RemoveHost",
                ADMIN,
                &[COMMAND, ONE_LIFE, &[EntityNotFound, EntityInUse]],
            ),
            // Never refused for what is under way, nor for what another life of this engine does: it ends both.
            rpc(
                "TakeOverHost",
                ADMIN,
                &[&[RequestIdReused, EntityBusy, StoreFull, EntityExists]],
            ),
        ],
    },
    Service {
        name: "vdsm_engine.engine.v1.CommandService",
        every: &[],
        rpcs: &[
            rpc("GetCommand", VIEWER, &[&[CommandNotFound]]),
            rpc("ListCommands", VIEWER, &[]),
            rpc("WaitCommand", VIEWER, &[&[CommandNotFound]]),
            rpc("CancelCommand", OPERATOR, &[UNFINISHED, ONE_LIFE]),
            rpc(
                "RetryCommand",
                OPERATOR,
                &[UNFINISHED, ONE_LIFE, &[CommandNotResting]],
            ),
            rpc(
                "AbandonCommand",
                ADMIN,
                &[UNFINISHED, ONE_LIFE, &[CommandNotResting, TaskMayRun]],
            ),
            rpc("WatchCommands", VIEWER, &[WATCH]),
        ],
    },
    Service {
        name: "vdsm_engine.engine.v1.TaskService",
        every: &[],
        rpcs: &[
            rpc("GetTask", VIEWER, &[&[TaskNotFound]]),
            rpc("ListTasks", VIEWER, &[]),
            rpc("WatchTasks", VIEWER, &[WATCH]),
        ],
    },
    Service {
        name: "vdsm_engine.engine.v1.JobService",
        every: &[],
        rpcs: &[
            rpc("GetJob", VIEWER, &[&[CommandNotFound]]),
            rpc("ListJobs", VIEWER, &[]),
            rpc("WatchJobs", VIEWER, &[WATCH]),
        ],
    },
    Service {
        name: "vdsm_engine.engine.v1.EngineService",
        every: &[],
        rpcs: &[rpc("GetEngineInfo", VIEWER, &[]), rpc("WhoAmI", VIEWER, &[])],
    },
    Service {
        name: "vdsm_engine.engine.v1.EventService",
        every: &[],
        rpcs: &[
            rpc("ListEvents", VIEWER, &[&[AuditLogOff]]),
            rpc("WatchEvents", VIEWER, &[WATCH]),
        ],
    },
    Service {
        name: "vdsm_engine.host.v1.TaskService",
        every: &[Loading],
        rpcs: &[
            rpc(
                "StartTask",
                ENGINE,
                &[OWNED, &[TaskIdReused, OperationUnsupported, QueueFull, StoreFull]],
            ),
            rpc("GetTask", VIEWER, &[&[TaskNotFound]]),
            rpc("ListTasks", VIEWER, &[]),
            rpc("AbortTask", ENGINE, &[OWNED, &[TaskNotAbortable]]),
            rpc("ClearTask", ENGINE, &[OWNED, &[TaskNotFinished]]),
            rpc(
                "WatchTasks",
                VIEWER,
                &[WATCH, &[HostOwned, HostNotOwned, EngineFenced]],
            ),
        ],
    },
    Service {
        name: "vdsm_engine.host.v1.HostService",
        every: &[Loading],
        rpcs: &[
            rpc("GetHostInfo", VIEWER, &[]),
            rpc(
                "ClaimHost",
                ENGINE,
                &[&[HostOwned, EngineFenced, EngineStillConnected, HostStoreChanged]],
            ),
            rpc("ReleaseHost", ENGINE, &[OWNED]),
            rpc("MeetLives", ENGINE, &[]),
        ],
    },
    Service {
        name: "vdsm_engine.host.v1.StorageService",
        every: STORAGE,
        rpcs: &[
            rpc("CreateStorageDomain", ENGINE, &[OWNED, CHANGE, &[DomainExists]]),
            rpc("ListStorageDomains", VIEWER, &[]),
            rpc("GetStorageDomain", VIEWER, &[]),
            rpc("FormatStorageDomain", ENGINE, &[OWNED, CHANGE, &[DomainNotEmpty]]),
            rpc("ListImages", VIEWER, &[]),
            rpc("GetImage", VIEWER, &[&[ImageNotFound]]),
            rpc("ListVolumes", VIEWER, &[&[ImageNotFound]]),
            rpc("GetVolume", VIEWER, &[&[ImageNotFound, VolumeNotFound]]),
            rpc("ProbeOperation", VIEWER, &[]),
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
