//! WatchTasks.

use proto::host::v1 as wire;
use proto::host::v1::watch_tasks_response::Frame;
use proto::task::v1 as task_wire;
use proto::task::v1::TaskState;
use proto::task::v1::watch_start::Start;
use tokio::time::timeout;
use tonic::{Code, Streaming};

use super::harness::{Host, PATIENCE, create_volume, fresh};

type Frames = Streaming<wire::WatchTasksResponse>;

async fn next(frames: &mut Frames) -> Frame {
    let frame = timeout(PATIENCE, frames.message()).await.expect("a frame comes");
    frame.unwrap().expect("the stream goes on").frame.unwrap()
}

fn request(start: Start, task_ids: &[&String]) -> wire::WatchTasksRequest {
    wire::WatchTasksRequest {
        filter: Some(wire::watch_tasks_request::Filter {
            task_ids: task_ids.iter().map(|id| (*id).clone()).collect(),
            ..Default::default()
        }),
        start: Some(task_wire::WatchStart { start: Some(start) }),
        ..Default::default()
    }
}

async fn watch(host: &Host, start: Start, task_ids: &[&String]) -> Frames {
    host.tasks()
        .watch_tasks(request(start, task_ids))
        .await
        .unwrap()
        .into_inner()
}

/// All items up to the end of the task, and the last token.
async fn until_the_end(frames: &mut Frames) -> (Vec<wire::Task>, String) {
    let (mut items, mut token) = (Vec::new(), String::new());
    while items
        .last()
        .is_none_or(|task: &wire::Task| task.status() != task_wire::TaskStatus::Finished)
    {
        if let Frame::Changes(changes) = next(frames).await {
            token = changes.token;
            items.extend(changes.items);
        }
    }
    (items, token)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_edge_is_an_item_of_its_own_and_a_token_resumes() {
    let host = Host::start().await.with_domain().await;
    let id = fresh();
    let mut frames = watch(&host, Start::Now(()), &[&id]).await;
    assert!(matches!(next(&mut frames).await, Frame::Opened(_)));
    let info = host
        .hosts()
        .get_host_info(wire::GetHostInfoRequest::default())
        .await
        .unwrap()
        .into_inner();
    host.begin(&fresh(), create_volume(&fresh())).await.unwrap();
    host.begin(&id, create_volume(&fresh())).await.unwrap();
    let (items, _) = until_the_end(&mut frames).await;
    let sequences: Vec<u64> = items.iter().map(|task| task.sequence).collect();
    assert_eq!(sequences, (1..=items.len() as u64).collect::<Vec<_>>());
    assert!(items.iter().all(|task| task.task_id == id));
    let mut states: Vec<TaskState> = items.iter().map(wire::Task::state).collect();
    states.dedup();
    let road = [
        TaskState::Init,
        TaskState::Preparing,
        TaskState::Queued,
        TaskState::Running,
        TaskState::Finished,
    ];
    assert_eq!(states, road);

    let token = info.host.unwrap().token;
    let mut resumed = watch(&host, Start::After(token), &[&id]).await;
    assert_eq!(until_the_end(&mut resumed).await.0, items);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_holds_what_is_not_cleared_and_a_stop_says_goodbye() {
    let host = Host::start().await;
    let (kept, cleared) = (fresh(), fresh());
    host.abort(&kept).await.unwrap();
    host.abort(&cleared).await.unwrap();
    host.clear(&cleared).await.unwrap();
    let mut frames = watch(&host, Start::Snapshot(()), &[]).await;
    assert!(matches!(next(&mut frames).await, Frame::Opened(_)));
    let mut items = Vec::new();
    loop {
        match next(&mut frames).await {
            Frame::Snapshot(page) => items.extend(page.items),
            Frame::SnapshotDone(_) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        items.iter().map(|task| &task.task_id).collect::<Vec<_>>(),
        [&kept]
    );
    let stopping = tokio::spawn(host.stop());
    loop {
        if let Frame::Closing(closing) = next(&mut frames).await {
            assert_eq!(closing.reason(), task_wire::closing::Reason::Shutdown);
            break;
        }
    }
    let end = timeout(PATIENCE, frames.message())
        .await
        .expect("the stream ends");
    assert_eq!(end.unwrap_err().code(), Code::Unavailable);
    stopping.await.unwrap();
}
