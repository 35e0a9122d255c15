//! The state diagrams of `ARCHITECTURE.md`, and the tables in the documentation of the code, are the tables.

use std::collections::BTreeSet;
use std::fmt::Debug;

use common::TaskState;
use common::task::TaskEvent;

use super::moves::{AsyncTaskEvent, CommandEvent};
use super::{AsyncTaskState, CommandState};

const ARCHITECTURE: &str = include_str!("../../../../ARCHITECTURE.md");
const MOVES: &str = include_str!("moves.rs");

/// From which state to which, by which event; the first states come from nowhere, by nothing.
type Moves = BTreeSet<(String, String, String)>;

fn upper_snake(name: impl Debug) -> String {
    spaced(name).to_uppercase().replace(' ', "_")
}

/// `AskAgain` is "ask again".
fn spaced(name: impl Debug) -> String {
    spaced_name(&format!("{name:?}"))
}

fn spaced_name(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push(' ');
        }
        text.extend(letter.to_lowercase());
    }
    text
}

fn moves<S: Copy + Debug + PartialEq, E: Copy + Debug>(
    states: &[S],
    events: &[E],
    next: impl Fn(S, E) -> Option<S>,
) -> Moves {
    let mut moves = Moves::new();
    for (state, event) in states
        .iter()
        .flat_map(|state| events.iter().map(move |event| (*state, *event)))
    {
        if let Some(to) = next(state, event) {
            moves.insert((upper_snake(state), upper_snake(to), spaced(event)));
        }
    }
    moves
}

fn first<S: Debug>(state: S) -> (String, String, String) {
    ("[*]".to_owned(), upper_snake(state), String::new())
}

/// The diagram that has this state first.
fn drawn_as(first: &str) -> Moves {
    let begin = format!("[*] --> {first}\n");
    let diagrams = ARCHITECTURE.split("```mermaid\nstateDiagram-v2\n").skip(1);
    let mut diagrams = diagrams.filter_map(|rest| rest.split("```").next());
    let diagram = diagrams
        .find(|diagram| diagram.contains(&begin))
        .expect("it is drawn");
    let mut moves = Moves::new();
    for line in diagram.lines() {
        let (from, rest) = line.trim().split_once(" --> ").expect("an arrow");
        let (to, events) = rest.split_once(": ").unwrap_or((rest, ""));
        for event in events.split(", ") {
            let is_new = moves.insert((from.to_owned(), to.to_owned(), event.to_owned()));
            assert!(is_new, "drawn twice: {line}");
        }
    }
    moves
}

fn without_loops(moves: Moves) -> Moves {
    moves.into_iter().filter(|(from, to, _)| from != to).collect()
}

/// The table in the documentation of the function below it, which begins with this state.
fn documented(first: impl Debug) -> Moves {
    let rows: Vec<&str> = MOVES
        .split("/// | from |")
        .skip(1)
        .map(|rest| {
            let rest = rest.split("///\n").next().unwrap_or_default();
            rest.lines()
                .map(|line| line.trim().trim_start_matches("///").trim())
                .collect()
        })
        .find(|rows: &Vec<&str>| {
            rows.iter()
                .any(|row| row.starts_with(&format!("| {} |", upper_snake(&first))))
        })
        .expect("it is documented");
    let cells = |row: &str| -> Vec<String> { row.split('|').map(|cell| cell.trim().to_owned()).collect() };
    let events = cells(rows[0]);
    let mut moves = Moves::new();
    for row in rows.iter().skip(2).filter(|row| !row.is_empty()) {
        let row = cells(row);
        for (event, to) in events
            .iter()
            .zip(&row[2..])
            .filter(|(event, to)| !event.is_empty() && !to.is_empty())
        {
            moves.insert((row[1].clone(), to.clone(), event.clone()));
        }
    }
    moves
}

fn commands() -> Moves {
    moves(&CommandState::ALL, &CommandEvent::ALL, |state, event| {
        state.next(event).ok()
    })
}

fn async_tasks() -> Moves {
    moves(&AsyncTaskState::ALL, &AsyncTaskEvent::ALL, |state, event| {
        state.next(event).ok()
    })
}

#[test]
fn the_diagrams_have_the_arrows_of_the_tables_and_no_other() {
    let tasks = moves(&TaskState::ALL, &TaskEvent::ALL, |state, event| {
        state.next(event).ok()
    });
    for (mut table, firsts) in [
        (tasks, vec![first(TaskState::Init)]),
        (async_tasks(), vec![first(AsyncTaskState::Initializing)]),
        (
            commands(),
            CommandState::ALL
                .into_iter()
                .filter(|state| state.is_first())
                .map(first)
                .collect(),
        ),
    ] {
        let drawn = drawn_as(&firsts[0].1);
        table.extend(firsts);
        assert_eq!(without_loops(table), drawn);
    }
}

#[test]
fn the_tables_in_the_documentation_are_those_of_the_code() {
    let named = |moves: Moves, events: Vec<String>| -> Moves {
        let name = |event: &str| events.iter().find(|name| spaced_name(name) == event).cloned();
        moves
            .into_iter()
            .map(|(from, to, event)| (from, to, name(&event).unwrap_or(event)))
            .collect()
    };
    let events = CommandEvent::ALL
        .iter()
        .map(|event| format!("{event:?}"))
        .collect();
    assert_eq!(named(commands(), events), documented(CommandState::Pending));
    let events = AsyncTaskEvent::ALL
        .iter()
        .map(|event| format!("{event:?}"))
        .collect();
    assert_eq!(
        named(async_tasks(), events),
        documented(AsyncTaskState::Initializing)
    );
}
