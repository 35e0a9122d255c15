//! `CopyDisk` of a full disk of 4 GiB, from the request to the end of its job, against the very `qemu-img convert`
//! that it runs, and the syncs that storage needs; and what of the processors the services themselves use for it.
//!
//! *Ours*: raw to raw within one domain, not verified. What the services use is read from the clocks of their
//! processes, and of those that watch over `qemu-img`: the host's own program, run again. *Bare*: a sparse file of
//! the size, `qemu-img convert` with the same flags, and an fsync of the file and of its folder. Each begins on a disk that
//! is at rest: what the other one left was deleted, and a file system that discards such room does it afterwards.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proto::engine::v1::{CopyDiskRequest, CreateDiskRequest, RemoveDiskRequest};
use proto::task::v1::{Allocation, VolumeFormat};
use tests::ids::fresh;
use tests::service::Service;
use tests::{Context as _, Failure, TestResult, World, requests, storage};
use tokio::process::Command;

use crate::cpu::{self, Children};
use crate::rounds::Bench;
use crate::row::{Row, Target, Unit};

/// How much is copied: none of it zero.
const BYTES: i64 = 4 << 30;

/// Wall time, as a ratio.
const WALL: Target = Target::RatioAtMost(1.03);

/// What the services may use of the processors: a hundredth of what `qemu-img` uses, and this.
const ALLOWANCE: Duration = Duration::from_millis(15);
const SHARE: f64 = 0.01;

const NOTE: &str = "ours is what both services and the process that watches over qemu-img use of the processors; beside \
                    it 1% of qemu-img's own use + 15 ms";

/// How often the process is looked at that watches over `qemu-img`.
const GLANCE: Duration = Duration::from_millis(50);

/// The flags of the host, for a file system with direct I/O; see vdsm-svc/storage/src/qemu_img/argv.rs.
const CONVERT: [&str; 11] = [
    "convert",
    "-n",
    "--target-is-zero",
    "-f",
    "raw",
    "-T",
    "none",
    "-O",
    "raw",
    "-t",
    "none",
];

/// How long, and how much of the processors.
#[derive(Debug, Clone, Copy)]
struct Cost {
    wall: Duration,
    cpu: Duration,
}

/// A line for the time and one for the processors.
///
/// # Errors
/// Where a service or a call fails.
pub(crate) async fn measure(bench: &mut Bench) -> TestResult<Vec<Row>> {
    let world = World::start_below(&bench.fresh_dir("copy-disk-ours")?).await?;
    let domain = world.furnish().await?;
    let source = source(&world, &domain).await?;
    let rounds = bench.alternate(async |bench, _| {
        bench.settle().await?;
        let ours = ours(&world, &domain, &source.disk_id).await?;
        bench.settle().await?;
        let bare = bare(&source.file, &bench.fresh_dir("copy-disk-bare")?).await?;
        Ok((ours, bare))
    });
    let rounds = rounds.await?;
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let walls = |(ours, bare): &(Cost, Cost)| (millis(ours.wall), Some(millis(bare.wall)));
    let processors = |(ours, bare): &(Cost, Cost)| {
        let allowed = bare.cpu.mul_f64(SHARE) + ALLOWANCE;
        (millis(ours.cpu), Some(millis(allowed)))
    };
    let most = Some(Target::RatioAtMost(1.0));
    Ok(vec![
        Row::new("CopyDisk, 4 GiB", Unit::Milliseconds, Some(WALL), &rounds, walls),
        Row::new(
            "CopyDisk, own use of processors",
            Unit::Milliseconds,
            most,
            &rounds,
            processors,
        )
        .noting(NOTE),
    ])
}

/// What is copied.
struct Source {
    disk_id: String,
    file: PathBuf,
}

/// A disk that is full.
async fn source(world: &World, domain: &str) -> TestResult<Source> {
    let request = CreateDiskRequest {
        capacity_bytes: BYTES,
        ..requests::create_disk(domain, (VolumeFormat::Raw, Allocation::Sparse))
    };
    let disk_id = request.disk_id.clone();
    let answer = world
        .client
        .disks
        .clone()
        .create_disk(request)
        .await
        .context("CreateDisk")?;
    let command = answer
        .into_inner()
        .command
        .context("CreateDisk answered without a command")?;
    world.succeeds(&command.command_id).await?;
    let root = world.storage_root();
    let files = storage::image_files(&root, domain, &disk_id);
    let name = files
        .iter()
        .find(|name| !name.contains('.'))
        .context("a disk without a volume")?;
    let file = root.join(domain).join("images").join(&disk_id).join(name);
    fill(&file)?;
    Ok(Source { disk_id, file })
}

/// Writes it full of what is not zero, and syncs it.
fn fill(path: &Path) -> TestResult<()> {
    const PIECE: usize = 4 << 20;
    let mut file = OpenOptions::new()
        .write(true)
        .open(path)
        .context(path.display())?;
    let mut piece: Vec<u8> = (0..PIECE).map(|at| (at % 251) as u8 | 1).collect();
    for number in 0..BYTES as usize / PIECE {
        piece[..8].copy_from_slice(&number.to_le_bytes());
        file.write_all(&piece)?;
    }
    file.sync_all()?;
    Ok(())
}

async fn ours(world: &World, domain: &str, source: &str) -> TestResult<Cost> {
    let request = CopyDiskRequest {
        verify: false,
        ..requests::copy_disk(source, domain, (VolumeFormat::Raw, Allocation::Sparse))
    };
    let copy = request.disk_id.clone();
    let services = [pid(&world.host)?, pid(&world.engine)?];
    let used = || {
        services
            .iter()
            .map(|pid| cpu::of(*pid))
            .sum::<TestResult<Duration>>()
    };
    let before = used()?;
    let start = Instant::now();
    let answer = world
        .client
        .disks
        .clone()
        .copy_disk(request)
        .await
        .context("CopyDisk")?;
    let command = answer
        .into_inner()
        .command
        .context("CopyDisk answered without a command")?;
    let mut watching = Children::default();
    let ended = world.succeeds(&command.command_id);
    tokio::pin!(ended);
    loop {
        tokio::select! {
            outcome = &mut ended => break outcome?,
            () = tokio::time::sleep(GLANCE) => watching.look(services[0], "vdsm-svc")?,
        }
    }
    let wall = start.elapsed();
    let cpu = used()?.saturating_sub(before) + watching.used();
    let request = RemoveDiskRequest {
        disk_id: copy,
        request_id: fresh(),
        validate_only: false,
        lock_wait: None,
    };
    let answer = world
        .client
        .disks
        .clone()
        .remove_disk(request)
        .await
        .context("RemoveDisk")?;
    let command = answer
        .into_inner()
        .command
        .context("RemoveDisk answered without a command")?;
    world.succeeds(&command.command_id).await?;
    Ok(Cost { wall, cpu })
}

fn pid(service: &Service) -> TestResult<i32> {
    Ok(service
        .pid()
        .context("a service that does not run")?
        .as_raw_nonzero()
        .get())
}

async fn bare(source: &Path, dir: &Path) -> TestResult<Cost> {
    let target = dir.join("target");
    let before = cpu::of_ended_children()?;
    let start = Instant::now();
    let file = File::create_new(&target)?;
    file.set_len(BYTES.unsigned_abs())?;
    let convert = Command::new("qemu-img")
        .args(CONVERT)
        .arg(source)
        .arg(&target)
        .status();
    let status = convert.await.context("qemu-img")?;
    if !status.success() {
        return Err(Failure::new(format!("qemu-img ended with {status}")));
    }
    file.sync_all()?;
    File::open(dir)?.sync_all()?;
    let wall = start.elapsed();
    let cpu = cpu::of_ended_children()?.saturating_sub(before);
    std::fs::remove_dir_all(dir)?;
    Ok(Cost { wall, cpu })
}
