//! A data directory with a missing, an older, a foreign or a damaged part is refused by the real programs, in words
//! that name the file, and is whole again once the file is back.

use std::path::{Path, PathBuf};
use std::process::Command;

use proto::engine::v1::ListVmsRequest;
use tests::fail_point::FailPoints;
use tests::failure::{Context as _, TestResult, ensure};
use tests::service::{Recipe, Service};
use tests::{World, requests, storage};

/// The files that must be there after a kill.
const FILES: [&str; 5] = [
    "manifest",
    "store.redb",
    "store.seal",
    "store.wal-0",
    "store.wal-1",
];

/// The words of a start on `data_dir`, which must refuse.
async fn refused(recipe: &Recipe, data_dir: &Path) -> TestResult<String> {
    let log = data_dir.with_extension("log");
    let recipe = Recipe {
        data_dir: data_dir.to_owned(),
        log: log.clone(),
        ..recipe.clone()
    };
    let mut service = Service::new(recipe);
    ensure(service.start(&FailPoints::default()).await.is_err(), || {
        format!("it starts over {}", data_dir.display())
    })?;
    let said = std::fs::read_to_string(&log)?;
    std::fs::remove_file(log)?;
    Ok(said)
}

/// The output of `check` or `repair`, and whether it ends with 0.
fn offline(service: &Service, arguments: &[&str], data_dir: &Path) -> TestResult<(bool, String)> {
    let done = Command::new(&service.recipe().program)
        .args(arguments)
        .arg("--data-dir")
        .arg(data_dir)
        .output()?;
    let said = [done.stdout, done.stderr].concat();
    Ok((done.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

/// A directory without its tables and log: the tools do not turn it into a new, empty service and call that saved.
fn nothing_can_be_saved(service: &Service, dir: &Path) -> TestResult<()> {
    let trial = trial(dir)?;
    for name in FILES.iter().filter(|name| name.starts_with("store.")) {
        std::fs::File::options()
            .write(true)
            .open(trial.join(name))?
            .set_len(0)?;
    }
    let (is_saved, said) = offline(service, &["repair"], &trial)?;
    ensure(!is_saved && said.contains("nothing can be saved"), || {
        said.clone()
    })?;
    let into = trial.with_extension("saved");
    let asked = ["repair", "--into", &into.to_string_lossy()];
    let (is_saved, said) = offline(service, &asked, &trial)?;
    ensure(
        !is_saved && said.contains("nothing can be saved") && !into.exists(),
        || said.clone(),
    )?;
    Ok(std::fs::remove_dir_all(&trial)?)
}

fn names(what: &str, said: &str, name: &str) -> TestResult<()> {
    ensure(said.contains(name), || format!("{what}: {said}"))
}

async fn vms(world: &World) -> TestResult<usize> {
    let listed = world
        .client
        .vms
        .clone()
        .list_vms(ListVmsRequest::default())
        .await?;
    Ok(listed.into_inner().vms.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_one_of_its_files_is_refused_by_name_and_so_is_one_of_two_times() -> TestResult<()> {
    let (mut world, domain) = World::furnished().await?;
    let mut older = None;
    for count in 0..3 {
        let vm = requests::create_vm(&format!("vm-{count}"), requests::four_disks(&domain));
        let created = world.create_vm(&vm).await?;
        world.succeeds(&created).await?;
        if count == 1 {
            // Both services are started once more, so that the copies here come from an earlier start than the final
            // state.
            for service in [&mut world.host, &mut world.engine] {
                service.kill().await?;
                let copy = service.recipe().data_dir.with_extension("older");
                storage::copy_data_dir(&service.recipe().data_dir, &copy)?;
                service.start(&FailPoints::default()).await?;
            }
            world.host_serves().await?;
            older = Some("older");
        }
    }
    let older = older.context("no copy was made")?;
    for service in [&mut world.host, &mut world.engine] {
        service.kill().await?;
    }
    for service in [&world.host, &world.engine] {
        let (recipe, dir) = (service.recipe(), &service.recipe().data_dir);
        let (is_whole, said) = offline(service, &["check"], dir)?;
        ensure(is_whole && said.contains("intact"), || said.clone())?;
        let (is_whole, said) = offline(service, &["repair"], dir)?;
        ensure(is_whole && said.contains("there is nothing to repair"), || {
            said.clone()
        })?;
        nothing_can_be_saved(service, dir)?;
        for name in FILES {
            let trial = trial(dir)?;
            std::fs::remove_file(trial.join(name))?;
            names("missing", &refused(recipe, &trial).await.context(name)?, name)?;
            let (is_whole, said) = offline(service, &["check"], &trial)?;
            ensure(!is_whole && said.contains("FAULT"), || {
                format!("{name} is missing: {said}")
            })?;

            std::fs::copy(dir.with_extension(older).join(name), trial.join(name))?;
            refused(recipe, &trial)
                .await
                .context(format!("an older {name}"))?;
            let whole = std::fs::read(dir.join(name))?;
            std::fs::write(trial.join(name), &whole[..whole.len() / 2])?;
            names(
                "truncated",
                &refused(recipe, &trial).await.context(format!("half of {name}"))?,
                name,
            )?;
            let (_, said) = offline(service, &["repair"], &trial)?;
            names("repair", &said, "nothing was changed")?;
            std::fs::remove_dir_all(&trial)?;
        }
    }
    let (host, engine) = (world.host.recipe(), world.engine.recipe());
    names(
        "another service's",
        &refused(engine, &host.data_dir).await?,
        "vdsm-svc",
    )?;
    names(
        "another service's",
        &refused(host, &engine.data_dir).await?,
        "engine-svc",
    )?;

    // None of this has changed either service.
    world.restart_host().await?;
    world.engine.start(&FailPoints::default()).await?;
    ensure(vms(&world).await? == 3, || "VMs are missing".to_owned())
}

/// A copy to be damaged.
fn trial(dir: &Path) -> TestResult<PathBuf> {
    let trial = dir.with_extension("trial");
    storage::copy_data_dir(dir, &trial)?;
    Ok(trial)
}
