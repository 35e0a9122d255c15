//! `grpc.health.v1`, by service.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use common::fault::{Fault, FaultCode};
use common::words::Label;
use store::Store;
use tonic::{Code, Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::Health as HealthRpcs;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_health::server::{HealthReporter, HealthService};

use crate::{status, supervisor, threads};

/// How often the store is looked after: a loss is told within this.
const LOOK: Duration = Duration::from_secs(1);

/// Says which services serve. Until told otherwise none does: they still load.
#[derive(Debug, Clone)]
pub struct Health {
    pub(super) reporter: HealthReporter,
    pub(super) services: Vec<String>,
    serving: Arc<AtomicBool>,
}

impl Health {
    /// For these services, by their full names, and for the server as a whole (the empty name).
    pub async fn new(services: &[&str]) -> Self {
        let mut names: Vec<String> = services.iter().map(|name| (*name).to_owned()).collect();
        names.push(String::new());
        let health = Self {
            reporter: HealthReporter::new(),
            services: names,
            serving: Arc::default(),
        };
        health.set_serving(false).await;
        health
    }

    /// All of them serve, or none.
    pub async fn set_serving(&self, serving: bool) {
        self.serving.store(serving, Ordering::Relaxed);
        supervisor::serves(serving);
        for service in &self.services {
            self.set_service(service, serving).await;
        }
    }

    /// Looks after the store for as long as there is one, from a time at which all of them serve: none does while what is
    /// acknowledged would be lost.
    pub async fn follow(self, store: Weak<dyn Store>) {
        let mut serving = true;
        loop {
            tokio::time::sleep(LOOK).await;
            let Some(looked) = store.upgrade() else { return };
            // A defect there is told by whoever commits.
            let well = threads::blocking(move || looked.look_after().is_ok())
                .await
                .unwrap_or(serving);
            if well != serving {
                serving = well;
                self.set_serving(serving).await;
            }
        }
    }

    /// What answers who asks.
    pub(super) fn service(&self) -> Named {
        Named(HealthService::from_health_reporter(self.reporter.clone()))
    }

    /// Where it stands whether they serve.
    pub(crate) fn serving(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.serving)
    }

    /// One of them serves, or not.
    pub async fn set_service(&self, service: &str, serving: bool) {
        let status = if serving {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        self.reporter.set_service_status(service, status).await;
    }
}

/// Answers as tonic's service does, and names what it does not know.
pub(super) struct Named(HealthService);

fn named(refused: Status, name: &Label) -> Status {
    match refused.code() {
        Code::NotFound => {
            let words = format!("this port serves no service {name}; use reflection to list the services");
            status::from_fault(&Fault::new(FaultCode::EntityNotFound, words))
        }
        _ => refused,
    }
}

#[tonic::async_trait]
impl HealthRpcs for Named {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let name = Label::from(request.get_ref().service.as_str());
        let answer = self.0.check(request).await;
        answer.map_err(|refused| named(refused, &name))
    }

    type WatchStream = <HealthService as HealthRpcs>::WatchStream;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let name = Label::from(request.get_ref().service.as_str());
        let answer = self.0.watch(request).await;
        answer.map_err(|refused| named(refused, &name))
    }
}
