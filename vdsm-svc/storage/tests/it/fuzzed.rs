//! Metadata and qcow2 headers of any bytes: each is described or refused, and costs nothing else.

use std::fs;

use common::{Allocation, VolumeFormat};
use tempfile::TempDir;
use vdsm_storage::volume::VolumeStatus;
use vdsm_storage::{StorageRoot, op};

use crate::support::*;

/// What a message may take, in bytes; paths and ids are in it.
const MOST_BYTES: usize = 4 << 10;

/// A domain with a volume of each format: the file below the domain that is to be damaged is given as `what`.
struct Scene {
    temp: TempDir,
    root: StorageRoot,
}

impl Scene {
    fn new() -> Self {
        let temp = TempDir::new().unwrap();
        let root = StorageRoot::open(temp.path(), options(host(), temp.path())).unwrap();
        root.create_domain(domain(), "tests").unwrap();
        for (n, format) in [(1, VolumeFormat::Raw), (2, VolumeFormat::Cow)] {
            let bench = Bench::default();
            op::run(&root, &create(n, format, Allocation::Sparse), task(n), &bench).unwrap();
        }
        Self { temp, root }
    }

    fn file(&self, what: &str) -> std::path::PathBuf {
        self.temp.path().join(domain().to_string()).join(what)
    }

    /// The other image is as it was, whatever this one holds.
    fn other_is_well(&self) {
        let other = self.root.volume(domain(), image(1), volume(1)).unwrap();
        assert_eq!(other.status, VolumeStatus::Ok);
    }
}

#[test]
fn fuzz_metadata_of_any_bytes_is_described_or_refused() {
    let scene = Scene::new();
    let file = scene.file(&format!("images/{}/{}.meta", image(2), volume(2)));
    let good = fs::read(&file).unwrap();
    fuzz::fuzz("volume-metadata", [good], |input| {
        fs::write(&file, input).unwrap();
        match scene.root.volume(domain(), image(2), volume(2)) {
            Ok(info) => assert!(format!("{info:?}").len() < 4 * MOST_BYTES),
            Err(fault) => assert!(fault.message.len() < MOST_BYTES, "{}", fault.message.len()),
        }
        let _ = scene.root.volumes(domain(), image(2));
        scene.other_is_well();
    });
}

#[test]
fn fuzz_metadata_of_a_domain_of_any_bytes_is_described_or_refused() {
    let scene = Scene::new();
    let file = scene.file("dom_md/metadata");
    let good = fs::read(&file).unwrap();
    fuzz::fuzz("domain-metadata", [good], |input| {
        fs::write(&file, input).unwrap();
        for listed in scene.root.domains().unwrap() {
            if let Err(fault) = listed.info {
                assert!(fault.message.len() < MOST_BYTES, "{}", fault.message.len());
            }
        }
    });
}

#[test]
fn fuzz_a_qcow2_of_any_bytes_is_described_or_refused() {
    let scene = Scene::new();
    let file = scene.file(&format!("images/{}/{}", image(2), volume(2)));
    let good = fs::read(&file).unwrap();
    fuzz::fuzz("qcow2", [good[..good.len().min(1 << 16)].to_vec()], |input| {
        fs::write(&file, input).unwrap();
        let info = scene.root.volume(domain(), image(2), volume(2));
        if let Err(fault) = info {
            assert!(fault.message.len() < MOST_BYTES, "{}", fault.message.len());
        }
        scene.other_is_well();
    });
}
