//! A world that can be reset to the beginning of a scenario for each boundary.

use std::path::Path;

use tempfile::TempDir;
use tests::failure::TestResult;
use tests::gate::Gate;
use tests::{World, storage};

use super::scenario::{Prepared, Scenario};

/// The parts of a world on disk, and how each is copied.
const PARTS: [(&str, storage::Copy); 3] = [
    ("host", storage::copy_data_dir),
    ("engine", storage::copy_data_dir),
    ("storage", storage::copy),
];

/// A world at rest, with its services stopped, and a copy of it.
#[derive(Debug)]
pub(super) struct Slot {
    /// The services keep their addresses, because the engine has recorded its host's.
    pub(super) world: World,
    /// The scenario in it.
    pub(super) prepared: Prepared,
    saved: TempDir,
    /// The gate whose program the host runs instead of the system's; kept alive with the world.
    _gate: Gate,
}

impl Slot {
    /// Makes a world and prepares the scenario in it.
    pub(super) async fn make(scenario: Scenario) -> TestResult<Self> {
        let gate = Gate::open().await?;
        let (mut world, domain_id) = scenario.world(&gate).await?;
        let prepared = scenario.prepare(&world, &domain_id, &gate).await?;
        world.stop().await?;
        let saved = tempfile::Builder::new().prefix("saved-").tempdir()?;
        for (part, copy) in PARTS {
            copy(&world.folder().join(part), &saved.path().join(part))?;
        }
        Ok(Self {
            world,
            prepared,
            saved,
            _gate: gate,
        })
    }

    /// Restores everything. The services must not run.
    pub(super) fn reset(&self) -> TestResult<()> {
        for (part, copy) in PARTS {
            let place = self.world.folder().join(part);
            std::fs::remove_dir_all(&place)?;
            copy(&self.saved.path().join(part), &place)?;
        }
        for log in ["host.log", "engine.log"] {
            remove(&self.world.folder().join(log))?;
        }
        Ok(())
    }
}

/// Removes a file if it is there.
pub(super) fn remove(file: &Path) -> TestResult<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
