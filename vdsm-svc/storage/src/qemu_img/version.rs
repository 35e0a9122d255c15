//! Which `qemu-img` it is.

use std::fmt;

use common::{Fault, FaultCode};

use super::{Limits, QemuImg, argv};

/// The oldest version that is used: that of Debian 12, on which everything was tried.
pub const MINIMUM: Version = Version { major: 7, minor: 2 };

/// A version of qemu.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Version {
    /// From what `qemu-img --version` prints.
    fn parse(text: &str) -> Option<Self> {
        let number = text.strip_prefix("qemu-img version ")?;
        let mut parts = number.split(|c: char| !c.is_ascii_digit());
        Some(Self {
            major: parts.next()?.parse().ok()?,
            minor: parts.next()?.parse().ok()?,
        })
    }
}

impl QemuImg {
    /// Asks the program for its version.
    ///
    /// # Errors
    /// `QEMU_IMG_MISSING` where there is none, or an older one than [`MINIMUM`]; it says what to install.
    pub fn probe(&self) -> Result<Version, Fault> {
        let output = self.ask(&argv::version(), Vec::new(), Limits::QUERY)?;
        let text = output.stdout.text();
        match Version::parse(&text) {
            Some(version) if version >= MINIMUM => Ok(version),
            Some(version) => Err(missing(&format!(
                "is version {version}, but the oldest supported one is {MINIMUM}"
            ))),
            None => Err(missing(&format!(
                "did not print a version but {:?}",
                text.lines().next()
            ))),
        }
    }
}

/// The fault for a program that cannot be used.
pub(super) fn missing(why: &str) -> Fault {
    Fault::new(
        FaultCode::QemuImgMissing,
        format!("qemu-img {why}; install the package qemu-utils (Debian) or qemu-img (Fedora, CentOS)"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::confine::{Confiner, StorageUser};

    #[test]
    fn versions_are_read_as_distributions_print_them() {
        for (text, version) in [
            (
                "qemu-img version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright",
                Some((7, 2)),
            ),
            ("qemu-img version 10.0.2\n", Some((10, 0))),
            ("bash: qemu-img", None),
        ] {
            let expected = version.map(|(major, minor)| Version { major, minor });
            assert_eq!(Version::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_a_fault_that_says_what_to_install() {
        let program = "/nonexistent/qemu-img".into();
        let qemu_img = QemuImg::new(program, Confiner::this_program(), StorageUser::default());
        let fault = qemu_img.probe().unwrap_err();
        assert_eq!(fault.code, FaultCode::QemuImgMissing);
        assert!(fault.message.contains("qemu-utils"), "{}", fault.message);
    }
}
