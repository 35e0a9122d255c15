//! Asks a host what its storage shows of a task's operation. The host judges; this module reads its answer.

use common::id::TaskId;
use common::operation::Operation;
use common::revision::Start;
use common::words::Words;
use engine_core::input::{Evidence, Input, Remembered};
use proto::convert;
use proto::host::v1::storage_service_client::StorageServiceClient;
use proto::host::v1::{ProbeOperationRequest, ProbeOperationResponse, ProbeVerdict, Task};
use tonic::transport::Channel;
use tonic::{Request, Status};

/// The question for a host.
pub(super) fn request(task_id: TaskId, operation: &Operation) -> ProbeOperationRequest {
    ProbeOperationRequest {
        operation: Some(convert::operation_to_wire(operation)),
        task_id: task_id.to_string(),
    }
}

/// Has the host examine its storage.
///
/// # Errors
/// The host's status, if it says nothing about storage.
pub(super) async fn look(
    channel: Channel,
    task_id: TaskId,
    request: Request<ProbeOperationRequest>,
) -> Result<Input, Status> {
    let answer = StorageServiceClient::new(channel)
        .probe_operation(request)
        .await?
        .into_inner();
    let unreadable = |what: &str| Status::unavailable(format!("the host answered without {what}"));
    Ok(Input::Probed {
        task_id,
        store_id: answer.store_id.parse().map_err(|_| unreadable("a store_id"))?,
        start: start(&answer.start).ok_or_else(|| unreadable("a start"))?,
        evidence: evidence(&answer),
        is_busy: !answer.busy_task_ids.is_empty(),
        remembered: remembered(answer.task.as_ref()),
    })
}

/// A start of a service, in its printed form.
pub(super) fn start(text: &str) -> Option<Start> {
    u64::from_str_radix(text, 16).ok().map(Start)
}

/// The evidence in an answer. A verdict that only a newer host knows counts as unclear.
fn evidence(answer: &ProbeOperationResponse) -> Evidence {
    let words = Words::from(&answer.words);
    match ProbeVerdict::try_from(answer.verdict) {
        Ok(ProbeVerdict::NotBegun) => Evidence::NotBegun,
        Ok(ProbeVerdict::Begun) if answer.can_begin_again => Evidence::EmptyImage,
        Ok(ProbeVerdict::Begun) => Evidence::Begun(words),
        Ok(ProbeVerdict::Done) => Evidence::Done,
        Ok(ProbeVerdict::Unclear) => Evidence::Unclear(words),
        Ok(ProbeVerdict::Unspecified) | Err(_) => {
            Evidence::Unclear(format!("the host gave the unknown verdict {}", answer.verdict).into())
        }
    }
}

fn remembered(task: Option<&Task>) -> Remembered {
    match task.map(|task| convert::state_from_wire(task.state)) {
        None => Remembered::Unknown,
        Some(Some(state)) if state.is_terminal() => Remembered::Over,
        Some(_) => Remembered::Open,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(verdict: ProbeVerdict, can_begin_again: bool) -> Evidence {
        evidence(&ProbeOperationResponse {
            verdict: verdict.into(),
            can_begin_again,
            words: "words".to_owned(),
            ..ProbeOperationResponse::default()
        })
    }

    #[test]
    fn only_a_verdict_that_is_known_decides() {
        assert_eq!(of(ProbeVerdict::NotBegun, false), Evidence::NotBegun);
        assert_eq!(of(ProbeVerdict::Begun, false), Evidence::Begun("words".into()));
        assert_eq!(of(ProbeVerdict::Begun, true), Evidence::EmptyImage);
        assert_eq!(of(ProbeVerdict::Done, false), Evidence::Done);
        assert_eq!(
            of(ProbeVerdict::Unclear, false),
            Evidence::Unclear("words".into())
        );
        assert!(matches!(
            of(ProbeVerdict::Unspecified, false),
            Evidence::Unclear(_)
        ));
    }

    #[test]
    fn a_start_is_read_as_it_is_printed() {
        assert_eq!(start("00000000000000ff"), Some(Start(255)));
        assert_eq!(start(""), None);
    }
}
