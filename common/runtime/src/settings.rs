//! The settings of a service: each is declared once, as a flag of a clap struct, and can be given in three more places.
//!
//! In this order, the first one that is given wins: the flag; the variable in the environment (`PREFIX_NAME`, the
//! flag's name in upper case); the file that `--config` names (TOML: the flag's name is the key, `-` and `_` alike,
//! and `[queue] length` is `queue-length`); the default.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, Command, CommandFactory, FromArgMatches};

use crate::causes::causes;
use crate::telemetry::escaped;

/// The flag that names the file.
const CONFIG: &str = "config";

/// The flag that asks a running service for its health. It is not a setting and can be given only on the command line.
const HEALTH: &str = "health";

/// The flag that names the data directory.
const DATA_DIR: &str = "data-dir";

/// Why the settings cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A flag or a value is wrong, or help was asked for; prints itself.
    #[error(transparent)]
    Arguments(#[from] clap::Error),
    /// The file cannot be read.
    #[error("the configuration {} cannot be read", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    /// The file is no TOML.
    #[error("the configuration {} is not valid TOML", .0.display())]
    Syntax(PathBuf, #[source] toml::de::Error),
    /// The file has a key that is no setting.
    #[error("the configuration {} has the unknown key {key:?}; known are {known}", .path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key in the file.
        key: String,
        /// The known keys.
        known: String,
    },
    /// A value is of a kind that no setting takes.
    #[error("the configuration {} has a {found} at {key:?}; expected a string, a number, a boolean or a list of them", .path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key in the file.
        key: String,
        /// The kind of the value.
        found: &'static str,
    },
}

impl SettingsError {
    /// Prints the error and ends the process: with status 0 after help, otherwise 2.
    pub fn exit(&self) -> ! {
        if let Self::Arguments(error) = self
            && !error.use_stderr()
        {
            error.exit();
        }
        // There is no log yet.
        eprintln!("{}", self.told());
        std::process::exit(2)
    }

    /// The message: a file or a variable may contain terminal control characters.
    fn told(&self) -> String {
        escaped(&match self {
            Self::Arguments(error) => error.render().to_string().trim_end().to_owned(),
            error => format!("error: {}", causes(error).to_string().trim_end()),
        })
    }
}

/// Reads the settings `T` of this process; the flag `--config` is added to those that `T` declares.
///
/// # Errors
/// [`SettingsError`]; see [`SettingsError::exit`].
pub fn load<T: CommandFactory + FromArgMatches>(prefix: &str) -> Result<T, SettingsError> {
    read(prefix, std::env::args_os(), |name| std::env::var_os(name))
}

/// As [`load`], from other arguments and another environment.
///
/// # Errors
/// [`SettingsError`].
pub fn read<T: CommandFactory + FromArgMatches>(
    prefix: &str,
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<T, SettingsError> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let command = layered::<T>(prefix, &arguments, environment)?;
    Ok(T::from_arg_matches(&command.try_get_matches_from(arguments)?)?)
}

/// The data directory of the service that is asked how it is (`--health`), if one is: what else the service needs is not
/// asked for.
///
/// # Errors
/// [`SettingsError`].
pub(crate) fn health<T: CommandFactory>(prefix: &str) -> Result<Option<PathBuf>, SettingsError> {
    health_of::<T>(prefix, std::env::args_os(), |name| std::env::var_os(name))
}

fn health_of<T: CommandFactory>(
    prefix: &str,
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<Option<PathBuf>, SettingsError> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let asked = OsString::from(format!("--{HEALTH}"));
    if !arguments.contains(&asked) {
        return Ok(None);
    }
    let mut command = layered::<T>(prefix, &arguments, environment)?;
    let others: Vec<String> = settings(&command)
        .filter(|(_, name)| *name != DATA_DIR)
        .map(|(id, _)| id.to_owned())
        .collect();
    for id in others {
        command = command.mut_arg(id, |arg| arg.required(false));
    }
    let matches = command.try_get_matches_from(arguments)?;
    Ok(matches.get_one::<PathBuf>("data_dir").cloned())
}

/// The command line of `T`, with what is given elsewhere for its defaults.
fn layered<T: CommandFactory>(
    prefix: &str,
    arguments: &[OsString],
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<Command, SettingsError> {
    let mut command = with_config::<T>();
    let file = match config_path(&command, arguments, &environment(&variable(prefix, CONFIG))) {
        Some(path) => from_file(&command, &path)?,
        None => BTreeMap::new(),
    };
    for (id, name) in names(&command) {
        let variable = variable(prefix, &name);
        let given = match environment(&variable) {
            Some(value) => Some(vec![value]),
            None => file
                .get(&name)
                .map(|values| values.iter().map(OsString::from).collect()),
        };
        command = command.mut_arg(id, |arg| with_layers(arg, &variable, given));
    }
    Ok(command)
}

/// The command line of the settings `T`, as `--help` tells it: for manual pages.
pub fn command<T: CommandFactory>(prefix: &str) -> Command {
    let command = with_config::<T>();
    names(&command).into_iter().fold(command, |command, (id, name)| {
        command.mut_arg(id, |arg| with_layers(arg, &variable(prefix, &name), None))
    })
}

fn with_config<T: CommandFactory>() -> Command {
    T::command().arg(
        Arg::new(CONFIG)
            .long(CONFIG)
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help("Settings in TOML; flags and environment variables override it"),
    )
}

/// The ids and the names of a command's flags, to keep.
fn names(command: &Command) -> Vec<(String, String)> {
    let all = settings(command);
    all.map(|(id, name)| (id.to_owned(), name.to_owned())).collect()
}

/// An address to listen on: numeric, or a name, which is resolved.
///
/// # Errors
/// In words, for what is none.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let expected = "expected an address and a port, such as 127.0.0.1:54320, [::1]:54320 or localhost:54320";
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    match text.rsplit_once(':') {
        Some((name, port)) if !name.is_empty() && port.parse::<u16>().is_ok() => {
            let mut found = text.to_socket_addrs().map_err(|error| {
                format!("{name:?} is not an address and cannot be resolved ({error}); {expected}")
            })?;
            found
                .next()
                .ok_or_else(|| format!("{name:?} has no address; {expected}"))
        }
        _ => Err(expected.to_owned()),
    }
}

/// What was given elsewhere takes the place of the default.
fn with_layers(arg: Arg, variable: &str, given: Option<Vec<OsString>>) -> Arg {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let arg = arg.help(format!("{help} [env: {variable}]").trim_start().to_owned());
    match given {
        None => arg,
        Some(values) => arg
            .required(false)
            .default_values(values.into_iter().map(clap::builder::OsStr::from)),
    }
}

/// The settings of a command: the ids and the names of its flags.
fn settings(command: &Command) -> impl Iterator<Item = (&str, &str)> {
    command.get_arguments().filter_map(|arg| {
        let takes_value = !matches!(
            arg.get_action(),
            ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version
        );
        let name = arg.get_long().filter(|name| takes_value && *name != HEALTH)?;
        Some((arg.get_id().as_str(), name))
    })
}

fn variable(prefix: &str, name: &str) -> String {
    format!("{prefix}_{}", name.replace('-', "_").to_uppercase())
}

/// Where the file is: looked for before the rest is checked, as its content decides what may be left out.
fn config_path(command: &Command, arguments: &[OsString], variable: &Option<OsString>) -> Option<PathBuf> {
    let lenient = command
        .clone()
        .ignore_errors(true)
        .disable_help_flag(true)
        .disable_version_flag(true);
    let found = lenient.try_get_matches_from(arguments).ok();
    let flag = found.and_then(|found| found.get_one::<PathBuf>(CONFIG).cloned());
    flag.or_else(|| variable.as_ref().map(PathBuf::from))
}

/// The file's settings, by the names of the flags.
fn from_file(command: &Command, path: &Path) -> Result<BTreeMap<String, Vec<String>>, SettingsError> {
    let text = std::fs::read_to_string(path).map_err(|error| SettingsError::Read(path.to_owned(), error))?;
    let table: toml::Table = text
        .parse()
        .map_err(|error| SettingsError::Syntax(path.to_owned(), error))?;
    let known: Vec<&str> = settings(command)
        .map(|(_, name)| name)
        .filter(|name| *name != CONFIG)
        .collect();
    let mut found = BTreeMap::new();
    flatten(path, "", &table, &mut |key, values| {
        let name = key.replace(['_', '.'], "-");
        if !known.contains(&name.as_str()) {
            return Err(SettingsError::UnknownKey {
                path: path.to_owned(),
                key: key.to_owned(),
                known: known.join(", ").replace('-', "_"),
            });
        }
        found.insert(name, values);
        Ok(())
    })?;
    Ok(found)
}

type Found<'a> = dyn FnMut(&str, Vec<String>) -> Result<(), SettingsError> + 'a;

fn flatten(
    path: &Path,
    above: &str,
    table: &toml::Table,
    found: &mut Found<'_>,
) -> Result<(), SettingsError> {
    for (key, value) in table {
        let key = if above.is_empty() {
            key.clone()
        } else {
            format!("{above}.{key}")
        };
        match value {
            toml::Value::Table(table) => flatten(path, &key, table, found)?,
            toml::Value::Array(values) => {
                let values = values.iter().map(|value| scalar(path, &key, value));
                found(&key, values.collect::<Result<_, _>>()?)?;
            }
            value => found(&key, vec![scalar(path, &key, value)?])?,
        }
    }
    Ok(())
}

fn scalar(path: &Path, key: &str, value: &toml::Value) -> Result<String, SettingsError> {
    match value {
        toml::Value::String(text) => Ok(text.clone()),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Float(number) => Ok(number.to_string()),
        toml::Value::Boolean(flag) => Ok(flag.to_string()),
        toml::Value::Datetime(_) | toml::Value::Array(_) | toml::Value::Table(_) => {
            Err(SettingsError::Value {
                path: path.to_owned(),
                key: key.to_owned(),
                found: value.type_str(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser, PartialEq)]
    struct Sample {
        /// Where to listen.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: String,
        /// Where to keep things.
        #[arg(long)]
        data_dir: PathBuf,
        /// How many may wait.
        #[arg(long, default_value_t = 10)]
        queue_length: u32,
        /// Hosts.
        #[arg(long, value_delimiter = ',')]
        hosts: Vec<String>,
        /// Whether to be loud.
        #[arg(long)]
        verbose: bool,
    }

    fn sample(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Sample, SettingsError> {
        let arguments = std::iter::once("sample")
            .chain(arguments.iter().copied())
            .map(OsString::from);
        read("SAMPLE_SVC", arguments, |name| {
            let found = environment.iter().find(|(known, _)| *known == name)?;
            Some(OsString::from(found.1))
        })
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn what_a_file_or_a_variable_holds_steers_no_terminal() {
        for text in [
            "data_dir = \u{1b}[31m\n",
            "'\u{1b}[2J' = 1\n",
            "\"\u{202e}\" = 1\n",
            "queue_length = \"\u{202e}5\"\n",
        ] {
            let file = file(text);
            let told = sample(&["--config", file.path().to_str().unwrap()], &[])
                .unwrap_err()
                .told();
            assert!(told.starts_with("error: "), "{told}");
            assert!(
                !told.replace('\n', "").chars().any(common::text::steers),
                "{told}"
            );
        }
        let told = sample(&["--data-dir", "/d"], &[("SAMPLE_SVC_QUEUE_LENGTH", "\u{1b}[2J")]);
        let told = told.unwrap_err().told();
        assert!(
            !told.replace('\n', "").chars().any(common::text::steers),
            "{told}"
        );
    }

    #[derive(Debug, Parser)]
    struct Service {
        #[arg(long)]
        data_dir: PathBuf,
        #[arg(long)]
        needed: String,
        #[arg(long)]
        health: bool,
    }

    #[test]
    fn whoever_asks_a_service_how_it_is_need_not_say_all_that_the_service_needs() {
        let health = |arguments: &[&str], directory: Option<&str>| {
            let arguments = ["sample-svc"].iter().chain(arguments).map(OsString::from);
            let variable = |name: &str| {
                directory
                    .filter(|_| name == "SAMPLE_SVC_DATA_DIR")
                    .map(OsString::from)
            };
            health_of::<Service>("SAMPLE_SVC", arguments, variable)
        };
        let dir = |text: &str| Some(PathBuf::from(text));
        assert_eq!(
            health(&["--health", "--data-dir", "/a"], None).unwrap(),
            dir("/a")
        );
        assert_eq!(health(&["--health"], Some("/b")).unwrap(), dir("/b"));
        assert_eq!(
            health(&["--health", "--needed", "x", "--data-dir", "/a"], None).unwrap(),
            dir("/a")
        );
        assert!(health(&["--health"], None).is_err());
        assert_eq!(health(&["--data-dir", "/a"], None).unwrap(), None);
        let service = Service::try_parse_from(["s", "--data-dir", "/a", "--needed", "x"]).unwrap();
        assert!(!service.health && service.needed == "x" && service.data_dir.as_os_str() == "/a");
    }

    #[test]
    fn flag_goes_before_variable_before_file_before_default() {
        let file = file(
            "data_dir = '/file'\nlisten = 'file:1'\nverbose = true\nhosts = ['a', 'b']\n[queue]\nlength = 4\n",
        );
        let config = file.path().to_str().unwrap();
        let all = sample(
            &["--config", config, "--listen", "flag:1"],
            &[("SAMPLE_SVC_LISTEN", "env:1"), ("SAMPLE_SVC_DATA_DIR", "/env")],
        )
        .unwrap();
        assert_eq!(
            all,
            Sample {
                listen: "flag:1".into(),
                data_dir: "/env".into(),
                queue_length: 4,
                hosts: vec!["a".into(), "b".into()],
                verbose: true,
            }
        );
        let from_variable = sample(&[], &[("SAMPLE_SVC_CONFIG", config)]).unwrap();
        assert_eq!(
            (from_variable.listen.as_str(), from_variable.data_dir),
            ("file:1", "/file".into())
        );
        let least = sample(&["--data-dir", "/flag"], &[]).unwrap();
        assert_eq!(
            (least.listen.as_str(), least.queue_length, least.verbose),
            ("127.0.0.1:0", 10, false)
        );
    }

    #[test]
    fn a_service_listens_on_numbers_and_names_and_what_is_none_is_told() {
        assert_eq!(listen_address("127.0.0.1:7").unwrap().to_string(), "127.0.0.1:7");
        assert_eq!(listen_address("[::1]:7").unwrap().to_string(), "[::1]:7");
        let local = listen_address("localhost:7").unwrap();
        assert!(local.ip().is_loopback() && local.port() == 7, "{local}");
        for wrong in [
            "",
            "127.0.0.1",
            ":7",
            "localhost",
            "localhost:x",
            "localhost:70000",
        ] {
            assert!(
                listen_address(wrong).unwrap_err().contains("localhost:54320"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn an_unknown_key_is_named_with_its_file() {
        for (text, named) in [
            ("data_dri = '/x'", "data_dri"),
            ("[queue]\nlenght = 1", "queue.lenght"),
            ("config = 'x'", "config"),
        ] {
            let file = file(text);
            let path = file.path().to_str().unwrap();
            let error = sample(&["--config", path, "--data-dir", "/x"], &[])
                .unwrap_err()
                .to_string();
            assert!(
                error.contains(named) && error.contains(path) && error.contains("data_dir"),
                "{error}"
            );
        }
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        assert!(
            matches!(sample(&[], &[]), Err(SettingsError::Arguments(_))),
            "data-dir is missing"
        );
        let gone = sample(&["--config", "/no/such/file"], &[]);
        assert!(matches!(gone, Err(SettingsError::Read(..))));
        let broken = file("listen = ");
        let broken = sample(&["--config", broken.path().to_str().unwrap()], &[]);
        assert!(matches!(broken, Err(SettingsError::Syntax(..))));
        let dated = file("listen = 2020-01-01");
        let dated = sample(&["--config", dated.path().to_str().unwrap()], &[]);
        assert!(matches!(dated, Err(SettingsError::Value { .. })));
        let wrong = sample(&["--data-dir", "/x"], &[("SAMPLE_SVC_QUEUE_LENGTH", "many")]);
        assert!(wrong.unwrap_err().to_string().contains("--queue-length"));
    }

    #[test]
    fn help_names_the_variables() {
        let help = sample(&["--help"], &[]).unwrap_err().to_string();
        assert!(
            help.contains("SAMPLE_SVC_DATA_DIR") && help.contains("Where to keep things"),
            "{help}"
        );
    }
}
