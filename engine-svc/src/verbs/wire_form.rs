//! How the parameters of a command are kept and shown: as one message, field by field.

use crate::store::codec::CodecError;

/// Parameters that are kept and shown as a message.
pub(super) trait WireForm: Sized {
    /// The message.
    type Message;

    fn encode(&self) -> Self::Message;

    /// # Errors
    /// [`CodecError`] for a message that [`WireForm::encode`] did not write.
    fn decode(message: Self::Message) -> Result<Self, CodecError>;

    /// Whether the message names the entity of this id, for filters by entity.
    fn names(message: &Self::Message, id: &str) -> bool;

    /// Arbitrary parameters of the kind.
    #[cfg(test)]
    fn any() -> proptest::strategy::BoxedStrategy<Self>;
}

/// `wire_form! { AttachDisk <=> AttachDiskParameters { disk_id: id, vm_id: id } }`: the fields have the same names on
/// both sides, and each has a form of `form.rs`.
macro_rules! wire_form {
    ($name:ident <=> $message:ident { $($field:ident: $form:ident),* $(,)? }) => {
        impl crate::verbs::wire_form::WireForm for engine_core::model::$name {
            type Message = proto::engine::v1::$message;

            fn encode(&self) -> Self::Message {
                proto::engine::v1::$message {
                    $($field: crate::verbs::form::$form::encode(&self.$field),)*
                }
            }

            fn decode(message: Self::Message) -> Result<Self, crate::store::codec::CodecError> {
                Ok(Self {
                    $($field: crate::verbs::form::$form::decode(stringify!($field), message.$field)?,)*
                })
            }

            fn names(message: &Self::Message, id: &str) -> bool {
                $(crate::verbs::form::$form::names(&message.$field, id))||*
            }

            #[cfg(test)]
            fn any() -> proptest::strategy::BoxedStrategy<Self> {
                use proptest::strategy::Strategy as _;
                let fields = ($(crate::testing::form::$form(),)*);
                fields.prop_map(|($($field,)*)| Self { $($field,)* }).boxed()
            }
        }
    };
}
