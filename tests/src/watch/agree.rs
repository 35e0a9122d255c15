//! The outside checker's second half: whether watches with different filters and starting points were told the same,
//! and whether that is what the store's history holds.

use std::collections::BTreeMap;

use common::Token;
use tokio_stream::StreamExt as _;
use tonic::transport::Channel;

use super::record::{Frame, Record};
use super::rpc::{Frames, Item, Selection, Start, Watch};
use crate::failure::{Context as _, TestResult};

/// The whole history as the store has it, after a point.
#[derive(Debug)]
pub struct Reference<I> {
    after: u64,
    until: u64,
    revisions: BTreeMap<u64, Vec<I>>,
}

impl<I: Item> Reference<I> {
    /// Reads it with a watch of its own, which selects everything: from `after`, up to where the history stands.
    ///
    /// # Errors
    /// When the service refuses, or cuts.
    pub async fn read<W: Watch<Item = I>>(channel: Channel, after: &str) -> TestResult<Self> {
        let everything = Selection::default();
        let mut now = W::open(channel.clone(), Start::Now, &everything).await?;
        let end = loop {
            if let Frame::Heartbeat { token } = next(&mut now).await? {
                break revision_of(&token).context("a token")?;
            }
        };
        let mut reference = Self {
            after: revision_of(after).context("a token")?,
            until: 0,
            revisions: BTreeMap::new(),
        };
        let mut last = after.to_owned();
        while reference.until < end {
            let mut frames = W::open(channel.clone(), Start::After(last.clone()), &everything).await?;
            while reference.until < end {
                let frame = next(&mut frames).await?;
                if let Some(token) = frame.token() {
                    token.clone_into(&mut last);
                }
                match frame {
                    Frame::Changes(changes) => {
                        let items = reference.revisions.entry(changes.revision).or_default();
                        items.extend(changes.items);
                    }
                    // Only it says how far the history was read: a filter may select nothing of a revision.
                    Frame::Heartbeat { token } => reference.until = revision_of(&token).context("a token")?,
                    // It has come of age, perhaps amid a revision.
                    Frame::Closing { .. } => {
                        let whole = revision_of(&last).context("a token")?;
                        reference.revisions.retain(|revision, _| *revision <= whole);
                        break;
                    }
                    _ => {}
                }
            }
        }
        Ok(reference)
    }

    fn selected(&self, selection: &Selection, revision: u64) -> Vec<&I> {
        let items = self.revisions.get(&revision).into_iter().flatten();
        items.filter(|item| selection.selects(*item)).collect()
    }

    /// The last change of each item up to a revision, of those that the history holds a change of.
    fn state_at(&self, selection: &Selection, revision: u64) -> BTreeMap<String, &I> {
        let items = self
            .revisions
            .range(..=revision)
            .flat_map(|(_, items)| items)
            .filter(|item| selection.selects(*item));
        items.map(|item| (item.key(), item)).collect()
    }
}

/// Every difference between what a watch was told and the store's history, in words; empty where all is well.
///
/// - *Atomicity*: a revision arrives with exactly what the filter selects of it.
/// - *No holes*: at every point that the watch was told it may resume after, it has all that is before it.
/// - *Snapshots*: each item is as the history left it there, and nothing unfinished is missing.
/// - *Gap honesty*: only a stream that was refused with `OUT_OF_RANGE`, or asked for `now`, begins anew.
pub fn disagreements<I: Item>(
    record: &Record<I>,
    selection: &Selection,
    reference: &Reference<I>,
) -> Vec<String> {
    let mut reader = Reader {
        selection,
        reference,
        found: Vec::new(),
        whole_up_to: None,
        pieces: Vec::new(),
        snapshot: Vec::new(),
    };
    for arrived in &record.frames {
        reader.see(&arrived.frame);
    }
    reader.found
}

struct Reader<'a, I> {
    selection: &'a Selection,
    reference: &'a Reference<I>,
    found: Vec<String>,
    /// Everything up to this revision has arrived; none before the first point of a stream that begins anew.
    whole_up_to: Option<u64>,
    pieces: Vec<I>,
    snapshot: Vec<I>,
}

impl<I: Item> Reader<'_, I> {
    fn see(&mut self, frame: &Frame<I>) {
        match frame {
            Frame::Asked { start } => {
                self.pieces.clear();
                self.snapshot.clear();
                self.whole_up_to = match start {
                    Start::After(token) => revision_of(token),
                    Start::Snapshot | Start::Now => None,
                };
            }
            Frame::Snapshot(items) => self.snapshot.extend(items.iter().cloned()),
            Frame::SnapshotDone { token } => {
                self.whole_up_to = revision_of(token);
                self.judge_snapshot();
            }
            Frame::Changes(changes) => {
                self.pieces.extend(changes.items.iter().cloned());
                if !changes.more {
                    self.revision(changes.revision);
                }
            }
            Frame::Heartbeat { token } | Frame::Closing { token, .. } => {
                if let Some(revision) = revision_of(token) {
                    self.nothing_between(revision + 1);
                    self.whole_up_to = Some(revision);
                }
            }
            Frame::Opened { .. } | Frame::Progress(_) | Frame::Lost { .. } | Frame::OutOfRange => {}
        }
    }

    fn revision(&mut self, revision: u64) {
        let told = std::mem::take(&mut self.pieces);
        self.nothing_between(revision);
        self.whole_up_to = Some(revision);
        if !self.covers(revision) {
            return;
        }
        let kept = self.reference.selected(self.selection, revision);
        if kept.len() != told.len() || kept.iter().zip(&told).any(|(kept, told)| *kept != told) {
            self.report(format!(
                "revision {revision} was told as {told:?}, and kept as {kept:?}"
            ));
        }
    }

    /// What the filter selects of the revisions after the last point and before this one would be missing.
    fn nothing_between(&mut self, revision: u64) {
        let Some(last) = self.whole_up_to else { return };
        let missing: Vec<u64> = (last + 1..revision)
            .filter(|between| self.covers(*between))
            .filter(|between| !self.reference.selected(self.selection, *between).is_empty())
            .collect();
        if !missing.is_empty() {
            self.report(format!("revisions {missing:?} never came, and {revision} did"));
        }
    }

    fn judge_snapshot(&mut self) {
        let Some(at) = self.whole_up_to.filter(|at| self.covers(*at)) else {
            return;
        };
        if I::FACTS {
            return;
        }
        let kept = self.reference.state_at(self.selection, at);
        let shown: BTreeMap<String, I> = std::mem::take(&mut self.snapshot)
            .into_iter()
            .map(|item| (item.key(), item))
            .collect();
        for (key, kept) in kept {
            let problem = match shown.get(&key) {
                None if kept.is_over() || kept.is_removed() => continue,
                None => format!("{key} is not in the snapshot at {at}"),
                Some(shown) if shown.sequence() == kept.sequence() && shown.state() == kept.state() => {
                    continue;
                }
                Some(shown) => format!(
                    "{key} is in the snapshot at {at} as {} {}, and was {} {}",
                    shown.sequence(),
                    shown.state(),
                    kept.sequence(),
                    kept.state()
                ),
            };
            self.report(problem);
        }
    }

    fn covers(&self, revision: u64) -> bool {
        revision > self.reference.after && revision <= self.reference.until
    }

    fn report(&mut self, what: String) {
        self.found
            .push(format!("{} ({:?}): {what}", I::NAME, self.selection));
    }
}

async fn next<I>(frames: &mut Frames<I>) -> TestResult<Frame<I>> {
    Ok(frames.next().await.context("the stream ended too soon")??)
}

fn revision_of(token: &str) -> Option<u64> {
    token.parse::<Token>().ok().map(|token| token.revision.0)
}

#[cfg(test)]
mod tests {
    use proto::host::v1::Task;

    use super::super::record::{Arrived, Changes};
    use super::*;

    fn token(revision: u64) -> String {
        format!("{:032x}.{:016x}.{revision}", 7, 9)
    }

    fn task(id: &str, sequence: u64, whose: &str) -> Task {
        Task {
            task_id: id.into(),
            sequence,
            state: 4,
            correlation_id: whose.into(),
            ..Task::default()
        }
    }

    fn reference() -> Reference<Task> {
        let revisions = [
            (1, vec![task("a", 1, "x")]),
            (2, vec![task("b", 1, "y")]),
            (3, vec![task("a", 2, "x"), task("b", 2, "y")]),
        ];
        Reference {
            after: 0,
            until: 3,
            revisions: revisions.into(),
        }
    }

    fn judge(whose: &str, frames: Vec<Frame<Task>>) -> Vec<String> {
        let at = std::time::SystemTime::UNIX_EPOCH;
        let frames = frames.into_iter().map(|frame| Arrived { at, frame }).collect();
        let selection = Selection {
            correlation_id: whose.into(),
        };
        disagreements(&Record { frames }, &selection, &reference())
    }

    fn asked(revision: u64) -> Frame<Task> {
        Frame::Asked {
            start: Start::After(token(revision)),
        }
    }

    fn change(revision: u64, items: Vec<Task>) -> Frame<Task> {
        Frame::Changes(Changes {
            revision,
            token: token(revision),
            commit_time: None,
            items,
            more: false,
        })
    }

    fn beat(revision: u64) -> Frame<Task> {
        Frame::Heartbeat {
            token: token(revision),
        }
    }

    #[test]
    fn what_a_filter_selects_is_all_that_it_must_be_told() {
        let told = vec![
            asked(0),
            change(1, vec![task("a", 1, "x")]),
            beat(2),
            change(3, vec![task("a", 2, "x")]),
        ];
        assert_eq!(judge("x", told), Vec::<String>::new());
    }

    #[test]
    fn a_hole_half_a_revision_and_a_false_bookmark_are_caught() {
        let hole = judge("x", vec![asked(0), change(3, vec![task("a", 2, "x")])]);
        assert!(hole[0].contains("revisions [1] never came"), "{hole:?}");
        let half = judge("", vec![asked(2), change(3, vec![task("a", 2, "x")])]);
        assert!(half[0].contains("revision 3 was told as"), "{half:?}");
        let early = judge("y", vec![asked(0), beat(3)]);
        assert!(early[0].contains("revisions [2, 3] never came"), "{early:?}");
    }

    #[test]
    fn a_snapshot_that_lacks_or_ages_something_is_caught() {
        let snapshot = |items| {
            vec![
                Frame::Asked {
                    start: Start::Snapshot,
                },
                Frame::Snapshot(items),
                Frame::SnapshotDone { token: token(3) },
            ]
        };
        assert_eq!(
            judge("x", snapshot(vec![task("a", 2, "x")])),
            Vec::<String>::new()
        );
        let lacks = judge("x", snapshot(vec![]));
        assert!(lacks[0].contains("is not in the snapshot"), "{lacks:?}");
        let old = judge("x", snapshot(vec![task("a", 1, "x")]));
        assert!(old[0].contains("as 1 RUNNING, and was 2 RUNNING"), "{old:?}");
    }
}
