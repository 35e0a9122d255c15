//! The commands that the kills interrupt, and how each may end.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use proto::engine::v1::{
    Command, CopyDiskRequest, CreateVmRequest, Disk, ExtendDiskRequest, RemoveVmRequest,
    disk_observation::Presence,
};
use tests::audit::Records;
use tests::client::Engine;
use tests::failure::{Context as _, TestResult, ensure};
use tests::gate::{Gate, STRANGER};
use tests::{World, requests, storage, words};

/// The scenarios.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scenario {
    /// A VM with four disks is removed.
    Remove,
    /// A VM with four disks is created.
    Create,
    /// The same, but the third disk cannot be made because another file appears in its image. That happens only once
    /// another disk is finished, so each run passes every step of a creation and of its undo.
    CreateFailing,
    /// The only disk of a VM is copied.
    Copy,
    /// The only disk of a VM, which is preallocated, grows.
    Extend,
}

/// A scenario in a furnished world.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    scenario: Scenario,
    storage_root: PathBuf,
    domain_id: String,
    create: CreateVmRequest,
    remove: RemoveVmRequest,
    copy: CopyDiskRequest,
    extend: ExtendDiskRequest,
}

/// The content of the copy's source besides zeros.
const CONTENT: &[u8] = b"not only zeros";
const CONTENT_AT: u64 = 300_000;

impl Scenario {
    /// The host's operation that the scenario is about.
    pub(super) const fn verb(self) -> &'static str {
        match self {
            Self::Remove => "delete_image",
            Self::Create | Self::CreateFailing => "create_volume",
            Self::Copy => "copy_volume",
            Self::Extend => "extend_volume",
        }
    }

    /// A world for the scenario; if something is to fail, its host makes volumes with the gate's program.
    pub(super) async fn world(self, gate: &Gate) -> TestResult<(World, String)> {
        if self != Self::CreateFailing {
            return World::furnished().await;
        }
        let world = World::start_with(&["--qemu-img", &gate.program()]).await?;
        let domain_id = world.furnish().await?;
        Ok((world, domain_id))
    }

    /// Prepares the scenario in this world with this domain.
    pub(super) async fn prepare(self, world: &World, domain_id: &str, gate: &Gate) -> TestResult<Prepared> {
        let disks = match self {
            // Raw, so that the test can write to it.
            Self::Copy => vec![requests::disk(domain_id, requests::KINDS[0])],
            // So that each step is passed.
            Self::Extend => vec![requests::disk(domain_id, requests::KINDS[3])],
            Self::Create | Self::CreateFailing | Self::Remove => requests::four_disks(domain_id),
        };
        let source_id = disks[0].disk_id.clone();
        let create = requests::create_vm("web", disks);
        let prepared = Prepared {
            scenario: self,
            storage_root: world.storage_root(),
            domain_id: domain_id.to_owned(),
            remove: requests::remove_vm(&create.vm_id),
            copy: requests::copy_disk(&source_id, domain_id, requests::KINDS[1]),
            extend: requests::extend_disk(&source_id, 3 * requests::DISK_BYTES),
            create,
        };
        match self {
            Self::Create => {}
            Self::CreateFailing => {
                let images = prepared.storage_root.join(domain_id).join("images");
                gate.breaks(images, &prepared.create.disks[2].disk_id)?;
            }
            Self::Remove | Self::Extend => {
                let created = world.create_vm(&prepared.create).await?;
                world.succeeds(&created).await?;
                tests::audit::at_rest(&world.view()).await?;
            }
            Self::Copy => {
                let created = world.create_vm(&prepared.create).await?;
                world.succeeds(&created).await?;
                tests::audit::at_rest(&world.view()).await?;
                let source = prepared.data_of(&source_id).context("the source has no data")?;
                let file = std::fs::File::options().write(true).open(source)?;
                file.write_all_at(CONTENT, CONTENT_AT)?;
            }
        }
        Ok(prepared)
    }
}

impl Prepared {
    /// Requests the command as often as necessary; returns its id.
    pub(super) async fn act(&self, engine: &Engine) -> TestResult<String> {
        match self.scenario {
            Scenario::Remove => engine.ask_remove_vm(&self.remove).await,
            Scenario::Create | Scenario::CreateFailing => engine.ask_create_vm(&self.create).await,
            Scenario::Copy => engine.ask_copy_disk(&self.copy).await,
            Scenario::Extend => engine.ask_extend_disk(&self.extend).await,
        }
    }

    /// Checks that the command ended as it does without a kill.
    pub(super) fn judge(&self, command: &Command, records: &Records) -> TestResult<()> {
        let state = words::command_state(command.state);
        match (self.scenario, state.as_str()) {
            (Scenario::Remove, "SUCCEEDED") => self.nothing_is_there(records),
            (Scenario::Create, "SUCCEEDED") => self.all_is_there(records),
            (Scenario::Copy, "SUCCEEDED") => self.the_copy_is_whole(records),
            (Scenario::Extend, "SUCCEEDED") => self.it_has_grown(records),
            (Scenario::CreateFailing, "FAILED") => {
                ensure(command.fault.is_some() && command.left_behind.is_empty(), || {
                    format!("a failure without a reason, or with a rest: {command:#?}")
                })?;
                self.nothing_is_there(records)?;
                let still_there =
                    std::fs::read(self.in_the_way().join(STRANGER.0)).is_ok_and(|bytes| bytes == STRANGER.1);
                ensure(still_there, || "what stood in the way was touched".to_owned())
            }
            (scenario, state) => ensure(false, || format!("{scenario:?} ended {state}: {command:#?}")),
        }
    }

    /// The file in the way, in the third disk's image.
    pub(super) fn in_the_way(&self) -> PathBuf {
        self.images().join(&self.create.disks[2].disk_id)
    }

    /// Whether a file that is not ours is there.
    pub(super) fn has_a_stranger(&self) -> bool {
        self.scenario == Scenario::CreateFailing
    }

    fn images(&self) -> PathBuf {
        Path::new(&self.storage_root).join(&self.domain_id).join("images")
    }

    fn nothing_is_there(&self, records: &Records) -> TestResult<()> {
        let stranger = &self.create.disks[2].disk_id;
        let mut images = storage::images(&self.storage_root, &self.domain_id);
        images.retain(|image| !(self.has_a_stranger() && image == stranger));
        ensure(
            records.vms.is_empty() && records.disks.is_empty() && images.is_empty(),
            || format!("left: {:?} {:?} {images:?}", records.vms, records.disks),
        )
    }

    /// Checks that the copy and its source are there, each a volume with its metadata, and have the same content.
    fn the_copy_is_whole(&self, records: &Records) -> TestResult<()> {
        let whole = i32::from(Presence::Whole);
        let ids = [&self.copy.source_disk_id, &self.copy.disk_id];
        for disk_id in ids {
            let disk = records.disks.iter().find(|disk| &disk.disk_id == disk_id);
            let is_whole = disk
                .and_then(|disk| disk.observation.as_ref())
                .is_some_and(|seen| seen.presence == whole);
            let files = storage::image_files(&self.storage_root, &self.domain_id, disk_id).len();
            let bytes = self.data_of(disk_id).map(std::fs::read).transpose()?;
            let is_same = bytes.is_some_and(|bytes| {
                let at = CONTENT_AT as usize;
                let (before, rest) = bytes.split_at(at.min(bytes.len()));
                let after = rest.strip_prefix(CONTENT);
                let zeros = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
                bytes.len() == requests::DISK_BYTES as usize && zeros(before) && after.is_some_and(zeros)
            });
            ensure(is_whole && files == 2 && is_same, || {
                format!("{disk:?}: {files} files, and holds what it should: {is_same}")
            })?;
        }
        let disks = records.disks.len();
        ensure(
            disks == 2 && storage::images(&self.storage_root, &self.domain_id).len() == 2,
            || format!("there is more than was asked for: {:?}", records.disks),
        )
    }

    /// Checks the records; whether storage agrees with them is checked for all disks elsewhere.
    fn it_has_grown(&self, records: &Records) -> TestResult<()> {
        let wanted = self.extend.capacity_bytes;
        let files = storage::image_files(&self.storage_root, &self.domain_id, &self.extend.disk_id).len();
        let grown = |disk: &Disk| disk.disk_id == self.extend.disk_id && disk.capacity_bytes == wanted;
        ensure(records.disks.iter().any(grown) && files == 2, || {
            format!("{:?} {files} files", records.disks)
        })
    }

    /// The file with a disk's data; none if there is no such image, or no data in it.
    fn data_of(&self, disk_id: &str) -> Option<PathBuf> {
        let files = storage::image_files(&self.storage_root, &self.domain_id, disk_id);
        let data = files.into_iter().find(|name| !name.contains('.'))?;
        Some(self.images().join(disk_id).join(data))
    }

    fn all_is_there(&self, records: &Records) -> TestResult<()> {
        let whole = i32::from(Presence::Whole);
        let disks_are_whole = records.disks.len() == 4
            && records.disks.iter().all(|disk| {
                let seen = disk.observation.as_ref();
                seen.is_some_and(|seen| seen.presence == whole)
            });
        let files: usize = self
            .create
            .disks
            .iter()
            .map(|disk| storage::image_files(&self.storage_root, &self.domain_id, &disk.disk_id).len())
            .sum();
        // One volume and its metadata for each disk.
        ensure(records.vms.len() == 1 && disks_are_whole && files == 8, || {
            format!("{:?} {:?} {files} files", records.vms, records.disks)
        })
    }
}
