//! Whose host it is, and who may change things on it.

use common::fault::{Fault, FaultCode};
use common::id::{EngineId, StoreId};

use crate::input::{Caller, EngineCall};

/// The engine that has, or had, this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// Which.
    pub engine_id: EngineId,
    /// The highest of its epochs that this host has seen. Kept after a release, so that an old start of that
    /// engine cannot take the host again.
    pub epoch: u64,
    /// It gave the host up.
    pub released: bool,
}

/// Whether `caller` may change things, and the owner to record before anything is done at its word.
///
/// # Errors
/// `HOST_STORE_CHANGED`, `HOST_OWNED`, `ENGINE_FENCED` or `HOST_NOT_OWNED`.
pub(crate) fn admit(owner: Option<&Owner>, own: StoreId, caller: &Caller) -> Result<Option<Owner>, Fault> {
    match (owner.filter(|owner| !owner.released), caller.engine) {
        (None, None) => Ok(None),
        (Some(owner), None) => Err(owned(owner)),
        (owner, Some(call)) => {
            same_store(own, &call)?;
            let owner = owner.ok_or_else(not_owned)?;
            newer_epoch(owner, &call)
        }
    }
}

/// The owner to record when `call` takes the host; none if it is recorded already.
///
/// # Errors
/// `HOST_STORE_CHANGED`, `HOST_OWNED` or `ENGINE_FENCED`.
pub(crate) fn claim(owner: Option<&Owner>, own: StoreId, call: &EngineCall) -> Result<Option<Owner>, Fault> {
    same_store(own, call)?;
    let fresh = Owner {
        engine_id: call.engine_id,
        epoch: call.epoch,
        released: false,
    };
    match owner {
        None => Ok(Some(fresh)),
        Some(owner) if owner.engine_id != call.engine_id && owner.released => Ok(Some(fresh)),
        Some(owner) => {
            newer_epoch(owner, call)?;
            Ok((*owner != fresh).then_some(fresh))
        }
    }
}

/// A higher epoch is recorded in the same revision as what is done at its word, so never after it.
fn newer_epoch(owner: &Owner, call: &EngineCall) -> Result<Option<Owner>, Fault> {
    if owner.engine_id != call.engine_id {
        return Err(owned(owner));
    }
    if call.epoch < owner.epoch {
        return Err(Fault::new(
            FaultCode::EngineFenced,
            format!(
                "epoch {} of this engine is over: epoch {} has called; the older one must stop",
                call.epoch, owner.epoch
            ),
        )
        .about(call.engine_id));
    }
    Ok((call.epoch > owner.epoch).then_some(Owner {
        epoch: call.epoch,
        ..*owner
    }))
}

fn same_store(own: StoreId, call: &EngineCall) -> Result<(), Fault> {
    match call.store_id {
        Some(store) if store != own => Err(Fault::new(
            FaultCode::HostStoreChanged,
            format!("the call is for store {store}, but this host's data directory is store {own}: look at the host before anything is sent again"),
        )
        .about(own)),
        _ => Ok(()),
    }
}

fn owned(owner: &Owner) -> Fault {
    Fault::new(
        FaultCode::HostOwned,
        format!(
            "this host belongs to engine {}: change it there, or remove it there first",
            owner.engine_id
        ),
    )
    .about(owner.engine_id)
}

fn not_owned() -> Fault {
    Fault::new(
        FaultCode::HostNotOwned,
        "this host belongs to no engine: claim it (ClaimHost) before sending it work",
    )
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn call(engine: u128, epoch: u64, store: Option<u128>) -> EngineCall {
        EngineCall {
            engine_id: EngineId::from_uuid(Uuid::from_u128(engine)),
            epoch,
            store_id: store.map(|id| StoreId::from_uuid(Uuid::from_u128(id))),
        }
    }

    fn code<T>(outcome: Result<T, Fault>) -> Option<FaultCode> {
        outcome.err().map(|fault| fault.code)
    }

    const OWN: StoreId = StoreId::from_uuid(Uuid::from_u128(9));

    #[test]
    fn a_caller_that_is_no_engine_changes_things_only_where_nobody_owns() {
        let nobody = Caller { engine: None };
        assert_eq!(admit(None, OWN, &nobody), Ok(None));
        let owner = claim(None, OWN, &call(1, 1, None)).unwrap().unwrap();
        assert_eq!(
            code(admit(Some(&owner), OWN, &nobody)),
            Some(FaultCode::HostOwned)
        );
        let released = Owner {
            released: true,
            ..owner
        };
        assert_eq!(admit(Some(&released), OWN, &nobody), Ok(None));
    }

    #[test]
    fn an_engine_must_own_the_host_mean_its_store_and_be_the_youngest_start() {
        let caller = |engine, epoch, store| Caller {
            engine: Some(call(engine, epoch, store)),
        };
        assert_eq!(
            code(admit(None, OWN, &caller(1, 1, None))),
            Some(FaultCode::HostNotOwned)
        );
        let owner = claim(None, OWN, &call(1, 5, Some(9))).unwrap().unwrap();
        let ask = |caller| admit(Some(&owner), OWN, &caller);
        assert_eq!(ask(caller(1, 5, Some(9))), Ok(None));
        assert_eq!(ask(caller(1, 6, None)), Ok(Some(Owner { epoch: 6, ..owner })));
        assert_eq!(code(ask(caller(1, 4, None))), Some(FaultCode::EngineFenced));
        assert_eq!(code(ask(caller(2, 9, None))), Some(FaultCode::HostOwned));
        assert_eq!(
            code(ask(caller(1, 5, Some(8)))),
            Some(FaultCode::HostStoreChanged)
        );
    }

    #[test]
    fn claiming_twice_is_harmless_and_a_release_does_not_let_an_old_start_back_in() {
        let owner = claim(None, OWN, &call(1, 5, None)).unwrap().unwrap();
        assert_eq!(claim(Some(&owner), OWN, &call(1, 5, None)), Ok(None));
        assert_eq!(
            code(claim(Some(&owner), OWN, &call(2, 9, None))),
            Some(FaultCode::HostOwned)
        );
        let released = Owner {
            released: true,
            ..owner
        };
        assert_eq!(
            code(claim(Some(&released), OWN, &call(1, 4, None))),
            Some(FaultCode::EngineFenced)
        );
        assert_eq!(claim(Some(&released), OWN, &call(1, 5, None)), Ok(Some(owner)));
        let other = claim(Some(&released), OWN, &call(2, 1, None)).unwrap().unwrap();
        assert_eq!((other.epoch, other.released), (1, false));
    }
}
