//! Calls: what a command asks of its host by itself, without a task.

use common::id::DomainId;

/// A call that answers when it is done, and that is harmless to repeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostCall {
    /// Take the host for this engine.
    Claim,
    /// Give it up.
    Release,
    /// Take it, whoever has it: a person has decided so.
    TakeOver {
        /// The user who asks for it.
        user: String,
        /// The reason that the user gave.
        reason: String,
        /// Of the request.
        correlation_id: String,
    },
    /// Create a storage domain.
    CreateDomain {
        /// Its id.
        domain_id: DomainId,
        /// Its name.
        name: String,
    },
}
