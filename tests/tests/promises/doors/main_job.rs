//! The main job over TLS.

use proto::engine::v1::host::Connection;
use tests::audit::all_is_well;
use tests::failure::{TestResult, ensure};
use tests::watch::Watchers;
use tests::{World, requests};

#[tokio::test]
async fn a_vm_is_made_and_removed_over_tls_with_kills_of_both_in_between() -> TestResult<()> {
    let mut world = World::locked().await?;
    let domain = world.furnish().await?;
    let watchers = Watchers::start(&world.client, &world.host_client);
    let vm = requests::create_vm("web", requests::four_disks(&domain));
    let created = world.create_vm(&vm).await?;
    world.kill_host().await?;
    world.host_is(Connection::Away).await?;
    world.restart_host().await?;
    world.succeeds(&created).await?;
    let removed = world.remove_vm(&requests::remove_vm(&vm.vm_id)).await?;
    world.kill_engine().await?;
    world.restart_engine().await?;
    world.succeeds(&removed).await?;
    let command = world.settled(&removed).await?;
    ensure(command.user == "ann", || {
        format!("the user is the certificate's: {command:#?}")
    })?;
    all_is_well(&world.view(), &watchers).await?;
    world.stop().await
}
