//! A job as it goes on: what its watch has said so far, put together.

use std::collections::HashMap;

use proto::engine::v1::{CommandState, Job, Step, StepKind, StepState};
use proto::task::v1::Progress;

use crate::failure::in_words;
use crate::words;

/// A step that somebody sees, with the newest sample of its task.
#[derive(Debug, Clone, Default)]
pub(crate) struct Part {
    pub(crate) step: Step,
    pub(crate) sample: Option<Progress>,
}

/// A job, put together from a snapshot, its changes, and samples.
#[derive(Debug, Default)]
pub(crate) struct Followed {
    job: Job,
    /// In the order in which they were first told.
    order: Vec<String>,
    parts: HashMap<String, Part>,
}

/// Something to say.
#[derive(Debug, PartialEq)]
pub(crate) enum Said {
    /// A step has come to another state.
    Step(String),
    /// The job has come to another state.
    Job(CommandState),
}

impl Followed {
    /// The job as it was told last.
    pub(crate) fn job(&self) -> &Job {
        &self.job
    }

    /// Takes the job as a whole or a change of it; says what is new.
    pub(crate) fn take(&mut self, job: Job) -> Vec<Said> {
        let mut said = Vec::new();
        for step in &job.steps {
            let part = self.parts.entry(step.step_id.clone()).or_insert_with(|| {
                self.order.push(step.step_id.clone());
                Part::default()
            });
            let is_new = part.step.state != step.state;
            part.step = step.clone();
            if is_over(step) {
                part.sample = None;
            }
            if is_new && is_told(step) {
                said.push(Said::Step(step.step_id.clone()));
            }
        }
        if self.job.state != job.state {
            said.push(Said::Job(job.state()));
        }
        self.job = Job {
            steps: Vec::new(),
            ..job
        };
        said
    }

    /// Takes samples of tasks at work.
    pub(crate) fn sample(&mut self, samples: Vec<Progress>) {
        for sample in samples {
            let at_work = |part: &&mut Part| part.step.task_id == sample.task_id && !is_over(&part.step);
            if let Some(part) = self.parts.values_mut().find(at_work) {
                part.sample = Some(sample);
            }
        }
    }

    /// A step.
    pub(crate) fn part(&self, id: &str) -> Option<&Part> {
        self.parts.get(id)
    }

    /// The steps that are at work on a host, in their order.
    pub(crate) fn running(&self) -> impl Iterator<Item = &Part> {
        let parts = self.order.iter().filter_map(|id| self.parts.get(id));
        parts.filter(|part| part.step.kind() == StepKind::Task && part.step.state() == StepState::Running)
    }
}

/// The state of a job that nothing follows by itself.
pub(crate) fn is_at_rest(state: CommandState) -> bool {
    match state {
        CommandState::Succeeded
        | CommandState::Failed
        | CommandState::Cancelled
        | CommandState::NeedsAttention => true,
        CommandState::Unspecified
        | CommandState::Pending
        | CommandState::Active
        | CommandState::Compensating => false,
    }
}

fn is_over(step: &Step) -> bool {
    !matches!(step.state(), StepState::Pending | StepState::Running)
}

/// People are told of work, not of the engine's own stages.
fn is_told(step: &Step) -> bool {
    matches!(step.kind(), StepKind::Task) && step.state() != StepState::Pending
}

impl Part {
    /// From 0 to 100.
    pub(crate) fn percent(&self) -> f64 {
        self.sample
            .as_ref()
            .map_or(self.step.percent, |sample| sample.percent)
    }

    /// How far the step is: bytes, rate and time left, as far as its host has said.
    pub(crate) fn amount(&self) -> String {
        let Some(sample) = &self.sample else {
            return String::new();
        };
        let mut words = Vec::new();
        if sample.total_bytes > 0 {
            words.push(format!(
                "{} of {}",
                words::bytes(sample.done_bytes),
                words::bytes(sample.total_bytes)
            ));
        }
        if sample.rate_bytes_per_second > 0 {
            words.push(format!("{}/s", words::bytes(sample.rate_bytes_per_second)));
        }
        if let Some(left) = sample
            .time_left
            .and_then(|left| proto::convert::from_duration(&left))
        {
            words.push(format!("{} left", words::lasting(left)));
        }
        words.join(", ")
    }

    /// The step's new state in a line.
    pub(crate) fn line(&self) -> String {
        let state = words::state(self.step.state().as_str_name(), "STEP_STATE_");
        let fault = match &self.step.fault {
            Some(fault) => format!(": {}", in_words(fault)),
            None => String::new(),
        };
        format!("{state:<10} {}{fault}", self.step.description)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(id: &str, state: StepState) -> Step {
        Step {
            step_id: id.to_owned(),
            kind: StepKind::Task as i32,
            state: state as i32,
            task_id: format!("task of {id}"),
            description: format!("Do {id}"),
            ..Default::default()
        }
    }

    fn job(state: CommandState, steps: Vec<Step>) -> Job {
        Job {
            state: state as i32,
            steps,
            ..Default::default()
        }
    }

    fn sample(id: &str) -> Progress {
        Progress {
            task_id: format!("task of {id}"),
            percent: 40.0,
            done_bytes: 4 << 20,
            total_bytes: 10 << 20,
            rate_bytes_per_second: 1 << 20,
            time_left: Some(prost_types::Duration { seconds: 6, nanos: 0 }),
        }
    }

    #[test]
    fn each_edge_of_a_step_is_told_once() {
        let mut followed = Followed::default();
        let waits = job(
            CommandState::Active,
            vec![step("a", StepState::Pending), step("b", StepState::Pending)],
        );
        assert_eq!(followed.take(waits), [Said::Job(CommandState::Active)]);
        let runs = job(CommandState::Active, vec![step("a", StepState::Running)]);
        assert_eq!(followed.take(runs.clone()), [Said::Step("a".to_owned())]);
        assert_eq!(followed.take(runs), []);
        let ends = job(CommandState::Succeeded, vec![step("a", StepState::Succeeded)]);
        assert_eq!(
            followed.take(ends),
            [Said::Step("a".to_owned()), Said::Job(CommandState::Succeeded)]
        );
    }

    #[test]
    fn progress_is_of_what_is_at_work_and_of_nothing_else() {
        let mut followed = Followed::default();
        followed.take(job(
            CommandState::Active,
            vec![step("a", StepState::Running), step("b", StepState::Succeeded)],
        ));
        followed.sample(vec![sample("a"), sample("b"), sample("unknown")]);
        let part = followed.part("a").unwrap();
        assert_eq!(
            (part.percent(), part.amount().as_str()),
            (40.0, "4 MiB of 10 MiB, 1 MiB/s, 6 s left")
        );
        assert_eq!(followed.part("b").unwrap().amount(), "");
        assert_eq!(followed.running().count(), 1);
        followed.take(job(CommandState::Active, vec![step("a", StepState::Failed)]));
        assert_eq!(followed.part("a").unwrap().amount(), "");
        followed.sample(vec![sample("a")]);
        assert_eq!(
            followed.part("a").unwrap().amount(),
            "",
            "a sample that comes late"
        );
    }
}
