//! The host's service: accepts storage operations as tasks, runs them, and streams each of their changes.
//!
//! - [`Settings`] is all that can be set; [`serve`] is the service.
//! - `store/`: what is kept, and the host's mind (`vdsm-core`) as the coordinator drives it
//! - `runner/`: the threads that work for tasks · `alive.rs`: what goes on in this process
//! - `grpc/`: the RPCs · `expiry/`: what time does by itself
//! - `places.rs`: the data directory and the storage root, apart from each other
//! - `presence.rs`: which engines are connected · `meeting.rs`: what they say to each other · `release.rs`: the repair of a host whose engine is gone
//!
//! What is absent: decisions about tasks (they are in `vdsm-core`) and storage formats (`vdsm-storage`).

mod alive;
mod expiry;
mod grpc;
mod meeting;
mod metrics;
mod places;
mod presence;
mod release;
mod runner;
mod service;
mod settings;
mod store;

pub use release::release_host;
pub use service::{OWNER, Parts, ServiceError, check_config, fail_points, serve, serve_over};
pub use settings::{PREFIX, Settings};
