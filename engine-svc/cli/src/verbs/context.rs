//! Contexts of the profile. No engine is asked.

use crate::args::{Context, Contexts};
use crate::failure::Failure;
use crate::output::Output;
use crate::profile::Profile;

/// Does what was typed.
///
/// # Errors
/// If it was not done.
pub(crate) fn run(verb: Contexts, given: Context) -> Result<(), Failure> {
    let profile = Profile::read()?;
    let output = Output::new(given.output.unwrap_or_default());
    match verb {
        Contexts::List => list(&profile, &output),
        Contexts::Show { name } => {
            let name = name.as_deref().or(profile.current());
            let name = name.ok_or_else(|| Failure::Usage("no context is in use; name one".to_owned()))?;
            let context = profile.context(name)?;
            output.record(name, context)
        }
        Contexts::Use { name } => profile.choose(&name),
        Contexts::Set { name } => profile.set(&name, given),
        Contexts::Remove { name } => profile.remove(&name),
    }
}

fn list(profile: &Profile, output: &Output) -> Result<(), Failure> {
    if !output.is_for_people() {
        return profile
            .contexts()
            .try_for_each(|(name, context)| output.record(name, context));
    }
    let rows = profile.contexts().map(|(name, context)| {
        let mark = if profile.current() == Some(name) { "*" } else { "" };
        let user = match (&context.tls_cert, &context.user) {
            (Some(cert), _) => format!("by {}", cert.display()),
            (None, user) => user.clone().unwrap_or_default(),
        };
        let server = context.server.clone().unwrap_or_default();
        vec![name.to_owned(), mark.to_owned(), server, user]
    });
    output.table(&["NAME", "IN USE", "SERVER", "USER"], rows.collect())
}
