//! How a service is served: its socket, its health, reflection, keepalive, and an end that comes.

mod address;
mod health;
mod serve;
mod signals;

pub use self::address::{ADDRESS, Listening};
pub use self::health::Health;
pub use self::serve::{Connections, ServeError, serve};
pub use self::signals::termination;
