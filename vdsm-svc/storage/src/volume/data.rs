//! How much of a file is data.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// The bytes of a file that are no holes, as the file system tells; where it does not, the space that they take.
///
/// # Errors
/// Of the file system.
pub(crate) fn data_bytes(file: &File) -> io::Result<u64> {
    let mut found = 0;
    let mut at = 0;
    loop {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            // No data from here on.
            Err(Errno::NXIO) => return Ok(found),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => {
                let metadata = file.metadata()?;
                return Ok((metadata.blocks() * 512).min(metadata.len()));
            }
            Err(e) => return Err(e.into()),
        };
        let end = seek(file, SeekFrom::Hole(start))?;
        found += end.saturating_sub(start);
        at = end;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn holes_are_left_out() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(64 << 20).unwrap();
        assert_eq!(data_bytes(&file).unwrap(), 0);
        for at in [1, 40] {
            file.write_all_at(&[7; 1 << 20], at << 20).unwrap();
        }
        assert_eq!(data_bytes(&file).unwrap(), 2 << 20);
        file.write_all_at(&[7; 1 << 20], 63 << 20).unwrap();
        assert_eq!(data_bytes(&file).unwrap(), 3 << 20);
    }
}
