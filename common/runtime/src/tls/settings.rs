//! The settings of doors.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::Args;

use super::files::Files;
use super::{ServerTls, TlsError};

// Their text is the settings' help.
#[allow(missing_docs)]
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Who may come in")]
pub struct Door {
    /// The service's certificate, in PEM, with those between it and its CA. With it TLS 1.3 is all that is served, and
    /// every client must show a certificate of --tls-client-ca. This file and the next two are read again when they
    /// change, and at SIGHUP. `engine-svc pki` makes all of them.
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// The key of --tls-cert, in PEM, for nobody else to read.
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// The CAs, in PEM, whose certificates clients may show: one, or several while one replaces another.
    #[arg(long, value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,

    /// Speak plain text on addresses that are not loopback as well, where no TLS is set up. Whoever is between, or reaches
    /// the port, may read and do everything.
    #[arg(long)]
    pub insecure: bool,
}

// Their text is the settings' help.
#[allow(missing_docs)]
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "How hosts are met")]
pub struct HostDoor {
    /// The certificate that the engine shows to its hosts, in PEM; it names the engine (`engine:UUID`). With it every host must
    /// speak TLS, and show a certificate of --host-tls-ca that names the host. A new data directory takes its engine's id from
    /// it. This file and the next two are read again when they change, and at SIGHUP.
    #[arg(long, value_name = "FILE")]
    pub host_tls_cert: Option<PathBuf>,

    /// The key of --host-tls-cert, in PEM, for nobody else to read.
    #[arg(long, value_name = "FILE")]
    pub host_tls_key: Option<PathBuf>,

    /// The CAs, in PEM, of the hosts' certificates: one, or several while one replaces another.
    #[arg(long, value_name = "FILE")]
    pub host_tls_ca: Option<PathBuf>,
}

impl Door {
    /// The lock on what listens at this address; none where plain text may be spoken there. Says so in the log where that is
    /// against the rule. Blocks.
    ///
    /// # Errors
    /// [`TlsError`] in words, for files that cannot be used, and for plain text where it may not be spoken.
    pub fn lock(&self, address: SocketAddr) -> Result<Option<ServerTls>, TlsError> {
        if self.insecure {
            tracing::warn!(
                "--insecure: plain text is spoken on addresses that are not loopback where no TLS is set up; whoever is between, or \
                 reaches the port, may read and do everything"
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

    /// The files; none where no TLS is set up.
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

/// Whether what is sent to an address, or comes in at it, stays on this machine: plain text may.
pub(super) fn is_this_machine(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

impl HostDoor {
    /// The files; none where plain text is spoken to hosts.
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
            words.starts_with("--tls-key is given, and --tls-cert and --tls-client-ca is not"),
            "{words}"
        );
    }
}
