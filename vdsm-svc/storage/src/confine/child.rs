//! The child's side: from the service's rights to those of its work.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use super::FIRST_ARGUMENT;
use super::landlock::{Enforcement, Fence};
use super::order::{Missing, Order, Part, Report};
use super::{calls, rights};

/// The exit status of a child that could not be confined as is demanded. `qemu-img` has no such.
pub(crate) const NOT_STARTED: i32 = 118;

/// That of one whose program cannot be run.
pub(crate) const NO_PROGRAM: i32 = 119;

/// All that is in the environment beside the language, in which faults are told.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const NO_SETPCAP: &str = "the service is root without CAP_SETPCAP, so the set of capabilities that a program could ever have (the bounding \
                          set) stays as it is; qemu-img has none of them and gains none (no_new_privs): give the service CAP_SETPCAP";

/// Where this program was run to confine itself and become another one: does that, and returns only where it cannot.
/// To be called first in `main`, while the process has one thread.
pub fn run_if_asked() -> Option<ExitCode> {
    run_with_if_asked(calls::refuse)
}

/// As on a machine that has no filter of calls: for tests of what holds there.
pub fn run_unfiltered_if_asked() -> Option<ExitCode> {
    run_with_if_asked(|| Err("a test goes without a filter of calls".to_owned()))
}

/// Refuses calls from here on.
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
        None => say("it was not told what to do", NOT_STARTED),
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

/// Gives up all that can be given up, and tells what could not.
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
        Err(error) => lacks(Part::Capabilities, format!("they cannot be dropped ({error})")),
        // Who is not root from the beginning can gain nothing by it.
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

/// Why it must not go on.
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
