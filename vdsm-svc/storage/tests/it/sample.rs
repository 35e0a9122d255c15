//! A domain that oVirt's VDSM made: read as VDSM reads it, and never written.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::id::{ImageId, VolumeId};
use common::{DeleteImage, FaultCode, Operation};
use serde_json::json;
use vdsm_storage::op;
use vdsm_storage::volume;

use crate::support::{Bench, task};
use crate::vdsm::{Sample, domain_in_vdsms_words, in_vdsms_words, text, unpacked};

/// The archive holds no empty directory, so the leftover of image 7 is made here.
const LEFTOVER: &str = "_remove_me_00005eed-0000-4000-8000-000000000007";

fn sample() -> Sample {
    let sample = unpacked("ovirt-domain-v5.tar.xz");
    let leftover = sample
        .temp
        .path()
        .join(sample.domain.to_string())
        .join("images")
        .join(LEFTOVER);
    if !leftover.exists() {
        fs::create_dir(leftover).unwrap();
    }
    sample
}

#[test]
fn every_volume_is_described_as_vdsm_describes_it() {
    let sample = sample();
    let volumes = sample.says["volumes"].as_array().unwrap();
    assert_eq!(volumes.len(), 8);
    for expected in volumes {
        let image: ImageId = text(&expected["image"]).parse().unwrap();
        let id: VolumeId = text(&expected["uuid"]).parse().unwrap();
        let info = sample.root.volume(sample.domain, image, id).unwrap();
        let mut expected = expected.clone();
        let fields = expected.as_object_mut().unwrap();
        fields.remove("truesize");
        fields.remove("guest_sha256");
        assert_eq!(in_vdsms_words(&info), expected);
        assert_eq!(info.remarks, Vec::<String>::new(), "{id}");
    }
}

#[test]
fn the_domain_is_described_as_vdsm_describes_it() {
    let sample = sample();
    let info = sample.root.domain(sample.domain).unwrap().info().unwrap();
    assert_eq!(domain_in_vdsms_words(&sample), sample.says["domain"]);
    assert_eq!(info.leftovers, [LEFTOVER]);
    assert!(
        info.read_only
            .unwrap()
            .contains("b53d75fc-c298-42b3-ac05-3ddcaeb80cac")
    );
}

#[test]
fn images_are_listed_with_the_leftover() {
    let sample = sample();
    let names: Vec<_> = sample
        .root
        .images(sample.domain)
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(json!(names), sample.says["images"]);
}

#[test]
fn volumes_are_listed_once_each_and_the_template_where_it_is_linked() {
    let sample = sample();
    let mut ids = std::collections::BTreeSet::new();
    for n in 1..=6 {
        let image: ImageId = format!("00005eed-0000-4000-8000-00000000000{n}").parse().unwrap();
        let volumes = sample.root.volumes(sample.domain, image).unwrap();
        ids.extend(volumes.iter().map(|v| v.id.to_string()));
        let template: Vec<_> = volumes.iter().filter(|v| v.linked).collect();
        assert_eq!(template.len(), usize::from(n == 4 || n == 5));
        for linked in template {
            assert_eq!(
                linked.meta.as_ref().unwrap().image.to_string(),
                "00005eed-0000-4000-8000-000000000004"
            );
        }
    }
    assert_eq!(json!(ids), sample.says["volume_uuids"]);
}

#[test]
fn chains_go_from_the_leaf_to_the_base_and_on_to_the_template() {
    let sample = sample();
    for (image, ends) in [
        ("3", vec!["12f", "12e", "12d"]),
        ("5", vec!["1f5", "191"]),
        ("4", vec!["191"]),
    ] {
        let image: ImageId = format!("00005eed-0000-4000-8000-00000000000{image}")
            .parse()
            .unwrap();
        let volumes = sample.root.volumes(sample.domain, image).unwrap();
        let chain: Vec<_> = volume::chain(&volumes)
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        let expected: Vec<_> = ends
            .iter()
            .map(|e| format!("00005eed-0000-4000-8000-000000000{e}"))
            .collect();
        assert_eq!(chain, expected);
    }
}

#[test]
fn the_guest_sees_what_it_wrote() {
    let sample = sample();
    for expected in sample.says["volumes"].as_array().unwrap() {
        let format = if text(&expected["format"]) == "COW" {
            "qcow2"
        } else {
            "raw"
        };
        let path: PathBuf = [
            sample.temp.path(),
            Path::new(&sample.domain.to_string()),
            Path::new("images"),
            Path::new(text(&expected["image"])),
            Path::new(text(&expected["uuid"])),
        ]
        .iter()
        .collect();
        let raw = sample.temp.path().join("guest");
        let converted = Command::new("qemu-img")
            .args(["convert", "-f", format, "-O", "raw"])
            .args([&path, &raw])
            .status()
            .unwrap();
        assert!(converted.success());
        let sum = Command::new("sha256sum").arg(&raw).output().unwrap();
        let sum = String::from_utf8(sum.stdout).unwrap();
        assert_eq!(sum.split(' ').next(), expected["guest_sha256"].as_str());
    }
}

#[test]
fn changing_it_is_refused_with_the_reason() {
    let sample = sample();
    let image_id: ImageId = "00005eed-0000-4000-8000-000000000001".parse().unwrap();
    let operation = Operation::DeleteImage(DeleteImage {
        domain_id: sample.domain,
        image_id,
    });
    let bench = Bench::default();
    let fault = op::run(&sample.root, &operation, task(1), &bench).unwrap_err();
    assert_eq!(fault.code, FaultCode::DomainReadOnly);
    assert!(fault.message.contains("pool"), "{}", fault.message);
    let fault = sample.root.format_domain(sample.domain, true).unwrap_err();
    assert_eq!(fault.code, FaultCode::DomainReadOnly);
    let dom_md = sample.temp.path().join(sample.domain.to_string()).join("dom_md");
    assert!(
        !dom_md.join(".vdsm-svc-writer").exists(),
        "not even the lock is left in it"
    );
}
