//! A host without an engine.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use proto::host::v1::{
    CreateStorageDomainRequest, GetHostInfoRequest, GetTaskRequest, StartTaskRequest, Task,
};

use crate::client::Host;
use crate::fail_point::FailPoints;
use crate::failure::{Context, TestResult};
use crate::ids::{fresh, fresh_loopback};
use crate::patience::{eventually, persist};
use crate::service::{Recipe, Service};
use crate::words;
use crate::world::host_recipe;

/// A host whose directories lie below a folder that somebody else cares for. It is killed when this is dropped.
#[derive(Debug)]
pub struct LoneHost {
    /// The service.
    pub service: Service,
    /// The id that it is configured with.
    pub host_id: String,
    /// A client of it.
    pub client: Host,
    folder: PathBuf,
}

impl LoneHost {
    /// Starts it.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_below(folder: &Path) -> TestResult<Self> {
        Self::start_with(folder, &[]).await
    }

    /// Starts it with more arguments.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_with(folder: &Path, arguments: &[&str]) -> TestResult<Self> {
        let recipe = |recipe: &mut Recipe| recipe.arguments.extend(arguments.iter().map(Into::into));
        Self::start_changed(folder, recipe).await
    }

    /// Starts this program, which becomes the service.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_program(folder: &Path, program: &Path) -> TestResult<Self> {
        Self::start_changed(folder, |recipe| program.clone_into(&mut recipe.program)).await
    }

    async fn start_changed(folder: &Path, change: impl FnOnce(&mut Recipe)) -> TestResult<Self> {
        let listen = SocketAddr::new(IpAddr::V4(fresh_loopback()), 0);
        std::fs::create_dir_all(folder.join("storage"))?;
        let host_id = fresh();
        let mut recipe = host_recipe(folder, listen, &host_id)?;
        change(&mut recipe);
        let mut service = Service::new(recipe);
        let address = service.start(&FailPoints::default()).await?;
        let host = Self {
            service,
            host_id,
            client: Host::at(address)?,
            folder: folder.to_owned(),
        };
        host.serves().await?;
        Ok(host)
    }

    /// Where its storage domains are.
    pub fn storage_root(&self) -> PathBuf {
        self.folder.join("storage")
    }

    /// Waits until it answers: it does so only when its tasks are loaded.
    ///
    /// # Errors
    /// When it does not.
    pub async fn serves(&self) -> TestResult<()> {
        let answer = persist(|| {
            let mut host = self.client.host.clone();
            async move { host.get_host_info(GetHostInfoRequest::default()).await }
        });
        answer.await.context("the host does not serve").map(drop)
    }
}

impl Host {
    /// Makes a storage domain: returns its id.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn create_domain(&self) -> TestResult<String> {
        let request = CreateStorageDomainRequest {
            domain_id: fresh(),
            name: "alone".to_owned(),
        };
        let answer = persist(|| {
            let (mut storage, request) = (self.storage.clone(), request.clone());
            async move { storage.create_storage_domain(request).await }
        });
        let answer = answer.await.context("CreateStorageDomain")?.into_inner();
        Ok(answer.domain.context("a domain without a body")?.domain_id)
    }

    /// Starts a task and waits for its end.
    ///
    /// # Errors
    /// When it is refused, or never ends.
    pub async fn run(&self, request: &StartTaskRequest) -> TestResult<Task> {
        let answer = self.tasks.clone().start_task(request.clone()).await;
        answer.context("StartTask")?;
        self.ended(&request.task_id).await
    }

    /// Waits for a task's end.
    ///
    /// # Errors
    /// When it never ends.
    pub async fn ended(&self, task_id: &str) -> TestResult<Task> {
        eventually("the task to end", || async {
            let request = GetTaskRequest {
                task_id: task_id.to_owned(),
            };
            let task = self
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
}
