//! The life of tasks.

use common::fault::FaultCode;
use proto::host::v1 as wire;
use proto::task::v1::operation::Verb;
use proto::task::v1::{Noop, TaskResult, TaskState};
use tonic::{Code, Request};

use super::harness::{Host, create_volume, delete_image, fresh, refusal, start};

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_is_created_and_its_image_deleted() {
    let host = Host::start().await.with_domain().await;
    let (image, made, gone) = (fresh(), fresh(), fresh());
    let accepted = host.begin(&made, create_volume(&image)).await.unwrap();
    assert_eq!((accepted.state(), accepted.sequence), (TaskState::Running, 4));
    assert_eq!(host.end_of(&made).await.result(), TaskResult::Success);
    host.begin(&gone, delete_image(&image)).await.unwrap();
    assert_eq!(host.end_of(&gone).await.result(), TaskResult::Success);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_undone_and_says_why() {
    let host = Host::start().await.with_domain().await;
    let id = fresh();
    host.begin(&id, delete_image(&fresh())).await.unwrap();
    let task = host.end_of(&id).await;
    assert_eq!(task.result(), TaskResult::CleanSuccess);
    assert_eq!(task.fault.unwrap().code, FaultCode::ImageNotFound.as_str());
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_id_is_the_same_task_also_after_it_was_cleared_and_after_a_restart() {
    let host = Host::start().await.with_domain().await;
    let (id, verb) = (fresh(), create_volume(&fresh()));
    host.begin(&id, verb.clone()).await.unwrap();
    let ended = host.end_of(&id).await;
    assert_eq!(host.begin(&id, verb.clone()).await.unwrap(), ended);
    let another = refusal(host.begin(&id, create_volume(&fresh())).await);
    assert_eq!(another, (Code::AlreadyExists, FaultCode::TaskIdReused, true));
    assert!(host.clear(&id).await.unwrap().unwrap().removed);
    let dir = host.stop().await;

    let host = Host::start_in(dir, &[]).await;
    let again = host.begin(&id, verb).await.unwrap();
    assert_eq!(
        (again.state(), again.removed, again.sequence),
        (TaskState::Finished, true, ended.sequence + 1)
    );
    assert_eq!(host.clear(&fresh()).await.unwrap(), None);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_that_comes_before_the_start_wins() {
    let host = Host::start().await.with_domain().await;
    let id = fresh();
    let aborted = host.abort(&id).await.unwrap();
    assert_eq!(aborted.state(), TaskState::Recovered);
    assert_eq!(
        aborted.fault.as_ref().unwrap().code,
        FaultCode::NeverStarted.as_str()
    );
    assert_eq!(host.begin(&id, create_volume(&fresh())).await.unwrap(), aborted);
    assert_eq!(host.abort(&id).await.unwrap(), aborted);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_refusals_that_stay_are_verdicts() {
    let host = Host::start().await;
    let mut bad = start("x", Verb::Noop(Noop {}));
    let outcome = host.tasks().start_task(bad.clone()).await;
    assert_eq!(
        refusal(outcome),
        (Code::InvalidArgument, FaultCode::InvalidArgument, true)
    );
    bad.task_id = fresh();
    bad.operation = None;
    let outcome = host.tasks().start_task(bad).await;
    assert_eq!(
        refusal(outcome),
        (Code::InvalidArgument, FaultCode::InvalidArgument, true)
    );

    let mut from_engine = Request::new(start(&fresh(), create_volume(&fresh())));
    from_engine
        .metadata_mut()
        .insert("x-engine-id", fresh().parse().unwrap());
    from_engine
        .metadata_mut()
        .insert("x-engine-epoch", "1".parse().unwrap());
    let outcome = host.tasks().start_task(from_engine).await;
    assert_eq!(
        refusal(outcome),
        (Code::FailedPrecondition, FaultCode::HostNotOwned, false)
    );
    let unknown = host.get(&fresh()).await;
    assert_eq!(refusal(unknown), (Code::NotFound, FaultCode::TaskNotFound, false));
    host.stop().await;
}

#[cfg(not(feature = "failpoints"))]
#[tokio::test(flavor = "multi_thread")]
async fn noop_is_not_served_by_what_is_shipped() {
    let host = Host::start().await;
    let outcome = host.begin(&fresh(), Verb::Noop(Noop {})).await;
    assert_eq!(
        refusal(outcome),
        (Code::Unimplemented, FaultCode::OperationUnsupported, true)
    );
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_in_the_order_of_acceptance_and_paged() {
    let host = Host::start().await;
    let ids: Vec<String> = (0..5).map(|_| fresh()).collect();
    for id in &ids {
        host.abort(id).await.unwrap();
    }
    host.clear(&ids[1]).await.unwrap();
    let mut seen = Vec::new();
    let mut request = wire::ListTasksRequest {
        show_removed: true,
        page_size: 2,
        ..Default::default()
    };
    loop {
        let page = host
            .tasks()
            .list_tasks(request.clone())
            .await
            .unwrap()
            .into_inner();
        seen.extend(page.tasks.into_iter().map(|task| task.task_id));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(seen, ids);
    let left_out = host
        .tasks()
        .list_tasks(wire::ListTasksRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(left_out.tasks.len(), 4);
    let running = wire::ListTasksRequest {
        states: vec![TaskState::Running.into()],
        ..Default::default()
    };
    assert!(
        host.tasks()
            .list_tasks(running)
            .await
            .unwrap()
            .into_inner()
            .tasks
            .is_empty()
    );
    for bad in [
        wire::ListTasksRequest {
            states: vec![0],
            ..Default::default()
        },
        wire::ListTasksRequest {
            page_token: "00".into(),
            ..Default::default()
        },
        wire::ListTasksRequest {
            page_size: -1,
            ..Default::default()
        },
    ] {
        assert_eq!(
            refusal(host.tasks().list_tasks(bad).await).1,
            FaultCode::InvalidArgument
        );
    }
    host.stop().await;
}
