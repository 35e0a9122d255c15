//! What is on storage, seen past every service: by reading the directories.

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Every file and directory below `root`, as relative paths. What vanishes meanwhile is left out.
pub fn tree(root: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        for entry in entries {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path.clone());
            }
            if let Ok(relative) = path.strip_prefix(root) {
                found.insert(relative.to_owned());
            }
        }
    }
    found
}

/// The image directories of a domain, leftovers (`_remove_me_…`) included.
pub fn images(storage_root: &Path, domain_id: &str) -> BTreeSet<String> {
    names(&storage_root.join(domain_id).join("images"))
}

/// The files of an image.
pub fn image_files(storage_root: &Path, domain_id: &str, image_id: &str) -> BTreeSet<String> {
    names(&storage_root.join(domain_id).join("images").join(image_id))
}

/// How large a volume is: what a guest sees by its file, and what its metadata says; none where one of them is not there.
pub fn sizes(storage_root: &Path, domain_id: &str, image_id: &str, volume_id: &str) -> Option<(i64, i64)> {
    let image = storage_root.join(domain_id).join("images").join(image_id);
    let meta = std::fs::read_to_string(image.join(format!("{volume_id}.meta"))).ok()?;
    let says = meta.lines().find_map(|line| line.strip_prefix("CAP="))?;
    let file = std::fs::File::open(image.join(volume_id)).ok()?;
    let mut header = [0; 32];
    let is_qcow2 = file.read_exact_at(&mut header, 0).is_ok() && header.starts_with(b"QFI\xfb");
    let shows = match is_qcow2 {
        true => i64::from_be_bytes(header[24..].try_into().ok()?),
        false => i64::try_from(file.metadata().ok()?.len()).ok()?,
    };
    Some((shows, says.parse().ok()?))
}

/// The run directories of tasks: there is none once no task runs. They lie in the host's data directory, which is beside
/// its storage root here; earlier builds had theirs below that.
pub fn run_directories(storage_root: &Path) -> BTreeSet<String> {
    let mut found = names(&storage_root.join(".vdsm-run"));
    found.append(&mut names(&runs(storage_root)));
    found
}

/// Where the host keeps track of processes.
pub fn runs(storage_root: &Path) -> PathBuf {
    storage_root.with_file_name("host").join("run")
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// What copies a directory.
pub type Copy = fn(&Path, &Path) -> crate::TestResult<()>;

/// A copy of a directory with all that is in it: sparse files stay sparse, modes and times stay.
///
/// # Errors
/// When `cp` cannot.
pub fn copy(from: &Path, to: &Path) -> crate::TestResult<()> {
    cp("--sparse=auto", from, to)
}

/// The same of a service's data directory, without the room that was only taken ahead: the next start takes it again.
///
/// # Errors
/// When `cp` cannot.
pub fn copy_data_dir(from: &Path, to: &Path) -> crate::TestResult<()> {
    cp("--sparse=always", from, to)
}

fn cp(sparse: &str, from: &Path, to: &Path) -> crate::TestResult<()> {
    let status = std::process::Command::new("cp")
        .args(["-a", sparse])
        .args([from, to])
        .status()?;
    crate::failure::ensure(status.success(), || {
        format!("cp -a {} {} ended with {status}", from.display(), to.display())
    })
}
