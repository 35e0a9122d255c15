//! The results of a series of inputs, before their commit.

use std::sync::Arc;

use common::revision::Revision;
use prost::Message as _;
use store::{Commit, Write};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Answer, Envelope, Perform, Refusal};
use crate::ages::{Ages, Due, Stamps};
use crate::failpoint;
use crate::log::{Entry, Log};
use crate::machine::{Machine, Shown};

/// The maximum number of inputs in a batch: with random keys, a group of this size makes some 60 thousand updates a
/// second; larger groups gain little and make each caller wait longer.
const MAX_INPUTS: usize = 512;

/// The number of revisions from which on a batch is committed by a thread of its own: handing it over costs a
/// wake-up, which would double the time of a lone revision's commit.
const LARGE: usize = 64;

/// The maximum bytes in a batch, which stay in memory until the batch is durable.
const MAX_BYTES: usize = 8 << 20;

type Answerer<M> = oneshot::Sender<Result<Answer<<M as Machine>::Reply>, Refusal>>;

pub(super) struct Batch<M: Machine> {
    max_inputs: usize,
    last: Revision,
    /// The only source of times for the commits.
    stamps: Stamps,
    /// The latest record of the clock in these commits; each record includes the earlier ones.
    clock: Option<Due>,
    inputs: usize,
    bytes: usize,
    commits: Vec<Commit>,
    histories: Vec<M::History>,
    answers: Vec<(Answerer<M>, M::Reply, Revision)>,
    stepped: Vec<Stepped<M>>,
    notes: Vec<oneshot::Sender<()>>,
    /// When the inputs were sent, if that is measured.
    arrivals: Vec<Instant>,
    /// The machine's figures after the batch.
    shown: Option<Shown>,
}

/// What fail points and effects need to know about an input.
struct Stepped<M: Machine> {
    /// Empty if no fail point can be hit.
    label: String,
    changes: bool,
    effects: Vec<M::Effect>,
}

impl<M: Machine> Batch<M> {
    /// An empty batch after revision `last`, which the store has.
    pub(super) fn after(last: Revision, ages: &Ages) -> Self {
        Self::with(last, Stamps::of(ages.clone()))
    }

    /// An empty batch that is committed after this one, or not at all.
    pub(super) fn next(&self) -> Self {
        Self::with(self.last, self.stamps.clone())
    }

    fn with(last: Revision, stamps: Stamps) -> Self {
        Self {
            max_inputs: if failpoint::single_batches() {
                1
            } else {
                MAX_INPUTS
            },
            last,
            stamps,
            clock: None,
            inputs: 0,
            bytes: 0,
            commits: Vec::new(),
            histories: Vec::new(),
            answers: Vec::new(),
            stepped: Vec::new(),
            notes: Vec::new(),
            arrivals: Vec::new(),
            shown: None,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.inputs >= self.max_inputs || self.bytes >= MAX_BYTES
    }

    pub(super) fn is_large(&self) -> bool {
        self.commits.len() >= LARGE
    }

    /// Whether the batch contains no input.
    pub(super) fn is_empty(&self) -> bool {
        self.inputs == 0
    }

    pub(super) fn last(&self) -> Revision {
        self.last
    }

    /// Takes the commits out of the batch.
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
        let (now, mut due) = self.stamps.next();
        let step = machine.step(envelope.input, now);
        self.inputs += 1;
        self.arrivals.extend(envelope.sent);
        let changes = !step.revisions.is_empty();
        for change in step.revisions {
            self.last = self.last.next();
            let history = change.history.encode_to_vec();
            let records = change
                .writes
                .iter()
                .map(|write| write.key.len() + write.value.as_ref().map_or(0, Vec::len));
            self.bytes += history.len() + records.sum::<usize>();
            let mut writes = change.writes;
            writes.extend(due.take().map(|due| self.write_clock(due)));
            self.commits.push(Commit {
                revision: self.last,
                time: now,
                history,
                writes,
            });
            self.histories.push(change.history);
        }
        if let Some(answer) = envelope.answer {
            self.answers.push((answer, step.reply, self.last));
        }
        if changes || !step.effects.is_empty() {
            self.stepped.push(Stepped {
                label,
                changes,
                effects: step.effects,
            });
        }
    }

    /// Records the clock, unless a commit of this batch does so already; `noted` hears when the record is durable.
    /// The machine has no part in this, and watchers are shown nothing.
    pub(super) fn keep_clock(&mut self, noted: oneshot::Sender<()>) {
        self.inputs += 1;
        self.notes.push(noted);
        let (time, Some(due)) = self.stamps.next() else {
            return;
        };
        self.last = self.last.next();
        let write = self.write_clock(due);
        self.commits.push(Commit {
            revision: self.last,
            time,
            history: M::History::default().encode_to_vec(),
            writes: vec![write],
        });
        self.histories.push(M::History::default());
    }

    fn write_clock(&mut self, due: Due) -> Write {
        let write = self.stamps.write(&due);
        self.clock = Some(due);
        write
    }

    /// Closes the batch: no further input is stepped for it.
    pub(super) fn seal(&mut self, machine: &mut M) {
        self.shown = machine.shown();
    }

    /// Passes a fail point of each input that has revisions.
    pub(super) fn hit(&self, point: &str) {
        if failpoint::armed() {
            for outcome in self.stepped.iter().filter(|outcome| outcome.changes) {
                failpoint::hit(&format!("{point}/{}", outcome.label));
            }
        }
    }

    /// Refuses the inputs after a failed commit: nobody is told about their results.
    pub(super) fn refuse(self, refusal: &Refusal) {
        for (answer, _, _) in self.answers {
            // A caller that no longer waits for the answer does not miss it.
            let _ = answer.send(Err(refusal.clone()));
        }
    }

    /// Finishes the batch, whose `commits` are durable; `callers` is the runtime in which callers wait. It first
    /// shows and publishes, so that a caller sees its own changes once it is answered; shows before it publishes, so
    /// that a reader of a change in the log sees nothing older in memory; and answers before it wakes watchers,
    /// because there may be many, and each that wakes may take the processor from this thread. The effects come last,
    /// because nobody waits for them.
    pub(super) fn finish(
        self,
        commits: &[Commit],
        log: &Log<M::History>,
        perform: &mut impl Perform<M::Effect>,
        callers: Option<&Handle>,
    ) {
        if let Some(due) = self.clock {
            self.stamps.is_kept(due);
        }
        let start = log.identity().start;
        let now = log.meters().now();
        log.meters().are_durable(&self.arrivals, now);
        let entries = commits.iter().zip(self.histories).map(|(commit, history)| Entry {
            revision: commit.revision,
            start,
            time: commit.time,
            history,
            bytes: commit.history.len(),
            durable_at: now,
        });
        for effect in self.stepped.iter().flat_map(|outcome| &outcome.effects) {
            perform.show(effect);
        }
        if let Some(show) = self.shown {
            show();
        }
        log.publish(entries.collect());
        let answers = self.answers.into_iter().map(|(answer, reply, revision)| {
            let token = log.token_at(revision, start);
            (answer, Answer { reply, token })
        });
        answer_all::<M>(answers.collect(), callers);
        for noted in self.notes {
            // A caller that no longer waits does not miss it.
            let _ = noted.send(());
        }
        if !commits.is_empty() {
            log.wake();
        }
        for outcome in self.stepped {
            for effect in outcome.effects {
                if failpoint::armed() {
                    failpoint::hit(&format!("effect.before/{}", outcome.label));
                }
                perform.perform(effect);
            }
        }
    }
}

/// Answers the waiting callers. Many callers are answered from within the runtime in which they wait: to wake each of
/// them from outside takes a lock that all threads contend for.
fn answer_all<M: Machine>(answers: Vec<(Answerer<M>, Answer<M::Reply>)>, callers: Option<&Handle>) {
    let many = answers.len() >= LARGE;
    let all = move || {
        for (answerer, answer) in answers {
            // A caller that no longer waits for the answer does not miss it.
            let _ = answerer.send(Ok(answer));
        }
    };
    match callers {
        Some(runtime) if many => drop(runtime.spawn(async move { all() })),
        _ => all(),
    }
}
