use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use clap::Parser;
use common::fault::FaultCode;
use serde_json::Value;

use super::*;
use crate::clock;

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    audit: AuditSettings,
}

fn settings(path: &Path, more: &[&str]) -> AuditSettings {
    let least = ["x", "--audit-log", path.to_str().unwrap()];
    Flags::parse_from(least.iter().chain(more)).audit
}

fn entry(outcome: Outcome, user: &str) -> Entry {
    Entry {
        time: clock::now(),
        rpc: "p.S/M".into(),
        user: user.into(),
        role: "operator",
        peer: "127.0.0.1:7".into(),
        correlation_id: Default::default(),
        entity: Default::default(),
        command_id: Default::default(),
        outcome,
        code: (outcome == Outcome::Refused).then_some(FaultCode::NotPermitted),
        subject: Default::default(),
        message: Default::default(),
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn temp() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    (dir, path)
}

#[test]
fn a_line_is_one_line_of_json_whatever_the_caller_is_called() {
    let (_dir, path) = temp();
    let file = settings(&path, &[]).open().unwrap().unwrap();
    let audit = Audit::into_sink(file.sink());
    let long = "x".repeat(10_000);
    audit.enter(entry(
        Outcome::Accepted,
        "a\n{\"user\":\"root\"}\u{1b}[2J\u{202e}",
    ));
    audit.enter(entry(Outcome::Accepted, &long));
    drop(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("{\"time\":\""), "{text}");
    let lines = lines(&path);
    assert_eq!(lines.len(), 2);
    let user = lines[0]["user"].as_str().unwrap();
    assert!(!user.chars().any(common::text::steers), "{user}");
    assert!(lines[1]["user"].as_str().unwrap().len() <= 512);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_flood_of_refusals_is_entered_as_a_number_and_takes_no_place_of_what_was_done() {
    let (_dir, path) = temp();
    let file = settings(&path, &[]).open().unwrap().unwrap();
    let audit = Audit::into_sink(file.sink());
    let began = Instant::now();
    for _ in 0..1_000 {
        audit.turn_away(None, "shows no certificate");
    }
    let earned = began.elapsed().as_millis() as u64 / 100;
    audit.enter(entry(Outcome::Accepted, "bob"));
    // A stranger hides nothing that a user tries.
    audit.enter(entry(Outcome::Refused, "ann"));
    drop(file);
    let lines = lines(&path);
    let refused = lines.iter().filter(|line| line["outcome"] == "refused").count() as u64;
    let counts = lines.iter().filter(|line| line["outcome"] == "left_out");
    let left_out: u64 = counts.map(|line| line["count"].as_u64().unwrap()).sum();
    assert_eq!(refused + left_out, 1_001);
    assert!(refused <= u64::from(REFUSALS_AT_ONCE) + earned + 1, "{refused}");
    assert_eq!(lines.iter().filter(|line| line["user"] == "ann").count(), 1);
    assert_eq!(
        lines.iter().filter(|line| line["outcome"] == "accepted").count(),
        1
    );
}

#[test]
fn what_finds_no_room_is_counted() {
    let sink = Arc::new(Sink::default());
    let audit = Audit::into_sink(Arc::clone(&sink));
    for _ in 0..9_000 {
        audit.enter(entry(Outcome::Accepted, "ann"));
    }
    sink.close();
    let (first, mut is_last) = sink.wait(Duration::ZERO);
    let mut entries = first.entries.len();
    while !is_last {
        let (batch, ends) = sink.wait(Duration::ZERO);
        assert_eq!(batch.lost, 0, "it is told once");
        entries += batch.entries.len();
        is_last = ends;
    }
    assert_eq!(first.lost + entries as u64, 9_000);
    assert!(first.lost > 0);
    assert_eq!(sink.lost.load(Ordering::Relaxed), first.lost);
}

#[test]
fn files_are_rotated_by_size_and_so_many_are_kept() {
    let (dir, path) = temp();
    // More were kept before.
    for older in ["2", "3", "4"] {
        fs::write(dir.path().join(format!("audit.jsonl.{older}")), "{}\n").unwrap();
    }
    let mut file = file::RotatedFile::open(&path, 100, 3).unwrap();
    for number in 0..10 {
        file.append(format!("{number}{}\n", "x".repeat(58)).as_bytes())
            .unwrap();
    }
    let mut names: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2"]);
    for (name, begins) in names.iter().zip(["9", "8", "7"]) {
        let text = fs::read_to_string(dir.path().join(name)).unwrap();
        assert!(text.starts_with(begins) && text.len() == 60, "{name}: {text}");
    }
}

#[test]
fn half_a_line_ends_before_the_next_and_a_file_that_was_moved_is_made_anew() {
    let (dir, path) = temp();
    fs::write(&path, "{\"half").unwrap();
    let mut file = file::RotatedFile::open(&path, 1_000, 3).unwrap();
    file.append(b"{}\n").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"half\n{}\n");
    fs::rename(&path, dir.path().join("moved")).unwrap();
    file.append(b"[]\n").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "[]\n");
}

#[test]
fn no_link_is_followed_and_what_cannot_be_opened_is_named() {
    let (dir, path) = temp();
    let other = dir.path().join("other");
    fs::write(&other, "").unwrap();
    symlink(&other, &path).unwrap();
    for wrong in [&path, &dir.path().join("no/such"), &dir.path().to_owned()] {
        let error = settings(wrong, &[]).open().unwrap_err().to_string();
        assert!(
            error.contains(wrong.to_str().unwrap()) && error.contains("--audit-log"),
            "{error}"
        );
    }
}

/// While the file cannot be written nothing is lost, and then all of it is there.
#[test]
fn what_cannot_be_written_waits_and_the_sink_says_so() {
    let (dir, path) = temp();
    let file = settings(&path, &[]).open().unwrap().unwrap();
    let sink = file.sink();
    let audit = Audit::into_sink(Arc::clone(&sink));
    // Somebody puts a directory in its place.
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    audit.enter(entry(Outcome::Accepted, "ann"));
    until_failing(&sink);
    fs::remove_dir(&path).unwrap();
    drop(file);
    assert!(!sink.is_failing.load(Ordering::Relaxed));
    assert_eq!(lines(&path).len(), 1);
    drop(dir);
}

fn until_failing(sink: &Sink) {
    let until = Instant::now() + Duration::from_secs(20);
    while !sink.is_failing.load(Ordering::Relaxed) {
        assert!(Instant::now() < until, "nobody has noticed");
        std::thread::yield_now();
    }
}

#[test]
fn what_is_not_written_at_the_end_is_counted_as_lost_and_holds_nobody_up() {
    let (_dir, path) = temp();
    let file = settings(&path, &[]).open().unwrap().unwrap();
    let sink = file.sink();
    let audit = Audit::into_sink(Arc::clone(&sink));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    audit.enter(entry(Outcome::Accepted, "ann"));
    until_failing(&sink);
    for _ in 0..1_000 {
        audit.enter(entry(Outcome::Accepted, "ann"));
    }
    drop(file);
    assert_eq!(sink.lost.load(Ordering::Relaxed), 1_001);
    assert_eq!(sink.kept.load(Ordering::Relaxed), 0);
    audit.enter(entry(Outcome::Unknown, "cut off"));
    assert_eq!(sink.lost.load(Ordering::Relaxed), 1_002);
}

#[test]
fn a_check_finds_what_an_opening_would_and_changes_nothing() {
    let (dir, path) = temp();
    settings(&path, &[]).check().unwrap();
    assert!(!path.exists());
    fs::write(&path, "{\"half").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    settings(&path, &[]).check().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"half");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
    for wrong in [
        &dir.path().join("no/such"),
        &dir.path().to_owned(),
        &path.join("below"),
    ] {
        settings(wrong, &[]).check().unwrap_err();
    }
}

/// All lines, read piece by piece; `meanwhile` is called before each piece.
fn read_back(trail: &Trail, mut meanwhile: impl FnMut(usize)) -> Vec<u64> {
    let (mut numbers, mut at) = (Vec::new(), None);
    for piece in 0.. {
        meanwhile(piece);
        let read = trail.before(at.as_deref()).unwrap();
        numbers.extend(read.lines.iter().map(|(_, line)| line.missing()));
        at = read.next;
        if at.is_none() {
            break;
        }
    }
    numbers
}

#[test]
fn lines_are_read_newest_first_over_all_files_and_over_a_rotation_in_between() {
    let (_dir, path) = temp();
    let trail = Trail::of(&path, 5);
    assert!(read_back(&trail, |_| ()).is_empty(), "there is no file yet");
    let mut file = file::RotatedFile::open(&path, 150_000, 5).unwrap();
    let mut append = |number: u64| {
        let line = format!("{{\"count\":{number},\"filler\":\"{}\"}}\n", "x".repeat(90));
        file.append(line.as_bytes()).unwrap();
    };
    (1..=3_000).for_each(&mut append);
    assert!(path.with_extension("jsonl.2").exists());
    let all: Vec<u64> = (1..=3_000).rev().collect();
    assert_eq!(read_back(&trail, |_| ()), all);
    // Between two pieces so much is written that the files get other names.
    let mut more = 3_001..;
    let read = read_back(&trail, |piece| {
        if piece == 1 {
            more.by_ref().take(1_300).for_each(&mut append);
        }
    });
    assert_eq!(read, all);
}

#[test]
fn what_is_no_line_is_passed_over_and_what_is_being_written_waits() {
    let (_dir, path) = temp();
    let trail = Trail::of(&path, 3);
    let text = format!(
        "{{\"count\":1}}\n{}\n{{\"count\":2}}\nno JSON\n{{\"count\":3}}\n{{\"count\":4",
        "y".repeat(300_000)
    );
    fs::write(&path, text).unwrap();
    assert_eq!(read_back(&trail, |_| ()), [3, 2, 1]);
    // One whose newline is the last byte that is read.
    fs::write(&path, format!("{{\"count\":1}}\n{}\n", "y".repeat(70_000))).unwrap();
    assert_eq!(read_back(&trail, |_| ()), [1]);
    // The file that a position names is gone.
    let position = trail.before(None).unwrap().next.unwrap();
    fs::remove_file(&path).unwrap();
    let read = trail.before(Some(&position)).unwrap();
    assert!(read.lines.is_empty() && read.next.is_none());
}
