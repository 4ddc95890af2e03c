//! Bounds by local time, also where the clocks change.

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};
use tidegate::core::{Bounds, Reason, Rules, decide};

use crate::support::{decide_at, rested, rules, seen, waiting};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn scheduled(schedule: &Value) -> Rules {
    Rules { bounds_schedule: serde_json::from_value(schedule.clone()).expect("it is a schedule"), ..rules(2, 10) }
}

fn both(rules: &Rules, now: &str) -> (u32, u32) {
    let Bounds { min, max } = rules.bounds_at(at(now));
    (min, max)
}

#[test]
fn bounds_of_a_day_are_those_of_its_local_time() {
    let rules = scheduled(&json!([
        { "from": "08:00", "to": "20:00", "days": ["mon", "fri"], "timezone": "Europe/Berlin", "min": 5, "max": 50 },
    ]));
    // 2026-11-23 is a Monday, and Berlin is an hour ahead.
    for (now, expected) in [
        ("2026-11-23T06:59:59Z", (2, 10)),
        ("2026-11-23T07:00:00Z", (5, 50)),
        ("2026-11-23T18:59:59Z", (5, 50)),
        ("2026-11-23T19:00:00Z", (2, 10)),
        ("2026-11-24T12:00:00Z", (2, 10)),
        ("2026-11-27T12:00:00Z", (5, 50)),
    ] {
        assert_eq!(both(&rules, now), expected, "{now}");
    }
}

#[test]
fn a_night_belongs_to_the_day_on_which_it_begins() {
    let night = |to: &str| json!([{ "from": "22:00", "to": to, "days": ["fri"], "max": 3 }]);
    let rules = scheduled(&night("06:00"));
    assert_eq!(both(&rules, "2026-11-27T21:59:59Z"), (2, 10));
    assert_eq!(both(&rules, "2026-11-28T05:59:59Z"), (2, 3), "Saturday morning");
    assert_eq!(both(&rules, "2026-11-28T22:30:00Z"), (2, 10), "Saturday evening");
    assert_eq!(both(&scheduled(&night("22:00")), "2026-11-28T21:59:59Z"), (2, 3), "a whole day");
}

#[test]
fn the_last_bounds_in_force_count_and_the_most_win_over_the_least() {
    let rules = scheduled(&json!([
        { "from": "00:00", "to": "12:00", "min": 5, "max": 50 },
        { "from": "06:00", "to": "18:00", "min": 8 },
        { "from": "2026-11-27T09:00:00Z", "to": "2026-11-27T10:00:00Z", "max": 4 },
    ]));
    assert_eq!(both(&rules, "2026-11-27T05:00:00Z"), (5, 50));
    assert_eq!(both(&rules, "2026-11-27T06:00:00Z"), (8, 50));
    assert_eq!(both(&rules, "2026-11-27T09:00:00Z"), (4, 4));
    assert_eq!(both(&rules, "2026-11-27T10:00:00Z"), (8, 50));
    assert_eq!(both(&rules, "2026-11-28T09:00:00Z"), (8, 50), "an event is over once");
}

#[test]
fn bounds_take_as_long_as_their_ramp_in_both_directions() {
    let rules = scheduled(&json!([
        { "from": "08:00", "to": "09:00", "min": 12, "max": 40, "ramp_secs": 600 },
    ]));
    for (now, expected) in [
        ("2026-11-27T08:00:00Z", (2, 10)),
        ("2026-11-27T08:01:00Z", (3, 13)),
        ("2026-11-27T08:05:00Z", (7, 25)),
        ("2026-11-27T08:10:00Z", (12, 40)),
        ("2026-11-27T08:50:00Z", (12, 40)),
        ("2026-11-27T08:55:00Z", (7, 25)),
        ("2026-11-27T08:59:59Z", (2, 10)),
        ("2026-11-27T09:00:00Z", (2, 10)),
    ] {
        assert_eq!(both(&rules, now), expected, "{now}");
    }
}

#[test]
fn autoscalebot_time_bounds_are_equal() {
    for (times, cases) in [
        (
            json!({ "9:30": 5, "17:00": 3 }),
            vec![("00:00", 5), ("09:00", 5), ("09:29", 5), ("09:30", 5), ("10:00", 5), ("17:00", 3), ("23:00", 3)],
        ),
        // The original takes the zero of a first entry for none.
        (json!({ "0:00": 0, "9:00": 5, "18:00": 0 }), vec![("03:00", 0), ("09:00", 5), ("20:00", 0)]),
    ] {
        let by_time = serde_json::from_value(json!({ "min": times })).expect("they are times");
        let rules = Rules { bounds_by_time: by_time, ..rules(2, 10) };
        for (time, least) in cases {
            assert_eq!(both(&rules, &format!("2026-11-27T{time}:00Z")), (least, 10), "{times} at {time}");
        }
    }
}

#[test]
fn the_count_moves_into_the_bounds_of_the_schedule_at_once() {
    let rules = scheduled(&json!([{ "from": "08:00", "to": "20:00", "min": 20, "max": 30 }]));
    let world = seen(5, vec![waiting("queue", 0)]);
    let (decision, _) = decide_at(&rules, &world, &rested(), at("2026-11-27T08:00:00Z"));
    assert_eq!(decision.desired, 20, "{decision:?}");
    assert_eq!(
        decision.reasons[0],
        Reason::BoundsScheduled { min: 20, max: 30, by: vec!["bounds_schedule[0]".to_owned()] }
    );
    let (decision, _) = decide_at(&rules, &world, &rested(), at("2026-11-27T07:59:59Z"));
    assert_eq!(decision.desired, 4, "a step within the service's own bounds: {decision:?}");
}

/// A change of clocks: the zone, when, and the minutes ahead of UTC before and after.
const CHANGES: [(&str, &str, i64, i64); 6] = [
    ("Europe/Berlin", "2026-03-29T01:00:00Z", 60, 120),
    ("Europe/Berlin", "2026-10-25T01:00:00Z", 120, 60),
    ("America/New_York", "2026-03-08T07:00:00Z", -300, -240),
    ("America/New_York", "2026-11-01T06:00:00Z", -240, -300),
    ("Australia/Lord_Howe", "2026-04-04T15:00:00Z", 660, 630),
    ("Australia/Lord_Howe", "2026-10-03T15:30:00Z", 630, 660),
];

/// The minute since 1970 at which clocks show a local minute: the first, or as much later as they are put forward.
fn moment(local: i64, (change, before, after): (i64, i64, i64)) -> i64 {
    let (early, late) = (local - before, local - after);
    if early < change || late < change { early } else { late }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_day_has_its_window_once_where_clocks_change(
        which in 0..CHANGES.len(),
        from in 0..1440_i64,
        length in 1..1440_i64,
        near in any::<bool>(),
    ) {
        let (zone, change, before, after) = CHANGES[which];
        let change = at(change).as_second() / 60;
        // Half of all begin within the two hours that matter.
        let from = if near { (change + before).rem_euclid(1440) - 60 + from % 120 } else { from }.rem_euclid(1440);
        let to = (from + length) % 1440;
        let clock = |minute: i64| format!("{:02}:{:02}", minute / 60, minute % 60);
        let rules = scheduled(&json!([{ "from": clock(from), "to": clock(to), "timezone": zone, "min": 7 }]));
        let midnight = (change + before).div_euclid(1440) * 1440;
        let windows: Vec<_> = (-3..4)
            .map(|day| {
                let begins = midnight + day * 1440 + from;
                (moment(begins, (change, before, after)), moment(begins + length, (change, before, after)))
            })
            .collect();
        for minute in change - 2 * 1440..change + 2 * 1440 {
            let now = Timestamp::from_second(minute * 60).expect("a time");
            let is_open = windows.iter().any(|(from, to)| *from <= minute && minute < *to);
            prop_assert_eq!(rules.bounds_at(now).min == 7, is_open, "{} {} to {} at {}", zone, from, to, now);
        }
    }

    #[test]
    fn what_is_set_is_within_the_bounds_of_the_time(
        items in proptest::collection::vec((0..24_u32, 0..24_u32, prop::option::of(0..60_u32), prop::option::of(0..60_u32), 0..7200_u32), 0..4),
        hours in 0..48_i64,
        (current, backlog) in (0..100_u32, 0..500_u64),
    ) {
        let items: Vec<_> = items.iter().map(|(from, to, min, max, ramp_secs)| {
            let mut item = json!({ "from": format!("{from}:00"), "to": format!("{to}:30"), "ramp_secs": ramp_secs });
            for (name, bound) in [("min", min), ("max", max)] {
                bound.iter().for_each(|bound| item[name] = json!(bound));
            }
            item
        }).collect();
        let rules = scheduled(&Value::from(items));
        let now = at("2026-11-27T00:10:00Z") + SignedDuration::from_hours(hours);
        let bounds = rules.bounds_at(now);
        let (decision, _) = decide_at(&rules, &seen(current, vec![waiting("queue", backlog)]), &rested(), now);
        prop_assert!(bounds.min <= decision.desired && decision.desired <= bounds.max, "{bounds:?}: {decision:?}");
    }
}

#[test]
fn a_schedule_that_is_left_out_changes_nothing() {
    let world = seen(5, vec![waiting("queue", 5000)]);
    let now = crate::support::noon();
    assert_eq!(decide(&rules(2, 10), &world, &rested(), now), decide(&scheduled(&json!([])), &world, &rested(), now));
}
