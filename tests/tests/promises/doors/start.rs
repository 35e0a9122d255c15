//! What a start refuses, and what it says.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use tests::World;
use tests::fail_point::FailPoints;
use tests::failure::{Context as _, TestResult, ensure};
use tests::ids::fresh;
use tests::programs::program;
use tests::service::{Recipe, Service};
use tests::tls::{Keys, Pki};
use tests::world::{engine_recipe, host_recipe};

use super::locks;

/// The recipes of both services below a directory, with this address to listen on.
fn recipes(root: &Path, listen: &str) -> TestResult<[Recipe; 2]> {
    std::fs::create_dir_all(root)?;
    let listen: SocketAddr = listen.parse().map_err(tests::Failure::new)?;
    Ok([host_recipe(root, listen, &fresh())?, engine_recipe(root, listen)?])
}

/// Starts a service that must refuse to start; returns what it says.
async fn refused(recipe: Recipe) -> TestResult<String> {
    let mut service = Service::new(recipe);
    service.spawn(&FailPoints::default())?;
    let status = service.ended().await?.context("it did not run")?;
    let said = service.log_tail(usize::MAX);
    ensure(!status.success(), || format!("it started: {said}"))?;
    ensure(!service.recipe().data_dir.join("manifest").exists(), || {
        format!("it made a store: {said}")
    })?;
    Ok(said)
}

#[tokio::test]
async fn plain_text_on_an_address_that_others_reach_is_refused_or_asked_for() -> TestResult<()> {
    let folder = tempfile::tempdir()?;
    for listen in ["0.0.0.0:0", "[::]:0"] {
        for recipe in recipes(&folder.path().join(fresh()), listen)? {
            let said = refused(recipe).await?;
            for part in [listen, "--tls-cert", "--insecure", "in plain text"] {
                ensure(said.contains(part), || format!("{part}: {said}"))?;
            }
        }
    }
    for mut recipe in recipes(&folder.path().join("asked"), "0.0.0.0:0")? {
        recipe.arguments.push("--insecure".into());
        let mut service = Service::new(recipe);
        service.start(&FailPoints::default()).await?;
        service
            .says("--insecure: without TLS, plain text is spoken")
            .await?;
        service.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named_at_the_start() -> TestResult<()> {
    let folder = tempfile::tempdir()?;
    let pki = Pki::make(folder.path().join("pki"))?;
    let host = pki.host(&fresh(), "localhost")?;
    let user = pki.user("ann", "admin")?;
    let gone = Keys {
        key: folder.path().join("gone"),
        ..host.clone()
    };
    let others = Keys {
        key: user.key.clone(),
        ..host.clone()
    };
    let no_ca = Keys {
        ca: host.cert.clone(),
        ..host.clone()
    };
    for (keys, words) in [
        (&gone, "the file of --tls-key"),
        (&others, "cannot be used together"),
        (&no_ca, "which is no CA"),
        (&user, "which is not for a server"),
    ] {
        for mut recipe in recipes(&folder.path().join(fresh()), "127.0.0.1:0")? {
            recipe.arguments.extend(keys.as_service().iter().map(Into::into));
            let said = refused(recipe).await?;
            ensure(said.contains(words), || format!("{words}: {said}"))?;
        }
    }
    for mut recipe in recipes(&folder.path().join("some"), "127.0.0.1:0")? {
        recipe
            .arguments
            .extend(host.as_service().iter().take(4).map(Into::into));
        let said = refused(recipe).await?;
        ensure(said.contains("without --tls-client-ca"), || said.clone())?;
    }
    let [_, mut engine] = recipes(&folder.path().join("host's"), "127.0.0.1:0")?;
    engine.arguments.extend(host.to_hosts().iter().map(Into::into));
    let said = refused(engine).await?;
    ensure(said.contains("names no engine"), || said.clone())
}

#[tokio::test]
async fn an_engine_is_the_one_that_its_first_certificate_names() -> TestResult<()> {
    let folder = tempfile::tempdir()?;
    let pki = Pki::make(folder.path().join("pki"))?;
    let id = fresh();
    let own = pki.issue(
        "issue-engine",
        "own",
        &["--engine-id", &id, "--name", "localhost"],
    )?;
    let other = pki.issue("issue-engine", "other", &["--name", "localhost"])?;
    let [_, recipe] = recipes(folder.path(), "127.0.0.1:0")?;
    let with = |keys: &Keys| {
        let mut recipe = recipe.clone();
        recipe.arguments.extend(keys.to_hosts().iter().map(Into::into));
        Service::new(recipe)
    };
    let mut engine = with(&own);
    engine.start(&FailPoints::default()).await?;
    engine.says(&format!("engine_id={id}")).await?;
    engine.stop().await?;
    let mut engine = with(&other);
    engine.spawn(&FailPoints::default())?;
    let status = engine.ended().await?.context("it did not run")?;
    ensure(!status.success(), || "it started".to_owned())?;
    engine
        .says(&format!("this data directory belongs to engine {id}"))
        .await?;
    let mut engine = with(&own);
    engine.start(&FailPoints::default()).await.map(drop)
}

#[tokio::test]
async fn a_health_check_needs_no_certificate() -> TestResult<()> {
    let mut world = World::locked().await?;
    let ask = |service: &Service| {
        let recipe = service.recipe();
        let asked = Command::new(&recipe.program)
            .args(&recipe.arguments)
            .arg("--data-dir")
            .arg(&recipe.data_dir)
            .arg("--health")
            .stdin(Stdio::null())
            .output()?;
        Ok::<_, tests::Failure>((
            asked.status.success(),
            String::from_utf8_lossy(&asked.stderr).into_owned(),
        ))
    };
    for service in [&world.host, &world.engine] {
        let (is_well, said) = ask(service)?;
        ensure(is_well, || said.clone())?;
    }
    world.host.stop().await?;
    world.engine.kill().await?;
    for (service, why) in [
        (&world.host, "no service runs over this data directory"),
        (&world.engine, "cannot be reached"),
    ] {
        let (is_well, said) = ask(service)?;
        ensure(!is_well && said.contains(why), || said.clone())?;
    }
    Ok(())
}

#[tokio::test]
async fn a_key_that_others_may_read_is_told_of() -> TestResult<()> {
    let world = World::locked().await?;
    let key = locks(&world)?.host.key.clone();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644))?;
    let mut recipe = world.host.recipe().clone();
    recipe.data_dir = world.folder().join("another");
    recipe.listen.set_port(0);
    recipe.log = world.folder().join("another.log");
    recipe
        .arguments
        .retain(|argument| argument != "--storage-root" && *argument != world.storage_root());
    recipe.arguments.push("--storage-root".into());
    recipe
        .arguments
        .push(world.folder().join("another-storage").into());
    let mut service = Service::new(recipe);
    service.start(&FailPoints::default()).await?;
    service.says("other users can read the key of --tls-key").await
}

#[test]
fn pki_says_what_it_is_asked_for_and_refuses_what_is_wrong() -> TestResult<()> {
    let engine = program("engine-svc")?;
    let run = |line: &str| Command::new(&engine).args(line.split(' ')).output();
    let help = run("pki --help")?;
    ensure(help.status.success(), || format!("{help:?}"))?;
    let folder = tempfile::tempdir()?;
    let at = folder.path().display();
    for (line, words) in [
        ("pki".to_owned(), "Usage"),
        (format!("pki issue-client --dir {at} --user ann"), "ca.crt"),
        (format!("pki issue-client --dir {at} --user a/b"), "letters"),
        (
            format!("pki issue-client --dir {at} --user ann --role root"),
            "viewer, operator or admin",
        ),
        (format!("pki issue-host --dir {at} --host-id 7"), "--host-id"),
        (
            format!("pki issue-host --dir {at} --host-id {} --days 0", fresh()),
            "--days",
        ),
    ] {
        let done = run(&line)?;
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        ensure(!done.status.success() && said.contains(words), || {
            format!("{line}: {said}")
        })?;
    }
    ensure(std::fs::read_dir(folder.path())?.next().is_none(), || {
        "something was made".to_owned()
    })
}
