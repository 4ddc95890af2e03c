//! A Prometheus and an Alertmanager that watch the queue, for what decides by alerts.

use crate::core::{Alert, Direction};

/// When an alert fires.
struct Rule {
    direction: Direction,
    /// How many messages have to wait for it to be true.
    is_true: fn(u64) -> bool,
    /// For how many seconds in a row.
    secs: f64,
}

/// More than 100 wait for half a minute, or fewer than 10 for five.
const RULES: [Rule; 2] = [
    Rule { direction: Direction::Out, is_true: |waiting| 100 < waiting, secs: 30.0 },
    Rule { direction: Direction::In, is_true: |waiting| waiting < 10, secs: 300.0 },
];

/// Since when each rule has been true.
#[derive(Default)]
pub(super) struct Alerts {
    since: [Option<f64>; RULES.len()],
}

impl Alerts {
    /// The alert that fires after one more look at the queue. Where there is none, as where nothing is known, all begin anew.
    pub fn follow(&mut self, waiting: Option<u64>, now: f64) -> Option<Alert> {
        for (rule, since) in RULES.iter().zip(&mut self.since) {
            *since = waiting.filter(|waiting| (rule.is_true)(*waiting)).and(since.or(Some(now)));
        }
        let fires = |(rule, since): (&Rule, &Option<f64>)| {
            let since = since.filter(|since| rule.secs <= now - since)?;
            Some(Alert { id: format!("{since}"), direction: rule.direction, by: None })
        };
        RULES.iter().zip(&self.since).find_map(fires)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_fires_once_its_time_is_over_and_until_it_is_no_longer_true() {
        let mut alerts = Alerts::default();
        let looks = [(0.0, Some(500)), (15.0, Some(101)), (30.0, Some(500)), (45.0, Some(500)), (60.0, Some(100))];
        let fired = looks.map(|(now, waiting)| alerts.follow(waiting, now).map(|alert| (alert.id, alert.direction)));
        let out = Some(("0".to_owned(), Direction::Out));
        assert_eq!(fired, [None, None, out.clone(), out, None]);
        for tick in 0..20 {
            assert_eq!(alerts.follow(Some(9), 75.0 + 15.0 * f64::from(tick)), None);
        }
        assert_eq!(alerts.follow(Some(0), 375.0).map(|alert| alert.direction), Some(Direction::In));
        assert_eq!(alerts.follow(None, 390.0), None, "nothing is known");
        assert_eq!(alerts.follow(Some(0), 405.0), None, "it begins anew");
    }
}
