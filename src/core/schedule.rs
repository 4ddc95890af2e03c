//! Bounds by local time: windows that come back by day, single events, and steps by the time of day, with ramps.
//!
//! Where clocks change, a time that does not exist is as much later as the clocks go forward, and one that comes twice is the first
//! of both, as RFC 5545 has it (<https://docs.rs/jiff/latest/jiff/tz/enum.Disambiguation.html>).

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules::Bounds;

/// Bounds for a time, in place of the service's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduledBounds {
    /// When it begins: a local time, `08:00`, for each day or for `days`; or a moment, `2026-11-27T08:00:00Z`, for once.
    #[schemars(with = "String")]
    pub from: Edge,
    /// When it ends and no longer counts, in the same form. A local time that is not after `from` is one of the next day.
    #[schemars(with = "String")]
    pub to: Edge,
    /// The days on which it begins: `mon`, `tue`, `wed`, `thu`, `fri`, `sat`, `sun`. Every day where it is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7))]
    pub days: Vec<Day>,
    /// The time zone of local times, as the IANA names it: `Europe/Berlin`. Default `UTC`.
    #[serde(default)]
    #[schemars(with = "String")]
    pub timezone: Zone,
    /// The least tasks. As without the schedule where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(max = 2_147_483_647))]
    pub min: Option<u32>,
    /// The most tasks. As without the schedule where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(max = 2_147_483_647))]
    pub max: Option<u32>,
    /// How long the bounds take from those without it to its own after it begins, and back before it ends, in seconds, in a straight
    /// line. 0, the default, is at once.
    #[serde(default)]
    #[schemars(range(max = 86_400))]
    pub ramp_secs: u32,
}

/// Bounds by the time of day, in the form of autoscalebot: `{"8:00": 3, "20:00": 1}`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BoundsByTime {
    /// The time zone, as the IANA names it: `Europe/Berlin`. Default `UTC`.
    #[schemars(with = "String")]
    pub timezone: Zone,
    /// The least tasks from each local time until the next one; before the first of a day, those of the first, as in the original.
    #[schemars(with = "BTreeMap<String, u32>", length(max = 48))]
    pub min: BTreeMap<LocalTime, u32>,
    /// The most tasks, likewise.
    #[schemars(with = "BTreeMap<String, u32>", length(max = 48))]
    pub max: BTreeMap<LocalTime, u32>,
}

/// A time zone of the IANA's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone(TimeZone);

/// A time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LocalTime(Time);

/// Where bounds begin or end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Edge {
    /// Every day.
    At(LocalTime),
    /// Once.
    Once(Timestamp),
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(
    missing_docs,
    reason = "explained at `ScheduledBounds::days`; docs here would split the schema's list of values"
)]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl ScheduledBounds {
    /// Returns the bounds, where they are in force.
    fn at(&self, now: Timestamp, without: Bounds) -> Option<Bounds> {
        let (since, until) = self.around(now)?;
        let elapsed = now.duration_since(since).min(until.duration_since(now)).as_secs();
        let ramped = |own: u32, wanted: Option<u32>| {
            let (own, wanted) = (i64::from(own), i64::from(wanted.unwrap_or(own)));
            let ramp = i64::from(self.ramp_secs);
            let part = if elapsed < ramp { (wanted - own) * elapsed / ramp } else { wanted - own };
            u32::try_from(own + part).unwrap_or(u32::MAX)
        };
        Some(Bounds { min: ramped(without.min, self.min), max: ramped(without.max, self.max) })
    }

    /// The times between which it is in force now.
    fn around(&self, now: Timestamp) -> Option<(Timestamp, Timestamp)> {
        let is_around = |(from, to): &(Timestamp, Timestamp)| *from <= now && now < *to;
        match (self.from, self.to) {
            (Edge::Once(from), Edge::Once(to)) => Some((from, to)).filter(is_around),
            (Edge::At(from), Edge::At(to)) => {
                let today = self.timezone.0.to_datetime(now).date();
                let days = [today.yesterday().ok(), Some(today)];
                days.into_iter().flatten().filter_map(|day| self.on(day, from, to)).find(is_around)
            }
            (Edge::At(_), Edge::Once(_)) | (Edge::Once(_), Edge::At(_)) => None,
        }
    }

    /// When it begins on a day, and when it ends.
    fn on(&self, day: Date, from: LocalTime, to: LocalTime) -> Option<(Timestamp, Timestamp)> {
        let is_asked = |asked: &Day| asked.weekday() == day.weekday();
        if !self.days.is_empty() && !self.days.iter().any(is_asked) {
            return None;
        }
        let last = if from < to { day } else { day.tomorrow().ok()? };
        Some((self.timezone.moment(day, from)?, self.timezone.moment(last, to)?))
    }
}

impl BoundsByTime {
    fn at(&self, now: Timestamp, without: Bounds) -> Bounds {
        let bound = |times: &BTreeMap<LocalTime, u32>, own: u32| {
            let today = self.timezone.0.to_datetime(now).date();
            let is_past = |(time, _): &(&LocalTime, &u32)| {
                self.timezone.moment(today, **time).is_some_and(|moment| moment <= now)
            };
            let last = times.iter().filter(is_past).last().or_else(|| times.iter().next());
            last.map_or(own, |(_, count)| *count)
        };
        Bounds { min: bound(&self.min, without.min), max: bound(&self.max, without.max) }
    }
}

/// Returns the bounds of a time: a service's own, then those by the time of day, then those of the schedule in its order, so that the last
/// one in force counts. Where the two that are left cross, the most tasks count.
pub(super) fn bounds_at(own: Bounds, times: &BoundsByTime, schedule: &[ScheduledBounds], now: Timestamp) -> Bounds {
    let in_force = |bounds: Bounds, next: &ScheduledBounds| next.at(now, bounds).unwrap_or(bounds);
    let Bounds { min, max } = schedule.iter().fold(times.at(now, own), in_force);
    Bounds { min: min.min(max), max }
}

impl Zone {
    fn moment(&self, day: Date, time: LocalTime) -> Option<Timestamp> {
        self.0.to_timestamp(day.to_datetime(time.0)).ok()
    }
}

impl Default for Zone {
    fn default() -> Self {
        Self(TimeZone::UTC)
    }
}

impl TryFrom<String> for Zone {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        TimeZone::get(&name).map(Self).map_err(|_| format!("{name:?} is no time zone of the IANA's"))
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> Self {
        zone.0.iana_name().unwrap_or("UTC").to_owned()
    }
}

impl TryFrom<String> for LocalTime {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let read = |(hour, minute): (&str, &str)| Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok();
        let is_written = |(hour, minute): &(&str, &str)| (1..=2).contains(&hour.len()) && minute.len() == 2;
        let is_of_digits = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b':');
        let parts = text.split_once(':').filter(is_written).filter(|_| is_of_digits);
        parts.and_then(read).map(Self).ok_or_else(|| format!("{text:?} is no time of day such as 08:00"))
    }
}

impl From<LocalTime> for String {
    fn from(time: LocalTime) -> Self {
        format!("{:02}:{:02}", time.0.hour(), time.0.minute())
    }
}

impl TryFrom<String> for Edge {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let or_moment = |_| text.parse().map(Self::Once);
        LocalTime::try_from(text.clone()).map(Self::At).or_else(or_moment).map_err(|_| {
            format!("{text:?} is neither a time of day such as 08:00 nor a moment such as 2026-11-27T08:00:00Z")
        })
    }
}

impl From<Edge> for String {
    fn from(edge: Edge) -> Self {
        match edge {
            Edge::At(time) => time.into(),
            Edge::Once(moment) => moment.to_string(),
        }
    }
}

impl Day {
    fn weekday(self) -> Weekday {
        match self {
            Self::Mon => Weekday::Monday,
            Self::Tue => Weekday::Tuesday,
            Self::Wed => Weekday::Wednesday,
            Self::Thu => Weekday::Thursday,
            Self::Fri => Weekday::Friday,
            Self::Sat => Weekday::Saturday,
            Self::Sun => Weekday::Sunday,
        }
    }
}
