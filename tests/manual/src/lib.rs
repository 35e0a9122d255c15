//! Manual pages, and what shells complete: made of the settings themselves, so that they say what `--help` says.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{fs, io};

use clap::CommandFactory;
use clap_complete::{Shell, generate_to};
use clap_mangen::Man;

/// Programs of a system's administrator.
const SECTION: &str = "8";

/// Shells, and where each looks below `/usr/share`.
const SHELLS: [(Shell, &str); 3] = [
    (Shell::Bash, "bash-completion/completions"),
    (Shell::Zsh, "zsh/site-functions"),
    (Shell::Fish, "fish/vendor_completions.d"),
];

/// Writes those of a program, whose settings are `T`, below the directory that is the first argument of this process, laid out as
/// `/usr/share` is.
///
/// # Errors
/// [`io::Error`], among others without an argument.
pub fn write<T: CommandFactory>(prefix: &str, name: &str) -> io::Result<()> {
    let into = std::env::args_os().nth(1).map(PathBuf::from);
    let into = into.ok_or_else(|| io::Error::other("expected the directory to write to"))?;
    write_to::<T>(prefix, name, &into)
}

/// As [`write()`], below this directory.
///
/// # Errors
/// [`io::Error`].
pub fn write_to<T: CommandFactory>(prefix: &str, name: &str, into: &Path) -> io::Result<()> {
    let command = || runtime::settings::command::<T>(prefix);
    let pages = into.join("man/man8");
    fs::create_dir_all(&pages)?;
    let mut page = Vec::new();
    Man::new(command()).section(SECTION).render(&mut page)?;
    fs::write(pages.join(format!("{name}.{SECTION}")), page)?;
    for (shell, place) in SHELLS {
        let place = into.join(place);
        fs::create_dir_all(&place)?;
        let written = generate_to(shell, &mut command(), name, &place)?;
        // Debian's bash-completion looks for the program's own name.
        if shell == Shell::Bash {
            fs::rename(written, place.join(OsString::from(name)))?;
        }
    }
    Ok(())
}
