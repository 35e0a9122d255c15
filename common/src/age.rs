//! The age of records, although the wall clock may jump.
//!
//! Records have the time of the wall clock, for people. That alone does not say how old they are: a machine may start
//! with its clock years off, in either direction, and be corrected later. What can be trusted is how long the service
//! has *run*, which is measured by a clock that cannot be set. So the minimum and the maximum of the wall clock's
//! lead over the running time are kept, for as much running time as anything is retained (the window).
//!
//! Something recorded at running time `x` bears the time `x + offset(x)`. At running time `now`, as long as `x` is
//! within the window, that lies between `now + least - (now - x)` and `now + most`. So a record with an earlier time
//! than `now + least - age`, or a later one than `now + most`, has been kept for that age, or for the window, of
//! running time. In other words: after a jump nothing expires early; it expires at the latest once the service has
//! run for the window. See docs/adr/0013.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::time::Timestamp;

/// The number of pieces of the window: a record is kept longer than necessary by at most one piece.
const PIECES: i64 = 32;

/// If the wall clock's lead changes by more than this, the clock jumped, or the service did not run.
const JUMP: i64 = 3_600 * SECOND;

/// A lead that has decreased by this much must survive a crash: what is recorded now would look old.
const LESS: i64 = SECOND;

/// The same for an increase: what is recorded now would seem to come from another time. Together with [`OFTEN`] this
/// is less than [`AgeClock::present`] allows for.
const MORE: i64 = JUMP / 2;

/// How much running time a crash may lose.
const OFTEN: i64 = 600 * SECOND;

const SECOND: i64 = 1_000_000;

/// What the wall clock has shown while the service ran. All in microseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgeClock {
    window: i64,
    running: i64,
    /// The lead at the last observation.
    lead: i64,
    /// Oldest first; never empty.
    eras: VecDeque<Era>,
}

/// The range of the wall clock's lead over the running time during some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Era {
    /// The running time at its beginning.
    pub begin: i64,
    /// The running time at its last observation.
    pub last: i64,
    /// The minimum lead.
    pub least: i64,
    /// The maximum lead.
    pub most: i64,
}

/// What is kept of an [`AgeClock`] between two runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Kept {
    /// How long the service has run in total.
    pub running: i64,
    /// Oldest first.
    pub eras: Vec<Era>,
}

/// The wall clock was set, or the service did not run: its lead has changed by this much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jump {
    /// In microseconds.
    pub micros: i64,
}

/// The range of times that the wall clock may show for the present within the window; ages are computed from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Present {
    /// The earliest time.
    pub least: Timestamp,
    /// The latest time.
    pub most: Timestamp,
}

impl AgeClock {
    /// For a service that runs for the first time, or for which only the time of its last record is known.
    pub fn begin(window: Duration, at: Timestamp) -> Self {
        let era = Era {
            begin: 0,
            last: 0,
            least: at.0,
            most: at.0,
        };
        Self {
            window: micros(window),
            running: 0,
            lead: at.0,
            eras: VecDeque::from([era]),
        }
    }

    /// Continues from what was kept; none if that is empty. Ages greater than `window` must not be asked for.
    pub fn resume(window: Duration, kept: Kept) -> Option<Self> {
        let last = *kept.eras.last()?;
        Some(Self {
            window: micros(window),
            running: kept.running.max(last.last),
            // A jump is a lead outside of the range that was seen last.
            lead: last.most,
            eras: kept.eras.into(),
        })
    }

    /// Observes the wall clock, `elapsed` after the last observation by a clock that cannot be set; returns a jump if
    /// there was one.
    pub fn look(&mut self, wall: Timestamp, elapsed: Duration) -> Option<Jump> {
        self.running = self.running.saturating_add(micros(elapsed));
        let lead = wall.0.saturating_sub(self.running);
        let jumped = lead.saturating_sub(self.lead);
        self.lead = lead;
        self.note(lead);
        let known = self.running.saturating_sub(self.window);
        while self.eras.len() > 1 && self.eras.front().is_some_and(|era| era.last < known) {
            self.eras.pop_front();
        }
        (jumped.saturating_abs() > JUMP).then_some(Jump { micros: jumped })
    }

    fn note(&mut self, lead: i64) {
        let now = self.running;
        match self.eras.back_mut() {
            Some(era) if now - era.begin < self.window / PIECES => {
                era.last = now;
                era.least = era.least.min(lead);
                era.most = era.most.max(lead);
            }
            _ => self.eras.push_back(Era {
                begin: now,
                last: now,
                least: lead,
                most: lead,
            }),
        }
    }

    /// The present as of the last observation.
    pub fn present(&self) -> Present {
        let (least, most) = bounds(self.eras.iter());
        Present {
            least: Timestamp(self.running.saturating_add(least)),
            most: Timestamp(self.running.saturating_add(most).saturating_add(JUMP)),
        }
    }

    /// The state to be kept.
    pub fn kept(&self) -> Kept {
        Kept {
            running: self.running,
            eras: self.eras.iter().copied().collect(),
        }
    }

    /// Whether it is time to keep the observations since `kept`: a crash may lose some running time, and then
    /// everything is kept for as much longer. Also if the clock was set back to its former time, because records may
    /// have the time that it showed in between.
    pub fn is_due(&self, kept: &Kept) -> bool {
        let (least, most) = bounds(kept.eras.iter());
        let (seen_least, seen_most) = bounds(self.eras.iter());
        self.running.saturating_sub(kept.running) >= OFTEN
            || seen_least < least.saturating_sub(LESS)
            || seen_most > most.saturating_add(MORE)
    }
}

impl Present {
    /// The times that a record younger than `age` may have.
    pub fn young(&self, age: Duration) -> RangeInclusive<Timestamp> {
        Timestamp(self.least.0.saturating_sub(micros(age)))..=self.most
    }

    /// Whether a record with this time has certainly been kept for `age`.
    pub fn is_older(&self, time: Timestamp, age: Duration) -> bool {
        !self.young(age).contains(&time)
    }
}

/// The minimum and maximum lead; for no eras, an empty range.
fn bounds<'a>(eras: impl Iterator<Item = &'a Era>) -> (i64, i64) {
    eras.fold((i64::MAX, i64::MIN), |(least, most), era| {
        (least.min(era.least), most.max(era.most))
    })
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: i64 = 3_600 * SECOND;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    const WEEK: Duration = Duration::from_secs(7 * 24 * 3_600);
    const MONTH: Duration = Duration::from_secs(30 * 24 * 3_600);

    const fn time(micros: i64) -> Duration {
        Duration::from_micros(micros.cast_unsigned())
    }

    /// A service, its machine's clock, and what it has recorded.
    struct Life {
        clock: AgeClock,
        kept: Kept,
        /// Microseconds that have truly gone by.
        running: i64,
        wall: i64,
        records: Vec<(i64, Timestamp)>,
    }

    impl Life {
        fn begin() -> Self {
            let wall = 50 * YEAR;
            let clock = AgeClock::begin(MONTH, Timestamp(wall));
            Self {
                kept: clock.kept(),
                clock,
                running: 0,
                wall,
                records: Vec::new(),
            }
        }

        /// As the coordinator does: what is due is kept with it.
        fn record(&mut self) {
            self.clock.look(Timestamp(self.wall), Duration::ZERO);
            if self.clock.is_due(&self.kept) {
                self.kept = self.clock.kept();
            }
            self.records.push((self.running, Timestamp(self.wall)));
        }

        /// The clock is off for a moment, in which something is recorded, and nobody looks at it besides.
        fn record_off(&mut self, by: i64) {
            self.wall += by;
            self.record();
            self.wall -= by;
        }

        /// Runs on, and looks as often as services do, or somewhat less often.
        fn run(&mut self, micros: i64) -> Option<Jump> {
            let mut left = micros;
            loop {
                let step = left.min(OFTEN / 4);
                left -= step;
                self.running += step;
                self.wall += step;
                let jump = self.clock.look(Timestamp(self.wall), time(step));
                if self.clock.is_due(&self.kept) {
                    self.kept = self.clock.kept();
                }
                if left == 0 {
                    return jump;
                }
            }
        }

        fn set(&mut self, by: i64) -> Option<Jump> {
            self.wall += by;
            self.run(0)
        }

        fn start_again(&mut self, by: i64) -> Option<Jump> {
            self.clock = AgeClock::resume(MONTH, self.kept.clone()).unwrap();
            self.set(by)
        }

        fn is_older(&self, record: usize, age: Duration) -> bool {
            self.clock.present().is_older(self.records[record].1, age)
        }
    }

    #[test]
    fn while_nothing_jumps_the_age_is_the_age() {
        let mut life = Life::begin();
        life.record();
        for _ in 0..7 * 24 {
            assert!(!life.is_older(0, WEEK));
            assert_eq!(life.run(HOUR), None);
        }
        life.run(SECOND);
        assert!(life.is_older(0, WEEK));
    }

    #[test]
    fn a_start_with_a_clock_far_off_ages_nothing_either_way() {
        for by in [40 * DAY, 20 * YEAR, -40 * DAY, -20 * YEAR] {
            let mut life = Life::begin();
            life.run(DAY);
            life.record();
            assert_eq!(life.start_again(by), Some(Jump { micros: by }));
            life.record();
            // And it is set right.
            life.run(HOUR);
            assert!(life.set(-by).is_some());
            life.record();
            for hour in 1..7 * 24 {
                assert!((0..3).all(|record| !life.is_older(record, WEEK)), "{by} {hour}");
                life.run(HOUR);
            }
            for _ in 0..64 * 24 {
                life.run(HOUR);
            }
            assert!((0..3).all(|record| life.is_older(record, WEEK)), "{by}");
        }
    }

    #[test]
    fn a_service_that_was_away_for_long_goes_by_its_running_time_for_a_while() {
        let mut life = Life::begin();
        life.run(DAY);
        life.record();
        life.start_again(20 * DAY);
        life.run(5 * DAY);
        assert!(!life.is_older(0, WEEK));
        life.run(3 * DAY);
        assert!(life.is_older(0, WEEK));
    }

    #[test]
    fn a_clock_that_is_off_for_a_moment_ages_nothing_that_was_recorded_then() {
        for by in [40 * DAY, 20 * YEAR, -40 * DAY, -20 * YEAR] {
            let mut life = Life::begin();
            life.run(DAY);
            life.record_off(by);
            life.start_again(0);
            assert!(!life.is_older(0, WEEK), "{by}");
            life.run(6 * DAY);
            assert!(!life.is_older(0, WEEK), "{by}");
        }
    }

    /// Something may have been made by what the clock has shown, and be recorded by a later commit.
    #[test]
    fn what_was_seen_of_the_clock_is_due_although_it_was_set_back_since() {
        for by in [-20 * YEAR, 20 * YEAR] {
            let mut life = Life::begin();
            life.record();
            life.clock.look(Timestamp(life.wall + by), Duration::ZERO);
            life.clock.look(Timestamp(life.wall), Duration::ZERO);
            assert!(life.clock.is_due(&life.kept));
            life.record();
            assert!(!life.clock.is_due(&life.kept));
        }
    }

    #[derive(Debug, Clone)]
    enum Event {
        Record,
        RecordOff(i64),
        Run(i64),
        Set(i64),
        StartAgain(i64),
    }

    fn event() -> impl Strategy<Value = Event> {
        let far = prop_oneof![-20 * YEAR..20 * YEAR, -40 * DAY..40 * DAY, -2 * HOUR..2 * HOUR];
        prop_oneof![
            3 => Just(Event::Record),
            1 => far.clone().prop_map(Event::RecordOff),
            6 => (0..2 * DAY).prop_map(Event::Run),
            1 => far.clone().prop_map(Event::Set),
            1 => far.prop_map(Event::StartAgain),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(50))]

        #[test]
        fn nothing_goes_before_its_time_and_everything_goes(events in prop::collection::vec(event(), 1..40)) {
            let mut life = Life::begin();
            for event in events {
                match event {
                    Event::Record => life.record(),
                    Event::RecordOff(by) => life.record_off(by),
                    Event::Run(micros) => drop(life.run(micros)),
                    Event::Set(by) => drop(life.set(by)),
                    Event::StartAgain(by) => drop(life.start_again(by)),
                }
                for (at, (begun, _)) in life.records.iter().enumerate() {
                    for age in [WEEK, MONTH] {
                        // A second of a lead that became less may be lost.
                        let ran = life.running - begun + SECOND;
                        prop_assert!(ran > micros(age) || !life.is_older(at, age), "{begun} of {}", life.running);
                    }
                }
                prop_assert!(life.clock.eras.len() <= 40);
            }
            // Whoever looks now and then finds each of them old once.
            let mut found = vec![false; life.records.len()];
            for _ in 0..64 * 4 {
                life.run(DAY / 4);
                for (at, found) in found.iter_mut().enumerate() {
                    *found |= life.is_older(at, MONTH);
                }
            }
            prop_assert!(found.iter().all(|found| *found), "{found:?}");
        }
    }
}
