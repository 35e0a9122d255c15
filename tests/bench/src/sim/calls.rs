//! What a simulated host answers. Its storage holds no image; its domains are whatever it was asked to create.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use proto::host::v1 as vdsm;
use proto::host::v1::host_service_server::HostService;
use proto::host::v1::storage_service_server::StorageService;
use proto::host::v1::task_service_server::TaskService;
use tonic::{Request, Response, Status};

use super::history::{self, History};
use super::stream::Frames;

type Answer<T> = Result<Response<T>, Status>;

/// One host's answers.
#[derive(Debug, Clone)]
pub(super) struct Calls {
    host_id: String,
    history: Arc<History>,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    engine_id: String,
    engine_epoch: u64,
    domains: BTreeMap<String, vdsm::StorageDomain>,
}

impl Calls {
    pub(super) fn new(host_id: String, history: Arc<History>) -> Self {
        Self {
            host_id,
            history,
            known: Arc::default(),
        }
    }

    fn known<T>(&self, look: impl FnOnce(&mut Known) -> T) -> T {
        look(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn info(&self) -> vdsm::HostInfo {
        let (store_id, start) = self.history.identity();
        self.known(|known| vdsm::HostInfo {
            host_id: self.host_id.clone(),
            store_id: store_id.to_string(),
            start: format!("{:016x}", start.0),
            engine_id: known.engine_id.clone(),
            engine_epoch: known.engine_epoch,
            token: self.history.token(),
            ..vdsm::HostInfo::default()
        })
    }

    fn domain(&self, domain_id: &str) -> Result<vdsm::StorageDomain, Status> {
        let domain = self.known(|known| known.domains.get(domain_id).cloned());
        domain.ok_or_else(|| Status::not_found("no such domain"))
    }
}

#[tonic::async_trait]
impl HostService for Calls {
    async fn get_host_info(&self, _: Request<vdsm::GetHostInfoRequest>) -> Answer<vdsm::GetHostInfoResponse> {
        let host = Some(self.info());
        Ok(Response::new(vdsm::GetHostInfoResponse {
            host,
            ..vdsm::GetHostInfoResponse::default()
        }))
    }

    async fn claim_host(&self, request: Request<vdsm::ClaimHostRequest>) -> Answer<vdsm::ClaimHostResponse> {
        let engine_id = metadata(&request, "x-engine-id");
        let epoch = metadata(&request, "x-engine-epoch").parse().unwrap_or_default();
        self.known(|known| {
            known.engine_id = engine_id;
            known.engine_epoch = known.engine_epoch.max(epoch);
        });
        let host = Some(self.info());
        Ok(Response::new(vdsm::ClaimHostResponse { host }))
    }

    async fn release_host(&self, _: Request<vdsm::ReleaseHostRequest>) -> Answer<vdsm::ReleaseHostResponse> {
        self.known(|known| known.engine_id.clear());
        let host = Some(self.info());
        Ok(Response::new(vdsm::ReleaseHostResponse { host }))
    }

    async fn meet_lives(&self, _: Request<vdsm::MeetLivesRequest>) -> Answer<vdsm::MeetLivesResponse> {
        Ok(Response::new(vdsm::MeetLivesResponse::default()))
    }
}

#[tonic::async_trait]
impl TaskService for Calls {
    type WatchTasksStream = Frames;

    async fn start_task(&self, request: Request<vdsm::StartTaskRequest>) -> Answer<vdsm::StartTaskResponse> {
        let engine_id = metadata(&request, "x-engine-id");
        let correlation_id = metadata(&request, "x-correlation-id");
        let vdsm::StartTaskRequest { task_id, operation } = request.into_inner();
        let task = history::accepted(task_id, operation, engine_id, correlation_id);
        let (task, token) = self.history.accept(task);
        let task = Some(task);
        Ok(Response::new(vdsm::StartTaskResponse { task, token }))
    }

    async fn get_task(&self, request: Request<vdsm::GetTaskRequest>) -> Answer<vdsm::GetTaskResponse> {
        let task = self.history.task(&request.get_ref().task_id);
        let task = Some(task.ok_or_else(|| Status::not_found("no such task"))?);
        Ok(Response::new(vdsm::GetTaskResponse { task }))
    }

    async fn list_tasks(&self, _: Request<vdsm::ListTasksRequest>) -> Answer<vdsm::ListTasksResponse> {
        Err(unserved())
    }

    async fn abort_task(&self, _: Request<vdsm::AbortTaskRequest>) -> Answer<vdsm::AbortTaskResponse> {
        Err(unserved())
    }

    async fn clear_task(&self, request: Request<vdsm::ClearTaskRequest>) -> Answer<vdsm::ClearTaskResponse> {
        let (task, token) = match self.history.clear(&request.get_ref().task_id) {
            Some((task, token)) => (Some(task), token),
            None => (None, self.history.token()),
        };
        Ok(Response::new(vdsm::ClearTaskResponse { task, token }))
    }

    async fn watch_tasks(&self, request: Request<vdsm::WatchTasksRequest>) -> Answer<Self::WatchTasksStream> {
        let frames = Frames::open(Arc::clone(&self.history), request.into_inner())?;
        Ok(Response::new(frames))
    }
}

#[tonic::async_trait]
impl StorageService for Calls {
    async fn create_storage_domain(
        &self,
        request: Request<vdsm::CreateStorageDomainRequest>,
    ) -> Answer<vdsm::CreateStorageDomainResponse> {
        let vdsm::CreateStorageDomainRequest { domain_id, name } = request.into_inner();
        let domain = vdsm::StorageDomain {
            domain_id: domain_id.clone(),
            name,
            ..vdsm::StorageDomain::default()
        };
        self.known(|known| known.domains.insert(domain_id, domain.clone()));
        let domain = Some(domain);
        Ok(Response::new(vdsm::CreateStorageDomainResponse { domain }))
    }

    async fn list_storage_domains(
        &self,
        _: Request<vdsm::ListStorageDomainsRequest>,
    ) -> Answer<vdsm::ListStorageDomainsResponse> {
        let domains = self.known(|known| known.domains.values().cloned().collect());
        Ok(Response::new(vdsm::ListStorageDomainsResponse {
            next_page_token: String::new(),
            domains,
        }))
    }

    async fn get_storage_domain(
        &self,
        request: Request<vdsm::GetStorageDomainRequest>,
    ) -> Answer<vdsm::GetStorageDomainResponse> {
        let domain = Some(self.domain(&request.get_ref().domain_id)?);
        Ok(Response::new(vdsm::GetStorageDomainResponse { domain }))
    }

    async fn format_storage_domain(
        &self,
        _: Request<vdsm::FormatStorageDomainRequest>,
    ) -> Answer<vdsm::FormatStorageDomainResponse> {
        Err(unserved())
    }

    async fn list_images(
        &self,
        request: Request<vdsm::ListImagesRequest>,
    ) -> Answer<vdsm::ListImagesResponse> {
        self.domain(&request.get_ref().domain_id)?;
        Ok(Response::new(vdsm::ListImagesResponse::default()))
    }

    async fn get_image(&self, _: Request<vdsm::GetImageRequest>) -> Answer<vdsm::GetImageResponse> {
        Err(Status::not_found("no such image"))
    }

    async fn list_volumes(&self, _: Request<vdsm::ListVolumesRequest>) -> Answer<vdsm::ListVolumesResponse> {
        Err(Status::not_found("no such image"))
    }

    async fn get_volume(&self, _: Request<vdsm::GetVolumeRequest>) -> Answer<vdsm::GetVolumeResponse> {
        Err(Status::not_found("no such image"))
    }

    async fn probe_operation(
        &self,
        _: Request<vdsm::ProbeOperationRequest>,
    ) -> Answer<vdsm::ProbeOperationResponse> {
        let info = self.info();
        Ok(Response::new(vdsm::ProbeOperationResponse {
            verdict: vdsm::ProbeVerdict::NotBegun.into(),
            store_id: info.store_id,
            start: info.start,
            ..vdsm::ProbeOperationResponse::default()
        }))
    }
}

fn metadata<T>(request: &Request<T>, key: &str) -> String {
    let value = request.metadata().get(key).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}

fn unserved() -> Status {
    Status::unimplemented("a simulated host serves only what an engine needs")
}
