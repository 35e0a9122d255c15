//! Hosts are added and removed while another one works.

use proto::engine::v1::{GetHostRequest, host::Connection};
use rustix::process::Signal;
use tests::client::Refusal;
use tests::failure::{Context as _, TestResult, ensure};
use tests::{requests, words};
use tonic::Code;

use super::pair::Pair;
use super::trouble::work;

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_hangs_while_it_is_taken_or_given_up_delays_no_other() -> TestResult<()> {
    let pair = Pair::start().await?;
    let engine = &pair.world.client;
    let third = pair.world.neighbour("third", &[]).await?;
    third.host.service.signal(Signal::STOP)?;
    let request = requests::add_host(third.id(), "third", third.proxy.address());
    let added = engine.ask_add_host(&request).await?;
    engine.waits_for_host(&added, third.id()).await?;
    work(&pair).await?;
    third.host.service.signal(Signal::CONT)?;
    engine.succeeds(&added).await?;

    third.host.service.signal(Signal::STOP)?;
    engine.sees_host(third.id(), Connection::Away).await?;
    let removed = engine.ask_remove_host(&requests::remove_host(third.id())).await?;
    engine.waits_for_host(&removed, third.id()).await?;
    work(&pair).await?;
    third.host.service.signal(Signal::CONT)?;
    engine.succeeds(&removed).await?;
    let gone = GetHostRequest {
        host_id: third.id().to_owned(),
    };
    let gone = engine.hosts.clone().get_host(gone).await;
    ensure(gone.is_err_and(|status| status.code() == Code::NotFound), || {
        "it is still there".to_owned()
    })?;
    // The host belongs to nobody now, and can be added again.
    third.join(engine, "third again").await?;
    pair.all_is_well().await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_hangs_is_not_given_up_where_that_is_cancelled_in_time() -> TestResult<()> {
    let pair = Pair::start().await?;
    let engine = &pair.world.client;
    // A host with a domain cannot be removed, whether it answers or not.
    let remove = requests::remove_host(pair.second.id());
    let refused = engine.hosts.clone().remove_host(remove).await;
    let refusal = Refusal::from(&refused.err().context("a host with a domain was given up")?);
    ensure(refusal.reason == "ENTITY_IN_USE", || format!("{refusal:?}"))?;

    let third = pair.world.neighbour("third", &[]).await?;
    third.join(engine, "third").await?;
    third.host.service.signal(Signal::STOP)?;
    engine.sees_host(third.id(), Connection::Away).await?;
    let removed = engine.ask_remove_host(&requests::remove_host(third.id())).await?;
    engine.waits_for_host(&removed, third.id()).await?;
    engine.cancel(&removed).await?;
    work(&pair).await?;
    third.host.service.signal(Signal::CONT)?;
    let command = engine.settled(&removed).await?;
    ensure(words::command_state(command.state) == "CANCELLED", || {
        format!("{command:#?}")
    })?;
    // The host still belongs to this engine, and works for it.
    engine.sees_host(third.id(), Connection::Connected).await?;
    let domain = requests::create_domain(third.id(), "third");
    let created = engine.ask_create_domain(&domain).await?;
    engine.succeeds(&created).await?;
    let disk = requests::create_disk(&domain.domain_id, requests::KINDS[2]);
    let created = engine.ask_create_disk(&disk).await?;
    engine.succeeds(&created).await?;
    let view = pair.view().and(third.place());
    tests::audit::all_is_well(&view, &pair.watchers).await.map(drop)
}
