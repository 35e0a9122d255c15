//! Calls into storage outside any task.

use common::fault::FaultCode;
use proto::host::v1 as wire;
use proto::task::v1::operation::Verb;
use proto::task::v1::{DeleteImage, Operation};
use tonic::Code;

use super::harness::{DOMAIN, Host, create_volume, delete_image, fresh, refusal};

#[tokio::test(flavor = "multi_thread")]
async fn what_storage_shows_of_an_operation_is_told_whatever_the_host_remembers() {
    let host = Host::start().await.with_domain().await;
    let (image, id) = (fresh(), fresh());
    let create = create_volume(&image);
    let delete = delete_image(&image);
    let probe = async |verb: &Verb| {
        let request = wire::ProbeOperationRequest {
            operation: Some(Operation {
                verb: Some(verb.clone()),
            }),
            task_id: id.clone(),
        };
        host.storage()
            .probe_operation(request)
            .await
            .unwrap()
            .into_inner()
    };
    let before = probe(&create).await;
    assert_eq!(before.verdict(), wire::ProbeVerdict::NotBegun);
    assert_eq!(before.task, None, "it does not know it");
    host.begin(&id, create.clone()).await.unwrap();
    host.end_of(&id).await;
    let after = probe(&create).await;
    assert_eq!(after.verdict(), wire::ProbeVerdict::Done);
    assert_eq!(after.task.map(|task| task.task_id), Some(id.clone()));
    assert_eq!(probe(&delete).await.verdict(), wire::ProbeVerdict::NotBegun);
    let other = probe(&create_volume(&fresh())).await;
    assert_eq!(other.verdict(), wire::ProbeVerdict::NotBegun);
    let elsewhere = Verb::DeleteImage(DeleteImage {
        domain_id: fresh(),
        image_id: image,
    });
    assert_eq!(
        probe(&elsewhere).await.verdict(),
        wire::ProbeVerdict::Unclear,
        "no such domain"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn domains_images_and_volumes_are_shown_as_they_are() {
    let host = Host::start().await.with_domain().await;
    let mut storage = host.storage();
    let (image, id) = (fresh(), fresh());
    host.begin(&id, create_volume(&image)).await.unwrap();
    host.end_of(&id).await;

    let listed = storage
        .list_storage_domains(wire::ListStorageDomainsRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.domains.len(), 1);
    let one = storage
        .get_storage_domain(wire::GetStorageDomainRequest {
            domain_id: DOMAIN.into(),
        })
        .await;
    assert_eq!(one.unwrap().into_inner().domain.unwrap().name, "data");
    let images = storage
        .list_images(wire::ListImagesRequest {
            domain_id: DOMAIN.into(),
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(images.images[0].image_id, image);
    let request = wire::GetImageRequest {
        domain_id: DOMAIN.into(),
        image_id: image.clone(),
    };
    let found = storage
        .get_image(request)
        .await
        .unwrap()
        .into_inner()
        .image
        .unwrap();
    assert_eq!(found.chain, [found.volumes[0].volume_id.clone()]);
    let request = wire::ListVolumesRequest {
        domain_id: DOMAIN.into(),
        image_id: image.clone(),
        ..Default::default()
    };
    let volumes = storage.list_volumes(request).await.unwrap().into_inner().volumes;
    let request = wire::GetVolumeRequest {
        domain_id: DOMAIN.into(),
        image_id: image,
        volume_id: found.chain[0].clone(),
    };
    let volume = storage
        .get_volume(request)
        .await
        .unwrap()
        .into_inner()
        .volume
        .unwrap();
    assert_eq!((volumes, volume.capacity_bytes), (vec![volume.clone()], 1 << 20));
    assert_eq!(volume.legality(), wire::Legality::Legal);
    let missing = storage
        .get_image(wire::GetImageRequest {
            domain_id: DOMAIN.into(),
            image_id: fresh(),
        })
        .await;
    assert_eq!(
        refusal(missing),
        (Code::NotFound, FaultCode::ImageNotFound, false)
    );
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_with_images_is_formatted_only_by_force_and_made_again_only_as_it_was() {
    let host = Host::start().await.with_domain().await;
    let mut storage = host.storage();
    let make = |name: &str| wire::CreateStorageDomainRequest {
        domain_id: DOMAIN.into(),
        name: name.into(),
    };
    storage.create_storage_domain(make("data")).await.unwrap();
    let other = storage.create_storage_domain(make("other")).await;
    assert_eq!(
        refusal(other),
        (Code::AlreadyExists, FaultCode::DomainExists, false)
    );
    let id = fresh();
    host.begin(&id, create_volume(&fresh())).await.unwrap();
    host.end_of(&id).await;
    let format = |force| wire::FormatStorageDomainRequest {
        domain_id: DOMAIN.into(),
        force,
    };
    let refused = storage.format_storage_domain(format(false)).await;
    assert_eq!(
        refusal(refused),
        (Code::FailedPrecondition, FaultCode::DomainNotEmpty, false)
    );
    storage.format_storage_domain(format(true)).await.unwrap();
    let gone = storage.format_storage_domain(format(true)).await;
    assert_eq!(refusal(gone), (Code::NotFound, FaultCode::DomainNotFound, false));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_on_which_a_task_works_is_busy() {
    let host = Host::start().await.with_domain().await;
    // A task is at work for some milliseconds; where it ends before it is met, the next one is tried.
    for _ in 0..50 {
        let id = fresh();
        host.begin(&id, create_volume(&fresh())).await.unwrap();
        let format = wire::FormatStorageDomainRequest {
            domain_id: DOMAIN.into(),
            force: false,
        };
        let outcome = host.storage().format_storage_domain(format).await;
        let (code, fault, _) = refusal(outcome);
        host.end_of(&id).await;
        if fault == FaultCode::EntityBusy {
            assert_eq!(code, Code::Aborted);
            host.stop().await;
            return;
        }
        assert_eq!(fault, FaultCode::DomainNotEmpty);
    }
    panic!("no task was ever met at work");
}
