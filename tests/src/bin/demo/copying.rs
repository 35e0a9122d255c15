//! Copies of a disk that take a moment: one is watched to its end, another is cancelled in the middle.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;

use proto::engine::v1::CommandState;
use proto::task::v1::Progress;
use tests::client::Refusal;
use tests::failure::{Context as _, Failure, TestResult, ensure};
use tests::watch::{Frame, Selection, Start, Tasks, Watch as _};
use tests::{World, requests, storage, words};
use tokio_stream::StreamExt as _;

use crate::stage::Stage;

/// What the disk holds.
const MIB: i64 = 512;

/// A copy may be over before it can be cancelled; then another one is.
const ATTEMPTS: usize = 10;

/// In the middle is where at least so much has moved, and not all.
const MOVED: i64 = 32 << 20;

/// The act: returns the jobs.
pub(crate) async fn act(stage: &mut Stage, world: &World, domain_id: &str) -> TestResult<Vec<String>> {
    let mut source = requests::create_disk(domain_id, requests::KINDS[0]);
    source.capacity_bytes = MIB << 20;
    let created = world.client.ask_create_disk(&source).await?;
    world.succeeds(&created).await?;
    fill(world, domain_id, &source.disk_id)?;
    stage.note(format!(
        "a raw disk of {MIB} MiB is created, and written full as a guest would"
    ));

    let copy = requests::copy_disk(&source.disk_id, domain_id, requests::KINDS[2]);
    let copied = watched(stage, world, &copy, false).await?;
    ensure(copied.state == CommandState::Succeeded, || {
        format!("the copy ended {:?}", copied.state)
    })?;
    stage.note("copied, and compared with its source: each counts half");

    let cancelled = cancelled_in_the_middle(stage, world, domain_id, &source.disk_id).await?;
    for disk_id in [&source.disk_id, &copy.disk_id] {
        let removed = world
            .client
            .ask_remove_disk(&requests::remove_disk(disk_id))
            .await?;
        world.succeeds(&removed).await?;
    }
    Ok(vec![copied.command_id, cancelled])
}

/// A copy that has ended.
struct Copied {
    command_id: String,
    state: CommandState,
    /// The bytes that had moved when it was cancelled in the middle; none where it was not.
    moved: Option<i64>,
}

async fn cancelled_in_the_middle(
    stage: &mut Stage,
    world: &World,
    domain_id: &str,
    source: &str,
) -> TestResult<String> {
    for _ in 0..ATTEMPTS {
        let copy = requests::copy_disk(source, domain_id, requests::KINDS[0]);
        let copied = watched(stage, world, &copy, true).await?;
        if copied.state == CommandState::Cancelled {
            let images = storage::images(&world.storage_root(), domain_id);
            ensure(!images.contains(&copy.disk_id), || {
                "the cancelled copy left its image".to_owned()
            })?;
            let moved = copied
                .moved
                .context("it was cancelled before it had moved anything")?;
            stage.note(format!(
                "cancelled in the middle, with {} of {MIB} MiB copied: what it had made is gone, its source is as it was",
                moved >> 20
            ));
            return Ok(copied.command_id);
        }
        stage.note("it was over before it could be cancelled; once more");
        let removed = world
            .client
            .ask_remove_disk(&requests::remove_disk(&copy.disk_id))
            .await?;
        world.succeeds(&removed).await?;
    }
    Err(Failure::new("no copy was ever cancelled in the middle"))
}

/// Copies, and shows how far it is; cancels it in its middle where that is wished.
async fn watched(
    stage: &mut Stage,
    world: &World,
    copy: &proto::engine::v1::CopyDiskRequest,
    cancel: bool,
) -> TestResult<Copied> {
    let channel = world.client.channel.clone();
    let mut frames = Tasks::open(channel, Start::Now, &Selection::default()).await?;
    let command_id = world.client.ask_copy_disk(copy).await?;
    let mut end = std::pin::pin!(world.settled(&command_id));
    let mut moved = None;
    // Samples of others are none of its.
    let mut own = BTreeSet::new();
    let command = loop {
        tokio::select! {
            command = &mut end => break command?,
            frame = frames.next() => {
                let samples = match frame.context("the stream of tasks ended")?? {
                    Frame::Progress(samples) => samples,
                    Frame::Changes(changes) => {
                        let tasks = changes.items.into_iter().filter(|task| task.root_command_id == command_id);
                        own.extend(tasks.map(|task| task.task_id));
                        continue;
                    }
                    _ => continue,
                };
                for sample in samples.iter().filter(|sample| own.contains(&sample.task_id)) {
                    stage.progress(line(sample));
                    let is_amid = sample.done_bytes >= MOVED && sample.done_bytes < sample.total_bytes;
                    if cancel && is_amid && moved.is_none() {
                        moved = Some(sample.done_bytes);
                        match world.client.cancel(&command_id).await {
                            // Too late: how it ended tells.
                            Err(status) if Refusal::from(&status).reason == "COMMAND_ENDED" => {}
                            answer => drop(answer?),
                        }
                    }
                }
            }
        }
    };
    stage.progress_done();
    stage.note(format!("the command is {}", words::command_state(command.state)));
    Ok(Copied {
        state: command.state(),
        command_id: command_id.clone(),
        moved,
    })
}

fn line(sample: &Progress) -> String {
    const BAR: usize = 40;
    let full = (sample.percent / 100.0 * BAR as f64) as usize;
    let left = sample
        .time_left
        .and_then(|time| proto::convert::from_duration(&time))
        .map(|time| format!("{:.1} s left", time.as_secs_f64()))
        .unwrap_or_default();
    let rate = match sample.rate_bytes_per_second >> 20 {
        // Not known yet.
        0 => String::new(),
        rate => format!("{rate} MiB/s"),
    };
    format!(
        "  {:3.0} %  {}{}  {:>4} of {} MiB  {rate:>10}  {left}",
        sample.percent,
        "█".repeat(full.min(BAR)),
        "░".repeat(BAR - full.min(BAR)),
        sample.done_bytes >> 20,
        sample.total_bytes >> 20,
    )
}

/// Writes into the volume what is no two blocks the same.
fn fill(world: &World, domain_id: &str, disk_id: &str) -> TestResult<()> {
    let root = world.storage_root();
    let image = root.join(domain_id).join("images").join(disk_id);
    let volume = std::fs::read_dir(&image)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_none())
        .context("the volume's file")?;
    let mut file = std::fs::File::options().write(true).open(volume)?;
    let mut block = vec![0; 1 << 20];
    for place in 0..MIB as u64 {
        for (word, at) in block.chunks_exact_mut(8).zip(0_u64..) {
            let number = (place << 17 | at).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            word.copy_from_slice(&number.to_le_bytes());
        }
        file.write_all_at(&block, place << 20)?;
    }
    file.flush()?;
    Ok(file.sync_all()?)
}
