//! The only reader of the time of day.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

/// Tells the time. The core never asks: it is told.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// The system's clock.
#[derive(Debug, Clone, Copy)]
pub struct System;

impl Clock for System {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the time of day")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A clock that stands still, for tests and replays.
#[derive(Debug, Clone, Copy)]
pub struct Fixed(pub Timestamp);

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        self.0
    }
}

/// What an invocation may take when nothing sensible is said about it.
const USUAL_BUDGET: Duration = Duration::from_secs(30);

/// No invocation lasts longer: <https://docs.aws.amazon.com/lambda/latest/dg/configuration-timeout.html>.
const LONGEST_BUDGET: Duration = Duration::from_secs(900);

/// Returns how long an invocation may still take by its deadline in milliseconds since 1970.
///
/// Some local runtimes send a duration in place of a time (`cargo lambda watch` sends 600000), which would be a deadline
/// in 1970; whatever lies before 2020 is therefore taken for no deadline at all.
pub fn budget(deadline_ms: Option<u64>, now: Timestamp) -> Duration {
    const YEAR_2020_MS: u64 = 1_577_836_800_000;
    match deadline_ms {
        Some(deadline) if YEAR_2020_MS <= deadline => {
            let now = u64::try_from(now.as_millisecond()).unwrap_or(0);
            Duration::from_millis(deadline.saturating_sub(now)).min(LONGEST_BUDGET)
        }
        _ => USUAL_BUDGET,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_in_1970_is_no_deadline() {
        let now: Timestamp = "2026-11-22T00:00:00Z".parse().expect("a valid time");
        assert_eq!(budget(Some(600_000), now), USUAL_BUDGET);
        assert_eq!(budget(None, now), USUAL_BUDGET);
        let in_five = u64::try_from(now.as_millisecond()).expect("after 1970") + 5_000;
        assert_eq!(budget(Some(in_five), now), Duration::from_secs(5));
        assert_eq!(budget(Some(in_five - 9_000), now), Duration::ZERO);
    }
}
