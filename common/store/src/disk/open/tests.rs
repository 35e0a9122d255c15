//! A store of which every piece is cut, changed, left out or exchanged: it is refused, or it is whole.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use common::time::Timestamp;
use tempfile::TempDir;

use super::*;
use crate::disk::{self, DiskStore, Owner};
use crate::{Commit, Order, Store as _, Table, Write};

const NOTES: Table = Table("notes");
const OWNER: Owner = Owner::service("test-svc");

fn options() -> Options {
    Options {
        wal_bytes: 8 << 10,
        checkpoint_every: std::time::Duration::from_secs(3_600),
        cache_bytes: 1 << 20,
        ..Options::of(OWNER)
    }
}

fn commit(store: &DiskStore, revision: u64) {
    let commit = Commit {
        revision: Revision(revision),
        time: Timestamp(7),
        history: vec![revision as u8; 9],
        writes: vec![Write {
            table: NOTES,
            key: revision.to_be_bytes().to_vec(),
            value: Some(revision.to_le_bytes().to_vec()),
        }],
    };
    store.commit([commit].into()).unwrap();
}

/// The last revision of a store that holds exactly what was committed up to it.
fn content(store: &DiskStore) -> u64 {
    let reader = store.reader().unwrap();
    let all = (Bound::Unbounded, Bound::Unbounded);
    let records = reader.scan(NOTES, all, Order::Ascending, usize::MAX).unwrap();
    let last = reader.revision().0;
    let expected = (1..=last).map(|n| (n.to_be_bytes().to_vec(), n.to_le_bytes().to_vec()));
    assert_eq!(records, expected.collect::<Vec<_>>());
    assert_eq!(store.history(Revision(0), usize::MAX).unwrap().len() as u64, last);
    for n in 1..=last {
        assert!(reader.get(NOTES, &n.to_be_bytes()).unwrap().is_some());
    }
    last
}

/// The files of a data directory, without those that anybody may lose.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let names = [
        manifest::FILE,
        tables::FILE,
        wal::FILES[0],
        wal::FILES[1],
        seal::FILE,
    ];
    let read = |name: &str| Some((PathBuf::from(name), fs::read(dir.join(name)).ok()?));
    names.into_iter().filter_map(read).collect()
}

fn laid_out(files: &BTreeMap<PathBuf, Vec<u8>>) -> TempDir {
    let dir = TempDir::new().unwrap();
    for (name, bytes) in files {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

fn open_at(dir: &Path) -> Result<Arc<DiskStore>, String> {
    DiskStore::open(dir, options()).map_err(|error| error.to_string())
}

/// What a directory proves, without writing into it: what an open does before its first write.
fn proves(dir: &Path) -> Result<u64, String> {
    let prove = || {
        let manifest = Manifest::read(dir)?.ok_or_else(|| damaged(dir, "has no manifest"))?;
        let store_id = manifest
            .store_id()
            .ok_or_else(|| damaged(dir, "names no store"))?;
        let path = dir.join(tables::FILE);
        let file = fs::File::open(&path).map_err(|error| at(&path, &error))?;
        let database = verify::whole(&path, file)?;
        let mut records = BTreeMap::new();
        let walked = tables::walk(&database, |_, key, value| {
            records.insert(key.to_vec(), value.to_vec());
            Ok(())
        })?;
        if let Some(fault) = walked.faults.into_iter().next() {
            return Err(StoreError::Damaged(fault));
        }
        let checkpoint = walked.checkpoint.ok_or_else(|| damaged(dir, "has no tables"))?;
        if let Recovery::Replay(memtable) = plan_recovery(dir, &manifest, store_id, &checkpoint)? {
            for write in memtable.commits().flat_map(|commit| &commit.writes) {
                records.insert(write.key.clone(), write.value.clone().unwrap());
            }
        }
        let expected =
            (1..=records.len() as u64).map(|n| (n.to_be_bytes().to_vec(), n.to_le_bytes().to_vec()));
        assert_eq!(records, expected.collect(), "silent, and wrong");
        Ok(records.len() as u64)
    };
    prove().map_err(|error| error.to_string())
}

/// A store with all there is: two starts, tables and log.
fn store_in_use() -> (TempDir, Arc<DiskStore>, u64) {
    let dir = TempDir::new().unwrap();
    let first = open_at(dir.path()).unwrap();
    (1..=3).for_each(|revision| commit(&first, revision));
    drop(first);
    let second = open_at(dir.path()).unwrap();
    (4..=70).for_each(|revision| commit(&second, revision));
    (dir, second, 70)
}

#[test]
fn an_open_that_is_cut_off_between_any_two_steps_is_made_up_for_by_the_next() {
    let (dir, store, committed) = store_in_use();
    let in_use = files(dir.path());
    drop(store);
    let closed = files(dir.path());
    let nothing = BTreeMap::new();
    for (state, expected) in [(nothing, 0), (in_use, committed), (closed, committed)] {
        let dir = laid_out(&state);
        let mut cuts = Vec::new();
        let throttle = Arc::new(Throttle::new());
        let opened = open_by_steps(dir.path(), &options(), &throttle, &mut |step| {
            cuts.push((step.to_owned(), files(dir.path())));
        });
        opened.map(drop).map_err(|error| error.to_string()).unwrap();
        assert_eq!(cuts.len(), 7);
        for (step, cut) in cuts {
            // And cut off again at each step of the next one.
            let again = laid_out(&cut);
            let mut twice = Vec::new();
            let opened = open_by_steps(again.path(), &options(), &throttle, &mut |_| {
                twice.push(files(again.path()))
            });
            drop(opened.map_err(|error| format!("{step}: {error}")).unwrap());
            for files in twice {
                let store = open_at(laid_out(&files).path()).unwrap_or_else(|why| panic!("{step}: {why}"));
                assert_eq!(content(&store), expected, "{step}");
            }
        }
    }
}

/// The pieces of a data directory, by name.
type Pieces = BTreeMap<PathBuf, Vec<u8>>;

/// Opens it: under which start, and what a copy that is made after each step holds.
fn life_of(dir: &Path, throttle: &Arc<Throttle>) -> (Start, Vec<(String, Pieces)>) {
    let mut copies = Vec::new();
    let mut copy = |step: &str| copies.push((step.to_owned(), files(dir)));
    let opened = open_by_steps(dir, &options(), throttle, &mut copy).map_err(|error| error.to_string());
    (opened.unwrap().identity.start, copies)
}

/// Whoever copies a directory while it is opened has the start that is about to begin: nothing may be served under it twice.
#[test]
fn a_directory_copied_between_any_two_steps_of_an_open_has_no_start_in_common_with_what_it_is_a_copy_of() {
    let (dir, store, _) = store_in_use();
    let in_use = files(dir.path());
    drop(store);
    let closed = files(dir.path());
    let throttle = Arc::new(Throttle::new());
    for state in [BTreeMap::new(), in_use, closed] {
        let (life, copies) = life_of(laid_out(&state).path(), &throttle);
        for (step, copy) in copies {
            // The copy is put back twice, and copied once more while it is opened.
            let (one, copies) = life_of(laid_out(&copy).path(), &throttle);
            let (other, _) = life_of(laid_out(&copy).path(), &throttle);
            let mut starts = vec![life, one, other];
            for (again, copy) in copies {
                let dir = laid_out(&copy);
                let store = open_at(dir.path()).unwrap_or_else(|why| panic!("{step}, {again}: {why}"));
                starts.push(store.identity().start);
            }
            let count = starts.len();
            starts.sort_unstable_by_key(|start| start.0);
            starts.dedup();
            assert_eq!(starts.len(), count, "{step}");
        }
    }
}

/// redb takes numbers in a file at their word, and panics where they are wrong: that is expected here, thousands of times.
fn without_redbs_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.location().is_some_and(|at| at.file().contains("redb-")) {
            usual(panic);
        }
    }));
}

/// The places of all bytes that may mean something. Of a stretch of emptiness, of which these files have far more than of
/// anything else, only what lies beside something that is written, and a byte here and there.
fn places(bytes: &[u8]) -> Vec<usize> {
    const BESIDE: usize = 16;
    let mut places = Vec::new();
    let mut next = 0;
    for place in (0..bytes.len()).filter(|place| bytes[*place] != 0) {
        places.extend(next.max(place.saturating_sub(BESIDE))..(place + BESIDE).min(bytes.len()));
        next = next.max((place + BESIDE).min(bytes.len()));
    }
    places.extend((0..bytes.len()).step_by(4_093));
    places
}

/// What becomes of a store in which one byte is another: whether it is refused, for each of these places in a file.
fn damaged_at(
    whole: &BTreeMap<PathBuf, Vec<u8>>,
    name: &Path,
    places: impl Iterator<Item = usize>,
    committed: u64,
) -> (u32, u32) {
    let dir = laid_out(whole);
    let bytes = &whole[name];
    let file = fs::OpenOptions::new()
        .write(true)
        .open(dir.path().join(name))
        .unwrap();
    let (mut refused, mut taken) = (0, 0);
    for place in places {
        file.write_all_at(&[bytes[place] ^ (1 << (place % 8))], place as u64)
            .unwrap();
        match proves(dir.path()) {
            Ok(revision) => {
                assert_eq!(revision, committed, "{}, byte {place}", name.display());
                taken += 1;
            }
            Err(why) => {
                assert!(why.len() > 20, "{why}");
                refused += 1;
            }
        }
        file.write_all_at(&bytes[place..=place], place as u64).unwrap();
    }
    (refused, taken)
}

/// Every byte of each file, by as many threads as there are processors.
#[test]
fn any_byte_that_changes_is_found_or_means_nothing() {
    without_redbs_panics();
    let (dir, _store, committed) = store_in_use();
    let whole = files(dir.path());
    assert_eq!(proves(laid_out(&whole).path()), Ok(committed));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let mut found = BTreeMap::<&Path, (u32, u32)>::new();
    for (name, bytes) in &whole {
        let places = places(bytes);
        let (places, whole) = (&places, &whole);
        let counts: Vec<(u32, u32)> = std::thread::scope(|scope| {
            let begin = |first| {
                let mine = places.iter().copied().skip(first).step_by(threads);
                scope.spawn(move || damaged_at(whole, name, mine, committed))
            };
            let all: Vec<_> = (0..threads).map(begin).collect();
            all.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let sum = |of: fn(&(u32, u32)) -> u32| counts.iter().map(of).sum();
        found.insert(name, (sum(|count| count.0), sum(|count| count.1)));
    }
    println!("refused, and taken because it meant nothing: {found:?}");
    // A mark that is not whole leaves the one before it.
    found.remove(Path::new(seal::FILE));
    assert!(found.values().all(|(refused, _)| *refused > 0), "{found:?}");
}

#[test]
fn any_file_that_is_cut_or_missing_is_said_and_named() {
    without_redbs_panics();
    let (dir, store, committed) = store_in_use();
    let in_use = files(dir.path());
    drop(store);
    let closed = files(dir.path());
    for (state, may_go) in [
        (in_use, &[][..]),
        (closed, &[wal::FILES[0], wal::FILES[1], seal::FILE][..]),
    ] {
        for (name, bytes) in &state {
            let may_go = may_go.iter().any(|free| Path::new(free) == name);
            let mut without = state.clone();
            without.remove(name);
            match open_at(laid_out(&without).path()) {
                Ok(store) => assert!(may_go && content(&store) == committed, "{}", name.display()),
                Err(why) => assert!(!may_go && why.contains(name.to_str().unwrap()), "{why}"),
            }
            let step = (bytes.len() / 40).max(1);
            for length in (0..bytes.len()).step_by(step) {
                let mut cut = state.clone();
                cut.insert(name.clone(), bytes[..length].to_vec());
                match proves(laid_out(&cut).path()) {
                    Ok(revision) => assert_eq!(revision, committed, "{} cut at {length}", name.display()),
                    Err(why) => assert!(why.len() > 20, "{why}"),
                }
            }
        }
    }
}

/// Each piece of one of some moments, of two stores: what no piece denies, and nothing less.
#[test]
fn pieces_of_different_starts_and_stores_are_refused_or_hold_all_that_one_of_them_knows() {
    without_redbs_panics();
    let dir = TempDir::new().unwrap();
    let mut moments = Vec::new();
    let mut revision = 0;
    for _ in 0..3 {
        let store = open_at(dir.path()).unwrap();
        for _ in 0..40 {
            revision += 1;
            commit(&store, revision);
        }
        moments.push((files(dir.path()), revision));
        drop(store);
        moments.push((files(dir.path()), revision));
    }
    let (other, _store, committed) = store_in_use();
    moments.push((files(other.path()), committed));
    let names: Vec<_> = moments[0].0.keys().cloned().collect();
    let (mut refused, mut taken) = (0, 0);
    let dir = TempDir::new().unwrap();
    for (one, two) in (0..moments.len()).flat_map(|one| (0..one).map(move |two| (one, two))) {
        for mixture in 1..31_u32 {
            let mut knows = 0;
            for (piece, name) in names.iter().enumerate() {
                let (files, revision) = &moments[if mixture >> piece & 1 == 1 { one } else { two }];
                fs::write(dir.path().join(name), &files[name]).unwrap();
                // Of a moment all pieces together know it all; which of them do is in the tests of the log.
                if [manifest::FILE, tables::FILE]
                    .iter()
                    .any(|key| Path::new(key) == name)
                {
                    knows = knows.max(*revision);
                }
            }
            match proves(dir.path()) {
                Ok(found) => {
                    assert!(found >= knows, "{found} of {knows}: {one}, {two}, {mixture:05b}");
                    taken += 1;
                }
                Err(why) => {
                    assert!(why.len() > 20, "{why}");
                    refused += 1;
                }
            }
        }
    }
    println!("{refused} refused, {taken} taken");
    assert!(refused > 300, "{refused} refused, {taken} taken");
}

#[test]
fn the_store_of_another_service_or_another_one_of_the_same_is_refused_in_words() {
    let dir = TempDir::new().unwrap();
    let of = |service, id| {
        let owner = Owner {
            service,
            id: Some(Uuid::from_u128(id)),
        };
        DiskStore::open(dir.path(), Options { owner, ..options() }).map_err(|error| error.to_string())
    };
    drop(of("one-svc", 1).unwrap());
    let other = of("other-svc", 1).unwrap_err();
    assert!(
        other.contains("one-svc") && other.contains("other-svc"),
        "{other}"
    );
    let another = of("one-svc", 2).unwrap_err();
    assert!(another.contains(&Uuid::from_u128(1).to_string()), "{another}");
    assert!(of("one-svc", 1).is_ok());
}

#[test]
fn check_names_what_is_wrong_and_repair_saves_the_rest() {
    let (dir, _store, committed) = store_in_use();
    let whole = files(dir.path());
    let report = super::super::check(laid_out(&whole).path(), OWNER).unwrap();
    assert!(report.faults.is_empty() && report.facts.len() == 3, "{report:?}");

    // The log's last frames are gone, as if it had never been written so far.
    let mut cut = whole.clone();
    cut.get_mut(Path::new(wal::FILES[0])).unwrap()[7 << 10..].fill(0);
    let damaged = laid_out(&cut);
    let report = super::super::check(damaged.path(), OWNER).unwrap();
    assert!(
        report.faults.len() == 1 && report.faults[0].contains(wal::FILES[0]),
        "{report:?}"
    );
    assert!(open_at(damaged.path()).is_err());

    let saved = super::super::repair(damaged.path(), OWNER).unwrap();
    assert!(
        saved.lost.iter().any(|line| line.contains("acknowledged after")),
        "{saved:?}"
    );
    let into = TempDir::new().unwrap();
    saved.write(into.path(), OWNER).unwrap();
    assert!(saved.write(into.path(), OWNER).is_err(), "it is there already");
    assert!(super::super::check(into.path(), OWNER).unwrap().faults.is_empty());
    let store = open_at(into.path()).unwrap();
    let revision = store.reader().unwrap().revision().0;
    assert!((30..committed).contains(&revision), "{revision}");
    let all = (Bound::Unbounded, Bound::Unbounded);
    let records = store
        .reader()
        .unwrap()
        .scan(NOTES, all, Order::Ascending, usize::MAX)
        .unwrap();
    assert_eq!(records.len() as u64, revision);
    let id = |dir: &Path| Manifest::read(dir).unwrap().unwrap().store_id;
    assert_ne!(
        id(into.path()),
        id(damaged.path()),
        "who remembers more must see that it is another store"
    );
    commit(&store, revision + 1);

    // What was damaged is as it was.
    assert!(files(damaged.path()) == cut);
    assert!(
        super::super::repair(dir.path(), OWNER).is_err(),
        "while a service has it open"
    );
}

/// Of tables that redb refuses as a whole, what can still be read is saved, and each saved record is one that was written.
#[test]
fn of_tables_that_were_cut_or_lost_a_page_the_rest_is_saved() {
    without_redbs_panics();
    let (dir, store, committed) = store_in_use();
    drop(store);
    let closed = files(dir.path());
    let tables = Path::new(tables::FILE);
    let len = closed[tables].len();
    let cut = |bytes: usize| {
        let mut files = closed.clone();
        files.get_mut(tables).unwrap().truncate(len - bytes);
        files
    };
    for bytes in [1, 4096, 4097] {
        let (count, lost) = saved_of(&cut(bytes));
        assert_eq!(count as u64, committed, "{bytes}: {lost:?}");
    }
    let used = (0..len / 4096).filter(|page| closed[tables][page * 4096..][..4096].iter().any(|b| *b != 0));
    let (mut nothing_saved, mut pages) = (Vec::new(), 0);
    for page in used {
        pages += 1;
        let mut damaged = closed.clone();
        damaged.get_mut(tables).unwrap()[page * 4096..][..4096].fill(0);
        let (count, lost) = saved_of(&damaged);
        assert!(!lost.is_empty());
        if count == 0 {
            nothing_saved.push(page);
        }
    }
    println!("of {pages} pages, nothing is saved where one of these is lost: {nothing_saved:?}");
    // In so small a store every other page leads to the rest.
    assert!(nothing_saved.len() <= pages / 2, "{nothing_saved:?} of {pages}");
}

/// How many records are saved, each as it was written, and what is lost.
fn saved_of(damaged: &BTreeMap<PathBuf, Vec<u8>>) -> (usize, Vec<String>) {
    let saved = super::super::repair(laid_out(damaged).path(), OWNER).unwrap();
    let into = TempDir::new().unwrap();
    if saved.is_empty() {
        // A store without records is a service that begins anew, and no rescue.
        assert!(saved.write(into.path(), OWNER).is_err());
        assert!(fs::read_dir(into.path()).unwrap().next().is_none());
        return (0, saved.lost);
    }
    saved.write(into.path(), OWNER).unwrap();
    let store = open_at(into.path()).unwrap();
    let all = (Bound::Unbounded, Bound::Unbounded);
    let reader = store.reader().unwrap();
    let records = reader.scan(NOTES, all, Order::Ascending, usize::MAX).unwrap();
    for (key, value) in &records {
        let n = u64::from_be_bytes(key.as_slice().try_into().unwrap());
        assert_eq!(value.as_slice(), n.to_le_bytes());
    }
    (records.len(), saved.lost)
}

#[test]
fn fuzz_a_log_of_other_bytes_proves_all_of_the_store_or_is_refused() {
    without_redbs_panics();
    let (dir, _store, committed) = store_in_use();
    let whole = files(dir.path());
    let log = Path::new(wal::FILES[0]);
    // What lies behind is zeros.
    let (head, rest) = whole[log].split_at(whole[log].len().min(16 << 10));
    assert!(rest.iter().all(|byte| *byte == 0));
    fuzz::fuzz("log-frames", [head.to_vec()], |input| {
        let mut damaged = whole.clone();
        damaged.insert(log.to_owned(), [input, rest].concat());
        if let Ok(count) = proves(laid_out(&damaged).path()) {
            assert_eq!(count, committed);
        }
    });
}

#[test]
fn a_store_of_the_format_before_is_taken_and_is_of_this_one_from_then_on() {
    let (dir, store, last) = store_in_use();
    drop(store);
    let path = dir.path().join(manifest::FILE);
    let is_of = |format: u32| {
        let text = fs::read_to_string(&path).unwrap();
        text.starts_with(&format!("format = {format}\n"))
    };
    assert!(is_of(3));
    // As the build before has written it.
    for (format, is_taken) in [(2, true), (1, false), (4, false)] {
        let text = fs::read_to_string(&path).unwrap();
        let (body, _) = text.rsplit_once("# sum ").unwrap();
        let (_, rest) = body.split_once('\n').unwrap();
        let body = format!("format = {format}\n{rest}");
        let sum = crc32fast::hash(body.as_bytes());
        fs::write(&path, format!("{body}# sum {sum:08x}\n")).unwrap();
        match open_at(dir.path()) {
            Ok(store) => {
                assert!(is_taken && is_of(3), "{format}");
                assert_eq!(content(&store), last);
            }
            Err(error) => {
                assert!(!is_taken && is_of(format), "{error}");
                assert!(error.contains("does not know"), "{error}");
            }
        }
    }
}

/// All that is in a directory: its names, and what the regular ones hold.
fn everything(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let all = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    // Reading a FIFO would wait for ever.
    let is_file = |path: &Path| fs::symlink_metadata(path).unwrap().is_file();
    all.map(|path| {
        let bytes = if is_file(&path) {
            fs::read(&path).unwrap()
        } else {
            Vec::new()
        };
        (path, bytes)
    })
    .collect()
}

/// Has a directory refused: by an open, which changes nothing in it, and by `check` in the same words.
fn is_refused(dir: &Path, name: &str) {
    // Made by any open, before anything is known.
    fs::write(dir.join("lock"), "").unwrap();
    let before = everything(dir);
    let report = disk::check(dir, OWNER).unwrap();
    let why = open_at(dir).map(drop).unwrap_err();
    assert!(
        why.contains(&format!("{name}: ")) || why.contains(&format!("{name} ")),
        "{why}"
    );
    assert!(report.faults.contains(&why), "{name}: {why}: {report:?}");
    assert_eq!(everything(dir), before, "{name}");
}

#[test]
fn what_a_start_could_not_write_is_named_before_it_writes_anything_and_by_a_check() {
    type Put = fn(&Path) -> io::Result<()>;
    let put: [(&str, Put); 4] = [
        ("a link", |path| std::os::unix::fs::symlink("/dev/null", path)),
        ("a directory", |path| fs::create_dir(path)),
        ("a FIFO", |path| {
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            Ok(rustix::fs::mkfifoat(rustix::fs::CWD, path, mode)?)
        }),
        ("a second name", |path| {
            fs::write(path.with_extension("first"), "")?;
            fs::hard_link(path.with_extension("first"), path)
        }),
    ];
    let (dir, store, committed) = store_in_use();
    let in_use = files(dir.path());
    drop(store);
    let closed = files(dir.path());
    for (state, may_go) in [(&closed, true), (&in_use, false)] {
        let whole = laid_out(state);
        let faults = disk::check(whole.path(), OWNER).unwrap().faults;
        assert_eq!(faults, Vec::<String>::new());
        for (what, put) in put {
            let mut names = vec!["reserve"];
            if may_go {
                names.extend([seal::FILE, wal::FILES[0], wal::FILES[1]]);
            }
            if what == "a directory" {
                names.extend(["address", "address.new", "manifest.new"]);
            }
            for name in names {
                let dir = laid_out(state);
                let _ = fs::remove_file(dir.path().join(name));
                put(&dir.path().join(name)).unwrap();
                is_refused(dir.path(), name);
            }
        }
        // These are replaced, whatever they lead to.
        let dir = laid_out(state);
        for name in ["address", "address.new", "manifest.new"] {
            std::os::unix::fs::symlink("/dev/null", dir.path().join(name)).unwrap();
        }
        assert_eq!(
            disk::check(dir.path(), OWNER).unwrap().faults,
            Vec::<String>::new()
        );
        assert_eq!(content(&open_at(dir.path()).unwrap()), committed);
    }
}

#[test]
fn the_seal_of_a_closed_store_is_of_its_last_start_or_not_there() {
    let (dir, store, committed) = store_in_use();
    drop(store);
    let before = files(dir.path());
    drop(open_at(dir.path()).unwrap());
    let closed = files(dir.path());
    let (other, store, _) = store_in_use();
    drop(store);
    let foreign = files(other.path());
    let seal = Path::new(seal::FILE);
    for strange in [
        &foreign[seal],
        &before[seal],
        &vec![0; 1 << 10],
        &closed[seal][..16].to_vec(),
    ] {
        let dir = laid_out(&closed);
        fs::write(dir.path().join(seal), strange).unwrap();
        is_refused(dir.path(), seal::FILE);
    }
    let dir = laid_out(&closed);
    fs::remove_file(dir.path().join(seal)).unwrap();
    assert_eq!(content(&open_at(dir.path()).unwrap()), committed);
}
