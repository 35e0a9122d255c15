//! qcow2 files of any bytes, read as those that a copy reads.

use std::fs::File;
use std::io::Write as _;
use std::process::Command;

use common::VolumeFormat;
use tempfile::{NamedTempFile, TempDir};

use super::qcow2::Qcow2Header;
use super::{Guest, Tables};

/// One that holds some data, as qemu-img makes it.
fn made() -> Vec<u8> {
    let dir = TempDir::new().unwrap();
    let (raw, cow) = (dir.path().join("raw"), dir.path().join("cow"));
    let data: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(&raw, data).unwrap();
    let convert = Command::new("qemu-img")
        .args(["convert", "-O", "qcow2", "-o", "cluster_size=4096"])
        .args([&raw, &cow])
        .status();
    assert!(convert.unwrap().success());
    std::fs::read(cow).unwrap()
}

/// What it tells, and which part of it is read, is bounded by what the file holds.
fn read(file: &File) {
    let Ok(header) = Qcow2Header::read(file) else {
        return;
    };
    let troubles = (header.trouble(), header.trouble_when_new());
    let Ok(tables) = Tables::read(file, &header) else {
        return;
    };
    let file_bytes = file.metadata().unwrap().len();
    for (_, offset) in tables.second().take(64) {
        let _ = tables.count(file, offset, file_bytes);
    }
    let _ = (tables.shared(), troubles);
    if let Ok(guest) = Guest::open(file, VolumeFormat::Cow, header.virtual_size_bytes)
        && let Ok(pieces) = guest.pieces(8)
    {
        for piece in pieces {
            let _ = guest.read(piece);
        }
    }
}

#[test]
fn fuzz_a_qcow2_file_of_any_bytes_is_read_or_refused() {
    let whole = made();
    let (head, rest) = whole.split_at(64 << 10);
    fuzz::fuzz("qcow2-tables", [head.to_vec()], |input| {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(&[input, rest].concat()).unwrap();
        read(file.as_file());
    });
}
