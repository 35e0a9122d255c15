//! The parameters of commands, as they are kept and shown.

use engine_core::model::{
    AddHost, AttachDisk, CommandKind, CopyDisk, CopyImage, CreateDisk, CreateImage, CreateStorageDomain,
    CreateVm, DetachDisk, DiskSpec, Parameters, RemoveAllVmImages, RemoveDisk, RemoveHost, RemoveImage,
    RemoveVm, TakeOverHost,
};
use proto::convert;
use proto::engine::v1 as wire;
use proto::engine::v1::command_parameters::Kind;

use super::codec::{self, CodecError};

/// The kind of a command.
pub(crate) const fn kind(kind: CommandKind) -> wire::CommandKind {
    match kind {
        CommandKind::AddHost => wire::CommandKind::AddHost,
        CommandKind::RemoveHost => wire::CommandKind::RemoveHost,
        CommandKind::CreateStorageDomain => wire::CommandKind::CreateStorageDomain,
        CommandKind::CreateVm => wire::CommandKind::CreateVm,
        CommandKind::CreateImage => wire::CommandKind::CreateImage,
        CommandKind::RemoveVm => wire::CommandKind::RemoveVm,
        CommandKind::RemoveAllVmImages => wire::CommandKind::RemoveAllVmImages,
        CommandKind::RemoveImage => wire::CommandKind::RemoveImage,
        CommandKind::CreateDisk => wire::CommandKind::CreateDisk,
        CommandKind::RemoveDisk => wire::CommandKind::RemoveDisk,
        CommandKind::AttachDisk => wire::CommandKind::AttachDisk,
        CommandKind::DetachDisk => wire::CommandKind::DetachDisk,
        CommandKind::CopyDisk => wire::CommandKind::CopyDisk,
        CommandKind::CopyImage => wire::CommandKind::CopyImage,
        CommandKind::TakeOverHost => wire::CommandKind::TakeOverHost,
    }
}

pub(super) fn read_kind(value: i32) -> Result<CommandKind, CodecError> {
    Ok(match wire::CommandKind::try_from(value) {
        Ok(wire::CommandKind::AddHost) => CommandKind::AddHost,
        Ok(wire::CommandKind::RemoveHost) => CommandKind::RemoveHost,
        Ok(wire::CommandKind::CreateStorageDomain) => CommandKind::CreateStorageDomain,
        Ok(wire::CommandKind::CreateVm) => CommandKind::CreateVm,
        Ok(wire::CommandKind::CreateImage) => CommandKind::CreateImage,
        Ok(wire::CommandKind::RemoveVm) => CommandKind::RemoveVm,
        Ok(wire::CommandKind::RemoveAllVmImages) => CommandKind::RemoveAllVmImages,
        Ok(wire::CommandKind::RemoveImage) => CommandKind::RemoveImage,
        Ok(wire::CommandKind::CreateDisk) => CommandKind::CreateDisk,
        Ok(wire::CommandKind::RemoveDisk) => CommandKind::RemoveDisk,
        Ok(wire::CommandKind::AttachDisk) => CommandKind::AttachDisk,
        Ok(wire::CommandKind::DetachDisk) => CommandKind::DetachDisk,
        Ok(wire::CommandKind::CopyDisk) => CommandKind::CopyDisk,
        Ok(wire::CommandKind::CopyImage) => CommandKind::CopyImage,
        Ok(wire::CommandKind::TakeOverHost) => CommandKind::TakeOverHost,
        Ok(wire::CommandKind::Unspecified) | Err(_) => return Err(codec::unknown("kind", value)),
    })
}

/// The parameters of a command.
pub(crate) fn encode(parameters: &Parameters) -> wire::CommandParameters {
    let kind = match parameters {
        Parameters::AddHost(p) => Kind::AddHost(wire::AddHostParameters {
            host_id: p.host_id.to_string(),
            name: p.name.clone(),
            address: p.address.clone(),
        }),
        Parameters::RemoveHost(p) => Kind::RemoveHost(wire::RemoveHostParameters {
            host_id: p.host_id.to_string(),
        }),
        Parameters::TakeOverHost(p) => Kind::TakeOverHost(wire::TakeOverHostParameters {
            host_id: p.host_id.to_string(),
            name: p.name.clone(),
            address: p.address.clone(),
            reason: p.reason.clone(),
        }),
        Parameters::CreateStorageDomain(p) => {
            Kind::CreateStorageDomain(wire::CreateStorageDomainParameters {
                domain_id: p.domain_id.to_string(),
                name: p.name.clone(),
                host_id: p.host_id.to_string(),
            })
        }
        Parameters::CreateVm(p) => Kind::CreateVm(wire::CreateVmParameters {
            vm_id: p.vm_id.to_string(),
            name: p.name.clone(),
            description: p.description.clone(),
            disks: p.disks.iter().map(encode_disk).collect(),
        }),
        Parameters::CreateImage(p) => Kind::CreateImage(wire::CreateImageParameters {
            vm_id: codec::text(p.vm_id),
            disk: Some(encode_disk(&p.disk)),
            volume_id: p.volume_id.to_string(),
            host_id: p.host_id.to_string(),
        }),
        Parameters::RemoveVm(p) => Kind::RemoveVm(wire::RemoveVmParameters {
            vm_id: p.vm_id.to_string(),
            name: p.name.clone(),
        }),
        Parameters::RemoveAllVmImages(p) => Kind::RemoveAllVmImages(wire::RemoveAllVmImagesParameters {
            vm_id: p.vm_id.to_string(),
            disk_ids: p.disk_ids.iter().map(ToString::to_string).collect(),
        }),
        Parameters::RemoveImage(p) => Kind::RemoveImage(wire::RemoveImageParameters {
            vm_id: codec::text(p.vm_id),
            disk_id: p.disk_id.to_string(),
            domain_id: p.domain_id.to_string(),
            host_id: p.host_id.to_string(),
            capacity_bytes: codec::signed(p.capacity_bytes),
        }),
        Parameters::CreateDisk(p) => Kind::CreateDisk(wire::CreateDiskParameters {
            disk: Some(encode_disk(&p.disk)),
        }),
        Parameters::RemoveDisk(p) => Kind::RemoveDisk(wire::RemoveDiskParameters {
            disk_id: p.disk_id.to_string(),
        }),
        Parameters::AttachDisk(p) => Kind::AttachDisk(wire::AttachDiskParameters {
            disk_id: p.disk_id.to_string(),
            vm_id: p.vm_id.to_string(),
        }),
        Parameters::DetachDisk(p) => Kind::DetachDisk(wire::DetachDiskParameters {
            disk_id: p.disk_id.to_string(),
            vm_id: p.vm_id.to_string(),
        }),
        Parameters::CopyDisk(p) => Kind::CopyDisk(wire::CopyDiskParameters {
            source_disk_id: p.source_disk_id.to_string(),
            disk: Some(encode_disk(&p.disk)),
            verify: p.verify,
        }),
        Parameters::CopyImage(p) => Kind::CopyImage(wire::CopyImageParameters {
            source: Some(convert::address_to_wire(&p.source)),
            disk: Some(encode_disk(&p.disk)),
            volume_id: p.volume_id.to_string(),
            host_id: p.host_id.to_string(),
            verify: p.verify,
        }),
    };
    wire::CommandParameters { kind: Some(kind) }
}

pub(super) fn decode(parameters: Option<wire::CommandParameters>) -> Result<Parameters, CodecError> {
    let kind = codec::required("parameters", parameters.and_then(|parameters| parameters.kind))?;
    Ok(match kind {
        Kind::AddHost(p) => Parameters::AddHost(AddHost {
            host_id: codec::id("host_id", &p.host_id)?,
            name: p.name,
            address: p.address,
        }),
        Kind::RemoveHost(p) => Parameters::RemoveHost(RemoveHost {
            host_id: codec::id("host_id", &p.host_id)?,
        }),
        Kind::TakeOverHost(p) => Parameters::TakeOverHost(TakeOverHost {
            host_id: codec::id("host_id", &p.host_id)?,
            name: p.name,
            address: p.address,
            reason: p.reason,
        }),
        Kind::CreateStorageDomain(p) => Parameters::CreateStorageDomain(CreateStorageDomain {
            domain_id: codec::id("domain_id", &p.domain_id)?,
            name: p.name,
            host_id: codec::id("host_id", &p.host_id)?,
        }),
        Kind::CreateVm(p) => Parameters::CreateVm(CreateVm {
            vm_id: codec::id("vm_id", &p.vm_id)?,
            name: p.name,
            description: p.description,
            disks: p.disks.into_iter().map(decode_disk).collect::<Result<_, _>>()?,
        }),
        Kind::CreateImage(p) => Parameters::CreateImage(CreateImage {
            vm_id: codec::optional_id("vm_id", &p.vm_id)?,
            disk: decode_disk(codec::required("disk", p.disk)?)?,
            volume_id: codec::id("volume_id", &p.volume_id)?,
            host_id: codec::id("host_id", &p.host_id)?,
        }),
        Kind::RemoveVm(p) => Parameters::RemoveVm(RemoveVm {
            vm_id: codec::id("vm_id", &p.vm_id)?,
            name: p.name,
        }),
        Kind::RemoveAllVmImages(p) => Parameters::RemoveAllVmImages(RemoveAllVmImages {
            vm_id: codec::id("vm_id", &p.vm_id)?,
            disk_ids: codec::ids("disk_ids", &p.disk_ids)?,
        }),
        Kind::RemoveImage(p) => Parameters::RemoveImage(RemoveImage {
            vm_id: codec::optional_id("vm_id", &p.vm_id)?,
            disk_id: codec::id("disk_id", &p.disk_id)?,
            domain_id: codec::id("domain_id", &p.domain_id)?,
            host_id: codec::id("host_id", &p.host_id)?,
            capacity_bytes: codec::unsigned("capacity_bytes", p.capacity_bytes)?,
        }),
        Kind::CreateDisk(p) => Parameters::CreateDisk(CreateDisk {
            disk: decode_disk(codec::required("disk", p.disk)?)?,
        }),
        Kind::RemoveDisk(p) => Parameters::RemoveDisk(RemoveDisk {
            disk_id: codec::id("disk_id", &p.disk_id)?,
        }),
        Kind::AttachDisk(p) => Parameters::AttachDisk(AttachDisk {
            disk_id: codec::id("disk_id", &p.disk_id)?,
            vm_id: codec::id("vm_id", &p.vm_id)?,
        }),
        Kind::DetachDisk(p) => Parameters::DetachDisk(DetachDisk {
            disk_id: codec::id("disk_id", &p.disk_id)?,
            vm_id: codec::id("vm_id", &p.vm_id)?,
        }),
        Kind::CopyDisk(p) => Parameters::CopyDisk(CopyDisk {
            source_disk_id: codec::id("source_disk_id", &p.source_disk_id)?,
            disk: decode_disk(codec::required("disk", p.disk)?)?,
            verify: p.verify,
        }),
        Kind::CopyImage(p) => Parameters::CopyImage(CopyImage {
            source: convert::address_from_wire("source", p.source.as_ref())?,
            disk: decode_disk(codec::required("disk", p.disk)?)?,
            volume_id: codec::id("volume_id", &p.volume_id)?,
            host_id: codec::id("host_id", &p.host_id)?,
            verify: p.verify,
        }),
    })
}

pub(super) fn encode_disk(disk: &DiskSpec) -> wire::DiskSpec {
    wire::DiskSpec {
        disk_id: disk.disk_id.to_string(),
        domain_id: disk.domain_id.to_string(),
        capacity_bytes: codec::signed(disk.capacity_bytes),
        format: convert::format_to_wire(disk.format).into(),
        allocation: convert::allocation_to_wire(disk.allocation).into(),
        description: disk.description.clone(),
    }
}

pub(super) fn decode_disk(disk: wire::DiskSpec) -> Result<DiskSpec, CodecError> {
    Ok(DiskSpec {
        disk_id: codec::id("disk_id", &disk.disk_id)?,
        domain_id: codec::id("domain_id", &disk.domain_id)?,
        capacity_bytes: codec::unsigned("capacity_bytes", disk.capacity_bytes)?,
        format: codec::read_format(disk.format)?,
        allocation: codec::read_allocation(disk.allocation)?,
        description: disk.description,
    })
}
