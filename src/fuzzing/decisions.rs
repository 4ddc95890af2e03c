//! Decisions and what is remembered of them, whatever is seen, configured or found in the store.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::wait_for;
use crate::adapter::find;
use crate::cli::{Scenario, play};
use crate::config::load_rules;
use crate::core::{self, Answer, Behavior, Decision, Observation, Past, Pause, Rules, State, Unreadable};
use crate::error::ErrorKind;
use crate::shared::Shared;
use crate::stores::{self, Expect, document};

/// A scenario's file: configured by text, as `tidegate decide` reads it.
pub fn scenario(bytes: &[u8]) {
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else { return };
    let played = match play(&value, "scenario") {
        Ok(played) => played,
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::Config | ErrorKind::NotBuilt), "{error}");
            return;
        }
    };
    let scenario: Scenario = back(&value);
    let rules = load_rules(&scenario.config, "scenario").expect("it was played");
    let decision: Decision = back(&played["decision"]);
    let state: State = back(&played["state"]);
    check(&rules, &scenario.observation, scenario.state.get("unreadable").is_some(), &decision);
    assert_eq!(played, play(&value, "scenario").expect("it was played"), "the same twice is not the same");
    assert_eq!(state, back(&json!(state)));
}

/// Rules, observation and state by number, so that every input is one.
pub fn decide(bytes: &[u8]) {
    let mut input = Numbers(bytes);
    let now = Timestamp::from_second(1_800_000_000).expect("a time in 2027");
    let (rules, seen, past) = (rules(&mut input), observation(&mut input, now), past(&mut input, now));
    let (decision, state) = core::decide(&rules, &seen, &past, now);
    check(&rules, &seen, matches!(past, Past::Unreadable { .. }), &decision);
    assert_eq!(decision, back(&json!(decision)));
    assert_eq!(state, back(&json!(state)));
    let again = core::decide(&rules, &seen, &past, now);
    assert_eq!((decision, state), again, "the same twice is not the same");
}

fn check(rules: &Rules, seen: &Observation, state_is_unreadable: bool, decision: &Decision) {
    let Decision { current, desired, reasons } = decision;
    assert!(!reasons.is_empty() && reasons.iter().all(|reason| !reason.to_string().is_empty()), "{decision:?}");
    assert_eq!(*current, seen.status.desired);
    let within = (rules.bounds.min..=rules.bounds.max).contains(desired);
    assert!(within || desired == current, "outside {:?}: {decision:?}", rules.bounds);
    let unreadable = seen.samples.iter().any(|sample| matches!(sample.answer, Answer::Unreadable(_)));
    // Above the upper bound the count moves to it, which needs no reading; and somebody may have ordered a count.
    let pauses = [rules.pause, seen.status.pause];
    let paused_at = pauses.iter().any(|pause| matches!(pause, Some(Pause::At(_))));
    let is_ordered = matches!(&rules.fallback, Some(it) if matches!(it.behavior, Behavior::Static | Behavior::AtMost));
    assert!(seen.status.other_scaler.is_none() || current == desired, "two masters: {decision:?}");
    assert!(
        paused_at || is_ordered || !unreadable || (*current).min(rules.bounds.max) <= *desired,
        "scale-in on a gap: {decision:?}"
    );
    assert!(!state_is_unreadable || current <= desired, "scale-in without a state: {decision:?}");
}

/// The document that a store keeps.
pub fn state(bytes: &[u8]) {
    const KEY: &str = "v1/any.json";
    let now = Timestamp::from_second(1_800_000_000).expect("a time in 2027");
    let kind = find(stores::TABLE, "memory").expect("it is always built in");
    let store = (kind.build)(&json!({}), &Shared::for_wire("http://127.0.0.1:9")).expect("it has no settings");
    wait_for(async {
        store.save(KEY, bytes.to_vec(), &Expect::Absent).await.expect("nothing is there yet");
        let loaded = match document::load(store.as_ref(), KEY).await {
            Ok(loaded) => loaded,
            Err(error) => return assert_eq!(error.kind(), ErrorKind::Malformed, "{error}"),
        };
        // What is no document counts as nothing known.
        let Some(services) = loaded.document.clone().map(|document| document.services) else {
            return assert!(loaded.corrupt.is_some());
        };
        // All of it is changed, so that nothing is forgotten for its age.
        let saved = document::save(store.as_ref(), KEY, &loaded, services.clone(), "tick", now).await;
        let saved = match saved {
            Ok(saved) => saved.document.expect("it was saved"),
            // Written out in full it may be longer than it was.
            Err(error) => return assert_eq!(error.kind(), ErrorKind::Config, "{error}"),
        };
        let found = document::load(store.as_ref(), KEY).await.expect("it was saved").document;
        assert_eq!(found.as_ref(), Some(&saved));
        assert_eq!(saved.services, services);
        assert!(loaded.document.is_some_and(|old| old.seq <= saved.seq && old.writer != saved.writer));
        for state in services.into_values() {
            let seen = observation(&mut Numbers(&[]), now);
            core::decide(&rules(&mut Numbers(&[])), &seen, &Past::Known(state), now);
        }
    });
}

/// Writes a value and reads it again.
fn back<T: DeserializeOwned>(value: &(impl Serialize + ?Sized)) -> T {
    let text = serde_json::to_string(value).expect("it can be written");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Numbers from bytes; zero after the last one.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((byte, rest)) => {
                self.0 = rest;
                *byte
            }
            None => 0,
        }
    }

    fn count(&mut self) -> u64 {
        // Small ones mostly, since that is where most thresholds are.
        let length = [1, 1, 2, 2, 3, 4, 4, 8][usize::from(self.byte() % 8)];
        (0..length).fold(0, |sum, _| sum << 8 | u64::from(self.byte()))
    }

    fn tasks(&mut self) -> u32 {
        (self.count() & 0x7fff_ffff) as u32
    }

    /// Any finite number of at least 0.
    fn size(&mut self) -> f64 {
        match self.byte() % 3 {
            0 => self.count() as f64,
            1 => self.count() as f64 / 1000.0,
            _ => Some(f64::from_bits(self.count()).abs()).filter(|it| it.is_finite()).unwrap_or(1.0),
        }
    }

    fn flag(&mut self) -> bool {
        self.byte() % 2 == 1
    }

    fn one_of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[usize::from(self.byte()) % words.len()]
    }

    /// Mostly shortly before now, and sometimes any time there is.
    fn time(&mut self, now: Timestamp) -> Timestamp {
        let secs = i64::try_from(self.count()).unwrap_or(i64::MAX);
        let offset = SignedDuration::from_secs(if self.byte() < 64 { secs } else { -secs });
        now.saturating_add(offset).expect("a duration has no calendar units")
    }
}

fn rules(input: &mut Numbers<'_>) -> Rules {
    let (min, span, high) = (input.tasks(), input.tasks(), input.size());
    let policies: Vec<_> = (0..=input.byte() % 3)
        .map(|_| {
            json!({
                "type": "threshold", "scale_out_threshold": high, "scale_in_threshold": input.size().min(high),
                "tasks_per_message": input.size(),
            })
        })
        .collect();
    back(&json!({
        "policies": policies,
        "bounds": { "min": min, "max": min.saturating_add(span).min(2_147_483_647) },
        "scale_out_cooldown_secs": input.count() % 604_801, "scale_in_cooldown_secs": input.count() % 604_801,
        "priority_override": input.one_of(&["step", "always", "never"]),
        "scaling_step_count": input.tasks().max(1),
        "min_remaining_fraction": input.size().min(1.0),
        "load": input.one_of(&["backlog", "combined"]),
        "max_reading_age_secs": 1 + input.count() % 86_400,
        "allow_scale_out_without_state": input.flag(),
        "in_flight_per_task": 1 + input.count() % 1_000_000,
        "drain_first": input.flag(),
        "confirm_zero": { "readings": 1 + input.count() % 1000, "secs": input.count() % 86_401 },
        "scale_to_zero": { "wake_above": input.size() },
        "first_scale_in_after_secs": input.count() % 604_801,
        "breaker": { "stuck_secs": input.count() % 86_401, "probe_secs": 1 + input.count() % 86_400 },
        "fallback": {
            "after": 1 + input.count() % 1000, "count": input.tasks(),
            "behavior": input.one_of(&["hold", "static", "at_least", "at_most", "last_known"]),
        },
        "brakes": [{ "source": "source-3", "stop_above": input.size(), "stop_on_growth": input.flag() }],
    }))
}

fn observation(input: &mut Numbers<'_>, now: Timestamp) -> Observation {
    let samples: Vec<_> = (0..input.byte() % 5)
        .map(|number| {
            let source = format!("source-{number}");
            let taken_at = input.time(now);
            match input.byte() % 4 {
                0 => json!({ "source": source, "unreadable": { "kind": "Denied", "detail": "denied" } }),
                1 => json!({ "source": source, "reading": { "taken_at": taken_at, "value": input.size() } }),
                2 => json!({ "source": source, "reading": { "taken_at": taken_at, "backlog": input.count() } }),
                _ => json!({ "source": source, "reading": {
                    "taken_at": taken_at, "backlog": input.count(), "in_flight": input.count(),
                } }),
            }
        })
        .collect();
    let status = json!({
        "desired": input.count() as u32, "running": input.tasks(), "pending": input.tasks(), "rolling_out": input.flag(),
    });
    let mut seen = json!({ "samples": samples, "status": status });
    match input.byte() % 8 {
        1 => seen["protected"] = json!({ "tasks": input.tasks() }),
        2 => seen["protected"] = json!({ "unreadable": { "kind": "Denied", "detail": "denied" } }),
        3 => seen["scheduled_for"] = json!(input.time(now)),
        4 => seen["status"]["pause"] = json!(input.one_of(&["in", "out", "both"])),
        5 => seen["status"]["other_scaler"] = json!("another"),
        _ => {}
    }
    back(&seen)
}

fn past(input: &mut Numbers<'_>, now: Timestamp) -> Past {
    let mut state = json!({ "since": input.time(now) });
    for key in ["last_out", "last_in", "pending"] {
        if input.flag() {
            state[key] = json!({ "at": input.time(now), "from": input.tasks(), "to": input.tasks() });
            if key != "pending" {
                state[key]["base"] = input.tasks().into();
            }
        }
    }
    if input.flag() {
        let zero = json!({ "source-0": { "since": input.time(now), "seen": input.tasks() } });
        let load = json!({ "source-0": { "load": input.size(), "at": input.time(now) } });
        state["zeros"] = zero;
        state["last_loads"] = load;
        state["count"] = json!(input.tasks());
        state["failing"] = json!({ "since": input.time(now), "ticks": input.tasks() });
        state["shortfall"] = json!({ "since": input.time(now), "running": input.tasks(), "probed": input.time(now) });
        state["brake_loads"] = json!({ "source-3": { "load": input.size(), "grown": input.time(now) } });
    }
    let why = Unreadable { kind: ErrorKind::Denied, detail: "denied".to_owned() };
    match input.byte() % 4 {
        0 => Past::Absent,
        1 => Past::Unreadable { why, remembered: None },
        2 => Past::Unreadable { why, remembered: Some(back(&state)) },
        _ => Past::Known(back(&state)),
    }
}
