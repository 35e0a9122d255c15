//! The child's side: drops the service's privileges to those that the work needs.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use super::FIRST_ARGUMENT;
use super::landlock::{Enforcement, Fence};
use super::order::{Missing, Order, Part, Report};
use super::{calls, rights};

/// The exit status of a child that could not be confined as required. `qemu-img` does not use it.
pub(crate) const NOT_STARTED: i32 = 118;

/// The exit status of a child whose program cannot be executed.
pub(crate) const NO_PROGRAM: i32 = 119;

/// The whole environment besides the language of error messages.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const NO_SETPCAP: &str = "the service is root without CAP_SETPCAP, so the bounding set of capabilities cannot be reduced; qemu-img has no capabilities and gains none (no_new_privs): give the service CAP_SETPCAP";

/// If this program was started to confine itself and execute another program: does that, and returns only if it
/// cannot. Call this first in `main`, while the process has one thread.
pub fn run_if_asked() -> Option<ExitCode> {
    run_with_if_asked(calls::refuse)
}

/// The same without a seccomp filter: for tests of what holds on such machines.
pub fn run_unfiltered_if_asked() -> Option<ExitCode> {
    run_with_if_asked(|| Err("a test runs without a seccomp filter".to_owned()))
}

/// Installs the seccomp filter.
type Filter = fn() -> Result<(), String>;

fn run_with_if_asked(filter: Filter) -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != FIRST_ARGUMENT {
        return None;
    }
    let order = arguments.next().and_then(|text| text.into_string().ok());
    let order = order.and_then(|text| serde_json::from_str(&text).ok());
    let code = match order {
        Some(order) => run(&order, filter),
        None => say("no instructions were passed to it", NOT_STARTED),
    };
    Some(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

fn run(order: &Order, filter: Filter) -> i32 {
    let report = confine(order, filter);
    let Some(demands) = &order.demands else {
        return answer(&report);
    };
    if let Some(refused) = refused(demands, &report) {
        return say(&refused, NOT_STARTED);
    }
    let mut command = Command::new(&order.program);
    command
        .arg0("qemu-img")
        .args(&order.args)
        .env_clear()
        .env("LC_ALL", "C")
        .env("PATH", PATH);
    if let Err(error) = rights::limit(order.bounds) {
        return say(&format!("its limits cannot be set: {error}"), NOT_STARTED);
    }
    let error = command.exec();
    say(&format!("{}: {error}", order.program.display()), NO_PROGRAM)
}

/// Drops all privileges that it can, and reports what it could not drop.
fn confine(order: &Order, filter: Filter) -> Report {
    let mut report = Report::default();
    let mut lacks = |part, why: String| report.missing.push(Missing { part, why });
    let fence = Fence::around(order);
    rights::mask();
    let bound = rights::bind();
    match order.user.map(rights::become_user) {
        Some(Ok(())) => {}
        Some(Err(error)) => lacks(
            Part::User,
            format!("the service is root and cannot become another user ({error})"),
        ),
        None => lacks(Part::User, "the service is not root".to_owned()),
    }
    match bound.and_then(|is_empty| rights::drop_capabilities().map(|()| is_empty)) {
        Err(error) => lacks(
            Part::Capabilities,
            format!("capabilities cannot be dropped ({error})"),
        ),
        // Irrelevant for a process that was never root.
        Ok(false) if order.user.is_some() => report.weaker.push(NO_SETPCAP.to_owned()),
        Ok(_) => {}
    }
    match fence.and_then(Fence::close) {
        Ok(Enforcement::Whole) => {}
        Ok(Enforcement::Weaker(what)) => report.weaker.push(what),
        Ok(Enforcement::Missing(why)) => report.missing.push(Missing {
            part: Part::Landlock,
            why: why.to_owned(),
        }),
        Err(error) => report.missing.push(Missing {
            part: Part::Landlock,
            why: format!("Landlock does not work ({error})"),
        }),
    }
    if let Err(why) = filter() {
        report.missing.push(Missing {
            part: Part::Seccomp,
            why,
        });
    }
    report
}

/// Why the child must not continue.
fn refused(demands: &BTreeSet<Part>, report: &Report) -> Option<String> {
    let missing = report
        .missing
        .iter()
        .find(|missing| demands.contains(&missing.part))?;
    Some(missing.why.clone())
}

fn answer(report: &Report) -> i32 {
    let text = serde_json::to_string(report).unwrap_or_default();
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => 0,
        Err(_) => NOT_STARTED,
    }
}

fn say(what: &str, code: i32) -> i32 {
    let _ = writeln!(std::io::stderr(), "{what}");
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_lacks_what_is_demanded_is_not_started_and_what_never_was_there_is_not_missed() {
        let lacks = |part| Report {
            missing: vec![Missing {
                part,
                why: format!("no {part:?}"),
            }],
            weaker: Vec::new(),
        };
        for part in Part::ALL {
            let all = BTreeSet::from(Part::ALL);
            assert_eq!(refused(&all, &lacks(part)), Some(format!("no {part:?}")));
            assert_eq!(refused(&all, &Report::default()), None);
            let others = lacks(part).demands();
            assert_eq!(refused(&others, &lacks(part)), None, "{part:?}");
        }
    }
}
