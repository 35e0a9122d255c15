//! Who owns the files on storage.

use std::fmt;
use std::str::FromStr;

/// The user and group that storage belongs to. Never root: a child that runs as root could access all files of the
/// machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StorageUser {
    uid: u32,
    gid: u32,
}

/// oVirt's: vdsm and kvm.
const OVIRT: u32 = 36;

impl Default for StorageUser {
    fn default() -> Self {
        Self {
            uid: OVIRT,
            gid: OVIRT,
        }
    }
}

impl StorageUser {
    /// The user id.
    pub const fn uid(self) -> u32 {
        self.uid
    }

    /// The group id.
    pub const fn gid(self) -> u32 {
        self.gid
    }
}

/// A text that is not a valid storage user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a user id and a group id from 1 to 4294967294, such as 36:36; neither may be 0 (root)")]
pub struct StorageUserError;

impl FromStr for StorageUser {
    type Err = StorageUserError;

    fn from_str(text: &str) -> Result<Self, StorageUserError> {
        let (uid, gid) = text.split_once(':').ok_or(StorageUserError)?;
        Ok(Self {
            uid: number(uid)?,
            gid: number(gid)?,
        })
    }
}

/// The largest number means "unchanged" to the kernel.
fn number(text: &str) -> Result<u32, StorageUserError> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let number = text.parse().ok().filter(|n| digits && (1..u32::MAX).contains(n));
    number.ok_or(StorageUserError)
}

impl fmt::Display for StorageUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_numbers_are_a_user_and_root_is_none() {
        assert_eq!("36:36".parse(), Ok(StorageUser::default()));
        assert_eq!("107:36".parse::<StorageUser>().unwrap().to_string(), "107:36");
        for text in [
            "",
            "36",
            "0:36",
            "36:0",
            "-1:36",
            "+1:36",
            "vdsm:kvm",
            "4294967295:36",
            "36:36:36",
        ] {
            assert_eq!(text.parse::<StorageUser>(), Err(StorageUserError), "{text:?}");
        }
    }
}
