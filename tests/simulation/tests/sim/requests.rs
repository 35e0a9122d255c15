//! What clients ask for: all kinds of things, some of them twice.

use std::cell::RefCell;

use proto::engine::v1::{CancelCommandRequest, Command};
use proto::task::v1::{Allocation, VolumeFormat};
use runtime::chance;
use tests::failure::{Context as _, TestResult, ensure};
use tests::patience::is_away;
use tests::requests;
use tokio::time::sleep;
use tonic::Status;

use crate::play::{Play, persist};

/// Raw, sparse and without data: however fast its process is, a copy has no progress to tell.
const KIND: (VolumeFormat, Allocation) = (VolumeFormat::Raw, Allocation::Sparse);

impl Play {
    /// Asks for one thing. A refusal is an answer as good as any.
    pub(crate) async fn ask(&self, number: usize) -> TestResult<()> {
        let fate = &self.ground.fate;
        match fate.below(100) {
            0..30 => {
                let disks = (0..=fate.below(3)).map(|_| {
                    let mut disk = requests::disk(&self.domain(), KIND);
                    disk.disk_id = chance::uuid().to_string();
                    disk
                });
                let mut request = requests::create_vm(&format!("vm-{number}"), disks.collect());
                request.vm_id = chance::uuid().to_string();
                request.request_id = chance::uuid().to_string();
                self.vms.borrow_mut().push(request.vm_id.clone());
                self.twice("CreateVm", || {
                    let (mut client, request) = (self.engine.vms.clone(), request.clone());
                    async move { Ok(client.create_vm(request).await?.into_inner().command) }
                })
                .await
            }
            30..50 => {
                let mut request = requests::create_disk(&self.domain(), KIND);
                request.disk_id = chance::uuid().to_string();
                request.request_id = chance::uuid().to_string();
                self.disks.borrow_mut().push(request.disk_id.clone());
                self.twice("CreateDisk", || {
                    let (mut client, request) = (self.engine.disks.clone(), request.clone());
                    async move { Ok(client.create_disk(request).await?.into_inner().command) }
                })
                .await
            }
            50..68 => {
                let Some(vm_id) = self.any(&self.vms) else {
                    return Ok(());
                };
                let mut request = requests::remove_vm(&vm_id);
                request.request_id = chance::uuid().to_string();
                self.twice("RemoveVm", || {
                    let (mut client, request) = (self.engine.vms.clone(), request.clone());
                    async move { Ok(client.remove_vm(request).await?.into_inner().command) }
                })
                .await
            }
            68..78 => {
                let Some(disk_id) = self.any(&self.disks) else {
                    return Ok(());
                };
                let mut request = requests::remove_disk(&disk_id);
                request.request_id = chance::uuid().to_string();
                self.twice("RemoveDisk", || {
                    let (mut client, request) = (self.engine.disks.clone(), request.clone());
                    async move { Ok(client.remove_disk(request).await?.into_inner().command) }
                })
                .await
            }
            86..92 => {
                let Some(source) = self.any(&self.disks) else {
                    return Ok(());
                };
                let mut request = requests::copy_disk(&source, &self.domain(), KIND);
                request.disk_id = chance::uuid().to_string();
                request.request_id = chance::uuid().to_string();
                self.disks.borrow_mut().push(request.disk_id.clone());
                self.twice("CopyDisk", || {
                    let (mut client, request) = (self.engine.disks.clone(), request.clone());
                    async move { Ok(client.copy_disk(request).await?.into_inner().command) }
                })
                .await
            }
            78..86 => {
                let (Some(disk_id), Some(vm_id)) = (self.any(&self.disks), self.any(&self.vms)) else {
                    return Ok(());
                };
                let mut request = requests::attach_disk(&disk_id, &vm_id);
                request.request_id = chance::uuid().to_string();
                self.twice("AttachDisk", || {
                    let (mut client, request) = (self.engine.disks.clone(), request.clone());
                    async move { Ok(client.attach_disk(request).await?.into_inner().command) }
                })
                .await
            }
            _ => {
                let Some(command_id) = self.any(&self.commands) else {
                    return Ok(());
                };
                self.ground.trace.note(format!("client cancels {command_id}"));
                let request = CancelCommandRequest { command_id };
                let answer = persist(|| {
                    let (mut client, request) = (self.engine.commands.clone(), request.clone());
                    async move { client.cancel_command(request).await }
                });
                self.answered("CancelCommand", answer.await.map(drop))
            }
        }
    }

    /// Asks until there is an answer, and now and then once more after it: both answers name one command.
    async fn twice<F>(&self, rpc: &str, ask: impl Fn() -> F) -> TestResult<()>
    where
        F: Future<Output = Result<Option<Command>, Status>>,
    {
        let first = persist(&ask).await;
        let Ok(Some(command)) = &first else {
            return self.answered(rpc, first.map(drop));
        };
        self.ground
            .trace
            .note(format!("client: {rpc} is {}", command.command_id));
        self.commands.borrow_mut().push(command.command_id.clone());
        if self.ground.fate.percent(30) {
            sleep(self.ground.fate.between(0, 10_000)).await;
            let again = persist(&ask).await.context(format!("{rpc}, once more"))?;
            ensure(
                again.is_some_and(|again| again.command_id == command.command_id),
                || format!("{rpc}: a repeat made another command than {}", command.command_id),
            )?;
        }
        Ok(())
    }

    pub(crate) fn answered(&self, rpc: &str, answer: Result<(), Status>) -> TestResult<()> {
        match answer {
            Ok(()) => Ok(()),
            Err(status) if is_away(&status) || status.code() == tonic::Code::Internal => {
                Err(status).context(format!("{rpc} was never answered"))
            }
            Err(status) => {
                let code = status.code();
                self.ground
                    .trace
                    .note(format!("client: {rpc} is refused: {code:?} {}", status.message()));
                Ok(())
            }
        }
    }

    fn domain(&self) -> String {
        self.domains[self.ground.fate.below(self.domains.len())].clone()
    }

    fn any(&self, all: &RefCell<Vec<String>>) -> Option<String> {
        let all = all.borrow();
        (!all.is_empty()).then(|| all[self.ground.fate.below(all.len())].clone())
    }
}
