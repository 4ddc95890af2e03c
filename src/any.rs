//! Any rules, observation and past, made of bytes; and what holds of every decision about them. Fuzzing and the properties share it.
//!
//! Each byte has one meaning, and zeros follow the last one: fewer and smaller bytes make a simpler case.

mod policies;
mod states;

use std::sync::LazyLock;

use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::core::{
    Alert, Amount, Answer, Behavior, Bounds, Brake, Breaker, Combine, CombinePolicies, Computed, ConfirmZero, Decision,
    Direction, Fallback, Finite, Held, Load, Observation, Past, Pause, PriorityOverride, Protected, QueueDepth,
    Reading, Rules, Sample, ScaleToZero, Share, Tally, TargetStatus, Unreadable,
};
use crate::error::ErrorKind;

pub(crate) use policies::policy_of;
pub(crate) use states::past;

/// The sources that may be seen; the last one is a brake in rules that have one.
pub(crate) const SOURCES: [&str; 4] = ["source-0", "source-1", "source-2", "source-3"];

/// The formulas of policies, which are given with what is seen.
const FORMULAS: [&str; 2] = ["least", "most"];

/// Numbers from bytes; zero after the last one.
pub(crate) struct Numbers<'a>(pub(crate) &'a [u8]);

impl Numbers<'_> {
    pub(crate) fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((byte, rest)) => {
                self.0 = rest;
                *byte
            }
            None => 0,
        }
    }

    /// Small ones mostly, since that is where most thresholds are.
    pub(crate) fn count(&mut self) -> u64 {
        let length = [1, 1, 2, 2, 3, 4, 4, 8][usize::from(self.byte() % 8)];
        (0..length).fold(0, |sum, _| sum << 8 | u64::from(self.byte()))
    }

    /// Any number of tasks that may be configured.
    pub(crate) fn tasks(&mut self) -> u32 {
        (self.count() & 0x7fff_ffff) as u32
    }

    /// A number from 0 up to the one given, mostly far below it.
    pub(crate) fn up_to(&mut self, most: u64) -> u64 {
        match self.byte() % 4 {
            0 => 0,
            1 | 2 => u64::from(self.byte()).min(most),
            _ => self.count().min(most),
        }
    }

    /// Any finite number of at least 0.
    pub(crate) fn size(&mut self) -> f64 {
        const ODD: [f64; 8] = [-0.0, 5e-324, f64::MIN_POSITIVE, 0.999_999_999, 1e15, 1.8e19, 1e300, f64::MAX];
        match self.byte() % 8 {
            0..=3 => self.count() as f64,
            4 | 5 => self.count() as f64 / 1000.0,
            6 => Some(f64::from_bits(self.count()).abs()).filter(|it| it.is_finite()).unwrap_or(1.0),
            _ => ODD[usize::from(self.byte() % 8)],
        }
    }

    /// From 0 to 1, both included.
    pub(crate) fn part(&mut self) -> f64 {
        f64::from(self.byte()) / 255.0
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() % 2 == 1
    }

    /// One time in eight.
    pub(crate) fn rarely(&mut self) -> bool {
        self.byte() % 8 == 7
    }

    pub(crate) fn one_of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()].clone()
    }

    /// Mostly shortly before now, and sometimes any time there is.
    pub(crate) fn time(&mut self, now: Timestamp) -> Timestamp {
        let secs = i64::try_from(self.count()).unwrap_or(i64::MAX);
        let offset = SignedDuration::from_secs(if self.byte() % 8 == 7 { secs } else { -secs });
        now.saturating_add(offset).expect("a duration has no calendar units")
    }
}

/// What is built in of a type whose other fields have defaults.
pub(crate) fn made_of<T: DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value).expect("it is valid")
}

/// Rules that every policy gets its own way with: no cooldown, no window and no doubt.
pub(crate) static PLAIN: LazyLock<Rules> = LazyLock::new(|| {
    made_of(json!({
        "policies": [], "scale_out_cooldown_secs": 0, "scale_in_cooldown_secs": 0, "priority_override": "always",
        "min_remaining_fraction": 0.0, "confirm_zero": { "readings": 1, "secs": 0 }, "breaker": { "stuck_secs": 0 },
    }))
});

/// An observation without anything in it.
static NOTHING: LazyLock<Observation> = LazyLock::new(|| {
    let status = json!({ "desired": 0, "running": 0, "pending": 0, "rolling_out": false });
    made_of(json!({ "samples": [], "status": status }))
});

/// Any rules with policies of any kinds.
pub(crate) fn rules(input: &mut Numbers<'_>, now: Timestamp) -> Rules {
    let count = [1, 1, 1, 1, 2, 3][usize::from(input.byte() % 6)];
    let policies = (0..count).map(|_| policies::policy(input)).collect();
    rules_of(input, policies, now)
}

/// Any rules with these policies.
pub(crate) fn rules_of(input: &mut Numbers<'_>, policies: Vec<crate::core::Policy>, now: Timestamp) -> Rules {
    let mut rules = Rules { policies, ..PLAIN.clone() };
    let min = input.up_to(2_147_483_647) as u32;
    rules.bounds = Bounds { min, max: min.saturating_add(input.tasks()).min(2_147_483_647) };
    rules.scale_out_cooldown_secs = input.up_to(604_800);
    rules.scale_in_cooldown_secs = input.up_to(604_800);
    rules.priority_override =
        input.one_of(&[PriorityOverride::Step, PriorityOverride::Always, PriorityOverride::Never]);
    rules.scaling_step_count = input.tasks().max(1);
    rules.min_remaining_fraction = input.part();
    rules.behavior = if input.flag() { policies::behavior(input) } else { Default::default() };
    rules.combine = input.one_of(&[
        Combine::Max,
        Combine::Max,
        Combine::Min,
        Combine::Sum,
        Combine::Mean,
        Combine::Formula("any".to_owned()),
    ]);
    rules.combine_policies = input.one_of(&[
        CombinePolicies::Max,
        CombinePolicies::Max,
        CombinePolicies::Min,
        CombinePolicies::Sum,
        CombinePolicies::Mean,
    ]);
    guards(input, &mut rules);
    if input.rarely() {
        schedules(input, &mut rules, now);
    }
    rules
}

fn guards(input: &mut Numbers<'_>, rules: &mut Rules) {
    rules.wait_until_settled = input.rarely();
    rules.settle_timeout_secs = 1 + input.up_to(86_399);
    rules.load = input.one_of(&[Load::Backlog, Load::Combined]);
    rules.max_reading_age_secs = 300 + input.up_to(86_000);
    rules.allow_scale_out_without_state = input.flag();
    rules.in_flight_per_task = 1 + input.up_to(999_999) as u32;
    rules.drain_first = input.rarely();
    rules.confirm_zero = ConfirmZero { readings: 1 + input.up_to(999) as u32, secs: input.up_to(86_400) };
    let wake_above = if input.flag() { input.size() } else { 0.0 };
    rules.scale_to_zero = ScaleToZero { wake_above, sleep_at: wake_above * input.part() };
    rules.first_scale_in_after_secs = if input.rarely() { input.up_to(604_800) } else { 0 };
    if input.flag() {
        rules.breaker = Breaker { stuck_secs: input.up_to(86_400), probe_secs: 1 + input.up_to(86_399) };
    }
    if input.rarely() {
        rules.weights = SOURCES.iter().map(|source| ((*source).to_owned(), input.size().clamp(1e-9, 1e6))).collect();
    }
    if input.rarely() {
        let behavior = [Behavior::Hold, Behavior::Static, Behavior::AtLeast, Behavior::AtMost, Behavior::LastKnown];
        rules.fallback = Some(Fallback {
            after: 1 + input.up_to(999) as u32,
            behavior: input.one_of(&behavior),
            count: Some(input.tasks()),
            for_secs: 1 + input.up_to(86_399),
        });
    }
    if input.rarely() {
        let stop_above = input.flag().then(|| input.size());
        rules.brakes = vec![Brake { source: SOURCES[3].to_owned(), stop_above, stop_on_growth: input.flag() }];
    }
    if input.rarely() {
        rules.pause = Some(pause(input));
    }
    if input.flag() {
        rules.budget = Some(made_of(json!({ "total": 100 })));
    }
}

fn pause(input: &mut Numbers<'_>) -> Pause {
    let at = Pause::At(input.tasks());
    input.one_of(&[Pause::Hold(Held::In), Pause::Hold(Held::Out), Pause::Hold(Held::Both), at])
}

/// Bounds by the time of day, by day of the week, and for once.
fn schedules(input: &mut Numbers<'_>, rules: &mut Rules, now: Timestamp) {
    let clock = |input: &mut Numbers<'_>| format!("{:02}:{:02}", input.byte() % 24, input.byte() % 60);
    let zone = input.one_of(&["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"]);
    for _ in 0..input.byte() % 3 {
        let mut entry = json!({ "from": clock(input), "to": clock(input), "timezone": zone });
        if input.flag() {
            let from = input.time(now);
            let to = from.saturating_add(SignedDuration::from_secs(1 + i64::from(input.tasks())));
            (entry["from"], entry["to"]) = (json!(from), json!(to.expect("a duration has no calendar units")));
        } else {
            entry["days"] = json!([input.one_of(&["mon", "tue", "sat", "sun"])]);
        }
        (entry["min"], entry["ramp_secs"]) = (json!(input.tasks()), json!(input.up_to(86_400)));
        if input.flag() {
            entry["max"] = json!(input.tasks());
        }
        rules.bounds_schedule.push(made_of(entry));
    }
    if input.flag() {
        let (early, late) = (format!("0{}:00", input.byte() % 10), format!("1{}:30", input.byte() % 10));
        let least = json!({ early: input.tasks(), late: input.tasks() });
        rules.bounds_by_time = made_of(json!({ "timezone": zone, "min": least }));
    }
}

/// Anything that may be seen.
pub(crate) fn observation(input: &mut Numbers<'_>, now: Timestamp) -> Observation {
    let mut seen = NOTHING.clone();
    let count = usize::from(input.byte() % 5);
    seen.samples = SOURCES[..count].iter().map(|source| sample(input, source, now)).collect();
    seen.status = TargetStatus { desired: input.count() as u32, ..seen.status };
    seen.status.running = if input.flag() { seen.status.desired } else { input.count() as u32 };
    seen.status.pending = input.tasks();
    seen.status.rolling_out = input.rarely();
    match input.byte() % 16 {
        1 => seen.protected = Some(Protected::Tasks(input.tasks())),
        2 => seen.protected = Some(Protected::Unreadable(denied())),
        3 => seen.scheduled_for = Some(input.time(now)),
        4 => seen.status.pause = Some(pause(input)),
        5 => seen.status.other_scaler = Some("another".to_owned()),
        _ => {}
    }
    seen.alert = input.flag().then(|| Alert {
        id: input.one_of(&["a", "b", "c"]).to_owned(),
        direction: input.one_of(&[Direction::Out, Direction::In]),
        by: input.flag().then(|| input.tasks()),
    });
    seen.formula = computed(input);
    for formula in FORMULAS {
        seen.policy_formulas.extend(computed(input).map(|computed| (formula.to_owned(), computed)));
    }
    if input.rarely() {
        seen.share = Some(Share { tasks: input.tasks(), fill: input.flag() });
    }
    seen
}

fn sample(input: &mut Numbers<'_>, source: &str, now: Timestamp) -> Sample {
    let taken_at = if input.rarely() { input.time(now) } else { now };
    let (completed, tally) = finished(input, now);
    let queue = |backlog, in_flight| {
        Amount::Queue(QueueDepth { backlog, in_flight, completed, tally, ..QueueDepth::default() })
    };
    let amount = match input.byte() % 8 {
        0..=3 => Some(queue(input.count(), Some(input.count()))),
        4 => Some(queue(input.count(), None)),
        5 | 6 => Some(Amount::Gauge { value: finite(input.size()) }),
        _ => None,
    };
    let answer = match amount {
        Some(amount) => Answer::Reading(Reading { taken_at, amount }),
        None => Answer::Unreadable(denied()),
    };
    Sample { source: source.to_owned(), answer }
}

/// A counter of finished messages, or a tally of some.
fn finished(input: &mut Numbers<'_>, now: Timestamp) -> (Option<u64>, Option<Tally>) {
    match input.byte() % 8 {
        0..=5 => (None, None),
        6 => (Some(input.count()), None),
        _ => (None, Some(Tally { messages: input.count(), since: input.time(now), until: input.time(now) })),
    }
}

fn computed(input: &mut Numbers<'_>) -> Option<Computed> {
    match input.byte() % 8 {
        0..=5 => Some(Computed::Value(finite(input.size()))),
        6 => Some(Computed::Unreadable(denied())),
        _ => None,
    }
}

pub(crate) fn finite(value: f64) -> Finite {
    Finite::try_from(value).expect("it is finite and not negative")
}

pub(crate) fn denied() -> Unreadable {
    Unreadable { kind: ErrorKind::Denied, detail: "denied".to_owned() }
}

/// What holds of every decision, whatever is configured, seen and remembered.
pub(crate) fn check(rules: &Rules, seen: &Observation, past: &Past, now: Timestamp, decision: &Decision) {
    let Decision { current, desired, reasons } = decision;
    let bounds = rules.bounds_at(now);
    assert!(!reasons.is_empty() && reasons.iter().all(|reason| !reason.to_string().is_empty()), "{decision:?}");
    assert_eq!(*current, seen.status.desired);
    assert!(*desired == bounds.clamp(*desired) || desired == current, "outside {bounds:?}: {decision:?}");
    let is_unreadable = seen.samples.iter().any(|sample| matches!(sample.answer, Answer::Unreadable(_)));
    // Above the upper bound the count moves to it, which needs no reading; and somebody may have ordered a count.
    let paused_at = [rules.pause, seen.status.pause].iter().any(|pause| matches!(pause, Some(Pause::At(_))));
    let is_ordered = matches!(&rules.fallback, Some(it) if matches!(it.behavior, Behavior::Static | Behavior::AtMost));
    assert!(seen.status.other_scaler.is_none() || current == desired, "two masters: {decision:?}");
    assert!(
        paused_at || is_ordered || !is_unreadable || (*current).min(bounds.max) <= *desired,
        "scale-in on a gap: {decision:?}"
    );
    let is_state_known = !matches!(past, Past::Unreadable { .. });
    assert!(is_state_known || current <= desired, "scale-in without a state: {decision:?}");
}
