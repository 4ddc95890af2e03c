//! Finished messages that are told minutes later: what was in flight is kept by the minute until then.

use jiff::{SignedDuration, Timestamp};

use super::{Finished, Look, Said, short};
use crate::core::policy::WorkTally;

const MINUTE: i64 = 60;

/// The most minutes that are kept. A tally that comes later than that begins anew.
const MOST: usize = 15;

impl Finished {
    /// Whether it waits for tallies.
    pub(super) fn is_tallied(&self) -> bool {
        self.until.is_some() || !self.minutes.is_empty()
    }

    /// Adds what was in flight in the seconds before a look, by the minute. A minute of which the beginning was not seen is left out.
    pub(super) fn worked(mut self, look: &Look, in_flight: f64, secs: f64) -> Self {
        // To the moment the time of the look before, so that no minute begins twice or not at all.
        let before = look.at.checked_sub(SignedDuration::from_secs_f64(secs)).unwrap_or(look.at);
        let (mut from, end) = (before.as_millisecond(), look.at.as_millisecond());
        while from < end {
            let next = (from.div_euclid(1_000 * MINUTE) + 1) * 1_000 * MINUTE;
            let to = next.min(end);
            if let Some(minute) = self.minutes.last_mut() {
                *minute = short(f64::from(*minute) + in_flight * (to - from) as f64 / 1e3);
            }
            if to == next {
                self.minutes.push(0.0);
            }
            from = to;
        }
        if MOST < self.minutes.len() { self.forget_tallies() } else { self }
    }

    /// Waits for none of what was seen so far.
    pub(super) fn forget_tallies(self) -> Self {
        Self { count: None, open: 0.0, until: None, minutes: Vec::new(), ..self }
    }

    /// Learns of a tally what it tells of minutes that were seen.
    pub(super) fn tallied(mut self, look: &Look, tally: WorkTally, said: Said) -> Self {
        let WorkTally { messages, since, until } = tally;
        let first = minute_of(look.at) + 1 - self.minutes.len() as i64;
        // Of minutes before those that were seen it tells nothing here, and one that is not over yet is not believed to be.
        let over = usize::try_from(minute_of(until) - first).ok();
        let Some(over) = over.filter(|over| *over < self.minutes.len() && (0 < *over || self.until.is_none())) else {
            return self;
        };
        let busy: f64 = self.minutes.drain(..over).map(f64::from).sum();
        let before = match self.until {
            // The same beginning, so that the difference is what was finished in those minutes.
            Some(last) if since < last => self.count.filter(|count| *count <= messages),
            // Begun where the last one ended.
            Some(last) if since == last => Some(0.0),
            _ => None,
        };
        let next = Self { count: Some(messages), until: Some(until), ..self };
        match before {
            Some(count) => {
                let secs = over as f64 * MINUTE as f64;
                let open = f64::from(next.open) + busy;
                next.learn(look, messages - count, (open, busy / secs), secs, said)
            }
            // Counted anew.
            None => Self { open: 0.0, ..next },
        }
    }
}

fn minute_of(time: Timestamp) -> i64 {
    time.as_second().div_euclid(MINUTE)
}
