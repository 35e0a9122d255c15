//! The outside checker: whether what a watch was told is what `task/v1/watch.proto` promises.

use std::collections::BTreeMap;

use common::Token;
use common::task::{TaskEvent, TaskState};

use super::record::{Changes, Frame, Record};
use super::rpc::{Item, Start};

/// Every broken promise, in words; empty where all is well.
pub fn violations<I: Item>(record: &Record<I>) -> Vec<String> {
    let mut checker = Checker::<I>::default();
    for arrived in &record.frames {
        checker.see(&arrived.frame);
    }
    checker.found
}

/// What a stream may send next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    /// Nothing: there is no stream.
    #[default]
    Closed,
    /// `Opened`; then pages of a snapshot, or changes at once.
    Asked { snapshot: bool },
    /// Pages and the end of the snapshot.
    InSnapshot,
    /// Changes, samples and heartbeats.
    Changing,
    /// Nothing more.
    Closing,
}

struct Checker<I> {
    found: Vec<String>,
    phase: Phase,
    items: BTreeMap<String, I>,
    /// Pieces of a revision whose end has not come yet: a client that resumes will be sent them again.
    pieces: Vec<I>,
    /// The revision that they are of.
    piece_of: Option<u64>,
    /// The last whole revision.
    revision: u64,
    token: Option<Token>,
}

impl<I> Default for Checker<I> {
    fn default() -> Self {
        Self {
            found: Vec::new(),
            phase: Phase::Closed,
            items: BTreeMap::new(),
            pieces: Vec::new(),
            piece_of: None,
            revision: 0,
            token: None,
        }
    }
}

impl<I: Item> Checker<I> {
    fn see(&mut self, frame: &Frame<I>) {
        self.order(frame);
        if let Some(token) = frame.token() {
            self.token(token);
        }
        match frame {
            Frame::Snapshot(items) => items.iter().for_each(|item| self.base(item)),
            Frame::Changes(changes) => self.changes(changes),
            // What was not ended by a token is not the client's yet: it comes again.
            Frame::Asked { .. } => {
                self.pieces.clear();
                self.piece_of = None;
            }
            Frame::OutOfRange => {
                self.items.clear();
                self.token = None;
                self.revision = 0;
            }
            _ => {}
        }
    }

    fn report(&mut self, what: impl std::fmt::Display) {
        self.found.push(format!("{}: {what}", I::NAME));
    }

    /// Frames come in the one order that is promised.
    fn order(&mut self, frame: &Frame<I>) {
        use Phase as P;
        let next = match (self.phase, frame) {
            (_, Frame::Asked { start }) => P::Asked {
                snapshot: *start == Start::Snapshot,
            },
            (_, Frame::Lost { .. } | Frame::OutOfRange) => P::Closed,
            (P::Asked { snapshot: true }, Frame::Opened { .. }) => P::InSnapshot,
            (P::Asked { snapshot: false }, Frame::Opened { .. }) => P::Changing,
            (P::InSnapshot, Frame::Snapshot(_)) => P::InSnapshot,
            (P::InSnapshot, Frame::Heartbeat { token }) if token.is_empty() => P::InSnapshot,
            (P::InSnapshot, Frame::SnapshotDone { .. }) => P::Changing,
            (P::Changing, Frame::Changes(_) | Frame::Progress(_) | Frame::Heartbeat { .. }) => P::Changing,
            (P::Changing, Frame::Closing { .. }) => P::Closing,
            // In the middle of a snapshot there is no point at which resuming would be right.
            (P::InSnapshot, Frame::Closing { token, .. }) if token.is_empty() => P::Closing,
            (phase, frame) => {
                let name = format!("{frame:?}");
                let name: String = name.chars().take_while(|c| c.is_alphanumeric()).collect();
                self.report(format!("{name} came in {phase:?}"));
                phase
            }
        };
        self.phase = next;
    }

    /// Tokens parse, stay in one store, and never go back.
    fn token(&mut self, text: &str) {
        let Ok(token) = text.parse::<Token>() else {
            return self.report(format!("{text:?} is no token"));
        };
        if let Some(last) = self.token {
            if last.store_id != token.store_id {
                self.report(format!("the token {token} is of another store than {last}"));
            } else if token.revision < last.revision {
                self.report(format!("the token {token} goes back behind {last}"));
            }
        }
        self.token = Some(token);
    }

    fn changes(&mut self, changes: &Changes<I>) {
        if changes.revision <= self.revision || self.piece_of.is_some_and(|of| of != changes.revision) {
            let last = self.piece_of.unwrap_or(self.revision);
            self.report(format!("revision {} came after {last}", changes.revision));
        }
        if changes.more != changes.token.is_empty() {
            self.report(format!(
                "revision {} has a token in the middle, or none at its end",
                changes.revision
            ));
        }
        self.pieces.extend(changes.items.iter().cloned());
        self.piece_of = changes.more.then_some(changes.revision);
        if changes.more {
            return;
        }
        self.revision = changes.revision;
        for item in std::mem::take(&mut self.pieces) {
            self.change(item);
        }
    }

    /// A snapshot may not be behind what is known. Facts come in it in any order: the youngest counts.
    fn base(&mut self, item: &I) {
        let known = self.items.get(&item.key()).map(I::sequence).unwrap_or_default();
        let shown = item.sequence();
        if known <= shown {
            self.items.insert(item.key(), item.clone());
        } else if !I::FACTS {
            self.report(format!(
                "{}: the snapshot shows {shown}, and {known} was told",
                item.key()
            ));
        }
    }

    fn change(&mut self, item: I) {
        if let Some(known) = self.items.get(&item.key()) {
            let problems = [sequence_problem(known, &item), state_problem(known, &item)];
            for problem in problems.into_iter().flatten() {
                self.report(format!("{}: {problem}", item.key()));
            }
        }
        self.items.insert(item.key(), item);
    }
}

/// Sequences are dense, or at least rise.
fn sequence_problem<I: Item>(known: &I, item: &I) -> Option<String> {
    let (last, next) = (known.sequence(), item.sequence());
    let holds = if I::DENSE { next == last + 1 } else { next > last };
    (!holds).then(|| format!("sequence {next} came after {last}"))
}

/// What is over stays as it is, and states follow the one table of moves.
fn state_problem<I: Item>(known: &I, item: &I) -> Option<String> {
    let (from, to) = (known.state(), item.state());
    if known.is_removed() {
        return Some(format!("changed to {to} after it was removed"));
    }
    if from == to {
        return None;
    }
    if known.is_over() {
        return Some(format!("was over as {from} and became {to}"));
    }
    if item.is_resynced() || I::NAME == "command" || I::NAME == "job" {
        return None;
    }
    let legal = match (task_state(&from), task_state(&to)) {
        (Some(from), Some(to)) => is_a_move(from, to),
        // The engine's record before the host has said anything.
        (None, _) => true,
        (Some(_), None) => false,
    };
    (!legal).then(|| format!("went from {from} to {to}, which is no move of a task"))
}

fn task_state(word: &str) -> Option<TaskState> {
    let same = |state: &TaskState| format!("{state:?}").to_uppercase() == word;
    TaskState::ALL.into_iter().find(same)
}

fn is_a_move(from: TaskState, to: TaskState) -> bool {
    use TaskEvent as E;
    [
        E::Accept,
        E::Enqueue,
        E::Run,
        E::Finish,
        E::Abort,
        E::Recover,
        E::Undone,
        E::GiveUp,
    ]
    .into_iter()
    .any(|event| from.next(event) == Ok(to))
}

#[cfg(test)]
mod tests {
    use proto::host::v1::Task;

    use super::super::record::Arrived;
    use super::*;

    fn token(revision: u64) -> String {
        format!("{:032x}.{:016x}.{revision}", 7, 9)
    }

    fn task(sequence: u64, state: i32) -> Task {
        Task {
            task_id: "t".into(),
            sequence,
            state,
            ..Task::default()
        }
    }

    fn change(revision: u64, task: Task) -> Frame<Task> {
        Frame::Changes(Changes {
            revision,
            token: token(revision),
            commit_time: None,
            items: vec![task],
            more: false,
        })
    }

    fn judge(frames: Vec<Frame<Task>>) -> Vec<String> {
        let at = std::time::SystemTime::UNIX_EPOCH;
        let frames = frames.into_iter().map(|frame| Arrived { at, frame }).collect();
        violations(&Record { frames })
    }

    fn opened(changes: Vec<Frame<Task>>) -> Vec<Frame<Task>> {
        let mut frames = vec![
            Frame::Asked {
                start: Start::Snapshot,
            },
            Frame::Opened { store_id: "s".into() },
            Frame::Snapshot(vec![task(1, 1)]),
            Frame::SnapshotDone { token: token(1) },
        ];
        frames.extend(changes);
        frames
    }

    #[test]
    fn a_whole_stream_passes_across_a_resume() {
        let frames = opened(vec![
            change(2, task(2, 2)),
            Frame::Lost { why: String::new() },
            Frame::Asked {
                start: Start::After(token(2)),
            },
            Frame::Opened { store_id: "s".into() },
            change(3, task(3, 3)),
        ]);
        assert_eq!(judge(frames), Vec::<String>::new());
    }

    #[test]
    fn each_lie_is_caught() {
        let lies: [(&str, Vec<Frame<Task>>); 6] = [
            ("sequence 3 came after 1", opened(vec![change(2, task(3, 2))])),
            ("sequence 1 came after 1", opened(vec![change(2, task(1, 1))])),
            ("no move of a task", opened(vec![change(2, task(2, 5))])),
            (
                "revision 2 came after 2",
                opened(vec![change(2, task(2, 2)), change(2, task(3, 3))]),
            ),
            (
                "goes back behind",
                opened(vec![change(2, task(2, 2)), Frame::Heartbeat { token: token(1) }]),
            ),
            ("Changes came in", vec![change(2, task(2, 2))]),
        ];
        for (expected, frames) in lies {
            let found = judge(frames);
            assert!(
                found.iter().any(|f| f.contains(expected)),
                "{expected}: {found:?}"
            );
        }
    }

    #[test]
    fn what_is_over_stays_over() {
        let frames = opened(vec![
            change(2, task(2, 6)),
            change(3, task(3, 7)),
            change(4, task(4, 8)),
            change(5, task(5, 9)),
        ]);
        assert_eq!(
            judge(frames),
            ["host task: t: was over as RECOVERED and became FAILED"]
        );
    }
}
