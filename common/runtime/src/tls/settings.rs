//! The settings of TLS.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::Args;

use super::files::Files;
use super::{ServerTls, TlsError};

// Their text is the settings' help.
#[allow(missing_docs)]
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Access to the service")]
pub struct Door {
    /// Certificate of the service, in PEM, with the certificates between it and its CA. If it is given, the service
    /// speaks only TLS 1.3, and every client must show a certificate of --tls-client-ca. This file and the next two
    /// are read again when they change, and at SIGHUP. `engine-svc pki` makes all of them.
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// Key of --tls-cert, in PEM; nobody else may be able to read it.
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// CAs, in PEM, whose certificates clients may show: one, or several while one replaces another.
    #[arg(long, value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,

    /// Speak plain text also on addresses that are not loopback, if TLS is not set up. Whoever can reach the port, or
    /// the network in between, can then read and do everything.
    #[arg(long)]
    pub insecure: bool,
}

// Their text is the settings' help.
#[allow(missing_docs)]
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Connections to hosts")]
pub struct HostDoor {
    /// Certificate that the engine shows to its hosts, in PEM; it names the engine (`engine:UUID`). If it is given,
    /// every host must speak TLS and show a certificate of --host-tls-ca that names the host. A new data directory
    /// takes its engine's id from this certificate. This file and the next two are read again when they change, and
    /// at SIGHUP.
    #[arg(long, value_name = "FILE")]
    pub host_tls_cert: Option<PathBuf>,

    /// Key of --host-tls-cert, in PEM; nobody else may be able to read it.
    #[arg(long, value_name = "FILE")]
    pub host_tls_key: Option<PathBuf>,

    /// CAs, in PEM, of the hosts' certificates: one, or several while one replaces another.
    #[arg(long, value_name = "FILE")]
    pub host_tls_ca: Option<PathBuf>,
}

impl Door {
    /// The TLS of a server on this address; none if plain text may be spoken there. Logs a warning if that is allowed
    /// only by --insecure. Blocks.
    ///
    /// # Errors
    /// [`TlsError`] if the files cannot be used, or if plain text is not allowed on the address.
    pub fn lock(&self, address: SocketAddr) -> Result<Option<ServerTls>, TlsError> {
        if self.insecure {
            tracing::warn!(
                "--insecure: without TLS, plain text is spoken even on addresses that are not loopback; whoever can \
                 reach the port, or the network in between, can read and do everything"
            );
        }
        match self.files()? {
            Some(files) => ServerTls::open(files).map(Some),
            None => self.may_be_plain(address).map(|()| None),
        }
    }

    /// Whether TLS is set up.
    pub const fn is_locked(&self) -> bool {
        self.tls_cert.is_some()
    }

    /// The files; none if TLS is not set up.
    ///
    /// # Errors
    /// [`TlsError::Incomplete`].
    pub fn files(&self) -> Result<Option<Files>, TlsError> {
        Files::of([
            ("--tls-cert", self.tls_cert.clone()),
            ("--tls-key", self.tls_key.clone()),
            ("--tls-client-ca", self.tls_client_ca.clone()),
        ])
    }

    fn may_be_plain(&self, address: SocketAddr) -> Result<(), TlsError> {
        match is_this_machine(address.ip()) || self.insecure {
            true => Ok(()),
            false => Err(TlsError::Plain(address)),
        }
    }
}

/// Whether traffic with an address stays on this machine, so that plain text is allowed.
pub(super) fn is_this_machine(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

impl HostDoor {
    /// The files; none if plain text is spoken to hosts.
    ///
    /// # Errors
    /// [`TlsError::Incomplete`].
    pub fn files(&self) -> Result<Option<Files>, TlsError> {
        Files::of([
            ("--host-tls-cert", self.host_tls_cert.clone()),
            ("--host-tls-key", self.host_tls_key.clone()),
            ("--host-tls-ca", self.host_tls_ca.clone()),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_for_loopback_unless_it_is_asked_for() {
        let (shut, open) = (
            Door::default(),
            Door {
                insecure: true,
                ..Door::default()
            },
        );
        for (address, is_loopback) in [
            ("127.0.0.1:1", true),
            ("127.8.9.10:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("192.0.2.1:1", false),
            ("[::ffff:192.0.2.1]:1", false),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(shut.may_be_plain(address).is_ok(), is_loopback, "{address}");
            assert!(open.may_be_plain(address).is_ok(), "{address}");
        }
        let words = shut
            .may_be_plain("0.0.0.0:7".parse().unwrap())
            .unwrap_err()
            .to_string();
        for part in ["0.0.0.0:7", "--tls-cert", "--insecure", "127.0.0.1"] {
            assert!(words.contains(part), "{words}");
        }
    }

    #[test]
    fn of_three_files_all_are_given_or_none() {
        assert!(Door::default().files().unwrap().is_none());
        let one = Door {
            tls_key: Some("/k".into()),
            ..Door::default()
        };
        let words = one.files().unwrap_err().to_string();
        assert!(
            words.starts_with("--tls-key without --tls-cert and --tls-client-ca:"),
            "{words}"
        );
    }
}
