//! Metadata that was cut short, or is not what was written: at every byte a clear error, never a panic, and nothing
//! else is touched by it.

use std::fs;

use common::{Allocation, Fault, FaultCode, VolumeFormat};
use vdsm_storage::volume::VolumeStatus;

use crate::support::*;

/// A domain with one volume, and a second, empty one.
fn place() -> Place {
    let place = Place::in_memory();
    place.must(&create(1, VolumeFormat::Cow, Allocation::Sparse), 1);
    place.root().create_domain(other_domain(), "other").unwrap();
    place.bench.heal();
    place
}

fn clear(fault: &Fault, codes: &[FaultCode], names: &str, at: usize) {
    assert!(codes.contains(&fault.code), "cut at {at}: {fault:?}");
    assert!(fault.message.contains(names), "cut at {at}: {fault:?}");
    assert!(!fault.subject.is_empty(), "cut at {at}: {fault:?}");
}

#[test]
fn a_domains_metadata_cut_at_every_byte_is_a_clear_error_and_the_other_domain_goes_on() {
    const CODES: [FaultCode; 3] = [
        FaultCode::DomainMetadataInvalid,
        FaultCode::DomainChecksumMismatch,
        FaultCode::DomainVersionUnsupported,
    ];
    let mut place = place();
    let path = place.path(&format!("{}/dom_md/metadata", domain()));
    let whole = fs::read(&path).unwrap();
    // As VDSM, we take a domain without a checksum; with all lines but that one it is the same domain. A line without a
    // `=` says nothing.
    let all_but_the_checksum = String::from_utf8_lossy(&whole).find("_SHA_CKSUM").unwrap();
    let without_checksum = all_but_the_checksum - 1..=all_but_the_checksum + "_SHA_CKSUM".len();
    let before = place.root().domain(domain()).unwrap().info().unwrap();
    for at in 0..whole.len() {
        fs::write(&path, &whole[..at]).unwrap();
        let unharmed = without_checksum.contains(&at) || at == whole.len() - 1;
        let listed = place.root().domains().unwrap();
        assert_eq!(listed.len(), 2, "cut at {at}");
        let (bad, good) = (&listed[0], &listed[1]);
        assert_eq!(good.info.as_ref().unwrap().name, "other", "cut at {at}");
        if unharmed {
            let info = bad.info.as_ref().unwrap();
            assert_eq!((&info.name, &info.read_only), (&before.name, &before.read_only));
            continue;
        }
        let fault = bad.info.as_ref().unwrap_err();
        clear(fault, &CODES, "dom_md/metadata", at);
        let same =
            |fault: Option<Fault>| assert_eq!(fault.unwrap().code, bad.info.as_ref().unwrap_err().code);
        same(place.root().domain(domain()).err());
        same(place.root().images(domain()).err());
        same(place.root().volume(domain(), image(1), volume(1)).err());
        same(place.root().create_domain(domain(), "tests").err());
        same(place.root().format_domain(domain(), true).err());
        for operation in [create(2, VolumeFormat::Raw, Allocation::Sparse), delete(1)] {
            let ran = place.run(&operation, task(9));
            assert_eq!(code(&ran), Some(fault.code), "cut at {at}");
        }
    }
    // A start over it is no failure, and mended it is as it was.
    fs::write(&path, b"").unwrap();
    place.reopen();
    assert_eq!(place.root().domains().unwrap().len(), 2);
    fs::write(&path, &whole).unwrap();
    place.must(&delete(1), 3);
}

#[test]
fn every_changed_byte_of_a_domains_metadata_is_noticed() {
    let place = place();
    let path = place.path(&format!("{}/dom_md/metadata", domain()));
    let whole = fs::read(&path).unwrap();
    let name_of_the_checksum = String::from_utf8_lossy(&whole).find("_SHA_CKSUM").unwrap();
    let text = |at: usize| at < name_of_the_checksum || at >= name_of_the_checksum + "_SHA_CKSUM=".len();
    for at in (0..whole.len()).filter(|at| text(*at) && whole[*at] != b'\n') {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        fs::write(&path, &changed).unwrap();
        let fault = place.root().domain(domain()).err().unwrap();
        assert_eq!(fault.code, FaultCode::DomainChecksumMismatch, "byte {at}");
        assert!(fault.message.contains("dom_md/metadata"), "{fault:?}");
    }
}

/// How much of a volume's metadata says all that it says.
fn but_the_eof(whole: &[u8]) -> usize {
    String::from_utf8_lossy(whole).find("\nEOF").unwrap()
}

#[test]
fn a_volumes_metadata_cut_at_every_byte_is_a_clear_error_and_its_neighbours_go_on() {
    let place = place();
    place.must(&create(2, VolumeFormat::Raw, Allocation::Sparse), 2);
    let whole = fs::read(place.meta(1)).unwrap();
    for at in 0..whole.len() {
        fs::write(place.meta(1), &whole[..at]).unwrap();
        let info = place.root().volume(domain(), image(1), volume(1)).unwrap();
        // Only the closing EOF is missing, or a part of it, which VDSM does not miss.
        if at >= but_the_eof(&whole) {
            assert_eq!(info.status, VolumeStatus::Ok);
            continue;
        }
        assert_eq!(info.status, VolumeStatus::Invalid, "cut at {at}");
        let fault = info.fault.unwrap();
        clear(&fault, &[FaultCode::VolumeMetadataInvalid], ".meta", at);
        let ran = place.run(&create(1, VolumeFormat::Raw, Allocation::Sparse), task(3));
        assert_eq!(code(&ran), Some(FaultCode::VolumeExists), "cut at {at}");
        assert_eq!(place.root().images(domain()).unwrap().len(), 2, "cut at {at}");
        let neighbour = place.root().volume(domain(), image(2), volume(2)).unwrap();
        assert_eq!(neighbour.status, VolumeStatus::Ok, "cut at {at}");
    }
}

/// What the fault asks for is possible, wherever the cut is.
#[test]
fn an_image_whose_metadata_is_cut_at_any_byte_can_be_deleted_and_never_copied() {
    let place = place();
    let whole = fs::read(place.meta(1)).unwrap();
    let copied = common::Operation::CopyVolume(common::CopyVolume {
        source: address(domain(), 1),
        target: address(other_domain(), 3),
        ..copy(VolumeFormat::Raw, Allocation::Sparse)
    });
    for at in 0..but_the_eof(&whole) {
        fs::write(place.meta(1), &whole[..at]).unwrap();
        let ran = place.run(&copied, task(4));
        assert_eq!(code(&ran), Some(FaultCode::VolumeMetadataInvalid), "cut at {at}");
        place.must(&delete(1), 5);
        assert!(!place.image(1).exists(), "cut at {at}");
        fs::create_dir(place.image(1)).unwrap();
        fs::write(place.data(1), b"").unwrap();
    }
}
