//! What a client asks of a watch, checked.

use std::time::Duration;

use common::fault::Fault;
use common::revision::Token;
use proto::convert;
use proto::task::v1 as wire;

/// How far back a snapshot reaches for what has ended, where nothing is asked for.
const ENDED_WITHIN: Duration = Duration::from_secs(10 * 60);

/// More often would cost more than it tells.
const MIN_HEARTBEAT: Duration = Duration::from_millis(100);

/// Streams live about as long, so a longer interval means none.
const MAX_HEARTBEAT: Duration = MAX_AGE;

/// After this a stream ends, where the service is not told otherwise: so clients spread over the servers there are,
/// and prove that they can resume.
pub const MAX_AGE: Duration = Duration::from_secs(60 * 60);

/// What a service holds of every watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// How often a client hears of a stream on which nothing happens, unless it asks for something else.
    pub heartbeat: Duration,
    /// After about this a stream ends with `MAX_AGE`, and its client resumes.
    pub max_age: Duration,
}

/// What a client asks of a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchOptions {
    pub(super) start: Start,
    pub(super) ended_within: Duration,
    pub(super) heartbeat: Duration,
    pub(super) progress: bool,
    pub(super) max_age: Duration,
}

/// Where a watch starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With a snapshot of what there is.
    Snapshot,
    /// With the next change.
    Now,
    /// With the change after this.
    After(Token),
}

impl WatchOptions {
    /// Reads the fields that all Watch requests have in common.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`, naming the field.
    pub fn read(
        start: Option<&wire::WatchStart>,
        ended_within: Option<&prost_types::Duration>,
        heartbeat_interval: Option<&prost_types::Duration>,
        include_progress: bool,
        terms: Terms,
    ) -> Result<Self, Fault> {
        use wire::watch_start::Start as Wire;
        let start = match start.and_then(|start| start.start.as_ref()) {
            None | Some(Wire::Snapshot(())) => Start::Snapshot,
            Some(Wire::Now(())) => Start::Now,
            Some(Wire::After(text)) => {
                let token = text.parse();
                Start::After(token.map_err(|error| Fault::invalid("start.after", error))?)
            }
        };
        let ended_within = match ended_within {
            None => ENDED_WITHIN,
            Some(asked) => duration("ended_within", asked)?,
        };
        let heartbeat = match heartbeat_interval {
            None => terms.heartbeat,
            Some(asked) => duration("heartbeat_interval", asked)?,
        };
        if heartbeat < MIN_HEARTBEAT {
            let what = format!("is {heartbeat:?}; expected at least {MIN_HEARTBEAT:?}");
            return Err(Fault::invalid("heartbeat_interval", what));
        }
        Ok(Self {
            start,
            ended_within,
            heartbeat: heartbeat.min(MAX_HEARTBEAT),
            progress: include_progress,
            max_age: terms.max_age,
        })
    }

    /// Where the watch starts.
    pub fn start(&self) -> Start {
        self.start
    }

    /// How far back a snapshot reaches for what has ended.
    pub fn ended_within(&self) -> Duration {
        self.ended_within
    }
}

fn duration(field: &str, asked: &prost_types::Duration) -> Result<Duration, Fault> {
    convert::from_duration(asked)
        .ok_or_else(|| Fault::invalid(field, "is negative or malformed; expected a positive duration"))
}

/// A duration as it travels.
pub(super) fn to_wire(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms {
        heartbeat: Duration::from_secs(5),
        max_age: MAX_AGE,
    };

    fn wire(seconds: i64, nanos: i32) -> Option<prost_types::Duration> {
        Some(prost_types::Duration { seconds, nanos })
    }

    fn read(
        start: Option<wire::watch_start::Start>,
        ended: Option<prost_types::Duration>,
        heartbeat: Option<prost_types::Duration>,
    ) -> Result<WatchOptions, Fault> {
        let start = wire::WatchStart { start };
        WatchOptions::read(Some(&start), ended.as_ref(), heartbeat.as_ref(), false, TERMS)
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let options = WatchOptions::read(None, None, None, true, TERMS).unwrap();
        assert_eq!(options.start(), Start::Snapshot);
        assert_eq!(options.ended_within(), Duration::from_secs(600));
        assert_eq!((options.heartbeat, options.progress), (TERMS.heartbeat, true));
        assert_eq!(
            read(None, wire(0, 0), None).unwrap().ended_within(),
            Duration::ZERO
        );
        assert_eq!(
            read(None, None, wire(0, 100_000_000)).unwrap().heartbeat,
            MIN_HEARTBEAT
        );
        assert_eq!(
            read(None, None, wire(i64::MAX, 0)).unwrap().heartbeat,
            MAX_HEARTBEAT
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let after = |text: &str| Some(wire::watch_start::Start::After(text.into()));
        for (field, outcome) in [
            ("start.after", read(after(""), None, None)),
            ("start.after", read(after("yesterday"), None, None)),
            ("ended_within", read(None, wire(-1, 0), None)),
            ("ended_within", read(None, wire(1, -1), None)),
            ("ended_within", read(None, wire(1, 1_000_000_000), None)),
            ("heartbeat_interval", read(None, None, wire(0, 99_999_999))),
            ("heartbeat_interval", read(None, None, wire(0, 0))),
            ("heartbeat_interval", read(None, None, wire(i64::MIN, 0))),
        ] {
            assert_eq!(outcome.unwrap_err().subject, field);
        }
    }
}
