//! The instructions for a confined child, and its answer when it is asked what the machine supports.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A part of the confinement that a machine may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// It runs as the storage user.
    User,
    /// It has no capabilities, and gains none.
    Capabilities,
    /// It can open only the files that it was given, and its libraries.
    Landlock,
    /// It has threads and no other processes, no sockets, no memory that outlives it, and no calls that act on the
    /// machine, on other processes, or on names and attributes of files.
    Seccomp,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::User, Self::Capabilities, Self::Landlock, Self::Seccomp];

    /// The consequence if it is missing, for people.
    const fn cost(self) -> &'static str {
        match self {
            Self::User => {
                "qemu-img runs as the service's own user, and can access every file that the service can unless something else prevents it"
            }
            Self::Capabilities => "qemu-img keeps capabilities of the service",
            Self::Landlock => {
                "an image whose header is changed at the wrong moment can make qemu-img read other files that the storage's user may read"
            }
            Self::Seccomp => {
                "qemu-img may open sockets, start processes that outlive it, act on other processes and on attributes of files of its user, and use memory that no limit covers"
            }
        }
    }
}

/// A part of the confinement that a machine does not support.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// The part.
    pub part: Part,
    /// The reason, for people.
    pub why: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.why, self.part.cost())
    }
}

/// What a machine supports.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The parts that it does not support. All others are required for every child.
    pub missing: Vec<Missing>,
    /// What an older kernel does not support of a part, for people.
    pub weaker: Vec<String>,
}

impl Report {
    pub(crate) fn demands(&self) -> BTreeSet<Part> {
        let has = |part: &Part| !self.missing.iter().any(|missing| missing.part == *part);
        Part::ALL.into_iter().filter(has).collect()
    }
}

/// What a child may do with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Access {
    /// Read only.
    Read,
    /// Read, write and resize it.
    Write,
}

/// An open file that is passed to the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Permit {
    /// Its descriptor in the child.
    pub(crate) fd: i32,
    pub(crate) access: Access,
}

/// Limits that the kernel enforces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bounds {
    /// Its address space.
    pub(crate) memory_bytes: u64,
    /// Its CPU time.
    pub(crate) cpu_s: Option<u64>,
    /// The largest file that it may write.
    pub(crate) file_bytes: Option<u64>,
}

/// The program that a child executes, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Its absolute path.
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    /// The user that it runs as; none if the service is not root.
    pub(crate) user: Option<(u32, u32)>,
    pub(crate) files: Vec<Permit>,
    pub(crate) bounds: Bounds,
    /// The parts that are required; none to try all of them, print a [`Report`], and execute nothing.
    pub(crate) demands: Option<BTreeSet<Part>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_missing_is_demanded() {
        let report = Report {
            missing: vec![Missing {
                part: Part::User,
                why: "the service is not root".to_owned(),
            }],
            weaker: Vec::new(),
        };
        let demanded: Vec<_> = report.demands().into_iter().collect();
        assert_eq!(demanded, [Part::Capabilities, Part::Landlock, Part::Seccomp]);
        assert!(
            report.missing[0]
                .to_string()
                .contains("not root: qemu-img runs as")
        );
    }
}
