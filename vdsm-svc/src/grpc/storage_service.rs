//! `vdsm_engine.host.v1.StorageService`. Calls that change storage lock their entities in the same table as tasks.

use std::sync::Arc;

use common::fault::Fault;
use common::id::{DomainId, ImageId};
use proto::host::v1 as wire;
use proto::host::v1::storage_service_server::StorageService;
use runtime::audit;
use runtime::coordinator::{Handle, Refusal as NoAnswer};
use runtime::metadata::Caller;
use runtime::page;
use tonic::{Request, Response, Status};
use tracing::Instrument as _;
use vdsm_core::{CallId, Input, Key};
use vdsm_storage::StorageRoot;

use super::probe::Probe;
use super::request::{OrRefuse as _, id, who};
use super::storage::{self, Lanes};
use super::{Gate, Host, caller, refused, storage_wire as to_wire};
use crate::alive::Alive;
use crate::store::HostMachine;

/// The wait between attempts to release a lock while the store cannot be written.
const STORE_PAUSE: std::time::Duration = std::time::Duration::from_millis(200);

/// The service.
pub(super) struct Storage {
    gate: Gate,
    lanes: Arc<Lanes>,
}

impl Storage {
    pub(super) fn new(gate: Gate, lanes: Arc<Lanes>) -> Self {
        Self { gate, lanes }
    }

    /// Reads from one domain.
    async fn read<T: Send + 'static>(
        &self,
        domain: DomainId,
        work: impl FnOnce(&StorageRoot) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Status> {
        let host = self.gate.host()?;
        let root = Arc::clone(&host.root);
        let outcome = storage::read(&self.lanes.of(domain), move || work(&*root.now()?)).await;
        if outcome.is_ok() {
            self.lanes.found(domain);
        }
        outcome.or_refuse()
    }

    /// Lists all domains.
    async fn domains(&self, paging: to_wire::Paging) -> Result<wire::ListStorageDomainsResponse, Status> {
        let root = Arc::clone(&self.gate.host()?.root);
        let read = move || to_wire::domains(&*root.now()?, &paging);
        let found = storage::read(&self.lanes.root(), read).await.or_refuse()?;
        let domains = found.domains.iter();
        let ids = domains.filter_map(|domain| domain.domain_id.parse().ok());
        ids.for_each(|id| self.lanes.found(id));
        Ok(found)
    }

    /// Looks at what storage shows of an operation.
    async fn probe(&self, probe: Probe) -> Result<wire::ProbeOperationResponse, Status> {
        let host = self.gate.host()?;
        let lane = match probe.operation().domain_id() {
            Some(domain) => self.lanes.of(domain),
            None => self.lanes.root(),
        };
        let (root, log) = (Arc::clone(&host.root), Arc::clone(&host.log));
        let answer = storage::read(&lane, move || probe.answer(&root, &log));
        answer.await.or_refuse()
    }

    /// Changes one domain, with an exclusive lock. The change runs to its end and then releases the lock, even if the
    /// caller no longer waits.
    async fn change<T: Send + 'static>(
        &self,
        who: &Caller,
        domain: DomainId,
        work: impl FnOnce(&StorageRoot) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Status> {
        audit::note(|noted| noted.entity = format!("storage domain {domain}").into());
        let host = self.gate.host()?;
        let hold = Hold::take(host, who, Key::Domain(domain)).await?;
        let root = Arc::clone(&host.root);
        let lane = self.lanes.of(domain);
        let correlation_id = who.correlation_id.as_deref().unwrap_or_default();
        let span = tracing::info_span!("change", %domain, user = who.user, correlation_id);
        let going_on = async move {
            let outcome = storage::run(lane, move || work(&*root.now()?)).await;
            match &outcome {
                Ok(_) => tracing::info!("done"),
                Err(fault) => tracing::info!(%fault, "refused"),
            }
            hold.let_go().await;
            outcome
        };
        let going_on = tokio::spawn(going_on.instrument(span));
        let outcome = storage::in_time(async {
            let panicked = || {
                Fault::new(
                    common::FaultCode::Internal,
                    "a call ended in a panic; please report it",
                )
            };
            going_on.await.unwrap_or_else(|_| Err(panicked()))
        });
        let outcome = outcome.await;
        if outcome.is_ok() {
            self.lanes.found(domain);
        }
        outcome.or_refuse()
    }
}

#[tonic::async_trait]
impl StorageService for Storage {
    async fn create_storage_domain(
        &self,
        request: Request<wire::CreateStorageDomainRequest>,
    ) -> Result<Response<wire::CreateStorageDomainResponse>, Status> {
        let who = who(&request)?;
        let request = request.into_inner();
        let id = id("domain_id", &request.domain_id)?;
        let made = self.change(&who, id, move |root| root.create_domain(id, &request.name));
        let domain = Some(to_wire::domain(&made.await?));
        Ok(Response::new(wire::CreateStorageDomainResponse { domain }))
    }

    async fn list_storage_domains(
        &self,
        request: Request<wire::ListStorageDomainsRequest>,
    ) -> Result<Response<wire::ListStorageDomainsResponse>, Status> {
        let asked = request.get_ref();
        let paging = paging(page::List::of(asked), asked.page_size, &asked.page_token)?;
        let found = self.domains(paging).await?;
        Ok(Response::new(found))
    }

    async fn get_storage_domain(
        &self,
        request: Request<wire::GetStorageDomainRequest>,
    ) -> Result<Response<wire::GetStorageDomainResponse>, Status> {
        let id = id("domain_id", &request.get_ref().domain_id)?;
        let info = self.read(id, move |root| root.domain(id)?.info()).await?;
        let domain = Some(to_wire::domain(&info));
        Ok(Response::new(wire::GetStorageDomainResponse { domain }))
    }

    async fn format_storage_domain(
        &self,
        request: Request<wire::FormatStorageDomainRequest>,
    ) -> Result<Response<wire::FormatStorageDomainResponse>, Status> {
        let who = who(&request)?;
        let id = id("domain_id", &request.get_ref().domain_id)?;
        let force = request.get_ref().force;
        self.change(&who, id, move |root| root.format_domain(id, force))
            .await?;
        Ok(Response::new(wire::FormatStorageDomainResponse {}))
    }

    async fn list_images(
        &self,
        request: Request<wire::ListImagesRequest>,
    ) -> Result<Response<wire::ListImagesResponse>, Status> {
        let asked = request.get_ref();
        let id = id("domain_id", &asked.domain_id)?;
        let paging = paging(page::List::of(asked), asked.page_size, &asked.page_token)?;
        let images = self
            .read(id, move |root| to_wire::images(root, id, &paging))
            .await?;
        Ok(Response::new(images))
    }

    async fn get_image(
        &self,
        request: Request<wire::GetImageRequest>,
    ) -> Result<Response<wire::GetImageResponse>, Status> {
        let (domain, image) = image_of(&request.get_ref().domain_id, &request.get_ref().image_id)?;
        let found = self.read(domain, move |root| to_wire::image(root, domain, image));
        Ok(Response::new(found.await?))
    }

    async fn list_volumes(
        &self,
        request: Request<wire::ListVolumesRequest>,
    ) -> Result<Response<wire::ListVolumesResponse>, Status> {
        let asked = request.get_ref();
        let (domain, image) = image_of(&asked.domain_id, &asked.image_id)?;
        let paging = paging(
            to_wire::volumes_of(domain, image),
            asked.page_size,
            &asked.page_token,
        )?;
        let volumes = self.read(domain, move |root| to_wire::volumes(root, domain, image, &paging));
        Ok(Response::new(volumes.await?))
    }

    async fn get_volume(
        &self,
        request: Request<wire::GetVolumeRequest>,
    ) -> Result<Response<wire::GetVolumeResponse>, Status> {
        let (domain, image) = image_of(&request.get_ref().domain_id, &request.get_ref().image_id)?;
        let volume = id("volume_id", &request.get_ref().volume_id)?;
        let found = self
            .read(domain, move |root| root.volume(domain, image, volume))
            .await?;
        let volume = Some(to_wire::volume(domain, &found));
        Ok(Response::new(wire::GetVolumeResponse { volume }))
    }

    async fn probe_operation(
        &self,
        request: Request<wire::ProbeOperationRequest>,
    ) -> Result<Response<wire::ProbeOperationResponse>, Status> {
        let probe = Probe::read(request.get_ref()).or_refuse()?;
        let answer = self.probe(probe).await?;
        Ok(Response::new(answer))
    }
}

/// An exclusive lock that a call holds.
struct Hold {
    call: CallId,
    alive: Arc<Alive>,
    coordinator: Handle<HostMachine>,
}

impl Hold {
    /// Takes a lock, if the caller may change this host and no task works on the key.
    async fn take(host: &Host, who: &Caller, key: Key) -> Result<Self, Status> {
        // The call is entered first, so that a machine that is loaded meanwhile knows of it.
        let call = host.alive.begin_call(vec![key]);
        let hold = Self {
            call,
            alive: Arc::clone(&host.alive),
            coordinator: host.coordinator.clone(),
        };
        let caller = caller(who);
        let keys = vec![key];
        let refusal = match host.ask(Input::Hold { caller, call, keys }).await {
            Ok(answer) => match answer.reply {
                Ok(_) => return Ok(hold),
                Err(refusal) => refused(&refusal),
            },
            Err(status) => status,
        };
        hold.let_go().await;
        Err(refusal)
    }

    /// Releases the lock. Harmless if it was never granted.
    async fn let_go(self) {
        self.alive.end_call(self.call);
        while let Err(NoAnswer::StoreUnavailable | NoAnswer::StoreLost(_)) =
            self.coordinator.call(Input::LetGo(self.call)).await
        {
            tokio::time::sleep(STORE_PAUSE).await;
        }
    }
}

fn paging(list: page::List, page_size: i32, page_token: &str) -> Result<to_wire::Paging, Status> {
    to_wire::Paging::read(list, page_size, page_token).or_refuse()
}

fn image_of(domain_id: &str, image_id: &str) -> Result<(DomainId, ImageId), Status> {
    Ok((id("domain_id", domain_id)?, id("image_id", image_id)?))
}
