//! The settings of a service: each is declared once, as a flag of a clap struct, and can be given in three more places.
//!
//! In this order, the first one that is given wins: the flag; the variable in the environment (`PREFIX_NAME`, the
//! flag's name in upper case), or the file that the variable `PREFIX_NAME_FILE` names, for what should not stand in an
//! environment; the file that `--config` names (TOML: the flag's name is the key, `-` and `_` alike,
//! and `[queue] length` is `queue-length`); the default.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, Command, CommandFactory, FromArgMatches};

use crate::causes::causes;
use crate::telemetry::escaped;

/// The flag that names the file.
const CONFIG: &str = "config";

/// The flag that asks a running service for its health. It is not a setting and can be given only on the command line.
const HEALTH: &str = "health";

/// The flag that asks whether the settings are right. It is not a setting either.
const CHECK: &str = "check-config";

/// A value that stands in a file of its own is no longer than this, in bytes.
const MOST_IN_A_FILE: u64 = 64 * 1024;

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
    #[error("the configuration {} has the unknown key {key:?}{nearest}; known are {known}", .path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key in the file.
        key: String,
        /// In words, the known key that is most like it, if one is.
        nearest: String,
        /// The known keys.
        known: String,
    },
    /// A value is given twice.
    #[error("both {0} and {0}_FILE are set; unset one of them")]
    Twice(String),
    /// The file of a value cannot be read.
    #[error("{variable} names {}, which cannot be read", .path.display())]
    ValueFile {
        /// The variable that names the file.
        variable: String,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
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

/// Settings, and where they come from.
#[derive(Debug)]
pub struct Loaded<T> {
    /// The settings.
    pub settings: T,
    /// Those that somebody gave.
    pub given: Given,
    /// Whether they are only to be checked (`--check-config`).
    pub only_check: bool,
}

/// The settings that somebody gave; all others have their defaults.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// Name, value and where the value comes from.
    settings: Vec<(String, String, &'static str)>,
    /// Variables that look like settings and are none.
    unknown: Vec<String>,
}

impl Given {
    /// Says in the log what the service runs with. No setting is a secret: certificates and keys are named by their files.
    pub fn log(&self) {
        tracing::info!("settings: {self}");
        for variable in &self.unknown {
            tracing::warn!("the environment has {variable}, which is no setting and is ignored");
        }
    }

    /// Prints what [`Given::log`] logs, for who asked (`--check-config`).
    ///
    /// # Errors
    /// [`std::io::Error`].
    pub fn print(&self) -> std::io::Result<()> {
        use std::io::Write as _;
        let mut out = std::io::stdout();
        writeln!(out, "the configuration is valid: {}", escaped(&self.to_string()))?;
        for variable in &self.unknown {
            let variable = escaped(variable);
            writeln!(
                out,
                "warning: the environment has {variable}, which is no setting and is ignored"
            )?;
        }
        Ok(())
    }
}

impl std::fmt::Display for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (name, value, source) in &self.settings {
            write!(f, "{name}={value} ({source}), ")?;
        }
        f.write_str(match self.settings.is_empty() {
            true => "all are at their defaults",
            false => "all others are at their defaults",
        })
    }
}

/// Reads the settings `T` of this process; the flags `--config` and `--check-config` are added to those that `T` declares.
///
/// # Errors
/// [`SettingsError`]; see [`SettingsError::exit`].
pub fn load<T: CommandFactory + FromArgMatches>(prefix: &str) -> Result<Loaded<T>, SettingsError> {
    let variables = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut loaded = load_from::<T>(prefix, std::env::args_os(), |name| std::env::var_os(name))?;
    loaded.given.unknown = unknown_variables::<T>(prefix, variables);
    Ok(loaded)
}

/// The settings `T` of other arguments and another environment, as [`load`] reads them.
///
/// # Errors
/// [`SettingsError`].
pub fn read<T: CommandFactory + FromArgMatches>(
    prefix: &str,
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<T, SettingsError> {
    load_from(prefix, arguments, environment).map(|loaded| loaded.settings)
}

fn load_from<T: CommandFactory + FromArgMatches>(
    prefix: &str,
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<Loaded<T>, SettingsError> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let (command, sources) = layered::<T>(prefix, &arguments, environment)?;
    let named = names(&command);
    let matches = command.try_get_matches_from(arguments)?;
    let given = Given {
        settings: named
            .into_iter()
            .filter_map(|(id, name)| {
                let source = match matches.value_source(&id)? {
                    ValueSource::CommandLine => "flag",
                    _ => *sources.get(&name)?,
                };
                let raw = matches.get_raw(&id)?.map(|value| value.to_string_lossy());
                let value = raw.collect::<Vec<_>>().join(",");
                Some((name, value, source))
            })
            .collect(),
        unknown: Vec::new(),
    };
    Ok(Loaded {
        settings: T::from_arg_matches(&matches)?,
        given,
        only_check: matches.get_flag(CHECK),
    })
}

/// The variables among these that begin as settings do and are none, each with the nearest setting. They are not refused:
/// orchestrators set some of a service's name.
fn unknown_variables<T: CommandFactory>(
    prefix: &str,
    variables: impl IntoIterator<Item = String>,
) -> Vec<String> {
    let known: Vec<String> = names(&with_config::<T>())
        .into_iter()
        .map(|(_, name)| variable(prefix, &name))
        .collect();
    let is_known = |name: &str| {
        known
            .iter()
            .any(|known| known == name.trim_end_matches("_FILE") || known == name)
    };
    let ours = format!("{prefix}_");
    let mut unknown: Vec<String> = variables
        .into_iter()
        .filter(|name| name.starts_with(&ours) && !is_known(name))
        .map(|name| {
            let known = known.iter().filter_map(|known| known.strip_prefix(&ours));
            let nearest = nearest(name.strip_prefix(&ours).unwrap_or_default(), known);
            name + &nearest.replace("mean ", &format!("mean {ours}"))
        })
        .collect();
    unknown.sort();
    unknown
}

/// In words, the known word that is most like this one; empty if none is.
fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    let distances = known.map(|known| (strsim::osa_distance(word, known), known));
    match distances.min() {
        // One letter in three may be wrong.
        Some((distance, known)) if distance * 3 <= known.len() => format!(" (did you mean {known}?)"),
        Some(_) | None => String::new(),
    }
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
    let (mut command, _) = layered::<T>(prefix, &arguments, environment)?;
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

/// Where values that are no flags come from, by the names of the settings.
type Sources = BTreeMap<String, &'static str>;

/// The command line of `T`, with what is given elsewhere for its defaults.
fn layered<T: CommandFactory>(
    prefix: &str,
    arguments: &[OsString],
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<(Command, Sources), SettingsError> {
    let mut command = with_config::<T>();
    let mut file = match config_path(&command, arguments, &environment(&variable(prefix, CONFIG))) {
        Some(path) => from_file(&command, &path)?,
        None => BTreeMap::new(),
    };
    let mut sources = Sources::new();
    for (id, name) in names(&command) {
        let variable = variable(prefix, &name);
        let given = match (environment(&variable), environment(&format!("{variable}_FILE"))) {
            (Some(_), Some(_)) => return Err(SettingsError::Twice(variable)),
            (Some(value), None) => Some((vec![value], "environment")),
            (None, Some(path)) => Some((vec![value_in(&variable, path.into())?], "file of its own")),
            (None, None) => file.remove(&name).map(|values| {
                let values = values.into_iter().map(OsString::from);
                (values.collect(), "configuration")
            }),
        };
        let values = given.map(|(values, source)| {
            sources.insert(name, source);
            values
        });
        command = command.mut_arg(id, |arg| with_layers(arg, &variable, values));
    }
    Ok((command, sources))
}

/// The value of a setting that stands in a file of its own, without the line's end.
fn value_in(variable: &str, path: PathBuf) -> Result<OsString, SettingsError> {
    use std::io::Read as _;
    let read = || {
        let mut text = String::new();
        let file = std::fs::File::open(&path)?;
        let length = file.take(MOST_IN_A_FILE + 1).read_to_string(&mut text)?;
        match length as u64 > MOST_IN_A_FILE {
            true => Err(std::io::Error::other(format!(
                "longer than {MOST_IN_A_FILE} bytes"
            ))),
            false => Ok(text),
        }
    };
    match read() {
        Ok(text) => Ok(text.trim_end_matches(['\n', '\r']).into()),
        Err(source) => Err(SettingsError::ValueFile {
            variable: format!("{variable}_FILE"),
            path,
            source,
        }),
    }
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
    .arg(
        Arg::new(CHECK)
            .long(CHECK)
            .action(ArgAction::SetTrue)
            .help("Only say whether the settings are right, and which are not at their defaults; nothing is opened or changed"),
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
        let name = arg
            .get_long()
            .filter(|name| takes_value && ![HEALTH, CHECK].contains(name))?;
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
                nearest: nearest(&name, known.iter().copied()).replace('-', "_"),
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
            let nearest = match named {
                "data_dri" => "(did you mean data_dir?)",
                "queue.lenght" => "(did you mean queue_length?)",
                _ => continue,
            };
            assert!(error.contains(nearest), "{error}");
        }
    }

    #[test]
    fn variables_that_look_like_settings_and_are_none_are_told() {
        let named = [
            "SAMPLE_SVC_LISEN",
            "SAMPLE_SVC_LISTEN",
            "SAMPLE_SVC_LISTEN_FILE",
            "SAMPLE_SVC_PORT_1_TCP",
            "HOME",
        ];
        let told = unknown_variables::<Sample>("SAMPLE_SVC", named.map(str::to_owned));
        assert_eq!(
            told,
            [
                "SAMPLE_SVC_LISEN (did you mean SAMPLE_SVC_LISTEN?)",
                "SAMPLE_SVC_PORT_1_TCP"
            ]
        );
    }

    #[test]
    fn a_value_may_stand_in_a_file_of_its_own() {
        let value = file("file:7\n");
        let path = value.path().to_str().unwrap();
        let given = [("SAMPLE_SVC_LISTEN_FILE", path)];
        let from_file = sample(&["--data-dir", "/x"], &given).unwrap();
        assert_eq!(from_file.listen, "file:7");
        let flag = sample(&["--data-dir", "/x", "--listen", "flag:1"], &given).unwrap();
        assert_eq!(flag.listen, "flag:1");
        let twice = sample(&["--data-dir", "/x"], &[given[0], ("SAMPLE_SVC_LISTEN", "a:1")]);
        assert!(twice.unwrap_err().to_string().contains("SAMPLE_SVC_LISTEN_FILE"));
        let gone = sample(&["--data-dir", "/x"], &[("SAMPLE_SVC_LISTEN_FILE", "/no/such")]);
        assert!(matches!(gone, Err(SettingsError::ValueFile { .. })));
    }

    #[test]
    fn what_was_given_is_told_with_where_it_comes_from() {
        let config = file("queue_length = 4\n");
        let path = config.path().to_str().unwrap().to_owned();
        let arguments = ["sample", "--config", &path, "--verbose", "--check-config"].map(OsString::from);
        let loaded = load_from::<Sample>("SAMPLE_SVC", arguments, |name| {
            (name == "SAMPLE_SVC_DATA_DIR").then(|| "/d".into())
        })
        .unwrap();
        assert!(loaded.only_check);
        let told = loaded.given.to_string();
        assert_eq!(
            told,
            format!(
                "data-dir=/d (environment), queue-length=4 (configuration), verbose=true (flag), config={path} (flag), \
                 all others are at their defaults"
            )
        );
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
