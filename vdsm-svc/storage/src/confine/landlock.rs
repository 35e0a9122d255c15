//! The files that a child may open: those that it was given, its program, and its libraries.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use super::order::{Access, Order};

/// The newest Landlock version that is used, as far as the kernel supports it.
const VERSION: ABI = ABI::V6;

/// Where libraries are. Those that a program brings along are next to it.
const LIBRARIES: [&str; 6] = [
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/local/lib64",
];

/// Files that the loader reads, and harmless devices.
const READ: [&str; 5] = [
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/dev/null",
    "/dev/zero",
    "/dev/urandom",
];

/// What a wrapper script may execute, including its shell.
const OF_SCRIPTS: [&str; 3] = ["/usr", "/bin", "/sbin"];

/// A ruleset that is being built and not yet enforced.
pub(super) struct Fence(RulesetCreated);

/// How far the ruleset is enforced.
pub(super) enum Enforcement {
    /// The kernel does not support Landlock.
    Missing(&'static str),
    /// Enforced, except for this.
    Weaker(String),
    Whole,
}

impl Fence {
    /// Collects the files that may be opened, while all of them still can be.
    pub(super) fn around(order: &Order) -> Result<Self, RulesetError> {
        let mut fence = Self(
            Ruleset::default()
                .handle_access(AccessFs::from_all(VERSION))?
                .handle_access(AccessNet::from_all(VERSION))?
                .scope(Scope::from_all(VERSION))?
                .create()?,
        );
        let run = AccessFs::ReadFile | AccessFs::Execute;
        for given in &order.files {
            let path = given_path(given.fd);
            let access = match given.access {
                Access::Read => AccessFs::ReadFile.into(),
                Access::Write => AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate,
            };
            fence = fence.allow(&path, access)?;
        }
        fence = fence.allow(&order.program, run)?;
        for path in READ {
            fence = fence.allow(Path::new(path), AccessFs::ReadFile.into())?;
        }
        fence = fence.allow(Path::new("/dev/null"), AccessFs::ReadFile | AccessFs::WriteFile)?;
        for path in LIBRARIES
            .map(PathBuf::from)
            .into_iter()
            .chain(beside(&order.program))
        {
            fence = fence.allow(&path, run)?;
        }
        if is_script(&order.program) {
            for path in OF_SCRIPTS {
                fence = fence.allow(Path::new(path), run | AccessFs::ReadDir)?;
            }
        }
        Ok(fence)
    }

    /// A file that does not exist need not be allowed.
    fn allow(self, path: &Path, access: BitFlags<AccessFs>) -> Result<Self, RulesetError> {
        match PathFd::new(path) {
            Ok(found) => Ok(Self(self.0.add_rule(PathBeneath::new(found, access))?)),
            Err(_) => Ok(self),
        }
    }

    /// Enforces the ruleset: from here on the process can open nothing else.
    pub(super) fn close(self) -> Result<Enforcement, RulesetError> {
        let status = self.0.restrict_self()?;
        Ok(match (status.ruleset, status.landlock) {
            (RulesetStatus::NotEnforced, LandlockStatus::NotEnabled) => {
                Enforcement::Missing("Landlock is in this kernel but not enabled (lsm=landlock,… at boot)")
            }
            (RulesetStatus::NotEnforced, _) => {
                Enforcement::Missing("the kernel has no Landlock (it came with 5.13)")
            }
            (_, LandlockStatus::Available { effective_abi, .. }) if effective_abi < VERSION => {
                Enforcement::Weaker(lacks(effective_abi))
            }
            _ => Enforcement::Whole,
        })
    }
}

/// What an older Landlock does not prevent.
fn lacks(version: ABI) -> String {
    let lacks = match version {
        ABI::V1 | ABI::V2 => {
            "truncation of other files of the storage user, TCP, and signals to other processes"
        }
        ABI::V3 => "TCP, and signals to other processes",
        _ => "signals to other processes",
    };
    format!(
        "Landlock of this kernel is version {}, and does not restrict everything that it should ({lacks}); kernels from 6.12 on do",
        version as i32
    )
}

/// A name that leads to an open file of the process.
pub(super) fn given_path(fd: i32) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{fd}"))
}

/// The libraries of a program in `…/bin`.
fn beside(program: &Path) -> Vec<PathBuf> {
    let home = program
        .parent()
        .filter(|bin| bin.ends_with("bin"))
        .and_then(Path::parent);
    let of = |home: &Path| ["lib", "lib64"].map(|lib| home.join(lib)).to_vec();
    // For `/bin` and `/usr/bin` they are in the parent directory.
    home.map(of).unwrap_or_default()
}

fn is_script(program: &Path) -> bool {
    let mut begin = [0; 2];
    let read = File::open(program).and_then(|mut file| file.read_exact(&mut begin));
    read.is_ok() && begin == *b"#!"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_brings_its_libraries_along() {
        assert_eq!(
            beside(Path::new("/opt/qemu/bin/qemu-img")),
            ["/opt/qemu/lib", "/opt/qemu/lib64"].map(PathBuf::from)
        );
        assert!(beside(Path::new("/srv/qemu-img")).is_empty());
    }
}
