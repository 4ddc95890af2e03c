//! A number by local time: how much is wanted within windows that cron expressions open and close.
//!
//! KEDA's `cron` scaler (<https://keda.sh/docs/latest/scalers/cron/>) has one window and asks which of start and end comes next; a
//! window that is opened twice before it closes is closed there in between. Here a window is open from each start until the
//! next end: what happened last decides. Of windows that are open at once the largest number counts.
//!
//! When clocks change, `30 2 * * *` at a time that does not exist is the first moment after the gap, and at a time that comes
//! twice the first of both. That is what croner does (<https://docs.rs/croner>), as Vixie cron does.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Zoned;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{Measurement, Source};
use crate::adapter::{Identity, Kind, parse, schema_of};
use crate::clock::Clock;
use crate::core::{Amount, Cron, Finite};
use crate::error::{Error, ErrorKind, Result};
use crate::shared::Shared;

pub(super) static KIND: Kind<dyn Source> = Kind {
    name: "schedule",
    aliases: &["cron"],
    about: "A number by local time, within windows that cron expressions open and close.",
    renamed: &[],
    env: &[],
    schema: schema_of::<Settings>,
    check,
    identities,
    permissions: |_, _| Ok(Vec::new()),
    build,
    #[cfg(test)]
    contract: tests::CONTRACT,
};

/// The settings of a `schedule` source.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The windows, 1 to 32. Where several are open, the largest value counts.
    #[schemars(length(min = 1, max = 32))]
    windows: Vec<Window>,
    /// The time zone of the windows, as the IANA names it: `Europe/Berlin`. Default `UTC`.
    #[serde(default = "utc")]
    #[schemars(length(min = 1, max = 64))]
    timezone: String,
    /// The number while no window is open. Default 0.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    default: f64,
}

/// One window: from each start until the next end.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Window {
    /// When it opens, as a cron expression of five fields: `0 8 * * MON-FRI`.
    #[schemars(length(min = 1, max = 256))]
    start: String,
    /// When it closes, likewise. That moment is no longer within it.
    #[schemars(length(min = 1, max = 256))]
    end: String,
    /// The number while it is open.
    #[schemars(range(min = 0.0))]
    value: f64,
}

fn utc() -> String {
    "UTC".to_owned()
}

fn check(settings: &Value) -> Vec<(String, String)> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let mut problems = Vec::new();
    if TimeZone::get(&settings.timezone).is_err() {
        let problem = format!("has the timezone {:?}, which is not known", settings.timezone);
        problems.push((problem, "give the IANA's name, such as Europe/Berlin or UTC".to_owned()));
    }
    for (number, window) in settings.windows.iter().enumerate() {
        for (name, text) in [("start", &window.start), ("end", &window.end)] {
            if let Err(problem) = Cron::try_from(text.clone()) {
                let remedy = "give five fields: minute, hour, day, month, weekday, as in 0 8 * * MON-FRI";
                problems.push((format!("has the windows[{number}].{name} {problem}"), remedy.to_owned()));
            }
        }
        if window.start == window.end {
            let problem = format!("has a windows[{number}] that closes when it opens");
            problems.push((problem, "give another end; a number for always is the default".to_owned()));
        }
    }
    problems
}

fn identities(settings: &Value, _region: &str) -> Vec<Identity> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    vec![Identity { provider: KIND.name, region: "-".to_owned(), account: None, path: vec![settings.timezone] }]
}

fn build(settings: &Value, shared: &Shared) -> Result<Box<dyn Source>> {
    let Settings { windows, timezone, default } = parse(settings)?;
    let number = |value| Finite::try_from(value).map_err(wrong);
    let open = |window: &Window| {
        Ok(Open {
            start: Cron::try_from(window.start.clone()).map_err(wrong)?,
            end: Cron::try_from(window.end.clone()).map_err(wrong)?,
            value: number(window.value)?,
        })
    };
    let source = Schedule {
        windows: windows.iter().map(open).collect::<Result<_>>()?,
        timezone: TimeZone::get(&timezone).map_err(|error| wrong(error.to_string()))?,
        default: number(default)?,
        clock: shared.clock.clone(),
    };
    Ok(Box::new(source))
}

struct Schedule {
    windows: Vec<Open>,
    timezone: TimeZone,
    default: Finite,
    clock: Arc<dyn Clock>,
}

struct Open {
    start: Cron,
    end: Cron,
    value: Finite,
}

impl Open {
    /// Whether the last thing that happened to the window is that it opened. One that lies in a gap of the local time opens and
    /// closes at once.
    fn is_open(&self, now: &Zoned) -> bool {
        self.start.last(now).is_some_and(|started| self.end.last(now).is_none_or(|ended| ended < started))
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schedule({} windows)", self.windows.len())
    }
}

#[async_trait]
impl Source for Schedule {
    async fn read(&self) -> Result<Measurement> {
        let now = self.clock.now();
        let local = now.to_zoned(self.timezone.clone());
        let open = self.windows.iter().filter(|window| window.is_open(&local)).map(|window| window.value);
        let largest = open.reduce(|one, other| if one < other { other } else { one });
        Ok(Measurement::from(Amount::Gauge { value: largest.unwrap_or(self.default) }).taken(Some(now)))
    }
}

fn wrong(cause: String) -> Error {
    Error::new(ErrorKind::Config, "reading a schedule", cause)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::clock::Fixed;
    use crate::wire::Contract;

    pub(super) const CONTRACT: Contract = Contract::Local { settings };

    fn settings(_folder: &std::path::Path) -> Value {
        json!({ "windows": [{ "start": "0 8 * * *", "end": "0 18 * * *", "value": 7 }] })
    }

    async fn at(settings: &Value, time: &str) -> f64 {
        let clock = Arc::new(Fixed(time.parse().expect("a time")));
        let shared = Shared::for_wire("http://127.0.0.1:9").with_clock(clock);
        let measurement = build(settings, &shared).expect("valid").read().await.expect("it has a number");
        match measurement.amount {
            Amount::Gauge { value } => value.get(),
            Amount::Queue(depth) => panic!("{depth:?} is no gauge"),
        }
    }

    #[tokio::test]
    async fn a_window_is_open_from_its_start_until_just_before_its_end() {
        let window = settings(std::path::Path::new(""));
        for (time, value) in [("07:59:59.999", 0.0), ("08:00:00", 7.0), ("17:59:59", 7.0), ("18:00:00", 0.0)] {
            assert_eq!(at(&window, &format!("2026-11-22T{time}Z")).await, value, "{time}");
        }
    }

    #[tokio::test]
    async fn the_largest_of_open_windows_counts_and_outside_them_the_default() {
        let settings = json!({ "timezone": "Europe/Berlin", "default": 1, "windows": [
            { "start": "0 8 * * MON-FRI", "end": "0 18 * * MON-FRI", "value": 5 },
            { "start": "0 12 * * *", "end": "0 14 * * *", "value": 9 },
            { "start": "0 0 1 * *", "end": "0 0 2 * *", "value": 3 },
        ] });
        for (time, value) in [
            ("2026-11-23T06:59:00Z", 1.0),
            ("2026-11-23T07:00:00Z", 5.0),
            ("2026-11-23T11:30:00Z", 9.0),
            ("2026-11-22T11:30:00Z", 9.0),
            ("2026-11-22T15:00:00Z", 1.0),
            ("2026-12-01T15:00:00Z", 5.0),
            ("2026-12-01T22:59:00Z", 3.0),
        ] {
            assert_eq!(at(&settings, time).await, value, "{time}");
        }
    }

    #[tokio::test]
    async fn a_window_that_is_opened_twice_stays_open() {
        let twice = json!({ "windows": [{ "start": "0 8,12 * * *", "end": "0 18 * * *", "value": 7 }] });
        for (time, value) in [("09", 7.0), ("13", 7.0), ("19", 0.0), ("07", 0.0)] {
            assert_eq!(at(&twice, &format!("2026-11-22T{time}:00:00Z")).await, value, "{time}");
        }
        let over_midnight = json!({ "windows": [{ "start": "0 22 * * *", "end": "0 6 * * *", "value": 7 }] });
        for (time, value) in [("23", 7.0), ("05", 7.0), ("06", 0.0), ("21", 0.0)] {
            assert_eq!(at(&over_midnight, &format!("2026-11-22T{time}:00:00Z")).await, value, "{time}");
        }
    }

    /// Vectors of Python's `zoneinfo`, made by `schedule.py` beside them: days on which clocks change, and ordinary ones.
    #[tokio::test]
    async fn clocks_that_change_neither_lose_nor_repeat_a_window() {
        let vectors: Value = serde_json::from_str(include_str!("../../tests/it/sources/recorded/schedule.json"))
            .expect("the vectors are JSON");
        let vectors = vectors.as_array().expect("a list");
        assert!(500 < vectors.len());
        for vector in vectors {
            let settings = json!({ "timezone": vector["zone"], "windows": [
                { "start": vector["start"], "end": vector["end"], "value": 1 },
            ] });
            let is_open = at(&settings, vector["at"].as_str().expect("a time")).await == 1.0;
            assert_eq!(json!(is_open), vector["open"], "{vector}");
        }
    }

    #[test]
    fn what_never_comes_or_is_no_schedule_is_refused() {
        let window = |start: &str, end: &str| json!({ "windows": [{ "start": start, "end": end, "value": 1 }] });
        for settings in [
            window("0 8 * *", "0 18 * * *"),
            window("0 0 8 * * *", "0 18 * * *"),
            window("60 8 * * *", "0 18 * * *"),
            window("0 8 30 2 *", "0 18 * * *"),
            window("0 8 * * *", "0 8 * * *"),
            window("eight", "0 18 * * *"),
            window("", "0 18 * * *"),
        ] {
            assert_eq!(check(&settings).len(), 1, "{settings}");
        }
        let mut elsewhere = window("0 8 * * *", "0 18 * * *");
        assert_eq!(check(&elsewhere), []);
        elsewhere["timezone"] = "Europe/Atlantis".into();
        assert_eq!(check(&elsewhere).len(), 1);
    }
}
