//! The file operations of a deleted image, with nothing of ours around them.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

/// What lies in the directory of a disk with one volume.
const FILES: [&str; 3] = ["volume", "volume.lease", "volume.meta"];

/// Some images in one directory.
#[derive(Debug)]
pub(crate) struct Images {
    dir: PathBuf,
    names: Vec<String>,
}

impl Images {
    /// Makes them, each with small files, and syncs all.
    ///
    /// # Errors
    /// Where they cannot be made.
    pub(crate) fn create(dir: &Path, count: usize) -> io::Result<Self> {
        let names: Vec<String> = (0..count).map(|number| format!("image-{number}")).collect();
        for name in &names {
            let image = dir.join(name);
            fs::create_dir(&image)?;
            for file in FILES {
                fs::write(image.join(file), [1; 4096])?;
                File::open(image.join(file))?.sync_all()?;
            }
            File::open(&image)?.sync_all()?;
        }
        File::open(dir)?.sync_all()?;
        let dir = dir.to_owned();
        Ok(Self { dir, names })
    }

    /// Renames each aside and syncs, all at once.
    ///
    /// # Errors
    /// The first failure.
    pub(crate) fn set_aside(&self) -> io::Result<()> {
        self.each(|image| {
            fs::rename(self.dir.join(image), self.aside(image))?;
            File::open(&self.dir)?.sync_all()
        })
    }

    /// Unlinks the files of each, removes its directory and syncs, all at once.
    ///
    /// # Errors
    /// The first failure.
    pub(crate) fn purge(&self) -> io::Result<()> {
        self.each(|image| {
            let aside = self.aside(image);
            for file in FILES {
                fs::remove_file(aside.join(file))?;
            }
            fs::remove_dir(aside)?;
            File::open(&self.dir)?.sync_all()
        })
    }

    fn aside(&self, image: &str) -> PathBuf {
        self.dir.join(format!("_remove_me_{image}"))
    }

    fn each(&self, work: impl Fn(&str) -> io::Result<()> + Sync) -> io::Result<()> {
        let work = &work;
        thread::scope(|scope| {
            let threads: Vec<_> = self
                .names
                .iter()
                .map(|name| scope.spawn(move || work(name)))
                .collect();
            threads.into_iter().try_for_each(|thread| {
                let gone = |_| io::Error::other("a thread of the bare file operations panicked");
                thread.join().map_err(gone)?
            })
        })
    }
}
