//! The power is cut at every step: what was not synced is lost, and still each operation is done or undone. A
//! kill alone keeps the page cache, so under it every missing sync would pass.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::kills::{Scene, check, scenes, undisturbed};
use crate::support::*;

/// XFS refuses to be smaller than 300 MiB. The file is sparse.
const SIZE_BYTES: u64 = 320 << 20;

/// A file system in a file.
struct Mount {
    folder: TempDir,
}

impl Mount {
    /// None where this machine or user cannot mount.
    fn make(mkfs: &[&str]) -> Option<Self> {
        let mount = Self {
            folder: TempDir::new().unwrap(),
        };
        File::create(mount.image()).unwrap().set_len(SIZE_BYTES).unwrap();
        fs::create_dir(mount.path()).unwrap();
        let made = succeeds(Command::new(mkfs[0]).args(&mkfs[1..]).arg(mount.image()));
        (made && mount.mount()).then_some(mount)
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("mnt")
    }

    fn mount(&self) -> bool {
        succeeds(
            Command::new("mount")
                .args(["-o", "loop"])
                .args([self.image(), self.path()]),
        )
    }

    /// Children that other threads are just starting hold copies of all files for an instant.
    fn unmount(&self) -> bool {
        (0..100).any(|_| {
            succeeds(Command::new("umount").arg(self.path())) || {
                thread::sleep(Duration::from_millis(20));
                false
            }
        })
    }

    fn sync(&self) {
        rustix::fs::syncfs(File::open(self.path()).unwrap()).unwrap();
    }

    fn cut_power(&self) {
        assert!(succeeds(
            Command::new("xfs_io")
                .args(["-x", "-c", "shutdown"])
                .arg(self.path())
        ));
        assert!(self.unmount() && self.mount());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if !self.unmount() {
            // Nothing of it goes away under a mount.
            self.folder.disable_cleanup(true);
        }
    }
}

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|o| o.status.success())
}

/// Where the cut comes.
enum Cut {
    Step(String),
    Change(usize),
}

/// Whether there was something to cut.
fn survives(mount: &Mount, scene: &Scene, pictures: (&Picture, &Picture), cut: &Cut, how: &str) -> bool {
    let temp = tempfile::tempdir_in(mount.path()).unwrap();
    let mut place = Place::at(temp);
    scene.prepare(&mut place);
    mount.sync();
    match cut {
        Cut::Step(point) => *place.bench.kill_at.lock().unwrap() = Some(point.clone()),
        Cut::Change(at) => *place.bench.kill_call.lock().unwrap() = Some(*at),
    }
    if place.run(&scene.operation, task(1)) == Ran::Well {
        place.close();
        mount.cut_power();
        assert_eq!(&place.picture(), pictures.1, "{how}: what is done stays done");
        return false;
    }
    place.bench.heal();
    place.close();
    mount.cut_power();
    place.reopen();
    let end = place.recover(&scene.operation, task(1), interrupted()).unwrap();
    check(&end, &place, pictures.0, pictures.1, how);
    place.close();
    mount.cut_power();
    check(
        &end,
        &place,
        pictures.0,
        pictures.1,
        &format!("{how}, and again after its end"),
    );
    true
}

fn at_every_step_of(mkfs: &[&str]) {
    let Some(mount) = Mount::make(mkfs) else {
        // Past the test runner's capture, so that skips are seen and counted.
        let _ = writeln!(
            io::stdout(),
            "skipped: power cut on {} (needs root and loop devices)",
            mkfs[0]
        );
        return;
    };
    // One of each kind: creating raw, creating with allocation, deleting.
    for scene in scenes()
        .into_iter()
        .enumerate()
        .filter_map(|(n, s)| [0, 3, 5].contains(&n).then_some(s))
    {
        let (before, after, points) = undisturbed(&scene);
        for point in points {
            let how = format!("{}, cut at {point} on {}", scene.name, mkfs[0]);
            let cut = Cut::Step(point);
            assert!(survives(&mount, &scene, (&before, &after), &cut, &how));
        }
        for at in 0.. {
            let how = format!("{}, cut at {at} on {}", scene.name, mkfs[0]);
            if !survives(&mount, &scene, (&before, &after), &Cut::Change(at), &how) {
                break;
            }
        }
    }
}

#[test]
fn a_power_cut_on_xfs_is_survived() {
    at_every_step_of(&["mkfs.xfs", "-q", "-f"]);
}

#[test]
fn a_power_cut_on_ext4_is_survived() {
    at_every_step_of(&["mkfs.ext4", "-q", "-F"]);
}

/// The loop itself: bytes that nobody synced are gone, so a missing sync would be noticed.
#[test]
fn what_was_not_synced_is_lost() {
    let Some(mount) = Mount::make(&["mkfs.xfs", "-q", "-f"]) else {
        return;
    };
    let kept: &Path = &mount.path().join("kept");
    fs::write(kept, b"bytes").unwrap();
    mount.sync();
    fs::write(mount.path().join("lost"), b"bytes").unwrap();
    mount.cut_power();
    assert_eq!(fs::read(kept).unwrap(), b"bytes");
    assert!(!mount.path().join("lost").exists());
}
