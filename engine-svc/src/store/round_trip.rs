//! Every record is read back as it was written.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use prost::Message;
use proto::encode;

use super::{command, disk, domain, host, task, vm};
use crate::testing::any;

/// A record, encoded and decoded.
fn kept<R: Message + Default>(record: R) -> R {
    R::decode(record.encode_to_vec().as_slice()).unwrap()
}

/// The same for a record that is encoded around its shown form.
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
}

/// A few values of a strategy, as bytes.
fn some<T: std::fmt::Debug>(of: impl Strategy<Value = T>, encoded: impl Fn(&T) -> Vec<u8>) -> Vec<Vec<u8>> {
    let mut runner = proptest::test_runner::TestRunner::default();
    let mut value = || of.new_tree(&mut runner).unwrap().current();
    (0..8).map(|_| encoded(&value())).collect()
}

#[test]
fn fuzz_bytes_that_are_no_record_are_refused_without_a_panic() {
    use proto::store::v1::{AsyncTaskRecord, CommandRecord};
    let commands = some(any::command(), |value| {
        encode::around(&encode::once(&command::show(value)), &command::record(value))
    });
    let tasks = some(any::task(), |value| {
        encode::around(&encode::once(&task::show(value, None)), &task::record(value))
    });
    let hosts = some(any::host(), |value| host::record(value).encode_to_vec());
    let disks = some(any::disk(), |value| disk::record(value).encode_to_vec());
    fuzz::fuzz(
        "engine-records",
        [commands, tasks, hosts, disks].concat(),
        |input| {
            if let Ok(record) = CommandRecord::decode(input)
                && let Ok(read) = command::read(1, record)
            {
                let again = kept_around(&command::show(&read), &command::record(&read));
                assert_eq!(command::read(1, again), Ok(read));
            }
            if let Ok(record) = AsyncTaskRecord::decode(input) {
                let _ = task::read(1, record);
            }
            if let Ok(record) = Message::decode(input) {
                let _ = host::read_record(record);
            }
            if let Ok(record) = Message::decode(input) {
                let _ = disk::read_record(record);
            }
            if let Ok(record) = Message::decode(input) {
                let _ = domain::read_record(record);
            }
            if let Ok(record) = Message::decode(input) {
                let _ = vm::read_record(record);
            }
        },
    );
}
