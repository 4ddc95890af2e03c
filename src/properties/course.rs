//! One tick after another, at any distance, whatever becomes of what was decided.

use jiff::Timestamp;

use super::{after, holds, noon, stored};
use crate::any::{Numbers, check, observation, past, rules};
use crate::core::{Observation, Past, State, decide};

/// What a state may take in JSON at most, whatever happened: three policies, five loads, and lists that are bounded.
const LARGEST: usize = 60_000;

/// When the next tick comes: mostly a little later, and sometimes at once, much later, or earlier, as clocks are set back.
fn next(input: &mut Numbers<'_>, now: Timestamp) -> Timestamp {
    match input.byte() % 8 {
        0 => now,
        1 => after(now, -(input.count() as i64 & 0xffff)),
        2 => after(now, input.count() as i64 & 0xff_ffff),
        _ => after(now, 1 + i64::from(input.byte())),
    }
}

/// What the store holds after a tick, and the count that the next one finds.
fn outcome(input: &mut Numbers<'_>, seen: &Observation, desired: u32, state: State) -> (State, u32) {
    let current = seen.status.desired;
    let confirmed = |mut state: State| {
        state.confirm();
        state
    };
    match input.byte() % 8 {
        0 => (state, current),
        1 => (state, desired),
        2 => (state.without_the_change(current), current),
        3 => (state.with_the_change_refused(current), current),
        4 => (confirmed(state), input.tasks()),
        _ => (confirmed(state), desired),
    }
}

#[test]
fn any_course_of_ticks_keeps_what_holds_of_each() {
    holds("any_course", 150, |input| {
        let mut now = noon();
        let (rules, mut past) = (rules(input, now), past(input, now));
        let mut current = input.tasks();
        for _ in 0..=input.byte() % 16 {
            let mut seen = observation(input, now);
            seen.status.desired = current;
            let (decision, state) = decide(&rules, &seen, &past, now);
            check(&rules, &seen, &past, now, &decision);
            let (state, found) = outcome(input, &seen, decision.desired, state);
            let state = if input.rarely() { stored(&state) } else { state };
            (past, current, now) = (Past::Known(state), found, next(input, now));
        }
        let Past::Known(state) = past else { return };
        if input.rarely() {
            let size = serde_json::to_string(&state).map_or(0, |text| text.len());
            assert!(size < LARGEST, "{size} bytes of state");
        }
    });
}
