//! Job trees, drawn.

use std::time::{Duration, SystemTime};

use prost_types::Timestamp;
use proto::engine::v1::{Job, Step, StepState};
use tests::words;

use crate::lead::Narrator;
use crate::stage::{Stage, Tone};

/// Columns up to the state.
const STATE_AT: usize = 72;

/// Draws a job with its steps.
pub(crate) fn draw(stage: &mut Stage, narrator: &Narrator, job: &Job) {
    let state = words::command_state(job.state);
    let head = stage.column(Tone::Bold, &job.description, STATE_AT);
    let painted = stage.column(Tone::of(&state), &state, 10);
    let line = format!("  {head} {painted} {}", took(job.start_time, job.end_time));
    stage.line(line.trim_end());
    branch(stage, narrator, job, "", "  ");
}

fn branch(stage: &mut Stage, narrator: &Narrator, job: &Job, parent: &str, indent: &str) {
    let steps: Vec<&Step> = job
        .steps
        .iter()
        .filter(|step| step.parent_step_id == parent)
        .collect();
    for (place, step) in steps.iter().enumerate() {
        let last = place + 1 == steps.len();
        let (elbow, below) = if last {
            ("└─", "   ")
        } else {
            ("├─", "│  ")
        };
        let description = narrator.retold(&step.description);
        let text = format!("{indent}{elbow} {} {description}", mark(step.state));
        let state = words::step_state(step.state);
        let line = format!(
            "{} {} {}",
            stage.column(Tone::Plain, &text, STATE_AT + 2),
            stage.column(Tone::of(&state), &state, 10),
            took(step.start_time, step.end_time)
        );
        stage.line(line.trim_end());
        branch(stage, narrator, job, &step.step_id, &format!("{indent}{below}"));
    }
}

fn mark(state: i32) -> char {
    match StepState::try_from(state) {
        Ok(StepState::Succeeded) => '✔',
        Ok(StepState::Failed) => '✘',
        Ok(StepState::Cancelled) => '⊘',
        Ok(StepState::Running) => '▶',
        Ok(StepState::NeedsAttention) => '!',
        Ok(StepState::Pending | StepState::Unspecified) | Err(_) => '·',
    }
}

fn took(from: Option<Timestamp>, to: Option<Timestamp>) -> String {
    let at = |time: Option<Timestamp>| SystemTime::try_from(time?).ok();
    let took: Option<Duration> = at(from)
        .zip(at(to))
        .and_then(|(from, to)| to.duration_since(from).ok());
    took.map_or_else(String::new, |took| {
        format!("{:>8.1} ms", took.as_secs_f64() * 1e3)
    })
}
