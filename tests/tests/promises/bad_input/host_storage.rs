//! The storage of a host that no engine owns.

use proto::host::v1::*;
use proto::task::v1::Operation;
use proto::task::v1::operation::Verb;
use tests::World;
use tests::failure::TestResult;
use tests::ids::fresh;
use tests::requests;
use tonic::Code;

use super::table::*;

#[tokio::test]
async fn storage_requests_are_refused_by_field() -> TestResult<()> {
    let world = World::start().await?;
    let domain = world.host_client.create_domain().await?;
    let mut table = Table::new(&world).await?;
    let storage = &world.host_client.storage;
    let create = |domain_id: &str, name: &str| CreateStorageDomainRequest {
        domain_id: domain_id.to_owned(),
        name: name.to_owned(),
    };
    let get = |domain_id: &str| only(|r: &mut GetStorageDomainRequest| r.domain_id = domain_id.to_owned());
    let format =
        |domain_id: &str| only(|r: &mut FormatStorageDomainRequest| r.domain_id = domain_id.to_owned());
    let images = |domain_id: &str| only(|r: &mut ListImagesRequest| r.domain_id = domain_id.to_owned());
    let image = |domain_id: &str, image_id: &str| GetImageRequest {
        domain_id: domain_id.to_owned(),
        image_id: image_id.to_owned(),
    };
    let volumes = |domain_id: &str, image_id: &str| ListVolumesRequest {
        domain_id: domain_id.to_owned(),
        image_id: image_id.to_owned(),
        ..Default::default()
    };
    let volume = |domain_id: &str, image_id: &str, volume_id: &str| GetVolumeRequest {
        domain_id: domain_id.to_owned(),
        image_id: image_id.to_owned(),
        volume_id: volume_id.to_owned(),
    };
    let probe = |domain_id: &str, task_id: &str| ProbeOperationRequest {
        operation: Some(Operation {
            verb: Some(Verb::DeleteImage(requests::delete_image(domain_id, &fresh()))),
        }),
        task_id: task_id.to_owned(),
    };
    let id = fresh();

    refuse!(table, for x in bad_ids(), storage.create_storage_domain(create(&x, "x")) => invalid("domain_id"));
    refuse!(table, for x in bad_names(), storage.create_storage_domain(create(&id, &x)) => invalid("name"));
    refuse!(table, for x in bad_ids(), storage.get_storage_domain(get(&x)) => invalid("domain_id"));
    refuse!(table, for x in bad_ids(), storage.format_storage_domain(format(&x)) => invalid("domain_id"));
    refuse!(table, for x in bad_ids(), storage.list_images(images(&x)) => invalid("domain_id"));
    refuse!(table, for x in bad_ids(), storage.get_image(image(&x, &id)) => invalid("domain_id"));
    refuse!(table, for x in bad_ids(), storage.get_image(image(&domain, &x)) => invalid("image_id"));
    refuse!(table, for x in bad_ids(), storage.list_volumes(volumes(&domain, &x)) => invalid("image_id"));
    refuse!(table, for x in bad_ids(), storage.get_volume(volume(&domain, &x, &id)) => invalid("image_id"));
    refuse!(table, for x in bad_ids(), storage.get_volume(volume(&domain, &id, &x)) => invalid("volume_id"));
    refuse!(table, for x in BAD_PAGE_SIZES, storage.list_storage_domains(only(|r: &mut ListStorageDomainsRequest| r.page_size = x)) => invalid("page_size"));
    refuse!(table, for x in bad_page_tokens(), storage.list_storage_domains(only(|r: &mut ListStorageDomainsRequest| r.page_token = x)) => invalid("page_token"));
    refuse!(table, for x in BAD_PAGE_SIZES, storage.list_images(ListImagesRequest { page_size: x, ..images(&domain) }) => invalid("page_size"));
    refuse!(table, for x in bad_page_tokens(), storage.list_images(ListImagesRequest { page_token: x, ..images(&domain) }) => invalid("page_token"));
    refuse!(table, for x in BAD_PAGE_SIZES, storage.list_volumes(ListVolumesRequest { page_size: x, ..volumes(&domain, &id) }) => invalid("page_size"));
    refuse!(table, for x in bad_page_tokens(), storage.list_volumes(ListVolumesRequest { page_token: x, ..volumes(&domain, &id) }) => invalid("page_token"));
    refuse!(table, storage.probe_operation(ProbeOperationRequest::default()) => invalid("operation"));
    refuse!(table, for x in bad_ids(), storage.probe_operation(probe(&x, "")) => invalid("operation.delete_image.domain_id"));
    refuse!(table, for x in malformed_ids(), storage.probe_operation(probe(&domain, &x)) => invalid("task_id"));
    let host = &world.host_client.host;
    let info = |followed: &str| GetHostInfoRequest {
        followed: followed.to_owned(),
    };
    refuse!(table, for x in ["x", "1.2", "..", " "], host.get_host_info(info(x)) => invalid("followed"));

    let no_domain = || refused(Code::NotFound, "DOMAIN_NOT_FOUND", &id);
    refuse!(table, storage.get_storage_domain(get(&id)) => no_domain());
    refuse!(table, storage.format_storage_domain(format(&id)) => no_domain());
    refuse!(table, storage.list_images(images(&id)) => no_domain());
    refuse!(table, storage.get_image(image(&id, &id)) => no_domain());
    refuse!(table, storage.list_volumes(volumes(&id, &id)) => no_domain());
    let no_image = || refused(Code::NotFound, "IMAGE_NOT_FOUND", &id);
    refuse!(table, storage.get_image(image(&domain, &id)) => no_image());
    refuse!(table, storage.list_volumes(volumes(&domain, &id)) => no_image());
    refuse!(table, storage.get_volume(volume(&domain, &id, &id)) => no_image());
    let exists = refused(Code::AlreadyExists, "DOMAIN_EXISTS", &domain);
    refuse!(table, storage.create_storage_domain(create(&domain, "another name")) => exists);
    table.verdict()
}
