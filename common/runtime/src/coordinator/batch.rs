//! What a run of inputs has come to, before its commit.

use std::sync::Arc;

use common::revision::Revision;
use prost::Message as _;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::{Answer, Envelope, Perform, Refusal};
use crate::log::{Entry, Log};
use crate::machine::Machine;
use crate::store::{Commit, Write};
use crate::{clock, failpoint};

/// Inputs in a batch: with random keys a group of this size makes some 60 thousand updates a second, and larger
/// ones gain little and make each caller wait longer.
const MAX_INPUTS: usize = 512;

/// From so many revisions on a batch is worth a thread of its own: handing it over costs a wake-up, which would double
/// the time of a lone revision's commit.
const LARGE: usize = 64;

/// Bytes in a batch, which stay in memory until it is durable.
const MAX_BYTES: usize = 8 << 20;

type Answerer<M> = oneshot::Sender<Result<Answer<<M as Machine>::Reply>, Refusal>>;

pub(super) struct Batch<M: Machine> {
    max_inputs: usize,
    last: Revision,
    inputs: usize,
    bytes: usize,
    commits: Vec<Commit>,
    histories: Vec<M::History>,
    answers: Vec<(Answerer<M>, M::Reply, Revision)>,
    outcomes: Vec<Outcome<M>>,
    notes: Vec<oneshot::Sender<()>>,
}

/// What fail points and effects need to know of an input.
struct Outcome<M: Machine> {
    /// Empty where no fail point can be hit.
    label: String,
    changes: bool,
    effects: Vec<M::Effect>,
}

impl<M: Machine> Batch<M> {
    /// An empty batch, after revision `last`.
    pub(super) fn after(last: Revision) -> Self {
        Self {
            max_inputs: if failpoint::single_batches() {
                1
            } else {
                MAX_INPUTS
            },
            last,
            inputs: 0,
            bytes: 0,
            commits: Vec::new(),
            histories: Vec::new(),
            answers: Vec::new(),
            outcomes: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.inputs >= self.max_inputs || self.bytes >= MAX_BYTES
    }

    pub(super) fn is_large(&self) -> bool {
        self.commits.len() >= LARGE
    }

    /// Whether nothing was stepped.
    pub(super) fn is_empty(&self) -> bool {
        self.inputs == 0
    }

    pub(super) fn last(&self) -> Revision {
        self.last
    }

    /// The revisions, which are then no longer here.
    pub(super) fn take_commits(&mut self) -> Arc<[Commit]> {
        std::mem::take(&mut self.commits).into()
    }

    /// Steps the machine with one more input.
    pub(super) fn step(&mut self, machine: &mut M, envelope: Envelope<M>) {
        let label = if failpoint::armed() {
            M::label(&envelope.input)
        } else {
            String::new()
        };
        let now = clock::now();
        let step = machine.step(envelope.input, now);
        self.inputs += 1;
        let changes = !step.revisions.is_empty();
        for change in step.revisions {
            self.last = self.last.next();
            let history = change.history.encode_to_vec();
            let records = change
                .writes
                .iter()
                .map(|write| write.key.len() + write.value.as_ref().map_or(0, Vec::len));
            self.bytes += history.len() + records.sum::<usize>();
            self.commits.push(Commit {
                revision: self.last,
                time: now,
                history,
                writes: change.writes,
            });
            self.histories.push(change.history);
        }
        if let Some(answer) = envelope.answer {
            self.answers.push((answer, step.reply, self.last));
        }
        if changes || !step.effects.is_empty() {
            self.outcomes.push(Outcome {
                label,
                changes,
                effects: step.effects,
            });
        }
    }

    /// Takes in records that the machine has no part in; `noted` hears when they are durable.
    pub(super) fn note(&mut self, writes: Vec<Write>, noted: oneshot::Sender<()>) {
        self.last = self.last.next();
        self.inputs += 1;
        self.commits.push(Commit {
            revision: self.last,
            time: clock::now(),
            history: M::History::default().encode_to_vec(),
            writes,
        });
        self.histories.push(M::History::default());
        self.notes.push(noted);
    }

    /// Passes a fail point of each input that has revisions.
    pub(super) fn hit(&self, point: &str) {
        if failpoint::armed() {
            for outcome in self.outcomes.iter().filter(|outcome| outcome.changes) {
                failpoint::hit(&format!("{point}/{}", outcome.label));
            }
        }
    }

    /// The commit failed: nobody is told anything of it.
    pub(super) fn refuse(self, refusal: Refusal) {
        for (answer, _, _) in self.answers {
            // Whoever no longer waits for the answer does not miss it.
            let _ = answer.send(Err(refusal));
        }
    }

    /// Its `commits` are durable. Shows and publishes first, so that whoever is answered sees what is theirs, and in this
    /// order, so that whoever sees a change in the log sees nothing in memory that was before it. Answers before it wakes
    /// watchers: there may be many, and each that is woken may take the processor from this thread. The effects, which
    /// nobody waits for, come last.
    pub(super) fn finish(
        self,
        commits: &[Commit],
        log: &Log<M::History>,
        perform: &mut impl Perform<M::Effect>,
    ) {
        let start = log.identity().start;
        let entries = commits.iter().zip(self.histories).map(|(commit, history)| Entry {
            revision: commit.revision,
            start,
            time: commit.time,
            history,
            bytes: commit.history.len(),
        });
        for effect in self.outcomes.iter().flat_map(|outcome| &outcome.effects) {
            perform.show(effect);
        }
        log.publish(entries.collect());
        let answers = self.answers.into_iter().map(|(answer, reply, revision)| {
            let token = log.token_at(revision, start);
            (answer, Answer { reply, token })
        });
        answer_all::<M>(answers.collect());
        for noted in self.notes {
            // Whoever no longer waits for it does not miss it.
            let _ = noted.send(());
        }
        if !commits.is_empty() {
            log.wake();
        }
        for outcome in self.outcomes {
            for effect in outcome.effects {
                if failpoint::armed() {
                    failpoint::hit(&format!("effect.before/{}", outcome.label));
                }
                perform.perform(effect);
            }
        }
    }
}

/// Answers those who wait. Many of them from within the runtime that they wait in: to wake each of them from outside
/// takes a lock that all threads want.
fn answer_all<M: Machine>(answers: Vec<(Answerer<M>, Answer<M::Reply>)>) {
    let many = answers.len() >= LARGE;
    let all = move || {
        for (answerer, answer) in answers {
            // Whoever no longer waits for the answer does not miss it.
            let _ = answerer.send(Ok(answer));
        }
    };
    match Handle::try_current() {
        Ok(runtime) if many => drop(runtime.spawn(async move { all() })),
        _ => all(),
    }
}
