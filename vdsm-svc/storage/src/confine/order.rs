//! What a confined child is told, and what it answers when it is asked what the machine can do.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A part of the confinement that a machine may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// It runs as the storage's user.
    User,
    /// It has no capabilities, and gains none.
    Capabilities,
    /// It opens the files that it was given, and its libraries.
    Landlock,
    /// It has threads and no other processes, no sockets, no memory that outlives it, and no calls that act on the machine
    /// or on other processes.
    Seccomp,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::User, Self::Capabilities, Self::Landlock, Self::Seccomp];

    /// What is lost without it.
    const fn cost(self) -> &'static str {
        match self {
            Self::User => {
                "qemu-img runs as the service's own user, and may do to files what the service may where nothing else keeps it away"
            }
            Self::Capabilities => "qemu-img keeps capabilities of the service",
            Self::Landlock => {
                "an image whose header is changed at the wrong moment can make qemu-img read other files that the storage's user may read"
            }
            Self::Seccomp => {
                "qemu-img may open sockets, start processes that outlive it, and take memory that no limit counts"
            }
        }
    }
}

/// What a machine lacks of the confinement, wholly or in part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Of which part.
    pub part: Part,
    /// The reason, in words.
    pub why: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.why, self.part.cost())
    }
}

/// What a machine can do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The parts that it lacks. All others are demanded of every child.
    pub missing: Vec<Missing>,
    /// What of a part an older kernel lacks, in words.
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
    /// Read it.
    Read,
    /// Read, write and resize it.
    Write,
}

/// A file that is handed over, open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Permit {
    /// Its number in the child.
    pub(crate) fd: i32,
    pub(crate) access: Access,
}

/// Limits that the kernel keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bounds {
    /// Its address space.
    pub(crate) memory_bytes: u64,
    /// Its processor time.
    pub(crate) cpu_s: Option<u64>,
    /// The largest file that it may write.
    pub(crate) file_bytes: Option<u64>,
}

/// What a child is to become, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Its absolute path.
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    /// Whom it runs as; none where the service is not root.
    pub(crate) user: Option<(u32, u32)>,
    pub(crate) files: Vec<Permit>,
    pub(crate) bounds: Bounds,
    /// What it must not run without; none to try all, print a [`Report`], and become nothing.
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
