//! Bounds by local time: windows that come back by day or by cron, single events, and steps by the time of day, with ramps.
//!
//! What is in force follows from the time alone, so that nothing is remembered and a missed tick misses nothing.
//!
//! Where clocks change, a time of day that does not exist is as much later as the clocks go forward, and one that comes twice is the first
//! of both, as RFC 5545 has it (<https://docs.rs/jiff/latest/jiff/tz/enum.Disambiguation.html>). `cron.rs` says what cron does.

mod cron;

use std::collections::BTreeMap;

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::cron::Cron;
use super::rules::Bounds;

/// Bounds for a time, in place of the service's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduledBounds {
    /// When it begins: a local time, `08:00`, for each day or for `days`; a cron expression of five fields, `0 8 * * MON-FRI`; or a
    /// moment, `2026-11-27T08:00:00Z`, for once.
    #[schemars(with = "String")]
    pub from: Edge,
    /// When it ends and no longer counts, in the same form. A local time that is not after `from` is one of the next day. By cron it is
    /// in force while the last moment of `from` is later than the last of `to`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub to: Option<Edge>,
    /// How long it is in force each time, in seconds, in place of `to`; less than the time until it begins again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 31_622_400))]
    pub duration_secs: Option<u32>,
    /// The days on which a local time begins it: `mon`, `tue`, `wed`, `thu`, `fri`, `sat`, `sun`. Every day where it is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7))]
    pub days: Vec<Day>,
    /// The time zone of local times and of cron, as the IANA names it: `Europe/Berlin`. Default `UTC`.
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
    #[schemars(with = "BTreeMap<String, u32>", extend("maxProperties" = 48, "additionalProperties" = {"type": "integer", "minimum": 0, "maximum": 2_147_483_647}))]
    pub min: BTreeMap<LocalTime, u32>,
    /// The most tasks, likewise.
    #[schemars(with = "BTreeMap<String, u32>", extend("maxProperties" = 48, "additionalProperties" = {"type": "integer", "minimum": 0, "maximum": 2_147_483_647}))]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Edge {
    /// Every day.
    At(LocalTime),
    /// By cron.
    By(Cron),
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

    /// The times between which it is in force, where it is.
    fn around(&self, now: Timestamp) -> Option<(Timestamp, Timestamp)> {
        let is_around = |(from, to): &(Timestamp, Timestamp)| *from <= now && now < *to;
        match (&self.from, &self.to) {
            (Edge::By(from), Some(Edge::By(to))) => self.between(from, to, &self.timezone.at(now)),
            (Edge::By(from), None) => self.lasting(from.last(&self.timezone.at(now))?).filter(is_around),
            (Edge::Once(from), Some(Edge::Once(to))) => Some((*from, *to)).filter(is_around),
            (Edge::Once(from), None) => self.lasting(*from).filter(is_around),
            (Edge::At(_), Some(Edge::At(_)) | None) => self.days_until(now).find(is_around),
            (Edge::At(_) | Edge::By(_) | Edge::Once(_), Some(_)) => None,
        }
    }

    /// What began last and has not ended. One that begins again before it ends has begun once; one that ends as it begins has not.
    fn between(&self, from: &Cron, to: &Cron, now: &Zoned) -> Option<(Timestamp, Timestamp)> {
        let (began, ended) = (from.last(now)?, to.last(now)?);
        match ended < began {
            true => Some((from.next(&self.timezone.at(ended))?, to.next(now)?)),
            false => None,
        }
    }

    fn lasting(&self, from: Timestamp) -> Option<(Timestamp, Timestamp)> {
        let to = from.checked_add(SignedDuration::from_secs(self.duration_secs?.into())).ok()?;
        Some((from, to))
    }

    /// What begins today and on the days before on which it can have begun and still be in force.
    fn days_until(&self, now: Timestamp) -> impl Iterator<Item = (Timestamp, Timestamp)> {
        let today = self.timezone.at(now).date();
        let days = self.duration_secs.map_or(1, |secs| secs.div_ceil(86_400)).min(7);
        (0..=days).rev().filter_map(move |day| self.on(today.checked_sub(jiff::Span::new().days(day)).ok()?))
    }

    /// When it begins on a day, and when it ends.
    fn on(&self, day: Date) -> Option<(Timestamp, Timestamp)> {
        let is_asked = |asked: &Day| asked.weekday() == day.weekday();
        if !self.days.is_empty() && !self.days.iter().any(is_asked) {
            return None;
        }
        match (&self.from, &self.to) {
            (Edge::At(from), Some(Edge::At(to))) => {
                let last = if from < to { day } else { day.tomorrow().ok()? };
                Some((self.timezone.moment(day, *from)?, self.timezone.moment(last, *to)?))
            }
            (Edge::At(from), None) => self.lasting(self.timezone.moment(day, *from)?),
            (Edge::At(_) | Edge::By(_) | Edge::Once(_), _) => None,
        }
    }

    /// Returns when it is in force, in order, for its first 366 times from 2001, which begins with a Monday, to 2028: what a check looks at.
    pub fn examples(&self) -> Box<dyn Iterator<Item = (Timestamp, Timestamp)> + '_> {
        let first = jiff::civil::date(2001, 1, 1);
        match &self.from {
            Edge::Once(from) => Box::new(self.around(*from).into_iter()),
            Edge::At(_) => Box::new(first.series(jiff::Span::new().days(1)).take(366).filter_map(|day| self.on(day))),
            Edge::By(from) => {
                let next = |now: &Timestamp| from.next(&self.timezone.at(*now));
                let first = self.timezone.moment(first, LocalTime(Time::midnight()));
                let last = first.and_then(|first| first.checked_add(SignedDuration::from_hours(28 * 8766)).ok());
                let begins = std::iter::successors(first, next).skip(1).take(366);
                let begins = begins.take_while(move |begin| Some(*begin) < last);
                Box::new(begins.filter_map(|begin| self.lasting(begin).or_else(|| self.around(begin))))
            }
        }
    }
}

impl BoundsByTime {
    fn at(&self, now: Timestamp, without: Bounds) -> Bounds {
        let bound = |times: &BTreeMap<LocalTime, u32>, own: u32| {
            let today = self.timezone.at(now).date();
            let is_past = |(time, _): &(&LocalTime, &u32)| {
                self.timezone.moment(today, **time).is_some_and(|moment| moment <= now)
            };
            let last = times.iter().rfind(is_past).or_else(|| times.iter().next());
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

/// Returns the settings that give the bounds of a time, in the order in which they count.
pub(super) fn given_by(times: &BoundsByTime, schedule: &[ScheduledBounds], now: Timestamp) -> Vec<String> {
    let last =
        |sets: fn(&ScheduledBounds) -> bool| schedule.iter().rposition(|item| sets(item) && item.around(now).is_some());
    let (min, max) = (last(|item| item.min.is_some()), last(|item| item.max.is_some()));
    let is_by_time = min.is_none() && !times.min.is_empty() || max.is_none() && !times.max.is_empty();
    let mut items: Vec<_> = [min, max].into_iter().flatten().collect();
    items.sort_unstable();
    items.dedup();
    let by_time = is_by_time.then(|| "bounds_by_time".to_owned());
    by_time.into_iter().chain(items.into_iter().map(|number| format!("bounds_schedule[{number}]"))).collect()
}

impl Zone {
    fn at(&self, now: Timestamp) -> Zoned {
        now.to_zoned(self.0.clone())
    }

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
        TimeZone::get(&name).map(Self).map_err(|_| format!("{name:?}, which is no time zone of the IANA's"))
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
        parts.and_then(read).map(Self).ok_or_else(|| format!("{text:?}, which is no time of day such as 08:00"))
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
        if text.contains(char::is_whitespace) || text.starts_with('@') {
            return Cron::try_from(text).map(Self::By);
        }
        let or_moment = |_| text.parse().map(Self::Once);
        LocalTime::try_from(text.clone()).map(Self::At).or_else(or_moment).map_err(|_| {
            format!("{text:?}, which is no time of day such as 08:00, no cron expression, and no moment such as 2026-11-27T08:00:00Z")
        })
    }
}

impl From<Edge> for String {
    fn from(edge: Edge) -> Self {
        match edge {
            Edge::At(time) => time.into(),
            Edge::By(cron) => cron.into(),
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const OWN: Bounds = Bounds { min: 2, max: 10 };

    fn item(value: &Value) -> ScheduledBounds {
        ScheduledBounds::deserialize(value).unwrap_or_else(|error| panic!("{value}: {error}"))
    }

    fn schedule(value: &Value) -> Vec<ScheduledBounds> {
        value.as_array().expect("a list").iter().map(item).collect()
    }

    fn moment(text: &str) -> Timestamp {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn both(schedule: &[ScheduledBounds], now: Timestamp) -> (u32, u32) {
        let Bounds { min, max } = bounds_at(OWN, &BoundsByTime::default(), schedule, now);
        (min, max)
    }

    /// When an item begins and ends around a time, as text.
    fn around(value: &Value, now: &str) -> Option<(String, String)> {
        item(value).around(moment(now)).map(|(from, to)| (from.to_string(), to.to_string()))
    }

    #[test]
    fn bounds_by_cron_are_in_force_from_one_expression_to_the_other() {
        let office =
            json!([{ "from": "0 8 * * MON-FRI", "to": "0 18 * * MON-FRI", "timezone": "Europe/Berlin", "min": 5 }]);
        let office = schedule(&office);
        // 2026-11-23 is a Monday, and Berlin is an hour ahead.
        for (now, expected) in [
            ("2026-11-23T06:59:59.999Z", (2, 10)),
            ("2026-11-23T07:00:00Z", (5, 10)),
            ("2026-11-23T16:59:59.999Z", (5, 10)),
            ("2026-11-23T17:00:00Z", (2, 10)),
            ("2026-11-27T12:00:00Z", (5, 10)),
            ("2026-11-28T12:00:00Z", (2, 10)),
        ] {
            assert_eq!(both(&office, moment(now)), expected, "{now}");
        }
    }

    #[test]
    fn bounds_by_cron_last_as_long_as_they_say() {
        let month_end = json!({ "from": "0 18 L * *", "duration_secs": 86_400, "timezone": "Europe/Berlin", "min": 5 });
        assert_eq!(around(&month_end, "2026-02-28T16:59:59Z"), None);
        let whole = Some(("2026-02-28T17:00:00Z".to_owned(), "2026-03-01T17:00:00Z".to_owned()));
        assert_eq!(around(&month_end, "2026-02-28T17:00:00Z"), whole);
        assert_eq!(around(&month_end, "2026-03-01T16:59:59Z"), whole);
        assert_eq!(around(&month_end, "2026-03-01T17:00:00Z"), None);
        let weekend = json!({ "from": "18:00", "days": ["fri"], "duration_secs": 208_800, "max": 5 });
        let whole = Some(("2026-11-27T18:00:00Z".to_owned(), "2026-11-30T04:00:00Z".to_owned()));
        for (now, expected) in
            [("27T17", None), ("27T18", whole.clone()), ("29T12", whole.clone()), ("30T03", whole), ("30T04", None)]
        {
            assert_eq!(around(&weekend, &format!("2026-11-{now}:00:00Z")), expected, "{now}");
        }
        let once = json!({ "from": "2026-11-27T08:00:00+01:00", "duration_secs": 3600, "max": 50 });
        let whole = Some(("2026-11-27T07:00:00Z".to_owned(), "2026-11-27T08:00:00Z".to_owned()));
        assert_eq!(around(&once, "2026-11-27T07:59:59Z"), whole);
        assert_eq!(around(&once, "2026-11-27T08:00:00Z"), None);
    }

    #[test]
    fn what_begins_as_it_ends_is_not_in_force() {
        let but_mondays = json!({ "from": "0 8 * * *", "to": "0 8,18 * * MON", "min": 5 });
        assert_eq!(around(&but_mondays, "2026-11-23T09:00:00Z"), None, "Monday");
        assert!(around(&but_mondays, "2026-11-24T09:00:00Z").is_some());
    }

    #[test]
    fn clocks_that_change_move_a_window_by_cron_and_neither_lose_nor_repeat_it() {
        for (zone, from, begins, ends) in [
            ("Europe/Berlin", "30 2", "2026-03-29T01:00:00Z", "2026-03-29T04:00:00Z"),
            ("Europe/Berlin", "30 2", "2026-10-25T00:30:00Z", "2026-10-25T05:00:00Z"),
            ("Pacific/Auckland", "30 2", "2026-04-04T13:30:00Z", "2026-04-04T18:00:00Z"),
            ("Pacific/Auckland", "30 2", "2026-09-26T14:00:00Z", "2026-09-26T17:00:00Z"),
            ("Australia/Lord_Howe", "45 1", "2026-04-04T14:45:00Z", "2026-04-04T19:30:00Z"),
            ("Australia/Lord_Howe", "15 2", "2026-10-03T15:30:00Z", "2026-10-03T19:00:00Z"),
        ] {
            let night =
                item(&json!({ "from": format!("{from} * * *"), "to": "0 6 * * *", "timezone": zone, "min": 5 }));
            let window = (moment(begins), moment(ends));
            let second = SignedDuration::from_secs(1);
            let quarters = (-24..72).map(|quarter| window.0 + SignedDuration::from_mins(15) * quarter);
            for now in quarters.chain([window.0 - second, window.1 - second]) {
                let is_open = window.0 <= now && now < window.1;
                assert_eq!(night.around(now), is_open.then_some(window), "{zone} at {now}");
            }
        }
    }

    #[test]
    fn an_expression_for_each_hour_follows_the_clock_through_its_changes() {
        for (zone, night) in [("Europe/Berlin", "2026-03-29"), ("Europe/Berlin", "2026-10-25")] {
            let hourly = item(&json!({ "from": "0 * * * *", "duration_secs": 900, "timezone": zone, "min": 5 }));
            for hour in 0..6 {
                assert!(hourly.around(moment(&format!("{night}T0{hour}:10:00Z"))).is_some(), "{night} {hour}");
                assert_eq!(hourly.around(moment(&format!("{night}T0{hour}:15:00Z"))), None, "{night} {hour}");
            }
        }
        let two = json!({ "from": "*/5 2 * * *", "duration_secs": 60, "timezone": "Europe/Berlin", "min": 5 });
        assert_eq!(around(&two, "2026-03-29T01:00:30Z"), None, "there is no such hour");
        assert!(
            around(&two, "2026-10-25T00:30:30Z").is_some() && around(&two, "2026-10-25T01:30:30Z").is_some(),
            "both"
        );
    }

    /// Vectors of Python's `zoneinfo`, as for the source `schedule`.
    #[test]
    fn windows_by_cron_are_those_of_another_implementation_where_clocks_change() {
        let vectors: Value = serde_json::from_str(include_str!("../../tests/it/sources/recorded/schedule.json"))
            .expect("the vectors are JSON");
        for vector in vectors.as_array().expect("a list") {
            let window = json!({ "from": vector["start"], "to": vector["end"], "timezone": vector["zone"], "min": 5 });
            let is_open = item(&window).around(moment(vector["at"].as_str().expect("a time"))).is_some();
            assert_eq!(json!(is_open), vector["open"], "{vector}");
        }
    }

    #[test]
    fn a_window_that_begins_again_while_it_is_in_force_does_not_ramp_again() {
        let twice = schedule(&json!([{ "from": "0 8,12 * * *", "to": "0 18 * * *", "min": 8, "ramp_secs": 3600 }]));
        for (time, least) in
            [("08:00", 2), ("08:30", 5), ("09:00", 8), ("12:00", 8), ("12:30", 8), ("17:30", 5), ("18:00", 2)]
        {
            assert_eq!(both(&twice, moment(&format!("2026-11-23T{time}:00Z"))), (least, 10), "{time}");
        }
    }

    #[test]
    fn the_settings_that_give_the_bounds_are_named() {
        let times: BoundsByTime = serde_json::from_value(json!({ "min": { "8:00": 3 } })).expect("times");
        let schedule = schedule(&json!([
            { "from": "00:00", "to": "12:00", "min": 5, "max": 50 },
            { "from": "0 6 * * *", "to": "0 18 * * *", "min": 8 },
        ]));
        for (time, expected) in [
            ("05", vec!["bounds_schedule[0]"]),
            ("06", vec!["bounds_schedule[0]", "bounds_schedule[1]"]),
            ("12", vec!["bounds_schedule[1]"]),
            ("18", vec!["bounds_by_time"]),
        ] {
            assert_eq!(given_by(&times, &schedule, moment(&format!("2026-11-23T{time}:00:00Z"))), expected, "{time}");
        }
    }

    #[test]
    fn an_expression_says_which_field_is_wrong() {
        for (text, expected) in [
            ("0 25 * * *", r#""0 25 * * *", of which field 2, the hour, cannot be "25""#),
            ("0 8 * * MOON", r#""0 8 * * MOON", of which field 5, the weekday, cannot be "MOON""#),
            ("0 8 * *", r#""0 8 * *", whose fields are 4 and not 5"#),
            ("0 0 8 * * *", r#""0 0 8 * * *", whose fields are 6 and not 5"#),
            ("0 8 30 2 *", r#""0 8 30 2 *", which never comes"#),
            ("", r#""", whose fields are 0 and not 5"#),
        ] {
            assert_eq!(Cron::try_from(text.to_owned()).expect_err(text), expected);
        }
        assert!(Cron::try_from("1,".repeat(200)).is_err_and(|problem| problem.contains("400 bytes")));
        for text in ["0 8 29 2 *", "0 0 29 2 +MON", "@daily", "*/5 8-18 * JAN-MAR MON,WED", "0 0 * * SUN#5"] {
            let cron = Cron::try_from(text.to_owned()).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(Cron::try_from(String::from(cron.clone())), Ok(cron), "{text}");
        }
    }

    /// Any item whose counts are within hard bounds of 1 to 60 tasks.
    fn any_item() -> impl Strategy<Value = ScheduledBounds> {
        let times = prop_oneof![
            (0..24_u32, 0..24_u32)
                .prop_map(|(from, to)| json!({ "from": format!("{from}:00"), "to": format!("{to}:30") })),
            (0..24_u32, 0..24_u32)
                .prop_map(|(from, to)| json!({ "from": format!("15 {from} * * *"), "to": format!("0 {to} * * *") })),
            // It begins again after three hours at the soonest.
            (0..60_u32, 1..10_800_u32)
                .prop_map(|(from, secs)| json!({ "from": format!("{from} */7 * * *"), "duration_secs": secs })),
            (0..72_i64, 1..90_000_u32).prop_map(|(hour, secs)| {
                let from = moment("2026-10-23T00:00:00Z") + SignedDuration::from_hours(hour);
                json!({ "from": from.to_string(), "duration_secs": secs })
            }),
        ];
        let zones = prop::sample::select(vec!["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/St_Johns"]);
        let counts = (prop::option::of(1..=60_u32), prop::option::of(1..=60_u32), 0..50_000_u32);
        (times, zones, counts).prop_map(|(mut value, zone, (min, max, ramp_secs))| {
            value["timezone"] = zone.into();
            value["ramp_secs"] = ramp_secs.into();
            for (name, bound) in [("min", min), ("max", max)] {
                bound.into_iter().for_each(|bound| value[name] = bound.into());
            }
            item(&value)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_schedule_leaves_the_hard_bounds_or_crosses_its_own(
            items in prop::collection::vec(any_item(), 0..5),
            times in prop::collection::btree_map(0..24_u32, 1..=60_u32, 0..4),
            (one, other) in (1..=60_u32, 1..=60_u32),
            secs in 0..4 * 86_400_i64,
        ) {
            let own = Bounds { min: one.min(other), max: one.max(other) };
            let times: BTreeMap<_, _> = times.into_iter().map(|(hour, count)| (format!("{hour}:00"), count)).collect();
            let times = serde_json::from_value(json!({ "min": times, "timezone": "Europe/Berlin" })).expect("times");
            let now = moment("2026-10-23T00:00:00Z") + SignedDuration::from_secs(secs);
            let Bounds { min, max } = bounds_at(own, &times, &items, now);
            prop_assert!(1 <= min && min <= max && max <= 60, "{min} to {max}");
        }

        #[test]
        fn a_ramp_goes_one_way_at_each_end_and_beyond_neither(item in any_item(), secs in 0..4 * 86_400_i64) {
            let now = moment("2026-10-23T00:00:00Z") + SignedDuration::from_secs(secs);
            prop_assume!(item.around(now).is_some());
            let (from, to) = item.around(now).expect("it is in force");
            let half = SignedDuration::from_secs(to.duration_since(from).as_secs() / 2);
            let mut before = (0, 0);
            for step in 1..50 {
                let at = half * step / 50;
                let [up, down] = [from + at, to - at].map(|now| item.at(now, OWN).unwrap_or(OWN));
                for (is, own, wanted) in [(up.min, 2, item.min), (up.max, 10, item.max)] {
                    let wanted = wanted.unwrap_or(own);
                    prop_assert!(own.min(wanted) <= is && is <= own.max(wanted), "{is} between {own} and {wanted}");
                }
                let gone = (up.min.abs_diff(OWN.min), up.max.abs_diff(OWN.max));
                prop_assert!(before.0 <= gone.0 && before.1 <= gone.1, "{before:?} and then {gone:?}");
                prop_assert_eq!(up, down, "as far from either end");
                before = gone;
            }
        }

        #[test]
        fn what_happened_last_decides_whatever_happened_before(
            (from, to) in (prop::collection::btree_set(0..24_u32, 1..4), prop::collection::btree_set(0..24_u32, 1..4)),
            hour in 0..24_u32,
        ) {
            let list = |hours: &std::collections::BTreeSet<u32>| hours.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
            let window = item(&json!({ "from": format!("0 {} * * *", list(&from)), "to": format!("0 {} * * *", list(&to)), "min": 5 }));
            let mut is_open = false;
            for past in 0..=24 + hour {
                let past = past % 24;
                is_open = !to.contains(&past) && (is_open || from.contains(&past));
            }
            let now = moment("2026-11-23T00:30:00Z") + SignedDuration::from_hours(hour.into());
            prop_assert_eq!(window.around(now).is_some(), is_open);
        }
    }
}
