//! A temporary root, a context that records and breaks, and pictures of what is on disk.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::id::{DomainId, HostId, ImageId, TaskId, VolumeId};
use common::{
    Allocation, CopyVolume, CreateVolume, DeleteImage, Fault, FaultCode, Operation, VolumeAddress,
    VolumeFormat,
};
use tempfile::TempDir;
use uuid::Uuid;
use vdsm_storage::confine::Confiner;
use vdsm_storage::file::{FileCall, FileHook};
use vdsm_storage::{OpContext, OpEnd, Options, StorageRoot, op};

/// Every file of a domain's images, with its bytes.
pub(crate) type DirContents = BTreeMap<PathBuf, Vec<u8>>;

pub(crate) const MIB: u64 = 1 << 20;

pub(crate) fn host() -> HostId {
    HostId::from_uuid(Uuid::from_u128(0x4057))
}
pub(crate) fn domain() -> DomainId {
    DomainId::from_uuid(Uuid::from_u128(0xd))
}
/// A second one, which most tests do not have.
pub(crate) fn other_domain() -> DomainId {
    DomainId::from_uuid(Uuid::from_u128(0xdd))
}
pub(crate) fn image(n: u128) -> ImageId {
    ImageId::from_uuid(Uuid::from_u128(0x1000 + n))
}
pub(crate) fn volume(n: u128) -> VolumeId {
    VolumeId::from_uuid(Uuid::from_u128(0x2000 + n))
}
pub(crate) fn task(n: u128) -> TaskId {
    TaskId::from_uuid(Uuid::from_u128(0x3000 + n))
}

pub(crate) fn create(n: u128, format: VolumeFormat, allocation: Allocation) -> Operation {
    Operation::CreateVolume(CreateVolume {
        domain_id: domain(),
        image_id: image(n),
        volume_id: volume(n),
        capacity_bytes: 4 * MIB,
        format,
        allocation,
        description: format!("volume {n}, Größe"),
    })
}

pub(crate) fn address(domain_id: DomainId, n: u128) -> VolumeAddress {
    VolumeAddress {
        domain_id,
        image_id: image(n),
        volume_id: volume(n),
    }
}

/// Of volume 7 to volume 1, verified.
pub(crate) fn copy(format: VolumeFormat, allocation: Allocation) -> CopyVolume {
    CopyVolume {
        source: address(domain(), 7),
        target: address(domain(), 1),
        format,
        allocation,
        description: "a copy, Größe".to_owned(),
        verify: true,
    }
}

pub(crate) fn delete(n: u128) -> Operation {
    Operation::DeleteImage(DeleteImage {
        domain_id: domain(),
        image_id: image(n),
    })
}

pub(crate) fn all_kinds() -> [(VolumeFormat, Allocation); 4] {
    [
        (VolumeFormat::Raw, Allocation::Sparse),
        (VolumeFormat::Raw, Allocation::Preallocated),
        (VolumeFormat::Cow, Allocation::Sparse),
        (VolumeFormat::Cow, Allocation::Preallocated),
    ]
}

/// What happened, in order: changes to storage and durable notes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Happening {
    Call(FileCall, PathBuf),
    Note { past_no_return: bool },
}

/// A fail point, and what happens there.
pub(crate) type Meanwhile = (String, Box<dyn Fn() + Send>);

/// The `process` that is killed: a panic with this payload is a kill, any other is a defect.
struct Killed;

/// Records, and kills or fails where it is told to.
#[derive(Default)]
pub(crate) struct Bench {
    pub(crate) happened: Mutex<Vec<Happening>>,
    pub(crate) points: Mutex<Vec<String>>,
    /// Dies at this fail point.
    pub(crate) kill_at: Mutex<Option<String>>,
    /// Dies at the n-th passage of a fail point, counted from 0.
    pub(crate) kill_passage: Mutex<Option<usize>>,
    /// Dies before the n-th call (2n) or after it (2n + 1).
    pub(crate) kill_call: Mutex<Option<usize>>,
    /// The n-th call fails with this error.
    pub(crate) fail_call: Mutex<Option<(usize, i32)>>,
    pub(crate) calls: Mutex<usize>,
    pub(crate) notes: Mutex<Option<Vec<u8>>>,
    /// An abort is wished once this fail point is passed.
    pub(crate) abort_at: Mutex<Option<String>>,
    /// The same at the n-th passage of a fail point.
    pub(crate) abort_passage: Mutex<Option<usize>>,
    pub(crate) aborted: AtomicBool,
    /// How often it was asked whether an abort is wished,
    pub(crate) asked: AtomicUsize,
    /// and from which time on it is; never where it is zero.
    pub(crate) abort_when_asked: AtomicUsize,
    /// What somebody else does when this fail point is passed.
    pub(crate) meanwhile: Mutex<Option<Meanwhile>>,
    /// Notes fail.
    pub(crate) deaf: AtomicBool,
    pub(crate) progress: Mutex<Vec<(u64, u64)>>,
}

impl FileHook for Bench {
    fn before(&self, _: FileCall, path: &Path) -> io::Result<()> {
        if path.ends_with(".vdsm-svc-writer") {
            return Ok(());
        }
        let n = *self.calls.lock().unwrap();
        let now = *self.kill_call.lock().unwrap() == Some(2 * n);
        self.die_if(now);
        let fail = *self.fail_call.lock().unwrap();
        match fail {
            Some((at, errno)) if at == n => {
                *self.calls.lock().unwrap() += 1;
                Err(io::Error::from_raw_os_error(errno))
            }
            _ => Ok(()),
        }
    }

    fn after(&self, call: FileCall, path: &Path) {
        if path.ends_with(".vdsm-svc-writer") {
            return;
        }
        self.happened
            .lock()
            .unwrap()
            .push(Happening::Call(call, path.to_owned()));
        let n = *self.calls.lock().unwrap();
        *self.calls.lock().unwrap() += 1;
        let now = *self.kill_call.lock().unwrap() == Some(2 * n + 1);
        self.die_if(now);
    }
}

impl Bench {
    fn die_if(&self, now: bool) {
        if now {
            panic::resume_unwind(Box::new(Killed));
        }
    }

    /// Forgets what was recorded and breaks nothing any more; the note stays.
    pub(crate) fn heal(&self) {
        *self.kill_at.lock().unwrap() = None;
        *self.kill_passage.lock().unwrap() = None;
        *self.kill_call.lock().unwrap() = None;
        *self.fail_call.lock().unwrap() = None;
        *self.abort_at.lock().unwrap() = None;
        *self.abort_passage.lock().unwrap() = None;
        *self.meanwhile.lock().unwrap() = None;
        *self.calls.lock().unwrap() = 0;
        self.aborted.store(false, Ordering::SeqCst);
        self.deaf.store(false, Ordering::SeqCst);
        self.happened.lock().unwrap().clear();
        self.points.lock().unwrap().clear();
    }
}

impl OpContext for Bench {
    fn note(&self, note: &[u8], past_no_return: bool) -> Result<(), Fault> {
        if self.deaf.load(Ordering::SeqCst) {
            return Err(Fault::new(FaultCode::StoreUnavailable, "the store is gone"));
        }
        *self.notes.lock().unwrap() = Some(note.to_vec());
        self.happened
            .lock()
            .unwrap()
            .push(Happening::Note { past_no_return });
        Ok(())
    }

    fn commit_point(&self) -> Result<(), Fault> {
        if self.aborted.load(Ordering::SeqCst) {
            return Err(Fault::new(FaultCode::Aborted, "aborted"));
        }
        Ok(())
    }

    fn aborted(&self) -> bool {
        let asked = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let when = self.abort_when_asked.load(Ordering::SeqCst);
        self.aborted.load(Ordering::SeqCst) || when > 0 && asked >= when
    }

    fn fail_point(&self, name: &str) {
        let passage = {
            let mut points = self.points.lock().unwrap();
            points.push(name.to_owned());
            points.len() - 1
        };
        let is_wished = self.abort_at.lock().unwrap().as_deref() == Some(name);
        if is_wished || *self.abort_passage.lock().unwrap() == Some(passage) {
            self.aborted.store(true, Ordering::SeqCst);
        }
        if let Some((at, happens)) = &*self.meanwhile.lock().unwrap()
            && at == name
        {
            happens();
        }
        let here = self.kill_at.lock().unwrap().as_deref() == Some(name);
        let now = here || *self.kill_passage.lock().unwrap() == Some(passage);
        self.die_if(now);
    }

    fn progress(&self, done_bytes: u64, total_bytes: u64) {
        self.progress.lock().unwrap().push((done_bytes, total_bytes));
    }
}

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ran {
    Well,
    Ill(Fault),
    Killed,
}

/// A root in a temporary directory, watched by a bench.
pub(crate) struct Place {
    pub(crate) temp: TempDir,
    pub(crate) bench: Arc<Bench>,
    pub(crate) root: Option<StorageRoot>,
    /// Programs that stand in for `qemu-img`.
    pub(crate) doubles: Vec<TempDir>,
}

impl Place {
    /// With an empty domain in it.
    pub(crate) fn new() -> Self {
        Self::at(TempDir::new().unwrap())
    }

    /// As [`Place::new`], in memory where there is such a place: for thousands of kills, whose syncs the page
    /// cache makes meaningless anyway.
    pub(crate) fn in_memory() -> Self {
        Self::at(Self::memory())
    }

    /// Another one in memory with the same in it, down to owners and times. Nobody may work in this one.
    pub(crate) fn copied(&self) -> Self {
        let other = Self::memory();
        let copied = Command::new("cp")
            .args(["-a", "--sparse=auto", "-T"])
            .args([self.temp.path(), other.path()])
            .status();
        assert!(copied.unwrap().success());
        Self::bare_at(other)
    }

    fn memory() -> TempDir {
        let memory = tempfile::tempdir_in("/dev/shm");
        memory.or_else(|_| TempDir::new()).unwrap()
    }

    /// As [`Place::new`], somewhere else.
    pub(crate) fn at(temp: TempDir) -> Self {
        let mut place = Self::bare_at(temp);
        place.root().create_domain(domain(), "tests").unwrap();
        place.bench.heal();
        place.reopen();
        place
    }

    pub(crate) fn bare() -> Self {
        Self::bare_at(TempDir::new().unwrap())
    }

    fn bare_at(temp: TempDir) -> Self {
        let bench = Arc::new(Bench::default());
        let root = Some(open(temp.path(), &bench));
        Self {
            temp,
            bench,
            root,
            doubles: Vec::new(),
        }
    }

    pub(crate) fn root(&self) -> &StorageRoot {
        self.root.as_ref().unwrap()
    }

    /// As after the end of the service: nothing is open, locks are freed.
    pub(crate) fn close(&mut self) {
        drop(self.root.take());
    }

    /// As after a restart of the service.
    pub(crate) fn reopen(&mut self) {
        self.close();
        self.root = Some(open(self.temp.path(), &self.bench));
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.temp.path().join(below)
    }

    /// Where the service keeps track of processes.
    pub(crate) fn runs(&self) -> PathBuf {
        self.path(".data/run")
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.path(&format!("{}/images", domain()))
    }

    pub(crate) fn image(&self, n: u128) -> PathBuf {
        self.images().join(image(n).to_string())
    }

    /// The data of a volume of the first domain.
    pub(crate) fn data(&self, n: u128) -> PathBuf {
        self.image(n).join(volume(n).to_string())
    }

    pub(crate) fn meta(&self, n: u128) -> PathBuf {
        self.image(n).join(format!("{}.meta", volume(n)))
    }

    pub(crate) fn run(&self, operation: &Operation, task: TaskId) -> Ran {
        let work = || op::run(self.root(), operation, task, &*self.bench);
        match panic::catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(())) => Ran::Well,
            Ok(Err(fault)) => Ran::Ill(fault),
            Err(payload) if payload.is::<Killed>() => Ran::Killed,
            Err(payload) => panic::resume_unwind(payload),
        }
    }

    /// None: it was killed.
    pub(crate) fn recover(&self, operation: &Operation, task: TaskId, cause: Fault) -> Option<OpEnd> {
        let note = self.bench.notes.lock().unwrap().clone();
        let work = || op::recover(self.root(), operation, task, note.as_deref(), cause, &*self.bench);
        match panic::catch_unwind(AssertUnwindSafe(work)) {
            Ok(end) => Some(end),
            Err(payload) if payload.is::<Killed>() => None,
            Err(payload) => panic::resume_unwind(payload),
        }
    }

    /// Runs it to its good end, and forgets its notes.
    pub(crate) fn must(&self, operation: &Operation, n: u128) {
        assert_eq!(self.run(operation, task(n)), Ran::Well);
        *self.bench.notes.lock().unwrap() = None;
        self.bench.heal();
    }

    /// Every file of the images of all domains with its bytes, but `CTIME`, which is the clock's.
    pub(crate) fn contents(&self) -> DirContents {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(self.temp.path()).unwrap() {
            let images = entry.unwrap().path().join("images");
            if images.is_dir() {
                look(self.temp.path(), &images, &mut found);
            }
        }
        found
    }
}

/// As a service has them: but for a program of its own that confines the children, which a test's is not.
/// What it keeps of its own lies in `.data` below the path.
pub(crate) fn options(host: HostId, path: &Path) -> Options {
    Options {
        confiner: confiner(),
        ..Options::new(host, path.join(".data/run"))
    }
}

pub(crate) fn confiner() -> Confiner {
    Confiner::program(env!("CARGO_BIN_EXE_vdsm-confined-child").into())
}

/// As on a machine without a filter of calls: what it confines may start processes, which some doubles do.
pub(crate) fn unfiltered() -> Confiner {
    Confiner::program(env!("CARGO_BIN_EXE_vdsm-unfiltered-child").into())
}

/// A double of `qemu-img`, where the storage's user finds it, for as long as the directory is there.
pub(crate) fn double(name: &str, called: &str) -> (TempDir, PathBuf) {
    let temp = reachable(TempDir::new().unwrap());
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let program = temp.path().join(called);
    // By a process of its own: nobody has the file open for writing when it is run.
    let copied = Command::new("cp").arg(data.join(name)).arg(&program).status();
    assert!(copied.unwrap().success());
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    (temp, program)
}

/// The storage's user may pass through it.
pub(crate) fn reachable(temp: TempDir) -> TempDir {
    fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o755)).unwrap();
    temp
}

/// The user that storage belongs to here: as root another one than our own.
pub(crate) fn storage_uid() -> u32 {
    let own = rustix::process::geteuid();
    if own.is_root() { 36 } else { own.as_raw() }
}

fn open(path: &Path, bench: &Arc<Bench>) -> StorageRoot {
    let options = Options {
        hook: bench.clone(),
        ..options(host(), path)
    };
    StorageRoot::open(path, options).unwrap()
}

fn look(top: &Path, dir: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
    found.insert(dir.strip_prefix(top).unwrap().to_owned(), Vec::new());
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            look(top, &path, found);
            continue;
        }
        let bytes = match path.extension().is_some_and(|e| e == "meta") {
            true => {
                let text = fs::read_to_string(&path).unwrap();
                let lines = text.lines().filter(|l| !l.starts_with("CTIME="));
                lines.collect::<Vec<_>>().join("\n").into_bytes()
            }
            false => fs::read(&path).unwrap(),
        };
        found.insert(path.strip_prefix(top).unwrap().to_owned(), bytes);
    }
}

pub(crate) fn interrupted() -> Fault {
    Fault::new(FaultCode::Interrupted, "the service was restarted")
}

pub(crate) fn code(ran: &Ran) -> Option<FaultCode> {
    match ran {
        Ran::Ill(fault) => Some(fault.code),
        _ => None,
    }
}

pub(crate) fn allocated(path: &Path) -> u64 {
    fs::metadata(path).unwrap().blocks() * 512
}

/// Whether it comes to be so; in vain, it takes a while.
pub(crate) fn soon(mut look: impl FnMut() -> bool) -> bool {
    (0..2_000).any(|_| {
        look() || {
            thread::sleep(Duration::from_millis(5));
            false
        }
    })
}
