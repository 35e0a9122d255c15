//! The tables are whole.

use std::collections::BTreeSet;

use common::Noop;

use super::host_op::{HostOp, step_names};
use super::*;

/// Of each verb: its name, its steps, the names in its table alone, and its commit point.
macro_rules! listed {
    ($($verb:ident,)*) => {
        vec![$(listed::<common::$verb>(),)*]
    };
}

struct Listed {
    verb: &'static str,
    all: Vec<&'static str>,
    /// Those that do it.
    steps: Vec<&'static str>,
    /// Those that undo it.
    undo: Vec<&'static str>,
    forward: Vec<&'static str>,
    commit_point: Option<&'static str>,
}

fn listed<O: HostOp>() -> Listed {
    let (steps, undo) = (
        O::STAGES.iter().flat_map(|stage| stage.steps),
        O::STAGES.iter().flat_map(|stage| stage.undo),
    );
    Listed {
        verb: O::NAME,
        all: step_names::<O>(),
        steps: steps.map(|step| step.name).collect(),
        undo: undo.map(|step| step.name).collect(),
        forward: O::FORWARD.iter().map(|step| step.name).collect(),
        commit_point: O::COMMIT_POINT,
    }
}

fn all_but_noop() -> impl Iterator<Item = Listed> {
    let all: Vec<Listed> = common::each_verb!(listed);
    assert_eq!(
        all.iter().map(|listed| listed.verb).collect::<Vec<_>>(),
        Operation::ALL_NAMES
    );
    all.into_iter().filter(|listed| listed.verb != Noop::NAME)
}

#[test]
fn every_operation_has_steps_at_which_it_can_be_cut_off() {
    for listed in all_but_noop() {
        assert!(!listed.steps.is_empty(), "{}", listed.verb);
        assert!(
            !listed.forward.is_empty(),
            "{}: nothing carries it forward",
            listed.verb
        );
    }
}

#[test]
fn every_operation_commits_at_one_of_its_steps() {
    for listed in all_but_noop() {
        let at = listed.commit_point.unwrap_or_default();
        assert!(listed.steps.contains(&at), "{}: {at:?}", listed.verb);
    }
}

#[test]
fn no_two_steps_of_an_operation_have_one_name() {
    for listed in all_but_noop() {
        let done_or_undone: Vec<_> = listed.steps.iter().chain(&listed.undo).collect();
        let names: BTreeSet<_> = done_or_undone.iter().collect();
        assert_eq!(names.len(), done_or_undone.len(), "{}", listed.verb);
        assert!(listed.all.len() >= names.len(), "{}", listed.verb);
    }
}

#[test]
fn fail_points_are_named_by_their_verb() {
    for (verb, steps) in steps() {
        let of_verb = |step: &String| step.starts_with(&format!("{verb}."));
        assert!(steps.iter().all(of_verb), "{steps:?}");
    }
}
