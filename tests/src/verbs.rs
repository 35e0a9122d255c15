//! What a client of the engine does over and over: ask until there is a verdict, wait until there is an end.

use proto::engine::v1::host::Connection;
use proto::engine::v1::waiting_for::What;
use proto::engine::v1::*;
use tokio::time::Instant;
use tonic::Status;

use crate::client::Engine;
use crate::failure::{Context, TestResult, ensure};
use crate::patience::{PATIENCE, eventually, persist};
use crate::words;

/// How long one `WaitCommand` waits before it is sent again.
const WAIT: prost_types::Duration = prost_types::Duration { seconds: 2, nanos: 0 };

/// How often a resting command is tried again: each time more of what it waits for can be known.
const RETRIES: usize = 5;

/// Verbs that are asked for as often as it takes to get a verdict, and that answer with a command.
macro_rules! asks {
    ($(#[doc = $doc:literal] $name:ident: $client:ident.$rpc:ident($request:ty);)*) => {$(
        #[doc = $doc]
        ///
        /// Returns the command's id.
        ///
        /// # Errors
        /// When it is refused.
        pub async fn $name(&self, request: &$request) -> TestResult<String> {
            let answer = persist(|| {
                let (mut client, request) = (self.$client.clone(), request.clone());
                async move { client.$rpc(request).await }
            });
            Ok(id_of(answer.await.context(stringify!($rpc))?.into_inner().command))
        }
    )*};
}

impl Engine {
    asks! {
        /// Asks for a VM.
        ask_create_vm: vms.create_vm(CreateVmRequest);
        /// Asks for a VM's removal.
        ask_remove_vm: vms.remove_vm(RemoveVmRequest);
        /// Asks for a disk of its own.
        ask_create_disk: disks.create_disk(CreateDiskRequest);
        /// Asks for a disk's removal.
        ask_remove_disk: disks.remove_disk(RemoveDiskRequest);
        /// Asks for a disk to be given to a VM.
        ask_attach_disk: disks.attach_disk(AttachDiskRequest);
        /// Asks for a disk to be taken from its VM.
        ask_detach_disk: disks.detach_disk(DetachDiskRequest);
        /// Asks for a copy of a disk.
        ask_copy_disk: disks.copy_disk(CopyDiskRequest);
        /// Asks for a larger disk.
        ask_extend_disk: disks.extend_disk(ExtendDiskRequest);
        /// Asks the engine to take a host.
        ask_add_host: hosts.add_host(AddHostRequest);
        /// Asks the engine to give a host up.
        ask_remove_host: hosts.remove_host(RemoveHostRequest);
        /// Asks for a storage domain.
        ask_create_domain: domains.create_storage_domain(CreateStorageDomainRequest);
    }

    /// A command as it now is.
    ///
    /// # Errors
    /// When there is none.
    pub async fn command(&self, command_id: &str) -> TestResult<Command> {
        let answer = persist(|| {
            let mut commands = self.commands.clone();
            let request = GetCommandRequest {
                command_id: command_id.to_owned(),
            };
            async move { commands.get_command(request).await }
        });
        let answer = answer.await.context("GetCommand")?.into_inner();
        answer.command.context("GetCommand answered without a command")
    }

    /// Asks once that a command be stopped, and returns the command as it then is.
    ///
    /// # Errors
    /// The engine's refusal.
    pub async fn cancel(&self, command_id: &str) -> Result<Command, Status> {
        let request = CancelCommandRequest {
            command_id: command_id.to_owned(),
        };
        let answer = self.commands.clone().cancel_command(request).await?.into_inner();
        answer
            .command
            .ok_or_else(|| Status::internal("CancelCommand answered without a command"))
    }

    /// The same across restarts of the engine.
    ///
    /// # Errors
    /// The engine's refusal.
    pub async fn ask_cancel(&self, command_id: &str) -> Result<Command, Status> {
        persist(|| self.cancel(command_id)).await
    }

    /// Waits until the engine sees this host so.
    ///
    /// # Errors
    /// When it does not within reason.
    pub async fn sees_host(&self, host_id: &str, connection: Connection) -> TestResult<()> {
        eventually(&format!("the engine to see the host {connection:?}"), || async {
            let request = GetHostRequest {
                host_id: host_id.to_owned(),
            };
            let answer = self.hosts.clone().get_host(request).await.ok()?;
            (answer.into_inner().host?.connection == i32::from(connection)).then_some(())
        })
        .await
    }

    /// Waits until the command says that it waits for this host, and since when.
    ///
    /// # Errors
    /// When it does not within reason.
    pub async fn waits_for_host(&self, command_id: &str, host_id: &str) -> TestResult<Command> {
        eventually("the command to say that it waits for the host", || async {
            let command = self.command(command_id).await.ok()?;
            let waiting = command.waiting_for.clone()?;
            let for_the_host = matches!(waiting.what?, What::HostId(id) if id == host_id);
            let says_all = waiting.since.is_some() && !waiting.note.is_empty();
            (for_the_host && says_all).then_some(command)
        })
        .await
    }

    /// Waits until a command has ended or rests, across restarts of the engine.
    ///
    /// # Errors
    /// When it does neither; the failure shows the command.
    pub async fn settled(&self, command_id: &str) -> TestResult<Command> {
        let end = Instant::now() + PATIENCE;
        loop {
            let answer = persist(|| {
                let mut commands = self.commands.clone();
                let request = WaitCommandRequest {
                    command_id: command_id.to_owned(),
                    timeout: Some(WAIT),
                };
                async move { commands.wait_command(request).await }
            });
            let answer = answer.await.context("WaitCommand")?.into_inner();
            let command = answer.command.context("WaitCommand answered without a command")?;
            if answer.done {
                return Ok(command);
            }
            ensure(Instant::now() < end, || {
                format!("the command did not end:\n{command:#?}")
            })?;
        }
    }

    /// Waits until a command has ended, trying it again where it rests.
    ///
    /// # Errors
    /// When it never ends.
    pub async fn ended(&self, command_id: &str) -> TestResult<Command> {
        let mut command = self.settled(command_id).await?;
        for _ in 0..RETRIES {
            if words::command_is_over(command.state) {
                break;
            }
            let answer = persist(|| {
                let mut commands = self.commands.clone();
                let command_id = command_id.to_owned();
                async move { commands.retry_command(RetryCommandRequest { command_id }).await }
            });
            answer.await.context("RetryCommand")?;
            command = self.settled(command_id).await?;
        }
        ensure(words::command_is_over(command.state), || {
            format!("the command rests after {RETRIES} retries:\n{command:#?}")
        })?;
        Ok(command)
    }

    /// Waits until a command has ended, and wants it to have succeeded.
    ///
    /// # Errors
    /// When it ended otherwise.
    pub async fn succeeds(&self, command_id: &str) -> TestResult<()> {
        let command = self.settled(command_id).await?;
        ensure(command.state == i32::from(CommandState::Succeeded), || {
            format!(
                "{} is {}: {:?}",
                words::command_kind(command.kind),
                words::command_state(command.state),
                command.fault
            )
        })
    }
}

/// The id of the command in an answer; empty where there is none.
fn id_of(command: Option<Command>) -> String {
    command.map(|command| command.command_id).unwrap_or_default()
}
