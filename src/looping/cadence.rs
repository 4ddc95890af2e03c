//! How long a loop waits for its next tick: fast while there is something to do, slower while there is not, and out of
//! the way of a provider that asks for fewer calls. Pure: what is random is given.

use std::time::Duration;

use crate::config::Intervals;
use crate::core::{Amount, Answer as Answered, QueueDepth, Sample};
use crate::error::ErrorKind;
use crate::handler::{Answer, Failed};
use crate::record::{Outcome, Record};

/// After so many idle ticks the interval doubles.
const IDLE_TICKS: u32 = 3;

/// The longest wait for the sake of a provider that is in trouble.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// What a tick tells of the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// Every service was held, nothing waits and nothing starts.
    Idle,
    /// There is something to do, or that there is not could not be seen.
    Busy,
    /// A provider asked for fewer calls, or failed.
    Refused,
}

impl Seen {
    pub fn of(tick: &Result<Answer, Failed>) -> Self {
        let records = super::records(tick);
        // One service whose provider is in trouble does not slow the others down.
        let (refused, others): (Vec<_>, Vec<_>) = records.iter().partition(|record| is_refused(record));
        match (refused.is_empty(), others.is_empty()) {
            (false, true) => Self::Refused,
            (_, false) if others.iter().all(|record| is_idle(record)) => Self::Idle,
            _ => Self::Busy,
        }
    }
}

fn is_refused(record: &Record) -> bool {
    record.failures.iter().any(|failure| matches!(failure.kind, ErrorKind::Throttled | ErrorKind::Unavailable))
}

fn is_idle(record: &Record) -> bool {
    let settled = record.status.as_ref().is_some_and(|status| status.pending == 0);
    record.outcome == Outcome::Held && settled && record.failures.is_empty() && record.samples.iter().all(is_empty)
}

fn is_empty(sample: &Sample) -> bool {
    let Answered::Reading(reading) = &sample.answer else { return false };
    match reading.amount {
        Amount::Queue(QueueDepth { backlog, in_flight, delayed, .. }) => {
            backlog == 0 && in_flight.is_none_or(|count| count == 0) && delayed.is_none_or(|count| count == 0)
        }
        Amount::Gauge { value } => value.get() <= 0.0,
    }
}

/// The rhythm of a loop.
#[derive(Debug)]
pub(super) struct Cadence {
    intervals: Intervals,
    interval: Duration,
    idle: u32,
    refused: u32,
}

impl Cadence {
    pub fn new(intervals: Intervals) -> Self {
        Self { intervals, interval: intervals.fastest, idle: 0, refused: 0 }
    }

    /// From the start of a tick to the start of the next.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// The longest that [`Cadence::interval`] can be after one more tick.
    pub fn next_longest(&self) -> Duration {
        (self.interval * 2).min(self.intervals.slowest)
    }

    pub fn note(&mut self, seen: Seen) {
        match seen {
            Seen::Idle => {
                (self.idle, self.refused) = (self.idle + 1, 0);
                if self.idle.is_multiple_of(IDLE_TICKS) {
                    self.interval = self.next_longest();
                }
            }
            Seen::Busy => (self.interval, self.idle, self.refused) = (self.intervals.fastest, 0, 0),
            Seen::Refused => self.refused = self.refused.saturating_add(1),
        }
    }

    /// What to wait beyond the interval after refusals, with a random number from 0 to 1: "full jitter" of
    /// <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>.
    pub fn backoff(&self, random: f64) -> Duration {
        let most = match self.refused {
            0 => Duration::ZERO,
            times => self.interval.saturating_mul(2_u32.saturating_pow(times)).min(LONGEST_BACKOFF),
        };
        most.mul_f64(random.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Reading, TargetStatus};
    use crate::record::{Failure, tests::a_record};

    fn cadence() -> Cadence {
        Cadence::new(Intervals { fastest: Duration::from_secs(10), slowest: Duration::from_secs(40) })
    }

    fn seconds(cadence: &mut Cadence, seen: &[Seen]) -> Vec<u64> {
        let note = |seen: &Seen| {
            cadence.note(*seen);
            cadence.interval().as_secs()
        };
        seen.iter().map(note).collect()
    }

    #[test]
    fn three_idle_ticks_double_the_interval_up_to_the_slowest() {
        let mut cadence = cadence();
        assert_eq!(seconds(&mut cadence, &[Seen::Idle; 10]), [10, 10, 20, 20, 20, 40, 40, 40, 40, 40]);
        assert_eq!(seconds(&mut cadence, &[Seen::Busy, Seen::Idle, Seen::Idle, Seen::Idle]), [10, 10, 10, 20]);
    }

    #[test]
    fn refusals_back_off_with_full_jitter_until_one_succeeds() {
        let mut cadence = cadence();
        assert_eq!(cadence.backoff(1.0), Duration::ZERO);
        for most in [20, 40, 60, 60] {
            cadence.note(Seen::Refused);
            assert_eq!(cadence.backoff(1.0), Duration::from_secs(most));
            assert_eq!(cadence.backoff(0.5), Duration::from_secs(most) / 2);
            assert_eq!(cadence.backoff(0.0), Duration::ZERO);
        }
        (0..100).for_each(|_| cadence.note(Seen::Refused));
        assert_eq!(cadence.backoff(1.0), Duration::from_secs(60));
        cadence.note(Seen::Busy);
        assert_eq!(cadence.backoff(1.0), Duration::ZERO);
    }

    fn sample(backlog: u64, in_flight: Option<u64>) -> Sample {
        let amount = Amount::Queue(QueueDepth { backlog, in_flight, ..QueueDepth::default() });
        let taken_at = jiff::Timestamp::UNIX_EPOCH;
        Sample { source: "sqs".to_owned(), answer: Answered::Reading(Reading { taken_at, amount }) }
    }

    fn seen(record: Record) -> Seen {
        Seen::of(&Ok(Answer::of("a".to_owned(), false, vec![record])))
    }

    #[test]
    fn only_what_is_known_to_rest_is_idle() {
        let idle = || Record { outcome: Outcome::Held, samples: vec![sample(0, Some(0))], ..a_record() };
        assert_eq!(seen(idle()), Seen::Idle);
        for busy in [
            Record { outcome: Outcome::Changed, ..idle() },
            Record { outcome: Outcome::Standby, ..idle() },
            Record { samples: vec![sample(1, Some(0))], ..idle() },
            Record { samples: vec![sample(0, Some(1))], ..idle() },
            Record { status: None, ..idle() },
            Record { status: Some(TargetStatus { pending: 1, ..TargetStatus::default() }), ..idle() },
        ] {
            assert_eq!(seen(busy.clone()), Seen::Busy, "{busy:?}");
        }
        for (kind, expected) in [
            (ErrorKind::Throttled, Seen::Refused),
            (ErrorKind::Unavailable, Seen::Refused),
            (ErrorKind::NotFound, Seen::Busy),
        ] {
            let failures = vec![Failure { kind, message: "no".to_owned() }];
            assert_eq!(seen(Record { failures, ..idle() }), expected);
        }
    }
}
