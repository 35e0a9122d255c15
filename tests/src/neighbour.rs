//! One more host of an engine, with everything of its own, behind a proxy.

use std::path::{Path, PathBuf};

use crate::audit::Place;
use crate::client::Engine;
use crate::fail_point::FailPoints;
use crate::failure::TestResult;
use crate::lone_host::LoneHost;
use crate::proxy::Proxy;
use crate::requests;

/// A host that an engine knows by the address of a proxy. Both end when this is dropped.
#[derive(Debug)]
pub struct Neighbour {
    /// The host.
    pub host: LoneHost,
    /// What stands between the engine and it. Its clients here go past it.
    pub proxy: Proxy,
}

impl Neighbour {
    /// Starts a host below a folder, with more arguments. No engine knows it yet.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_below(folder: &Path, arguments: &[&str]) -> TestResult<Self> {
        let host = LoneHost::start_with(folder, arguments).await?;
        let proxy = Proxy::before(host.service.address()).await?;
        Ok(Self { host, proxy })
    }

    /// Has the engine take it, under this name.
    ///
    /// # Errors
    /// When that does not succeed.
    pub async fn join(&self, engine: &Engine, name: &str) -> TestResult<()> {
        let request = requests::add_host(self.id(), name, self.proxy.address());
        let added = engine.ask_add_host(&request).await?;
        engine.succeeds(&added).await
    }

    /// Has the engine take it, under this name, and creates a storage domain on it: returns the domain's id.
    ///
    /// # Errors
    /// When one of these steps fails.
    pub async fn furnish(&self, engine: &Engine, name: &str) -> TestResult<String> {
        self.join(engine, name).await?;
        let request = requests::create_domain(self.id(), name);
        let created = engine.ask_create_domain(&request).await?;
        engine.succeeds(&created).await?;
        Ok(request.domain_id)
    }

    /// Starts it again where it was, and waits until it serves.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn restart(&mut self) -> TestResult<()> {
        self.host.service.start(&FailPoints::default()).await?;
        self.host.serves().await
    }

    /// The id that it is configured with.
    pub fn id(&self) -> &str {
        &self.host.host_id
    }

    /// Where it keeps its storage domains.
    pub fn storage_root(&self) -> PathBuf {
        self.host.storage_root()
    }

    /// What an auditor looks at.
    pub fn place(&self) -> Place {
        Place {
            host_id: self.id().to_owned(),
            host: self.host.client.clone(),
            storage_root: self.storage_root(),
        }
    }
}
