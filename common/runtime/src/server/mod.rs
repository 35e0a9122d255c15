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
pub(crate) use self::health_socket::{ask, listen, reached};
pub use self::limits::Limits;
pub use self::serve::{Connections, ServeError, serve};
pub use self::signals::termination;
pub(crate) use self::traffic::{Held, Kept, Traffic};
pub(crate) use self::turns::Turn;

/// A service as all of them are served: it reads and sends gzip where its client asks for it, and takes messages of
/// [`LARGEST_MESSAGE`](crate::server::LARGEST_MESSAGE) at most.
#[macro_export]
macro_rules! served {
    ($server:expr) => {
        $server
            .accept_compressed($crate::server::GZIP)
            .send_compressed($crate::server::GZIP)
            .max_decoding_message_size($crate::server::LARGEST_MESSAGE)
    };
}

/// The largest message that a client may send, as it is sent and once it is decompressed. The largest that are needed are a claim
/// that names 4,096 starts (160 KiB), and a command of 128 KiB. What a message becomes in memory is many times its bytes (an empty
/// entry of a list has two, and takes 40 times as much), and it is decoded before anybody has looked at it.
pub const LARGEST_MESSAGE: usize = 256 << 10;

/// The one way of compressing messages that is served.
pub const GZIP: tonic::codec::CompressionEncoding = tonic::codec::CompressionEncoding::Gzip;
