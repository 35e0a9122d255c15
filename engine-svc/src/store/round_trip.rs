//! What is kept is read back as it was, through the bytes.

use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;
use proto::encode;

use super::{command, disk, domain, host, task, vm};
use crate::testing::any;

/// Through the bytes of the record.
fn kept<R: Message + Default>(record: R) -> R {
    R::decode(record.encode_to_vec().as_slice()).unwrap()
}

/// The same for one that is made around what is shown of it.
fn kept_around<R: Message + Default>(shown: &impl Message, rest: &R) -> R {
    R::decode(encode::around(&encode::once(shown), rest).as_slice()).unwrap()
}

proptest! {
    #[test]
    fn a_command(value in any::command()) {
        let record = kept_around(&command::show(&value), &command::record(&value));
        prop_assert_eq!(command::read(value.seq, record), Ok(value));
    }

    #[test]
    fn a_task(value in any::task(), owner in any::command()) {
        for owner in [None, Some(&owner)] {
            let record = kept_around(&task::show(&value, owner), &task::record(&value));
            prop_assert_eq!(task::read(value.seq, record), Ok(value.clone()));
        }
    }

    #[test]
    fn a_host(value in any::host()) {
        prop_assert_eq!(host::read_record(kept(host::record(&value))), Ok(value));
    }

    #[test]
    fn a_domain(value in any::domain()) {
        prop_assert_eq!(domain::read_record(kept(domain::record(&value))), Ok(value));
    }

    #[test]
    fn a_disk(value in any::disk()) {
        prop_assert_eq!(disk::read_record(kept(disk::record(&value))), Ok(value));
    }

    #[test]
    fn a_vm(value in any::vm()) {
        prop_assert_eq!(vm::read_record(kept(vm::record(&value))), Ok(value));
    }

    #[test]
    fn bytes_that_are_no_record_are_refused_without_a_panic(bytes in vec(proptest::arbitrary::any::<u8>(), 0..200)) {
        use proto::store::v1::{AsyncTaskRecord, CommandRecord};
        if let Ok(record) = CommandRecord::decode(bytes.as_slice()) {
            let _ = command::read(1, record);
        }
        if let Ok(record) = AsyncTaskRecord::decode(bytes.as_slice()) {
            let _ = task::read(1, record);
        }
    }
}
