//! What can be typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::failure::EXIT_CODES;
use crate::words;

/// Operates an engine: what runs, why something does not, and what is to be done.
#[derive(Debug, Parser)]
#[command(name = "taskctl", version, propagate_version = true, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub(crate) struct Line {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes. What is not given here or in the environment comes from the context, as the profile has it.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Take what is not given from this context of the profile [default: the one that `taskctl context use` chose]
    #[arg(long, global = true, env = "TASKCTL_CONTEXT", value_name = "NAME")]
    pub(crate) context: Option<String>,
    #[command(flatten)]
    pub(crate) given: Context,
    /// A text that is recorded with what is done, and that lists can be filtered by
    #[arg(long, global = true, value_name = "TEXT")]
    pub(crate) correlation_id: Option<String>,
}

/// How to reach an engine, as what and for how long, and how to write what the engine says: a context of the profile, and at the
/// same time the options of that name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Context {
    /// The engine: HOST:PORT [default: 127.0.0.1:54320]
    #[arg(long, global = true, env = "TASKCTL_SERVER", value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server: Option<String>,
    /// The CA that the engine's certificate is of, as PEM; with it the connection is TLS
    #[arg(long, global = true, env = "TASKCTL_TLS_CA", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// Your certificate, as PEM; it says who you are
    #[arg(long, global = true, env = "TASKCTL_TLS_CERT", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The key of your certificate, as PEM
    #[arg(long, global = true, env = "TASKCTL_TLS_KEY", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Who asks; recorded with what is done. Over TLS your certificate says so instead
    #[arg(long, global = true, env = "TASKCTL_USER", value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    /// How to write what is found [default: table]
    #[arg(short, long, global = true, env = "TASKCTL_OUTPUT", value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) output: Option<Format>,
    /// How long to wait for an engine that does not answer, and for an answer that is no stream [default: 30s]
    #[arg(long, global = true, value_parser = humantime::parse_duration, value_name = "TIME")]
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "crate::profile::time"
    )]
    pub(crate) timeout: Option<Duration>,
}

/// How output looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Format {
    /// Columns for people
    #[default]
    Table,
    /// More columns, with whole ids and exact times
    Wide,
    /// The message as the contract's JSON mapping has it; a list or a watch has one object a line
    Json,
    /// The same as YAML documents
    Yaml,
    /// KIND/ID, one a line
    Name,
}

/// Nouns, and short words for what is asked for most.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// What runs or waits now, how far it is, and why it does not go on
    Ps(ListSize),
    /// Why a job or an entity does not go on: the chain down to what holds it up
    Why {
        /// A job, or NAME or ID of a VM, disk, domain or host
        what: String,
    },
    /// The tree of a job's commands and tasks
    Tree {
        /// The job's ID
        job: String,
    },
    /// Jobs: what was asked for, and how far it is
    #[command(subcommand)]
    Job(Job),
    /// Tasks: the operations on hosts
    #[command(subcommand)]
    Task(Task),
    /// Virtual machines
    #[command(subcommand)]
    Vm(Vm),
    /// Disks
    #[command(subcommand)]
    Disk(Disk),
    /// Storage domains
    #[command(subcommand)]
    Domain(Domain),
    /// Hosts
    #[command(subcommand)]
    Host(Host),
    /// What happened
    #[command(subcommand)]
    Event(Event),
    /// Looks at the connection, the versions, the hosts, and what needs attention
    Doctor,
    /// Who you are to the engine, and what you may call
    Whoami,
    /// The versions of this program and of the engine
    Version,
    /// Contexts: engines by name, each with how to reach it
    #[command(subcommand)]
    Context(Contexts),
    /// Writes the manual's pages into a directory
    #[command(hide = true)]
    Manual {
        /// The directory
        directory: PathBuf,
    },
    /// Writes a completion script for a shell to standard output
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// What can be done with contexts. They are in the profile: the file that TASKCTL_PROFILE names, else
/// `$XDG_CONFIG_HOME/taskctl/profile.toml`, else `~/.config/taskctl/profile.toml`.
#[derive(Debug, Subcommand)]
pub(crate) enum Contexts {
    /// Contexts; an asterisk marks the one in use
    List,
    /// A context
    Show {
        /// Its name [default: the one in use]
        name: Option<String>,
    },
    /// Uses a context from now on
    Use {
        /// Its name
        name: String,
    },
    /// Writes a context from the options of this command line and the environment; what is not given stays as it was
    Set {
        /// Its name; the first context that is written is also the one in use
        name: String,
    },
    /// Removes a context
    Remove {
        /// Its name
        name: String,
    },
}

/// How much of a list.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct ListSize {
    /// At most so many; 0 for all
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub(crate) limit: usize,
}

/// How to ask for work.
#[derive(Debug, Clone, Args)]
pub(crate) struct Asked {
    /// Print the job's ID and do not follow the job
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Print what would be done, and do nothing
    #[arg(long, conflicts_with = "detach")]
    pub(crate) plan: bool,
    /// If somebody else has what is needed, wait for it so long (10m, 2h) instead of being refused
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    pub(crate) lock_wait: Option<Duration>,
    /// Makes a repeat safe: the same UUID again gives the same job [default: a new one]
    #[arg(long, value_name = "UUID")]
    pub(crate) request_id: Option<String>,
}

/// Which jobs.
#[derive(Debug, Default, Args)]
pub(crate) struct JobFilter {
    /// Only those in these states
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) state: Vec<State>,
    /// Only unfinished ones
    #[arg(long, conflicts_with = "state")]
    pub(crate) unfinished: bool,
    /// Only those about this VM, disk, domain or host: NAME or ID
    #[arg(long, value_name = "ENTITY")]
    pub(crate) about: Option<String>,
    /// Only those that this user asked for
    #[arg(long, value_name = "NAME")]
    pub(crate) by: Option<String>,
    /// Only those with this correlation id
    #[arg(long, value_name = "TEXT")]
    pub(crate) correlated: Option<String>,
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum State {
    /// It waits for its locks
    Pending,
    /// It is at work
    Active,
    /// What it did is being undone
    Compensating,
    /// It is done
    Succeeded,
    /// It has failed
    Failed,
    /// It was stopped, with no net change
    Cancelled,
    /// Somebody must decide
    NeedsAttention,
}

/// What can be done with jobs.
#[derive(Debug, Subcommand)]
pub(crate) enum Job {
    /// Jobs, newest first
    List {
        #[command(flatten)]
        filter: JobFilter,
        #[command(flatten)]
        size: ListSize,
    },
    /// A job with its steps
    Show {
        /// The job's ID
        job: String,
    },
    /// Follows a job to its end; without one, all changes of all jobs
    Watch {
        /// The job's ID
        job: Option<String>,
    },
    /// Waits until a job has ended or rests
    Wait {
        /// The job's ID
        job: String,
    },
    /// Stops a job and undoes what it did
    Cancel {
        /// The job's ID
        job: String,
        /// Do not follow the job
        #[arg(short, long)]
        detach: bool,
    },
    /// Tries again what made a job rest
    Retry {
        /// The job's ID
        job: String,
        /// Do not follow the job
        #[arg(short, long)]
        detach: bool,
    },
    /// Gives up a job that rests: it fails, and names what is left behind
    Abandon {
        /// The job's ID
        job: String,
        /// Why, for the records
        #[arg(long)]
        reason: String,
    },
}

/// What can be seen of tasks.
#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Tasks, newest first
    List {
        /// Only those of this host: NAME or ID
        #[arg(long)]
        host: Option<String>,
        /// Only those of this job
        #[arg(long, value_name = "ID")]
        job: Option<String>,
        #[command(flatten)]
        size: ListSize,
    },
    /// A task
    Show {
        /// The task's ID
        task: String,
    },
    /// Follows all changes of tasks
    Watch {
        /// Only those of this host: NAME or ID
        #[arg(long)]
        host: Option<String>,
        /// Only those of this job
        #[arg(long, value_name = "ID")]
        job: Option<String>,
    },
}

/// How a disk keeps its data.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum DiskFormat {
    /// The bytes as they are
    Raw,
    /// qcow2
    Qcow2,
}

/// What a disk is to be.
#[derive(Debug, Clone, Args)]
pub(crate) struct DiskKind {
    /// How the disk keeps its data
    #[arg(long, value_enum, default_value_t = DiskFormat::Raw)]
    pub(crate) format: DiskFormat,
    /// Take all of the space at once
    #[arg(long)]
    pub(crate) preallocate: bool,
    /// For people
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    pub(crate) description: String,
}

/// What can be done with VMs.
#[derive(Debug, Subcommand)]
pub(crate) enum Vm {
    /// Creates a VM with its disks, all at once
    Create {
        /// The VM's name
        name: String,
        /// A disk of this size, such as 10G; once for each disk
        #[arg(long = "disk", value_parser = words::size, value_name = "SIZE", requires = "domain")]
        disks: Vec<i64>,
        /// Where the disks lie: NAME or ID of a storage domain
        #[arg(long)]
        domain: Option<String>,
        #[command(flatten)]
        kind: DiskKind,
        #[command(flatten)]
        asked: Asked,
    },
    /// VMs
    List {
        #[command(flatten)]
        size: ListSize,
    },
    /// A VM with its disks
    Show {
        /// NAME or ID
        vm: String,
    },
    /// Removes a VM and all its disks
    Remove {
        /// NAME or ID
        vm: String,
        #[command(flatten)]
        asked: Asked,
    },
}

/// What can be done with disks.
#[derive(Debug, Subcommand)]
pub(crate) enum Disk {
    /// Creates a disk that belongs to no VM
    Create {
        /// The disk's size, such as 10G
        #[arg(value_parser = words::size)]
        size: i64,
        /// NAME or ID of a storage domain
        #[arg(long)]
        domain: String,
        #[command(flatten)]
        kind: DiskKind,
        #[command(flatten)]
        asked: Asked,
    },
    /// Disks
    List {
        /// Only those of this VM: NAME or ID
        #[arg(long)]
        vm: Option<String>,
        /// Only those in this storage domain: NAME or ID
        #[arg(long)]
        domain: Option<String>,
        #[command(flatten)]
        size: ListSize,
    },
    /// A disk
    Show {
        /// The disk's ID
        disk: String,
    },
    /// What was done with a disk: its jobs, newest first
    History {
        /// The disk's ID
        disk: String,
        #[command(flatten)]
        size: ListSize,
    },
    /// Copies a disk to a new one
    Copy {
        /// The ID of the disk that is copied
        disk: String,
        /// Where the copy lies: NAME or ID of a storage domain [default: the source's]
        #[arg(long)]
        domain: Option<String>,
        #[command(flatten)]
        kind: DiskKind,
        /// Compare the two before the copy counts
        #[arg(long)]
        verify: bool,
        #[command(flatten)]
        asked: Asked,
    },
    /// Makes a disk larger
    Extend {
        /// The disk's ID
        disk: String,
        /// The disk's new size, such as 20G
        #[arg(value_parser = words::size)]
        size: i64,
        #[command(flatten)]
        asked: Asked,
    },
    /// Gives a disk to a VM
    Attach {
        /// The disk's ID
        disk: String,
        /// NAME or ID of the VM
        vm: String,
        #[command(flatten)]
        asked: Asked,
    },
    /// Takes a disk from its VM; the disk stays
    Detach {
        /// The disk's ID
        disk: String,
        /// NAME or ID of the VM
        vm: String,
        #[command(flatten)]
        asked: Asked,
    },
    /// Removes a disk that is attached to no VM
    Remove {
        /// The disk's ID
        disk: String,
        #[command(flatten)]
        asked: Asked,
    },
}

/// What can be done with storage domains.
#[derive(Debug, Subcommand)]
pub(crate) enum Domain {
    /// Creates a storage domain below a host's storage root
    Create {
        /// The domain's name
        name: String,
        /// NAME or ID of the host that serves the domain
        #[arg(long)]
        host: String,
        #[command(flatten)]
        asked: Asked,
    },
    /// Storage domains
    List {
        /// Only those that this host serves: NAME or ID
        #[arg(long)]
        host: Option<String>,
        #[command(flatten)]
        size: ListSize,
    },
    /// A storage domain
    Show {
        /// NAME or ID
        domain: String,
    },
}

/// What can be done with hosts.
#[derive(Debug, Subcommand)]
pub(crate) enum Host {
    /// Takes a host for this engine
    Add {
        /// What to call the host
        name: String,
        /// HOST:PORT
        address: String,
        /// The UUID that the host was configured with
        #[arg(long, value_name = "UUID")]
        id: String,
        /// The DNS name that the host's certificate must have [default: the URI host:UUID]
        #[arg(long, value_name = "NAME")]
        identity: Option<String>,
        #[command(flatten)]
        asked: Asked,
    },
    /// Hosts, and whether they are connected
    List {
        #[command(flatten)]
        size: ListSize,
    },
    /// A host
    Show {
        /// NAME or ID
        host: String,
    },
    /// Gives a host up
    Remove {
        /// NAME or ID
        host: String,
        #[command(flatten)]
        asked: Asked,
    },
    /// Takes a host whose engine is gone for good, or that another life of this engine has
    TakeOver {
        /// NAME or ID of a host that is recorded, else its UUID with --name and --address
        host: String,
        /// What to call a host that is not recorded
        #[arg(long, requires = "address")]
        name: Option<String>,
        /// HOST:PORT of a host that is not recorded
        #[arg(long, requires = "name")]
        address: Option<String>,
        /// The DNS name that the certificate of a host that is not recorded must have [default: the URI host:UUID]
        #[arg(long, requires = "name", value_name = "NAME")]
        identity: Option<String>,
        /// Why, for the records
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        asked: Asked,
    },
}

/// What can be seen of events.
#[derive(Debug, Subcommand)]
pub(crate) enum Event {
    /// Events, newest first
    List {
        /// Show the entries of the engine's audit log instead: calls that changed something, and refusals
        #[arg(long)]
        audit: bool,
        #[command(flatten)]
        filter: EventFilter,
        #[command(flatten)]
        size: ListSize,
    },
    /// The last events, and then each new one
    Tail {
        #[command(flatten)]
        filter: EventFilter,
    },
}

/// Which events.
#[derive(Debug, Args)]
pub(crate) struct EventFilter {
    /// Only these and the graver ones
    #[arg(long, value_enum, default_value_t = Severity::Info)]
    pub(crate) severity: Severity,
    /// Only those of this job
    #[arg(long, value_name = "ID")]
    pub(crate) job: Option<String>,
    /// Only those about this VM, disk, domain or host: NAME or ID
    #[arg(long, value_name = "ENTITY")]
    pub(crate) about: Option<String>,
}

/// How grave an event is.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Severity {
    /// For the records
    Info,
    /// Not as it should be
    Warning,
    /// It has failed
    Error,
    /// Somebody must act
    Alert,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_made() {
        Line::command().debug_assert();
    }
}
