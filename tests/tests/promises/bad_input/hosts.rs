//! An engine's hosts and storage domains.

use proto::engine::v1::*;
use tests::World;
use tests::audit::at_rest;
use tests::failure::TestResult;
use tests::ids::fresh;
use tonic::Code;

use super::table::*;

/// Texts that are no `host:port`.
fn bad_addresses() -> Vec<String> {
    let mut texts: Vec<String> = [
        "",
        "nowhere",
        "host:",
        ":1",
        "127.0.0.1:99999",
        "http://127.0.0.1:1/x",
        "a b:1",
    ]
    .map(str::to_owned)
    .into();
    texts.push(format!("{}:1", "a".repeat(10_000)));
    texts
}

/// Texts that are no name of a host in a certificate.
fn bad_identities() -> Vec<String> {
    let mut texts: Vec<String> = [
        "host:",
        "host:x",
        "host:2f1c8a34-7c5e-4d3a-9b16-0f5f0a6d9c01",
        "a b",
        "-x",
        "*.example",
        "192.0.2.7",
        "::1",
        "host 1",
        "x\u{1b}[2J",
    ]
    .map(str::to_owned)
    .into();
    texts.push("a".repeat(10_000));
    texts
}

fn add_host() -> AddHostRequest {
    AddHostRequest {
        host_id: fresh(),
        name: "other".to_owned(),
        address: "127.0.0.1:1".to_owned(),
        identity: String::new(),
        request_id: fresh(),
        validate_only: false,
        lock_wait: None,
    }
}

#[tokio::test]
async fn host_requests_are_refused_by_field() -> TestResult<()> {
    let (world, _) = World::furnished().await?;
    at_rest(&world.view()).await?;
    let mut table = Table::new(&world).await?;
    let hosts = &world.client.hosts;
    let host_id = &world.host_id;
    let remove = |host_id: &str| with(RemoveHostRequest::default(), |r| r.host_id = host_id.to_owned());
    let id = fresh();

    refuse!(table, for x in bad_ids(), hosts.add_host(with(add_host(), |r| r.host_id = x)) => invalid("host_id"));
    refuse!(table, for x in bad_names(), hosts.add_host(with(add_host(), |r| r.name = x)) => invalid("name"));
    refuse!(table, for x in bad_addresses(), hosts.add_host(with(add_host(), |r| r.address = x)) => invalid("address"));
    refuse!(table, for x in bad_identities(), hosts.add_host(with(add_host(), |r| r.identity = x)) => invalid("identity"));
    refuse!(table, for x in malformed_ids(), hosts.add_host(with(add_host(), |r| r.request_id = x)) => invalid("request_id"));
    refuse!(table, for x in bad_lock_waits(), hosts.add_host(with(add_host(), |r| r.lock_wait = Some(x))) => invalid("lock_wait"));
    let taken = refused(Code::AlreadyExists, "ENTITY_EXISTS", host_id);
    refuse!(table, hosts.add_host(with(add_host(), |r| r.host_id.clone_from(host_id))) => taken);

    refuse!(table, for x in bad_ids(), hosts.remove_host(remove(&x)) => invalid("host_id"));
    refuse!(table, for x in malformed_ids(), hosts.remove_host(with(remove(&id), |r| r.request_id = x)) => invalid("request_id"));
    refuse!(table, for x in bad_lock_waits(), hosts.remove_host(with(remove(&id), |r| r.lock_wait = Some(x))) => invalid("lock_wait"));
    refuse!(table, hosts.remove_host(remove(&id)) => unknown(&id));
    refuse!(table, hosts.remove_host(remove(host_id)) => refused(Code::FailedPrecondition, "ENTITY_IN_USE", ""));

    refuse!(table, for x in bad_ids(), hosts.get_host(GetHostRequest { host_id: x }) => invalid("host_id"));
    refuse!(table, hosts.get_host(GetHostRequest { host_id: id.clone() }) => unknown(&id));
    refuse!(table, for x in BAD_PAGE_SIZES, hosts.list_hosts(only(|r: &mut ListHostsRequest| r.page_size = x)) => invalid("page_size"));
    refuse!(table, for x in bad_page_tokens(), hosts.list_hosts(only(|r: &mut ListHostsRequest| r.page_token = x)) => invalid("page_token"));
    table.verdict()
}

#[tokio::test]
async fn take_overs_are_refused_by_field() -> TestResult<()> {
    let (world, _) = World::furnished().await?;
    at_rest(&world.view()).await?;
    let mut table = Table::new(&world).await?;
    let hosts = &world.client.hosts;
    let take_over = |change: &dyn Fn(&mut TakeOverHostRequest)| {
        let good = TakeOverHostRequest {
            host_id: fresh(),
            name: "other".to_owned(),
            address: "127.0.0.1:1".to_owned(),
            identity: String::new(),
            reason: "its engine is gone".to_owned(),
            request_id: fresh(),
            validate_only: false,
            lock_wait: None,
        };
        with(good, change)
    };
    refuse!(table, for x in bad_ids(), hosts.take_over_host(take_over(&|r| r.host_id = x.clone())) => invalid("host_id"));
    refuse!(table, for x in bad_names(), hosts.take_over_host(take_over(&|r| r.name = x.clone())) => invalid("name"));
    refuse!(table, for x in bad_addresses(), hosts.take_over_host(take_over(&|r| r.address = x.clone())) => invalid("address"));
    refuse!(table, for x in bad_identities(), hosts.take_over_host(take_over(&|r| r.identity = x.clone())) => invalid("identity"));
    refuse!(table, for x in bad_descriptions(), hosts.take_over_host(take_over(&|r| r.reason = x.clone())) => invalid("reason"));
    refuse!(table, hosts.take_over_host(take_over(&|r| r.reason.clear())) => invalid("reason"));
    refuse!(table, for x in malformed_ids(), hosts.take_over_host(take_over(&|r| r.request_id = x.clone())) => invalid("request_id"));
    refuse!(table, for x in bad_lock_waits(), hosts.take_over_host(take_over(&|r| r.lock_wait = Some(x))) => invalid("lock_wait"));
    let recorded = |r: &mut TakeOverHostRequest| r.host_id.clone_from(&world.host_id);
    let taken = refused(Code::AlreadyExists, "ENTITY_EXISTS", "");
    refuse!(table, hosts.take_over_host(take_over(&recorded)) => taken);
    table.verdict()
}

#[tokio::test]
async fn domain_requests_are_refused_by_field() -> TestResult<()> {
    let (world, domain_id) = World::furnished().await?;
    at_rest(&world.view()).await?;
    let mut table = Table::new(&world).await?;
    let domains = &world.client.domains;
    let domain = |change: &dyn Fn(&mut CreateStorageDomainRequest)| {
        let good = CreateStorageDomainRequest {
            domain_id: fresh(),
            name: "other".to_owned(),
            host_id: world.host_id.clone(),
            request_id: fresh(),
            validate_only: false,
            lock_wait: None,
        };
        with(good, change)
    };
    let list = |change: &dyn Fn(&mut ListStorageDomainsRequest)| only(change);
    let id = fresh();

    refuse!(table, for x in malformed_ids(), domains.create_storage_domain(domain(&|r| r.domain_id = x.clone())) => invalid("domain_id"));
    refuse!(table, for x in bad_names(), domains.create_storage_domain(domain(&|r| r.name = x.clone())) => invalid("name"));
    refuse!(table, for x in bad_ids(), domains.create_storage_domain(domain(&|r| r.host_id = x.clone())) => invalid("host_id"));
    refuse!(table, for x in malformed_ids(), domains.create_storage_domain(domain(&|r| r.request_id = x.clone())) => invalid("request_id"));
    refuse!(table, for x in bad_lock_waits(), domains.create_storage_domain(domain(&|r| r.lock_wait = Some(x))) => invalid("lock_wait"));
    refuse!(table, domains.create_storage_domain(domain(&|r| r.host_id.clone_from(&id))) => unknown(&id));
    let taken = refused(Code::AlreadyExists, "ENTITY_EXISTS", &domain_id);
    refuse!(table, domains.create_storage_domain(domain(&|r| r.domain_id.clone_from(&domain_id))) => taken);

    refuse!(table, for x in bad_ids(), domains.get_storage_domain(GetStorageDomainRequest { domain_id: x }) => invalid("domain_id"));
    refuse!(table, domains.get_storage_domain(GetStorageDomainRequest { domain_id: id.clone() }) => unknown(&id));
    refuse!(table, for x in malformed_ids(), domains.list_storage_domains(list(&|r| r.host_id = x.clone())) => invalid("host_id"));
    refuse!(table, for x in BAD_PAGE_SIZES, domains.list_storage_domains(list(&|r| r.page_size = x)) => invalid("page_size"));
    refuse!(table, for x in bad_page_tokens(), domains.list_storage_domains(list(&|r| r.page_token = x.clone())) => invalid("page_token"));
    table.verdict()
}
