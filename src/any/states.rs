//! Any state that a store may hold, of whatever policy and in whatever order.

use jiff::Timestamp;
use serde_json::json;

use super::{Numbers, SOURCES, denied, made_of};
use crate::core::{
    Action, Answered, BrakeLoad, Change, Course, Estimate, Failing, Intent, LastLoad, Level, Loads, Memory, Past,
    Recommendation, Run, Shortfall, State, Wanted, Zero,
};

/// Any past.
pub(crate) fn past(input: &mut Numbers<'_>, now: Timestamp) -> Past {
    match input.byte() % 8 {
        0 => Past::Absent,
        1 => Past::Unreadable { why: denied(), remembered: None },
        2 => Past::Unreadable { why: denied(), remembered: Some(state(input, now)) },
        _ => Past::Known(state(input, now)),
    }
}

/// Any state.
fn state(input: &mut Numbers<'_>, now: Timestamp) -> State {
    let mut state = State::new(input.time(now));
    state.last_out = input.flag().then(|| action(input, now));
    state.last_in = input.flag().then(|| action(input, now));
    state.pending = input.flag().then(|| Intent { at: input.time(now), from: input.tasks(), to: input.tasks() });
    state.count = input.rarely().then(|| input.tasks());
    state.policies = (0..input.byte() % 4).map(|_| (key(input), memory(input, now))).collect();
    if input.flag() {
        let zero = Zero { since: input.time(now), seen: input.tasks(), last: input.flag().then(|| input.time(now)) };
        state.zeros.insert(input.one_of(&SOURCES).to_owned(), zero);
        let last = LastLoad { load: input.size(), at: input.time(now) };
        state.last_loads.insert(input.one_of(&SOURCES).to_owned(), last);
        let grown = input.flag().then(|| input.time(now));
        state.brake_loads.insert(SOURCES[3].to_owned(), BrakeLoad { load: input.size(), grown });
        state.failing = input.flag().then(|| Failing { since: input.time(now), ticks: input.tasks() });
        let probed = input.flag().then(|| input.time(now));
        state.shortfall = Some(Shortfall { since: input.time(now), running: input.tasks(), probed });
        state.unsettled = input.flag().then(|| input.time(now));
    }
    if input.flag() {
        state.wanted = Wanted { most: wanted(input, now), least: wanted(input, now) };
        state.changes = Some((0..input.byte() % 8).map(|_| change(input, now)).collect());
    }
    state
}

fn action(input: &mut Numbers<'_>, now: Timestamp) -> Action {
    let (at, from, to, base) = (input.time(now), input.tasks(), input.tasks(), input.tasks());
    Action { at, from, to, base, tick: input.rarely().then(|| input.time(now)) }
}

fn wanted(input: &mut Numbers<'_>, now: Timestamp) -> Vec<Recommendation> {
    let one = |input: &mut Numbers<'_>| Recommendation {
        at: input.time(now),
        count: input.count() as u32,
        lasts: input.flag(),
    };
    (0..input.byte() % 8).map(|_| one(input)).collect()
}

fn change(input: &mut Numbers<'_>, now: Timestamp) -> Change {
    let since = input.rarely().then(|| input.time(now));
    Change { at: input.time(now), since, added: input.count() as u32, removed: input.count() as u32 }
}

fn key(input: &mut Numbers<'_>) -> String {
    let loads = [SOURCES[0], SOURCES[1], "work", "alert", "sum", "partial_sum", "min", "mean", "formula", "of nobody"];
    format!("{}/{}", input.byte() % 4, input.one_of(&loads))
}

fn memory(input: &mut Numbers<'_>, now: Timestamp) -> Memory {
    match input.byte() % 5 {
        0 => {
            let level = input.one_of(&[Level::High, Level::Low]);
            Memory::Run(Run { level, seen: input.count() as u32, last: input.time(now) })
        }
        1 => {
            let loads = (0..input.byte() % 8).map(|_| input.size()).collect();
            Memory::Loads(Loads { loads, last: input.time(now) })
        }
        2 => Memory::Course(Course {
            load: input.size(),
            velocities: (0..input.byte() % 8).map(|_| signed(input)).collect(),
            ticks: input.count() as u32,
            has_crossed: input.flag(),
            sum: signed(input),
            last: input.time(now),
        }),
        3 => {
            let one = |input: &mut Numbers<'_>| Answered {
                alert: input.one_of(&["a", "b", "c"]).to_owned(),
                at: input.time(now),
            };
            Memory::Alerts((0..input.byte() % 20).map(|_| one(input)).collect())
        }
        _ => Memory::Estimate(estimate(input, now)),
    }
}

fn signed(input: &mut Numbers<'_>) -> f64 {
    if input.flag() { -input.size() } else { input.size() }
}

fn estimate(input: &mut Numbers<'_>, now: Timestamp) -> Estimate {
    let number = |input: &mut Numbers<'_>| (signed(input) as f32).clamp(f32::MIN, f32::MAX);
    let mut estimate: Estimate =
        made_of(json!({ "rate": 0.0, "variance": 0.0, "service_secs": 1.0, "looks": [], "last": input.time(now) }));
    (estimate.rate, estimate.variance, estimate.surprise) = (number(input), number(input), number(input));
    if input.flag() {
        estimate.service_secs = number(input);
    }
    estimate.looks = (0..input.byte() % 7).map(|_| (number(input), number(input), number(input))).collect();
    estimate.wants = (0..input.byte() % 8).map(|_| (number(input), input.count() as u32)).collect();
    estimate.answers = (number(input), number(input));
    estimate.window = input.flag().then(|| (number(input), number(input), number(input), number(input)));
    estimate
}
