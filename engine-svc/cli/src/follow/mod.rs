//! Follows what goes on: live lines on a terminal, plain ones elsewhere, objects for programs.

mod frames;
mod job;

use std::collections::HashMap;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use proto::engine::v1::command_service_client::CommandServiceClient;
use proto::engine::v1::{CancelCommandRequest, CommandState, watch_jobs_request};

use crate::engine::{Engine, call};
use crate::failure::Failure;
use crate::output::{Output, Shown};
use crate::words;

pub(crate) use frames::{Frame, Watch, Watched};
use job::{Followed, Said, is_at_rest};

/// How long a second Ctrl-C may take to mean that the job is to be cancelled.
const SECOND_THOUGHT: Duration = Duration::from_secs(3);

/// Of a job that is followed, all of its past.
const ALL_OF_IT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Follows a job until it has ended or rests.
///
/// # Errors
/// If it does not succeed, and if the user has seen enough.
pub(crate) async fn job(engine: &Engine, output: &Output, id: &str) -> Result<(), Failure> {
    let filter = watch_jobs_request::Filter {
        job_ids: vec![id.to_owned()],
        ..Default::default()
    };
    // Whether there is such a job says GetJob: a watch waits for one that is still to come.
    engine.job(id).await?;
    let mut watch = Watch::open(engine, filter, ALL_OF_IT).await?;
    let mut screen = Screen::new(output);
    loop {
        let frame = tokio::select! {
            frame = watch.next() => frame?,
            _ = tokio::signal::ctrl_c() => return screen.interrupted(engine, id).await,
        };
        screen.show(frame)?;
        let (state, fault) = (screen.followed.job().state(), screen.followed.job().fault.clone());
        if screen.is_whole && is_at_rest(state) {
            screen.end()?;
            return Failure::of_job(state, id, fault.as_ref()).map_or(Ok(()), Err);
        }
    }
}

/// Prints every change, until the user has seen enough.
///
/// # Errors
/// What the engine refuses for good.
pub(crate) async fn all<T: Watched + Shown>(
    engine: &Engine,
    output: &Output,
    filter: T::Filter,
    ended_within: Duration,
) -> Result<(), Failure> {
    let mut watch = Watch::<T>::open(engine, filter, ended_within).await?;
    loop {
        let frame = tokio::select! {
            frame = watch.next() => frame?,
            _ = tokio::signal::ctrl_c() => return Err(Failure::Interrupted(String::new())),
        };
        match frame {
            Frame::Now(item) | Frame::Changed(item) => output.item(&item)?,
            Frame::Whole | Frame::Progress(_) => {}
            Frame::Lost(cause) => complain(&lost(&cause))?,
            Frame::Back => complain(BACK)?,
            Frame::Anew => complain(ANEW)?,
        }
    }
}

const BACK: &str = "connected again";
const ANEW: &str =
    "the engine's history does not reach back to what was shown last; from here on as it is now";

fn lost(cause: &str) -> String {
    format!("the connection is lost ({cause}); reconnecting")
}

/// Says something that is no answer.
fn complain(line: &str) -> Result<(), Failure> {
    Ok(writeln!(anstream::stderr().lock(), "taskctl: {line}")?)
}

/// What a user sees of a job that is followed.
struct Screen<'o> {
    output: &'o Output,
    followed: Followed,
    /// The snapshot was told: what it says is the present.
    is_whole: bool,
    live: Option<Live>,
}

/// Lines that move: one for each step that is at work.
struct Live {
    all: MultiProgress,
    bars: HashMap<String, ProgressBar>,
    style: ProgressStyle,
}

impl Live {
    /// Only on a terminal that can move its cursor.
    fn new() -> Option<Self> {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if is_dumb || !std::io::stderr().is_terminal() {
            return None;
        }
        let style = ProgressStyle::with_template("{bar:24} {percent:>3} % {msg}").ok()?;
        let is_utf8 = ["LC_ALL", "LC_CTYPE", "LANG"]
            .into_iter()
            .filter_map(std::env::var_os)
            .find(|value| !value.is_empty())
            .is_some_and(|value| {
                value
                    .to_string_lossy()
                    .to_lowercase()
                    .replace('-', "")
                    .contains("utf8")
            });
        Some(Self {
            all: MultiProgress::new(),
            bars: HashMap::new(),
            style: style.progress_chars(if is_utf8 { "━╸ " } else { "=> " }),
        })
    }

    /// The bars of all that is at work, and of nothing else.
    fn draw(&mut self, followed: &Followed) {
        let mut gone: Vec<_> = self.bars.keys().cloned().collect();
        for part in followed.running() {
            gone.retain(|id| *id != part.step.step_id);
            let bar = self.bars.entry(part.step.step_id.clone()).or_insert_with(|| {
                let bar = ProgressBar::new(100).with_style(self.style.clone());
                self.all.add(bar)
            });
            bar.set_position(part.percent() as u64);
            let amount = part.amount();
            bar.set_message(match amount.is_empty() {
                true => part.step.description.clone(),
                false => format!("{}: {amount}", part.step.description),
            });
        }
        for id in gone {
            if let Some(bar) = self.bars.remove(&id) {
                bar.finish_and_clear();
            }
        }
    }
}

impl<'o> Screen<'o> {
    fn new(output: &'o Output) -> Self {
        Self {
            output,
            followed: Followed::default(),
            is_whole: false,
            live: output.is_for_people().then(Live::new).flatten(),
        }
    }

    fn show(&mut self, frame: Frame<proto::engine::v1::Job>) -> Result<(), Failure> {
        match frame {
            Frame::Now(job) | Frame::Changed(job) => {
                if !self.output.is_for_people() {
                    self.output.item(&job)?;
                }
                for said in self.followed.take(job) {
                    self.say(&said)?;
                }
            }
            Frame::Whole => self.is_whole = true,
            Frame::Progress(samples) => self.followed.sample(samples),
            Frame::Lost(cause) => self.aside(&lost(&cause))?,
            Frame::Back => self.aside(BACK)?,
            Frame::Anew => self.aside(ANEW)?,
        }
        if let Some(live) = &mut self.live {
            live.draw(&self.followed);
        }
        Ok(())
    }

    fn say(&self, said: &Said) -> Result<(), Failure> {
        let line = match said {
            Said::Step(id) => match self.followed.part(id) {
                // On a live screen its bar says so.
                Some(part)
                    if self.live.is_some() && part.step.state() == proto::engine::v1::StepState::Running =>
                {
                    return Ok(());
                }
                Some(part) => format!("  {}", part.line()),
                None => return Ok(()),
            },
            Said::Job(state) => {
                let job = self.followed.job();
                let state = words::state(state.as_str_name(), "COMMAND_STATE_");
                format!("{state:<12} {}", job.description)
            }
        };
        match &self.live {
            None => self.output.say(&line),
            Some(live) => live.all.suspend(|| self.output.say(&line)),
        }
    }

    fn aside(&self, line: &str) -> Result<(), Failure> {
        match &self.live {
            None => complain(line),
            Some(live) => live.all.suspend(|| complain(line)),
        }
    }

    fn end(&mut self) -> Result<(), Failure> {
        if let Some(live) = &self.live {
            live.all.clear()?;
        }
        let job = self.followed.job();
        if job.state() == CommandState::Succeeded {
            let took = words::took(
                job.start_time.as_ref(),
                job.end_time.as_ref(),
                std::time::SystemTime::now(),
            );
            self.output.say(&format!("done in {took}; job {}", job.job_id))?;
        }
        Ok(())
    }

    /// The first Ctrl-C leaves the job alone; a second one asks whether it is to be cancelled.
    async fn interrupted(mut self, engine: &Engine, id: &str) -> Result<(), Failure> {
        if let Some(live) = self.live.take() {
            let _ = live.all.clear();
        }
        let back = format!("job {id} goes on\nTo follow it again: taskctl job watch {id}");
        if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            return Err(Failure::Interrupted(back));
        }
        complain(&format!(
            "{back}\nTo cancel it, press Ctrl-C once more within {} s",
            SECOND_THOUGHT.as_secs()
        ))?;
        let again = tokio::time::timeout(SECOND_THOUGHT, tokio::signal::ctrl_c()).await;
        if again.is_err() || !confirms(&format!("Cancel job {id} and undo what it did? [y/N] ")).await {
            return Err(Failure::Interrupted(String::new()));
        }
        let request = CancelCommandRequest {
            command_id: id.to_owned(),
        };
        call!(engine, CommandServiceClient, cancel_command, request)?;
        Err(Failure::Interrupted(format!(
            "job {id} is being cancelled\nTo follow it: taskctl job watch {id}"
        )))
    }
}

/// Asks on the terminal; another Ctrl-C is a no.
async fn confirms(question: &str) -> bool {
    let question = question.to_owned();
    let answer = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        let _ = write!(anstream::stderr().lock(), "{question}");
        let _ = std::io::stdin().read_line(&mut line);
        matches!(line.trim(), "y" | "Y" | "yes")
    });
    tokio::select! {
        answer = answer => answer.unwrap_or_default(),
        _ = tokio::signal::ctrl_c() => false,
    }
}
