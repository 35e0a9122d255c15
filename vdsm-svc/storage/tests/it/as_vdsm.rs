//! Two domains of odd records and cut chains: every description of ours agrees with VDSM's, or the difference is
//! here, with its reason.

use std::collections::{BTreeMap, BTreeSet};

use common::id::{ImageId, VolumeId};
use serde_json::{Value, json};
use vdsm_storage::domain::ImageName;
use vdsm_storage::volume::{VolumeInfo, VolumeStatus, chain};

use crate::vdsm::{Sample, domain_in_vdsms_words, in_vdsms_words, text, unpacked};

/// What it is, how ours differs, and why it may.
type Difference = (&'static str, &'static str, &'static str);

const ANY_LEAF: &str =
    "VDSM takes the leaf that the directory happens to give first; which one is meant nobody knows";
const LETTER_CASE: &str = "an id is the same in capitals; VDSM compares spellings, and finds nothing";
const FOREIGN_DIGITS: &str =
    "Python reads the digits of every script; nobody writes them, and VDSM writes 0 to 9";
const TOO_LARGE: &str = "no file is so large, and no field on the wire";
const LEGALITY: &str = "VDSM takes every word but ILLEGAL for a permission; what is no LEGALITY is none";
const NO_FORMAT: &str = "VDSM shows the word and fails on it in everything else (KeyError)";
const NO_ROLE: &str = "VDSM shows the word and then finds no leaf";
const NO_PARENT: &str =
    "VDSM shows the empty parent and fails on it (AttributeError); both mean that there is none";
const NO_ID: &str =
    "VDSM looks for a file of that name, and would look outside the image; it finds no chain either";
const CAPITALS: &str = "VDSM takes both, and shows what stands there; one thing has one name here";
const ROOT: &str = "root reads it in spite of its mode, 0000";
const NO_UUID: &str = "VDSM lists every directory with four hyphens in its name; no id can name it";

const NO_RECORD: &str = "VDSM counts only what has a record; this takes space, and is shown as INVALID";

const DIFFERENCES_ODD: &[Difference] = &[
    ("chain 00000038", "we: no chain", ANY_LEAF),
    ("chain 00000039", "we: no chain", ANY_LEAF),
    ("chain 0000003c", "we: 003c0001", LETTER_CASE),
    ("chain 00000047", "we: no chain", FOREIGN_DIGITS),
    ("chain 0000004f", "we: no chain", TOO_LARGE),
    ("chain 00000054", "we: no chain", LEGALITY),
    ("chain 00000055", "we: no chain", LEGALITY),
    ("chain 00000056", "we: no chain", LEGALITY),
    ("chain 00000057", "we: no chain", NO_FORMAT),
    ("chain 0000005a", "we: no chain", NO_FORMAT),
    ("chain 0000005d", "we: 005d0001", NO_PARENT),
    ("chain 00000092", "we: no chain", NO_FORMAT),
    ("chain 00000097", "we: 00970002 on 00970001", LETTER_CASE),
    ("chain 00000098", "we: 00980002 on 00980001", ROOT),
    ("image -b-c-d-e", "VDSM: an image", NO_UUID),
    ("volume 002f0001 in 0000002f", "we: there", NO_RECORD),
    ("volume 00470001", "we: INVALID", FOREIGN_DIGITS),
    ("volume 004f0001", "we: INVALID", TOO_LARGE),
    ("volume 00540001", "we: INVALID", LEGALITY),
    ("volume 00550001", "we: INVALID", LEGALITY),
    ("volume 00560001", "we: INVALID", LEGALITY),
    ("volume 00570001", "we: INVALID", NO_FORMAT),
    ("volume 00580001", "format: VDSM \"raw\", we \"RAW\"", CAPITALS),
    ("volume 005a0001", "we: INVALID", NO_FORMAT),
    ("volume 005b0001", "we: INVALID", NO_ROLE),
    ("volume 005c0001", "we: INVALID", NO_ROLE),
    (
        "volume 005d0001",
        "parent: VDSM \"\", we \"00000000-0000-0000-0000-000000000000\"",
        NO_PARENT,
    ),
    ("volume 005f0001", "we: INVALID", NO_ID),
    ("volume 008a0001", "we: INVALID", NO_ROLE),
    ("volume 00920001", "we: INVALID", NO_FORMAT),
    ("volume 00980001", "VDSM: INVALID", ROOT),
    ("volume 009b0001 in 0000009b", "we: there", NO_RECORD),
];

const DIFFERENCES_CHAINS: &[Difference] = &[("volume 001f0003 in 0000001f", "we: there", NO_RECORD)];

/// Fields that hold ids: VDSM shows the spelling that it finds, and we lower case.
const IDS: [&str; 4] = ["domain", "image", "parent", "uuid"];

#[test]
fn odd_records_are_read_as_vdsm_reads_them() {
    let sample = unpacked("ovirt-domain-v5-odd.tar.xz");
    assert!(sample.says["volumes"].as_array().unwrap().len() > 160);
    agree(&sample, DIFFERENCES_ODD);
}

#[test]
fn chains_cut_anywhere_are_read_as_vdsm_reads_them() {
    let sample = unpacked("ovirt-domain-v5-chains.tar.xz");
    assert!(sample.says["volumes"].as_array().unwrap().len() > 130);
    agree(&sample, DIFFERENCES_CHAINS);
}

/// Fails with every difference that is not in the table, and with what is in the table and no difference.
fn agree(sample: &Sample, listed: &[Difference]) {
    assert_eq!(domain_in_vdsms_words(sample), sample.says["domain"]);
    let mut found = BTreeMap::new();
    images(sample, &mut found);
    volumes(sample, &mut found);
    all_volumes(sample, &mut found);
    chains(sample, &mut found);
    let root = rustix::process::geteuid().is_root();
    let listed: BTreeMap<String, String> = listed
        .iter()
        .filter(|(_, _, why)| root || *why != ROOT)
        .map(|(what, how, why)| {
            assert!(!why.is_empty(), "{what}");
            ((*what).to_owned(), (*how).to_owned())
        })
        .collect();
    let wrong: Vec<_> = found
        .iter()
        .filter(|(what, how)| listed.get(*what) != Some(how))
        .map(|(what, how)| format!("{what}: {how}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let gone: Vec<_> = listed.keys().filter(|what| !found.contains_key(*what)).collect();
    assert!(gone.is_empty(), "no difference any more: {gone:?}");
}

/// The last eight digits, which are enough here.
fn end(id: &str) -> &str {
    &id[id.len().saturating_sub(8)..]
}

fn images(sample: &Sample, found: &mut BTreeMap<String, String>) {
    let names = sample.root.images(sample.domain).unwrap();
    let ours: BTreeSet<String> = names.iter().map(|n| n.to_string().to_lowercase()).collect();
    let vdsms: BTreeSet<String> = strings(&sample.says["images"]);
    for name in ours.symmetric_difference(&vdsms) {
        let how = if ours.contains(name) {
            "not an image"
        } else {
            "an image"
        };
        found.insert(format!("image {}", end(name)), format!("VDSM: {how}"));
    }
}

fn strings(list: &Value) -> BTreeSet<String> {
    let list = list.as_array().unwrap().iter();
    list.map(|v| text(v).to_lowercase()).collect()
}

fn volumes(sample: &Sample, found: &mut BTreeMap<String, String>) {
    for vdsms in sample.says["volumes"].as_array().unwrap() {
        let (image, volume) = text(&vdsms["file"]).split_once('/').unwrap();
        // What is set aside to be deleted is no image here.
        let Ok(image) = image.to_lowercase().parse::<ImageId>() else {
            continue;
        };
        let volume: VolumeId = volume.to_lowercase().parse().unwrap();
        let key = format!("volume {}", end(&volume.to_string()));
        match sample.root.volume(sample.domain, image, volume) {
            Ok(info) => {
                if let Some(how) = difference(vdsms, &info) {
                    found.insert(key, how);
                }
            }
            Err(fault) => {
                found.insert(key, format!("we: {}", fault.code.as_str()));
            }
        }
    }
}

/// Which volumes there are, in which images.
fn all_volumes(sample: &Sample, found: &mut BTreeMap<String, String>) {
    let mut ours: BTreeSet<(String, String)> = BTreeSet::new();
    for name in sample.root.images(sample.domain).unwrap() {
        let ImageName::Image(image) = name else { continue };
        for info in sample.root.volumes(sample.domain, image).unwrap() {
            ours.insert((info.id.to_string(), image.to_string()));
        }
    }
    let mut vdsms = BTreeSet::new();
    for (volume, fact) in sample.says["all_volumes"].as_object().unwrap() {
        let images = strings(&fact["imgs"]).into_iter();
        // What is set aside to be deleted is no image here.
        let images = images.filter(|image| image.parse::<ImageId>().is_ok());
        vdsms.extend(images.map(|image| (volume.to_lowercase(), image)));
    }
    for place in ours.symmetric_difference(&vdsms) {
        let how = if ours.contains(place) {
            "we: there"
        } else {
            "VDSM: there"
        };
        found.insert(
            format!("volume {} in {}", end(&place.0), end(&place.1)),
            how.to_owned(),
        );
    }
}

fn difference(vdsms: &Value, ours: &VolumeInfo) -> Option<String> {
    let valid = vdsms.get("error").is_none() && vdsms["status"] != "INVALID";
    match (valid, ours.status != VolumeStatus::Invalid) {
        (false, false) => return None,
        (true, false) => return Some("we: INVALID".to_owned()),
        (false, true) => return Some("VDSM: INVALID".to_owned()),
        (true, true) => {}
    }
    let said = in_vdsms_words(ours);
    let mut differ = Vec::new();
    for (field, ours) in said.as_object().unwrap() {
        let mut vdsms = vdsms[field].clone();
        if IDS.contains(&field.as_str()) {
            vdsms = json!(text(&vdsms).to_lowercase());
        }
        if vdsms != *ours {
            differ.push(format!("{field}: VDSM {vdsms}, we {ours}"));
        }
    }
    (!differ.is_empty()).then(|| differ.join("; "))
}

fn chains(sample: &Sample, found: &mut BTreeMap<String, String>) {
    for (image, fact) in sample.says["image_facts"].as_object().unwrap() {
        let Ok(id) = image.to_lowercase().parse::<ImageId>() else {
            continue;
        };
        let ours = (sample.root.volumes(sample.domain, id)).and_then(|volumes| chain(&volumes));
        let ours = ours.map(|ids| ids.iter().map(ToString::to_string).collect::<Vec<_>>());
        let vdsms = vdsms_chain(fact);
        let how = match (&vdsms, &ours) {
            (None, Err(_)) => continue,
            (Some(a), Ok(b)) if a == b => continue,
            (Some(_), Err(_)) => "we: no chain".to_owned(),
            (_, Ok(b)) => {
                let ends: Vec<_> = b.iter().map(|id| end(id)).collect();
                format!("we: {}", ends.join(" on "))
            }
        };
        found.insert(format!("chain {}", end(&id.to_string())), how);
    }
}

/// From the leaf to the base, and on to the template, as ours; none where VDSM finds no chain.
fn vdsms_chain(fact: &Value) -> Option<Vec<String>> {
    let chain = fact.get("chain")?.as_array().unwrap().iter().rev();
    let template = fact.get("template");
    Some(chain.chain(template).map(|id| text(id).to_lowercase()).collect())
}
