//! What `qemu-img info` says, as far as it is the same in versions 7.2 to 10.

use std::fs::File;

use common::{Fault, FaultCode, VolumeFormat};
use serde::Deserialize;

use super::{Given, Limits, QemuImg, argv};

/// An image, described by qemu.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ImageInfo {
    /// `raw`, `qcow2` …
    pub format: String,
    /// What a guest sees, in bytes.
    pub virtual_size: u64,
    /// What it takes on the file system, in bytes.
    #[serde(default)]
    pub actual_size: Option<u64>,
    /// What it stands on, as recorded.
    #[serde(default)]
    pub backing_filename: Option<String>,
    /// Whether it was not closed properly.
    #[serde(default)]
    pub dirty_flag: bool,
}

impl QemuImg {
    /// Describes an open file. Only for files that we made or whose header was checked.
    ///
    /// # Errors
    /// `QEMU_IMG_FAILED`, `QEMU_IMG_MISSING`.
    pub fn info(&self, file: &File, format: VolumeFormat) -> Result<ImageInfo, Fault> {
        let file = Given::to_read(file)?;
        let argv = argv::info(format, file.path());
        let output = self.ask(&argv, vec![file], Limits::QUERY)?;
        serde_json::from_str(&output.stdout.text()).map_err(|e| {
            Fault::new(
                FaultCode::QemuImgFailed,
                format!("qemu-img info answered what cannot be read: {e}"),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_of_7_2_and_10_are_read() {
        let old = r#"{"virtual-size": 4096, "filename": "./v", "format": "raw", "actual-size": 0, "dirty-flag": false}"#;
        let new = r#"{"children":[{"name":"file","info":{"children":[],"virtual-size":1,"filename":"./v",
            "format":"file","actual-size":0,"dirty-flag":false}}],"virtual-size":4096,"filename":"./v",
            "cluster-size":65536,"format":"qcow2","actual-size":8,"backing-filename":"b","dirty-flag":false}"#;
        let old: ImageInfo = serde_json::from_str(old).unwrap();
        let new: ImageInfo = serde_json::from_str(new).unwrap();
        assert_eq!((old.format.as_str(), old.virtual_size), ("raw", 4096));
        assert_eq!(new.backing_filename.as_deref(), Some("b"));
    }
}
