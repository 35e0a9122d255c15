//! What was promised for days is kept for days, whatever the machine's clock says at a start.

use proto::engine::v1::RemoveVmRequest;
use proto::host::v1::{GetTaskRequest, ListTasksRequest};
use tests::failure::{Context as _, Outcome, ensure};
use tests::patience::{eventually, persist};
use tests::requests::{self, KINDS};
use tests::{World, words};

/// Seconds by which a clock is off at a start: 40 days and 20 years, either way.
const OFF: [i64; 4] = [40 * 86_400, 7_300 * 86_400, -40 * 86_400, -7_300 * 86_400];

/// How often it is looked whether something is still there, once it is known that the service looks for what is old.
const LOOKS: usize = 100;

/// Both services start with clocks that are off, and then with right ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_a_clock_far_off_makes_nothing_expire() -> Outcome<()> {
    for off in OFF {
        off_by(off).await.context(format!("{off} seconds off"))?;
    }
    Ok(())
}

async fn off_by(off: i64) -> Outcome<()> {
    let (mut world, domain_id) = World::furnished().await?;
    let create = requests::create_vm("before", vec![requests::disk(&domain_id, KINDS[2])]);
    let created = world.create_vm(&create).await?;
    world.succeeds(&created).await?;
    let task_id = cleared_task(&world).await?;
    let mut kept = vec![(create.vm_id.clone(), created)];
    for off in [off, 0] {
        let off = off.to_string();
        for service in [&mut world.host, &mut world.engine] {
            service.stop().await?;
            service.set_variable("FAILPOINT_CLOCK", &off);
        }
        world.restart_host().await?;
        world.restart_engine().await?;
        // It ends by another clock than the first: its end is not old either.
        let create = requests::create_vm(&format!("at {off}"), vec![requests::disk(&domain_id, KINDS[2])]);
        let created = world.create_vm(&create).await?;
        world.succeeds(&created).await?;
        kept.push((create.vm_id, created));
        for _ in 0..LOOKS {
            for (_, command_id) in &kept {
                world.client.command(command_id).await?;
            }
            let request = GetTaskRequest {
                task_id: task_id.clone(),
            };
            let mut tasks = world.host_client.tasks.clone();
            tasks.get_task(request).await.context("what the host cleared")?;
        }
    }
    is_a_repeat(&world, &create, &kept[0].1).await?;
    for (vm_id, _) in kept {
        let remove = RemoveVmRequest {
            vm_id,
            ..requests::remove_vm("")
        };
        let removed = world.remove_vm(&remove).await?;
        world.succeeds(&removed).await?;
    }
    world.stop().await
}

/// A request of before is answered with its command.
async fn is_a_repeat(
    world: &World,
    create: &proto::engine::v1::CreateVmRequest,
    command_id: &str,
) -> Outcome<()> {
    let again = world.create_vm(create).await?;
    ensure(again == command_id, || format!("the repeat made command {again}"))
}

/// A task that the engine has had cleared.
async fn cleared_task(world: &World) -> Outcome<String> {
    let tasks = world.client.tasks.clone();
    let listed = persist(|| {
        let mut tasks = tasks.clone();
        async move {
            tasks
                .list_tasks(proto::engine::v1::ListTasksRequest::default())
                .await
        }
    });
    let task = listed.await?.into_inner().tasks.pop().context("a task")?;
    eventually("the host to have cleared the task", || async {
        let mut tasks = world.host_client.tasks.clone();
        let listed = tasks.list_tasks(ListTasksRequest::default()).await.ok()?;
        let there = listed
            .into_inner()
            .tasks
            .iter()
            .any(|other| other.task_id == task.task_id);
        (!there).then_some(())
    })
    .await?;
    ensure(words::task_state(task.state) == "FINISHED", || {
        format!("{task:?}")
    })?;
    Ok(task.task_id)
}
