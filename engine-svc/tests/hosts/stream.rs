//! What the engine makes of a stream that is cut, repeated, full of holes, or silent.

use std::time::Duration;

use common::id::TaskId;
use doubles::memory::Disk;
use prost::Message as _;
use proto::engine::v1::host::Connection;
use proto::engine::v1::{AsyncTask, ListTasksRequest};
use proto::task::v1::{self as words, TaskState};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::double::{Double, Lie, store};
use crate::world::{World, eventually, host_id, task_id};

/// From INIT to FINISHED.
const EDGES: u64 = 5;

/// Every edge once and in order, and nothing else.
fn assert_whole(edges: &[AsyncTask]) {
    let host: Vec<u64> = edges.iter().map(|task| task.host_sequence).collect();
    assert_eq!(host, (1..=EDGES).collect::<Vec<_>>(), "{edges:#?}");
    let states: Vec<i32> = edges.iter().map(|task| task.state).collect();
    assert_eq!(states, vec![1, 2, 3, 4, 5]);
    assert!(edges.iter().all(|task| !task.resynced));
    assert_dense(edges);
}

fn assert_dense(edges: &[AsyncTask]) {
    let own: Vec<u64> = edges.iter().map(|task| task.sequence).collect();
    assert_eq!(own, (1..=edges.len() as u64).collect::<Vec<_>>());
}

fn interleaved(double: &Double, tasks: &[TaskId], rng: &mut StdRng) {
    let mut left = vec![EDGES; tasks.len()];
    while left.iter().any(|left| *left > 0) {
        let at = rng.random_range(0..tasks.len());
        if left[at] > 0 {
            left[at] -= 1;
            double.advance(tasks[at]);
        }
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_anywhere_loses_and_repeats_nothing() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let (double, address) = Double::start(host_id());
    let world = World::start(&Disk::new()).await;
    world.follow(address).await;
    let seen = world.watch().await;
    let cuts = (0..30).map(|_| Lie::CutAfter(rng.random_range(0..12)));
    double.truth().lies = cuts.collect();
    let tasks: Vec<TaskId> = (0..20).map(task_id).collect();
    double.cut_streams();
    let (ticks, doing) = (double.clone(), tasks.clone());
    let mut order = StdRng::seed_from_u64(seed + 1);
    tokio::task::spawn_blocking(move || interleaved(&ticks, &doing, &mut order))
        .await
        .unwrap();
    for task in &tasks {
        assert_whole(&seen.reached(*task, EDGES).await);
    }
    world.stop().await;
}

#[tokio::test]
async fn frames_that_come_twice_count_once() {
    let (double, address) = Double::start(host_id());
    double.truth().lies = vec![Lie::Twice; 4].into();
    let world = World::start(&Disk::new()).await;
    world.follow(address).await;
    let seen = world.watch().await;
    for _ in 0..EDGES {
        double.advance(task_id(1));
    }
    assert_whole(&seen.reached(task_id(1), EDGES).await);
    world.stop().await;
}

#[tokio::test]
async fn a_hole_is_found_and_marked_and_no_edge_is_invented() {
    let (double, address) = Double::start(host_id());
    let world = World::start(&Disk::new()).await;
    world.follow(address).await;
    let seen = world.watch().await;
    // Ends the honest stream; the next one leaves two revisions out.
    double.truth().lies = vec![Lie::Gap(2), Lie::None].into();
    double.advance(task_id(9));
    seen.reached(task_id(9), 1).await;
    let before = double.truth().streams.0;
    double.cut_streams();
    eventually("another stream", || async {
        (double.truth().streams.0 > before).then_some(())
    })
    .await;
    for _ in 0..EDGES {
        double.advance(task_id(1));
    }
    let edges = seen.reached(task_id(1), EDGES).await;
    assert_dense(&edges);
    assert!(
        edges
            .windows(2)
            .all(|pair| pair[0].host_sequence < pair[1].host_sequence)
    );
    let jump = edges
        .windows(2)
        .find(|pair| pair[1].host_sequence > pair[0].host_sequence + 1);
    assert!(jump.is_some_and(|pair| pair[1].resynced), "{edges:#?}");
    assert_eq!(edges.last().unwrap().state(), TaskState::Finished);
    world.stop().await;
}

#[tokio::test]
async fn a_stream_that_falls_silent_is_given_up_and_opened_again() {
    let (double, address) = Double::start(host_id());
    let world = World::start_with(&Disk::new(), Duration::from_millis(100)).await;
    world.follow(address).await;
    let seen = world.watch().await;
    double.truth().lies = vec![Lie::SilentAfterOpen, Lie::SilentAfterOpen].into();
    double.cut_streams();
    world.linked(Connection::Away).await;
    for _ in 0..EDGES {
        double.advance(task_id(1));
    }
    assert_whole(&seen.reached(task_id(1), EDGES).await);
    world.linked(Connection::Connected).await;
    world.stop().await;
}

#[tokio::test]
async fn an_engine_that_starts_again_resumes_where_its_records_end() {
    let disk = Disk::new();
    let (double, address) = Double::start(host_id());
    let world = World::start(&disk).await;
    world.follow(address).await;
    let seen = world.watch().await;
    for _ in 0..3 {
        double.advance(task_id(1));
    }
    seen.reached(task_id(1), 3).await;
    world.stop().await;
    for _ in 3..EDGES {
        double.advance(task_id(1));
    }
    let resumed = double.truth().streams.1;
    let world = World::start(&disk).await;
    let seen = world.watch().await;
    let edges = seen.reached(task_id(1), EDGES).await;
    assert_eq!(edges.last().unwrap().sequence, EDGES);
    assert!(!edges.last().unwrap().resynced);
    assert!(double.truth().streams.1 > resumed);
    world.stop().await;
}

#[tokio::test]
async fn a_new_store_is_followed_from_its_beginning() {
    let (double, address) = Double::start(host_id());
    let world = World::start(&Disk::new()).await;
    world.follow(address).await;
    let seen = world.watch().await;
    double.advance(task_id(1));
    seen.reached(task_id(1), 1).await;
    double.wipe(store(2));
    for _ in 0..EDGES {
        double.advance(task_id(2));
    }
    seen.reached(task_id(2), EDGES).await;
    let host = world.linked(Connection::Connected).await;
    assert_eq!(host.store_id, store(2).to_string());
    // It was claimed again: its memory of whose it is was gone as well.
    assert!(double.truth().owner.is_some());
    world.stop().await;
}

/// A host may say what it likes of its tasks: nobody who reads or watches the engine takes harm of it.
#[tokio::test]
async fn whatever_a_host_says_of_a_task_lists_and_streams_stay_readable() {
    let (double, address) = Double::start(host_id());
    let world = World::start(&Disk::new()).await;
    world.follow(address).await;
    let seen = world.watch().await;
    // Three of them would not fit into one answer as they come.
    let junk = "\u{1b}[2J\nforged line\u{202e}".repeat(60_000);
    for number in 0..30 {
        let fault = || {
            Some(words::Fault {
                code: junk.clone(),
                subject: junk.clone(),
                message: junk.clone(),
                ..words::Fault::default()
            })
        };
        let mut task = double.advance(task_id(number));
        task.sequence = 2;
        // One field at a time: the host itself cannot send more than a frame holds.
        match number % 6 {
            0 => {
                task.fault = fault().map(|fault| words::Fault {
                    subject: String::new(),
                    code: "IO_ERROR".into(),
                    ..fault
                })
            }
            1 => {
                task.fault = fault().map(|fault| words::Fault {
                    message: String::new(),
                    subject: String::new(),
                    ..fault
                })
            }
            2 => {
                task.undo_fault = fault().map(|fault| words::Fault {
                    message: String::new(),
                    code: "IO_ERROR".into(),
                    ..fault
                })
            }
            3 => task.undo = junk.clone(),
            4 => task.waiting_for = junk.clone(),
            _ => task.correlation_id = junk.clone(),
        }
        double.say(task);
        seen.reached(task_id(number), 2).await;
    }
    let tasks = world
        .tasks()
        .list_tasks(ListTasksRequest::default())
        .await
        .unwrap();
    let tasks = tasks.into_inner().tasks;
    assert_eq!(tasks.len(), 30);
    for task in &tasks {
        assert!(task.encoded_len() < 8_192, "{} bytes", task.encoded_len());
        let waiting = task.waiting_for.clone().unwrap_or_default().note;
        let faults = task.fault.iter().chain(&task.undo_fault);
        let texts = faults.flat_map(|fault| [&fault.code, &fault.subject, &fault.message]);
        for text in texts.chain([&task.undo, &task.correlation_id, &waiting]) {
            assert!(!text.chars().any(common::text::steers), "{text:?}");
        }
    }
    world.stop().await;
}
