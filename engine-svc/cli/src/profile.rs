//! The profile: a file of contexts, each of which says how to reach an engine. A flag goes before the environment, and the
//! environment before the context.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::args::Context;
use crate::failure::Failure;

/// Larger files are no profiles.
const MOST_BYTES: u64 = 256 * 1024;

/// What the file begins with.
const HEAD: &str =
    "# Contexts of taskctl. `taskctl context set` writes this file anew and keeps no comments.\n\n";

/// What is in the file.
#[derive(Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    /// The context in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    #[serde(default)]
    contexts: BTreeMap<String, Context>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Profile {
    /// None if neither the profile nor a home directory is named.
    file: Option<PathBuf>,
    contents: Contents,
}

impl Profile {
    /// # Errors
    /// If there is a file and it cannot be read, or is no profile.
    pub(crate) fn read() -> Result<Self, Failure> {
        let Some(file) = place(|name| std::env::var_os(name).filter(|value| !value.is_empty())) else {
            return Ok(Self {
                file: None,
                contents: Contents::default(),
            });
        };
        Self::of(file)
    }

    fn of(file: PathBuf) -> Result<Self, Failure> {
        let wrong =
            |why: &dyn std::fmt::Display| Failure::Usage(format!("the profile {}: {why}", file.display()));
        let contents = match text(&file) {
            Ok(text) => toml::from_str(&text).map_err(|error| wrong(&error.to_string().trim_end()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Contents::default(),
            Err(error) => return Err(wrong(&error)),
        };
        let file = Some(file);
        Ok(Self { file, contents })
    }

    /// What was given, and for the rest the context of this name, or the one in use. Relative paths of a context are relative to
    /// the profile's directory.
    ///
    /// # Errors
    /// If there is no such context.
    pub(crate) fn complete(&self, name: Option<&str>, given: Context) -> Result<Context, Failure> {
        let Some(name) = name.or(self.contents.current.as_deref()) else {
            return Ok(given);
        };
        let base = self
            .file
            .as_deref()
            .and_then(Path::parent)
            .unwrap_or(Path::new(""));
        let from_base = |path: &PathBuf| base.join(path);
        let Context {
            server,
            tls_ca,
            tls_cert,
            tls_key,
            user,
            output,
            timeout,
        } = self.context(name)?;
        Ok(Context {
            server: given.server.or_else(|| server.clone()),
            tls_ca: given.tls_ca.or_else(|| tls_ca.as_ref().map(from_base)),
            tls_cert: given.tls_cert.or_else(|| tls_cert.as_ref().map(from_base)),
            tls_key: given.tls_key.or_else(|| tls_key.as_ref().map(from_base)),
            user: given.user.or_else(|| user.clone()),
            output: given.output.or(*output),
            timeout: given.timeout.or(*timeout),
        })
    }

    /// A context as it is written.
    ///
    /// # Errors
    /// If there is none of this name.
    pub(crate) fn context(&self, name: &str) -> Result<&Context, Failure> {
        self.contents.contexts.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.contents.contexts.keys().map(String::as_str).collect();
            let known = match known.is_empty() {
                true => "there are none; taskctl context set NAME --server ADDRESS makes one".to_owned(),
                false => format!("there are: {}", known.join(", ")),
            };
            Failure::Usage(format!("there is no context `{name}`; {known}"))
        })
    }

    /// The name of the context in use.
    pub(crate) fn current(&self) -> Option<&str> {
        self.contents.current.as_deref()
    }

    /// All contexts, by name.
    pub(crate) fn contexts(&self) -> impl Iterator<Item = (&str, &Context)> {
        self.contents
            .contexts
            .iter()
            .map(|(name, context)| (name.as_str(), context))
    }

    /// Uses a context from now on.
    ///
    /// # Errors
    /// If there is no such context, or the file cannot be written.
    pub(crate) fn choose(mut self, name: &str) -> Result<(), Failure> {
        self.context(name)?;
        self.contents.current = Some(name.to_owned());
        self.write()
    }

    /// Writes what was given into a context. Paths become absolute, for the profile is used from anywhere.
    ///
    /// # Errors
    /// If nothing was given, or the file cannot be written.
    pub(crate) fn set(mut self, name: &str, given: Context) -> Result<(), Failure> {
        if given == Context::default() {
            return Err(Failure::Usage(
                "nothing was given to write: name --server, for example".to_owned(),
            ));
        }
        let absolute = |path: Option<PathBuf>| path.map(std::path::absolute).transpose();
        let local = |error: io::Error| Failure::Local(error.to_string());
        let context = self.contents.contexts.entry(name.to_owned()).or_default();
        context.server = given.server.or_else(|| context.server.take());
        context.tls_ca = absolute(given.tls_ca)
            .map_err(local)?
            .or_else(|| context.tls_ca.take());
        context.tls_cert = absolute(given.tls_cert)
            .map_err(local)?
            .or_else(|| context.tls_cert.take());
        context.tls_key = absolute(given.tls_key)
            .map_err(local)?
            .or_else(|| context.tls_key.take());
        context.user = given.user.or_else(|| context.user.take());
        context.output = given.output.or(context.output);
        context.timeout = given.timeout.or(context.timeout);
        self.contents.current.get_or_insert_with(|| name.to_owned());
        self.write()
    }

    /// Removes a context. If it was the one in use, none is.
    ///
    /// # Errors
    /// If there is no such context, or the file cannot be written.
    pub(crate) fn remove(mut self, name: &str) -> Result<(), Failure> {
        self.context(name)?;
        self.contents.contexts.remove(name);
        self.contents.current = self.contents.current.take().filter(|current| current != name);
        self.write()
    }

    /// Puts the new file in the place of the old one as a whole; only its owner may read the file.
    fn write(&self) -> Result<(), Failure> {
        let Some(file) = &self.file else {
            return Err(Failure::Usage(
                "there is no place for a profile: set TASKCTL_PROFILE or HOME".to_owned(),
            ));
        };
        let text = toml::to_string(&self.contents).map_err(|error| Failure::Local(error.to_string()))?;
        let write = || {
            let directory = file.parent().unwrap_or(Path::new("."));
            std::fs::create_dir_all(directory)?;
            let mut draft = tempfile::NamedTempFile::new_in(directory)?;
            draft.write_all(HEAD.as_bytes())?;
            draft.write_all(text.as_bytes())?;
            draft.as_file().sync_all()?;
            draft.persist(file).map_err(|error| error.error).map(drop)
        };
        write().map_err(|error: io::Error| {
            Failure::Local(format!(
                "the profile {} cannot be written: {error}",
                file.display()
            ))
        })
    }
}

/// Where the profile is, by the environment.
fn place(variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> Option<PathBuf> {
    let below = |directory: PathBuf| directory.join("taskctl/profile.toml");
    let named = variable("TASKCTL_PROFILE").map(PathBuf::from);
    named
        .or_else(|| variable("XDG_CONFIG_HOME").map(|directory| below(directory.into())))
        .or_else(|| variable("HOME").map(|home| below(PathBuf::from(home).join(".config"))))
}

fn text(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    let read = std::fs::File::open(file)?
        .take(MOST_BYTES + 1)
        .read_to_string(&mut text)?;
    match read as u64 > MOST_BYTES {
        true => Err(io::Error::other(format!("larger than {MOST_BYTES} bytes"))),
        false => Ok(text),
    }
}

/// A time as the command line has it: `30s`.
pub(crate) mod time {
    use std::time::Duration;

    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(time: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => to.serialize_str(&humantime::format_duration(*time).to_string()),
            None => to.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        let text = String::deserialize(from)?;
        humantime::parse_duration(&text)
            .map(Some)
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::args::Format;

    fn profile(directory: &Path) -> Profile {
        Profile::of(directory.join("a/profile.toml")).unwrap()
    }

    fn server(address: &str) -> Context {
        Context {
            server: Some(address.to_owned()),
            ..Context::default()
        }
    }

    #[test]
    fn what_is_given_goes_before_the_context_and_what_is_not_given_comes_from_it() {
        let directory = tempfile::tempdir().unwrap();
        let given = Context {
            tls_key: Some("/keys/key.pem".into()),
            output: Some(Format::Json),
            timeout: Some(Duration::from_secs(90)),
            ..server("one:1")
        };
        profile(directory.path()).set("one", given.clone()).unwrap();
        profile(directory.path()).set("two", server("two:2")).unwrap();
        let now = profile(directory.path());
        assert_eq!(now.current(), Some("one"), "the first one is in use");
        assert_eq!(now.complete(None, Context::default()).unwrap(), given);
        let mixed = now.complete(None, server("flag:3")).unwrap();
        assert_eq!(mixed.server.as_deref(), Some("flag:3"));
        assert_eq!(mixed.output, Some(Format::Json));
        let two = now.complete(Some("two"), Context::default()).unwrap();
        assert_eq!(two, server("two:2"));
        now.choose("two").unwrap();
        profile(directory.path())
            .set(
                "two",
                Context {
                    user: Some("ann".into()),
                    ..Context::default()
                },
            )
            .unwrap();
        let now = profile(directory.path());
        let two = now.complete(None, Context::default()).unwrap();
        assert_eq!(
            (two.server.as_deref(), two.user.as_deref()),
            (Some("two:2"), Some("ann"))
        );
        now.remove("two").unwrap();
        let now = profile(directory.path());
        assert_eq!((now.current(), now.contexts().count()), (None, 1));
        assert_eq!(
            now.complete(None, Context::default()).unwrap(),
            Context::default()
        );
    }

    #[test]
    fn an_unknown_context_or_key_is_refused_and_the_known_ones_are_named() {
        let directory = tempfile::tempdir().unwrap();
        profile(directory.path()).set("one", server("one:1")).unwrap();
        let refused = profile(directory.path()).complete(Some("won"), Context::default());
        let words = refused.unwrap_err().to_string();
        assert!(
            words.contains("`won`") && words.contains("there are: one"),
            "{words}"
        );
        let file = directory.path().join("bad.toml");
        std::fs::write(&file, "[contexts.one]\nsevrer = \"a:1\"\n").unwrap();
        let words = Profile::of(file).unwrap_err().to_string();
        assert!(
            words.contains("sevrer") && words.contains("`server`") && words.contains("bad.toml"),
            "{words}"
        );
    }

    #[test]
    fn a_relative_path_in_a_profile_is_relative_to_the_profile() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("profile.toml");
        std::fs::write(&file, "current = \"a\"\n[contexts.a]\ntls-ca = \"ca.pem\"\n").unwrap();
        let context = Profile::of(file)
            .unwrap()
            .complete(None, Context::default())
            .unwrap();
        assert_eq!(context.tls_ca, Some(directory.path().join("ca.pem")));
    }

    #[test]
    fn only_its_owner_may_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        profile(directory.path()).set("one", server("one:1")).unwrap();
        let mode = std::fs::metadata(directory.path().join("a/profile.toml"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o077, 0);
    }

    #[test]
    fn the_profile_is_where_the_environment_says() {
        let at = |set: &'static [(&'static str, &'static str)]| {
            place(move |name| {
                set.iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| (*value).into())
            })
        };
        assert_eq!(at(&[]), None);
        assert_eq!(
            at(&[("HOME", "/h")]),
            Some("/h/.config/taskctl/profile.toml".into())
        );
        let xdg = at(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/x")]);
        assert_eq!(xdg, Some("/x/taskctl/profile.toml".into()));
        assert_eq!(
            at(&[("HOME", "/h"), ("TASKCTL_PROFILE", "/p")]),
            Some("/p".into())
        );
    }
}
