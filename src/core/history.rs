//! What `behavior` looks back on: the counts that were wanted, and the changes that were made. Bounded, and written only where
//! it matters.

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::decision::Direction;

/// The most entries of a list. Entries that are nearer to each other than a part of the time that is looked back are made one, and
/// the one never allows more than the two would.
const MOST: u64 = 64;

/// The counts that were wanted, as far as a window may still need them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Wanted {
    /// For scale-in: those that no later one exceeds, the newest last, at most 64.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub most: Vec<Recommendation>,
    /// For scale-out: those that no later one is below, the newest last, at most 64.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub least: Vec<Recommendation>,
}

/// A count that was wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recommendation {
    /// When; the last time, where it `lasts` no longer.
    pub at: Timestamp,
    /// The count, within the bounds of the time.
    pub count: u32,
    /// Whether it was wanted again and so counts until another one is, so that what stays is not written at every tick.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lasts: bool,
}

/// Changes that were made, shortly one after another. Those that were announced only are not among them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// When the first of them was decided.
    pub first: Timestamp,
    /// When the last of them was.
    pub last: Timestamp,
    /// The tasks that they added.
    pub added: u32,
    /// The tasks that they removed.
    pub removed: u32,
}

impl Wanted {
    /// Whether nothing is remembered.
    pub(super) fn is_empty(&self) -> bool {
        self.most.is_empty() && self.least.is_empty()
    }

    pub(super) fn times(&mut self) -> impl Iterator<Item = &mut Timestamp> {
        self.most.iter_mut().chain(&mut self.least).map(|recommendation| &mut recommendation.at)
    }

    /// The count that a change in a direction may not go beyond, or nothing where none was wanted in the window.
    pub(super) fn limit(&self, direction: Direction, window_secs: u64, now: Timestamp) -> Option<u32> {
        let is_recent = |it: &&Recommendation| it.lasts || is_within(it.at, window_secs, now);
        match direction {
            Direction::In => self.most.iter().filter(is_recent).map(|it| it.count).max(),
            Direction::Out => self.least.iter().filter(is_recent).map(|it| it.count).min(),
        }
    }

    /// Begins with the count that was found, as HPA does, so that a first look removes nothing.
    pub(super) fn begin(&mut self, direction: Direction, window_secs: u64, found: u32, now: Timestamp) {
        if self.list(direction).is_empty() {
            self.note(direction, window_secs, Some(found), now);
        }
    }

    /// Remembers a count for the window of a direction, or that nothing could be wanted, and forgets what the window is past.
    pub(super) fn note(&mut self, direction: Direction, window_secs: u64, count: Option<u32>, now: Timestamp) {
        let list = self.list(direction);
        match (count, list.last_mut()) {
            _ if window_secs == 0 => list.clear(),
            // The same tick again is no further one.
            (Some(count), Some(last)) if last.count == count => last.lasts |= last.at < now,
            (Some(count), _) => {
                end_the_last(list, now);
                list.retain(|it| is_within(it.at, window_secs, now) && is_beyond(direction, it.count, count));
                insert(list, Recommendation { at: now, count, lasts: false }, window_secs);
            }
            (None, _) => end_the_last(list, now),
        }
    }

    fn list(&mut self, direction: Direction) -> &mut Vec<Recommendation> {
        match direction {
            Direction::In => &mut self.most,
            Direction::Out => &mut self.least,
        }
    }
}

/// What lasted, lasted until now.
fn end_the_last(list: &mut [Recommendation], now: Timestamp) {
    match list.last_mut() {
        Some(last) if last.lasts => (last.at, last.lasts) = (now, false),
        _ => {}
    }
}

/// Whether a remembered count still matters beside a later one.
fn is_beyond(direction: Direction, earlier: u32, later: u32) -> bool {
    match direction {
        Direction::In => later < earlier,
        Direction::Out => earlier < later,
    }
}

fn insert(list: &mut Vec<Recommendation>, new: Recommendation, window_secs: u64) {
    match list.last_mut() {
        Some(last) if is_near(last.at, new.at, window_secs) => last.at = new.at,
        _ => list.push(new),
    }
}

impl Change {
    /// The changes of an announced change that was made.
    pub(super) fn new(at: Timestamp, from: u32, to: u32) -> Self {
        Self { first: at, last: at, added: to.saturating_sub(from), removed: from.saturating_sub(to) }
    }

    pub(super) fn times(&mut self) -> [&mut Timestamp; 2] {
        [&mut self.first, &mut self.last]
    }

    /// The desired count at the beginning of a period, by which a change in a direction is judged. Of changes at its edge, those
    /// count that allow less.
    pub(super) fn count_before(
        changes: &[Self],
        (current, direction): (u32, Direction),
        period_secs: u64,
        now: Timestamp,
    ) -> i64 {
        changes.iter().fold(i64::from(current), |count, change| {
            let (added, removed) = match direction {
                Direction::Out => (change.last, change.first),
                Direction::In => (change.first, change.last),
            };
            let part = |at, tasks| if is_within(at, period_secs, now) { i64::from(tasks) } else { 0 };
            count - part(added, change.added) + part(removed, change.removed)
        })
    }

    /// Forgets what the longest period is past, and makes one of what is near.
    pub(super) fn tidy(changes: &mut Vec<Self>, longest_secs: u64, now: Timestamp) {
        changes.retain(|change| is_within(change.last, longest_secs, now));
        changes.dedup_by(|later, earlier| {
            let is_near = is_near(earlier.last, later.last, longest_secs);
            if is_near {
                earlier.last = later.last;
                earlier.added = earlier.added.saturating_add(later.added);
                earlier.removed = earlier.removed.saturating_add(later.removed);
            }
            is_near
        });
    }
}

/// Strictly, as in HPA: at exactly this age it is over.
fn is_within(at: Timestamp, secs: u64, now: Timestamp) -> bool {
    now.duration_since(at) < SignedDuration::from_secs(i64::try_from(secs).unwrap_or(i64::MAX))
}

/// Whether two times are within the same part of the time that is looked back, of which there are few enough.
fn is_near(one: Timestamp, other: Timestamp, secs: u64) -> bool {
    let part = i64::try_from(secs.div_ceil(MOST - 3).max(1)).unwrap_or(i64::MAX);
    one.as_second().div_euclid(part) == other.as_second().div_euclid(part)
}
