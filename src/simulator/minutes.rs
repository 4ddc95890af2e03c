//! CloudWatch's minutes of a queue: what was finished up to the end of each.

use super::world::Depth;

const MINUTE: f64 = 60.0;

/// How late a minute is shown, as the source `sqs` waits for it.
const LATE: f64 = 120.0;

/// How many minutes are counted before the count begins again, as by that source.
const SINCE: usize = 180;

/// How much was finished up to the end of each minute.
#[derive(Default)]
pub(super) struct Minutes {
    ends: Vec<u64>,
}

impl Minutes {
    /// When the minute ends that is under way.
    pub fn next(&self) -> f64 {
        (self.ends.len() + 1) as f64 * MINUTE
    }

    /// Notes how a minute ended.
    pub fn end(&mut self, depth: Depth) {
        self.ends.push(depth.completed);
    }

    /// What was finished since the last beginning of three hours, up to the last minute that is shown: so many, and both times.
    pub fn tally(&self, now: f64) -> (u64, f64, f64) {
        let shown = ((now - LATE) / MINUTE).floor().clamp(0.0, self.ends.len() as f64) as usize;
        let since = shown / SINCE * SINCE;
        let finished = |minutes: usize| minutes.checked_sub(1).map_or(0, |last| self.ends[last]);
        (finished(shown) - finished(since), since as f64 * MINUTE, shown as f64 * MINUTE)
    }
}
