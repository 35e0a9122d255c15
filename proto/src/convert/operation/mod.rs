//! Operations on the wire. The form of each verb is in a file of its own.

use std::fmt;

use common::fault::Fault;
use common::id::VolumeId;
use common::operation::{Operation, Verb};

use crate::task::v1 as wire;

/// The form of a verb on the wire: its message of the same name, field by field, each with the module of [`field`] that converts
/// it. What is to be looked at once all fields are read is a function after `check`.
macro_rules! wire_form {
    ($verb:ident { $($field:ident: $form:ident),* $(,)? } $(check $check:path)?) => {
        impl crate::convert::operation::WireForm for common::operation::$verb {
            type Message = crate::task::v1::$verb;

            fn to_wire(&self) -> Self::Message {
                crate::task::v1::$verb {
                    $($field: crate::convert::operation::field::$form::to_wire(&self.$field),)*
                }
            }

            #[allow(unused_variables)] // A verb may have no fields.
            fn from_wire(
                at: crate::convert::operation::At<'_>,
                message: &Self::Message,
            ) -> Result<Self, common::fault::Fault> {
                let op = Self {
                    $($field: crate::convert::operation::field::$form::from_wire(
                        at.field(stringify!($field)),
                        &message.$field,
                    )?,)*
                };
                $($check(at, &op)?;)?
                Ok(op)
            }
        }
    };
}

mod copy_volume;
mod create_volume;
mod delete_image;
mod extend_volume;
mod field;
mod noop;

/// What [`wire_form!`] makes.
trait WireForm: Verb + Sized {
    /// The verb's message.
    type Message;

    fn to_wire(&self) -> Self::Message;

    /// # Errors
    /// `INVALID_ARGUMENT`, naming the path of what is wrong.
    fn from_wire(at: At<'_>, message: &Self::Message) -> Result<Self, Fault>;
}

/// Where a verb's message stands in a request.
#[derive(Debug, Clone, Copy)]
struct At<'a> {
    /// The path of the operation.
    operation: &'a str,
    verb: &'static str,
}

impl At<'_> {
    /// The path of a field of the message.
    fn field(self, name: &'static str) -> impl fmt::Display {
        fmt::from_fn(move |f| write!(f, "{}.{}.{name}", self.operation, self.verb))
    }
}

macro_rules! conversions {
    ($($verb:ident,)*) => {
        fn verb_to_wire(operation: &Operation) -> wire::operation::Verb {
            match operation {
                $(Operation::$verb(op) => wire::operation::Verb::$verb(op.to_wire()),)*
            }
        }

        fn verb_from_wire(operation: &str, verb: &wire::operation::Verb) -> Result<Operation, Fault> {
            match verb {
                $(wire::operation::Verb::$verb(message) => {
                    let verb = common::operation::$verb::NAME;
                    WireForm::from_wire(At { operation, verb }, message).map(Operation::$verb)
                })*
            }
        }
    };
}

common::each_verb!(conversions);

/// An operation on the wire.
pub fn operation_to_wire(operation: &Operation) -> wire::Operation {
    wire::Operation {
        verb: Some(verb_to_wire(operation)),
    }
}

/// Reads an operation; `field` is its own path in the request.
///
/// # Errors
/// `INVALID_ARGUMENT`, naming the path of what is wrong.
pub fn operation_from_wire(field: &str, operation: Option<&wire::Operation>) -> Result<Operation, Fault> {
    match operation.and_then(|op| op.verb.as_ref()) {
        Some(verb) => verb_from_wire(field, verb),
        None => {
            let expected = served();
            let what = format!("has no verb that this build knows; expected {expected}");
            Err(Fault::invalid(field, what))
        }
    }
}

/// Whether an operation is about the domain, image or volume of this id.
pub fn operation_is_about(operation: &wire::Operation, id: &str) -> bool {
    // Of whichever kind: all ids have one form.
    let Ok(id) = id.parse::<VolumeId>() else {
        return false;
    };
    let operation = operation_from_wire("operation", Some(operation));
    operation.is_ok_and(|operation| operation.is_about(id.as_uuid()))
}

/// The verbs that every build serves, in words.
fn served() -> String {
    let is_served = |name: &&&str| **name != common::operation::Noop::NAME;
    let names: Vec<&str> = Operation::ALL_NAMES.iter().filter(is_served).copied().collect();
    match names.as_slice() {
        [all_but_last @ .., last] if !all_but_last.is_empty() => {
            format!("{} or {last}", all_but_last.join(", "))
        }
        names => names.concat(),
    }
}

#[cfg(test)]
mod tests;
