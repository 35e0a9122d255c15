//! Acceptance: a request is a repeat, is refused, or becomes a whole tree of commands, recorded at once.

use common::{Fault, FaultCode};

use super::Reply;
use super::tx::Tx;
use crate::change::Change;
use crate::effect::Effect;
use crate::input::Submission;
use crate::model::{EntityKey, Holder, Parameters};
use crate::plan::{self, Draft, Records};
use crate::state::{Owner, RequestScope};
use crate::when::utc;

impl Tx<'_> {
    pub(super) fn submit(&mut self, asked: Submission) -> Reply {
        if let Some(reply) = self.repeat(&asked) {
            return reply;
        }
        let planned = plan::draft(self.state, &asked).and_then(|draft| self.lockable(&asked, draft));
        let draft = match planned {
            Ok(draft) => draft,
            Err(fault) => return Reply::Refused(fault),
        };
        let records = draft.records(self.state, &asked, self.next_seq(), self.now);
        if asked.validate_only {
            as_planned(records)
        } else {
            self.accept(records)
        }
    }

    fn repeat(&self, asked: &Submission) -> Option<Reply> {
        let scope = RequestScope {
            user: asked.user.clone(),
            rpc: asked.rpc.clone(),
            request_id: asked.request_id,
        };
        let before = self.state.accepted(&scope)?;
        if before.digest != asked.digest {
            let message = format!(
                "request {} was used before for another request, which became command {}; take a new id",
                asked.request_id, before.command_id
            );
            return Some(Reply::Refused(
                Fault::new(FaultCode::RequestIdReused, message).about("request_id"),
            ));
        }
        Some(Reply::Accepted {
            command_id: before.command_id,
            command: self.state.command(before.command_id).cloned().map(Box::new),
            repeat: true,
        })
    }

    fn lockable(&mut self, asked: &Submission, draft: Draft) -> Result<Draft, Fault> {
        match self.state.obstacle(&draft.locks, asked.command_id) {
            Some((key, owner)) => Err(self.busy(&key, owner)),
            None => Ok(draft),
        }
    }

    fn busy(&self, key: &EntityKey, owner: Owner) -> Fault {
        let by = match self.state.describe(owner) {
            Some(Holder::Command {
                command_id,
                user,
                since,
            }) => format!("by command {command_id} of {user} since {}", utc(since)),
            Some(Holder::ForeignTask {
                task_id,
                host_id,
                since,
            }) => {
                format!(
                    "by task {task_id} on host {host_id}, which is none of this engine's, since {}",
                    utc(since)
                )
            }
            None => "by something that has just ended; try again".to_owned(),
        };
        Fault::new(FaultCode::EntityBusy, format!("{key} is held {by}")).about(key)
    }

    /// The root comes last: it is what makes the rest count.
    fn accept(&mut self, records: Records) -> Reply {
        let Records { root, children } = records;
        let id = root.id;
        let tasks: Vec<_> = children
            .iter()
            .filter_map(|(_, task)| task.as_ref().map(|task| task.id))
            .collect();
        for (command, task) in children {
            self.put(Change::Command(Box::new(command)));
            self.put_all(task.map(|task| Change::Task(Box::new(task))));
        }
        self.put(Change::Command(Box::new(root.clone())));
        if let Parameters::AddHost(p) = &root.parameters {
            self.effect(Effect::Follow {
                host_id: p.host_id,
                address: p.address.clone(),
            });
        }
        for task_id in tasks {
            self.ask(task_id);
        }
        self.call_if_connected(id);
        // Bottom up: where there is nothing to do, a parent has ended before its own parent asks for it.
        for part in self.state.tree_of(id).into_iter().rev() {
            self.decide(part);
        }
        let command = self.state.command(id).cloned().unwrap_or(root);
        Reply::Accepted {
            command_id: id,
            command: Some(Box::new(command)),
            repeat: false,
        }
    }
}

fn as_planned(records: Records) -> Reply {
    let (children, tasks): (Vec<_>, Vec<_>) = records.children.into_iter().unzip();
    Reply::Planned {
        command: Box::new(records.root),
        children,
        tasks: tasks.into_iter().flatten().collect(),
    }
}
