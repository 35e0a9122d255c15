//! `engine-svc pki`: makes a CA, and the certificates of a small installation (docs/adr/0021).
//!
//! Everything is a file: a directory holds the CA, and below it each certificate has a directory that is copied to
//! where the certificate is used. No code here talks to a service.

mod authority;
mod files;
mod show;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use common::id::{EngineId, HostId, IdError, in_any_case};
use proto::access::Role;
use runtime::causes::causes;
use runtime::chance;
use uuid::Uuid;

use self::authority::{Authority, Bearer};

/// The first argument of the program.
const NAME: &str = "pki";

/// The lines in `--help` of the service.
pub const HELP: &str = "Certificates for TLS, in files; each has --help:
  pki init          make a CA
  pki issue-engine  make the certificate of the engine
  pki issue-host    make the certificate of a host
  pki issue-client  make the certificate of a user
  pki show          print what certificates say, and how long they are valid";

/// Days for which a certificate is valid by default: long enough to be renewed once a year.
const DAYS: u32 = 397;

/// Days for which a CA is valid by default.
const CA_DAYS: u32 = 3_650;

/// Why a certificate is not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PkiError {
    /// A file cannot be read or written.
    #[error("{}", .0.display())]
    File(PathBuf, #[source] io::Error),
    /// The file exists, and is not to be replaced.
    #[error("{} is there already: nothing was changed; give --replace to replace it, or another --out", .0.display())]
    Exists(PathBuf),
    /// There is a CA already, which is never replaced.
    #[error(
        "{} is there already: nothing was changed. A CA is never replaced, because everything that it has signed \
         would become void; make another CA in another --dir, and trust both for a while (docs/operations.md)",
        .0.display()
    )]
    CaExists(PathBuf),
    /// The contents of a file cannot be used.
    #[error("{} {what}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The library refuses to make the certificate.
    #[error("the certificate cannot be made")]
    Make(#[from] rcgen::Error),
}

/// Makes a CA and the certificates of a small installation: for the engine, its hosts and its users.
#[derive(Debug, Parser)]
#[command(name = "engine-svc pki", bin_name = "engine-svc pki")]
struct Pki {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make a CA: DIR/ca.crt, which everybody may have, and DIR/ca.key, which only those may have who issue
    /// certificates.
    Init(Init),
    /// Make the certificate that the engine shows to clients and hosts: for --tls-cert and --host-tls-cert.
    IssueEngine(IssueEngine),
    /// Make the certificate that a host shows to the engine and to clients: for --tls-cert of vdsm-svc.
    IssueHost(IssueHost),
    /// Make a user's certificate.
    IssueClient(IssueClient),
    /// Print what certificates say, and how long they are valid.
    Show(Show),
}

#[derive(Debug, Args)]
struct Init {
    /// Directory of the CA; created if it does not exist.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,

    /// Owner of the files, as numbers; only root can give them away.
    #[arg(long, value_name = "UID:GID", value_parser = owner)]
    owner: Option<Owner>,

    /// Days for which the CA is valid.
    #[arg(long, value_name = "DAYS", default_value_t = CA_DAYS, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
}

/// The options of all certificates.
#[derive(Debug, Args)]
struct Issue {
    /// Directory of the CA.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,

    /// Directory for the certificate, its key and a copy of ca.crt: `tls.crt`, `tls.key`, `ca.crt`. By default, a
    /// directory in --dir with the name of the certificate.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Days for which the certificate is valid; never longer than the CA is valid.
    #[arg(long, value_name = "DAYS", default_value_t = DAYS, value_parser = clap::value_parser!(u32).range(1..=3_650))]
    days: u32,

    /// Owner of the files, as numbers; only root can give them away.
    #[arg(long, value_name = "UID:GID", value_parser = owner)]
    owner: Option<Owner>,

    /// Replace existing files, to renew a certificate. Services load the new files by themselves.
    #[arg(long)]
    replace: bool,
}

impl Issue {
    /// The directory for the files of a certificate.
    fn out(&self, name: &str) -> PathBuf {
        self.out.clone().unwrap_or_else(|| self.dir.join(name))
    }
}

/// The name of the engine's certificate.
const ENGINE: &str = "engine";

#[derive(Debug, Args)]
struct IssueEngine {
    #[command(flatten)]
    issue: Issue,

    /// Id of the engine: that of its data directory, if there is one (the engine logs its id at each start). A new
    /// engine takes its id from the certificate. With --replace the id of the replaced certificate is the default.
    #[arg(long, value_name = "UUID", value_parser = engine_id)]
    engine_id: Option<EngineId>,

    /// DNS name or address at which clients reach the engine; may be given several times.
    #[arg(long = "name", value_name = "NAME", required = true)]
    names: Vec<String>,
}

#[derive(Debug, Args)]
struct IssueHost {
    #[command(flatten)]
    issue: Issue,

    /// Id of the host, as in its --host-id.
    #[arg(long, value_name = "UUID", value_parser = host_id)]
    host_id: HostId,

    /// DNS name or address at which clients reach the host; may be given several times. The engine checks the id;
    /// other clients check the name.
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,
}

#[derive(Debug, Args)]
struct IssueClient {
    #[command(flatten)]
    issue: Issue,

    /// Name of the user.
    #[arg(long, value_name = "NAME", value_parser = user)]
    user: String,

    /// What the user may do.
    #[arg(long, value_name = "ROLE", default_value = "viewer", value_parser = role)]
    role: Role,
}

#[derive(Debug, Args)]
struct Show {
    /// Files of certificates, or directories that contain them.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

/// Runs the `pki` command, if the first argument is `pki`; otherwise the service is to run.
pub fn command() -> Option<ExitCode> {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    if arguments.get(1)?.to_str()? != NAME {
        return None;
    }
    let asked = Pki::parse_from(arguments.split_off(1));
    Some(match run(&asked.what) {
        Ok(lines) => {
            let mut out = io::stdout().lock();
            let said = lines.iter().try_for_each(|line| writeln!(out, "{line}"));
            said.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
        }
        Err(error) => {
            eprintln!("engine-svc pki: {}", causes(&error));
            ExitCode::FAILURE
        }
    })
}

fn run(what: &What) -> Result<Vec<String>, PkiError> {
    match what {
        What::Init(init) => {
            Authority::make(&init.dir, init.days, init.owner)?;
            Ok(vec![format!(
                "made a CA in {}: keep ca.key secret; everybody may have ca.crt",
                init.dir.display()
            )])
        }
        What::IssueEngine(asked) => {
            let renewed = asked.issue.replace.then(|| asked.issue.out(ENGINE));
            let engine_id = match (asked.engine_id, renewed) {
                (Some(id), _) => Some(id),
                // An engine does not start with the certificate of another one.
                (None, Some(out)) => show::engine_of(&out.join(files::CERT))?,
                (None, None) => None,
            };
            let engine_id = engine_id.unwrap_or_else(|| EngineId::from_uuid(random()));
            let bearer = Bearer::engine(engine_id, &asked.names);
            issue(&asked.issue, ENGINE, &bearer)
        }
        What::IssueHost(asked) => {
            let bearer = Bearer::host(asked.host_id, &asked.names);
            issue(&asked.issue, &format!("host-{}", asked.host_id), &bearer)
        }
        What::IssueClient(asked) => {
            let bearer = Bearer::user(&asked.user, asked.role);
            issue(&asked.issue, &format!("client-{}", asked.user), &bearer)
        }
        What::Show(show) => show::all(&show.files),
    }
}

fn issue(asked: &Issue, name: &str, bearer: &Bearer) -> Result<Vec<String>, PkiError> {
    let out = asked.out(name);
    let authority = Authority::open(&asked.dir)?;
    let issued = authority.issue(bearer, asked.days)?;
    files::put(&out, &issued, asked.replace, asked.owner)?;
    let mut lines = show::file(&out.join(files::CERT))?;
    lines.push(format!(
        "{}, {} (keep it secret) and {} are in {}",
        files::CERT,
        files::KEY,
        files::CA,
        out.display()
    ));
    Ok(lines)
}

/// A random UUID, of version 4.
fn random() -> Uuid {
    let bytes = [chance::number().to_be_bytes(), chance::number().to_be_bytes()].concat();
    let bytes = bytes.try_into().unwrap_or_default();
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

fn engine_id(text: &str) -> Result<EngineId, String> {
    in_any_case(text).map_err(|error: IdError| error.to_string())
}

fn host_id(text: &str) -> Result<HostId, String> {
    in_any_case(text).map_err(|error: IdError| error.to_string())
}

fn role(text: &str) -> Result<Role, String> {
    text.parse()
        .map_err(|()| "expected viewer, operator or admin".to_owned())
}

/// The owner of a file.
#[derive(Debug, Clone, Copy)]
struct Owner {
    user: u32,
    group: u32,
}

fn owner(text: &str) -> Result<Owner, String> {
    let numbers = text
        .split_once(':')
        .and_then(|(user, group)| Some((user.parse().ok()?, group.parse().ok()?)));
    let (user, group) = numbers.ok_or("expected UID:GID, such as 36:36")?;
    Ok(Owner { user, group })
}

/// Checks a user's name, which is a part of a file's name and of log lines.
fn user(text: &str) -> Result<String, String> {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "._-@+".contains(letter);
    match (1..=64).contains(&text.len()) && text.chars().all(is_plain) && !text.starts_with('.') {
        true => Ok(text.to_owned()),
        false => Err("expected 1 to 64 letters, digits and . _ - @ +, not beginning with a dot".to_owned()),
    }
}

fn file(path: &Path) -> impl FnOnce(io::Error) -> PkiError {
    let path = path.to_owned();
    |error| PkiError::File(path, error)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn asked(line: &str) -> Result<Vec<String>, PkiError> {
        let words = std::iter::once("pki").chain(line.split(' '));
        run(&Pki::try_parse_from(words)
            .unwrap_or_else(|error| panic!("{error}"))
            .what)
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn each_certificate_names_its_bearer_for_its_use_and_its_key_is_for_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("pki");
        let at = dir.display();
        asked(&format!("init --dir {at}")).unwrap();
        let id = "2f1c8a34-7c5e-4d3a-9b16-0f5f0a6d9c01";
        for (line, name, shown, usage) in [
            (
                format!("issue-engine --dir {at} --engine-id {id} --name engine --name 192.0.2.1"),
                "engine".to_owned(),
                vec![format!("engine:{id}"), "engine".into(), "192.0.2.1".into()],
                "server and client",
            ),
            (
                format!("issue-host --dir {at} --host-id {id} --name host-1"),
                format!("host-{id}"),
                vec![format!("host:{id}"), "host-1".into()],
                "server",
            ),
            (
                format!("issue-client --dir {at} --user ann --role operator"),
                "client-ann".to_owned(),
                vec!["user:ann".into(), "role:operator".into()],
                "client",
            ),
        ] {
            let said = asked(&line).unwrap().join("\n");
            for part in shown {
                assert!(said.contains(&part), "{part}: {said}");
            }
            assert!(said.contains(&format!("for a {usage}")), "{said}");
            let out = dir.join(name);
            assert_eq!(mode(&out), 0o700);
            assert_eq!(mode(&out.join(files::KEY)), 0o600);
            assert_eq!(mode(&out.join(files::CERT)), 0o644);
            // A second run changes nothing, unless --replace is given.
            let before = std::fs::read(out.join(files::CERT)).unwrap();
            assert!(matches!(asked(&line), Err(PkiError::Exists(_))));
            assert_eq!(std::fs::read(out.join(files::CERT)).unwrap(), before);
            asked(&format!("{line} --replace")).unwrap();
            assert_ne!(std::fs::read(out.join(files::CERT)).unwrap(), before);
            assert_eq!(mode(&out.join(files::KEY)), 0o600);
        }
        assert_eq!(mode(&dir), 0o700);
        assert_eq!(mode(&dir.join(authority::KEY)), 0o600);
        assert!(matches!(
            asked(&format!("init --dir {at}")),
            Err(PkiError::CaExists(_))
        ));
        let all = asked(&format!("show {at}")).unwrap();
        assert!(all.join("\n").contains("a CA"), "{all:?}");
    }

    #[test]
    fn a_renewed_certificate_of_an_engine_is_of_the_same_engine() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("pki");
        let line = format!("issue-engine --dir {} --name engine.example", at.display());
        asked(&format!("init --dir {}", at.display())).unwrap();
        // There is nothing to be renewed yet.
        asked(&format!("{line} --replace")).unwrap();
        let cert = at.join(ENGINE).join(files::CERT);
        let first = show::engine_of(&cert).unwrap().unwrap();
        asked(&format!("{line} --replace")).unwrap();
        assert_eq!(show::engine_of(&cert).unwrap(), Some(first));
        // What cannot be read names no engine, and is not replaced by the certificate of another one.
        std::fs::write(&cert, "no certificate").unwrap();
        assert!(asked(&format!("{line} --replace")).is_err());
        asked(&format!("{line} --replace --engine-id {first}")).unwrap();
        assert_eq!(show::engine_of(&cert).unwrap(), Some(first));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display();
        let none = asked(&format!("issue-client --dir {at} --user ann"))
            .unwrap_err()
            .to_string();
        assert!(none.contains("ca.crt"), "{none}");
        asked(&format!("init --dir {at}/a")).unwrap();
        asked(&format!("init --dir {at}/b")).unwrap();
        std::fs::copy(folder.path().join("a/ca.key"), folder.path().join("b/ca.key")).unwrap();
        let other = asked(&format!("issue-client --dir {at}/b --user ann"));
        let other = other.unwrap_err().to_string();
        assert!(other.contains("ca.key") && other.contains("another"), "{other}");
        for user in ["", ".x", "a/b", "a b"] {
            assert!(super::user(user).is_err(), "{user}");
        }
        let name = asked(&format!(
            "issue-host --dir {at}/a --host-id 2f1c8a34-7c5e-4d3a-9b16-0f5f0a6d9c01 --name ä"
        ));
        assert!(name.is_err());
        assert!(asked(&format!("show {at}/a/ca.key")).is_err());
    }

    #[test]
    fn none_outlives_its_ca() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display();
        asked(&format!("init --dir {at}/ca --days 10")).unwrap();
        let said = asked(&format!("issue-client --dir {at}/ca --user ann")).unwrap();
        assert!(said.join("\n").contains("9 days left"), "{said:?}");
    }
}
