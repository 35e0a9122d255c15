//! Volumes with something in them: data, holes, and zeros written over data, each block another one.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use common::{Allocation, VolumeFormat};

use crate::support::*;

/// The bytes of one block of the pattern.
const BLOCK: usize = 64 << 10;

/// Numbers of blocks with data, of a volume of 4 MiB; the last one is its last.
const DATA: [usize; 6] = [0, 1, 5, 20, 40, 63];

/// Numbers of blocks that were data once and are zeros now.
const ZEROED: [usize; 3] = [1, 6, 41];

pub(crate) fn format_name(format: VolumeFormat) -> &'static str {
    match format {
        VolumeFormat::Raw => "raw",
        VolumeFormat::Cow => "qcow2",
    }
}

/// Each block is full of a byte of its own.
fn value(block: usize) -> u8 {
    u8::try_from(block).unwrap() + 100
}

/// What a guest sees of the pattern.
pub(crate) fn bytes() -> Vec<u8> {
    let mut bytes = vec![0u8; 4 << 20];
    for block in DATA.into_iter().filter(|block| !ZEROED.contains(block)) {
        bytes[block * BLOCK..][..BLOCK].fill(value(block));
    }
    bytes
}

/// Writes it into a volume of the first domain, as a guest would: data first, some zeroed after, as data and not
/// as a hole: whatever looks for zeros must find them.
pub(crate) fn write(place: &Place, n: u128, format: VolumeFormat) {
    let written = DATA.into_iter().chain(ZEROED).map(|block| (block, value(block)));
    let writes = written.chain(ZEROED.map(|block| (block, 0)));
    if format == VolumeFormat::Raw {
        let file = OpenOptions::new().write(true).open(place.data(n)).unwrap();
        for (block, byte) in writes {
            file.write_all_at(&[byte; BLOCK], (block * BLOCK) as u64).unwrap();
        }
        return;
    }
    let commands: Vec<_> = writes
        .map(|(block, byte)| format!("write -P {byte} {} {BLOCK}", block * BLOCK))
        .collect();
    qemu_io(&place.data(n), format, &commands);
}

/// Runs commands of `qemu-io` on a file.
pub(crate) fn qemu_io(file: &Path, format: VolumeFormat, commands: &[String]) {
    let mut command = Command::new("qemu-io");
    command.args(["-f", format_name(format)]);
    for text in commands {
        command.args(["-c", text]);
    }
    let output = command.arg(file).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// What a guest sees of a file.
pub(crate) fn seen(file: &Path, format: VolumeFormat) -> Vec<u8> {
    let raw = tempfile::NamedTempFile::new().unwrap();
    let converted = Command::new("qemu-img")
        .args(["convert", "-f", format_name(format), "-O", "raw"])
        .args([file, raw.path()])
        .output()
        .unwrap();
    assert!(converted.status.success(), "{converted:?}");
    fs::read(raw.path()).unwrap()
}

/// A domain with the pattern in volume 7.
pub(crate) fn place_with(format: VolumeFormat, allocation: Allocation) -> Place {
    let mut place = Place::new();
    place.root().create_domain(other_domain(), "other").unwrap();
    place.must(&create(7, format, allocation), 7);
    write(&place, 7, format);
    place.reopen();
    place.bench.heal();
    place
}
