//! An engine with two hosts, each with a storage domain of its own.

use std::path::Path;

use tests::World;
use tests::audit::{self, Records, View};
use tests::failure::TestResult;
use tests::neighbour::Neighbour;
use tests::watch::Watchers;

/// A host that is silent is noticed after three heartbeats, and these tests would only wait for that.
const HEARTBEAT_MS: &str = "500";

/// Two hosts of one engine.
#[derive(Debug)]
pub(super) struct Pair {
    /// The host behind a proxy.
    pub(super) second: Neighbour,
    /// The domain on the first host.
    pub(super) domain: String,
    /// The domain on the second host.
    pub(super) second_domain: String,
    /// All watches: the engine's and both hosts'.
    pub(super) watchers: Watchers,
    /// The engine and its first host. Declared last, because the directories of all are below the world's directory.
    pub(super) world: World,
}

impl Pair {
    /// Starts both hosts, with a domain each.
    pub(super) async fn start() -> TestResult<Self> {
        Self::start_with(None, &[]).await
    }

    /// The same; the second host gets further arguments, and other directories if given.
    pub(super) async fn start_with(elsewhere: Option<&Path>, arguments: &[&str]) -> TestResult<Self> {
        Self::start_both(&[], elsewhere, arguments).await
    }

    /// The same, with more arguments for the first host, too.
    pub(super) async fn start_both(
        first: &[&str],
        elsewhere: Option<&Path>,
        arguments: &[&str],
    ) -> TestResult<Self> {
        let world = World::start_as(first, &["--heartbeat-ms", HEARTBEAT_MS]).await?;
        let second = match elsewhere {
            Some(folder) => Neighbour::start_below(folder, arguments).await?,
            None => world.neighbour("second", arguments).await?,
        };
        let domain = world.furnish().await?;
        let second_domain = second.furnish(&world.client, "second").await?;
        let watchers = Watchers::start(&world.client, &world.host_client).and(&second.host.client);
        Ok(Self {
            second,
            domain,
            second_domain,
            watchers,
            world,
        })
    }

    /// The view for an audit.
    pub(super) fn view(&self) -> View {
        self.world.view().and(self.second.place())
    }

    /// Like [`audit::all_is_well`], with both hosts.
    pub(super) async fn all_is_well(&self) -> TestResult<Records> {
        audit::all_is_well(&self.view(), &self.watchers).await
    }
}
