//! Which files a child may open: those that it was given, itself, and its libraries.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use super::order::{Access, Order};

/// What is handled, as far as the kernel knows it.
const VERSION: ABI = ABI::V6;

/// Where libraries lie. What a program brings along lies beside it.
const LIBRARIES: [&str; 6] = [
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/local/lib64",
];

/// What the loader reads, and what cannot be turned against anybody.
const READ: [&str; 5] = [
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/dev/null",
    "/dev/zero",
    "/dev/urandom",
];

/// What a wrapper may call, and the shell that it is written for.
const OF_SCRIPTS: [&str; 3] = ["/usr", "/bin", "/sbin"];

/// What was asked for, and is not yet in force.
pub(super) struct Fence(RulesetCreated);

/// How far it is in force.
pub(super) enum Enforcement {
    /// The kernel has none of it.
    Missing(&'static str),
    /// It has, but for this.
    Weaker(String),
    Whole,
}

impl Fence {
    /// Gathers what may be opened, while all of it still can be.
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

    /// What is not there need not be allowed.
    fn allow(self, path: &Path, access: BitFlags<AccessFs>) -> Result<Self, RulesetError> {
        match PathFd::new(path) {
            Ok(found) => Ok(Self(self.0.add_rule(PathBeneath::new(found, access))?)),
            Err(_) => Ok(self),
        }
    }

    /// From here on the process opens nothing else.
    pub(super) fn close(self) -> Result<Enforcement, RulesetError> {
        let status = self.0.restrict_self()?;
        Ok(match (status.ruleset, status.landlock) {
            (RulesetStatus::NotEnforced, LandlockStatus::NotEnabled) => {
                Enforcement::Missing("Landlock is in this kernel and not turned on (lsm=landlock,… at boot)")
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

/// What an older Landlock does not keep a child from.
fn lacks(version: ABI) -> String {
    let lacks = match version {
        ABI::V1 | ABI::V2 => {
            "to truncate other files of the storage's user, TCP, and to signal other processes"
        }
        ABI::V3 => "TCP, and to signal other processes",
        _ => "to signal other processes",
    };
    format!(
        "Landlock of this kernel is version {}, and does not keep qemu-img from everything ({lacks}); from 6.12 on it does",
        version as i32
    )
}

/// A file that the process has open, under a name that leads to that very file.
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
    // Of `/bin` and `/usr/bin` they are above.
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
