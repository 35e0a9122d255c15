//! One part of a domain or of a volume is cut short, missing, or something else.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use proto::host::v1::{
    FormatStorageDomainRequest, GetStorageDomainRequest, GetVolumeRequest, StartTaskRequest,
};
use proto::task::v1::VolumeAddress;
use proto::task::v1::operation::Verb;
use tests::fail_point::FailPoints;
use tests::failure::{Context as _, Failure, TestResult, ensure};
use tests::lone_host::LoneHost;
use tests::requests;

use super::*;

/// What is done to a file; its former content is kept in `saved`.
#[derive(Debug, Clone, Copy)]
enum Damage {
    /// This many per cent of the bytes are left.
    Cut(usize),
    /// One byte of a line is changed.
    Changed,
    Gone,
    Link,
    Directory,
    Fifo,
    /// The device of the machine's console.
    Device,
}

use Damage::*;

/// Damage to the domain's metadata, and the fault of everything in the domain.
const OF_THE_DOMAIN: [(Damage, &str); 9] = [
    (Cut(0), "DOMAIN_METADATA_INVALID"),
    (Cut(40), "DOMAIN_METADATA_INVALID"),
    (Cut(99), "DOMAIN_CHECKSUM_MISMATCH"),
    (Changed, "DOMAIN_CHECKSUM_MISMATCH"),
    (Gone, "DOMAIN_METADATA_INVALID"),
    (Link, "NOT_A_REGULAR_FILE"),
    (Directory, "NOT_A_REGULAR_FILE"),
    (Fifo, "NOT_A_REGULAR_FILE"),
    (Device, "NOT_A_REGULAR_FILE"),
];

/// Damage to a volume's `.meta`, and the fault of the volume.
const OF_THE_META: [(Damage, &str); 8] = [
    (Cut(0), "VOLUME_METADATA_INVALID"),
    (Cut(50), "VOLUME_METADATA_INVALID"),
    (Cut(97), "VOLUME_METADATA_INVALID"),
    (Gone, "VOLUME_METADATA_INVALID"),
    (Link, "NOT_A_REGULAR_FILE"),
    (Directory, "NOT_A_REGULAR_FILE"),
    (Fifo, "NOT_A_REGULAR_FILE"),
    (Device, "NOT_A_REGULAR_FILE"),
];

/// Damage to a volume's data, and the fault of the volume.
const OF_THE_DATA: [(Damage, &str); 5] = [
    (Gone, "VOLUME_METADATA_INVALID"),
    (Link, "NOT_A_REGULAR_FILE"),
    (Directory, "NOT_A_REGULAR_FILE"),
    (Fifo, "NOT_A_REGULAR_FILE"),
    (Device, "NOT_A_REGULAR_FILE"),
];

impl Damage {
    fn does(self, path: &Path, saved: &Path) -> TestResult<()> {
        fs::rename(path, saved)?;
        match self {
            Cut(percent) => {
                let whole = fs::read(saved)?;
                fs::write(path, &whole[..whole.len() * percent / 100])?;
            }
            Changed => {
                let text = fs::read_to_string(saved)?;
                fs::write(path, text.replacen("DESCRIPTION=a", "DESCRIPTION=b", 1))?;
            }
            Gone => {}
            Link => symlink("/etc/hostname", path)?,
            Directory => fs::create_dir(path)?,
            Fifo => run(Command::new("mkfifo").arg(path))?,
            Device => run(Command::new("mknod").arg(path).args(["c", "5", "1"]))?,
        }
        Ok(())
    }

    /// Restores the file, and checks that nobody has touched the damaged one.
    fn is_undone(self, path: &Path, saved: &Path) -> TestResult<()> {
        match self {
            Gone => ensure(!path.exists(), || format!("{} was made", path.display()))?,
            Directory => fs::remove_dir(path)?,
            _ => fs::remove_file(path)?,
        }
        fs::rename(saved, path)?;
        Ok(())
    }

    /// Only root can make devices.
    fn can_be_done(self) -> bool {
        let can = !matches!(self, Device) || rustix::process::geteuid().is_root();
        if !can {
            crate::skipped("a device in a domain", "it takes root");
        }
        can
    }
}

fn run(command: &mut Command) -> TestResult<()> {
    let status = command.status()?;
    ensure(status.success(), || format!("{command:?} ended with {status}"))
}

struct Bench {
    host: LoneHost,
    /// The damaged domain, and a volume in it.
    volume: VolumeAddress,
    other_domain_id: String,
    folder: tempfile::TempDir,
}

impl Bench {
    async fn start() -> TestResult<Self> {
        let folder = tempfile::tempdir()?;
        let host = LoneHost::start_below(folder.path()).await?;
        let domain_id = host.client.create_domain().await?;
        let volume = create(&host.client, &domain_id).await?;
        let other_domain_id = host.client.create_domain().await?;
        Ok(Self {
            host,
            volume,
            other_domain_id,
            folder,
        })
    }

    fn domain(&self) -> PathBuf {
        self.host.storage_root().join(&self.volume.domain_id)
    }

    fn image(&self) -> PathBuf {
        self.domain().join("images").join(&self.volume.image_id)
    }

    fn copy_elsewhere(&self) -> StartTaskRequest {
        let mut copy = requests::copy_volume(&self.volume, requests::KINDS[0]);
        if let Some(target) = copy.target.as_mut() {
            target.domain_id.clone_from(&self.other_domain_id);
        }
        requests::start_task(Verb::CopyVolume(copy))
    }

    async fn try_each(
        &mut self,
        path: &Path,
        damages: &[(Damage, &str)],
        check: impl AsyncFn(&Self, &str) -> TestResult<()>,
    ) -> TestResult<()> {
        let process = self.host.service.pid();
        let saved = self.folder.path().join("saved");
        for (damage, code) in damages {
            if !damage.can_be_done() {
                continue;
            }
            let how = format!("{damage:?} of {}", path.display());
            damage.does(path, &saved).context(&how)?;
            check(self, code).await.context(&how)?;
            is_served(&self.host.client, &self.other_domain_id)
                .await
                .context(&how)?;
            damage.is_undone(path, &saved).context(&how)?;
            is_served(&self.host.client, &self.volume.domain_id)
                .await
                .context(format!("{how}, mended"))?;
        }
        ensure(self.host.service.pid() == process, || {
            "it was started again".to_owned()
        })
    }

    async fn says_it_of_the_domain(&self, code: &str) -> TestResult<()> {
        let (client, id) = (&self.host.client, &self.volume.domain_id);
        let said = listed(client, id).await?;
        ensure(said.as_deref() == Some(code), || {
            format!("it is listed with {said:?}")
        })?;
        let ask = GetStorageDomainRequest {
            domain_id: id.clone(),
        };
        let (got, sentence) = refusal(client.storage.clone().get_storage_domain(ask).await)?;
        ensure(
            got == code && sentence.contains("metadata") && sentence.contains(id),
            || format!("GetStorageDomain: {got}: {sentence}"),
        )?;
        let format = FormatStorageDomainRequest {
            domain_id: id.clone(),
            force: true,
        };
        let (got, sentence) = refusal(client.storage.clone().format_storage_domain(format).await)?;
        ensure(got == code, || format!("FormatStorageDomain: {got}: {sentence}"))?;
        for request in [creation(id, 1).0, deletion(&self.volume), self.copy_elsewhere()] {
            fails(client, &request, code).await?;
        }
        Ok(())
    }

    async fn says_it_of_the_volume(&self, code: &str) -> TestResult<()> {
        let client = &self.host.client;
        let ask = GetVolumeRequest {
            domain_id: self.volume.domain_id.clone(),
            image_id: self.volume.image_id.clone(),
            volume_id: self.volume.volume_id.clone(),
        };
        let answer = client
            .storage
            .clone()
            .get_volume(ask)
            .await
            .context("GetVolume")?;
        let got = answer.into_inner().volume.context("a volume without a body")?;
        for volume in volumes(client, &self.volume).await?.iter().chain([&got]) {
            let fault = volume.fault.clone().unwrap_or_default();
            ensure(
                volume.status == "INVALID"
                    && fault.code == code
                    && fault.message.contains(&self.volume.volume_id),
                || format!("{volume:#?}"),
            )?;
        }
        let said = listed(client, &self.volume.domain_id).await?;
        ensure(said.as_deref() == Some(""), || format!("the domain has {said:?}"))?;
        fails(client, &self.copy_elsewhere(), code).await.map(drop)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_whose_metadata_is_damaged_is_named_and_costs_no_other() -> TestResult<()> {
    let mut bench = Bench::start().await?;
    let metadata = bench.domain().join("dom_md/metadata");
    bench
        .try_each(&metadata, &OF_THE_DOMAIN, Bench::says_it_of_the_domain)
        .await?;

    // A start finds the damage, and serves the other domains.
    let saved = bench.folder.path().join("saved");
    Fifo.does(&metadata, &saved)?;
    bench.host.service.stop().await?;
    bench.host.service.start(&FailPoints::default()).await?;
    bench.host.serves().await?;
    bench.says_it_of_the_domain("NOT_A_REGULAR_FILE").await?;
    is_served(&bench.host.client, &bench.other_domain_id).await?;
    Fifo.is_undone(&metadata, &saved)?;
    is_served(&bench.host.client, &bench.volume.domain_id).await?;
    bench.host.service.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_is_damaged_is_named_and_costs_no_other() -> TestResult<()> {
    let mut bench = Bench::start().await?;
    let data = bench.image().join(&bench.volume.volume_id);
    let meta = bench.image().join(format!("{}.meta", bench.volume.volume_id));
    for (path, damages) in [(&meta, &OF_THE_META[..]), (&data, &OF_THE_DATA[..])] {
        bench
            .try_each(path, damages, Bench::says_it_of_the_volume)
            .await?;
        // A file that is not ours is not deleted; a file that is only cut short or missing is.
        for (damage, code) in damages.iter().filter(|(damage, _)| damage.can_be_done()) {
            let saved = bench.folder.path().join("saved");
            damage.does(path, &saved)?;
            let request = deletion(&bench.volume);
            match damage {
                Cut(_) | Changed | Gone => {
                    succeeds(&bench.host.client, &request).await?;
                    ensure(!bench.image().exists(), || "the image is still there".to_owned())?;
                    return_to_life(&mut bench, path, &saved).await?;
                }
                _ => {
                    fails(&bench.host.client, &request, code).await?;
                    damage.is_undone(path, &saved)?;
                }
            }
        }
    }
    bench.host.service.stop().await
}

/// Restores the image from its saved parts, and creates the rest anew.
async fn return_to_life(bench: &mut Bench, path: &Path, saved: &Path) -> TestResult<()> {
    fs::remove_file(saved)?;
    let (mut request, _) = creation(&bench.volume.domain_id, 2);
    let operation = request.operation.as_mut().and_then(|o| o.verb.as_mut());
    let Some(Verb::CreateVolume(volume)) = operation else {
        return Err(Failure::new("a creation without its verb"));
    };
    volume.image_id.clone_from(&bench.volume.image_id);
    volume.volume_id.clone_from(&bench.volume.volume_id);
    succeeds(&bench.host.client, &request).await?;
    ensure(path.exists(), || format!("{} is not there again", path.display()))
}
