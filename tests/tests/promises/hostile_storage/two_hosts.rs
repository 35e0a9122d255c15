//! Two hosts on one storage root: each domain is written by one of them; the other is told which, and only reads.

use std::os::unix::fs::symlink;

use proto::host::v1::{CreateStorageDomainRequest, FormatStorageDomainRequest, GetHostInfoRequest};
use tests::client::Host;
use tests::fail_point::FailPoints;
use tests::failure::{Context as _, TestResult, ensure};
use tests::ids::fresh;
use tests::lone_host::LoneHost;
use tests::{storage, words};

use super::*;

/// The number of each host's tasks that want the same domain: a host that does not get it waits a second for each.
const FOR_ONE_DOMAIN: usize = 8;

/// The number of one host's tasks that are under way together.
const UNDER_WAY: usize = 24;

/// The number of domains that both hosts make at once.
const DOMAINS: usize = 10;

/// The number of starts of one host while the other works.
const STARTS: usize = 5;

struct Pair {
    first: LoneHost,
    second: LoneHost,
    _folder: tempfile::TempDir,
}

impl Pair {
    async fn start() -> TestResult<Self> {
        let folder = tempfile::tempdir()?;
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        std::fs::create_dir_all(one.join("storage"))?;
        std::fs::create_dir_all(&two)?;
        symlink(one.join("storage"), two.join("storage"))?;
        Ok(Self {
            first: LoneHost::start_below(&one).await?,
            second: LoneHost::start_below(&two).await?,
            _folder: folder,
        })
    }
}

async fn id_of(host: &Host) -> TestResult<String> {
    let answer = host
        .host
        .clone()
        .get_host_info(GetHostInfoRequest::default())
        .await?;
    Ok(answer.into_inner().host.context("a host without a body")?.host_id)
}

/// Checks that every change by `other` is refused, with the name of `holder`, and that `other` can read everything.
async fn reads_and_is_refused(other: &Host, holder: &str, volume: &VolumeAddress) -> TestResult<()> {
    let domain_id = &volume.domain_id;
    for request in [creation(domain_id, 1).0, deletion(volume)] {
        let sentence = fails(other, &request, "DOMAIN_LOCKED").await?;
        ensure(sentence.contains(holder) && sentence.contains(domain_id), || {
            sentence
        })?;
    }
    let format = FormatStorageDomainRequest {
        domain_id: domain_id.clone(),
        force: true,
    };
    let (code, sentence) = refusal(other.storage.clone().format_storage_domain(format).await)?;
    ensure(code == "DOMAIN_LOCKED" && sentence.contains(holder), || {
        format!("{code}: {sentence}")
    })?;
    let said = listed(other, domain_id).await?;
    ensure(said.as_deref() == Some(""), || {
        format!("it is listed with {said:?}")
    })?;
    let found = volumes(other, volume).await?;
    ensure(found.len() == 1 && found[0].status == "OK", || {
        format!("{found:#?}")
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_host_on_a_root_is_told_who_writes_and_takes_over_when_that_one_has_died() -> TestResult<()>
{
    let mut pair = Pair::start().await?;
    let (one, two) = (pair.first.client.clone(), pair.second.client.clone());
    let (id_one, id_two) = (id_of(&one).await?, id_of(&two).await?);
    let domain_id = one.create_domain().await?;
    let volume = create(&one, &domain_id).await?;
    reads_and_is_refused(&two, &id_one, &volume).await?;

    // Each host has domains of its own in the root.
    let own = two.create_domain().await?;
    let owned = create(&two, &own).await?;
    reads_and_is_refused(&one, &id_two, &owned).await?;
    is_served(&one, &domain_id).await?;
    is_served(&two, &own).await?;

    pair.first.service.kill().await?;
    is_served(&two, &domain_id).await?;
    pair.first.service.start(&FailPoints::default()).await?;
    pair.first.serves().await?;
    reads_and_is_refused(&one, &id_two, &volume).await?;

    // And back, after the other host has stopped regularly.
    pair.second.service.stop().await?;
    is_served(&one, &own).await?;
    succeeds(&one, &deletion(&volume)).await?;
    pair.first.service.stop().await
}

/// Both hosts make a domain at once: one makes it, and the other finds it made.
async fn made_by_both(one: &Host, two: &Host) -> TestResult<String> {
    let request = CreateStorageDomainRequest {
        domain_id: fresh(),
        name: "both".to_owned(),
    };
    let (mut storage_one, mut storage_two) = (one.storage.clone(), two.storage.clone());
    let made = tokio::join!(
        storage_one.create_storage_domain(request.clone()),
        storage_two.create_storage_domain(request.clone())
    );
    made.0.context("the first")?;
    made.1.context("the second")?;
    Ok(request.domain_id)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hosts_that_work_side_by_side_on_one_root_do_each_other_no_harm() -> TestResult<()> {
    let mut pair = Pair::start().await?;
    let (one, two) = (pair.first.client.clone(), pair.second.client.clone());
    let mut domain_id = String::new();
    for _ in 0..DOMAINS {
        domain_id = made_by_both(&one, &two).await?;
    }

    // The host that writes first to the domain writes alone.
    let begin = async |host: Host| -> TestResult<Vec<(String, VolumeAddress)>> {
        let mut tasks = Vec::new();
        for n in 0..FOR_ONE_DOMAIN {
            let (start, address) = creation(&domain_id, n % 4);
            host.tasks.clone().start_task(start.clone()).await?;
            tasks.push((start.task_id, address));
        }
        Ok(tasks)
    };
    let (by_one, by_two) = tokio::join!(begin(one.clone()), begin(two.clone()));
    let mut made = Vec::new();
    let mut writers = 0;
    for (host, tasks) in [(&one, by_one?), (&two, by_two?)] {
        let before = made.len();
        for (task_id, address) in tasks {
            let task = host.ended(&task_id).await?;
            let code = task.fault.as_ref().map(|fault| fault.code.as_str());
            match (words::task_state(task.state).as_str(), code) {
                ("FINISHED", None) => made.push(address.image_id),
                ("RECOVERED", Some("DOMAIN_LOCKED")) => {}
                _ => return Err(Failure::new(format!("{task:#?}"))),
            }
        }
        writers += usize::from(made.len() > before);
    }
    ensure(writers == 1 && made.len() == FOR_ONE_DOMAIN, || {
        format!("{writers} hosts wrote {} images", made.len())
    })?;
    let images = storage::images(&pair.first.storage_root(), &domain_id);
    ensure(images == made.into_iter().collect(), || format!("{images:?}"))?;

    // A start removes leftovers of dead services, but nothing that the other host has under way.
    let own = one.create_domain().await?;
    for _ in 0..STARTS {
        pair.second.service.kill().await?;
        let mut tasks = Vec::new();
        for n in 0..UNDER_WAY {
            let (start, _) = creation(&own, n % 4);
            one.tasks.clone().start_task(start.clone()).await?;
            tasks.push(start.task_id);
        }
        pair.second.service.start(&FailPoints::default()).await?;
        pair.second.serves().await?;
        for task_id in tasks {
            let task = one.ended(&task_id).await?;
            ensure(words::task_state(task.state) == "FINISHED", || {
                format!("{task:#?}")
            })?;
        }
    }
    let runs = storage::run_directories(&pair.first.storage_root());
    ensure(runs.is_empty(), || format!("run directories are left: {runs:?}"))?;
    pair.second.service.stop().await?;
    pair.first.service.stop().await
}
