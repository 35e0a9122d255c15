//! What an operation keeps others away from.

use common::Operation;
use common::id::{DomainId, ImageId};
use common::lock::Mode;

/// What can be locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LockKey {
    /// A storage domain: shared by whatever works in it, exclusive for making and formatting it.
    Domain(DomainId),
    /// An image of a domain, with all its volumes.
    Image(DomainId, ImageId),
}

impl std::fmt::Display for LockKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Domain(domain) => write!(f, "domain {domain}"),
            Self::Image(domain, image) => write!(f, "image {image} of domain {domain}"),
        }
    }
}

/// The locks that an operation needs, from before its first step until its end.
pub fn lock_keys(op: &Operation) -> Vec<(LockKey, Mode)> {
    let domain = op
        .domain_id()
        .map(|domain| (LockKey::Domain(domain), Mode::Shared));
    let image = op.domain_id().zip(op.image_id());
    let image = image.map(|(domain, image)| (LockKey::Image(domain, image), Mode::Exclusive));
    domain.into_iter().chain(image).collect()
}

#[cfg(test)]
mod tests {
    use common::DeleteImage;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn an_operation_shares_its_domain_and_has_its_image_alone() {
        let (domain_id, image_id) = (
            DomainId::from_uuid(Uuid::from_u128(1)),
            ImageId::from_uuid(Uuid::from_u128(2)),
        );
        let op = Operation::DeleteImage(DeleteImage { domain_id, image_id });
        assert_eq!(
            lock_keys(&op),
            [
                (LockKey::Domain(domain_id), Mode::Shared),
                (LockKey::Image(domain_id, image_id), Mode::Exclusive)
            ]
        );
        assert_eq!(lock_keys(&Operation::Noop), []);
    }
}
