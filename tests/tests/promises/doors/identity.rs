//! What each certificate permits.

use proto::engine::v1::host::Connection;
use proto::engine::v1::{ListHostsRequest, Role, WhoAmIRequest};
use proto::host::v1::{GetHostInfoRequest, ReleaseHostRequest};
use proto::task::v1::operation::Verb;
use rcgen::ExtendedKeyUsagePurpose;
use tests::client::{Engine, Host, Refusal, with_metadata};
use tests::fail_point::FailPoints;
use tests::failure::{Context as _, TestResult, ensure};
use tests::ids::fresh;
use tests::service::Service;
use tests::tls::{Keys, Knock, Odd, Pki};
use tests::world::{engine_recipe, host_recipe};
use tests::{World, requests};
use tonic::{Code, Status};

use super::{host_shows, locks};

fn not_permitted<T>(what: &str, answer: Result<T, Status>, words: &str) -> TestResult<()> {
    let Err(status) = answer else {
        return Err(tests::Failure::new(format!("{what}: it was done")));
    };
    let refusal = Refusal::from(&status);
    ensure(
        refusal.code == Code::PermissionDenied
            && refusal.reason == "NOT_PERMITTED"
            && status.message().contains(words),
        || format!("{what}: {refusal:?} {}", status.message()),
    )
}

#[tokio::test]
async fn nobody_but_its_engine_changes_anything_on_a_host() -> TestResult<()> {
    let world = World::locked().await?;
    let domain = world.furnish().await?;
    let pki = &locks(&world)?.pki;
    let address = world.host.address();
    let info = |host: &Host| {
        let mut host = host.host.clone();
        async move {
            let info = host.get_host_info(GetHostInfoRequest::default()).await?;
            info.into_inner().host.context("no host")
        }
    };
    let before = info(&world.host_client).await?;
    let task = || {
        requests::start_task(Verb::CreateVolume(requests::create_volume(
            &domain,
            requests::KINDS[2],
        )))
    };
    // A user, with any role, can look, and change nothing.
    let mut admin = world.host_client.clone();
    let done = admin.tasks.start_task(task()).await;
    not_permitted("a user", done, "user \"ann\" with the role admin")?;
    let done = admin.host.release_host(ReleaseHostRequest {}).await;
    not_permitted("a user", done, "only the engine")?;
    // Another engine of the same CA: as itself, it does not own the host; and it may not use the owner's name.
    let other = pki.issue("issue-engine", "other-engine", &["--name", "localhost"])?;
    let mut other = Host::over(Knock::with(&other).channel(address)?);
    let other_id = fresh();
    let owner = [
        ("x-engine-id", before.engine_id.as_str()),
        ("x-engine-epoch", "99"),
        ("x-engine-incarnation", before.engine_incarnation.as_str()),
    ];
    let done = other.tasks.start_task(with_metadata(task(), &owner)).await;
    not_permitted("another engine, as the owner", done, &before.engine_id)?;
    let done = other
        .host
        .release_host(with_metadata(ReleaseHostRequest {}, &owner))
        .await;
    not_permitted("another engine, as the owner", done, &before.engine_id)?;
    let odd = Odd {
        uris: vec![format!("engine:{other_id}")],
        ..Odd::admin()
    };
    let mut odd = Host::over(Knock::with(&odd.sign(pki, "named")?).channel(address)?);
    let own = [("x-engine-id", other_id.as_str()), ("x-engine-epoch", "99")];
    let done = odd.tasks.start_task(with_metadata(task(), &own)).await;
    let refusal = Refusal::from(&done.err().context("another engine, as itself: it was done")?);
    ensure(refusal.reason == "HOST_OWNED", || format!("{refusal:?}"))?;
    let after = info(&world.host_client).await?;
    ensure(
        (&after.token, &after.engine_id) == (&before.token, &before.engine_id),
        || format!("something has changed: {before:?} {after:?}"),
    )
}

#[tokio::test]
async fn a_user_does_what_the_role_allows() -> TestResult<()> {
    let world = World::locked().await?;
    let domain = world.furnish().await?;
    let pki = &locks(&world)?.pki;
    let address = world.engine.address();
    let come = |keys: &Keys| Ok::<_, tests::Failure>(Engine::over(Knock::with(keys).channel(address)?));
    let viewer = come(&pki.user("vi", "viewer")?)?;
    let operator = come(&pki.user("op", "operator")?)?;
    let engine = come(&locks(&world)?.engine)?;
    let vm = || requests::create_vm("web", requests::four_disks(&domain));
    let host = || requests::add_host(&fresh(), "another", world.host.address());
    for looks in [&viewer, &operator, &engine] {
        looks
            .hosts
            .clone()
            .list_hosts(ListHostsRequest::default())
            .await?;
    }
    for (caller, name, role, may) in [
        (&viewer, "vi", Role::Viewer, [true, false, false]),
        (&operator, "op", Role::Operator, [true, true, false]),
        (&engine, "engine ", Role::Viewer, [true, false, false]),
    ] {
        let who = caller
            .engine
            .clone()
            .who_am_i(WhoAmIRequest {})
            .await?
            .into_inner();
        let listed = ["ListVms", "CreateVm", "AddHost"].map(|rpc| {
            who.permitted_rpcs
                .iter()
                .any(|one| one.ends_with(&format!("/{rpc}")))
        });
        ensure(
            who.user.starts_with(name) && who.authenticated && who.role() == role && listed == may,
            || format!("{name}: {who:?}"),
        )?;
    }
    let done = viewer.vms.clone().create_vm(vm()).await;
    not_permitted(
        "a viewer",
        done,
        "requires the role operator, and the certificate names user \"vi\"",
    )?;
    let done = engine.vms.clone().create_vm(vm()).await;
    not_permitted("an engine", done, "names engine ")?;
    let done = operator.hosts.clone().add_host(host()).await;
    not_permitted("an operator", done, "requires the role admin")?;
    // The user name in a call's metadata does not count.
    let named = with_metadata(vm(), &[("x-user", "root")]);
    let answer = operator.vms.clone().create_vm(named).await?.into_inner();
    let command = answer.command.context("no command")?;
    ensure(command.user == "op", || format!("{command:#?}"))?;
    world.succeeds(&command.command_id).await
}

/// A host that nobody knows yet, with these certificates and further arguments.
async fn lone_host(world: &World, name: &str, id: &str, arguments: &[String]) -> TestResult<Service> {
    let root = world.folder().join(name);
    std::fs::create_dir_all(root.join("storage"))?;
    let listen = std::net::SocketAddr::new(world.host.address().ip(), 0);
    let mut recipe = host_recipe(&root, listen, id)?;
    recipe.arguments.extend(arguments.iter().map(Into::into));
    let mut service = Service::new(recipe);
    service.start(&FailPoints::default()).await?;
    Ok(service)
}

#[tokio::test]
async fn the_engine_speaks_to_the_host_that_was_named_and_to_no_other() -> TestResult<()> {
    let world = World::locked().await?;
    let pki = &locks(&world)?.pki;
    let ip = world.host.address().ip().to_string();
    // The address of one host with the id of another.
    let id = fresh();
    let request = requests::add_host(&id, "mistaken", world.host.address());
    world.client.ask_add_host(&request).await?;
    let fault = host_away(&world, &id, "is expected").await?;
    ensure(
        fault.contains(&world.host_id) && fault.contains(&format!("host:{id}")),
        || fault.clone(),
    )?;
    world.host.says("refuses this end").await?;
    // By a DNS name that the certificate has, and by one that it does not have.
    let named = pki.issue(
        "issue-host",
        "named",
        &["--host-id", &fresh(), "--name", "host-7.example", "--name", &ip],
    )?;
    let id = fresh();
    let seventh = lone_host(&world, "seventh", &id, &named.as_service()).await?;
    let mut request = requests::add_host(&id, "seventh", seventh.address());
    request.identity = "host-8.example".to_owned();
    let wrong = world.client.ask_add_host(&request).await?;
    host_away(&world, &id, "host-8.example is expected").await?;
    world.client.cancel(&wrong).await?;
    world.settled(&wrong).await?;
    request.identity = "host-7.example".to_owned();
    request.request_id = fresh();
    let right = world.client.ask_add_host(&request).await?;
    world.succeeds(&right).await?;
    // A host of another CA.
    let other = Pki::make(world.folder().join("other-pki"))?;
    let id = fresh();
    let keys = other.host(&id, &ip)?;
    let eighth = lone_host(&world, "eighth", &id, &keys.as_service()).await?;
    world
        .client
        .ask_add_host(&requests::add_host(&id, "eighth", eighth.address()))
        .await?;
    host_away(&world, &id, "of a CA that is not trusted here").await?;
    // A host whose certificate is for clients.
    let id = fresh();
    let odd = Odd {
        uris: vec![format!("host:{id}")],
        usages: vec![ExtendedKeyUsagePurpose::ServerAuth],
        days: (-9, -1),
    };
    let ninth = lone_host(&world, "ninth", &id, &odd.sign(pki, "ninth")?.as_service()).await?;
    ninth.says("has EXPIRED").await?;
    world
        .client
        .ask_add_host(&requests::add_host(&id, "ninth", ninth.address()))
        .await?;
    host_away(&world, &id, "that has expired").await?;
    // A host that speaks plain text.
    let id = fresh();
    let tenth = lone_host(&world, "tenth", &id, &[]).await?;
    world
        .client
        .ask_add_host(&requests::add_host(&id, "tenth", tenth.address()))
        .await?;
    host_away(&world, &id, "does not speak TLS").await?;
    tenth.says("speaks TLS, and this service does not").await
}

/// Waits until a command that waits for a host says this: the host is not recorded yet.
async fn host_away(world: &World, host_id: &str, text: &str) -> TestResult<String> {
    let line = world.engine.says(text);
    line.await?;
    let log = world.engine.log_tail(usize::MAX);
    let line = log
        .lines()
        .find(|line| line.contains(text) && line.contains(host_id));
    Ok(line
        .context(format!("no line of {host_id} with {text:?}"))?
        .to_owned())
}

#[tokio::test]
async fn an_engine_that_a_host_refuses_says_what_the_host_says() -> TestResult<()> {
    let mut world = World::locked().await?;
    world.furnish().await?;
    let strangers = Pki::make(world.folder().join("other-pki"))?;
    // The host no longer trusts the engine's CA.
    world.host.stop().await?;
    let own = locks(&world)?.host.clone();
    let host = Keys {
        ca: strangers.dir.join("ca.crt"),
        ..own
    };
    let mut recipe = world.host.recipe().clone();
    let at = recipe.arguments.iter().position(|flag| flag == "--tls-client-ca");
    let at = at.context("no CA is given")?;
    recipe.arguments[at + 1] = host.ca.into();
    world.host = Service::new(recipe);
    world.host.start(&FailPoints::default()).await?;
    let fault = host_shows(&world.client, &world.host_id, "does not trust the CA").await?;
    ensure(fault.code == "HOST_AWAY", || format!("{fault:?}"))?;
    world.host.says("of a CA that is not trusted here").await?;
    // Once the host trusts it again, everything is as before.
    world.host.stop().await?;
    let mut recipe = world.host.recipe().clone();
    recipe.arguments[at + 1] = locks(&world)?.host.ca.clone().into();
    world.host = Service::new(recipe);
    world.host.start(&FailPoints::default()).await?;
    world.host_is(Connection::Connected).await
}

#[tokio::test]
async fn an_engine_in_plain_text_is_told_that_its_host_speaks_tls() -> TestResult<()> {
    let world = World::locked().await?;
    let root = world.folder().join("plain");
    std::fs::create_dir_all(&root)?;
    let listen = std::net::SocketAddr::new(world.engine.address().ip(), 0);
    let mut engine = Service::new(engine_recipe(&root, listen)?);
    let address = engine.start(&FailPoints::default()).await?;
    let client = Engine::at(address)?;
    let request = requests::add_host(&world.host_id, "host", world.host.address());
    client.ask_add_host(&request).await?;
    engine.says("speaks TLS, and this engine does not").await?;
    world.host.says("does not speak TLS: plain text").await
}
