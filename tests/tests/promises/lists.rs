//! Lists return every item once, page by page, newest first, and only items that the filter selects.

use std::collections::BTreeSet;

use proto::engine::v1::*;
use tests::client::with_metadata;
use tests::failure::{TestResult, ensure};
use tests::{World, requests, words};

/// Every item of a list, in pages of this size.
macro_rules! pages {
    ($client:expr, $rpc:ident, $request:expr, $items:ident, $size:expr) => {{
        let mut found = Vec::new();
        let mut request = $request;
        request.page_size = $size;
        loop {
            let answer = $client.clone().$rpc(request.clone()).await?.into_inner();
            ensure(answer.$items.len() <= $size as usize, || {
                "a page is too long".to_owned()
            })?;
            found.extend(answer.$items);
            if answer.next_page_token.is_empty() {
                break found;
            }
            request.page_token = answer.next_page_token;
        }
    }};
}

async fn three_vms(world: &World, domain: &str) -> TestResult<Vec<String>> {
    let mut roots = Vec::new();
    for (name, user) in [("a", "alice"), ("b", "bob"), ("c", "alice")] {
        let request = requests::create_vm(name, requests::four_disks(domain));
        let request = with_metadata(request, &[("x-user", user), ("x-correlation-id", name)]);
        let answer = world.client.vms.clone().create_vm(request).await?.into_inner();
        let command_id = answer.command.unwrap_or_default().command_id;
        world.succeeds(&command_id).await?;
        roots.push(command_id);
    }
    Ok(roots)
}

#[tokio::test]
async fn pages_of_any_size_give_the_same_whole() -> TestResult<()> {
    let (world, domain) = World::furnished().await?;
    let roots = three_vms(&world, &domain).await?;
    tests::audit::at_rest(&world.view()).await?;
    let client = &world.client;
    macro_rules! same {
        ($client:expr, $rpc:ident, $request:ident, $items:ident, $least:expr) => {{
            let whole = pages!($client, $rpc, $request::default(), $items, 1_000);
            ensure(whole.len() >= $least, || {
                format!("{} {}", whole.len(), stringify!($items))
            })?;
            for size in [1, 2, 3, 7] {
                let parts = pages!($client, $rpc, $request::default(), $items, size);
                ensure(parts == whole, || {
                    format!("{} in pages of {size} are others", stringify!($items))
                })?;
            }
            whole
        }};
    }
    let commands = same!(client.commands, list_commands, ListCommandsRequest, commands, 17);
    same!(client.tasks, list_tasks, ListTasksRequest, tasks, 12);
    same!(client.jobs, list_jobs, ListJobsRequest, jobs, 5);
    same!(client.events, list_events, ListEventsRequest, events, 3);
    same!(client.vms, list_vms, ListVmsRequest, vms, 3);
    same!(client.disks, list_disks, ListDisksRequest, disks, 12);
    let newest_first: Vec<_> = commands
        .iter()
        .filter(|command| roots.contains(&command.command_id))
        .map(|command| command.command_id.clone())
        .collect();
    let mut expected = roots.clone();
    expected.reverse();
    ensure(newest_first == expected, || {
        "commands are not newest first".to_owned()
    })
}

#[tokio::test]
async fn filters_select_exactly() -> TestResult<()> {
    let (world, domain) = World::furnished().await?;
    let roots = three_vms(&world, &domain).await?;
    tests::audit::at_rest(&world.view()).await?;
    let commands = |filter| ListCommandsRequest {
        filter: Some(filter),
        ..ListCommandsRequest::default()
    };
    let list = async |filter| -> TestResult<Vec<Command>> {
        let answer = world
            .client
            .commands
            .clone()
            .list_commands(commands(filter))
            .await?;
        Ok(answer.into_inner().commands)
    };
    type Filter = list_commands_request::Filter;
    let tree = list(Filter {
        root_command_id: roots[1].clone(),
        ..Filter::default()
    })
    .await?;
    ensure(
        tree.len() == 5 && tree.iter().all(|c| c.root_command_id == roots[1]),
        || format!("{tree:#?}"),
    )?;
    let alices = list(Filter {
        user: "alice".to_owned(),
        roots_only: true,
        ..Filter::default()
    })
    .await?;
    let ids: BTreeSet<_> = alices.iter().map(|command| &command.command_id).collect();
    ensure(ids == BTreeSet::from([&roots[0], &roots[2]]), || {
        format!("{ids:?}")
    })?;
    let correlated = list(Filter {
        correlation_id: "c".to_owned(),
        ..Filter::default()
    })
    .await?;
    ensure(correlated.len() == 5, || {
        format!("{} of correlation c", correlated.len())
    })?;
    let children = vec![CommandKind::CreateImage.into()];
    let images = list(Filter {
        kinds: children,
        ..Filter::default()
    })
    .await?;
    ensure(images.len() == 12, || format!("{} CreateImage", images.len()))?;
    let failed = list(Filter {
        states: vec![CommandState::Failed.into()],
        ..Filter::default()
    })
    .await?;
    ensure(failed.is_empty(), || format!("{failed:#?}"))?;
    let about = list(Filter {
        entity_id: world.host_id.clone(),
        roots_only: true,
        ..Filter::default()
    })
    .await?;
    let added = about
        .iter()
        .any(|command| words::command_kind(command.kind) == "ADD_HOST");
    ensure(added, || format!("nothing about the host: {about:#?}"))?;

    let filter = list_tasks_request::Filter {
        root_command_id: roots[0].clone(),
        ..Default::default()
    };
    let request = ListTasksRequest {
        filter: Some(filter),
        ..ListTasksRequest::default()
    };
    let tasks = world
        .client
        .tasks
        .clone()
        .list_tasks(request)
        .await?
        .into_inner()
        .tasks;
    ensure(tasks.len() == 4, || format!("{} tasks of a tree", tasks.len()))?;
    let request = ListVmsRequest {
        name: "b".to_owned(),
        ..ListVmsRequest::default()
    };
    let vms = world.client.vms.clone().list_vms(request).await?.into_inner().vms;
    ensure(vms.len() == 1 && vms[0].name == "b", || format!("{vms:?}"))?;
    let request = ListDisksRequest {
        vm_id: vms[0].vm_id.clone(),
        ..ListDisksRequest::default()
    };
    let disks = world
        .client
        .disks
        .clone()
        .list_disks(request)
        .await?
        .into_inner()
        .disks;
    ensure(disks.len() == 4, || format!("{} disks of a VM", disks.len()))
}
