//! A process that is killed at a fail point: what was committed is there, what was not is not. The test runs itself
//! again as the process to be killed.

use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use common::revision::Revision;
use runtime::coordinator;
use store::Store as _;
use store::disk::{DiskStore, Options};

use crate::support::{Input, Notes, OWNER, Script, log_of, patient};

const DIR: &str = "RUNTIME_TEST_DIR";

/// The process to be killed; in an ordinary run of the tests it does nothing.
#[tokio::test]
async fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    // Only the end brings the log into the tables, however long the rest takes.
    let options = Options {
        checkpoint_every: Duration::from_secs(3_600),
        passes: runtime::failpoint::hit,
        ..Options::of(OWNER)
    };
    let store = DiskStore::open(Path::new(&dir), options).unwrap();
    let log = log_of(store.clone());
    let handle = coordinator::spawn::<Notes>(store, Script::default(), log, |_| {}).unwrap();
    for _ in 0..5 {
        patient(handle.call(Input::Note)).await.unwrap();
    }
    patient(handle.stop()).await;
}

fn run_child(dir: &Path, kill: &str) -> (ExitStatus, String) {
    let trace = dir.join("trace");
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["kill::child", "--exact"])
        .env(DIR, dir)
        .env("FAILPOINT_KILL", kill)
        .env("FAILPOINT_TRACE", &trace)
        .env("FAILPOINT_BATCH", "1")
        .output()
        .unwrap()
        .status;
    (status, std::fs::read_to_string(trace).unwrap_or_default())
}

#[cfg(feature = "failpoints")]
#[test]
fn a_killed_process_leaves_what_it_committed() {
    use std::os::unix::process::ExitStatusExt as _;
    for (kill, left) in [
        ("commit.before/note@3", 2),
        ("commit.after/note@3", 3),
        ("effect.before/note@3", 3),
        // At the end, when what is in the log is brought into the tables.
        ("checkpoint.before", 5),
        ("checkpoint.after", 5),
    ] {
        let dir = tempfile::TempDir::new().unwrap();
        let (status, trace) = run_child(dir.path(), kill);
        assert_eq!(status.signal(), Some(9), "{kill}");
        assert!(kill.starts_with(trace.lines().last().unwrap()), "{trace}");
        let store = DiskStore::open(dir.path(), Options::of(OWNER)).unwrap();
        assert_eq!(store.reader().unwrap().revision(), Revision(left), "{kill}");
    }
}

#[test]
fn without_a_kill_all_is_there() {
    let dir = tempfile::TempDir::new().unwrap();
    let (status, trace) = run_child(dir.path(), "no.such/point@1");
    assert!(status.success());
    assert_eq!(trace.is_empty(), !cfg!(feature = "failpoints"));
    let store = DiskStore::open(dir.path(), Options::of(OWNER)).unwrap();
    assert_eq!(store.reader().unwrap().revision(), Revision(5));
}
