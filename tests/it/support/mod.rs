//! What tests share.

pub mod cloud;
pub mod daemon;
pub mod docs;
pub mod emulator;
pub mod http;
pub mod judged;
pub mod prism;
pub mod proxy;
pub mod runtime_api;
pub mod servers;
pub mod source;
pub mod target;

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};
use tidegate::clock::Clock;
use tidegate::core::{
    Amount, Answer, Bounds, Decision, Observation, Past, Policy, QueueDepth, Reading, Rules, Sample, State,
    TargetStatus, Threshold, Unreadable, decide,
};
use tidegate::error::ErrorKind;

/// The time on which tests decide.
pub fn noon() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().expect("a valid time")
}

/// A time before or after noon.
pub fn noon_plus(secs: f64) -> Timestamp {
    noon() + SignedDuration::from_secs_f64(secs)
}

/// A clock that the test moves.
#[derive(Debug)]
pub struct Moved(AtomicI64);

impl Moved {
    pub fn at_noon() -> Self {
        Self(AtomicI64::new(noon().as_second()))
    }

    /// Moves it to so many seconds after noon.
    pub fn to(&self, secs: i64) {
        self.0.store(noon().as_second() + secs, Ordering::SeqCst);
    }
}

impl Clock for Moved {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).expect("a valid time")
    }
}

/// StepScale's defaults with other bounds; like StepScale, it believes a zero at once.
pub fn rules(min: u32, max: u32) -> Rules {
    let text = r#"{"policies": [{"type": "threshold"}], "confirm_zero": {"readings": 1, "secs": 0}}"#;
    let defaults: Rules = serde_json::from_str(text).expect("every other rule has a default");
    Rules { bounds: Bounds { min, max }, ..defaults }
}

/// The same with one threshold policy.
pub fn rules_with(min: u32, max: u32, threshold: Threshold) -> Rules {
    Rules { policies: vec![Policy::Threshold(threshold)], ..rules(min, max) }
}

/// A source that was read at noon.
pub fn waiting(source: &str, backlog: u64) -> Sample {
    let depth = QueueDepth { backlog, in_flight: Some(0), delayed: Some(0), ..QueueDepth::default() };
    Sample {
        source: source.to_owned(),
        answer: Answer::Reading(Reading { taken_at: noon(), amount: Amount::Queue(depth) }),
    }
}

/// A source that could not be read.
pub fn unreadable(source: &str, kind: ErrorKind) -> Sample {
    let why = Unreadable { kind, detail: "it could not be read".to_owned() };
    Sample { source: source.to_owned(), answer: Answer::Unreadable(why) }
}

/// What is seen of a service that runs what it asks for.
pub fn seen(desired: u32, samples: Vec<Sample>) -> Observation {
    let status = TargetStatus { desired, running: desired, ..TargetStatus::default() };
    Observation {
        samples,
        status,
        protected: None,
        formula: None,
        policy_formulas: Default::default(),
        alert: None,
        share: None,
        scheduled_for: None,
    }
}

/// A service whose cooldowns are long over.
pub fn rested() -> Past {
    Past::Known(State::new(noon_plus(-86_400.0)))
}

/// The same facts at another time: readings are as fresh as they were at noon.
pub fn decide_at(rules: &Rules, seen: &Observation, past: &Past, now: Timestamp) -> (Decision, State) {
    let mut seen = seen.clone();
    for sample in &mut seen.samples {
        if let Answer::Reading(reading) = &mut sample.answer {
            reading.taken_at = now;
        }
    }
    decide(rules, &seen, past, now)
}
