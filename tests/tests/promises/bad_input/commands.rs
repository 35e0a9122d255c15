//! RPCs about existing commands.

use prost_types::Duration;
use proto::engine::v1::*;
use tests::audit::at_rest;
use tests::client::Refusal;
use tests::failure::{Context as _, TestResult, ensure};
use tests::ids::fresh;
use tests::{World, requests};
use tonic::Code;

use super::table::*;

#[tokio::test]
async fn requests_about_commands_are_refused_by_field_and_by_state() -> TestResult<()> {
    let (world, _) = World::furnished().await?;
    let records = at_rest(&world.view()).await?;
    let mut table = Table::new(&world).await?;
    let commands = &world.client.commands;
    let get = |command_id: &str| GetCommandRequest {
        command_id: command_id.to_owned(),
    };
    let wait = |command_id: &str| only(|r: &mut WaitCommandRequest| r.command_id = command_id.to_owned());
    let cancel = |command_id: &str| CancelCommandRequest {
        command_id: command_id.to_owned(),
    };
    let retry = |command_id: &str| RetryCommandRequest {
        command_id: command_id.to_owned(),
    };
    let abandon = |command_id: &str, reason: &str| AbandonCommandRequest {
        command_id: command_id.to_owned(),
        reason: reason.to_owned(),
    };

    refuse!(table, for x in bad_ids(), commands.get_command(get(&x)) => invalid("command_id"));
    refuse!(table, for x in bad_ids(), commands.wait_command(wait(&x)) => invalid("command_id"));
    refuse!(table, for x in bad_ids(), commands.cancel_command(cancel(&x)) => invalid("command_id"));
    refuse!(table, for x in bad_ids(), commands.retry_command(retry(&x)) => invalid("command_id"));
    refuse!(table, for x in bad_ids(), commands.abandon_command(abandon(&x, "tired")) => invalid("command_id"));

    let id = fresh();
    let missing = || refused(Code::NotFound, "COMMAND_NOT_FOUND", &id);
    refuse!(table, commands.get_command(get(&id)) => missing());
    refuse!(table, commands.wait_command(wait(&id)) => missing());
    refuse!(table, commands.cancel_command(cancel(&id)) => missing());
    refuse!(table, commands.retry_command(retry(&id)) => missing());
    refuse!(table, commands.abandon_command(abandon(&id, "tired")) => missing());

    let ended = &records.commands[0].command_id;
    let over = || refused(Code::FailedPrecondition, "COMMAND_ENDED", ended);
    refuse!(table, commands.cancel_command(cancel(ended)) => over());
    refuse!(table, commands.retry_command(retry(ended)) => over());
    refuse!(table, commands.abandon_command(abandon(ended, "tired")) => over());
    refuse!(table, for x in bad_names(), commands.abandon_command(abandon(ended, &x)) => invalid("reason"));
    let timeout = |seconds| with(wait(ended), |r| r.timeout = Some(Duration { seconds, nanos: 0 }));
    refuse!(table, for x in [-1, 3_601, i64::MAX, i64::MIN], commands.wait_command(timeout(x)) => invalid("timeout"));
    table.verdict()
}

#[tokio::test]
async fn what_does_not_rest_is_neither_retried_nor_abandoned() -> TestResult<()> {
    let (mut world, domain) = World::furnished().await?;
    world.kill_host().await?;
    world.host_is(host::Connection::Away).await?;
    let vm = requests::create_vm("web", requests::four_disks(&domain));
    let command_id = world.create_vm(&vm).await?;
    let commands = &world.client.commands;
    let retry = RetryCommandRequest {
        command_id: command_id.clone(),
    };
    let abandon = AbandonCommandRequest {
        command_id: command_id.clone(),
        reason: "tired".to_owned(),
    };
    let answers = [
        commands.clone().retry_command(retry).await.err(),
        commands.clone().abandon_command(abandon).await.err(),
    ];
    for answer in answers {
        let refusal = Refusal::from(&answer.context("a command that does not rest was moved")?);
        let known = (refusal.code, refusal.reason.as_str());
        ensure(known == (Code::FailedPrecondition, "COMMAND_NOT_RESTING"), || {
            format!("{refusal:?}")
        })?;
    }
    world.restart_host().await?;
    world.succeeds(&command_id).await
}
