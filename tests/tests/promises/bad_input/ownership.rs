//! Ownership of a host: what callers say about themselves in the metadata.

use proto::host::v1::*;
use tests::World;
use tests::client::with_metadata;
use tests::failure::TestResult;
use tests::ids::fresh;
use tonic::{Code, Request};

use super::table::*;

fn by<T>(message: T, engine_id: &str, epoch: &str) -> Request<T> {
    with_metadata(message, &[("x-engine-id", engine_id), ("x-engine-epoch", epoch)])
}

#[tokio::test]
async fn a_claim_without_a_proper_engine_is_refused_by_field() -> TestResult<()> {
    let world = World::start().await?;
    let mut table = Table::new(&world).await?;
    let host = &world.host_client.host;
    let claim = ClaimHostRequest::default;
    let engine = fresh();
    let silent = with_metadata(claim(), &[("x-engine-id", &engine)]);
    refuse!(table, host.claim_host(claim()) => invalid("metadata.x-engine-id"));
    refuse!(table, host.claim_host(silent) => invalid("metadata.x-engine-epoch"));
    let nil = "00000000-0000-0000-0000-000000000000";
    refuse!(table, for x in ["x", nil], host.claim_host(by(claim(), x, "1")) => invalid("metadata.x-engine-id"));
    let overflow = "18446744073709551616";
    refuse!(table, for x in ["-1", "x", overflow], host.claim_host(by(claim(), &engine, x)) => invalid("metadata.x-engine-epoch"));
    let good = |change: &dyn Fn(&mut ClaimHostRequest)| by(with(claim(), change), &engine, "1");
    refuse!(table, for x in malformed_ids(), host.claim_host(good(&|r| r.predecessor = x.clone())) => invalid("predecessor"));
    refuse!(table, for x in bad_ids(), host.claim_host(good(&|r| r.since = vec![fresh(), x.clone()])) => invalid("since[1]"));
    refuse!(table, host.claim_host(good(&|r| r.since = vec![fresh(); 4_097])) => invalid("since"));
    let decided = |user: &str, reason: &str| {
        let take_over = TakeOver {
            user: user.to_owned(),
            reason: reason.to_owned(),
        };
        good(&|r| r.take_over = Some(take_over.clone()))
    };
    refuse!(table, for x in bad_names(), host.claim_host(decided(&x, "why")) => invalid("take_over.user"));
    refuse!(table, host.claim_host(decided("ann", "")) => invalid("take_over.reason"));
    refuse!(table, for x in bad_descriptions(), host.claim_host(decided("ann", &x)) => invalid("take_over.reason"));
    refuse!(table, for x in ["18446744073709551615", "4294967297"], host.claim_host(by(claim(), &engine, x)) => invalid("metadata.x-engine-epoch"));
    let release = ReleaseHostRequest::default;
    refuse!(table, for x in ["x", nil], host.release_host(by(release(), x, "1")) => invalid("metadata.x-engine-id"));
    refuse!(table, for x in ["-1", "x", overflow], host.release_host(by(release(), &engine, x)) => invalid("metadata.x-engine-epoch"));
    let meet = MeetLivesRequest::default;
    refuse!(table, host.meet_lives(meet()) => invalid("metadata.x-engine-id"));
    refuse!(table, host.meet_lives(by(meet(), &engine, "1")) => invalid("life"));
    let says = |change: &dyn Fn(&mut Life)| {
        let whole = Life {
            incarnation: fresh(),
            nonce: vec![0; 16],
            code: vec![0; 32],
            ..Life::default()
        };
        let life = Some(with(whole, change));
        by(MeetLivesRequest { life }, &engine, "1")
    };
    refuse!(table, for x in bad_ids(), host.meet_lives(says(&|life| life.incarnation = x.clone())) => invalid("life.incarnation"));
    refuse!(table, for n in [0, 15, 17], host.meet_lives(says(&|life| life.nonce = vec![0; n])) => invalid("life.nonce"));
    refuse!(table, for n in [0, 31, 33], host.meet_lives(says(&|life| life.code = vec![0; n])) => invalid("life.code"));
    refuse!(table, for n in [0, 17], host.meet_lives(says(&|life| life.heard = vec![vec![0; n]])) => invalid("life.heard[0]"));
    refuse!(table, host.meet_lives(says(&|life| life.heard = vec![vec![0; 16]; 16])) => invalid("life.heard"));
    refuse!(table, for n in [1, 17, 16 * 4_097], host.meet_lives(says(&|life| life.holds = vec![0; n])) => invalid("life.holds"));
    table.verdict()
}

#[tokio::test]
async fn an_owned_host_is_changed_by_its_owner_alone() -> TestResult<()> {
    let world = World::start().await?;
    let mut table = Table::new(&world).await?;
    let (host, tasks) = (&world.host_client.host, &world.host_client.tasks);
    let claim = ClaimHostRequest::default;
    let abort = || AbortTaskRequest { task_id: fresh() };
    let engine = fresh();
    host.clone().claim_host(by(claim(), &engine, "7")).await?;

    let owned = || refused(Code::PermissionDenied, "HOST_OWNED", "");
    refuse!(table, host.claim_host(by(claim(), &fresh(), "9")) => owned());
    refuse!(table, host.release_host(by(ReleaseHostRequest::default(), &fresh(), "9")) => owned());
    refuse!(table, tasks.abort_task(abort()) => owned());
    refuse!(table, tasks.abort_task(by(abort(), &fresh(), "9")) => owned());
    let fenced = || refused(Code::FailedPrecondition, "ENGINE_FENCED", "");
    refuse!(table, host.claim_host(by(claim(), &engine, "6")) => fenced());
    refuse!(table, tasks.abort_task(by(abort(), &engine, "6")) => fenced());
    let other_store = fresh();
    let metadata = [
        ("x-engine-id", engine.as_str()),
        ("x-engine-epoch", "7"),
        ("x-store-id", &other_store),
    ];
    let changed = refused(Code::FailedPrecondition, "HOST_STORE_CHANGED", "");
    refuse!(table, tasks.abort_task(with_metadata(abort(), &metadata)) => changed);
    table.verdict()
}
