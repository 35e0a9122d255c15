use proto::engine::v1::disk_service_client::DiskServiceClient;
use proto::engine::v1::{
    AttachDiskRequest, CopyDiskRequest, CreateDiskRequest, DetachDiskRequest, ExtendDiskRequest,
    ListDisksRequest, RemoveDiskRequest, list_jobs_request,
};

use super::{Carried, accepted, allocation, format, print_list};
use crate::args::Disk;
use crate::engine::{Engine, call, only_id, pages};
use crate::failure::Failure;
use crate::output::Output;

pub(super) async fn run(verb: Disk, engine: &Engine, output: &Output) -> Result<(), Failure> {
    match verb {
        Disk::Create {
            size,
            domain,
            kind,
            asked,
        } => {
            let carried = Carried::new(&asked);
            let request = CreateDiskRequest {
                domain_id: engine.domain(&domain).await?,
                capacity_bytes: size,
                format: format(&kind) as i32,
                allocation: allocation(&kind) as i32,
                description: kind.description,
                request_id: carried.request_id,
                validate_only: carried.validate_only,
                lock_wait: carried.lock_wait,
                ..Default::default()
            };
            let answer = call!(engine, DiskServiceClient, create_disk, request)?;
            accepted(engine, output, &asked, answer.command).await
        }
        Disk::List { vm, domain, size } => {
            let mut request = ListDisksRequest::default();
            if let Some(vm) = vm {
                request.vm_id = engine.vm(&vm).await?;
            }
            if let Some(domain) = domain {
                request.domain_id = engine.domain(&domain).await?;
            }
            let found = pages!(engine, DiskServiceClient, list_disks, request, disks, size.limit)?;
            print_list(output, &found)
        }
        Disk::Show { disk } => output.one(&engine.disk(&only_id("disk", &disk)?).await?),
        Disk::History { disk, size } => {
            let filter = list_jobs_request::Filter {
                entity_id: only_id("disk", &disk)?,
                ..Default::default()
            };
            print_list(output, &engine.jobs(filter, size.limit).await?)
        }
        Disk::Copy {
            disk,
            domain,
            kind,
            verify,
            asked,
        } => {
            let source_disk_id = only_id("disk", &disk)?;
            let domain_id = match domain {
                Some(domain) => engine.domain(&domain).await?,
                None => engine.disk(&source_disk_id).await?.domain_id,
            };
            let carried = Carried::new(&asked);
            let request = CopyDiskRequest {
                source_disk_id,
                domain_id,
                format: format(&kind) as i32,
                allocation: allocation(&kind) as i32,
                description: kind.description,
                verify,
                request_id: carried.request_id,
                validate_only: carried.validate_only,
                lock_wait: carried.lock_wait,
                ..Default::default()
            };
            let answer = call!(engine, DiskServiceClient, copy_disk, request)?;
            accepted(engine, output, &asked, answer.command).await
        }
        Disk::Extend { disk, size, asked } => {
            let carried = Carried::new(&asked);
            let request = ExtendDiskRequest {
                disk_id: only_id("disk", &disk)?,
                capacity_bytes: size,
                request_id: carried.request_id,
                validate_only: carried.validate_only,
                lock_wait: carried.lock_wait,
            };
            let answer = call!(engine, DiskServiceClient, extend_disk, request)?;
            accepted(engine, output, &asked, answer.command).await
        }
        Disk::Attach { disk, vm, asked } => {
            let carried = Carried::new(&asked);
            let request = AttachDiskRequest {
                disk_id: only_id("disk", &disk)?,
                vm_id: engine.vm(&vm).await?,
                request_id: carried.request_id,
                validate_only: carried.validate_only,
                lock_wait: carried.lock_wait,
            };
            let answer = call!(engine, DiskServiceClient, attach_disk, request)?;
            accepted(engine, output, &asked, answer.command).await
        }
        Disk::Detach { disk, vm, asked } => {
            let carried = Carried::new(&asked);
            let request = DetachDiskRequest {
                disk_id: only_id("disk", &disk)?,
                vm_id: engine.vm(&vm).await?,
                request_id: carried.request_id,
                validate_only: carried.validate_only,
                lock_wait: carried.lock_wait,
            };
            let answer = call!(engine, DiskServiceClient, detach_disk, request)?;
            accepted(engine, output, &asked, answer.command).await
        }
        Disk::Remove { disk, asked } => {
            let carried = Carried::new(&asked);
            let request = RemoveDiskRequest {
                disk_id: only_id("disk", &disk)?,
                request_id: carried.request_id,
                validate_only: carried.validate_only,
                lock_wait: carried.lock_wait,
            };
            let answer = call!(engine, DiskServiceClient, remove_disk, request)?;
            accepted(engine, output, &asked, answer.command).await
        }
    }
}
