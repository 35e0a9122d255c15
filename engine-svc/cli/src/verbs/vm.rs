use proto::engine::v1::vm_service_client::VmServiceClient;
use proto::engine::v1::{CreateVmRequest, ListVmsRequest, RemoveVmRequest};

use super::{Carried, accepted, disk_spec, print_list};
use crate::args::Vm;
use crate::engine::{Engine, call, pages};
use crate::failure::Failure;
use crate::output::Output;

pub(super) async fn run(verb: Vm, engine: &Engine, output: &Output) -> Result<(), Failure> {
    match verb {
        Vm::Create {
            name,
            disks,
            domain,
            kind,
            asked,
        } => {
            let domain_id = match &domain {
                Some(domain) => engine.domain(domain).await?,
                None => String::new(),
            };
            let carried = Carried::new(&asked);
            let request = CreateVmRequest {
                name,
                disks: disks
                    .iter()
                    .map(|size| disk_spec(&domain_id, *size, &kind))
                    .collect(),
                description: kind.description.clone(),
                request_id: carried.request_id,
                validate_only: carried.validate_only,
                lock_wait: carried.lock_wait,
                ..Default::default()
            };
            let answer = call!(engine, VmServiceClient, create_vm, request)?;
            accepted(engine, output, &asked, answer.command).await
        }
        Vm::List { size } => {
            let request = ListVmsRequest::default();
            let found = pages!(engine, VmServiceClient, list_vms, request, vms, size.limit)?;
            print_list(output, &found)
        }
        Vm::Show { vm } => {
            let answer = engine.get_vm(&engine.vm(&vm).await?).await?;
            output.one(&answer)?;
            if output.is_for_people() && !answer.disks.is_empty() {
                output.say("")?;
                output.list(&answer.disks)?;
            }
            Ok(())
        }
        Vm::Remove { vm, asked } => {
            let carried = Carried::new(&asked);
            let request = RemoveVmRequest {
                vm_id: engine.vm(&vm).await?,
                request_id: carried.request_id,
                validate_only: carried.validate_only,
                lock_wait: carried.lock_wait,
            };
            let answer = call!(engine, VmServiceClient, remove_vm, request)?;
            accepted(engine, output, &asked, answer.command).await
        }
    }
}
