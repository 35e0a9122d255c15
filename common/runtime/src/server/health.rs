//! `grpc.health.v1`, by service.

use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// Says which services serve. Until told otherwise none does: they still load.
#[derive(Debug, Clone)]
pub struct Health {
    pub(super) reporter: HealthReporter,
    services: Vec<String>,
}

impl Health {
    /// For these services, by their full names, and for the server as a whole (the empty name).
    pub async fn new(services: &[&str]) -> Self {
        let mut names: Vec<String> = services.iter().map(|name| (*name).to_owned()).collect();
        names.push(String::new());
        let health = Self {
            reporter: HealthReporter::new(),
            services: names,
        };
        health.set_serving(false).await;
        health
    }

    /// All of them serve, or none.
    pub async fn set_serving(&self, serving: bool) {
        for service in &self.services {
            self.set_service(service, serving).await;
        }
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
