//! More work never means fewer tasks.
//!
//! It holds of every policy but in these cases, each by what the policy is, so that they are left out: `threshold` below its lower threshold
//! wants a share of the load, which may be above the count that it keeps in between (StepScale's rule); `step` with
//! exact counts or with adjustments that do not grow with the distance does what it was told; `pid` with an integral adds up
//! the past once the target is crossed, which the larger load may not do; `band` and `expression` are whatever their formulas are, and
//! are monotone in what those give; `alert_step` looks at no load. And a zero is less than a confirmed zero: it holds the count.

use super::{holds, noon};
use crate::any::{Numbers, check, observation, past, rules};
use crate::core::{
    AdjustmentType, Alarm, Amount, Answer, Computed, ConfirmZero, Observation, Policy, QueueDepth, Reading,
    StepScaling, decide,
};

/// Takes out of a policy what is not monotone by intent.
fn straighten(policy: &mut Policy, current: u32) {
    match policy {
        Policy::Threshold(threshold) => {
            let most = f64::from(current) / threshold.scale_in_threshold.max(f64::MIN_POSITIVE);
            threshold.tasks_per_message = threshold.tasks_per_message.min(most);
        }
        Policy::Step(steps) => {
            if steps.adjustment_type == AdjustmentType::ExactCapacity {
                steps.adjustment_type = AdjustmentType::ChangeInCapacity;
            }
            sort(steps);
        }
        Policy::Pid(pid) => pid.k_i = 0.0,
        _ => {}
    }
}

/// The farther a step is, the more it does.
fn sort(steps: &mut StepScaling) {
    let of = |alarm: &mut Option<Alarm>, sign: i32| {
        let Some(alarm) = alarm else { return };
        let mut sizes: Vec<_> = alarm.steps.iter().map(|step| step.adjustment.saturating_abs()).collect();
        sizes.sort_unstable();
        alarm.steps.iter_mut().zip(sizes).for_each(|(step, size)| step.adjustment = sign * size);
    };
    of(&mut steps.scale_out, 1);
    of(&mut steps.scale_in, -1);
}

fn with_load(seen: &Observation, place: usize, depth: QueueDepth) -> Observation {
    let mut seen = seen.clone();
    let reading = Reading { taken_at: noon(), amount: Amount::Queue(depth) };
    seen.samples[place].answer = Answer::Reading(reading);
    seen
}

fn two(input: &mut Numbers<'_>) -> (u64, u64) {
    let (one, other) = (input.count(), input.count());
    (one.min(other), one.max(other))
}

#[test]
fn more_work_never_means_fewer_tasks() {
    holds("monotone", 250, |input| {
        let now = noon();
        let (mut rules, seen, past) = (rules(input, now), observation(input, now), past(input, now));
        if seen.samples.is_empty() {
            return;
        }
        rules.policies.iter_mut().for_each(|policy| straighten(policy, seen.status.desired));
        rules.confirm_zero = ConfirmZero { readings: 1, secs: 0 };
        rules.brakes.clear();
        let place = usize::from(input.byte()) % seen.samples.len();
        let ((less, more), in_flight) = (two(input), input.flag().then(|| input.count()));
        let depth = |backlog| QueueDepth { backlog, in_flight, ..QueueDepth::default() };
        let [(fewer, _), (most, _)] = [less, more].map(|backlog| {
            let seen = with_load(&seen, place, depth(backlog));
            let (decision, state) = decide(&rules, &seen, &past, now);
            check(&rules, &seen, &past, now, &decision);
            (decision, state)
        });
        assert!(fewer.desired <= most.desired, "{less}, {more}: {fewer:?}\n{most:?}\n{rules:?}\n{seen:?}\n{past:?}");
    });
}

#[test]
fn a_larger_number_of_a_formula_never_means_fewer_tasks() {
    holds("monotone in formulas", 40, |input| {
        let now = noon();
        let (mut rules, mut seen, past) = (rules(input, now), observation(input, now), past(input, now));
        rules.policies.retain(|policy| matches!(policy, Policy::Band(_) | Policy::Expression(_)));
        let (one, other) = (input.size().abs(), input.size().abs());
        let formula = input.one_of(&["least", "most"]);
        let [fewer, most] = [one.min(other), one.max(other)].map(|value| {
            seen.policy_formulas.insert(formula.to_owned(), Computed::Value(crate::any::finite(value)));
            decide(&rules, &seen, &past, now).0
        });
        assert!(fewer.desired <= most.desired, "{fewer:?}\n{most:?}");
    });
}
