//! Domains that oVirt's VDSM made, with what it says of them.

use std::fs;
use std::path::Path;
use std::process::Command;

use common::id::DomainId;
use serde_json::{Value, json};
use tempfile::TempDir;
use vdsm_storage::StorageRoot;
use vdsm_storage::volume::{VolumeInfo, allocation_text, format_text, parent_text};

use crate::support::{host, options};

/// One such domain, unpacked.
pub(crate) struct Sample {
    pub(crate) temp: TempDir,
    pub(crate) root: StorageRoot,
    /// What VDSM says.
    pub(crate) says: Value,
    pub(crate) domain: DomainId,
}

/// Unpacks an archive of `tests/data`.
pub(crate) fn unpacked(archive: &str) -> Sample {
    let temp = TempDir::new().unwrap();
    let archive = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(archive);
    let unpacked = Command::new("tar")
        .arg("-xJf")
        .arg(archive)
        .arg("-C")
        .arg(temp.path())
        .status()
        .unwrap();
    assert!(unpacked.success());
    let says: Value =
        serde_json::from_slice(&fs::read(temp.path().join("as-vdsm-says.json")).unwrap()).unwrap();
    let domain: DomainId = text(&says["domain"]["uuid"]).parse().unwrap();
    let root = StorageRoot::open(temp.path(), options(host(), temp.path())).unwrap();
    Sample {
        temp,
        root,
        says,
        domain,
    }
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// A volume in VDSM's words, without `truesize`, which is the file system's.
pub(crate) fn in_vdsms_words(info: &VolumeInfo) -> Value {
    let meta = info.meta.as_ref().unwrap();
    json!({
        "apparentsize": info.apparent_size_bytes.to_string(),
        "capacity": meta.capacity_bytes.to_string(),
        "children": [],
        "ctime": meta.created_s.to_string(),
        "description": meta.description,
        "disktype": meta.disk_type,
        "domain": meta.domain.to_string(),
        "format": format_text(meta.format),
        "generation": meta.generation,
        "image": meta.image.to_string(),
        "legality": meta.legality.as_str(),
        "mtime": "0",
        "parent": parent_text(meta.parent),
        "pool": "",
        "sequence": meta.sequence,
        "status": info.status.as_str(),
        "type": allocation_text(meta.allocation),
        "uuid": info.id.to_string(),
        "voltype": meta.role.as_str(),
    })
}

/// A domain in VDSM's words.
pub(crate) fn domain_in_vdsms_words(sample: &Sample) -> Value {
    let info = sample.root.domain(sample.domain).unwrap().info().unwrap();
    json!({
        "alignment": info.alignment_bytes,
        "block_size": info.block_size_bytes,
        "class": info.class.as_str(),
        "name": info.name.as_str(),
        "pool": info.pools.iter().map(|id| id.as_str()).collect::<Vec<_>>(),
        "remotePath": info.remote_path.as_str(),
        "role": info.role.as_str(),
        "type": info.kind.as_str(),
        "uuid": info.id.to_string(),
        "version": info.version.to_string(),
    })
}
