//! Tells what happens to one command tree, edge by edge, until it is over.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proto::engine::v1::{AsyncTask, Command, CommandKind, command_parameters::Kind};
use tests::failure::{Context, Failure, TestResult};
use tests::words;

use crate::edges::{Edge, Edges, is_cleared, word};
use crate::stage::{Stage, Tone};

/// The demo's work takes seconds; more means that something is stuck.
const LIMIT: Duration = Duration::from_secs(90);

/// What is known of one command tree from its edges.
#[derive(Debug, Default)]
pub(crate) struct Tale {
    /// The root as it was last told.
    pub(crate) root: Option<Command>,
    /// Its tasks as they were last told.
    pub(crate) tasks: BTreeMap<String, AsyncTask>,
}

impl Tale {
    /// The root has ended and its host needs to know nothing more.
    pub(crate) fn is_over(&self) -> bool {
        let root_is_over = self
            .root
            .as_ref()
            .is_some_and(|root| words::command_is_over(root.state));
        root_is_over && self.tasks.values().all(is_cleared)
    }

    fn hear(&mut self, edge: &Edge) {
        match edge {
            Edge::Command { command, .. } if command.parent_command_id.is_empty() => {
                self.root = Some(command.as_ref().clone());
            }
            Edge::Command { .. } => {}
            Edge::Task { task, .. } => {
                self.tasks.insert(task.task_id.clone(), task.as_ref().clone());
            }
        }
    }
}

/// The one who tells it.
#[derive(Debug)]
pub(crate) struct Narrator {
    edges: Edges,
    /// What the demo calls things, by their ids.
    names: BTreeMap<String, String>,
    began: Instant,
}

impl Narrator {
    /// Tells what these edges bring.
    pub(crate) fn new(edges: Edges) -> Self {
        Self {
            edges,
            names: BTreeMap::new(),
            began: Instant::now(),
        }
    }

    /// Gives a thing a name for people.
    pub(crate) fn call(&mut self, id: &str, name: impl Into<String>) {
        self.names.insert(id.to_owned(), name.into());
    }

    /// The beginning of an act: times count from here.
    pub(crate) fn begin(&mut self, stage: &mut Stage) {
        self.began = Instant::now();
        let head = format!(
            "{:>9}  {:<8} {:<39} {:<46} {:>12}",
            "time", "", "what", "edge", "since commit"
        );
        stage.note(head);
    }

    /// Tells the edges of a command tree until `enough`.
    ///
    /// # Errors
    /// When that never comes.
    pub(crate) async fn tell(
        &mut self,
        stage: &mut Stage,
        root: &str,
        tale: &mut Tale,
        mut enough: impl FnMut(&Tale, Option<&Edge>) -> bool,
    ) -> TestResult<()> {
        let end = tokio::time::Instant::now() + LIMIT;
        while !enough(tale, None) {
            let next = tokio::time::timeout_at(end, self.edges.next()).await;
            let edge = next
                .map_err(|_| Failure::new(format!("nothing happens any more: {:?}", tale.root)))?
                .context("the watch streams ended")?;
            if edge.root() != root {
                continue;
            }
            tale.hear(&edge);
            let done = enough(tale, Some(&edge));
            self.show(stage, &edge);
            if done {
                break;
            }
        }
        Ok(())
    }

    fn show(&self, stage: &mut Stage, edge: &Edge) {
        let (sort, what, from, to, delay) = match edge {
            Edge::Command { command, from, delay } => {
                let to = words::command_state(command.state);
                ("command", self.command(command), from.clone(), to, delay)
            }
            Edge::Task {
                task,
                from,
                async_from,
                delay,
            } => {
                let to = word(task.state);
                if *from == to {
                    let to = words::async_state(task.async_state);
                    ("record", self.task(task), async_from.clone(), to, delay)
                } else {
                    ("task", self.task(task), from.clone(), to, delay)
                }
            }
        };
        let aside = sort == "record";
        let tone = |tone| if aside { Tone::Dim } else { tone };
        let from = if from.is_empty() { "·".to_owned() } else { from };
        let delay = delay.map_or_else(String::new, |time| format!("{:.2} ms", time.as_secs_f64() * 1e3));
        let line = format!(
            "  {:>7.3} s  {} {} {} → {} {:>12}",
            self.began.elapsed().as_secs_f64(),
            stage.column(tone(Tone::Plain), sort, 8),
            stage.column(tone(Tone::Plain), &what, 39),
            stage.column(Tone::Dim, &from, 21),
            stage.column(tone(Tone::of(&to)), &to, 22),
            delay
        );
        stage.line(line.trim_end());
    }

    fn command(&self, command: &Command) -> String {
        let kind = kind_in_words(command.kind);
        let subject = match command.parameters.as_ref().and_then(|p| p.kind.as_ref()) {
            Some(Kind::CreateImage(it)) => it.disk.as_ref().map(|disk| self.name(&disk.disk_id)),
            Some(Kind::RemoveImage(it)) => Some(self.name(&it.disk_id)),
            Some(Kind::CreateVm(it)) => Some(it.name.clone()),
            Some(Kind::RemoveVm(it)) => Some(it.name.clone()),
            Some(Kind::AddHost(it)) => Some(it.name.clone()),
            Some(Kind::CreateStorageDomain(it)) => Some(it.name.clone()),
            Some(Kind::RemoveAllVmImages(it)) => Some(self.name(&it.vm_id)),
            Some(Kind::RemoveHost(it)) => Some(self.name(&it.host_id)),
            Some(Kind::TakeOverHost(it)) => Some(self.name(&it.host_id)),
            Some(Kind::CreateDisk(it)) => it.disk.as_ref().map(|disk| self.name(&disk.disk_id)),
            Some(Kind::RemoveDisk(it)) => Some(self.name(&it.disk_id)),
            Some(Kind::AttachDisk(it)) => Some(self.name(&it.disk_id)),
            Some(Kind::DetachDisk(it)) => Some(self.name(&it.disk_id)),
            Some(Kind::ExtendDisk(it)) => Some(self.name(&it.disk_id)),
            Some(Kind::CopyDisk(it)) => it.disk.as_ref().map(|disk| self.name(&disk.disk_id)),
            Some(Kind::CopyImage(it)) => it.disk.as_ref().map(|disk| self.name(&disk.disk_id)),
            None => None,
        };
        format!("{kind} {}", subject.unwrap_or_default())
    }

    fn task(&self, task: &AsyncTask) -> String {
        use proto::task::v1::VolumeAddress;
        use proto::task::v1::operation::Verb;
        match task
            .operation
            .as_ref()
            .and_then(|operation| operation.verb.as_ref())
        {
            Some(Verb::CreateVolume(it)) => format!("create_volume {}", self.name(&it.image_id)),
            Some(Verb::CopyVolume(it)) => {
                let name = |volume: &Option<VolumeAddress>| {
                    volume
                        .as_ref()
                        .map_or_else(String::new, |volume| self.name(&volume.image_id))
                };
                format!("copy_volume {} to {}", name(&it.source), name(&it.target))
            }
            Some(Verb::DeleteImage(it)) => format!("delete_image {}", self.name(&it.image_id)),
            Some(Verb::ExtendVolume(it)) => {
                let volume = it.volume.clone().unwrap_or_default();
                format!("extend_volume {}", self.name(&volume.image_id))
            }
            Some(Verb::Noop(_)) | None => words::short(&task.task_id).to_owned(),
        }
    }

    fn name(&self, id: &str) -> String {
        self.names
            .get(id)
            .cloned()
            .unwrap_or_else(|| words::short(id).to_owned())
    }
}

impl Narrator {
    /// A text for people with the demo's names, or short forms, in the place of ids.
    pub(crate) fn retold(&self, text: &str) -> String {
        let mut words: Vec<String> = Vec::new();
        for word in text.split(' ') {
            let id = word.trim_end_matches([':', ',']);
            if id.len() != 36 || id.matches('-').count() != 4 {
                words.push(word.to_owned());
                continue;
            }
            let name = self.name(id) + &word[id.len()..];
            // "disk 1", and not "disk disk 1".
            words.pop_if(|last| name.starts_with(&format!("{last} ")));
            words.push(name);
        }
        words.join(" ")
    }
}

/// `REMOVE_VM` as `RemoveVm`, as its RPC is called.
pub(crate) fn kind_in_words(kind: i32) -> String {
    let known = CommandKind::try_from(kind).is_ok();
    let word = words::command_kind(kind);
    if !known {
        return word;
    }
    word.split('_')
        .map(|part| {
            let (first, rest) = part.split_at(1.min(part.len()));
            first.to_owned() + &rest.to_lowercase()
        })
        .collect()
}
