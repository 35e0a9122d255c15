//! A host that no engine owns, spoken to directly.

use proto::vdsm::v1::{CreateStorageDomainRequest, GetTaskRequest, StartTaskRequest, Task};
use tests::client::Host;
use tests::failure::{Context as _, Outcome};
use tests::ids::fresh;
use tests::patience::{eventually, persist};
use tests::words;

/// Makes a storage domain: returns its id.
pub(crate) async fn create_domain(host: &Host) -> Outcome<String> {
    let request = CreateStorageDomainRequest {
        domain_id: fresh(),
        name: "bare".to_owned(),
    };
    let answer = persist(|| {
        let (mut storage, request) = (host.storage.clone(), request.clone());
        async move { storage.create_storage_domain(request).await }
    });
    let answer = answer.await.context("CreateStorageDomain")?.into_inner();
    Ok(answer.domain.context("a domain without a body")?.domain_id)
}

/// Starts a task and waits for its end.
pub(crate) async fn run(host: &Host, request: &StartTaskRequest) -> Outcome<Task> {
    let answer = host.tasks.clone().start_task(request.clone()).await;
    answer.context("StartTask")?;
    ended(host, &request.task_id).await
}

/// Waits for a task's end.
pub(crate) async fn ended(host: &Host, task_id: &str) -> Outcome<Task> {
    eventually("the task to end", || async {
        let request = GetTaskRequest {
            task_id: task_id.to_owned(),
        };
        let task = host
            .tasks
            .clone()
            .get_task(request)
            .await
            .ok()?
            .into_inner()
            .task?;
        words::task_is_over(task.state).then_some(task)
    })
    .await
}
