//! Whose host it is.

use common::fault::FaultCode;
use proto::host::v1 as wire;
use tokio::time::timeout;
use tonic::{Code, Request, Response, Status, Streaming};

use super::harness::{Host, PATIENCE, create_volume, eventually, fresh, refusal, start};

fn from_engine<T>(message: T, engine: &str, epoch: u64, store: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert("x-engine-id", engine.parse().unwrap());
    metadata.insert("x-engine-epoch", epoch.to_string().parse().unwrap());
    if let Some(store) = store {
        metadata.insert("x-store-id", store.parse().unwrap());
    }
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_belongs_to_one_engine_and_to_its_youngest_start() {
    let host = Host::start().await;
    let (engine, other) = (fresh(), fresh());
    let claim = |epoch| from_engine(wire::ClaimHostRequest::default(), &engine, epoch, None);
    let mut hosts = host.hosts();
    let info = hosts
        .claim_host(claim(5))
        .await
        .unwrap()
        .into_inner()
        .host
        .unwrap();
    assert_eq!((info.engine_id.as_str(), info.engine_epoch), (engine.as_str(), 5));

    let nobody = hosts.claim_host(wire::ClaimHostRequest::default()).await;
    assert_eq!(
        refusal(nobody),
        (Code::InvalidArgument, FaultCode::InvalidArgument, false)
    );
    let stranger = hosts
        .claim_host(from_engine(wire::ClaimHostRequest::default(), &other, 9, None))
        .await;
    assert_eq!(
        refusal(stranger),
        (Code::PermissionDenied, FaultCode::HostOwned, false)
    );
    let grpcurl = host.abort(&fresh()).await;
    assert_eq!(
        refusal(grpcurl),
        (Code::PermissionDenied, FaultCode::HostOwned, false)
    );
    let domain = wire::CreateStorageDomainRequest {
        domain_id: fresh(),
        name: "x".into(),
    };
    let grpcurl = host.storage().create_storage_domain(domain).await;
    assert_eq!(
        refusal(grpcurl),
        (Code::PermissionDenied, FaultCode::HostOwned, false)
    );

    let send = |epoch, store: Option<&str>| {
        from_engine(start(&fresh(), create_volume(&fresh())), &engine, epoch, store)
    };
    let wrong_store = host.tasks().start_task(send(6, Some(&other))).await;
    assert_eq!(
        refusal(wrong_store),
        (Code::FailedPrecondition, FaultCode::HostStoreChanged, false)
    );
    host.tasks()
        .start_task(send(6, Some(&info.store_id)))
        .await
        .unwrap();
    let fenced = host.tasks().start_task(send(5, None)).await;
    assert_eq!(
        refusal(fenced),
        (Code::FailedPrecondition, FaultCode::EngineFenced, false)
    );
    let dir = host.stop().await;

    let host = Host::start_in(dir, &[]).await;
    let mut hosts = host.hosts();
    let again = hosts
        .get_host_info(wire::GetHostInfoRequest::default())
        .await
        .unwrap()
        .into_inner()
        .host
        .unwrap();
    assert_eq!((again.engine_epoch, again.store_id), (6, info.store_id));
    assert_ne!(again.start, info.start);
    let release = from_engine(wire::ReleaseHostRequest {}, &engine, 6, None);
    let released = hosts
        .release_host(release)
        .await
        .unwrap()
        .into_inner()
        .host
        .unwrap();
    assert_eq!((released.engine_id.as_str(), released.engine_epoch), ("", 0));
    host.abort(&fresh()).await.unwrap();
    host.stop().await;
}

/// As engines call: with the start that they are.
fn from_start<T>(message: T, engine: &str, epoch: u64, incarnation: &str) -> Request<T> {
    let mut request = from_engine(message, engine, epoch, None);
    let incarnation = incarnation.parse().unwrap();
    request.metadata_mut().insert("x-engine-incarnation", incarnation);
    request
}

fn after(predecessor: &str) -> wire::ClaimHostRequest {
    wire::ClaimHostRequest {
        predecessor: predecessor.to_owned(),
        ..wire::ClaimHostRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_of_one_engine_hear_of_each_other_at_a_host_whosever_it_is() {
    let host = Host::start().await;
    let (engine, first, second) = (fresh(), fresh(), fresh());
    let meets = async |engine: &str, start: &str| {
        let life = Some(wire::Life {
            incarnation: start.to_owned(),
            nonce: vec![1; 16],
            code: vec![2; 32],
            ..wire::Life::default()
        });
        let request = from_start(wire::MeetLivesRequest { life }, engine, 1, start);
        let answer = host.hosts().meet_lives(request).await.unwrap().into_inner();
        let heard = answer.lives.into_iter().map(|life| life.incarnation);
        heard.collect::<Vec<_>>()
    };
    assert!(meets(&engine, &first).await.is_empty());
    assert_eq!(meets(&engine, &second).await, std::slice::from_ref(&first));
    assert_eq!(meets(&engine, &first).await, [second]);
    assert!(meets(&fresh(), &fresh()).await.is_empty(), "another engine");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_start_that_claimed_a_host_has_it_across_a_restart_until_a_successor_claims_it() {
    let host = Host::start().await;
    let (engine, first, second, copy) = (fresh(), fresh(), fresh(), fresh());
    let claim = |epoch, start: &str, predecessor: &str| from_start(after(predecessor), &engine, epoch, start);
    host.hosts().claim_host(claim(5, &first, "")).await.unwrap();
    let dir = host.stop().await;

    let host = Host::start_in(dir, &[]).await;
    for epoch in [5, 6, 99] {
        let refused = host.hosts().claim_host(claim(epoch, &copy, &fresh())).await;
        assert_eq!(
            refusal(refused),
            (Code::FailedPrecondition, FaultCode::EngineFenced, false)
        );
        let work = from_start(start(&fresh(), create_volume(&fresh())), &engine, epoch, &copy);
        let refused = host.tasks().start_task(work).await;
        assert_eq!(
            refusal(refused),
            (Code::FailedPrecondition, FaultCode::EngineFenced, false)
        );
    }
    // While the first one is connected, its successor waits.
    let watch = wire::WatchTasksRequest::default();
    let watch = host
        .tasks()
        .watch_tasks(from_start(watch, &engine, 5, &first))
        .await
        .unwrap();
    let waits = host.hosts().claim_host(claim(6, &second, &first)).await;
    assert_eq!(
        refusal(waits),
        (Code::Unavailable, FaultCode::EngineStillConnected, false)
    );
    drop(watch);
    let claimed = eventually("the end of that connection", async || {
        host.hosts().claim_host(claim(6, &second, &first)).await.ok()
    });
    let info = claimed.await.into_inner().host.unwrap();
    assert_eq!((info.engine_epoch, info.engine_incarnation), (6, second.clone()));
    let late = from_start(wire::ReleaseHostRequest {}, &engine, 5, &first);
    let refused = host.hosts().release_host(late).await;
    assert_eq!(
        refusal(refused),
        (Code::FailedPrecondition, FaultCode::EngineFenced, false)
    );
    host.stop().await;
}

type Frames = Streaming<wire::WatchTasksResponse>;

async fn follow(host: &Host, engine: &str, epoch: u64, incarnation: &str) -> Result<Frames, Status> {
    let request = from_start(wire::WatchTasksRequest::default(), engine, epoch, incarnation);
    host.tasks().watch_tasks(request).await.map(Response::into_inner)
}

/// The status that the stream ends with, without anybody asking for anything.
async fn end_of(mut frames: Frames) -> Result<(), Status> {
    let end = async {
        loop {
            match frames.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(()),
                Err(status) => return Err(status),
            }
        }
    };
    timeout(PATIENCE, end).await.expect("the stream ends")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_streams_of_an_engine_end_with_its_hold_on_the_host_and_none_of_its_begins() {
    let host = Host::start().await;
    let (engine, other, first, copy, third) = (fresh(), fresh(), fresh(), fresh(), fresh());
    let take_over = || wire::ClaimHostRequest {
        take_over: Some(wire::TakeOver {
            user: "ann".into(),
            reason: "its engine is gone".into(),
        }),
        ..wire::ClaimHostRequest::default()
    };
    // Nobody's host is looked at before it is claimed, and whoever is no engine looks at any.
    let before = follow(&host, &engine, 5, &first).await.unwrap();
    let also_before = follow(&host, &other, 1, &third).await.unwrap();
    let watch = wire::WatchTasksRequest::default();
    let mut screen = host.tasks().watch_tasks(watch).await.unwrap().into_inner();
    let claim = from_start(after(""), &engine, 5, &first);
    host.hosts().claim_host(claim).await.unwrap();
    let owned = (Code::PermissionDenied, FaultCode::HostOwned, false);
    let fenced = (Code::FailedPrecondition, FaultCode::EngineFenced, false);
    assert_eq!(refusal(end_of(also_before).await), owned);
    assert_eq!(refusal(follow(&host, &other, 1, &third).await), owned);
    assert_eq!(refusal(follow(&host, &engine, 6, &copy).await), fenced);

    let opened = follow(&host, &engine, 5, &first).await.unwrap();
    let taken = from_start(take_over(), &engine, 6, &copy);
    host.hosts().claim_host(taken).await.unwrap();
    for stream in [before, opened] {
        assert_eq!(refusal(end_of(stream).await), fenced);
    }
    assert_eq!(refusal(follow(&host, &engine, 5, &first).await), fenced);

    let of_copy = follow(&host, &engine, 6, &copy).await.unwrap();
    let taken = from_start(take_over(), &other, 1, &third);
    host.hosts().claim_host(taken).await.unwrap();
    assert_eq!(refusal(end_of(of_copy).await), owned);

    let of_third = follow(&host, &other, 1, &third).await.unwrap();
    let release = from_start(wire::ReleaseHostRequest {}, &other, 1, &third);
    host.hosts().release_host(release).await.unwrap();
    assert_eq!(
        refusal(end_of(of_third).await),
        (Code::FailedPrecondition, FaultCode::HostNotOwned, false)
    );
    // It has gone on all the while.
    let opened = timeout(PATIENCE, screen.message()).await.expect("a frame comes");
    assert!(opened.unwrap().is_some());
    let dir = host.stop().await;

    // A restart knows it before the first claim.
    let host = Host::start_in(dir, &[]).await;
    let claim = from_start(after(""), &engine, 5, &first);
    host.hosts().claim_host(claim).await.unwrap();
    let dir = host.stop().await;
    let host = Host::start_in(dir, &[]).await;
    assert_eq!(refusal(follow(&host, &other, 1, &third).await), owned);
    drop(follow(&host, &engine, 5, &first).await.unwrap());
    host.stop().await;
}
