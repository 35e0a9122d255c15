//! Calls into storage outside any task.

use common::fault::FaultCode;
use prost::Message as _;
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

/// Every item of a list of storage, by pages, each of which any client takes.
macro_rules! pages {
    ($storage:expr, $rpc:ident, $request:expr, $items:ident) => {{
        let (mut found, mut pages, mut request) = (Vec::new(), 0, $request);
        loop {
            let page = $storage.$rpc(request.clone()).await.unwrap().into_inner();
            assert!(page.encoded_len() <= 3 << 20, "{} bytes", page.encoded_len());
            pages += 1;
            found.extend(page.$items);
            if page.next_page_token.is_empty() {
                break (found, pages);
            }
            request.page_token = page.next_page_token;
        }
    }};
}

/// `count` volumes of one image, with hostile metadata; the image's id, and the ids of the volumes.
fn hostile_volumes(host: &Host, count: usize) -> (String, Vec<String>) {
    let image = fresh();
    let dir = host
        .dir
        .path()
        .join("storage")
        .join(DOMAIN)
        .join("images")
        .join(&image);
    std::fs::create_dir(&dir).unwrap();
    // Two values of a key are a remark, which names the key; a kind of disk is shown as it stands there.
    let hostile = "\u{1b}[2J\u{202e}\u{9b}31m".repeat(40);
    let twice: String = (0..60)
        .map(|n| format!("{n}{hostile}=1\n{n}{hostile}=2\n"))
        .collect();
    let meta = format!(
        "CAP=1048576\nCTIME=1\nDESCRIPTION={hostile}\nDISKTYPE={hostile}\nDOMAIN={DOMAIN}\nFORMAT=RAW\nGEN=0\nIMAGE={image}\n\
         LEGALITY=LEGAL\nPUUID=00000000-0000-0000-0000-000000000000\nTYPE=SPARSE\nVOLTYPE=LEAF\n{twice}EOF\n"
    );
    let mut ids: Vec<String> = (0..count).map(|_| fresh()).collect();
    ids.sort();
    for id in &ids {
        std::fs::write(dir.join(id), b"").unwrap();
        std::fs::write(dir.join(format!("{id}.meta")), &meta).unwrap();
    }
    (image, ids)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_on_storage_makes_no_answer_too_large_and_steers_no_terminal() {
    let host = Host::start().await.with_domain().await;
    let mut storage = host.storage();
    let (image, ids) = hostile_volumes(&host, 1_500);
    let request = wire::ListVolumesRequest {
        domain_id: DOMAIN.into(),
        image_id: image.clone(),
        page_size: 1_000,
        ..Default::default()
    };
    let (volumes, pages) = pages!(storage, list_volumes, request, volumes);
    assert!(pages > 2, "cut by bytes: {pages} pages");
    let listed: Vec<_> = volumes.iter().map(|volume| volume.volume_id.clone()).collect();
    assert_eq!(listed, ids, "each once");
    for volume in &volumes {
        assert!(volume.encoded_len() < 30_000, "{}", volume.encoded_len());
        let texts = [&volume.description, &volume.disk_type]
            .into_iter()
            .chain(&volume.remarks);
        for text in texts {
            assert!(!text.chars().any(common::text::steers), "{text:?}");
        }
        assert!(
            volume.description.contains("\\u{1b}[2J"),
            "{}",
            volume.description
        );
    }
    let request = wire::GetImageRequest {
        domain_id: DOMAIN.into(),
        image_id: image.clone(),
    };
    let found = storage.get_image(request).await.unwrap().into_inner();
    assert!(found.encoded_len() <= 3 << 20, "{}", found.encoded_len());
    let shown = found.image.unwrap().volumes.len();
    let rest = wire::ListVolumesRequest {
        domain_id: DOMAIN.into(),
        image_id: image,
        page_size: 1_000,
        page_token: found.next_page_token,
    };
    let (rest, _) = pages!(storage, list_volumes, rest, volumes);
    assert_eq!(rest, volumes[shown..], "the list goes on where the image was cut");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn images_and_domains_are_listed_by_pages() {
    let host = Host::start().await.with_domain().await;
    let mut storage = host.storage();
    let root = host.dir.path().join("storage");
    let mut images: Vec<String> = (0..250).map(|_| fresh()).collect();
    images.sort();
    let leftover = format!("_remove_me_{}_7", images[0]);
    for name in images.iter().chain([&leftover]) {
        std::fs::create_dir(root.join(DOMAIN).join("images").join(name)).unwrap();
    }
    let others: Vec<String> = (0..5).map(|_| fresh()).collect();
    for other in &others {
        std::fs::create_dir(root.join(other)).unwrap();
    }
    for size in [1, 100, 1_000] {
        let request = wire::ListStorageDomainsRequest {
            page_size: size,
            ..Default::default()
        };
        let (domains, _) = pages!(storage, list_storage_domains, request, domains);
        let mut expected = others.clone();
        expected.push(DOMAIN.into());
        expected.sort();
        let listed: Vec<_> = domains.into_iter().map(|domain| domain.domain_id).collect();
        assert_eq!(listed, expected);
    }
    for size in [7, 0, 1_000] {
        let request = wire::ListImagesRequest {
            domain_id: DOMAIN.into(),
            page_size: size,
            ..Default::default()
        };
        let (found, _) = pages!(storage, list_images, request, images);
        let listed: Vec<_> = (found.iter().filter(|image| image.leftover.is_empty()))
            .map(|image| image.image_id.clone())
            .collect();
        assert_eq!(listed, images);
        let leftovers: Vec<_> = found.iter().map(|image| image.leftover.as_str()).collect();
        assert_eq!(
            (leftovers.len(), leftovers.last().copied()),
            (251, Some(leftover.as_str()))
        );
    }
    host.stop().await;
}

/// An image of so many volumes, each of which stands on the one before; or, where nothing is `recorded`, that many files of data.
fn image_of(host: &Host, count: usize, recorded: bool) -> String {
    let image = fresh();
    let dir = host
        .dir
        .path()
        .join("storage")
        .join(DOMAIN)
        .join("images")
        .join(&image);
    std::fs::create_dir(&dir).unwrap();
    let mut parent = "00000000-0000-0000-0000-000000000000".to_owned();
    for at in 1..=count {
        let id = fresh();
        std::fs::write(dir.join(&id), b"").unwrap();
        if recorded {
            let role = if at == count { "LEAF" } else { "INTERNAL" };
            let meta = format!(
                "CAP=1048576\nCTIME=1\nDESCRIPTION=\nDISKTYPE=DATA\nDOMAIN={DOMAIN}\nFORMAT=RAW\nGEN=0\nIMAGE={image}\n\
                 LEGALITY=LEGAL\nPUUID={parent}\nTYPE=SPARSE\nVOLTYPE={role}\nEOF\n"
            );
            std::fs::write(dir.join(format!("{id}.meta")), meta).unwrap();
        }
        parent = id;
    }
    image
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_images_ends_by_what_was_read_for_it() {
    let host = Host::start().await.with_domain().await;
    let mut storage = host.storage();
    let mut images: Vec<_> = (0..6).map(|_| image_of(&host, 400, true)).collect();
    images.sort();
    let request = wire::ListImagesRequest {
        domain_id: DOMAIN.into(),
        page_size: 1_000,
        ..Default::default()
    };
    let first = storage.list_images(request.clone()).await.unwrap().into_inner();
    // 1,000 volumes are reached with the third.
    assert_eq!(first.images.len(), 3);
    let (found, pages) = pages!(storage, list_images, request, images);
    assert_eq!(pages, 2);
    let listed: Vec<_> = found.iter().map(|image| image.image_id.clone()).collect();
    assert_eq!(listed, images);
    for image in found {
        assert_eq!((image.chain.len(), image.fault), (400, None));
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_too_many_volumes_is_listed_without_its_chain_and_says_so() {
    let host = Host::start().await.with_domain().await;
    let mut storage = host.storage();
    let small = image_of(&host, 3, true);
    let huge = image_of(&host, 10_001, false);
    let request = wire::ListImagesRequest {
        domain_id: DOMAIN.into(),
        ..Default::default()
    };
    let (found, pages) = pages!(storage, list_images, request, images);
    assert_eq!((found.len(), pages), (2, 1));
    let of = |id: &str| found.iter().find(|image| image.image_id == id).unwrap();
    assert_eq!((of(&small).chain.len(), of(&small).fault.as_ref()), (3, None));
    let fault = of(&huge).fault.as_ref().unwrap();
    assert_eq!(fault.code, FaultCode::VolumeInChain.as_str());
    assert!(fault.message.contains("10001 volumes"), "{}", fault.message);
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
