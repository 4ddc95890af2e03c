//! How often a loop ticks: `LOOP_INTERVAL` and `LOOP_MAX_INTERVAL`, which belong to the deployment.

use std::time::Duration;

use jiff::SignedDuration;

use super::env::Vars;
use super::origin::{Layer, Origin, Problems};
use super::settings::shown;

/// Most calls that a tick makes answer within a second; a tick a second is what an operator may want to watch.
const SHORTEST: Duration = Duration::from_secs(1);

/// What need not be looked at more than once a minute needs a schedule and no loop.
const LONGEST: Duration = Duration::from_secs(60);

/// Three of these, a lease, are less than the ten minutes beyond which a lease is not believed.
const LONGEST_SLOWED: Duration = Duration::from_secs(180);

/// How often a loop ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intervals {
    /// While there is something to do: 1 s to 1 min.
    pub fastest: Duration,
    /// While there is nothing to do, at least `fastest`: up to 3 min, 4 times `fastest` unless set.
    pub slowest: Duration,
}

/// Reads the intervals of a loop, if there is to be one.
pub(super) fn intervals(vars: &dyn Vars, problems: &mut Problems) -> Option<Intervals> {
    let fastest = interval(vars, "LOOP_INTERVAL", SHORTEST, LONGEST, problems)?;
    let usual = (fastest * 4).min(LONGEST_SLOWED);
    let slowest = match vars.get("LOOP_MAX_INTERVAL") {
        Some(_) => interval(vars, "LOOP_MAX_INTERVAL", fastest, LONGEST_SLOWED, problems)?,
        None => usual,
    };
    Some(Intervals { fastest, slowest })
}

fn interval(vars: &dyn Vars, name: &str, least: Duration, most: Duration, problems: &mut Problems) -> Option<Duration> {
    let text = vars.get(name)?;
    let found = duration(&text).filter(|found| least <= *found && *found <= most);
    if found.is_none() {
        let remedy =
            format!("give seconds, or a duration such as 10s, from {} s to {} s", least.as_secs_f64(), most.as_secs());
        problems.add(&Origin::new(&Layer::Environment, name), format!("is {}", shown(&text.into())), remedy);
    }
    found
}

/// Reads `10`, `10s`, `1m 30s` or `PT10S`.
fn duration(text: &str) -> Option<Duration> {
    let seconds = text.parse::<f64>().ok();
    let found = match seconds {
        Some(seconds) => SignedDuration::try_from_secs_f64(seconds).ok()?,
        None => text.parse().ok()?,
    };
    Duration::try_from(found).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn read(fastest: &str, slowest: &str) -> (Option<Intervals>, usize) {
        let vars = [("LOOP_INTERVAL", fastest), ("LOOP_MAX_INTERVAL", slowest)];
        let vars: BTreeMap<_, _> = vars.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let mut problems = Problems::default();
        (intervals(&vars, &mut problems), problems.0.len())
    }

    fn of(fastest: u64, slowest: u64) -> (Option<Intervals>, usize) {
        let (fastest, slowest) = (Duration::from_secs(fastest), Duration::from_secs(slowest));
        (Some(Intervals { fastest, slowest }), 0)
    }

    #[test]
    fn an_interval_is_seconds_or_a_duration_with_its_unit() {
        assert_eq!(read("", ""), (None, 0));
        for text in ["10", "10s", "10 seconds", "PT10S", "10.0"] {
            assert_eq!(read(text, ""), of(10, 40), "{text}");
        }
        assert_eq!(read("1m", ""), of(60, 180));
        assert_eq!(read("10", "10"), of(10, 10));
        assert_eq!(read("10", "1m 30s"), of(10, 90));
    }

    #[test]
    fn an_interval_out_of_its_range_is_refused() {
        for text in ["0", "-1", "soon", "61s", "0.5", "NaN", "inf", "1e300"] {
            assert_eq!(read(text, ""), (None, 1), "{text}");
        }
        for text in ["9", "181", "later"] {
            assert_eq!(read("10", text), (None, 1), "{text}");
        }
    }
}
