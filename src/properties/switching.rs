//! Another policy takes over a running service: what was decided before it still counts, and what the other one remembered is not its own.
//!
//! What a service waits for belongs to the service: cooldowns, windows, rates and what was announced. What a policy has learned
//! of a load belongs to the policy, and goes with it.

use jiff::Timestamp;

use super::{after, holds, noon, stored};
use crate::any::{Numbers, check, observation, policy_of, rules_of};
use crate::core::{
    Breaker, CombinePolicies, Decision, Direction, Observation, POLICIES, Past, Policy, PriorityOverride, RateType,
    Reason, Rules, ScalingRules, SelectPolicy, State, decide,
};

/// What happened, as whoever watches the service knows it. Times in seconds from the first tick.
struct Course {
    /// The counts, and since when.
    counts: Vec<(i64, u32)>,
    /// What was wanted where all was read.
    wanted: Vec<(i64, u32)>,
    last_out: Option<i64>,
    last_in: Option<i64>,
}

impl Course {
    fn count_at(&self, at: i64) -> u32 {
        self.counts.iter().take_while(|(when, _)| *when <= at).last().unwrap_or(&self.counts[0]).1
    }

    /// What the rates of a direction allow, by the documentation's words.
    fn allowed(&self, rules: &ScalingRules, direction: Direction, now: i64) -> Option<u32> {
        let limits = rules.policies.iter().map(|rate| {
            let start = f64::from(self.count_at(now - rate.period_secs as i64));
            let value = f64::from(rate.value);
            let limit = match (rate.of, direction) {
                (RateType::Tasks, Direction::Out) => start + value,
                (RateType::Tasks, Direction::In) => start - value,
                (RateType::Percent, Direction::Out) => (start * (1.0 + value / 100.0)).ceil(),
                (RateType::Percent, Direction::In) => (start * (1.0 - value / 100.0)).trunc(),
            };
            limit.max(0.0) as u32
        });
        match (direction, rules.select) {
            (Direction::Out, SelectPolicy::Max) | (Direction::In, SelectPolicy::Min) => limits.max(),
            _ => limits.min(),
        }
    }

    fn check(&self, rules: &Rules, decision: &Decision, now: i64) {
        let Decision { current, desired, .. } = *decision;
        let Some(direction) = decision.direction() else { return };
        let of_direction = rules.behavior.of(direction);
        assert!(of_direction.select != SelectPolicy::Disabled, "disabled: {decision:?}");
        let limit = self.allowed(of_direction, direction, now);
        let window = of_direction.stabilization_window_secs as i64;
        let wanted = self.wanted.iter().filter(|(at, _)| now - at < window).map(|(_, wanted)| *wanted);
        match direction {
            // A service without tasks may always get one.
            Direction::Out if desired <= 1 => {}
            Direction::Out => {
                assert!(
                    limit.is_none_or(|limit| desired <= limit),
                    "beyond {limit:?} of {:?}: {decision:?}",
                    self.counts
                );
                let held = wanted.min().is_none_or(|least| desired <= least.max(current));
                assert!(held, "beyond the window of {:?}: {decision:?}", self.wanted);
                let is_quiet = self.last_out.is_none_or(|last| (rules.scale_out_cooldown_secs as i64) < now - last);
                let has_priority = match rules.priority_override {
                    PriorityOverride::Always => true,
                    PriorityOverride::Step => rules.scaling_step_count <= desired - current,
                    PriorityOverride::Never => false,
                };
                assert!(is_quiet || has_priority || current == 0, "out {:?} to {now}: {decision:?}", self.last_out);
            }
            Direction::In => {
                assert!(
                    limit.is_none_or(|limit| limit <= desired),
                    "beyond {limit:?} of {:?}: {decision:?}",
                    self.counts
                );
                let held = wanted.max().is_none_or(|most| most.min(current) <= desired);
                assert!(held, "beyond the window of {:?}: {decision:?}", self.wanted);
                let last = self.last_out.max(self.last_in);
                let is_quiet = last.is_none_or(|last| (rules.scale_in_cooldown_secs as i64) < now - last);
                assert!(is_quiet, "in {last:?} to {now}: {decision:?}");
                let least = (f64::from(current) * rules.min_remaining_fraction) as u32;
                assert!(least <= desired, "fewer than {least} remain: {decision:?}");
            }
        }
    }

    fn note(&mut self, seen: &Observation, decision: &Decision, is_made: bool, now: i64) {
        match decision.direction() {
            Some(Direction::Out) => self.last_out = Some(now),
            Some(Direction::In) => self.last_in = Some(now),
            None => {}
        }
        if is_made {
            self.counts.push((now, decision.desired));
        }
        let is_gap = |reason: &Reason| matches!(reason, Reason::MetricUnreadable { .. });
        let wants = |reason: &Reason| match reason {
            Reason::Proposed { wants, .. } => Some(*wants),
            _ => None,
        };
        if !seen.samples.is_empty() && !decision.reasons.iter().any(is_gap) {
            self.wanted.extend(decision.reasons.iter().filter_map(wants).max().map(|most| (now, most)));
        }
    }
}

/// Rules with everything that a policy has no part in, and nothing that moves the count past it.
fn service(input: &mut Numbers<'_>) -> Rules {
    let mut rules = rules_of(input, Vec::new(), noon());
    rules.bounds.min = rules.bounds.min.min(50);
    rules.bounds.max = rules.bounds.min + 1 + input.up_to(500) as u32;
    (rules.scale_out_cooldown_secs, rules.scale_in_cooldown_secs) = (input.up_to(600), input.up_to(600));
    rules.scaling_step_count = 1 + input.up_to(50) as u32;
    rules.breaker = Breaker { stuck_secs: 0, ..rules.breaker };
    (rules.pause, rules.fallback, rules.brakes) = (None, None, Vec::new());
    (rules.bounds_schedule, rules.bounds_by_time) = (Vec::new(), Default::default());
    rules.combine_policies = CombinePolicies::Max;
    (rules.behavior.scale_out.tolerance, rules.behavior.scale_in.tolerance) = (0.0, 0.0);
    rules
}

/// What another policy remembered changes nothing that this one decides. It may stay where it is while nothing can be read.
fn check_that_nothing_is_misread(rules: &Rules, seen: &Observation, state: &State, at: Timestamp) {
    let forgetful = |state: &State| State { policies: Default::default(), ..state.clone() };
    let [one, other] = [state.clone(), forgetful(state)].map(|state| {
        let (decision, next) = decide(rules, seen, &Past::Known(state), at);
        (decision, forgetful(&next))
    });
    assert_eq!(one, other, "what another policy remembered is read");
}

fn switches(input: &mut Numbers<'_>, first: &str, second: &str) {
    let (rules, policies) = (service(input), [first, second].map(|name| policy_of(input, name)));
    let bounds = rules.bounds;
    let mut current = bounds.clamp(input.up_to(600) as u32);
    let mut course = Course { counts: vec![(i64::MIN, current)], wanted: Vec::new(), last_out: None, last_in: None };
    let (mut state, mut now) = (State::new(after(noon(), -1_000_000)), 0);
    let ticks = 1 + usize::from(input.byte() % 6);
    let phases: [&Policy; 3] = [&policies[0], &policies[1], &policies[0]];
    for (tick, policy) in (0..3 * ticks).map(|tick| (tick, phases[tick / ticks])) {
        now += 1 + i64::from(input.byte());
        let at = after(noon(), now);
        let rules = Rules { policies: vec![policy.clone()], ..rules.clone() };
        let mut seen = observation(input, at);
        (seen.share, seen.scheduled_for, seen.status.pause) = (None, None, None);
        seen.status.running = if seen.status.running == seen.status.desired { current } else { seen.status.running };
        seen.status.desired = current;
        if tick == ticks {
            check_that_nothing_is_misread(&rules, &seen, &state, at);
        }
        let past = Past::Known(state);
        let (decision, next) = decide(&rules, &seen, &past, at);
        check(&rules, &seen, &past, at, &decision);
        course.check(&rules, &decision, now);
        let is_made = decision.direction().is_some() && !input.rarely();
        course.note(&seen, &decision, is_made, now);
        state = match is_made || decision.direction().is_none() {
            true => confirmed(next),
            false => next.without_the_change(current),
        };
        state = if input.rarely() { stored(&state) } else { state };
        current = if is_made { decision.desired } else { current };
    }
}

fn confirmed(mut state: State) -> State {
    state.confirm();
    state
}

#[test]
fn a_policy_that_takes_over_keeps_cooldowns_windows_and_rates() {
    for first in POLICIES {
        for second in POLICIES.iter().filter(|second| *second != first) {
            holds(&format!("{first} to {second}"), 1, |input| switches(input, first, second));
        }
    }
}
