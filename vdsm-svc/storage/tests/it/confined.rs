//! What a child may do: work on the files that it was given, as the storage's user, and nothing else. What stands under
//! a name, and what stands in a header, opens nothing.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Allocation, CopyVolume, FaultCode, Operation, VolumeFormat};
use tempfile::TempDir;
use vdsm_storage::confine::{Confiner, Part, StorageUser};
use vdsm_storage::qemu_img::QemuImg;
use vdsm_storage::{OpEnd, Options, StorageRoot};

use crate::pattern;
use crate::support::*;

const SECRET: &[u8] = b"nobody but root may read this";

/// For how long a race is run; longer where the environment says so.
fn race_time() -> Duration {
    let seconds = std::env::var("VDSM_RACE_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(10))
}

/// A file beside the storage that every program on this host may read, and write: only the confinement is in the way.
fn secret() -> (TempDir, PathBuf) {
    let temp = reachable(TempDir::new().unwrap());
    let file = temp.path().join("secret");
    fs::write(
        &file,
        [SECRET, &vec![b'.'; 4 * MIB as usize - SECRET.len()]].concat(),
    )
    .unwrap();
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    (temp, file)
}

fn holds(file: &Path, what: &[u8]) -> bool {
    let Ok(bytes) = fs::read(file) else { return false };
    bytes.windows(what.len()).any(|part| part == what)
}

fn go(place: &mut Place, name: &str) {
    place.close();
    let (folder, qemu_img) = double(name, "qemu-img");
    let options = Options {
        hook: place.bench.clone(),
        qemu_img,
        ..options(host(), place.temp.path())
    };
    place.doubles.push(folder);
    place.root = Some(StorageRoot::open(place.temp.path(), options).unwrap());
}

fn qemu_img() -> QemuImg {
    QemuImg::new("qemu-img".into(), confiner(), StorageUser::default())
}

#[test]
fn the_start_knows_what_is_missing_here() {
    let report = qemu_img().confinement().unwrap();
    let is_root = rustix::process::geteuid().is_root();
    let missing: Vec<_> = report.missing.iter().map(|missing| missing.part).collect();
    assert_eq!(missing.contains(&Part::User), !is_root, "{report:?}");
    for missing in &report.missing {
        assert!(missing.to_string().contains("qemu-img"), "{missing}");
    }
}

/// A container may take it from root.
#[test]
fn that_cap_setpcap_is_missing_is_said_at_the_start() {
    let setpriv = Path::new("/usr/bin/setpriv");
    if !rustix::process::geteuid().is_root() || !setpriv.exists() {
        crate::mount::skipped("root without CAP_SETPCAP");
        return;
    }
    let whole = qemu_img().confinement().unwrap();
    assert!(
        !whole.weaker.iter().any(|what| what.contains("CAP_SETPCAP")),
        "{whole:?}"
    );
    let folder = reachable(TempDir::new().unwrap());
    let without = folder.path().join("without");
    let script = format!(
        "#!/bin/sh\nexec {} --bounding-set=-setpcap -- {} \"$@\"\n",
        setpriv.display(),
        env!("CARGO_BIN_EXE_vdsm-confined-child")
    );
    fs::write(&without, script).unwrap();
    fs::set_permissions(&without, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let without = Confiner::program(without);
    let report = QemuImg::new("qemu-img".into(), without, StorageUser::default()).confinement();
    let report = report.unwrap();
    assert_eq!(report.missing, whole.missing);
    assert!(
        report.weaker.iter().any(|what| what.contains("CAP_SETPCAP")),
        "{report:?}"
    );
}

/// Asked of the kernel, while the child stands still.
#[test]
fn a_child_has_the_storages_user_no_powers_no_environment_and_its_limits() {
    let mut place = Place::new();
    go(&mut place, "qemu-img-slow");
    let operation = create(1, VolumeFormat::Raw, Allocation::Sparse);
    thread::scope(|scope| {
        // Whatever is found wrong, the child is let go of: a test that fails must not wait for it.
        let _aborted = Sets(&place.bench.aborted);
        let running = scope.spawn(|| place.run(&operation, task(0x77)));
        let mut found = None;
        assert!(soon(|| {
            found = child_of(task(0x77));
            found.is_some()
        }));
        let pid = found.unwrap();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            line.split_ascii_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let uid = storage_uid().to_string();
        assert_eq!(line("Uid:"), vec![uid; 4]);
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            assert_eq!(line(set), ["0000000000000000"], "{set}");
        }
        if rustix::process::geteuid().is_root() {
            assert_eq!(line("Groups:"), Vec::<String>::new());
            assert_eq!(line("CapBnd:"), ["0000000000000000"]);
        }
        assert_eq!(line("NoNewPrivs:"), ["1"]);
        assert_eq!(line("Seccomp:"), ["2"]);
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
        let variables = environment
            .split(|byte| *byte == 0)
            .filter(|text| !text.is_empty());
        for variable in variables {
            let text = String::from_utf8_lossy(variable);
            assert!(
                text.starts_with("PATH=") || text.starts_with("LC_ALL=") || text.starts_with("PWD="),
                "{text}"
            );
        }
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        for (limit, value) in [
            ("Max address space", 2u64 << 30),
            ("Max cpu time", 60),
            ("Max file size", 4 * MIB),
        ] {
            let line = limits.lines().find(|line| line.starts_with(limit)).unwrap();
            assert!(line.contains(&value.to_string()), "{line}");
        }
        let group = rustix::process::getpgid(rustix::process::Pid::from_raw(pid)).unwrap();
        assert_eq!(group.as_raw_nonzero().get(), pid, "it leads a group of its own");
        assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), Path::new("/"));
        place.bench.aborted.store(true, Ordering::SeqCst);
        assert_eq!(code(&running.join().unwrap()), Some(FaultCode::Aborted));
    });
}

/// The process whose standard input is the task's lock.
fn child_of(task: common::id::TaskId) -> Option<i32> {
    let lock = format!("{task}/lock");
    fs::read_dir("/proc").unwrap().find_map(|entry| {
        let entry = entry.ok()?;
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stdin = fs::read_link(entry.path().join("fd/0")).ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        (stdin.ends_with(&lock) && line.starts_with(b"sleep")).then_some(pid)
    })
}

/// What it tries is in the script; each success would be told.
#[test]
fn a_child_reads_and_writes_nothing_but_what_it_was_given() {
    if qemu_img()
        .confinement()
        .unwrap()
        .missing
        .iter()
        .any(|m| m.part == Part::Landlock)
    {
        eprintln!("SKIPPED: what a child may open, for the kernel has no Landlock");
        return;
    }
    let mut place = Place::new();
    go(&mut place, "qemu-img-curious");
    place.must(&create(7, VolumeFormat::Raw, Allocation::Sparse), 7);
    let ran = place.run(&create(1, VolumeFormat::Raw, Allocation::Sparse), task(1));
    assert_eq!(ran, Ran::Well);
}

/// A draft whose name leads elsewhere by the time when its program runs: the program works on what was made, and the
/// swap is noticed before anything is placed.
#[test]
fn a_draft_that_was_swapped_is_noticed_and_what_it_was_swapped_for_is_not_touched() {
    let own = |place: &Place| place.image(1).join(format!(".vdsm-svc-{}", task(1)));
    type Swap = fn(&Path, &Path);
    let swaps: [(&str, Swap); 3] = [
        ("a link", |own, target| {
            fs::rename(own, own.with_extension("old")).unwrap();
            symlink(target, own).unwrap();
        }),
        ("a copy", |own, _| {
            fs::copy(own, own.with_extension("new")).unwrap();
            fs::rename(own.with_extension("new"), own).unwrap();
        }),
        ("a second name", |own, _| {
            fs::hard_link(own, own.with_extension("second")).unwrap();
        }),
    ];
    for format in [VolumeFormat::Raw, VolumeFormat::Cow] {
        for (what, swap) in swaps {
            for at in [
                "create_volume.qemu_img.before",
                "create_volume.allocate.before",
                "create_volume.sync_file.after",
                "create_volume.note_file.after",
            ] {
                let place = Place::new();
                let (_temp, target) = secret();
                let before = fs::read(&target).unwrap();
                let (draft, victim) = (own(&place), target.clone());
                let happens = move || swap(&draft, &victim);
                *place.bench.meanwhile.lock().unwrap() = Some((at.to_owned(), Box::new(happens)));
                let ran = place.run(&create(1, format, Allocation::Sparse), task(1));
                assert_eq!(
                    code(&ran),
                    Some(FaultCode::QemuImgFailed),
                    "{what} at {at}: {ran:?}"
                );
                assert!(
                    !place.data(1).exists() && !place.meta(1).exists(),
                    "{what} at {at}"
                );
                assert!(fs::read(&target).unwrap() == before, "{what} at {at}");
                let Ran::Ill(fault) = ran else { unreachable!() };
                assert!(
                    ["was replaced", "2 names"]
                        .iter()
                        .any(|words| fault.message.contains(words)),
                    "{fault}"
                );
                place.bench.heal();
                let end = place.recover(&create(1, format, Allocation::Sparse), task(1), fault.clone());
                assert_eq!(end, Some(OpEnd::Undone(fault)), "{what} at {at}");
            }
        }
    }
}

/// Up to the instant at which it becomes a volume.
#[test]
fn a_second_name_for_what_was_placed_is_noticed_before_it_is_legal() {
    let place = Place::new();
    let (data, second) = (place.data(1), place.path("second"));
    let happens = move || fs::hard_link(&data, &second).unwrap();
    *place.bench.meanwhile.lock().unwrap() =
        Some(("create_volume.write_meta.before".to_owned(), Box::new(happens)));
    let operation = create(1, VolumeFormat::Raw, Allocation::Sparse);
    let Ran::Ill(fault) = place.run(&operation, task(1)) else {
        panic!("it became a volume")
    };
    assert!(fault.message.contains("2 names"), "{fault}");
    place.bench.heal();
    let end = place.recover(&operation, task(1), fault.clone());
    assert_eq!(end, Some(OpEnd::Undone(fault)));
    assert!(!place.image(1).exists());
}

#[test]
fn a_volume_is_as_it_was_made_in_its_mode_and_attributes_or_is_none() {
    type Change = fn(&Path) -> std::io::Result<()>;
    let changes: [(&str, Change); 3] = [
        ("has the mode 0777", |draft| {
            fs::set_permissions(draft, std::os::unix::fs::PermissionsExt::from_mode(0o777))
        }),
        ("has the mode 6660", |draft| {
            fs::set_permissions(draft, std::os::unix::fs::PermissionsExt::from_mode(0o6660))
        }),
        ("has the attribute user.mine", |draft| {
            let flags = rustix::fs::XattrFlags::empty();
            Ok(rustix::fs::setxattr(draft, "user.mine", b"1", flags)?)
        }),
    ];
    for (words, change) in changes {
        let place = Place::new();
        let probe = place.path("probe");
        fs::write(&probe, b"").unwrap();
        if let Err(error) = change(&probe) {
            eprintln!("SKIPPED: {words}, for the file system does not take that ({error})");
            continue;
        }
        let draft = place.image(1).join(format!(".vdsm-svc-{}", task(1)));
        let happens = move || change(&draft).unwrap();
        *place.bench.meanwhile.lock().unwrap() =
            Some(("create_volume.sync_file.after".to_owned(), Box::new(happens)));
        let ran = place.run(&create(1, VolumeFormat::Cow, Allocation::Sparse), task(1));
        assert_eq!(code(&ran), Some(FaultCode::QemuImgFailed), "{words}: {ran:?}");
        let Ran::Ill(fault) = ran else { unreachable!() };
        assert!(fault.message.contains(words), "{fault}");
        assert!(!place.meta(1).exists(), "{words}");
    }
}

/// The same at any instant, for as long as there is time: nothing of the target is ever read or written.
#[test]
fn a_race_for_the_drafts_name_wins_nothing() {
    let place = pattern::place_with(VolumeFormat::Raw, Allocation::Sparse);
    let (_temp, target) = secret();
    let before = fs::read(&target).unwrap();
    let own = place.image(1).join(format!(".vdsm-svc-{}", task(1)));
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _over = Sets(&over);
        scope.spawn(|| {
            let aside = own.with_extension("aside");
            while !over.load(Ordering::Relaxed) {
                if own.exists() {
                    let _ = fs::rename(&own, &aside);
                    let _ = symlink(&target, &own);
                }
                thread::sleep(Duration::from_micros(300));
                if own.is_symlink() {
                    let _ = fs::rename(&aside, &own);
                }
                thread::sleep(Duration::from_micros(700));
            }
        });
        race(&place, VolumeFormat::Raw);
    });
    assert!(fs::read(&target).unwrap() == before, "another file was written");
}

/// A header that names another file for an instant, again and again, while it is copied: by a backing file, and by a
/// data file.
#[test]
fn a_race_for_a_header_wins_nothing() {
    if qemu_img()
        .confinement()
        .unwrap()
        .missing
        .iter()
        .any(|m| m.part == Part::Landlock)
    {
        eprintln!("SKIPPED: a race for a header, for the kernel has no Landlock");
        return;
    }
    let place = pattern::place_with(VolumeFormat::Cow, Allocation::Sparse);
    let (_temp, target) = secret();
    let source = fs::File::options()
        .read(true)
        .write(true)
        .open(place.data(7))
        .unwrap();
    let good = head(&source);
    let evil = [evil_head(&target, "backing"), evil_head(&target, "data")];
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _over = Sets(&over);
        scope.spawn(|| {
            for n in 0.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                source.write_all_at(&evil[n % 2], 0).unwrap();
                thread::sleep(Duration::from_micros(1_500));
                source.write_all_at(&good, 0).unwrap();
                thread::sleep(Duration::from_micros(1_500));
            }
            source.write_all_at(&good, 0).unwrap();
        });
        race(&place, VolumeFormat::Raw);
    });
}

/// Copies again and again; what is made never holds the secret.
fn race(place: &Place, format: VolumeFormat) {
    let began = Instant::now();
    let (mut made, mut refused) = (0, 0);
    while began.elapsed() < race_time() {
        let operation = Operation::CopyVolume(CopyVolume {
            verify: false,
            ..copy(format, Allocation::Sparse)
        });
        let ran = place.run(&operation, task(1));
        match ran {
            Ran::Well => {
                made += 1;
                assert!(!holds(&place.data(1), SECRET), "a secret was copied");
                assert!(!place.data(1).is_symlink(), "a link was placed");
            }
            Ran::Ill(_) => refused += 1,
            Ran::Killed => unreachable!(),
        }
        // Whoever races leaves files of his own in it.
        let _ = fs::remove_dir_all(place.image(1));
        *place.bench.notes.lock().unwrap() = None;
        place.bench.heal();
    }
    assert!(made + refused > 3, "it raced {} times", made + refused);
}

fn head(file: &fs::File) -> Vec<u8> {
    let mut head = vec![0; 64 << 10];
    file.read_exact_at(&mut head, 0).unwrap();
    head
}

/// The first cluster of an image of the source's size that names the target.
fn evil_head(target: &Path, how: &str) -> Vec<u8> {
    let temp = TempDir::new().unwrap();
    let file = temp.path().join("evil");
    let mut command = Command::new("qemu-img");
    command.args(["create", "-q", "-f", "qcow2"]);
    match how {
        "backing" => command.args(["-o", "compat=1.1", "-F", "raw", "-b"]).arg(target),
        _ => {
            // Made beside it first: making a data file empties it.
            let other = temp
                .path()
                .join("x".repeat(target.as_os_str().len() - temp.path().as_os_str().len() - 1));
            command.args(["-o", &format!("data_file={},data_file_raw=on", other.display())])
        }
    };
    let status = command.arg(&file).arg("4M").status().unwrap();
    assert!(status.success());
    let file = fs::File::options().read(true).write(true).open(&file).unwrap();
    let mut head = head(&file);
    if how == "data" {
        let name = target.as_os_str().as_encoded_bytes();
        let prefix = temp.path().as_os_str().as_encoded_bytes();
        let at = head
            .windows(prefix.len())
            .position(|part| part == prefix)
            .unwrap();
        head[at..at + name.len()].copy_from_slice(name);
    }
    head
}

struct Sets<'a>(&'a AtomicBool);

impl Drop for Sets<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The volumes that root makes belong to the storage's user, whoever that is.
#[test]
fn what_is_made_belongs_to_the_storages_user() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: another user of storage, for we are not root");
        return;
    }
    let temp = TempDir::new().unwrap();
    let options = Options {
        storage_user: "107:108".parse().unwrap(),
        ..options(host(), temp.path())
    };
    let root = StorageRoot::open(temp.path(), options).unwrap();
    root.create_domain(domain(), "tests").unwrap();
    let bench = Bench::default();
    let operation = create(1, VolumeFormat::Cow, Allocation::Preallocated);
    assert_eq!(vdsm_storage::op::run(&root, &operation, task(1), &bench), Ok(()));
    let data = temp
        .path()
        .join(format!("{}/images/{}/{}", domain(), image(1), volume(1)));
    let found = fs::metadata(data).unwrap();
    assert_eq!(
        (found.uid(), found.gid(), found.mode() & 0o777),
        (107, 108, 0o660)
    );
}
