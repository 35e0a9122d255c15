//! A world for the mind to live in: hosts that work, lie by omission, lose their memory and come back, and an
//! engine that is killed at any point and loaded again from what it had recorded.

mod cuts;
mod engine;
mod histories;
mod host;
mod invariants;
mod moved;
mod scenes;
mod world;

use std::collections::BTreeSet;

use common::id::{CommandId, DiskId, DomainId, EngineId, HostId, Incarnation, RequestId, StoreId, VmId};
use common::{Allocation, Fault, FaultCode, VolumeFormat};
use uuid::Uuid;

pub(crate) use engine::Engine;
pub(crate) use host::{FakeHost, Fate, Image, Size};
pub(crate) use moved::Moved;
pub(crate) use world::{World, add_host, create_domain};

use crate::input::{Input, OtherStart, Submission};
use crate::model::{
    AttachDisk, CommandRequest, CopyDiskRequest, CreateVmRequest, DetachDisk, ExtendDiskRequest, NewDisk,
    RemoveDisk, RemoveHost, RemoveVmRequest, TakeOverHost,
};
use crate::step::Reply;

pub(crate) const ENGINE: EngineId = EngineId::from_uuid(Uuid::from_u128(0xE));

pub(crate) fn host_id(n: u128) -> HostId {
    HostId::from_uuid(Uuid::from_u128(0x1000 + n))
}

pub(crate) fn domain_id(n: u128) -> DomainId {
    DomainId::from_uuid(Uuid::from_u128(0x2000 + n))
}

pub(crate) fn vm_id(n: u128) -> VmId {
    VmId::from_uuid(Uuid::from_u128(0x3000 + n))
}

pub(crate) fn disk_id(n: u128) -> DiskId {
    DiskId::from_uuid(Uuid::from_u128(0x4000 + n))
}

pub(crate) fn store_id(n: u128) -> StoreId {
    StoreId::from_uuid(Uuid::from_u128(0x5000 + n))
}

pub(crate) fn command_id(n: u128) -> CommandId {
    CommandId::from_uuid(Uuid::from_u128(0x6000_0000 + n))
}

/// The fault of a refusal.
pub(crate) fn refusal(reply: Reply) -> Fault {
    match reply {
        Reply::Refused(fault) => fault,
        other => panic!("{other:#?}"),
    }
}

/// The code of a refusal; none for any other reply.
pub(crate) fn code(reply: Reply) -> Option<FaultCode> {
    match reply {
        Reply::Refused(fault) => Some(fault.code),
        _ => None,
    }
}

/// User `ann` cancels command `n`.
pub(crate) fn cancel(n: u128) -> Input {
    Input::Cancel {
        command_id: command_id(n),
        user: "ann".to_owned(),
    }
}

/// Request `n` of user `ann`, to be accepted as command `n`.
pub(crate) fn submission(n: u128, rpc: &str, request: CommandRequest) -> Submission {
    Submission {
        command_id: command_id(n),
        user: "ann".to_owned(),
        rpc: rpc.to_owned(),
        request_id: RequestId::from_uuid(Uuid::from_u128(0x7000_0000 + n)),
        digest: format!("{request:?}").into_bytes(),
        correlation_id: format!("corr-{n}"),
        request,
        lock_wait: None,
        validate_only: false,
        before: None,
    }
}

/// Another life of the engine, which has these hosts.
pub(crate) fn other_start(holds: &BTreeSet<HostId>) -> OtherStart {
    OtherStart {
        incarnation: Incarnation::from_uuid(Uuid::from_u128(0x8000)),
        holds: holds.clone(),
    }
}

pub(crate) fn remove_host(n: u128) -> CommandRequest {
    CommandRequest::RemoveHost(RemoveHost { host_id: host_id(n) })
}

/// Of a host that is recorded, or that is not.
pub(crate) fn take_over_host(n: u128) -> CommandRequest {
    CommandRequest::TakeOverHost(TakeOverHost {
        host_id: host_id(n),
        name: format!("host-{n}"),
        address: format!("host-{n}:1"),
        identity: String::new(),
        reason: "its owner is gone".to_owned(),
    })
}

pub(crate) fn create_vm(vm: u128, disks: impl IntoIterator<Item = u128>, domain: u128) -> CommandRequest {
    CommandRequest::CreateVm(CreateVmRequest {
        vm_id: vm_id(vm),
        name: format!("vm-{vm}"),
        description: String::new(),
        disks: disks.into_iter().map(|disk| new_disk(disk, domain)).collect(),
    })
}

pub(crate) fn remove_vm(vm: u128) -> CommandRequest {
    CommandRequest::RemoveVm(RemoveVmRequest { vm_id: vm_id(vm) })
}

pub(crate) fn create_disk(disk: u128, domain: u128) -> CommandRequest {
    CommandRequest::CreateDisk(new_disk(disk, domain))
}

pub(crate) fn remove_disk(disk: u128) -> CommandRequest {
    CommandRequest::RemoveDisk(RemoveDisk {
        disk_id: disk_id(disk),
    })
}

pub(crate) fn attach_disk(disk: u128, vm: u128) -> CommandRequest {
    CommandRequest::AttachDisk(AttachDisk {
        disk_id: disk_id(disk),
        vm_id: vm_id(vm),
    })
}

pub(crate) fn detach_disk(disk: u128, vm: u128) -> CommandRequest {
    CommandRequest::DetachDisk(DetachDisk {
        disk_id: disk_id(disk),
        vm_id: vm_id(vm),
    })
}

pub(crate) fn copy_disk(source: u128, disk: u128, domain: u128) -> CommandRequest {
    CommandRequest::CopyDisk(CopyDiskRequest {
        source_disk_id: disk_id(source),
        disk_id: Some(disk_id(disk)),
        domain_id: domain_id(domain),
        format: VolumeFormat::Cow,
        allocation: Allocation::Sparse,
        description: String::new(),
        verify: true,
    })
}

pub(crate) fn extend_disk(disk: u128, capacity_bytes: u64) -> CommandRequest {
    CommandRequest::ExtendDisk(ExtendDiskRequest {
        disk_id: disk_id(disk),
        capacity_bytes,
    })
}

fn new_disk(disk: u128, domain: u128) -> NewDisk {
    NewDisk {
        disk_id: Some(disk_id(disk)),
        domain_id: domain_id(domain),
        capacity_bytes: 4096,
        format: VolumeFormat::Raw,
        allocation: Allocation::Sparse,
        description: String::new(),
    }
}
