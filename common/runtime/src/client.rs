//! Connections to another service.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use common::fault::Fault;
use tonic::transport::{Channel, Endpoint, Error};

/// How often the peer is pinged, even without streams: a peer that disappears silently is noticed within this plus
/// [`PING_TIMEOUT`].
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// How long a ping may stay unanswered.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// How long connecting may take, including name resolution.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

use crate::tls::{ClientTls, HostName, LastWords, Way};

type Connecting = Pin<Box<dyn Future<Output = Result<Channel, Error>> + Send>>;

type Connect = dyn Fn(Endpoint, HostName, LastWords) -> Connecting + Send + Sync;

/// Creates connections: over TCP, or over another network, as in a simulation.
#[derive(Clone)]
pub struct Connector(Arc<Connect>);

impl Connector {
    /// Connects as `connect` does, whoever is there.
    pub fn new<F>(connect: impl Fn(Endpoint) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Channel, Error>> + Send + 'static,
    {
        Self(Arc::new(move |endpoint, _, _| Box::pin(connect(endpoint))))
    }

    /// Over TCP: with TLS, or else in plain text, which leaves this machine only where that is said to be `insecure`.
    pub fn tcp(tls: Option<ClientTls>, insecure: bool) -> Self {
        Self(Arc::new(move |endpoint, name, last_words| {
            let way = Way::to(tls.clone().map(|tls| (tls, name)), insecure, last_words);
            Box::pin(async move { endpoint.connect_with_connector(way).await })
        }))
    }

    /// A connection to a host, which is who it is called, and what it says when it ends it.
    ///
    /// # Errors
    /// [`Error`] if it does not answer in time, or shows a certificate of another one.
    pub async fn connect(&self, endpoint: Endpoint, name: HostName) -> Result<(Channel, LastWords), Error> {
        let last_words = LastWords::default();
        let channel = (self.0)(endpoint, name, last_words.clone()).await?;
        Ok((channel, last_words))
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

/// A peer at `host:port`.
///
/// # Errors
/// `INVALID_ARGUMENT`, naming `address`.
pub fn endpoint(address: &str) -> Result<Endpoint, Fault> {
    let wrong = |what: &str| {
        let what = format!("{what}; expected host:port, such as 192.0.2.7:54322 or [2001:db8::7]:54322");
        Fault::invalid("address", what)
    };
    let (host, port) = address.rsplit_once(':').ok_or_else(|| wrong("has no port"))?;
    if host.is_empty()
        || port.parse::<u16>().is_err()
        || port == "0"
        || !port.bytes().all(|b| b.is_ascii_digit())
    {
        return Err(wrong("has no host or no valid port"));
    }
    let bracketed = host.starts_with('[') && host.ends_with(']');
    if (host.contains(':') && !bracketed) || host.contains(['/', '@', '?', '#']) || host.len() > 255 {
        return Err(wrong("has no valid host"));
    }
    let endpoint =
        Endpoint::from_shared(format!("http://{address}")).map_err(|_| wrong("has no valid host"))?;
    Ok(endpoint
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        // Without this, a peer that disappears is never noticed, even with an open stream.
        .keep_alive_while_idle(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for right in ["127.0.0.1:1", "[::1]:54322", "host-1.example:65535"] {
            assert!(endpoint(right).is_ok(), "{right}");
        }
        for wrong in [
            "",
            "host",
            "host:",
            ":1",
            "host:0",
            "host:65536",
            "::1:5",
            "http://host:1",
            "a b:1",
            "h:+1",
        ] {
            assert_eq!(endpoint(wrong).unwrap_err().subject, "address", "{wrong}");
        }
    }
}
