//! Every verb is written and read back, and each of its fields is tried with what is wrong.

use common::fault::FaultCode;
use common::operation::Noop;
use prost::Message as _;

use super::*;

pub(super) const ID: &str = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";
pub(super) const OTHER: &str = "6ba7b811-9dad-41d1-80b4-00c04fd430c8";

/// What the tests need of each verb's message: without it they do not compile.
pub(super) trait Sampled: Sized {
    /// One that is right, with every field set.
    fn sample() -> Self;

    /// Ones that are wrong, each with the path of the field in the message.
    fn bad() -> Vec<(&'static str, Self)>;
}

/// The sample with a change.
pub(super) fn with<M: Sampled>(change: impl FnOnce(&mut M)) -> M {
    let mut message = M::sample();
    change(&mut message);
    message
}

macro_rules! tried {
    ($($verb:ident,)*) => {
        fn samples() -> Vec<wire::operation::Verb> {
            vec![$(wire::operation::Verb::$verb(Sampled::sample()),)*]
        }

        fn bad() -> Vec<(String, wire::operation::Verb)> {
            let mut bad = Vec::new();
            $(
                let rows: Vec<(_, wire::$verb)> = Sampled::bad();
                bad.extend(rows.into_iter().map(|(field, message)| {
                    let path = format!("operation.{}.{field}", common::operation::$verb::NAME);
                    (path, wire::operation::Verb::$verb(message))
                }));
            )*
            bad
        }
    };
}

common::each_verb!(tried);

fn read(verb: wire::operation::Verb) -> Result<Operation, Fault> {
    operation_from_wire("operation", Some(&wire::Operation { verb: Some(verb) }))
}

#[test]
fn every_operation_reads_back_as_it_was_written() {
    for verb in samples() {
        let operation = read(verb.clone()).unwrap();
        assert_eq!(operation_to_wire(&operation).verb, Some(verb));
    }
}

#[test]
fn what_is_wrong_is_named_by_its_path() {
    for (path, verb) in bad() {
        let fault = read(verb).unwrap_err();
        assert_eq!(
            (fault.code, fault.subject.as_str()),
            (FaultCode::InvalidArgument, path.as_str())
        );
        assert!(fault.message.starts_with(&path), "{fault}");
    }
}

#[test]
fn every_operation_that_has_fields_is_tried_with_wrong_ones() {
    let bad = bad();
    for (name, sample) in Operation::ALL_NAMES.iter().zip(samples()) {
        let has_fields = wire::Operation { verb: Some(sample) }.encoded_len() > 2;
        let prefix = format!("operation.{name}.");
        assert_eq!(
            bad.iter().any(|(path, _)| path.starts_with(&prefix)),
            has_fields,
            "{name}"
        );
    }
}

#[test]
fn an_operation_is_about_what_it_names() {
    for verb in samples() {
        let operation = wire::Operation { verb: Some(verb) };
        let names_it = operation.encoded_len() > 2;
        assert_eq!(operation_is_about(&operation, ID), names_it, "{operation:?}");
        let stranger = "6ba7b812-9dad-41d1-80b4-00c04fd430c8";
        assert!(!operation_is_about(&operation, stranger), "{operation:?}");
        assert!(!operation_is_about(&operation, "x"), "{operation:?}");
    }
}

#[test]
fn an_operation_without_a_verb_is_refused_and_told_which_there_are() {
    for operation in [None, Some(&wire::Operation { verb: None })] {
        let fault = operation_from_wire("operation", operation).unwrap_err();
        assert_eq!(fault.subject, "operation");
        for name in Operation::ALL_NAMES.iter().filter(|name| **name != Noop::NAME) {
            assert!(fault.message.contains(name), "{name}: {fault}");
        }
    }
}

#[test]
fn fuzz_bytes_that_are_no_operation_are_refused_without_a_panic() {
    let seeds = samples()
        .into_iter()
        .map(|verb| wire::Operation { verb: Some(verb) });
    let seeds = seeds.map(|operation| operation.encode_to_vec());
    fuzz::fuzz("operations", seeds, |input| {
        let Ok(bytes) = wire::Operation::decode(input) else {
            return;
        };
        if let Ok(operation) = operation_from_wire("operation", Some(&bytes)) {
            let back = operation_to_wire(&operation);
            assert_eq!(operation_from_wire("operation", Some(&back)), Ok(operation));
        }
    });
}
