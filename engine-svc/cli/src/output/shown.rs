//! What people see of each kind of thing.

use std::time::SystemTime;

use proto::engine::v1::{
    AsyncTask, AsyncTaskState, Command, CommandKind, CommandState, Disk, EngineInfo, Event, GetVmResponse,
    Holder, Host, Job, LockMode, Role, Severity, StorageDomain, Vm, WhoAmIResponse, disk_observation, host,
    waiting_for,
};
use proto::task::v1::{Allocation, TaskState, VolumeFormat};

use super::Described;
use crate::failure::in_words;
use crate::words::{self, word};

/// Something that can be listed and shown.
pub(crate) trait Shown: Described {
    /// The heads of the columns; the first is what it is named by.
    fn columns(is_wide: bool) -> &'static [&'static str];

    /// A line of a list.
    fn row(&self, is_wide: bool, now: SystemTime) -> Vec<String>;

    /// All that there is to say, as names and values; what is empty is left out.
    fn facts(&self, now: SystemTime) -> Vec<(&'static str, String)>;

    /// KIND/ID.
    fn reference(&self) -> String;
}

/// The columns of a wide list are those of a narrow one, and more.
macro_rules! columns {
    ([$($narrow:literal),*], [$($more:literal),*]) => {
        fn columns(is_wide: bool) -> &'static [&'static str] {
            match is_wide {
                false => &[$($narrow),*],
                true => &[$($narrow,)* $($more),*],
            }
        }
    };
}

fn row(narrow: Vec<String>, is_wide: bool, more: impl FnOnce() -> Vec<String>) -> Vec<String> {
    let mut row = narrow;
    if is_wide {
        row.extend(more());
    }
    row
}

pub(crate) fn command_state(state: i32) -> String {
    word!(CommandState, state, "COMMAND_STATE_")
}

/// What a command does, in a word or two.
pub(crate) fn kind_of(command: &Command) -> String {
    word!(CommandKind, command.kind, "COMMAND_KIND_")
}

fn format(format: i32, allocation: i32) -> String {
    let name = match VolumeFormat::try_from(format) {
        Ok(VolumeFormat::Raw) => "raw".to_owned(),
        Ok(VolumeFormat::Cow) => "qcow2".to_owned(),
        Ok(VolumeFormat::Unspecified) => String::new(),
        Err(_) => format!("unknown ({format})"),
    };
    match Allocation::try_from(allocation) {
        Ok(Allocation::Preallocated) => format!("{name}, preallocated"),
        Ok(Allocation::Sparse | Allocation::Unspecified) | Err(_) => name,
    }
}

/// Who holds something, in a few words.
fn holders(held_by: &[Holder], left_out: u32) -> String {
    let each = held_by.iter().map(|holder| {
        let who = match holder.command_id.is_empty() {
            false => format!("job {}", holder.command_id),
            true => format!("foreign task {}", holder.foreign_task_id),
        };
        let shared = match holder.mode() {
            LockMode::Shared => " (shared)",
            LockMode::Exclusive | LockMode::Unspecified => "",
        };
        format!("{who}{shared}")
    });
    let mut words = each.collect::<Vec<_>>().join(", ");
    if left_out > 0 {
        words.push_str(&format!(" and {left_out} more"));
    }
    words
}

/// Who holds something, as shortly as can be: whether it is free.
fn is_held(held_by: &[Holder]) -> String {
    match held_by.is_empty() {
        true => "-".to_owned(),
        false => "busy".to_owned(),
    }
}

/// What an unfinished command waits for, in words.
pub(crate) fn waiting(waiting: Option<&proto::engine::v1::WaitingFor>) -> String {
    let Some(waiting) = waiting else {
        return String::new();
    };
    if !waiting.note.is_empty() {
        return waiting.note.clone();
    }
    match &waiting.what {
        None => String::new(),
        Some(waiting_for::What::HostId(id)) => format!("host {id}, which is away"),
        Some(waiting_for::What::TaskId(id)) => format!("task {id}"),
        Some(waiting_for::What::CommandId(id)) => format!("command {id}"),
        Some(waiting_for::What::Attention(fault)) => format!("a decision: {}", in_words(fault)),
        Some(waiting_for::What::Locks(locks)) => {
            let who = locks.by.iter().filter_map(|lock| lock.holder.as_ref());
            let who: Vec<_> = who.map(|holder| holder.command_id.clone()).collect();
            format!("its locks, which {} have", who.join(", "))
        }
    }
}

fn percent(job: &Job) -> String {
    format!("{:.0} %", job.percent.floor())
}

fn fault(fault: Option<&proto::task::v1::Fault>) -> String {
    fault.map(in_words).unwrap_or_default()
}

impl Shown for Job {
    columns!(
        ["JOB", "STATE", "DONE", "WHAT", "STARTED"],
        ["TOOK", "BY", "FAULT"]
    );

    fn row(&self, is_wide: bool, now: SystemTime) -> Vec<String> {
        let narrow = vec![
            self.job_id.clone(),
            command_state(self.state),
            percent(self),
            self.description.clone(),
            words::ago(self.start_time.as_ref(), now),
        ];
        row(narrow, is_wide, || {
            let took = words::took(self.start_time.as_ref(), self.end_time.as_ref(), now);
            vec![took, self.user.clone(), fault(self.fault.as_ref())]
        })
    }

    fn facts(&self, now: SystemTime) -> Vec<(&'static str, String)> {
        let done = match self.total_bytes {
            0 => percent(self),
            total => format!(
                "{}, {} of {}",
                percent(self),
                words::bytes(self.done_bytes),
                words::bytes(total)
            ),
        };
        vec![
            ("Job", self.job_id.clone()),
            ("What", self.description.clone()),
            ("State", command_state(self.state)),
            ("Done", done),
            ("Fault", fault(self.fault.as_ref())),
            ("By", self.user.clone()),
            ("Correlation id", self.correlation_id.clone()),
            ("Started", words::moment(self.start_time.as_ref())),
            ("Ended", words::moment(self.end_time.as_ref())),
            (
                "Took",
                words::took(self.start_time.as_ref(), self.end_time.as_ref(), now),
            ),
        ]
    }

    fn reference(&self) -> String {
        format!("job/{}", self.job_id)
    }
}

impl Shown for EngineInfo {
    columns!(["ENGINE", "VERSION", "STARTED"], []);

    fn row(&self, _: bool, now: SystemTime) -> Vec<String> {
        let started = words::ago(self.start_time.as_ref(), now);
        vec![self.engine_id.clone(), self.version.clone(), started]
    }

    fn facts(&self, _: SystemTime) -> Vec<(&'static str, String)> {
        vec![
            ("taskctl", env!("CARGO_PKG_VERSION").to_owned()),
            ("Engine", self.version.clone()),
            ("Engine ID", self.engine_id.clone()),
            ("Start", self.epoch.to_string()),
            ("Started", words::moment(self.start_time.as_ref())),
            ("No commands", fault(self.refuses_commands.as_ref())),
        ]
    }

    fn reference(&self) -> String {
        format!("engine/{}", self.engine_id)
    }
}

impl Shown for WhoAmIResponse {
    columns!(["USER", "ROLE"], ["MAY CALL"]);

    fn row(&self, is_wide: bool, _: SystemTime) -> Vec<String> {
        row(vec![self.user.clone(), role(self)], is_wide, || {
            vec![self.permitted_rpcs.join(", ")]
        })
    }

    fn facts(&self, _: SystemTime) -> Vec<(&'static str, String)> {
        let name = |rpc: &String| rpc.rsplit('/').next().unwrap_or_default().to_owned();
        let permitted: Vec<String> = self.permitted_rpcs.iter().map(name).collect();
        vec![
            ("User", self.user.clone()),
            ("Role", role(self)),
            ("May call", permitted.join(", ")),
        ]
    }

    fn reference(&self) -> String {
        format!("user/{}", self.user)
    }
}

fn role(who: &WhoAmIResponse) -> String {
    match who.authenticated {
        true => word!(Role, who.role, "ROLE_"),
        false => "none: this connection is plain text, over which everybody may do everything".to_owned(),
    }
}

impl Shown for Command {
    columns!(["COMMAND", "STATE", "WHAT", "WAITS FOR"], ["STARTED", "BY"]);

    fn row(&self, is_wide: bool, now: SystemTime) -> Vec<String> {
        let narrow = vec![
            self.command_id.clone(),
            command_state(self.state),
            kind_of(self),
            waiting(self.waiting_for.as_ref()),
        ];
        row(narrow, is_wide, || {
            vec![words::ago(self.create_time.as_ref(), now), self.user.clone()]
        })
    }

    fn facts(&self, now: SystemTime) -> Vec<(&'static str, String)> {
        let left: Vec<_> = self.left_behind.iter().map(|entity| entity.id.clone()).collect();
        vec![
            ("Command", self.command_id.clone()),
            ("What", kind_of(self)),
            ("State", command_state(self.state)),
            ("Waits for", waiting(self.waiting_for.as_ref())),
            ("Cancel would", self.undo.clone()),
            ("Fault", fault(self.fault.as_ref())),
            ("Left behind", left.join(", ")),
            ("By", self.user.clone()),
            ("Started", words::moment(self.create_time.as_ref())),
            (
                "Took",
                words::took(self.create_time.as_ref(), self.end_time.as_ref(), now),
            ),
        ]
    }

    fn reference(&self) -> String {
        format!("command/{}", self.command_id)
    }
}

/// The verb of a task's operation, as people say it.
pub(crate) fn operation(task: &AsyncTask) -> String {
    use proto::task::v1::operation::Verb;
    let Some(verb) = task
        .operation
        .as_ref()
        .and_then(|operation| operation.verb.as_ref())
    else {
        return "unknown".to_owned();
    };
    match verb {
        Verb::CreateVolume(to) => format!(
            "create volume, disk {}, {}",
            to.image_id,
            words::bytes(to.capacity_bytes)
        ),
        Verb::DeleteImage(of) => format!("delete image of disk {}", of.image_id),
        Verb::CopyVolume(copy) => {
            let image = |at: &Option<proto::task::v1::VolumeAddress>| {
                at.as_ref().map(|at| at.image_id.clone()).unwrap_or_default()
            };
            format!(
                "copy disk {} to disk {}",
                image(&copy.source),
                image(&copy.target)
            )
        }
        Verb::ExtendVolume(to) => {
            let disk = to
                .volume
                .as_ref()
                .map(|at| at.image_id.clone())
                .unwrap_or_default();
            format!("extend disk {disk} to {}", words::bytes(to.capacity_bytes))
        }
        Verb::Noop(_) => "noop".to_owned(),
    }
}

impl Shown for AsyncTask {
    columns!(
        ["TASK", "STATE", "WHAT", "HOST", "STARTED"],
        ["ENGINE'S STATE", "JOB", "TOOK", "FAULT"]
    );

    fn row(&self, is_wide: bool, now: SystemTime) -> Vec<String> {
        let narrow = vec![
            self.task_id.clone(),
            task_state(self),
            operation(self),
            self.host_id.clone(),
            words::ago(self.create_time.as_ref(), now),
        ];
        row(narrow, is_wide, || {
            vec![
                word!(AsyncTaskState, self.async_state, "ASYNC_TASK_STATE_"),
                self.root_command_id.clone(),
                words::took(self.create_time.as_ref(), self.end_time.as_ref(), now),
                fault(self.fault.as_ref()),
            ]
        })
    }

    fn facts(&self, now: SystemTime) -> Vec<(&'static str, String)> {
        vec![
            ("Task", self.task_id.clone()),
            ("What", operation(self)),
            ("Host", self.host_id.clone()),
            ("State", task_state(self)),
            (
                "Engine's state",
                word!(AsyncTaskState, self.async_state, "ASYNC_TASK_STATE_"),
            ),
            ("Waits for", waiting(self.waiting_for.as_ref())),
            ("Cancel would", self.undo.clone()),
            ("Fault", fault(self.fault.as_ref())),
            ("Undo failed", fault(self.undo_fault.as_ref())),
            ("Job", self.root_command_id.clone()),
            ("By", self.user.clone()),
            ("Started", words::moment(self.create_time.as_ref())),
            (
                "Took",
                words::took(self.create_time.as_ref(), self.end_time.as_ref(), now),
            ),
        ]
    }

    fn reference(&self) -> String {
        format!("task/{}", self.task_id)
    }
}

/// As its host said last; before the host has said anything, that it is on its way there.
pub(crate) fn task_state(task: &AsyncTask) -> String {
    match TaskState::try_from(task.state) {
        Ok(TaskState::Unspecified) => "to be sent".to_owned(),
        _ => word!(TaskState, task.state, "TASK_STATE_"),
    }
}

impl Shown for Vm {
    columns!(["VM", "NAME", "DISKS", "HELD"], ["CREATED", "DESCRIPTION"]);

    fn row(&self, is_wide: bool, now: SystemTime) -> Vec<String> {
        let narrow = vec![
            self.vm_id.clone(),
            self.name.clone(),
            self.disk_ids.len().to_string(),
            is_held(&self.held_by),
        ];
        row(narrow, is_wide, || {
            vec![
                words::ago(self.create_time.as_ref(), now),
                self.description.clone(),
            ]
        })
    }

    fn facts(&self, _: SystemTime) -> Vec<(&'static str, String)> {
        vec![
            ("VM", self.vm_id.clone()),
            ("Name", self.name.clone()),
            ("Description", self.description.clone()),
            ("Disks", self.disk_ids.join(", ")),
            ("Created", words::moment(self.create_time.as_ref())),
            ("Held by", holders(&self.held_by, self.held_by_left_out)),
        ]
    }

    fn reference(&self) -> String {
        format!("vm/{}", self.vm_id)
    }
}

impl Shown for GetVmResponse {
    columns!(["VM", "NAME", "DISKS", "HELD"], ["CREATED", "DESCRIPTION"]);

    fn row(&self, is_wide: bool, now: SystemTime) -> Vec<String> {
        self.vm.clone().unwrap_or_default().row(is_wide, now)
    }

    fn facts(&self, now: SystemTime) -> Vec<(&'static str, String)> {
        self.vm.clone().unwrap_or_default().facts(now)
    }

    fn reference(&self) -> String {
        self.vm.clone().unwrap_or_default().reference()
    }
}

impl Shown for Disk {
    columns!(
        ["DISK", "SIZE", "FORMAT", "VM", "DESCRIPTION", "HELD"],
        ["DOMAIN", "SEEN"]
    );

    fn row(&self, is_wide: bool, now: SystemTime) -> Vec<String> {
        let narrow = vec![
            self.disk_id.clone(),
            words::bytes(self.capacity_bytes),
            format(self.format, self.allocation),
            self.vm_id.clone(),
            self.description.clone(),
            is_held(&self.held_by),
        ];
        row(narrow, is_wide, || vec![self.domain_id.clone(), seen(self, now)])
    }

    fn facts(&self, now: SystemTime) -> Vec<(&'static str, String)> {
        vec![
            ("Disk", self.disk_id.clone()),
            (
                "Size",
                format!(
                    "{} ({} bytes)",
                    words::bytes(self.capacity_bytes),
                    self.capacity_bytes
                ),
            ),
            ("Format", format(self.format, self.allocation)),
            ("Description", self.description.clone()),
            ("VM", self.vm_id.clone()),
            ("Domain", self.domain_id.clone()),
            ("Volume", self.volume_id.clone()),
            ("Seen", seen(self, now)),
            ("Held by", holders(&self.held_by, self.held_by_left_out)),
        ]
    }

    fn reference(&self) -> String {
        format!("disk/{}", self.disk_id)
    }
}

/// What storage said of a disk, and when.
fn seen(disk: &Disk, now: SystemTime) -> String {
    let Some(observation) = &disk.observation else {
        return String::new();
    };
    let presence = word!(disk_observation::Presence, observation.presence, "PRESENCE_");
    let note = match observation.note.is_empty() {
        true => String::new(),
        false => format!(": {}", observation.note),
    };
    format!("{presence} {}{note}", words::ago(observation.time.as_ref(), now))
}

impl Shown for StorageDomain {
    columns!(["DOMAIN", "NAME", "HOST", "HELD"], []);

    fn row(&self, _: bool, _: SystemTime) -> Vec<String> {
        vec![
            self.domain_id.clone(),
            self.name.clone(),
            self.host_id.clone(),
            is_held(&self.held_by),
        ]
    }

    fn facts(&self, _: SystemTime) -> Vec<(&'static str, String)> {
        vec![
            ("Domain", self.domain_id.clone()),
            ("Name", self.name.clone()),
            ("Host", self.host_id.clone()),
            ("Held by", holders(&self.held_by, self.held_by_left_out)),
        ]
    }

    fn reference(&self) -> String {
        format!("domain/{}", self.domain_id)
    }
}

impl Shown for Host {
    columns!(
        ["HOST", "NAME", "ADDRESS", "CONNECTION", "FOR", "OPEN TASKS"],
        ["FAULT"]
    );

    fn row(&self, is_wide: bool, now: SystemTime) -> Vec<String> {
        let narrow = vec![
            self.host_id.clone(),
            self.name.clone(),
            self.address.clone(),
            connection(self),
            words::took(self.connection_since.as_ref(), None, now),
            self.open_tasks.to_string(),
        ];
        row(narrow, is_wide, || vec![fault(self.connection_fault.as_ref())])
    }

    fn facts(&self, now: SystemTime) -> Vec<(&'static str, String)> {
        vec![
            ("Host", self.host_id.clone()),
            ("Name", self.name.clone()),
            ("Address", self.address.clone()),
            (
                "Connection",
                format!(
                    "{}, since {}",
                    connection(self),
                    words::ago(self.connection_since.as_ref(), now)
                ),
            ),
            ("Fault", fault(self.connection_fault.as_ref())),
            ("Open tasks", self.open_tasks.to_string()),
            ("Store", self.store_id.clone()),
            ("Held by", holders(&self.held_by, self.held_by_left_out)),
        ]
    }

    fn reference(&self) -> String {
        format!("host/{}", self.host_id)
    }
}

/// Whether a host is connected.
pub(crate) fn connection(host: &Host) -> String {
    word!(host::Connection, host.connection, "CONNECTION_")
}

impl Shown for Event {
    columns!(["TIME", "SEVERITY", "EVENT", "MESSAGE"], ["JOB", "BY"]);

    fn row(&self, is_wide: bool, _: SystemTime) -> Vec<String> {
        let narrow = vec![
            words::moment(self.time.as_ref()),
            word!(Severity, self.severity, "SEVERITY_"),
            self.code.clone(),
            self.message.clone(),
        ];
        row(narrow, is_wide, || {
            vec![self.root_command_id.clone(), self.user.clone()]
        })
    }

    fn facts(&self, _: SystemTime) -> Vec<(&'static str, String)> {
        vec![
            ("Time", words::moment(self.time.as_ref())),
            ("Severity", word!(Severity, self.severity, "SEVERITY_")),
            ("Event", self.code.clone()),
            ("Message", self.message.clone()),
            ("Job", self.root_command_id.clone()),
            ("By", self.user.clone()),
            (
                "From",
                self.audit
                    .as_ref()
                    .map(|audit| audit.peer.clone())
                    .unwrap_or_default(),
            ),
        ]
    }

    fn reference(&self) -> String {
        format!("event/{}", self.event_id)
    }
}
