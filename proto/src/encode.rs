//! Encoding once what is needed several times: in a record, in the history, and by everybody who watches.

use bytes::Bytes;
use prost::{DecodeError, Message};

/// The message as bytes that can be shared.
pub fn once(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

/// The messages that [`once`] made these bytes of.
///
/// # Errors
/// [`DecodeError`] where one of them is something else.
pub fn read<M: Message + Default>(encoded: &[Bytes]) -> Result<Vec<M>, DecodeError> {
    encoded.iter().cloned().map(M::decode).collect()
}

/// A message whose field 1 is an embedded message that is encoded already. `rest` has all other fields, and leaves
/// that one unset.
pub fn around(first: &Bytes, rest: &impl Message) -> Vec<u8> {
    let mut record = Vec::with_capacity(prost::encoding::bytes::encoded_len(1, first) + rest.encoded_len());
    prost::encoding::bytes::encode(1, first, &mut record);
    rest.encode_raw(&mut record);
    record
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoded::v1::WatchResponse;
    use crate::encoded::v1::watch_response::{Changes, Frame, Snapshot};
    use crate::engine::v1 as engine;
    use crate::host::v1 as vdsm;
    use crate::store::v1::HostTaskRecord;
    use crate::task::v1::{Closing, Heartbeat, Opened, Progress, ProgressSamples, SnapshotDone};

    /// One of each kind, with every field set.
    fn frames(item: &Bytes) -> [Frame; 7] {
        let token = "a token".to_owned();
        let items = vec![item.clone(), item.clone()];
        let changes = Changes {
            revision: 7,
            token: token.clone(),
            commit_time: Some(prost_types::Timestamp { seconds: 8, nanos: 9 }),
            items: items.clone(),
            more: true,
        };
        let progress = ProgressSamples {
            items: vec![Progress {
                task_id: "a task".to_owned(),
                ..Progress::default()
            }],
        };
        let closing = Closing {
            token: token.clone(),
            ..Closing::default()
        };
        let opened = Opened {
            store_id: "a store".to_owned(),
            ..Opened::default()
        };
        [
            Frame::Opened(opened),
            Frame::Snapshot(Snapshot { items }),
            Frame::SnapshotDone(SnapshotDone { token: token.clone() }),
            Frame::Changes(changes),
            Frame::Progress(progress),
            Frame::Heartbeat(Heartbeat { token }),
            Frame::Closing(closing),
        ]
    }

    /// What a client of `R` does not know, it leaves out when it writes it again.
    fn is_the_same_as<R: Message + Default>(item: &impl Message) {
        for frame in frames(&once(item)) {
            let sent = WatchResponse { frame: Some(frame) }.encode_to_vec();
            let read = R::decode(sent.as_slice()).unwrap();
            assert_eq!(read.encode_to_vec(), sent);
        }
    }

    #[test]
    fn what_a_server_sends_is_the_response_of_each_watch() {
        let id = || "an id".to_owned();
        is_the_same_as::<vdsm::WatchTasksResponse>(&vdsm::Task {
            task_id: id(),
            ..vdsm::Task::default()
        });
        is_the_same_as::<engine::WatchCommandsResponse>(&engine::Command {
            command_id: id(),
            ..engine::Command::default()
        });
        is_the_same_as::<engine::WatchTasksResponse>(&engine::AsyncTask {
            task_id: id(),
            ..engine::AsyncTask::default()
        });
        is_the_same_as::<engine::WatchJobsResponse>(&engine::Job {
            job_id: id(),
            ..engine::Job::default()
        });
        is_the_same_as::<engine::WatchEventsResponse>(&engine::Event {
            message: id(),
            ..engine::Event::default()
        });
    }

    #[test]
    fn a_record_around_a_message_is_the_record_with_it() {
        for task_id in ["", "an id"] {
            let task = vdsm::Task {
                task_id: task_id.to_owned(),
                ..vdsm::Task::default()
            };
            let rest = HostTaskRecord {
                note: vec![1, 2],
                past_no_return: true,
                ..HostTaskRecord::default()
            };
            let whole = HostTaskRecord {
                task: Some(task.clone()),
                ..rest.clone()
            };
            let made = HostTaskRecord::decode(around(&once(&task), &rest).as_slice()).unwrap();
            assert_eq!(made, whole);
        }
    }
}
