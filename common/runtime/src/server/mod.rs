//! How a service is served: its socket, what clients may use of it, its health, reflection, keepalive, and an end that
//! comes.

mod address;
mod call;
mod connection;
mod head;
mod health;
mod health_socket;
mod limits;
mod methods;
mod reflection;
mod refusal;
mod serve;
mod signals;
mod traffic;
mod turns;

pub use self::address::Listening;
pub(crate) use self::call::{Present, present};
pub use self::health::Health;
pub(crate) use self::health_socket::ask;
pub use self::limits::Limits;
pub use self::serve::{Connections, ServeError, serve};
pub use self::signals::termination;
pub(crate) use self::traffic::{Held, Kept, Traffic};
pub(crate) use self::turns::Turn;

/// A service that reads and sends gzip where its client asks for it. Every one that is served is one.
#[macro_export]
macro_rules! compressed {
    ($server:expr) => {
        $server
            .accept_compressed($crate::server::GZIP)
            .send_compressed($crate::server::GZIP)
    };
}

/// The one way of compressing messages that is served.
pub const GZIP: tonic::codec::CompressionEncoding = tonic::codec::CompressionEncoding::Gzip;
