//! Calls that a command makes to its host directly, without a task.

use common::id::DomainId;

/// A call that returns when it is done, and that can be repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostCall {
    /// Claim the host for this engine.
    Claim,
    /// Release it.
    Release,
    /// Take it over, whoever has it: a person has decided so.
    TakeOver {
        /// The user.
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
