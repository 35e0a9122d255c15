//! What must hold whenever a world is at rest: nothing is locked that nobody holds, and records, storage and what
//! watchers were told agree.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use proto::engine::v1::{
    self as wire, AsyncTask, Command, CommandState, Disk, ListCommandsRequest, ListDisksRequest,
    ListHostsRequest, ListStorageDomainsRequest, ListTasksRequest, ListVmsRequest, StorageDomain, Vm,
    disk_observation::Presence,
};
use proto::host::v1 as vdsm;

use crate::client::{Engine, Host};
use crate::failure::{Context, TestResult, ensure};
use crate::patience::{eventually, persist};
use crate::watch::{Item, Record, Watchers};
use crate::{storage, words};

/// The largest page that may be asked for.
const PAGE: i32 = 1_000;

/// What an auditor looks at. Cheap to clone, and it works while services come and go.
#[derive(Debug, Clone)]
pub struct View {
    /// A client of the engine.
    pub engine: Engine,
    /// Its hosts.
    pub places: Vec<Place>,
}

/// A host that an auditor looks at.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its id.
    pub host_id: String,
    /// A client of it.
    pub host: Host,
    /// Where it keeps its storage domains.
    pub storage_root: PathBuf,
}

impl View {
    /// The same, with one more host.
    #[must_use]
    pub fn and(mut self, place: Place) -> Self {
        self.places.push(place);
        self
    }
}

/// Everything that all services list, at one rest.
#[derive(Debug, Clone, PartialEq)]
pub struct Records {
    /// The engine's.
    pub hosts: Vec<wire::Host>,
    /// The engine's.
    pub domains: Vec<StorageDomain>,
    /// The engine's.
    pub disks: Vec<Disk>,
    /// The engine's.
    pub vms: Vec<Vm>,
    /// The engine's.
    pub commands: Vec<Command>,
    /// The engine's.
    pub tasks: Vec<AsyncTask>,
    /// Each host's by its id, cleared ones included.
    pub host_tasks: BTreeMap<String, Vec<vdsm::Task>>,
}

impl Records {
    /// Reads them all.
    ///
    /// # Errors
    /// When a service refuses.
    pub async fn read(view: &View) -> TestResult<Self> {
        macro_rules! list {
            ($client:expr, $rpc:ident, $request:ident { $($field:ident: $value:expr),* }, $items:ident) => {{
                let mut items = Vec::new();
                let mut request = $request { page_size: PAGE, $($field: $value,)* ..Default::default() };
                loop {
                    let answer = persist(|| {
                        let (mut client, request) = ($client.clone(), request.clone());
                        async move { client.$rpc(request).await }
                    });
                    let page = answer.await.context(stringify!($rpc))?.into_inner();
                    items.extend(page.$items);
                    if page.next_page_token.is_empty() {
                        break items;
                    }
                    request.page_token = page.next_page_token;
                }
            }};
        }
        let engine = &view.engine;
        let mut host_tasks = BTreeMap::new();
        for place in &view.places {
            use vdsm::ListTasksRequest;
            let tasks = list!(
                place.host.tasks,
                list_tasks,
                ListTasksRequest { show_removed: true },
                tasks
            );
            host_tasks.insert(place.host_id.clone(), tasks);
        }
        Ok(Self {
            hosts: list!(engine.hosts, list_hosts, ListHostsRequest {}, hosts),
            domains: list!(
                engine.domains,
                list_storage_domains,
                ListStorageDomainsRequest {},
                domains
            ),
            disks: list!(engine.disks, list_disks, ListDisksRequest {}, disks),
            vms: list!(engine.vms, list_vms, ListVmsRequest {}, vms),
            commands: list!(engine.commands, list_commands, ListCommandsRequest {}, commands),
            tasks: list!(engine.tasks, list_tasks, ListTasksRequest {}, tasks),
            host_tasks,
        })
    }

    /// The same without what moves by itself: how far the engine has followed its hosts.
    #[must_use]
    pub fn still(mut self) -> Self {
        for host in &mut self.hosts {
            host.cursor.clear();
        }
        self
    }

    /// The same, and without how the engine stands with its hosts: where heartbeats are short, a busy machine's silence
    /// is taken for a host's.
    #[must_use]
    pub fn without_links(self) -> Self {
        let mut records = self.still();
        for host in &mut records.hosts {
            host.connection = 0;
            host.connection_since = None;
            host.connection_fault = None;
        }
        records
    }

    /// The command of this id.
    pub fn command(&self, command_id: &str) -> Option<&Command> {
        self.commands
            .iter()
            .find(|command| command.command_id == command_id)
    }

    /// What is locked, with the command that holds it.
    pub fn holders(&self) -> Vec<(String, String)> {
        let hosts = self.hosts.iter().map(|e| (&e.host_id, &e.held_by));
        let domains = self.domains.iter().map(|e| (&e.domain_id, &e.held_by));
        let disks = self.disks.iter().map(|e| (&e.disk_id, &e.held_by));
        let vms = self.vms.iter().map(|e| (&e.vm_id, &e.held_by));
        hosts
            .chain(domains)
            .chain(disks)
            .chain(vms)
            .filter_map(|(id, holders)| Some((id.clone(), holders.first()?.command_id.clone())))
            .collect()
    }

    /// Whether nothing moves any more: every command has ended or rests, and the host was told of every end.
    pub fn at_rest(&self) -> bool {
        self.moving().is_empty()
    }

    /// What still moves, a line each.
    fn moving(&self) -> Vec<String> {
        let resting = i32::from(CommandState::NeedsAttention);
        let is_resting = |id: &str| self.command(id).is_some_and(|command| command.state == resting);
        let commands = self
            .commands
            .iter()
            .filter(|command| !words::command_is_over(command.state) && command.state != resting)
            .map(describe);
        let tasks = self
            .tasks
            .iter()
            .filter(|task| words::async_state(task.async_state) != "CLEARED")
            .filter(|task| !is_resting(&task.root_command_id))
            .map(|task| {
                let (engine, host) = (
                    words::async_state(task.async_state),
                    words::task_state(task.state),
                );
                format!("task {} {engine} {host}", task.task_id)
            });
        commands.chain(tasks).collect()
    }
}

/// Reads everything once nothing moves any more.
///
/// # Errors
/// When something still moves after a long time.
pub async fn at_rest(view: &View) -> TestResult<Records> {
    // Lists are read one after the other, so those that were read before the rest began may be of the time before it.
    let rest = eventually("the world to come to rest", || async {
        Records::read(view)
            .await
            .is_ok_and(|seen| seen.at_rest())
            .then_some(())
    });
    match rest.await {
        Ok(()) => Records::read(view).await,
        Err(failure) => {
            let records = Records::read(view).await?;
            Err(failure).context(format!("{:#?}", records.moving()))
        }
    }
}

/// Waits for rest, then checks everything that must hold there.
///
/// # Errors
/// Naming what does not hold.
pub async fn all_is_well(view: &View, watchers: &Watchers) -> TestResult<Records> {
    let records = at_rest(view).await?;
    assert_no_locks(&records)?;
    assert_agreement(view, &records, watchers).await?;
    Ok(records)
}

/// No lock remains but those of commands in NEEDS_ATTENTION.
///
/// # Errors
/// Naming what is locked, and by whom.
pub fn assert_no_locks(records: &Records) -> TestResult<()> {
    let resting = i32::from(CommandState::NeedsAttention);
    let wrong: Vec<_> = records
        .holders()
        .into_iter()
        .filter(|(_, command_id)| {
            records
                .command(command_id)
                .is_none_or(|command| command.state != resting)
        })
        .collect();
    ensure(wrong.is_empty(), || {
        format!("locks that nobody should hold: {wrong:?}")
    })
}

/// Records, storage and what watchers were told agree.
///
/// # Errors
/// Naming every difference.
pub async fn assert_agreement(view: &View, records: &Records, watchers: &Watchers) -> TestResult<()> {
    let mut differences = parents_and_children(records);
    differences.extend(engine_and_host(records));
    differences.extend(records_and_storage(view, records));
    ensure(differences.is_empty(), || {
        format!("records and facts differ:\n  {}", differences.join("\n  "))
    })?;
    told(watchers, records).await?;
    watchers.check()
}

/// Records and storage agree, whatever the hosts remember: what a host that was put back from an older copy says of its
/// tasks is not asked.
///
/// # Errors
/// Naming every difference.
pub fn assert_storage_agrees(view: &View, records: &Records) -> TestResult<()> {
    let mut differences = parents_and_children(records);
    differences.extend(records_and_storage(view, records));
    ensure(differences.is_empty(), || {
        format!("records and facts differ:\n  {}", differences.join("\n  "))
    })
}

/// A parent has ended only after all its children, and names each.
fn parents_and_children(records: &Records) -> Vec<String> {
    let mut wrong = Vec::new();
    for command in records
        .commands
        .iter()
        .filter(|c| words::command_is_over(c.state))
    {
        for child_id in &command.child_command_ids {
            let child_is_over = records
                .command(child_id)
                .is_some_and(|child| words::command_is_over(child.state));
            let named = command
                .outcomes
                .iter()
                .any(|outcome| &outcome.command_id == child_id);
            if !child_is_over || !named {
                wrong.push(format!(
                    "{} has the child {child_id} (over: {child_is_over}, named: {named})",
                    describe(command)
                ));
            }
        }
        let honest = command.state != i32::from(CommandState::Failed) || command.fault.is_some();
        if !honest {
            wrong.push(format!("{} says no reason", describe(command)));
        }
    }
    wrong
}

/// The engine's record of a task says what its host's does.
fn engine_and_host(records: &Records) -> Vec<String> {
    let of_hosts: BTreeMap<_, _> = records
        .host_tasks
        .iter()
        .flat_map(|(host_id, tasks)| tasks.iter().map(move |task| ((host_id, &task.task_id), task)))
        .collect();
    let mut wrong = Vec::new();
    let stores: BTreeSet<_> = records.hosts.iter().map(|host| &host.store_id).collect();
    for task in &records.tasks {
        // A host whose data directory was wiped remembers nothing from before.
        if !stores.contains(&task.host_store_id) {
            continue;
        }
        let Some(theirs) = of_hosts.get(&(&task.host_id, &task.task_id)) else {
            wrong.push(format!("the host does not know the task {}", task.task_id));
            continue;
        };
        if task.state != theirs.state
            || task.fault.as_ref().map(|f| &f.code) != theirs.fault.as_ref().map(|f| &f.code)
        {
            wrong.push(format!(
                "the task {} is {} ({:?}) for the engine and {} ({:?}) for its host",
                task.task_id,
                words::task_state(task.state),
                task.fault,
                words::task_state(theirs.state),
                theirs.fault
            ));
        }
    }
    wrong
}

/// Each disk is on storage as it was last seen, and nothing is there that no record and no command names.
fn records_and_storage(view: &View, records: &Records) -> Vec<String> {
    let named: BTreeSet<&String> = records
        .commands
        .iter()
        .flat_map(|command| &command.left_behind)
        .map(|entity| &entity.id)
        .collect();
    let mut wrong = Vec::new();
    for domain in &records.domains {
        let Some(place) = view.places.iter().find(|place| place.host_id == domain.host_id) else {
            wrong.push(format!(
                "nobody looks at the host of the domain {}",
                domain.domain_id
            ));
            continue;
        };
        let root = &place.storage_root;
        let images = storage::images(root, &domain.domain_id);
        for disk in records
            .disks
            .iter()
            .filter(|disk| disk.domain_id == domain.domain_id)
        {
            let presence = disk
                .observation
                .as_ref()
                .map(|seen| seen.presence)
                .unwrap_or_default();
            let is_there = images.contains(&disk.disk_id);
            if is_there != (presence != i32::from(Presence::Absent)) {
                wrong.push(format!(
                    "the disk {} was last seen {:?}, and it is there: {is_there}",
                    disk.disk_id, disk.observation
                ));
            }
            let sizes = storage::sizes(root, &domain.domain_id, &disk.disk_id, &disk.volume_id);
            let differ = sizes.is_some_and(|sizes| sizes != (disk.capacity_bytes, disk.capacity_bytes));
            if differ && !named.contains(&disk.disk_id) {
                wrong.push(format!(
                    "the disk {} has {} bytes in the records, and shows and says {sizes:?} on storage",
                    disk.disk_id, disk.capacity_bytes
                ));
            }
        }
        for image in &images {
            let recorded = records.disks.iter().any(|disk| &disk.disk_id == image);
            if !recorded && !named.iter().any(|id| image.contains(id.as_str())) {
                let files = storage::image_files(root, &domain.domain_id, image);
                wrong.push(format!("nobody knows of the image {image} with {files:?}"));
            }
        }
    }
    for place in &view.places {
        let runs = storage::run_directories(&place.storage_root);
        if !runs.is_empty() {
            wrong.push(format!("run directories are left: {runs:?}"));
        }
    }
    wrong
}

/// Watchers were told of every record as it is.
async fn told(watchers: &Watchers, records: &Records) -> TestResult<()> {
    let Watchers { engine, host, others } = watchers;
    let hosts_own: Vec<_> = records.host_tasks.values().flatten().cloned().collect();
    engine
        .commands
        .until("the last state of every command", |record| {
            knows(record, &records.commands)
        })
        .await?;
    engine
        .tasks
        .until("the last state of every task", |record| {
            knows(record, &records.tasks)
        })
        .await?;
    for host in std::iter::once(host).chain(others) {
        host.until("the last state of every task", |record| knows(record, &hosts_own))
            .await?;
    }
    Ok(())
}

/// Whether each item that the record has heard of was last told as it is, with its sequence.
///
/// What had gone before the watch began is in no snapshot, so an item that was never told is left out.
fn knows<I: Item>(record: &Record<I>, items: &[I]) -> Option<()> {
    record.token()?;
    let latest = record.latest();
    items
        .iter()
        .all(|item| {
            latest
                .get(&item.key())
                .is_none_or(|told| told.sequence() == item.sequence() && told.state() == item.state())
        })
        .then_some(())
}

/// A command in a line.
pub fn describe(command: &Command) -> String {
    format!(
        "{} {} {} fault={:?} waits={:?} left_behind={:?}",
        words::command_kind(command.kind),
        command.command_id,
        words::command_state(command.state),
        command
            .fault
            .as_ref()
            .map(|fault| format!("{}: {}", fault.code, fault.message)),
        command.waiting_for.as_ref().map(|waiting| &waiting.note),
        command.left_behind.iter().map(words::entity).collect::<Vec<_>>(),
    )
}
